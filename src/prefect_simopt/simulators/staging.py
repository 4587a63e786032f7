"""What a program finds in its trial's directory: copied files, rendered templates, `params.json`, its own arguments."""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.failure import RunFailure, SimulatorChanged
from prefect_simopt.simulators.identity import digest_of_path
from prefect_simopt.trial import Reason, Run

__all__ = ["Staging", "substitute"]

PARAMS_FILE = "params.json"
_PLACEHOLDER = re.compile(r"\{\{(?P<quoted>[^{}]*)\}\}|\{\{|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


class Staging:
    """Prepares trial directories.

    Args:
        simulator: the spec's `CommandSimulator` as a document, with its `directory`.
        names: the space's parameters.
        stamps: of the files, as the first host found them.

    Attributes:
        files: what is copied, by the name that it gets.
        templates: what is rendered, likewise.
        stamps: sizes and times by which a change of a file is noticed.

    Raises:
        SimulatorError: a file or template is missing, or a template is wrong.
    """

    def __init__(
        self, simulator: Mapping[str, Any], names: Sequence[str], stamps: Mapping[str, str] | None = None
    ) -> None:
        base = Path(simulator["directory"])
        self.files = {target_of(given): base / given for given in simulator["files"]}
        self.templates = {target: base / source for target, source in simulator["templates"].items()}
        for kind, paths in (("files", self.files.values()), ("templates", self.templates.values())):
            for path in paths:
                if not path.exists():
                    raise SimulatorError(f"simulator.{kind}: there is no {path}; paths are relative to {base}")
        self.stamps = dict(stamps) if stamps else {target: _stamp(path) for target, path in self.files.items()}
        self._rendered = {target: _compile(path, names) for target, path in self.templates.items()}

    def digests(self) -> dict[str, dict[str, str]]:
        """SHA-256 of every file and template, by the names that they get."""
        kinds = {"files": self.files, "templates": self.templates}
        return {kind: {target: digest_of_path(path) for target, path in each.items()} for kind, each in kinds.items()}

    def stage(self, directory: Path, run: Run) -> None:
        """Fill a trial's directory.

        Raises:
            SimulatorChanged: a file is no longer the one that the study started with.
        """
        for target, path in self.files.items():
            if _stamp(path) != self.stamps[target]:
                raise SimulatorChanged(
                    f"{path} changed while the study ran; what is recorded is whole: run it again to go on with "
                    "the file as it is now"
                )
            place = directory / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, dirs_exist_ok=True)
            else:
                shutil.copy2(path, place)
        for target, template in self._rendered.items():
            place = directory / target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_render(template, target, run), encoding="utf-8")
        document = {"parameters": dict(run.parameters), "seed": run.seed, "trial": run.trial}
        (directory / PARAMS_FILE).write_text(json.dumps(document), encoding="utf-8")


def target_of(given: str) -> str:
    """Where a staged file goes: its path relative to the study file, or its name if it lies outside of that folder."""
    path = PurePosixPath(given)
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def _stamp(path: Path) -> str:
    """Size and time of a file, or of all files in a folder."""
    if path.is_dir():
        return " ".join(
            f"{each.relative_to(path)} {_stamp(each)}" for each in sorted(path.rglob("*")) if each.is_file()
        )
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size} {status.st_mtime_ns}"


def substitute(word: str, values: Mapping[str, str]) -> str:
    """The word with its `{name}` placeholders replaced; `{{...}}` stands for `{...}`."""

    def replacement(match: re.Match[str]) -> str:
        if match["name"] is not None:
            return values[match["name"]]
        return "{" if match["quoted"] is None else "{" + match["quoted"] + "}"

    return _PLACEHOLDER.sub(replacement, word)


def check_placeholders(
    words: Sequence[str], known: Sequence[str], where: str, conditional: Collection[str] = ()
) -> None:
    """Raise `SimulatorError` for a placeholder that stands for nothing, or at times for nothing."""
    for place, word in enumerate(words):
        for match in _PLACEHOLDER.finditer(word):
            name = match["name"]
            if name in conditional:
                raise SimulatorError(
                    f"simulator.{where}[{place}]: {{{name}}} is a parameter that some trials do not have; let the "
                    f"program read it from {{params}}, or from a template with {{% if {name} is defined %}}"
                )
            if name is not None and name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {{{close[0]}}}?" if close else f"there are {', '.join(known)}"
                raise SimulatorError(
                    f"simulator.{where}[{place}]: {{{name}}} stands for nothing; {hint}; {{{{{name}}}}} is the text"
                )


def as_text(value: Any) -> str:
    """A parameter's value as an argument: as in JSON, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _compile(path: Path, names: Sequence[str]) -> Any:
    from jinja2 import StrictUndefined, TemplateError, meta, nodes
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(  # nothing is computed before a run, which has a time limit
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, optimized=False
    )
    try:
        text = path.read_text(encoding="utf-8")
        tree = environment.parse(text)
        unknown = meta.find_undeclared_variables(tree) - {*names, *environment.globals, "parameters", "seed", "trial"}
        unknown -= _optional(tree)
        others = next(tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)), None)
        template = environment.from_string(text)
    except (TemplateError, OSError, UnicodeDecodeError) as error:
        line = f", line {number}" if (number := getattr(error, "lineno", None)) else ""
        raise SimulatorError(f"simulator.templates: {path}{line}: {error}") from None
    if others is not None:
        raise SimulatorError(
            f"simulator.templates: {path}, line {others.lineno}: a template stands alone; put here what it would take "
            "from another file"
        )
    if unknown:
        raise SimulatorError(
            f"simulator.templates: {path} uses {', '.join(sorted(unknown))}, which the space does not have; there are "
            f"{', '.join(names)}, parameters, seed and trial"
        )
    return template


def _optional(tree: Any) -> set[str]:
    """Variables that the template itself expects to be missing at times."""
    from jinja2 import nodes

    asked = [
        each
        for each in tree.find_all((nodes.Filter, nodes.Test))
        if each.name in ("default", "d", "defined", "undefined")
    ]
    return {each.node.name for each in asked if isinstance(each.node, nodes.Name)}


def _render(template: Any, target: str, run: Run) -> str:
    variables = {"parameters": dict(run.parameters), "seed": run.seed, "trial": run.trial, **run.parameters}
    try:
        return str(template.render(variables))
    except Exception as error:  # noqa: BLE001 - a template may divide by zero, call a method, anything
        name = type(error).__name__
        hint = "; ask first for what some trials do not have: {% if NAME is defined %}" if "Undefined" in name else ""
        raise RunFailure(Reason.EXCEPTION, f"template {target}: {name}: {error}"[:400] + hint) from None
