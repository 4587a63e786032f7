"""One worker's supervisor: starts a host, watches over it, and writes down how each run came out.

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
import time
import traceback
from collections import deque
from typing import Any

from prefect_simopt.errors import StoreError
from prefect_simopt.simulators import processes, wire
from prefect_simopt.simulators.board import Board
from prefect_simopt.simulators.capture import Stream
from prefect_simopt.simulators.hosting import HostProcess
from prefect_simopt.simulators.memory import Shortage
from prefect_simopt.simulators.recorder import Recorder
from prefect_simopt.simulators.verdicts import Call, death, failed, not_loaded, without_our_frames
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason

__all__ = ["Supervisor", "main"]

GROUP_SECONDS = 0.008  # finished short runs wait for each other at most so long before they are written
LONG_RUN = 0.01  # a run of this many seconds is written at once
ORPHAN_SECONDS = 3600.0  # for a run without a time limit, once the flow is gone
DEATHS = 3  # hosts that may die, or be killed while they load, in a row without having begun anything


class Supervisor:
    """Serves one flow until it is told to end, or until the flow is gone.

    Args:
        flow: connection to the flow's process.
    """

    def __init__(self, flow: socket.socket) -> None:
        self._flow = wire.Channel(flow)
        self._parent = os.getppid()
        self._board = Board()
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Call] = deque()  # the host has them
        self._waiting: deque[list[Call]] = deque()  # batches that it gets next
        self._recorder = Recorder()
        self._host: HostProcess | None = None
        self._stream = Stream(self._log, self._progress)
        self._killed: tuple[str, int] | None = None
        self._window = self._ready_by = self._end_at = float("inf")
        self._ending = self._done = False
        self._number = self._deaths = self._stillbirths = 0
        self._shortage = Shortage()
        self._setup: dict[str, Any] = {}
        self._blob, self._crash = b"", ""
        self._store: dict[str, Any] = {}

    def run(self) -> None:
        """Serve."""
        wake, signalled = socket.socketpair()
        wake.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ, lambda: self._reap(wake))
        self._selector.register(self._flow.sock, selectors.EVENT_READ, self._from_flow)
        try:
            while not self._done:
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._look_at_clock()
        except StoreError as error:
            self._flow.send({"broken": str(error)})
        finally:
            self._shut_down()

    # The clock

    def _patience(self) -> float:
        """Seconds until something is due; a second at most, to notice that the flow has died."""
        now = time.monotonic()
        due = min(self._window, now + 1.0)
        if self._killed:  # its end is near, and wakes us up
            return max(due - now, 0.0)
        due = min(due, self._end_at, self._ready_by)
        if (limit := self._setup.get("timeout")) and self._calls:
            due = min(due, (self._board.started or now) + limit)
        return max(due - now, 0.0)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if now >= self._window:
            self._close_window()
        if os.getppid() != self._parent and not self._ending:
            self._end(self._setup.get("timeout") or ORPHAN_SECONDS)
        limit, started = self._setup.get("timeout"), self._board.started
        if self._host and limit and started and now - started > limit:
            self._kill("timeout")
        if self._host and now >= self._ready_by:
            self._kill("start")
        if self._ending and (not self._host or not self._host.ready or self._host.resting):
            self._done = True
        elif self._host and now >= self._end_at:
            self._kill("end")

    # The flow

    def _from_flow(self) -> None:
        for document, blob in self._flow.receive():
            if "calls" in document:
                self._waiting.append([Call(0, serial, runs) for serial, runs in document["calls"]])
                self._feed_host()
            elif "return" in document:
                self._give_back(document["return"])
            elif "setup" in document:
                self._setup, self._blob = document["setup"], blob
                os.environ.update(self._setup["late"])
                self._start_host()
            elif "store" in document:
                self._store = document["store"]
                self._recorder.location = StudyLocation.from_json(self._store["location"])
                if self._host:
                    self._host.send({"store": self._store})
            elif "end" in document:
                self._end(document["end"])
        if self._flow.closed:
            self._selector.unregister(self._flow.sock)
            self._end(self._setup.get("timeout") or ORPHAN_SECONDS)
        elif self._flow.unsent:
            self._selector.modify(self._flow.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self._from_flow)
            self._flow.flush()

    def _end(self, grace: float) -> None:
        """Begin nothing more; the run in progress has `grace` seconds left."""
        self._ending = self._board.stop = True
        self._end_at = min(self._end_at, time.monotonic() + grace)

    def _report(self, document: dict[str, Any]) -> None:
        self._flow.send(document)
        if self._flow.unsent and not self._flow.closed:
            self._selector.modify(self._flow.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self._from_flow)

    def _give_back(self, serials: list[int]) -> None:
        """Another worker is free: let the flow have a batch back that has not begun."""
        for batch in [batch for batch in self._waiting if batch[0].serial in serials]:
            self._waiting.remove(batch)
            self._report({"returned": [call.serial for call in batch]})

    # The host

    def _start_host(self) -> None:
        self._host = host = HostProcess(self._board, self._printed)
        self._ready_by = time.monotonic() + self._setup["start_seconds"]
        self._selector.register(host.control.sock, selectors.EVENT_READ, self._from_host)
        self._listen(True)
        host.send({"setup": self._setup}, self._blob)
        if self._store:
            host.send({"store": self._store})

    def _listen(self, on: bool) -> None:
        """Wake up for outcomes and printed text, or leave them in their pipes for a moment."""
        assert self._host  # noqa: S101
        for descriptor, react in ((self._host.outcomes, self._collect), (self._host.capture, self._read_capture)):
            if on:
                self._selector.register(descriptor, selectors.EVENT_READ, react)
            else:
                self._selector.unregister(descriptor)

    def _feed_host(self) -> None:
        """Send the next batch to a host that has done with the one before."""
        if self._host and self._host.ready and self._waiting and not self._calls and not self._ending:
            self._send_calls(self._waiting.popleft())

    def _send_calls(self, calls: list[Call]) -> None:
        assert self._host  # noqa: S101
        for call in calls:
            call.number = self._number
            self._number += 1
        self._calls += calls
        self._host.send({"calls": [[call.number, call.runs] for call in calls]})
        self._watch_host()

    def _watch_host(self) -> None:
        assert self._host  # noqa: S101
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._host.control.unsent else 0)
        with contextlib.suppress(KeyError):  # dying: it has closed its side
            self._selector.modify(self._host.control.sock, events, self._from_host)

    def _from_host(self) -> None:
        if (host := self._host) is None:
            return
        for document, _ in host.control.receive():
            if "rest" in document:
                host.rested()
                self._close_window()
                self._write()
            elif "progress" in document:
                self._progress(document["progress"])
            elif "ready" in document:
                host.ready, self._ready_by, self._stillbirths = True, float("inf"), 0
                self._setup["resolved"] = document["ready"].get("resolved")
                self._report(document)
                unfinished, self._calls = self._calls, deque()
                if unfinished:
                    self._send_calls(list(unfinished))
                else:
                    self._feed_host()
            elif "crash" in document:
                self._crash = document["crash"]
            else:  # an error at the start, or a store that cannot be written
                self._report(document)
                self._ending = self._done = True
        if host.control.closed:  # it is dying: SIGCHLD tells the rest
            with contextlib.suppress(KeyError):
                self._selector.unregister(host.control.sock)
        else:
            host.control.flush()
            self._watch_host()

    def _read_capture(self) -> None:
        if self._host:
            self._host.read_capture()

    def _collect(self) -> None:
        """Take the outcomes of the calls that have ended; write them now, or a moment later with those to come."""
        if self._host is None:  # it has died since it woke us up
            return
        longest = 0.0
        for number, documents in self._host.read_outcomes():
            call = self._calls.popleft()
            assert call.number == number  # noqa: S101
            self._deaths = 0
            text = self._host.texts.popleft() if self._host.texts else b""
            outcomes = [Outcome.from_json(document) for document in documents]
            longest = max([longest, *(outcome.seconds for outcome in outcomes)])
            self._recorder.add(call, outcomes, text)
        self._feed_host()  # first, so that the next run does not wait until these are written
        if self._window < float("inf"):
            return
        if longest >= LONG_RUN or not self._calls:
            self._write()
        elif self._recorder.waiting:
            self._window = time.monotonic() + GROUP_SECONDS
            self._listen(False)

    def _close_window(self) -> None:
        if self._window < float("inf"):
            self._collect()
            self._window = float("inf")
            self._listen(True)
            self._write()
        else:
            self._collect()

    def _write(self) -> None:
        """Make what has ended durable, then report it."""
        if done := self._recorder.write():
            self._report({"done": done})

    # Deaths

    def _kill(self, why: str) -> None:
        if self._host and self._killed is None:
            self._killed = why, self._board.call
            self._host.kill()

    def _reap(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while wake.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if self._host and found[0] == self._host.pid:
                    self._host_died(self._host, found[1])

    def _host_died(self, host: HostProcess, status: int) -> None:
        self._close_window()
        self._from_host()
        host.kill()
        processes.end_descendants()
        while host.read_capture():
            pass
        began = self._calls and self._board.call == self._calls[0].number
        started = self._board.started or time.monotonic()
        self._forget_host(host)
        killed, self._killed = self._killed, None
        if self._done:
            return
        if not host.ready:
            self._failed_start(status, killed, host.unfinished_text())
            return
        self._write()
        if killed and killed[0] == "end":
            self._done = True
            return
        self._deaths += 1
        if began and not (killed and killed[1] != self._calls[0].number):
            self._fail_call(self._calls.popleft(), status, killed, host.unfinished_text(), started)
        elif self._deaths >= DEATHS and self._calls:
            self._fail_call(self._calls.popleft(), status, None, host.unfinished_text(), started)
        self._crash = ""
        if self._ending:
            self._done = True
        else:
            self._start_host()

    def _forget_host(self, host: HostProcess) -> None:
        self._listen(False)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(host.control.sock)
        host.close()
        self._host = None
        self._board.leave()
        self._ready_by = float("inf")

    def _failed_start(self, status: int, killed: tuple[str, int] | None, text: bytes) -> None:
        self._stillbirths += 1
        by_others = killed is None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if by_others and self._stillbirths < DEATHS and not self._ending:
            self._start_host()
            return
        late = self._setup["start_seconds"] if killed else None
        self._report({"error": not_loaded(status, late, text)})
        self._ending = self._done = True

    def _fail_call(self, call: Call, status: int, killed: tuple[str, int] | None, text: bytes, started: float) -> None:
        """The host has died in a call: tell why, or find out which row of a block it was by trying each alone."""
        seconds = time.monotonic() - started
        if killed:
            reason, message = Reason.TIMEOUT, f"the simulator did not end within {self._setup['timeout']:g} s"
        elif len(call.runs) > 1:
            self._calls.extendleft(Call(0, call.serial, [run]) for run in reversed(call.wanted))
            return
        else:
            reason, message = (Reason.EXIT, self._crash) if self._crash else death(status, self._shortage.seen())
            text = without_our_frames(text)
        self._recorder.add(call, failed(call, reason, message, seconds), text)
        self._write()

    # What it prints

    def _printed(self, data: bytes | None) -> None:
        if self._setup.get("listen"):
            self._stream.end() if data is None else self._stream.feed(data)

    def _speaker(self) -> int | None:
        """The trial that is speaking now."""
        place = len(self._host.texts) if self._host else 0
        return self._calls[place].wanted[0]["trial"] if place < len(self._calls) else None

    def _log(self, lines: list[str]) -> None:
        if (trial := self._speaker()) is not None and len(self._flow.unsent) < 1 << 20:
            self._report({"log": [trial, lines]})

    def _progress(self, fraction: float) -> None:
        if self._setup.get("listen") and (trial := self._speaker()) is not None:
            self._report({"progress": [trial, fraction]})

    def _shut_down(self) -> None:
        if self._host:
            with contextlib.suppress(StoreError):
                self._close_window()
                self._write()
            self._host.kill()
        processes.end_descendants()
        if scratch := self._setup.get("scratch"):
            shutil.rmtree(scratch, ignore_errors=True)
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
