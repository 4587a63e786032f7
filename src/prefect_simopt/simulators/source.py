"""Programs built from a git repository: once per revision, shared by all trials and studies of a user."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.capture import last_lines

__all__ = ["checkout"]

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_READY = ".git/simopt-built"


def checkout(source: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Clone and build a revision, unless that was done before.

    Args:
        source: the spec's `SourceRevision` as a document.
        directory: folder that a local repository's path is relative to.

    Returns:
        `source`, the folder of the built checkout, and `revision`, the full commit.

    Raises:
        SimulatorError: git is missing, the repository or revision cannot be had, or the build failed.
    """
    if shutil.which("git") is None:
        raise SimulatorError("simulator.source needs git, which is not on PATH; install git")
    url = source["url"]
    if "://" not in url and (directory / url).exists():
        url = str((directory / url).resolve())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-simopt" / "sources"
    cache /= hashlib.sha256(url.encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "lock"):
        mirror = cache / "mirror.git"
        commit = _resolve(mirror, url, source["revision"])
        built = hashlib.sha256(orjson.dumps([commit, source["build"]])).hexdigest()[:16]
        place = cache / built
        if not (place / _READY).exists():
            _build(mirror, url, commit, place, source["build"])
    return {"source": str(place), "revision": commit}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:  # the kernel unlocks it when its holder dies
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resolve(mirror: Path, url: str, revision: str) -> str:
    """The commit of a revision; the repository is asked for news unless the revision can only mean one commit."""
    if not (mirror / "HEAD").exists():
        shutil.rmtree(mirror, ignore_errors=True)
        partial = mirror.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _git(["clone", "--quiet", "--mirror", "--", url, str(partial)], url)
        partial.rename(mirror)
    elif not (_COMMIT.fullmatch(revision) and _commit(mirror, revision)):
        _git(["-C", str(mirror), "fetch", "--quiet", "--prune", "origin"], url)
    for name in (f"refs/tags/{revision}", f"refs/heads/{revision}", revision):
        if commit := _commit(mirror, name):
            return commit
    raise SimulatorError(f"simulator.source: {_without_secrets(url)} has no revision {revision!r}")


def _commit(mirror: Path, name: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(mirror), "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}"],
        check=False, capture_output=True, text=True, env=_environment(),
    )  # fmt: skip
    return found.stdout.strip() if found.returncode == 0 else ""


def _build(mirror: Path, url: str, commit: str, place: Path, build: Sequence[str]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    _git(["clone", "--quiet", "--no-checkout", "--", str(mirror), str(place)], url)
    _git(["-C", str(place), "remote", "set-url", "origin", url], url)
    _git(["-C", str(place), "checkout", "--quiet", "--detach", commit], url)
    if (place / ".gitmodules").exists():
        _git(["-C", str(place), "submodule", "--quiet", "update", "--init", "--recursive"], url)
    if build:
        words = [word.replace("{source}", str(place)) for word in build]
        try:
            ended = subprocess.run(
                words,
                check=False,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise SimulatorError(f"simulator.source.build: {words[0]!r} cannot be started: {error.strerror}") from None
        if ended.returncode:
            raise SimulatorError(
                f"simulator.source.build: {' '.join(words)} ended with exit code {ended.returncode} in {place}; "
                f"the last it printed:\n{last_lines(ended.stdout)}"
            )
    (place / _READY).touch()


def _git(arguments: Sequence[str], url: str) -> None:
    ended = subprocess.run(["git", *arguments], check=False, capture_output=True, env=_environment())
    if ended.returncode:
        said = _without_secrets(last_lines(ended.stderr, 5)) or f"git ended with exit code {ended.returncode}"
        raise SimulatorError(f"simulator.source: {_without_secrets(url)}: {said}")


def _environment() -> dict[str, str]:
    """For git: it asks nobody for a password and follows no address that runs a program."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "LC_ALL": "C"}


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)
