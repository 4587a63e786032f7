"""Fields that a program leaves behind, read as arrays: .npy, .npz, CSV, HDF5 and Zarr."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_simopt.errors import SimulatorError
from prefect_simopt.simulators.contract import Field
from prefect_simopt.simulators.failure import RunFailure
from prefect_simopt.simulators.metrics import regular_file, table
from prefect_simopt.trial import Reason

__all__ = ["check_readers", "read_fields"]


def check_readers(sources: Sequence[Mapping[str, Any]]) -> None:
    """Raise `SimulatorError` where a field's file is of a kind that cannot be read here."""
    for source in sources:
        for file in (source["file"], *(each["file"] for each in source["coords"].values() if each["file"])):
            suffix = _suffix(file)
            if suffix not in _READERS:
                raise SimulatorError(
                    f"field {source['name']!r}: cannot read {file}; files are {', '.join(sorted(_READERS))}"
                )
            if _READERS[suffix] is _read_hdf5 and importlib.util.find_spec("h5py") is None:
                raise SimulatorError(
                    f"field {source['name']!r}: reading {file} needs h5py; pip install 'prefect-simopt[hdf5]'"
                )


def read_fields(directory: Path, sources: Sequence[Mapping[str, Any]]) -> dict[str, Field]:
    """The arrays that the spec names, with the coordinates of their axes.

    Raises:
        RunFailure: a file is missing or damaged, or does not hold the array.
    """
    fields = {}
    for source in sources:
        what = f"field {source['name']!r}"
        values = _read(directory, source["file"], source["dataset"], what)
        coords = {
            axis: _read(directory, each["file"] or source["file"], each["dataset"], f"{what}, coordinate {axis!r}")
            for axis, each in source["coords"].items()
        }
        units = {axis: each["unit"] for axis, each in source["coords"].items()}
        fields[source["name"]] = Field(values, tuple(source["dims"]), source["unit"], coords, units)
    return fields


def _read(directory: Path, file: str, dataset: str | None, what: str) -> Any:
    path = directory / file
    if not path.exists():
        raise RunFailure(Reason.BAD_FIELD, f"{what}: the program left no {file}")
    try:
        return _READERS[_suffix(file)](path, dataset)
    except RunFailure:
        raise
    except Exception as error:  # noqa: BLE001 - each library has its own errors for damaged files
        text = f"{type(error).__name__}: {error}"[:300]
        raise RunFailure(Reason.BAD_FIELD, f"{what}: {file} cannot be read: {text}") from None


def _suffix(file: str) -> str:
    return Path(file.rstrip("/")).suffix.lower()


def _read_npy(path: Path, dataset: str | None) -> Any:
    import numpy as np

    _needs_no(dataset, path)
    with regular_file(path, Reason.BAD_FIELD, "field") as file:
        return np.load(file, allow_pickle=False)


def _read_npz(path: Path, dataset: str | None) -> Any:
    import numpy as np

    with regular_file(path, Reason.BAD_FIELD, "field") as file, np.load(file, allow_pickle=False) as archive:
        return archive[_choose(dataset, list(archive.files), path)]


def _read_csv(path: Path, dataset: str | None) -> Any:
    """All columns, shape (rows, columns), or the one named `dataset`, shape (rows,)."""
    import io

    import numpy as np

    with regular_file(path, Reason.BAD_FIELD, "field") as file:
        header, rows = table(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        if dataset is None:
            return np.array([[float(cell) for cell in row] for row in rows])
        place = header.index(_choose(dataset, header, path))
        return np.array([float(row[place]) for row in rows])


def _read_hdf5(path: Path, dataset: str | None) -> Any:
    import h5py

    with regular_file(path, Reason.BAD_FIELD, "field"), h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return file[_choose(dataset.strip("/") if dataset else None, names, path)][()]


def _read_zarr(path: Path, dataset: str | None) -> Any:
    import numpy as np
    import zarr

    opened = zarr.open(str(path), mode="r")
    if isinstance(opened, zarr.Array):
        _needs_no(dataset, path)
        return np.asarray(opened[...])
    name = _choose(dataset, [key for key, _ in opened.arrays()] if dataset is None else [dataset], path)
    array = opened[name]
    if not isinstance(array, zarr.Array):
        raise RunFailure(Reason.BAD_FIELD, f"{path.name}: {name} is a group, not an array")
    return np.asarray(array[...])


def _choose(dataset: str | None, names: list[str], path: Path) -> str:
    there = ", ".join(names[:20]) or "none"
    if dataset is None:
        if len(names) != 1:
            raise RunFailure(Reason.BAD_FIELD, f"{path.name} holds several arrays ({there}); name one as `dataset`")
        return names[0]
    if dataset not in names:
        raise RunFailure(Reason.BAD_FIELD, f"{path.name} has no array {dataset!r} (those there are: {there})")
    return dataset


def _needs_no(dataset: str | None, path: Path) -> None:
    if dataset is not None:
        raise RunFailure(Reason.BAD_FIELD, f"{path.name} holds one array without a name; leave `dataset` out")


_READERS: dict[str, Callable[[Path, str | None], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".dat": _read_csv,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".zarr": _read_zarr,
}
