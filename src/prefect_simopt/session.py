"""A study opened to be worked on: its simulators started, its record held, its search one call away."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_simopt.cache import Cache
from prefect_simopt.compute import Compute, Listener, Place
from prefect_simopt.compute_config import LocalComputeConfig
from prefect_simopt.errors import (
    CorruptionError,
    LeaseError,
    NoStudyError,
    Problem,
    SimoptError,
    SimulatorError,
    SpecError,
)
from prefect_simopt.evaluation import StopRequest
from prefect_simopt.hierarchy import study_attributes
from prefect_simopt.loop import Ending, Observer, Search
from prefect_simopt.optimizers.auto import choose
from prefect_simopt.optimizers.make import make_config, make_optimizer
from prefect_simopt.record import Record
from prefect_simopt.requests import pending
from prefect_simopt.signals import stop_on_signals
from prefect_simopt.simulators.devices import available_workers
from prefect_simopt.simulators.local import LocalCompute, SimulatorInfo
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study, open_study
from prefect_simopt.versions import provenance

__all__ = [
    "Session",
    "StudyFinished",
    "carried_function",
    "check_relations",
    "local_compute",
    "open_session",
    "pick_optimizer",
    "stop_if_finished",
    "study_location",
    "watchers",
]

_log = logging.getLogger("prefect_simopt")

_BRING_POINTS = ("points", "generator")  # these have points of their own, however rare they are

carried_function: ContextVar[Callable[..., Any] | None] = ContextVar("carried_function", default=None)
"""A simulator without an importable name, on its way to `open_session` through code that only carries specs."""

watchers: ContextVar[Sequence[Observer]] = ContextVar("watchers", default=())
"""Observers of any search begun below, through code that knows nothing of them."""


@dataclass
class Session:
    """An open study.

    Attributes:
        spec: the question.
        location: where the study lives.
        record: its record, of which this process is the only writer.
        compute: its simulators, started.
        info: what is known of its simulator.
        stop: set it to end the search early.
        ending: why the search ended; None before.
        optimizer: configuration of what searches: the spec's, or what was picked when the study first ran.
    """

    spec: StudySpec
    location: StudyLocation
    record: Record
    compute: Place
    info: SimulatorInfo
    stop: StopRequest = field(default_factory=StopRequest)
    ending: Ending | None = None
    optimizer: Any = None

    def search(
        self,
        compute: Compute | None = None,
        observers: Sequence[Observer] = (),
        flush: Callable[[], None] | None = None,
    ) -> Ending:
        """Search to the end.

        Args:
            compute: takes the place of the session's own, to track batches for example.
            observers: who wants to see it.
            flush: takes the place of `record.flush`, to track that as well.
        """
        search = Search(
            self.spec if self.optimizer is None else self.spec.model_copy(update={"optimizer": self.optimizer}),
            self.record,
            compute or self.compute,
            self.info.batch,
            [*observers, *watchers.get()],
            self.stop,
            flush or self.record.flush,
            Cache(self.spec, self.location, self.info.identity, capacity=self.record.capacity),
        )
        try:
            self.ending = search.run()
        except SimulatorError:  # a stop of everything hits simulators that are still loading, too
            if not self.stop.requested:
                raise
            self.ending = Ending.INTERRUPTED
        return self.ending


def study_location(spec: StudySpec, options: Mapping[str, Any] | None = None) -> StudyLocation:
    """Where the spec's study lives: absolute, since simulators' processes have other working directories."""
    url = spec.store.url.rstrip("/") or "/"
    if "://" not in url:
        url = str(Path(url).expanduser().absolute())
    return StudyLocation(f"{url}/{spec.name}", dict(options or {}))


def local_compute(
    spec: StudySpec,
    *,
    workers: int | None = None,
    function: Callable[..., Any] | None = None,
    listener: Listener | None = None,
) -> LocalCompute:
    """The spec's simulator on this machine, not yet started; `workers` takes the place of the spec's."""
    wanted = spec.compute.workers if isinstance(spec.compute, LocalComputeConfig) else "auto"
    return LocalCompute(
        spec.simulator,
        space_names=spec.keywords,
        conditional=spec.conditional,
        slopes=spec.slopes,
        workers=workers or (available_workers() if wanted == "auto" else wanted),
        timeout=spec.compute.timeout,
        function=function,
        listener=listener,
        required_metrics=spec.metrics,
    )


def _here(spec: StudySpec, function: Callable[..., Any] | None, listener: Listener | None) -> LocalCompute:
    if not isinstance(spec.compute, LocalComputeConfig):
        way_out = "leave out --untracked, or run the study on this machine: --set compute='{type: local}'"
        raise SpecError([Problem("compute.type", f"a work pool is reached through Prefect; {way_out}", "work_pool")])
    return local_compute(spec, function=function, listener=listener)


def check_relations(spec: StudySpec) -> None:
    """See that relations leave something to search, as far as any optimizer could tell.

    Raises:
        SpecError: no point was found that satisfies them.
    """
    if spec.relations and spec.optimizer.type not in _BRING_POINTS:
        make_optimizer("random", spec.make_space(), seed=0).ask(1)


def pick_optimizer(spec: StudySpec, earlier: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The optimizer's configuration, and why it is that one.

    Args:
        spec: the question.
        earlier: what an earlier run of the study recorded, which stays.
    """
    if spec.optimizer.type != "auto":
        return spec.optimizer, f"{spec.optimizer.type}, as the study says"
    if earlier is not None:
        return make_config(earlier), f"{earlier['type']}, which was picked when the study began"
    workers = getattr(spec.compute, "workers", "auto")
    return choose(
        spec.optimizer,
        spec.make_space(),
        objectives=len(spec.objectives),
        trials=spec.points,
        parallel=workers if isinstance(workers, int) else 1,
        replicates=spec.replicates,
    )


def _picked_before(location: StudyLocation) -> Mapping[str, Any] | None:
    attributes = study_attributes(location.storage()) or {}
    found: Mapping[str, Any] | None = attributes.get("provenance", {}).get("optimizer")
    return found


class StudyFinished(SimoptError):  # noqa: N818 - it is the answer, no error
    """The study has ended, and the spec asks nothing more of it.

    Attributes:
        study: as it is stored.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(
            f"{study.url} is finished ({study.ending.replace('_', ' ')}); another name, or `new`, asks again"
        )
        self.study = study


def _claimed(spec: StudySpec, location: StudyLocation, wait: float) -> Record:
    """The record of a study that has not ended, as soon as nobody else writes it."""
    stop_if_finished(spec, location)
    begin = time.monotonic()
    waited = False
    while True:
        try:
            record = Record.claim(location, spec=spec)
            break
        except LeaseError as error:
            left = begin + wait - time.monotonic()
            if left <= 0:
                raise
            if not waited:
                _log.warning("%s This one waits for it, up to %g s.", error, wait)
            waited = True
            time.sleep(min(left, 0.5))
    try:
        if waited:
            stop_if_finished(spec, location)
    except BaseException:
        record.close("interrupted")
        raise
    return record


def stop_if_finished(spec: StudySpec, location: StudyLocation) -> None:
    """Say that there is nothing left to do.

    Raises:
        StudyFinished: the study has ended, and the spec asks nothing more of it.
    """
    try:
        study = open_study(location.url, location.options)
        stored = StudySpec.model_validate(study.spec)
        ended = study.ending not in ("", "interrupted")
    except (NoStudyError, CorruptionError, ValueError):  # opening it to write says what is wrong with it
        return
    answered = ended and stored.question == spec.question and stored.budget == spec.budget
    if answered and not pending(location.storage()):
        raise StudyFinished(study)


@contextmanager
def open_session(
    spec: StudySpec,
    *,
    options: Mapping[str, Any] | None = None,
    function: Callable[..., Any] | None = None,
    listener: Listener | None = None,
    signals: bool = True,
    place: Place | None = None,
    wait: float = 0.0,
) -> Iterator[Session]:
    """Become the study's writer, start its simulators, open its record; undoes it all on the way out.

    Args:
        spec: the question.
        options: how to reach the store: s3fs's storage options, credentials among them.
        function: the simulator itself, when it has no importable name (a notebook's function).
        listener: hears what simulators print and how far they are.
        signals: whether SIGINT and SIGTERM ask the search to stop; without it that is up to the caller.
        place: where simulators run; left out, this machine.
        wait: seconds to wait for another run of this study to end.

    Raises:
        StudyFinished: there is nothing left to do; nothing was started or written.
        SpecError: the spec names a place that cannot be reached from here, or its relations leave nothing.
        SimulatorError: the simulator cannot be started; nothing was written.
        StudyConflictError: the store holds another study of this name.
        LeaseError: another process is writing this study; nothing was started.
        StoreError: the store cannot be read or written.
    """
    location = study_location(spec, options)
    begun = False
    session: Session | None = None
    try:
        with ExitStack() as stack:
            record = _claimed(spec, location, wait)
            stack.callback(
                lambda: record.close(session.ending.name.lower() if session and session.ending else "interrupted")
            )
            if not record.earlier:
                check_relations(spec)
            compute = place or _here(spec, function or carried_function.get(), listener)
            stack.callback(compute.close)
            info = compute.start()
            optimizer, reason = pick_optimizer(spec, _picked_before(location))
            record.begin({
                **provenance(), "simulator": info.identity, "optimizer": optimizer.model_dump(mode="json")
            })  # fmt: skip
            if spec.optimizer.type == "auto":
                _log.info("optimizer: %s", reason)
            compute.attach(location, record.capacity, record.token)
            session = Session(spec, location, record, compute, info, optimizer=optimizer)
            if record.earlier and record.earlier.get("simulator") != info.identity:
                _log.warning(
                    "the simulator has changed since this study was last run: its earlier trials are kept as they are, "
                    "further ones come from the new code. To ask anew: --new"
                )
            if signals:
                stack.enter_context(stop_on_signals(session.stop, compute.kill))
            begun = True
            yield session
    except SimoptError as error:
        error.begun = begun
        raise
