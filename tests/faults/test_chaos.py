import chaos
import pytest
from victims import CASES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_nothing_is_lost_whatever_is_killed(tmp_path):
    """The short form of `make chaos`."""
    total = chaos.run(tmp_path, len(CASES), seed=17, jobs=3, kills=(1, 2))
    assert total.counts["studies"] == len(CASES)
    assert total.counts["kills"] >= len(CASES) / 2
    assert total.details == []
