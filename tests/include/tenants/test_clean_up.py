from __future__ import annotations

import dataclasses
import itertools
import time

import pytest
from botocore.exceptions import ClientError

from include.local.saas.placing import place_by_batches
from include.local.saas.tables import make_data_tables
from include.tenants import archive as archive_module
from include.tenants import clean_up, resources, steps, stream_switch, user_pools
from include.tenants.archive import archive
from include.tenants.clean_up import remove_items, remove_leftovers
from include.tenants.exceptions import EvidenceInvalid, IdentityIncomplete, MigrationConflict, TurnLost, TurnTaken
from include.tenants.identity import IMPORT_ROLE, finish_identity, port_identity
from include.tenants.keys import shard_ids
from include.tenants.resources import mirror_observability, provision
from include.tenants.saas import DATA_TABLES, SETTINGS, STACKS
from include.tenants.states import State
from include.tenants.stream_switch import MADE_NOTE, about_to_enable, disable_streams, made
from include.tenants.streams import arm
from tests.include.tenants.histories import (
    archived,
    led_to,
    planned,
    planned_as_it_is,
    put_tenant,
    routed,
    seeded,
    silent,
)

_NUMBER = itertools.count()


@pytest.fixture
def tenant():
    """An id of its own, and its evidence's place: what is locked away stays."""
    return f"clean-{next(_NUMBER)}"


@pytest.fixture
def p(portability):
    seeded(portability.clients)
    return portability


def put(p, table_name, tenant_id, *, each=3):
    """Items in all ten partitions."""
    sort_key = next(table.sort_key for table in DATA_TABLES if table_name.startswith(table.prefix))
    items = (
        {"shardId": {"S": shard_id}, sort_key: {"S": f"{number:04}"}, "note": {"S": "x"}}
        for shard_id in shard_ids(tenant_id)
        for number in range(each)
    )
    place_by_batches(p.clients.dynamodb, ((table_name, item) for item in items))


def count(p, table_name, tenant_id):
    return sum(
        p.clients.dynamodb.query(
            TableName=table_name,
            KeyConditionExpression="shardId = :shard",
            ExpressionAttributeValues={":shard": {"S": shard_id}},
            Select="COUNT",
        )["Count"]
        for shard_id in shard_ids(tenant_id)
    )


def archived_now(p, migration):
    return p.store.transition(migration, State.ARCHIVED, {"archive": archive(p, migration)}, by="test")


def names(side):
    return [f"Product-{side}", f"Order-{side}"]


def over(p, tenant, outcome, source="Basic", target="Platinum"):
    """A migration that is archived, of a tenant without users, and items on both sides."""
    put_tenant(p.clients, tenant, target if outcome is State.COMPLETE else source, epoch=1)
    make_data_tables(p.clients.dynamodb, tenant)
    planned(p, tenant, source, target, migration_id=f"m-{tenant}")
    for name in (*names("pooled"), *names(tenant)):
        put(p, name, tenant)
    return archived(p, p.store.load(f"m-{tenant}"), outcome)


@pytest.mark.parametrize(
    ("outcome", "source", "target", "goes"),
    [
        (State.COMPLETE, "Basic", "Platinum", "pooled"),
        (State.COMPLETE, "Platinum", "Basic", "silo"),
        (State.ROLLED_BACK, "Basic", "Platinum", "silo"),
        (State.ROLLED_BACK, "Platinum", "Basic", "pooled"),
        (State.ABORTED, "Basic", "Platinum", "silo"),
        (State.ABORTED, "Platinum", "Basic", "pooled"),
    ],
)
def test_only_the_side_that_the_tenant_left_is_emptied(p, tenant, outcome, source, target, goes):
    migration = over(p, tenant, outcome, source, target)
    gone, stays = (names("pooled"), names(tenant)) if goes == "pooled" else (names(tenant), names("pooled"))
    assert remove_items(p, migration, gone, silent, owner="test") == {gone[0]: 30, gone[1]: 30}
    assert [count(p, name, tenant) for name in gone] == [0, 0]
    assert [count(p, name, tenant) for name in stays] == [30, 30]
    assert remove_items(p, migration, gone, silent, owner="test") == {gone[0]: 0, gone[1]: 0}


def test_items_that_are_too_big_for_a_transaction_together_are_deleted(p, tenant):
    migration = over(p, tenant, State.COMPLETE)
    for number in range(12):
        item = {"shardId": {"S": f"{tenant}-1"}, "productId": {"S": f"big {number}"}, "note": {"S": "x" * 400_000}}
        p.clients.dynamodb.put_item(TableName="Product-pooled", Item=item)
    assert remove_items(p, migration, ["Product-pooled"], silent, owner="test") == {"Product-pooled": 42}
    assert count(p, "Product-pooled", tenant) == 0


def test_tables_of_the_other_side_are_refused(p, tenant):
    migration = over(p, tenant, State.COMPLETE)
    for wrong in (f"Order-{tenant}", "ServerlessSaaS-TenantDetails"):
        with pytest.raises(MigrationConflict, match=f"expected tables of its source .*, found {wrong}"):
            remove_items(p, migration, ["Product-pooled", wrong], silent, owner="test")
    assert count(p, "Product-pooled", tenant) == 30


def test_neighbours_keep_every_item(p, tenant):
    """Their ids begin, or end, like the tenant's; `clean-…-1` is also a partition's key."""
    neighbours = [f"{tenant}-1", f"{tenant}-2", f"{tenant}0", tenant[:-1], f"x-{tenant}", tenant.upper()]
    migration = over(p, tenant, State.COMPLETE)
    for each in neighbours:
        put(p, "Product-pooled", each, each=1)
    strange = {"shardId": {"S": f"{tenant}-11"}, "productId": {"S": "of nobody"}}
    p.clients.dynamodb.put_item(TableName="Product-pooled", Item=strange)
    remove_items(p, migration, names("pooled"), silent, owner="test")
    assert [count(p, "Product-pooled", each) for each in neighbours] == [10] * len(neighbours)
    assert p.clients.dynamodb.get_item(TableName="Product-pooled", Key=strange)["Item"] == strange


def test_nothing_is_deleted_without_evidence(p, tenant):
    put_tenant(p.clients, tenant, "Platinum", epoch=1)
    make_data_tables(p.clients.dynamodb, tenant)
    migration = led_to(p, planned(p, tenant, migration_id=f"m-{tenant}"), State.COMPLETE)
    put(p, "Product-pooled", tenant)
    for remove in (
        lambda: remove_items(p, migration, names("pooled"), silent, owner="test"),
        lambda: remove_leftovers(p, migration, silent, owner="test"),
    ):
        with pytest.raises(MigrationConflict, match="expected it to be ARCHIVED, found COMPLETE"):
            remove()
    lying = p.store.transition(migration, State.ARCHIVED, {"archive": {}}, by="test")
    with pytest.raises(EvidenceInvalid, match="found no archive"):
        remove_leftovers(p, lying, silent, owner="test")
    assert count(p, "Product-pooled", tenant) == 30


def test_nothing_is_deleted_when_the_evidence_is_not_what_was_signed(p, tenant):
    migration = over(p, tenant, State.COMPLETE)
    found = migration.notes["archive"]
    p.store.note(migration.migration_id, {"archive": found | {"sha256": "0" * 64}})
    with pytest.raises(EvidenceInvalid, match="nothing was deleted"):
        remove_leftovers(p, migration, silent, owner="test")
    assert count(p, "Product-pooled", tenant) == 30


@pytest.mark.parametrize("outcome", [State.COMPLETE, State.ROLLED_BACK])
def test_nothing_is_deleted_where_the_tenant_is_served(p, tenant, outcome):
    migration = over(p, tenant, outcome)
    routed(p, tenant, "Basic" if outcome is State.COMPLETE else "Platinum")
    gone = names("pooled") if outcome is State.COMPLETE else names(tenant)
    with pytest.raises(MigrationConflict, match="expected it to be served from"):
        remove_items(p, migration, gone, silent, owner="test")
    assert [count(p, name, tenant) for name in gone] == [30, 30]


def test_a_tenant_that_moves_while_its_items_are_deleted_loses_no_more(p, tenant, monkeypatch):
    migration = over(p, tenant, State.COMPLETE)
    put(p, "Order-pooled", tenant, each=30)
    transact, calls = clean_up.transact, []

    def moving(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            routed(p, tenant, "Basic")
        return transact(*args, **kwargs)

    monkeypatch.setattr(clean_up, "transact", moving)
    with pytest.raises(
        MigrationConflict, match="its route, the migration, or whose turn it is changed; 97 were deleted"
    ):
        remove_items(p, migration, names("pooled"), silent, owner="test")
    assert count(p, "Order-pooled", tenant) == 300 - 97
    assert count(p, "Product-pooled", tenant) == 30


def test_killed_at_any_batch_it_goes_on(p, tenant, monkeypatch):
    migration = over(p, tenant, State.COMPLETE)
    put(p, "Order-pooled", tenant, each=30)
    transact = clean_up.transact

    class Killed(BaseException):
        pass

    for at in (1, 2, 1):
        calls = []

        def killed(*args, calls=calls, at=at, **kwargs):
            calls.append(1)
            transact(*args, **kwargs)
            if len(calls) == at:
                raise Killed  # after the write, before its count

        with monkeypatch.context() as patch:
            patch.setattr(clean_up, "transact", killed)
            with pytest.raises(Killed):
                remove_items(p, migration, names("pooled"), silent, owner="test")
    remove_items(p, migration, names("pooled"), silent, owner="test")
    assert [count(p, name, tenant) for name in names("pooled")] == [0, 0]
    assert [count(p, name, tenant) for name in names(tenant)] == [30, 30]


# everything that is left behind


def whole(p, tenant, tier, target, outcome, *, finish=True):
    """A migration of a tenant with users and items, made by the steps, and archived."""
    seeded(p.clients, (tenant, tier), items=60, users=True)
    migration_id = f"m-{tenant}"
    migration = planned_as_it_is(p, tenant, target, migration_id=migration_id)
    p.store.note(migration_id, {"resources": provision(p, migration, silent)})
    mirror_observability(p, migration)
    p.store.note(migration_id, {"identity": port_identity(p, migration, silent)})
    migration = p.store.load(migration_id)
    about_to_enable(p, migration)
    streams = {}
    for table in migration.notes["tables"]:
        for side in ("source", "target"):
            streams[table[side]] = arm(p, table[side]).stream
        items = p.clients.dynamodb.scan(TableName=table["source"])["Items"]
        own = [(table["target"], item) for item in items if item["shardId"]["S"] in shard_ids(tenant)]
        place_by_batches(p.clients.dynamodb, own)
    p.store.note(migration_id, made(p, migration, streams))
    if outcome is State.COMPLETE:
        routed(p, tenant, target, migration.notes["identity"]["user_pool_id"])
        if finish:
            finish_identity(p, migration, silent)
    return archived(p, migration, outcome)


def stream(p, name):
    return (
        p.clients.dynamodb.describe_table(TableName=name)["Table"].get("StreamSpecification", {}).get("StreamEnabled")
    )


def tables(p):
    return p.clients.dynamodb.list_tables()["TableNames"]


def users_of(p, pool_id, tenant):
    return [user.name for user in user_pools.users(p, pool_id, tenant)]


def pool_ids(p):
    return {pool["Id"] for pool in user_pools.pools(p)}


def mapping(p, tenant):
    return "Item" in p.clients.dynamodb.get_item(TableName=STACKS, Key={"tenantId": {"S": tenant}})


def test_after_a_move_to_a_silo_nothing_of_the_tenant_is_left_in_the_pool(p, tenant):
    seeded(p.clients, (f"{tenant}-1", "Standard"), items=60, users=True)
    migration = whole(p, tenant, "Basic", "Platinum", State.COMPLETE)
    pooled = migration.notes["source"]["user_pool_id"]
    removed = remove_leftovers(p, migration, silent, owner="test")
    assert (removed["side"], removed["users"]) == ("source", 3)
    assert sum(removed["items"].values()) == 60
    assert set(removed["streams"]) == {*names("pooled"), *names(tenant)}
    assert sum(count(p, name, tenant) for name in names("pooled")) == 0
    assert sum(count(p, name, tenant) for name in names(tenant)) == 60
    assert sum(count(p, name, f"{tenant}-1") for name in names("pooled")) == 60
    assert users_of(p, pooled, tenant) == []
    assert len(users_of(p, pooled, f"{tenant}-1")) == len(users_of(p, p.tenant(tenant).route.user_pool_id, tenant)) == 3
    assert mapping(p, tenant)
    again = remove_leftovers(p, migration, silent, owner="test")
    assert (again["users"], sum(again["items"].values()), again["streams"]) == (0, 0, [])


def test_after_a_move_to_the_pool_the_silo_is_gone(p, tenant):
    migration = whole(p, tenant, "Platinum", "Premium", State.COMPLETE)
    silo_pool = migration.notes["source"]["user_pool_id"]
    removed = remove_leftovers(p, migration, silent, owner="test")
    assert removed["stack"]["deleted"]
    assert sum(removed["items"].values()) == 60
    assert not set(names(tenant)) & set(tables(p))
    assert silo_pool not in pool_ids(p)
    assert not mapping(p, tenant)
    assert sum(count(p, name, tenant) for name in names("pooled")) == 60
    assert not stream(p, "Product-pooled")
    assert remove_leftovers(p, migration, silent, owner="test")["stack"]["deleted"] is False


@pytest.mark.parametrize("outcome", [State.ABORTED, State.ROLLED_BACK])
def test_what_was_made_for_a_move_that_did_not_happen_is_gone(p, tenant, outcome):
    migration = whole(p, tenant, "Basic", "Platinum", outcome)
    made = migration.notes["identity"]["user_pool_id"]
    removed = remove_leftovers(p, migration, silent, owner="test")
    assert removed["side"] == "target"
    assert removed["stack"]["deleted"]
    assert made not in pool_ids(p)
    assert not set(names(tenant)) & set(tables(p))
    assert sum(count(p, name, tenant) for name in names("pooled")) == 60
    assert len(users_of(p, migration.notes["source"]["user_pool_id"], tenant)) == 3
    assert not stream(p, "Order-pooled")


def test_users_who_may_still_come_over_keep_everything_in_place(p, tenant):
    migration = whole(p, tenant, "Basic", "Platinum", State.COMPLETE, finish=False)
    with pytest.raises(IdentityIncomplete, match="finish_tenant_identity"):
        remove_leftovers(p, migration, silent, owner="test")
    assert sum(count(p, name, tenant) for name in names("pooled")) == 60
    assert len(users_of(p, migration.notes["source"]["user_pool_id"], tenant)) == 3
    assert stream(p, "Product-pooled")


@pytest.mark.parametrize("at", ["remove_identity", "_remove_items", "disable_streams", "deprovision"])
def test_killed_between_any_two_steps_it_goes_on(p, tenant, monkeypatch, at):
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    step = getattr(clean_up, at)

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        step(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(clean_up, at, killed)
        with pytest.raises(Killed):
            remove_leftovers(p, migration, silent, owner="test")
    remove_leftovers(p, migration, silent, owner="test")
    assert not set(names(tenant)) & set(tables(p))
    assert not mapping(p, tenant)
    assert not stream(p, "Product-pooled")


def test_an_abort_before_the_copy_deletes_no_item_of_the_target(p, tenant):
    """What is there then is what the preflight refused: nobody has copied it."""
    seeded(p.clients, (tenant, "Platinum"), items=20)
    planned_as_it_is(p, tenant, "Basic", migration_id=f"m-{tenant}")
    put(p, "Product-pooled", tenant)
    migration = p.store.load(f"m-{tenant}")
    for state in (State.PREFLIGHT, State.ABORTED):
        migration = p.store.transition(migration, state, by="test")
    migration = archived_now(p, migration)
    assert "items" not in remove_leftovers(p, migration, silent, owner="test")
    assert count(p, "Product-pooled", tenant) == 30


def test_an_abort_before_anything_was_made_removes_nothing(p, tenant):
    seeded(p.clients, (tenant, "Basic"), items=20)
    planned_as_it_is(p, tenant, migration_id=f"m-{tenant}")
    p.clients.dynamodb.put_item(
        TableName=STACKS, Item={"tenantId": {"S": tenant}, "stackName": {"S": f"stack-{tenant}"}}
    )
    migration = archived_now(p, p.store.transition(p.store.load(f"m-{tenant}"), State.ABORTED, by="test"))
    assert remove_leftovers(p, migration, silent, owner="test") == {"outcome": "ABORTED", "side": "target"}
    assert mapping(p, tenant)


def test_between_two_pooled_tiers_there_is_nothing_to_remove(p, tenant):
    seeded(p.clients, (tenant, "Basic"), items=20)
    planned_as_it_is(p, tenant, "Premium", migration_id=f"m-{tenant}")
    routed(p, tenant, "Premium")
    migration = archived(p, p.store.load(f"m-{tenant}"), State.COMPLETE)
    assert remove_leftovers(p, migration, silent, owner="test") == {"outcome": "COMPLETE", "side": "source"}
    assert sum(count(p, name, tenant) for name in names("pooled")) == 20


def test_a_stream_that_another_migration_needs_stays(p, tenant):
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    put_tenant(p.clients, f"{tenant}-b", "Basic")
    other = planned(p, f"{tenant}-b", migration_id=f"m-{tenant}-b")
    remove_leftovers(p, migration, silent, owner="test")
    assert stream(p, "Product-pooled")
    # the last one switches it off, although it did not switch it on
    late = archived(p, other, State.ABORTED)
    assert set(disable_streams(p, late, silent)) == set(names("pooled"))
    assert not stream(p, "Product-pooled")


def test_a_stream_that_another_clean_up_switches_off_first_is_off(p, tenant, monkeypatch):
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    update = p.clients.dynamodb.update_table

    def beaten(**request):
        update(**request)
        return update(**request)

    monkeypatch.setattr(p.clients.dynamodb, "update_table", beaten)

    assert disable_streams(p, migration, silent) == []
    assert not stream(p, "Product-pooled")


def test_a_stream_that_can_not_be_switched_off_is_told(p, tenant, monkeypatch):
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)

    def busy(**request):
        raise ClientError({"Error": {"Code": "ResourceInUseException", "Message": "being updated"}}, "UpdateTable")

    monkeypatch.setattr(p.clients.dynamodb, "update_table", busy)

    with pytest.raises(ClientError):
        disable_streams(p, migration, silent)
    assert stream(p, "Product-pooled")


def test_the_applications_own_stream_stays(p, tenant):
    switch_on(p, "Product-pooled")
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    assert MADE_NOTE in migration.notes
    assert "Product-pooled" not in remove_leftovers(p, migration, silent, owner="test")["streams"]
    assert stream(p, "Product-pooled")
    assert not stream(p, "Order-pooled")


def switch_on(p, name):
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    p.clients.dynamodb.update_table(TableName=name, StreamSpecification=specification)


def test_a_stream_that_the_application_has_switched_on_since_stays(p, tenant):
    """A migration made one before; it is off by now, and this is another."""
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    remove_leftovers(p, migration, silent, owner="test")
    time.sleep(1.1)  # a stream's name is its time, in seconds
    switch_on(p, "Product-pooled")
    assert disable_streams(p, migration, silent) == []
    assert stream(p, "Product-pooled")


def test_a_stream_that_a_killed_try_has_switched_on_is_told_by_its_time(p, tenant):
    """The try died before it could note which stream that is."""
    put_tenant(p.clients, tenant, "Basic")
    migration = planned(p, tenant, migration_id=f"m-{tenant}")
    about_to_enable(p, migration)
    arm(p, "Product-pooled")
    about_to_enable(p, migration)
    assert p.store.load(migration.migration_id).notes[MADE_NOTE] == {
        "Order-pooled": "",
        "Product-pooled": "",
        f"Order-{tenant}": "",
        f"Product-{tenant}": "",
    }
    migration = archived(p, migration, State.ABORTED)
    later = dataclasses.replace(migration, moments={name: at + 60_000 for name, at in migration.moments.items()})
    assert not any(stream_switch._during(p, later, arn) for arn in [arm(p, "Product-pooled").stream])
    assert disable_streams(p, migration, silent) == ["Product-pooled"]


def test_two_clean_ups_never_delete_at_once(p, tenant, monkeypatch):
    """The second begins when the first is thought dead; the first wakes up and deletes nothing more."""
    migration = over(p, tenant, State.COMPLETE)
    put(p, "Order-pooled", tenant, each=30)
    transact, calls = clean_up.transact, []
    much_later = dataclasses.replace(p, clock=lambda: time.time() + 3600)

    def overtaken(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            much_later.turns.take(migration.migration_id, clean_up.TURN, "the second")
        return transact(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(clean_up, "transact", overtaken)
        with pytest.raises(MigrationConflict, match="or whose turn it is changed; 97 were deleted"):
            remove_items(p, migration, names("pooled"), silent, owner="the first")
    assert count(p, "Order-pooled", tenant) == 300 - 97
    with pytest.raises(TurnTaken, match="expected nobody at clean_up, found the second"):
        remove_leftovers(p, migration, silent, owner="the first")
    assert count(p, "Order-pooled", tenant) == 300 - 97


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            lambda p, tenant: p.turns.take(f"m-{tenant}", clean_up.TURN, "another", always=True),
            TurnLost,
            "somebody else",
        ),
        (lambda p, tenant: routed(p, tenant, "Platinum"), MigrationConflict, "expected it to be served from Basic"),
    ],
)
def test_what_changes_before_the_stack_is_deleted_keeps_it(p, tenant, monkeypatch, changed, error, message):
    migration = whole(p, tenant, "Basic", "Platinum", State.ABORTED)
    let_end = resources._let_end

    def changing(*args):
        changed(p, tenant)
        return let_end(*args)

    monkeypatch.setattr(resources, "_let_end", changing)
    with pytest.raises(error, match=message):
        remove_leftovers(p, migration, silent, owner="test")
    assert set(names(tenant)) <= set(tables(p))
    assert p.clients.cloudformation.describe_stacks(StackName=f"stack-{tenant}")["Stacks"]


def test_users_that_a_rollback_could_not_bring_back_are_brought_back_before_their_pool_goes(p, tenant):
    migration = whole(p, tenant, "Basic", "Platinum", State.ROLLED_BACK)
    made_pool, pooled = migration.notes["identity"]["user_pool_id"], migration.notes["source"]["user_pool_id"]
    attributes = [{"Name": "custom:tenantId", "Value": tenant}]
    add = p.clients.cognito.admin_create_user
    add(UserPoolId=made_pool, Username=f"{tenant}-new", UserAttributes=attributes, MessageAction="SUPPRESS")
    role = {"settingName": {"S": IMPORT_ROLE}}
    row = p.clients.dynamodb.get_item(TableName=SETTINGS, Key=role)["Item"]
    p.clients.dynamodb.delete_item(TableName=SETTINGS, Key=role)
    with pytest.raises(IdentityIncomplete, match=f"expected the setting {IMPORT_ROLE}"):
        remove_leftovers(p, migration, silent, owner="test")
    assert f"{tenant}-new" in users_of(p, made_pool, tenant)
    p.clients.dynamodb.put_item(TableName=SETTINGS, Item=row)
    assert remove_leftovers(p, migration, silent, owner="test")["returned"] == 1
    assert f"{tenant}-new" in users_of(p, pooled, tenant)
    assert made_pool not in pool_ids(p)
    assert remove_leftovers(p, migration, silent, owner="test")["returned"] == 0


def test_the_deletion_is_signed_also_when_the_task_died_right_after_it(p, tenant, monkeypatch):
    migration = whole(p, tenant, "Basic", "Platinum", State.COMPLETE)
    approval = {"approved": True, "by": "ann", "why": "nobody needs it", "at": 1}

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "archive_deletion", killed)
        with pytest.raises(Killed):
            steps.clean_up(p, migration.migration_id, owner="test", say=silent, approval=approval)
    assert p.store.current(tenant) is None
    assert "deletion_evidence" not in p.store.load(migration.migration_id).notes
    steps.clean_up(p, migration.migration_id, owner="test", say=silent, approval=approval)
    found = p.store.load(migration.migration_id).notes["deletion_evidence"]
    assert found["uri"].endswith(f"tenants/{tenant}/{migration.migration_id}/deletion/manifest.json")
