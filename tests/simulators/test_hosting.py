"""A host and its supervisor's end of it, without a supervisor."""

import os
import select
import threading

import pytest

from prefect_simopt.simulators import processes
from prefect_simopt.simulators.board import Board
from prefect_simopt.simulators.hosting import HostProcess

SETUP = {"required": [], "path": [], "names": ["x"], "code": "", "resolved": None, "conditional": {}, "slopes": []}


@pytest.fixture
def threads():
    """More than one thread in this process, as where a store on S3 is open: hosts are not forked then."""
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    yield
    event.set()
    thread.join()


def test_a_host_that_is_not_forked_does_the_same(tmp_path, threads):
    (tmp_path / "m.py").write_text("def f(x):\n    print('x', x)\n    return x + 1\n")
    printed = []
    board = Board()
    host = HostProcess(board, printed.append)
    try:
        simulator = {
            "type": "python", "entrypoint": "m.py:f", "directory": str(tmp_path), "arguments": {}, "environment": {}
        }  # fmt: skip
        import sys

        setup = {**SETUP, "path": sys.path, "simulator": simulator, "scratch": str(tmp_path / "scratch")}
        host.send({"setup": setup})
        host.send({"calls": [[0, [{"trial": 3, "parameters": {"x": 1.5}, "seed": 1}]]]})
        frames = []
        while not any("rest" in frame for frame in frames):
            assert select.select([host.control.sock], [], [], 20)[0]
            came = [document for document, _ in host.control.receive()]
            assert came, "the host has ended"
            frames += came
        assert list(frames[0]) == ["ready"]
        ((number, outcomes),) = host.read_outcomes()
        assert (number, outcomes[0]["trial"], outcomes[0]["metrics"]) == (0, 3, {"value": 2.5})
        assert outcomes[0]["worker"].endswith(f":{host.pid}")
        assert list(host.texts) == [b"x 1.5\n"]
        assert printed == [b"x 1.5\n", None]
        assert board.call == 0
        assert board.started == 0
    finally:
        host.kill()
        os.waitpid(host.pid, 0)
        host.close()
        os.close(board.descriptor)
    assert host.pid not in processes.children()
