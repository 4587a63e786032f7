"""A namespace that enforces the restricted standard, a Prefect server, a pool, a worker and an S3 server for all tests.

Everything runs inside the cluster's network, these tests, too: `make test-cluster` sees to that.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_lab import GATEWAY, PrefectServer, Worker, kubectl, make_pool, need_cluster, save_store
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings
from s3_server import S3Server

POOL = "kubernetes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def namespace() -> Iterator[str]:
    """A namespace that admits only pods of the restricted Pod Security Standard."""
    need_cluster()
    name = f"simopt-tests-{os.getpid()}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def server(namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """Prefect's server, which this process uses as well."""
    house = PrefectServer(tmp_path_factory.mktemp("server"))
    house.start()
    home = tmp_path_factory.mktemp("home")
    settings = {PREFECT_API_URL: house.url, PREFECT_HOME: home, PREFECT_RESULTS_PERSIST_BY_DEFAULT: False}
    with temporary_settings(updates=settings):
        yield house
    house.kill(signal.SIGTERM)


@pytest.fixture
def client(server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with the bucket `lab`, where pods reach it."""
    house = S3Server(tmp_path_factory.mktemp("s3"), GATEWAY)
    yield house
    house.kill()


@pytest.fixture(scope="session")
def pool(server: PrefectServer, namespace: str) -> str:
    """A work pool made of our template, for the test cluster's only node."""
    make_pool(POOL, namespace)
    return POOL


@pytest.fixture(scope="session")
def worker(server: PrefectServer, pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of that pool, on this side of the cluster."""
    house = Worker(tmp_path_factory.mktemp("worker"), server.url, pool)
    house.start()
    yield house
    house.kill(signal.SIGTERM)


@pytest.fixture(scope="session")
def store(server: PrefectServer, s3: S3Server) -> str:
    """Name of a StudyStore block: pods take their credentials from there."""
    save_store("lab", "s3://lab/studies", s3.options)
    return "lab"
