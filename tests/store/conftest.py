"""What the tests of the store share: a real S3 server, and one location of each kind."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import S3Server

from prefect_simopt.storage import StudyLocation


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
