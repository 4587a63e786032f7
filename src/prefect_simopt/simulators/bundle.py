"""A simulator's own files as one object of the store, so that a pod that shares no disk with the flow has them too."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect_simopt.errors import SimulatorError, StoreError
from prefect_simopt.simulators.staging import target_of
from prefect_simopt.storage import Storage, checked_key

__all__ = ["pack", "unpack", "upload"]

FOLDER = "code"
LIMIT = 64 * 2**20  # bytes: it is loaded whole, by every pod
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "dist-packages", "build", "dist"}


def pack(simulator: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A simulator's files, and the simulator as it is beside them.

    Of a Python simulator that is found in its directory, all modules there and below are taken along; of a command its
    `files` and `templates`. The same files give the same bytes.

    Args:
        simulator: the spec's simulator as a document.

    Returns:
        The document with paths relative to where the files are unpacked, and a tar archive; empty without files.

    Raises:
        SimulatorError: a file is missing, or they are larger than 64 MiB.
    """
    base = Path(simulator.get("directory") or ".").expanduser().absolute()
    document = {**simulator, "directory": None}
    files: dict[str, Path] = {}
    if simulator["type"] == "python":
        if _is_in(base, simulator["entrypoint"].rpartition(":")[0]):
            files = dict(_modules(base))
    else:
        for given in [*simulator["files"], *simulator["templates"].values()]:
            if not (base / given).exists():
                raise SimulatorError(f"simulator: there is no {base / given}; paths are relative to {base}")
            files |= dict(_below(base / given, target_of(given)))
        document["files"] = [target_of(given) for given in simulator["files"]]
        document["templates"] = {target: target_of(given) for target, given in simulator["templates"].items()}
    total = sum(path.stat().st_size for path in files.values())
    if total > LIMIT:
        raise SimulatorError(
            f"the simulator's files below {base} have {total / 2**20:.0f} MiB; what pods get with the study may have "
            f"{LIMIT // 2**20}: put the rest into the image"
        )
    return document, _archive(files) if files else b""


def upload(storage: Storage, archive: bytes) -> str:
    """Write an archive under the SHA-256 of its bytes, unless it is there; returns its key, empty for no archive.

    Raises:
        StoreError: the store cannot be written.
    """
    if not archive:
        return ""
    key = f"{FOLDER}/{hashlib.sha256(archive).hexdigest()}.tar"
    if storage.age(key) is None:
        storage.write(key, archive)
    return key


def unpack(storage: Storage, key: str, folder: Path) -> None:
    """Unpack the archive of that key, if there is one, into a folder.

    Raises:
        StoreError: it is missing, or it is not what was written, or a name in it leads out of the folder.
    """
    if not key:
        return
    data = storage.read(key) or b""
    if f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.tar" != key:
        raise StoreError(f"{storage.url}/{key}, the simulator's files, is missing or damaged; run the study again")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            if (file := archive.extractfile(entry)) is not None:
                place = folder / checked_key(entry.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read())
                place.chmod(entry.mode & 0o777)


def _is_in(base: Path, place: str) -> bool:
    """Whether a file or module is found in the folder."""
    if place.endswith(".py"):
        return True
    top = place.partition(".")[0]
    return (base / f"{top}.py").is_file() or (base / top / "__init__.py").is_file()


def _modules(base: Path) -> Iterator[tuple[str, Path]]:
    """Python modules in a folder and below, by relative path; environments and hidden folders are left out."""
    for path in sorted(base.iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_OUT:
            continue
        if path.is_dir():
            if (path / "pyvenv.cfg").exists():
                continue
            yield from ((f"{path.name}/{name}", inner) for name, inner in _modules(path))
        elif path.suffix == ".py" or (path.suffix == ".so" and path.is_file()):
            yield path.name, path


def _below(path: Path, target: str) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield target, path
        return
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            yield f"{target}/{inner.relative_to(path)}", inner


def _archive(files: Mapping[str, Path]) -> bytes:
    """A tar archive without times and owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(files.items()):
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
