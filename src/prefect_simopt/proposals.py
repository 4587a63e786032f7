"""How a field's layout is proposed, until it is settled: which trial's shape, axes and coordinates all others need.

The field of the trial with the lowest number decides, whichever ended first. As long as that is not known, a
simulator's process leaves beside each field what it looks like, and the search decides when all trials before have
ended. These objects lie in `outcomes/`, as what else waits for the search.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from prefect_simopt.errors import CorruptionError
from prefect_simopt.fields import decode_field, field_document, field_key, read_field
from prefect_simopt.outcomes import FOLDER
from prefect_simopt.simulators.contract import Field
from prefect_simopt.storage import Storage

__all__ = ["Proposal", "check_field", "is_settled", "proposal_key", "settle"]


@dataclass(frozen=True)
class Proposal:
    """What one trial's field looks like.

    Attributes:
        dtype: name of its type.
        shape: of its values.
        dims: names of its axes, as they were given.
        unit: of its values.
        coords: of axes, by name: type, then values in Base64, or as text.
        coord_units: likewise.
    """

    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    unit: str = ""
    coords: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    coord_units: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, array: npt.NDArray[Any], described: Field) -> "Proposal":
        """The proposal of a field with the values `array`."""
        coords = {dim: _packed(np.asarray(given)) for dim, given in described.coords.items()}
        units = dict(described.coord_units)
        return cls(array.dtype.name, array.shape, tuple(described.dims), described.unit, coords, units)

    @classmethod
    def read(cls, storage: Storage, name: str, trial: int) -> "Proposal | None":
        """That of a trial; None where there is none.

        Raises:
            CorruptionError: it is damaged.
        """
        data = storage.read(proposal_key(name, trial))
        if data is None:
            return None
        try:
            document = orjson.loads(data)
            return cls(**{**document, "shape": tuple(document["shape"]), "dims": tuple(document["dims"])})
        except (ValueError, KeyError, TypeError):
            raise CorruptionError(f"{proposal_key(name, trial)} is damaged; the trial is run again") from None

    def encode(self) -> bytes:
        """The object's bytes."""
        return orjson.dumps(vars(self))

    def field(self, storage: Storage, name: str, trial: int, digest: str) -> Field:
        """The field as its simulator gave it.

        Raises:
            CorruptionError: its values are missing, or not what was written.
        """
        what = f"the field {name} of trial {trial}"
        data = storage.read(field_key(name, trial, len(self.shape)))
        if data is None:
            raise CorruptionError(f"{what} is missing")
        values = decode_field(data, np.dtype(self.dtype), self.shape, digest, what)
        coords = {dim: _unpacked(*each) for dim, each in self.coords.items()}
        return Field(values, self.dims, self.unit, coords, dict(self.coord_units))


def proposal_key(name: str, trial: int) -> str:
    """Name of the object of a trial's proposal."""
    return f"{FOLDER}/field.{name}.{trial:08d}.json"


def check_field(storage: Storage, name: str, trial: int, digest: str) -> None:
    """Make sure that a trial's field, its layout settled or proposed, is what the simulator wrote.

    Raises:
        CorruptionError: it is missing, or it is not.
    """
    given = Proposal.read(storage, name, trial)
    if given is None:
        read_field(storage, name, trial, digest, field_document(storage, name))
    else:
        given.field(storage, name, trial, digest)


def is_settled(storage: Storage, name: str) -> bool:
    """Whether it is decided what the field looks like."""
    return storage.read(_mark(name)) is not None


def settle(storage: Storage, name: str, trial: int) -> None:
    """Note that a trial has decided what the field looks like."""
    storage.write(_mark(name), b"%d" % trial)


def _mark(name: str) -> str:
    return f"{FOLDER}/field.{name}.settled"


def _packed(values: npt.NDArray[Any]) -> tuple[str, Any]:
    if values.dtype.kind in "UO":
        return "text", [str(each) for each in values]
    little = values.astype(values.dtype.newbyteorder("<"))
    return little.dtype.str, base64.b64encode(little.tobytes()).decode()


def _unpacked(dtype: str, data: Any) -> npt.NDArray[Any]:
    return np.array(data) if dtype == "text" else np.frombuffer(base64.b64decode(data), np.dtype(dtype))
