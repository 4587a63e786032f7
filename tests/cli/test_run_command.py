import yaml

KEYS = {"name", "state", "trials", "best", "generations", "seconds", "store", "fingerprint"}


def test_one_json_object_with_the_keys_of_the_contract(simopt, folder):
    answer = simopt("run", "study.yaml", "--untracked", "--json")
    assert answer.code == 0
    assert answer.json.keys() == KEYS
    assert answer.json["trials"] == {"complete": 40, "failed": 0, "cached": 0, "total": 40}
    assert answer.json["best"].keys() == {"trial", "parameters", "metrics"}
    assert answer.json["best"]["parameters"].keys() == {"x", "y"}
    assert (answer.json["name"], answer.json["state"], answer.json["generations"]) == ("bowl", "complete", 5)
    assert answer.json["store"] == str(folder / "studies")


def test_with_several_objectives_also_the_front(simopt, folder):
    answer = simopt(
        "run", "study.yaml", "--untracked", "--json", "--set", "objectives=[{metric: value}, {metric: sum}]",
        "--set", "optimizer=nsga2",
    )  # fmt: skip
    assert answer.json.keys() == KEYS | {"pareto"}
    assert answer.json["pareto"][0] == answer.json["best"]
    assert all(point.keys() == {"trial", "parameters", "metrics"} for point in answer.json["pareto"])
    shown = simopt("show", "studies/bowl").out
    assert f"{len(answer.json['pareto'])} trials that no other one dominates" in shown
    assert "hypervolume" in shown.splitlines()[-2]
    simopt("report", "studies/bowl", "-o", "bowl.html")
    page = (folder / "bowl.html").read_text()
    assert "bowl: the front" in page
    heads = "".join(f'<th class="number">{name}</th>' for name in ("trial", "x", "y", "value", "sum"))
    assert f"<tr>{heads}</tr>" in page.partition("the front")[2]


def test_the_report_says_what_searched_and_how_sure_it_is(simopt, folder):
    ran = simopt("run", "study.yaml", "--untracked", "--set", "optimizer=auto", "--set", "replicates=2")
    assert " ± 0 at x = " in ran.out
    assert simopt("show", "studies/bowl", "--json").json["best"]["standard_errors"] == {"value": 0.0, "sum": 0.0}
    simopt("report", "studies/bowl", "-o", "bowl.html")
    page = (folder / "bowl.html").read_text()
    assert "<td>pso, picked by auto</td>" in page
    assert '<th class="number">standard error</th>' in page


def test_the_last_line_is_the_summary(simopt):
    answer = simopt("run", "study.yaml", "--untracked")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith("bowl: complete, 40 trials (40 complete, 0 failed)")


def test_the_fingerprint_is_that_of_the_question(simopt):
    seen = {
        simopt("run", "study.yaml", "--untracked", "--json", *more).json["fingerprint"]
        for more in (
            ["--store", "one"],
            ["--store", "two"],
            ["--store", "four", "--set", "compute.workers=4"],
            ["--store", "single", "--set", "compute.workers=3", "--set", "compute.trials_per_task=1"],
        )
    }
    assert len(seen) == 1
    assert (
        simopt("run", "study.yaml", "--untracked", "--json", "--store", "seed", "--set", "seed=8").json["fingerprint"]
        not in seen
    )


def test_a_finished_study_is_shown_and_not_run(simopt, folder):
    first = simopt("run", "study.yaml", "--untracked", "--json")
    (folder / "simulator.py").write_text("raise RuntimeError('touched')")
    again = simopt("run", "study.yaml", "--untracked", "--json")
    assert (again.code, again.json) == (0, first.json)
    assert "finished" in again.err


def test_a_larger_budget_extends(simopt):
    simopt("run", "study.yaml", "--untracked")
    extended = simopt("run", "study.yaml", "--untracked", "--json", "--set", "budget.trials=80").json
    assert extended["trials"]["total"] == 80
    whole = simopt("run", "study.yaml", "--untracked", "--json", "--set", "budget.trials=80", "--store", "whole").json
    assert extended["fingerprint"] == whole["fingerprint"]


def test_another_question_is_refused_with_what_changed(simopt, folder):
    simopt("run", "study.yaml", "--untracked")
    answer = simopt("run", "study.yaml", "--untracked", "--set", "space[1].high=6", "--set", "seed=9")
    assert answer.code == 2
    assert "space[1].high was 5.0 and is 6.0" in answer.err
    assert "seed was 7 and is 9" in answer.err
    assert "Traceback" not in answer.err
    fewer = simopt("run", "study.yaml", "--untracked", "--set", "budget.trials=10")
    assert fewer.code == 2
    assert "budget.trials was 40 and is 10" in fewer.err


def test_new_asks_again_under_another_name(simopt):
    first = simopt("run", "study.yaml", "--untracked", "--json").json
    second = simopt("run", "study.yaml", "--untracked", "--json", "--new").json
    third = simopt("run", "study.yaml", "--untracked", "--json", "--new").json
    named = simopt("run", "study.yaml", "--untracked", "--json", "--new", "dish", "--set", "seed=9").json
    assert [each["name"] for each in (first, second, third, named)] == ["bowl", "bowl-2", "bowl-3", "dish"]
    assert first["fingerprint"] == second["fingerprint"] != named["fingerprint"]


def test_a_study_that_fails_says_why(simopt):
    answer = simopt("run", "study.yaml", "--untracked", "--json", "--set", "simulator.entrypoint=simulator.py:failing")
    assert answer.code == 3
    assert "x exception" in answer.err
    assert "the mesh is bad" in answer.err
    assert "nozzle" in answer.err
    again = simopt("run", "study.yaml", "--untracked", "--set", "simulator.entrypoint=simulator.py:failing")
    assert again.code == 3
    assert "the mesh is bad" in again.err


def test_a_study_without_a_feasible_trial_says_so(simopt):
    answer = simopt("run", "study.yaml", "--untracked", "--set", "constraints=[{metric: sum, high: -11}]")
    assert answer.code == 3
    assert "none of 40 trials was feasible" in answer.err


def test_the_simulators_output_does_not_mix_with_the_answer(simopt, folder):
    (folder / "simulator.py").write_text("def bowl(x, y):\n    print('{not json')\n    return x * x + y * y\n")
    assert simopt("run", "study.yaml", "--untracked", "--json").json["state"] == "complete"


def test_a_study_may_lie_anywhere(simopt, folder, monkeypatch):
    (folder / "deep").mkdir()
    for name in ("simulator.py", "study.yaml"):
        (folder / name).rename(folder / "deep" / name)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert simopt("run", "../deep/study.yaml", "--untracked", "--json").json["store"] == str(elsewhere / "studies")


def test_a_json_file_is_a_study_file_too(simopt, folder):
    import json

    document = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.json").write_text(json.dumps(document))
    assert simopt("run", "study.json", "--untracked").code == 0
