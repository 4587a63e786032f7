"""How exactly a simulator computes: a keyword of it, such as a resolution, from cheap and rough to costly and exact."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.forms import MODEL
from prefect_simopt.problems import wrong_at

__all__ = ["Fidelity"]


class Fidelity(BaseModel):
    """A keyword of the simulator that says how exactly it computes; candidates earn their way to the highest value.

    Example:
        ```python
        Fidelity(name="resolution", low=10, high=80)
        ```
    """

    model_config = MODEL

    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200, description="Keyword under which the simulator gets it."
    )
    low: float = Field(gt=0, allow_inf_nan=False, description="The cheapest value that still tells good from bad.")
    high: float = Field(gt=0, allow_inf_nan=False, description="The value that counts.")
    type: Literal["int", "float"] = Field(default="int", description="Whether values are whole numbers.")
    log: bool = Field(default=True, description="Whether levels have even ratios; otherwise even distances.")
    eta: float = Field(default=3.0, gt=1, le=100, description="Of so many candidates one goes on to the next level.")
    levels: int | None = Field(
        default=None, ge=2, le=20, description="Levels, both ends included; left out, by the ratio eta."
    )
    exponent: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="A run costs this power of the value, such as 3 for a volume.",
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not self.low < self.high:
            raise wrong_at("low", f"must be below high (low is {self.low:g}, high is {self.high:g})")
        for name in ("low", "high"):
            if self.type == "int" and getattr(self, name) != round(getattr(self, name)):
                raise wrong_at(name, f"must be a whole number, not {getattr(self, name):g}; or say type: float")
        return self

    @property
    def values(self) -> list[float]:
        """The levels, from low to high."""
        ratio = self.high / self.low
        count = self.levels or max(2, round(math.log(ratio) / math.log(self.eta)) + 1)
        shares = [k / (count - 1) for k in range(count)]
        found = [self.low * ratio**s if self.log else self.low + s * (self.high - self.low) for s in shares]
        found = [float(round(value)) if self.type == "int" else value for value in found]
        return [*sorted({value for value in found[:-1] if value < self.high}), self.high]

    def check(self, value: Any) -> float | int:
        """The value as the simulator gets it.

        Raises:
            SpecError: it is no number between low and high.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise SpecError([Problem(self.name, f"must be a number from {self.low:g} to {self.high:g}", repr(value))])
        return self.keyword(value)

    def cost(self, value: float) -> float:
        """Cost of a run, in runs at the highest value."""
        return float((value / self.high) ** self.exponent)

    def keyword(self, value: float) -> float | int:
        """The value as the simulator gets it."""
        return int(value) if self.type == "int" else value
