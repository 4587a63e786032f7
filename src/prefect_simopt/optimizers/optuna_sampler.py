"""Optuna's samplers. Needs `pip install 'prefect-simopt[optuna]'`; Optuna is imported when the first one is made."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.optimizers.config import OptunaConfig
from prefect_simopt.optimizers.engine import Engine
from prefect_simopt.optimizers.linear import one_thread
from prefect_simopt.optimizers.optuna_notes import pack, unpack
from prefect_simopt.optimizers.ranking import order
from prefect_simopt.space import Int, Space

__all__ = ["Optuna"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CLASSES = {
    "tpe": "optuna.samplers:TPESampler",
    "gp": "optuna.samplers:GPSampler",
    "cmaes": "optuna.samplers:CmaEsSampler",
    "nsga2": "optuna.samplers:NSGAIISampler",
}
_NEEDS = {"gp": "torch", "cmaes": "cmaes"}
_TAKES_CONSTRAINTS = ("tpe", "gp", "nsga2")


class Optuna(Engine):
    """A sampler of Optuna.

    T. Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD (2019) 2623-2631.

    One decision makes it exact under resume: nothing of Optuna lives longer than one `ask`. The study is built anew
    from the arrays of all trials so far, told and pending, in the order of their ids; the sampler is made anew with a
    seed that is a function of this optimizer's seed and the number of the next point. So the state is arrays, and
    what samplers note in the study (generations of the genetic ones, the search of CMA-ES) as plain values. A sampler
    that remembers anything elsewhere forgets it. The price is that an `ask` takes time in proportion to the trials,
    as Optuna's samplers themselves do, and that the state grows with them.

    A failed trial counts as the worst value seen. Samplers that know constraints are told how far a trial is from
    feasible; to others an infeasible trial is as bad as the worst feasible one plus that distance (Deb 2000, eq. 4).

    Raises:
        SpecError: Optuna or what the sampler needs is not installed, there is no such sampler, or it does not take
            the arguments or several objectives.
    """

    config_type: ClassVar[type[OptunaConfig]] = OptunaConfig
    several_objectives: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("_ids", "_x", "_values", "_violations", "_notes")

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        super().__init__(config, space, seed, objectives, config.population or batch)
        if config.sampler == "cmaes" and objectives > 1:
            raise SpecError([Problem("optimizer.sampler", f"cmaes takes one objective, not {objectives}")])
        if config.sampler == "cmaes" and config.arguments.get("with_margin"):
            problem = "with_margin keeps a state that cannot be stored; leave it out"
            raise SpecError([Problem("optimizer.arguments", problem)])
        self._ids, self._x = np.empty(0, dtype=np.int64), np.empty((0, space.dimensions))
        self._values, self._violations = np.empty((0, objectives)), np.empty(0)
        self._notes: dict[str, dict[str, Any]] = {}  # by the trial's id; those of the study as a whole by ""
        # Cells of discrete parameters are whole numbers from 0, those of logarithmic ones the values themselves.
        self._first = np.array([p.low if isinstance(p, Int) and p.log else 0 for p in space.parameters])
        self._class = _imported(config.sampler)
        with _quiet():
            self._sampler()

    def _propose(self, n: int) -> Array:
        from optuna.storages import InMemoryStorage

        with _quiet(), one_thread():
            storage = InMemoryStorage()
            study = self._study(storage)
            distributions = self._distributions()
            rows, anchors = [np.empty((0, self.space.dimensions))], self._anchors()
            notes = dict(self._notes)
            for number in range(self._next, self._next + n):
                asked: list[Any] = []

                def draw(_: Ids, asked: list[Any] = asked) -> Array:
                    if asked and anchors is None:  # the relations exclude what it samples
                        return self._placement.stretch(self._rng.random((1, self.space.dimensions)))
                    asked.append(study.ask(distributions))
                    return self._coordinates(asked[-1].params)

                placed = self._placement.place(1, draw, anchors)
                if not len(placed):
                    break
                rows.append(placed)
                noted = unpack(study.get_trials(deepcopy=False)[asked[-1].number].system_attrs)
                notes |= {str(number): noted} if noted else {}
            general = storage.get_study_system_attrs(storage.get_study_id_from_name(study.study_name))
            self._notes = notes | ({"": dict(general)} if general else {})
        return np.concatenate(rows)

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        self._ids, self._x = np.append(self._ids, ids), np.concatenate([self._x, x])
        self._values = np.concatenate([self._values, values.reshape(len(ids), -1)])
        self._violations = np.append(self._violations, violations)
        by_id = np.argsort(self._ids)
        self._ids, self._x = self._ids[by_id], self._x[by_id]
        self._values, self._violations = self._values[by_id], self._violations[by_id]
        # A search that a later one has replaced is never looked at again.
        searched = [str(key) for key in self._ids.tolist() if "search" in self._notes.get(str(key), {})]
        for key in searched[:-1]:
            kept = {name: value for name, value in self._notes[key].items() if name != "search"}
            self._notes = self._notes | {key: kept}

    def _anchors(self) -> Array | None:
        """From where a point that the relations exclude is pulled back, shape (1, d): the best trial."""
        if not np.isfinite(self._values).any():
            return None
        return self._x[order(self._values[:, 0], self._violations)[:1]]

    def _sampler(self) -> Any:
        seed = int(np.random.SeedSequence([self.seed, self._next]).generate_state(1)[0])
        try:
            return self._class(**{**self.config.arguments, "seed": seed})
        except (TypeError, ValueError) as error:
            problem = f"{self._class.__name__} does not take them: {error}"
            raise SpecError([Problem("optimizer.arguments", problem, repr(self.config.arguments))]) from None

    def _study(self, storage: Any) -> Any:
        """All trials so far, each with its id as its number."""
        import optuna

        study = optuna.create_study(storage=storage, sampler=self._sampler(), directions=["minimize"] * self.objectives)
        for name, value in self._notes.get("", {}).items():
            storage.set_study_system_attr(storage.get_study_id_from_name(study.study_name), name, value)
        values, violations = self._standings()
        told = dict(zip(self._ids.tolist(), range(len(self._ids)), strict=True))
        x = [self._x[told[key]] if key in told else self._pending[key] for key in range(self._next)]
        params, distributions = self._params(self._rows(x)), self._distributions()
        complete, running = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING
        for key in range(self._next):
            row = told.get(key)
            if row is not None and values is None:
                outcome: dict[str, Any] = {"state": optuna.trial.TrialState.FAIL}
            elif row is not None and values is not None:
                limits = None if violations is None else {"violation": violations[row]}
                outcome = {"state": complete, "values": values[row], "constraints": limits}
            else:
                outcome = {"state": running}
            noted = pack(self._notes.get(str(key), {}))
            trial = optuna.trial.create_trial(
                params=params[key], distributions=distributions, system_attrs=noted, **outcome
            )
            trial.distributions = distributions
            study.add_trial(trial)
        return study

    def _standings(self) -> tuple[list[list[float]] | None, list[float] | None]:
        """Finite values of the told trials, and their violations where the sampler is to know them."""
        good: Mask = np.asarray(np.isfinite(self._values).all(axis=1))
        if not good.any():
            return None, None
        values: Array = np.where(good[:, None], self._values, self._values[good].max(axis=0))
        bounded = self._violations[np.isfinite(self._violations)]
        violations = np.minimum(self._violations, bounded.max(initial=0.0))
        if not violations.any():
            return values.tolist(), None
        if self.config.sampler in _TAKES_CONSTRAINTS:
            return values.tolist(), violations.tolist()
        feasible: Mask = violations == 0.0
        worst = values[feasible].max(axis=0) if feasible.any() else np.zeros(self.objectives)
        return np.where(feasible[:, None], values, worst + violations[:, None]).tolist(), None

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found = _Shared()
        for parameter, first in zip(self.space.parameters, self._first.tolist(), strict=True):
            levels = parameter.levels
            if not levels:
                found[parameter.name] = FloatDistribution(0.0, 1.0)
            elif parameter.type == "categorical":
                found[parameter.name] = CategoricalDistribution(tuple(range(levels)))
            else:
                found[parameter.name] = IntDistribution(first, first + levels - 1, log=first > 0)
        return found

    def _params(self, x: Array) -> list[dict[str, Any]]:
        """Points of shape (n, d) as Optuna has them."""
        cells = self._placement.lattice.cells(x) + self._first
        discrete = self._placement.lattice.discrete.tolist()
        columns = [(cells if is_discrete else x)[:, i].tolist() for i, is_discrete in enumerate(discrete)]
        return [dict(zip(self.space.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def _coordinates(self, params: Mapping[str, Any]) -> Array:
        """The inverse of `_params` for one point: shape (1, d)."""
        lattice = self._placement.lattice
        row = [
            lattice.coordinates(i, np.array([params[name] - first]))[0] if lattice.discrete[i] else params[name]
            for i, (name, first) in enumerate(zip(self.space.names, self._first.tolist(), strict=True))
        ]
        return np.array([row])


class _Shared(dict[str, Any]):
    """Distributions that all trials have in common: copying them for each would take most of the time."""

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


def _imported(sampler: str) -> Any:
    """The sampler's class, by its short name or as `module:Class`."""
    for needed in ("optuna", *([_NEEDS[sampler]] if sampler in _NEEDS else [])):
        if importlib.util.find_spec(needed) is None:
            extra = "torch" if needed == "torch" else "'prefect-simopt[optuna]'"
            problem = f"the sampler {sampler} needs {needed}, which is not installed: pip install {extra}"
            raise SpecError([Problem("optimizer.sampler", problem)])
    module, _, name = _CLASSES.get(sampler, sampler).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError([Problem("optimizer.sampler", f"there is no sampler {sampler}: {error}")]) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of every study that is made."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
