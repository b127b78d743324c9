"""Copies a tenant's items as they are, one partition at a time, and goes on where it was when it is killed.

The target keeps the source's keys, so an item is copied unchanged. The source is read eventually consistent, which costs half: what is
missed or seen old by that is put right by the replay, which begins some minutes before the copy did (`include.tenants.streams.arm`), and
the comparison in the fence is the authority.

**A copier that has lost its turn** stops: it looks after each page, and within a page before each batch if it hasn't looked for
`LOOK_SECONDS`. So its last write arrives at most `LATE_SECONDS` after somebody else has taken the turn, and a cutover waits that long. This
is a timer and no fence, since BatchWriteItem knows no conditions: a process that is frozen between its look and its request could write
an old image later still. AWS refuses a request that was signed some minutes ago, and what arrives before the switch is found by the
comparison in the fence.
"""

from __future__ import annotations

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
_COPY: Final = "copy#"
LOOK_SECONDS: Final = 5.0
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
        read_units: capacity units that the source was read with: as AWS told, and no fewer than the items' sizes say.
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
    """From when on no write of a try that has lost its turn can arrive any more, in seconds since the epoch."""
    turns = p.turns.all(migration.migration_id, _COPY)
    # a first turn that came to its end has left nobody behind
    lost = any(turn.token > 1 or not turn.checkpoint.get("done") for turn in turns)
    return p.clock() + (TURN_SECONDS if lost else 0.0)


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
    with ThreadPoolExecutor(_IN_FLIGHT, "copy") as pool:
        began, spent = p.clock(), figures.seconds
        writer = Writer(p, target_table, pool)
        hold = _Hold(p, turn)
        while True:
            page = _page(p, unit, source_table, after, bucket)
            items = [item for item in page["Items"] if not item[unit.table.sort_key]["S"].startswith(MARKER)]
            writer.put(items, before_each=hold.renew)
            bytes_ = sum(map(size, items))
            read = max(float(page["ConsumedCapacity"]["CapacityUnits"]), bytes_ / UNIT_BYTES)
            after = page.get("LastEvaluatedKey")
            figures = replace(
                figures,
                items=figures.items + len(items),
                bytes=figures.bytes + bytes_,
                read_units=figures.read_units + read,
                pages=figures.pages + 1,
                retried=figures.retried + writer.take_retried() + page["refused"],
                seconds=spent + max(p.clock() - began, 0.0),
            )
            hold.save({"after": after, "done": after is None, "figures": asdict(figures)})
            say(f"{source_table} → {target_table}, partition {unit.shard_id}: {figures.items} items copied")
            if after is None:
                break
            bucket.take(read)
    p.turns.give_back(hold.turn)
    return figures


def copied(p: Portability, migration: Migration) -> tuple[CopyFigures, list[str]]:
    """What all pieces together have copied so far, and the names of those that aren't copied to their end."""
    turns = {turn.name: turn.checkpoint for turn in p.turns.all(migration.migration_id, "copy#")}
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
    return page | {"refused": refusals}


class _Hold:
    """A turn that is kept while its work goes on."""

    def __init__(self, p: Portability, turn: Turn) -> None:
        self._p = p
        self._looked = p.clock()
        self.turn = turn

    def renew(self) -> None:
        """Make sure of the turn, and keep it, unless that was done just now."""
        if not 0 <= self._p.clock() - self._looked < LOOK_SECONDS:
            self.save(self.turn.checkpoint)

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        looked = self._p.clock()
        self.turn = insist(
            lambda: self._p.turns.save(self.turn, checkpoint, seconds=TURN_SECONDS),
            clock=self._p.clock,
            sleep=self._p.sleep,
        )
        self._looked = looked


class Writer:
    """Puts items by BatchWriteItem, several batches at once, and again what DynamoDB leaves unprocessed.

    Args:
        p: what it works with.
        table: where to.
        pool: of threads, as many as batches may be in flight.
    """

    def __init__(self, p: Portability, table: str, pool: ThreadPoolExecutor) -> None:
        self._p = p
        self._table = table
        self._pool = pool
        self._retried = 0

    def take_retried(self) -> int:
        """How many requests were made again since it was asked last."""
        retried, self._retried = self._retried, 0
        return retried

    def put(self, items: Iterable[Mapping[str, Any]], *, before_each: Callable[[], None] = lambda: None) -> None:
        """Put items that have different keys; all are there when it returns.

        Args:
            items: to put.
            before_each: is called before each request, in this thread.

        Raises:
            TargetBusy: nothing was taken for a minute.
        """
        self.send(({"PutRequest": {"Item": item}} for item in items), before_each=before_each)

    def send(self, requests: Iterable[Mapping[str, Any]], *, before_each: Callable[[], None] = lambda: None) -> None:
        """The same for requests of BatchWriteItem."""
        patience = Patience(_PATIENCE_SECONDS, self._p.clock, self._p.sleep)
        pending = deque(_batches(requests))
        flying: dict[Future[list[Any]], int] = {}
        while pending or flying:
            while pending and len(flying) < _IN_FLIGHT:
                before_each()
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

    def _write(self, batch: list[Any]) -> list[Any]:
        """Send a batch once; gives what is to be sent again."""
        try:
            answer = self._p.clients.dynamodb.batch_write_item(RequestItems={self._table: batch})
        except Exception as error:
            if is_passing(error):
                return batch
            raise
        left: list[Any] = answer.get("UnprocessedItems", {}).get(self._table, [])
        return left


def _batches(requests: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    bytes_ = 0
    for request in requests:
        (content,) = request.values()
        (item,) = content.values()
        added = size(item)
        if batch and (len(batch) == _BATCH_ITEMS or bytes_ + added > MOST_REQUEST_BYTES):
            yield batch
            batch, bytes_ = [], 0
        batch.append(request)
        bytes_ += added
    if batch:
        yield batch
