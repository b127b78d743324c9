"""Compares all of a tenant's items on both sides, strongly consistent.

Both sides are read by partition, in the order of the sort keys, and compared as they come: the memory that is needed doesn't grow with
the tenant. Each partition is told by a count and a digest on either side, and each difference by its key: missing (only in the source),
different, extra (only in the target). Foreign are items that have no business with the tenant: in a partition that isn't its own in a
table that is, or with another's ``tenantId``.

While the tenant writes, an item that was changed between the two reads, or whose change isn't replayed yet, looks different: `recheck`
looks again at those only. Inside the fence nothing changes, and the comparison is the authority.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.tenants.changes import Direction, tables
from include.tenants.drift import Drift, Unexpected
from include.tenants.exceptions import NotVerified, SchemaDrift
from include.tenants.items import PartitionDigest, digest, size
from include.tenants.keys import MARKER, shard_ids
from include.tenants.saas import PARTITION_KEY, Tier
from include.tenants.states import State
from include.tenants.throttle import Bucket, Patience, insist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable
    from include.tenants.store import Migration

MOST_KEYS: Final = 20
"""Differences of a kind that are written down; their number always is."""
_MOST_KEPT: Final = 5000
"""Differences of a partition that are remembered to be looked at again one by one."""
_THREADS: Final = 4
_SAY_SECONDS: Final = 5.0
_CONSISTENT_UNIT_BYTES: Final = 4096
_BATCH_KEYS: Final = 100
"""DynamoDB's limit of a BatchGetItem."""
_TENANT: Final = "tenantId"
_KINDS: Final = ("missing", "different", "extra")
_NONE: Final = PartitionDigest()


@dataclass(frozen=True)
class Mismatch:
    """An item that isn't the same on both sides.

    Attributes:
        table: what the names of its tables begin with.
        shard_id: its partition.
        sort: its sort key.
        source: digest of the item there; empty if there is none.
        target: likewise.
    """

    table: str
    shard_id: str
    sort: str
    source: str = ""
    target: str = ""

    @property
    def kind(self) -> str:
        """How they differ."""
        return "different" if self.source and self.target else "missing" if self.source else "extra"


@dataclass(frozen=True)
class Partition:
    """A partition on both sides, and how many of its items aren't the same."""

    table: str
    shard_id: str
    source: PartitionDigest = _NONE
    target: PartitionDigest = _NONE
    mismatches: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        sides = {
            side: {"count": found.count, "digest": found.hex}
            for side, found in (("source", self.source), ("target", self.target))
        }
        return {"table": self.table, "shard_id": self.shard_id, **sides, "mismatches": self.mismatches}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Partition:
        """Read what `to_json` gave."""
        source, target = (
            PartitionDigest(value[side]["count"], int(value[side]["digest"], 16)) for side in ("source", "target")
        )
        return cls(value["table"], value["shard_id"], source, target, value["mismatches"])


@dataclass(frozen=True)
class Comparison:
    """What a comparison has found.

    Attributes:
        at_ms: when it began, in milliseconds since the epoch.
        partitions: all of them.
        mismatches: the items that aren't the same, the first of each partition.
        foreign: the first items that have no business with the tenant.
        foreign_count: how many there are.
        bytes: of the source's items, as DynamoDB counts them.
        seconds: how long it took, without what a rate limit held it up.
        drift: attributes that the model doesn't allow.
    """

    at_ms: int
    partitions: tuple[Partition, ...]
    mismatches: tuple[Mismatch, ...] = ()
    foreign: tuple[Mismatch, ...] = ()
    foreign_count: int = 0
    bytes: int = 0
    seconds: float = 0.0
    drift: tuple[Unexpected, ...] = ()
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))

    @property
    def items(self) -> int:
        """How many the source has."""
        return sum(each.source.count for each in self.partitions)

    @property
    def tables(self) -> list[dict[str, Any]]:
        """The partitions, as plain JSON values."""
        return [each.to_json() for each in self.partitions]

    @property
    def equal(self) -> bool:
        """Whether both sides are the same, and nothing foreign is there."""
        return not self.foreign_count and not any(
            each.mismatches or each.source != each.target for each in self.partitions
        )

    @property
    def missing(self) -> list[Mismatch]:
        """Items that only the source has."""
        return [each for each in self.mismatches if each.kind == "missing"]

    @property
    def different(self) -> list[Mismatch]:
        """Items that both sides have, not the same."""
        return [each for each in self.mismatches if each.kind == "different"]

    @property
    def extra(self) -> list[Mismatch]:
        """Items that only the target has."""
        return [each for each in self.mismatches if each.kind == "extra"]

    @property
    def summary(self) -> str:
        """For a message."""
        if self.equal:
            return f"{self.items:,} equal items"
        counts = {**self.counts, "foreign": self.foreign_count}
        first = next(iter([*self.mismatches, *self.foreign]), None)
        example = f", as {first.table} {first.shard_id}:{first.sort}" if first else ""
        return f"{', '.join(f'{count:,} {kind}' for kind, count in counts.items() if count)} of {self.items:,} items{example}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; of the differences the first `MOST_KEYS` of each kind."""
        kinds = {kind: [asdict(each) for each in getattr(self, kind)[:MOST_KEYS]] for kind in _KINDS}
        return {
            "at_ms": self.at_ms,
            "tables": self.tables,
            **kinds,
            "foreign": [asdict(each) for each in self.foreign[:MOST_KEYS]],
            **{f"{kind}_count": self.counts[kind] for kind in _KINDS},
            "foreign_count": self.foreign_count,
            "items": self.items,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "equal": self.equal,
            "drift": [each.to_json() for each in self.drift],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        """Read what `to_json` gave."""
        return cls(
            value["at_ms"],
            tuple(Partition.from_json(each) for each in value["tables"]),
            tuple(Mismatch(**each) for kind in _KINDS for each in value[kind]),
            tuple(Mismatch(**each) for each in value["foreign"]),
            value["foreign_count"],
            value["bytes"],
            value["seconds"],
            tuple(
                Unexpected(**{**each, "allowed": tuple(each["allowed"]), "example": tuple(each["example"])})
                for each in value["drift"]
            ),
            {kind: value[f"{kind}_count"] for kind in _KINDS},
        )


def compare(p: Portability, migration: Migration, direction: Direction, *, say: Callable[[str], None]) -> Comparison:
    """Compare everything.

    Outside the fence the source is read no faster than the migration may; inside it as fast as possible.

    Args:
        p: what it works with.
        migration: whose items.
        direction: which side is the source.
        say: is told how far it is.

    Raises:
        SchemaDrift: forward, items have a shape that the target's model doesn't allow. Nothing bars the way back.
        NotVerified: a table isn't there.
    """
    work = _Work(p, migration, direction)
    comparison = work.run(say)
    if comparison.drift and direction is Direction.FORWARD:
        raise SchemaDrift(
            f"migration {migration.migration_id}: expected items that the target's model allows, found "
            f"{'; '.join(str(each) for each in comparison.drift[:5])}; mend the items, or allow it in include/tenants/saas.py"
        )
    return comparison


def recheck(p: Portability, migration: Migration, direction: Direction, comparison: Comparison) -> Comparison:
    """Look again at what differed, and only at that.

    Item by item where all differences of a partition are known, else at the whole partition. What is foreign is looked for anew.

    Args:
        p: what it works with.
        migration: whose items.
        direction: as it was compared.
        comparison: the last one.

    Returns:
        The comparison as it is now; its time is still the first one's.
    """
    work = _Work(p, migration, direction)
    if comparison.foreign_count:  # seldom, and to be found anywhere
        return replace(work.run(lambda text: None), at_ms=comparison.at_ms)
    by_partition: dict[tuple[str, str], list[Mismatch]] = defaultdict(list)
    for each in comparison.mismatches:
        by_partition[each.table, each.shard_id].append(each)
    again = []
    for partition in comparison.partitions:
        mismatches = by_partition[partition.table, partition.shard_id]
        if not partition.mismatches and partition.source == partition.target:
            again.append(_Found(partition))
        elif len(mismatches) == partition.mismatches:
            again.append(work.items(partition, mismatches))
        else:
            again.append(work.partition(partition.table, partition.shard_id))
    found = _comparison(again, [], 0)
    names = {(each.table, each.name, each.type) for each in comparison.drift}
    new = [each for each in found.drift if (each.table, each.name, each.type) not in names]
    return replace(
        found,
        at_ms=comparison.at_ms,
        bytes=comparison.bytes,
        seconds=comparison.seconds,
        drift=(*comparison.drift, *new),
    )


@dataclass
class _Found:
    """What was found in a partition."""

    partition: Partition
    mismatches: list[Mismatch] = field(default_factory=list)
    foreign: list[Mismatch] = field(default_factory=list)
    bytes: int = 0
    drift: Drift = field(default_factory=Drift)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))

    def differs(self, mismatch: Mismatch) -> None:
        self.counts[mismatch.kind] += 1
        if len(self.mismatches) < _MOST_KEPT:
            self.mismatches.append(mismatch)


def _comparison(found: Iterable[_Found], foreign: Iterable[Mismatch], foreign_count: int) -> Comparison:
    found = list(found)
    drift = Drift()
    for each in found:
        drift.merge(each.drift)
    of_partitions = [key for each in found for key in each.foreign]
    return Comparison(
        0,
        tuple(each.partition for each in found),
        tuple(mismatch for each in found for mismatch in each.mismatches),
        (*of_partitions, *foreign),
        len(of_partitions) + foreign_count,
        sum(each.bytes for each in found),
        drift=tuple(drift.found),
        counts={kind: sum(each.counts[kind] for each in found) for kind in _KINDS},
    )


class _Work:
    """Reads both sides."""

    def __init__(self, p: Portability, migration: Migration, direction: Direction) -> None:
        self._p = p
        self._tenant_id = migration.tenant_id
        self._dynamodb = p.clients.dynamodb  # made here: threads would make several
        self._ways = {table.prefix: (table, source, target) for table, source, target in tables(migration, direction)}
        fenced = migration.state is State.FENCED or direction is Direction.REVERSE
        self._bucket = None if fenced else Bucket(float(migration.request["read_units"]), p.clock, p.sleep)
        self._lock = threading.Lock()
        self._compared = 0

    def run(self, say: Callable[[str], None]) -> Comparison:
        began = self._p.clock()
        with ThreadPoolExecutor(_THREADS, "compare") as pool:
            pieces = [
                pool.submit(self.partition, prefix, shard_id)
                for prefix in self._ways
                for shard_id in shard_ids(self._tenant_id)
            ]
            scan = pool.submit(self.foreign)
            waiting: set[Future[Any]] = {*pieces, scan}
            try:
                while waiting:
                    done, waiting = wait(waiting, _SAY_SECONDS)
                    for each in done:
                        each.result()
                    say(f"{self._compared:,} items compared")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        comparison = _comparison((piece.result() for piece in pieces), *scan.result())
        held_up = self._bucket.waited / _THREADS if self._bucket else 0.0
        return replace(comparison, at_ms=int(began * 1000), seconds=max(self._p.clock() - began - held_up, 0.0))

    def partition(self, prefix: str, shard_id: str) -> _Found:
        """Compare a partition."""
        table, source, target = self._ways[prefix]
        found = _Found(Partition(prefix, shard_id))
        left, right = self._read(table, source, shard_id, self._bucket), self._read(table, target, shard_id, None)
        one, other = next(left, None), next(right, None)
        sides = PartitionDigest(), PartitionDigest()
        while one is not None or other is not None:
            order = _order(table, one, other)
            mine = one if order <= 0 else None
            theirs = other if order >= 0 else None
            sides = self._compared_item(table, found, sides, mine, theirs)
            one = next(left, None) if order <= 0 else one
            other = next(right, None) if order >= 0 else other
        found.partition = Partition(prefix, shard_id, *sides, sum(found.counts.values()))
        with self._lock:
            self._compared += sides[0].count
        return found

    def _compared_item(
        self,
        table: DataTable,
        found: _Found,
        sides: tuple[PartitionDigest, PartitionDigest],
        mine: Mapping[str, Any] | None,
        theirs: Mapping[str, Any] | None,
    ) -> tuple[PartitionDigest, PartitionDigest]:
        source, target = sides
        hashed = digest(mine) if mine is not None else b""
        # most items are the same to the letter: hashing one of them is enough
        other = hashed if mine == theirs else digest(theirs) if theirs is not None else b""
        if mine is not None:
            source = source.add(hashed)
            found.bytes += size(mine)
            found.drift.see(table, mine)
        if theirs is not None:
            target = target.add(other)
        item = mine or theirs or {}
        if hashed != other:
            found.differs(_mismatch(table, item, hashed, other))
        if any(each is not None and _strange(each, self._tenant_id) for each in (mine, theirs)):
            found.foreign.append(_mismatch(table, item, hashed, other))
        return source, target

    def items(self, partition: Partition, mismatches: list[Mismatch]) -> _Found:
        """Look again at some items of a partition."""
        table, source, target = self._ways[partition.table]
        sorts = [each.sort for each in mismatches]
        found = _Found(partition)
        mine: dict[str, bytes] = {}
        theirs: dict[str, bytes] = {}
        for name, digests in ((source, mine), (target, theirs)):
            for item in self._get(table, name, partition.shard_id, sorts):
                digests[item[table.sort_key]["S"]] = digest(item)
                if name == source:
                    found.drift.see(table, item)
                if _strange(item, self._tenant_id):
                    found.foreign.append(_mismatch(table, item, b"", b""))
        left, right = partition.source, partition.target
        for each in mismatches:
            left = left.remove(bytes.fromhex(each.source)) if each.source else left
            right = right.remove(bytes.fromhex(each.target)) if each.target else right
            new = replace(each, source=mine.get(each.sort, b"").hex(), target=theirs.get(each.sort, b"").hex())
            left = left.add(bytes.fromhex(new.source)) if new.source else left
            right = right.add(bytes.fromhex(new.target)) if new.target else right
            if new.source != new.target:
                found.differs(new)
        found.partition = replace(partition, source=left, target=right, mismatches=sum(found.counts.values()))
        return found

    def foreign(self) -> tuple[list[Mismatch], int]:
        """Items of other partitions than the tenant's in the tables that are its own; the first of them, and how many."""
        found: list[Mismatch] = []
        count = 0
        mine = {f":shard{number}": {"S": shard_id} for number, shard_id in enumerate(shard_ids(self._tenant_id))}
        for table, *names in self._ways.values():
            for name in names:
                if name != table.name(self._tenant_id, Tier.PLATINUM):
                    continue
                for page in self._pages(
                    self._dynamodb.scan,
                    None,
                    TableName=name,
                    # filtered there: only what is foreign comes over the wire
                    FilterExpression=f"NOT ({PARTITION_KEY} IN ({', '.join(mine)}))",
                    ExpressionAttributeValues=mine,
                    ProjectionExpression=f"{PARTITION_KEY}, {table.sort_key}",
                ):
                    count += len(page)
                    found += [_mismatch(table, item, b"", b"") for item in page[: MOST_KEYS - len(found)]]
        return found, count

    def _read(self, table: DataTable, name: str, shard_id: str, bucket: Bucket | None) -> Iterator[Mapping[str, Any]]:
        pages = self._pages(
            self._dynamodb.query,
            bucket,
            TableName=name,
            KeyConditionExpression=f"{PARTITION_KEY} = :shard",
            ExpressionAttributeValues={":shard": {"S": shard_id}},
        )
        for page in pages:
            for item in page:
                if not item[table.sort_key]["S"].startswith(MARKER):
                    yield item

    def _pages(self, call: Callable[..., Any], bucket: Bucket | None, **arguments: Any) -> Iterator[list[Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._insist(partial(call, ConsistentRead=True, **arguments, **more), bucket)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
            if bucket:
                bucket.take(sum(map(size, page["Items"])) / _CONSISTENT_UNIT_BYTES)

    def _get(self, table: DataTable, name: str, shard_id: str, sorts: list[str]) -> Iterator[Mapping[str, Any]]:
        """Items by their sort keys; those that aren't there are left out."""
        patience = Patience(60, self._p.clock, self._p.sleep)
        for start in range(0, len(sorts), _BATCH_KEYS):
            keys = [
                {PARTITION_KEY: {"S": shard_id}, table.sort_key: {"S": sort}}
                for sort in sorts[start : start + _BATCH_KEYS]
            ]
            while keys:
                wanted = {name: {"Keys": keys, "ConsistentRead": True}}
                answer = self._insist(partial(self._dynamodb.batch_get_item, RequestItems=wanted), None)
                yield from answer["Responses"].get(name, [])
                left = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
                if len(left) < len(keys):
                    patience.succeeded()
                elif not patience.wait():
                    raise NotVerified(
                        f"{name}: expected it to be readable, found it to give none of {len(left)} items for 60 s; raise its read "
                        "capacity, then retry"
                    )
                keys = left

    def _insist(self, call: Callable[[], Any], bucket: Bucket | None) -> Any:
        refused = (lambda _: bucket.slow_down()) if bucket else None
        try:
            return insist(call, seconds=30, clock=self._p.clock, sleep=self._p.sleep, refused=refused)
        except self._dynamodb.exceptions.ResourceNotFoundException as error:
            names = ", ".join(name for _, *both in self._ways.values() for name in both)
            raise NotVerified(f"expected the tables {names} to be there, found one of them gone") from error


def _order(table: DataTable, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> int:
    """Which of the next items of both sides comes first: -1, 0 for the same key, 1."""
    if one is None or other is None:
        return 1 if one is None else -1
    # DynamoDB orders texts by their bytes
    left: bytes = one[table.sort_key]["S"].encode()
    right: bytes = other[table.sort_key]["S"].encode()
    return (left > right) - (left < right)


def _mismatch(table: DataTable, item: Mapping[str, Any], source: bytes, target: bytes) -> Mismatch:
    return Mismatch(table.prefix, item[PARTITION_KEY]["S"], item[table.sort_key]["S"], source.hex(), target.hex())


def _strange(item: Mapping[str, Any], tenant_id: str) -> bool:
    return _TENANT in item and item[_TENANT] != {"S": tenant_id}
