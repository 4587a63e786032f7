"""What every optimizer must do, whatever it is: a test class to inherit from.

    class TestMine(OptimizerContract):
        config = "mine"

or override `make` for an optimizer that `make_optimizer` does not know.
"""

import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest

from prefect_simopt.errors import SpecError
from prefect_simopt.optimizers import dump_state, load_state, make_optimizer
from prefect_simopt.space import Categorical, Float, Int, Space

SPACES = {
    "continuous": Space([Float("x", -5, 5), Float("y", 1e-3, 10, log=True)]),
    "twenty": Space([Float(f"x{i}", -5, 5) for i in range(20)]),
    "mixed": Space([
        Float("x", -5, 5), Float("s", 0, 1, step=0.1), Int("i", 1, 30), Int("l", 1, 1000, log=True),
        Int("h", 0, 40, step=4), Categorical("c", ["a", "b", "c", "d", "e"]),
    ]),
    "discrete": Space([Int("i", -20, 20), Int("j", -20, 20), Categorical("c", [0.5, 1, "1", "four"])]),
    "vast": Space([Int(f"i{k}", 0, 10**6) for k in range(5)]),
    "related": Space(
        [Float("a", 0, 1), Float("b", 0, 1), Int("k", 0, 5), Categorical("c", ["u", "v"])],
        relations=["a + b <= 0.3", "k >= 1", "a * k < 0.5"],
    ),
    "conditional": Space(
        [
            Float("x", -5, 5, when={"kind": ["a", "b"]}), Categorical("kind", ["a", "b", "c"]),
            Int("n", 1, 100, log=True, when={"kind": "b"}), Float("y", 0, 1, when={"n": list(range(5, 90))}),
            Int("m", 0, 99, when={"kind": "c"}),
        ],
        relations=["x + y <= 4"],
    ),
}  # fmt: skip
SMALL = Space([Int("i", 0, 4), Categorical("c", ["a", "b", "c"])], relations=["i <= 2"])  # 9 points
SMALL_CONDITIONAL = Space(  # 9 points too
    [Int("i", 0, 4, when={"c": ["a", "b"]}), Categorical("c", ["a", "b", "c"]), Int("j", 0, 2, when={"c": "c"})],
    relations=["i <= 2"],
)

CHILD = """
import sys
from importlib import import_module
from prefect_simopt.optimizers import dump_state, load_state
module, name = sys.argv[1:]
states = load_state(sys.stdin.buffer.read())["states"]
answers = []
for state in states:
    again = getattr(import_module(module), name).from_state(state)
    assert dump_state(again.state()) == dump_state(state)
    ids, x = again.ask(5)
    again.tell(ids[::2], x[::2].sum(axis=1))
    answers.append({"ids": ids, "x": x, "state": again.state()})
sys.stdout.buffer.write(dump_state({"answers": answers}))
"""


def bowl(x: np.ndarray) -> np.ndarray:
    """Smallest at 0.7 in every coordinate."""
    return ((x - 0.7) ** 2).sum(axis=1)


def keys(x: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in x]


class OptimizerContract:
    """Tests of one optimizer; `config` says which. `finite` is True for one that has an end, such as a grid."""

    config: ClassVar[Any]
    seeded: ClassVar[bool] = True
    finite: ClassVar[bool] = False
    several_objectives: ClassVar[bool] = False
    slack: ClassVar[int] = 128  # bytes by which a state may grow

    @pytest.fixture(params=SPACES)
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]

    def make(self, space: Space, seed: int = 7, objectives: int = 1, batch: int = 16) -> Any:
        return make_optimizer(self.config, space, seed=seed, objectives=objectives, batch=batch)

    def test_points_are_representable_and_allowed(self, space: Space) -> None:
        optimizer, expected = self.make(space), 0
        for n in (16, 1, 3, 50, 0, 16, 7, 16, 16, 40):
            ids, x = optimizer.ask(n)
            assert ids.dtype == np.int64
            assert x.dtype == np.float64
            assert x.shape == (len(ids), space.dimensions)
            assert len(ids) == n or (self.finite and len(ids) < n)
            assert ids.tolist() == list(range(expected, expected + len(ids)))
            assert ((x >= 0) & (x <= 1)).all()
            assert (space.snap(x) == x).all()
            assert (space.violation(x) == 0).all()
            optimizer.tell(ids, bowl(x))
            expected += len(ids)

    def test_batch_is_a_positive_number(self, space: Space) -> None:
        assert self.make(space, batch=5).batch == 5
        with pytest.raises(ValueError, match="batch is 0"):
            self.make(space, batch=0)
        with pytest.raises(ValueError, match="ask for 0 or more"):
            self.make(space).ask(-1)

    def test_pending_points_are_never_repeated(self, space: Space) -> None:
        optimizer = self.make(space)
        seen: list[bytes] = []
        for n in (16, 1, 40, 9, 100):
            seen += keys(optimizer.ask(n)[1])
            assert len(set(seen)) == len(seen)
        assert self.finite or len(seen) == 166

    def test_steady_state_with_everything_else_pending(self, space: Space) -> None:
        optimizer, rng = self.make(space, batch=4), np.random.default_rng(0)
        pending = dict(zip(*map(list, optimizer.ask(11)), strict=True))
        for _ in range(150):
            key = int(rng.choice(list(pending)))
            optimizer.tell([key], bowl(pending.pop(key)[None, :]))
            ids, x = optimizer.ask(1)
            assert self.finite or len(ids) == 1
            pending.update(zip(ids.tolist(), x, strict=True))
            assert len({row.tobytes() for row in pending.values()}) == len(pending)
            if not pending:
                break

    def test_order_and_parts_of_tells_make_no_difference(self, space: Space) -> None:
        one, other, rng = self.make(space), self.make(space), np.random.default_rng(1)
        for _ in range(6):
            ids, x = one.ask(one.batch)
            same_ids, same_x = other.ask(other.batch)
            assert ids.tolist() == same_ids.tolist()
            assert keys(x) == keys(same_x)
            values, violations = bowl(x), np.maximum(x[:, 0] - 0.8, 0)
            values[::5] = np.nan
            one.tell(ids, values, violations)
            shuffled = rng.permutation(len(ids))
            for part in np.array_split(shuffled, 4):
                other.tell(ids[part], values[part], violations[part])
            assert dump_state(one.state()) == dump_state(other.state())

    def test_a_generation_that_failed_is_followed_by_new_points(self, space: Space) -> None:
        optimizer = self.make(space, batch=8)
        seen: list[bytes] = []
        for _ in range(5):
            ids, x = optimizer.ask(8)
            optimizer.tell(ids, np.full(len(ids), np.nan))
            seen += keys(x)
        assert len(set(seen)) == len(seen)
        ids, x = optimizer.ask(8)
        optimizer.tell(ids, bowl(x))
        assert len(optimizer.ask(8)[0]) == 8 or self.finite

    @pytest.mark.parametrize("wrong", [
        ([99], [1.0], None), ([0, 0], [1.0, 2.0], None), ([0, 1], [1.0], None), ([0], [[1.0, 2.0]], None),
        ([0, 1], [1.0, 2.0], [0.0]), ([0.5], [1.0], None), ([-1], [1.0], None), ([[0]], [[1.0]], None),
        ([2, 3], [1.0, 1.0], None), ([0, 4], [1.0, 1.0], None), ([0], ["a"], None),
    ])  # fmt: skip
    def test_a_wrong_tell_is_refused_and_changes_nothing(self, wrong: tuple[Any, Any, Any]) -> None:
        optimizer = self.make(SPACES["mixed"])
        ids, x = optimizer.ask(4)
        optimizer.tell(ids[3:], bowl(x[3:]))
        before = dump_state(optimizer.state())
        with pytest.raises(ValueError, match=r"\S"):
            optimizer.tell(*wrong)
        assert dump_state(optimizer.state()) == before

    def test_an_empty_tell_is_fine(self) -> None:
        self.make(SPACES["mixed"]).tell([], [])

    def test_state_goes_on_bit_for_bit_in_a_new_process_after_every_tell(self) -> None:
        states, wanted = [], []
        for name, space in SPACES.items():
            optimizer, pending = self.make(space, batch=6), {}
            for step in range(14):
                pending.update(zip(*map(list, optimizer.ask(1 + step % 9)), strict=True))
                told = list(pending)[:: 1 + step % 3]
                values = bowl(np.array([pending.pop(key) for key in told]).reshape(-1, space.dimensions))
                values[step % 4 :: 4] = np.nan
                optimizer.tell(told, values, np.where(np.array(told, dtype=int) % 7 == 3, 0.1, 0.0))
                states.append(optimizer.state())
                # Copied by hand, so that going on here cannot leak into what the other process gets.
                again = type(optimizer).from_state(load_state(dump_state(states[-1])))
                ids, x = again.ask(5)
                again.tell(ids[::2], x[::2].sum(axis=1))
                wanted.append({"ids": ids, "x": x, "state": again.state()})
            assert len(states) % 14 == 0, name
        kind = type(optimizer)
        child = subprocess.run(
            [sys.executable, "-c", CHILD, kind.__module__, kind.__name__],
            input=dump_state({"states": states}), capture_output=True, check=False,
        )  # fmt: skip
        assert child.returncode == 0, child.stderr.decode()
        assert child.stdout == dump_state({"answers": wanted})

    def test_a_restored_run_is_the_run_itself(self, space: Space) -> None:
        straight, restored = self.make(space), self.make(space)
        for step in range(8):
            restored = type(restored).from_state(restored.state())
            points = [each.ask(5 + step) for each in (straight, restored)]
            assert keys(points[0][1]) == keys(points[1][1])
            for each, (ids, x) in zip((straight, restored), points, strict=True):
                each.tell(ids, bowl(x))

    def test_a_state_stays_as_it_was_taken(self) -> None:
        optimizer = self.make(SPACES["mixed"])
        optimizer.tell(*(lambda ids, x: (ids[:9], bowl(x[:9])))(*optimizer.ask(16)))
        state = optimizer.state()
        taken = dump_state(state)
        again = type(optimizer).from_state(state)
        for each in (optimizer, again):
            for _ in range(3):
                ids, x = each.ask(16)
                each.tell(ids, bowl(x))
        assert dump_state(state) == taken

    def test_points_belong_to_the_caller(self) -> None:
        kept, spoilt = self.make(SPACES["continuous"]), self.make(SPACES["continuous"])
        for _ in range(4):
            ids, x = kept.ask(16)
            same_ids, same_x = spoilt.ask(16)
            values = bowl(x)
            same_x[:] = 0.123
            kept.tell(ids, values)
            spoilt.tell(same_ids, values)
        assert keys(kept.ask(4)[1]) == keys(spoilt.ask(4)[1])

    def test_the_seed_decides(self, space: Space) -> None:
        first, second, third = self.make(space, seed=1), self.make(space, seed=1), self.make(space, seed=2)
        for _ in range(3):
            (ids, x), (_, same), (_, different) = first.ask(16), second.ask(16), third.ask(16)
            assert keys(x) == keys(same)
            assert (keys(x) != keys(different)) == self.seeded
            for optimizer in (first, second, third):
                optimizer.tell(ids, np.arange(len(ids)))

    @pytest.mark.parametrize("told", [True, False])
    @pytest.mark.parametrize("small", [SMALL, SMALL_CONDITIONAL], ids=["box", "conditional"])
    def test_a_used_up_space_ends(self, small: Space, told: bool) -> None:
        optimizer = self.make(small, batch=4)
        seen: list[bytes] = []
        for _ in range(8):
            ids, x = optimizer.ask(4)
            seen += keys(x)
            if told:
                optimizer.tell(ids, bowl(x))
        assert len(seen) == len(set(seen)) == 9
        assert len(optimizer.ask(1)[0]) == 0

    def test_many_more_than_there_are(self) -> None:
        ids, x = self.make(SMALL).ask(100)
        assert len(ids) == len(set(keys(x))) == 9

    @pytest.mark.parametrize("space", [
        Space([Float("a", 0, 1), Float("b", 0, 1)], relations=["a + b > 3"]),
        Space([Int("i", 0, 10), Int("j", 0, 10)], relations=["i + j == 50"]),
        Space([Int("i", 0, 10**6), Float("a", 0, 1), Int("j", 0, 10**6)], relations=["i + j + a < -1"]),
    ])  # fmt: skip
    def test_relations_that_exclude_everything_are_an_error(self, space: Space) -> None:
        if self.finite:  # a grid knows that it is empty
            assert len(self.make(Space(space.parameters[:1], [])).ask(1)[0]) == 1
            return
        with pytest.raises(SpecError, match="satisfies") as caught:
            self.make(space).ask(16)
        assert caught.value.problems[0].path == "relations"

    def test_relations_that_leave_little(self) -> None:
        space = Space([Float("a", 0, 1), Float("b", 0, 1), Int("k", 0, 1000)], ["0.5 <= a + b <= 0.50001", "k <= 3"])
        if self.finite:
            return
        optimizer = self.make(space)
        for _ in range(5):
            ids, x = optimizer.ask(16)
            assert len(ids) == len(set(keys(x))) == 16
            assert (space.violation(x) == 0).all()
            optimizer.tell(ids, bowl(x))

    def test_state_does_not_grow(self) -> None:
        for name in ("continuous", "vast", "related"):
            optimizer, sizes = self.make(SPACES[name]), []
            assert len(dump_state(optimizer.state())) < 100_000, "a checkpoint is written every now and then"
            for generation in range(120):
                ids, x = optimizer.ask(16)
                optimizer.tell(ids, bowl(x))
                if generation % 3 == 0:
                    sizes.append(len(dump_state(optimizer.state())))
            assert (
                max(sizes[20:]) <= max(sizes[:20]) + self.slack
            )  # a search that starts again forgets, and then learns again

    def test_objectives(self) -> None:
        if not self.several_objectives:
            with pytest.raises(ValueError, match="random, sobol, lhs, grid"):
                self.make(SPACES["mixed"], objectives=2)
            return
        optimizer = self.make(SPACES["mixed"], objectives=2)
        ids, _ = optimizer.ask(4)
        with pytest.raises(ValueError, match="values have shape"):
            optimizer.tell(ids, np.zeros(4))
        optimizer.tell(ids, np.full((4, 2), np.nan), np.ones(4))
