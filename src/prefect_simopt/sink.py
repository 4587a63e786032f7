"""The part of the store that simulator processes write: fields, outcomes and kept output, of their own trials only.

Imported by every simulator process: NumPy and orjson are all that it costs until a field is written.
"""

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from prefect_simopt.chunks import ChunkArray, array_document, dump, encode, encode_parts, encode_text, storable
from prefect_simopt.errors import StoreError
from prefect_simopt.fields import field_key, read_coordinate
from prefect_simopt.outcomes import OutcomeSink
from prefect_simopt.proposals import Proposal, is_settled, proposal_key
from prefect_simopt.simulators.contract import Field
from prefect_simopt.storage import StudyLocation

__all__ = ["TrialSink"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_PARALLEL = 1 << 16  # bytes from which hashing in a second thread pays
# Words by which xarray would take a length of time for one of its own, with a warning.
_TIMES = {"nanoseconds": "ns", "microseconds": "us", "milliseconds": "ms", "seconds": "s", "minutes": "min",
          "hours": "h", "days": "d"}  # fmt: skip


class TrialSink(OutcomeSink):
    """Writes what simulators produce. One per process; fields of different trials may be put from several threads.

    Args:
        location: of the study.
        capacity: trials that the study has room for.
        arbitrated: whether a search decides which trial's layout of a field is the one that counts; otherwise it is
            that of the first one that is put.

    Raises:
        StoreError: from every method, when the store cannot be written.
    """

    def __init__(self, location: StudyLocation, capacity: int, *, arbitrated: bool = False) -> None:
        super().__init__(location)
        self._capacity, self._arbitrated = capacity, arbitrated
        self._settled: set[str] = set()
        self._fields: dict[str, dict[str, Any]] = {}
        self._coords: dict[str, npt.NDArray[Any]] = {}
        self._hasher: ThreadPoolExecutor | None = None

    def put_field(self, trial: int, name: str, field: Field | npt.ArrayLike) -> str:
        """Write a trial's field: one object, there whole or not at all.

        Args:
            trial: number of the trial.
            name: of the field.
            field: values, with or without names of axes, units and coordinates.

        Returns:
            SHA-256 of the raw bytes (C order, little-endian), as hexadecimal.

        Raises:
            ValueError: it cannot be stored, or its shape, type, axes or coordinates are not those of the other
                trials. The trial has failed then; nothing else has.
        """
        described = field if isinstance(field, Field) else Field(field)
        if not _NAME.fullmatch(name) or name == "trial":
            raise ValueError(f"field {name!r}: a field's name has letters, digits, '_' and '-', and is not 'trial'")
        try:
            array = storable(described.values)
            if self._arbitrated and name not in self._settled and not is_settled(self._storage, name):
                self._storage.write(proposal_key(name, trial), Proposal.of(array, described).encode())
            else:
                self._settled.add(name)
                self._check(name, array, described)
        except ValueError as error:
            raise ValueError(f"field {name}: {error}") from None
        key = field_key(name, trial, array.ndim)
        raw = array.reshape(-1).view(np.uint8).data
        if array.nbytes < _PARALLEL:
            digest = hashlib.sha256(raw)
            self._storage.write(key, encode(array))
        else:  # hashed and written at the same time
            if self._hasher is None:
                self._hasher = ThreadPoolExecutor(1, thread_name_prefix="simopt-digest")
            hashing = self._hasher.submit(hashlib.sha256, raw)
            self._storage.write_parts(key, encode_parts(array))
            digest = hashing.result()
        return digest.hexdigest()

    def _check(self, name: str, array: ChunkArray, described: Field) -> None:
        """Create the field's array when it is the first of its name; otherwise it must fit the others."""
        dims = tuple(described.dims) or tuple(f"{name}_{axis}" for axis in range(array.ndim))
        if len(dims) != array.ndim:
            raise ValueError(f"it has {array.ndim} axes but {len(dims)} names for them ({', '.join(dims)})")
        if name not in self._fields:
            self._fields[name] = self._created(name, array, dims, described)
        known = self._fields[name]
        if known["dimension_names"][:1] != ["trial"]:
            raise ValueError("its name is that of an axis; give it another name")
        if known["data_type"] != array.dtype.name or known["shape"][1:] != list(array.shape):
            raise ValueError(
                f"it is {array.dtype.name} of shape {array.shape}, but the field of the first trial is "
                f"{known['data_type']} of shape {tuple(known['shape'][1:])}; all trials need the same"
            )
        if known["dimension_names"][1:] != list(dims):
            raise ValueError(f"its axes are {dims}, but those of the first trial {known['dimension_names'][1:]}")
        for dim, given in described.coords.items():
            self._check_coordinate(dim, np.asarray(given), dict(zip(dims, array.shape, strict=True)), described)

    def _created(self, name: str, array: ChunkArray, dims: tuple[str, ...], described: Field) -> dict[str, Any]:
        key = f"fields/{name}/zarr.json"
        found = self._storage.read(key)
        if found is None:
            if len({"trial", name, *dims}) < len(dims) + 2 or not all(_NAME.fullmatch(dim) for dim in dims):
                raise ValueError(
                    f"the names of its axes ({', '.join(dims)}) must be words that differ from each other, from "
                    "'trial' and from the field's name"
                )
            self._check_axes(name, dict(zip(dims, array.shape, strict=True)))
            for dim, given in described.coords.items():
                self._check_coordinate(dim, np.asarray(given), dict(zip(dims, array.shape, strict=True)), described)
            document = array_document(
                array.dtype,
                (self._capacity, *array.shape),
                (1, *array.shape),
                ("trial", *dims),
                attributes=_units(described.unit),
            )
            if self._storage.replace(key, dump(document), None) is not None:
                return document
            found = self._storage.read(key)
        return _parsed(found, key)

    def _check_axes(self, name: str, sizes: Mapping[str, int]) -> None:
        """An axis has one length in the whole study, or xarray could not open the fields together."""
        others = self._storage.folders("fields")
        documents = self._storage.read_many([f"fields/{other}/zarr.json" for other in others])
        for other, document in zip(others, documents, strict=True):
            if document is None:
                continue
            known = _parsed(document, f"fields/{other}/zarr.json")
            for dim, size in zip(known["dimension_names"][1:], known["shape"][1:], strict=True):
                if sizes.get(dim, size) != size:
                    raise ValueError(
                        f"its axis {dim} has {sizes[dim]} points, but that of the field {other} has {size}; "
                        "give it another name"
                    )
            if other in sizes and known["dimension_names"] != [other]:
                raise ValueError(f"its axis {other} has the name of a field; give it another name")
            if name in known["dimension_names"]:
                raise ValueError("its name is that of an axis; give it another name")

    def _check_coordinate(self, dim: str, given: npt.NDArray[Any], sizes: Mapping[str, int], described: Field) -> None:
        if given.shape != (sizes.get(dim),):
            raise ValueError(f"the coordinate {dim} has shape {given.shape}, but its axis has {sizes.get(dim, 'none')}")
        if dim not in self._coords:
            self._coords[dim] = self._stored_coordinate(dim, given, described.coord_units.get(dim, ""))
        if not np.array_equal(self._coords[dim], given, equal_nan=given.dtype.kind in "fc"):
            raise ValueError(f"the coordinate {dim} differs from that of another trial or field; name it differently")

    def _stored_coordinate(self, dim: str, given: npt.NDArray[Any], unit: str) -> npt.NDArray[Any]:
        """The coordinate in the store; the given one is written when there is none."""
        key = f"fields/{dim}/zarr.json"
        found = self._storage.read(key)
        text = given.dtype.kind in "UO"
        data = encode_text([str(each) for each in given]) if text else encode(storable(given))
        if found is None:
            dtype = None if text else storable(given).dtype
            document = array_document(dtype, given.shape, given.shape, (dim,), attributes=_units(unit))
            self._storage.write(f"fields/{dim}/c/0", data)
            if self._storage.replace(key, dump(document), None) is not None:
                return given
            found = self._storage.read(key)
        known = _parsed(found, key)
        if known["dimension_names"] != [dim]:
            raise ValueError(f"its axis {dim} has the name of a field; give it another name")
        if self._storage.read(f"fields/{dim}/c/0") is None:  # dropped by a repair
            self._storage.write(f"fields/{dim}/c/0", data)
        return read_coordinate(self._storage, dim, known)


def _units(unit: str) -> dict[str, str]:
    return {"units": _TIMES.get(unit, unit)} if unit else {}


def _parsed(data: bytes | None, key: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = orjson.loads(data or b"")
    except orjson.JSONDecodeError:
        raise StoreError(f"{key} of the study is missing or damaged; `simopt verify` tells more") from None
    return document
