"""Removes what a tenant has left behind: after a move the source's side, after an abort or a rollback the target's.

Nothing is deleted unless the evidence is locked away and whole, and the tenant is routed elsewhere. Items are deleted in transactions that
check the latter again, with each batch: a Delete that is late, or runs twice, can hit nothing that is served. What can't be deleted in a
transaction is looked at once more right before. Only the ten partitions of exactly this tenant are touched; a pooled table is everybody's.

One clean-up of a migration runs at a time: it holds the turn `TURN`, and one that has lost it deletes no more.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from include.tenants.archive import verify_archive
from include.tenants.draining import remove_markers
from include.tenants.exceptions import MigrationConflict
from include.tenants.identity import remove_identity, return_identity
from include.tenants.keys import owner_of, shard_ids
from include.tenants.plan import moves_data, source_tier, target_tier
from include.tenants.resources import deprovision
from include.tenants.saas import DATA_TABLES, EPOCH, FENCED_BY, MIGRATIONS, PARTITION_KEY, TENANTS
from include.tenants.states import State
from include.tenants.store import PARTITION, SORT
from include.tenants.stream_switch import disable_streams
from include.tenants.transactions import MOST_ELEMENTS, ConditionFailed, in_pieces, transact
from include.tenants.user_import import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable, Tenant
    from include.tenants.store import Migration
    from include.tenants.turns import Turn

    type Say = Callable[[str], None]

TURN: Final = "clean_up"
_CHECKS: Final = 3
"""Of each transaction."""
_TOLD_EVERY: Final = 5_000


class _Work:
    """A clean-up that is under way."""

    def __init__(self, p: Portability, migration: Migration, tenant: Tenant, turn: Turn, say: Say) -> None:
        self.p = p
        self.migration = migration
        self.tenant = tenant
        self.turn = turn
        self.say = say

    def go_on(self) -> None:
        """Look once more whether anything may be deleted.

        Raises:
            TurnLost: another clean-up of the migration has begun.
            MigrationConflict: the tenant is routed there, or the migration is cleaned already.
        """
        self.turn = self.p.turns.save(self.turn, {})
        _elsewhere(self.p, self.migration)


@contextmanager
def _begun(p: Portability, migration: Migration, say: Say, owner: str) -> Iterator[_Work]:
    tenant = _may_be_removed(p, migration)
    work = _Work(p, migration, tenant, p.turns.take(migration.migration_id, TURN, owner), say)
    try:
        yield work
    finally:
        p.turns.give_back(work.turn)


def remove_leftovers(p: Portability, migration: Migration, say: Say, *, owner: str) -> dict[str, Any]:
    """Remove the side that the tenant is not on: users, items, streams that were made for migrations, and a silo's stack.

    It may be killed at any line and called again: whatever is gone already is as good.

    Args:
        p: what to work with.
        migration: archived.
        say: told what happens.
        owner: who does it; a retry has the same one and need not wait for the turn.

    Returns:
        What was removed now, for the migration's notes.

    Raises:
        EvidenceInvalid: the archive isn't there or isn't what was signed. Nothing was deleted.
        MigrationConflict: the tenant is routed there, or the migration isn't archived. Likewise.
        IdentityIncomplete: users have yet to come over from there, or to be brought back. Likewise.
        TurnTaken: another clean-up of the migration is at it.
        TurnLost: another has taken over. Nothing more is deleted by this one.
    """
    with _begun(p, migration, say, owner) as work:
        return _remove_all(work)


def _remove_all(work: _Work) -> dict[str, Any]:
    p, migration, tenant, say = work.p, work.migration, work.tenant, work.say
    outcome, left = migration.outcome, source_tier(migration)
    if outcome is not State.COMPLETE:
        left = target_tier(migration)
    removed: dict[str, Any] = {"outcome": str(outcome), "side": "source" if outcome is State.COMPLETE else "target"}
    if not moves_data(migration):
        say(f"tenant {tenant.tenant_id}: both tiers share the pooled tables; there is nothing to remove")
        return removed
    if State.PREFLIGHT.value not in migration.moments:
        say(f"tenant {tenant.tenant_id}: the migration ended before it made anything; there is nothing to remove")
        return removed
    # users first: as long as some may still come over from there, nothing is deleted
    if outcome is State.ROLLED_BACK:
        removed["returned"] = return_identity(p, migration, say, seconds=WAIT_SECONDS)
    removed["users"] = remove_identity(p, migration, say, before=work.go_on)
    if State.STREAM_ARMED.value in migration.moments:
        remove_markers(p, migration)
    if outcome is State.COMPLETE or State.COPYING.value in migration.moments:
        # else what is there was there before
        names = [table.name(tenant.tenant_id, left) for table in DATA_TABLES]
        removed["items"] = _remove_items(work, names)
    removed["streams"] = disable_streams(p, migration, say, before=work.go_on)
    if left.silo:
        removed["stack"] = deprovision(p, migration, left, say, before=work.go_on)
    return removed


def remove_items(
    p: Portability, migration: Migration, table_names: Sequence[str], say: Say, *, owner: str
) -> dict[str, int]:
    """Delete all of the tenant's items in tables of the side that it is not on.

    Args:
        p: what to work with.
        migration: archived.
        table_names: of that side; one that is gone has no items.
        say: told what happens.
        owner: who does it, as for `remove_leftovers`.

    Returns:
        How many were deleted now, by table.

    Raises:
        EvidenceInvalid: the archive isn't there or isn't what was signed. Nothing was deleted.
        MigrationConflict: the tenant is served from there, or the migration did not move items there. Nothing more is deleted.
        TurnTaken: another clean-up of the migration is at it.
    """
    with _begun(p, migration, say, owner) as work:
        return _remove_items(work, table_names)


def _remove_items(work: _Work, table_names: Sequence[str]) -> dict[str, int]:
    migration = work.migration
    side = "source" if migration.outcome is State.COMPLETE else "target"
    allowed = {names[side]: names["prefix"] for names in migration.notes["tables"]}
    others = sorted(set(table_names) - allowed.keys())
    if others:
        raise MigrationConflict(
            f"migration {migration.migration_id} is {migration.outcome}: expected tables of its {side} ({', '.join(sorted(allowed))}), "
            f"found {', '.join(others)}; nothing was deleted"
        )
    tables = {table.prefix: table for table in DATA_TABLES}
    return {name: _remove_from(work, tables[allowed[name]], name) for name in sorted(set(table_names))}


def _may_be_removed(p: Portability, migration: Migration) -> Tenant:
    """The tenant, if the side that it left may be removed.

    Raises:
        EvidenceInvalid: the archive does not hold.
        MigrationConflict: the migration isn't archived, or the tenant is routed there.
    """
    tenant = _elsewhere(p, migration)
    verify_archive(p, p.store.load(migration.migration_id))
    return tenant


def _elsewhere(p: Portability, migration: Migration) -> Tenant:
    """The tenant, if it is served from the side that it did not leave.

    Raises:
        MigrationConflict: it isn't, or the migration isn't archived.
    """
    found = p.store.load(migration.migration_id)
    if found.state is not State.ARCHIVED:
        raise MigrationConflict(
            f"migration {migration.migration_id}: expected it to be {State.ARCHIVED}, found {found.state}; nothing was deleted"
        )
    tenant = p.tenant(migration.tenant_id)
    stays = target_tier(migration) if migration.outcome is State.COMPLETE else source_tier(migration)
    if tenant.route.tier is not stays or tenant.fenced_by:
        raise MigrationConflict(
            f"tenant {tenant.tenant_id}: expected it to be served from {stays} after a migration that is {migration.outcome}, found "
            f"{tenant.route.tier}{f', fenced by {tenant.fenced_by}' if tenant.fenced_by else ''}; nothing was deleted"
        )
    return tenant


def _remove_from(work: _Work, table: DataTable, name: str) -> int:
    p, tenant, say = work.p, work.tenant, work.say
    count = told = 0

    def delete(deletes: Sequence[Mapping[str, Any]]) -> None:
        nonlocal count
        work.turn = p.turns.save(work.turn, {})
        checks = [*_checks(work.migration, tenant), p.turns.check(work.turn)]
        try:
            transact(p.clients.dynamodb, [*checks, *deletes], sleep=p.sleep, seconds=60)
        except ConditionFailed as error:
            raise MigrationConflict(
                f"table {name}: expected tenant {tenant.tenant_id} to be routed elsewhere while its items are deleted, found its route, "
                f"the migration, or whose turn it is changed; {count:,} were deleted, the rest was not"
            ) from error
        count += len(deletes)

    for keys in batched(_keys(p, table, name, tenant.tenant_id), MOST_ELEMENTS - _CHECKS):
        in_pieces(delete, [{"Delete": {"TableName": name, "Key": key}} for key in keys])
        if count - told >= _TOLD_EVERY:
            told = count
            say(f"{name}: {count:,} items of tenant {tenant.tenant_id} deleted")
    say(f"{name}: {count:,} items of tenant {tenant.tenant_id} deleted, no more are there")
    return count


def _checks(migration: Migration, tenant: Tenant) -> list[dict[str, Any]]:
    """What must hold in the moment of each deletion: the route is the one that was looked at, and the evidence is still asked for."""
    epoch = f"{EPOCH} = :epoch" if tenant.epoch else f"(attribute_not_exists({EPOCH}) OR {EPOCH} = :epoch)"
    return [
        {
            "ConditionCheck": {
                "TableName": TENANTS,
                "Key": {"tenantId": {"S": tenant.tenant_id}},
                "ConditionExpression": f"{epoch} AND tenantTier = :tier AND attribute_not_exists({FENCED_BY})",
                "ExpressionAttributeValues": {
                    ":epoch": {"N": str(tenant.epoch)},
                    ":tier": {"S": tenant.route.tier.value},
                },
            }
        },
        {
            "ConditionCheck": {
                "TableName": MIGRATIONS,
                "Key": {PARTITION: {"S": migration.migration_id}, SORT: {"S": "migration"}},
                "ConditionExpression": "#state = :archived",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {":archived": {"S": State.ARCHIVED.value}},
            }
        },
    ]


def _keys(p: Portability, table: DataTable, name: str, tenant_id: str) -> Iterator[Mapping[str, Any]]:
    """The keys of a tenant's items, read strongly consistent, a page at a time."""
    dynamodb = p.clients.dynamodb
    for shard_id in shard_ids(tenant_id):
        if owner_of(shard_id) != tenant_id:  # can't be; but here a mistake would delete another's items
            raise MigrationConflict(f"expected {shard_id} to be a partition of {tenant_id}, found it to be another's")
        pages = dynamodb.get_paginator("query").paginate(
            TableName=name,
            ConsistentRead=True,
            KeyConditionExpression=f"{PARTITION_KEY} = :shard",
            ExpressionAttributeValues={":shard": {"S": shard_id}},
            ProjectionExpression=f"{PARTITION_KEY}, {table.sort_key}",
        )
        try:
            for page in pages:
                yield from page["Items"]
        except dynamodb.exceptions.ResourceNotFoundException:
            return  # the stack is gone already
