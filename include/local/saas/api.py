"""The application: products and orders of tenants.

An item's key, as clients know it, is ``{shardId}:{productId}``. Keys of new items are spread over the tenant's partitions by chance, as the
reference does it. PUT and DELETE do what they say; the reference has them wired to create.

Each write is one transaction with `include.tenants.fence.write_check`; that is all that an application must do so that its tenants can be
moved while they write. Reads go where the cached route says. So after a switch an instance may show for ``cache_seconds`` what was there
before; what it does not find, it looks up where the tenant is now.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.local.saas.errors import Fenced, Forbidden, NotFound, Refused
from include.local.saas.routes import CACHE_SECONDS, Routes
from include.tenants.fence import break_fence, write_check
from include.tenants.keys import MARKER, owner_of, shard_ids
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, DataTable, Tenant
from include.tenants.transactions import ConditionFailed, plain, transact, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.tenants.clients import Clients

TABLES: Final = {table.prefix: table for table in DATA_TABLES}
NEW_SUFFIXES: Final = range(1, 10)
"""The partitions that new items go to."""
_TRIES: Final = 4
"""A fence that opens and a route that moves on may both be met by one write, and each twice."""


@dataclass(frozen=True)
class Written:
    """A write that happened.

    Attributes:
        key: of the item.
        epoch: of the route that it went by.
    """

    key: str
    epoch: int


@dataclass(frozen=True)
class Found:
    """An item.

    Attributes:
        item: its attributes, keys included, as Python values.
        epoch: of the route that the read went by.
    """

    item: dict[str, Any]
    epoch: int


@dataclass(frozen=True)
class Page:
    """Some of a tenant's items.

    Attributes:
        items: as `Found.item`.
        after: what to ask the next page with; None: this is the last.
        epoch: of the route that the read went by.
    """

    items: list[dict[str, Any]]
    after: str | None
    epoch: int


def nothing() -> None:
    """Does not stall."""


def table_named(prefix: str) -> DataTable:
    """A data table by its prefix.

    Raises:
        NotFound: there is none.
    """
    if prefix not in TABLES:
        raise NotFound(f"expected one of {', '.join(TABLES)}, found {prefix!r}")
    return TABLES[prefix]


def key_of(table: DataTable, item: Mapping[str, Any]) -> str:
    """An item's key, as clients know it."""
    return f"{item[PARTITION_KEY]}:{item[table.sort_key]}"


def parts_of(tenant_id: str, key: str) -> tuple[str, str]:
    """Partition and sort key of a tenant's key.

    Raises:
        NotFound: it is no key, or another tenant's: nobody is told which.
    """
    shard_id, colon, sort = key.partition(":")
    if not colon or not sort or sort.startswith(MARKER) or owner_of(shard_id) != tenant_id:
        raise NotFound(f"expected a key of tenant {tenant_id}, found {key!r}")
    return shard_id, sort


class Application:
    """One instance of it, with a cache of its own. Used by many threads.

    Args:
        clients: of AWS.
        cache_seconds: how long the authorizer believes a route.
        clock: seconds since the epoch.
        fenced: False writes without the check, by the cached route alone: what an application does that knows nothing of moves.
        stall: called between the look-up of the route and the write.
        seed: of the new keys.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        cache_seconds: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.time,
        fenced: bool = True,
        stall: Callable[[], None] = nothing,
        seed: int | None = None,
    ) -> None:
        self._dynamodb = clients.dynamodb
        self.routes = Routes(clients.dynamodb, cache_seconds, clock)
        self._clock = clock
        self._fenced = fenced
        self._stall = stall
        self._random = random.Random(seed)

    def put(self, tenant_id: str, table: str, key: str | None, body: Mapping[str, Any]) -> Written:
        """Create an item, or replace the one that has this key.

        Args:
            tenant_id: whose.
            table: prefix of the data table.
            key: None: a new one.
            body: its attributes, as Python values.

        Raises:
            ApiError: see `include.local.saas.errors`.
        """
        model = table_named(table)
        if key is None:
            shard_id, sort = (
                f"{tenant_id}-{self._random.choice(NEW_SUFFIXES)}",
                uuid.UUID(int=self._random.getrandbits(128), version=4).hex,
            )
        else:
            shard_id, sort = parts_of(tenant_id, key)
        return self._put(tenant_id, model, shard_id, sort, body, {})

    def update(self, tenant_id: str, table: str, key: str, body: Mapping[str, Any]) -> Written:
        """Replace the item that has this key.

        Raises:
            NotFound: there is none.
            ApiError: see `include.local.saas.errors`.
        """
        there = {"ConditionExpression": f"attribute_exists({PARTITION_KEY})"}
        return self._put(tenant_id, table_named(table), *parts_of(tenant_id, key), body, there)

    def delete(self, tenant_id: str, table: str, key: str) -> Written:
        """Delete the item that has this key.

        Raises:
            NotFound: there is none.
            ApiError: see `include.local.saas.errors`.
        """
        model = table_named(table)
        shard_id, sort = parts_of(tenant_id, key)
        element = {
            "Key": {PARTITION_KEY: {"S": shard_id}, model.sort_key: {"S": sort}},
            "ConditionExpression": f"attribute_exists({PARTITION_KEY})",
        }
        return Written(key, self._write(tenant_id, model, shard_id, "Delete", element))

    def get(self, tenant_id: str, table: str, key: str) -> Found:
        """The item that has this key.

        Raises:
            NotFound: there is none.
            ApiError: see `include.local.saas.errors`.
        """
        model = table_named(table)
        shard_id, sort = parts_of(tenant_id, key)
        wanted = {PARTITION_KEY: {"S": shard_id}, model.sort_key: {"S": sort}}

        def read(table_name: str) -> dict[str, Any] | None:
            found: dict[str, Any] | None = self._dynamodb.get_item(
                TableName=table_name, Key=wanted, ConsistentRead=True
            ).get("Item")
            return found

        found, epoch = self._read(tenant_id, model, read)
        if found is None:
            raise NotFound(f"expected an item of tenant {tenant_id} at {key!r}, found none")
        return Found(plain(found), epoch)

    def list(self, tenant_id: str, table: str, *, limit: int = 100, after: str | None = None) -> Page:
        """A page of a tenant's items, by key.

        Args:
            tenant_id: whose.
            table: prefix of the data table.
            limit: most items of the page.
            after: `Page.after` of the page before.

        Raises:
            ApiError: see `include.local.saas.errors`.
        """
        model = table_named(table)
        if limit < 1:
            raise Refused(f"limit: expected at least 1, found {limit}")
        shards = shard_ids(tenant_id)
        first, position = 0, None
        if after is not None:
            shard_id, sort = parts_of(tenant_id, after)
            first, position = shards.index(shard_id), sort

        def read(table_name: str) -> tuple[list[dict[str, Any]], str | None] | None:
            items: list[dict[str, Any]] = []
            for number, shard_id in enumerate(shards[first:]):
                items += _partition(
                    self._dynamodb, model, table_name, shard_id, position if number == 0 else None, limit - len(items)
                )
                if len(items) == limit:
                    return items, key_of(model, items[-1])
            return items, None

        found, epoch = self._read(tenant_id, model, read)
        items, following = found or ([], None)
        return Page(items, following, epoch)

    def _put(
        self,
        tenant_id: str,
        model: DataTable,
        shard_id: str,
        sort: str,
        body: Mapping[str, Any],
        condition: Mapping[str, str],
    ) -> Written:
        keys = {PARTITION_KEY: {"S": shard_id}, model.sort_key: {"S": sort}}
        element = {"Item": {**checked(model, body), **keys}, **condition}
        return Written(f"{shard_id}:{sort}", self._write(tenant_id, model, shard_id, "Put", element))

    def _read[T](self, tenant_id: str, model: DataTable, read: Callable[[str], T | None]) -> tuple[T | None, int]:
        """Read by the cached route; what isn't there, by the present one if that is another."""
        tenant = self._tenant(tenant_id)
        found = None
        try:
            found = read(model.name(tenant_id, tenant.route.tier))
        except self._dynamodb.exceptions.ResourceNotFoundException:
            if self._tenant(tenant_id, fresh=True).epoch == tenant.epoch:
                raise
        if found is None:
            present = self._tenant(tenant_id, fresh=True)
            if present.epoch != tenant.epoch:
                return read(model.name(tenant_id, present.route.tier)), present.epoch
        return found, tenant.epoch

    def _write(self, tenant_id: str, model: DataTable, shard_id: str, kind: str, element: Mapping[str, Any]) -> int:
        """Write by the cached route, and once more if the tenant is elsewhere by now; gives the route's epoch."""
        tenant = self._tenant(tenant_id)
        for _ in range(_TRIES):
            self._stall()
            write = {**element, "TableName": model.name(tenant_id, tenant.route.tier)}
            try:
                self._transact(kind, write, shard_id, tenant.epoch)
                return tenant.epoch
            except ConditionFailed as error:
                if 1 not in error.elements:
                    raise NotFound(f"expected an item of tenant {tenant_id}, found none") from error
                if not break_fence(self._dynamodb, shard_id, clock=self._clock):
                    raise Fenced(f"tenant {tenant_id} is being moved; come again") from error
            except self._dynamodb.exceptions.ResourceNotFoundException:
                # the table that the tenant was in is gone; one that should be there and isn't is an error
                if self._tenant(tenant_id, fresh=True).epoch == tenant.epoch:
                    raise
            tenant = self._tenant(tenant_id, fresh=True)
        raise Fenced(f"tenant {tenant_id} is being moved; come again")

    def _transact(self, kind: str, write: Mapping[str, Any], shard_id: str, epoch: int) -> None:
        if self._fenced:
            transact(self._dynamodb, [{kind: write}, write_check(shard_id, epoch)])
            return
        try:
            (self._dynamodb.put_item if kind == "Put" else self._dynamodb.delete_item)(**write)
        except self._dynamodb.exceptions.ConditionalCheckFailedException as error:
            raise ConditionFailed([0]) from error

    def _tenant(self, tenant_id: str, *, fresh: bool = False) -> Tenant:
        tenant = self.routes.of(tenant_id, fresh=fresh)
        if not tenant.active:
            raise Forbidden(f"tenant {tenant_id} is not active")
        return tenant


def checked(model: DataTable, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body as DynamoDB's JSON.

    Raises:
        Refused: the model does not allow it.
    """
    try:
        item = typed(body)
    except (TypeError, ArithmeticError) as error:
        raise Refused(f"expected values that DynamoDB can keep: {error}") from error
    for name, value in item.items():
        (kind,) = value
        allowed = model.attributes.get(name)
        if allowed is None or kind not in allowed:
            found = f"{name} of type {kind}"
            wanted = ", ".join(f"{each} ({' or '.join(sorted(types))})" for each, types in model.attributes.items())
            raise Refused(f"expected of {model.prefix} only {wanted}; found {found}")
    return item


def _partition(
    dynamodb: Any, model: DataTable, table_name: str, shard_id: str, position: str | None, most: int
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    start = {PARTITION_KEY: {"S": shard_id}, model.sort_key: {"S": position}} if position else None
    while len(found) < most:
        page = dynamodb.query(
            TableName=table_name,
            ConsistentRead=True,
            KeyConditionExpression=f"{PARTITION_KEY} = :shard",
            ExpressionAttributeValues={":shard": {"S": shard_id}},
            Limit=most - len(found),
            **({"ExclusiveStartKey": start} if start else {}),
        )
        found += [plain(item) for item in page["Items"] if not item[model.sort_key]["S"].startswith(MARKER)]
        start = page.get("LastEvaluatedKey")
        if not start:
            break
    return found
