"""Receiving: recorded first, then deleted; the same version however it is heard of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.ingestion.ledger import ASIDE, VersionState
from include.ingestion.receive import list_versions, receive_keys, receive_listing

SOURCE = "trial"


def send(world, body):
    world.sqs.send_message(QueueUrl=world.queue, MessageBody=body)


def test_a_queue_is_emptied_into_the_ledger(world):
    records = [world.put(f"k{n}", [f"{n}"]) for n in range(25)]
    for record in records[:-2]:
        world.send(record)
    world.send(*records[-2:], world.record(world.raw, "k0", 1, "e", event="ObjectRemoved:Delete"))
    send(world, json.dumps({"Event": "s3:TestEvent"}))
    report = world.receive(visibility_seconds=60)
    assert (report.messages, report.new, report.known, report.removed, report.tests) == (25, 25, 0, 1, 1)
    assert world.in_queue() == 0
    assert world.states() == {VersionState.RECEIVED: 25}


def test_a_notice_twice_and_out_of_order_is_one_version(world):
    old, new = world.put("a", ["old"], world.versioned), world.put("a", ["new"], world.versioned)
    for record in (new, old, new, world.record(world.versioned, "a", 1, "e", event="ObjectRemoved:Delete"), old):
        world.send(record)
    report = world.receive()
    assert (report.new, report.removed) == (2, 1)
    world.send(old)
    assert world.receive().known == 1
    world.all_at_once()
    assert world.in_lake() == {"old": 1, "new": 1}


def test_what_can_not_be_read_is_kept_with_its_reason_and_does_not_block(world):
    good = world.put("a", ["x"])
    send(world, "no json")
    send(world, "no json")
    world.send(good, {"eventName": "ObjectCreated:Put"})
    report = world.receive()
    assert (report.new, dict(report.faults)) == (1, {"not_json": 2, "not_a_notice": 1})
    assert world.in_queue() == 0
    kept = [json.loads(body) for body in world.objects(world.dead, "dead-letters/notices/day=20260101/").values()]
    assert sorted((each["faults"][0]["reason"], each["body"] == "no json") for each in kept) == [
        ("not_a_notice", False),
        ("not_json", True),
    ]
    assert good["s3"]["object"]["eTag"] in next(each["body"] for each in kept if each["body"] != "no json")


def test_a_message_that_can_not_be_kept_is_not_deleted(world):
    send(world, "no json")
    with world.failing(world.s3, "PutObject", 1, "SlowDown"), pytest.raises(Exception, match="SlowDown"):
        world.receive()
    assert world.in_queue() == 1
    assert world.receive().faults == {"not_json": 1}


def test_a_version_that_no_source_takes_is_set_aside(world):
    world.send(world.put("nobody/a", ["x"]))
    report = world.receive()
    assert (report.new, report.unrouted) == (1, 1)
    assert [each.version.key for each in world.ledger.waiting(ASIDE)] == ["nobody/a"]
    assert world.plan().batches == ()


def test_messages_that_could_not_be_deleted_come_again_and_are_known(world):
    world.send(world.put("a", ["x"]))
    real = world.sqs.delete_message_batch
    world.sqs.delete_message_batch = lambda **request: {"Failed": [{"Id": each["Id"]} for each in request["Entries"]]}
    try:
        report = world.receive(messages=1)
    finally:
        world.sqs.delete_message_batch = real
    assert (report.new, report.kept) == (1, 1)
    again = world.receive()
    assert (again.new, again.known, again.kept) == (0, 1, 0)
    assert world.in_queue() == 0


def test_messages_stay_hidden_while_recording_is_slow(world):
    from include.ingestion.receive import ReceiveLimits, receive_queue

    world.send(world.put("a", ["x"]))
    clock = [0.0]

    def slow():
        clock[0] += 20
        return clock[0]

    with world.killed_at(None) as made:
        receive_queue(
            *(world.sqs, world.s3, world.ledger, world.queue, world.route),
            dead_letter_bucket=world.dead,
            limits=ReceiveLimits(wait_seconds=0, visibility_seconds=30, seconds=1000),
            monotonic=slow,
        )
    names = [each.rpartition(".")[2] for each in made.calls]
    assert "ChangeMessageVisibilityBatch" in names
    assert names.index("TransactWriteItems") < names.index("DeleteMessageBatch")


def test_limits_of_messages_and_time(world):
    for n in range(15):
        world.send(world.put(f"k{n}", ["x", str(n)]))
    assert world.receive(messages=3, visibility_seconds=60).messages == 3
    assert world.receive(seconds=0).messages == 0
    assert world.receive(visibility_seconds=60).messages == 12


@pytest.mark.parametrize("bucket", ["raw", "versioned"])
@pytest.mark.parametrize("listed_first", [True, False])
def test_a_listing_and_a_notice_name_a_version_alike(world, bucket, listed_first):
    name = getattr(world, bucket)
    world.send(world.put("logs/a b+ü", ["x"], name), world.put("logs/b", ["y"], name))

    def listing():
        return receive_listing(world.s3, world.ledger, name, "logs/", world.route)

    first, second = (listing, world.receive) if listed_first else (world.receive, listing)
    assert first().new == 2
    report = second()
    assert (report.new, report.known) == (0, 2)
    assert listing().known == 2


def test_a_listing_has_every_version_and_no_delete_marker(world):
    world.put("a", ["old"], world.versioned)
    world.put("a", ["new"], world.versioned)
    world.s3.delete_object(Bucket=world.versioned, Key="a")
    assert len({version.version_id for version, _ in list_versions(world.s3, world.versioned, "")}) == 2


def test_a_listing_of_many_pages(world):
    for n in range(25):
        world.s3.put_object(Bucket=world.raw, Key=f"p/{n:05}", Body=b"x")
    world.s3.meta.events.register("provide-client-params.s3.ListObjectsV2", _ten_a_page)
    try:
        report = receive_listing(world.s3, world.ledger, world.raw, "p/", world.route)
    finally:
        world.s3.meta.events.unregister("provide-client-params.s3.ListObjectsV2", _ten_a_page)
    assert report.new == 25
    assert max(each.version.key for each in world.ledger.waiting(SOURCE)) == "p/00024"


def _ten_a_page(params, **_):
    return {**params, "MaxKeys": 10}


def test_a_backfill_of_one_source_and_time(world):
    world.put("nobody/a", ["x"])
    world.put("b", ["y"])
    soon = datetime.now(UTC) + timedelta(hours=1)
    past = receive_listing(world.s3, world.ledger, world.raw, "", world.route, source=SOURCE, since=soon)
    assert past.new == 0
    now = receive_listing(world.s3, world.ledger, world.raw, "", world.route, source=SOURCE, until=soon)
    assert (now.new, now.unrouted) == (1, 0)
    assert list(world.ledger.waiting(ASIDE)) == []


def test_a_backfill_of_keys(world):
    world.put("a", ["x"])
    report = receive_keys(world.s3, world.ledger, world.raw, ["a", "not there"], world.route)
    assert (report.new, report.faults) == (1, {"deleted": 1})


def test_the_same_content_again_is_ingested_once_without_versions(world):
    for content in (["one"], ["two"], ["one"]):
        world.send(world.put("a", content))
        world.all_at_once()
    assert world.in_lake() == {"one": 1, "two": 1}
