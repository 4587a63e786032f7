"""What one run finds around it: its own directory, and ways to speak to people."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["Workspace"]


class Workspace:
    """Made for a run, removed after it.

    Args:
        root: folder that the run's own directory is made in.
        progress: called with a fraction between 0 and 1.
    """

    def __init__(self, root: Path, progress: Callable[[float], None]) -> None:
        self._root = root
        self._progress = progress
        self._directory: Path | None = None

    def directory(self) -> Path:
        """An empty directory of the run's own."""
        if self._directory is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = Path(tempfile.mkdtemp(prefix="run-", dir=self._root))
        return self._directory

    def progress(self, fraction: float) -> None:
        """Say how far the run is, 0 to 1."""
        self._progress(min(max(float(fraction), 0.0), 1.0))

    def log(self, line: str) -> None:
        """Print a line."""
        sys.stdout.write(f"{line}\n")

    def remove(self) -> None:
        """Delete the directory with all that is in it."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
