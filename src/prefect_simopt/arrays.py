"""The scalar arrays of a study: columns over trials, buffered by chunks of 4096 trials and written as Zarr chunks.

They are a view of the ledger. Buffers of a chunk are dropped once all its trials have ended and it is written, so that
memory does not grow with the number of trials.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt.chunks import ChunkArray, array_document, decode, encode, encode_text
from prefect_simopt.trial import Reason, Status

__all__ = ["CHUNK", "REASONS", "Chunks", "Column", "Table", "columns", "coordinate", "text_coordinate"]

CHUNK = 4096
"""Trials in one chunk of a scalar array."""
REASONS = list(Reason)
"""Reasons by the numbers in the array `reason`, which counts them from 1."""
_COUNT_CHUNK = 65_536
_TEXT_CHUNK = 64
Chunks = Iterator[tuple[str, Callable[[], bytes]]]
"""Objects to be written: the key of each and what makes its bytes."""
_BLOCK = 64  # most parameters or metrics in one chunk


@dataclass
class Column:
    """One array over trials.

    Attributes:
        name: of the array.
        dtype: of its values.
        fill: value of a trial that has none.
        dims: names of the axes after `trial`.
        inner: their sizes.
        axis: which of them is cut into blocks and may grow; None for none.
        width: of a block.
        attributes: metadata for people and xarray.
    """

    name: str
    dtype: np.dtype[Any]
    fill: Any
    dims: tuple[str, ...] = ()
    inner: tuple[int, ...] = ()
    axis: int | None = None
    width: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of a chunk after its axis of trials."""
        return tuple(self.width if axis == self.axis else size for axis, size in enumerate(self.inner))

    @property
    def blocks(self) -> int:
        """Number of chunks beside each other."""
        return 1 if self.axis is None else math.ceil(self.inner[self.axis] / self.width)

    def document(self, capacity: int) -> dict[str, Any]:
        """The array's `zarr.json`."""
        fill = "NaN" if isinstance(self.fill, float) else self.fill
        return array_document(
            self.dtype,
            (capacity, *self.inner),
            (CHUNK, *self.block),
            ("trial", *self.dims),
            fill=fill,
            attributes=self.attributes,
        )

    def key(self, chunk: int, block: int) -> str:
        """Name of a chunk's object."""
        inner = (str(block) if axis == self.axis else "0" for axis in range(len(self.inner)))
        return "/".join([self.name, "c", str(chunk), *inner])

    def part(self, block: int) -> tuple[slice, ...]:
        """Where a block is in the column."""
        if self.axis is None:
            return (slice(None),)
        return (slice(None),) * (self.axis + 1) + (slice(block * self.width, (block + 1) * self.width),)

    def empty(self, rows: int) -> ChunkArray:
        """Values of `rows` trials that have none."""
        return np.full((rows, *self.inner), self.fill, dtype=self.dtype)


def columns(
    parameters: int, metrics: int, replicates: int, fields: int, *, fidelity: bool = False
) -> dict[str, Column]:
    """The arrays of a study, in the order in which they are written: `status` last.

    Args:
        parameters: number of parameters.
        metrics: number of metrics known so far.
        replicates: runs for each trial.
        fields: number of fields known so far.
        fidelity: whether there are levels of it.
    """
    wide = min(math.ceil(metrics / 8) * 8 or 8, _BLOCK)
    f8, i8, i1 = np.dtype("f8"), np.dtype("i8"), np.dtype("i1")
    found = [
        Column("parameters", f8, math.nan, ("parameter",), (parameters,), 0, min(parameters, _BLOCK)),
        Column("metrics", f8, math.nan, ("metric",), (metrics,), 0, wide),
    ]
    if replicates > 1:
        found += [
            Column("standard_errors", f8, math.nan, ("metric",), (metrics,), 0, wide),
            Column("replicate_metrics", f8, math.nan, ("replicate", "metric"), (replicates, metrics), 1, wide),
        ]
    reasons = {"flag_values": list(range(len(REASONS) + 1)), "flag_meanings": " ".join(
        ["none", *(reason.value.replace(" ", "_") for reason in REASONS)])}  # fmt: skip
    states = {"flag_values": [int(status) for status in Status],
              "flag_meanings": " ".join(status.name.lower() for status in Status)}  # fmt: skip
    return {
        column.name: column
        for column in [
            *found,
            *([Column("fidelity", f8, math.nan)] if fidelity else []),
            Column("digests", np.dtype("u1"), 0, ("field", "byte"), (fields, 32), 0, 1),
            Column("seed", i8, -1),
            Column("duration", f8, math.nan, attributes={"units": "s"}),
            Column("generation", i8, -1),
            Column("batch", i8, -1),
            Column("cached", np.dtype("?"), False),
            Column("reason", i1, 0, attributes=reasons),
            Column("status", i1, 0, attributes=states),
        ]
    }


class Table:
    """Buffers of the arrays' chunks that are still changing.

    Args:
        columns: the arrays, by name.
        capacity: trials that there is room for.
        keep: whether to keep the buffers of chunks that will not change any more.

    Attributes:
        columns: likewise.
        capacity: likewise.
    """

    def __init__(self, columns: dict[str, Column], capacity: int, *, keep: bool = False) -> None:
        self.columns, self.capacity, self._keep = columns, capacity, keep
        self._buffers: dict[int, dict[str, ChunkArray]] = {}
        self._dirty: dict[int, set[str]] = {}
        self._finished: set[int] = set()

    def put(self, trials: Sequence[int], values: Mapping[str, npt.ArrayLike]) -> None:
        """Set the rows of some trials in some columns.

        Args:
            trials: n numbers below the capacity.
            values: by column, arrays of n rows.
        """
        rows = np.asarray(trials, dtype=np.int64)
        given = {name: np.asarray(value) for name, value in values.items()}
        for chunk in sorted(set((rows // CHUNK).tolist())):
            here = rows // CHUNK == chunk
            buffers = self._buffers.get(chunk) or self._new(chunk)
            for name, value in given.items():
                buffers[name][rows[here] - chunk * CHUNK] = value[here]
            self._dirty.setdefault(chunk, set()).update(given)

    def grow(self, capacity: int) -> None:
        """Make room for more trials."""
        self.capacity = capacity
        for chunk, buffers in self._buffers.items():
            more = self._rows(chunk) - len(buffers["status"])
            for name, column in self.columns.items():
                buffers[name] = np.concatenate([buffers[name], column.empty(more)]) if more else buffers[name]

    def widen(self, name: str, size: int) -> None:
        """Let the growing axis of a column have `size` entries."""
        column = self.columns[name]
        axis = column.axis or 0
        column.inner = tuple(size if each == axis else old for each, old in enumerate(column.inner))
        for buffers in self._buffers.values():
            wider = column.empty(len(buffers[name]))
            wider[tuple(slice(0, size) for size in buffers[name].shape)] = buffers[name]
            buffers[name] = wider

    def claim(self, chunk: int) -> None:
        """Let a stored chunk be written anew; one that no trial is in any more is emptied."""
        if chunk * CHUNK < self.capacity and chunk not in self._buffers:
            self._new(chunk)
        if chunk in self._buffers:
            self._dirty.setdefault(chunk, set()).update(self.columns)

    def load(self, chunk: int, parts: Mapping[str, bytes | None]) -> None:
        """Take a chunk's rows from what is stored.

        Args:
            chunk: its number.
            parts: bytes of its objects by key; None where there is none.

        Raises:
            CorruptionError: an object is damaged.
        """
        buffers = self._buffers.get(chunk) or self._new(chunk)
        for name, column in self.columns.items():
            for block in range(column.blocks):
                key = column.key(chunk, block)
                data = parts.get(key)
                if data is not None:
                    whole = decode(data, column.dtype, (CHUNK, *column.block), key)
                    into = buffers[name][column.part(block)]
                    into[...] = whole[tuple(slice(0, size) for size in into.shape)]

    def whole(self, name: str) -> ChunkArray:
        """All rows of a column, as far as there are any."""
        column, last = self.columns[name], max(self._buffers, default=-1)
        parts = [
            self._buffers[chunk][name] if chunk in self._buffers else column.empty(self._rows(chunk))
            for chunk in range(last + 1)
        ]
        return np.concatenate(parts) if parts else column.empty(0)

    def changed(self, *, status: bool) -> Chunks:
        """Chunks to be written.

        Args:
            status: those of the column `status`; otherwise of all others.
        """
        for chunk, names in self._dirty.items():
            for name, column in self.columns.items():
                if name in names and (name == "status") == status:
                    for block in range(column.blocks):
                        yield column.key(chunk, block), partial(self._encoded, chunk, column, block)

    def written(self) -> None:
        """All that has changed was written: forget it, and the buffers that will not change any more."""
        self._dirty.clear()
        if self._keep:
            return
        for chunk in [chunk for chunk, buffers in self._buffers.items()
                      if len(buffers["status"]) == CHUNK and buffers["status"].all()]:  # fmt: skip
            del self._buffers[chunk]
            self._finished.add(chunk)

    def _rows(self, chunk: int) -> int:
        return min(CHUNK, self.capacity - chunk * CHUNK)

    def _new(self, chunk: int) -> dict[str, ChunkArray]:
        if chunk in self._finished:
            raise ValueError(f"all trials of chunk {chunk} have ended; none of them can change")
        buffers = {name: column.empty(self._rows(chunk)) for name, column in self.columns.items()}
        self._buffers[chunk] = buffers
        return buffers

    def _encoded(self, chunk: int, column: Column, block: int) -> bytes:
        buffer = self._buffers[chunk][column.name][column.part(block)]
        if buffer.shape != (CHUNK, *column.block):
            whole = np.full((CHUNK, *column.block), column.fill, dtype=column.dtype)
            whole[tuple(slice(0, size) for size in buffer.shape)] = buffer
            buffer = whole
        return encode(np.ascontiguousarray(buffer))


def coordinate(path: str, size: int) -> tuple[dict[str, Any], Chunks]:
    """A coordinate that counts from 0.

    Args:
        path: of the array; its last part is the axis.
        size: number of entries.

    Returns:
        Its `zarr.json`, and its chunks as in `Table.changed`.
    """
    document = array_document(np.dtype("i8"), (size,), (_COUNT_CHUNK,), (path.rpartition("/")[2],))
    starts = range(0, size, _COUNT_CHUNK)
    return document, ((f"{path}/c/{i}", partial(_counted, start)) for i, start in enumerate(starts))


def text_coordinate(
    path: str, texts: Sequence[str], attributes: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Chunks]:
    """A coordinate of names, likewise."""
    document = array_document(None, (len(texts),), (_TEXT_CHUNK,), (path.rpartition("/")[2],), attributes=attributes)
    parts = [list(texts[start : start + _TEXT_CHUNK]) for start in range(0, len(texts), _TEXT_CHUNK)]
    padded = [part + [""] * (_TEXT_CHUNK - len(part)) for part in parts]
    return document, ((f"{path}/c/{i}", partial(encode_text, part)) for i, part in enumerate(padded))


def _counted(start: int) -> bytes:
    return encode(np.arange(start, start + _COUNT_CHUNK, dtype="i8"))
