"""What the tests of the store share: a real S3 server, and one location of each kind."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_simopt.storage import StudyLocation

SERVER = "versitygw"
HOW = (
    f"the S3 server `{SERVER}` is missing. Build it with `CGO_ENABLED=0 go install "
    "github.com/versity/versitygw/cmd/versitygw@v1.8.0`, and put it on the PATH or name it in SIMOPT_S3_SERVER. "
    "To leave these tests out: pytest -m 'not s3'."
)


class S3Server:
    """A real S3 server on a loopback port, which tests may kill and start again."""

    def __init__(self, folder: Path) -> None:
        cached = Path.home() / ".cache/test-cluster/bin" / SERVER
        found = os.environ.get("SIMOPT_S3_SERVER") or shutil.which(SERVER) or str(cached)
        if not Path(found).exists():
            pytest.fail(HOW)
        self.binary, self.folder = found, folder
        (folder / "lab").mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.options = {
            "key": "test",
            "secret": "testsecret",
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "retry_seconds": 20,
        }
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": "testsecret"}
        command = [self.binary, "--quiet", "--port", f"127.0.0.1:{self.port}", "posix", str(self.folder)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        pytest.fail(f"{self.binary} does not listen on port {self.port}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.s3)])
def make_location(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StudyLocation]:
    """Makes new locations of studies: each test runs on a disk and on an S3 server."""
    if request.param == "disk":
        return lambda: StudyLocation(str(tmp_path / uuid.uuid4().hex / "bowl"))
    server = request.getfixturevalue("s3_server")
    return lambda: StudyLocation(f"s3://lab/{uuid.uuid4().hex}/bowl", server.options)


@pytest.fixture
def location(make_location: Callable[[], StudyLocation]) -> StudyLocation:
    return make_location()
