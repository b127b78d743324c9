"""Migrations that have come out somehow, written by the real store."""

from __future__ import annotations

from include.local.aws.pipeline import behave, make_pipeline
from include.local.saas.seed import SeedTenant, seed
from include.tenants.archive import archive
from include.tenants.saas import DATA_TABLES, TENANTS, Tier
from include.tenants.states import State

SAAS = "http://127.0.0.1:4570"
"""Where the application would answer; nobody asks it here."""
WAYS = {
    State.ABORTED: [State.PREFLIGHT, State.PROVISIONED, State.STREAM_ARMED, State.COPYING, State.ABORTED],
    State.COMPLETE: list(State)[1 : list(State).index(State.COMPLETE) + 1],
    State.ROLLED_BACK: [*list(State)[1 : list(State).index(State.SOAK) + 1], State.ROLLED_BACK],
}
NOTED = {
    State.PREFLIGHT: ["preflight"],
    State.PROVISIONED: ["resources", "observability", "isolation", "identity", "configuration", "compliance"],
    State.VERIFIED: ["verification"],
    State.APPROVED: ["approval"],
    State.SWITCHED: ["in_fence", "cutovers"],
}
"""What the steps note on the way."""


def put_tenant(clients, tenant_id, tier, *, epoch=0, api_key="key-of-the-tier"):
    item = {
        "tenantId": tenant_id,
        "tenantName": f"Name of {tenant_id}",
        "tenantTier": tier,
        "userPoolId": "us-east-1_source",
        "appClientId": "client",
        "apiGatewayUrl": "https://source.example.com",
        "apiKey": api_key,
        "dedicatedTenancy": "true" if Tier(tier).silo else "false",
    }
    row = {name: {"S": value} for name, value in item.items()} | {"isActive": {"BOOL": True}}
    if epoch:
        row["routeEpoch"] = {"N": str(epoch)}
    clients.dynamodb.put_item(TableName=TENANTS, Item=row)


def planned_as_it_is(p, tenant_id, target="Platinum", *, migration_id="m-1"):
    """The migration of a seeded tenant, from where it is."""
    tenant = p.tenant(tenant_id)
    source = {
        "tier": tenant.route.tier.value,
        "user_pool_id": tenant.route.user_pool_id,
        "app_client_id": tenant.route.app_client_id,
        "api_url": tenant.route.api_url,
        "epoch": tenant.epoch,
    }
    notes = {"source": source}
    return planned(p, tenant_id, tenant.route.tier, target, migration_id=migration_id, notes=notes)


def planned(p, tenant_id, source="Basic", target="Platinum", *, migration_id="m-1", notes=None):
    source, target = Tier(source), Tier(target)
    tables = [
        {"prefix": table.prefix, "source": table.name(tenant_id, source), "target": table.name(tenant_id, target)}
        for table in DATA_TABLES
        if source.silo or target.silo
    ]
    noted = {
        "plan": {"seconds": 1},
        "tables": tables,
        "source": {
            "tier": source.value,
            "user_pool_id": "us-east-1_source",
            "app_client_id": "client",
            "api_url": "https://source.example.com",
            "epoch": 0,
        },
    }
    request = {"tenant_id": tenant_id, "target_tier": target.value, "identity_days": 30}
    return p.store.plan(migration_id, tenant_id, request, noted | (notes or {}), by="test")


def led_to(p, migration, outcome, notes=None):
    """The migration, moved on to its outcome."""
    for state in WAYS[outcome]:
        noted = {name: {"noted": name} for name in NOTED.get(state, [])}
        noted = {name: value for name, value in noted.items() if name not in migration.notes}
        migration = p.store.transition(migration, state, noted | (notes or {}), by="test")
    return migration


def seeded(clients, *tenants, items=0, users=False):
    """The application with these tenants, each an id and a tier, as its own deployment makes it; the pipeline too."""
    make_pipeline(clients, SAAS)
    behave(clients, seconds="0", fails="false")
    seed(
        clients,
        items_per_tenant=items,
        api_url=SAAS,
        tenants=[SeedTenant(tenant_id, Tier(tier)) for tenant_id, tier in tenants],
        users=users,
    )


def silent(text):
    """Say nothing."""


def routed(p, tenant_id, tier, pool=None):
    """Send the tenant there, as a switch does."""
    values = {":tier": {"S": Tier(tier).value}, ":one": {"N": "1"}, ":dedicated": {"S": str(Tier(tier).silo).lower()}}
    update = "SET tenantTier = :tier, dedicatedTenancy = :dedicated"
    if pool:
        update += ", userPoolId = :pool"
        values[":pool"] = {"S": pool}
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": tenant_id}},
        UpdateExpression=f"{update} ADD routeEpoch :one",
        ExpressionAttributeValues=values,
    )


def archived(p, migration, outcome):
    """The migration, led to its outcome and with its evidence locked away for real."""
    done = led_to(p, p.store.load(migration.migration_id), outcome)
    return p.store.transition(done, State.ARCHIVED, {"archive": archive(p, done)}, by="test")
