"""What code a simulator is: a SHA-256 over everything of it that determines results.

Two runs with the same identity, parameters and seed are taken to give the same result, so that one of them need not
be run. Versions of installed packages and the machine are not part of it; they are in the study's record.
"""

import hashlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

__all__ = ["digest_of_code", "digest_of_path", "identity"]


def identity(document: Mapping[str, Any]) -> str:
    """SHA-256, as hexadecimal, of a JSON document that describes a simulator."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def digest_of_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    if path.is_dir():
        total = hashlib.sha256()
        for inner in sorted(each for each in path.rglob("*") if each.is_file()):
            total.update(f"{inner.relative_to(path)}\0{digest_of_path(inner)}\0".encode())
        return total.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_code(function: Callable[..., Any]) -> str:
    """SHA-256 of a function that has no file of its own: its code, its defaults, and what it refers to.

    The same function defined again, in another notebook or session, has the same digest; one with another constant,
    another helper function or another captured value has not.
    """
    total = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    _update(total, function, set())
    return total.hexdigest()


def _update(total: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, types.FunctionType):
        if id(value) in seen:
            return
        seen.add(id(value))
        total.update(f"function {value.__qualname__}".encode())
        _update(total, value.__code__, seen)
        _update(total, [value.__defaults__, value.__kwdefaults__, sorted(vars(value))], seen)
        _update(total, [_contents(cell) for cell in value.__closure__ or ()], seen)
        for name in _global_names(value.__code__):
            if name in value.__globals__:
                total.update(f"global {name}".encode())
                _update(total, value.__globals__[name], seen)
    elif isinstance(value, types.CodeType):
        total.update(value.co_code)
        _update(total, [value.co_names, value.co_varnames, value.co_freevars, value.co_flags], seen)
        _update(total, value.co_consts, seen)
    elif isinstance(value, types.ModuleType):
        total.update(f"module {value.__name__} {getattr(value, '__version__', '')}".encode())
    elif isinstance(value, list | tuple):
        total.update(f"{len(value)} of".encode())
        for each in value:
            _update(total, each, seen)
    elif isinstance(value, dict):
        _update(total, list(value.items()), seen)
    elif isinstance(value, set | frozenset):  # in an order that does not depend on the process
        _update(total, sorted(value, key=repr), seen)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        total.update(f"{type(value).__name__} {value!r} ".encode("utf-8", "surrogatepass"))
    elif getattr(value, "__module__", None) not in (None, "__main__") and hasattr(value, "__qualname__"):
        total.update(f"name {value.__module__}.{value.__qualname__}".encode())  # of an importable module
    else:
        _update_object(total, value, seen)


def _update_object(total: Any, value: Any, seen: set[int]) -> None:
    import cloudpickle

    if isinstance(value, type):
        total.update(f"class {value.__qualname__}".encode())
        for name in sorted(vars(value)):
            if name not in ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__"):
                total.update(name.encode())
                _update(total, _plain(vars(value)[name]), seen)
        return
    try:
        total.update(cloudpickle.dumps(value))
    except Exception as error:  # noqa: BLE001 - pickling runs methods of the value
        total.update(f"{type(value).__qualname__} {error}".encode("utf-8", "surrogatepass"))


def _plain(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return (member.fget, member.fset) if isinstance(member, property) else member


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that was never assigned
        return None


def _global_names(code: types.CodeType) -> list[str]:
    inner = [name for each in code.co_consts if isinstance(each, types.CodeType) for name in _global_names(each)]
    return sorted({*code.co_names, *inner})
