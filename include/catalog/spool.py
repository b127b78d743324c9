"""The lineage spool as `reconcile` reads it, and what reconcile keeps beside it.

::

    events/<day>/<hour>/<token>.json    written by the transport (data_platform.lineage.spool), never changed here
    ledger/<day>T<hour>.json            how the events of one hour stand
    rejects/new/<token>.json            events that will never be delivered, not told to anybody yet, or by the last run that told any
    rejects/told/<token>.json           … and those that were, with the run that told them
    watermark.json                      which hours need not be read again

A lifecycle rule may remove events once they are older than `include.catalog.reconcile.Options.lookback`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from data_platform.lineage.spool import EVENTS

if TYPE_CHECKING:
    from data_platform.lineage.store import Store

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
NEW_REJECTS = "rejects/new"
"""The only folder that anything is removed from; the role may do no more."""
_SUFFIX = ".json"


@dataclass(frozen=True, order=True)
class Hour:
    """An hour of event time, UTC."""

    start: datetime

    @classmethod
    def of(cls, moment: datetime) -> Hour:
        """The hour that ``moment`` is in."""
        return cls(moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0))

    @classmethod
    def parse(cls, text: str) -> Hour:
        """Read ``2026-01-31T08``."""
        return cls(datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC))

    @property
    def end(self) -> datetime:
        """The first moment that is not in it."""
        return self.start + HOUR

    @property
    def folder(self) -> str:
        """Where its events are."""
        return f"{EVENTS}/{self.start:%Y-%m-%d/%H}"

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%H}"


@dataclass(frozen=True)
class Reject:
    """An event that is not in the catalog's graph and never will be by itself.

    Attributes:
        token: the event's, and the name of its file.
        hour: where its file is.
        reason: in the catalog's words, or ours.
        job: its name, empty if the file can't be read.
        run_id: see ``job``.
        event_type: see ``job``.
        attempt: how often it was sent as another request, by hand.
    """

    token: str
    hour: str
    reason: str
    job: str = ""
    run_id: str = ""
    event_type: str = ""
    attempt: int = 0


@dataclass(frozen=True)
class Pending:
    """An event whose fate is open.

    Attributes:
        reason: why.
        event_id: the catalog's id, once it has taken the event.
        attempt: see `Reject`.
    """

    reason: str
    event_id: str | None = None
    attempt: int = 0


@dataclass
class Ledger:
    """How the events of one hour stand: ``spooled = accepted + rejected + pending``.

    Attributes:
        hour: which.
        spooled: files.
        accepted: events that the catalog has processed.
        rejected: by token.
        pending: by token.
        checked_at: when this was found.
    """

    hour: str
    spooled: int = 0
    accepted: int = 0
    rejected: dict[str, Reject] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    checked_at: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether every spooled event is accounted for exactly once."""
        return self.spooled == self.accepted + len(self.rejected) + len(self.pending)

    def to_json(self) -> bytes:
        """The ledger as stored, with the sums written out."""
        document = asdict(self) | {"sums": {"rejected": len(self.rejected), "pending": len(self.pending)}}
        return json.dumps(document, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Ledger:
        """Read `to_json`'s form."""
        document = json.loads(body)
        document.pop("sums", None)
        rejected = {token: Reject(**found) for token, found in document.pop("rejected").items()}
        pending = {token: Pending(**found) for token, found in document.pop("pending").items()}
        return cls(**document, rejected=rejected, pending=pending)


@dataclass
class Watermark:
    """Which hours are done with.

    Attributes:
        closed_before: earlier hours are not read again, unless they are in ``open`` or a sweep finds them changed; empty: read all.
        open: earlier hours that have pending events.
        swept_at: when all hours were last looked through for events that came late.
        unreachable_since: when the catalog was first found unreachable; empty while it answers.
    """

    closed_before: str = ""
    open: list[str] = field(default_factory=list)
    swept_at: str = ""
    unreachable_since: str = ""


class Spool:
    """The spool of this environment."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def hours(self) -> list[Hour]:
        """Every hour that has a folder."""
        found = []
        for day in self.store.folders(EVENTS):
            for hour in self.store.folders(f"{EVENTS}/{day}"):
                try:
                    found.append(Hour.parse(f"{day}T{hour}"))
                except ValueError:
                    log.warning(
                        "lineage spool: expected folders %s/<day>/<hour>, found %s/%s; remove it", EVENTS, day, hour
                    )
        return sorted(found)

    def tokens(self, hour: Hour) -> list[str]:
        """The events of an hour, by token."""
        return [name.removesuffix(_SUFFIX) for name in self.store.names(hour.folder) if name.endswith(_SUFFIX)]

    def read(self, hour: Hour, token: str) -> bytes | None:
        """An event; None if its file is gone."""
        return self.store.get(f"{hour.folder}/{token}{_SUFFIX}")

    def ledgers(self) -> frozenset[str]:
        """The hours that have a ledger."""
        return frozenset(name.removesuffix(_SUFFIX) for name in self.store.names("ledger"))

    def ledger(self, hour: Hour) -> Ledger:
        """An hour's ledger; an empty one if there is none, or it can't be read: it is made again from the catalog."""
        body = self.store.get(f"ledger/{hour}{_SUFFIX}")
        if body is not None:
            try:
                return Ledger.from_json(body)
            except (ValueError, TypeError, KeyError) as error:
                log.warning("lineage ledger of %s: can't be read (%s), it is made anew", hour, error)
        return Ledger(str(hour))

    def save(self, ledger: Ledger) -> None:
        """Keep an hour's ledger, its rejects first: one that is noted here is always told."""
        for token, reject in ledger.rejected.items():
            self._announce(token, reject)
        self.store.put(f"ledger/{ledger.hour}{_SUFFIX}", ledger.to_json())

    def _announce(self, token: str, reject: Reject) -> None:
        if self._told(token).get("attempt") != reject.attempt:
            self.store.put(f"{NEW_REJECTS}/{token}{_SUFFIX}", json.dumps(asdict(reject), indent=1).encode())

    def new_rejects(self, run_id: str = "") -> list[Reject]:
        """The rejects that nobody was told of yet, and those that ``run_id`` has told; what an earlier run told is put away.

        A run that was ended between `mark_told` and its failure finds them again when it is retried.
        """
        found = []
        for name in self.store.names(NEW_REJECTS):
            body = self.store.get(f"{NEW_REJECTS}/{name}")
            if body is None:
                continue
            reject = Reject(**json.loads(body))
            told = self._told(reject.token)
            if told.get("attempt") != reject.attempt or (run_id and told.get("told_in") == run_id):
                found.append(reject)
            else:
                self.store.delete(f"{NEW_REJECTS}/{name}")
        return found

    def mark_told(self, rejects: list[Reject], run_id: str = "") -> None:
        """Note that these were told, and by which run; they stay among the new ones until another run looks."""
        for reject in rejects:
            document = asdict(reject) | {"told_in": run_id}
            self.store.put(f"rejects/told/{reject.token}{_SUFFIX}", json.dumps(document, indent=1).encode())

    def _told(self, token: str) -> dict[str, Any]:
        body = self.store.get(f"rejects/told/{token}{_SUFFIX}")
        document: dict[str, Any] = json.loads(body) if body else {}
        return document

    def watermark(self) -> Watermark:
        """Which hours are done with; none, if it can't be read."""
        body = self.store.get("watermark.json")
        try:
            known: dict[str, Any] = json.loads(body) if body else {}
            return Watermark(**known)
        except (ValueError, TypeError) as error:
            log.warning("lineage watermark: can't be read (%s), every hour is read again", error)
            return Watermark()

    def save_watermark(self, watermark: Watermark) -> None:
        """Keep it."""
        self.store.put("watermark.json", json.dumps(asdict(watermark), indent=1).encode())
