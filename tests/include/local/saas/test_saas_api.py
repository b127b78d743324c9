"""The application in process, against the AWS stand-in."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from include.local.saas.api import Application
from include.local.saas.errors import Fenced, Forbidden, NotFound, Refused, Unauthorized
from include.local.saas.tables import make_data_tables
from include.tenants import fence
from include.tenants.keys import MARKER
from include.tenants.saas import FENCES, TENANTS, Tier
from tests.include.local.saas.moving_by_hand import close, switch

PRODUCT, ORDER = "Product", "Order"
BODY = {"sku": "x/1", "name": "Anvil", "price": Decimal("12.5"), "category": "tools"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def move(clients, tenant_id, until, tier=Tier.PLATINUM):
    """Give the tenant another tier, behind a fence."""
    tenant = close(clients, tenant_id, until)
    switch(clients, tenant_id, replace(tenant.route, tier=tier), until)


def item_in(clients, table_name, key):
    shard_id, _, sort = key.partition(":")
    return clients.dynamodb.get_item(
        TableName=table_name, Key={"shardId": {"S": shard_id}, "productId": {"S": sort}}
    ).get("Item")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def application(clients, clock) -> Application:
    return Application(clients, clock=clock)


@pytest.fixture
def moving(clients, new_tenant) -> str:
    """A tenant whose own tables are there already."""
    tenant_id = new_tenant()
    make_data_tables(clients.dynamodb, tenant_id)
    return tenant_id


def test_what_is_written_is_read_until_it_is_deleted(application, new_tenant):
    tenant_id = new_tenant()
    key = application.put(tenant_id, PRODUCT, None, BODY).key
    assert re.fullmatch(rf"{tenant_id}-[1-9]:[0-9a-f]{{32}}", key)
    assert application.get(tenant_id, PRODUCT, key).item.items() >= BODY.items()
    application.update(tenant_id, PRODUCT, key, {"name": "Ladder"})
    assert set(application.get(tenant_id, PRODUCT, key).item) == {"shardId", "productId", "name"}
    application.delete(tenant_id, PRODUCT, key)
    with pytest.raises(NotFound):
        application.get(tenant_id, PRODUCT, key)


def test_an_item_that_is_not_there_is_neither_updated_nor_deleted(application, new_tenant):
    tenant_id = new_tenant()
    for change in (
        lambda key: application.update(tenant_id, ORDER, key, {}),
        lambda key: application.delete(tenant_id, ORDER, key),
    ):
        with pytest.raises(NotFound):
            change(f"{tenant_id}-1:none")
    assert application.list(tenant_id, ORDER).items == []


def test_all_pages_together_are_all_items(application, new_tenant):
    tenant_id = new_tenant(items=60, awkward=True)
    seen, after, pages = [], None, 0
    while pages == 0 or after:
        page = application.list(tenant_id, PRODUCT, limit=7, after=after)
        assert len(page.items) <= 7
        seen += [(item["shardId"], item["productId"]) for item in page.items]
        after, pages = page.after, pages + 1
    assert len(seen) == len(set(seen)) == 40
    assert pages >= 6


def test_another_tenants_key_is_as_if_it_were_not_there(application, new_tenant, clients):
    one = new_tenant()
    other = f"{one}-2"  # `{one}-2-1` begins with `{one}-`, and `{one}-2` is a partition of the first
    from include.local.saas.seed import SeedTenant, seed

    seed(clients, items_per_tenant=0, api_url="http://x", tenants=[SeedTenant(other, Tier.BASIC)], users=False)
    key = application.put(other, PRODUCT, None, BODY).key
    own = application.put(one, PRODUCT, f"{one}-2:own", BODY).key
    for tenant_id, foreign in ((one, key), (other, own)):
        with pytest.raises(NotFound):
            application.get(tenant_id, PRODUCT, foreign)
        with pytest.raises(NotFound):
            application.put(tenant_id, PRODUCT, foreign, BODY)
        with pytest.raises(NotFound):
            application.delete(tenant_id, PRODUCT, foreign)
    assert [item["productId"] for item in application.list(one, PRODUCT).items] == ["own"]
    assert len(application.list(other, PRODUCT).items) == 1


def test_a_migrations_own_items_are_not_shown(application, new_tenant, clients):
    tenant_id = new_tenant()
    marker = f"{MARKER}m-1#forward#1"
    clients.dynamodb.put_item(
        TableName="Product-pooled", Item={"shardId": {"S": f"{tenant_id}-1"}, "productId": {"S": marker}}
    )
    assert application.list(tenant_id, PRODUCT).items == []
    with pytest.raises(NotFound):
        application.get(tenant_id, PRODUCT, f"{tenant_id}-1:{marker}")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"colour": "red"}, "found colour of type S"),
        ({"sku": 5}, "found sku of type N"),
        ({"price": 1.5}, "expected values that DynamoDB can keep"),
    ],
)
def test_what_the_model_does_not_allow_is_refused(application, new_tenant, body, told):
    with pytest.raises(Refused, match=told):
        application.put(new_tenant(), PRODUCT, None, body)


def test_an_unknown_or_inactive_tenant_gets_nothing(application, new_tenant, clients):
    with pytest.raises(Unauthorized, match="nobody"):
        application.list("nobody", PRODUCT)
    tenant_id = new_tenant()
    clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": tenant_id}},
        UpdateExpression="SET isActive = :no",
        ExpressionAttributeValues={":no": {"BOOL": False}},
    )
    with pytest.raises(Forbidden):
        application.put(tenant_id, PRODUCT, None, BODY)


def test_in_a_fence_writes_are_refused_and_reads_go_on(application, moving, clients, clock):
    key = application.put(moving, PRODUCT, None, BODY).key
    close(clients, moving, clock.now + 30)
    for write in (
        lambda: application.put(moving, PRODUCT, None, BODY),
        lambda: application.update(moving, PRODUCT, key, {"name": "new"}),
        lambda: application.delete(moving, PRODUCT, key),
    ):
        with pytest.raises(Fenced) as caught:
            write()
        assert caught.value.retry_after > 0
    assert application.get(moving, PRODUCT, key).item["name"] == "Anvil"
    assert len(application.list(moving, PRODUCT).items) == 1


def test_a_fence_whose_time_has_passed_is_broken_by_the_next_write(application, moving, clients, clock):
    close(clients, moving, clock.now + 30)
    clock.now += 31
    key = application.put(moving, PRODUCT, f"{moving}-3:a", BODY).key
    assert item_in(clients, "Product-pooled", key)
    assert f"{moving}-3" not in fence.fenced_partitions(clients.dynamodb, moving)
    assert len(fence.fenced_partitions(clients.dynamodb, moving)) == 9


def test_a_write_by_an_old_route_lands_where_the_tenant_is_now(application, moving, clients, clock):
    application.put(moving, PRODUCT, f"{moving}-1:before", BODY)
    move(clients, moving, clock.now + 30)
    written = application.put(moving, PRODUCT, f"{moving}-1:after", BODY)
    assert written.epoch == 1
    assert item_in(clients, f"Product-{moving}", written.key)
    assert not item_in(clients, "Product-pooled", written.key)


def test_a_write_that_stalls_past_fence_and_switch_does_not_land_in_the_old_table(moving, clients, clock):
    stalled = []

    def stall():
        if not stalled:
            stalled.append(1)
            move(clients, moving, clock.now + 30)

    application = Application(clients, clock=clock, stall=stall)
    key = application.put(moving, PRODUCT, f"{moving}-1:late", BODY).key
    assert item_in(clients, f"Product-{moving}", key)
    assert not item_in(clients, "Product-pooled", key)


def test_without_the_check_the_same_write_is_lost(moving, clients, clock):
    stalled = []

    def stall():
        if not stalled:
            stalled.append(1)
            move(clients, moving, clock.now + 30)

    application = Application(clients, clock=clock, stall=stall, fenced=False)
    key = application.put(moving, PRODUCT, f"{moving}-1:late", BODY).key
    assert item_in(clients, "Product-pooled", key)
    assert not item_in(clients, f"Product-{moving}", key)


def test_a_route_is_believed_for_its_time_and_a_miss_is_looked_up_where_the_tenant_is(
    application, moving, clients, clock
):
    key = application.put(moving, PRODUCT, f"{moving}-1:old", {"name": "old"}).key
    move(clients, moving, clock.now + 30)
    other = Application(clients, clock=clock)
    other.put(moving, PRODUCT, key, {"name": "new"})
    late = other.put(moving, PRODUCT, f"{moving}-1:new", BODY).key
    found = application.get(moving, PRODUCT, key)
    assert (found.item["name"], found.epoch) == ("old", 0)  # what the reference's authorizer would show, and no longer
    assert application.get(moving, PRODUCT, late).epoch == 1
    assert application.get(moving, PRODUCT, key).item["name"] == "new"


def test_an_old_route_to_a_table_that_is_gone_is_followed(application, clients, clock, new_tenant):
    tenant_id = new_tenant(Tier.PLATINUM)
    application.put(tenant_id, PRODUCT, f"{tenant_id}-1:a", BODY)
    move(clients, tenant_id, clock.now + 30, Tier.BASIC)
    for prefix in (PRODUCT, ORDER):
        clients.dynamodb.delete_table(TableName=f"{prefix}-{tenant_id}")
    assert application.list(tenant_id, PRODUCT).epoch == 1
    assert Application(clients, clock=clock, fenced=False).put(tenant_id, PRODUCT, None, BODY).epoch == 1


def test_a_fence_row_of_a_later_route_keeps_an_earlier_one_out_even_if_the_tenants_row_is_read_late(
    moving, clients, clock
):
    application = Application(clients, clock=clock)
    clients.dynamodb.put_item(TableName=FENCES, Item={"shardId": {"S": f"{moving}-1"}, "routeEpoch": {"N": "7"}})
    with pytest.raises(Fenced):
        application.put(moving, PRODUCT, f"{moving}-1:a", BODY)
    assert not item_in(clients, "Product-pooled", f"{moving}-1:a")
