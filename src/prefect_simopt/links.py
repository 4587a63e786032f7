"""Links to fields: presigned URLs that carry, behind their `#`, what is needed to check what arrives.

Whatever stands behind the `#` of a URL is never sent to a server, so a link serves a browser or curl as well; `fetch`
also proves that what came is what the simulator wrote.
"""

import http.client
import re
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import prod
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np

from prefect_simopt.chunks import ChunkArray
from prefect_simopt.errors import CorruptionError, SpecError, StoreError
from prefect_simopt.fields import decode_field, field_document, field_key
from prefect_simopt.study import Study

__all__ = ["LONGEST", "FieldLink", "fetch", "make_link"]

LONGEST = 7 * 24 * 3600
"""Seconds: the longest life that signature version 4 has for a link."""

_SILENCE = 60.0  # seconds without a byte before a server counts as away
_OVERHEAD = 1 << 20  # bytes by which an object may be larger than its array: headers of blocks that do not get smaller


@dataclass(frozen=True)
class FieldLink:
    """Where a trial's field can be read without credentials for a while, and what it must be.

    Attributes:
        url: the presigned URL.
        study: name of the study.
        trial: number of the trial.
        field: name of the field.
        dtype: NumPy's name of the numbers' type.
        shape: of the array.
        sha256: of its raw bytes, as hexadecimal.
    """

    url: str
    study: str
    trial: int
    field: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str

    def __str__(self) -> str:
        described = {
            "study": self.study,
            "trial": self.trial,
            "field": self.field,
            "dtype": self.dtype,
            "shape": ",".join(map(str, self.shape)),
            "sha256": self.sha256,
        }
        return f"{self.url}#{urlencode(described)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`.

        Raises:
            SpecError: it is no such link, or the part behind the `#` was lost on the way.
        """
        url, _, fragment = text.partition("#")
        if urlsplit(url).scheme not in ("http", "https"):
            raise SpecError(f"{url} is no link; links begin with https:// or http://")
        try:
            given = {name: values[-1] for name, values in parse_qs(fragment, strict_parsing=True).items()}
            shape = tuple(int(length) for length in given["shape"].split(",") if length)
            link = cls(url, given["study"], int(given["trial"]), given["field"], given["dtype"], shape, given["sha256"])
            known = np.dtype(link.dtype).kind in "biufc" and re.fullmatch("[0-9a-f]{64}", link.sha256)
        except (KeyError, ValueError, TypeError):
            known = None
        if not known:
            raise SpecError(
                "the link has lost the part behind its #, which says what must arrive: give it whole, in quotes, as "
                "`simopt link` printed it"
            )
        return link

    @property
    def expiry(self) -> datetime | None:
        """When it ends to be valid; None when the URL does not say so."""
        query = {name.lower(): values[-1] for name, values in parse_qs(urlsplit(self.url).query).items()}
        try:
            signed = datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed + timedelta(seconds=int(query["x-amz-expires"]))
        except (KeyError, ValueError):
            return None


def make_link(study: Study, trial: int, field: str, expires: int = 900) -> FieldLink:
    """A link to a field of a trial. Whoever has it can read this one object and nothing else.

    Args:
        study: in an S3 store.
        trial: number of the trial.
        field: name of the field.
        expires: seconds until it ends, at most a week.

    Raises:
        SpecError: there is no such trial or field, or it is to live too long.
        StoreError: the store is no S3 store, or there are no credentials.
    """
    if not 1 <= expires <= LONGEST:
        raise SpecError(f"a link lives for 1 to {LONGEST} seconds (a week), not {expires}")
    known = _digests(study, trial)
    if field not in known:
        raise SpecError(f"trial {trial} has no field {field!r}; it has: {', '.join(known) or 'none'}")
    storage = study.location.storage()
    document = field_document(storage, field)
    shape = tuple(int(length) for length in document["shape"][1:])
    url = storage.link(field_key(field, trial, len(shape)), expires)
    return FieldLink(url, study.name, trial, field, document["data_type"], shape, known[field])


def _digests(study: Study, trial: int) -> dict[str, str]:
    """SHA-256 of the fields that a trial has, by name.

    Raises:
        SpecError: the study has no such trial.
    """
    try:
        return dict(study.trial(trial).fields)
    except KeyError:
        raise SpecError(f"{study.name} has no trial {trial}; it has {study.counts['total']}, counted from 0") from None


def fetch(link: FieldLink) -> ChunkArray:
    """What a link leads to, checked against its SHA-256.

    Raises:
        StoreError: the link has expired or is refused, the object is gone, or the server does not answer.
        CorruptionError: what came is not what the simulator wrote.
    """
    what = f"the field {link.field} of trial {link.trial} of {link.study}"
    dtype = np.dtype(link.dtype)
    limit = prod(link.shape) * dtype.itemsize + _OVERHEAD
    try:
        with urllib.request.urlopen(link.url, timeout=_SILENCE) as answer:  # noqa: S310 - `parse` let only HTTP through
            data = answer.read(limit + 1)
    except HTTPError as error:
        raise StoreError(_refusal(link, what, error)) from None
    except (URLError, OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise StoreError(f"{what}: the server {urlsplit(link.url).netloc} does not answer ({why}); try again") from None
    if len(data) > limit:
        raise CorruptionError(f"{what} is larger than what the simulator wrote")
    return decode_field(data, dtype, link.shape, link.sha256, what)


def _refusal(link: FieldLink, what: str, error: HTTPError) -> str:
    """Why the server gave no object, and the way out."""
    said = error.read(4096).decode(errors="replace")
    again = f"`simopt link STUDY --trial {link.trial} --field {link.field}` makes a new one"
    expiry = link.expiry
    if error.code in (400, 403) and ("expired" in said.lower() or (expiry is not None and expiry < datetime.now(UTC))):
        when = f" at {expiry:%Y-%m-%d %H:%M:%S} UTC" if expiry is not None else ""
        return f"{what}: the link expired{when}; {again}"
    if error.code == 404:
        return f"{what} is not there any more; `simopt verify STUDY` says whether the study is whole"
    found = re.search("<Code>([^<]*)</Code>", said)
    reason = f"{error.code} {found[1] if found else error.reason}"
    if error.code == 403:
        return f"{what}: the link is refused ({reason}): it was changed, or its credentials ended; {again}"
    return f"{what}: the server answered {reason}; try again"
