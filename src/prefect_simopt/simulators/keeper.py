"""Keeps a host running: gives it calls, writes down how each came out, and starts another one when it dies."""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from prefect_simopt.errors import StoreError
from prefect_simopt.simulators import processes
from prefect_simopt.simulators.board import Board
from prefect_simopt.simulators.calls import Call, CallQueue
from prefect_simopt.simulators.capture import Stream
from prefect_simopt.simulators.hosting import HostProcess
from prefect_simopt.simulators.memory import Shortage
from prefect_simopt.simulators.recorder import Recorder
from prefect_simopt.simulators.verdicts import HostExit, death, failed, not_loaded, without_our_frames
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Reason

__all__ = ["HostKeeper"]

GROUP_SECONDS = 0.008  # finished short runs wait for each other at most so long before they are written
LONG_RUN = 0.01  # a run of this many seconds is written at once
DEATHS = 3  # hosts that may die, or be killed while they load, in a row without having begun anything


class HostKeeper:
    """Runs calls in a host, one host after the other.

    Args:
        selector: of the loop that it lives in; what it registers there is a function to call.
        report: sends the flow a message.

    Attributes:
        timeout: seconds after which a call is killed; None for no limit.
        done: whether nothing is left to do, and no host.
    """

    def __init__(self, selector: selectors.BaseSelector, report: Callable[[dict[str, Any]], None]) -> None:
        self._selector, self._report = selector, report
        self.timeout: float | None = None
        self.done = self._ending = False
        self._board = Board()
        self._calls = CallQueue()
        self._recorder = Recorder()
        self._host: HostProcess | None = None
        self._stream = Stream(self._log, self._progress)
        self._killed_for, self._killed_in = "", -1
        self._window = self._ready_by = self._end_at = float("inf")
        self._deaths = self._stillbirths = 0
        self._shortage = Shortage()
        self._setup: dict[str, Any] = {}
        self._blob, self._crash = b"", ""
        self._store: dict[str, Any] = {}

    # What the supervisor asks of it

    def start(self, setup: dict[str, Any], blob: bytes) -> None:
        """Start a host with a simulator: its description, and the pickled function that goes with it."""
        self._setup, self._blob, self.timeout = setup, blob, setup.get("timeout")
        self._start_host()

    def attach(self, store: dict[str, Any]) -> None:
        """Say where outcomes and fields are written."""
        self._store = store
        self._recorder.location = StudyLocation.from_json(store["location"])
        if self._host:
            self._host.send({"store": store})

    def put(self, batch: Iterable[Call]) -> None:
        """Take a batch of calls."""
        self._calls.put(batch)
        self._feed_host()

    def take_out(self, serials: Sequence[int]) -> list[list[int]]:
        """Forget the batches with these calls that have not begun; returns the serial numbers of each."""
        return self._calls.take_out(serials)

    def end(self, grace: float) -> None:
        """Begin nothing more; the run in progress has `grace` seconds left."""
        self._ending = self._board.stop = True
        self._end_at = min(self._end_at, time.monotonic() + grace)

    def close(self) -> None:
        """Write what has ended, as far as that can be done, and kill the host."""
        if self._host:
            with contextlib.suppress(StoreError):
                self._close_window()
                self._write()
            self._host.kill()

    # The clock

    def patience(self) -> float:
        """Seconds until something is due; infinitely many where nothing is."""
        now = time.monotonic()
        due = self._window
        if not self._killed_for:  # otherwise its end is near, and wakes us up
            due = min(due, self._end_at, self._ready_by)
            if self.timeout and self._calls.given:
                due = min(due, (self._board.started or now) + self.timeout)
        return max(due - now, 0.0)

    def look_at_clock(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self._window:
            self._close_window()
        started = self._board.started
        if self._host and self.timeout and started and now - started > self.timeout:
            self._kill("timeout")
        if self._host and now >= self._ready_by:
            self._kill("start")
        if self._ending and (not self._host or not self._host.ready or self._host.resting):
            self.done = True
        elif self._host and now >= self._end_at:
            self._kill("end")

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
        if self._host and self._host.ready and not self._ending and (calls := self._calls.give_next()):
            self._send_calls(calls)

    def _send_calls(self, calls: Sequence[Call]) -> None:
        assert self._host  # noqa: S101
        self._host.send({"calls": [[call.number, call.runs] for call in calls]})
        self._watch_host()

    def _watch_host(self) -> None:
        assert self._host  # noqa: S101
        control = self._host.control
        with contextlib.suppress(KeyError):  # dying: it has closed its side
            self._selector.modify(control.sock, control.events, self._from_host)

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
                self._is_ready(host, document)
            elif "crash" in document:
                self._crash = document["crash"]
            else:  # an error at the start, or a store that cannot be written
                self._report(document)
                self._ending = self.done = True
        if host.control.closed:  # it is dying: SIGCHLD tells the rest
            with contextlib.suppress(KeyError):
                self._selector.unregister(host.control.sock)
        else:
            host.control.flush()
            self._watch_host()

    def _is_ready(self, host: HostProcess, document: dict[str, Any]) -> None:
        host.ready, self._ready_by, self._stillbirths = True, float("inf"), 0
        self._setup["resolved"] = document["ready"].get("resolved")
        self._report(document)
        if self._calls.given:
            self._send_calls(self._calls.give_again())
        else:
            self._feed_host()

    def _read_capture(self) -> None:
        if self._host:
            self._host.read_capture()

    # Outcomes

    def _collect(self) -> None:
        """Take the outcomes of the calls that have ended; write them now, or a moment later with those to come."""
        if self._host is None:  # it has died since it woke us up
            return
        longest = 0.0
        for number, documents in self._host.read_outcomes():
            call = self._calls.given.popleft()
            assert call.number == number  # noqa: S101
            self._deaths = 0
            text = self._host.texts.popleft() if self._host.texts else b""
            outcomes = [Outcome.from_json(document) for document in documents]
            longest = max([longest, *(outcome.seconds for outcome in outcomes)])
            self._recorder.add(call, outcomes, text)
        self._feed_host()  # first, so that the next run does not wait until these are written
        if self._window < float("inf"):
            return
        if longest >= LONG_RUN or not self._calls.given:
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
        if self._host and not self._killed_for:
            self._killed_for, self._killed_in = why, self._board.call
            self._host.kill()

    def reap(self) -> None:
        """Take leave of every child of this process that has ended."""
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
        given = self._calls.given
        began = bool(given) and self._board.call == given[0].number
        now = time.monotonic()
        seconds = now - (self._board.started or now)
        end = HostExit(status, self._killed_for, self._killed_in, seconds, host.unfinished_text())
        self._killed_for = ""
        self._forget_host(host)
        if self.done:
            return
        if not host.ready:
            self._failed_start(end)
            return
        self._write()
        if end.killed_for == "end":
            self.done = True
            return
        self._deaths += 1
        if began and (not end.killed_for or end.killed_in == given[0].number):
            self._fail_call(given.popleft(), end)
        elif self._deaths >= DEATHS and given:
            self._fail_call(given.popleft(), replace(end, killed_for=""))
        self._crash = ""
        if self._ending:
            self.done = True
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

    def _failed_start(self, end: HostExit) -> None:
        self._stillbirths += 1
        by_others = not end.killed_for and os.WIFSIGNALED(end.status) and os.WTERMSIG(end.status) == signal.SIGKILL
        if by_others and self._stillbirths < DEATHS and not self._ending:
            self._start_host()
            return
        self._report({"error": not_loaded(end, self._setup["start_seconds"])})
        self._ending = self.done = True

    def _fail_call(self, call: Call, end: HostExit) -> None:
        """The host has died in a call: tell why, or find out which row of a block it was by trying each alone."""
        text = end.text
        if end.killed_for:
            reason, message = Reason.TIMEOUT, f"the simulator did not end within {self._setup['timeout']:g} s"
        elif len(call.runs) > 1:
            self._calls.split(call)
            return
        else:
            reason, message = (Reason.EXIT, self._crash) if self._crash else death(end.status, self._shortage.seen())
            text = without_our_frames(text)
        self._recorder.add(call, failed(call, reason, message, end.seconds), text)
        self._write()

    # What it prints

    def _printed(self, data: bytes | None) -> None:
        if self._setup.get("listen"):
            self._stream.end() if data is None else self._stream.feed(data)

    def _speaker(self) -> int | None:
        """The trial that is speaking now."""
        place, given = len(self._host.texts) if self._host else 0, self._calls.given
        return given[place].wanted[0]["trial"] if place < len(given) else None

    def _log(self, lines: list[str]) -> None:
        if (trial := self._speaker()) is not None:
            self._report({"log": [trial, lines]})

    def _progress(self, fraction: float) -> None:
        if self._setup.get("listen") and (trial := self._speaker()) is not None:
            self._report({"progress": [trial, fraction]})
