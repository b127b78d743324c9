"""Uploads that stay invisible until they are completed, so that a batch's outputs can all be there before the first is seen.

An object of a multipart upload appears when the upload is completed, whole and at once. So all parts of all outputs are uploaded, then
the batch is committed, then the uploads are completed, several at a time. Between the first and the last completion a reader that lists
the prefix sees some of a batch's objects: some ten milliseconds for each. S3 has nothing that would make several objects appear at once.
Readers that go by the Glue catalog see a new partition only when it is added, which is after that; of a partition that is there already
they may see a part for that long. No reader ever sees a part of an object, an object of a batch that isn't committed, or one twice.

A bucket that is written to so needs a lifecycle rule ``AbortIncompleteMultipartUpload`` of some days: who dies between the start of an
upload and its record leaves one that nobody knows of. The days must be more than a batch may stay committed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.exceptions import OutputLost
from include.ingestion.ledger import Upload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PART_BYTES: Final = 8 * 1024 * 1024
_MOST_PARTS: Final = 1000
"""Fewer than S3 allows, so that their etags fit into an item of the ledger."""
BATCH_METADATA: Final = "ingestion-batch"
ATTEMPT_METADATA: Final = "ingestion-attempt"
_LOST: Final = frozenset({"NoSuchUpload", "404", "NoSuchKey", "NotFound"})


def upload_invisibly(
    s3: Any,
    path: Path,
    *,
    kind: str,
    bucket: str,
    key: str,
    rows: int,
    detail: Mapping[str, Any],
    batch_id: str,
    attempt: int,
) -> Upload:
    """Upload all parts of a file.

    Raises:
        ClientError: S3 has refused it; what was begun is aborted.
        OSError: the file can't be read.
    """
    metadata = {BATCH_METADATA: batch_id, ATTEMPT_METADATA: str(attempt)}
    size = path.stat().st_size
    part_bytes = max(PART_BYTES, math.ceil(size / _MOST_PARTS))
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, Metadata=metadata)["UploadId"]
    parts: list[Mapping[str, Any]] = []
    upload = Upload(kind, bucket, key, upload_id, (), rows, size, detail)
    try:
        with path.open("rb") as file:
            while (part := file.read(part_bytes)) or not parts:
                number = len(parts) + 1
                answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=part)
                sums = {
                    name: value for name, value in answer.items() if name.startswith("Checksum") and name[8:].isupper()
                }
                parts.append({"PartNumber": number, "ETag": answer["ETag"], **sums})
    except Exception:
        abort(s3, upload)
        raise
    return Upload(kind, bucket, key, upload_id, tuple(parts), rows, size, detail)


def complete(s3: Any, upload: Upload, *, batch_id: str, attempt: int) -> None:
    """Make an output visible; one that is visible already stays.

    Raises:
        OutputLost: there is neither the upload nor the object that it would have become.
    """
    from botocore.exceptions import ClientError

    where = {"Bucket": upload.bucket, "Key": upload.key}
    try:
        parts = [dict(part) for part in upload.parts]
        s3.complete_multipart_upload(**where, UploadId=upload.upload_id, MultipartUpload={"Parts": parts})
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise
        if not is_output_of(s3, upload.bucket, upload.key, batch_id=batch_id, attempt=attempt):
            raise OutputLost(
                f"batch {batch_id}: expected the upload of {upload.bucket}/{upload.key}, or the object, found neither: it was aborted, by "
                "a lifecycle rule that is too short or by somebody. Reopen the batch: it is ingested anew from its objects"
            ) from error


def is_output_of(s3: Any, bucket: str, key: str, *, batch_id: str, attempt: int) -> bool:
    """Whether the object is there, and is of that attempt of that batch."""
    from botocore.exceptions import ClientError

    try:
        metadata = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _LOST:
            return False
        raise
    return (metadata.get(BATCH_METADATA), metadata.get(ATTEMPT_METADATA)) == (batch_id, str(attempt))


def abort(s3: Any, upload: Upload) -> None:
    """Give an upload up; one that is gone stays so."""
    from botocore.exceptions import ClientError

    try:
        s3.abort_multipart_upload(Bucket=upload.bucket, Key=upload.key, UploadId=upload.upload_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _LOST:
            raise
