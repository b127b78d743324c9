"""What infrastructure code makes for the intake on AWS: buckets, the queue that S3 tells of new objects, ledger, streams, the data lake.

The raw bucket keeps versions and sends a notice for each object that is made. Buckets that uploads are begun in give up what nobody
completes. The ledger has point-in-time recovery.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.ledger import ledger_table
from include.ingestion.sources import all_sources
from include.local.aws import s3_notices, security_lake
from include.local.aws.ingestion_names import CRAWLER, LAKE_BUCKET, LEDGER, OWN_BUCKET, QUEUE, RAW_BUCKET
from include.local.catalog.identity import ACCOUNT_ID, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

_DAYS_TO_COMPLETE: Final = 7


def make_intake(make: Callable[[str], Any]) -> None:
    """Make all that isn't there.

    Args:
        make: gives a boto3 client of a service.
    """
    s3_notices.install()
    security_lake.install()
    s3, sqs, dynamodb = make("s3"), make("sqs"), make("dynamodb")
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in {RAW_BUCKET, OWN_BUCKET} - there:
        s3.create_bucket(Bucket=bucket)
    _make_lake(make("securitylake"), make("iam"))
    s3.put_bucket_versioning(Bucket=RAW_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for bucket in (OWN_BUCKET, LAKE_BUCKET):
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [_GIVE_UP]})
    url = sqs.create_queue(QueueName=QUEUE, Attributes={"VisibilityTimeout": "300"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(_policy(arn))})
    s3.put_bucket_notification_configuration(
        Bucket=RAW_BUCKET,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    if LEDGER not in dynamodb.list_tables()["TableNames"]:
        dynamodb.create_table(**ledger_table(LEDGER))
        dynamodb.update_continuous_backups(
            TableName=LEDGER, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
    _make_streams(make("kinesis"))


_GIVE_UP: Final = {
    "ID": "give-up-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _DAYS_TO_COMPLETE},
}


def _policy(queue_arn: str) -> dict[str, Any]:
    """S3 may send, for this bucket of this account only."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{RAW_BUCKET}"},
                    "StringEquals": {"aws:SourceAccount": ACCOUNT_ID},
                },
            }
        ],
    }


def _make_lake(securitylake: Any, iam: Any) -> None:
    """The lake with its bucket and database, and the role of its crawlers."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=CRAWLER, AssumeRolePolicyDocument=json.dumps(trust))
    if not securitylake.list_data_lakes(regions=[REGION])["dataLakes"]:
        manager = f"arn:aws:iam::{ACCOUNT_ID}:role/AmazonSecurityLakeMetaStoreManager"
        securitylake.create_data_lake(configurations=[{"region": REGION}], metaStoreManagerRoleArn=manager)


def _make_streams(kinesis: Any) -> None:
    there = set(kinesis.list_streams()["StreamNames"])
    for source in all_sources():
        if source.stream.name is not None and source.stream.name not in there:
            kinesis.create_stream(StreamName=source.stream.name, ShardCount=2)
