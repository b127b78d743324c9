"""Replays a tenant's changes from one side to the other, in order, as often as needed.

**What makes it safe to be killed anywhere and to see changes twice.** A change is written as the whole item that it led to, so writing it
again changes nothing, and a position is kept only after all before it was written. Each write is a transaction that checks the turn: who
has lost it writes nothing more, however late.

**Repeats.** Within a shard numbers grow, so a lower number than the shard's position was written before. Within a burst, also across
shards, a lower number than the last one of the same item was overtaken. Both are left out: written again they would bring an old state
back until the next change of the item. Equal numbers are written: two changes may carry one, and the later one is the one to keep.
Not covered is a change that comes for the first time after later ones of its shard, which AWS rules out, and a repeat across shards
in another burst. The comparison in the fence finds what either would do.

**Other tenants'** changes are in a pooled table's stream too: they are counted, never looked into and never told of.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.tenants.copying import MOST_REQUEST_BYTES
from include.tenants.exceptions import MigrationConflict, TurnLost
from include.tenants.items import digest, size
from include.tenants.keys import MARKER, owner_of
from include.tenants.saas import DATA_TABLES
from include.tenants.streams import TIP_PAGES, Position, Record, ShardPosition, Stream, arm
from include.tenants.throttle import insist
from include.tenants.transactions import MOST_ELEMENTS, ConditionFailed, in_pieces, new_token, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable
    from include.tenants.store import Migration
    from include.tenants.turns import Turn

__all__ = [
    "Direction",
    "Position",
    "Record",
    "ReplayFigures",
    "Replayer",
    "ShardPosition",
    "Stream",
    "arm",
    "replay",
    "replay_turn",
    "tables",
]

_SAVE_SECONDS: Final = 1.0
_SAY_SECONDS: Final = 10.0
_KEPT_STRAGGLERS: Final = 20
_KEPT_MARKERS: Final = 4
_NEAR_SECONDS: Final = 4.0
"""A change made so lately is near the tip: times are rounded down to seconds, and a record takes a moment into its stream."""
_MOST_SEEN: Final = 100_000
"""Items of a burst whose last number is remembered."""


class Direction(StrEnum):
    """Which way changes are replayed."""

    FORWARD = "forward"
    """From the source to the target, before the switch."""
    REVERSE = "reverse"
    """From the target to the source, after it."""


def replay_turn(direction: Direction) -> str:
    """Name of the turn at the replay in this direction."""
    return f"replay#{direction}"


def tables(migration: Migration, direction: Direction) -> list[tuple[DataTable, str, str]]:
    """The tables that changes are replayed of: from which to which."""
    known = {table.prefix: table for table in DATA_TABLES}
    ways = [(known[each["prefix"]], each["source"], each["target"]) for each in migration.notes["tables"]]
    return ways if direction is Direction.FORWARD else [(table, target, source) for table, source, target in ways]


@dataclass(frozen=True)
class ReplayFigures:
    """What a burst did.

    Attributes:
        applied: the tenant's changes; several of one item may be one write.
        skipped: markers, and changes of before the position.
        foreign: other tenants' changes.
        repeated: changes that had been seen before.
        lag_seconds: how long ago the oldest change that wasn't read may have been made; 0 at the tip.
        at_tip: whether there seemed to be nothing more of the tenant's: a table that others write to all the time has no other tip.
        seconds: how long it took.
        speed: seconds of changes that were read in a second; None if unknown. Up to 1 it never catches up.
    """

    applied: int = 0
    skipped: int = 0
    foreign: int = 0
    repeated: int = 0
    lag_seconds: float = 0.0
    at_tip: bool = False
    seconds: float = 0.0
    speed: float | None = None

    @property
    def catch_up_seconds(self) -> float | None:
        """How long it takes until nothing is left, at this speed; infinite if never, None if unknown."""
        if self.at_tip:
            return 0.0
        if self.speed is None:
            return None
        return self.lag_seconds / (self.speed - 1) if self.speed > 1 else math.inf


@dataclass
class _Totals:
    """Counts over all bursts."""

    applied: int = 0
    skipped: int = 0
    foreign: int = 0
    repeated: int = 0


@dataclass
class Replayer:
    """The replay in one direction, by whoever has the turn.

    Its checkpoint: ``positions`` by table, ``totals``, ``lag``, ``at_tip``, ``at`` (when it was saved), ``markers`` that were seen.

    Attributes:
        p: what it works with.
        migration: whose it is.
        direction: which way.
        turn: at `replay_turn`.
        marker: sort key of the markers after which a change is a straggler.
        stragglers: how many changes came after the marker of their partition.
        aside: the first of them.
    """

    p: Portability
    migration: Migration
    direction: Direction
    turn: Turn
    marker: str = ""
    stragglers: int = 0
    aside: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Go on where the last turn ended."""
        checkpoint = self.turn.checkpoint
        self.ways = tables(self.migration, self.direction)
        self.streams = {source: Stream(self.p, source, self._position(source)) for _, source, _ in self.ways}
        self._before = _Totals(**checkpoint.get("totals", {}))
        self._now = _Totals()
        self.markers: dict[str, dict[str, float]] = {
            marker: dict(seen) for marker, seen in checkpoint.get("markers", {}).items()
        }
        self._seen: dict[tuple[str, str, str], int] = {}
        self._idle = dict.fromkeys(self.streams, 0)
        self._began = self._saved = self.p.clock()
        self._first: tuple[float, float] | None = None
        self._speed: float | None = None

    def _position(self, source: str) -> Position:
        """The last one kept, unless the stream was armed again since."""
        notes = "armed" if self.direction is Direction.FORWARD else "reverse_from"
        armed = self.migration.notes.get(notes, {}).get(source)
        if armed is None:
            raise MigrationConflict(
                f"migration {self.migration.migration_id}: expected the stream of {source} to be armed (its note {notes!r}), found that it "
                f"is not; {self.migration.state} is too early for this replay"
            )
        kept = self.turn.checkpoint.get("positions", {}).get(source)
        return Position.from_json(kept if kept and kept["armed"] >= armed["armed"] else armed)

    @property
    def at_tip(self) -> bool:
        """Whether all streams seem to be read to their end."""
        return all(stream.at_tip for stream in self.streams.values())

    @property
    def near_tip(self) -> bool:
        """Whether each stream was read to its tip, or nearly and nothing of the tenant came lately. For waiting, not for a drain."""
        near = self.p.clock() - _NEAR_SECONDS
        return all(
            stream.at_tip or (self._idle[source] >= TIP_PAGES * stream.open_shards and stream.is_past(near))
            for source, stream in self.streams.items()
        )

    def is_past(self, moment: float) -> bool:
        """Whether each stream was read to its tip or past a moment (`Stream.is_past`)."""
        return all(stream.is_past(moment) for stream in self.streams.values())

    @property
    def lag_seconds(self) -> float:
        """Of the stream that is behind most."""
        return max((stream.lag_seconds for stream in self.streams.values()), default=0.0)

    def seen(self, marker: str) -> Mapping[str, float]:
        """By ``{table}#{shardId}``: when these markers were written."""
        return self.markers.get(marker, {})

    def figures(self) -> ReplayFigures:
        """What it did so far."""
        return ReplayFigures(
            applied=self._now.applied,
            skipped=self._now.skipped + sum(stream.older for stream in self.streams.values()),
            foreign=self._now.foreign,
            repeated=self._now.repeated + sum(stream.repeated for stream in self.streams.values()),
            lag_seconds=self.lag_seconds,
            at_tip=self.near_tip,
            seconds=max(self.p.clock() - self._began, 0.0),
            speed=self._speed,
        )

    def step(self, *, until: float = math.inf) -> None:
        """Read and write what comes next of each table; keep the position if something was written or it is time.

        Args:
            until: when a call that fails for now is not made again, by the clock.

        Raises:
            TurnLost: somebody else does it by now; nothing was written since.
            StreamTrimmed: changes are gone.
        """
        wrote = False
        for _, source, target in self.ways:
            stream = self.streams[source]
            stream.patience = min(60.0, max(until - self.p.clock(), 1.0))
            took = self._take(stream.read(), source, target)
            self._idle[source] = 0 if took else self._idle[source] + 1
            wrote = took or wrote
        self._measure()
        if wrote or not 0 <= self.p.clock() - self._saved < _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the positions.

        Raises:
            TurnLost: somebody else does it by now.
        """
        figures = self.figures()
        totals = {name: getattr(figures, name) + count for name, count in asdict(self._before).items()}
        checkpoint = {
            "positions": {source: stream.position.to_json() for source, stream in self.streams.items()},
            "totals": totals,
            "lag": figures.lag_seconds,
            "at_tip": figures.at_tip,
            "at": self.p.clock(),
            "markers": dict(list(self.markers.items())[-_KEPT_MARKERS:]),
        }
        self.turn = insist(
            partial(self.p.turns.save, self.turn, checkpoint), seconds=20, clock=self.p.clock, sleep=self.p.sleep
        )
        self._saved = self.p.clock()

    def _take(self, records: Iterable[Record], source: str, target: str) -> bool:
        last: dict[tuple[str, str], Record] = {}
        for record in records:
            if owner_of(record.shard_id) != self.migration.tenant_id:
                self._now.foreign += 1
            elif record.sort.startswith(MARKER):
                self._now.skipped += 1
                self._note_marker(record)
            else:
                item = (source, record.shard_id, record.sort)
                if record.number < self._seen.get(item, 0):
                    self._now.repeated += 1
                    continue
                self._seen[item] = record.number
                last[record.shard_id, record.sort] = record
                self._now.applied += 1
                self._note_straggler(record)
        for elements in _transactions(last.values(), target):
            in_pieces(self._write, elements)
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        return bool(last)

    def _write(self, elements: Sequence[Mapping[str, Any]]) -> None:
        try:
            insist(
                partial(
                    transact,
                    self.p.clients.dynamodb,
                    [self.p.turns.check(self.turn), *elements],
                    token=new_token(),  # one for all tries
                    seconds=20,
                    sleep=self.p.sleep,
                    clock=self.p.clock,
                ),
                seconds=20,
                clock=self.p.clock,
                sleep=self.p.sleep,
            )
        except ConditionFailed as error:
            raise TurnLost(
                f"migration {self.migration.migration_id}: expected {self.turn.owner} to be still at {self.turn.name}, found somebody else "
                "there; this one stops, and has written nothing since"
            ) from error

    def _note_marker(self, record: Record) -> None:
        if record.kind != "REMOVE" and record.sort.startswith(f"{MARKER}{self.migration.migration_id}#"):
            self.markers.setdefault(record.sort, {}).setdefault(f"{record.table}#{record.shard_id}", record.at)

    def _note_straggler(self, record: Record) -> None:
        if f"{record.table}#{record.shard_id}" not in self.markers.get(self.marker, {}):
            return
        self.stragglers += 1
        if len(self.aside) < _KEPT_STRAGGLERS:
            image = digest(record.new_image).hex() if record.new_image is not None else None
            self.aside.append(
                {
                    "table": record.table,
                    "shard_id": record.shard_id,
                    "sort": record.sort,
                    "sequence_number": record.sequence_number,
                    "digest": image,
                }
            )

    def _measure(self) -> None:
        """How fast it reads, in seconds of changes: of the slowest stream."""
        reached = [stream.reached for stream in self.streams.values() if stream.reached is not None]
        if not reached:
            return
        now = self.p.clock()
        if self._first is None:
            self._first = (now, min(reached))
        elif now - self._first[0] >= 1:
            self._speed = (min(reached) - self._first[1]) / (now - self._first[0])


def replay(
    p: Portability,
    migration: Migration,
    direction: Direction,
    *,
    owner: str,
    seconds: float,
    past: float = math.inf,
    always: bool = False,
    say: Callable[[str], None],
) -> ReplayFigures:
    """Replay for a while: until nothing more comes, all before a moment is there, or time is over.

    Args:
        p: what it works with.
        migration: whose it is; its streams are armed.
        direction: which way.
        owner: who does it.
        seconds: how long at most.
        past: a moment: enough when every change made before it is replayed. A tenant that writes all the time has no tip.
        always: take the turn from whoever has it.
        say: is told how far it is.

    Raises:
        TurnTaken: somebody else does it.
        TurnLost: somebody else does it by now.
        StreamTrimmed: changes are gone before they were read.
    """
    replayer = Replayer(p, migration, direction, take_turn(p, migration, direction, owner, always=always))
    end = p.clock() + seconds
    told = p.clock()
    while True:
        replayer.step()
        if replayer.near_tip or replayer.is_past(past) or p.clock() >= end:
            break
        if p.clock() - told >= _SAY_SECONDS:
            told = p.clock()
            say(_told(replayer))
    replayer.save()
    p.turns.give_back(replayer.turn)
    say(_told(replayer))
    return replayer.figures()


def take_turn(p: Portability, migration: Migration, direction: Direction, owner: str, *, always: bool) -> Turn:
    """Begin a turn at the replay.

    Raises:
        TurnTaken: somebody else has it.
    """
    take = partial(p.turns.take, migration.migration_id, replay_turn(direction), owner, always=always)
    return insist(take, seconds=20, clock=p.clock, sleep=p.sleep)


def _told(replayer: Replayer) -> str:
    figures = replayer.figures()
    near = "nothing more to replay" if figures.at_tip else f"{figures.lag_seconds:.0f} s behind"
    rest = figures.catch_up_seconds
    when = "" if not rest or figures.at_tip else ", never catching up" if rest == math.inf else f", {rest:.0f} s to go"
    return f"replay {replayer.direction}: {figures.applied} changes applied, {near}{when}"


def _transactions(records: Iterable[Record], target: str) -> Iterator[list[dict[str, Any]]]:
    """Writes in portions that one transaction takes beside the check of the turn."""
    elements: list[dict[str, Any]] = []
    bytes_ = 0
    for record in records:
        if record.kind == "REMOVE":
            element: dict[str, Any] = {"Delete": {"TableName": target, "Key": dict(record.key)}}
            added = size(record.key)
        else:
            element = {"Put": {"TableName": target, "Item": dict(record.new_image or {})}}
            added = size(record.new_image or {})
        if elements and (len(elements) == MOST_ELEMENTS - 1 or bytes_ + added > MOST_REQUEST_BYTES):
            yield elements
            elements, bytes_ = [], 0
        elements.append(element)
        bytes_ += added
    if elements:
        yield elements
