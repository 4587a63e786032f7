"""Links to fields, and fields that come back checked, on a real S3 server."""

import re
import time
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from command_line import STUDY
from s3_server import S3Server

SOURCE = """\
import numpy as np
from prefect_simopt import Result

def waves(x, y):
    ez = x * np.outer(np.arange(5.0), np.ones(3))
    return Result({"value": x * x + y}, {"ez": ez, "hits": np.array([int(x > 0)], dtype="int16")})
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def waves(folder):
    """A study with fields: how to run it."""
    (folder / "waves.py").write_text(SOURCE)
    document = {**STUDY, "name": "waves", "simulator": {"entrypoint": "waves.py:waves"}, "budget": {"trials": 8}}
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return ["run", "study.yaml", "--untracked", "--json"]


@pytest.fixture
def stored(waves, simopt, s3, monkeypatch, tmp_path):
    """URL of the study on the S3 server, with credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.options["endpoint_url"])
    store = f"s3://lab/{tmp_path.name}"
    assert simopt(*waves, "--store", store).code == 0
    return f"{store}/waves"


@pytest.fixture
def nobody(monkeypatch):
    """Takes the credentials away."""

    def forget():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name)

    return forget


@pytest.mark.s3
def test_a_link_is_fetched_without_credentials(simopt, stored, nobody, folder):
    made = simopt("link", stored, "--trial", 3, "--field", "ez", "--json").json
    here = simopt("fetch", stored, "--trial", 3, "--field", "ez", "-o", "mine")
    assert here.out == "mine/waves-3-ez.npy\n"
    nobody()
    answer = simopt("fetch", made["link"], "--sha256", made["sha256"], "-o", "theirs")
    assert (answer.code, answer.out) == (0, "theirs/waves-3-ez.npy\n")
    mine, theirs = np.load(folder / "mine/waves-3-ez.npy"), np.load(folder / "theirs/waves-3-ez.npy")
    assert theirs.shape == (5, 3)
    assert np.array_equal(mine, theirs)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in made["link"]
    assert "testsecret" not in made["link"]
    with urllib.request.urlopen(made["link"]) as plain:  # whatever reads URLs reads the object
        assert plain.status == 200


@pytest.mark.s3
def test_a_link_leads_to_its_object_alone(simopt, stored, nobody):
    link = simopt("link", stored, "--trial", 3, "--field", "ez").out.strip()
    nobody()
    other = simopt("fetch", link.replace("/c/3/", "/c/4/"))
    assert other.code == 2
    assert re.search("the link is refused .*SignatureDoesNotMatch.*simopt link STUDY --trial 3 --field ez", other.err)


@pytest.mark.s3
def test_an_expired_link_says_when_and_what_to_do(simopt, stored):
    link = simopt("link", stored, "--trial", 0, "--field", "hits", "--expires", 1).out.strip()
    time.sleep(2.1)
    answer = simopt("fetch", link)
    assert answer.code == 2
    assert re.search(r"the link expired at 20\d\d-.* UTC; `simopt link STUDY --trial 0 --field hits` makes", answer.err)


@pytest.mark.s3
def test_what_is_not_what_was_written_is_refused(simopt, stored, s3, folder):
    link = simopt("link", stored, "--trial", 2, "--field", "ez").out.strip()
    wrong = re.sub("sha256=[0-9a-f]{8}", "sha256=00000000", link)
    assert simopt("fetch", wrong).code == 3
    object_of_2 = s3.folder / urlsplit(link).path.lstrip("/")
    object_of_2.write_bytes(object_of_2.with_name("0").read_bytes()[:-1] + b"?")
    answer = simopt("fetch", link)
    assert answer.code == 3
    assert "the field ez of trial 2 of waves is damaged" in answer.err
    assert not list(folder.glob("*.npy*"))


@pytest.mark.s3
def test_the_server_is_away(simopt, stored, tmp_path_factory):
    link = simopt("link", stored, "--trial", 1, "--field", "ez").out.strip()
    host = urlsplit(link).netloc
    answer = simopt("fetch", link.replace(host, "127.0.0.1:9"))
    assert answer.code == 2
    assert "the server 127.0.0.1:9 does not answer (" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trial", 99, "--field", "ez"], "waves has no trial 99; it has 8, counted from 0"),
        (["--trial", 3, "--field", "hz"], "trial 3 has no field 'hz'; it has: ez, hits"),
        (["--trial", 3, "--field", "ez", "--expires", 999999], "a link lives for 1 to 604800 seconds"),
        (["--trial", 3, "--field", "ez"], "fields/ez/c/3/0/0 is a file of this machine"),
    ],
)
def test_links_that_cannot_be_made(simopt, waves, words, message):
    simopt(*waves)
    answer = simopt("link", "studies/waves", *words)
    assert answer.code == 2
    assert message in answer.err


def test_fields_of_the_best_trial_by_default(simopt, waves, folder):
    best = simopt(*waves).json["best"]
    answer = simopt("fetch", "studies/waves")
    assert answer.out.split() == [f"waves-{best['trial']}-{name}.npy" for name in ("ez", "hits")]
    assert np.load(folder / f"waves-{best['trial']}-ez.npy")[4, 0] == 4 * best["parameters"]["x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["http://example.org/x?X-Amz-Date=1"], "in quotes"),
        (["http://example.org/x#study=a&trial=0&field=f&dtype=object&shape=3&sha256=" + "0" * 64], "in quotes"),
        (["studies/waves", "--sha256", "0" * 64], "--sha256 goes with one link"),
        (["studies/waves", "--trial", 99], "waves has no trial 99"),
        (["studies/waves", "--field", "hz"], "has no field 'hz'"),
        (["studies/none"], "there is no study at"),
    ],
)
def test_fetches_that_cannot_be(simopt, waves, words, message):
    simopt(*waves)
    answer = simopt("fetch", *words)
    assert answer.code == 2
    assert message in answer.err


def test_a_folder_that_cannot_be_written(simopt, waves, folder):
    simopt(*waves)
    (folder / "file").write_text("")
    answer = simopt("fetch", "studies/waves", "-o", "file/x")
    assert answer.code == 2
    assert "name another folder with --output" in answer.err
