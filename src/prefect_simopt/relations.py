"""Relations between parameters that are known before a run, such as `t1 + t2 <= 400`.

The grammar, from loosest to tightest binding:

    relation   := sum (comparison sum)+          chains as in mathematics: 0 < a <= b
    comparison := "<=" | "<" | ">=" | ">" | "=="
    sum        := product (("+" | "-") product)*
    product    := unary (("*" | "/") unary)*
    unary      := ("+" | "-") unary | power
    power      := atom ("**" unary)?             right associative
    atom       := number | name | function "(" sum ("," sum)* ")" | "(" sum ")"

Text is never evaluated by Python: it is parsed here, and only these operations exist.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

__all__ = ["Relation", "RelationSyntaxError"]

Array = npt.NDArray[np.float64]
Columns = Mapping[str, Array]
_Node = Callable[[Columns], Array]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<op>\*\*|<=|>=|==|[-+*/(),<>]))"
)
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
_SUMS: dict[str, Callable[..., Any]] = {"+": np.add, "-": np.subtract}
_PRODUCTS: dict[str, Callable[..., Any]] = {"*": np.multiply, "/": np.divide}
_COMPARISONS = ("<=", "<", ">=", ">", "==")
_DEPTH = 50  # nesting that no relation needs and that would exhaust Python's stack


class RelationSyntaxError(ValueError):
    """A relation that is not in the grammar. The message shows the text with a caret under the place."""


@dataclass(frozen=True)
class Relation:
    """A parsed relation.

    Attributes:
        text: the relation as written.
        names: the parameters that it uses.
    """

    text: str
    names: frozenset[str]
    _sides: tuple[_Node, ...]
    _comparisons: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, names: Collection[str]) -> "Relation":
        """Parse `text`, in which only `names` may stand for parameters.

        Raises:
            RelationSyntaxError: the text is not in the grammar, or uses an unknown name.
        """
        return _Parser(text, names).relation()

    def violation(self, columns: Columns) -> Array:
        """How far each row is from holding: 0 where it holds, in the units of the two sides elsewhere.

        Args:
            columns: one array of shape (n,) for each parameter of the space.

        Returns:
            An array of shape (n,), never negative; infinite where a side is not a number.
        """
        with np.errstate(all="ignore"):
            values = [side(columns) for side in self._sides]
            rows = len(next(iter(columns.values())))
            worst = np.zeros(rows)
            for comparison, left, right in zip(self._comparisons, values, values[1:], strict=False):
                gap = np.broadcast_to(left - right, rows)
                excess = -gap if comparison[0] == ">" else np.abs(gap) if comparison == "==" else gap
                if comparison in "<>":  # strict: touching counts as a violation of the smallest size
                    excess = np.where(excess == 0, np.finfo(float).tiny, excess)
                worst = np.maximum(worst, np.where(np.isnan(excess), np.inf, excess))
        return worst


class _Parser:
    """Recursive descent over the tokens of one relation."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text, self.names, self.used, self.depth = text, names, set[str](), 0
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                position += len(text[position:]) - len(text[position:].lstrip())
                self.fail(f"{text[position]!r} has no meaning here", position)
            self.tokens.append((str(match.lastgroup), match[match.lastgroup or 0], match.start(match.lastgroup or 0)))
            position = match.end()
        self.tokens.append(("end", "", len(text)))
        self.index = 0

    def fail(self, what: str, position: int | None = None) -> NoReturn:
        at = self.tokens[self.index][2] if position is None else position
        raise RelationSyntaxError(f"{what}\n    {self.text}\n    {' ' * at}^")

    def accept(self, *symbols: str) -> str | None:
        kind, text, _ = self.tokens[self.index]
        if kind == "op" and text in symbols:
            self.index += 1
            return text
        return None

    def expect(self, symbol: str) -> None:
        if self.accept(symbol) is None:
            self.fail(f"expected {symbol!r}")

    def relation(self) -> Relation:
        sides, comparisons = [self.sum()], []
        while (comparison := self.accept(*_COMPARISONS)) is not None:
            comparisons.append(comparison)
            sides.append(self.sum())
        if not comparisons:
            self.fail("a relation compares two sides with <=, <, >=, > or ==")
        if self.tokens[self.index][0] != "end":
            self.fail("expected an operator or the end")
        if not self.used:
            self.fail("a relation must use at least one parameter", 0)
        return Relation(self.text, frozenset(self.used), tuple(sides), tuple(comparisons))

    def chain(self, operators: dict[str, Callable[..., Any]], operand: Callable[[], _Node]) -> _Node:
        node = operand()
        while (symbol := self.accept(*operators)) is not None:
            node = _apply(operators[symbol], node, operand())
        return node

    def sum(self) -> _Node:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(f"nested more than {_DEPTH} deep")
        node = self.chain(_SUMS, lambda: self.chain(_PRODUCTS, self.unary))
        self.depth -= 1
        return node

    def unary(self) -> _Node:
        signs = 0
        while (sign := self.accept("+", "-")) is not None:
            signs += sign == "-"
        node = self.power()
        return _apply(np.negative, node) if signs % 2 else node

    def power(self) -> _Node:
        base = self.atom()
        if self.accept("**") is None:
            return base
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(f"nested more than {_DEPTH} deep")
        node = _apply(np.power, base, self.unary())
        self.depth -= 1
        return node

    def atom(self) -> _Node:
        kind, text, position = self.tokens[self.index]
        if kind == "number":
            self.index += 1
            value = np.float64(text)
            return lambda columns: np.full(len(next(iter(columns.values()))), value)
        if kind == "name":
            self.index += 1
            return self.call(text) if self.accept("(") else self.parameter(text, position)
        if self.accept("("):
            node = self.sum()
            self.expect(")")
            return node
        return self.fail("expected a number, a parameter or '('")

    def parameter(self, name: str, position: int) -> _Node:
        if name not in self.names:
            known = ", ".join(sorted(self.names)) or "none"
            self.fail(f"{name!r} is no numeric parameter of the space (those are: {known})", position)
        self.used.add(name)
        return lambda columns: columns[name]

    def call(self, name: str) -> _Node:
        if name not in _FUNCTIONS:
            self.fail(f"{name!r} is no function; there are {', '.join(_FUNCTIONS)}", self.tokens[self.index - 2][2])
        count, function = _FUNCTIONS[name]
        arguments = [self.sum()]
        while self.accept(","):
            arguments.append(self.sum())
        self.expect(")")
        if len(arguments) != count:
            self.fail(f"{name} takes {count} argument{'s' if count > 1 else ''}, not {len(arguments)}")
        return _apply(function, *arguments)


def _apply(function: Callable[..., Any], *nodes: _Node) -> _Node:
    return lambda columns: np.asarray(function(*(node(columns) for node in nodes)), dtype=np.float64)
