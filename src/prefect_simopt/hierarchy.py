"""The `zarr.json` documents of a study: groups, arrays, and the consolidated metadata that readers open first.

The one writer keeps the consolidated metadata in step with the arrays, so that `xarray.open_zarr` sees shapes that fit
each other at any moment. Folders that hold no arrays are groups too, so that a reader that lists the study finds
nothing but Zarr nodes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from prefect_simopt.chunks import dump, group_document
from prefect_simopt.errors import StoreError
from prefect_simopt.ledger import newest_records
from prefect_simopt.storage import Storage

__all__ = ["FOLDERS", "LAYOUT", "Hierarchy", "study_attributes"]

LAYOUT = 1
"""Version of the store's layout."""
FOLDERS = ("checkpoints", "fields", "lease", "ledger", "logs", "outcomes", "requests", "tmp")
"""Groups of a study."""


class Hierarchy:
    """The documents of one study.

    Args:
        storage: of the study.
        attributes: of its root group.

    Attributes:
        attributes: likewise.
    """

    def __init__(self, storage: Storage, attributes: Mapping[str, Any]) -> None:
        self._storage = storage
        self.attributes = dict(attributes)
        self._nodes: dict[str, dict[str, Any]] = {}
        self._written: dict[str, bytes | None] = {}

    def create(self) -> None:
        """Write the groups, the root last."""
        self._storage.write_many({f"{name}/zarr.json": dump(_group({})) for name in FOLDERS})
        self._storage.write("zarr.json", dump(self._root()))

    def set(self, path: str, document: dict[str, Any]) -> None:
        """Add or change an array; `write` makes it so."""
        self._nodes[path] = document

    def write(self) -> None:
        """Write the documents that have changed: arrays first, the root last."""
        inside = {
            path.removeprefix("fields/"): node for path, node in self._nodes.items() if path.startswith("fields/")
        }
        documents = {f"{path}/zarr.json": dump(node) for path, node in self._nodes.items()}
        documents |= {f"{name}/zarr.json": dump(_group({})) for name in FOLDERS if name != "fields"}
        for objects in (documents, {"fields/zarr.json": dump(_group(inside))}, {"zarr.json": dump(self._root())}):
            unknown = [key for key in objects if key not in self._written]
            self._written.update(dict(zip(unknown, self._storage.read_many(unknown), strict=True)))
            changed = {key: data for key, data in objects.items() if self._written[key] != data}
            self._storage.write_many(changed)
            self._written.update(changed)

    def _root(self) -> dict[str, Any]:
        groups = {name: group_document() for name in FOLDERS}
        return _group({**groups, **self._nodes}, {**self.attributes, "sha256": _digest(self.attributes)})


def study_attributes(storage: Storage) -> dict[str, Any] | None:
    """The attributes of a study's root group; None where there is nothing.

    Where they are damaged, the ledger says what they are.

    Raises:
        StoreError: something else than a study of a known layout is there.
    """
    data = storage.read("zarr.json")
    if data is None:
        return None
    attributes = _intact_attributes(data)
    if attributes is None:
        records = newest_records(storage, b'"generated":{"attributes":')
        attributes = next((record["generated"]["attributes"] for record in records if record), None)
    if attributes is None:
        raise StoreError(f"{storage.url} holds something that is no study; choose another name or store")
    if attributes["layout"] != LAYOUT:
        raise StoreError(
            f"{storage.url} has layout {attributes['layout']}, and this version of simopt knows {LAYOUT}; "
            "use a newer version"
        )
    return attributes


def _intact_attributes(root: bytes) -> dict[str, Any] | None:
    try:
        attributes = orjson.loads(root)["attributes"]
        digest = attributes.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return attributes if digest == _digest(attributes) else None


def _digest(attributes: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _group(nodes: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(sorted(nodes.items()))}
    return {**group_document(attributes), "consolidated_metadata": consolidated}
