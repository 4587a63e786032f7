"""What a person at a terminal sees of a running search: a live bar there, quiet lines elsewhere."""

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TextIO

from prefect_simopt.loop import Progress
from prefect_simopt.ranking import Scale
from prefect_simopt.spec import StudySpec
from prefect_simopt.trial import Status, Trial

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Terminal"]

QUIET_SECONDS = 10.0  # between lines where nobody watches a bar
SHOWN_FAILURES = 3  # failures told one by one; the rest are counted


class Terminal:
    """Observer and listener that writes to standard error.

    Args:
        spec: the study.
        stream: where to write; a live bar is drawn when it is a terminal.
    """

    def __init__(self, spec: StudySpec, stream: TextIO | None = None) -> None:
        self.spec, self.stream = spec, stream or sys.stderr
        self.scale = Scale(spec.objectives, spec.constraints, spec.fidelity)
        self.ended = self.failed = 0
        self.spoken = time.monotonic()
        self.best = ""
        self._bar: Bar | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[best]}"), console=Console(file=self.stream))
            self._task = self._bar.add_task(self.spec.name, total=self.spec.budget.trials, best="")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Write a line, above the bar when there is one."""
        with suppress(OSError):  # nobody reads it any more; the search goes on
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                print(line, file=self.stream, flush=True)

    def generation_started(self, number: int, trials: int) -> None:
        """Nothing to say: generations can be very many."""

    def trial_ended(self, trial: Trial) -> None:
        """Advance the bar; tell the first few failures."""
        self.ended += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self.ended)
        if trial.status is Status.FAILED:
            self.failed += 1
            if self.failed <= SHOWN_FAILURES:
                self.say(f"trial {trial.number} failed ({trial.reason}): {trial.message}")
            elif self.failed == SHOWN_FAILURES + 1:
                self.say("more trials failed; `simopt show` counts them")

    def generation_completed(self, number: int, progress: Progress) -> None:
        """Show the best so far."""
        self.ended = progress.told
        best = progress.ranking.best
        if best is not None:
            first = self.spec.objectives[0].metric
            self.best = f"best {first} = {best.metrics[first]:.6g} (trial {best.number})"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.told, total=progress.budget, best=self.best)
        elif time.monotonic() - self.spoken > QUIET_SECONDS:
            self.spoken = time.monotonic()
            self.say(
                f"{self.spec.name}: {progress.told} of {progress.budget} trials, {progress.failed} failed; {self.best}"
            )

    def progress(self, trial: int, fraction: float) -> None:
        """Nothing: the bar counts trials."""

    def log(self, trial: int, line: str) -> None:
        """Nothing: what simulators print is kept with the trial."""
