"""Downloads exactly the object version that a notice told of, into a file with a name of our own.

With a version id that version is asked for. Without, the object is asked for on condition of its etag: one that was replaced since is
another version, which its own notice tells of.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.exceptions import DiskFull, FetchFailed, ObjectArchived, ObjectGone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.ingestion.notices import ObjectVersion

BLOCK_BYTES: Final = 1024 * 1024
_TRIES: Final = 4
_PAUSE_SECONDS: Final = 0.5
_DELETED: Final = frozenset({"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "405", "NoSuchBucket"})
"""MethodNotAllowed: the version is a delete marker."""
_REPLACED: Final = frozenset({"PreconditionFailed", "412"})
_PASSING: Final = frozenset(
    {
        "SlowDown",
        "503",
        "ServiceUnavailable",
        "InternalError",
        "500",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
    }
)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def client_config() -> Any:
    """The configuration of the intake's clients, for botocore: it slows down by itself when S3 or DynamoDB says that it was too much."""
    from botocore.config import Config

    return Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "adaptive", "total_max_attempts": 8},
        max_pool_connections=32,
    )


def fetch(s3: Any, version: ObjectVersion, path: Path, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Download a version.

    Args:
        s3: a boto3 client.
        version: of an object.
        path: where to; the caller's name, made of nothing that the notice says.
        sleep: waits so many seconds between tries.

    Returns:
        Its bytes.

    Raises:
        ObjectGone: it was deleted or replaced.
        ObjectArchived: it must be restored first.
        FetchFailed: it could not be downloaded whole.
        DiskFull: there is no room.
        ClientError: S3 has refused it otherwise, as it does without permission.
    """
    problem: Exception | None = None
    for again in range(_TRIES):
        if again:
            sleep(_PAUSE_SECONDS * 2 ** (again - 1))
        try:
            return _fetch_once(s3, version, path)
        except _AgainError as error:
            problem = error.__cause__ if isinstance(error.__cause__, Exception) else error
            path.unlink(missing_ok=True)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise DiskFull(
                    f"expected room for the {version.size} bytes of {version} in {path.parent}, found none; free some, or lower the "
                    "source's batches.max_mib; the batch stays planned"
                ) from error
            raise
    raise FetchFailed(f"expected {version} within {_TRIES} tries, found {problem}; retry") from problem


class _AgainError(Exception):
    """The try failed in a way that may pass."""


def _fetch_once(s3: Any, version: ObjectVersion, path: Path) -> int:
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

    try:
        answer = s3.get_object(**_exactly(version))
        size = 0
        with path.open("wb") as file:
            while block := answer["Body"].read(BLOCK_BYTES):
                file.write(block)
                size += len(block)
    except ClientError as error:
        raise _meaning(error, version) from error
    except (HTTPClientError, IncompleteReadError, ResponseStreamingError) as error:
        raise _AgainError from error
    if size != version.size:
        raise _AgainError from FetchFailed(f"expected {version.size} bytes of {version}, found {size}")
    return size


def _exactly(version: ObjectVersion) -> dict[str, Any]:
    request = {"Bucket": version.bucket, "Key": version.key}
    if version.version_id:
        return {**request, "VersionId": version.version_id}
    return {**request, "IfMatch": f'"{version.etag}"'}


def _meaning(error: Any, version: ObjectVersion) -> Exception:
    code = error.response["Error"]["Code"]
    if code in _DELETED:
        return ObjectGone("deleted", f"expected {version}, found that it was deleted")
    if code in _REPLACED:
        return ObjectGone("replaced", f"expected {version}, found another object there; it comes by its own notice")
    if code == "InvalidObjectState":
        return ObjectArchived(f"expected {version} to be readable, found it archived; restore it, and receive it again")
    if code in _PASSING:
        return _again(error)
    return error  # type: ignore[no-any-return]


def _again(error: Exception) -> Exception:
    again = _AgainError(str(error))
    again.__cause__ = error
    return again
