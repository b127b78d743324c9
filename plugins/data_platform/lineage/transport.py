"""The transport to Amazon DataZone: the client's own, made safe for a task that must not wait nor fail for its lineage.

Over the stock transport it has a ``clientToken`` that is the same whenever the event is sent, a size that fits (`size`), short
time-outs with a single attempt, a budget of time and a breaker, and a client that is made when first needed, never shared with a
forked process. Whatever goes wrong is told once a kind and process; the event stays in the spool, from which ``reconcile_lineage``
sends it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openlineage.client.transport.amazon_datazone import AmazonDataZoneConfig, AmazonDataZoneTransport
from openlineage.client.transport.transform import TransformTransport

from data_platform.lineage import losses
from data_platform.lineage.budget import Budget
from data_platform.lineage.events import event_key
from data_platform.lineage.exceptions import EventTooLarge, LineageConfigInvalid, NotARunEvent
from data_platform.lineage.size import fit
from data_platform.lineage.spool import event_file, wire

if TYPE_CHECKING:
    from openlineage.client.client import Event

log = logging.getLogger(__name__)

BUDGET_SECONDS = 2.0
_CALLS = 2
"""A process may wait for so many calls that time out; more that answer fast."""
_KEYS = frozenset({"type", "domainId", "region", "endpointOverride", "budgetSeconds"})


@dataclass
class DataZoneConfig(AmazonDataZoneConfig):
    """The stock options and one more.

    Attributes:
        budget_seconds: how long a process waits for the catalog in all; comes back in five minutes.
    """

    budget_seconds: float = BUDGET_SECONDS

    @classmethod
    def from_dict(cls, params: dict[str, Any]) -> DataZoneConfig:
        """Read the transport's options.

        Raises:
            LineageConfigInvalid: one is missing, unknown or out of range.
        """
        if unknown := sorted(set(params) - _KEYS):
            raise LineageConfigInvalid(
                f"lineage catalog: expected only domainId, region, endpointOverride, budgetSeconds; found {', '.join(unknown)}"
            )
        if not params.get("domainId"):
            raise LineageConfigInvalid("lineage catalog: expected domainId, the DataZone domain's id, found none")
        budget = float(params.get("budgetSeconds", BUDGET_SECONDS))
        if budget <= 0:
            raise LineageConfigInvalid(f"lineage catalog: expected budgetSeconds above 0, found {budget:g}")
        return cls(params["domainId"], params.get("region"), params.get("endpointOverride"), budget)


class DataZoneTransport(AmazonDataZoneTransport):
    """Sends run events to DataZone; see the module."""

    kind = "data_platform_datazone"
    config_class = DataZoneConfig
    config: DataZoneConfig
    datazone: Any

    def __init__(self, config: DataZoneConfig) -> None:
        super().__init__(config)
        self.call_seconds = config.budget_seconds / _CALLS
        self.budget = Budget(config.budget_seconds, self.call_seconds)
        self.counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._pid: int | None = None

    def _setup_datazone(self, region: str | None = None, endpoint_url: str | None = None) -> None:
        """Nothing yet: boto3 takes longer to import than most tasks take to emit, and credentials may not be there."""

    def client(self) -> Any:
        """The DataZone client of this process."""
        if self._pid != os.getpid():
            self.datazone, self._pid = self._make_client(), os.getpid()
        return self.datazone

    def _make_client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=self.call_seconds / 4,
            read_timeout=self.call_seconds * 3 / 4,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        return boto3.session.Session().client(
            "datazone", region_name=self.config.region, endpoint_url=self.config.endpoint_override, config=config
        )

    def emit(self, event: Event) -> None:
        """Send the event; never raises what AWS, or the way to it, raised."""
        try:
            key = event_key(event)
        except NotARunEvent:
            self.counts["ignored"] += 1
            log.debug("lineage: the catalog takes run events only, ignored a %s", type(event).__name__)
            return
        document = wire(event)
        outcome = self._send(document, key.token)
        self.counts[outcome] += 1
        if outcome == "sent":
            losses.settle(key.token)
        elif not losses.is_spooled(key.token):
            losses.tell(key, document, "neither the spool nor the catalog", event_file(key))

    def _send(self, document: dict[str, Any], token: str) -> str:
        """Returns ``sent``, ``too_large``, ``skipped`` or ``failed``."""
        try:
            fitted = fit(document)
        except EventTooLarge as error:
            self._tell("EventTooLarge", str(error))
            return "too_large"
        if fitted.trimmed:
            log.info("lineage: event %s was too large, sent without: %s", token, "; ".join(fitted.trimmed))
        if reason := self.budget.refusal():
            self._tell("skipped", reason)
            return "skipped"
        try:
            client = self.client()  # its making is no waiting for the catalog
            with self.budget.spend():
                client.post_lineage_event(domainIdentifier=self.config.domain_id, event=fitted.body, clientToken=token)
        except Exception as error:
            self._tell(error_code(error), str(error))
            return "failed"
        return "sent"

    def _tell(self, kind: str, detail: str) -> None:
        if kind in self._told:
            log.debug("lineage: not sent to the catalog, %s: %s", kind, detail)
            return
        self._told.add(kind)
        log.warning(
            "lineage: an event was not sent to DataZone domain %s, %s: %s. The task goes on, the event stays in the spool and "
            "reconcile_lineage sends it; told once a process and kind.",
            self.config.domain_id,
            kind,
            detail,
        )

    def close(self, timeout: float = -1) -> bool:
        """Close this process's connections; nothing is ever queued."""
        if self._pid == os.getpid() and self.datazone is not None:
            self.datazone.close()
        self.datazone, self._pid = None, None
        return True


def error_code(error: Exception) -> str:
    """AWS's name of an error, else Python's."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


class RenamingTransport(TransformTransport):
    """The client's transform transport without the copy and the three serializations of each event that it makes for its debug log.

    They take longer than all else that is done with an event.
    """

    kind = "data_platform_renaming"

    def emit(self, event: Event) -> None:
        """Transform the event's JSON, which is a copy already, and hand it on."""
        document: Any = wire(event)
        renamed: Any = self.transformer.transform(document)
        self.transport.emit(renamed)
