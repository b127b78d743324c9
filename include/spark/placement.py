"""Put a packaged job where the clusters read it: in S3, or through the gateway's upload endpoint.

The address has a digest of the content, so a running job's files never change and a new version gets an address of its own. What is there
already is not written again.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from include.spark.exceptions import JobNotPlaced, PlacedFileDiffers
from include.warehouse.object_store import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.spark.packages import JobFile, JobPackage
    from include.warehouse.object_store import ObjectStore

log = logging.getLogger(__name__)

PREFIX: Final = "spark/jobs"
"""In the platform's bucket."""
_DIGITS: Final = 16
_SHA256: Final = "sha256"


@dataclass(frozen=True)
class PlacedJob:
    """Where a job's files are.

    Attributes:
        job: its name.
        digest: of the package; see `JobPackage.digest`.
        main_application_file: URL of the main file.
        py_files: URLs for ``deps.pyFiles``.
    """

    job: str
    digest: str
    main_application_file: str
    py_files: tuple[str, ...] = ()

    def to_xcom(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "py_files": list(self.py_files)}

    @classmethod
    def from_xcom(cls, value: dict[str, Any]) -> PlacedJob:
        """Read `to_xcom`."""
        return cls(**value | {"py_files": tuple(value["py_files"])})


class Upload(Protocol):
    """`BatchGatewayHook.upload`."""

    def __call__(self, name: str, content: bytes, *, folder: str) -> str:
        """Store a file; gives its URL."""


def folder(package: JobPackage) -> str:
    """Name and version of a job."""
    return f"{package.job}/{package.digest[:_DIGITS]}"


def place_in_s3(package: JobPackage, client: ObjectStore, bucket: str, scheme: str = "s3") -> PlacedJob:
    """Write the files that are not there yet to ``<bucket>/spark/jobs/<job>/<digest>/``.

    Args:
        package: the job.
        client: of S3.
        bucket: the platform's.
        scheme: of the URLs, as the clusters read S3: ``s3`` on EMR, ``s3a`` elsewhere.

    Raises:
        PlacedFileDiffers: something else is at a file's address.
        JobNotPlaced: S3 does not take a file.
    """

    def place(file: JobFile) -> str:
        key = f"{PREFIX}/{folder(package)}/{file.name}"
        _ensure(client, bucket, key, file)
        return f"{scheme}://{bucket}/{key}"

    return _placed(package, place)


def place_through_gateway(package: JobPackage, upload: Upload) -> PlacedJob:
    """Have the gateway write the files to its own bucket. It can't tell what is there, so it writes the same bytes again."""
    return _placed(package, lambda file: upload(file.name, file.content, folder=f"jobs/{folder(package)}"))


def _placed(package: JobPackage, place: Callable[[JobFile], str]) -> PlacedJob:
    main, *modules = [place(file) for file in package.files]
    return PlacedJob(package.job, package.digest, main, tuple(modules))


def _ensure(client: ObjectStore, bucket: str, key: str, file: JobFile) -> None:
    where = f"s3://{bucket}/{key}"
    try:
        if _is_there(client, bucket, key, file):
            log.info("%s is there already", where)
            return
        try:
            client.put_object(
                Bucket=bucket,
                Key=key,
                Body=file.content,
                ContentType=file.content_type,
                Metadata={_SHA256: file.sha256},
                ChecksumSHA256=base64.b64encode(
                    bytes.fromhex(file.sha256)
                ).decode(),  # S3 refuses what was damaged on the way
                IfNoneMatch="*",
            )
        except Exception as error:
            if not _came_first(error) or not _is_there(client, bucket, key, file):
                raise
            log.info("%s was placed by another task meanwhile", where)
            return
    except PlacedFileDiffers:
        raise
    except Exception as error:
        raise JobNotPlaced(
            f"expected {where} to be written, found: {error}; the task's role needs s3:GetObject, s3:PutObject and s3:ListBucket"
        ) from error
    log.info("%s: %s bytes placed", where, f"{len(file.content):,}")


def _is_there(client: ObjectStore, bucket: str, key: str, file: JobFile) -> bool:
    found = head(client, bucket, key)
    if found is None:
        return False
    told = (found.get("Metadata", {}).get(_SHA256), found["ContentLength"])
    if told != (file.sha256, len(file.content)):
        raise PlacedFileDiffers(
            f"s3://{bucket}/{key}: expected {len(file.content)} bytes with sha256 {file.sha256}, found {told[1]} bytes with {told[0]}; "
            "somebody wrote it by hand. Remove it, and clear this task"
        )
    return True


def _came_first(error: Exception) -> bool:
    """Whether S3 said that the object is there, or is being written by another."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") in {"PreconditionFailed", "ConditionalRequestConflict", "412"}
