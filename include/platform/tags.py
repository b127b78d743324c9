"""Tags, an enumeration: a tag that is not here is a typing mistake."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """What a DAG is about (domain) and what it does (kind)."""

    FINANCE = "finance"
    PLATFORM = "platform"
    SECURITY = "security"
    TENANTS = "tenants"

    CONFIGURATION = "configuration"
    DBT = "dbt"
    INGESTION = "ingestion"
    LINEAGE = "lineage"
    MIGRATION = "migration"
    QUALITY = "quality"
    SPARK = "spark"
    ZERO_ETL = "zero-etl"
