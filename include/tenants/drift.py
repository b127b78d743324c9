"""Finds items whose shape the target's model does not allow: an attribute that it doesn't know, or one of another type.

DynamoDB takes anything; the application that reads it doesn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from include.tenants.changes import Direction, tables
from include.tenants.copying import UNIT_BYTES
from include.tenants.items import size
from include.tenants.keys import MARKER, shard_ids
from include.tenants.saas import PARTITION_KEY
from include.tenants.throttle import Bucket, insist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable
    from include.tenants.store import Migration


@dataclass(frozen=True)
class Unexpected:
    """An attribute that the model doesn't allow.

    Attributes:
        table: what the names of its tables begin with.
        name: of the attribute.
        type: DynamoDB's, that it has.
        allowed: types that it may have; empty if the model doesn't know it.
        count: in how many items.
        example: keys of one of them.
    """

    table: str
    name: str
    type: str
    allowed: tuple[str, ...]
    count: int
    example: tuple[str, str]

    def __str__(self) -> str:
        """For a message."""
        expected = " or ".join(self.allowed) or "no such attribute"
        return (
            f"{self.table}.{self.name}: expected {expected}, found {self.type} in {self.count:,} items, as in "
            f"{self.example[0]}:{self.example[1]}"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "allowed": list(self.allowed), "example": list(self.example)}


class Drift:
    """Collects what the model doesn't allow; its size depends on how many attributes there are, not how many items."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Unexpected] = {}

    def see(self, table: DataTable, item: Mapping[str, Any]) -> None:
        """Look at an item."""
        for name, value in item.items():
            if name in (PARTITION_KEY, table.sort_key):
                continue  # a table's keys have the types that it was made with
            (kind,) = value
            allowed = table.attributes.get(name, frozenset())
            if kind not in allowed:
                key = (item[PARTITION_KEY]["S"], item[table.sort_key]["S"])
                self._add(Unexpected(table.prefix, name, kind, tuple(sorted(allowed)), 1, key))

    def merge(self, other: Drift) -> None:
        """Add what another one has found."""
        for each in other.found:
            self._add(each)

    @property
    def found(self) -> list[Unexpected]:
        """All of it, by table and name."""
        return [self._found[key] for key in sorted(self._found)]

    def _add(self, new: Unexpected) -> None:
        key = (new.table, new.name, new.type)
        old = self._found.get(key)
        count = new.count + (old.count if old else 0)
        example = old.example if old else new.example
        self._found[key] = Unexpected(new.table, new.name, new.type, new.allowed, count, example)


def find_drift(p: Portability, migration: Migration) -> list[Unexpected]:
    """Look at all of the tenant's items in the source, no faster than the migration may read."""
    drift = Drift()
    bucket = Bucket(float(migration.request["read_units"]), p.clock, p.sleep)
    for table, source, _ in tables(migration, Direction.FORWARD):
        for shard_id in shard_ids(migration.tenant_id):
            more: dict[str, Any] = {}
            while True:
                page = insist(
                    partial(
                        p.clients.dynamodb.query,
                        TableName=source,
                        KeyConditionExpression=f"{PARTITION_KEY} = :shard",
                        ExpressionAttributeValues={":shard": {"S": shard_id}},
                        **more,
                    ),
                    clock=p.clock,
                    sleep=p.sleep,
                    refused=lambda _: bucket.slow_down(),
                )
                for item in page["Items"]:
                    if not item[table.sort_key]["S"].startswith(MARKER):
                        drift.see(table, item)
                if "LastEvaluatedKey" not in page:
                    break
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
                bucket.take(sum(map(size, page["Items"])) / UNIT_BYTES)
    return drift.found
