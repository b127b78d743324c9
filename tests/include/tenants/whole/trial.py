"""Tenants to move in a stand-in of their own, and how."""

from __future__ import annotations

from include.local.saas.mover import Mover
from include.tenants import fence
from include.tenants.portability import PortabilityConfig
from include.tenants.request import MigrationRequest
from include.tenants.saas import Tier
from include.tenants.transactions import typed

CONFIG = PortabilityConfig("data-platform", "data-platform-evidence", "alias/tenant-migrations", most_migrations=50)
ITEMS = 90
NEIGHBOUR = "n"
"""Its id begins many others', and it is never moved."""


def mover(p, tenant_id, tier=Tier.PLATINUM, name="", **request):
    before = request.pop("before", lambda step, attempt: None)
    wanted = MigrationRequest(tenant_id, tier, why="a test", **{"soak_minutes": 0, **request})
    return Mover(p, f"{tenant_id}-{name or tier.value.lower()}", wanted, before=before)


def write(p, tenant_id, sort, tables="pooled"):
    """Past the application."""
    item = {"shardId": f"{tenant_id}-1", "productId": sort, "sku": "s", "name": "written", "price": 1, "category": "c"}
    p.clients.dynamodb.put_item(TableName=f"Product-{tables}", Item=typed(item))


def served_from(p, tenant_id):
    tenant = p.tenant(tenant_id)
    assert fence.fenced_partitions(p.clients.dynamodb, tenant_id) == {}
    assert tenant.fenced_by is None
    return tenant.route.tier
