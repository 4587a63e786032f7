"""The part of a study spec that names the simulator."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator, model_validator

from prefect_simopt.forms import MODEL, Tabs
from prefect_simopt.problems import wrong_at

__all__ = [
    "CommandSimulator",
    "ContainerSimulator",
    "CoordinateSource",
    "FieldSource",
    "MetricSource",
    "PythonSimulator",
    "SimulatorConfig",
    "SourceRevision",
]

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/\\]([^/\\\r\n]*[^\s/\\])?$")]
"""A metric's or field's name: it is a key of the store, so it has no slashes."""


class _Config(BaseModel):
    model_config = MODEL


class PythonSimulator(_Config):
    """A Python function with one keyword per parameter.

    Example:
        ```python
        PythonSimulator(entrypoint="wing.py:drag")
        ```
    """

    model_config = ConfigDict(title="Python")

    type: Literal["python"] = "python"
    entrypoint: str = Field(
        description="`module:function` or `path/to/file.py:function`, relative to the study file (or to `directory`).",
        examples=["prefect_simopt.simulators.coating:simulate"],
        max_length=1000,
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Fixed keyword arguments, given to every call beside the parameters."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the simulator's process. No secrets here."
    )
    directory: str | None = Field(
        default=None, description="Folder that relative paths start from; the study file's own when left out."
    )

    @field_validator("entrypoint")
    @classmethod
    def _two_parts(cls, entrypoint: str) -> str:
        place, colon, function = entrypoint.rpartition(":")
        if not colon or not place or not all(part.isidentifier() for part in function.split(".")):
            raise ValueError("an entrypoint is `module:function` or `path/to/file.py:function`")
        if not place.endswith(".py") and not all(part.isidentifier() for part in place.split(".")):
            raise ValueError("the part before the colon is a module such as `package.module`, or a path ending in .py")
        return entrypoint


class MetricSource(_Config):
    """Where a metric is read from when the program does not write `metrics.json` itself.

    Give `stdout`, or `file` with `column` (CSV), or `file` with `path` (JSON).
    """

    name: Name = Field(description="Name of the metric.")
    stdout: str | None = Field(
        default=None,
        max_length=1000,
        description="Regular expression whose first group is the number; its last match in the printed text counts.",
    )
    file: str | None = Field(default=None, description="File in the trial's directory.")
    column: str | int | None = Field(default=None, description="CSV column: its name in the header, or its index.")
    row: int = Field(default=-1, description="CSV row: 0 is the first below the header, -1 the last.")
    path: str | None = Field(default=None, description="Place in a JSON file, such as `results.gain` or `cells.0.x`.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        import re
        import warnings

        if (self.stdout is None) == (self.file is None):
            raise ValueError("give either `stdout` (a regular expression) or `file`")
        if self.file is not None and (self.column is None) == (self.path is None):
            raise ValueError("with `file` give either `column` (CSV) or `path` (JSON)")
        if self.stdout is not None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", FutureWarning)
                    groups = re.compile(self.stdout).groups
            except FutureWarning as warning:
                message = f"a later Python reads this expression otherwise: {warning}; put a backslash before that sign"
                raise wrong_at("stdout", message) from None
            except (re.error, RecursionError, OverflowError) as error:
                raise wrong_at("stdout", f"not a regular expression: {error}") from None
            if groups < 1:
                raise wrong_at("stdout", "the expression needs a group (...) around the number")
        if self.file is not None:
            _inside(self.file)
        return self


class CoordinateSource(_Config):
    """Where the positions along an axis of a field are: an array with one axis, the same for every trial."""

    file: str | None = Field(default=None, description="File in the trial's directory; the field's own when left out.")
    dataset: str | None = Field(default=None, description="Array inside an .npz, HDF5 or Zarr file, or column of CSV.")
    unit: str = Field(default="", description="Unit of the positions.")

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str | None) -> str | None:
        return None if file is None else _inside(file)


class FieldSource(_Config):
    """A file that a program leaves behind, read as an array: .npy, .npz, .csv, .h5/.hdf5 or .zarr."""

    name: str = Field(
        description="Name of the field: letters a to z and A to Z, digits, dashes and underscores.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,127}$",
    )
    file: str = Field(description="File in the trial's directory.")
    dataset: str | None = Field(default=None, description="Array inside an .npz, HDF5 or Zarr file.")
    dims: list[Name] = Field(default_factory=list, description="Names of the axes.")
    unit: str = Field(default="", description="Unit of the values.")
    coords: dict[Name, CoordinateSource] = Field(
        default_factory=dict, description="Positions along the axes that `dims` names."
    )

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        return _inside(file)

    @model_validator(mode="after")
    def _along_axes(self) -> Self:
        for axis in self.coords:
            if axis not in self.dims:
                axes = f"dims are {', '.join(self.dims)}" if self.dims else "name them all as `dims`"
                raise wrong_at(f"coords.{axis}", f"is none of the field's axes; {axes}")
        return self


class SourceRevision(_Config):
    """A git repository at a revision, built once and shared by all trials; `{source}` in the command is its folder."""

    url: str = Field(description="Repository: a path or an address that git can clone.", max_length=1000)
    revision: str = Field(description="Commit, tag or branch.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    build: list[str] = Field(default_factory=list, description="Command run once in the checkout, such as [make, -j2].")

    @field_validator("url")
    @classmethod
    def _no_option(cls, url: str) -> str:
        if url.startswith("-") or "::" in url or not url.strip():
            raise ValueError("a repository is a path or an https, ssh or file address")
        user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
        if ":" in user or (user and url.startswith("http")):
            raise wrong_at("", "no credentials in an address: let git find them (a credential helper, an ssh key)")
        return url


class _Program(_Config):
    command: list[str] = Field(
        min_length=1,
        description="Program and arguments; `{name}` stands for a parameter, `{params}` for params.json, "
        "`{output}` for the output directory, `{seed}` and `{trial}` for their numbers; `{{` for a brace.",
    )
    files: list[str] = Field(
        default_factory=list,
        description="Files and folders for every trial's directory, relative to the study file (or to `directory`).",
    )
    templates: dict[str, str] = Field(
        default_factory=dict,
        description="Rendered inputs: target name to Jinja2 source, relative to the study file (or to `directory`).",
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the program. No secrets here."
    )
    metrics: list[MetricSource] = Field(default_factory=list, description="Metrics not written to metrics.json.")
    fields: list[FieldSource] = Field(default_factory=list, description="Files that are read as fields.")
    directory: str | None = Field(
        default=None, description="Folder that relative paths start from; the study file's own when left out."
    )

    @model_validator(mode="after")
    def _paths(self) -> Self:
        for target in self.templates:
            _inside(target)
        for kind, names in (
            ("metrics", [metric.name for metric in self.metrics]),
            ("fields", [each.name for each in self.fields]),
        ):
            if len(set(names)) < len(names):
                raise wrong_at(kind, "two entries have the same name")
        if not self.command[0].strip():
            raise wrong_at("command", "the first entry is the program to run")
        return self


class CommandSimulator(_Program):
    """Any program. It runs in a directory of the trial's own, never through a shell.

    Example:
        ```python
        CommandSimulator(command=["python3", "sim.py", "{params}"], files=["sim.py"])
        ```
    """

    model_config = ConfigDict(title="Command")

    type: Literal["command"] = "command"
    source: SourceRevision | None = Field(default=None, description="Git repository that the program is built from.")


class ContainerSimulator(_Program):
    """Any program in an image that knows neither Prefect nor this project. It needs a Kubernetes work pool.

    Example:
        ```python
        ContainerSimulator(image="registry/openfoam:12", command=["simpleFoam", "-case", "{output}"], files=["case"])
        ```
    """

    model_config = ConfigDict(title="Container")

    type: Literal["container"] = "container"
    image: str = Field(min_length=1, max_length=1000, description="Image, best with its digest: name@sha256:...")
    user: int | None = Field(
        default=None, ge=1, description="User id that the program runs as; left out, the image's own, if not root."
    )


def _with_type(value: Any) -> Any:
    if isinstance(value, dict) and "type" not in value:
        kind = "container" if "image" in value else "command" if "command" in value else "python"
        return {"type": kind, **value}
    return value


SimulatorConfig = Annotated[
    Annotated[PythonSimulator | CommandSimulator | ContainerSimulator, Field(discriminator="type"), Tabs()],
    BeforeValidator(_with_type),
]
"""Any simulator, told apart by `type`; left out, it is a container where there is an image, a command where there is
one, and Python elsewhere."""


def _inside(path: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("a path inside the trial's directory has no `..` and does not start with `/`")
    return path
