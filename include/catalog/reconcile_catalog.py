"""What `reconcile` asks of DataZone.

DataZone takes an event first (PostLineageEvent) and processes it later: ListLineageEvents tells REQUESTED, PROCESSING, SUCCESS or
FAILED, 50 events a page (https://docs.aws.amazon.com/datazone/latest/APIReference/API_ListLineageEvents.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from data_platform.lineage.events import EventKey
from include.catalog.api import NotInCatalog, Patience, open_client

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = 50


@dataclass(frozen=True)
class CatalogEvent:
    """An event that the catalog has.

    Attributes:
        event_id: its id in the catalog.
        status: REQUESTED, PROCESSING, SUCCESS or FAILED.
        key: what identifies it; None for an event that is no run event.
    """

    event_id: str
    status: str
    key: EventKey | None


class LineageCatalog:
    """The lineage events of one DataZone domain.

    Args:
        client: boto3's DataZone client.
        domain_id: the domain.
        waiting: ``pause`` and ``jitter`` of `Patience`.
    """

    def __init__(self, client: Any, domain_id: str, **waiting: Any) -> None:
        self.client = client
        self.domain_id = domain_id
        self._patience = Patience(f"DataZone domain {domain_id}", **waiting)

    def events(self, after: datetime, before: datetime) -> Iterator[CatalogEvent]:
        """All events between two moments, page by page.

        Raises:
            CatalogUnavailable: a page was not to be had.
        """
        arguments: dict[str, Any] = {
            "domainIdentifier": self.domain_id,
            "maxResults": PAGE,
            "timestampAfter": after,
            "timestampBefore": before,
            "sortOrder": "ASCENDING",
        }
        while True:
            page = self._patience.call(lambda: self.client.list_lineage_events(**arguments))  # noqa: B023
            for item in page.get("items", ()):
                yield CatalogEvent(item["id"], item["processingStatus"], _key(item))
            if not page.get("nextToken"):
                return
            arguments = {**arguments, "nextToken": page["nextToken"]}

    def status(self, event_id: str) -> str | None:
        """The status of an event the catalog has taken; None if it knows no such event.

        Raises:
            CatalogUnavailable: it does not say.
        """
        try:
            answer = self._patience.call(
                lambda: self.client.get_lineage_event(domainIdentifier=self.domain_id, identifier=event_id)
            )
        except NotInCatalog:
            return None
        status: str | None = answer.get("processingStatus")
        return status

    def post(self, body: bytes, token: str) -> str:
        """Send an event; returns the catalog's id.

        Raises:
            RequestRefused: the catalog does not want it.
            RequestConflicts: it has another content under this token.
            CatalogUnavailable: it can't be sent now.
        """
        answer = self._patience.call(
            lambda: self.client.post_lineage_event(domainIdentifier=self.domain_id, event=body, clientToken=token)
        )
        event_id: str = answer["id"]
        return event_id


def _key(item: dict[str, Any]) -> EventKey | None:
    summary = item.get("eventSummary", {}).get("openLineageRunEventSummary")
    moment = item.get("eventTime")
    if not summary or not isinstance(moment, datetime) or not summary.get("runId"):
        return None
    return EventKey(summary["runId"].lower(), summary.get("eventType", ""), moment.astimezone(UTC))


def open_catalog(domain_id: str, **waiting: Any) -> LineageCatalog:
    """The catalog as the AWS connection says.

    Args:
        domain_id: the domain.
        waiting: ``pause`` and ``jitter`` of `Patience`.
    """
    return LineageCatalog(open_client(), domain_id, **waiting)
