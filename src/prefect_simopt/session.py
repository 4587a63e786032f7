"""A study opened to be worked on: its simulators started, its record held, its search one call away."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_simopt.cache import Cache
from prefect_simopt.compute import Compute, Listener
from prefect_simopt.compute_config import LocalComputeConfig
from prefect_simopt.errors import SimoptError
from prefect_simopt.evaluation import StopRequest
from prefect_simopt.loop import Ending, Observer, Search
from prefect_simopt.record import Record
from prefect_simopt.signals import stop_on_signals
from prefect_simopt.simulators.devices import available_workers
from prefect_simopt.simulators.local import LocalCompute, SimulatorInfo
from prefect_simopt.spec import StudySpec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.versions import provenance

__all__ = ["Session", "carried_function", "local_compute", "open_session", "study_location", "watchers"]

_log = logging.getLogger("prefect_simopt")

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
    """

    spec: StudySpec
    location: StudyLocation
    record: Record
    compute: LocalCompute
    info: SimulatorInfo
    stop: StopRequest = field(default_factory=StopRequest)
    ending: Ending | None = None

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
            self.spec,
            self.record,
            compute or self.compute,
            self.info.batch,
            [*observers, *watchers.get()],
            self.stop,
            flush or self.record.flush,
            Cache(self.spec, self.location, self.info.identity, capacity=self.record.capacity),
        )
        self.ending = search.run()
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
        space_names=[parameter.name for parameter in spec.space],
        workers=workers or (available_workers() if wanted == "auto" else wanted),
        timeout=spec.compute.timeout,
        function=function,
        listener=listener,
        required_metrics=spec.metrics,
    )


@contextmanager
def open_session(
    spec: StudySpec,
    *,
    options: Mapping[str, Any] | None = None,
    function: Callable[..., Any] | None = None,
    listener: Listener | None = None,
    signals: bool = True,
) -> Iterator[Session]:
    """Start the simulators, then open the record; closes both on the way out, whatever happens.

    Args:
        spec: the question.
        options: how to reach the store: s3fs's storage options, credentials among them.
        function: the simulator itself, when it has no importable name (a notebook's function).
        listener: hears what simulators print and how far they are.
        signals: whether SIGINT and SIGTERM ask the search to stop; without it that is up to the caller.

    Raises:
        SimulatorError: the simulator cannot be started; nothing was written.
        StudyConflictError: the store holds another study of this name.
        LeaseError: another process is writing this study.
        StoreError: the store cannot be read or written.
    """
    location = study_location(spec, options)
    begun = False
    try:
        with ExitStack() as stack:
            compute = local_compute(spec, function=function or carried_function.get(), listener=listener)
            stack.callback(compute.close)
            info = compute.start()
            record = Record.open(
                location,
                spec=spec,
                provenance={**provenance(), "simulator": info.identity},
            )
            stack.callback(lambda: record.close(session.ending.name.lower() if session.ending else "interrupted"))
            compute.attach(location, record.capacity, record.token)
            session = Session(spec, location, record, compute, info)
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
