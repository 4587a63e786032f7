"""Metrics that a program leaves behind: in `metrics.json`, in what it printed, in CSV and JSON files."""

import csv
import json
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.trial import Reason

__all__ = ["StdoutScanner", "read_metrics", "regular_file"]

METRICS_FILE = "metrics.json"
_MAX_JSON = 64 << 20
_WINDOW = 1 << 16  # a match of a `stdout` expression may be so long


@contextmanager
def regular_file(path: Path, missing: Reason, what: str) -> Iterator[Any]:
    """A file opened for reading bytes; never a pipe or a device, which a reader could wait for without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RunFailure(missing, f"{what}: {path.name} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunFailure(missing, f"{what}: {path.name} is not a file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


class StdoutScanner:
    """Remembers the last match of each expression in a text of any length.

    Args:
        sources: the spec's metric sources; those with `stdout` count.
    """

    def __init__(self, sources: Sequence[Mapping[str, Any]]) -> None:
        self._expressions = {each["name"]: re.compile(each["stdout"]) for each in sources if each["stdout"] is not None}
        self._text = ""
        self._partial = b""
        self.found: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._expressions)

    def feed(self, data: bytes) -> None:
        """Take printed bytes."""
        data = self._partial + data
        whole = data.rfind(b"\n") + 1 if len(data) < _WINDOW else len(data)
        self._text += data[:whole].decode("utf-8", "replace")
        self._partial = data[whole:]
        if len(self._text) > 16 * _WINDOW:
            self._scan()
            self._text = self._text[-_WINDOW:]

    def end(self) -> None:
        """There is no more."""
        self._text += self._partial.decode("utf-8", "replace")
        self._scan()

    def _scan(self) -> None:
        for name, expression in self._expressions.items():
            matches = deque(expression.finditer(self._text), maxlen=1)
            if matches:
                self.found[name] = matches[0][1] or ""


def read_metrics(directory: Path, sources: Sequence[Mapping[str, Any]], printed: Mapping[str, str]) -> dict[str, Any]:
    """What the program says its metrics are, not yet checked to be numbers.

    Args:
        directory: of the trial.
        sources: the spec's metric sources.
        printed: matches of those with `stdout`.

    Raises:
        RunFailure: something that the spec names is not there.
    """
    metrics: dict[str, Any] = {}
    if (directory / METRICS_FILE).exists() or not sources:
        metrics = _flat(_load_json(directory / METRICS_FILE, f"no metrics: {METRICS_FILE}"))
    for source in sources:
        name = source["name"]
        if source["stdout"] is not None:
            if name not in printed:
                raise RunFailure(
                    Reason.MISSING_METRIC, f"metric {name!r}: nothing printed matches {source['stdout']!r}"
                )
            metrics[name] = _number(name, printed[name])
        elif source["path"] is not None:
            document = _load_json(directory / source["file"], f"metric {name!r}")
            metrics[name] = _walk(name, document, source["path"], source["file"])
        else:
            metrics[name] = _number(name, _cell(directory / source["file"], source))
    return metrics


def _flat(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise RunFailure(Reason.BAD_RESULT, f"{METRICS_FILE} holds a {kind}; write one object of numbers by name")
    return document


def _load_json(path: Path, what: str) -> Any:
    with regular_file(path, Reason.MISSING_METRIC, what) as file:
        data = file.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise RunFailure(Reason.BAD_RESULT, f"{what}: {path.name} is larger than {_MAX_JSON >> 20} MiB")
    try:
        return json.loads(data)  # takes NaN and Infinity, as Python writes them
    except (ValueError, RecursionError) as error:
        raise RunFailure(Reason.BAD_RESULT, f"{what}: {path.name} is no JSON: {str(error)[:200]}") from None


def _walk(name: str, document: Any, path: str, file: str) -> Any:
    value = document
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            there = f"; there are {', '.join(map(str, list(value)[:10]))}" if isinstance(value, dict) else ""
            raise RunFailure(
                Reason.MISSING_METRIC, f"metric {name!r}: {file} has no {path} (looked for {key!r}{there})"
            ) from None
    return value


def _cell(path: Path, source: Mapping[str, Any]) -> str:
    name, column, row = source["name"], source["column"], source["row"]
    with regular_file(path, Reason.MISSING_METRIC, f"metric {name!r}") as file:
        text = _text(file)
        header, rows = table(text)
        if isinstance(column, str) and column not in header:
            there = ", ".join(header[:20]) or "none"
            raise RunFailure(
                Reason.MISSING_METRIC,
                f"metric {name!r}: {path.name} has no column {column!r} (those there are: {there})",
            )
        place = header.index(column) if isinstance(column, str) else column
        found = deque(rows, maxlen=-row) if row < 0 else deque(islice(rows, row, row + 1))
        try:
            return (found[0] if row >= 0 or len(found) == -row else [])[place]
        except IndexError:
            raise RunFailure(
                Reason.MISSING_METRIC, f"metric {name!r}: {path.name} has no row {row} with a column {column!r}"
            ) from None


def _text(file: Any) -> TextIO:
    import io

    return io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")


def table(text: TextIO) -> tuple[list[str], Iterator[list[str]]]:
    """The header of a table (empty when its first line holds numbers only) and its rows, as text.

    Cells are separated by commas, semicolons, tabs, or else blanks; `#` before the header does not matter.
    """
    lines = (line for line in text if line.strip())
    first = next(lines, "").lstrip("# ").rstrip("\r\n")
    separator = max(",;\t", key=first.count) if any(each in first for each in ",;\t") else None

    def cut(line: str) -> list[str]:
        cells = line.split() if separator is None else next(csv.reader([line], delimiter=separator), [])
        return [cell.strip() for cell in cells]

    header = cut(first)
    rows = (cut(line) for line in lines if not line.startswith("#"))
    if header and all(_is_number(cell) for cell in header):
        return [], _chain(header, rows)
    return header, rows


def _chain(first: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(name: str, text: str) -> float:
    for each in (text, re.sub(r"[dD](?=[-+0-9])", "e", text)):  # Fortran writes 1.5D+03
        try:
            return float(each)
        except ValueError:
            continue
    raise RunFailure(Reason.BAD_RESULT, f"metric {name!r}: {text[:80]!r} is no number")
