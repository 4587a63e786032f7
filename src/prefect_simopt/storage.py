"""Objects under one root: a folder of this machine, or a prefix of a bucket. Writes are whole or absent, never torn.

Imported by every simulator process, so it imports nothing beyond the standard library.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from prefect_simopt.errors import StoreError

__all__ = ["Storage", "StudyLocation", "checked_key"]


def checked_key(key: str) -> str:
    """The key, if it stays under the root.

    Raises:
        StoreError: it is empty, absolute, or has an empty part, `.`, `..`, a backslash or a NUL.
    """
    if any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or "\0" in key:
        raise StoreError(f"{key!r} is no name of an object in a store; use letters, digits and dashes")
    return key


class Storage(ABC):
    """Objects by key, `/` between the parts of a key. All methods may be called from any thread.

    Every method raises `StoreError`, in words for the person who runs the study, when the place itself fails; what
    was there before a failed write is still there, whole.

    Attributes:
        url: the root, without credentials.
        appends: whether objects can be appended to.
    """

    url: str
    appends: bool

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The object's bytes; None where there is none."""

    @abstractmethod
    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write or replace an object, at once."""

    def write_parts(self, key: str, parts: Sequence[bytes | memoryview]) -> None:
        """Write an object that is given in pieces, which are not copied together where that can be avoided."""
        self.write(key, b"".join(parts))

    @abstractmethod
    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and a token for `replace`; None where there is none."""

    @abstractmethod
    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Write an object only if it is still the one that `version` stands for; None: only if there is none.

        Returns:
            The token of what was written; None when somebody else's object was there, which is left as it is.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. Those that are gone already do not matter."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Names of the objects directly in a folder, sorted, without those in its subfolders."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""

    @abstractmethod
    def age(self, key: str) -> float | None:
        """Seconds since the object was written, by the storage's own clock; None where there is none."""

    def append(self, key: str, data: bytes, position: int) -> None:
        """Make an object of `position` bytes longer. Bytes beyond `position`, left by a kill, are cut off."""
        raise NotImplementedError

    def link(self, key: str, seconds: int) -> str:
        """A URL by which anybody may read the object, without credentials, for so many seconds.

        Raises:
            StoreError: only S3 servers have such links.
        """
        del seconds
        raise StoreError(f"{self.url}/{key} is a file of this machine, which no link leads to; copy it from there")

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """`read` of each key."""
        return [self.read(key) for key in keys]

    def write_many(self, objects: Mapping[str, bytes]) -> None:
        """`write` of each object, in any order."""
        for key, data in objects.items():
            self.write(key, data)

    def footprint(self) -> Callable[[], None]:
        """What takes away again the folders that are not there yet: call it when nothing was left in them."""
        return lambda: None

    @abstractmethod
    def clean(self) -> None:
        """Remove what killed processes left half written."""


@dataclass(frozen=True)
class StudyLocation:
    """Where a study lives, in a form that goes to other processes.

    Attributes:
        url: a path, `file://…` or `s3://bucket/…`.
        options: credentials and settings: `key`, `secret`, `token`, `endpoint_url` and other arguments of
            `s3fs.S3FileSystem`; `retry_seconds`, for how long a failing S3 server is tried again (60); `fsync`, true
            to survive a power cut and not only kills. They go only through private pipes and are never shown.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def storage(self) -> Storage:
        """The storage at this location.

        Raises:
            StoreError: the URL's scheme is unknown.
        """
        from prefect_simopt.disk import LocalStorage

        if "://" not in self.url:
            return LocalStorage(self.url, **self.options)
        parts = urlsplit(self.url)
        if parts.scheme == "file":
            return LocalStorage(unquote(parts.path), **self.options)
        if parts.scheme == "s3":
            from prefect_simopt.s3 import S3Storage

            return S3Storage(self.url, **self.options)
        raise StoreError(f"{self.url}: a store is a path, file://… or s3://bucket/…, not {parts.scheme}://")

    def child(self, name: str) -> "StudyLocation":
        """The location of the study `name` in the store at this location."""
        return StudyLocation(f"{self.url.rstrip('/')}/{checked_key(name)}", self.options)

    def to_json(self) -> dict[str, Any]:
        """A JSON document, with the credentials: for private pipes only."""
        return {"url": self.url, "options": dict(self.options)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(document["url"], document["options"])
