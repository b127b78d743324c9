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

For an application that can't check the row there is an IAM deny, put and removed by hand: `include.tenants.deny`.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import MigrationConflict
from include.tenants.keys import shard_ids
from include.tenants.saas import EPOCH, FENCED_BY, FENCES, PARTITION_KEY, TENANTS
from include.tenants.throttle import insist
from include.tenants.transactions import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from include.tenants.saas import Route, Tenant

FENCED_UNTIL: Final = "fencedUntil"
_TRIES: Final = 60
_FIRST_PAUSE_SECONDS: Final = 0.005
_LAST_PAUSE_SECONDS: Final = 0.1
_OPENING_SECONDS: Final = 10


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


def close_rows(
    dynamodb: Any,
    tenant: Tenant,
    migration_id: str,
    until: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> None:
    """Close the fence, one partition after the other: all are closed when it returns. Closed again, it lasts until the new time.

    A fence of another migration whose time is over gives way, as it does to the application: its migration has died, and nobody writes to
    the partition, else it would be open.

    Not in one transaction: each row is in a transaction of every write of its partition, and one that meets any of ten busy rows would
    hardly ever come through.

    Args:
        dynamodb: a boto3 client.
        tenant: as it was read.
        migration_id: whose fence it is.
        until: when the application may break it, in seconds since the epoch.
        sleep: waits.
        clock: seconds since the epoch.

    Raises:
        MigrationConflict: another migration's fence is there, or the tenant has moved since; what this one had closed is open again.
        ClientError: a row could not be written; likewise.
    """
    values = {
        ":by": {"S": migration_id},
        ":until": _milliseconds(until),
        ":epoch": {"N": str(tenant.epoch)},
        ":tenant": {"S": tenant.tenant_id},
    }
    try:
        for shard_id in shard_ids(tenant.tenant_id):
            _write_row(
                dynamodb,
                shard_id,
                f"SET {FENCED_BY} = :by, {FENCED_UNTIL} = :until, {EPOCH} = :epoch, tenantId = :tenant",
                f"(attribute_not_exists({FENCED_BY}) OR {FENCED_BY} = :by OR {FENCED_UNTIL} < :now) AND "
                f"(attribute_not_exists({EPOCH}) OR {EPOCH} = :epoch)",
                {**values, ":now": _milliseconds(clock())},
                sleep,
            )
    except BaseException as error:
        open_rows(dynamodb, tenant.tenant_id, migration_id, sleep=sleep)
        if isinstance(error, dynamodb.exceptions.ConditionalCheckFailedException):
            raise MigrationConflict(
                f"migration {migration_id}: expected tenant {tenant.tenant_id} at epoch {tenant.epoch} without another's fence, found "
                f"{fenced_partitions(dynamodb, tenant.tenant_id) or 'another epoch'}: somebody else moves the tenant, or has moved it"
            ) from error
        raise


def open_rows(dynamodb: Any, tenant_id: str, migration_id: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Open the fence, one partition after the other. Rows that are open, or another migration's, stay as they are.

    A fault that passes doesn't end it: as long as a row is closed, the tenant can't write there.
    """
    for shard_id in shard_ids(tenant_id):
        opened = partial(
            _write_row,
            dynamodb,
            shard_id,
            f"REMOVE {FENCED_BY}, {FENCED_UNTIL}",
            f"{FENCED_BY} = :by",
            {":by": {"S": migration_id}},
            sleep,
        )
        with contextlib.suppress(dynamodb.exceptions.ConditionalCheckFailedException):
            insist(opened, seconds=_OPENING_SECONDS, sleep=sleep)


def mark_closed(tenant: Tenant, migration_id: str) -> dict[str, Any]:
    """The write that says in the tenant's row that it is fenced; it happens only while its route is the one that ``tenant`` has."""
    free = f"(attribute_not_exists({FENCED_BY}) OR {FENCED_BY} = :by)"
    return _tenant_update(tenant, f"SET {FENCED_BY} = :by", free, {":by": {"S": migration_id}})


def mark_open(tenant: Tenant, migration_id: str) -> dict[str, Any]:
    """The write that says that it is fenced no more."""
    mine = f"(attribute_not_exists({FENCED_BY}) OR {FENCED_BY} = :by)"
    return _tenant_update(tenant, f"REMOVE {FENCED_BY}", mine, {":by": {"S": migration_id}})


def switch(tenant: Tenant, migration_id: str, route: Route, until: float) -> list[dict[str, Any]]:
    """The writes that give the tenant another route and open the fence, all of the route in one conditional write of the tenant's row.

    They happen only while every partition carries the fence as it was closed, so no write of the old route can come after.

    Args:
        tenant: as it was read.
        migration_id: whose fence it is.
        route: the new one.
        until: as the fence was closed.
    """
    following = {":next": {"N": str(tenant.epoch + 1)}}
    mine = {":by": {"S": migration_id}}
    rows = [
        _update(
            FENCES,
            {PARTITION_KEY: {"S": shard_id}},
            f"SET {EPOCH} = :next REMOVE {FENCED_BY}, {FENCED_UNTIL}",
            f"{FENCED_BY} = :by AND {FENCED_UNTIL} = :until",
            {**mine, **following, ":until": _milliseconds(until)},
        )
        for shard_id in shard_ids(tenant.tenant_id)
    ]
    names, values, sets = _route(route)
    row = _tenant_update(
        tenant, f"SET {sets}, {EPOCH} = :next REMOVE {FENCED_BY}", f"{FENCED_BY} = :by", {**values, **mine, **following}
    )
    row["Update"]["ExpressionAttributeNames"] = names
    return [*rows, row]


def switch_plan(tenant: Tenant, route: Route) -> dict[str, Any]:
    """The write that gives the tenant another route to the same tables; nothing has to be kept out.

    The epoch stays: it tells where the items are.
    """
    names, values, sets = _route(route)
    row = _tenant_update(tenant, f"SET {sets}", f"attribute_not_exists({FENCED_BY})", values)
    row["Update"]["ExpressionAttributeNames"] = names
    return row


def fenced_partitions(dynamodb: Any, tenant_id: str) -> dict[str, str]:
    """Which of a tenant's partitions carry a fence, and whose."""
    return {shard_id: row[FENCED_BY]["S"] for shard_id, row in _fences(dynamodb, tenant_id)}


def fenced_until(dynamodb: Any, tenant_id: str, migration_id: str) -> float | None:
    """When the last of a migration's fences may be broken, in seconds since the epoch; None if it has none."""
    ends = [
        int(row[FENCED_UNTIL]["N"]) / 1000
        for _, row in _fences(dynamodb, tenant_id)
        if row[FENCED_BY]["S"] == migration_id
    ]
    return max(ends, default=None)


def _fences(dynamodb: Any, tenant_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for shard_id in shard_ids(tenant_id):
        key = {PARTITION_KEY: {"S": shard_id}}
        row = dynamodb.get_item(TableName=FENCES, Key=key, ConsistentRead=True).get("Item", {})
        if FENCED_BY in row:
            yield shard_id, row


def _write_row(
    dynamodb: Any,
    shard_id: str,
    update: str,
    condition: str,
    values: Mapping[str, Any],
    sleep: Callable[[float], None],
) -> None:
    """One conditional write, again while it meets the application's transactions."""
    pause = _FIRST_PAUSE_SECONDS
    for left in reversed(range(_TRIES)):
        try:
            dynamodb.update_item(
                TableName=FENCES,
                Key={PARTITION_KEY: {"S": shard_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=dict(values),
            )
        except dynamodb.exceptions.TransactionConflictException:
            if not left:
                raise
            sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)
        else:
            return


def _route(route: Route) -> tuple[dict[str, str], dict[str, Any], str]:
    """Names, values and assignments of an update that sets all of it."""
    names = {f"#route{number}": name for number, name in enumerate(route.to_item())}
    values = {f":route{number}": value for number, value in enumerate(typed(route.to_item()).values())}
    return names, values, ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))


def _milliseconds(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}


def _tenant_update(tenant: Tenant, update: str, condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
    epoch = f"({EPOCH} = :epoch OR attribute_not_exists({EPOCH}))" if tenant.epoch == 0 else f"{EPOCH} = :epoch"
    values = {**values, ":epoch": {"N": str(tenant.epoch)}}
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
