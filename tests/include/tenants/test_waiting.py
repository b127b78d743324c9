"""Where the triggerer looks for the next change: behind what was replayed, on every shard that may still grow."""

from __future__ import annotations

import json

import pytest

from include.local.aws.controls import Controls
from include.tenants.changes import Direction, replay
from include.tenants.states import State
from include.tenants.streams import arm
from include.tenants.waiting import open_shards
from tests.include.tenants.histories import silent
from tests.include.tenants.moving import begin, product, put


@pytest.fixture
def p(portability):
    return portability


@pytest.fixture
def migration(p):
    """One that is catching up, with armed streams."""
    made = begin(p)
    armed = {table["source"]: arm(p, table["source"]).to_json() for table in made.notes["tables"]}
    for state in (State.PREFLIGHT, State.PROVISIONED, State.STREAM_ARMED, State.COPYING, State.CATCHING_UP):
        notes = {"armed": armed} if state is State.STREAM_ARMED else {}
        made = p.store.transition(made, state, notes, by="test")
    return made


def replayed(p, migration):
    return replay(p, migration, Direction.FORWARD, owner="test", seconds=20, say=silent)


def where(shards):
    return {(shard["stream"].split("/")[1], shard["after"]) for shard in shards}


def test_before_anything_was_replayed_there_is_nowhere_to_look(p, migration):
    assert open_shards(p, migration, Direction.FORWARD) == []


def test_it_looks_behind_the_last_change_of_each_table(p, migration):
    put(p, "Product-pooled", product("acme-1", "1"))
    replayed(p, migration)
    first = open_shards(p, migration, Direction.FORWARD)
    assert {name for name, _ in where(first)} == {"Product-pooled", "Order-pooled"}
    assert {name for name, after in where(first) if after} == {"Product-pooled"}  # of orders it begins with the oldest
    put(p, "Product-pooled", product("acme-1", "2"))
    replayed(p, migration)
    assert where(open_shards(p, migration, Direction.FORWARD)) > {("Order-pooled", None)}
    assert where(open_shards(p, migration, Direction.FORWARD)) != where(first)
    json.dumps(first)  # a trigger's arguments


def test_a_shard_that_was_read_to_its_end_is_left_out_and_its_children_are_looked_at(p, migration, aws):
    put(p, "Product-pooled", product("acme-1", "1"))
    replayed(p, migration)
    [before] = [each for each in open_shards(p, migration, Direction.FORWARD) if "Product-pooled" in each["stream"]]
    children = Controls(aws).split("Product-pooled")
    put(p, "Product-pooled", product("acme-1", "2"))
    replayed(p, migration)
    after = {
        each["shard"] for each in open_shards(p, migration, Direction.FORWARD) if "Product-pooled" in each["stream"]
    }
    assert before["shard"] not in after
    assert after == set(children)


def test_each_direction_has_its_own(p, migration):
    put(p, "Product-pooled", product("acme-1", "1"))
    replayed(p, migration)
    assert open_shards(p, migration, Direction.REVERSE) == []
