"""Assets, each defined once. URIs carry no account id, host or credential.

Their schemes begin with ``x-``: for any other, Airflow loads every provider to look for a normaliser, 0.2 s in each process that parses.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias, AssetWatcher

from data_platform.ingestion.triggers import QueueDoorbellTrigger
from data_platform.zero_etl.triggers import ZeroEtlCheckpointTrigger
from include.platform import connections
from include.platform.settings import load_settings

_settings = load_settings()

TICKIT_CHECKPOINT = Asset(
    name="tickit_checkpoint",
    uri="x-zero-etl://aurora_zeroetl_integration/demodb",
    group="zero_etl",
    watchers=[
        AssetWatcher(
            name="tickit_checkpoint_watcher",
            trigger=ZeroEtlCheckpointTrigger(
                zero_etl_conn_id=connections.ZERO_ETL_TICKIT,
                poll_seconds=_settings.zero_etl_poll_seconds,
                min_interval_seconds=_settings.zero_etl_min_interval_seconds,
            ),
        )
    ],
)
"""Updated when the integration's last replicated checkpoint has moved on."""

FINANCE_PRODUCTS = Asset(name="finance_products", uri="x-warehouse://finance", group="data_product")
"""Updated when a new version of the finance products has been published."""

FINANCE_HELD = Asset(name="finance_held", uri="x-warehouse://finance/held", group="data_product")
"""Updated when the quality gate has refused a version, and none was held before."""

FINANCE_HELD_VERSIONS = AssetAlias(name="finance_held_versions", group="data_product")
"""Stands for `FINANCE_HELD`, so that a task can decide whether to update it."""

FINANCE_MODELS = AssetAlias(name="finance_models", group="dbt_model")
"""Stands for the dbt models that a build really ran."""


def model_asset(name: str, schema: str) -> Asset:
    """The asset of one dbt model: ``x-warehouse://<schema>/<name>``."""
    return Asset(name=f"{schema}.{name}", uri=f"x-warehouse://{schema}/{name}", group="dbt_model")


INGESTION_QUEUE = Asset(
    name="ingestion_queue",
    uri="x-ingestion://queue",
    group="ingestion",
    watchers=[
        AssetWatcher(
            name="ingestion_queue_watcher",
            trigger=QueueDoorbellTrigger(
                aws_conn_id=connections.INGESTION,
                queue_url=_settings.ingestion_queue_url,
                poll_seconds=_settings.ingestion_queue_poll_seconds,
                min_gap_seconds=_settings.ingestion_queue_min_gap_seconds,
            ),
        )
    ]
    if _settings.ingestion_queue_url
    else [],
)
"""Updated while the queue holds messages: a doorbell, which tells nothing but that somebody should look."""

INGESTION_WAITING = Asset(name="ingestion_waiting", uri="x-ingestion://waiting", group="ingestion")
"""Updated when something was put into the ledger that waits for a batch: by a stream, by a replay, by a released batch."""

INGESTION_ARRIVALS = AssetAlias(name="ingestion_arrivals", group="ingestion")
"""Stands for `INGESTION_WAITING`, so that a task which found nothing can keep quiet."""

SECURITY_LAKE_SOURCES = AssetAlias(name="security_lake_sources", group="security_lake")
"""Stands for the data lake's custom sources that a batch has really added objects to."""


def security_lake_asset(custom_source: str) -> Asset:
    """The asset of a custom source of the data lake: ``x-security-lake://<custom source>``."""
    return Asset(name=f"security_lake.{custom_source}", uri=f"x-security-lake://{custom_source}", group="security_lake")
