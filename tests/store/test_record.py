"""The record of a study: created, resumed, extended, refused, and read back."""

import math

import numpy as np
import pytest
from play import asked, field_of, make_spec, objects, play, point, run, trial_of

from prefect_simopt.errors import LeaseError, StoreError, StudyConflictError
from prefect_simopt.record import Record
from prefect_simopt.sink import TrialSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study, open_study
from prefect_simopt.trial import Outcome, Reason, Status, Trial
from prefect_simopt.verify import verify


def opened(location: StudyLocation, **changes) -> Record:
    return Record.open(location, spec=make_spec(**changes), provenance={"python": "3", "simulator": "abc"})


def study(location: StudyLocation) -> Study:
    return open_study(location.url, location.options)


def test_a_study_reads_back_as_it_was_told(location: StudyLocation) -> None:
    spec = make_spec()
    play(location, spec)
    found = study(location)
    assert (found.name, found.state, found.ending) == ("bowl", "complete", "budget")
    assert found.counts == {"complete": 13, "failed": 3, "cached": 0, "total": 16}
    assert found.generations == 4
    assert found.url == location.url
    assert found.url.startswith(found.store)
    sink = TrialSink(location, 16)
    for number in range(16):
        told = trial_of(spec, number, [run(spec, sink, number)])
        assert found.trial(number) == told
    best = min(
        (trial for trial in map(found.trial, range(16)) if trial.metrics), key=lambda trial: trial.metrics["value"]
    )
    assert found.best == best
    for number in (0, 6, 15):
        np.testing.assert_array_equal(found.fields["ez"][number], field_of(number).values)
    with pytest.raises(KeyError):
        found.fields["ez"][3]
    with pytest.raises(KeyError):
        found.trial(16)
    table = found.trials
    assert list(table.index) == list(range(16))
    assert table.loc[3, "status"] == "failed"
    assert table.loc[3, "reason"] == "exit"
    assert table.loc[4, "material"] == point(4)["material"]
    assert math.isnan(table.loc[3, "value"])
    assert verify(found) == []


def test_interrupted_anywhere_it_ends_the_same(make_location) -> None:
    spec, whole = make_spec(), make_location()
    play(whole, spec)
    expected = study(whole).fingerprint()
    parts, ran = make_location(), []
    for until in (4, 4, 12):
        play(parts, spec, until, ran.append)
        assert study(parts).state == "interrupted"
    play(parts, spec, None, ran.append)
    assert study(parts).fingerprint() == expected
    assert sorted(ran) == list(range(16))
    assert verify(study(parts)) == []


def test_what_was_stored_does_not_depend_on_where(make_location, tmp_path) -> None:
    spec = make_spec()
    here, there = make_location(), StudyLocation(str(tmp_path / "other" / "bowl"))
    play(here, spec)
    play(there, spec)
    changing = ("ledger/", "lease/", "tmp/lock", "zarr.json")
    mine, other = ({k: v for k, v in objects(each).items() if not k.startswith(changing)} for each in (here, there))
    assert mine == other


def test_a_finished_study_opens_with_nothing_left(location: StudyLocation) -> None:
    play(location, make_spec())
    before = study(location).fingerprint()
    ran: list[int] = []
    play(location, make_spec(), None, ran.append)
    assert ran == []
    assert study(location).fingerprint() == before


@pytest.mark.parametrize(
    "make_location", ["disk", pytest.param("s3", marks=[pytest.mark.s3, pytest.mark.slow])], indirect=True
)
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 8}, "seed was 7 and is 8"),
        ({"objectives": [{"metric": "value", "direction": "maximize"}]}, "objectives[0].direction was 'minimize'"),
        ({"space": [{"name": "x", "type": "float", "low": 0, "high": 5}]}, "space was"),
        ({"trials": 8}, "budget.trials was 16 and is 8"),
        ({"replicates": 3}, "replicates was 1 and is 3"),
        ({"optimizer": "ga"}, "optimizer.type was 'auto' and is 'ga'"),
    ],
)
def test_another_question_is_refused_and_nothing_written(location: StudyLocation, changes, named) -> None:
    play(location, make_spec(), 4)
    before = objects(location)
    with pytest.raises(StudyConflictError) as refusal:
        opened(location, **changes)
    assert named in str(refusal.value)
    assert objects(location) == before


def test_a_budget_that_grows_extends(make_location) -> None:
    whole, location = make_location(), make_location()
    play(whole, make_spec(24))
    play(location, make_spec(8))
    ran: list[int] = []
    play(location, make_spec(24, compute={"workers": 3}), None, ran.append)
    assert sorted(ran) == list(range(8, 24))
    assert study(location).fingerprint() == study(whole).fingerprint()
    assert study(location).spec["compute"]["workers"] == 3
    assert study(location).dataset.sizes["trial"] == 24 if location.url.startswith("/") else True
    assert verify(study(location)) == []


def test_more_trials_than_the_arrays_were_made_for(location: StudyLocation, monkeypatch) -> None:
    monkeypatch.setattr("prefect_simopt.view.LARGEST", 5)
    play(location, make_spec())
    assert study(location).counts["total"] == 16
    assert verify(study(location)) == []


def test_something_else_in_its_place_is_refused(location: StudyLocation) -> None:
    location.storage().write("zarr.json", b'{"zarr_format":3,"node_type":"group","attributes":{}}')
    with pytest.raises(StoreError, match="no study"):
        opened(location)
    with pytest.raises(StoreError, match="there is no study"):
        open_study(location.url + "-2", location.options)


def test_a_second_writer_is_told_who_the_first_is(location: StudyLocation) -> None:
    record = opened(location)
    with pytest.raises(LeaseError, match=r"is being written by process \d+ of \w+ on .*, since 20"):
        opened(location)
    assert study(location).state == "running"
    record.close("interrupted")
    opened(location).close("interrupted")


def test_telling_again_changes_nothing(location: StudyLocation) -> None:
    spec = make_spec()
    record = opened(location)
    asked(record, spec)
    outcome = run(spec, TrialSink(location, 16), 0)
    for _ in range(2):
        record.told([(trial_of(spec, 0, [outcome]), [outcome])])
    record.told([])
    assert sum(b'"activity":"trial"' in data for data in objects(location)["ledger/000000.jsonl"].splitlines()) == 1
    record.close("interrupted")


def test_orphans_are_picked_up_until_they_are_told(location: StudyLocation) -> None:
    spec = make_spec()
    record = opened(location)
    asked(record, spec)
    sink = TrialSink(location, 16)
    record.close("interrupted")
    outcomes = [run(spec, sink, number) for number in (0, 1, 3)]
    sink.put_outcomes([Outcome(2, Status.FAILED, reason=Reason.KILLED, started=1.0), Outcome(5, Status.COMPLETE)])
    assert (study(location).waiting, study(location).counts["total"]) == (2, 0)  # 0 and 1
    record = opened(location)
    waiting = record.collect()
    assert [outcome.trial for outcome in waiting] == [0, 1, 2, 3]
    assert [each for each in waiting if each.trial != 2] == outcomes
    record.told([(trial_of(spec, each.trial, [each]), [each]) for each in outcomes[:2]])
    record.attempted(waiting[2])
    assert record.attempts(2) == 1
    assert record.attempts(3) == 0
    assert [outcome.trial for outcome in record.collect()] == [3]
    assert study(location).waiting == 0
    record.flush(force=True)
    assert len(location.storage().names("outcomes")) == 3  # one for trial 3, the group, and zarr.json
    record.close("interrupted")
    record = opened(location)
    assert record.attempts(2) == 1
    assert [outcome.trial for outcome in record.collect()] == [3]
    assert not record.created
    assert record.earlier == {"python": "3", "simulator": "abc"}
    record.close("interrupted")


def test_a_complete_outcome_wins_over_failed_ones(location: StudyLocation) -> None:
    record = opened(location)
    asked(record, make_spec())
    sink = TrialSink(location, 16)
    sink.put_outcomes([Outcome(0, Status.FAILED, reason=Reason.EXIT, attempt=1)])
    sink.put_outcomes([Outcome(0, Status.COMPLETE, metrics={"value": 1.0})])
    sink.put_outcomes(
        [Outcome(1, Status.FAILED, reason=Reason.EXIT, attempt=1), Outcome(1, Status.FAILED, reason=Reason.EXIT)]
    )
    waiting = record.collect()
    assert [(each.trial, each.status, each.attempt) for each in waiting] == [(0, 1, 0), (1, 2, 1)]
    record.close("interrupted")


def test_replicates_keep_their_own_records(location: StudyLocation) -> None:
    spec = make_spec(8, replicates=3)
    play(location, spec)
    found = study(location)
    x = point(0)["x"]
    trial = found.trial(0)
    assert trial.metrics["value"] == pytest.approx(x**2 + 0.1)
    assert trial.errors["value"] == pytest.approx(0.1 / math.sqrt(3))
    assert trial.errors["side"] == 0
    assert trial.seconds == 0.75
    values = found._view.whole("replicate_metrics")[0, :, 0]
    np.testing.assert_allclose(values, [x**2, x**2 + 0.1, x**2 + 0.2])
    assert verify(found) == []


def test_checkpoints_are_kept_few_and_skipped_when_damaged(location: StudyLocation) -> None:
    record = opened(location)
    for i in range(5):
        record.attempted(Outcome(i, Status.FAILED))
        record.save_checkpoint(f"state {i}".encode())
    names = [name for name in location.storage().names("checkpoints") if name.endswith(".bin")]
    assert len(names) == 3
    payload, seq = record.checkpoint()
    assert payload == b"state 4"
    record.attempted(Outcome(9, Status.FAILED))
    assert [entry["id"] for entry in record._ledger.after(seq)] == ["attempt/9.0.0"]
    location.storage().write(f"checkpoints/{names[-1]}", b"state 5")
    assert record.checkpoint()[0] == b"state 3"
    record.close("interrupted")
    record = opened(location)
    assert record.checkpoint()[0] == b"state 3"
    record.close("interrupted")


def test_metrics_and_fields_seen_later_find_room(location: StudyLocation) -> None:
    spec = make_spec()
    record = opened(location)
    asked(record, spec)
    sink = TrialSink(location, 16)
    first = Outcome(0, Status.COMPLETE, metrics={"value": 1.0})
    record.told([(trial_of(spec, 0, [first]), [first])])
    record.flush(force=True)
    many = {"value": 2.0, **{f"m{i}": float(i) for i in range(20)}}
    fields = {name: sink.put_field(1, name, np.arange(3) + i) for i, name in enumerate(["a", "b"])}
    second = Outcome(1, Status.COMPLETE, metrics=many, fields=fields)
    record.told([(trial_of(spec, 1, [second]), [second])])
    record.close("interrupted")
    found = study(location)
    assert found.trial(0).metrics == {"value": 1.0}
    assert found.trial(0).fields == {}
    assert found.trial(1).metrics == many
    assert found.trial(1).fields == fields
    assert verify(found) == []


def test_chunks_whose_trials_have_all_ended_leave_memory(tmp_path) -> None:
    location = StudyLocation(str(tmp_path / "bowl"))
    record = opened(location, trials=10_000)
    numbers = np.ones((2000, 3))
    for start in range(0, 10_000, 2000):
        trials = list(range(start, start + 2000))
        record.asked(start // 2000, trials, numbers, trials)
        record.told(
            [(Trial(n, {}, Status.COMPLETE, {"value": float(n)}, generation=start // 2000), []) for n in trials]
        )
        record.flush(force=True)
        assert len(record._view._table._buffers) == 1
    record.close("budget")
    assert study(location).counts["complete"] == 10_000
    assert study(location).best.number == 0
    assert verify(study(location)) == []


def test_the_way_a_failed_study_says_why(location: StudyLocation) -> None:
    spec = make_spec()
    record = opened(location)
    asked(record, spec)
    failed = Outcome(3, Status.FAILED, reason=Reason.EXIT, message="it exited with code 3", output="a\nb\nboom")
    late = Outcome(1, Status.FAILED, reason=Reason.TIMEOUT, message="too slow")
    also = Outcome(2, Status.FAILED, reason=Reason.EXIT, message="it exited with code 4")
    record.told([(trial_of(spec, each.trial, [each]), [each]) for each in (failed, late, also)])
    record.close("failures")
    found = study(location)
    assert found.state == "failed"
    assert found.verdict.startswith(
        "3 of 3 trials failed: 2 x exit, 1 x timeout. Trial 3, for example: it exited with code 3"
    )
    assert found.verdict.endswith("boom")
    assert found.best is None


def test_best_is_feasible_first_and_pareto_is_sorted(location: StudyLocation) -> None:
    changes = {
        "objectives": [{"metric": "a"}, {"metric": "b", "direction": "maximize"}],
        "constraints": [{"metric": "c", "high": 1}],
    }
    spec = make_spec(**changes)
    record = opened(location, **changes)
    asked(record, spec)
    rows = [(0.0, 9.0, 2.0), (1.0, 5.0, 1.0), (2.0, 7.0, 0.0), (3.0, 6.0, 0.0)]
    outcomes = [Outcome(i, Status.COMPLETE, metrics=dict(zip("abc", row, strict=True))) for i, row in enumerate(rows)]
    record.told([(trial_of(spec, 0, outcomes[:1]), outcomes[:1])])
    assert [trial.number for trial in study(location).pareto] == [0]
    assert "violates the constraints by 1" in _ended(record, location).verdict
    record = opened(location, **changes)
    record.told([(trial_of(spec, each.trial, [each]), [each]) for each in outcomes[1:]])
    record.close("budget")
    assert [trial.number for trial in study(location).pareto] == [1, 2]
    assert study(location).best.number == 1
    assert study(location).verdict == ""


def _ended(record: Record, location: StudyLocation) -> Study:
    record.close("budget")
    return study(location)


def test_a_claim_that_comes_to_nothing_leaves_no_trace(location: StudyLocation) -> None:
    record = Record.claim(location, spec=make_spec())
    with pytest.raises(LeaseError):
        Record.claim(location, spec=make_spec())
    record.close("interrupted")
    record.close("interrupted")
    assert objects(location) == {}
    assert location.storage().folders() == []
    opened(location).close("interrupted")
    before = objects(location).keys()
    Record.claim(location, spec=make_spec()).close("interrupted")
    assert objects(location).keys() == before
    opened(location).close("interrupted")
