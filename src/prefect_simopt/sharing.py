"""What `simopt link` and `simopt fetch` do."""

import argparse
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson

from prefect_simopt.api import load_study
from prefect_simopt.chunks import ChunkArray
from prefect_simopt.errors import SpecError, StoreError
from prefect_simopt.links import FieldLink, fetch, make_link

__all__ = ["fetch_fields", "print_link"]


def print_link(arguments: argparse.Namespace) -> None:
    """Print a link to a field of a trial."""
    link = make_link(load_study(arguments.study), arguments.trial, arguments.field, arguments.expires)
    if not arguments.json:
        print(link)
        return
    expiry = link.expiry
    document = {"link": str(link), "sha256": link.sha256, "expires": expiry.isoformat() if expiry else None}
    print(orjson.dumps(document).decode())


def fetch_fields(arguments: argparse.Namespace) -> None:
    """Write fields as `.npy` files, each checked against its SHA-256, and print the files' names."""
    if arguments.sha256 is not None and (len(arguments.sources) > 1 or not _is_link(arguments.sources[0])):
        raise SpecError("--sha256 goes with one link")
    for source in arguments.sources:
        if _is_link(source):
            link = FieldLink.parse(source)
            if arguments.sha256 not in (None, link.sha256):
                raise SpecError("--sha256 is not what the link says: one of them speaks of another field")
            _write(arguments.output, (link.study, link.trial, link.field), fetch(link))
        else:
            _fetch_from_study(source, arguments)


def _fetch_from_study(source: str, arguments: argparse.Namespace) -> None:
    study = load_study(source)
    trial = arguments.trial
    if trial is None:
        if study.best is None:
            raise SpecError(f"{source}: no trial is complete yet, so there is no best one; name one with --trial")
        trial = study.best.number
    try:
        known = study.trial(trial).fields
    except KeyError as error:
        raise SpecError(str(error.args[0])) from None
    for name in arguments.field or known:
        if name not in known:
            raise SpecError(f"trial {trial} has no field {name!r}; it has: {', '.join(known) or 'none'}")
        _write(arguments.output, (study.name, trial, name), study.fields[name][trial])
    if not known:
        raise SpecError(f"trial {trial} of {study.name} has no fields")


def _is_link(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _write(folder: str, named: tuple[str, int, str], array: ChunkArray) -> None:
    """Write an array as `STUDY-TRIAL-FIELD.npy`, whole or not at all."""
    stem = re.sub(r"[^\w.-]", "_", "-".join(map(str, named))).lstrip(".")
    file = Path(folder) / f"{stem}.npy"
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.save(out, array, allow_pickle=False)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StoreError(f"{file} cannot be written: {error.strerror}; name another folder with --output") from None
    print(file)
