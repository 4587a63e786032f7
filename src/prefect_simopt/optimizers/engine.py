"""What all our optimizers share: numbering points, keeping account of the pending ones, and the state."""

import operator
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers.base import Optimizer
from prefect_simopt.optimizers.linear import one_thread
from prefect_simopt.optimizers.placement import Placement
from prefect_simopt.optimizers.ranking import rankable
from prefect_simopt.optimizers.state import copied, random_state, restore_random_state
from prefect_simopt.space import Space

__all__ = ["Engine"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_FORMAT = 3  # of the state; a state of another format is refused


class Engine(Optimizer):
    """An optimizer that has yet to say what it proposes and what it learns.

    Results are taken in when points are next asked for, in the order of their ids. So neither the order in which
    they were told nor the parts they came in make a difference.

    Attributes:
        config: its configuration.
        space: what it searches.
        seed: of its random numbers.
        objectives: how many values each point has.
        config_type: model of the configuration.
        several_objectives: whether `objectives` may be above 1.
        memory: names of the attributes that, with those of this class, make up the state.
    """

    config_type: ClassVar[type[Any]]
    several_objectives: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> None:
        for name, value in (("objectives", objectives), ("batch", batch)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if objectives > 1 and not self.several_objectives:
            raise ValueError(f"{config.type} takes one objective, not {objectives}")
        if space.dimensions == 0:
            raise ValueError("the space has no parameters; give it at least one")
        self.config, self.space, self.seed, self.objectives, self.batch = config, space, seed, objectives, batch
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._placement = Placement(space, self._rng)
        self._next = 0
        self._pending: dict[int, Array] = {}
        self._told: dict[int, tuple[Array, float, float]] = {}
        self._suggested: list[Array] = []  # not asked for yet
        self._given: set[int] = set()  # ids of those that were asked for and are not taken in yet

    def ask(self, n: int) -> tuple[Ids, Array]:
        """See `Optimizer.ask`."""
        wanted = operator.index(n)
        if wanted < 0:
            raise ValueError(f"cannot propose {n} points; ask for 0 or more")
        if not self._told:
            return self._ask(wanted)
        with one_thread():
            self._take_in()
            return self._ask(wanted)

    def _ask(self, wanted: int) -> tuple[Ids, Array]:
        first, blocks = self._next, [self._rows(self._suggested[:wanted])]
        del self._suggested[:wanted]
        self._given.update(range(first, first + len(blocks[0])))
        self._number(blocks[0])
        wanted -= len(blocks[0])
        while wanted > 0:
            size = min(wanted, self._room())
            x = self._propose(size)
            self._number(x)
            blocks.append(x)
            if len(x) < size:
                break
            wanted -= size
        return np.arange(first, self._next), np.concatenate(blocks)

    def _number(self, x: Array) -> None:
        self._pending.update(zip(range(self._next, self._next + len(x)), x, strict=True))
        self._next += len(x)

    def suggest(self, x: npt.ArrayLike) -> Mask:
        """See `Optimizer.suggest`."""
        given = np.asarray(x, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.space.dimensions:
            raise ValueError(f"points have shape {given.shape}; they need (n, {self.space.dimensions})")
        if not ((given >= 0.0) & (given <= 1.0)).all():
            raise ValueError("a point is outside the space: its coordinates are not all between 0 and 1")
        snapped = self.space.snap(given) + 0.0
        if not (allowed := self._placement.allowed(snapped)).all():
            row = int(np.argmin(allowed))
            raise ValueError(f"point {row} is outside the relations, or outside what the search was narrowed to")
        new = self._placement.claim(snapped)
        self._suggested += list(snapped[new])
        return new

    def narrow(self, low: npt.ArrayLike, high: npt.ArrayLike) -> None:
        """See `Optimizer.narrow`."""
        self._placement.narrow(low, high)
        if self._told:
            with one_thread():
                self._take_in()
        stays = self._placement.inside(self._rows(self._suggested)).tolist()
        self._placement.release(x for x, each in zip(self._suggested, stays, strict=True) if not each)
        self._suggested = [x for x, each in zip(self._suggested, stays, strict=True) if each]
        self._narrowed()

    def _narrowed(self) -> None:
        """The search goes on within narrower bounds."""

    def tell(
        self,
        ids: npt.ArrayLike,
        values: npt.ArrayLike,
        violations: npt.ArrayLike | None = None,
        gradients: npt.ArrayLike | None = None,
    ) -> None:
        """See `Optimizer.tell`."""
        keys = self._keys(ids)
        f = np.asarray(values, dtype=np.float64)
        if self.objectives == 1 and f.shape == (len(keys), 1):
            f = f[:, 0]
        expected = (len(keys),) if self.objectives == 1 else (len(keys), self.objectives)
        if f.shape != expected:
            raise ValueError(f"values have shape {f.shape}; {len(keys)} ids need {expected}")
        v = np.zeros(len(keys)) if violations is None else np.asarray(violations, dtype=np.float64)
        if v.shape != (len(keys),):
            raise ValueError(f"violations have shape {v.shape}; {len(keys)} ids need ({len(keys)},)")
        rows = [self._pending.pop(key) for key in keys]
        self._placement.release(rows)
        if self.adaptive:
            f, v = rankable(f, v)
            self._told.update(zip(keys, zip(rows, f.tolist(), v.tolist(), strict=True), strict=True))
        else:
            self._given.difference_update(keys)

    def state(self) -> dict[str, Any]:
        """See `Optimizer.state`: arrays are copies, so that the state stays as it is."""
        told = sorted(self._told)
        return {
            "format": _FORMAT,
            "config": self.config.model_dump(mode="json"),
            "space": self.space.describe(),
            "seed": self.seed,
            "objectives": self.objectives,
            "batch": self.batch,
            "next": self._next,
            "random": random_state(self._rng),
            "used": self._placement.used,
            "pending": {"ids": _integers(self._pending), "x": self._rows(list(self._pending.values()))},
            "told": {
                "ids": _integers(told),
                "x": self._rows([self._told[key][0] for key in told]),
                "values": np.array([self._told[key][1] for key in told]),
                "violations": np.array([self._told[key][2] for key in told]),
            },
            "memory": {name.strip("_"): copied(getattr(self, name)) for name in self.memory},
            **self._steering(),
        }

    def _steering(self) -> dict[str, Any]:
        """What people have asked for, where they have."""
        box, steering = self._placement.box, dict[str, Any]()
        if self._suggested or self._given:
            steering["suggested"] = {"x": self._rows(self._suggested), "ids": _integers(sorted(self._given))}
        if box is not None:
            steering["box"] = {"low": box.low.copy(), "high": box.high.copy()}
        return steering

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See `Optimizer.from_state`.

        Raises:
            ValueError: the state is of another optimizer or of a format that this version does not know.
        """
        if state.get("format") != _FORMAT:
            raise ValueError(f"this optimizer state has format {state.get('format')}; this version reads {_FORMAT}")
        config, space = cls.config_type.model_validate(state["config"]), Space(**state["space"])
        self = cls(config, space, state["seed"], state["objectives"], state["batch"])
        self._next = state["next"]
        pending, told = state["pending"], state["told"]
        self._pending = dict(zip(pending["ids"].tolist(), pending["x"].copy(), strict=True))
        outcomes = zip(told["x"].copy(), told["values"].tolist(), told["violations"].tolist(), strict=True)
        self._told = dict(zip(told["ids"].tolist(), outcomes, strict=True))
        suggested = state.get("suggested", {"x": np.empty((0, space.dimensions)), "ids": np.empty(0, dtype=np.int64)})
        self._suggested, self._given = list(suggested["x"].copy()), set(suggested["ids"].tolist())
        if "box" in state:
            self._placement.narrow(state["box"]["low"], state["box"]["high"])
        self._placement.restore(state["used"], np.concatenate([pending["x"], suggested["x"]]))
        for name in self.memory:
            setattr(self, name, copied(state["memory"][name.strip("_")]))
        restore_random_state(self._rng, state["random"])
        return self

    @abstractmethod
    def _propose(self, n: int) -> Array:
        """Up to `n` placed points for the ids from `_next` on, shape (m, d)."""

    def _room(self) -> int:
        """How many points `_propose` may be asked for at once, from now on."""
        return self.batch

    def _learn(self, ids: Ids, x: Array, values: Array, violations: Array) -> None:
        """Take in rankable results in the order of their ids: shapes (n,), (n, d), (n,), (n,)."""

    def _take_in(self) -> None:
        ids = sorted(self._told)
        x, values, violations = zip(*(self._told[key] for key in ids), strict=True)
        self._told.clear()
        self._learn(_integers(ids), np.array(x), np.array(values), np.array(violations))
        self._given.difference_update(ids)

    def _keys(self, ids: npt.ArrayLike) -> list[int]:
        """The ids as a list, all of them pending and different."""
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"ids must be whole numbers in one dimension, not {array.dtype} of shape {array.shape}")
        keys: list[int] = array.tolist()
        unknown = [key for key in keys if key not in self._pending]
        if unknown:
            raise ValueError(f"ids {_shown(unknown)} are not pending; tell each point that was asked, once")
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise ValueError(f"ids {_shown(twice)} occur more than once; tell each point once")
        return keys

    def _rows(self, rows: Sequence[Array]) -> Array:
        return np.array(rows) if rows else np.empty((0, self.space.dimensions))


def _integers(numbers: Any) -> Ids:
    return np.fromiter(numbers, dtype=np.int64, count=len(numbers))


def _shown(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (" and more" if len(ids) > 5 else "")
