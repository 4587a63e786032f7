"""Requests on their way to a search: one small object each, written by whoever asks, removed once it is taken up.

The objects are numbered in the order in which they were written. A number may be given again once its object is gone;
what a request is known by is its token.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from prefect_simopt.lease import user_at_host
from prefect_simopt.ledger import newest_records
from prefect_simopt.steering import Kind, Request
from prefect_simopt.storage import Storage

__all__ = ["FOLDER", "make_request", "pending", "submit", "taken_up"]

FOLDER = "requests"
_NAME = re.compile(r"\d{6,}\.json")
_MARK = b'"activity":"request"'


def make_request(kind: Kind, content: Mapping[str, Any] | None = None, agent: str = "") -> Request:
    """A request of now.

    Args:
        kind: what is asked for.
        content: what goes with it, see `Request`.
        agent: who asks; left out: the user of this process.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Request(kind, dict(content or {}), agent or user_at_host(), at, secrets.token_hex(4))


def submit(storage: Storage, request: Request) -> str:
    """Put a request where the search finds it; returns its object's key.

    Raises:
        StoreError: the store cannot be written.
    """
    data = orjson.dumps(request.to_json())
    number = max((int(key.partition("/")[2].removesuffix(".json")) for key in _keys(storage)), default=0)
    while True:
        number += 1
        key = f"{FOLDER}/{number:06d}.json"
        if storage.replace(key, data, None) is not None:  # somebody else asked at the same moment otherwise
            return key


def pending(storage: Storage) -> list[tuple[str, Request | None]]:
    """The requests that nobody has taken up, in order, by their object's key; None for what is no request.

    Raises:
        StoreError: the store cannot be read.
    """
    keys = _keys(storage)
    found = zip(keys, storage.read_many(keys) if keys else [], strict=True)
    return [(key, _parsed(data)) for key, data in found if data is not None]


def taken_up(storage: Storage, count: int) -> Iterator[dict[str, Any]]:
    """The ledger's records of the last `count` requests that were taken up, the last one first.

    Raises:
        StoreError: the store cannot be read.
    """
    if count:
        yield from islice((record for record in newest_records(storage, _MARK) if record), count)


def _parsed(data: bytes) -> Request | None:
    try:
        return Request.from_json(orjson.loads(data))
    except ValueError:
        return None


def _keys(storage: Storage) -> list[str]:
    names = [name for name in storage.names(FOLDER) if _NAME.fullmatch(name)]
    return [f"{FOLDER}/{name}" for name in sorted(names, key=lambda name: int(name.removesuffix(".json")))]
