"""Reads a stream to the end of what was written before the fence, and knows that it was the end.

Nothing in a stream says that it is at its end: records come some moments after their writes, and a page may be empty before others. So once
the fence is closed a marker is written into each of the tenant's partitions, an item that the application never makes; when it comes out of
the stream, so has what was written to the partition before it. That is how AWS does it and no promise, since DynamoDB orders changes
per item only. Therefore each shard is read on after the last marker too: to its tip, or, where others write all the time, to a change
that was made after that marker. The comparison of all items is what decides.

A change that comes after the marker of its partition is a straggler: somebody writes past the fence. It is replayed like any other,
since the source has it, and told of.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.tenants.changes import Direction, Replayer, replay_turn, tables, take_turn
from include.tenants.keys import MARKER, shard_ids
from include.tenants.saas import PARTITION_KEY
from include.tenants.throttle import insist
from include.tenants.transactions import new_token, transact

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable
    from include.tenants.store import Migration

_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class DrainFigures:
    """How a drain went.

    Attributes:
        markers_seen: how many of the markers came out of the streams.
        records: the tenant's changes that were replayed.
        stragglers: how many changes came after the marker of their partition.
        seconds: how long it took.
        complete: whether all markers came, and then every shard was read to its tip or past them.
        aside: the first stragglers: table, keys, sequence number and digest of the item afterwards.
    """

    markers_seen: int
    records: int
    stragglers: int
    seconds: float
    complete: bool
    aside: tuple[dict[str, Any], ...] = ()


def marker(migration: Migration, direction: Direction, mark: str = "") -> str:
    """Sort key of the markers of a try of a cutover."""
    return f"{MARKER}{migration.migration_id}#{direction}#{mark or migration.epoch}"


def put_markers(p: Portability, migration: Migration, direction: Direction, *, mark: str = "") -> None:
    """Write a marker into each of the tenant's partitions; written again it changes nothing, so there is one record of each.

    Args:
        p: what it works with.
        migration: in its fence.
        direction: which way it is drained.
        mark: another for each try, so that no try takes the markers of one before it for its own: a rollback that failed leaves the
            migration's epoch as it was. Without one the epoch stands for it.
    """
    sort = marker(migration, direction, mark)
    elements = [
        {"Put": {"TableName": source, "Item": {PARTITION_KEY: {"S": shard_id}, table.sort_key: {"S": sort}}}}
        for table, source, _ in tables(migration, direction)
        for shard_id in shard_ids(migration.tenant_id)
    ]
    write = partial(transact, p.clients.dynamodb, elements, token=new_token(), sleep=p.sleep, clock=p.clock)
    insist(write, seconds=10, clock=p.clock, sleep=p.sleep)


def drain(
    p: Portability,
    migration: Migration,
    direction: Direction,
    *,
    owner: str,
    deadline: float,
    say: Callable[[str], None],
    mark: str = "",
) -> DrainFigures:
    """Replay until all markers were seen and then all shards were read to their tips or past the last marker.

    Args:
        p: what it works with.
        migration: in its fence, with markers.
        direction: which way.
        owner: who does it; the turn is taken from whoever has it.
        deadline: when to stop, by the clock.
        say: is told how it went.
        mark: that the markers were written with.

    Raises:
        TurnLost: somebody else replays by now.
        StreamTrimmed: changes are gone before they were read.
    """
    began = p.clock()
    sort = marker(migration, direction, mark)
    wanted = len(tables(migration, direction)) * len(shard_ids(migration.tenant_id))
    replayer = Replayer(p, migration, direction, take_turn(p, migration, direction, owner, always=True), marker=sort)
    all_seen = False
    while True:
        before = replayer.figures()
        replayer.step(until=deadline)
        if not all_seen and len(replayer.seen(sort)) >= wanted:
            all_seen = True
            for stream in replayer.streams.values():
                stream.forget_tip()
        complete = all_seen and all(
            stream.is_past(max(replayer.seen(sort).values())) for stream in replayer.streams.values()
        )
        if complete or p.clock() >= deadline:
            break
        if replayer.at_tip and replayer.figures().applied == before.applied:
            p.sleep(_PAUSE_SECONDS)  # the markers are on their way
    replayer.save()
    p.turns.give_back(replayer.turn)
    figures = DrainFigures(
        len(replayer.seen(sort)),
        replayer.figures().applied,
        replayer.stragglers,
        max(p.clock() - began, 0.0),
        complete,
        tuple(replayer.aside),
    )
    say(
        f"drained {replay_turn(direction)}: {figures.markers_seen} of {wanted} markers seen, {figures.records} changes replayed, "
        f"{figures.stragglers} of them after the marker of their partition, in {figures.seconds:.2f} s"
        + ("" if complete else "; time was over before the end")
    )
    return figures


def remove_markers(p: Portability, migration: Migration) -> None:
    """Delete the migration's markers, also those of earlier cutovers, on both sides; a table that is gone has none."""
    prefix = f"{MARKER}{migration.migration_id}#"
    places = [
        (table, name, shard_id)
        for table, source, target in tables(migration, Direction.FORWARD)
        for name in (source, target)
        for shard_id in shard_ids(migration.tenant_id)
    ]

    def remove(place: tuple[DataTable, str, str]) -> None:
        _remove(p, *place, prefix)

    with ThreadPoolExecutor(8, "markers") as pool:  # writes are kept out meanwhile
        list(pool.map(remove, places))


def _remove(p: Portability, table: DataTable, name: str, shard_id: str, prefix: str) -> None:
    dynamodb = p.clients.dynamodb
    query = {
        "TableName": name,
        "ConsistentRead": True,
        "KeyConditionExpression": f"{PARTITION_KEY} = :shard AND begins_with({table.sort_key}, :prefix)",
        "ExpressionAttributeValues": {":shard": {"S": shard_id}, ":prefix": {"S": prefix}},
    }
    try:
        found = insist(partial(dynamodb.query, **query), seconds=10, clock=p.clock, sleep=p.sleep)
        for item in found["Items"]:
            key = {PARTITION_KEY: item[PARTITION_KEY], table.sort_key: item[table.sort_key]}
            insist(partial(dynamodb.delete_item, TableName=name, Key=key), seconds=10, clock=p.clock, sleep=p.sleep)
    except dynamodb.exceptions.ResourceNotFoundException:
        return
