"""Every storage keeps the same promises."""

import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from prefect_simopt.errors import StoreError
from prefect_simopt.storage import Storage, StudyLocation
from prefect_simopt.testing import StorageTests


class TestDiskPromises(StorageTests):
    def make(self, folder):
        return StudyLocation(str(folder / "study")).storage()


@pytest.mark.s3
class TestS3Promises(StorageTests):
    @pytest.fixture(autouse=True)
    def _server(self, s3_server):
        self.server, self.prefix = s3_server, uuid.uuid4().hex

    def make(self, folder):
        return StudyLocation(f"s3://lab/{self.prefix}", self.server.options).storage()


@pytest.fixture
def storage(location: StudyLocation) -> Storage:
    return location.storage()


def test_long_listings_are_whole(storage: Storage) -> None:
    names = sorted(f"{i:05d}" for i in range(1100))  # more than S3 lists, or deletes, at once
    storage.write_many({f"x/{name}": b"." for name in names})
    assert storage.names("x") == names
    storage.delete(f"x/{name}" for name in names)
    assert storage.names("x") == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../other", "a/../../b", "a//b", "./a", "a/.", "a\\b", "a\0b"])
def test_keys_stay_under_the_root(storage: Storage, key: str) -> None:
    for use in (storage.read, lambda key: storage.write(key, b""), lambda key: storage.delete([key])):
        with pytest.raises(StoreError, match="no name of an object"):
            use(key)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    storage = StudyLocation(str(tmp_path)).storage()
    for write in (lambda: storage.write("a/b", b"x"), lambda: storage.replace("a/b", b"x", None)):
        with pytest.raises(StoreError, match="a/b: there is a folder of this name; move it away"):
            write()


def test_age_is_by_the_storages_own_clock(storage: Storage) -> None:
    assert storage.age("k") is None
    storage.write("k", b"")
    age = storage.age("k")
    assert age is not None
    assert 0 <= age < 60


def test_credentials_are_not_shown() -> None:
    location = StudyLocation("s3://lab/x", {"key": "test", "secret": "testsecret"})
    assert "secret" not in repr(location)
    assert StudyLocation.from_json(location.to_json()) == location
    assert location.child("bowl").url == "s3://lab/x/bowl"
    with pytest.raises(StoreError):
        location.child("../x")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(StoreError, match="not ftp://"):
        StudyLocation("ftp://host/x").storage()


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    StudyLocation(f"file://{tmp_path}/a%20b").storage().write("k", b"1")
    assert (tmp_path / "a b" / "k").read_bytes() == b"1"


class TestDisk:
    def test_append_cuts_off_what_a_kill_left(self, tmp_path: Path) -> None:
        storage = StudyLocation(str(tmp_path)).storage()
        storage.append("log", b"one\n", 0)
        storage.append("log", b"two\n", 4)
        with (tmp_path / "log").open("ab") as file:
            file.write(b"thr")
        storage.append("log", b"four\n", 8)
        assert storage.read("log") == b"one\ntwo\nfour\n"

    def test_files_have_the_mode_of_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            StudyLocation(str(tmp_path)).storage().write("a/b", b"1")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o640

    @pytest.mark.parametrize("fsync", [False, True])
    def test_nothing_is_left_in_the_temporary_folder(self, tmp_path: Path, fsync: bool) -> None:
        storage = StudyLocation(str(tmp_path), {"fsync": fsync}).storage()
        storage.write("a", b"1")
        storage.replace("a", b"2", "not its version")
        storage.replace("a", b"2", None)
        (tmp_path / "blocked").mkdir()
        with pytest.raises(StoreError, match="folder of this name"):
            storage.write("blocked", b"1")
        assert [name for name in storage.names("tmp") if name != "lock"] == []

    def test_clean_removes_what_dead_processes_left(self, tmp_path: Path) -> None:
        dead = subprocess.Popen(["true"])
        dead.wait()
        folder = tmp_path / "tmp"
        folder.mkdir()
        host = socket.gethostname()
        for name in (f"{host}@{dead.pid}-0", f"{host}@{os.getpid()}-0", "elsewhere@1-0", "lock", "zarr.json"):
            (folder / name).touch()
        os.utime(folder / "elsewhere@1-0", (0, 0))
        (folder / "elsewhere@2-0").touch()
        StudyLocation(str(tmp_path)).storage().clean()
        left = sorted(path.name for path in folder.iterdir())
        assert left == sorted([f"{host}@{os.getpid()}-0", "elsewhere@2-0", "lock", "zarr.json"])

    def test_a_write_that_fails_in_the_middle_leaves_what_was_there(self, tmp_path: Path) -> None:
        storage = StudyLocation(str(tmp_path)).storage()
        storage.write("a", b"old")
        storage.append("log", b"one\n", 0)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        try:
            with pytest.raises(StoreError, match="raise the limit"):
                storage.write("a", b"x" * 1000)
            with pytest.raises(StoreError, match="raise the limit"):
                storage.append("log", b"x" * 1000, 4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert storage.read("a") == b"old"
        assert storage.read("log") == b"one\n"
        assert storage.names("tmp") == []

    def test_a_folder_without_permission(self, tmp_path: Path) -> None:
        script = (
            "import os, sys\n"
            "from prefect_simopt.disk import LocalStorage\n"
            "os.getuid() or os.setuid(65534)\n"
            "LocalStorage(sys.argv[1]).write('a', b'1')"
        )
        tmp_path.chmod(0o555)
        ended = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "s"], capture_output=True, text=True, check=False
        )
        assert "no permission; change the folder's owner or mode" in ended.stderr


@pytest.mark.s3
class TestS3:
    @pytest.mark.parametrize(
        ("changed", "bucket", "message"),
        [
            ({}, "nowhere", "no such bucket"),
            ({"secret": "wrong"}, "lab", "secret does not belong"),
            ({"key": "nobody"}, "lab", "does not know this access key"),
        ],
    )
    def test_errors_say_the_way_out(self, s3_server, changed, bucket, message) -> None:
        storage = StudyLocation(f"s3://{bucket}/x", {**s3_server.options, **changed}).storage()
        with pytest.raises(StoreError, match=message):
            storage.write("k", b"1")

    def test_a_server_that_comes_back_was_not_missed(self, s3_server) -> None:
        storage = StudyLocation("s3://lab/back", s3_server.options).storage()
        storage.write("k", b"1")
        s3_server.kill()
        revival = threading.Timer(1.0, s3_server.start)
        revival.start()
        storage.write("k", b"2")
        revival.join()
        assert storage.read("k") == b"2"

    def test_a_server_that_stays_away_is_given_up(self, s3_server) -> None:
        storage = StudyLocation("s3://lab/away", {**s3_server.options, "retry_seconds": 0.5}).storage()
        storage.write("k", b"1")
        s3_server.kill()
        try:
            with pytest.raises(StoreError, match="did not answer for"):
                storage.write("k", b"2")
        finally:
            s3_server.start()
        assert storage.read("k") == b"1"
