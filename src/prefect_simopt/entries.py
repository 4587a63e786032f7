"""What the ledger's records say: from the nouns to PROV documents and back.

A record is about one activity, named by `activity` and `id`. What it was given is in `used`, what came of it in
`generated`; `wasInformedBy`, `wasDerivedFrom` and `wasAssociatedWith` are PROV's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt.fields import coordinate_digest, field_document
from prefect_simopt.space import Space
from prefect_simopt.steering import Request
from prefect_simopt.storage import Storage
from prefect_simopt.trial import Outcome, Reason, Status, Trial

__all__ = [
    "Entry",
    "Generation",
    "attempt_entry",
    "field_entry",
    "generation_entry",
    "generations",
    "number_of",
    "request_entry",
    "trial_entry",
    "trial_of",
]

Array = npt.NDArray[np.float64]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Generation:
    """What the ledger knows of one generation.

    Attributes:
        number: counted from 0.
        trials: its trials' numbers, in the order in which they were asked.
        parameters: as stored numbers, shape (n, d).
        told: the trials that have ended, by number.
        wanted: how many trials were asked for; there are fewer where a space is nearly used up.
        asked_at: number of the record that asked for it; -1 when that was before the records that were read.
        told_at: number of the record that told of each trial, by the trial's number.
        fidelities: of its trials; none without levels of fidelity.
        closing: whether it was asked for as the last one, at the highest fidelity.
    """

    number: int
    trials: list[int]
    parameters: Array
    wanted: int
    told: dict[int, Trial] = field(default_factory=dict)
    asked_at: int = -1
    told_at: dict[int, int] = field(default_factory=dict)
    fidelities: Sequence[float] = ()
    closing: bool = False

    def fidelity(self, row: int) -> float | None:
        """Of the trial in a row; None without levels of fidelity."""
        return self.fidelities[row] if self.fidelities else None


def number_of(entry: Entry) -> int:
    """The number in an entry's id: of a generation, a trial, or an attempt's trial."""
    return int(entry["id"].partition("/")[2].partition(".")[0])


def generation_entry(
    number: int,
    trials: Sequence[int],
    parameters: Array,
    seeds: Sequence[int],
    wanted: int,
    fidelities: Sequence[float] = (),
    *,
    closing: bool = False,
) -> dict[str, Any]:
    """A generation of `wanted` trials was asked for."""
    generated: dict[str, Any] = {
        "trials": list(trials), "parameters": np.ascontiguousarray(parameters), "seeds": list(seeds)
    }  # fmt: skip
    if fidelities:
        generated["fidelities"] = list(fidelities)
    used = ({} if wanted == len(trials) else {"wanted": wanted}) | ({"closing": True} if closing else {})
    entry: dict[str, Any] = {"activity": "generation", "id": f"generation/{number}"}
    return entry | ({"used": used} if used else {}) | {"generated": generated}


def attempt_entry(outcome: Outcome) -> dict[str, Any]:
    """A run ended that is not the whole of its trial: a replicate, or one that failed and is run again."""
    document = outcome.to_json()
    trial, worker = document.pop("trial"), document.pop("worker", None)
    entry: dict[str, Any] = {
        "activity": "attempt",
        "id": f"attempt/{trial}.{outcome.replicate}.{outcome.attempt}",
        "wasInformedBy": f"trial/{trial}",
    }
    if worker:
        entry["wasAssociatedWith"] = worker
    return {**entry, "generated": document}


def field_entry(storage: Storage, name: str) -> dict[str, Any]:
    """A field was seen for the first time: what it and its coordinates are.

    Raises:
        CorruptionError: its description is missing or damaged.
    """
    document = field_document(storage, name)
    coordinates = {}
    for dim in document["dimension_names"][1:]:
        if storage.read(f"fields/{dim}/zarr.json") is not None:
            known = field_document(storage, dim)
            coordinates[dim] = {"document": known, "sha256": coordinate_digest(storage, dim, known)}
    generated = {"document": document, "coordinates": coordinates}
    return {"activity": "field", "id": f"field/{name}", "generated": generated}


def request_entry(request: Request, attributes: Mapping[str, Any], refused: str, note: str) -> dict[str, Any]:
    """What somebody asked for was taken up, or refused, with the attributes of the study from then on."""
    return {
        "activity": "request",
        "id": f"request/{request.token}",
        "used": request.to_json(),
        "wasAssociatedWith": request.agent,
        "generated": {"attributes": dict(attributes), "refused": refused, "note": note},
    }


def trial_entry(trial: Trial, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A trial ended."""
    entry: dict[str, Any] = {
        "activity": "trial",
        "id": f"trial/{trial.number}",
        "wasInformedBy": f"generation/{trial.generation}",
    }
    if trial.cached:
        entry["wasDerivedFrom"] = trial.cached
    generated: dict[str, Any] = {"status": trial.status.name.lower(), "seconds": trial.seconds}
    for name in ("metrics", "fields", "errors", "gradients", "reason", "message", "output"):
        if value := getattr(trial, name):
            generated[name] = dict(value) if isinstance(value, Mapping) else value
    if trial.batch >= 0:
        generated["batch"] = trial.batch
    if outcomes:
        if outcomes[0].worker:
            entry["wasAssociatedWith"] = outcomes[0].worker
        generated["started"] = outcomes[0].started
        if outcomes[0].attempt:
            generated["attempt"] = outcomes[0].attempt
    return {**entry, "generated": generated}


def trial_of(entry: Entry, space: Space, numbers: Iterable[float], seed: int, fidelity: float | None = None) -> Trial:
    """The trial that an entry tells of, with its parameters as stored numbers, its seed and its fidelity."""
    generated = entry["generated"]
    return Trial(
        number=number_of(entry),
        parameters=space.from_numbers(numbers),
        status=Status[generated["status"].upper()],
        metrics=generated.get("metrics", {}),
        fields=generated.get("fields", {}),
        errors=generated.get("errors", {}),
        seed=seed,
        generation=int(entry["wasInformedBy"].partition("/")[2]),
        batch=generated.get("batch", -1),
        seconds=generated["seconds"],
        reason=Reason(generated["reason"]) if "reason" in generated else None,
        message=generated.get("message", ""),
        output=generated.get("output", ""),
        cached=entry.get("wasDerivedFrom", ""),
        gradients=generated.get("gradients", {}),
        fidelity=fidelity,
    )


def generations(
    entries: Iterable[Entry], space: Space, under_way: Iterable[tuple[Generation, Sequence[int]]] = ()
) -> Iterable[Generation]:
    """The generations that entries tell of, in the order in which they were asked, with what has ended of each.

    A trial that a repair dropped counts as not ended, until it is told again.

    Args:
        entries: of the ledger.
        space: of the study.
        under_way: generations that had been asked for before the first entry and had not ended, with their seeds.
    """
    found: dict[int, Generation] = {}
    homes: dict[int, tuple[Generation, int, int]] = {}  # generation, row and seed of each trial

    def add(generation: Generation, seeds: Sequence[int]) -> None:
        found[generation.number] = generation
        homes.update(
            (trial, (generation, row, seed))
            for row, (trial, seed) in enumerate(zip(generation.trials, seeds, strict=True))
        )

    for generation, seeds in under_way:
        add(generation, seeds)
    for entry in entries:
        if entry["activity"] == "generation":
            generated = entry["generated"]
            trials, seeds = generated["trials"], generated["seeds"]
            parameters = np.array(generated["parameters"], dtype=np.float64).reshape(len(trials), len(space.parameters))
            used, fidelities = entry.get("used", {}), generated.get("fidelities", ())
            add(
                Generation(
                    number_of(entry), trials, parameters, used.get("wanted", len(trials)), asked_at=entry["seq"],
                    fidelities=fidelities, closing=used.get("closing", False),
                ),
                seeds,
            )  # fmt: skip
        elif entry["activity"] == "trial" and (number := number_of(entry)) in homes:
            generation, row, seed = homes[number]
            numbers = generation.parameters[row].tolist()
            generation.told[number] = trial_of(entry, space, numbers, seed, generation.fidelity(row))
            generation.told_at[number] = entry["seq"]
        elif entry["activity"] == "repair":
            for number in entry["used"]["trials"]:
                if number in homes:
                    homes[number][0].told.pop(number, None)
                    homes[number][0].told_at.pop(number, None)
    return found.values()
