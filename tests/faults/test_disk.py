"""The disk is full, turns read-only, or the study's folder is taken away, while the study runs."""

import os
import shutil
import subprocess

import pytest
from lab import Lab, wait_for


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder, options):
    """Change a file system; a file that is open for writing at the moment may keep it from turning read-only."""
    wait_for(lambda: subprocess.run(
        ["mount", "-o", f"remount,{options}", folder], check=False, stderr=subprocess.DEVNULL
    ).returncode == 0)  # fmt: skip


def ledger(store):
    path = store / "bowl/ledger/000000.jsonl"
    return path.read_bytes() if path.exists() else b""


def test_a_disk_filled_by_the_study_itself(tmp_path, small_disk):
    lab = Lab(tmp_path / "lab", simulator={"entrypoint": "simulators.py:bulky"})
    code, out, errors = lab.ended(lab.run(small_disk))
    assert (code, out) == (3, "")
    assert "the disk is full; make space, then give the same command again" in errors
    told = ledger(small_disk).count(b'"activity":"trial"')
    assert 0 < told < 200
    again = lab.ended(lab.run(small_disk))
    assert again[0] in (2, 3)
    assert "the disk is full" in again[2]
    remount(small_disk, "size=200m")
    assert lab.verify(small_disk / "bowl") == ""
    assert lab.fingerprint(small_disk) == lab.fingerprint(tmp_path / "whole")
    assert lab.verify(small_disk / "bowl") == ""
    assert ledger(small_disk).count(b'"activity":"trial"') == 200


@pytest.mark.parametrize("after", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_a_disk_filled_by_others(tmp_path, small_disk, after):
    lab = Lab(tmp_path / "lab")
    process = lab.run(small_disk)
    wait_for(lambda: ledger(small_disk).count(b'"activity":"trial"') >= after, process)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    code, _, errors = lab.ended(process)
    assert code == 3, errors
    assert "the disk is full" in errors
    filler.unlink()
    assert lab.verify(small_disk / "bowl") == ""
    assert lab.fingerprint(small_disk) == lab.fingerprint(tmp_path / "whole")
    assert lab.verify(small_disk / "bowl") == ""


def test_a_disk_that_turns_read_only(tmp_path, small_disk):
    lab = Lab(tmp_path / "lab")
    process = lab.run(small_disk)
    wait_for(lambda: b'"id":"trial/20"' in ledger(small_disk), process)
    remount(small_disk, "ro")
    code, _, errors = lab.ended(process)
    assert code == 3, errors
    assert "the file system is read-only" in errors
    refused = lab.ended(lab.run(small_disk))
    assert refused[0] in (2, 3)
    assert "the file system is read-only" in refused[2]
    remount(small_disk, "rw")
    assert lab.verify(small_disk / "bowl") == ""
    assert lab.fingerprint(small_disk) == lab.fingerprint(tmp_path / "whole")


@pytest.mark.slow
def test_a_study_that_is_removed_while_it_runs(tmp_path):
    lab = Lab(tmp_path / "lab")
    store = tmp_path / "store"
    process = lab.run(store)
    wait_for(lambda: b'"id":"trial/20"' in ledger(store), process)
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(store, ignore_errors=True)
    code, _, errors = lab.ended(process)
    assert code == 3, errors
    assert str(store / "bowl") in errors
    assert lab.fingerprint(store) == lab.fingerprint(tmp_path / "whole")
    assert lab.verify(store / "bowl") == ""


@pytest.mark.slow
def test_a_study_that_is_moved_away_and_back(tmp_path):
    lab = Lab(tmp_path / "lab")
    store = tmp_path / "store"
    process = lab.run(store)
    wait_for(lambda: b'"id":"trial/20"' in ledger(store), process)
    (store / "bowl").rename(store / "moved")
    code, _, errors = lab.ended(process)
    assert code == 3, errors
    shutil.rmtree(store / "bowl", ignore_errors=True)
    (store / "moved").rename(store / "bowl")
    assert lab.verify(store / "bowl") == ""
    assert lab.fingerprint(store) == lab.fingerprint(tmp_path / "whole")
    assert lab.verify(store / "bowl") == ""
