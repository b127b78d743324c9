"""Pools, each named for the resource it guards. Sizes are in ``airflow_settings.yaml``."""

from __future__ import annotations

from typing import Final

WAREHOUSE_BUILD: Final = "warehouse_build"
"""Slots for tasks that open the warehouse for building: one, as DuckDB has one writer and the default build is one task."""

TENANT_COPIES: Final = "tenant_copies"
"""Slots for tasks that copy a tenant's items: each reads the source as fast as its share of the migration's read units allows."""

SPARK_SUBMISSIONS: Final = "spark_submissions"
"""Slots for tasks that wait for the batch gateway's answers: one that hangs holds each for minutes and must leave workers to others."""

SECURITY_LAKE: Final = "security_lake"
"""Slots for tasks that write to the data lake beside the intake: compaction downloads and rewrites whole partitions."""


def ingest_pool(source: str) -> str:
    """Slots for batches of a source that are ingested at a time; as many as its ``source.yaml`` says."""
    return f"ingest_{source}"
