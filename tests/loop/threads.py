"""A compute that runs Python functions in threads: for testing the loop by the thousand."""

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from prefect_simopt.outcomes import OutcomeSink
from prefect_simopt.trial import Outcome, Reason, Status


class Died(Exception):
    """Stands for the death of the process at a chosen moment."""


class ThreadCompute:
    """Calls `function(**parameters)` in threads; outcomes go to the store's outcomes before futures resolve."""

    batch_seconds = 0.01
    fill_batches = False

    def __init__(self, function, location, workers=1, die_after=None):
        self.function, self.workers = function, workers
        self.sink = OutcomeSink(location)
        self.pool = ThreadPoolExecutor(workers)
        self.calls = []
        self.die_after = die_after
        self.lock = threading.Lock()
        self.cancelled = False

    def submit(self, runs) -> Future:
        return self.pool.submit(self._evaluate, runs)

    def _evaluate(self, runs):
        return [self._run(run) for run in runs if not self.cancelled]

    def _run(self, run):
        with self.lock:
            if self.die_after is not None and len(self.calls) >= self.die_after:
                raise Died
            self.calls.append((run.trial, run.replicate, run.attempt))
        try:
            value = self.function(**run.parameters)
        except Exception as error:
            outcome = Outcome(run.trial, Status.FAILED, run.replicate, reason=Reason.EXCEPTION, message=repr(error),
                              attempt=run.attempt)  # fmt: skip
        else:
            metrics = value if isinstance(value, dict) else {"value": value}
            assert all(map(math.isfinite, metrics.values()))
            outcome = Outcome(run.trial, Status.COMPLETE, run.replicate, metrics=metrics, attempt=run.attempt)
        self.sink.put_outcomes([outcome])
        return outcome

    def cancel(self, grace=5.0):
        self.cancelled = True

    def close(self):
        self.pool.shutdown()
