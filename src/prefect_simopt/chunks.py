"""Zarr v3 documents and chunks in the store's layout, without the zarr library.

The layout needs one codec pipeline (little-endian bytes, Blosc with zstd-1 and bit shuffling, CRC-32C), so encoding
a chunk is two calls of the libraries that zarr itself calls, and any Zarr v3 reader opens the result. That keeps
zarr's import out of simulator processes and out of the time before a study's first trial.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from prefect_simopt.errors import CorruptionError

__all__ = [
    "ChunkArray",
    "array_document",
    "decode",
    "decode_text",
    "dump",
    "encode",
    "encode_parts",
    "encode_text",
    "group_document",
    "storable",
]

ChunkArray: TypeAlias = npt.NDArray[Any]
_BLOCK = 1 << 19  # bytes compressed at once: of the sizes tried, the fastest and smallest for fields of 1 MiB
_LARGE = 1 << 18  # bytes from which an array is looked at before it is compressed
_PIECE = 1 << 15  # bytes of that look
_LEAST_GAIN = 1.2  # smaller gains are not worth their time
# Of a Blosc buffer that is not compressed, by Blosc 1's README_CHUNK_FORMAT: versions of the format and of zstd, flags;
# size of a number, bytes, bytes of a block, bytes of all.
_HEADER, _STORED = struct.Struct("<BBBBIII"), (2, 1, 0x96)
_MAX_BYTES = 2**31 - 17  # what one Blosc buffer can hold
_TYPES = frozenset(np.dtype(code).name for code in "?bhilBHILefdFD")


def dump(document: Mapping[str, Any]) -> bytes:
    """The bytes of a `zarr.json`."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def group_document(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def array_document(
    dtype: np.dtype[Any] | None,
    shape: Sequence[int],
    chunks: Sequence[int],
    dims: Sequence[str],
    *,
    fill: Any = None,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `zarr.json` of an array.

    Args:
        dtype: a number type; None for text.
        shape: of the array.
        chunks: of one chunk.
        dims: names of the axes.
        fill: value of what was never written; left out: NaN, 0, False or "" by the type.
        attributes: metadata for people and for xarray.
    """
    if dtype is None:
        name, codecs = "string", [{"name": "vlen-utf8", "configuration": {}}]
        fill = "" if fill is None else fill
    else:
        name = dtype.name
        order = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
        blosc = {"typesize": dtype.itemsize, "cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": _BLOCK}
        codecs = [{"name": "bytes", **order}, {"name": "blosc", "configuration": blosc}]
        if fill is None:
            fill = {"f": "NaN", "c": ["NaN", "NaN"], "b": False}.get(dtype.kind, 0)
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [*codecs, {"name": "crc32c"}],
        "attributes": dict(attributes or {}),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def storable(values: npt.ArrayLike) -> ChunkArray:
    """The values as a C-ordered little-endian array of a type that Zarr has.

    Raises:
        ValueError: they are no numbers, or too many for one chunk.
    """
    array = np.asarray(values)
    if array.dtype.name not in _TYPES:
        raise ValueError(f"it holds {array.dtype}, not numbers; return floats, integers, booleans or complex numbers")
    if array.size == 0:
        raise ValueError(f"it is empty (its shape is {array.shape})")
    if array.nbytes > _MAX_BYTES:
        raise ValueError(f"it has {array.nbytes} bytes, more than the {_MAX_BYTES} of one object; split it in parts")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)


def encode(array: ChunkArray) -> bytes:
    """A chunk's bytes: compressed, with their CRC-32C behind them."""
    return b"".join(encode_parts(array))


def encode_parts(array: ChunkArray) -> list[bytes | memoryview]:
    """A chunk's bytes in pieces; the last one is the CRC-32C of the others.

    Large arrays that do not get smaller, by the look of a piece of them, are kept as they are and not even copied: the
    chunk's own header says so, and any reader understands it.
    """
    import google_crc32c

    if array.nbytes >= _LARGE:
        values = np.ascontiguousarray(array).reshape(-1)
        piece = values[: _PIECE // array.itemsize]
        if len(_blosc().encode(piece)) * _LEAST_GAIN > piece.nbytes:
            size = values.nbytes
            header = _HEADER.pack(*_STORED, array.itemsize, size, min(size, _BLOCK), size + _HEADER.size)
            raw = values.view(np.uint8)
            checksum = google_crc32c.extend(google_crc32c.value(header), raw)
            return [header, raw.data, int(checksum).to_bytes(4, "little")]
    packed = _blosc().encode(array)
    return [packed, int(google_crc32c.value(packed)).to_bytes(4, "little")]


def decode(data: bytes, dtype: np.dtype[Any], shape: Sequence[int], what: str) -> ChunkArray:
    """The array of a chunk.

    Args:
        data: the chunk's bytes.
        dtype: of the array.
        shape: of the chunk.
        what: what the chunk is, for the message.

    Raises:
        CorruptionError: the checksum or the size does not match.
    """
    body = _checked(data, what)
    if len(body) < 16 or int.from_bytes(body[4:8], "little") != dtype.itemsize * math.prod(shape):
        raise CorruptionError(f"{what} has not the size that it should have")
    return np.frombuffer(_blosc().decode(body), dtype=dtype).reshape(shape)


def encode_text(texts: Sequence[str]) -> bytes:
    """A chunk of text: their number, then length and UTF-8 of each."""
    import google_crc32c

    encoded = [text.encode() for text in texts]
    body = b"".join([len(texts).to_bytes(4, "little"), *(len(each).to_bytes(4, "little") + each for each in encoded)])
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


def decode_text(data: bytes, what: str) -> list[str]:
    """The inverse of `encode_text`.

    Raises:
        CorruptionError: the checksum does not match.
    """
    body = _checked(data, what)
    texts, position = [], 4
    for _ in range(int.from_bytes(body[:4], "little")):
        length = int.from_bytes(body[position : position + 4], "little")
        texts.append(body[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return texts


def _checked(data: bytes, what: str) -> bytes:
    import google_crc32c

    if google_crc32c.value(data[:-4]).to_bytes(4, "little") != data[-4:]:
        raise CorruptionError(f"{what} is damaged: its checksum does not match")
    return data[:-4]


@cache
def _blosc() -> Any:
    from numcodecs import Blosc  # 0.1 s, so only where an array is read or written

    return Blosc("zstd", 1, Blosc.BITSHUFFLE, _BLOCK)
