"""How the stand-in calls what the intake works with. Imports no moto, so that whoever configures the platform may import it."""

from __future__ import annotations

from typing import Final

from include.local.catalog.identity import ACCOUNT_ID
from include.platform.settings import Settings

QUEUE: Final = "ingestion-notices"
RAW_BUCKET: Final = Settings.ingestion_raw_buckets
OWN_BUCKET: Final = Settings.ingestion_bucket
LAKE_BUCKET: Final = "aws-security-data-lake-us-east-1-5oafy3b73vvw3y4s6vq34s47gifytb"
"""As `include.local.aws.security_lake` calls it; a test holds that."""
LEDGER: Final = Settings.ingestion_ledger_table
CRAWLER: Final = "security-lake-crawler"
CRAWLER_ROLE: Final = f"arn:aws:iam::{ACCOUNT_ID}:role/{CRAWLER}"


def queue_url(aws_url: str) -> str:
    """The queue's URL at a stand-in's address."""
    return f"{aws_url}/{ACCOUNT_ID}/{QUEUE}"
