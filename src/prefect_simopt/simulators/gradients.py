"""Derivatives of metrics by parameters: through the simulator by JAX, or as the simulator itself returns them.

A gradient is a number by metric and parameter; in a batch, an array of shape (n,) whose entry i is the derivative of
row i, since rows do not depend on each other.
"""

import importlib.util
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.contract import Field, Result, Traits
from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.simulators.results import to_result
from prefect_simopt.trial import Reason

__all__ = ["Differentiation", "to_gradients"]


class Differentiation:
    """Calls a simulator for its gradients as well.

    Args:
        function: the simulator.
        label: its name, for messages.
        declared: what its author declared.
        metrics: what is to be differentiated.
        parameters: by what.
        alone: whether nothing else differs from call to call, so that one compilation serves all of them.

    Raises:
        SimulatorError: it is not declared to be differentiable, or JAX is missing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        label: str,
        declared: Traits,
        metrics: Sequence[str],
        parameters: Sequence[str],
        *,
        alone: bool = False,
    ) -> None:
        self._function, self._own, self._metrics = function, declared.gradients, list(metrics)
        self._parameters, self._alone = list(parameters), alone
        self._compiled: Any = None
        if not (declared.differentiable or declared.gradients):
            raise SimulatorError(
                f"simulator {label}: the optimizer needs gradients, and it gives none. Mark it "
                "@simulator(differentiable=True) if it is written in JAX, or @simulator(gradients=True) if it returns "
                "Result(metrics, gradients=...); or take an optimizer that needs none, such as pso"
            )
        if not self._own and importlib.util.find_spec("jax") is None:
            raise SimulatorError(f"simulator {label}: its gradients need JAX: pip install 'prefect-simopt[jax]'")

    def call(self, keywords: Mapping[str, Any]) -> Result:
        """What the simulator returns, with gradients.

        Raises:
            RunFailure: JAX cannot differentiate it.
        """
        if self._own:
            return to_result(self._function(**keywords))
        import jax
        import numpy as np

        free = {name: np.asarray(keywords[name], dtype=np.float64) for name in self._parameters if name in keywords}
        try:
            with jax.enable_x64(True):  # a line search needs more digits than float32 has
                if self._alone:
                    try:
                        return self._compile(keywords)(free)
                    except jax.errors.JAXTypeError:  # it looks at values, which only exist outside of a compilation
                        self._alone = False
                return self._traced(keywords)(free)
        except jax.errors.JAXTypeError as error:
            text = str(error).split("\n", 1)[0][:300]
            raise RunFailure(
                Reason.EXCEPTION, f"JAX cannot differentiate the simulator ({text}); use jax.numpy all the way"
            ) from None

    def _compile(self, keywords: Mapping[str, Any]) -> Callable[[dict[str, Any]], Result]:
        import jax

        if self._compiled is None:
            self._compiled = self._traced(keywords, jax.jit)
        return self._compiled  # type: ignore[no-any-return]

    def _traced(
        self, keywords: Mapping[str, Any], compile_: Callable[[Any], Any] = lambda function: function
    ) -> Callable[[dict[str, Any]], Result]:
        """A function from the values of the free parameters to the result, the other keywords being given."""
        import jax
        import jax.numpy as jnp
        import numpy as np

        described: dict[str, Field] = {}

        def evaluate(free: dict[str, Any]) -> tuple[dict[str, Any], tuple[dict[str, Any], dict[str, Any]]]:
            result = to_result(self._function(**{**keywords, **free}))
            for name, given in result.fields.items():
                described[name] = given if isinstance(given, Field) else Field(given)
            wanted = {}
            for name in self._metrics:
                if name not in result.metrics:  # told as any missing metric is
                    continue
                if not isinstance(result.metrics[name], jax.core.Tracer):
                    raise RunFailure(
                        Reason.BAD_RESULT,
                        f"metric {name!r} comes back as a plain number, so that JAX cannot differentiate it; use "
                        "jax.numpy all the way, without float() and math (if it depends on no parameter, add 0 * one)",
                    )
                wanted[name] = jnp.asarray(result.metrics[name], dtype=float)
            return wanted, (dict(result.metrics), {name: field.values for name, field in described.items()})

        @compile_
        def differentiate(free: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
            values, pullback, (metrics, arrays) = jax.vjp(evaluate, free, has_aux=True)
            gradients = {}
            for name in values:
                along = {each: (jnp.ones_like if each == name else jnp.zeros_like)(values[each]) for each in values}
                (gradients[name],) = pullback(along)
            return metrics, arrays, gradients

        def call(free: dict[str, Any]) -> Result:
            metrics, arrays, gradients = jax.tree.map(np.asarray, differentiate(free))
            fields = {
                name: Field(arrays[name], each.dims, each.unit, each.coords, each.coord_units)
                for name, each in described.items()
            }
            return Result(metrics, fields, gradients)

        return call

    def row(self, gradients: Mapping[str, Mapping[str, Any]], row: int, rows: int) -> dict[str, dict[str, Any]]:
        """One row's gradients out of a batch's.

        Raises:
            RunFailure: a gradient has not one entry a row.
        """
        import numpy as np

        found: dict[str, dict[str, Any]] = {}
        for metric, slope in gradients.items():
            for name, given in slope.items():
                values = np.asarray(given)
                if values.shape != (rows,):
                    raise RunFailure(
                        Reason.BAD_RESULT,
                        f"the gradient of {metric!r} by {name!r} has shape {values.shape}; of {rows} rows, return "
                        f"shape ({rows},)",
                    )
                found.setdefault(metric, {})[name] = values[row].item()
        return found

    def take(self, gradients: Any, there: Collection[str]) -> dict[str, dict[str, float | None]]:
        """The gradients of a run, by the parameters that it has; None where one is not finite.

        Raises:
            RunFailure: one is missing, or no number.
        """
        return to_gradients(gradients, self._metrics, [name for name in self._parameters if name in there])


def to_gradients(
    gradients: Any, metrics: Sequence[str], parameters: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Numbers by metric and parameter, None where one is not finite.

    Raises:
        RunFailure: one is missing, or no number.
    """
    found: dict[str, dict[str, float | None]] = {}
    for metric in metrics:
        slope = gradients.get(metric, {}) if isinstance(gradients, Mapping) else {}
        for name in parameters:
            if not isinstance(slope, Mapping) or name not in slope:
                raise RunFailure(
                    Reason.BAD_RESULT,
                    f"the gradient of {metric!r} by {name!r} is missing; return Result(metrics, gradients="
                    f"{{{metric!r}: {{{name!r}: ...}}}})",
                )
            try:
                number = float(slope[name])
            except (TypeError, ValueError, OverflowError):
                kind = type(slope[name]).__name__
                raise RunFailure(
                    Reason.BAD_RESULT, f"the gradient of {metric!r} by {name!r} is of type {kind}, not a number"
                ) from None
            found.setdefault(metric, {})[name] = number if math.isfinite(number) else None
    return found
