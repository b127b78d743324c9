"""The fence: a write lands under the route that it was made for, or not at all."""

from __future__ import annotations

import time

import pytest

from include.local.aws.controls import Controls
from include.tenants import fence
from include.tenants.exceptions import MigrationConflict
from include.tenants.keys import shard_ids
from include.tenants.saas import FENCES, PARTITION_KEY, TENANTS, Route, Tier
from include.tenants.transactions import ConditionFailed, transact, typed

OLD = Route(Tier.BASIC, "pool-1", "client-1", "http://pooled", "key-1")
UNTIL = 2e9
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


@pytest.fixture
def close(portability, do):
    """Close the whole fence, as a cutover does."""

    def close(tenant, migration_id, until=UNTIL):
        do([fence.mark_closed(tenant, migration_id)])
        fence.close_rows(portability.clients.dynamodb, tenant, migration_id, until)

    return close


@pytest.fixture
def reopen(portability, do):
    def reopen(tenant, migration_id):
        fence.open_rows(portability.clients.dynamodb, tenant.tenant_id, migration_id)
        do([fence.mark_open(tenant, migration_id)])

    return reopen


def test_writes_pass_where_there_was_never_a_migration(write, tenant):
    write(tenant.epoch)


def test_the_fence_keeps_writes_out_of_every_partition(write, tenant, close):
    close(tenant, "m1")
    for shard_id in shard_ids("acme"):
        with pytest.raises(ConditionFailed):
            write(0, shard_id)
    write(0, "acme-2-1")  # another tenant's, whose id begins alike


def test_opened_again_writes_pass_by_the_old_route(write, tenant, close, reopen, portability):
    close(tenant, "m1")
    assert portability.tenant("acme").fenced_by == "m1"
    reopen(portability.tenant("acme"), "m1")
    write(0)
    assert portability.tenant("acme") == tenant


def test_switched_a_write_by_the_old_route_fails_and_by_the_new_one_passes(write, tenant, close, do, portability):
    close(tenant, "m1")
    do(fence.switch(portability.tenant("acme"), "m1", NEW, UNTIL))
    moved = portability.tenant("acme")
    assert (moved.route, moved.epoch, moved.fenced_by) == (NEW, 1, None)
    with pytest.raises(ConditionFailed):
        write(0)
    write(1)


def test_a_second_migration_of_the_tenant_goes_on_from_the_epoch(write, tenant, close, do, portability):
    for epoch, route in enumerate([NEW, OLD, NEW]):
        close(portability.tenant("acme"), f"m{epoch}")
        do(fence.switch(portability.tenant("acme"), f"m{epoch}", route, UNTIL))
        with pytest.raises(ConditionFailed):
            write(epoch)
        write(epoch + 1)


def test_the_fence_of_another_migration_is_not_touched(tenant, close, do, portability):
    close(tenant, "m1")
    dynamodb = portability.clients.dynamodb
    with pytest.raises(MigrationConflict, match=r"without another's fence, found .*'m1'"):
        fence.close_rows(dynamodb, tenant, "m2", UNTIL)
    fence.open_rows(dynamodb, "acme", "m2")
    for writes in (
        [fence.mark_closed(tenant, "m2")],
        [fence.mark_open(tenant, "m2")],
        fence.switch(tenant, "m2", NEW, UNTIL),
        [fence.switch_plan(tenant, NEW)],
    ):
        with pytest.raises(ConditionFailed):
            do(writes)
    assert set(fence.fenced_partitions(dynamodb, "acme").values()) == {"m1"}


def test_a_route_that_has_changed_meanwhile_can_not_be_fenced_or_switched(tenant, close, do, portability):
    close(tenant, "m1")
    do(fence.switch(tenant, "m1", NEW, UNTIL))
    with pytest.raises(MigrationConflict, match="another epoch"):
        fence.close_rows(portability.clients.dynamodb, tenant, "m2", UNTIL)
    for writes in ([fence.mark_closed(tenant, "m2")], [fence.switch_plan(tenant, OLD)]):
        with pytest.raises(ConditionFailed):
            do(writes)
    assert portability.tenant("acme").route == NEW


def test_what_could_be_closed_of_a_fence_that_could_not_is_open_again(tenant, portability):
    dynamodb = portability.clients.dynamodb
    later = str(int((time.time() + 60) * 1000))
    row = {PARTITION_KEY: {"S": "acme-7"}, "fencedBy": {"S": "m0"}, "fencedUntil": {"N": later}}
    dynamodb.put_item(TableName=FENCES, Item=row)
    with pytest.raises(MigrationConflict):
        fence.close_rows(dynamodb, tenant, "m1", UNTIL)
    assert fence.fenced_partitions(dynamodb, "acme") == {"acme-7": "m0"}


def test_a_fence_that_a_dead_migration_has_left_where_nobody_writes_gives_way(tenant, portability):
    """The application would have opened it at the next write."""
    dynamodb = portability.clients.dynamodb
    row = {PARTITION_KEY: {"S": "acme-7"}, "fencedBy": {"S": "m0"}, "fencedUntil": {"N": "1"}}
    dynamodb.put_item(TableName=FENCES, Item=row)
    fence.close_rows(dynamodb, tenant, "m1", UNTIL)
    assert set(fence.fenced_partitions(dynamodb, "acme").values()) == {"m1"}


@pytest.mark.parametrize("fault", [{"code": "InternalServerError"}, {"drop": "answer"}])
def test_a_fault_that_passes_keeps_no_partition_closed(tenant, close, aws, portability, fault):
    close(tenant, "m1")
    controls = Controls(aws)
    controls.fault("UpdateItem", times=5, **fault)
    try:
        fence.open_rows(portability.clients.dynamodb, "acme", "m1", sleep=lambda _: None)
    finally:
        controls.clear()
    assert fence.fenced_partitions(portability.clients.dynamodb, "acme") == {}


def test_between_tiers_that_share_tables_writes_by_the_cached_route_go_on(write, tenant, do, portability):
    do([fence.switch_plan(tenant, NEW)])
    assert portability.tenant("acme").route == NEW
    write(0)


def test_the_application_breaks_a_fence_whose_time_is_over_and_the_switch_fails(
    write, tenant, close, reopen, do, portability
):
    dynamodb = portability.clients.dynamodb
    close(tenant, "m1", until=1000)
    assert fence.fenced_until(dynamodb, "acme", "m1") == 1000
    assert not fence.break_fence(dynamodb, "acme-3", clock=lambda: 999)
    assert fence.break_fence(dynamodb, "acme-3", clock=lambda: 1001)
    write(0, "acme-3")
    with pytest.raises(ConditionFailed):
        write(0, "acme-4")
    with pytest.raises(ConditionFailed):
        do(fence.switch(tenant, "m1", NEW, 1000))
    reopen(tenant, "m1")
    assert fence.fenced_partitions(dynamodb, "acme") == {}
    assert portability.tenant("acme").route == OLD


def test_a_fence_that_was_broken_and_closed_again_by_another_try_does_not_hold_for_the_first(
    tenant, close, do, portability
):
    close(tenant, "m1", until=1000)
    close(tenant, "m1", until=2000)
    with pytest.raises(ConditionFailed):
        do(fence.switch(tenant, "m1", NEW, 1000))
    do(fence.switch(tenant, "m1", NEW, 2000))


def test_rows_are_closed_though_the_application_is_writing_them(tenant, aws, portability):
    """DynamoDB refuses what meets a transaction; it is tried again."""
    controls = Controls(aws)
    controls.fault("UpdateItem", code="TransactionConflictException", times=7)
    try:
        fence.close_rows(portability.clients.dynamodb, tenant, "m1", UNTIL, sleep=lambda seconds: None)
    finally:
        controls.clear()
    assert len(fence.fenced_partitions(portability.clients.dynamodb, "acme")) == 10


def test_where_there_is_no_fence_there_is_none_to_break(portability):
    assert fence.break_fence(portability.clients.dynamodb, "acme-3")
    assert "Item" not in portability.clients.dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": "acme-3"}})
