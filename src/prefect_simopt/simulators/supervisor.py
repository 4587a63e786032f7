"""One worker's supervisor: serves the flow at the other end of a connection, by a host that it keeps running.

It runs no user code, so that a hung, crashed or exiting simulator cannot harm it, and has no threads of its own, so
that a new host is a fork away. It lives in a session of its own, where neither the terminal's Ctrl-C nor the death of
the flow reaches it: without a flow it lets the run in progress end, writes its outcome, and ends with everything that
it started.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import traceback
from typing import Any

from prefect_simopt.errors import StoreError
from prefect_simopt.simulators import processes, wire
from prefect_simopt.simulators.calls import Call
from prefect_simopt.simulators.keeper import HostKeeper

__all__ = ["Supervisor", "main"]

PARENT_SECONDS = 1.0  # between two looks whether the flow still lives
ORPHAN_SECONDS = 3600.0  # for a run without a time limit, once the flow is gone
UNREAD_BYTES = 1 << 20  # of messages that a flow has not read, before printed lines are left out


class Supervisor:
    """Serves one flow until it is told to end, or until the flow is gone.

    Args:
        flow: connection to the flow's process.
    """

    def __init__(self, flow: socket.socket) -> None:
        self._flow = wire.Channel(flow)
        self._parent = os.getppid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(flow, selectors.EVENT_READ, self._from_flow)
        self._keeper = HostKeeper(self._selector, self._report)
        self._scratch = ""

    def run(self) -> None:
        """Serve."""
        wake, signalled = socket.socketpair()
        wake.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ, lambda: self._child_ended(wake))
        try:
            while not self._keeper.done:
                for key, _ in self._selector.select(min(self._keeper.patience(), PARENT_SECONDS)):
                    key.data()
                if os.getppid() != self._parent:
                    self._deserted()
                self._keeper.look_at_clock()
        except StoreError as error:
            self._flow.send({"broken": str(error)})
        finally:
            self._shut_down()

    def _child_ended(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while wake.recv(4096):
                pass
        self._keeper.reap()

    def _from_flow(self) -> None:
        for document, blob in self._flow.receive():
            if "calls" in document:
                self._keeper.put(Call(serial, runs) for serial, runs in document["calls"])
            elif "return" in document:  # another worker is free
                for serials in self._keeper.take_out(document["return"]):
                    self._report({"returned": serials})
            elif "setup" in document:
                setup = document["setup"]
                os.environ.update(setup["late"])
                self._scratch = setup["scratch"]
                self._keeper.start(setup, blob)
            elif "store" in document:
                self._keeper.attach(document["store"])
            elif "end" in document:
                self._keeper.end(document["end"])
        if self._flow.closed:
            self._selector.unregister(self._flow.sock)
            self._deserted()
        else:
            self._flow.flush()
            self._selector.modify(self._flow.sock, self._flow.events, self._from_flow)

    def _deserted(self) -> None:
        """The flow is gone: nobody else would end a simulator that hangs."""
        self._keeper.end(self._keeper.timeout or ORPHAN_SECONDS)

    def _report(self, document: dict[str, Any]) -> None:
        if "log" in document and len(self._flow.unsent) >= UNREAD_BYTES:
            return
        self._flow.send(document)
        if self._flow.unsent and not self._flow.closed:
            self._selector.modify(self._flow.sock, self._flow.events, self._from_flow)

    def _shut_down(self) -> None:
        self._keeper.close()
        processes.end_descendants()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._flow.sock.settimeout(1.0)
            self._flow.sock.sendall(bytes(self._flow.unsent))


def main() -> None:
    """Be the supervisor of the flow at the other end of the descriptor that the command line names."""
    flow = socket.socket(fileno=int(sys.argv[1]))
    flow.set_inheritable(False)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    processes.adopt_orphans()
    supervisor = Supervisor(flow)
    try:
        supervisor.run()
    except BaseException:  # noqa: BLE001 - the flow shall hear of it, whatever it is
        with contextlib.suppress(OSError):
            flow.setblocking(True)
            flow.sendall(wire.pack({"crash": traceback.format_exc()}))
        processes.end_descendants()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
