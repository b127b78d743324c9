"""How whole migrations end: as asked for, refused before anything is written, aborted, too late."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from include.local.saas.clients import clients_at
from include.tenants import fence, steps
from include.tenants.changes import Direction
from include.tenants.exceptions import (
    ApprovalRefused,
    BadRequest,
    NotVerified,
    PreflightFailed,
    SchemaDrift,
    TenantBusy,
)
from include.tenants.plan import count_items, make_plan
from include.tenants.portability import Portability
from include.tenants.report import gather, to_html, to_text
from include.tenants.request import MigrationRequest
from include.tenants.saas import TENANTS, Tier
from include.tenants.states import State
from include.tenants.transactions import typed
from tests.include.tenants.whole.trial import CONFIG, ITEMS, NEIGHBOUR, mover, served_from, write


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
    with pytest.raises(BadRequest, match=r"the replay to the source has ended. Start another migration to Basic"):
        moving.roll_back()
    assert served_from(p, tenant_id) is Tier.PLATINUM


def test_what_differs_for_good_bars_the_approval_and_is_in_the_report(p, fresh, monkeypatch):
    monkeypatch.setattr(steps, "RECHECK_SECONDS", 1.0)
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.CATCHING_UP)
    write(p, tenant_id, "intruder", tables=tenant_id)
    with pytest.raises(NotVerified, match=r"equal behind the replay, found 1 extra.*Look at the keys in the report"):
        steps.verify(p, moving.migration_id, owner="verify", say=lambda text: None)
    verification = gather(p, moving.migration_id)["verification"]
    assert (verification["when"], verification["equal"]) == ("before the switch", False)
    assert [each["sort"] for each in verification["differ"]] == ["intruder"]
    moving.roll_back()
    assert gather(p, moving.migration_id)["verification"]["extra"] == 1


def test_a_comparison_that_takes_too_long_for_the_budget_is_told_before_anybody_approves(p, fresh):
    moving = mover(p, next(fresh), budget_seconds=10)
    moving.run(until=State.CATCHING_UP)
    began = time.time()
    slow = replace(p, clock=lambda: began + 1000 * (time.time() - began))
    with pytest.raises(
        NotVerified, match=r"at most half of budget_seconds = 10, .*Start another migration with budget_seconds = \d\d"
    ):
        steps.verify(slow, moving.migration_id, owner="verify", say=lambda text: None)
    assert moving.migration.state is State.CATCHING_UP


def test_a_rollback_in_its_fence_is_let_end_before_the_way_back_does(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id, soak_minutes=60)
    moving.run(until=State.SOAK)
    fence.close_rows(p.clients.dynamodb, p.tenant(tenant_id), moving.migration_id, p.clock() + 600)
    looks, said = [], []

    def looked(seconds):
        looks.append(fence.fenced_partitions(p.clients.dynamodb, tenant_id))
        if len(looks) == 3:  # it gives up, or has switched
            fence.open_rows(p.clients.dynamodb, tenant_id, moving.migration_id)

    steps.complete(replace(p, sleep=looked), moving.migration_id, owner="complete", say=said.append)
    assert [len(each) for each in looks[:3]] == [10, 10, 10]
    assert sum("waiting for a rollback" in line for line in said) == 1
    assert served_from(p, tenant_id) is Tier.PLATINUM


def test_a_tenant_that_was_deleted_meanwhile_does_not_keep_its_migration_from_ending(p, fresh):
    tenant_id = next(fresh)
    moving = mover(p, tenant_id)
    moving.run(until=State.VERIFIED)
    p.clients.dynamodb.delete_item(TableName=TENANTS, Key={"tenantId": {"S": tenant_id}})
    said = []
    ended = steps.abort(p, moving.migration_id, owner="abort", why="it has left", say=said.append)
    assert ended.state is State.ABORTED
    assert said[0] == f"tenant {tenant_id} is there no more"


def test_the_replay_back_begins_also_while_cognito_can_not_tell_who_has_come_over(p, fresh, monkeypatch):
    def troubled(p, migration):
        raise RuntimeError("Cognito is in trouble")

    monkeypatch.setattr("include.tenants.identity.coverage", troubled)
    moving = mover(p, next(fresh), soak_minutes=60)
    assert moving.run(until=State.SOAK).state is State.SOAK
    assert "identity_coverage" not in moving.migration.notes
    assert moving.roll_back().state is State.ROLLED_BACK
