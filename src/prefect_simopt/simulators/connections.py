"""The flow's connections to its supervisors: one thread that hears all of them and sends what did not fit at once."""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect_simopt.simulators.worker import Worker

__all__ = ["Connections"]

_LOOK_SECONDS = 10.0  # between two looks at the clock where nothing is heard


class Connections:
    """Hears supervisors, in a thread of its own, until each of them is gone.

    Those who call `add`, `send` and `settle` hold one lock, the same for all of them.

    Args:
        hear: called in that thread when a supervisor has said something, or is gone; it calls `settle`.
        fail: called in that thread with the error that ends it.
    """

    def __init__(self, hear: Callable[[Worker], None], fail: Callable[[BaseException], None]) -> None:
        self._hear, self._fail = hear, fail
        self._selector = selectors.DefaultSelector()
        self._workers: set[Worker] = set()
        self._ending = False
        self._kill_at = float("inf")
        self._wakened, self._wake = socket.socketpair()
        for end in (self._wakened, self._wake):
            end.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, name="simopt-workers", daemon=True)

    def start(self) -> None:
        """Begin to hear."""
        self._thread.start()

    def add(self, worker: Worker) -> None:
        """Hear one more."""
        self._workers.add(worker)
        self._selector.register(worker.channel.sock, worker.channel.events, worker)

    def send(self, worker: Worker, document: dict[str, Any]) -> None:
        """Send a message."""
        worker.channel.send(document)
        if worker.channel.unsent:
            self._selector.modify(worker.channel.sock, worker.channel.events, worker)
            self.wake()

    def settle(self, worker: Worker) -> bool:
        """Send what waits for a supervisor that has been heard; False when it is gone, and heard no more."""
        worker.channel.flush()
        if worker.channel.closed:
            self._selector.unregister(worker.channel.sock)
            self._workers.discard(worker)
            return False
        self._selector.modify(worker.channel.sock, worker.channel.events, worker)
        return True

    def wake(self) -> None:
        """Have the thread look at the clock, and at whom it hears, now."""
        with suppress(OSError):
            self._wake.send(b"!")

    def finish(self, seconds: float = float("inf")) -> None:
        """Let the thread end with the last supervisor; those that are left after so many seconds are killed."""
        self._ending = True
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        self.wake()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, at most so many seconds."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def close(self) -> None:
        """Give the descriptors back."""
        self._selector.close()
        self._wake.close()
        self._wakened.close()

    def _serve(self) -> None:
        try:
            while self._workers or not self._ending:
                self._listen()
        except BaseException as error:
            self._fail(error)
            raise

    def _listen(self) -> None:
        wait = min(max(self._kill_at - time.monotonic(), 0.0), _LOOK_SECONDS)
        for key, _ in self._selector.select(wait):
            if key.data is None:
                with suppress(OSError):
                    self._wakened.recv(4096)
            else:
                self._hear(key.data)
        if time.monotonic() >= self._kill_at:
            self._kill_at = float("inf")
            for worker in list(self._workers):
                worker.kill()
