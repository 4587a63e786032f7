"""Objects in a bucket of an S3 server, through s3fs. A PUT is atomic; conditional PUTs decide between writers."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from typing import Any

from prefect_simopt.errors import StoreError
from prefect_simopt.storage import Storage, checked_key

__all__ = ["S3Storage"]

_THREADS = 16
_DELETED_AT_ONCE = 1000  # the most that S3 takes
_LONGEST_PAUSE = 5.0
_TRANSIENT = frozenset(
    ["SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSkewed", "OperationAborted",
     "ConditionalRequestConflict", "500", "502", "503", "504", "429", "409"]
)  # fmt: skip
_ADVICE = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the URL",
    "AccessDenied": "access is denied; the credentials need to read, write, list and delete below this prefix",
    "403": "access is denied; the credentials need to read, write, list and delete below this prefix",
    "InvalidAccessKeyId": "the server does not know this access key; correct the credentials",
    "XAdminUserNotFound": "the server does not know this access key; correct the credentials",
    "SignatureDoesNotMatch": "the secret does not belong to the access key; correct the credentials",
    "ExpiredToken": "the credentials have expired; renew them and give the same command again",
    "EntityTooLarge": "the object is too large for this server",
}

_log = logging.getLogger("prefect_simopt")


class S3Storage(Storage):
    """A prefix of a bucket.

    Args:
        url: `s3://bucket/prefix`.
        retry_seconds: for how long a server that is away, slow or overloaded is tried again, with growing pauses.
        fsync: has no meaning here; a PUT that was answered is durable.
        options: arguments of `s3fs.S3FileSystem`, such as `key`, `secret`, `token` and `endpoint_url`.
    """

    appends = False

    def __init__(self, url: str, *, retry_seconds: float = 60.0, fsync: bool = True, **options: Any) -> None:
        del fsync
        self.url = url.rstrip("/")
        self._bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience = retry_seconds
        self._told_away = False
        self._is_away = False  # tried in vain for that long: from then on once, until it answers again
        self._options = options

    def read(self, key: str) -> bytes | None:
        """The object's bytes; None where there is none."""
        found = self.read_version(key)
        return None if found is None else found[0]

    def write(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write or replace an object."""
        self._call("write", key, "put_object", Key=self._key(key), Body=bytes(data))

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and its ETag; None where there is none."""

        def whole() -> tuple[bytes, str]:
            answer = self._files.call_s3("get_object", Bucket=self._bucket, Key=self._key(key))
            return _body(self._files, answer), str(answer["ETag"])

        found: tuple[bytes, str] | None = self._tried("read", key, whole, missing=("NoSuchKey", "404"))
        return found

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Write an object only if it is still the one that `version` stands for; None: only if there is none."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

        def put() -> str:
            answer = self._files.call_s3("put_object", Bucket=self._bucket, Key=self._key(key), Body=data, **condition)
            return str(answer["ETag"])

        written: str | None = self._tried("write", key, put, missing=("PreconditionFailed", "412", "NoSuchKey", "404"))
        if written is None and (found := self.read_version(key)) is not None and found[0] == data:
            return found[1]  # an earlier try had come through, only its answer was lost
        return written

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        names = [self._key(key) for key in keys]
        for start in range(0, len(names), _DELETED_AT_ONCE):
            objects = {"Objects": [{"Key": name} for name in names[start : start + _DELETED_AT_ONCE]], "Quiet": True}
            answer = self._call("remove", "", "delete_objects", Delete=objects)
            for failed in answer.get("Errors", []):
                if failed.get("Code") != "NoSuchKey":
                    raise StoreError(f"cannot remove {failed.get('Key')} from {self.url}: {failed.get('Message')}")

    def names(self, folder: str = "") -> list[str]:
        """Names of the objects directly in a folder, sorted."""
        return self._listed(folder)[0]

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        return self._listed(folder)[1]

    def age(self, key: str) -> float | None:
        """Seconds since the object was written, by the server's clock."""

        def look() -> float:
            answer = self._files.call_s3("head_object", Bucket=self._bucket, Key=self._key(key))
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            return max(0.0, float((now - answer["LastModified"]).total_seconds()))

        seconds: float | None = self._tried("read", key, look, missing=("NoSuchKey", "404"))
        return seconds

    def link(self, key: str, seconds: int) -> str:
        """A presigned URL of the object, with signature version 4. Nothing is asked of the server.

        Raises:
            StoreError: there are no credentials to sign with.
        """
        path = f"{self._bucket}/{self._key(key)}"
        return str(self._tried("link to", key, lambda: self._files.url(path, expires=seconds)))

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """`read` of each key, several at a time."""
        return list(_threads().map(self.read, keys)) if len(keys) > 1 else [self.read(key) for key in keys]

    def write_many(self, objects: Mapping[str, bytes]) -> None:
        """`write` of each object, several at a time."""
        list(_threads().map(self.write, objects.keys(), objects.values()))

    def clean(self) -> None:
        """Nothing is ever half written here."""

    @cached_property
    def _files(self) -> Any:
        try:
            from s3fs import S3FileSystem
        except ImportError:
            raise StoreError(f"{self.url} needs s3fs: pip install 'prefect-simopt[aws]'") from None

        config = {
            "retries": {"max_attempts": 0},  # tried again here, where it is known for how long
            "connect_timeout": 5,
            "read_timeout": 30,
            "request_checksum_calculation": "when_required",  # many servers do not know the newer kind
            "response_checksum_validation": "when_required",
            "signature_version": "s3v4",  # links are signed with version 2 unless told otherwise
            "max_pool_connections": 2 * _THREADS,
            **self._options.get("config_kwargs", {}),
        }
        options = {**self._options, "config_kwargs": config}
        files = S3FileSystem(**options, use_listings_cache=False)
        files.retries = 1
        return files

    def _key(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _call(self, verb: str, key: str, method: str, **arguments: Any) -> Any:
        return self._tried(verb, key, lambda: self._files.call_s3(method, Bucket=self._bucket, **arguments))

    def _listed(self, folder: str) -> tuple[list[str], list[str]]:
        prefix = f"{self._key(folder)}/" if folder else self._prefix
        names: list[str] = []
        folders: list[str] = []
        more: dict[str, str] = {}
        while True:
            answer = self._call("list", folder, "list_objects_v2", Prefix=prefix, Delimiter="/", **more)
            names += [each["Key"].removeprefix(prefix) for each in answer.get("Contents", [])]
            folders += [each["Prefix"].removeprefix(prefix)[:-1] for each in answer.get("CommonPrefixes", [])]
            if not answer.get("IsTruncated"):
                return sorted(name for name in names if name), sorted(folders)
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _tried(self, verb: str, key: str, call: Callable[[], Any], missing: Sequence[str] = ()) -> Any:
        """The call's answer, after as many tries as it takes; None when the server answers one of `missing`."""
        end = time.monotonic() + (0.0 if self._is_away else self._patience)
        pause = 0.1
        while True:
            try:
                answer = call()
            except StoreError:
                raise
            except Exception as error:  # s3fs passes on what botocore, aiohttp and sockets raise
                code = _code(error)
                if code in missing:
                    return None
                transient = code in _TRANSIENT or (code == "" and _is_network(error))
                if not transient or time.monotonic() + pause > end:
                    self._is_away = transient
                    raise self._plain(error, code, key, verb, transient) from error
                if pause > 1.0 and not self._told_away:
                    self._told_away = True
                    _log.warning(
                        "the S3 server %s does not answer (%s); trying again for up to %g s",
                        self._address, code or type(error).__name__, self._patience,
                    )  # fmt: skip
            else:
                self._is_away = self._told_away = False
                return answer
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - only to spread the tries
            pause = min(2 * pause, _LONGEST_PAUSE)

    @property
    def _address(self) -> str:
        named = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        return str(self._options.get("endpoint_url") or next(filter(None, named), "of AWS"))

    def _plain(self, error: Exception, code: str, key: str, verb: str, transient: bool) -> StoreError:
        if transient:
            why = f"the S3 server {self._address} did not answer for {self._patience:g} s"
            why += f" ({code or type(error).__name__}); see that it runs, then give the same command again"
        else:
            why = _ADVICE.get(code) or str(error) or type(error).__name__
        return StoreError(f"cannot {verb} {self.url}/{key}: {why}")


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool for all storages: the cache of results may look into hundreds of studies."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="simopt-s3")


def _body(files: Any, answer: Any) -> bytes:
    from fsspec.asyn import sync

    async def read() -> bytes:
        async with answer["Body"] as body:
            return bytes(await body.read())

    whole: bytes = sync(files.loop, read)
    return whole


def _code(error: BaseException | None) -> str:
    """The server's own word for what is wrong; empty when it did not answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code", ""))
        error = error.__cause__
    return ""


def _is_network(error: BaseException) -> bool:
    """Whether an error without an answer may go away by itself: no connection, a broken one, or none in time."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError, HTTPClientError, NoCredentialsError, ParamValidationError

    if isinstance(error, NoCredentialsError | ParamValidationError):
        return False
    return isinstance(error, HTTPClientError | BotoCoreError | ClientError | OSError | TimeoutError)
