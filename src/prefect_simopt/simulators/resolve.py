"""From an entrypoint to a function, with the SHA-256 of the sources that were run to get there.

Sources of the simulator's own folder are compiled from the bytes that are hashed, never taken from a bytecode
cache: Python trusts a cache whose source has the same size and the same second, and then would run another code
than the one that is recorded.
"""

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from prefect_simopt.errors import SimulatorError

__all__ = ["SOURCES", "import_function", "record_sources", "where"]

SOURCES: dict[str, str] = {}
"""SHA-256 by module of what was imported from the recorded folders."""


class _RecordedSource(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        SOURCES[fullname] = hashlib.sha256(data).hexdigest()
        return self.source_to_code(data, path)


class _RecordedExtension(ExtensionFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        SOURCES[module.__name__] = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        super().exec_module(module)


def record_sources(folders: Iterable[Path]) -> None:
    """From now on record what is imported from the folders or below them, installed packages in them left out."""
    roots = [folder.resolve() for folder in folders]
    library = Path(sysconfig.get_path("stdlib")).resolve()

    def covered(entry: str) -> bool:
        path = Path(entry).resolve()
        for root in roots:
            if path.is_relative_to(root):
                inner = path.relative_to(root).parts
                return (
                    "site-packages" not in inner and "dist-packages" not in inner and not path.is_relative_to(library)
                )
        return False

    def hook(entry: str) -> FileFinder:
        if not covered(entry or ".") or not Path(entry or ".").is_dir():  # a file is for `runpy` to run
            raise ImportError
        return FileFinder(
            entry or ".",
            (_RecordedExtension, EXTENSION_SUFFIXES),
            (_RecordedSource, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    sys.path_hooks.insert(0, hook)
    for entry in [entry for entry in sys.path_importer_cache if covered(entry or ".")]:
        del sys.path_importer_cache[entry]


def import_function(entrypoint: str, directory: Path) -> Callable[..., Any]:
    """The function that an entrypoint names.

    Args:
        entrypoint: `module:function` or `path/to/file.py:function`.
        directory: folder that a path is relative to, and that modules are looked for in first.

    Raises:
        SimulatorError: what is missing, where it was looked for, and what would be right.
    """
    place, _, name = entrypoint.rpartition(":")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if place.endswith(".py"):
        module = _import_file(place, directory)
    else:
        record_sources([directory, *_package_folder(place)])
        module = _import_module(place, directory)
    function: Any = module
    for part in name.split("."):
        try:
            function = getattr(function, part)
        except AttributeError:
            raise SimulatorError(_no_function(entrypoint, module, name)) from None
    if not callable(function):
        raise SimulatorError(f"simulator {entrypoint}: {name} is of type {type(function).__name__}, not a function")
    if module.__name__ not in SOURCES and (origin := getattr(module, "__file__", None)):
        SOURCES[module.__name__] = hashlib.sha256(Path(origin).read_bytes()).hexdigest()
    return function  # type: ignore[no-any-return]


def where(error: BaseException) -> str:
    """The error as one line with the place in the user's code that raised it."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()
    shown = text[-1][:500] if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{shown} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _ours(frame.filename)]
    return f"{shown} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else shown


def _ours(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename == __file__


def _import_file(place: str, directory: Path) -> ModuleType:
    path = (directory / place).resolve()
    if not path.is_file():
        others = sorted(each.name for each in path.parent.glob("*.py"))[:10] if path.parent.is_dir() else []
        hint = f"; in its folder there are {', '.join(others)}" if others else ""
        raise SimulatorError(f"simulator {place}: there is no file {path}{hint}; correct the entrypoint")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    record_sources([directory, path.parent])
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"simulator_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_RecordedSource(name, str(path)))
    assert spec is not None  # noqa: S101 - a loader was given
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
        raise SimulatorError(_import_failed(str(path), error)) from None
    return module


def _import_module(name: str, directory: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise SimulatorError(_import_failed(name, error)) from None
        raise SimulatorError(
            f"simulator {name}: there is no module {error.name!r} in {directory} or among the installed packages of "
            f"{sys.executable}; correct the entrypoint, or install the package there"
        ) from None
    except BaseException as error:  # noqa: BLE001
        raise SimulatorError(_import_failed(name, error)) from None


def _import_failed(place: str, error: BaseException) -> str:
    way_out = (
        f"install {error.name!r} in the environment of {sys.executable}"
        if (isinstance(error, ModuleNotFoundError) and error.name)
        else "run `python -c` with the same import to see the whole traceback"
    )
    return f"simulator {place} cannot be imported: {where(error)}; {way_out}"


def _no_function(entrypoint: str, module: ModuleType, name: str) -> str:
    there = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
    own = [each for each in there if getattr(getattr(module, each), "__module__", None) == module.__name__]
    close = get_close_matches(name, there, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(own[:10]) or 'no functions of its own'}"
    return f"simulator {entrypoint}: {module.__name__} has no function {name!r}; {hint}"


def _package_folder(module: str) -> list[Path]:
    """The folder of the top package that holds the module, found without importing anything."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None or not spec.submodule_search_locations:
        return []
    return [Path(location) for location in spec.submodule_search_locations]
