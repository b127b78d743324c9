"""A gate's reports in S3: what was known of the data when it was published, or why it was held.

``quality/<area>/<run id>.json`` is the report of a run, ``quality/<area>/_latest`` says which is the newest. A retry of the task writes
over its own report.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.quality.exceptions import EvidenceUnreadable
from include.quality.render import from_json, to_json
from include.warehouse.object_store import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.quality.report import GateReport
    from include.warehouse.object_store import ObjectStore

log = logging.getLogger(__name__)

PREFIX = "quality"


@dataclass(frozen=True)
class Latest:
    """The newest report of an area."""

    run_id: str
    scanned_at: datetime
    verdict: str
    score: float


class EvidenceStore:
    """The reports of one area.

    Args:
        client: makes the S3 client; called once, when first needed, because boto3 takes its time to import.
        bucket: from the settings.
        area: such as ``finance``.
    """

    def __init__(self, client: Callable[[], ObjectStore], bucket: str, area: str) -> None:
        self._make_client = client
        self._client: ObjectStore | None = None
        self.bucket = bucket
        self.area = area

    def key(self, run_id: str) -> str:
        """Where the report of a run is."""
        return f"{PREFIX}/{self.area}/{quote(run_id, safe='')}.json"

    @property
    def latest_key(self) -> str:
        """Where it says which report is the newest; no run's key ends like this."""
        return f"{PREFIX}/{self.area}/_latest"

    def save(self, run_id: str, report: GateReport) -> str:
        """Store the report of a run and return its URI. Twice the same is stored once."""
        self._put(self.key(run_id), to_json(report), "application/json")
        self._point(run_id, report)
        return f"s3://{self.bucket}/{self.key(run_id)}"

    def load(self, run_id: str) -> GateReport | None:
        """The report of a run; None if there is none.

        Raises:
            EvidenceUnreadable: S3 does not answer, or the object isn't a report.
        """
        body = self._read(self.key(run_id))
        return None if body is None else from_json(body)

    def latest(self) -> Latest | None:
        """The newest report; None if there is none.

        Raises:
            EvidenceUnreadable: S3 does not answer, or the object isn't a pointer.
        """
        body = self._read(self.latest_key)
        if body is None:
            return None
        try:
            document = json.loads(body)
            return Latest(**document | {"scanned_at": datetime.fromisoformat(document["scanned_at"])})
        except (ValueError, TypeError, KeyError) as error:
            raise EvidenceUnreadable(
                f"expected s3://{self.bucket}/{self.latest_key} to name a report, found {body[:80]!r} ({error}); "
                "the next gate mends it"
            ) from error

    def _point(self, run_id: str, report: GateReport) -> None:
        """An earlier run that is cleared and runs again scans later, so it is the newest; a report that is saved late is not."""
        try:
            latest = self.latest()
        except EvidenceUnreadable as error:
            log.warning("%s", error)
            latest = None
        if latest is not None and latest.scanned_at > report.scanned_at:
            return
        pointer = {
            "run_id": run_id,
            "scanned_at": report.scanned_at.isoformat(),
            "verdict": report.verdict.value,
            "score": report.score(),
        }
        self._put(self.latest_key, json.dumps(pointer).encode(), "application/json")

    @property
    def _s3(self) -> ObjectStore:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _put(self, key: str, body: bytes, content_type: str) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    def _read(self, key: str) -> bytes | None:
        try:
            body: bytes = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except Exception as error:
            if is_missing(error):
                return None
            raise EvidenceUnreadable(
                f"expected s3://{self.bucket}/{key} to be readable, found: {error}; "
                "the task's role needs s3:GetObject and s3:ListBucket"
            ) from error
        return body
