"""One writer a study: a lease with a heartbeat, renewed and taken over by compare-and-swap.

The lease is one object that says who writes the study. A process of the same machine that has died is found out at
once, by its id and start time. A holder elsewhere is given up when its heartbeat has not changed for the lease's time
to live, measured by the watcher's own steady clock, so that clocks that differ or jump do not matter.
"""

import getpass
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from prefect_simopt.errors import LeaseError, StoreError
from prefect_simopt.liveness import born, is_gone
from prefect_simopt.storage import Storage

__all__ = ["TTL", "Lease", "holds", "is_held", "is_written_by", "user_at_host"]

KEY = "lease/lease.json"
TTL = 30.0
"""Seconds without a heartbeat after which a holder on another machine is taken for dead."""


class Lease:
    """The right to write a study, kept by a heartbeat in a thread until `release`.

    Args:
        storage: of the study.
        ttl: seconds without a heartbeat after which others may take over.

    Raises:
        LeaseError: another process holds it. For a holder on another machine, that is known after at most `ttl`.
        StoreError: the store cannot be written.
    """

    def __init__(self, storage: Storage, ttl: float = TTL) -> None:
        self._storage, self._ttl = storage, ttl
        self._lock = threading.Lock()
        self._lost = False
        self._beat = 0
        self._identity = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": born(os.getpid()),
            "machine": _machine(),
            "user": _user(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(8),
            "ttl": ttl,
        }
        version = storage.replace(KEY, self._document(), self._free_version())
        if version is None:
            raise _refusal(storage)
        self._version = version
        self._renewed = _clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="simopt-lease", daemon=True)
        self._thread.start()

    @property
    def token(self) -> str:
        """What tells this holder from every other one."""
        return str(self._identity["token"])

    def check(self) -> None:
        """Make sure, before writing, that the lease is still ours.

        Raises:
            LeaseError: another process has taken over.
            StoreError: the store does not say.
        """
        with self._lock:
            if not self._lost and _clock() - self._renewed > self._ttl / 2:
                self._renew()
            if self._lost or self._ended.is_set():  # given back: somebody else may hold it by now
                raise _refusal(self._storage)

    def release(self, *, trace: bool = True) -> None:
        """Let others write. Idempotent.

        Args:
            trace: whether to leave word of who wrote; without it the lease is gone as if it had never been.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        with self._lock, suppress(StoreError):  # a lease that cannot be given back ends with this process
            if not self._lost:
                released = {**self._identity, "released": datetime.now(UTC).isoformat(timespec="seconds")}
                if trace:
                    self._storage.replace(KEY, orjson.dumps(released), self._version)
                    return
                self._renew()  # from now on, for its time to live, nobody else takes it
                if not self._lost:
                    self._storage.delete([KEY])

    def _keep(self) -> None:
        while not self._ended.wait(self._ttl / 6):
            with self._lock, suppress(StoreError):  # `check` finds out when the store stays away
                if self._lost:
                    return
                self._renew()

    def _renew(self) -> None:
        self._beat += 1
        version = self._storage.replace(KEY, self._document(), self._version)
        if version is None:
            self._lost = True
        else:
            self._version, self._renewed = version, _clock()

    def _document(self) -> bytes:
        return orjson.dumps({**self._identity, "beat": self._beat})

    def _free_version(self) -> str | None:
        """The version of a lease that nobody holds any more; None where there is no lease at all."""
        found = self._storage.read_version(KEY)
        if found is None or _is_free(_parsed(found[0])):
            return None if found is None else found[1]
        holder = _parsed(found[0])
        if holder.get("machine") == _machine():
            raise _refusal(self._storage)
        ttl = float(holder.get("ttl", TTL))
        end = _clock() + ttl
        while _clock() < end:
            time.sleep(min(ttl / 30, 1.0))
            now = self._storage.read_version(KEY)
            if now is None or _is_free(_parsed(now[0])):
                return None if now is None else now[1]
            if now[1] != found[1]:
                raise _refusal(self._storage)
        return found[1]


def holds(storage: Storage, token: str) -> bool:
    """Whether nobody else has taken the study since the holder with this token did.

    Raises:
        StoreError: the store does not say.
    """
    return _parsed(storage.read(KEY) or b"").get("token") == token


def is_written_by(storage: Storage, token: str) -> bool:
    """Whether the holder with this token still writes the study, as far as one look from elsewhere can tell.

    Raises:
        StoreError: the store does not say.
    """
    holder = _parsed(storage.read(KEY) or b"")
    if holder.get("token") != token or "released" in holder:
        return False
    return (storage.age(KEY) or 0.0) < 2 * float(holder.get("ttl", TTL))


def is_held(storage: Storage) -> bool:
    """Whether somebody is writing the study, as far as one look can tell: for display only."""
    found = storage.read(KEY)
    if found is None or _is_free(holder := _parsed(found)):
        return False
    return holder.get("machine") == _machine() or (storage.age(KEY) or 0.0) < float(holder.get("ttl", TTL))


def _is_free(holder: dict[str, Any]) -> bool:
    """Whether the holder has let go, or is a process of this machine that is no more."""
    if "released" in holder:
        return True
    pid = holder.get("pid")
    if holder.get("machine") != _machine() or not isinstance(pid, int):
        return False
    started = born(pid)
    return started != holder.get("started") if started or is_gone(pid) else False


def _refusal(storage: Storage) -> LeaseError:
    found = storage.read(KEY)
    holder = _parsed(found or b"")
    if not holder.get("pid"):
        who = "another process"
    else:
        who = f"process {holder['pid']} of {holder.get('user')} on {holder.get('host')}, since {holder.get('since')}"
    return LeaseError(
        f"{storage.url} is being written by {who}. A study has one writer: wait until that one has ended, or end it."
    )


def _parsed(data: bytes) -> dict[str, Any]:
    """The lease's document; empty when it is damaged, which is then a holder of whom nothing is known."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    sound = isinstance(document, dict) and isinstance(document.get("ttl", TTL), int | float)
    return document if sound else {}


def _clock() -> float:
    """Seconds of a clock that never jumps and, where there is one, also counts the time that the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def user_at_host() -> str:
    """Who runs this process."""
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        return str(os.getuid())


def _machine() -> str:
    """What process ids are unique in: the host, its boot and, in a container, the space of its process ids."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
