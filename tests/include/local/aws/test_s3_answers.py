"""S3 in the stand-in, where moto answers otherwise than AWS."""

from __future__ import annotations

import pytest


def test_completing_an_upload_that_is_not_there_is_refused(clients):
    s3 = clients.s3
    s3.create_bucket(Bucket="uploads")
    upload_id = s3.create_multipart_upload(Bucket="uploads", Key="k")["UploadId"]
    part = s3.upload_part(Bucket="uploads", Key="k", UploadId=upload_id, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket="uploads", Key="k", UploadId=upload_id)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    with pytest.raises(s3.exceptions.NoSuchUpload):
        s3.complete_multipart_upload(Bucket="uploads", Key="k", UploadId=upload_id, MultipartUpload=parts)
