"""Keeps a tenant's writes out, and switches where they go.

**What the application must do.** Each of its writes is a transaction that also checks one row of the table `FENCES`, that of the partition
the write goes to (`write_check`)::

    attribute_not_exists(fencedBy) AND (attribute_not_exists(routeEpoch) OR routeEpoch = :epoch of the route that the writer has cached)

So a write lands under the route that it was made for or not at all, however long it stalled in between and however old a cache is: no
waiting time is needed, and none would do. There are ten rows per tenant, one per partition, because DynamoDB refuses transactions
that meet at one row (``TransactionConflict``): a single row would make all of a tenant's writes wait for each other.

A writer that finds a fence reads the row: before ``fencedUntil`` it asks its client to come again; after it, the migration has died, and
the writer removes the fence itself (`break_fence`). The switch happens only while all ten rows still carry the fence, so it doesn't
matter whose clock is wrong: a fence that anybody has broken ends the cutover, not the write.

An application that can't check the row is kept out by an IAM deny; see `include.tenants.deny`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from include.tenants.keys import shard_ids
from include.tenants.saas import EPOCH, FENCED_BY, FENCES, PARTITION_KEY, TENANTS
from include.tenants.transactions import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.tenants.saas import Route, Tenant

FENCED_UNTIL: Final = "fencedUntil"


def write_check(shard_id: str, epoch: int) -> dict[str, Any]:
    """The element of ``TransactItems`` that the application adds to each write.

    Args:
        shard_id: partition that is written to.
        epoch: `Tenant.epoch` of the route that the writer goes by.
    """
    return {
        "ConditionCheck": {
            "TableName": FENCES,
            "Key": {PARTITION_KEY: {"S": shard_id}},
            "ConditionExpression": f"attribute_not_exists({FENCED_BY}) AND (attribute_not_exists({EPOCH}) OR {EPOCH} = :epoch)",
            "ExpressionAttributeValues": {":epoch": {"N": str(epoch)}},
        }
    }


def break_fence(dynamodb: Any, shard_id: str, *, clock: Callable[[], float] = time.time) -> bool:
    """Remove the fence of a partition if its time has passed; the application calls it when `write_check` failed.

    Returns:
        Whether there is no fence now.
    """
    key = {PARTITION_KEY: {"S": shard_id}}
    row = dynamodb.get_item(TableName=FENCES, Key=key, ConsistentRead=True).get("Item", {})
    if FENCED_BY not in row:
        return True
    if int(row[FENCED_UNTIL]["N"]) >= clock() * 1000:
        return False
    try:
        dynamodb.update_item(
            TableName=FENCES,
            Key=key,
            UpdateExpression=f"REMOVE {FENCED_BY}, {FENCED_UNTIL}",
            ConditionExpression=f"{FENCED_BY} = :by AND {FENCED_UNTIL} = :until",
            ExpressionAttributeValues={":by": row[FENCED_BY], ":until": row[FENCED_UNTIL]},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False  # somebody was faster: the next try sees what is there now
    return True


def close(tenant: Tenant, migration_id: str, until: float) -> list[dict[str, Any]]:
    """The writes that close the fence; they go into the transaction of the state's transition.

    They happen only if the tenant's route is still the one that ``tenant`` has, and nobody else has closed it.

    Args:
        tenant: as it was read.
        migration_id: whose fence it is.
        until: when the application may break it, in seconds since the epoch.
    """
    values = {
        ":by": {"S": migration_id},
        ":until": {"N": str(int(until * 1000))},
        ":epoch": {"N": str(tenant.epoch)},
        ":tenant": {"S": tenant.tenant_id},
    }
    free = f"(attribute_not_exists({FENCED_BY}) OR {FENCED_BY} = :by)"
    rows: list[dict[str, Any]] = [
        _update(
            FENCES,
            {PARTITION_KEY: {"S": shard_id}},
            f"SET {FENCED_BY} = :by, {FENCED_UNTIL} = :until, {EPOCH} = :epoch, tenantId = :tenant",
            f"{free} AND (attribute_not_exists({EPOCH}) OR {EPOCH} = :epoch)",
            values,
        )
        for shard_id in shard_ids(tenant.tenant_id)
    ]
    del values[":tenant"], values[":until"]
    return [*rows, _tenant_update(tenant, f"SET {FENCED_BY} = :by", free, values)]


def open_again(tenant: Tenant, migration_id: str) -> list[dict[str, Any]]:
    """The writes that open the fence and leave the tenant where it is. Rows that the application has opened already stay so."""
    values = {":by": {"S": migration_id}, ":epoch": {"N": str(tenant.epoch)}}
    mine = f"(attribute_not_exists({FENCED_BY}) OR {FENCED_BY} = :by)"
    return [
        *(
            _update(
                FENCES,
                {PARTITION_KEY: {"S": shard_id}},
                f"REMOVE {FENCED_BY}, {FENCED_UNTIL}",
                mine,
                {":by": values[":by"]},
            )
            for shard_id in shard_ids(tenant.tenant_id)
        ),
        _tenant_update(tenant, f"REMOVE {FENCED_BY}", mine, values),
    ]


def switch(tenant: Tenant, migration_id: str, route: Route, *, fenced: bool = True) -> list[dict[str, Any]]:
    """The writes that give the tenant another route and open the fence, all of the route in one conditional write of the tenant's row.

    They happen only while every partition still carries the fence, so no write of the old route can come after.

    Args:
        tenant: as it was read.
        migration_id: whose fence it is.
        route: the new one.
        fenced: False where no data moves: nothing has to be kept out.
    """
    mine = {":by": {"S": migration_id}} if fenced else {}
    held = f"{FENCED_BY} = :by" if fenced else f"attribute_not_exists({FENCED_BY})"
    following = {":next": {"N": str(tenant.epoch + 1)}}
    rows = [
        _update(
            FENCES,
            {PARTITION_KEY: {"S": shard_id}},
            f"SET {EPOCH} = :next REMOVE {FENCED_BY}, {FENCED_UNTIL}",
            f"{held}" + ("" if fenced else f" AND (attribute_not_exists({EPOCH}) OR {EPOCH} = :epoch)"),
            {**mine, **following, **({} if fenced else {":epoch": {"N": str(tenant.epoch)}})},
        )
        for shard_id in shard_ids(tenant.tenant_id)
    ]
    names = {f"#route{number}": name for number, name in enumerate(route.to_item())}
    values = {f":route{number}": value for number, value in enumerate(typed(route.to_item()).values())}
    sets = ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
    row = _tenant_update(
        tenant,
        f"SET {sets}, {EPOCH} = :next REMOVE {FENCED_BY}",
        held,
        {**values, **mine, **following, ":epoch": {"N": str(tenant.epoch)}},
    )
    row["Update"]["ExpressionAttributeNames"] = names
    return [*rows, row]


def fenced_partitions(dynamodb: Any, tenant_id: str) -> dict[str, str]:
    """Which of a tenant's partitions carry a fence, and whose."""
    found = {}
    for shard_id in shard_ids(tenant_id):
        row = dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": shard_id}}, ConsistentRead=True).get(
            "Item", {}
        )
        if FENCED_BY in row:
            found[shard_id] = row[FENCED_BY]["S"]
    return found


def _tenant_update(tenant: Tenant, update: str, condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
    epoch = f"({EPOCH} = :epoch OR attribute_not_exists({EPOCH}))" if tenant.epoch == 0 else f"{EPOCH} = :epoch"
    return _update(TENANTS, {"tenantId": {"S": tenant.tenant_id}}, update, f"{condition} AND {epoch}", values)


def _update(
    table: str, key: Mapping[str, Any], update: str, condition: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": table,
            "Key": dict(key),
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": dict(values),
        }
    }
