"""The spool's store: a folder on a laptop, a prefix of an S3 bucket in production. Both write a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from data_platform.lineage.exceptions import LineageConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS = 1.0
READ_SECONDS = 1.5
CALL_SECONDS = CONNECT_SECONDS + READ_SECONDS
"""One call of S3 at most: there is one attempt, because a task waits for it."""


class Store(Protocol):
    """Files by key, such as ``events/2026-01-31/08/0af1.json``."""

    def put(self, key: str, body: bytes) -> None:
        """Write a file as a whole; one that is there is replaced."""

    def get(self, key: str) -> bytes | None:
        """A file's content; None if there is none."""

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, in alphabetical order, without those that are still being written."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, in alphabetical order."""

    def delete(self, key: str) -> None:
        """Remove a file; it need not be there."""


@dataclass(frozen=True)
class FileStore:
    """A folder. A file is written under a temporary name, flushed to the disk, then renamed; its name appears with all its content."""

    root: Path

    def put(self, key: str, body: bytes) -> None:
        """See `Store.put`."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with new.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def put_once(self, key: str, body: bytes) -> None:
        """Write a file unless it is there; the same key always has the same content."""
        if not (self.root / key).exists():
            self.put(key, body)

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        return self._entries(folder, wanted=os.DirEntry.is_file)

    def folders(self, folder: str) -> list[str]:
        """See `Store.folders`."""
        return self._entries(folder, wanted=os.DirEntry.is_dir)

    def _entries(self, folder: str, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith(".") and wanted(entry))
        except FileNotFoundError:
            return []

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        (self.root / key).unlink(missing_ok=True)


class S3Store:
    """A prefix of a bucket.

    Args:
        bucket: its name.
        prefix: of every key, without a slash at the end.
        make_client: makes boto3's S3 client; called when first needed, and again in a forked process, which must not share connections.
    """

    def __init__(self, bucket: str, prefix: str, make_client: Callable[[], Any]) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._make_client = make_client
        self._client: Any = None
        self._pid: int | None = None

    @property
    def client(self) -> Any:
        """The S3 client of this process."""
        if self._pid != os.getpid():
            self._client, self._pid = self._make_client(), os.getpid()
        return self._client

    def put(self, key: str, body: bytes) -> None:
        """See `Store.put`."""
        self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=body, ContentType="application/json")

    def put_once(self, key: str, body: bytes) -> None:
        """One PUT: cheaper than to ask first, and the content is the same."""
        self.put(key, body)

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
        except Exception as error:
            if _code(error) in {"404", "NoSuchKey"}:
                return None
            raise
        return body

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        prefix = self._key(folder) + "/"
        pages = self._pages(prefix)
        return [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())]

    def folders(self, folder: str) -> list[str]:
        """See `Store.folders`."""
        prefix = self._key(folder) + "/"
        pages = self._pages(prefix)
        return [
            item["Prefix"].removeprefix(prefix).rstrip("/") for page in pages for item in page.get("CommonPrefixes", ())
        ]

    def _pages(self, prefix: str) -> Any:
        paginator = self.client.get_paginator("list_objects_v2")
        return paginator.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key


def open_store(
    url: str, *, make_client: Callable[[], Any] | None = None, endpoint: str | None = None
) -> FileStore | S3Store:
    """The store at ``url``. Nothing is opened, made or asked yet.

    Args:
        url: ``file:///folder`` or ``s3://bucket/prefix``.
        make_client: makes the S3 client; default: boto3's own credentials, short time-outs and a single attempt.
        endpoint: another address of S3, for the default client.

    Raises:
        LineageConfigInvalid: neither kind of URL.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.strip("/"):
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"), make_client or (lambda: _s3_client(endpoint)))
    raise LineageConfigInvalid(f"lineage spool: expected file:///<folder> or s3://<bucket>/<prefix>, found {url!r}")


def _s3_client(endpoint: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)


def _code(error: Exception) -> str | None:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code: str | None = response.get("Error", {}).get("Code")
    return code
