"""One published version: what readers are told of it in the relation ``_publication``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLICATION = "_publication"
"""The relation, one row, beside those of the product."""
VERSION_FORMAT = "v%Y%m%d%H%M%S%f"

COLUMNS = {
    "version": "varchar(32)",
    "run_id": "varchar(250)",
    "source_checkpoint": "varchar(250)",
    "published_at": "timestamp",
    "quality_score": "double precision",
    "released_by": "varchar(250)",
    "release_reason": "varchar(4000)",
}
"""Columns of ``_publication`` and their types in Redshift, where the length of a text is in bytes."""


@dataclass(frozen=True)
class Publication:
    """One version of a product.

    Attributes:
        version: ``v`` and the UTC time it was made, to the microsecond; sorts by time.
        run_id: the Airflow run that built it.
        source_checkpoint: how far the source had been replicated, as the integration says; empty if unknown.
        published_at: UTC.
        quality_score: percentage of the contracts' checks that passed; None if unknown.
        released_by: who published it although a check that blocks had failed; None if none had.
        release_reason: why, in that person's words.
    """

    version: str
    run_id: str
    source_checkpoint: str
    published_at: datetime
    quality_score: float | None = None
    released_by: str | None = None
    release_reason: str | None = None

    @classmethod
    def now(cls, run_id: str, source_checkpoint: str, quality_score: float | None = None) -> Publication:
        """A new version."""
        moment = datetime.now(UTC)
        return cls(moment.strftime(VERSION_FORMAT), run_id, source_checkpoint, moment, quality_score)

    def told(self, relations: Sequence[str]) -> dict[str, Any]:
        """The version as the product's asset event tells it; who released it only where somebody did."""
        facts = {
            "version": self.version,
            "published_at": self.published_at.isoformat(),
            "source_checkpoint": self.source_checkpoint,
            "relations": list(relations),
            "quality_score": self.quality_score,
            "released_by": self.released_by,
            "release_reason": self.release_reason,
        }
        return {name: fact for name, fact in facts.items() if fact is not None}

    def released(self, by: str, reason: str) -> Publication:
        """The same version, published by a person's decision, now."""
        return replace(self, published_at=datetime.now(UTC), released_by=by, release_reason=reason)


def version_time(version: str) -> datetime:
    """When a version was made, UTC."""
    return datetime.strptime(version, VERSION_FORMAT).replace(tzinfo=UTC)
