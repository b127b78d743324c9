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


def close(clients, tenant_id, until) -> Tenant:
    """Close the fence; gives the tenant as it was before."""
    tenant = tenant_of(clients, tenant_id)
    transact(clients.dynamodb, [fence.mark_closed(tenant, "m-1")])
    fence.close_rows(clients.dynamodb, tenant, "m-1", until)
    return tenant


def switch(clients, tenant_id, route, until) -> None:
    """Let the tenant out of the fence at another place."""
    transact(clients.dynamodb, fence.switch(tenant_of(clients, tenant_id), "m-1", route, until))


def switch_unfenced(clients, tenant_id, route) -> None:
    """Write the tenant's row, as somebody does who knows of no fence; no partition hears of it."""
    tenant = tenant_of(clients, tenant_id)
    transact(clients.dynamodb, [fence.mark_closed(tenant, "m-1")])
    *_, row = fence.switch(tenant, "m-1", route, until=0)
    transact(clients.dynamodb, [row])


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


def move_behind_the_fence(clients, tenant_id, meanwhile) -> None:
    """Keep the clients' writes out, copy, switch the route."""
    make_data_tables(clients.dynamodb, tenant_id)
    until = time.time() + 120
    tenant = close(clients, tenant_id, until)
    meanwhile()
    copy(clients, tenant_id)
    switch(clients, tenant_id, replace(tenant.route, tier=Tier.PLATINUM), until)


def move_without(clients, tenant_id, meanwhile) -> None:
    """Copy, let clients go on, switch the route."""
    make_data_tables(clients.dynamodb, tenant_id)
    copy(clients, tenant_id)
    meanwhile()
    switch_unfenced(clients, tenant_id, replace(tenant_of(clients, tenant_id).route, tier=Tier.PLATINUM))
