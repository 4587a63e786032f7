import io
import subprocess
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.response import addinfourl

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_aws import AwsCredentials, MinIOCredentials

from prefect_simopt.api import run_untracked
from prefect_simopt.blocks import CommandSimulatorBlock, ContainerSimulatorBlock, PythonSimulatorBlock, StudyStore
from prefect_simopt.errors import StoreError
from prefect_simopt.flows.optimize import optimize
from prefect_simopt.specfile import make_spec

pytestmark = pytest.mark.usefixtures("house")  # calls of a block's methods are events, which look for a server

ROOT = Path(__file__).parents[2]


class Checkout(urllib.request.BaseHandler):
    """Answers for the repository's files on the web with those of this checkout: nothing here reaches the web."""

    def https_open(self, request):
        path = ROOT / request.full_url.partition("/main/")[2]
        return addinfourl(io.BytesIO(path.read_bytes()), Message(), request.full_url, 200)


@pytest.mark.parametrize("block", [StudyStore, PythonSimulatorBlock, CommandSimulatorBlock, ContainerSimulatorBlock])
class TestStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, request):
        return request.param

    @pytest.fixture(autouse=True)
    def offline(self):
        urllib.request.install_opener(urllib.request.OpenerDirector())
        urllib.request._opener.add_handler(Checkout())
        yield
        urllib.request.install_opener(None)


def test_blocks_are_light_and_known_to_prefect():
    code = (
        "import sys, prefect, prefect.blocks.core, prefect_simopt.blocks\n"
        "assert not {'jax', 'zarr', 'numpy', 'prefect_aws', 'boto3'} & set(sys.modules), sorted(sys.modules)\n"
        "from prefect.blocks.core import Block\n"
        "names = {'study-store', 'python-simulator', 'command-simulator', 'container-simulator'}\n"
        "print(sorted(Block.get_block_class_from_key(name).__name__ for name in names))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    known = ["CommandSimulatorBlock", "ContainerSimulatorBlock", "PythonSimulatorBlock", "StudyStore"]
    assert done.stdout == f"{known}\n", done.stderr


def test_a_store_is_saved_with_its_credentials_and_loaded_with_them():
    keys = MinIOCredentials(
        minio_root_user="me",
        minio_root_password="secret-words",
        region_name="eu-central-1",
        aws_client_parameters={"endpoint_url": "http://127.0.0.1:9000", "verify": False},
    )
    keys.save("lab", overwrite=True)
    StudyStore(url="s3://bucket/studies", credentials=keys).save("lab", overwrite=True)
    store = StudyStore.load("lab")
    assert store.options() == {
        "key": "me",
        "secret": "secret-words",
        "endpoint_url": "http://127.0.0.1:9000",
        "client_kwargs": {"region_name": "eu-central-1", "verify": False},
    }
    place = store.location("coating")
    assert place.url == "s3://bucket/studies/coating"
    assert "secret-words" not in f"{store}{place}"
    assert isinstance(Block.load("study-store/lab"), StudyStore)


def test_a_session_token_is_handed_on():
    keys = AwsCredentials(aws_access_key_id="id", aws_secret_access_key="key", aws_session_token="token")
    options = StudyStore(url="s3://bucket", credentials=keys).options()
    assert options == {"key": "id", "secret": "key", "token": "token", "client_kwargs": {}}


def test_credentials_that_cannot_be_used_are_a_store_error():
    store = StudyStore(url="s3://bucket", credentials=AwsCredentials(profile_name="no-such-profile"))
    with pytest.raises(StoreError, match="no-such-profile"):
        store.options()


def test_a_study_is_run_and_read_through_a_store_block(study, tmp_path):
    StudyStore(url=str(tmp_path / "blocked")).save("blocked", overwrite=True)
    summary = optimize(study=study("by-block", trials=20, store={"block": "blocked"}))
    assert summary["store"] == str(tmp_path / "blocked")
    assert StudyStore.load("blocked").open("by-block").counts["complete"] == 20
    with pytest.raises(StoreError, match="no study"):
        StudyStore.load("blocked").open("nothing")


def test_a_stored_simulator_is_what_a_study_runs(study, designs):
    PythonSimulatorBlock(entrypoint="designs.py:bowl", directory=str(designs)).save("bowl", overwrite=True)
    document = study("stored", trials=10)
    stored = PythonSimulatorBlock.load("bowl").simulator()
    assert make_spec({**document, "simulator": stored}) == make_spec(document)
    run_untracked(make_spec({**document, "simulator": stored}))


def test_a_stored_command_has_all_that_a_study_may_say_of_it():
    described = {
        "command": ["solve", "{params}"],
        "files": ["mesh"],
        "templates": {"in.txt": "in.j2"},
        "environment": {"A": "1"},
        "metrics": [{"name": "drag", "stdout": "Cd = (.*)"}],
        "fields": [{"name": "p", "file": "p.npy"}],
        "source": {"url": "https://example.org/solver", "revision": "v1", "build": ["make"]},
    }
    document = {"name": "s", "space": [{"name": "x", "low": 0, "high": 1}], "simulator": described}
    stored = CommandSimulatorBlock(**described).simulator()
    assert make_spec({**document, "simulator": stored}) == make_spec(document)
    with pytest.raises(ValueError, match="inside the trial's directory"):
        CommandSimulatorBlock(command=["solve"], templates={"../up": "in.j2"}).simulator()


def test_a_stored_container_has_all_that_a_study_may_say_of_it():
    described = {
        "image": "registry/solver:1",
        "command": ["solve", "{params}"],
        "user": 1000,
        "files": ["mesh"],
        "templates": {"in.txt": "in.j2"},
        "environment": {"A": "1"},
        "metrics": [{"name": "drag", "stdout": "Cd = (.*)"}],
        "fields": [{"name": "p", "file": "p.npy"}],
    }
    pods = {"type": "work_pool", "pool": "kubernetes"}
    document = {"name": "s", "space": [{"name": "x", "low": 0, "high": 1}], "simulator": described, "compute": pods}
    stored = ContainerSimulatorBlock(**described).simulator()
    assert make_spec({**document, "simulator": stored}) == make_spec(document)
