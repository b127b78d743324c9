"""Whole migrations, in process, against the real stand-ins: under load, with kills, and with everything else that happens at 3 a.m."""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import replace

import pytest

from include.local.aws.controls import Controls
from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.errors import Fenced
from include.local.saas.judge import judge_tables
from include.local.saas.kills import Killed, KillSwitch, killable
from include.local.saas.load import Load, Stalls, instances
from include.local.saas.mover import Mover
from include.local.saas.seed import SeedTenant, seed
from include.tenants import fence, steps
from include.tenants.changes import Direction
from include.tenants.exceptions import (
    ApprovalRefused,
    BadRequest,
    CutoverFailed,
    MigrationConflict,
    NotVerified,
    PreflightFailed,
    SchemaDrift,
    TenantBusy,
)
from include.tenants.plan import count_items, make_plan
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.report import gather, to_html, to_text
from include.tenants.request import MigrationRequest
from include.tenants.saas import PRODUCTS, TENANTS, Tier
from include.tenants.states import State
from include.tenants.store import broken_at
from include.tenants.transactions import ConditionFailed, transact, typed

CONFIG = PortabilityConfig("data-platform", "data-platform-evidence", "alias/tenant-migrations", most_migrations=50)
ITEMS = 90
NEIGHBOUR = "n"
"""Its id begins many others', and it is never moved."""


@pytest.fixture(scope="module")
def url():
    with trial_aws(["data-platform"]) as url:
        yield url


@pytest.fixture(scope="module")
def clients(url):
    clients = clients_at(url)
    tenants = [SeedTenant(NEIGHBOUR, Tier.BASIC), *(SeedTenant(f"n-{number}", Tier.BASIC) for number in range(24))]
    seed(clients, items_per_tenant=ITEMS, api_url="http://127.0.0.1:4570", tenants=tenants, users=False)
    return clients


@pytest.fixture(scope="module")
def fresh(clients):
    """Ids of tenants that no test has moved yet."""
    return (f"n-{number}" for number in itertools.count())


@pytest.fixture
def p(clients):
    return Portability(clients, CONFIG)


@pytest.fixture
def controls(url):
    controls = Controls(url)
    yield controls
    controls.reset()


@pytest.fixture
def hasty(p):
    """The same with a clock of its own: what it sleeps is over at once and counts twentyfold, so budgets end soon."""
    slept = [0.0]

    def sleep(seconds):
        slept[0] += 20 * seconds

    return replace(p, clock=lambda: time.time() + slept[0], sleep=sleep)


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


def test_over_budget_the_fence_opens_by_itself_and_the_next_try_switches(hasty, fresh, controls):
    tenant_id = next(fresh)
    moving = mover(hasty, tenant_id)
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


def test_what_is_written_past_the_application_inside_the_fence_is_found_and_nothing_is_switched(hasty, fresh):
    """A write to the target that no replay explains: the comparison decides."""
    tenant_id = next(fresh)
    moving = mover(hasty, tenant_id)
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


def test_between_pooled_tiers_nothing_is_copied_and_only_plan_and_key_change(p, fresh):
    tenant_id = next(fresh)
    before = p.tenant(tenant_id)
    moving = mover(p, tenant_id, Tier.PREMIUM)
    assert moving.run().state is State.COMPLETE
    after = p.tenant(tenant_id)
    assert after.route.tier is Tier.PREMIUM
    assert after.route.api_key != before.route.api_key
    assert (after.route.user_pool_id, after.route.api_url) == (before.route.user_pool_id, before.route.api_url)
    assert after.epoch == before.epoch
    assert moving.finish().state is State.CLEANED
    assert sum(count_items(p, f"{table}-pooled", tenant_id)[0] for table in ("Product", "Order")) == ITEMS


def test_refused_everything_is_as_it_was_and_the_tenant_is_free(p, fresh):
    tenant_id = next(fresh)
    route = p.tenant(tenant_id).route
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    refused = steps.decide(p, moving.migration_id, approved=False, by="bea", why="not on a Friday", at=1)
    assert refused.outcome is State.ABORTED
    with pytest.raises(ApprovalRefused):
        steps.cut_over(p, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert moving.finish().state is State.CLEANED
    assert p.tenant(tenant_id).route == route
    assert f"Product-{tenant_id}" not in p.clients.dynamodb.list_tables()["TableNames"]
    report = gather(p, moving.migration_id)
    assert report["approval"] == {"approved": False, "by": "bea", "why": "not on a Friday", "at": 1}
    assert "not on a Friday" in to_text(report)
    assert mover(p, tenant_id, name="again").run().state is State.COMPLETE


def test_an_approval_that_is_too_old_is_none(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id, approve_within_minutes=10)
    moving.run(until=State.VERIFIED)
    long_ago = int((time.time() - 3600) * 1000)
    steps.decide(p, moving.migration_id, approved=True, by="ann", why="go on then", at=long_ago)
    with pytest.raises(
        ApprovalRefused, match=r"at most 10 minutes old, found one of 60 minutes ago by ann; nothing was switched"
    ):
        steps.cut_over(p, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert served_from(p, tenant_id) is Tier.BASIC


def test_a_verification_that_has_expired_is_made_again_before_the_cutover(clients, fresh):
    shift = [0.0]
    p = Portability(clients, CONFIG, clock=lambda: time.time() + shift[0])
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    first = moving.migration.notes["verification"]
    shift[0] = CONFIG.verification_minutes * 60 + 1
    moving.step("record_approval", moving._approve)
    assert steps.cut_over(p, moving.migration_id, owner="cut_over", say=lambda text: None).state is State.SWITCHED
    assert moving.migration.notes["verification"]["expires_at"] > first["expires_at"]
    assert [each.why for each in p.store.events(moving.migration_id) if each.after == "APPROVED"][-1] == (
        "verified again; approved by an operator"
    )


def test_many_tenants_move_at_once_from_the_same_tables(url, fresh):
    tenants = [next(fresh) for _ in range(3)]
    states, errors = {}, []

    def move(tenant_id):
        try:
            states[tenant_id] = mover(Portability(clients_at(url), CONFIG), tenant_id).run().state
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=move, args=(tenant_id,)) for tenant_id in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(states.values()) == {State.COMPLETE}
    p = Portability(clients_at(url), CONFIG)
    for tenant_id in tenants:
        assert sum(count_items(p, f"{table}-{tenant_id}", tenant_id)[0] for table in ("Product", "Order")) == ITEMS
        # nothing of the neighbours, whose ids begin alike
        assert p.clients.dynamodb.scan(TableName=f"Product-{tenant_id}", Select="COUNT")["Count"] < ITEMS


def test_a_stream_that_splits_and_repeats_itself_loses_nothing(p, fresh, controls):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    for number in range(20):
        write(p, tenant_id, f"split-{number}")
        if number % 7 == 3:
            controls.split("Product-pooled")
    controls.repeat("Product-pooled", 10)
    moving.replicate(Direction.FORWARD)
    moving.run()
    names = {f"split-{number}" for number in range(20)}
    found = p.clients.dynamodb.query(
        TableName=f"Product-{tenant_id}",
        KeyConditionExpression="shardId = :shard",
        ExpressionAttributeValues={":shard": {"S": f"{tenant_id}-1"}},
    )["Items"]
    assert names <= {item["productId"]["S"] for item in found}


@pytest.mark.parametrize(
    ("tenant_id", "tier", "message"),
    [
        ("nobody", Tier.PLATINUM, "expected a tenant 'nobody'"),
        (NEIGHBOUR, Tier.BASIC, "in another tier than Basic, found it there"),
        ("pooled", Tier.PLATINUM, "that is not 'pooled'"),
        ("n'; drop", Tier.PLATINUM, "letters, digits and dashes"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_written(p, tenant_id, tier, message):
    migrations = len(p.store.all())
    with pytest.raises(BadRequest, match=message):
        make_plan(p, MigrationRequest(tenant_id, tier))
    assert len(p.store.all()) == migrations


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("budget_seconds", 0, "budget_seconds: expected a number from 1 to 120, found 0"),
        ("budget_seconds", "30", "expected a number from 1 to 120, found '30'"),
        ("read_units", 10**9, "read_units: expected a number from 1 to 40000"),
        ("soak_minutes", True, "soak_minutes: expected a number"),
        ("target_tier", "Gold", "target_tier: expected one of"),
    ],
)
def test_limits_out_of_bounds_are_refused(name, value, message):
    with pytest.raises(BadRequest, match=message):
        MigrationRequest.from_mapping({"tenant_id": "a", "target_tier": "Platinum", name: value})


def test_a_tenant_in_a_migration_can_not_begin_another(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.begin()
    with pytest.raises(TenantBusy, match=f"found it in {moving.migration_id}, which is PROVISIONED"):
        mover(p, tenant_id, name="second").begin()


def test_more_migrations_than_one_stream_can_have_readers_are_refused(clients, p, fresh):
    first = mover(p, next(fresh))
    first.begin()
    few = Portability(clients, replace(CONFIG, most_migrations=1))
    with pytest.raises(
        PreflightFailed, match=r"read the same tables: expected at most 0 others, found \d+; let one of them end"
    ):
        mover(few, next(fresh)).begin()


def test_a_target_that_holds_items_of_the_tenant_is_refused(p, fresh):
    tenant_id = next(fresh)
    from include.local.saas.tables import make_data_tables

    make_data_tables(p.clients.dynamodb, tenant_id)
    write(p, tenant_id, "old", tables=tenant_id)
    with pytest.raises(
        PreflightFailed, match=rf"target Product-{tenant_id}: expected none of the tenant's items, found 1"
    ):
        mover(p, tenant_id).begin()
    assert served_from(p, tenant_id) is Tier.BASIC


def test_items_that_the_target_does_not_allow_are_found_before_the_copy_and_again_at_the_cutover(p, fresh):
    tenant_id = next(fresh)
    odd = {"shardId": f"{tenant_id}-3", "productId": "odd", "colour": "green"}
    p.clients.dynamodb.put_item(TableName="Product-pooled", Item=typed(odd))
    early = mover(p, tenant_id)
    with pytest.raises(PreflightFailed, match=r"shape of the items.*colour"):
        early.begin()
    p.clients.dynamodb.delete_item(
        TableName="Product-pooled", Key=typed({name: odd[name] for name in ("shardId", "productId")})
    )
    steps.roll_back(p, early.migration_id, owner="me", why="mended", say=lambda text: None)
    early.finish()
    moving = mover(p, tenant_id, name="later")
    moving.run(until=State.VERIFIED)
    moving.step("record_approval", moving._approve)
    p.clients.dynamodb.put_item(TableName="Product-pooled", Item=typed(odd))
    with pytest.raises(SchemaDrift, match="colour"):
        steps.cut_over(p, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert served_from(p, tenant_id) is Tier.BASIC


def test_a_dry_plan_says_everything_and_writes_nothing(p, fresh):
    tenant_id = next(fresh)
    plan = make_plan(p, MigrationRequest(tenant_id, Tier.PLATINUM))
    text = plan.to_text()
    assert plan.items == ITEMS
    for part in (
        f"Product-{tenant_id}",
        f"stack-{tenant_id}",
        "ServerlessSaaSUserPool",
        "one conditional write",
        "minutes",
    ):
        assert part in text
    assert p.store.current(tenant_id) is None


def test_the_report_tells_all_of_it_and_no_secret_and_nobodys_words_unescaped(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.request = MigrationRequest(tenant_id, Tier.PLATINUM, why="<script>alert(1)</script>", soak_minutes=0)
    moving.run()
    moving.finish()
    report = gather(p, moving.migration_id)
    page = to_html(report)
    assert report["outcome"] == "COMPLETE"
    assert report["verification"]["equal"]
    assert report["audit_broken_at"] is None
    assert (
        report["write_unavailable_seconds"] == max(each["seconds"] for each in moving.migration.notes["cutovers"]) > 0
    )
    assert report["cost"]["dollars"] > 0
    assert report["evidence"]["uri"].startswith("s3://data-platform-evidence/")
    assert "<script>" not in page
    assert p.tenant(tenant_id).route.api_key not in page + str(report)
    for part in ("COMPLETE", "an operator", "digest of the source", "whole: each event"):
        assert part in page


def test_a_migration_that_is_over_can_not_be_undone_but_one_under_way_can(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run()
    with pytest.raises(
        MigrationConflict, match=r"the replay to the source has ended. Start another migration to Basic"
    ):
        moving.roll_back()
    assert served_from(p, tenant_id) is Tier.PLATINUM


def test_the_neighbour_is_as_it_was(p):
    assert served_from(p, NEIGHBOUR) is Tier.BASIC
    row = p.clients.dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": NEIGHBOUR}})["Item"]
    assert "routeEpoch" not in row
    assert count_items(p, PRODUCTS.name(NEIGHBOUR, Tier.BASIC), NEIGHBOUR)[0] >= 50
