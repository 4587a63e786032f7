"""What a ledger says that a study should hold: its arrays, fields, coordinates and checkpoints."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefect_simopt.checkpoints import Checkpoints
from prefect_simopt.entries import Entry, number_of
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import Storage
from prefect_simopt.view import View

__all__ = ["Contents"]


class Contents:
    """What the ledger says there should be.

    Args:
        storage: of the study; nothing is written to it.
        attributes: of its root group.

    Attributes:
        view: the arrays.
        versions: what the view has written, by key: each object as it was at the last flush, and as it may have
            become since.
        fields: SHA-256 of the fields of each trial that has ended, by number and name.
        told_at: number of the record that told of each trial that has ended.
        coordinates: SHA-256 of each coordinate's values, and the field that it was seen with.
        awaited: coordinates that a repair dropped, until a trial has written them again.
        documents: `zarr.json` of each field and coordinate.
        seq: number of the last record.
    """

    def __init__(self, storage: Storage, attributes: Mapping[str, Any]) -> None:
        shadow = _Shadow(storage)
        spec = StudySpec.model_validate(attributes["spec"])
        self.view = View(shadow, spec, attributes, fresh=True, keep=True)
        self.versions = shadow.versions
        self.fields: dict[int, Mapping[str, str]] = {}
        self.told_at: dict[int, int] = {}
        self.coordinates: dict[str, tuple[str, str]] = {}
        self.awaited: set[str] = set()
        self.documents: dict[str, dict[str, Any]] = {}
        self.seq = -1
        self._checkpoints = Checkpoints(storage)

    @property
    def checkpoints(self) -> dict[str, str]:
        """SHA-256 of each checkpoint that is kept, by key."""
        return self._checkpoints.digests

    def apply(self, entries: Sequence[Entry]) -> None:
        """Take ledger entries into account."""
        self.view.apply(entries)
        self._checkpoints.apply(entries)
        for entry in entries:
            kind, generated = entry["activity"], entry.get("generated", {})
            self.seq = entry["seq"]
            if kind == "trial":
                self.told_at[number_of(entry)] = entry["seq"]
                self.fields[number_of(entry)] = fields = generated.get("fields", {})
                self.awaited -= {dim for dim in self.awaited if self.coordinates[dim][1] in fields}
            elif kind == "field":
                name = entry["id"].partition("/")[2]
                self.documents[name] = generated["document"]
                self.documents |= {dim: each["document"] for dim, each in generated["coordinates"].items()}
                self.coordinates |= {dim: (each["sha256"], name) for dim, each in generated["coordinates"].items()}
            elif kind == "repair":
                for number in entry["used"]["trials"]:
                    self.fields.pop(number, None)
                    self.told_at.pop(number, None)
                self.awaited.update(entry["used"]["coordinates"])


class _Shadow(Storage):
    """Reads what is stored, and keeps what is written to itself."""

    appends = True

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.url = storage.url
        self.versions: dict[str, list[bytes]] = {}

    def read(self, key: str) -> bytes | None:
        """What is stored."""
        return self._storage.read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """What is stored."""
        return self._storage.read_many(keys)

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Keep it here."""
        self.versions.setdefault(key, []).append(bytes(data))

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """What is stored."""
        return self._storage.read_version(key)

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Nothing is decided here."""
        raise NotImplementedError

    def delete(self, keys: Iterable[str]) -> None:
        """Nothing is removed here."""
        raise NotImplementedError

    def names(self, folder: str = "") -> list[str]:
        """What is stored."""
        return self._storage.names(folder)

    def folders(self, folder: str = "") -> list[str]:
        """What is stored."""
        return self._storage.folders(folder)

    def age(self, key: str) -> float | None:
        """What is stored."""
        return self._storage.age(key)

    def clean(self) -> None:
        """Nothing is removed here."""
        raise NotImplementedError
