"""A search in miniature over a real record: what the loop does, with results that depend on the trial alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from prefect_simopt.record import Record
from prefect_simopt.seeds import derive_seed
from prefect_simopt.simulators.contract import Field
from prefect_simopt.sink import TrialSink
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.trial import Outcome, Reason, Status, Trial, merge, standard_errors

GENERATION = 4


def make_spec(trials: int = 16, **changes: Any) -> StudySpec:
    document: dict[str, Any] = {
        "name": "bowl",
        "simulator": {"entrypoint": "bowl.py:simulate"},
        "space": [
            {"name": "x", "type": "float", "low": -5, "high": 5, "unit": "nm"},
            {"name": "n", "type": "int", "low": 1, "high": 9},
            {"name": "material", "type": "categorical", "choices": ["TiO2", "Ta2O5"]},
        ],
        "objectives": [{"metric": "value"}],
        "budget": {"trials": trials},
        "store": {"url": "studies"},
        "seed": 7,
    }
    return StudySpec.model_validate(document | changes)


SPACE = make_spec().make_space()


@cache
def point(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return SPACE.decode(SPACE.snap(rng.random((1, SPACE.dimensions))))[0]


def run(spec: StudySpec, sink: TrialSink, number: int, replicate: int = 0) -> Outcome:
    """What the process of a simulator does: simulate, write the field, write the outcome."""
    at = point(number)
    failed = number % 5 == 3
    noise = 0.1 * replicate
    outcome = Outcome(
        number,
        Status.FAILED if failed else Status.COMPLETE,
        replicate,
        metrics={} if failed else {"value": at["x"] ** 2 + noise, "side": float(at["n"])},
        fields={} if failed or replicate else {"ez": sink.put_field(number, "ez", field_of(number))},
        seconds=0.25,
        reason=Reason.EXIT if failed else None,
        message="it exited with code 3" if failed else "",
        output="step 1\nboom\n" if failed else "",
        started=1.7e9 + number,
        worker="host:1",
        batch=number // 2,
    )
    sink.put_outcomes([outcome])
    return outcome


def field_of(number: int) -> Field:
    y, x = np.linspace(0, 1, 3), np.linspace(0, 2, 4)
    return Field(np.outer(y + number, x), ("y", "x"), "V/m", {"x": x, "y": ["low", "middle", "high"]}, {"x": "nm"})


def trial_of(spec: StudySpec, number: int, outcomes: list[Outcome]) -> Trial:
    merged = merge(outcomes)
    return Trial(
        number, point(number), merged.status, merged.metrics, merged.fields, standard_errors(outcomes),
        derive_seed(spec.seed, number), number // GENERATION, merged.batch, merged.seconds, merged.reason,
        merged.message, merged.output, merged.cached,
    )  # fmt: skip


def play(
    location: StudyLocation, spec: StudySpec, until: int | None = None, ran: Callable[[int], None] = lambda number: None
) -> None:
    """Start or resume a study and bring it to `until` trials; to the end of its budget when left out.

    Args:
        location: of the study.
        spec: the question.
        until: trials after which it is left, without closing it, as a kill would.
        ran: told of each run's end.
    """
    record = Record.open(location, spec=spec, provenance={"python": "3", "simulator": "abc"})
    try:
        found = record.checkpoint()
        if found is not None:
            assert int(found[0]) >= 0
        waiting = {(outcome.trial, outcome.replicate): outcome for outcome in record.collect()}
        known = {generation.number: generation for generation in record.history()}
        sink = TrialSink(location, record.capacity)
        end = spec.budget.trials if until is None else until
        for number in range(0, end, GENERATION):
            trials = list(range(number, min(number + GENERATION, spec.budget.trials)))
            generation = known.get(number // GENERATION)
            if generation is None:
                numbers = np.array([SPACE.to_numbers(point(each)) for each in trials])
                record.asked(number // GENERATION, trials, numbers, [derive_seed(spec.seed, each) for each in trials])
            for pair in (trials[::2], trials[1::2]):
                ended = []
                for each in pair:
                    if generation is not None and each in generation.told:
                        continue
                    outcomes = []
                    for replicate in range(spec.replicates):
                        outcome = waiting.get((each, replicate))
                        if outcome is None:
                            outcome = run(spec, sink, each, replicate)
                            ran(each)
                        outcomes.append(outcome)
                    ended.append((trial_of(spec, each, outcomes), outcomes))
                record.told(ended)
            record.flush(force=number % (2 * GENERATION) == 0)
            if number % (3 * GENERATION) == 0:
                record.save_checkpoint(str(number).encode())
        if until is None:
            record.close("budget")
    finally:
        record._lease.release()


def asked(record: Record, spec: StudySpec, number: int = 0) -> None:
    trials = list(range(number * GENERATION, (number + 1) * GENERATION))
    numbers = np.array([SPACE.to_numbers(point(each)) for each in trials])
    record.asked(number, trials, numbers, [each + 1 for each in trials])


class Crash(BaseException):
    """The process is no more."""


class Crashing(Storage):
    """A storage that carries out so many changes and then, in the middle of the next one, is cut off for good."""

    def __init__(self, storage: Storage, left: list[int]) -> None:
        self._storage, self._left = storage, left
        self.url, self.appends = storage.url, storage.appends

    def _change(self) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise Crash

    def append(self, key: str, data: bytes, position: int) -> None:
        if self._left[0] == 0:  # a kill in the middle of a write leaves the first part of it
            self._storage.append(key, data[: len(data) // 2], position)
        self._change()
        self._storage.append(key, data, position)

    def write(self, key, data):
        self._change()
        self._storage.write(key, data)

    def write_many(self, objects):
        for key, data in objects.items():
            self.write(key, data)

    def replace(self, key, data, version):
        self._change()
        return self._storage.replace(key, data, version)

    def delete(self, keys):
        for key in list(keys):
            self._change()
            self._storage.delete([key])

    def clean(self):
        self._storage.clean()

    def __getattr__(self, name):
        return getattr(self._storage, name)

    read = lambda self, key: self._storage.read(key)  # noqa: E731
    read_version = lambda self, key: self._storage.read_version(key)  # noqa: E731
    names = lambda self, folder="": self._storage.names(folder)  # noqa: E731
    folders = lambda self, folder="": self._storage.folders(folder)  # noqa: E731
    age = lambda self, key: self._storage.age(key)  # noqa: E731


class CrashingLocation(StudyLocation):
    """A location whose storages share one number of changes that are left to them."""

    def __init__(self, location: StudyLocation, left: int) -> None:
        super().__init__(location.url, location.options)
        object.__setattr__(self, "left", [left])

    def storage(self) -> Storage:
        return Crashing(super().storage(), self.left)


def objects(location: StudyLocation) -> dict[str, bytes]:
    """Everything that a study has stored."""
    storage = location.storage()

    def below(folder: str) -> dict[str, bytes]:
        inside = f"{folder}/" if folder else ""
        found = {inside + name: storage.read(inside + name) or b"" for name in storage.names(folder)}
        for name in storage.folders(folder):
            found |= below(inside + name)
        return found

    return below("")


def bowl_folder(path: Path) -> StudyLocation:
    return StudyLocation(str(path / "bowl"))
