"""What the operating system knows about processes: parents, descendants, and how they end.

Linux offers all of it. Elsewhere the Linux-only parts do nothing, and what they guard against (children that left
their process group, a supervisor that was killed) is left to the process groups.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from prefect_simopt.liveness import is_gone

__all__ = ["adopt_orphans", "children", "die_with_parent", "end_descendants", "marked", "shut_down"]

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


_libc = ctypes.CDLL(None)  # loaded before any fork: in a child that is about to become a program, it would take long


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        _libc.prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, known to be `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the request was made
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children(process: int | str = "self") -> list[int]:
    """Direct children of a process, those of its threads included; zombies too."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - pathlib takes four times as long
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{process}/task/{thread}/children").read_bytes().split())
    return found


def descendants(processes: list[int]) -> list[int]:
    """The processes and all that descend from them."""
    found = list(processes)
    for process in found:
        found += children(process)
    return found


def end_descendants(roots: list[int] | None = None) -> None:
    """Kill the given children of this process (left out: all) with all their descendants, and reap them.

    In a process that adopts orphans, a grandchild whose parent dies becomes a child, so that going round until no
    child is left leaves nobody behind.
    """
    only = None if roots is None else set(roots)
    deadline = time.monotonic() + 5.0
    before = set(children()) - (only or set())
    while time.monotonic() < deadline:
        targets = [child for child in children() if only is None or child in only or child not in before]
        if not targets:
            return
        for process in descendants(targets):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        for child in targets:
            _reap(child, deadline)


def _reap(child: int, deadline: float) -> None:
    pause = 0.0001
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.01)


def marked(name: str, value: str) -> list[int]:
    """Processes that were started with the environment variable `name=value`, whoever their parent is now."""
    needle = f"{name}={value}".encode()
    found = []
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if needle in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                        found.append(int(entry))
    return found


def shut_down(name: str, value: str) -> None:
    """Kill every process that was started with `name=value` in its environment."""
    for _ in range(100):
        living = [process for process in marked(name, value) if process != os.getpid() and not is_gone(process)]
        if not living:
            return
        for process in living:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
