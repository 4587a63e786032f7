"""A study as it is read: its scalars from the arrays and what the ledger has beyond them, its fields checked."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from prefect_simopt.arrays import REASONS
from prefect_simopt.errors import CorruptionError, NoStudyError, StoreError
from prefect_simopt.fields import Fields, described_field
from prefect_simopt.hierarchy import study_attributes
from prefect_simopt.lease import is_held
from prefect_simopt.ledger import find_record, newest_records, scan, segments
from prefect_simopt.outcomes import waiting_outcomes
from prefect_simopt.ranking import Scale
from prefect_simopt.simulators.contract import Field
from prefect_simopt.space import Float, Space
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.trial import Outcome, Status, Trial
from prefect_simopt.view import View, standing_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Study", "open_study"]

Array = npt.NDArray[Any]
_EXAMPLE_LINES = 5  # of a failed trial's output, in a verdict


def open_study(url: str, options: Mapping[str, Any] | None = None) -> "Study":
    """Open a study to read it; it may be running.

    Args:
        url: the study's folder or URL, such as `studies/bowl`.
        options: how to reach the store, see `StudyLocation`.

    Raises:
        StoreError: there is no study there, or it cannot be read.
    """
    return Study(StudyLocation(url, dict(options or {})))


class Study:
    """A study as it stood when it was first looked at. Trials that have not ended do not count.

    Args:
        location: of the study.

    Raises:
        StoreError: there is no study there, or it cannot be read.
        CorruptionError: from any attribute, when what it needs is damaged.

    Attributes:
        location: likewise.
        spec: the question, as a JSON document.
    """

    def __init__(self, location: StudyLocation) -> None:
        self.location = location
        self._storage = location.storage()
        attributes = study_attributes(self._storage)
        if attributes is None:
            raise NoStudyError(f"there is no study at {self._storage.url}")
        self.attributes = attributes
        self.spec: dict[str, Any] = attributes["spec"]
        self._columns: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"Study({self.url!r})"

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.attributes["name"])

    @property
    def url(self) -> str:
        """Where the study lives."""
        return self._storage.url

    @property
    def store(self) -> str:
        """Where the study and its neighbours live."""
        return self._storage.url.rpartition("/")[0]

    @cached_property
    def state(self) -> str:
        """`running`, `complete`, `failed` (no answer) or `interrupted` (the same command goes on)."""
        if is_held(self._storage):
            return "running"
        if self.ending in ("", "interrupted"):
            return "interrupted"
        return "failed" if self.ending == "failures" or self._violation_of_best > 0 else "complete"

    @cached_property
    def ending(self) -> str:
        """Why the last run ended, in one word; empty while it runs, when it was killed, or lost trials to a repair."""
        for record in newest_records(self._storage, b'"activity":"run"', b'"activity":"repair"'):
            if record.get("activity") != "repair" or record["used"]["trials"]:
                return str(record.get("generated", {}).get("state", ""))
        return ""

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by what came of them: `complete` (the `cached` ones counted in), `failed`, `cached`, `total`."""
        status = self._column("status")
        complete, failed = int((status == Status.COMPLETE).sum()), int((status == Status.FAILED).sum())
        cached = int(self._column("cached")[status != Status.PENDING].sum())
        return {"complete": complete, "failed": failed, "cached": cached, "total": complete + failed}

    @cached_property
    def waiting(self) -> int:
        """Runs that are complete and not counted yet: their outcomes are in the store, for the search to record."""
        status, generation = self._column("status"), self._column("generation")

        def counts(outcome: Outcome) -> bool:
            known = outcome.trial < len(status) and generation[outcome.trial] >= 0
            return known and not status[outcome.trial] and outcome.status is Status.COMPLETE

        return len(waiting_outcomes(self._storage, counts))

    @property
    def best(self) -> Trial | None:
        """The best trial: feasible before infeasible, then by the first objective; None without a complete one."""
        return self.pareto[0] if self.pareto else None

    @cached_property
    def pareto(self) -> list[Trial]:
        """The trials that no other one dominates, best in the first objective first; with one objective, the best."""
        return [self.trial(number) for number in self._front]

    @property
    def generations(self) -> int:
        """Generations of which trials have ended."""
        return int(self._column("generation")[self._told].max(initial=-1)) + 1

    @property
    def seconds(self) -> float:
        """Time that its runs took, together."""
        return float(standing_of(self._storage).get("seconds", 0.0))

    @cached_property
    def trials(self) -> "pd.DataFrame":
        """All trials that were asked for, by number: parameters, metrics, status and the rest of what is one value.

        A parameter that a trial does not have is NaN, or None among texts.
        """
        import pandas as pd

        asked = np.flatnonzero(self._column("generation") >= 0)
        numbers = self._column("parameters")[asked]
        columns: dict[str, Any] = {
            each.name: numbers[:, i]
            if isinstance(each, Float)
            else [None if math.isnan(number) else each.from_number(number) for number in numbers[:, i].tolist()]
            for i, each in enumerate(self._space.parameters)
        }
        for i, metric in enumerate(self._view.metrics):
            columns[f"metric.{metric}" if metric in columns else metric] = self._column("metrics")[asked, i]
        fidelity = {} if self._model.fidelity is None else {"fidelity": self._column("fidelity")[asked]}
        own = {
            **fidelity,
            "status": [Status(code).name.lower() for code in self._column("status")[asked].tolist()],
            "reason": [REASONS[code - 1].value if code else "" for code in self._column("reason")[asked].tolist()],
            "generation": self._column("generation")[asked],
            "batch": self._column("batch")[asked],
            "seed": self._column("seed")[asked],
            "seconds": self._column("duration")[asked],
            "cached": self._column("cached")[asked],
        }
        columns |= {f"trial.{name}" if name in columns else name: values for name, values in own.items()}
        return pd.DataFrame(columns, index=pd.Index(asked, name="trial"))

    @property
    def dataset(self) -> "xr.Dataset":
        """The arrays by xarray, read when they are used."""
        import xarray as xr

        ours = ("retry_seconds", "fsync")
        options = {name: value for name, value in self.location.options.items() if name not in ours}
        opened: xr.Dataset = xr.open_zarr(self._storage.url, storage_options=options or None)
        return opened

    @cached_property
    def fields(self) -> "Fields":
        """The fields: `study.fields["ez"][12]` is trial 12's, checked against its SHA-256."""
        return Fields(self._storage, self._view.fields, self._column("digests"))

    def trial(self, number: int) -> Trial:
        """One trial, whole.

        Raises:
            KeyError: it has not been asked for.
        """
        if not 0 <= number < len(self._column("generation")) or self._column("generation")[number] < 0:
            raise KeyError(f"{self.name} has no trial {number}")
        noted = self._column("cached")[number] or self._column("status")[number] == Status.FAILED
        entry = find_record(self._storage, f"trial/{number}") if noted else {}
        parameters = self._column("parameters")[number].tolist()
        reason = int(self._column("reason")[number])
        return Trial(
            number=number,
            parameters=self._space.from_numbers(parameters),
            status=Status(int(self._column("status")[number])),
            metrics=self._named("metrics", number),
            fields=self.fields.digests(number),
            errors=self._named("standard_errors", number) if int(self.spec.get("replicates", 1)) > 1 else {},
            seed=int(self._column("seed")[number]),
            generation=int(self._column("generation")[number]),
            fidelity=self._fidelity(number),
            batch=int(self._column("batch")[number]),
            seconds=float(np.nan_to_num(self._column("duration")[number])),
            reason=REASONS[reason - 1] if reason else None,
            message=entry.get("generated", {}).get("message", ""),
            output=entry.get("generated", {}).get("output", ""),
            cached=entry.get("wasDerivedFrom", ""),
        )

    def printed(self, number: int) -> str:
        """What a trial printed, run after run; of long texts the head and the tail."""
        names = [name for name in self._storage.names("logs") if name.startswith(f"{number:08d}-")]
        texts = self._storage.read_many([f"logs/{name}" for name in names])
        return "".join((text or b"").decode(errors="replace") for text in texts)

    def field(self, name: str, trial: int) -> Field:
        """A trial's field with the names of its axes, its unit and its coordinates.

        Raises:
            KeyError: there is no such field.
            CorruptionError: it is not what was written.
        """
        digests = self.fields.digests(trial)
        if name not in digests:
            raise KeyError(f"trial {trial} has no field {name!r}; it has: {', '.join(digests) or 'none'}")
        return described_field(self._storage, name, trial, digests[name])

    def each(self) -> Iterator[Trial]:
        """Every trial that has ended, in order, with its status and metrics alone."""
        told = self._told
        metrics, status = self._column("metrics")[told].tolist(), self._column("status")[told].tolist()
        for number, row, code in zip(told.tolist(), metrics, status, strict=True):
            metrics_by_name = dict(zip(self._view.metrics, row, strict=True))
            yield Trial(number, {}, Status(code), metrics_by_name, fidelity=self._fidelity(number))

    def results(self) -> Iterator[tuple[int, list[float], int, dict[str, float], float | None]]:
        """Number, parameters as stored numbers, seed, metrics and fidelity of each complete trial, in order."""
        columns = [self._column(name)[self._complete].tolist() for name in ("parameters", "seed", "metrics")]
        for number, parameters, seed, metrics in zip(self._complete.tolist(), *columns, strict=True):
            named = zip(self._view.metrics, metrics, strict=True)
            known = {name: value for name, value in named if not math.isnan(value)}
            yield number, parameters, seed, known, self._fidelity(number)

    def fingerprint(self) -> str:
        """SHA-256 over every trial that has ended, in trial order: number, parameters, metrics, status, field digests.

        Two studies with the same results have the same one, whatever happened on the way.
        """
        digest = hashlib.sha256()
        told, names = self._told, self._view.metrics
        digests = self._column("digests")
        for number, parameters, metrics, status in zip(
            told.tolist(),
            self._column("parameters")[told].tolist(),
            self._column("metrics")[told].tolist(),
            self._column("status")[told].tolist(),
            strict=True,
        ):
            document = [
                number,
                self._space.from_numbers(parameters) | self._exactness(number),
                {name: value for name, value in zip(names, metrics, strict=True) if not math.isnan(value)},
                Status(status).name.lower(),
                {name: digests[number, i].tobytes().hex() for i, name in enumerate(self._view.fields)
                 if digests[number, i].any()},
            ]  # fmt: skip
            digest.update(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))
            digest.update(b"\n")
        return digest.hexdigest()

    @property
    def verdict(self) -> str:
        """Why the study has no answer, in sentences; empty when it has one."""
        if self.state != "failed":
            return ""
        counts = self.counts
        if counts["failed"] and (self.ending == "failures" or not counts["complete"]):
            failed = np.flatnonzero(self._column("status") == Status.FAILED)
            commonest = Counter(self._column("reason")[failed].tolist()).most_common(3)
            named = [(count, REASONS[code - 1].value if code else "unknown") for code, count in commonest]
            example = self.trial(int(failed[self._column("reason")[failed] == commonest[0][0]][-1]))
            output = "\n".join(f"    {line}" for line in example.output.splitlines()[-_EXAMPLE_LINES:])
            return (
                f"{counts['failed']} of {counts['total']} trials failed: "
                f"{', '.join(f'{count} x {reason}' for count, reason in named)}. "
                f"Trial {example.number}, for example: {example.message}" + (f"\n{output}" if output else "")
            )
        return (
            f"none of {counts['total']} trials was feasible; the nearest, trial {self._front[0]}, violates the "
            f"constraints by {self._violation_of_best:g}. Loosen the constraints or widen the space."
            if self._front
            else "no trial has ended"
        )

    @cached_property
    def _space(self) -> Space:
        return self._model.make_space()

    @cached_property
    def _model(self) -> StudySpec:
        try:
            return StudySpec.model_validate(self.spec)
        except ValueError:
            raise StoreError(
                f"{self._storage.url} was written by a version of simopt whose spec this one does not read"
            ) from None

    @cached_property
    def _view(self) -> View:
        view = View(self._storage, self._model, self.attributes, fresh=False)
        after = view.load()
        lines = [line for line in scan(segments(self._storage, after=after), first=None) if not line.torn]
        if damaged := [line.problem for line in lines if line.record is None]:
            raise CorruptionError(f"{self._storage.url}: {damaged[0]}. `simopt verify` tells more.")
        view.apply(line.record for line in lines if line.record is not None and line.seq > after)
        return view

    def _column(self, name: str) -> Array:
        if name not in self._columns:
            self._columns[name] = self._view.whole(name)
        return self._columns[name]

    @cached_property
    def _told(self) -> Array:
        return np.flatnonzero(self._column("status") != Status.PENDING)

    def _fidelity(self, number: int) -> float | None:
        return None if self._model.fidelity is None else float(self._column("fidelity")[number])

    def _exactness(self, number: int) -> dict[str, float]:
        fidelity = self._model.fidelity
        return {} if fidelity is None else {fidelity.name: float(self._column("fidelity")[number])}

    @cached_property
    def cost(self) -> float:
        """Of all trials that have ended, in trials at the highest fidelity."""
        fidelity = self._model.fidelity
        if fidelity is None:
            return float(len(self._told))
        return math.fsum(map(fidelity.cost, self._column("fidelity")[self._told].tolist()))

    def _named(self, name: str, number: int) -> dict[str, float]:
        row = self._column(name)[number].tolist()
        return {metric: value for metric, value in zip(self._view.metrics, row, strict=True) if not math.isnan(value)}

    @cached_property
    def _scores(self) -> Array:
        """Metrics of the complete trials that count, in the order of `_counting`."""
        return self._column("metrics")[self._counting]

    @cached_property
    def _counting(self) -> Array:
        """Numbers of the complete trials at the highest fidelity."""
        if self._model.fidelity is None:
            return self._complete
        at_top: Array = self._column("fidelity")[self._complete] == self._model.fidelity.high
        return np.asarray(self._complete[at_top])

    @cached_property
    def _complete(self) -> Array:
        return np.flatnonzero(self._column("status") == Status.COMPLETE)

    @cached_property
    def _violation_of_best(self) -> float:
        return float(Scale.of(self.spec).violations(self._scores, self._view.metrics).min(initial=math.inf))

    @cached_property
    def _front(self) -> list[int]:
        """Numbers of the Pareto-optimal trials, sorted by the first objective."""
        return [int(self._counting[row]) for row in Scale.of(self.spec).front(self._scores, self._view.metrics)]
