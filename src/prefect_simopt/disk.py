"""Objects as files of a folder. A file is written in `tmp/` and renamed into place, so it is whole or absent."""

import errno
import hashlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path

from prefect_simopt.errors import StoreError
from prefect_simopt.liveness import is_gone
from prefect_simopt.storage import Storage, checked_key

__all__ = ["LocalStorage"]

_TEMPORARY, _LOCK = "tmp", "lock"
_STALE = 86_400.0  # seconds after which another machine's unfinished file is given up
_counter = itertools.count()
_ADVICE = {
    errno.ENOSPC: "the disk is full; make space, then give the same command again",
    errno.EDQUOT: "the disk quota is used up; make space, then give the same command again",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
    errno.EACCES: "no permission; change the folder's owner or mode, or choose another store",
    errno.EPERM: "no permission; change the folder's owner or mode, or choose another store",
    errno.EROFS: "the file system is read-only; choose another store",
    errno.ENOTDIR: "a part of the path is a file; move that away, or choose another store",
    errno.EISDIR: "there is a folder of this name; move it away, or choose another store",
    errno.ENAMETOOLONG: "the path is too long; choose a store with a shorter path",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}


class LocalStorage(Storage):
    """A folder.

    Args:
        path: the folder, made when the first file is written.
        fsync: wait for the disk at each write, so that what was written survives a power cut.
    """

    appends = True

    def __init__(self, path: str, *, fsync: bool = False) -> None:
        self.url = self._root = str(Path(path).expanduser().absolute())
        self._fsync = fsync
        self._host = socket.gethostname()

    def read(self, key: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        try:
            return Path(self._path(key)).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise self._plain(error, key, "read") from error

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write or replace a file, at once."""
        self.write_parts(key, [data])

    def write_parts(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write or replace a file that is given in pieces, at once."""
        with self._temporary(key, parts) as temporary:
            self._into_place(os.replace, temporary, key)

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """The file's bytes and their SHA-256; None where there is none."""
        data = self.read(key)
        return None if data is None else (data, hashlib.sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Write a file only if it is still the one that `version` stands for; None: only if there is none."""
        with self._temporary(key, [data]) as temporary:
            if version is None:
                try:
                    self._into_place(os.link, temporary, key)
                except FileExistsError:
                    if Path(self._path(key)).is_dir():
                        raise IsADirectoryError(errno.EISDIR, "") from None
                    return None
            else:
                with self._alone():
                    found = self.read_version(key)
                    if found is None or found[1] != version:
                        return None
                    self._into_place(os.replace, temporary, key)
        return hashlib.sha256(data).hexdigest()

    def append(self, key: str, data: bytes, position: int) -> None:
        """Make a file of `position` bytes longer. Bytes beyond `position`, left by a kill, are cut off."""
        try:
            descriptor = _open(self._path(key), os.O_WRONLY | os.O_CREAT)
            try:
                size = os.fstat(descriptor).st_size
                if size < position:
                    raise StoreError(
                        f"cannot write {self._root}/{key}: what was written there is gone; "
                        "was the study moved or removed while it ran?"
                    )
                if size > position:
                    os.ftruncate(descriptor, position)
                try:
                    self._put(descriptor, [data], position)
                except OSError:
                    os.ftruncate(descriptor, position)  # a full disk leaves no half of a record
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise error if isinstance(error, StoreError) else self._plain(error, key, "write") from error

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files."""
        for key in keys:
            try:
                Path(self._path(key)).unlink(missing_ok=True)
            except OSError as error:
                raise self._plain(error, key, "remove") from error

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, sorted."""
        return self._scan(folder, os.DirEntry.is_file)

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        return self._scan(folder, os.DirEntry.is_dir)

    def age(self, key: str) -> float | None:
        """Seconds since the file was written; None where there is none."""
        try:
            return max(0.0, time.time() - Path(self._path(key)).stat().st_mtime)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._plain(error, key, "read") from error

    def clean(self) -> None:
        """Remove what killed processes of this machine left half written, and any other's of a day ago."""
        for name in self.names(_TEMPORARY):
            host, _, process = name.rpartition("@")
            key = f"{_TEMPORARY}/{name}"
            pid = process.partition("-")[0]
            ours = host == self._host and (not pid.isdecimal() or is_gone(int(pid)))
            if host and (ours or (self.age(key) or 0.0) > _STALE):
                self.delete([key])

    def footprint(self) -> Callable[[], None]:
        """What takes away again the folders that are not there yet: call it when nothing was left in them."""
        root = Path(self._root)
        missing = [path for path in (root, *root.parents) if not path.exists()]

        def vanish() -> None:
            with suppress(OSError):  # somebody else has put something there
                (root / _TEMPORARY / _LOCK).unlink(missing_ok=True)
                for path in (root / _TEMPORARY, root / "lease", *missing):
                    if path.exists():
                        path.rmdir()

        return vanish

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked_key(key)}"

    def _scan(self, folder: str, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self._path(folder) if folder else self._root) as entries:
                return sorted(entry.name for entry in entries if wanted(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._plain(error, folder, "read") from error

    @contextmanager
    def _temporary(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> Iterator[str]:
        """A file with the data, to be moved into the place of `key`; gone at the end whatever happens."""
        temporary = f"{self._root}/{_TEMPORARY}/{self._host}@{os.getpid()}-{next(_counter)}"
        try:
            descriptor = _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                self._put(descriptor, parts, 0)
            finally:
                os.close(descriptor)
            yield temporary
        except OSError as error:
            raise error if isinstance(error, StoreError) else self._plain(error, key, "write") from error
        finally:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)

    def _put(self, descriptor: int, parts: Sequence[bytes | bytearray | memoryview], position: int) -> None:
        rest = [memoryview(part) for part in parts if len(part)]
        while rest:
            written = os.pwritev(descriptor, rest, position)
            position += written
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][written:]
        if self._fsync:
            os.fsync(descriptor)

    def _into_place(self, move: Callable[[str, str], None], temporary: str, key: str) -> None:
        path = self._path(key)
        try:
            move(temporary, path)
        except FileNotFoundError:
            _make_folder(path)
            move(temporary, path)
        if self._fsync:
            descriptor = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other `replace` of a version out, in this and other processes."""
        descriptor = _open(f"{self._root}/{_TEMPORARY}/{_LOCK}", os.O_WRONLY | os.O_CREAT)
        try:
            flock(descriptor, LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _plain(self, error: OSError, key: str, verb: str) -> StoreError:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        return StoreError(f"cannot {verb} {self._root}/{key}: {advice}")


def _open(path: str, flags: int) -> int:
    """Open for writing, with the folder made where it is missing and the mode that the user's umask leaves."""
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        _make_folder(path)
        return os.open(path, flags | os.O_CLOEXEC, 0o666)


def _make_folder(path: str) -> None:
    os.makedirs(path.rpartition("/")[0], exist_ok=True)  # noqa: PTH103 - twice as fast, once for each field
