"""A trial, the runs that make it up, and how a run came out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any

__all__ = ["Outcome", "Reason", "Run", "Status", "Trial", "merge", "standard_errors"]

Gradients = Mapping[str, Mapping[str, float | None]]


class Status(IntEnum):
    """What is known of a trial; the values are those of the array `status`."""

    PENDING = 0
    COMPLETE = 1
    FAILED = 2


class Reason(StrEnum):
    """Why a run failed."""

    EXCEPTION = "exception"
    EXIT = "exit"
    TIMEOUT = "timeout"
    KILLED = "killed"
    MEMORY = "out of memory"
    MISSING_METRIC = "missing metric"
    NOT_FINITE = "not finite"
    BAD_RESULT = "bad result"
    BAD_FIELD = "bad field"
    NOT_STARTED = "not started"


@dataclass(frozen=True)
class Run:
    """One call of the simulator.

    Attributes:
        trial: number of the trial.
        replicate: which of the trial's repetitions, 0 for the first or only one.
        parameters: values by name, plain Python objects.
        seed: below 2**31, derived from the study's seed, the trial and the replicate.
        generation: the generation that the trial belongs to.
        row: place of the run in its generation; a batch simulator's blocks are cut along it.
        attempt: 0 at first, then counted up by retries.
        wanted: False for a run whose outcome is known: it only fills its row in a block of a batch simulator.
        fidelity: how exactly it computes, which is among the parameters too; None without levels of fidelity.
    """

    trial: int
    parameters: Mapping[str, Any]
    seed: int
    replicate: int = 0
    generation: int = 0
    row: int = 0
    attempt: int = 0
    wanted: bool = True
    fidelity: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How one run came out.

    Attributes:
        trial: number of the trial.
        replicate: which of its repetitions.
        status: complete or failed.
        metrics: finite numbers by name; empty when failed.
        fields: SHA-256 of the raw bytes of each field written, as hexadecimal, by name.
        seconds: time the simulator took.
        reason: why it failed; None when complete.
        message: one sentence on the failure.
        output: the last lines that it printed, when it failed.
        attempt: the attempt that this outcome belongs to.
        started: Unix time of the start.
        worker: `host:pid` of the process that ran it.
        batch: number of the batch that it was part of, -1 when that is not known.
        cached: `study/trial` whose result was taken instead of a run; empty for a run.
        gradients: derivatives by metric and parameter, where they were asked for; None where one is not finite.
    """

    trial: int
    status: Status
    replicate: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    reason: Reason | None = None
    message: str = ""
    output: str = ""
    attempt: int = 0
    started: float = 0.0
    worker: str = ""
    batch: int = -1
    cached: str = ""
    gradients: Gradients = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON document without the entries that say nothing."""
        document: dict[str, Any] = {"trial": self.trial, "status": self.status.name.lower(), "seconds": self.seconds}
        for name in (
            "replicate",
            "metrics",
            "fields",
            "reason",
            "message",
            "output",
            "attempt",
            "started",
            "worker",
            "cached",
            "gradients",
        ):
            if value := getattr(self, name):
                document[name] = dict(value) if isinstance(value, Mapping) else value
        if self.batch >= 0:
            document["batch"] = self.batch
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Outcome":
        """The inverse of `to_json`."""
        known = dict(document)
        known["status"] = Status[known["status"].upper()]
        if "reason" in known:
            known["reason"] = Reason(known["reason"])
        return cls(**known)


@dataclass(frozen=True)
class Trial:
    """One parameter set and what came of it.

    Attributes:
        number: counted from 0 in the order in which the optimizer asked.
        parameters: values by name.
        status: what is known of it.
        metrics: numbers by name, the mean over the replicates.
        fields: SHA-256 of each field, as hexadecimal, by name: those of replicate 0, the only ones that are kept.
        errors: standard errors of the metrics; empty with fewer than two replicates.
        seed: of the first replicate.
        generation: number of the generation.
        batch: number of the batch.
        seconds: time the simulator took, summed over replicates.
        reason: why it failed.
        message: one sentence on the failure.
        output: the last lines that a failed one printed.
        cached: `study/trial` whose result was taken instead of simulating; empty when it was simulated.
        gradients: derivatives by metric and parameter, the mean over the replicates; None where one is not finite.
        fidelity: how exactly it was simulated; None without levels of fidelity.
    """

    number: int
    parameters: Mapping[str, Any]
    status: Status = Status.PENDING
    metrics: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    generation: int = 0
    batch: int = -1
    seconds: float = 0.0
    reason: Reason | None = None
    message: str = ""
    output: str = ""
    cached: str = ""
    gradients: Gradients = field(default_factory=dict)
    fidelity: float | None = None

    def ended(self, outcomes: Sequence[Outcome]) -> "Trial":
        """The trial with what came of it.

        Args:
            outcomes: of all its replicates.
        """
        merged = merge(outcomes)
        return replace(
            self,
            status=merged.status,
            metrics=merged.metrics,
            fields=merged.fields,
            errors=standard_errors(outcomes),
            batch=merged.batch,
            seconds=merged.seconds,
            reason=merged.reason,
            message=merged.message,
            output=merged.output,
            cached=merged.cached,
            gradients=merged.gradients,
        )


def merge(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome for a trial out of those of its replicates, in order: metrics are means of the complete ones.

    A trial has failed when more than half of its replicates have.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    ordered = sorted(outcomes, key=lambda outcome: outcome.replicate)
    good = [outcome for outcome in ordered if outcome.status is Status.COMPLETE]
    seconds = math.fsum(outcome.seconds for outcome in ordered)
    if 2 * len(good) < len(ordered):
        failed = next(outcome for outcome in ordered if outcome.status is Status.FAILED)
        message = f"{len(ordered) - len(good)} of {len(ordered)} replicates failed; the first: {failed.message}"
        return replace(failed, replicate=0, message=message, seconds=seconds, started=ordered[0].started)
    names = [name for name in good[0].metrics if all(name in outcome.metrics for outcome in good)]
    metrics = {name: math.fsum(outcome.metrics[name] for outcome in good) / len(good) for name in names}
    means = {metric: {name: _mean([outcome.gradients[metric][name] for outcome in good]) for name in slope}
             for metric, slope in good[0].gradients.items()}  # fmt: skip
    return replace(good[0], replicate=0, metrics=metrics, gradients=means, seconds=seconds, started=ordered[0].started)


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return math.fsum(known) / len(known) if len(known) == len(numbers) else None


def standard_errors(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Standard error of each metric's mean over the complete replicates; empty with fewer than two of them."""
    good = [outcome for outcome in outcomes if outcome.status is Status.COMPLETE]
    if len(good) < 2:
        return {}
    errors = {}
    for name in good[0].metrics:
        values = [outcome.metrics[name] for outcome in good if name in outcome.metrics]
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values)
        errors[name] = math.sqrt(spread / max(len(values) - 1, 1) / len(values))
    return errors
