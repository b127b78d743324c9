"""What a migration is going to do, before it does anything.

A dry run ends here: everything is read, nothing is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import BadRequest
from include.tenants.keys import shard_ids
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, POOLED, TENANTS, Tier, stack_name

if TYPE_CHECKING:
    from include.tenants.portability import Portability
    from include.tenants.request import MigrationRequest
    from include.tenants.saas import Tenant
    from include.tenants.store import Migration

ITEMS_PER_SECOND: Final = 500
"""What all tasks of a copy write a second, for the estimate: 20 batches of 25 items."""
_SECONDS_OF_STEPS: Final = {"silo": 600, POOLED: 60}
"""What provisioning takes, for the estimate: a stack of its own, or nothing but looking."""


@dataclass(frozen=True)
class TableMove:
    """A data table of the tenant.

    Attributes:
        prefix: of `include.tenants.saas.DataTable`.
        source: the table that holds its items.
        target: the table that is to hold them.
        items: how many there are.
        read_units: what reading them once costs the source, eventually consistent.
    """

    prefix: str
    source: str
    target: str
    items: int
    read_units: float


@dataclass(frozen=True)
class Plan:
    """What a migration would do.

    Attributes:
        tenant_id: whose.
        source_tier: where it is.
        target_tier: where it goes.
        tables: what moves; empty between two pooled tiers.
        creates: what would be made.
        switches: what would be changed in the one write.
        deletes: what would be deleted at the end, after a person has agreed.
        seconds: estimate of the time until a person is asked to approve the cutover.
    """

    tenant_id: str
    source_tier: Tier
    target_tier: Tier
    tables: tuple[TableMove, ...]
    creates: tuple[str, ...]
    switches: tuple[str, ...]
    deletes: tuple[str, ...]
    seconds: float

    @property
    def items(self) -> int:
        """How many items move."""
        return sum(table.items for table in self.tables)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {
            "source_tier": self.source_tier.value,
            "target_tier": self.target_tier.value,
            "tables": [asdict(table) for table in self.tables],
            "items": self.items,
        }

    def to_text(self) -> str:
        """For a log."""
        lines = [f"tenant {self.tenant_id}: {self.source_tier} -> {self.target_tier}"]
        for title, entries in (
            ("creates", self.creates),
            (
                "copies",
                [f"{table.items:,} items of {table.source} to {table.target}" for table in self.tables]
                or ["nothing: both tiers share the pooled tables"],
            ),
            ("switches", self.switches),
            ("deletes, after a person has agreed", self.deletes),
        ):
            lines += [f"{title}:", *(f"  - {entry}" for entry in entries)]
        lines.append(f"about {self.seconds / 60:.0f} minutes until a person is asked to approve the cutover")
        return "\n".join(lines)


def make_plan(p: Portability, request: MigrationRequest) -> Plan:
    """Look at the tenant and say what would be done. Reads only.

    Raises:
        TenantUnknown: there is no such tenant.
        BadRequest: it is not active, or there already.
    """
    tenant = p.tenant(request.tenant_id)
    source, target = tenant.route.tier, request.target_tier
    if source is target:
        raise BadRequest(
            f"expected tenant {tenant.tenant_id} to be in another tier than {target}, found it there; there is nothing to move"
        )
    if not tenant.active:
        raise BadRequest(f"expected tenant {tenant.tenant_id} to be active, found isActive = false; activate it first")
    tables = _tables(p, tenant, target) if source.silo or target.silo else ()
    return Plan(
        tenant.tenant_id,
        source,
        target,
        tables,
        tuple(_creates(tenant, target)),
        tuple(_switches(tenant, target)),
        tuple(_deletes(tenant, target)),
        _seconds(tables, target, request.read_units),
    )


def begin(p: Portability, migration_id: str, request: MigrationRequest, plan: Plan, *, by: str) -> Migration:
    """Write the migration down; from here on the tenant is in no other. Called again, it is the one that is there.

    Raises:
        TenantBusy: the tenant is in another one.
    """
    tenant = p.tenant(request.tenant_id)
    route = tenant.route
    notes = {
        "plan": plan.to_json(),
        "tables": [{"prefix": table.prefix, "source": table.source, "target": table.target} for table in plan.tables],
        # without the API key, which is a secret
        "source": {
            "tier": route.tier.value,
            "user_pool_id": route.user_pool_id,
            "app_client_id": route.app_client_id,
            "api_url": route.api_url,
            "epoch": tenant.epoch,
        },
    }
    return p.store.plan(migration_id, request.tenant_id, request.to_mapping(), notes, by=by, why=request.why)


def moves_data(migration: Migration) -> bool:
    """Whether items move; they don't between two pooled tiers."""
    return bool(migration.notes["tables"])


def source_tier(migration: Migration) -> Tier:
    """The tier that the tenant comes from."""
    return Tier(migration.notes["source"]["tier"])


def target_tier(migration: Migration) -> Tier:
    """The tier that the tenant goes to."""
    return Tier(migration.request["target_tier"])


def _tables(p: Portability, tenant: Tenant, target: Tier) -> tuple[TableMove, ...]:
    moves = []
    for table in DATA_TABLES:
        name = table.name(tenant.tenant_id, tenant.route.tier)
        items, units = count_items(p, name, tenant.tenant_id)
        moves.append(TableMove(table.prefix, name, table.name(tenant.tenant_id, target), items, units))
    return tuple(moves)


def count_items(p: Portability, table_name: str, tenant_id: str) -> tuple[int, float]:
    """How many items a tenant has in a table, and what reading them costs, in read capacity units.

    Raises:
        BadRequest: there is no such table.
    """
    dynamodb = p.clients.dynamodb
    items, units = 0, 0.0
    try:
        for shard_id in shard_ids(tenant_id):
            for page in dynamodb.get_paginator("query").paginate(
                TableName=table_name,
                KeyConditionExpression=f"{PARTITION_KEY} = :shard",
                ExpressionAttributeValues={":shard": {"S": shard_id}},
                Select="COUNT",
                ReturnConsumedCapacity="TOTAL",
            ):
                items += page["Count"]
                units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
    except dynamodb.exceptions.ResourceNotFoundException as error:
        raise BadRequest(
            f"expected the table {table_name} of tenant {tenant_id}, found none; look whether its row in {TENANTS} names the right tier, "
            "and at the stack of that tier"
        ) from error
    return items, units


def _creates(tenant: Tenant, target: Tier) -> list[str]:
    made = [f"an entry in the usage plan of {target}, with its API key"]
    if target.silo:
        made += [
            f"stack {stack_name(tenant.tenant_id, target)} by the pipeline: tables, API",
            f"user pool {tenant.tenant_id}-ServerlessSaaSUserPool with an app client and the tenant's group",
            "metric filters, alarms and log groups like those of the source",
        ]
    elif tenant.route.tier.silo:
        made.append("the tenant's group in the pooled user pool")
    return made


def _switches(tenant: Tenant, target: Tier) -> list[str]:
    names = ["tenantTier", "apiKey"]
    if target.silo or tenant.route.tier.silo:
        names += ["dedicatedTenancy", "userPoolId", "appClientId", "apiGatewayUrl"]
    return [f"{', '.join(names)} of tenant {tenant.tenant_id}, in one conditional write"]


def _deletes(tenant: Tenant, target: Tier) -> list[str]:
    source = tenant.route.tier
    if source.silo:
        return [f"stack {stack_name(tenant.tenant_id, source)} with its tables, and the tenant's user pool"]
    if target.silo:
        return [
            f"the tenant's items in the pooled tables ({', '.join(shard_ids(tenant.tenant_id)[:2])}, …), its users there"
        ]
    return ["nothing"]


def _seconds(tables: tuple[TableMove, ...], target: Tier, read_units: float) -> float:
    items = sum(table.items for table in tables)
    units = sum(table.read_units for table in tables)
    copying = max(items / ITEMS_PER_SECOND, units / read_units)
    verifying = copying / 2
    return _SECONDS_OF_STEPS["silo" if target.silo else POOLED] + copying + verifying
