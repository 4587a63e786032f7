"""What every simulator, optimizer and storage must do: classes of tests to inherit from, in your own test suite.

They need nothing but pytest, which calls their methods; `tmp_path` is its temporary folder. For readable failures say
`pytest.register_assert_rewrite("prefect_simopt.testing")` in a `conftest.py`.
"""

# ruff: noqa: S101 - these are tests

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefect_simopt.optimizers import Optimizer, dump_state, load_state
from prefect_simopt.simulators.local import LocalCompute
from prefect_simopt.space import Space
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import make_spec
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.trial import Outcome, Run, Status

__all__ = ["OptimizerTests", "SimulatorTests", "StorageTests"]


class SimulatorTests:
    """A simulator gives the same for the same, in any process, and finite metrics.

    Attributes:
        simulator: as in a study file.
        space: likewise.
        points: of the space, each a value for every parameter; at least one.
        objectives: likewise.

    Example:
        ```python
        from prefect_simopt.testing import SimulatorTests


        class TestWing(SimulatorTests):
            simulator = {"entrypoint": "wing.py:simulate"}
            space = [{"name": "span", "low": 1, "high": 9}]
            points = [{"span": 2.0}, {"span": 8.5}]
            objectives = [{"metric": "drag"}]
        ```
    """

    simulator: ClassVar[Mapping[str, Any]]
    space: ClassVar[Sequence[Mapping[str, Any]]]
    points: ClassVar[Sequence[Mapping[str, Any]]]
    objectives: ClassVar[Sequence[Mapping[str, Any]]] = [{"metric": "value"}]

    def spec(self) -> StudySpec:
        """A study of the simulator; files are looked for in the current folder."""
        parts = {"simulator": self.simulator, "space": list(self.space), "objectives": list(self.objectives)}
        return make_spec({"name": "contract", **parts}, directory=Path.cwd())

    def run(self, folder: Path, workers: int) -> list[Outcome]:
        """How each of the points comes out, the last one first."""
        spec = self.spec()
        names = [parameter.name for parameter in spec.space]
        compute = LocalCompute(
            spec.simulator,
            space_names=names,
            conditional=spec.conditional,
            slopes=spec.slopes,
            workers=workers,
            required_metrics=spec.metrics,
        )
        try:
            info = compute.start()
            compute.attach(StudyLocation(str(folder)), len(self.points))
            runs = [Run(i, dict(point), seed=1000 + i, row=i) for i, point in enumerate(self.points)]
            futures = [compute.submit(runs)] if info.batch else [compute.submit([run]) for run in reversed(runs)]
            outcomes = [outcome for future in futures for outcome in future.result()]
        finally:
            compute.close()
        return sorted(outcomes, key=lambda outcome: outcome.trial)

    def test_points_are_completed_with_finite_metrics(self, tmp_path: Path) -> None:
        """No point of the space makes it fail."""
        outcomes = self.run(tmp_path, workers=1)
        assert [outcome.trial for outcome in outcomes] == list(range(len(self.points)))
        for outcome in outcomes:
            assert outcome.status is Status.COMPLETE, f"{self.points[outcome.trial]}: {outcome.message}"
            assert outcome.metrics.keys() >= set(self.spec().metrics)
            assert all(math.isfinite(value) for value in outcome.metrics.values())

    def test_the_same_point_and_seed_give_the_same(self, tmp_path: Path) -> None:
        """Bit for bit, whichever process runs it: on this a study's fingerprint rests."""
        one, other = self.run(tmp_path / "one", workers=1), self.run(tmp_path / "other", workers=2)
        assert [outcome.metrics for outcome in one] == [outcome.metrics for outcome in other]
        assert [outcome.fields for outcome in one] == [outcome.fields for outcome in other]


class OptimizerTests(ABC):
    """An optimizer asks within the unit cube, never for a pending point again, and goes on exactly from its state.

    Attributes:
        batch: points that are asked for together.

    Example:
        ```python
        from prefect_simopt.testing import OptimizerTests


        class TestMine(OptimizerTests):
            def make(self, space, seed):
                return Mine(space, seed)

            def restore(self, state):
                return Mine.from_state(state)
        ```
    """

    batch: ClassVar[int] = 16

    @abstractmethod
    def make(self, space: Space, seed: int) -> Optimizer:
        """A new one."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> Optimizer:
        """One with the state of another."""

    def spaces(self) -> list[Space]:
        """What it must be able to search."""
        real: list[dict[str, Any]] = [
            {"name": "x", "low": -5, "high": 5},
            {"name": "y", "low": 1e-3, "high": 10, "log": True},
        ]
        mixed = [*real, {"name": "n", "type": "int", "low": 1, "high": 30},
                 {"name": "c", "type": "categorical", "choices": ["a", "b", "c"]}]  # fmt: skip
        some = [*mixed, {"name": "z", "low": 0, "high": 1, "when": {"c": ["a", "b"]}},
                {"name": "k", "type": "int", "low": 1, "high": 9, "when": {"n": list(range(1, 20))}}]  # fmt: skip
        related = self._space(mixed, relations=["n + x <= 20"])
        return [self._space(real), self._space(mixed), related, self._space(some, relations=["k * z <= 4"])]

    @staticmethod
    def _space(parameters: list[dict[str, Any]], **more: Any) -> Space:
        document = {"name": "s", "simulator": {"entrypoint": "s:s"}, "space": parameters, "optimizer": "random", **more}
        return make_spec(document).make_space()

    def test_points_are_in_the_cube_allowed_and_numbered(self) -> None:
        """Ids count from 0; points are such as the space can represent, and within its relations."""
        for space in self.spaces():
            optimizer, expected = self.make(space, 7), 0
            for n in (self.batch, 1, 3, self.batch):
                ids, x = optimizer.ask(n)
                assert ids.tolist() == list(range(expected, expected + n))
                assert x.shape == (n, space.dimensions)
                assert ((x >= 0) & (x <= 1)).all()
                assert (space.snap(x) == x).all()
                assert (space.violation(x) == 0).all()
                optimizer.tell(ids, _bowl(x))
                expected += n

    def test_pending_points_are_not_asked_for_again(self) -> None:
        """However many are pending."""
        for space in self.spaces():
            optimizer = self.make(space, 7)
            seen = [row.tobytes() for n in (self.batch, 1, 40) for row in optimizer.ask(n)[1]]
            assert len(set(seen)) == len(seen)

    def test_order_and_parts_of_tells_make_no_difference(self) -> None:
        """Failures, which are told as NaN, included."""
        for space in self.spaces():
            one, other, rng = self.make(space, 7), self.make(space, 7), np.random.default_rng(1)
            for _ in range(4):
                (ids, x), (_, same) = one.ask(self.batch), other.ask(self.batch)
                assert x.tobytes() == same.tobytes()
                values = _bowl(x)
                values[::5] = np.nan
                one.tell(ids, values)
                for part in np.array_split(rng.permutation(len(ids)), 3):
                    other.tell(ids[part], values[part])

    def test_a_restored_one_goes_on_exactly(self) -> None:
        """From any moment, also with points pending, through bytes."""
        for space in self.spaces():
            optimizer = self.make(space, 3)
            for told in (self.batch, self.batch, 1, self.batch - 1):
                ids, x = optimizer.ask(self.batch)
                optimizer.tell(ids[:told], _bowl(x[:told]))
                again = self.restore(load_state(dump_state(optimizer.state())))
                optimizer.tell(ids[told:], _bowl(x[told:]))
                again.tell(ids[told:], _bowl(x[told:]))
                assert dump_state(again.state()) == dump_state(optimizer.state())
                optimizer, other = again, optimizer
                assert optimizer.ask(3)[1].tobytes() == other.ask(3)[1].tobytes()


def _bowl(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = ((x - 0.7) ** 2).sum(axis=1)
    return values


class StorageTests(ABC):
    """A storage reads what was written, whole or not at all, and lets one of several writers win."""

    @abstractmethod
    def make(self, folder: Path) -> Storage:
        """One at an empty place, the same for the same temporary folder."""

    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        """Also from another one at the same place."""
        storage = self.make(tmp_path)
        assert storage.read("a/b.bin") is None
        storage.write("a/b.bin", b"one")
        storage.write("a/b.bin", b"two")
        storage.write("a/empty", b"")
        assert self.make(tmp_path).read_many(["a/b.bin", "a/none", "a/empty"]) == [b"two", None, b""]
        assert storage.read("a") is None

    def test_folders_list_what_is_directly_in_them(self, tmp_path: Path) -> None:
        """Sorted as text."""
        storage = self.make(tmp_path)
        storage.write_many({"x/2": b"", "x/10": b"", "x/deeper/1": b"", "y": b""})
        assert (storage.names("x"), storage.folders("x"), storage.names()) == (["10", "2"], ["deeper"], ["y"])
        assert storage.names("nothing") == storage.folders("nothing") == []

    def test_deleting_twice_does_not_matter(self, tmp_path: Path) -> None:
        """Nor does deleting nothing."""
        storage = self.make(tmp_path)
        storage.write("x/a", b"1")
        storage.delete(["x/a", "x/b"])
        storage.delete(["x/a"])
        storage.delete([])
        assert storage.read("x/a") is None

    def test_replace_leaves_what_somebody_else_wrote(self, tmp_path: Path) -> None:
        """It is what leases rest on."""
        storage = self.make(tmp_path)
        first = storage.replace("k", b"1", None)
        assert first is not None
        assert storage.replace("k", b"2", None) is None
        second = storage.replace("k", b"2", first)
        assert second is not None
        assert storage.replace("k", b"3", first) is None
        assert storage.read_version("k") == (b"2", second)

    def test_of_many_that_replace_at_once_one_wins(self, tmp_path: Path) -> None:
        """Eight threads, each with a storage of its own."""
        version = self.make(tmp_path).replace("old", b"old", None)
        for key, token in (("old", version), ("new", None)):
            won: list[int] = []
            gate = threading.Barrier(8)

            def attempt(i: int, key: str, token: str | None, gate: threading.Barrier, won: list[int]) -> None:
                mine = self.make(tmp_path)
                gate.wait()
                if mine.replace(key, b"%d" % i, token) is not None:
                    won.append(i)

            threads = [threading.Thread(target=attempt, args=(i, key, token, gate, won)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
            assert self.make(tmp_path).read(key) == b"%d" % won[0]

    def test_appending_cuts_off_what_a_kill_has_left(self, tmp_path: Path) -> None:
        """Where objects can be appended to at all."""
        storage = self.make(tmp_path)
        if storage.appends:
            storage.append("log", b"one\n", 0)
            storage.append("log", b"tw", 4)
            storage.append("log", b"two\n", 4)
            assert storage.read("log") == b"one\ntwo\n"
