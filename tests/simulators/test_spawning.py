"""A supervisor that was started ahead."""

import os
import select
import subprocess
import sys

from prefect_simopt.simulators.spawning import spawn, start_ahead


def _end(spawned):
    spawned.sock.close()
    assert spawned.process.wait(20) == 0


def test_it_is_the_one_that_is_used_where_only_late_variables_differ():
    start_ahead()
    first = spawn({**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3"})
    second = spawn(os.environ)
    assert "CUDA_VISIBLE_DEVICES" not in first.environment  # it was started before that was known
    assert first.process.pid < second.process.pid
    _end(first)
    _end(second)


def test_it_ends_where_the_spec_asks_for_another_environment():
    start_ahead()
    other = spawn({**os.environ, "LD_LIBRARY_PATH": "/opt/solver/lib"})
    assert other.environment["LD_LIBRARY_PATH"] == "/opt/solver/lib"
    _end(other)


def test_it_ends_with_a_command_that_never_needs_it():
    code = (
        "from prefect_simopt.simulators import spawning as s; s.start_ahead(); print(s._ahead[0].process.pid);"
        "import os, sys; sys.stdout.flush(); os._exit(0)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 30)[0], "it still runs"
    finally:
        os.close(descriptor)
