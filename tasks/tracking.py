"""A study opened inside a flow run: its batches are task runs, and Prefect shows how it stands."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import Pause, PrefectException, TerminationSignal
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from prefect_simopt.blocks.resolve import resolve_store
from prefect_simopt.compute import Place
from prefect_simopt.compute_config import WorkPoolComputeConfig
from prefect_simopt.errors import SimoptError, StudyFailedError, StudyInterrupted
from prefect_simopt.loop import Ending, Observer
from prefect_simopt.naming import under_free_name
from prefect_simopt.session import Session, StudyFinished, open_session
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import make_spec
from prefect_simopt.study import Study, open_study
from prefect_simopt.summary import sentence
from prefect_simopt.tasks.artifacts import Board
from prefect_simopt.tasks.evaluate import TrackedCompute
from prefect_simopt.tasks.narration import Narrator
from prefect_simopt.tasks.record import Recorder
from prefect_simopt.tasks.steering import PauseMirror, Review

__all__ = ["FinishedSession", "TrackedSession", "as_spec", "failed", "study_name", "tracked_session"]

_PERIOD = 2.0  # seconds between two looks at what the artifacts should show, and at whether the run was cancelled
_PATIENCE = 10.0  # seconds that a last request to Prefect's API may take


def study_name() -> str:
    """The name of the study that the current flow run was given: what the flow run is called."""
    study = flow_run.parameters.get("study")
    name = study.get("name") if isinstance(study, Mapping) else getattr(study, "name", None)
    return str(name or flow_run.flow_name)


class TrackedSession:
    """A study open inside a flow run.

    Args:
        review: generations after which somebody is to look at it; 0 for never.

    Attributes:
        session: the study.
        board: what the artifacts show.
        narrator: what the log and the events tell.
        asked: what Prefect is to get, once the search has stopped as it asked.
    """

    def __init__(self, session: Session, board: Board, narrator: Narrator, review: int = 0) -> None:
        self.session, self.board, self.narrator = session, board, narrator
        self._review = [Review(session, review, f"flow run {flow_run.name}")] if review else []
        self.asked: BaseException | None = None

    def search(self) -> Ending:
        """Search to the end, each batch as a part of a task run."""
        if not _is_supervised():
            return self._search()
        # Prefect tells a cancelled run by a signal, which it has to handle itself: it raises in the main thread, where
        # nothing of the search must be.
        result: Future[Ending] = Future()

        def search() -> None:
            try:
                result.set_result(self._search())
            except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
                result.set_exception(error)

        threading.Thread(target=copy_context().run, args=(search,), name="simopt-search", daemon=True).start()
        try:
            return result.result()
        except (TerminationSignal, KeyboardInterrupt) as asked:
            self.asked = asked
            self.session.stop.set()
            return result.result()

    def _search(self) -> Ending:
        session = self.session
        recorder = Recorder(session.record.flush, lambda: self.board.last)
        with TrackedCompute(session.compute, session.spec.compute.trials_per_task) as compute:
            observers: list[Observer] = [self.narrator, self.board, *self._review]
            return session.search(compute, observers=observers, flush=recorder)

    @property
    def study(self) -> Study:
        """The study as it is stored."""
        return open_study(self.session.location.url, self.session.location.options)

    def conclude(self, summary: Mapping[str, Any]) -> State[Any]:
        """The flow run's final state: the answer, that there is none, or that the search was stopped.

        Raises:
            TerminationSignal, KeyboardInterrupt, Pause: Prefect asked for the stop, and decides which state that is.
        """
        ending = self.session.ending
        self.narrator.completed(summary, str(ending))
        if ending is Ending.INTERRUPTED:
            if self.asked is not None:
                raise self.asked
            line = f"{sentence(dict(summary))}; run it again to go on"
            return Cancelled(message=line, data=StudyInterrupted(line))
        if summary["state"] == "failed":
            return failed(StudyFailedError(self.study.verdict))
        return Completed(message=f"{sentence(dict(summary))}; {ending}", data=dict(summary))


class FinishedSession:
    """A study that had ended before this flow run: there is nothing to search.

    Attributes:
        study: as it is stored.
        board: what the artifacts show.
    """

    def __init__(self, study: Study, board: Board) -> None:
        self.study, self.board = study, board

    def search(self) -> Ending:
        """Why it ended."""
        return Ending[self.study.ending.upper()]

    def conclude(self, summary: Mapping[str, Any]) -> State[Any]:
        """The flow run's final state: the answer, or that there is none."""
        if summary["state"] == "failed":
            return failed(StudyFailedError(self.study.verdict))
        return Completed(message=f"{sentence(dict(summary))}; it had ended before", data=dict(summary))


def as_spec(study: StudySpec | Mapping[str, Any]) -> StudySpec:
    """The spec that a flow was given, as a model or as a document.

    Raises:
        SpecError: with everything that is wrong with it.
    """
    return study if isinstance(study, StudySpec) else make_spec(study)


def failed(error: SimoptError) -> State[Any]:
    """The final state of a flow run that met an error: whoever called the flow gets it, the log has no traceback."""
    return Failed(message=str(error), data=error)


@contextmanager
def tracked_session(
    study: StudySpec | Mapping[str, Any], *, new: bool = False, wait: float = 0.0, review: int = 0
) -> Iterator[TrackedSession | FinishedSession]:
    """Open a study in the current flow run; closes it on the way out, whatever happens.

    Args:
        study: the spec, or a document of one.
        new: ask anew, under the next free name.
        wait: seconds to wait for another run of this study to end.
        review: pause after every so many generations; 0 never does.

    Raises:
        SpecError: the document is no spec; nothing was written.
        SimulatorError: the simulator cannot be started; nothing was written.
        StudyConflictError: the store holds another study of this name.
        LeaseError: another process is writing this study.
        StoreError: the store cannot be read or written.
    """
    spec, options = resolve_store(as_spec(study))
    if new:
        spec = under_free_name(spec, options)
    logger, run = get_run_logger(), UUID(flow_run.id)
    board, narrator = Board(spec, run), Narrator(spec, logger)
    listener = _Listener(board, narrator)
    stack = ExitStack()
    try:
        session = stack.enter_context(
            open_session(
                spec,
                options=options,
                listener=listener,
                signals=not _is_supervised(),
                place=_place(spec, logger),
                wait=wait,
            )
        )
    except StudyFinished as finished:
        logger.info("%s; nothing is run", finished)
        board.hold()
        board.recall(finished.study)
        yield FinishedSession(finished.study, board)
        return
    with stack:
        narrator.started(
            session.location.url, session.optimizer.type, session.compute.workers, created=session.record.created
        )
        tracked = TrackedSession(session, board, narrator, review)
        if not session.record.created:
            board.hold()
        companion = _Companion(tracked, run, logger)
        try:
            yield tracked
        finally:
            companion.stop()


def _place(spec: StudySpec, logger: Any) -> Place | None:
    """Where simulators run, when it is not this machine."""
    if not isinstance(spec.compute, WorkPoolComputeConfig):
        return None
    from prefect_simopt.tasks.dispatch import WorkPool
    from prefect_simopt.tasks.plan import planner

    return WorkPool(spec.name, spec.compute, planner(spec), spec.store.block, logger)


def _is_supervised() -> bool:
    """Whether a worker or `prefect flow-run execute` started this process, and cancels it by a signal."""
    return "PREFECT__FLOW_RUN_ID" in os.environ


class _RunLog(APILogHandler):
    """Sends what the core says to the log of the flow run in which it does."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


logging.getLogger("prefect_simopt").addHandler(_RunLog())
logging.getLogger("prefect_simopt").setLevel(logging.INFO)


class _Listener:
    """Hands what simulators say to those whom it concerns."""

    def __init__(self, board: Board, narrator: Narrator) -> None:
        self.progress, self.log = board.progress, narrator.log


class _Companion:
    """Talks to Prefect's API beside the search: writes artifacts, and notices that the run was cancelled."""

    def __init__(self, tracked: TrackedSession, run: UUID, logger: Any) -> None:
        self._tracked, self._run, self._logger = tracked, run, logger
        self._mirror = PauseMirror(tracked.session, run, logger)
        self._ended = threading.Event()
        # The context tells which server is ours.
        context = copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._accompany,), name="simopt-companion", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End, waiting for a request that is under way."""
        self._ended.set()
        self._thread.join(_PATIENCE)

    def _accompany(self) -> None:
        try:
            if not self._tracked.session.record.created:
                self._tracked.board.recall(self._tracked.study)
            with get_client(sync_client=True) as client:
                while not self._ended.wait(_PERIOD):
                    self._look(client)
        except Exception as error:  # noqa: BLE001 - whatever ails Prefect's API, the search goes on
            self._logger.warning("what Prefect shows of the study stays as it is until the end: %s", error)

    def _look(self, client: SyncPrefectClient) -> None:
        try:
            self._tracked.board.publish(client)
            if (state := client.read_flow_run(self._run).state) is None:
                return
            if state.is_paused() and state.name == "Suspended":
                self._leave("suspended", Pause(state=state))
            elif not _is_supervised() and (state.is_cancelling() or state.is_cancelled()):
                self._leave("cancelled")
            else:
                self._mirror.look(client, state)
        except (HTTPError, PrefectException) as error:
            self._logger.warning("Prefect's API does not answer (%s); the study goes on", error)

    def _leave(self, why: str, asked: BaseException | None = None) -> None:
        stop = self._tracked.session.stop
        if not stop.requested:
            self._logger.info("%s: running simulators get %g s to finish", why, stop.grace)
            self._tracked.asked = asked
            stop.set()
