"""Batches as flow runs on a work pool: started, watched, begun again where a pod was lost, and stopped.

A batch is written down in the study's store; a flow run of the deployment `evaluate` runs it and leaves outcomes there.
One thread watches all of them. What a lost pod had finished is kept; the run that it was in counts as killed, and what
it had not begun is given to another one.
"""

import contextlib
import hashlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from prefect_simopt.assignment import FOLDER
from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.errors import ComputeError, SimoptError
from prefect_simopt.outcomes import OutcomeSink, find_outcomes
from prefect_simopt.simulators.transport import SimulatorInfo
from prefect_simopt.storage import StudyLocation
from prefect_simopt.tasks.batch import UNUSABLE
from prefect_simopt.tasks.child import Child, Plan
from prefect_simopt.tasks.cluster import Cluster
from prefect_simopt.tasks.diagnosis import Diagnosis, diagnose, why_crashed
from prefect_simopt.tasks.launch import Launcher, pod_variables
from prefect_simopt.tasks.memory import PodMemory
from prefect_simopt.tasks.pace import Logger
from prefect_simopt.tasks.pool import Pool, check_reachable, find_pool
from prefect_simopt.tasks.startup import StartWatch
from prefect_simopt.tasks.sweep import STUDY, cancel_run, read_runs, sweep
from prefect_simopt.trial import Outcome, Reason, Run

__all__ = ["WorkPool"]

POLL = 1.0  # seconds between two looks at the flow runs
API_PATIENCE = 600.0  # seconds that Prefect's API may be away
STOP_SECONDS = 30.0  # that flow runs have left to end, beside the grace of their simulators
REMOVE_SECONDS = 3.0  # the same, where their pods can be removed from here
CRASH_SECONDS = 6.0  # that Kubernetes and Prefect's worker may take to say why a pod has crashed
BARREN = 3  # flow runs in a row, of one batch, that end without any outcome and without a reason of the simulator's


class WorkPool:
    """Runs simulators in flow runs on a work pool.

    Args:
        name: of the study.
        config: of its spec.
        plan: makes what is told to every pod; raises `SimoptError` where the simulator is wrong.
        block: StudyStore block that pods take their credentials from.
        logger: of the flow run.

    Attributes:
        workers: batches at the same time.
        needs_task_run: a batch's flow run is to be part of the task run that it is submitted in.
    """

    batch_seconds = 90.0
    fill_batches = True
    needs_task_run = True

    def __init__(
        self,
        name: str,
        config: WorkPoolComputeConfig,
        plan: Callable[[Pool], Plan],
        block: str | None,
        logger: Logger,
    ) -> None:
        self.workers = config.max_pods
        self._name, self._config, self._make_plan, self._block = name, config, plan, block
        self._logger = logger
        self._memory = PodMemory(config, logger)
        self._children: list[Child] = []
        self._changed = threading.Condition()
        self._ending = self._closed = False
        self._remove_by = self._stop_by = math.inf
        self._error: SimoptError | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._watch,), name="simopt-pool", daemon=True)

    # What a session does with it

    def start(self) -> SimulatorInfo:
        """Look at the pool and at the simulator; nothing is written or started.

        Raises:
            SpecError: there is no such pool, or it cannot give what the spec asks for.
            SimulatorError: the simulator is missing or broken.
        """
        with get_client(sync_client=True) as client:
            self._pool = find_pool(client, self._config.pool)
            self._plan = self._make_plan(self._pool)
            pod_variables(self._pool, self._plan, self._config, self._memory.size)  # refused now, if it is
            self._deployment = self._pool.deployment(client)
            if idle := self._pool.idle(client):
                self._logger.warning("%s", idle)
        self._cluster = Cluster(self._pool.kind)
        self._startup = StartWatch(self._pool, self._cluster, self._config, self._logger)
        return self._plan.info

    def attach(self, location: StudyLocation, capacity: int, token: str = "") -> None:
        """Say where the study is, before the first `submit`; ends what an earlier flow of it has left running.

        Raises:
            ComputeError: pods cannot see that place.
            StoreError: it cannot be written.
        """
        from prefect_simopt.simulators.bundle import upload

        check_reachable(self._pool.kind, location.url, self._config)
        self._location, self._storage = location, location.storage()
        tag = f"{STUDY}{hashlib.sha256(location.url.encode()).hexdigest()[:16]}"
        self._launcher = Launcher(
            name=self._name,
            url=location.url,
            storage=self._storage,
            config=self._config,
            plan=self._plan,
            pool=self._pool,
            deployment=self._deployment,
            block=self._block,
            code=upload(self._storage, self._plan.archive),
            capacity=capacity,
            token=token,
            tag=tag,
        )
        with get_client(sync_client=True) as client:
            if left := sweep(client, tag, patience=STOP_SECONDS):
                self._logger.info("ended %d flow runs that an earlier run of this study had left", left)
        self._storage.delete([f"{FOLDER}/{name}" for name in self._storage.names(FOLDER)])
        self._thread.start()

    def submit(self, runs: Sequence[Run]) -> "Future[list[Outcome]]":
        """Start a batch; its flow run becomes part of the task run of the thread that calls."""
        child = Child(list(runs), copy_context())
        with self._changed:
            if self._error is not None:
                child.future.set_exception(self._error)
            elif self._ending or not child.wanted:
                child.future.set_result([])
            else:
                child.future.set_running_or_notify_cancel()
                self._children.append(child)
                self._changed.notify_all()
        return child.future

    def cancel(self, grace: float = 5.0) -> None:
        """Start nothing more, and cancel all flow runs; what they are in has a few seconds left. Returns at once."""
        with self._changed:
            if not self._ending:
                self._ending = True
                self._remove_by = time.monotonic() + grace + REMOVE_SECONDS
                self._stop_by = time.monotonic() + grace + STOP_SECONDS
            self._changed.notify_all()

    def kill(self) -> None:
        """Watch no more: a flow run whose study is gone ends after its run in progress."""
        self._ending = self._closed = True

    def close(self) -> None:
        """End every flow run that this place started. Idempotent."""
        self.cancel(0.0)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2 * STOP_SECONDS)

    # The watch

    def _watch(self) -> None:
        reached = time.monotonic()
        while not self._closed:
            with self._changed:
                if self._ending and not self._children:
                    return
                self._changed.wait(POLL if self._children else None)
            try:
                with get_client(sync_client=True) as client:
                    self._round(client)
                reached = time.monotonic()
            except (HTTPError, PrefectException, RuntimeError) as error:
                if time.monotonic() - reached > API_PATIENCE or time.monotonic() > self._stop_by:
                    self._break(ComputeError(f"Prefect's API does not answer ({error}); run the study again to go on"))
                    return
                self._logger.warning("Prefect's API does not answer (%s); pods go on", error)
                time.sleep(POLL)
            except SimoptError as error:
                self._break(error)
            except Exception as error:  # nobody may wait for it
                self._break(ComputeError(f"the watch over the work pool failed: {error!r}"))
                raise

    def _round(self, client: SyncPrefectClient) -> None:
        """Start what is due, and look at what runs."""
        now = time.monotonic()
        with self._changed:
            children = list(self._children)
        room = self.workers - sum(child.run is not None for child in children)
        due = [child for child in children if child.run is None and not self._ending and child.due <= now]
        for child in due[: max(room, 0)]:
            self._start(child)
        runs = read_runs(client, [child.run for child in children if child.run is not None])
        running = {key for key, run in runs.items() if run.state is not None and run.state.is_running()}
        if self._ending:
            self._stop(client, children, runs)
        else:
            self._collect([child for child in children if child.run in running and not child.answered])
        self._startup.begin_round(busy=bool(running))
        for child in children:
            if child.run is None or (run := runs.get(child.run)) is None or run.state is None:
                continue
            if run.state.is_final():
                self._ended(client, child, run, run.state)
            elif not self._ending and not run.state.is_running():
                if child.answered:
                    self._discard(client, child)
                elif run.run_count > child.taken and not run.state.is_cancelling():
                    self._taken_away(client, child, run)
                else:
                    self._startup.look(client, child, run)

    def _start(self, child: Child) -> None:
        child.memory = self._memory.size
        child.run = self._launcher.start(child, child.memory)
        child.begun = child.looked = time.monotonic()
        child.trouble, child.troubled, child.told, child.taken = Diagnosis(), 0.0, False, 0

    def _taken_away(self, client: SyncPrefectClient, child: Child, run: FlowRun) -> None:
        """Prefect starts a run anew whose pod was taken away: not for ever, and not one that has had its time."""
        child.taken = run.run_count
        if run.run_count >= BARREN or diagnose(client, run, self._cluster).kind == "Deadline":
            self._cluster.remove(run.id)
            cancel_run(client, run.id, force=True)
            self._ended(client, child, run, Crashed(message="its pod was taken away"))

    def _discard(self, client: SyncPrefectClient, child: Child) -> None:
        """A pod was taken away that had nothing more to do: it is not to begin anew."""
        if child.run is not None:
            self._cluster.remove(child.run)
            cancel_run(client, child.run, force=True)
        self._resolve(child)

    # When it has ended

    def _collect(self, children: Sequence[Child]) -> None:
        """Hand over the batches whose outcomes are all there: their flow runs end by themselves, seconds later."""
        wanted = {child: [run for run in child.wanted if _key(run) not in child.early] for child in children}
        found = find_outcomes(self._storage, [run for runs in wanted.values() for run in runs])
        for child, runs in wanted.items():
            child.early |= {_key(run): found[_key(run)] for run in runs if _key(run) in found}
            if all(_key(run) in child.early for run in child.wanted):
                child.outcomes |= child.early
                if any(outcome.reason is Reason.MEMORY for outcome in child.early.values()):
                    self._memory.grow(child.memory)
                self._hand_over(child)

    def _ended(self, client: SyncPrefectClient, child: Child, run: FlowRun, state: State[Any]) -> None:
        found = find_outcomes(self._storage, child.wanted)
        fruitful = bool(found)
        child.outcomes |= found
        short = any(outcome.reason is Reason.MEMORY for outcome in found.values())
        if self._ending or not child.wanted:
            if short:
                self._memory.grow(child.memory)
            self._resolve(child)
            return
        child.tries += 1
        child.barren = 0 if fruitful else child.barren + 1
        child.run = None
        why = self._verdict(client, child, run, state, short)
        self._launcher.forget(child)
        if not child.wanted:
            self._resolve(child)
            return
        if child.barren >= BARREN:
            raise ComputeError(f"{child.barren} flow runs in a row could not run {child.name}; the last: {why}")
        self._logger.warning("%s: %s; %d of its trials are given to another one", run.name, why, len(child.wanted))
        child.due = time.monotonic() + (2.0**child.barren if child.barren else 0.0)

    def _verdict(self, client: SyncPrefectClient, child: Child, run: FlowRun, state: State[Any], short: bool) -> str:
        """Why a flow run ended before its batch, and what that means for the run that it was in."""
        message = state.message or state.name or "it ended"
        if state.name == UNUSABLE:
            raise ComputeError(f"the simulator cannot be started on the work pool {self._pool.name}: {message}")
        if state.is_completed() or state.is_failed():
            return message
        if state.is_cancelled():
            return "it was cancelled" if run.start_time else "it was cancelled before it had started"
        found = why_crashed(client, run, self._cluster, CRASH_SECONDS if self._pool.kind == "kubernetes" else 0.0)
        reason = Reason.MEMORY if found.kind == "OOMKilled" else Reason.KILLED
        if reason is Reason.MEMORY or short:
            self._memory.grow(child.memory)
        why = f"{message} ({found})" if str(found) else message
        if run.start_time is not None and found.kind not in ("Evicted", "Disrupted"):
            self._blame(child, reason, why)
        return why

    def _blame(self, child: Child, reason: Reason, why: str) -> None:
        """The first run without an outcome is taken to be the one that the pod was in: it has failed."""
        wanted = child.wanted
        culprits = wanted if self._plan.info.batch else wanted[:1]
        if not culprits:
            return
        message, worker = f"its pod was lost: {why}", str(child.run or "pod")
        outcomes = OutcomeSink(self._location).put_failed(culprits, reason, message, worker)
        child.outcomes |= {(each.trial, each.replicate): each for each in outcomes}

    def _resolve(self, child: Child) -> None:
        with self._changed:
            if child not in self._children:
                return
            self._children.remove(child)
        self._launcher.forget(child)
        if not child.answered:
            self._hand_over(child)

    def _hand_over(self, child: Child) -> None:
        child.answered = True
        keys = [_key(run) for run in child.runs]
        child.future.set_result([child.outcomes[key] for key in keys if key in child.outcomes])

    # Ending

    def _stop(self, client: SyncPrefectClient, children: Sequence[Child], runs: Mapping[UUID, FlowRun]) -> None:
        """Cancel what runs; what has not started, or does not end in time, is removed."""
        overdue, late = time.monotonic() > self._remove_by, time.monotonic() > self._stop_by
        for child in children:
            if child.run is None:
                self._resolve(child)
            elif child.answered and not late:
                continue  # it is ending
            elif (overdue and self._cluster.remove(child.run)) or late:
                cancel_run(client, child.run, force=True)
                child.outcomes |= find_outcomes(self._storage, child.wanted)
                self._resolve(child)
            elif not child.told:
                child.told = True
                pending = child.run in runs and runs[child.run].start_time is None
                cancel_run(client, child.run)
                if pending and self._cluster.remove(child.run):
                    cancel_run(client, child.run, force=True)

    def _break(self, error: SimoptError) -> None:
        """This place is broken: every batch fails with the error, and its flow runs are cancelled."""
        with self._changed:
            self._error = self._error or error
            children = list(self._children)
        for child in children:
            with contextlib.suppress(Exception):
                child.future.set_exception(self._error)
            child.future = Future()
        self.cancel(0.0)


def _key(run: Run) -> tuple[int, int]:
    return run.trial, run.replicate
