"""The published product, read as a consumer reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.warehouse.replaced_file import open_published

if TYPE_CHECKING:
    from pathlib import Path

    from include.local.layout import Layout


def published_file(layout: Layout) -> Path:
    """Where consumers find the product."""
    return layout.published / "finance_products.duckdb"


def read_published(layout: Layout, query: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Query the published version, as a consumer would: open, read, close."""
    with open_published(published_file(layout)) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(query, parameters or []).fetchall()
    return rows


def published_version(layout: Layout) -> dict[str, Any]:
    """What the product's own ``_publication`` tells of the version that readers see."""
    names = ("version", "run_id", "quality_score", "released_by", "release_reason")
    return dict(
        zip(names, read_published(layout, f"SELECT {', '.join(names)} FROM finance._publication")[0], strict=True)
    )
