"""Moves a tenant to tables of its own by hand: with the fence, or as somebody does who knows nothing of it."""

from __future__ import annotations

import time
from dataclasses import replace

from include.local.saas.placing import place_by_batches
from include.local.saas.tables import make_data_tables
from include.tenants import fence
from include.tenants.keys import shard_ids
from include.tenants.saas import DATA_TABLES, TENANTS, Tenant, Tier
from include.tenants.transactions import plain, transact


def tenant_of(clients, tenant_id) -> Tenant:
    row = clients.dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True)["Item"]
    return Tenant.from_item(plain(row))


def copy(clients, tenant_id) -> int:
    """Copy what is there at this moment."""
    pairs = [
        (table.name(tenant_id, Tier.PLATINUM), item)
        for table in DATA_TABLES
        for shard_id in shard_ids(tenant_id)
        for page in clients.dynamodb.get_paginator("query").paginate(
            TableName=table.name(tenant_id, Tier.BASIC),
            ConsistentRead=True,
            KeyConditionExpression="shardId = :shard",
            ExpressionAttributeValues={":shard": {"S": shard_id}},
        )
        for item in page["Items"]
    ]
    return place_by_batches(clients.dynamodb, pairs)


def move_behind_the_fence(clients, tenant_id) -> None:
    make_data_tables(clients.dynamodb, tenant_id)
    tenant = tenant_of(clients, tenant_id)
    transact(clients.dynamodb, fence.close(tenant, "m-1", time.time() + 120))
    copy(clients, tenant_id)
    route = replace(tenant.route, tier=Tier.PLATINUM)
    transact(clients.dynamodb, fence.switch(tenant, "m-1", route))


def move_without(clients, tenant_id, meanwhile) -> None:
    """Copy, let clients go on, switch the route."""
    make_data_tables(clients.dynamodb, tenant_id)
    tenant = tenant_of(clients, tenant_id)
    copy(clients, tenant_id)
    meanwhile()
    route = replace(tenant.route, tier=Tier.PLATINUM)
    transact(clients.dynamodb, fence.switch(tenant, "m-1", route, fenced=False))
