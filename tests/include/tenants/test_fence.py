"""The fence: a write lands under the route that it was made for, or not at all."""

from __future__ import annotations

import pytest

from include.tenants import fence
from include.tenants.keys import shard_ids
from include.tenants.saas import FENCES, PARTITION_KEY, TENANTS, Route, Tier
from include.tenants.transactions import ConditionFailed, transact, typed

OLD = Route(Tier.BASIC, "pool-1", "client-1", "http://pooled", "key-1")
NEW = Route(Tier.PLATINUM, "pool-2", "client-2", "http://acme", "key-2")


@pytest.fixture
def tenant(portability):
    """A tenant whose row has never seen a migration."""
    row = {"tenantId": "acme", "tenantName": "Acme", "isActive": True, **OLD.to_item()}
    portability.clients.dynamodb.put_item(TableName=TENANTS, Item=typed(row))
    return portability.tenant("acme")


@pytest.fixture
def write(portability):
    def write(epoch, shard_id="acme-1"):
        put = {
            "Put": {"TableName": "Product-pooled", "Item": {PARTITION_KEY: {"S": shard_id}, "productId": {"S": "p"}}}
        }
        transact(portability.clients.dynamodb, [put, fence.write_check(shard_id, epoch)])

    return write


@pytest.fixture
def do(portability):
    return lambda elements: transact(portability.clients.dynamodb, elements)


def test_writes_pass_where_there_was_never_a_migration(write, tenant):
    write(tenant.epoch)


def test_the_fence_keeps_writes_out_of_every_partition(write, tenant, do):
    do(fence.close(tenant, "m1", until=2e9))
    for shard_id in shard_ids("acme"):
        with pytest.raises(ConditionFailed):
            write(0, shard_id)
    write(0, "acme-2-1")  # another tenant's, whose id begins alike


def test_opened_again_writes_pass_by_the_old_route(write, tenant, do, portability):
    do(fence.close(tenant, "m1", until=2e9))
    assert portability.tenant("acme").fenced_by == "m1"
    do(fence.open_again(portability.tenant("acme"), "m1"))
    write(0)
    assert portability.tenant("acme") == tenant


def test_switched_a_write_by_the_old_route_fails_and_by_the_new_one_passes(write, tenant, do, portability):
    do(fence.close(tenant, "m1", until=2e9))
    do(fence.switch(portability.tenant("acme"), "m1", NEW))
    moved = portability.tenant("acme")
    assert (moved.route, moved.epoch, moved.fenced_by) == (NEW, 1, None)
    with pytest.raises(ConditionFailed):
        write(0)
    write(1)


def test_a_second_migration_of_the_tenant_goes_on_from_the_epoch(write, tenant, do, portability):
    for epoch, route in enumerate([NEW, OLD, NEW]):
        do(fence.close(portability.tenant("acme"), f"m{epoch}", until=2e9))
        do(fence.switch(portability.tenant("acme"), f"m{epoch}", route))
        with pytest.raises(ConditionFailed):
            write(epoch)
        write(epoch + 1)


def test_the_fence_of_another_migration_is_not_touched(tenant, do, portability):
    do(fence.close(tenant, "m1", until=2e9))
    for writes in (
        fence.close(tenant, "m2", until=2e9),
        fence.open_again(tenant, "m2"),
        fence.switch(tenant, "m2", NEW),
        fence.switch(tenant, "m2", NEW, fenced=False),
    ):
        with pytest.raises(ConditionFailed):
            do(writes)
    assert set(fence.fenced_partitions(portability.clients.dynamodb, "acme").values()) == {"m1"}


def test_a_route_that_has_changed_meanwhile_can_not_be_fenced_or_switched(tenant, do, portability):
    do(fence.close(tenant, "m1", until=2e9))
    do(fence.switch(tenant, "m1", NEW))
    for writes in (fence.close(tenant, "m2", until=2e9), fence.switch(tenant, "m2", OLD, fenced=False)):
        with pytest.raises(ConditionFailed):
            do(writes)
    assert portability.tenant("acme").route == NEW


def test_without_data_to_move_the_switch_needs_no_fence_and_ends_older_writes(write, tenant, do):
    do(fence.switch(tenant, "m1", NEW, fenced=False))
    with pytest.raises(ConditionFailed):
        write(0)
    write(1)


def test_the_application_breaks_a_fence_whose_time_is_over_and_the_switch_fails(write, tenant, do, portability):
    dynamodb = portability.clients.dynamodb
    do(fence.close(tenant, "m1", until=1000))
    assert not fence.break_fence(dynamodb, "acme-3", clock=lambda: 999)
    assert fence.break_fence(dynamodb, "acme-3", clock=lambda: 1001)
    write(0, "acme-3")
    with pytest.raises(ConditionFailed):
        write(0, "acme-4")
    with pytest.raises(ConditionFailed):
        do(fence.switch(tenant, "m1", NEW))
    do(fence.open_again(tenant, "m1"))
    assert fence.fenced_partitions(dynamodb, "acme") == {}
    assert portability.tenant("acme").route == OLD


def test_where_there_is_no_fence_there_is_none_to_break(portability):
    assert fence.break_fence(portability.clients.dynamodb, "acme-3")
    assert "Item" not in portability.clients.dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": "acme-3"}})
