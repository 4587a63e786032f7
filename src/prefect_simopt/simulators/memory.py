"""How often the kernel has killed a process for want of memory, where this process runs."""

import re
from pathlib import Path

__all__ = ["Shortage", "out_of_memory_kills"]


def out_of_memory_kills() -> int:
    """Processes of this control group, a container's for example, that were killed so far; 0 where nobody counts."""
    for file in _counters():
        try:
            found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


class Shortage:
    """Notices that the kernel has killed for want of memory."""

    def __init__(self) -> None:
        self._kills = out_of_memory_kills()

    def seen(self) -> bool:
        """Whether it has since this was last asked."""
        kills, self._kills = self._kills, out_of_memory_kills()
        return self._kills > kills


def _counters() -> list[Path]:
    """Where the count may be: of this very group, or of the container whose root it is."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for _, controllers, path in (line.split(":", 2) for line in groups if line.count(":") >= 2):
        if not controllers:  # version 2
            files += [Path(f"/sys/fs/cgroup{path}/memory.events"), Path("/sys/fs/cgroup/memory.events")]
        elif "memory" in controllers.split(","):
            root = "/sys/fs/cgroup/memory"
            files += [Path(f"{root}{path}/memory.oom_control"), Path(f"{root}/memory.oom_control")]
    return files
