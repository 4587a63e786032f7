"""Fields as they are read back: checked against their checksum and against the SHA-256 of what the simulator wrote."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from prefect_simopt.chunks import ChunkArray, decode, decode_text
from prefect_simopt.errors import CorruptionError
from prefect_simopt.simulators.contract import Field
from prefect_simopt.storage import Storage

__all__ = [
    "FieldOfTrials",
    "Fields",
    "coordinate_digest",
    "decode_field",
    "described_field",
    "field_document",
    "field_key",
    "read_coordinate",
    "read_field",
]


def field_document(storage: Storage, name: str) -> dict[str, Any]:
    """The `zarr.json` of a field.

    Raises:
        CorruptionError: it is missing or damaged.
    """
    try:
        document: dict[str, Any] = orjson.loads(storage.read(f"fields/{name}/zarr.json") or b"")
        _ = document["shape"], document["data_type"]
    except (ValueError, KeyError, TypeError):
        raise CorruptionError(f"the description of the field {name} (fields/{name}/zarr.json) is damaged") from None
    return document


def field_key(name: str, trial: int, axes: int) -> str:
    """Name of the object that holds a trial's field, which has so many axes."""
    return "/".join(["fields", name, "c", str(trial), *["0"] * axes])


def read_field(storage: Storage, name: str, trial: int, digest: str, document: dict[str, Any]) -> ChunkArray:
    """A trial's field.

    Args:
        storage: of the study.
        name: of the field.
        trial: number of the trial.
        digest: SHA-256 of the raw bytes, as hexadecimal.
        document: the field's `zarr.json`.

    Raises:
        CorruptionError: it is missing, or it is not what was written.
    """
    what, shape = f"the field {name} of trial {trial}", document["shape"][1:]
    data = storage.read(field_key(name, trial, len(shape)))
    if data is None:
        raise CorruptionError(f"{what} is missing")
    return decode_field(data, np.dtype(document["data_type"]), shape, digest, what)


def decode_field(data: bytes, dtype: np.dtype[Any], shape: Sequence[int], digest: str, what: str) -> ChunkArray:
    """The array of a trial's object.

    Args:
        data: the object's bytes.
        dtype: of the array.
        shape: of the array.
        digest: SHA-256 of the raw bytes, as hexadecimal.
        what: what it is, for the message.

    Raises:
        CorruptionError: it is not what was written.
    """
    array: ChunkArray = decode(data, dtype, (1, *shape), what)[0]
    if hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest() != digest:
        raise CorruptionError(f"{what} is not what the simulator wrote: its SHA-256 does not match")
    return array


def read_coordinate(storage: Storage, dim: str, document: dict[str, Any]) -> ChunkArray:
    """The coordinate of an axis: numbers or text.

    Raises:
        CorruptionError: it is missing or damaged.
    """
    what = f"the coordinate {dim}"
    data = storage.read(f"fields/{dim}/c/0")
    if data is None:
        raise CorruptionError(f"{what} is missing")
    if document["data_type"] == "string":
        return np.array(decode_text(data, what))
    return decode(data, np.dtype(document["data_type"]), document["shape"], what)


def coordinate_digest(storage: Storage, dim: str, document: dict[str, Any]) -> str:
    """SHA-256 of a coordinate's values.

    Raises:
        CorruptionError: it is missing or damaged.
    """
    return hashlib.sha256(read_coordinate(storage, dim, document).tobytes()).hexdigest()


def described_field(storage: Storage, name: str, trial: int, digest: str) -> Field:
    """A trial's field with the names of its axes, its unit and its coordinates.

    Raises:
        CorruptionError: it is missing, or it is not what was written.
    """
    document = field_document(storage, name)
    values = read_field(storage, name, trial, digest, document)
    dims = tuple(document["dimension_names"][1:])
    coords, units = {}, {}
    for dim in dims:
        if storage.read(f"fields/{dim}/zarr.json") is not None:
            known = field_document(storage, dim)
            coords[dim] = read_coordinate(storage, dim, known)
            units[dim] = known["attributes"].get("units", "")
    return Field(values, dims, document["attributes"].get("units", ""), coords, units)


class Fields(Mapping[str, "FieldOfTrials"]):
    """The fields of a study by name; each gives a trial's array by its number."""

    def __init__(self, storage: Storage, names: list[str], digests: ChunkArray) -> None:
        self._storage, self._names, self._digests = storage, names, digests

    def __getitem__(self, name: str) -> "FieldOfTrials":
        if name not in self._names:
            raise KeyError(f"there is no field {name!r}; there are: {', '.join(self._names) or 'none'}")
        return FieldOfTrials(self._storage, name, self._digests[:, self._names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def digests(self, trial: int) -> dict[str, str]:
        """SHA-256 of the fields that a trial has, as hexadecimal, by name."""
        rows = self._digests[trial]
        return {name: rows[i].tobytes().hex() for i, name in enumerate(self._names) if rows[i].any()}


class FieldOfTrials(Mapping[int, ChunkArray]):
    """One field: the arrays of the trials that have it, by their numbers."""

    def __init__(self, storage: Storage, name: str, digests: ChunkArray) -> None:
        self._storage, self._name, self._digests = storage, name, digests
        self._document = field_document(storage, name)

    def __getitem__(self, trial: int) -> ChunkArray:
        if not 0 <= trial < len(self._digests) or not self._digests[trial].any():
            raise KeyError(f"trial {trial} has no field {self._name}")
        return read_field(self._storage, self._name, trial, self._digests[trial].tobytes().hex(), self._document)

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._digests.any(axis=1)).tolist())

    def __len__(self) -> int:
        return int(self._digests.any(axis=1).sum())
