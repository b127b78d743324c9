"""The transport that comes first: every run event becomes one file of the spool, under its token.

The spool is what `reconcile_lineage` compares the catalog with and sends again from, so an event that is in it is not lost, whatever
happens to the catalog or to the process that sent it::

    events/<day>/<hour>/<token>.json     by the event's own time, in UTC

A spool that can't be written (disk full, S3 down or denied) never fails a task nor holds it up for longer than the budget: it is told
once a process and counted. The event then still goes to the catalog; if that doesn't take it either, it is written to the log
(`losses`).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openlineage.client.serde import Serde
from openlineage.client.transport.transport import Config, Transport

from data_platform.lineage import losses
from data_platform.lineage.budget import Budget
from data_platform.lineage.events import EventKey, event_key, to_bytes
from data_platform.lineage.exceptions import LineageConfigInvalid, NotARunEvent
from data_platform.lineage.store import CALL_SECONDS, open_store

if TYPE_CHECKING:
    from openlineage.client.client import Event

log = logging.getLogger(__name__)

EVENTS = "events"
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, 23, tzinfo=UTC)
"""An event whose clock is out of all bounds is in the first or the last hour: every hour there is can be reckoned with."""
BUDGET_SECONDS = 2 * CALL_SECONDS
FREE_SECONDS = 0.25
"""A write that takes no longer doesn't count: hundreds of events of one build are all spooled."""
_KEYS = frozenset({"type", "url", "endpoint", "last"})


def event_file(key: EventKey) -> str:
    """Where an event is in the spool."""
    hour = min(max(key.event_time, EARLIEST), LATEST)
    return f"{EVENTS}/{hour:%Y-%m-%d/%H}/{key.token}.json"


@dataclass
class SpoolConfig(Config):
    """Options of the spool.

    Attributes:
        url: ``file:///folder`` or ``s3://bucket/prefix``.
        endpoint: another address of S3.
        last: no catalog comes after it, so what the spool can't take is written to the log at once.
    """

    url: str
    endpoint: str | None = None
    last: bool = False

    @classmethod
    def from_dict(cls, params: dict[str, Any]) -> SpoolConfig:
        """Read the transport's options.

        Raises:
            LineageConfigInvalid: the URL is missing or of another kind, or an option is not known.
        """
        if unknown := sorted(set(params) - _KEYS):
            raise LineageConfigInvalid(f"lineage spool: expected only url, endpoint, last; found {', '.join(unknown)}")
        config = cls(params.get("url", ""), params.get("endpoint"), bool(params.get("last", False)))
        open_store(config.url)
        return config


class SpoolTransport(Transport):
    """Writes run events to the spool; see the module."""

    kind = "data_platform_spool"
    config_class = SpoolConfig

    def __init__(self, config: SpoolConfig) -> None:
        self.config = config
        self.store = open_store(config.url, endpoint=config.endpoint)
        self.budget = Budget(
            BUDGET_SECONDS, CALL_SECONDS, failures_to_open=2, open_seconds=30, free_seconds=FREE_SECONDS
        )
        self.counts: Counter[str] = Counter()
        self._told = False

    def emit(self, event: Event) -> None:
        """Spool the event; never raises what the spool's store raised."""
        try:
            key = event_key(event)
        except NotARunEvent:
            self.counts["ignored"] += 1
            log.debug("lineage: the catalog takes run events only, ignored a %s", type(event).__name__)
            return
        document = wire(event)
        if reason := self.budget.refusal():
            self._failed(key, document, reason)
            return
        try:
            with self.budget.spend():
                self.store.put_once(event_file(key), to_bytes(document))
        except Exception as error:
            self._failed(key, document, f"{type(error).__name__}: {error}")
        else:
            self.counts["spooled"] += 1

    def _failed(self, key: EventKey, document: dict[str, Any], reason: str) -> None:
        self.counts["failed"] += 1
        if not self._told:
            self._told = True
            log.warning(
                "lineage: the spool %s can't be written (%s). Events go to the catalog only, and to this log if that fails too. "
                "Make room or grant s3:PutObject; told once a process.",
                self.config.url,
                reason,
            )
        if self.config.last:
            losses.tell(key, document, "the spool", event_file(key))
        else:
            losses.remember(key.token)


def wire(event: Any) -> dict[str, Any]:
    """The event as it is sent: without nulls, with nothing that JSON does not know; what is so already stays as it is."""
    if isinstance(event, dict):
        return event
    document: dict[str, Any] = json.loads(Serde.to_json(event))
    return document
