"""What moto's S3 answers where AWS answers otherwise: completing a multipart upload that is not there is refused; moto breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.s3.exceptions import NoSuchUpload
from moto.s3.models import S3Backend

from include.local.aws.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    wrap(S3Backend, "complete_multipart_upload", _checked)


def _checked(complete: Callable[..., Any]) -> Callable[..., Any]:
    def complete_multipart_upload(backend: S3Backend, bucket_name: str, multipart_id: str, body: Any) -> Any:
        if multipart_id not in backend.get_bucket(bucket_name).multiparts:
            raise NoSuchUpload(upload_id=multipart_id)
        return complete(backend, bucket_name, multipart_id, body)

    return complete_multipart_upload
