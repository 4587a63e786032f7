"""Python functions as simulators, inside the host process."""

import inspect
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators import resolve
from prefect_simopt.simulators.contract import Context, Result, traits
from prefect_simopt.simulators.gradients import Differentiation
from prefect_simopt.simulators.identity import identity
from prefect_simopt.simulators.results import split_batch, to_result
from prefect_simopt.simulators.workspace import Workspace
from prefect_simopt.trial import Run

__all__ = ["PythonFunction"]


class PythonFunction:
    """A Python function that is called for each run, or for each block of runs.

    Args:
        simulator: the spec's `PythonSimulator` as a document, with its `directory`.
        names: the space's parameters.
        blob: the function itself as cloudpickle wrote it; empty for an entrypoint.
        code: digest of a function that came as a blob.
        conditional: the parameters that some runs do not have, and whether they are numbers.
        required: the metrics that count.
        slopes: the parameters by which they are to be differentiated.

    Attributes:
        info: what the flow is told: traits and identity.

    Raises:
        SimulatorError: the function is missing, does not import, does not take the parameters, or has no gradients
            where they are wanted.
    """

    def __init__(
        self,
        simulator: Mapping[str, Any],
        names: Sequence[str],
        blob: bytes,
        code: str,
        conditional: Mapping[str, bool] = MappingProxyType({}),
        required: Sequence[str] = (),
        slopes: Sequence[str] = (),
    ) -> None:
        directory = Path(simulator["directory"])
        if blob:
            resolve.record_sources([directory])
            self._function = _unpickle(blob)
        else:
            self._function = resolve.import_function(simulator["entrypoint"], directory)
        self._arguments = dict(simulator["arguments"])
        declared = traits(self._function)
        self.batch = declared.batch
        self._names, self._conditional = list(names), conditional
        label = simulator["entrypoint"] if not blob else getattr(self._function, "__qualname__", "function")
        absent = () if declared.batch else conditional  # a batch always gets a column
        self._context = check_signature(self._function, label, names, self._arguments, absent)
        alone = set(names) == set(slopes) and not self._context and not conditional
        self._slopes = (
            Differentiation(self._function, label, declared, required, slopes, alone=alone) if slopes else None
        )
        self._call = self._slopes.call if self._slopes else lambda keywords: to_result(self._function(**keywords))
        self.info = {
            "batch": declared.batch,
            "differentiable": declared.differentiable or declared.gradients,
            "identity": identity({
                "type": "python",
                "function": getattr(self._function, "__qualname__", label),
                "code": code,
                "sources": resolve.SOURCES,
                "arguments": self._arguments,
                "environment": simulator["environment"],
                **({"differentiated": list(slopes)} if slopes else {}),  # in other digits than without gradients
            }),
        }  # fmt: skip

    def run(self, run: Run, workspace: Workspace) -> Result:
        """Call the function for one run."""
        keywords = {**self._arguments, **run.parameters}
        if self._context:
            keywords["context"] = Context(run.seed, run.trial, workspace.directory(), workspace.progress, workspace.log)
        return self._with_slopes(self._call(keywords), run)

    def run_block(self, runs: Sequence[Run], workspace: Workspace) -> list[Result]:
        """Call the function once for a block: `runs`, the last one repeated until the block is full."""
        import numpy as np

        rows = list(runs) + [runs[-1]] * (self.batch - len(runs))
        keywords = dict(self._arguments)
        for name in self._names:
            keywords[name] = (
                _gaps([row.parameters.get(name) for row in rows], self._conditional[name])
                if name in self._conditional
                else _column([row.parameters[name] for row in rows])
            )
        if self._context:
            seeds, trials = np.array([row.seed for row in rows]), np.array([row.trial for row in rows])
            keywords["context"] = Context(seeds, trials, workspace.directory(), workspace.progress, workspace.log)
        returned = self._call(keywords)
        pieces = split_batch(returned, self.batch)
        results = [Result(metrics, fields) for metrics, fields in pieces[: len(runs)]]
        if self._slopes is None:
            return results
        return [
            self._with_slopes(replace(result, gradients=self._slopes.row(returned.gradients, i, self.batch)), run)
            for i, (result, run) in enumerate(zip(results, runs, strict=True))
        ]

    def _with_slopes(self, result: Result, run: Run) -> Result:
        if self._slopes is None:
            return replace(result, gradients={}) if result.gradients else result
        return replace(result, gradients=self._slopes.take(result.gradients, run.parameters))


def check_signature(
    function: Callable[..., Any],
    label: str,
    names: Sequence[str],
    arguments: Mapping[str, Any],
    conditional: Collection[str] = (),
) -> bool:
    """Whether the function wants a `context`.

    Raises:
        SimulatorError: it cannot be called with the space's parameters and the fixed arguments, or without those
            parameters that some runs do not have.
    """
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or (inspect.isasyncgenfunction(function))
    ):
        raise SimulatorError(f"simulator {label}: it is asynchronous or a generator; give a plain function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions do not say what they take
        return False
    keywords = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    given = [*names, *arguments]
    context = "context" in keywords and "context" not in given
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise SimulatorError(f"simulator {label}: {name!r} can only be given by position; parameters are keywords")
    missing = [
        name
        for name, parameter in keywords.items()
        if parameter.default is parameter.empty and name not in given and not (context and name == "context")
    ]
    unknown = [name for name in given if name not in keywords and not takes_any]
    bare = [name for name in conditional if name in keywords and keywords[name].default is inspect.Parameter.empty]
    if bare and not missing and not unknown:
        raise SimulatorError(
            f"simulator {label}{signature}: it is called without {', '.join(map(repr, bare))} where that parameter is "
            f"not there (its `when`); give it a default, such as {bare[0]}=None"
        )
    if not missing and not unknown:
        return context
    problems = []
    for name in unknown:
        close = get_close_matches(name, missing or list(keywords), 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        kind = "parameter" if name in names else "fixed argument"
        problems.append(f"it takes no {kind} {name!r}{hint}")
    problems += [f"it needs {name!r}, which is neither in the space nor among the fixed arguments" for name in missing]
    raise SimulatorError(f"simulator {label}{signature}: {'; '.join(problems)}; rename one or the other")


def _gaps(values: list[Any], numeric: bool) -> Any:
    """A column of which some rows have no value: NaN among numbers, None among others."""
    import numpy as np

    if numeric:
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _column(values: list[Any]) -> Any:
    import numpy as np

    if all(isinstance(value, bool) for value in values):
        return np.array(values, dtype=bool)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.int64)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _unpickle(blob: bytes) -> Callable[..., Any]:
    import pickle

    try:
        return pickle.loads(blob)  # type: ignore[no-any-return]  # noqa: S301 - from our own flow, by a private pipe
    except BaseException as error:  # noqa: BLE001 - it may import and run anything
        raise SimulatorError(
            f"the simulator cannot be brought to its own process: {resolve.where(error)}; "
            f"what it refers to must be importable there, or picklable (Python at {sys.executable})"
        ) from None
