"""What the intake's tasks work with, as the connection ``aws_ingestion``, the settings and the sources say."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.batches import MIB, BatchLimits, Ingestion
from include.ingestion.fetch import client_config
from include.ingestion.ledger import Ledger
from include.ingestion.processors import processor_for
from include.ingestion.security_lake import Lake, LakePartition, custom_source_name, lake_account, lake_key
from include.ingestion.sources import KeyAmbiguous, load_source, mapping_digest, match_object
from include.platform import connections
from include.platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.ingestion.batches import Output
    from include.ingestion.ledger import Batch, Upload
    from include.ingestion.notices import ObjectVersion
    from include.ingestion.processors import EngineProcessor

log = logging.getLogger(__name__)

AWS_ACTIONS: Final = ("s3:ListBucket", "s3:ListBucketVersions")
"""What `include.ingestion.receive` calls by a name that is no literal: it lists versions where a bucket keeps them."""
WORK_FOLDER: Final = "ingestion"
"""Below ``data_platform.scratch_dir``."""


def connected(service: str) -> Any:
    """A boto3 client by the connection."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook: Any = AwsGenericHook(aws_conn_id=connections.INGESTION, client_type=service, config=client_config())
    return hook.get_conn()


@dataclass(frozen=True)
class Intake:
    """Clients, each made when it is first used, and what is made of them.

    Attributes:
        settings: of the deployment.
        make: gives a boto3 client of a service.
    """

    settings: Settings = field(default_factory=load_settings)
    make: Callable[[str], Any] = connected

    def _client(self, service: str) -> Any:
        return self.make(service)

    @cached_property
    def s3(self) -> Any:
        """Amazon S3."""
        return self._client("s3")

    @cached_property
    def sqs(self) -> Any:
        """Amazon SQS."""
        return self._client("sqs")

    @cached_property
    def kinesis(self) -> Any:
        """Amazon Kinesis Data Streams."""
        return self._client("kinesis")

    @cached_property
    def glue(self) -> Any:
        """AWS Glue."""
        return self._client("glue")

    @cached_property
    def securitylake(self) -> Any:
        """Amazon Security Lake."""
        return self._client("securitylake")

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self._client("dynamodb"), self.settings.ingestion_ledger_table)

    @cached_property
    def iam(self) -> Any:
        """AWS IAM."""
        return self._client("iam")

    @property
    def lake(self) -> Lake:
        """The data lake."""
        return Lake(self.settings.ingestion_lake_region, self.settings.ingestion_lake_bucket)

    @property
    def raw_buckets(self) -> tuple[str, ...]:
        """Where raw objects are."""
        return tuple(name for each in self.settings.ingestion_raw_buckets.split(",") if (name := each.strip()))

    def route(self, version: ObjectVersion) -> str | None:
        """Whose a raw object is; None: nobody's.

        What a notice says is believed only of the raw buckets: else whoever may write to the queue could have any object read.
        """
        if version.bucket not in self.raw_buckets:
            log.warning("expected an object of %s, found %s; it is set aside", ", ".join(self.raw_buckets), version)
            return None
        try:
            found = match_object(version.key)
        except KeyAmbiguous as error:  # it must not keep the others in the queue
            log.warning("%s; it is set aside until then", error)
            return None
        return found.source.name if found else None

    def ingestion(self, engine: EngineProcessor, batch_id: str) -> Ingestion:
        """What ingests a batch.

        Args:
            engine: the local engine; whether it is that one depends on the batch.
            batch_id: of the batch.
        """
        batch = self.ledger.batch(batch_id)
        return Ingestion(
            s3=self.s3,
            ledger=self.ledger,
            processor=processor_for(batch, load_source(batch.source), engine),
            lake_bucket=self.settings.ingestion_lake_bucket,
            output_key=output_key,
            dead_letter_bucket=self.settings.ingestion_bucket,
            dead_letter_share=lambda source: load_source(source).limits.dead_letter_share,
            work=self.settings.scratch_dir / WORK_FOLDER,
            threads=self.settings.ingestion_engine_threads,
            mapping_digest=lambda source: mapping_digest(load_source(source)),
        )


def batch_limits(source: str) -> BatchLimits:
    """How a source's objects are grouped."""
    batches = load_source(source).batches
    return BatchLimits(
        objects=batches.max_objects, bytes=batches.max_mib * MIB, wait_seconds=float(batches.wait_seconds)
    )


def has_work(ledger: Ledger, source: str, *, flush: bool = False) -> bool:
    """Whether a source has batches to plan or to ingest.

    Args:
        ledger: what waits.
        source: whose.
        flush: a batch need not be full, nor wait until it is.
    """
    if ledger.open_batches(source):
        return True
    waits, limits = ledger.wait_of(source), batch_limits(source)
    if not waits.objects:
        return False
    waited = ledger.clock() - datetime.fromisoformat(waits.since).timestamp()
    full = waits.objects >= limits.objects or waits.bytes >= limits.bytes
    return flush or full or waited >= limits.wait_seconds


def output_key(source: str, output: Output, batch_id: str) -> str:
    """Key of an output in the lake."""
    return lake_key(
        custom_source_name(source, output.class_name),
        output.region,
        output.account_id,
        output.event_day,
        batch_id,
        output.part,
    )


def partitions_of(batch: Batch, uploads: Sequence[Upload]) -> set[LakePartition]:
    """The partitions of the lake that a batch has objects in.

    Args:
        batch: that is published.
        uploads: its outputs.
    """
    return {
        LakePartition(
            custom_source_name(batch.source, str(upload.detail["class"])),
            str(upload.detail["region"]),
            lake_account(str(upload.detail["account_id"])),
            str(upload.detail["event_day"]),
        )
        for upload in uploads
        if upload.kind == "lake"
    }
