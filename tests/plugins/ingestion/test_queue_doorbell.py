"""The doorbell: it rings while the queue holds messages, receives none of them, and never ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager, suppress

import boto3
import pytest
from airflow.triggers.base import BaseEventTrigger

from data_platform.ingestion import triggers
from data_platform.ingestion.triggers import QueueDoorbellTrigger
from include.local.aws.trial import trial_aws_in_process

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def url():
    with trial_aws_in_process() as url:
        yield url


@pytest.fixture
def connected(url, monkeypatch):
    def connect(endpoint=url):
        extra = {"region_name": "us-east-1", "endpoint_url": endpoint}
        monkeypatch.setenv(
            "AIRFLOW_CONN_AWS_INGESTION",
            json.dumps({"conn_type": "aws", "login": "test", "password": "test-password", "extra": extra}),
        )

    connect()
    return connect


@pytest.fixture
def sqs(url, connected):
    return boto3.client("sqs", endpoint_url=url)


@pytest.fixture
def queue(sqs):
    return sqs.create_queue(QueueName=f"notices-{next(_NUMBERS)}")["QueueUrl"]


def doorbell(queue, poll=0.05, gap=0.3):
    return QueueDoorbellTrigger(aws_conn_id="aws_ingestion", queue_url=queue, poll_seconds=poll, min_gap_seconds=gap)


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


def test_trigger_can_be_made_again_from_what_it_serializes(queue):
    trigger = doorbell(queue)
    assert isinstance(trigger, BaseEventTrigger)
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == trigger.serialize()


def test_an_empty_queue_gives_no_event_and_a_message_gives_one_with_nothing_of_its_content(sqs, queue):
    async def scenario():
        async with running(doorbell(queue, gap=60)) as events:
            await asyncio.sleep(0.5)
            assert events == []
            sqs.send_message(QueueUrl=queue, MessageBody='{"Records": "secret"}')
            await until(lambda: events)
            return [payload for _, payload in events]

    assert asyncio.run(scenario()) == [{"messages": 1}]


def test_no_message_is_received_hidden_or_deleted(sqs, queue):
    for number in range(3):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))

    async def scenario():
        async with running(doorbell(queue, gap=0.1)) as events:
            await until(lambda: len(events) >= 2)

    asyncio.run(scenario())
    bodies = set()
    while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        bodies |= {each["Body"] for each in found}
        assert {each["Attributes"]["ApproximateReceiveCount"] for each in found if "Attributes" in each} <= {"1"}
    assert bodies == {"0", "1", "2"}


def test_two_events_are_never_nearer_than_the_gap_and_what_is_left_rings_again(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="m")

    async def scenario():
        async with running(doorbell(queue, gap=0.4)) as events:
            await until(lambda: len(events) >= 3)
            return [moment for moment, _ in events[:3]]

    first, second, third = asyncio.run(scenario())
    assert second - first >= 0.4
    # nobody took anything away: it rings less often
    assert third - second >= 0.8


def test_the_gap_is_short_again_once_somebody_takes_messages(sqs, queue, monkeypatch):
    for number in range(4):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))

    async def scenario():
        async with running(doorbell(queue, gap=0.4)) as events:
            await until(lambda: len(events) == 2)
            sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=2)  # hidden, so not counted
            await until(lambda: len(events) == 4)
            return events

    events = asyncio.run(scenario())
    assert [payload["messages"] for _, payload in events[:4]] == [4, 4, 2, 2]
    assert events[3][0] - events[2][0] >= 0.4
    assert events[3][0] - events[2][0] < events[2][0] - events[1][0]


def test_the_gap_grows_to_a_limit(sqs, queue, monkeypatch):
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    monkeypatch.setattr(triggers, "MOST_GAPS", 2)

    async def scenario():
        async with running(doorbell(queue, gap=0.2)) as events:
            await until(lambda: len(events) >= 6)
            moments = [moment for moment, _ in events]
            return [later - sooner for sooner, later in itertools.pairwise(moments)]

    pauses = asyncio.run(scenario())
    assert all(pause >= 0.39 for pause in pauses[1:])
    assert min(pauses[2:]) < 0.8  # so doubling has ended


@pytest.fixture
def clients_made(monkeypatch):
    """When the trigger made clients: once at first, and once after each error."""
    moments = []
    real = QueueDoorbellTrigger._make_look

    def counted(self):
        moments.append(time.monotonic())
        return real(self)

    monkeypatch.setattr(QueueDoorbellTrigger, "_make_look", counted)
    return moments


def test_errors_are_tried_again_with_a_growing_pause_until_somebody_mends_the_connection(
    connected, sqs, queue, clients_made
):
    connected("http://127.0.0.1:9")
    trigger = doorbell(queue, poll=0.1, gap=60)
    sqs.send_message(QueueUrl=queue, MessageBody="m")

    async def scenario():
        async with running(trigger) as events:
            await until(lambda: len(clients_made) == 4)
            assert events == []
            connected()
            await until(lambda: events)

    asyncio.run(scenario())
    pauses = [later - sooner for sooner, later in itertools.pairwise(clients_made)]
    assert pauses[-1] >= 0.8 * 0.1 * 2**3


def test_a_queue_that_is_not_there_is_an_error_that_passes(sqs, url, clients_made):
    name = f"later-{next(_NUMBERS)}"
    trigger = doorbell(f"{url}/123456789012/{name}", gap=60)

    async def scenario():
        async with running(trigger) as events:
            await until(lambda: len(clients_made) == 2)
            there = sqs.create_queue(QueueName=name)["QueueUrl"]
            sqs.send_message(QueueUrl=there, MessageBody="m")
            await until(lambda: events)

    asyncio.run(scenario())


def test_the_pause_after_errors_has_a_limit():
    assert triggers.MOST_PAUSE_SECONDS <= 600
