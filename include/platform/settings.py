"""Deployment settings: Airflow configuration options of the section ``[data_platform]``.

MWAA sets them as configuration options (``data_platform.bucket``), Astro and the laptop as environment variables
(``AIRFLOW__DATA_PLATFORM__BUCKET``). They are read from the environment only, so that reading them at parse time touches nothing.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

_PREFIX = "AIRFLOW__DATA_PLATFORM__"


class SettingsError(ValueError):
    """A deployment setting is missing or malformed."""


class DbtExecution(StrEnum):
    """How a dbt graph becomes Airflow tasks."""

    GRAPH = "graph"
    """One dbt process for the whole graph in one task; each model is an asset event. The default."""

    WATCHER = "watcher"
    """Cosmos: one dbt process, one (deferrable) task per model that watches it."""

    LOCAL = "local"
    """Cosmos: one dbt process per model; for warehouses where a model takes minutes."""


class S3Scheme(StrEnum):
    """How Spark is told that a file is in S3."""

    S3 = "s3"
    """EMR's own file system. The default."""

    S3A = "s3a"
    """Hadoop's, which any other Spark has."""


@dataclass(frozen=True)
class Settings:
    """All deployment settings, validated.

    Attributes:
        bucket: S3 bucket for dbt's run state and documentation, quality evidence, held versions' reports and Spark jobs.
        warehouse_venv: the environment with dbt and Soda; tasks call it as a subprocess.
        scratch_dir: fast local disk of the worker; may vanish between tasks.
        dbt_execution: `graph` (one task), or `watcher` or `local` (one Cosmos task per model).
        dbt_threads: models that dbt builds at once.
        zero_etl_poll_seconds: time between two looks at the integration's checkpoint; each keeps Redshift Serverless awake.
        zero_etl_min_interval_seconds: least time between two asset events of a moved checkpoint.
        zero_etl_history_mode: whether `sales` and `listing` replicate in history mode; else facts rebuild in full, and freshness warns.
        publish_grace_seconds: how long an old published version stays readable on Redshift.
        catalog_domain_id: Amazon DataZone domain that gets lineage and quality scores; empty means no catalog.
        catalog_project_id: DataZone project that owns the data products' assets; empty means assets are never created, only found.
        spark_version: the batch gateway's name for the Spark image of the platform's jobs.
        spark_s3_scheme: how the clusters' Spark reads S3: `s3` on EMR, `s3a` elsewhere.
        spark_service_account: Kubernetes service account of the platform's jobs; empty means the one that the gateway has for the cluster.
        tenants_evidence_bucket: S3 bucket with object lock, for the evidence of tenant migrations.
        tenants_signing_key: KMS key that signs it: id, ARN or alias of an asymmetric key.
        tenants_evidence_days: how long nobody can delete it.
        tenants_verification_minutes: how long a comparison of source and target is good for.
        tenants_poll_seconds: time between two looks at a tenant's changes while nothing has to be replayed.
        ingestion_schedule: cron expression, UTC: when the intake looks in any case, whatever the queue tells, and reads streams.
        ingestion_queue_url: SQS queue that S3 tells of raw objects by; empty means that they are found by listing.
        ingestion_queue_poll_seconds: time between two looks at the number of the queue's messages.
        ingestion_queue_min_gap_seconds: least time between two asset events of a queue that holds messages.
        ingestion_list_prefix: what a scheduled run lists where there is no queue; empty means all of the raw buckets.
        ingestion_raw_buckets: S3 buckets with raw objects, separated by commas; nothing is read from any other.
        ingestion_bucket: S3 bucket of the intake's own: dead letters, what was refused, landing objects of streams and replays.
        ingestion_ledger_table: DynamoDB table that makes each object version ingested once.
        ingestion_lake_bucket: S3 bucket of Amazon Security Lake in the lake's own region.
        ingestion_lake_region: that region; events whose source does not say theirs are of it.
        ingestion_lake_account: 12 digits of the lake's account, Security Lake's delegated administrator.
        ingestion_lake_principal: 12 digits of the account that takes the lake's roles for writing; empty means the lake's own.
        ingestion_lake_external_id: external id that it names then.
        ingestion_lake_crawler_role: ARN of the role that Security Lake's crawlers of custom sources run as.
        ingestion_engine_threads: of the OCSF engine in each task; more than one only where a worker has cores to spare.
    """

    bucket: str = "data-platform"
    warehouse_venv: Path = Path("/usr/local/airflow/warehouse-venv")
    scratch_dir: Path = Path(tempfile.gettempdir()) / "data-platform"
    dbt_execution: DbtExecution = DbtExecution.GRAPH
    dbt_threads: int = 4
    zero_etl_poll_seconds: float = 15.0
    zero_etl_min_interval_seconds: float = 15.0
    zero_etl_history_mode: bool = True
    publish_grace_seconds: float = 3600.0
    catalog_domain_id: str = ""
    catalog_project_id: str = ""
    spark_version: str = "3.5.0"
    spark_s3_scheme: S3Scheme = S3Scheme.S3
    spark_service_account: str = ""
    tenants_evidence_bucket: str = "data-platform-evidence"
    tenants_signing_key: str = "alias/tenant-migrations"
    tenants_evidence_days: int = 2555
    tenants_verification_minutes: float = 60.0
    tenants_poll_seconds: float = 10.0
    ingestion_schedule: str = "*/5 * * * *"
    ingestion_queue_url: str = ""
    ingestion_queue_poll_seconds: float = 10.0
    ingestion_queue_min_gap_seconds: float = 30.0
    ingestion_list_prefix: str = ""
    ingestion_raw_buckets: str = "data-platform-raw"
    ingestion_bucket: str = "data-platform-ingestion"
    ingestion_ledger_table: str = "ingestion-ledger"
    ingestion_lake_bucket: str = "aws-security-data-lake-us-east-1"
    ingestion_lake_region: str = "us-east-1"
    ingestion_lake_account: str = ""
    ingestion_lake_principal: str = ""
    ingestion_lake_external_id: str = "data-platform-ingestion"
    ingestion_lake_crawler_role: str = ""
    ingestion_engine_threads: int = 1

    @property
    def dbt_executable(self) -> Path:
        """The dbt command of the warehouse environment."""
        return self.warehouse_venv / "bin" / "dbt"


def _allowed(kind: Any) -> str:
    if kind is _boolean:
        return "true or false"
    return f"one of {[str(e) for e in kind]}" if issubclass(kind, StrEnum) else f"a value of type {kind.__name__}"


def _boolean(raw: str) -> bool:
    """Airflow's own spellings of true and false (`airflow.configuration`)."""
    value = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}.get(raw.strip().lower())
    if value is None:
        raise ValueError(raw)
    return value


def load_settings(environ: dict[str, str] | None = None) -> Settings:
    """Read the settings from ``environ`` (default: the process's).

    Raises:
        SettingsError: a value can't be read; the message names the option, the value and what is allowed.
    """
    source = dict(os.environ) if environ is None else environ
    values: dict[str, Any] = {}
    for option in fields(Settings):
        raw = source.get(_PREFIX + option.name.upper())
        if not raw:
            continue
        kind: Any = Path if isinstance(option.default, Path) else type(option.default)
        if kind is bool:
            kind = _boolean
        try:
            values[option.name] = kind(raw)
        except ValueError as error:
            raise SettingsError(
                f"option data_platform.{option.name}: expected {_allowed(kind)}, found {raw!r}"
            ) from error
    settings = Settings(**values)
    for name in (
        "dbt_threads",
        "zero_etl_poll_seconds",
        "zero_etl_min_interval_seconds",
        "publish_grace_seconds",
        "tenants_evidence_days",
        "tenants_verification_minutes",
        "tenants_poll_seconds",
        "ingestion_queue_poll_seconds",
        "ingestion_queue_min_gap_seconds",
        "ingestion_engine_threads",
    ):
        if getattr(settings, name) <= 0:
            raise SettingsError(
                f"option data_platform.{name}: expected a number above 0, found {getattr(settings, name)!r}"
            )
    return settings
