"""The state of a search: the optimizer, what it was asked for and told, and how far that is; a checkpoint holds it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_simopt import entries
from prefect_simopt.errors import CorruptionError, StudyConflictError
from prefect_simopt.generation import Generation
from prefect_simopt.levels import proposed
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer, optimizer_from_state
from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.halving import Halving
from prefect_simopt.optimizers.make import ENGINES
from prefect_simopt.progress import Progress
from prefect_simopt.ranking import Ranking, Scale
from prefect_simopt.slopes import cube_gradients
from prefect_simopt.space import Space
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Status

__all__ = ["SearchState"]

GENERATION = 16  # points of a generation, where the spec does not say
SAMPLES = 256  # points of a generation, for samplers, which learn nothing from the one before


class SearchState:
    """The state of one search. It follows from the spec and from what was asked and told, in that order, alone.

    Args:
        spec: the question.
        attempts: how many runs of a trial and replicate have failed in earlier runs of the study.

    Attributes:
        space: of the study.
        optimizer: what searches.
        progress: of what was told.
        asked: how many generations were asked for: the number of the next one.
        under_way: generations that were asked for and not told, by number.
    """

    def __init__(self, spec: StudySpec, attempts: Callable[[int, int], int]) -> None:
        self._spec, self._attempts = spec, attempts
        self._scale = Scale(spec.objectives, spec.constraints, spec.fidelity)
        self.space = spec.make_space()
        self.optimizer = _make_optimizer(spec, self.space)
        self.progress = Progress(spec.budget.trials, Ranking(self._scale))
        self.asked = 0
        self.under_way: dict[int, Generation] = {}

    @property
    def size(self) -> int:
        """Trials of a generation, where the optimizer is told a generation at a time."""
        return self.optimizer.batch if self.optimizer.adaptive else min(self.optimizer.batch, SAMPLES)

    def ask(self, size: int, *, closing: bool = False) -> Generation:
        """The next generation: up to `size` trials, none where the space is used up.

        Args:
            size: trials that are wanted.
            closing: whether as the last ones, at the highest fidelity.
        """
        return self._propose(self.asked, size, closing=closing)

    def ask_again(self, recorded: entries.Generation) -> Generation:
        """A generation that the ledger holds, with what has ended of it.

        Raises:
            CorruptionError: the optimizer asks for other points now.
        """
        generation = self.under_way.get(recorded.number)
        if generation is None:
            generation = self._propose(recorded.number, recorded.wanted, closing=recorded.closing)
            same = np.array_equal(self.numbers(generation), recorded.parameters, equal_nan=True)
            given = list(generation.asked), generation.fidelities
            if given != (list(recorded.trials), list(recorded.fidelities)) or not same:
                raise CorruptionError(
                    f"generation {recorded.number} cannot be replayed: the optimizer now asks for other points than "
                    "the ledger holds. Was the study written by another version? Run it anew with --new."
                )
        generation.told |= recorded.told
        return generation

    def tell_if_whole(self, generation: Generation) -> bool:
        """Tell the optimizer a generation of which every trial has ended, and count it; otherwise do nothing."""
        if not generation.whole:
            return False
        trials = [generation.told[number] for number in sorted(generation.told)]
        values = np.array([self._scale.values(trial) for trial in trials])
        violations = [0.0 if trial.status is Status.FAILED else self._scale.violation(trial) for trial in trials]
        told = [trial.number for trial in trials], values[:, 0] if values.shape[1] == 1 else values, violations
        if self.optimizer.takes_gradients:
            self.optimizer.tell(*told, cube_gradients(self.space, self._scale, trials))
        else:
            self.optimizer.tell(*told)
        for trial in trials:
            self.progress.add(trial)
        self.progress.generations += 1
        del self.under_way[generation.number]
        return True

    def numbers(self, generation: Generation) -> npt.NDArray[np.float64]:
        """The parameters of a generation's n trials as stored numbers, shape (n, d)."""
        rows = [self.space.to_numbers(trial.parameters) for trial in generation.asked.values()]
        return np.array(rows, dtype=np.float64).reshape(-1, self.space.dimensions)

    def dump(self) -> bytes:
        """All of it, but for what has ended of generations under way, which the ledger holds."""
        under_way = [
            [each.number, list(each.asked), [dict(trial.parameters) for trial in each.asked.values()], each.fidelities]
            for each in self.under_way.values()
        ]
        state = {"optimizer": self.optimizer.state(), "progress": self.progress.state(), "asked": self.asked}
        return dump_state({**state, "under_way": under_way})

    def restore(self, payload: bytes) -> None:
        """The inverse of `dump`.

        Raises:
            StudyConflictError: another version wrote it, whose optimizers this one does not go on with.
        """
        state = load_state(payload)
        try:
            self.optimizer = optimizer_from_state(state["optimizer"])
        except ValueError as error:
            raise StudyConflictError(
                f"the search was begun by another version of simopt: {error}. Its trials are as they were; go on with "
                "the version that began it, or ask again under another name (`new` finds one)"
            ) from None
        self.progress.restore(state["progress"])
        for number, trials, points, *rest in state["under_way"]:
            self._begin(number, trials, points, rest[0] if rest else [])
        self.asked = state["asked"]

    def recorded(self) -> list[tuple[entries.Generation, list[int]]]:
        """The generations under way as the ledger knows them, each with the seeds of its trials."""
        return [
            (
                entries.Generation(
                    each.number, list(each.asked), self.numbers(each), len(each.asked), fidelities=each.fidelities
                ),
                each.seeds,
            )
            for each in self.under_way.values()
        ]

    def _propose(self, number: int, size: int, *, closing: bool) -> Generation:
        trials, x, fidelities = proposed(self.optimizer, self._spec.fidelity, size, closing=closing)
        return self._begin(number, trials, self.space.decode(x), fidelities)

    def _begin(
        self, number: int, trials: Sequence[int], points: Sequence[Mapping[str, Any]], fidelities: Sequence[float]
    ) -> Generation:
        generation = Generation.of(self._spec, number, trials, points, fidelities, self._attempts)
        self.asked = number + 1
        if generation.asked:
            self.under_way[number] = generation
        return generation


def _make_optimizer(spec: StudySpec, space: Space) -> Optimizer:
    engine = ENGINES.get(spec.optimizer.type)  # none of its own for `auto`
    sampled = engine is not None and not engine.adaptive
    optimizer: Optimizer = make_optimizer(
        spec.optimizer,
        space,
        seed=spec.seed,
        objectives=len(spec.objectives),
        batch=spec.budget.trials if sampled and spec.fidelity is None else GENERATION,
    )
    if spec.fidelity is not None and spec.optimizer.type != "points":
        optimizer = Halving(optimizer, len(spec.fidelity.values), spec.fidelity.eta, space.dimensions)
    return optimizer
