"""Whole migrations, in process, against the real stand-ins: under load, with kills, and with everything else that happens at 3 a.m."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from include.local.saas.clients import clients_at
from include.local.saas.errors import Fenced
from include.local.saas.judge import judge_tables
from include.local.saas.kills import Killed, KillSwitch, killable
from include.local.saas.load import Load, Stalls, instances
from include.tenants import fence, steps
from include.tenants.exceptions import (
    CutoverFailed,
    NotVerified,
)
from include.tenants.plan import count_items
from include.tenants.portability import Portability
from include.tenants.saas import PRODUCTS, TENANTS, Tier
from include.tenants.states import State
from include.tenants.store import broken_at
from include.tenants.transactions import ConditionFailed, transact, typed
from tests.include.tenants.whole.trial import CONFIG, NEIGHBOUR, mover, served_from, write


@pytest.mark.timeout(600)
def test_there_and_back_and_undone_under_load_with_kills_no_write_is_lost(url, clients, fresh, tmp_path):
    """Both directions and a rollback; writes stall past the cutover, steps die anywhere; the neighbour is used all the while."""
    tenant_id, chance = next(fresh), random.Random(5)
    switch = KillSwitch()
    p = Portability(killable(clients_at(url), switch), CONFIG)

    def before(step, attempt):
        dies = attempt == 0 and chance.random() < (0.1 if step == "copy_items" else 0.5)
        switch.revive(chance.randint(1, 30) if dies else 0, after=chance.random() < 0.5)

    apis = instances(clients_at(url), 2, cache_seconds=0.5, stalls=Stalls(0.03, 1.0))
    journal = tmp_path / "journal.jsonl"
    with Load(apis, [tenant_id, NEIGHBOUR], journal=journal, writers=2, readers=1, pause=0.05) as load:
        load.wait_for_writes(10)
        there = mover(p, tenant_id, before=before)
        assert there.run().state is State.COMPLETE
        assert there.finish().state is State.CLEANED
        back = mover(p, tenant_id, Tier.STANDARD, soak_minutes=60, before=before)
        assert back.run(until=State.SOAK).state is State.SOAK
        assert served_from(p, tenant_id) is Tier.STANDARD
        load.wait_for_writes(10)
        assert back.roll_back().state is State.ROLLED_BACK
        load.wait_for_writes(10)
    switch.revive()
    verdict = judge_tables(journal, clients)
    assert verdict.ok, verdict
    assert verdict.acknowledged > 100
    assert there.kills + back.kills > 3
    assert served_from(p, tenant_id) is Tier.PLATINUM
    assert load.figures(tenant_id).failed_reads == 0
    assert [each["direction"] for each in back.migration.notes["cutovers"] if each["switched"]] == [
        "forward",
        "reverse",
    ]


def test_a_cutover_killed_at_any_write_of_its_own_leaves_a_tenant_that_can_write_and_goes_on(url, clients, fresh):
    """Before and after each transaction and each saved turn, of which some are inside the fence."""
    tenant_id = next(fresh)
    switch = KillSwitch()
    p = Portability(killable(clients_at(url), switch), CONFIG)
    kills = [
        (operation, number, after)
        for operation, count in (("update_item", 3), ("transact_write_items", 3))
        for number in range(1, count + 1)
        for after in (False, True)
    ]
    left = iter(kills)

    def before(step, attempt):
        kill = next(left, None) if step == "cut_over" else None
        switch.revive()
        if kill:
            operation, number, after = kill
            switch.revive(number, after=after, only=operation)

    moving = mover(p, tenant_id, before=before)
    assert moving.run(until=State.SOAK).state is State.SOAK
    switch.revive()
    assert moving.kills >= 8
    assert served_from(p, tenant_id) is Tier.PLATINUM
    assert broken_at(p.store.events(moving.migration_id)) is None


def test_a_fence_whose_migration_has_died_is_opened_by_the_application_and_what_it_writes_then_is_moved_too(
    url, p, fresh
):
    tenant_id = next(fresh)
    switch = KillSwitch()
    dying = Portability(killable(clients_at(url), switch), CONFIG)
    moving = mover(dying, tenant_id)
    moving.run(until=State.VERIFIED)
    moving.step("record_approval", moving._approve)
    switch.revive(2, after=True, only="transact_write_items")
    with pytest.raises(Killed, match="transact_write_items"):
        steps.cut_over(dying, moving.migration_id, owner="cut_over", say=lambda text: None)
    switch.revive()
    assert fence.fenced_partitions(p.clients.dynamodb, tenant_id)

    def later():
        return time.time() + 2 * moving.request.budget_seconds

    key, body = f"{tenant_id}-1:new", {"sku": "s", "name": "n", "price": 1, "category": "c"}
    with pytest.raises(Fenced):
        instances(p.clients, 1, cache_seconds=30)[0].put(tenant_id, "Product", key, body)
    # the tenant comes again as it was told to
    instances(p.clients, 1, cache_seconds=30, clock=later)[0].put(tenant_id, "Product", key, body)
    tenant, until = p.tenant(tenant_id), moving.migration.notes["fence"]["until"]
    with pytest.raises(ConditionFailed):  # the dead try, if it were only slow
        transact(p.clients.dynamodb, fence.switch(tenant, moving.migration_id, tenant.route, until))
    assert tenant.route.tier is Tier.BASIC
    awake = replace(dying, clock=later)
    assert steps.cut_over(awake, moving.migration_id, owner="cut_over", say=lambda text: None).state is State.SWITCHED
    assert served_from(p, tenant_id) is Tier.PLATINUM
    found = p.clients.dynamodb.get_item(
        TableName=f"Product-{tenant_id}", Key=typed({"shardId": f"{tenant_id}-1", "productId": "new"})
    )
    assert found["Item"]["sku"] == {"S": "s"}


def test_over_budget_the_fence_opens_by_itself_and_the_next_try_switches(p, hasty, fresh, controls):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    moving.step("record_approval", moving._approve)
    for table in ("Product-pooled", "Order-pooled"):
        controls.stream(table, lag_seconds=3600)  # the markers do not come
    with pytest.raises(CutoverFailed, match=r"within the budget of 30 s.*nothing is lost"):
        steps.cut_over(hasty, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert served_from(hasty, tenant_id) is Tier.BASIC
    assert moving.migration.state is State.APPROVED
    [attempt] = moving.migration.notes["cutovers"]
    assert not attempt["switched"]
    assert "CutoverFailed" in attempt["why_not"]
    controls.reset()
    assert steps.cut_over(hasty, moving.migration_id, owner="cut_over", say=lambda text: None).state is State.SWITCHED


def test_what_is_written_past_the_application_inside_the_fence_is_found_and_nothing_is_switched(p, hasty, fresh):
    """A write to the target that no replay explains: the comparison decides."""
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    moving.step("record_approval", moving._approve)
    write(hasty, tenant_id, "intruder", tables=tenant_id)
    with pytest.raises(NotVerified, match=r"equal in the fence, found 1 extra.*Did somebody write"):
        steps.cut_over(hasty, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert served_from(hasty, tenant_id) is Tier.BASIC
    assert moving.migration.state is State.CATCHING_UP


def test_what_is_written_to_the_source_past_the_application_is_moved_too(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    write(p, tenant_id, "late")
    moving.run()
    found = p.clients.dynamodb.get_item(
        TableName=f"Product-{tenant_id}", Key=typed({"shardId": f"{tenant_id}-1", "productId": "late"})
    )
    assert found["Item"]["name"] == {"S": "written"}


def test_the_neighbour_is_as_it_was(p):
    assert served_from(p, NEIGHBOUR) is Tier.BASIC
    row = p.clients.dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": NEIGHBOUR}})["Item"]
    assert "routeEpoch" not in row
    assert count_items(p, PRODUCTS.name(NEIGHBOUR, Tier.BASIC), NEIGHBOUR)[0] >= 50
