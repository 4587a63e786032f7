"""Checkpoints of a search: one object each, which the ledger knows by its SHA-256; the first and the last are kept."""

import hashlib
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from prefect_simopt.entries import Entry, number_of
from prefect_simopt.storage import Storage

__all__ = ["FOLDER", "Checkpoints"]

FOLDER = "checkpoints"
KEPT = 2  # beside the very first: the second is for when the last turns out damaged
_log = logging.getLogger("prefect_simopt")


class _Checkpoint(NamedTuple):
    """A checkpoint that the ledger tells of: number of its record, key and SHA-256 of its object."""

    seq: int
    key: str
    sha256: str


class Checkpoints:
    """The checkpoints of one study, as far as its ledger has been read.

    Args:
        storage: of the study.

    Raises:
        StoreError: from `write`, `latest` and `sweep`, when the store fails.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: list[_Checkpoint] = []
        self._dropped: dict[int, int] = {}  # trials that a repair dropped, and the seq at which they were told

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the checkpoints that are kept, as hexadecimal, by key, the oldest first."""
        return {each.key: each.sha256 for each in self._kept}

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take ledger entries into account, in their order."""
        for entry in entries:
            kind = entry["activity"]
            if kind == "checkpoint":
                self._kept.append(_Checkpoint(entry["seq"], f"{entry['id']}.bin", entry["generated"]["sha256"]))
                del self._kept[1:-KEPT]
            elif kind == "repair":
                used = entry["used"]
                self._dropped |= dict(zip(used["trials"], used["told"], strict=True))
                self._kept = [each for each in self._kept if each.key not in used["checkpoints"]]
            elif self._dropped and kind == "trial":
                self._dropped.pop(number_of(entry), None)

    def write(self, payload: bytes, seq: int) -> dict[str, Any]:
        """Write a checkpoint; returns the entry that makes it known, as the ledger's record number `seq`."""
        name = f"{FOLDER}/{seq:09d}"
        self._storage.write(f"{name}.bin", payload)
        generated = {"sha256": hashlib.sha256(payload).hexdigest(), "bytes": len(payload)}
        return {"activity": "checkpoint", "id": name, "generated": generated}

    def latest(self) -> tuple[bytes, int] | None:
        """The latest checkpoint that can be used, and the number of its ledger record, from which to go on."""
        for seq, key, digest in reversed(self._kept):
            if any(told < seq for told in self._dropped.values()):
                continue  # it knows of trials that will be run again
            payload = self._storage.read(key)
            if payload is not None and hashlib.sha256(payload).hexdigest() == digest:
                return payload, seq
            _log.warning("%s/%s is damaged; an earlier checkpoint takes its place", self._storage.url, key)
        return None

    def sweep(self) -> None:
        """Remove the checkpoints that are not kept."""
        stored = [f"{FOLDER}/{name}" for name in self._storage.names(FOLDER) if name.endswith(".bin")]
        self._storage.delete([key for key in stored if key not in self.digests])
