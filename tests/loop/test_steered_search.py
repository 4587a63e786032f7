"""A search that people steer: requests are taken up between generations, once, and at the same places of a replay."""

import itertools
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from s3_server import S3Server
from threads import Died, ThreadCompute

from prefect_simopt import intake
from prefect_simopt.loop import Ending, Search
from prefect_simopt.record import Record
from prefect_simopt.requests import make_request, pending, submit
from prefect_simopt.session import StudyFinished, stop_if_finished
from prefect_simopt.showing import requests_of
from prefect_simopt.specfile import make_spec
from prefect_simopt.steering import Request
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study, open_study
from prefect_simopt.verify import verify

OPTIMIZERS = ["pso", "cma", "random", {"type": "grid", "points": 200}, {"type": "de", "mode": "async"}]
POINTS = [{"x": 0.25 + 0.25 * i, "n": 3} for i in range(3)]
PLAN = {  # what is asked for when a trial ends
    5: [("suggest", {"points": POINTS})],
    20: [
        ("narrow", {"bounds": {"x": [-2, 3], "n": [2, 7]}}),
        ("suggest", {"points": [{"x": 1.5, "n": 7}, {"x": 4, "n": 7}]}),
    ],
    21: [("suggest", {"points": [{"x": 2.5, "n": 2}]})],
    38: [("extend", {"trials": 64})],
    50: [("narrow", {"bounds": {"n": [4, 4]}}), ("narrow", {"bounds": {"n": [2, 7]}})],
}


@pytest.fixture(autouse=True)
def looks_every_time(monkeypatch):
    """Every generation's end is looked at, so that the same requests are found at the same places."""
    monkeypatch.setattr(intake, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(intake, "_SHARE", float("inf"))


def bowl(x, n):
    return (x - 0.3) ** 2 + 0.1 * (n - 4) ** 2


def spec_of(optimizer="pso", trials=40, **more):
    return make_spec({
        "name": "bowl",
        "simulator": {"entrypoint": "bowl:bowl"},
        "space": [{"name": "x", "low": -5, "high": 5}, {"name": "n", "type": "int", "low": 0, "high": 9}],
        "optimizer": optimizer,
        "budget": {"trials": trials},
        **more,
    })  # fmt: skip


class Person:
    """Asks for what the plan says, each once, when trials end."""

    def __init__(self, location, plan):
        self.storage, self.plan, self.taken_up = location.storage(), dict(plan), []

    def generation_started(self, number, trials):
        pass

    def trial_ended(self, trial):
        for kind, content in self.plan.pop(trial.number, ()):
            submit(self.storage, make_request(kind, content, "ann@lab"))

    def generation_completed(self, number, progress):
        self.progress = progress

    def request_taken_up(self, request, refused):
        self.taken_up.append((request.kind, refused))


def run(location, spec, person, die_after=None, record_class=Record):
    """Run until it ends or dies."""
    record = record_class.open(location, spec=spec, provenance={})
    compute = ThreadCompute(bowl, location, 1, die_after)
    search = Search(spec, record, compute, observers=[person])
    ending = None
    try:
        with suppress(Died):
            ending = search.run()
    finally:
        compute.close()
        record.close(ending.name.lower() if ending else "died")
    return ending, compute.calls


def steered(location, spec, plan=PLAN, deaths=(None,)):
    person, calls = Person(location, plan), []
    for die_after in deaths:
        ending, made = run(location, spec, person, die_after)
        calls += made
    assert ending is Ending.BUDGET
    assert len(set(calls)) == len(calls)
    return person


@pytest.fixture
def place(tmp_path):
    numbers = itertools.count()
    return lambda: StudyLocation(str(tmp_path / str(next(numbers)) / "bowl"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
class TestEveryMode:
    def test_requests_are_done_in_order_and_once(self, place, optimizer):
        location = place()
        person = steered(location, spec_of(optimizer))
        study = open_study(location.url)
        trials = study.trials
        assert person.progress.told == len(trials) == 64
        assert person.progress.budget == 64
        order = "suggest narrow suggest suggest extend narrow narrow"
        assert [kind for kind, _ in person.taken_up] == order.split()
        refused = [refused for _, refused in person.taken_up if refused]
        assert len(refused) == 2
        assert "narrowed to" in refused[0]  # one of its points is outside, so neither is taken
        assert "only get narrower" in refused[1]
        given = {(point["x"], point["n"]) for point in [*POINTS, {"x": 2.5, "n": 2}]}
        assert given <= {(round(x, 9), n) for x, n in zip(trials["x"], trials["n"], strict=True)}
        assert 4 not in trials["x"].tolist()
        for trial, (low, high) in ((20, (2, 7)), (50, (4, 4))):
            later = trials[trials["generation"] > trials["generation"][trial]]
            assert later["n"].between(low, high).all()
            assert later["x"].between(-2, 3).all()
        assert not verify(study)
        shown = requests_of(study)["requests"]
        assert [each["kind"] for each in shown["applied"]] == ["suggest", "narrow", "suggest", "extend", "narrow"]
        assert len(shown["refused"]) == 2
        assert not shown["pending"]
        assert study.attributes["steering"]["bounds"] == {"x": [-2, 3], "n": [4, 4]}

    def test_deaths_change_nothing(self, place, optimizer):
        whole = place()
        steered(whole, spec_of(optimizer))
        wanted = open_study(whole.url).fingerprint()
        for deaths in ((3, 1, 17, 5, 9, None), (0, 6, 15, 1, 1, 18, 2, None), (21, 18, 12, None)):
            broken = place()
            steered(broken, spec_of(optimizer), deaths=deaths)
            assert open_study(broken.url).fingerprint() == wanted

    def test_a_replay_of_the_whole_ledger_goes_on_like_the_search_itself(self, place, optimizer):
        kept, replayed = place(), place()
        steered(kept, spec_of(optimizer))
        shutil.copytree(kept.url, replayed.url)
        shutil.rmtree(Path(replayed.url) / "checkpoints")
        for location in (kept, replayed):
            submit(location.storage(), make_request("extend", {"trials": 80}))
            ending, _ = run(location, spec_of(optimizer), Person(location, {}))
            assert ending in (Ending.BUDGET, Ending.EXHAUSTED)
        assert open_study(kept.url).counts["total"] > 64 or "grid" in str(optimizer)
        assert open_study(kept.url).fingerprint() == open_study(replayed.url).fingerprint()


def test_suggested_points_are_the_next_generation(place):
    location = place()
    steered(location, spec_of(trials=40), plan={3: PLAN[5]})
    trials = open_study(location.url).trials
    assert trials.loc[16:18, "x"].round(9).tolist() == [0.25, 0.5, 0.75]
    assert trials.loc[16:18, "generation"].tolist() == [1] * 3


def test_more_points_than_a_generation_has_fill_several(place):
    location = place()
    points = [{"x": round(-1 + 0.1 * i, 1), "n": 5} for i in range(20)]
    spec = spec_of({"type": "pso", "population": 8})
    plan = {3: [("suggest", {"points": points})], 12: [("narrow", {"bounds": {"x": [-5, 0.45]}})]}
    steered(location, spec, plan)
    trials = open_study(location.url).trials
    assert trials["x"][8:16].round(9).tolist() == [point["x"] for point in points[:8]]
    # Of the rest those that are still allowed.
    assert trials["x"][16:23].round(9).tolist() == [point["x"] for point in points[8:15]]
    assert (trials["x"][16:] <= 0.45).all()


@pytest.mark.parametrize("kind", ["suggest", "narrow", "extend"])
@pytest.mark.parametrize("written", [False, True])
def test_death_on_both_sides_of_the_ledger(place, kind, written):
    """The request's object outlives the ledger's record of it, or the record is never written."""

    class Dying(Record):
        def take_up(self, *args, **more):
            if written:
                self._storage.delete = lambda keys: (_ for _ in ()).throw(Died)
            else:
                self._append = lambda entries: (_ for _ in ()).throw(Died)
            try:
                super().take_up(*args, **more)
            finally:
                self._storage = self.location.storage()
                if not written:
                    del self._append

    whole, broken = place(), place()
    plan = {5: [each for wanted in (5, 20, 38) for each in PLAN[wanted] if each[0] == kind][:1]}
    steered(whole, spec_of(), plan)
    person = Person(broken, plan)
    ending, _ = run(broken, spec_of(), person, record_class=Dying)
    assert ending is None
    assert len(pending(broken.storage())) == 1
    ending, _ = run(broken, spec_of(), person)
    assert ending is Ending.BUDGET
    assert not pending(broken.storage())
    for location in (whole, broken):
        assert len(requests_of(open_study(location.url))["requests"]["applied"]) == 1
    assert open_study(whole.url).fingerprint() == open_study(broken.url).fingerprint()


@pytest.mark.parametrize("optimizer", ["pso", {"type": "sa", "mode": "async"}], ids=str)
def test_a_pause_lets_nothing_be_asked_until_it_is_over(place, optimizer):
    location, spec = place(), spec_of(optimizer)
    person = Person(location, {7: [("pause", {})]})
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run(location, spec, person)))
    thread.start()
    storage = location.storage()
    while not person.taken_up:
        assert thread.is_alive()
        thread.join(0.05)
    thread.join(1.5)
    told = Study(location).counts["total"]
    assert told in (8, 16)  # the running ones have ended
    thread.join(1.0)
    assert thread.is_alive()
    assert Study(location).counts["total"] == told
    assert Study(location).state == "running"
    assert requests_of(Study(location))["paused"].startswith("ann@lab")
    submit(storage, make_request("suggest", {"points": POINTS}))
    submit(storage, make_request("resume"))
    thread.join(30)
    assert ended[0][0] is Ending.BUDGET
    assert "paused" not in requests_of(Study(location))
    assert Study(location).trials["x"][told : told + 3].round(9).tolist() == [0.25, 0.5, 0.75]


def test_a_pause_outlives_the_process_and_a_stop_ends_it(place):
    location, spec = place(), spec_of()
    for already in (False, True):
        person = Person(location, {} if already else {7: [("pause", {})]})
        record = Record.open(location, spec=spec, provenance={})
        compute = ThreadCompute(bowl, location)
        search = Search(spec, record, compute, observers=[person])
        threading.Timer(1.5, search.stop.set).start()
        assert search.run() is Ending.INTERRUPTED
        compute.close()
        record.close("interrupted")
        assert Study(location).counts["total"] == 16
        assert compute.calls == ([] if already else [(trial, 0, 0) for trial in range(16)])
    submit(location.storage(), make_request("resume"))
    unpaused = place()
    steered(unpaused, spec, plan={})
    assert run(location, spec, Person(location, {}))[0] is Ending.BUDGET
    assert Study(location).fingerprint() == Study(unpaused).fingerprint()


def test_requests_wait_for_a_study_that_rests_and_wake_one_that_has_ended(place):
    location = place()
    spec = spec_of(store=location.url.rpartition("/")[0])
    steered(location, spec, plan={})
    with pytest.raises(StudyFinished):
        stop_if_finished(spec, location)
    submit(location.storage(), make_request("extend", {"trials": 50}))
    stop_if_finished(spec, location)
    assert run(location, spec, Person(location, {}))[0] is Ending.BUDGET
    assert Study(location).counts["total"] == 50
    with pytest.raises(StudyFinished):
        stop_if_finished(spec, location)
    # A spec with a larger budget of its own goes on as well; a smaller one than the extended does not shrink it.
    assert run(location, spec_of(trials=45), Person(location, {}))[0] is Ending.BUDGET
    assert Study(location).counts["total"] == 50
    assert run(location, spec_of(trials=60), Person(location, {}))[0] is Ending.BUDGET
    assert Study(location).counts["total"] == 60


def test_what_is_no_request_is_left_out(place, caplog):
    location = place()
    person = Person(location, {3: [("pause", {}), ("resume", {})]})
    storage = location.storage()
    for i, data in enumerate((b"{", b"[]", b'{"kind":"drop","content":{}}', b'{"kind":"pause","content":3}')):
        storage.write(f"requests/{i + 100:06d}.json", data)
    storage.write("requests/000200.json", b'{"kind":"narrow","content":{"bounds":{"x":["low","high"]}},"token":"t"}')
    assert run(location, spec_of(), person)[0] is Ending.BUDGET
    assert storage.names("requests") == ["zarr.json"]
    assert caplog.text.count("is no request") == 4
    assert "which is refused" in caplog.text


def test_many_who_ask_at_once_are_all_heard(place):
    location = place()
    gate = threading.Barrier(8)

    def ask(i):
        storage = location.storage()
        gate.wait()
        for k in range(3):
            points = [{"x": round(0.01 * i + 0.1 * k, 2), "n": k}]
            submit(storage, make_request("suggest", {"points": points}, f"p{i}@lab"))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pending(location.storage())
    assert len(found) == len({request.token for _, request in found}) == 24
    for i in range(8):  # each in the order in which it was asked
        assert [request.content["points"][0]["n"] for _, request in found if request.agent == f"p{i}@lab"] == [0, 1, 2]
    person = Person(location, {})
    assert run(location, spec_of(trials=60), person)[0] is Ending.BUDGET
    assert person.taken_up == [("suggest", "")] * 24


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.mark.s3
def test_on_s3_as_on_a_disk(place, s3_server):
    disk, bucket = place(), StudyLocation("s3://lab/studies/bowl", s3_server.options)
    steered(disk, spec_of())
    person = steered(bucket, spec_of(), deaths=(5, 18, 12, None))
    assert len(person.taken_up) == 7
    assert Study(bucket).fingerprint() == Study(disk).fingerprint()
    assert len(requests_of(Study(bucket))["requests"]["applied"]) == 5
    assert not verify(Study(bucket))


def test_a_request_is_the_same_through_json():
    request = make_request("narrow", {"bounds": {"x": [0, 1]}}, "ann@lab")
    assert Request.from_json(request.to_json()) == request
