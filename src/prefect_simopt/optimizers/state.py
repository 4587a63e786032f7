"""The state of an optimizer as bytes: JSON and NumPy arrays in a zip file, nothing pickled."""

import io
import json
import zipfile
from typing import Any

import numpy as np

__all__ = ["copied", "dump_state", "load_state", "random_state", "restore_random_state"]

_DOCUMENT = "document"
_ARRAY = "__array__"


def dump_state(state: dict[str, Any]) -> bytes:
    """Equal states give equal bytes, which `numpy.load` can open as well.

    Raises:
        TypeError: the state holds something that is neither JSON nor an array of numbers.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    document = json.dumps(_strip(state, arrays), sort_keys=True, separators=(",", ":"))
    arrays[_DOCUMENT] = np.frombuffer(document.encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), member.getvalue())
    return buffer.getvalue()


def load_state(data: bytes) -> dict[str, Any]:
    """The state that `dump_state` was given.

    Raises:
        ValueError: the bytes are no such state.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return dict(_fill(json.loads(arrays[_DOCUMENT].tobytes()), arrays))
    except (ValueError, TypeError, KeyError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"these bytes are no optimizer state ({error}); take an older checkpoint") from error


def copied(value: Any) -> Any:
    """The value, a copy if it is an array."""
    return value.copy() if isinstance(value, np.ndarray) else value


def random_state(rng: np.random.Generator) -> dict[str, Any]:
    """State of a PCG64 generator; its 128-bit numbers as text, which every JSON reader keeps."""
    state: Any = rng.bit_generator.state
    return {
        "state": hex(state["state"]["state"]),
        "inc": hex(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def restore_random_state(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """The inverse of `random_state`."""
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(state["state"], 16), "inc": int(state["inc"], 16)},
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def _strip(node: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The JSON part of a state; its arrays are moved to `arrays`."""
    if isinstance(node, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = node
        return {_ARRAY: name}
    if isinstance(node, dict):
        return {key: _strip(node[key], arrays) for key in sorted(node)}
    return [_strip(each, arrays) for each in node] if isinstance(node, list | tuple) else node


def _fill(node: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(node, dict):
        return arrays[node[_ARRAY]] if _ARRAY in node else {key: _fill(each, arrays) for key, each in node.items()}
    return [_fill(each, arrays) for each in node] if isinstance(node, list) else node
