"""The forms of the ingestion's DAGs, and the names of the sources as a DAG file may know them: parsing reads no ``source.yaml``."""

from __future__ import annotations

from typing import Final

from airflow.sdk import Param

from include.platform.paths import PROJECT_ROOT

ALL: Final = "all"
"""What the forms call every source; none may be called so."""
DAY_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}$"
BATCH_PATTERN: Final = r"^[0-9a-f]{32}$"
_SOURCES: Final = PROJECT_ROOT / "include" / "ingestion" / "sources"


def known_sources() -> list[str]:
    """The names of the sources: their folders. The same as `include.ingestion.sources.source_names`, without what that imports."""
    return sorted(path.parent.name for path in _SOURCES.glob("*/source.yaml"))


def source_param(*, every: bool = True) -> Param:
    """Which source.

    Args:
        every: all of them is a choice, and the default.
    """
    names = known_sources()
    return Param(
        ALL if every else None,
        type="string",
        enum=[ALL, *names] if every else names,
        title="Source",
        description="Whose data; a folder of include/ingestion/sources.",
    )


def day_param(description: str) -> Param:
    """A UTC day; empty: none."""
    return Param(
        None, type=["null", "string"], format="date", pattern=DAY_PATTERN, title="Day (UTC)", description=description
    )


def batch_param(description: str, *, optional: bool = False) -> Param:
    """The id of a batch."""
    kind = ["null", "string"] if optional else "string"
    return Param(None, type=kind, pattern=BATCH_PATTERN, title="Batch", description=description)


def flag(title: str, description: str, *, value: bool = False) -> Param:
    """Yes or no."""
    return Param(value, type="boolean", title=title, description=description)
