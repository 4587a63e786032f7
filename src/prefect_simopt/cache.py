"""Results that need no run: equal trials of other studies in the store.

A trial is equal when the simulator is the same to the byte, and so are its parameters, its fidelity and its seed, from
which its random numbers come. Nothing is written for it: the studies themselves are the index.
"""

import logging
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from prefect_simopt.errors import SimoptError
from prefect_simopt.sink import TrialSink
from prefect_simopt.space import Space
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study, open_study
from prefect_simopt.trial import Outcome, Run, Status

__all__ = ["Cache"]

_log = logging.getLogger("prefect_simopt")


class Cache:
    """Looks for a run's result among the trials of a store. Replicated trials are neither looked up nor found.

    Args:
        spec: of the study that asks.
        location: of the study that asks.
        identity: SHA-256 of its simulator.
        capacity: trials that the study has room for.
    """

    def __init__(self, spec: StudySpec, location: StudyLocation, identity: str, capacity: int) -> None:
        self._spec, self._identity = spec, identity
        self._store = StudyLocation(location.url.rpartition("/")[0] or "/", location.options)
        self._enabled = spec.cache and spec.replicates == 1 and not spec.slopes  # gradients are in the ledgers alone
        self._sink = TrialSink(location, capacity, arbitrated=True)
        self._kinds, self._exactness = _kinds(spec.make_space()), _exactness(spec)
        self._found: dict[Hashable, _Source] = {}
        self._studies: dict[str, Study] = {}
        self._loaded = False

    def lookup(self, run: Run) -> Outcome | None:
        """The outcome of an equal trial, its fields copied into this study; None when there is none."""
        if not self._enabled:
            return None
        if not self._loaded:
            self._load()
        found = self._found.get(self._key(run.parameters, run.seed, run.fidelity))
        if found is None:
            return None
        source = f"{found.study}/{found.number}"
        try:
            digests = self._copied_fields(found, run.trial)
        except (SimoptError, ValueError) as error:
            _log.warning("trial %d is run: the result of %s cannot be used: %s", run.trial, source, error)
            return None
        return Outcome(
            run.trial, Status.COMPLETE, metrics=found.metrics, fields=digests, attempt=run.attempt, cached=source
        )

    def _key(self, parameters: Mapping[str, Any], seed: int, fidelity: float | None) -> Hashable:
        return (seed, fidelity, *(parameters.get(name) for name, _ in self._kinds))  # None where it is not there

    def _load(self) -> None:
        """Index the studies of the store that ran the same simulator over the same parameters."""
        self._loaded = True
        store = self._store
        for name in store.storage().folders():
            if name == self._spec.name:
                continue
            try:
                study = open_study(store.child(name).url, store.options)
                if study.attributes.get("simulators") == [self._identity]:
                    self._index(name, study)
            except (SimoptError, ValueError, KeyError) as error:
                _log.debug("%s gives nothing to the cache: %s", name, error)

    def _index(self, name: str, study: Study) -> None:
        spec = StudySpec.model_validate(study.spec)
        space = spec.make_space()
        if spec.replicates > 1 or _kinds(space) != self._kinds or _exactness(spec) != self._exactness:
            return
        required = set(self._spec.metrics)
        for number, stored, seed, metrics, fidelity in study.results():
            if required <= metrics.keys():
                key = self._key(space.from_numbers(stored), seed, fidelity)
                self._found.setdefault(key, _Source(name, number, metrics))
        self._studies[name] = study

    def _copied_fields(self, source: "_Source", trial: int) -> dict[str, str]:
        """Digests of the fields of a trial, which this study holds as well when this returns."""
        study = self._studies[source.study]
        return {
            name: self._sink.put_field(trial, name, study.field(name, source.number))
            for name in study.fields.digests(source.number)
        }


class _Source(NamedTuple):
    """A trial whose result can be taken."""

    study: str
    number: int
    metrics: Mapping[str, float]


def _exactness(spec: StudySpec) -> str | None:
    """The simulator's keyword for its fidelity, if it has one."""
    return None if spec.fidelity is None else spec.fidelity.name


def _kinds(space: Space) -> list[tuple[str, str]]:
    return sorted((parameter.name, parameter.type) for parameter in space.parameters)
