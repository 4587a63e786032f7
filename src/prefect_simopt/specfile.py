"""Study files: YAML 1.2 (and so JSON) read safely, with overrides from the command line."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prefect_simopt.errors import Problem, SpecError
from prefect_simopt.problems import problems_of
from prefect_simopt.spec import StudySpec

__all__ = ["load_document", "load_spec", "make_spec", "override", "parse_value"]

_MAX_BYTES = 4 * 2**20
_MAX_NODES = 1_000_000  # after aliases are written out
_MAX_DEPTH = 100
_MAX_PATH = 1000  # characters of a path to one value


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader with YAML 1.2's numbers and booleans, and without duplicate keys.

    YAML 1.1, PyYAML's default, reads `1e-3` as text, `on` as true, `010` as eight and `2026-01-01` as a date.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's protocol

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_document(path: str | Path) -> dict[str, Any]:
    """Read a study file into plain Python values.

    Raises:
        SpecError: the file cannot be read, is no YAML, or is no mapping. The message names line and column.
    """
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError("there is no such file; `simopt init DIR` writes a study to start from", source) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"the study file cannot be read: {reason}", source) from None
    if len(data) > _MAX_BYTES:
        raise SpecError(f"larger than {_MAX_BYTES // 2**20} MiB; a study file is not the place for data", source)
    document = _parse(data, source)
    if not isinstance(document, dict):
        raise SpecError("a study file is a mapping that begins with `name: ...`; `simopt init DIR` writes one", source)
    return document


def parse_value(text: str, source: str) -> Any:
    """One YAML value, as in `--set` and `--param`.

    Raises:
        SpecError: it is no YAML.
    """
    return _parse(text, source)


def _parse(data: bytes | str, source: str) -> Any:
    try:
        document = yaml.load(data, Loader=_Loader)  # noqa: S506 - derived from the safe loader
        _check_size(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"{where}not valid YAML: {error.problem or error.context}", source) from None
    except yaml.YAMLError as error:
        raise SpecError(f"not valid YAML: {str(error).splitlines()[0]}", source) from None
    except (RecursionError, MemoryError):
        raise SpecError("not a study file: nested too deeply", source) from None
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's constructors let these out where a tag such as !!bool stands before what is none
        raise SpecError(f"not a study file: a value does not fit its tag or is too large ({error})", source) from None
    return document


def _check_size(document: Any) -> None:
    """Refuse documents that aliases blow up, that contain themselves, or that are nested beyond any use."""
    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if not isinstance(node, dict | list):
            return 1
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply, or an alias that contains itself")
        if id(node) not in sizes:
            children = node.values() if isinstance(node, dict) else node
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
            if sizes[id(node)] > _MAX_NODES:
                raise ValueError("too many values once its aliases are written out")
        return sizes[id(node)]

    size(document, 0)


def override(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The document with `a.b[0].c=value` assignments carried out; values are YAML.

    An entry of a list may be named too: `space.x.high=2`.

    Raises:
        SpecError: an assignment without `=`, or a path that leads through something that is no mapping or list.
    """
    changed = copy.deepcopy(dict(document))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = [int(index) if index else key for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path[:_MAX_PATH])]
        if not equals or not keys or len(path) > _MAX_PATH:
            raise SpecError(f"--set takes KEY=VALUE, such as budget.trials=50, not {assignment[:_MAX_PATH]!r}")
        if isinstance(changed.get(str(keys[0])), str) and len(keys) > 1 and keys[0] in ("optimizer", "store"):
            short = {"optimizer": "type", "store": "url"}[str(keys[0])]  # the long form of the shorthand
            changed[str(keys[0])] = {short: changed[str(keys[0])]}
        target: Any = changed
        for key in keys[:-1]:
            place = _place(target, key, path)
            if isinstance(target, dict) and target.get(place) is None:
                target[place] = {}
            target = target[place]
        place = _place(target, keys[-1], path)
        target[place] = _parse(text, f"--set {path}")
    return changed


def _place(target: Any, key: int | str, path: str) -> int | str:
    """Where in a list or mapping a key of the path leads.

    Raises:
        SpecError: nowhere.
    """
    if isinstance(target, list):
        place = _entry(target, key)
        if place is None:
            raise SpecError([Problem(path, f"there is no entry {key!r}; {_entries(target)}")], "--set")
        return place
    if not isinstance(target, dict) or isinstance(key, int):
        raise SpecError([Problem(path, f"{key!r} leads nowhere: what is before it is no mapping")], "--set")
    return key


def _entry(entries: Sequence[Any], key: int | str) -> int | None:
    """Place of the entry that a number or a name stands for."""
    if isinstance(key, int) or key.isdecimal():
        return int(key) if int(key) < len(entries) else None
    names = [each.get("name", each.get("metric")) if isinstance(each, dict) else None for each in entries]
    return names.index(key) if key in names else None


def _entries(entries: Sequence[Any]) -> str:
    names = [str(each["name"]) for each in entries if isinstance(each, dict) and "name" in each]
    there = f"there are [0] to [{len(entries) - 1}]" if entries else "the list is empty"
    return there + (f", by name {', '.join(names[:20])}" if names else "")


def make_spec(document: Mapping[str, Any], source: str = "", directory: str | Path | None = None) -> StudySpec:
    """Validate a document.

    Args:
        document: plain Python values.
        source: where it came from, for messages.
        directory: folder that relative paths of the simulator and of a generator start from; the document may name one
            below it.

    Raises:
        SpecError: with every problem that was found.
    """
    if not isinstance(document, Mapping):
        raise SpecError("a study is a mapping that begins with `name: ...`", source)
    try:
        spec = StudySpec.model_validate(dict(document))
    except ValidationError as error:
        raise SpecError(problems_of(error, StudySpec), source) from None
    except RecursionError:
        raise SpecError("nested too deeply", source) from None
    if directory is not None:
        spec = spec.model_copy(
            update={
                name: part.model_copy(update={"directory": str(Path(directory) / (part.directory or ""))})
                for name, part in (("simulator", spec.simulator), ("optimizer", spec.optimizer))
                if hasattr(part, "directory")
            }
        )
    _check_optimizer(spec, source)
    return spec


def load_spec(path: str | Path, assignments: Sequence[str] = ()) -> StudySpec:
    """The spec of a study file, with overrides; the simulator's paths are relative to the file's folder.

    Raises:
        SpecError: the file, an override or the spec is wrong.
    """
    document = override(load_document(path), assignments)
    return make_spec(document, str(path), Path(path).resolve().parent)


def _check_optimizer(spec: StudySpec, source: str) -> None:
    """What only the optimizer itself can say: whether it takes this space and so many objectives."""
    from prefect_simopt.optimizers import make_optimizer

    try:
        make_optimizer(spec.optimizer, spec.make_space(), seed=spec.seed, objectives=len(spec.objectives))
    except SpecError as error:
        raise SpecError(error.problems, source) from None
