"""Draining: complete means that all written before the markers has arrived; what comes after them is told of and arrives too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.local.aws.controls import Controls
from include.tenants.changes import Direction, replay
from include.tenants.draining import drain, put_markers, remove_markers
from include.tenants.items import digest
from include.tenants.keys import MARKER, shard_ids
from tests.include.tenants.moving import begin, everything, product, put
from tests.include.tenants.test_changes import SOURCE, TARGET, armed, of_tenant, with_busy_others


@pytest.fixture
def controls(aws):
    controls = Controls(aws)
    yield controls
    controls.reset()


@pytest.fixture
def p(portability):
    return portability


@pytest.fixture
def migration(p):
    return armed(p, begin(p))


def run(p, migration, direction=Direction.FORWARD, *, seconds=30.0, **given):
    return drain(p, migration, direction, owner="task", deadline=p.clock() + seconds, say=lambda text: None, **given)


def run_to_the_end_of_its_time(p, migration, **given):
    """By a clock that only its pauses move on, so that everything that is there was read, however slow the machine is."""
    began, paused = p.clock(), []
    return run(replace(p, clock=lambda: began + sum(paused), sleep=paused.append), migration, seconds=0.3, **given)


def markers(p, table_name):
    return {key for key in everything(p, table_name) if key[1].startswith(MARKER)}


def test_each_partition_of_each_table_gets_one_marker_however_often(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    put_markers(p, migration, Direction.FORWARD)

    expected = {(shard_id, f"{MARKER}m-1#forward#0") for shard_id in shard_ids("acme")}
    assert markers(p, SOURCE) == markers(p, "Order-pooled") == expected
    assert markers(p, TARGET) == set()


def test_a_drain_is_complete_when_all_before_the_markers_has_arrived(p, migration, controls):
    controls.stream(SOURCE, empty_every=2, records_per_page=3)
    put(p, SOURCE, *(product(shard_id, f"{number}") for shard_id in shard_ids("acme") for number in range(3)))
    controls.split(SOURCE)
    put_markers(p, migration, Direction.FORWARD)
    controls.split(SOURCE)

    figures = run(p, migration)

    assert (figures.complete, figures.markers_seen, figures.records, figures.stragglers) == (True, 20, 30, 0)
    assert everything(p, TARGET) == {
        key: item for key, item in everything(p, SOURCE).items() if not key[1].startswith(MARKER)
    }


def test_records_that_are_late_are_waited_for(p, migration, controls):
    controls.stream(SOURCE, lag_seconds=1.0)
    put(p, SOURCE, product("acme-4", "late"))
    put_markers(p, migration, Direction.FORWARD)

    figures = run(p, migration)

    assert figures.complete
    assert ("acme-4", "late") in everything(p, TARGET)


def test_every_shard_is_read_to_its_tip_after_the_last_marker_too(p, migration, controls):
    controls.stream(
        "Order-pooled", lag_seconds=1.0
    )  # its markers come last, when the other table has long been at its tip
    put_markers(p, migration, Direction.FORWARD)
    late = product("acme-4", "late", name={"S": "out of order"})

    class Streams:
        def __getattr__(self, name):
            return getattr(p.clients.streams, name)

        def get_records(self, **arguments):
            page = p.clients.streams.get_records(**arguments)
            if page["Records"] and "Order-pooled" in arguments["ShardIterator"]:
                put(p, SOURCE, late)
            return page

    class Clients:
        dynamodb, streams = p.clients.dynamodb, Streams()

    figures = run(replace(p, clients=Clients()), migration)

    assert figures.complete
    assert everything(p, TARGET) == {("acme-4", "late"): late}


def test_a_pooled_table_that_others_write_to_all_the_time_drains(p, migration):
    put(p, SOURCE, product("acme-4", "before the fence"))
    put_markers(p, migration, Direction.FORWARD)

    figures = run(with_busy_others(p), migration)

    assert (figures.complete, figures.markers_seen, figures.records, figures.stragglers) == (True, 20, 1, 0)
    assert list(everything(p, TARGET)) == [("acme-4", "before the fence")]


def test_a_shard_is_read_on_after_the_last_marker_also_where_others_write_all_the_time(p, migration, controls):
    controls.stream(SOURCE, records_per_page=4)  # a page of others' changes comes before the late one
    put_markers(p, migration, Direction.FORWARD)
    put(p, SOURCE, *(product("other-1", f"{number}") for number in range(10)))
    late = product("acme-4", "late", name={"S": "out of order"})
    put(p, SOURCE, late)

    figures = run(with_busy_others(p), migration)

    assert figures.complete
    assert everything(p, TARGET) == {("acme-4", "late"): late}


def test_a_drain_that_is_over_time_says_so_and_can_be_gone_on_with(p, migration, controls):
    controls.stream(SOURCE, lag_seconds=3600)
    put(p, SOURCE, product("acme-4", "late"))
    put_markers(p, migration, Direction.FORWARD)

    figures = run_to_the_end_of_its_time(p, migration)
    assert (figures.complete, figures.markers_seen) == (False, 10)  # those of the other table

    controls.stream(SOURCE, lag_seconds=0)
    figures = run(p, migration)
    assert (figures.complete, figures.markers_seen) == (True, 20)
    assert ("acme-4", "late") in everything(p, TARGET)


def test_without_markers_a_drain_is_never_complete(p, migration):
    figures = run_to_the_end_of_its_time(p, migration)

    assert (figures.complete, figures.markers_seen) == (False, 0)


def test_markers_of_another_cutover_do_not_count(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    put_markers(p, replace(migration, epoch=5), Direction.REVERSE)

    assert run_to_the_end_of_its_time(p, replace(migration, epoch=6)).markers_seen == 0


def test_markers_of_an_earlier_try_do_not_count_also_when_they_were_seen_then(p, migration):
    put_markers(p, migration, Direction.FORWARD, mark="1")
    assert run(p, migration, mark="1").markers_seen == 20
    put(p, SOURCE, product("acme-4", "between the tries"))

    before = run_to_the_end_of_its_time(p, migration, mark="2")
    put_markers(p, migration, Direction.FORWARD, mark="2")
    after = run(p, migration, mark="2")

    assert (before.complete, before.markers_seen, before.stragglers) == (False, 0, 0)
    assert (after.complete, after.markers_seen) == (True, 20)


def test_a_write_past_the_fence_is_told_of_and_arrives(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    late = product("acme-4", "rogue", name={"S": "past the fence"})
    put(p, SOURCE, late, product("acme-22-1", "another's"))

    figures = run(p, migration)

    assert figures.complete
    assert figures.stragglers == 1
    (aside,) = figures.aside
    assert (aside["table"], aside["shard_id"], aside["sort"]) == (SOURCE, "acme-4", "rogue")
    assert aside["digest"] == digest(late).hex()
    assert everything(p, TARGET) == {("acme-4", "rogue"): late}


def test_a_drain_takes_the_turn_from_a_replay(p, migration):
    p.turns.take(migration.migration_id, "replay#forward", "another task")
    put_markers(p, migration, Direction.FORWARD)

    assert run(p, migration).complete


def test_markers_that_a_replay_has_seen_already_count(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    replay(p, migration, Direction.FORWARD, owner="task", seconds=30, say=lambda text: None)

    figures = run(p, migration)

    assert (figures.complete, figures.markers_seen) == (True, 20)


def test_a_drain_in_reverse_reads_the_target(p, migration):
    migration = armed(p, migration, "reverse_from")
    put(p, TARGET, product("acme-4", "since the switch"))
    put_markers(p, migration, Direction.REVERSE)

    assert run(p, migration, Direction.REVERSE).complete
    assert of_tenant(p, SOURCE) == {
        key: value for key, value in of_tenant(p, TARGET).items() if not key[1].startswith(MARKER)
    }
    assert markers(p, TARGET)


def test_all_markers_of_the_migration_are_removed_from_both_sides_and_nothing_else(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    put_markers(p, replace(migration, epoch=4), Direction.FORWARD)
    put_markers(p, replace(migration, epoch=4), Direction.REVERSE)
    others = [
        product("acme-1", "mine"),
        product("acme-1", f"{MARKER}m-12#forward#1"),
        product("other-1", f"{MARKER}m-1#forward#0"),
    ]
    put(p, SOURCE, *others)

    remove_markers(p, migration)
    remove_markers(p, migration)

    assert list(everything(p, TARGET).values()) == []
    assert sorted(everything(p, SOURCE)) == sorted((item["shardId"]["S"], item["productId"]["S"]) for item in others)
    assert everything(p, "Order-pooled") == everything(p, "Order-acme") == {}


def test_markers_of_a_table_that_is_gone_are_gone(p, migration):
    put_markers(p, migration, Direction.FORWARD)
    p.clients.dynamodb.delete_table(TableName=TARGET)

    remove_markers(p, migration)

    assert markers(p, SOURCE) == set()
