"""Turns: one at a time, a token that a late writer's transaction fails by, a checkpoint that a retry goes on from."""

from __future__ import annotations

import pytest

from include.tenants.exceptions import TurnLost, TurnTaken
from include.tenants.saas import FENCES, PARTITION_KEY
from include.tenants.transactions import ConditionFailed, transact
from include.tenants.turns import Turns


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def turns(saas, clock):
    return Turns(saas.dynamodb, clock)


def write(saas, turns, turn):
    put = {"Put": {"TableName": FENCES, "Item": {PARTITION_KEY: {"S": "x"}, "by": {"S": turn.owner}}}}
    transact(saas.dynamodb, [put, turns.check(turn)])


def test_somebody_else_waits_until_it_is_given_back(turns):
    turn = turns.take("m1", "copy#1", "a")
    with pytest.raises(TurnTaken, match="expected nobody at copy#1, found a"):
        turns.take("m1", "copy#1", "b")
    turns.give_back(turn)
    assert turns.take("m1", "copy#1", "b").token == turn.token + 1


def test_somebody_else_waits_until_its_time_is_over(turns, clock):
    turns.take("m1", "copy#1", "a", seconds=30)
    clock.now += 29
    with pytest.raises(TurnTaken):
        turns.take("m1", "copy#1", "b")
    clock.now += 2
    assert turns.take("m1", "copy#1", "b").owner == "b"


def test_a_retry_of_the_same_owner_begins_at_once_where_the_last_try_was(turns):
    first = turns.take("m1", "copy#1", "a")
    turns.save(first, {"page": 7})
    again = turns.take("m1", "copy#1", "a")
    assert again.checkpoint == {"page": 7}
    assert again.token == first.token + 1
    with pytest.raises(TurnLost, match="expected a to be still at copy#1"):
        turns.save(first, {"page": 8})
    assert turns.read("m1", "copy#1").checkpoint == {"page": 7}


def test_a_write_of_somebody_who_has_lost_the_turn_does_not_happen(turns, saas):
    late = turns.take("m1", "replay", "a")
    write(saas, turns, late)
    now = turns.take("m1", "replay", "b", always=True)
    with pytest.raises(ConditionFailed) as caught:
        write(saas, turns, late)
    assert caught.value.elements == (1,)
    write(saas, turns, now)
    assert saas.dynamodb.get_item(TableName=FENCES, Key={PARTITION_KEY: {"S": "x"}})["Item"]["by"] == {"S": "b"}


def test_saving_keeps_the_turn(turns, clock):
    turn = turns.take("m1", "replay", "a", seconds=30)
    clock.now += 29
    turns.save(turn, {}, seconds=30)
    clock.now += 29
    with pytest.raises(TurnTaken):
        turns.take("m1", "replay", "b")


def test_work_that_is_over_ends_who_is_at_it_and_nobody_gets_it_again(turns, saas, clock):
    turn = turns.take("m1", "replay", "a")
    transact(saas.dynamodb, [turns.retire("m1", "replay")])
    with pytest.raises(TurnLost):
        turns.save(turn, {})
    clock.now += 10**6
    with pytest.raises(TurnLost):
        turns.take("m1", "replay", "a")


def test_work_that_is_over_is_not_even_taken_by_who_takes_it_always(turns, saas):
    """A try that was thought dead wakes up after the switch."""
    transact(saas.dynamodb, [turns.retire("m1", "replay")])
    with pytest.raises(TurnLost, match="replay is over"):
        turns.take("m1", "replay", "a", always=True)


def test_work_is_over_only_if_nobody_else_was_at_it_since(turns, saas):
    turn = turns.take("m1", "replay", "a")
    turns.take("m1", "replay", "b", always=True)
    with pytest.raises(ConditionFailed):
        transact(saas.dynamodb, [turns.retire("m1", "replay", turn)])


def test_work_that_never_began_can_be_over(turns, saas):
    transact(saas.dynamodb, [turns.retire("m1", "replay")])
    with pytest.raises(TurnLost):
        turns.take("m1", "replay", "a")


def test_turns_are_listed_by_name(turns):
    for name in ("copy#2", "replay", "copy#1"):
        turns.take("m1", name, "a")
    turns.take("m2", "copy#1", "a")
    assert [turn.name for turn in turns.all("m1", "copy#")] == ["copy#1", "copy#2"]
