"""Studies in Python: a function and its best point are five lines apart."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_simopt.errors import SpecError, StudyFailedError, StudyInterrupted
from prefect_simopt.loop import Ending, Observer
from prefect_simopt.naming import under_free_name
from prefect_simopt.session import StudyFinished, carried_function, open_session, study_location
from prefect_simopt.spec import StudySpec
from prefect_simopt.specfile import make_spec
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import Study, open_study

__all__ = ["check_answer", "load_study", "optimize", "resolved", "run_untracked"]

_log = logging.getLogger("prefect_simopt")


def optimize(
    simulator: Callable[..., Any] | str | Mapping[str, Any],
    space: Sequence[Any],
    *,
    name: str | None = None,
    objectives: Sequence[Any] | None = None,
    optimizer: str | Mapping[str, Any] | Any = "auto",
    trials: int = 100,
    store: str | Mapping[str, Any] = "studies",
    new: bool = False,
    tracked: bool | None = None,
    **spec: Any,
) -> Study:
    """Search for the best parameters of a simulator; runs or resumes the study `name`.

    Args:
        simulator: a function with one keyword per parameter, an entrypoint such as `wing.py:drag`, or the spec's
            `simulator` mapping.
        space: parameters, such as `Float("x", -5, 5)`.
        name: the study's name in its store; the function's when left out.
        objectives: `Objective`s, or mappings of their fields; left out, the metric `value` is minimized.
        optimizer: an optimizer's name, or the spec's `optimizer` mapping; `auto` picks one and logs which.
        trials: how many trials to run.
        store: folder, s3:// URL, or the spec's `store` mapping.
        new: ask anew, under the next free name, instead of going on with the study of this name.
        tracked: whether to run as a Prefect flow; left out: when PREFECT_API_URL is set, or inside a flow run.
        spec: further keys of the study spec: constraints, relations, budget, compute, seed and so on.

    Raises:
        SpecError: the question is wrong; nothing was run.
        StudyFailedError: too many trials failed, or none was feasible.
        StudyInterrupted: Ctrl-C or SIGTERM; the same call goes on.

    Example:
        ```python
        from prefect_simopt import Float, optimize

        def bowl(x, y):
            return (x - 1) ** 2 + y**2

        study = optimize(bowl, space=[Float("x", -5, 5), Float("y", -5, 5)], trials=200)
        study.best.parameters
        ```
    """
    function, described = _describe(simulator)
    budget = dict(spec.pop("budget", {}))
    document = {
        "name": name or _default_name(simulator),
        "simulator": described,
        "space": list(space),
        "optimizer": optimizer,
        "budget": {"trials": trials, **budget},
        "store": store,
        **spec,
    }
    if objectives is not None:
        document["objectives"] = list(objectives)
    checked, options = resolved(make_spec(document, directory=Path.cwd()))
    if new:
        checked = under_free_name(checked, options)
    if tracked if tracked is not None else _inside_prefect():
        from prefect_simopt.flows.optimize import optimize as flow

        token = carried_function.set(function)
        try:
            flow(study=checked)
        finally:
            carried_function.reset(token)
    else:
        run_untracked(checked, options=options, function=function)
    return open_study(study_location(checked).url, options)


def resolved(spec: StudySpec) -> tuple[StudySpec, Mapping[str, Any]]:
    """The spec with its store's address, and how to reach it; importing Prefect only when it names a block.

    Raises:
        SpecError: there is no block of the name that it gives.
    """
    if spec.store.block is None:
        return spec, {}
    from prefect_simopt.blocks.resolve import resolve_store

    return resolve_store(spec)


def run_untracked(
    spec: StudySpec,
    *,
    options: Mapping[str, Any] | None = None,
    function: Callable[..., Any] | None = None,
    observers: Sequence[Observer] = (),
    listener: Any = None,
    wait: float = 0.0,
) -> Ending:
    """The whole study without Prefect; one that has ended is left as it is.

    Args:
        spec: the question.
        options: how to reach the store: s3fs's storage options.
        function: the simulator itself, when it has no importable name.
        observers: who wants to see it.
        listener: hears what simulators print and how far they are.
        wait: seconds to wait for another run of this study to end.

    Raises:
        StudyFailedError: too many trials failed, or none was feasible.
        StudyInterrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    try:
        with open_session(spec, options=options, function=function, listener=listener, wait=wait) as session:
            ending = session.search(observers=observers)
    except StudyFinished as finished:
        _log.warning("%s", finished)  # who has changed the simulator would take the old answer for the new one
        check_answer(finished.study)
        return Ending[finished.study.ending.upper()]
    if ending is Ending.INTERRUPTED:
        raise StudyInterrupted(f"{spec.name} was interrupted; what had ended is recorded, and the same call goes on")
    check_answer(open_study(session.location.url, session.location.options))
    return ending


def check_answer(study: Study) -> None:
    """Raise if a study that has ended has no answer.

    Raises:
        StudyFailedError: too many trials failed, or none was feasible.
    """
    if study.state == "failed":
        raise StudyFailedError(study.verdict)


def load_study(url: str | Path, options: Mapping[str, Any] | None = None) -> Study:
    """Open a study to read it.

    Args:
        url: the study's folder or URL, such as `studies/bowl`.
        options: how to reach the store: s3fs's storage options.

    Raises:
        StoreError: there is no study there, or it cannot be read.
    """
    return open_study(StudyLocation(str(url), dict(options or {})).url, options)


def _describe(simulator: Any) -> tuple[Callable[..., Any] | None, Any]:
    """The function to carry along, if it has no importable name, and the spec's `simulator`."""
    if isinstance(simulator, str):
        return None, {"type": "python", "entrypoint": simulator}
    if not callable(simulator):
        return None, simulator
    module, qualified = getattr(simulator, "__module__", "__main__"), getattr(simulator, "__qualname__", "simulator")
    importable = module != "__main__" and "<" not in qualified and _found(module, qualified) is simulator
    if importable:
        return None, {"type": "python", "entrypoint": f"{module}:{qualified}"}
    label = "".join(c if c.isalnum() or c == "_" else "_" for c in qualified.rpartition(".")[2]) or "simulator"
    return simulator, {"type": "python", "entrypoint": f"__main__:{label if label.isidentifier() else '_' + label}"}


def _found(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _default_name(simulator: Any) -> str:
    name = getattr(simulator, "__name__", "")
    if isinstance(simulator, str):
        name = simulator.rpartition(":")[2].rpartition(".")[2]
    if not name or not name[0].isalnum():
        raise SpecError("give the study a name: optimize(..., name='my-study')")
    return str(name)


def _inside_prefect() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    if "prefect.context" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None
