"""Which version the gate holds, and who has decided what about it; kept in S3.

::

    quality/<area>/_held                         the held version, if there is one
    quality/<area>/_decisions/<run>/<time>.json  what a person decided, in the run that asked

One version is held at a time: each build that the gate refuses replaces the one before, so what is held is the newest. While a person is
asked about a version it is *pinned*: builds that fail meanwhile leave it alone, or nobody could ever answer in time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from include.quality.evidence import PREFIX
from include.quality.exceptions import EvidenceUnreadable
from include.warehouse.object_store import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.warehouse.object_store import ObjectStore


@dataclass(frozen=True)
class HeldVersion:
    """A version that the gate refused.

    Attributes:
        version: of `include.warehouse.publication.Publication`.
        run_id: the run that built it; the gate's report is kept under it.
        source_checkpoint: see `Publication`.
        score: percentage of checks that passed.
        held_at: UTC.
        pinned_until: no build replaces it before then; None if nobody is asked about it.
        asked_in: the run that asks a person about it; None if none does.
    """

    version: str
    run_id: str
    source_checkpoint: str
    score: float
    held_at: datetime
    pinned_until: datetime | None = None
    asked_in: str | None = None

    def pinned(self, now: datetime) -> bool:
        """Whether a person is being asked about it."""
        return self.pinned_until is not None and now < self.pinned_until


@dataclass(frozen=True)
class Decision:
    """What a person decided about a held version.

    Attributes:
        version: which.
        built_by: the run that built it.
        choice: in the words of the question.
        by: the user's name as Airflow knows it; ``nobody`` if the question timed out.
        reason: in that person's words.
        decided_at: UTC.
        failed: keys of the checks that had failed.
    """

    version: str
    built_by: str
    choice: str
    by: str
    reason: str
    decided_at: datetime
    failed: tuple[str, ...]


class HeldStore:
    """The held version of one area.

    Args:
        client: makes the S3 client; called once, when first needed.
        bucket: from the settings.
        area: such as ``finance``.
    """

    def __init__(self, client: Callable[[], ObjectStore], bucket: str, area: str) -> None:
        self._make_client = client
        self._client: ObjectStore | None = None
        self.bucket = bucket
        self.area = area

    @property
    def key(self) -> str:
        """Where the held version is named."""
        return f"{PREFIX}/{self.area}/_held"

    def load(self) -> HeldVersion | None:
        """The held version; None if there is none.

        Raises:
            EvidenceUnreadable: S3 does not answer, or the object isn't one.
        """
        try:
            body: bytes = self._s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        except Exception as error:
            if is_missing(error):
                return None
            raise EvidenceUnreadable(
                f"expected s3://{self.bucket}/{self.key} to be readable, found: {error}; the task's role needs s3:GetObject and "
                "s3:ListBucket"
            ) from error
        try:
            document = json.loads(body)
            pinned = document["pinned_until"]
            return HeldVersion(
                **document
                | {
                    "held_at": datetime.fromisoformat(document["held_at"]),
                    "pinned_until": datetime.fromisoformat(pinned) if pinned else None,
                }
            )
        except (ValueError, TypeError, KeyError) as error:
            raise EvidenceUnreadable(
                f"expected s3://{self.bucket}/{self.key} to name a held version, found {body[:80]!r} ({error}); remove it: the next build "
                "that the gate refuses writes it anew"
            ) from error

    def save(self, held: HeldVersion) -> None:
        """Name the held version."""
        self._put(self.key, asdict(held))

    def pin(self, held: HeldVersion, until: datetime, asked_in: str) -> None:
        """Keep builds from replacing it until then, while a run asks a person about it."""
        self.save(replace(held, pinned_until=until, asked_in=asked_in))

    def unpin(self, held: HeldVersion) -> None:
        """Let the next build that is refused replace it."""
        self.save(replace(held, pinned_until=None, asked_in=None))

    def clear(self) -> None:
        """Nothing is held any more."""
        self._s3.delete_object(Bucket=self.bucket, Key=self.key)

    def record(self, run_id: str, decision: Decision) -> str:
        """Keep a decision, under the run that asked and the time of the answer, and return its URI. A retry writes over its own."""
        moment = decision.decided_at.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        key = f"{PREFIX}/{self.area}/_decisions/{quote(run_id, safe='')}/{moment}.json"
        self._put(key, asdict(decision))
        return f"s3://{self.bucket}/{key}"

    @property
    def _s3(self) -> ObjectStore:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _put(self, key: str, document: dict[str, Any]) -> None:
        body = json.dumps(document, default=lambda value: value.isoformat()).encode()
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")
