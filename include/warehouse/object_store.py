"""S3, as far as the warehouse's workflows need it."""

from __future__ import annotations

from typing import Any, Protocol

from include.platform import connections

_TIMEOUTS = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "total_max_attempts": 3}}
"""In seconds. A task that is being killed has five of them to save its state."""
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class ObjectStore(Protocol):
    """The calls of boto3's S3 client that are used."""

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """One object; its ``Body`` is a stream."""

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """One object's metadata."""

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str = ...,
        Metadata: dict[str, str] = ...,
        ChecksumSHA256: str = ...,
        IfNoneMatch: str = ...,
    ) -> Any:
        """Write one object; readers see the old one or the new."""

    def delete_object(self, *, Bucket: str, Key: str) -> Any:
        """Remove one object; it need not be there."""


def s3_client() -> ObjectStore:
    """S3 as the AWS connection says."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    client: ObjectStore = S3Hook(aws_conn_id=connections.AWS, config=Config(**_TIMEOUTS)).get_conn()
    return client


def is_missing(error: Exception) -> bool:
    """Whether S3 said that there is no such object."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") in _MISSING


def head(client: ObjectStore, bucket: str, key: str) -> dict[str, Any] | None:
    """An object's metadata, None if there is no such object."""
    try:
        return client.head_object(Bucket=bucket, Key=key)
    except Exception as error:
        if is_missing(error):
            return None
        raise
