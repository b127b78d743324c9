"""What `reconcile` asks of DataZone, and how it waits.

DataZone takes an event first (PostLineageEvent) and processes it later: ListLineageEvents tells REQUESTED, PROCESSING, SUCCESS or
FAILED, 50 events a page (https://docs.aws.amazon.com/datazone/latest/APIReference/API_ListLineageEvents.html).
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from data_platform.lineage.events import EventKey
from include.platform import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

PAGE: Final = 50
ATTEMPTS: Final = 5
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 20.0
_CLIENT: Final = {
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 1},  # waiting is done here, where it can be told
}
_REFUSED: Final = frozenset({"ValidationException", "RequestEntityTooLarge", "413"})
_THROTTLED: Final = frozenset(
    {"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException", "429"}
)


class CatalogError(Exception):
    """Anything the catalog, or the way to it, answers but what was asked for."""


class CatalogUnavailable(CatalogError):
    """The catalog does not answer, is too busy, or does not let us in. Asking later may work."""


class NotInCatalog(CatalogUnavailable):
    """The catalog knows no such thing: an event it never took, or the domain itself."""


class EventRefused(CatalogError):
    """The catalog does not want this event, now or later."""


class EventKnown(CatalogError):
    """The catalog has another content under the same token."""


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
        pause: sleeps.
        jitter: a random number below 1.
    """

    def __init__(
        self,
        client: Any,
        domain_id: str,
        *,
        pause: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.client = client
        self.domain_id = domain_id
        self._pause = pause
        self._jitter = jitter

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
            page = self._patiently(lambda: self.client.list_lineage_events(**arguments))  # noqa: B023
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
            answer = self._patiently(
                lambda: self.client.get_lineage_event(domainIdentifier=self.domain_id, identifier=event_id)
            )
        except NotInCatalog:
            return None
        status: str | None = answer.get("processingStatus")
        return status

    def post(self, body: bytes, token: str) -> str:
        """Send an event; returns the catalog's id.

        Raises:
            EventRefused: the catalog does not want it.
            EventKnown: it has another content under this token.
            CatalogUnavailable: it can't be sent now.
        """
        answer = self._patiently(
            lambda: self.client.post_lineage_event(domainIdentifier=self.domain_id, event=body, clientToken=token)
        )
        event_id: str = answer["id"]
        return event_id

    def _patiently(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call, and again after a growing wait with jitter while the catalog is busy or away."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except Exception as error:
                refusal = _as_refusal(error)
                if refusal is not None:
                    raise refusal from error
                if attempt == ATTEMPTS - 1:
                    raise CatalogUnavailable(
                        f"expected an answer of DataZone domain {self.domain_id}, found: {error}"
                    ) from error
                wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt) * (0.5 + self._jitter() / 2)
                log.debug("lineage catalog: %s; again in %.1f s", error, wait)
                self._pause(wait)
        raise AssertionError("unreachable")


def _as_refusal(error: Exception) -> CatalogError | None:
    """What no waiting mends; None for what it may."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "ConflictException":
        return EventKnown(str(error))
    if code in _REFUSED:
        return EventRefused(str(error))
    if code == "ResourceNotFoundException":
        return NotInCatalog(str(error))
    if 400 <= status < 500 and code not in _THROTTLED and status != 429:
        return CatalogUnavailable(str(error))  # access: a person's to mend, and nothing to do with the event
    return None


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
        waiting: ``pause`` and ``jitter`` of `LineageCatalog`.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config

    hook: AwsGenericHook[Any] = AwsGenericHook(
        aws_conn_id=connections.AWS, client_type="datazone", config=Config(**_CLIENT)
    )
    return LineageCatalog(hook.get_conn(), domain_id, **waiting)
