"""Compares the lineage spool with the catalog, sends again what is missing, and keeps a ledger whose sum must add up.

Every spooled event is one of three: **accepted** (the catalog has processed it), **rejected** (it never will: the catalog refused it
or failed to process it, it is too large, its file is unreadable) or **pending** (sent and not processed yet, or not sent yet). An
hour's events stay under watch until none is pending and the hour is `Options.overlap` ago.

It may be killed at any point: an event is sent under the token it was first sent with, so sending it twice is sending it once, and
all else is found out again from the catalog.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from data_platform.lineage.events import EventKey, event_key, parse_event
from data_platform.lineage.exceptions import EventTooLarge, NotARunEvent
from data_platform.lineage.naming import Naming, rename_datasets
from data_platform.lineage.size import fit
from include.catalog.api import CatalogUnavailable, RequestConflicts, RequestRefused
from include.catalog.spool import Hour, Ledger, Pending, Reject, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from include.catalog.reconcile_catalog import CatalogEvent, LineageCatalog
    from include.catalog.spool import Spool

log = logging.getLogger(__name__)

MARGIN = timedelta(minutes=5)
"""Around an hour, in what the catalog is asked for: it may round, or go by its own clock."""
_RANK = {"SUCCESS": 3, "PROCESSING": 2, "REQUESTED": 1, "FAILED": 0}


class LedgerDoesNotAddUp(Exception):
    """Some event is counted twice or not at all: a mistake in this program."""


class CatalogUnreachable(Exception):
    """The catalog has not answered for longer than is right."""


@dataclass(frozen=True)
class Options:
    """How to reconcile.

    Attributes:
        since: look at hours from this moment on, whatever the watermark says.
        until: look at hours before this moment.
        max_events: events sent in one run at most.
        max_seconds: nothing is sent any more after so long.
        events_per_second: sent at most; 0 means as fast as possible.
        grace: an event so young may still be on its way from its task.
        overlap: an hour is watched for so long after its end.
        lookback: hours so far back are looked through for events that came late, and
        sweep_every: so often.
        unreachable_limit: the catalog may be silent for so long.
        retry_rejected: send rejected events again, as new requests.
    """

    since: datetime | None = None
    until: datetime | None = None
    max_events: int = 2000
    max_seconds: float = 600.0
    events_per_second: float = 20.0
    grace: timedelta = timedelta(minutes=2)
    overlap: timedelta = timedelta(hours=2)
    lookback: timedelta = timedelta(days=7)
    sweep_every: timedelta = timedelta(hours=6)
    unreachable_limit: timedelta = timedelta(hours=1)
    retry_rejected: bool = False


@dataclass
class Report:
    """What a run found and did.

    Attributes:
        hours: hours looked at.
        spooled: events in them.
        accepted: see the module.
        rejected: see the module.
        pending: see the module.
        replayed: events sent in this run.
        reasons: how many are pending, by reason.
        unreachable_since: when the catalog stopped to answer.
        unreachable: its last words.
    """

    hours: int = 0
    spooled: int = 0
    accepted: int = 0
    rejected: int = 0
    pending: int = 0
    replayed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unreachable_since: str = ""
    unreachable: str = ""

    def add(self, ledger: Ledger) -> None:
        """Count an hour."""
        self.hours += 1
        self.spooled += ledger.spooled
        self.accepted += ledger.accepted
        self.rejected += len(ledger.rejected)
        self.pending += len(ledger.pending)
        self.reasons.update(pending.reason for pending in ledger.pending.values())

    def summary(self) -> dict[str, Any]:
        """Small enough for an XCom."""
        counts = ("hours", "spooled", "accepted", "rejected", "pending", "replayed", "unreachable_since")
        return {name: getattr(self, name) for name in counts} | {"pending_reasons": dict(self.reasons)}


class Index:
    """The catalog's events of a range of hours."""

    def __init__(self, events: Iterable[CatalogEvent]) -> None:
        self.by_token: dict[str, CatalogEvent] = {}
        self.by_id: dict[str, CatalogEvent] = {}
        for event in events:
            self.by_id[event.event_id] = event
            if event.key is None:
                continue
            known = self.by_token.get(event.key.token)
            if known is None or _RANK[event.status] > _RANK[known.status]:
                self.by_token[event.key.token] = event
        self._coarse: dict[tuple[str, str], list[CatalogEvent]] | None = None

    def find(self, key: EventKey, spooled: frozenset[str]) -> CatalogEvent | None:
        """The catalog's entry for an event whose token it does not have, because it keeps its time less precisely.

        Args:
            key: of the event.
            spooled: tokens of all events of the range: an entry that is one of these is taken.
        """
        if self._coarse is None:
            self._coarse = defaultdict(list)
            for token, event in self.by_token.items():
                if event.key and token not in spooled and event.key.event_time.microsecond % 1000 == 0:
                    self._coarse[event.key.run_id, event.key.event_type].append(event)
        candidates = self._coarse.get((key.run_id, key.event_type), [])
        for event in candidates:
            moment = event.key.event_time if event.key else key.event_time
            step = timedelta(milliseconds=1) if moment.microsecond else timedelta(seconds=1)
            if abs(moment - key.event_time) < step:
                candidates.remove(event)
                return event
        return None


class Reconciler:
    """One run.

    Args:
        spool: what was emitted.
        catalog: what arrived.
        names: how names become the catalog's: the same as the transport's.
        options: how.
        now: the time, UTC.
        pause: sleeps.
    """

    def __init__(
        self,
        spool: Spool,
        catalog: LineageCatalog,
        names: Naming,
        options: Options | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.spool = spool
        self.catalog = catalog
        self.names = names
        self.options = options or Options()
        self.now = now
        self.report = Report()
        self._pause = pause
        self._began = time.monotonic()
        self._stopped = ""
        self._silent = False

    def run(self) -> Report:
        """Reconcile.

        Raises:
            CatalogUnreachable: for longer than `Options.unreachable_limit`; the report so far is logged.
            LedgerDoesNotAddUp: never, it is to be hoped.
        """
        watermark = self.spool.watermark()
        swept = self._sweep_is_due(watermark)
        hours = self._hours(watermark, swept)
        still_open: list[str] = []
        for some in _contiguous(hours):
            ledgers = self._reconcile(some)
            for ledger in ledgers:
                self._close(ledger)
                if ledger.pending:
                    still_open.append(ledger.hour)
        self._keep(watermark, hours, still_open, swept=swept)
        self._tell()
        return self.report

    def _hours(self, watermark: Watermark, swept: bool) -> list[Hour]:
        """The hours to look at."""
        options, hours = self.options, self.spool.hours()
        if options.since or options.until:
            since = options.since or self.now() - options.lookback
            until = options.until or datetime.max.replace(tzinfo=UTC)
            return [hour for hour in hours if hour.end > since and hour.start < until]
        if not watermark.closed_before:
            return hours
        settled = Hour.parse(watermark.closed_before)
        watched = set(watermark.open)
        known = self.spool.ledgers() if swept else frozenset[str]()
        oldest = self.now() - options.lookback
        found = []
        for hour in hours:
            if str(hour) in watched:
                found.append(hour)
            elif hour >= settled:
                if hour.start < self.now() + options.overlap or self._changed(hour):
                    found.append(hour)
            elif swept and (str(hour) not in known or (hour.end > oldest and self._changed(hour))):
                found.append(hour)
        return found

    def _changed(self, hour: Hour) -> bool:
        """Whether events have come, or are open, since the hour's ledger was written."""
        ledger = self.spool.ledger(hour)
        return bool(ledger.pending) or ledger.spooled != len(self.spool.tokens(hour))

    def _sweep_is_due(self, watermark: Watermark) -> bool:
        if not watermark.swept_at:
            return True
        return self.now() - datetime.fromisoformat(watermark.swept_at) >= self.options.sweep_every

    def _reconcile(self, hours: list[Hour]) -> list[Ledger]:
        """Adjacent hours, with one question to the catalog for all of them."""
        try:
            if self._silent:
                return [self._unknown(hour) for hour in hours]
            index = Index(self.catalog.events(hours[0].start - MARGIN, hours[-1].end + MARGIN))
        except CatalogUnavailable as error:
            self._silent, self.report.unreachable = True, str(error)
            return [self._unknown(hour) for hour in hours]
        tokens = {hour: self.spool.tokens(hour) for hour in hours}
        spooled = frozenset(token for some in tokens.values() for token in some)
        return [self._reconcile_hour(hour, tokens[hour], index, spooled) for hour in hours]

    def _reconcile_hour(self, hour: Hour, tokens: list[str], index: Index, spooled: frozenset[str]) -> Ledger:
        before = self.spool.ledger(hour)
        ledger = Ledger(str(hour), spooled=len(tokens))
        for token in tokens:
            reject = before.rejected.get(token)
            was = before.pending.get(token, Pending(""))
            sent = index.by_id.get(was.event_id or "")
            entry = sent or index.by_token.get(token)
            attempt = reject.attempt + 1 if reject else was.attempt
            if entry and entry.status != "FAILED":
                self._file(ledger, token, entry.status, entry.event_id, hour, attempt)
                continue
            if reject and not self.options.retry_rejected:
                ledger.rejected[token] = reject
                continue
            if entry and (sent or not attempt):
                self._file(ledger, token, entry.status, entry.event_id, hour, attempt)
                continue
            self._settle(ledger, token, hour, before.pending.get(token), attempt, index, spooled)
        return ledger

    def _settle(
        self,
        ledger: Ledger,
        token: str,
        hour: Hour,
        was: Pending | None,
        attempt: int,
        index: Index,
        spooled: frozenset[str],
    ) -> None:
        """An event that the catalog does not list under its token."""
        if was and was.event_id and not self._stopped:
            status = self._status(was.event_id)
            if status:
                self._file(ledger, token, status, was.event_id, hour, attempt)
                return
        body = self.spool.read(hour, token)
        if body is None:
            ledger.spooled -= 1  # removed since it was listed, by a lifecycle rule or a person
            return
        try:
            event = parse_event(body)
        except NotARunEvent as error:
            ledger.rejected[token] = Reject(token, str(hour), f"unreadable file: {error}", attempt=attempt)
            return
        key = event_key(event)
        entry = index.by_token.get(key.token) if key.token != token else None
        entry = entry or (None if attempt else index.find(key, spooled))
        if entry:
            self._file(ledger, token, entry.status, entry.event_id, hour, attempt, event)
        else:
            self._replay(ledger, token, hour, event, key, replace(was or Pending(""), attempt=attempt))

    def _status(self, event_id: str) -> str | None:
        try:
            return self.catalog.status(event_id)
        except CatalogUnavailable as error:
            self._stop(str(error))
            return "REQUESTED"

    def _file(
        self,
        ledger: Ledger,
        token: str,
        status: str,
        event_id: str,
        hour: Hour,
        attempt: int,
        event: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter an event by the catalog's word."""
        if status == "SUCCESS":
            ledger.accepted += 1
        elif status == "FAILED":
            if event is None:
                body = self.spool.read(hour, token)
                event = _parse_or_none(body)
            reason = f"the catalog took it as {event_id} and failed to process it"
            ledger.rejected[token] = _reject(token, hour, reason, event, attempt)
        else:
            ledger.pending[token] = Pending("sent, not processed yet", event_id, attempt)

    def _replay(
        self, ledger: Ledger, token: str, hour: Hour, event: dict[str, Any], key: EventKey, was: Pending
    ) -> None:
        """Send an event that the catalog does not have."""
        if timedelta(0) <= self.now() - key.event_time < self.options.grace:
            ledger.pending[token] = replace(was, reason="young, may still be on its way")
            return
        if reason := self._refusal():
            ledger.pending[token] = replace(was, reason=reason)
            return
        rename_datasets(event, self.names)
        try:
            body = fit(event).body
        except EventTooLarge as error:
            ledger.rejected[token] = _reject(token, hour, f"too large: {error}", event, was.attempt)
            return
        self._wait_for_turn()
        sent_as = f"{key.token}-{was.attempt}" if was.attempt else key.token
        try:
            event_id = self.catalog.post(body, sent_as)
        except RequestRefused as error:
            ledger.rejected[token] = _reject(token, hour, f"refused: {error}", event, was.attempt)
        except RequestConflicts as error:
            if was.reason == KNOWN:
                ledger.rejected[token] = _reject(
                    token, hour, f"{KNOWN}, and does not list it: {error}", event, was.attempt
                )
            else:
                ledger.pending[token] = replace(was, reason=KNOWN)
        except CatalogUnavailable as error:
            self._stop(str(error))
            ledger.pending[token] = replace(was, reason=NOT_SENT)
        else:
            self.report.replayed += 1
            ledger.pending[token] = Pending("sent, not processed yet", event_id, was.attempt)

    def _refusal(self) -> str:
        """Why nothing is sent any more; empty if something is."""
        if self._stopped:
            return NOT_SENT
        if self.report.replayed >= self.options.max_events:
            return "left for the next run: this one has sent all it may"
        if time.monotonic() - self._began > self.options.max_seconds:
            return "left for the next run: this one has taken all its time"
        return ""

    def _wait_for_turn(self) -> None:
        if self.options.events_per_second and self.report.replayed:
            self._pause(1 / self.options.events_per_second)

    def _stop(self, words: str) -> None:
        self._stopped = self.report.unreachable = words

    def _unknown(self, hour: Hour) -> Ledger:
        """An hour the catalog can't be asked about: what was known of it stays, the rest is pending."""
        before, tokens = self.spool.ledger(hour), self.spool.tokens(hour)
        rejected = {token: reject for token, reject in before.rejected.items() if token in tokens}
        free = [token for token in tokens if token not in rejected]
        first = [token for token in free if token in before.pending]
        others = [token for token in free if token not in before.pending]
        accepted = min(before.accepted, len(others))
        pending = {token: before.pending.get(token, Pending(NOT_ASKED)) for token in first + others[accepted:]}
        return Ledger(str(hour), len(tokens), accepted, rejected, pending)

    def _close(self, ledger: Ledger) -> None:
        """Enter an hour in the books."""
        if not ledger.adds_up:
            raise LedgerDoesNotAddUp(
                f"lineage of {ledger.hour}: expected {ledger.spooled} spooled = accepted + rejected + pending, found {ledger.accepted} + "
                f"{len(ledger.rejected)} + {len(ledger.pending)}; nothing is lost, report it with the ledger of that hour"
            )
        ledger.checked_at = self.now().isoformat(timespec="seconds")
        self.spool.save(ledger)
        self.report.add(ledger)

    def _keep(self, watermark: Watermark, hours: list[Hour], still_open: list[str], *, swept: bool) -> None:
        now, forced = self.now(), bool(self.options.since or self.options.until)
        looked_at = {str(hour) for hour in hours}
        watermark.open = sorted({hour for hour in watermark.open if hour not in looked_at} | set(still_open))
        if self.report.unreachable:
            watermark.unreachable_since = watermark.unreachable_since or now.isoformat(timespec="seconds")
        else:
            watermark.unreachable_since = ""
            if not forced:
                watermark.closed_before = str(Hour.of(now - self.options.overlap))
                if swept:
                    watermark.swept_at = now.isoformat(timespec="seconds")
        self.report.unreachable_since = watermark.unreachable_since
        self.spool.save_watermark(watermark)

    def _tell(self) -> None:
        report = self.report
        log.info(
            "lineage: %d events spooled = %d accepted + %d rejected + %d pending, in %d hours; %d sent again",
            report.spooled,
            report.accepted,
            report.rejected,
            report.pending,
            report.hours,
            report.replayed,
        )
        for reason, count in report.reasons.most_common():
            log.info("lineage: %d pending: %s", count, reason)
        if not report.unreachable:
            return
        silent = self.now() - datetime.fromisoformat(report.unreachable_since)
        if silent > self.options.unreachable_limit:
            raise CatalogUnreachable(
                f"expected the catalog to answer within {self.options.unreachable_limit}, found it silent since "
                f"{report.unreachable_since}: {report.unreachable}. {report.pending} events wait in the spool, none is lost; mend the "
                "access or wait for AWS, then clear this task"
            )
        log.warning("lineage: the catalog does not answer (%s); the next run tries again", report.unreachable)


KNOWN = "the catalog has another content under this token"
NOT_SENT = "not sent yet: the catalog does not answer"
NOT_ASKED = "not known: the catalog does not answer"


def _contiguous(hours: list[Hour]) -> list[list[Hour]]:
    """Hours in groups without gaps."""
    groups: list[list[Hour]] = []
    for hour in hours:
        if groups and groups[-1][-1].end == hour.start:
            groups[-1].append(hour)
        else:
            groups.append([hour])
    return groups


def _parse_or_none(body: bytes | None) -> dict[str, Any] | None:
    try:
        return None if body is None else parse_event(body)
    except NotARunEvent:
        return None


def _reject(token: str, hour: Hour, reason: str, event: Mapping[str, Any] | None, attempt: int) -> Reject:
    known = event or {"job": {}, "run": {}}
    job, run = known["job"], known["run"]
    return Reject(
        token,
        str(hour),
        reason[:1000],
        job=job.get("name", ""),
        run_id=run.get("runId", ""),
        event_type=known.get("eventType", ""),
        attempt=attempt,
    )
