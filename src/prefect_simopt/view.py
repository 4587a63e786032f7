"""The scalar arrays brought in line with the ledger: which entry changes which rows, and when they are written."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from prefect_simopt.arrays import REASONS, Chunks, Column, Table, columns, coordinate, text_coordinate
from prefect_simopt.chunks import decode_text
from prefect_simopt.entries import Entry, number_of
from prefect_simopt.hierarchy import Hierarchy
from prefect_simopt.space import Categorical
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import Storage
from prefect_simopt.trial import Status

__all__ = ["STANDING", "View", "holds_trials", "standing_of"]

STANDING = "ledger/arrays.json"
"""Object that says up to which ledger record the arrays are written."""
LARGEST = 1 << 20  # trials that the arrays are sized to at creation; they grow beyond it as they are needed
_AT_ONCE = 32  # objects encoded before they are written
_BY_METRIC = ("metrics", "standard_errors", "replicate_metrics")
_REASON_NUMBERS = {reason.value: number for number, reason in enumerate(REASONS, 1)}


def standing_of(storage: Storage) -> dict[str, Any]:
    """Where the arrays are: `seq`, number of the ledger record up to which they are written, and `seconds`."""
    try:
        standing: dict[str, Any] = orjson.loads(storage.read(STANDING) or b"{}")
    except orjson.JSONDecodeError:
        return {}  # it only saves work: the arrays are compared with the whole ledger then
    return standing if isinstance(standing.get("seq"), int) else {}


def holds_trials(storage: Storage) -> bool:
    """Whether anything was ever written into the arrays, which happens only after the ledger has it."""
    return bool(storage.names("status/c"))


class View:
    """The arrays of one study, for its one writer.

    Args:
        storage: of the study.
        spec: the study's.
        attributes: of its root group.
        fresh: whether the study has no arrays yet.
        keep: whether to keep all rows in memory.

    Attributes:
        spec: the study's.
        status: of each trial, shape (capacity,), as far as it has been told.
        asked: whether each trial was asked for, shape (capacity,).
        reshaped: whether shapes or names have changed since the last flush.
        hierarchy: the study's documents.
    """

    def __init__(
        self,
        storage: Storage,
        spec: StudySpec,
        attributes: Mapping[str, Any],
        *,
        fresh: bool,
        keep: bool = False,
    ) -> None:
        self._storage, self.spec = storage, spec
        self._metrics = {name: i for i, name in enumerate(spec.metrics)}
        self._fields: dict[str, int] = {}
        self._documents: dict[str, dict[str, Any]] = {}  # of fields and their coordinates
        self._replicates: dict[int, dict[int, Mapping[str, float]]] = {}
        capacity = min(spec.budget.trials, LARGEST)
        kinds = columns(len(spec.space), len(self._metrics), spec.replicates, 0, fidelity=spec.fidelity is not None)
        self._table = Table(kinds, capacity, keep=keep)
        self._compare = not fresh  # what an earlier run wrote is compared before it is written again
        self.reshaped = True
        self._stale = True
        self._counted = 0  # trials that the coordinates in the store count
        self.hierarchy = Hierarchy(storage, attributes)
        self.status = np.zeros(capacity, dtype=np.int8)
        self.asked = np.zeros(capacity, dtype=bool)

    @property
    def capacity(self) -> int:
        """Trials that the arrays have room for."""
        return self._table.capacity

    def grow(self, capacity: int) -> None:
        """Make room for more trials."""
        more = np.zeros(capacity - self.capacity, dtype=np.int8)
        self._table.grow(capacity)
        self.status = np.concatenate([self.status, more])
        self.asked = np.concatenate([self.asked, more.astype(bool)])
        self.reshaped = True

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take ledger entries into account, in their order."""
        asked: list[Entry] = []
        told: list[Entry] = []
        for entry in entries:
            kind = entry["activity"]
            if kind == "trial":
                told.append(entry)
            elif kind == "generation":
                asked.append(entry)
            elif kind == "attempt":
                self._add_replicate(entry)
            elif kind == "field":
                self._add_field(entry)
            elif kind in ("study", "revision", "request"):
                self.hierarchy.attributes = dict(entry["generated"]["attributes"])
                self.reshaped = True
            elif kind == "repair":
                self._put_generations(asked)
                self._put_trials(told)
                asked, told = [], []
                self._drop(entry["used"]["trials"])
        self._put_generations(asked)
        self._put_trials(told)
        self._stale = True

    def load(self) -> int:
        """Take the rows from the arrays in the store, to read them.

        Returns:
            The number of the ledger record from which to `apply` what they lack.

        Raises:
            CorruptionError: an array is damaged.
        """
        seq = standing_of(self._storage).get("seq", -1)
        self._learn(self._metrics, [dict.fromkeys(self._names("metric"))], *_BY_METRIC)
        self._learn(self._fields, [dict.fromkeys(self._names("field"))], "digests")
        shape = orjson.loads(self._storage.read("status/zarr.json") or b'{"shape":[0]}')["shape"]
        if shape[0] > self.capacity:
            self.grow(shape[0])
        chunks = sorted(int(name) for name in self._storage.names("status/c") if name.isdecimal())
        all_columns = self._table.columns.values()
        for chunk in chunks:
            keys = [column.key(chunk, block) for column in all_columns for block in range(column.blocks)]
            self._table.load(chunk, dict(zip(keys, self._storage.read_many(keys), strict=True)))
        rows = self._table.whole("status")
        self.status[: len(rows)] = rows
        return int(seq)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the arrays."""
        return list(self._metrics)

    @property
    def fields(self) -> list[str]:
        """Names of the fields, in the order of the array `digests`."""
        return list(self._fields)

    @property
    def columns(self) -> Mapping[str, Column]:
        """The arrays over trials, by name."""
        return self._table.columns

    def whole(self, name: str) -> npt.NDArray[Any]:
        """All rows of an array, as far as trials were asked for."""
        return self._table.whole(name)

    def flush(self, standing: Mapping[str, Any]) -> None:
        """Write what has changed: data, then shapes, then `status`.

        Args:
            standing: where the ledger is, for readers: `seq` of the last record that was applied, and totals.
        """
        if not self._stale:
            return
        if self._compare:
            for name in self._storage.names("status/c"):
                self._table.claim(int(name))
        self._write(self._table.changed(status=False))
        if self.reshaped:
            self._write_shapes()
        self._write(self._table.changed(status=True))
        self._storage.write(STANDING, orjson.dumps(standing))
        self._table.written()
        self._compare = self.reshaped = self._stale = False

    def _put_generations(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        generated = [entry["generated"] for entry in entries]
        trials = [trial for each in generated for trial in each["trials"]]
        capacity = self.capacity
        while trials and max(trials) >= capacity:
            capacity *= 2
        if capacity > self.capacity:
            self.grow(capacity)
        self.asked[trials] = True
        sizes = [len(each["trials"]) for each in generated]
        fidelities = [value for each in generated for value in each.get("fidelities", ())]
        self._table.put(
            trials,
            {
                "parameters": np.concatenate(
                    [np.array(each["parameters"], dtype=float).reshape(-1, len(self.spec.space)) for each in generated]
                ),
                "seed": [seed for each in generated for seed in each["seeds"]],
                "generation": np.repeat([number_of(entry) for entry in entries], sizes),
                "status": np.full(len(trials), Status.PENDING),
                **({"fidelity": fidelities} if fidelities else {}),
            },
        )

    def _add_replicate(self, entry: Entry) -> None:
        if self.spec.replicates > 1:
            generated = entry["generated"]
            group = self._replicates.setdefault(number_of(entry), {})
            group[generated.get("replicate", 0)] = generated.get("metrics", {})

    def _add_field(self, entry: Entry) -> None:
        """A field, which a simulator's process created, and its coordinates become part of the study's metadata."""
        name, generated = entry["id"].partition("/")[2], entry["generated"]
        self._learn(self._fields, [{name: None}], "digests")
        self._documents[name] = generated["document"]
        self._documents |= {dim: each["document"] for dim, each in generated["coordinates"].items()}

    def _put_trials(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        numbers = [number_of(entry) for entry in entries]
        generated = [entry["generated"] for entry in entries]
        metrics = [each.get("metrics", {}) for each in generated]
        fields = [each.get("fields", {}) for each in generated]
        self._learn(self._metrics, metrics, *_BY_METRIC)
        self._learn(self._fields, fields, "digests")
        status = [Status[each["status"].upper()] for each in generated]
        values: dict[str, npt.ArrayLike] = {
            "metrics": self._matrix(metrics),
            "duration": [each["seconds"] for each in generated],
            "batch": [each.get("batch", -1) for each in generated],
            "cached": ["wasDerivedFrom" in entry for entry in entries],
            "reason": [_REASON_NUMBERS.get(each.get("reason"), 0) for each in generated],
            "status": status,
        }
        if self._fields:
            values["digests"] = np.frombuffer(
                b"".join(bytes.fromhex(each.get(name, "00" * 32)) for each in fields for name in self._fields), np.uint8
            ).reshape(len(entries), len(self._fields), 32)
        if self.spec.replicates > 1:
            groups = [self._replicates.pop(number, {}) for number in numbers]
            count = range(self.spec.replicates)
            values["standard_errors"] = self._matrix([each.get("errors", {}) for each in generated])
            values["replicate_metrics"] = self._matrix([group.get(i, {}) for group in groups for i in count]).reshape(
                len(entries), len(count), len(self._metrics)
            )
        self._table.put(numbers, values)
        self.status[numbers] = status

    def _names(self, path: str) -> list[str]:
        parts = [self._storage.read(f"{path}/c/{name}") for name in self._storage.names(f"{path}/c")]
        return [text for part in parts for text in decode_text(part or b"", f"the array {path}") if text]

    def _drop(self, trials: Sequence[int]) -> None:
        """A repair found that these trials cannot be trusted; they count as not ended."""
        nothing = {
            name: np.full((len(trials), *column.inner), column.fill, dtype=column.dtype)
            for name, column in self._table.columns.items()
            if name not in ("parameters", "seed", "generation", "fidelity")
        }
        self._table.put(trials, nothing)
        self.status[list(trials)] = Status.PENDING

    def _learn(self, known: dict[str, int], named: Sequence[Mapping[str, Any]], *names: str) -> None:
        """Make room for metrics or fields that were not seen before."""
        for name in chain.from_iterable(named):
            if name not in known:
                known[name] = len(known)
                self.reshaped = True
                for column in names:
                    if column in self._table.columns:
                        self._table.widen(column, len(known))

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> npt.NDArray[np.float64]:
        return np.array([[row.get(name, math.nan) for name in self._metrics] for row in rows], dtype=np.float64)

    def _write_shapes(self) -> None:
        """Write coordinates, and the documents of all arrays."""
        units = {parameter.name: parameter.unit for parameter in self.spec.space if parameter.unit}
        choices = {each.name: list(each.choices) for each in self.spec.space if isinstance(each, Categorical)}
        names = {"parameter": [each.name for each in self.spec.space], "metric": list(self._metrics)}
        if self._fields:
            names["field"] = list(self._fields)
        for path, texts in names.items():
            attributes = {"unit": units, "choices": choices} if path == "parameter" else {}
            document, chunks = text_coordinate(path, texts, {name: each for name, each in attributes.items() if each})
            self._write(chunks)
            self.hierarchy.set(path, document)
        counted = {"trial": self.capacity, "fields/trial": self.capacity}
        if self.spec.replicates > 1:
            counted["replicate"] = self.spec.replicates
        for path, size in counted.items():
            document, chunks = coordinate(path, size)
            if self._counted < self.capacity:
                self._write(chunks)
            self.hierarchy.set(path, document)
        self._counted = self.capacity
        for name, column in self._table.columns.items():
            if 0 not in column.inner:
                self.hierarchy.set(name, column.document(self.capacity))
        for name, document in self._documents.items():
            if name in self._fields:
                document = {**document, "shape": [self.capacity, *document["shape"][1:]]}  # noqa: PLW2901
            self.hierarchy.set(f"fields/{name}", document)
        self.hierarchy.write()

    def _write(self, chunks: Chunks) -> None:
        objects: dict[str, bytes] = {}
        for key, make in chunks:
            objects[key] = make()
            if len(objects) == _AT_ONCE:
                self._write_changed(objects)
                objects = {}
        self._write_changed(objects)

    def _write_changed(self, objects: dict[str, bytes]) -> None:
        if self._compare and objects:
            old = dict(zip(objects, self._storage.read_many(list(objects)), strict=True))
            objects = {key: data for key, data in objects.items() if old[key] != data}
        self._storage.write_many(objects)
