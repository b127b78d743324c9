"""What identifies a run event, and the token under which it is spooled and sent.

An event is the triple run id, event type, event time. Its token is the SHA-256 of the three, so the spool keeps each event once, and
sending it again is recognised by the catalog: PostLineageEvent takes a ``clientToken`` of at most 128 characters
(https://docs.aws.amazon.com/datazone/latest/APIReference/API_PostLineageEvent.html).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from data_platform.lineage.exceptions import NotARunEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_TYPES = frozenset({"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"})


@dataclass(frozen=True)
class EventKey:
    """What identifies a run event.

    Attributes:
        run_id: the OpenLineage run's UUID.
        event_type: START, RUNNING, COMPLETE, ABORT, FAIL or OTHER.
        event_time: UTC.
    """

    run_id: str
    event_type: str
    event_time: datetime

    @property
    def token(self) -> str:
        """64 hexadecimal digits. The time counts with six decimals in UTC, however the event spells it."""
        parts = (self.run_id, self.event_type, self.event_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def event_key(event: Any) -> EventKey:
    """The key of a run event, given as the client's object or as parsed JSON.

    Raises:
        NotARunEvent: it has no run id, type or time.
    """
    run = read(event, "run")
    run_id, event_type = read(run, "runId"), read(event, "eventType")
    event_type = getattr(event_type, "value", event_type)
    if not isinstance(run_id, str) or not run_id or event_type not in EVENT_TYPES:
        raise NotARunEvent(
            f"expected run.runId and an eventType of {', '.join(sorted(EVENT_TYPES))}, found {run_id!r} and {event_type!r}"
        )
    return EventKey(run_id.lower(), event_type, event_time(read(event, "eventTime")))


def client_token(event: Any) -> str:
    """The event's token; see `EventKey.token`."""
    return event_key(event).token


def event_time(value: Any) -> datetime:
    """An event's time in UTC; one without a zone is taken to be UTC, decimals after the sixth are cut.

    Raises:
        NotARunEvent: not an ISO 8601 date and time.
    """
    try:
        parsed = datetime.fromisoformat(str(value).upper())
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotARunEvent(f"expected eventTime in ISO 8601, found {value!r}") from error


def parse_event(body: bytes) -> dict[str, Any]:
    """A spooled event.

    Raises:
        NotARunEvent: not JSON, or not a run event.
    """
    try:
        event = json.loads(body)
    except ValueError as error:
        raise NotARunEvent(f"expected a run event in JSON, found {body[:80]!r} ({error})") from error
    if not isinstance(event, dict):
        raise NotARunEvent(f"expected a run event, found {type(event).__name__}")
    event_key(event)
    job = read(event, "job")
    if not read(job, "namespace") or not read(job, "name"):
        raise NotARunEvent("expected job.namespace and job.name, found none")
    return event


def to_bytes(event: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8, the same for the same event."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", errors="replace")  # half a surrogate pair, from a log line cut in two


def read(node: Any, name: str) -> Any:
    """A field of an event's part, which is an object of the client's or parsed JSON; None where there is none."""
    return node.get(name) if isinstance(node, dict) else getattr(node, name, None)


def write(node: Any, name: str, value: Any) -> None:
    """Set a field of an event's part."""
    if isinstance(node, dict):
        node[name] = value
    else:
        setattr(node, name, value)
