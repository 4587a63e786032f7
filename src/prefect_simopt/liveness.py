"""Whether a process of this machine is still there, and still the same: numbers are given to others in time.

Imported by every simulator process, so it imports nothing beyond the standard library.
"""

import os
from pathlib import Path

__all__ = ["born", "is_gone"]


def born(pid: int) -> str:
    """When a process started, in a form to compare; empty when it has ended, or is hidden from us."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _born_by_ps(pid)
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else rest[18]


def is_gone(pid: int) -> bool:
    """Whether no process has that number any more, or only a dead one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # somebody else's
        return False
    return Path(f"/proc/{pid}").exists() and not born(pid)  # `/proc` may hide those of other users


def _born_by_ps(pid: int) -> str:
    import subprocess

    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()
