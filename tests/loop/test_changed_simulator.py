"""A resume under changed code says so."""

import logging

from prefect_simopt.api import load_study, run_untracked
from prefect_simopt.specfile import make_spec


def test_a_changed_simulator_is_told_and_earlier_trials_are_kept(tmp_path, caplog):
    def run(trials, code):
        (tmp_path / "simulator.py").write_text(code)
        document = {
            "name": "bowl",
            "simulator": {"entrypoint": "simulator.py:simulate"},
            "space": [{"name": "x", "low": 0, "high": 2}],
            "optimizer": "sobol",
            "budget": {"trials": trials},
            "compute": {"workers": 1},
            "store": str(tmp_path / "studies"),
        }
        run_untracked(make_spec(document, directory=tmp_path))
        return load_study(tmp_path / "studies" / "bowl")

    with caplog.at_level(logging.WARNING, logger="prefect_simopt"):
        before = run(4, "def simulate(x): return x")
        assert caplog.text == ""
        after = run(8, "def simulate(x): return x + 100")
    assert "has changed since" in caplog.text
    assert [after.trial(n).metrics for n in range(4)] == [before.trial(n).metrics for n in range(4)]
    assert all(after.trial(n).metrics["value"] > 99 for n in range(4, 8))
