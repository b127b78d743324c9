"""The record of migrations: one per tenant, conditional transitions, an audit trail that shows what was altered."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from include.tenants.exceptions import MigrationConflict, MigrationUnknown, TenantBusy
from include.tenants.saas import FENCES, MIGRATIONS, PARTITION_KEY
from include.tenants.states import FOLLOWING, OUTCOMES, State, reached
from include.tenants.store import MigrationStore, altered, broken_at

REQUEST = {"tenant_id": "acme", "target_tier": "Platinum"}


@pytest.fixture
def store(saas) -> MigrationStore:
    return MigrationStore(saas.dynamodb, clock=lambda: 1000.5)


def plan(store, migration_id="m1", tenant_id="acme", **notes):
    return store.plan(migration_id, tenant_id, REQUEST | {"tenant_id": tenant_id}, notes, by="ann", why="more room")


def walk(store, migration, *states):
    for state in states:
        migration = store.transition(migration, state, by="task")
    return migration


def test_a_planned_migration_is_read_back_with_what_was_noted(store):
    planned = plan(store, tables=[{"source": "Product-pooled"}])
    assert store.load("m1") == planned
    assert planned.state is State.PLANNED
    assert planned.notes == {"tables": [{"source": "Product-pooled"}]}
    assert planned.moments == {"PLANNED": 1000500}
    assert planned.request["target_tier"] == "Platinum"


def test_planned_again_by_a_retry_it_is_the_same_migration(store):
    walk(store, plan(store), State.PREFLIGHT)
    assert plan(store).state is State.PREFLIGHT


def test_an_id_can_not_be_used_for_something_else(store):
    plan(store)
    with pytest.raises(MigrationConflict, match="expected migration m1 to be new, found one of tenant acme"):
        plan(store, tenant_id="other")
    assert store.current("other") is None


def test_a_tenant_is_in_one_migration_at_a_time(store):
    walk(store, plan(store), State.PREFLIGHT)
    with pytest.raises(
        TenantBusy, match="in no migration, found it in m1, which is PREFLIGHT; let it end, or roll it back"
    ):
        plan(store, "m2")
    with pytest.raises(MigrationUnknown):
        store.load("m2")
    assert plan(store, "m3", "acme-2").tenant_id == "acme-2"


def test_of_many_that_plan_at_once_one_gets_the_tenant(store):
    outcomes = []

    def attempt(number):
        try:
            outcomes.append(plan(store, f"m{number}").migration_id)
        except TenantBusy:
            outcomes.append(None)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [each for each in outcomes if each]
    assert len(outcomes) == 8
    assert store.current("acme").migration_id == winner


def test_the_tenant_is_free_again_only_when_everything_is_cleaned_up(store):
    migration = walk(store, plan(store), State.ABORTED, State.ARCHIVED)
    with pytest.raises(TenantBusy, match="which is ARCHIVED; let it clean up"):
        plan(store, "m2")
    walk(store, migration, State.CLEANED)
    assert store.current("acme") is None
    assert plan(store, "m2").migration_id == "m2"


def test_a_transition_that_may_not_follow_is_refused(store):
    with pytest.raises(MigrationConflict, match="expected ABORTED, PREFLIGHT after PLANNED, found SWITCHED"):
        store.transition(plan(store), State.SWITCHED, by="task")


def test_of_two_that_move_it_on_one_is_refused(store):
    planned = plan(store)
    store.transition(planned, State.PREFLIGHT, {"who": "first"}, by="one")
    with pytest.raises(
        MigrationConflict, match=r"expected PLANNED \(epoch 0\) to become ABORTED, found PREFLIGHT \(epoch 1\)"
    ):
        store.transition(planned, State.ABORTED, {"who": "second"}, by="two")
    assert store.load("m1").notes == {"who": "first"}


def test_a_transition_whose_answer_was_lost_may_be_made_again(store):
    planned = plan(store)
    first = store.transition(planned, State.PREFLIGHT, {"found": 1}, by="task")
    assert store.transition(planned, State.PREFLIGHT, {"found": 1}, by="task") == first
    assert len(store.events("m1")) == 2


def test_what_stands_beside_a_transition_happens_with_it_or_not_at_all(store, saas):
    planned = plan(store)
    put = {"Put": {"TableName": FENCES, "Item": {PARTITION_KEY: {"S": "acme-1"}}}}
    check = {
        "ConditionCheck": {
            "TableName": FENCES,
            "Key": {PARTITION_KEY: {"S": "acme-2"}},
            "ConditionExpression": f"attribute_exists({PARTITION_KEY})",
        }
    }
    with pytest.raises(MigrationConflict, match=r"the conditions of the writes \[1\] beside it do not hold"):
        store.transition(planned, State.PREFLIGHT, by="task", beside=[put, check])
    assert store.load("m1") == planned
    assert "Item" not in saas.dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": "acme-1"}})
    store.transition(planned, State.PREFLIGHT, by="task", beside=[put])
    assert "Item" in saas.dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": "acme-1"}})


def test_notes_are_replaced_by_name_and_need_a_migration(store):
    plan(store, one=1)
    store.note("m1", {"one": 2, "two": ["x"]})
    assert store.load("m1").notes == {"one": 2, "two": ["x"]}
    with pytest.raises(MigrationUnknown, match="expected a migration 'm9'"):
        store.note("m9", {"one": 1})


def test_the_audit_trail_says_who_did_what_and_why(store):
    walk(store, plan(store), State.PREFLIGHT)
    store.transition(store.load("m1"), State.ABORTED, by="bea", why="not today")
    events = store.events("m1")
    assert [(each.before, each.after, each.by, each.why) for each in events] == [
        ("", "PLANNED", "ann", "more room"),
        ("PLANNED", "PREFLIGHT", "task", ""),
        ("PREFLIGHT", "ABORTED", "bea", "not today"),
    ]
    assert broken_at(events) is None
    assert store.load("m1").head == events[-1].digest


def test_what_is_noted_between_transitions_is_in_the_trail_too(store):
    walk(store, plan(store, one=1), State.PREFLIGHT)
    store.note("m1", {"two": ("a", 2.5), "one": 3})
    migration = store.transition(store.load("m1"), State.PROVISIONED, {"three": {"x": None}}, by="task")
    events = store.events("m1")
    assert [(each.number, each.epoch, each.after, each.moves, sorted(each.notes)) for each in events] == [
        (0, 0, "PLANNED", True, ["one", "request"]),
        (1, 1, "PREFLIGHT", True, []),
        (2, 1, "PREFLIGHT", False, ["one", "two"]),
        (3, 2, "PROVISIONED", True, ["three"]),
    ]
    assert (broken_at(events), altered(migration, events)) == (None, [])
    assert store.record("m1") == (migration, events)
    assert sorted(migration.moments) == ["PLANNED", "PREFLIGHT", "PROVISIONED"]


def test_a_note_that_comes_between_a_read_and_a_transition_hinders_neither(store):
    planned = plan(store, one=1)
    store.note("m1", {"two": 2})
    moved = store.transition(planned, State.PREFLIGHT, {"three": 3}, by="task")
    assert moved.notes == {"one": 1, "two": 2, "three": 3}
    # its answer is lost, and so it is made once more, from what was read before
    assert store.transition(planned, State.PREFLIGHT, {"three": 3}, by="task") == moved
    with pytest.raises(MigrationConflict, match="another step has moved it on"):
        store.transition(planned, State.PREFLIGHT, {"three": 4}, by="task")
    assert broken_at(store.events("m1")) is None


def test_of_many_notes_at_once_none_is_lost(store):
    plan(store)
    threads = [threading.Thread(target=store.note, args=("m1", {f"note{number}": number})) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    migration, events = store.record("m1")
    assert migration.notes == {f"note{number}": number for number in range(6)}
    assert (len(events), broken_at(events), altered(migration, events)) == (7, None, [])


def test_a_note_after_which_somebody_has_put_an_event_of_his_own_is_refused(store, saas):
    plan(store)
    forged = {"migrationId": {"S": "m1"}, "row": {"S": "event#000001"}}
    saas.dynamodb.put_item(TableName=MIGRATIONS, Item=forged)
    with pytest.raises(MigrationConflict, match="expected no event 1 in its audit trail yet, found one"):
        store.note("m1", {"one": 1})


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (["notes", "approval"], '{"by": "somebody else"}', ["approval"]),
        (["notes", "another"], "1", ["another"]),
        (["request"], '{"target_tier": "Basic"}', ["request"]),
    ],
)
def test_a_note_that_was_altered_in_the_table_shows(store, saas, path, value, found):
    plan(store, approval={"by": "ann"})
    saas.dynamodb.update_item(
        TableName=MIGRATIONS,
        Key={"migrationId": {"S": "m1"}, "row": {"S": "migration"}},
        UpdateExpression=f"SET {'.'.join(f'#{name}' for name in path)} = :value",
        ExpressionAttributeNames={f"#{name}": name for name in path},
        ExpressionAttributeValues={":value": {"S": value}},
    )
    assert altered(*store.record("m1")) == found


@pytest.mark.parametrize(
    ("tamper", "at"),
    [
        (lambda events: [events[0], replace(events[1], by="somebody else"), *events[2:]], 1),
        (lambda events: [events[0], *events[2:]], 2),
        (lambda events: [replace(events[0], why=""), *events[1:]], 0),
        (lambda events: events[1:], 1),
    ],
)
def test_an_event_that_was_altered_or_left_out_shows(store, tamper, at):
    walk(store, plan(store), State.PREFLIGHT, State.PROVISIONED, State.STREAM_ARMED)
    assert broken_at(tamper(store.events("m1"))) == at


def test_all_migrations_are_listed_the_newest_first(saas):
    for second, name in enumerate(["old", "new"]):
        MigrationStore(saas.dynamodb, clock=lambda second=second: second).plan(name, f"t{second}", {}, {}, by="x")
    assert [each.migration_id for each in MigrationStore(saas.dynamodb).all()] == ["new", "old"]


def test_every_state_leads_to_an_end_and_no_switched_tenant_is_merely_aborted():
    def ends(state, seen=()):
        return state is State.CLEANED or any(ends(each, (*seen, each)) for each in FOLLOWING[state] - set(seen))

    assert all(ends(state) for state in State)
    for state in State:
        if reached(state, State.SWITCHED) or state in OUTCOMES:
            assert State.ABORTED not in FOLLOWING[state]


def test_the_table_holds_no_row_of_another_kind(store, saas):
    walk(store, plan(store), State.PREFLIGHT)
    rows = saas.dynamodb.scan(TableName=MIGRATIONS)["Items"]
    assert sorted(row["row"]["S"] for row in rows) == ["event#000000", "event#000001", "lock", "migration"]
