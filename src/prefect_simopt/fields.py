"""Fields as they are read back: checked against their checksum and against the SHA-256 of what the simulator wrote."""

import hashlib
from typing import Any

import numpy as np
import orjson

from prefect_simopt.chunks import ChunkArray, decode
from prefect_simopt.errors import CorruptionError
from prefect_simopt.storage import Storage

__all__ = ["field_document", "field_key", "read_field"]


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


def field_key(name: str, trial: int, document: dict[str, Any]) -> str:
    """Name of the object that holds a trial's field."""
    return "/".join(["fields", name, "c", str(trial), *("0" for _ in document["shape"][1:])])


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
    what = f"the field {name} of trial {trial}"
    data = storage.read(field_key(name, trial, document))
    if data is None:
        raise CorruptionError(f"{what} is missing")
    array: ChunkArray = decode(data, np.dtype(document["data_type"]), (1, *document["shape"][1:]), what)[0]
    if hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest() != digest:
        raise CorruptionError(f"{what} is not what the simulator wrote: its SHA-256 does not match")
    return array
