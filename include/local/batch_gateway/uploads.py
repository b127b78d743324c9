"""S3, as the gateway and the drivers reach it. Boto3 is imported only where a file is moved: most tests move none."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Uploads:
    """One bucket service.

    Args:
        endpoint: its URL; None for AWS itself.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._made: Any = None
        self._lock = threading.Lock()

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Store an object."""
        self._client().put_object(Bucket=bucket, Key=key, Body=content)

    def fetch(self, url: str, path: Path) -> None:
        """Fetch ``s3://`` or ``s3a://`` into a file."""
        bucket, _, key = url.partition("://")[2].partition("/")
        self._client().download_file(bucket, key, str(path))

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                import boto3

                local = {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if self._endpoint else {}
                region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
                self._made = boto3.client("s3", endpoint_url=self._endpoint, region_name=region, **local)
            return self._made
