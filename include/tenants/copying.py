"""Copies a tenant's items as they are, one partition at a time, and goes on where it was when it is killed.

The target keeps the source's keys, so an item is copied unchanged. The source is read eventually consistent, which costs half: what is
missed or seen old by that is put right by the replay, which begins some minutes before the copy did (`include.tenants.streams.arm`), and
the comparison in the fence is the authority.

**A copier that has lost its turn** stops: it looks after each page, and within a page every few seconds, and no request goes on the wire
more than `LOOK_SECONDS` after the last look, also if the process was frozen in between. A request that ended without an answer may still
be on its way, though a next try has done its work. A cutover therefore waits `LATE_SECONDS` after a copy that lost a turn or an answer
(`quiet_at`).

**What remains**, since BatchWriteItem knows no conditions: a request that was sent in time and needs longer than that to arrive, or a
process that is frozen within the very call that sends. AWS refuses a request some minutes after it was signed, and the comparison in the
fence finds what one wrote before; only one that arrives after that comparison and within those minutes could undo a change unseen. The
approval of a person usually takes longer.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from include.tenants.clients import LONGEST_CALL_SECONDS
from include.tenants.exceptions import TargetBusy
from include.tenants.items import size
from include.tenants.keys import MARKER, shard_ids
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, DataTable
from include.tenants.throttle import Bucket, Patience, insist, is_passing, is_throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from include.tenants.portability import Portability
    from include.tenants.store import Migration
    from include.tenants.turns import Turn

MOST_REQUEST_BYTES: Final = 2_500_000
"""Of the items of one request. DynamoDB allows 16 MB on the wire, where a byte may take six (``\\u0001``)."""
UNIT_BYTES: Final = 2 * 4096
"""What a read capacity unit reads, eventually consistent."""
_BATCH_ITEMS: Final = 25
"""DynamoDB's limit of a BatchWriteItem."""
_PAGE_ITEMS: Final = 1000
"""A page is what is copied again after a kill."""
_IN_FLIGHT: Final = 4
_QUEUED: Final = 2 * _IN_FLIGHT
"""Batches that are given to the threads: so none waits for the next."""
_COPY: Final = "copy#"
LOOK_SECONDS: Final = 5.0
"""How long a look at the turn is good for a request."""
_RENEW_SECONDS: Final = LOOK_SECONDS / 2
LATE_SECONDS: Final = LOOK_SECONDS + LONGEST_CALL_SECONDS
TURN_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Unit:
    """A piece of a copy: one partition of one table."""

    table: DataTable
    shard_id: str

    @property
    def name(self) -> str:
        """Name of its turn."""
        return f"{_COPY}{self.table.prefix}#{self.shard_id}"


@dataclass(frozen=True)
class CopyFigures:
    """What was copied, over all tries.

    Attributes:
        items: how many.
        bytes: as DynamoDB counts them.
        read_units: capacity units that the source was read with.
        pages: how many.
        retried: items that the target didn't take at once, and reads that the source refused.
        resumed: whether this try began in the middle.
        seconds: how long it took.
    """

    items: int = 0
    bytes: int = 0
    read_units: float = 0.0
    pages: int = 0
    retried: int = 0
    resumed: bool = False
    seconds: float = 0.0


def units(tenant_id: str) -> list[Unit]:
    """The pieces that a tenant's items are copied in."""
    return [Unit(table, shard_id) for table in DATA_TABLES for shard_id in shard_ids(tenant_id)]


def quiet_at(p: Portability, migration: Migration) -> float:
    """From when on no write of the copy is to be expected any more, in seconds since the epoch."""
    turns = p.turns.all(migration.migration_id, _COPY)
    # a first turn that came to its end with an answer to each request has left nothing behind
    lost = any(turn.token > 1 or not turn.checkpoint.get("done") or turn.checkpoint.get("cut") for turn in turns)
    return p.clock() + (LATE_SECONDS if lost else 0.0)


def copy_unit(
    p: Portability,
    migration: Migration,
    unit: Unit,
    source_table: str,
    target_table: str,
    *,
    owner: str,
    units_per_second: float,
    say: Callable[[str], None],
) -> CopyFigures:
    """Copy a partition; what an earlier try has copied isn't copied again.

    Args:
        p: what it works with.
        migration: whose it is.
        unit: the partition.
        source_table: from here.
        target_table: to here.
        owner: who does it; the same for each try of a task.
        units_per_second: read capacity that it may take from the source.
        say: is told how far it is.

    Raises:
        TurnTaken: somebody else copies it.
        TurnLost: somebody else copies it by now.
        TargetBusy: the target didn't take anything for a minute.
    """
    turn = p.turns.take(migration.migration_id, unit.name, owner, seconds=TURN_SECONDS)
    figures = replace(CopyFigures(**turn.checkpoint.get("figures", {})), resumed="figures" in turn.checkpoint)
    after = turn.checkpoint.get("after")
    if turn.checkpoint.get("done"):
        p.turns.give_back(turn)
        return figures
    bucket = Bucket(units_per_second, p.clock, p.sleep)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(_IN_FLIGHT, "copy") as pool:
        began, spent = p.clock(), figures.seconds
        hold = _Hold(p, turn)
        writer = Writer(p, target_table, pool, hold)
        coming = reader.submit(_page, p, unit, source_table, after, bucket)
        while True:
            page = coming.result()
            after = page.get("LastEvaluatedKey")
            if after is not None:  # while this page is written
                coming = reader.submit(_page, p, unit, source_table, after, bucket)
            items = [item for item in page["Items"] if not item[unit.table.sort_key]["S"].startswith(MARKER)]
            bytes_ = writer.put(items)
            figures = replace(
                figures,
                items=figures.items + len(items),
                bytes=figures.bytes + bytes_,
                read_units=figures.read_units + float(page["ConsumedCapacity"]["CapacityUnits"]),
                pages=figures.pages + 1,
                retried=figures.retried + writer.take_retried() + page["refused"],
                seconds=spent + max(p.clock() - began, 0.0),
            )
            cut = writer.cut or bool(turn.checkpoint.get("cut"))
            hold.save({"after": after, "done": after is None, "cut": cut, "figures": asdict(figures)})
            say(f"{source_table} → {target_table}, partition {unit.shard_id}: {figures.items} items copied")
            if after is None:
                break
    return figures


def copied(p: Portability, migration: Migration) -> tuple[CopyFigures, list[str]]:
    """What all pieces together have copied so far, and the names of those that aren't copied to their end."""
    turns = {turn.name: turn.checkpoint for turn in p.turns.all(migration.migration_id, _COPY)}
    names = [unit.name for unit in units(migration.tenant_id)]
    figures = [CopyFigures(**turns[name]["figures"]) for name in names if "figures" in turns.get(name, {})]
    total = CopyFigures(
        items=sum(each.items for each in figures),
        bytes=sum(each.bytes for each in figures),
        read_units=sum(each.read_units for each in figures),
        pages=sum(each.pages for each in figures),
        retried=sum(each.retried for each in figures),
        resumed=any(each.resumed for each in figures),
        seconds=sum(each.seconds for each in figures),
    )
    return total, [name for name in names if not turns.get(name, {}).get("done")]


def _page(
    p: Portability, unit: Unit, source_table: str, after: Mapping[str, Any] | None, bucket: Bucket
) -> dict[str, Any]:
    refusals = 0

    def refused(error: Exception) -> None:
        nonlocal refusals
        refusals += 1
        if is_throttled(error):
            bucket.slow_down()

    bucket.wait()
    page: dict[str, Any] = insist(
        lambda: p.clients.dynamodb.query(
            TableName=source_table,
            KeyConditionExpression=f"{PARTITION_KEY} = :shard",
            ExpressionAttributeValues={":shard": {"S": unit.shard_id}},
            Limit=_PAGE_ITEMS,
            ReturnConsumedCapacity="TOTAL",
            **({"ExclusiveStartKey": after} if after else {}),
        ),
        clock=p.clock,
        sleep=p.sleep,
        refused=refused,
    )
    bucket.charge(float(page["ConsumedCapacity"]["CapacityUnits"]))
    return page | {"refused": refusals}


class _Hold:
    """A turn that is kept while its work goes on; the threads of a copy share it."""

    def __init__(self, p: Portability, turn: Turn) -> None:
        self._p = p
        self._lock = threading.Lock()
        self._looked = p.clock()
        self.turn = turn

    def renew(self) -> None:
        """Make sure of the turn, and keep it, unless that was done just now.

        Raises:
            TurnLost: it is somebody else's.
        """
        with self._lock:
            if not 0 <= self._p.clock() - self._looked < _RENEW_SECONDS:
                self._save(self.turn.checkpoint)

    @property
    def is_fresh(self) -> bool:
        """Whether the last look is good for a request that is sent now."""
        return 0 <= self._p.clock() - self._looked < LOOK_SECONDS

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep how far the work has come; once it is done, nobody need keep the turn.

        Raises:
            TurnLost: it is somebody else's.
        """
        with self._lock:
            self._save(checkpoint, seconds=0.0 if checkpoint["done"] else TURN_SECONDS)

    def _save(self, checkpoint: Mapping[str, Any], seconds: float = TURN_SECONDS) -> None:
        looked = 0.0

        def save() -> Turn:
            nonlocal looked
            looked = self._p.clock()
            return self._p.turns.save(self.turn, checkpoint, seconds=seconds)

        self.turn = insist(save, clock=self._p.clock, sleep=self._p.sleep)
        self._looked = looked


class _Stale(Exception):
    """A request was not sent: the last look at the turn was too long ago by then."""


_sending: Final = threading.local()
"""The turn by which this thread sends a batch."""


def _refuse_if_stale(**_: Any) -> None:
    """Is called by botocore when a request is signed and about to be sent, at each of its own tries."""
    hold: _Hold | None = getattr(_sending, "hold", None)
    if hold is not None and not hold.is_fresh:
        raise _Stale


class Writer:
    """Puts items by BatchWriteItem, several batches at once, and again what DynamoDB leaves unprocessed.

    Args:
        p: what it works with.
        table: where to.
        pool: of threads, as many as batches may be in flight.
        hold: the turn by which it does.

    Attributes:
        cut: whether a request ended without an answer, so that it may arrive later.
    """

    def __init__(self, p: Portability, table: str, pool: ThreadPoolExecutor, hold: _Hold) -> None:
        self._p = p
        self._table = table
        self._pool = pool
        self._hold = hold
        self._retried = 0
        self.cut = False
        events = p.clients.dynamodb.meta.events
        events.register("before-send.dynamodb.BatchWriteItem", _refuse_if_stale, unique_id="tenants-copy")

    def take_retried(self) -> int:
        """How many requests were made again since it was asked last."""
        retried, self._retried = self._retried, 0
        return retried

    def put(self, items: Iterable[Mapping[str, Any]]) -> int:
        """Put items that have different keys; all are there when it returns.

        Returns:
            How many bytes the items have, as DynamoDB counts them.

        Raises:
            TargetBusy: nothing was taken for a minute.
        """
        patience = Patience(_PATIENCE_SECONDS, self._p.clock, self._p.sleep)
        batches = list(_batches(items))
        pending = deque(batch for batch, _ in batches)
        flying: dict[Future[list[Any]], int] = {}
        try:
            while pending or flying:
                while pending and len(flying) < _QUEUED:
                    batch = pending.popleft()
                    flying[self._pool.submit(self._write, batch)] = len(batch)
                left_over = 0
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    tried, left = flying.pop(future), future.result()
                    if len(left) < tried:
                        patience.succeeded()
                    if left:
                        left_over += len(left)
                        pending.append(left)
                self._retried += left_over
                if left_over and not patience.wait():
                    raise TargetBusy(
                        f"{self._table}: expected it to take items, found it to take none of {left_over} for {_PATIENCE_SECONDS:.0f} s; "
                        "raise its write capacity, then retry this task: it goes on where it was"
                    )
        except BaseException:
            for future in flying:
                future.cancel()
            raise
        return sum(bytes_ for _, bytes_ in batches)

    def _write(self, batch: list[Any]) -> list[Any]:
        """Send a batch once; gives what is to be sent again."""
        self._hold.renew()
        _sending.hold = self._hold
        try:
            answer = self._p.clients.dynamodb.batch_write_item(RequestItems={self._table: batch})
        except _Stale:
            self.cut = True  # it may have been botocore's second try
            self._hold.renew()
            return batch
        except Exception as error:
            if not is_passing(error):
                raise
            if not is_throttled(error) or _was_tried_twice(error):
                self.cut = True
            return batch
        finally:
            _sending.hold = None
        if answer.get("ResponseMetadata", {}).get("RetryAttempts"):
            self.cut = True
        left: list[Any] = answer.get("UnprocessedItems", {}).get(self._table, [])
        return left


def _was_tried_twice(error: Exception) -> bool:
    response = getattr(error, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts"))


def _batches(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[list[Any], int]]:
    """Requests that one BatchWriteItem takes, and the bytes of their items."""
    batch: list[Any] = []
    bytes_ = 0
    for item in items:
        added = size(item)
        if batch and (len(batch) == _BATCH_ITEMS or bytes_ + added > MOST_REQUEST_BYTES):
            yield batch, bytes_
            batch, bytes_ = [], 0
        batch.append({"PutRequest": {"Item": item}})
        bytes_ += added
    if batch:
        yield batch, bytes_
