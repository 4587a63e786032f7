"""A Prefect server, a work pool, a worker and our deployments, as `make up` starts them, once for all these tests."""

from contextlib import chdir
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings

from prefect_simopt.deployments.local import down, up

DESIGNS = """
import os, signal, time

def bowl(x, y):
    return (x - 1) ** 2 + y**2

def slow(x, y):
    time.sleep(0.05)
    return (x - 1) ** 2 + y**2

def sluggish(x, y):
    time.sleep(1)
    return (x - 1) ** 2 + y**2

def partial(x, y):
    print("looking at", x)
    if x > 2:
        raise ValueError("x is too large")
    return (x - 1) ** 2 + y**2

def broken(x, y):
    raise RuntimeError("no licence")
"""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.prefect)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def state(tmp_path_factory):
    """Folder of the server, the worker and their logs."""
    return tmp_path_factory.mktemp("house")


@pytest.fixture(scope="session")
def house(state):
    """Address of the API of a server with a worker and our deployments."""
    with chdir(state):  # any folder will do
        url = up(state, port=4520)
    settings = {PREFECT_API_URL: url, PREFECT_HOME: state / "prefect", PREFECT_RESULTS_PERSIST_BY_DEFAULT: False}
    with temporary_settings(updates=settings):
        yield url
    assert down(state) == ["worker", "server"]


@pytest.fixture
def client(house):
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def designs(tmp_path):
    """Folder with simulators."""
    (tmp_path / "designs.py").write_text(DESIGNS)
    return tmp_path


@pytest.fixture
def study(designs):
    """Makes the document of a study."""

    def make(name, function="bowl", trials=60, **changes):
        return {
            "name": name,
            "simulator": {"type": "python", "entrypoint": f"designs.py:{function}", "directory": str(designs)},
            "space": [
                {"name": "x", "type": "float", "low": -5, "high": 5},
                {"name": "y", "type": "float", "low": -5, "high": 5},
            ],
            "optimizer": {"type": "pso", "population": 10},
            "budget": {"trials": trials, "failures": 1},
            "compute": {"workers": 2},
            "store": {"url": str(designs / "studies")},
            "seed": 11,
            **changes,
        }

    return make
