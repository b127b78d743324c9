"""What the triggerer runs: waiting for health, and turning moves of the checkpoint into events."""

import asyncio
import itertools
import json
import os
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from airflow.triggers.base import BaseEventTrigger

from data_platform.zero_etl.hook import ZeroEtlHook
from data_platform.zero_etl.triggers import CURSOR_KEY, ZeroEtlCheckpointTrigger, ZeroEtlHealthTrigger
from tests.plugins.zero_etl.fake_aws import CHECKPOINT, CONN_ID, healthy, serve, table_row


class Store:
    """The part of Airflow's asset state store that a trigger uses; values survive as JSON."""

    def __init__(self):
        self.values = {}

    def get(self, key, default=None):
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key, value):
        self.values[key] = json.dumps(value)


class BrokenStore:
    def get(self, key, default=None):
        raise RuntimeError("store is down")

    def set(self, key, value):
        raise RuntimeError("store is down")


def health_trigger(*, seconds=30.0, **changes):
    now = datetime.now(UTC)
    arguments = {
        "zero_etl_conn_id": CONN_ID,
        "required_tables": ["demodb.sales"],
        "history_tables": [],
        "lag_limit_seconds": 60.0,
        "poll_seconds": 0.1,
        "started": now.isoformat(),
        "deadline": (now + timedelta(seconds=seconds)).isoformat(),
    }
    return ZeroEtlHealthTrigger(**{**arguments, **changes})


async def events_of(trigger):
    return [event.payload async for event in trigger.run()]


async def first_event(trigger):
    return (await anext(trigger.run())).payload


@asynccontextmanager
async def running(trigger):
    """Drive an endless trigger as the triggerer does; yields the list its events go to."""
    events = []

    async def drive():
        async for event in trigger.run():
            events.append((time.monotonic(), event.payload))

    task = asyncio.create_task(drive())
    try:
        yield events
    finally:
        assert not task.done(), "an event trigger must never return or raise"
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.02)


def move(aws, number):
    aws.integration()["last_replicated_checkpoint"] = f"c{number}"


def checkpoints(events):
    return [payload["checkpoint"] for _, payload in events]


# --- waiting for health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [health_trigger(), ZeroEtlCheckpointTrigger(zero_etl_conn_id=CONN_ID, poll_seconds=2, min_interval_seconds=15)],
)
def test_trigger_can_be_made_again_from_what_it_serializes(trigger):
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == trigger.serialize()


def test_health_trigger_passes_once_the_table_is_synced(aws):
    aws.tables[1]["table_state"] = "ResyncInitiated"

    async def scenario():
        waiting = asyncio.create_task(events_of(health_trigger()))
        await until(lambda: len(aws.calls("DescribeIntegrations")) >= 2)
        assert not waiting.done()
        aws.tables[1]["table_state"] = "Synced"
        return await waiting

    (event,) = asyncio.run(scenario())
    assert event["verdict"]["outcome"] == "pass"
    assert "demodb.sales" in event["overview"]
    assert event["late"] is False


def test_health_trigger_fails_at_once_when_a_table_fails(aws):
    aws.tables[1] = table_row("sales", "Failed", reason="no primary key")
    (event,) = asyncio.run(events_of(health_trigger()))
    assert event["verdict"]["outcome"] == "fail"
    assert "no primary key" in event["verdict"]["reason"]


def test_health_trigger_ends_at_the_deadline_with_what_was_in_the_way(aws):
    aws.tables[1]["table_state"] = "ResyncRequired"
    (event,) = asyncio.run(events_of(health_trigger(seconds=0.5)))
    assert event["late"] is True
    assert event["verdict"]["outcome"] == "fail"
    assert "ResyncRequired" in event["verdict"]["reason"]


def test_health_trigger_started_again_after_the_deadline_looks_once_more(aws):
    (event,) = asyncio.run(events_of(health_trigger(seconds=-60)))
    assert event["verdict"]["outcome"] == "pass"


def test_health_trigger_waits_while_the_api_is_down_and_passes_when_it_is_up(aws):
    aws.statement_error = "ERROR: cluster is resuming"

    async def scenario():
        waiting = asyncio.create_task(events_of(health_trigger()))
        await until(lambda: len(aws.calls("ExecuteStatement")) >= 2)
        assert not waiting.done()
        aws.statement_error = None
        return await waiting

    (event,) = asyncio.run(scenario())
    assert event["verdict"]["outcome"] == "pass"


def test_health_trigger_tells_the_last_error_when_the_api_stays_down(aws):
    aws.statement_error = "ERROR: cluster is resuming"
    (event,) = asyncio.run(events_of(health_trigger(seconds=0.3)))
    assert event["late"] is True
    assert "cluster is resuming" in event["verdict"]["reason"]


def test_health_trigger_gives_up_at_once_when_access_is_denied(aws):
    aws.faults.append((400, "AccessDeniedException"))
    (event,) = asyncio.run(events_of(health_trigger()))
    assert event["error"] == "ZeroEtlAccessDenied"


# --- moves of the checkpoint -------------------------------------------------------------------------------------------------


def checkpoint_trigger(store=None, *, poll=0.05, interval=0.6):
    trigger = ZeroEtlCheckpointTrigger(zero_etl_conn_id=CONN_ID, poll_seconds=poll, min_interval_seconds=interval)
    assert isinstance(trigger, BaseEventTrigger)
    trigger.asset_state_store = store
    return trigger


def test_payload_tells_checkpoint_previous_one_and_lag(aws):
    async def scenario():
        async with running(checkpoint_trigger(interval=0.1)) as events:
            await until(lambda: len(events) == 1)
            move(aws, 2)
            await until(lambda: len(events) == 2)
            return [payload for _, payload in events]

    assert asyncio.run(scenario()) == [
        {"checkpoint": CHECKPOINT, "previous_checkpoint": None, "lag_ms": 1200},
        {"checkpoint": "c2", "previous_checkpoint": CHECKPOINT, "lag_ms": 1200},
    ]


def test_checkpoint_that_stands_still_gives_no_second_event(aws):
    async def scenario():
        async with running(checkpoint_trigger(interval=0.05)) as events:
            await until(lambda: len(aws.calls("ExecuteStatement")) >= 4)
            return checkpoints(events)

    assert asyncio.run(scenario()) == [CHECKPOINT]


def test_nothing_replicated_yet_gives_no_event(aws):
    aws.integration()["last_replicated_checkpoint"] = None

    async def scenario():
        async with running(checkpoint_trigger(interval=0.05)) as events:
            await until(lambda: len(aws.calls("ExecuteStatement")) >= 2)
            return checkpoints(events)

    assert asyncio.run(scenario()) == []


def test_burst_within_the_interval_becomes_one_event_and_its_last_move_is_not_stranded(aws):
    async def scenario():
        async with running(checkpoint_trigger(interval=0.6)) as events:
            await until(lambda: len(events) == 1)
            for number in itertools.count(2):
                move(aws, number)
                assert len(events) == 1
                # Ten moves at once, then some until half the interval is over: no sleep has to end in time.
                await asyncio.sleep(0 if number < 11 else 0.03)
                if number >= 11 and time.monotonic() >= events[0][0] + 0.3:
                    break
            await until(lambda: len(events) == 2)
            asked = len(aws.calls("ExecuteStatement"))
            await until(lambda: len(aws.calls("ExecuteStatement")) >= asked + 2)  # a whole look more: nothing follows
            return events, number

    events, last = asyncio.run(scenario())
    assert checkpoints(events) == [CHECKPOINT, f"c{last}"]
    assert events[1][0] - events[0][0] >= 0.6


def test_steady_moves_never_come_faster_than_the_interval(aws):
    async def scenario():
        async with running(checkpoint_trigger(interval=0.4)) as events:
            numbers = itertools.count(2)

            def moved_on():
                move(aws, next(numbers))
                return len(events) >= 3

            await until(moved_on)
            return [moment for moment, _ in events]

    moments = asyncio.run(scenario())
    assert len(moments) == 3
    assert all(later - earlier >= 0.4 for earlier, later in itertools.pairwise(moments))


def test_restarted_trigger_remembers_what_it_has_told(aws):
    store = Store()

    async def run_until_first(count):
        async with running(checkpoint_trigger(store, interval=0.05)) as events:
            await until(lambda: len(events) >= count and (not count or CURSOR_KEY in store.values))
            asked = len(aws.calls("ExecuteStatement"))
            await until(lambda: len(aws.calls("ExecuteStatement")) >= asked + 2)
            return checkpoints(events)

    assert asyncio.run(run_until_first(1)) == [CHECKPOINT]
    assert asyncio.run(run_until_first(0)) == []
    move(aws, 2)
    assert asyncio.run(run_until_first(1)) == ["c2"]


def test_restart_does_not_shorten_the_interval(aws):
    store = Store()
    ZeroEtlHook(CONN_ID).checkpoint()  # a first look is slow and would hide an interval that is too short
    started = time.monotonic()  # not after the event is dated: the bound is then the whole interval
    store.set(CURSOR_KEY, {"checkpoint": "c0", "event_at": time.time()})

    async def scenario():
        async with running(checkpoint_trigger(store, interval=0.7)) as events:
            await until(lambda: events)
            return events[0][0] - started

    assert asyncio.run(scenario()) >= 0.7


def test_cursor_from_the_future_delays_by_one_interval_at_most(aws):
    store = Store()
    store.set(CURSOR_KEY, {"checkpoint": "c0", "event_at": time.time() + 86_400})

    async def scenario():
        async with running(checkpoint_trigger(store, interval=0.3)) as events:
            await until(lambda: events)
            return checkpoints(events)

    assert asyncio.run(scenario()) == [CHECKPOINT]


@pytest.mark.parametrize("stored", ["a string", {"checkpoint": "c0"}, ["c0"]])
def test_unreadable_cursor_counts_as_none(aws, stored):
    store = Store()
    store.set(CURSOR_KEY, stored)
    assert asyncio.run(first_event(checkpoint_trigger(store)))["previous_checkpoint"] is None


def test_store_that_is_down_does_not_stop_events(aws):
    async def scenario():
        async with running(checkpoint_trigger(BrokenStore(), interval=0.05)) as events:
            await until(lambda: len(events) == 1)
            move(aws, 2)
            await until(lambda: len(events) == 2)
            return checkpoints(events)

    assert asyncio.run(scenario()) == [CHECKPOINT, "c2"]


def test_api_that_is_down_then_up_delays_the_event_and_never_ends_the_trigger(aws, capsys):
    aws.statement_error = "ERROR: cluster is resuming"

    async def scenario():
        async with running(checkpoint_trigger(interval=0.05)) as events:
            await until(lambda: len(aws.calls("ExecuteStatement")) >= 3)
            assert events == []
            aws.statement_error = None
            await until(lambda: len(events) == 1)
            return checkpoints(events)

    assert asyncio.run(scenario()) == [CHECKPOINT]
    log = capsys.readouterr().out
    assert "checkpoint not read (2 in a row)" in log
    assert "cluster is resuming" in log


def test_pauses_between_failures_grow_up_to_a_minute(monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 13:
            raise asyncio.CancelledError

    trigger = checkpoint_trigger(poll=2, interval=15)
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", "{}")  # a connection without extra: every look fails
    monkeypatch.setattr("data_platform.zero_etl.triggers.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(events_of(trigger))
    assert pauses[0] == 0.0  # nothing was told before, so no interval to wait for
    assert 3.2 <= pauses[1] <= 4.8
    assert pauses[2] > pauses[1]
    assert pauses[-1] == 60.0


def test_missing_connection_is_waited_for(aws, monkeypatch, capsys):
    name = f"AIRFLOW_CONN_{CONN_ID.upper()}"
    value = os.environ[name]
    monkeypatch.delenv(name)

    async def scenario():
        async with running(checkpoint_trigger()) as events:
            await until(lambda: "checkpoint not read" in capsys.readouterr().out)  # it has looked
            assert events == []
            monkeypatch.setenv(name, value)
            await until(lambda: events)
            return checkpoints(events)

    assert asyncio.run(scenario()) == [CHECKPOINT]


def test_connection_that_moves_to_another_warehouse_is_followed_after_an_error(aws, connect_to):
    other = healthy()
    move(other, 9)

    async def scenario():
        async with running(checkpoint_trigger(interval=0.05)) as events:
            await until(lambda: len(events) == 1)
            connect_to(other.url)
            aws.statement_error = "ERROR: gone"
            await until(lambda: len(events) == 2)
            return checkpoints(events)

    with serve(other):
        assert asyncio.run(scenario()) == [CHECKPOINT, "c9"]
