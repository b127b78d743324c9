"""Killed at every call of AWS, and at random with doubled and shuffled notices: nothing is lost, nothing is twice.

Who dies after a call, before its answer is read, leaves the same behind as who dies before the next one. So that is tried for each call.
"""

from __future__ import annotations

import gzip
import random
from collections import Counter

import pytest

from include.ingestion.dead_letters import replay
from include.ingestion.ledger import BatchState, VersionState

SOURCE = "trial"


def finish(world):
    """What the next runs do, until nothing is left to do."""
    for _ in range(5):
        world.receive()
        for batch_id in world.plan().batches:
            world.ingest(batch_id)
        if not world.in_queue() and not world.plan().batches:
            return
    raise AssertionError("the intake does not come to an end")


def check(world, expected, *, orphans=1):
    """Each line is there once, each version is in one batch, and all counts add up."""
    assert world.arrived() == expected
    assert world.states().keys() <= {VersionState.INGESTED, VersionState.GONE}
    headers = world.rows("batch#")
    members = [row["sk"]["S"] for row in headers if row["sk"]["S"].startswith("member#")]
    assert len(members) == len(set(members)) == world.states().total()
    batches = [world.ledger.batch(row["pk"]["S"].partition("#")[2]) for row in headers if row["sk"]["S"] == "batch"]
    assert {batch.state for batch in batches} == {BatchState.PUBLISHED}
    assert sum(batch.counts.read for batch in batches) == expected.total()
    assert all(batch.counts.read == batch.counts.written + batch.counts.set_aside for batch in batches)
    assert sum(batch.objects for batch in batches) == len(members)
    assert world.ledger.open_batches(SOURCE) == []
    # who dies between the start of an upload and its record leaves it to the bucket's lifecycle rule
    assert len(world.uploads()) <= orphans


def outside(world):
    """Two messages, one of them twice, three objects."""
    a, b, c = world.put("a", ["1", "2", "bad 3"]), world.put("b", ["4"], world.versioned), world.put("c", ["5"])
    world.send(b, a)
    world.send(c)
    world.send(a)
    return Counter(["1", "2", "bad 3", "4", "5"])


def whole(world):
    world.receive()
    for batch_id in world.plan(objects=2).batches:
        world.ingest(batch_id)


def test_killed_at_every_call_from_the_queue_to_the_lake(make_world, killed):
    world = make_world()
    expected = outside(world)
    with world.killed_at(None) as made:
        whole(world)
    check(world, expected, orphans=0)
    names = [each.rpartition(".")[2] for each in made.calls]
    assert {"ReceiveMessage", "DeleteMessageBatch", "TransactWriteItems", "CompleteMultipartUpload"} <= set(names)
    for call in range(1, len(names) + 1):
        world = make_world()
        expected = outside(world)
        with pytest.raises(killed), world.killed_at(call, "after"):
            whole(world)
        finish(world)
        check(world, expected)


def test_killed_at_every_call_of_a_replay(make_world, killed):
    def before(world):
        world.send(world.put("a", ["1", "bad 2", "badly 3"]), world.put("b", ["bad 4"]))
        finish(world)
        world.engine.fixed = True

    def bring_back(world):
        return replay(world.s3, world.ledger, SOURCE, landing_bucket=world.raw, day="20260101", work=world.work)

    world = make_world()
    before(world)
    with world.killed_at(None) as made:
        bring_back(world)
    for call in range(1, len(made.calls) + 1):
        world = make_world()
        before(world)
        with pytest.raises(killed), world.killed_at(call, "after"):
            bring_back(world)
        bring_back(world)
        finish(world)
        assert world.in_lake() == dict.fromkeys(["1", "bad 2", "badly 3", "bad 4"], 1)
        assert bring_back(world).records == 0


def test_killed_at_every_call_of_a_refusal_and_its_release(make_world, killed):
    from include.ingestion.exceptions import BatchRefused

    def refused(world):
        world.share = 0.0
        with pytest.raises(BatchRefused):
            world.ingest(world.planned)
        world.engine.fixed = True
        world.ingestion().retry_refused(world.planned)
        world.ingest(world.planned)

    def planned():
        world = make_world()
        world.send(world.put("a", ["1", "bad 2"]))
        world.receive()
        (world.planned,) = world.plan().batches
        return world

    world = planned()
    with world.killed_at(None) as made:
        refused(world)
    for call in range(1, len(made.calls) + 1):
        world = planned()
        with pytest.raises(killed), world.killed_at(call, "after"):
            refused(world)
        if world.ledger.batch(world.planned).state == BatchState.REFUSED:
            world.engine.fixed = True
            world.ingestion().retry_refused(world.planned)
        world.engine.fixed = True
        finish(world)
        check(world, Counter(["1", "bad 2"]))


def test_killed_at_every_call_of_a_stream(make_world, killed, aws_clients):
    from include.ingestion.kinesis import StreamIntake, StreamLimits

    def intake(world, owner):
        limits = StreamLimits(records=2, seconds=1000)
        arguments = (world.kinesis, world.s3, world.ledger, world.table, SOURCE, world.raw, owner, limits)
        return StreamIntake(*arguments, sleep=lambda _: None)

    def send(world, *texts):
        for text in texts:
            world.kinesis.put_record(StreamName=world.table, Data=text.encode(), PartitionKey="a")

    def fresh():
        world = make_world()
        world.kinesis.create_stream(StreamName=world.table, ShardCount=1)
        send(world, "1", "2", "3")
        world.kinesis.split_shard(
            StreamName=world.table, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
        )
        send(world, "4")
        return world

    world = fresh()
    with world.killed_at(None) as made:
        intake(world, "a").read()
    for call in range(1, len(made.calls) + 1):
        world = fresh()
        with pytest.raises(killed), world.killed_at(call, "after"):
            intake(world, "a").read()
        send(world, "5")
        intake(world, "a").read()
        objects = world.objects(world.raw, "streams/")
        lines = [line for body in objects.values() for line in gzip.decompress(body).decode().split()]
        assert sorted(lines) == ["1", "2", "3", "4", "5"]
        assert world.states() == {VersionState.RECEIVED: len(objects)}
        assert all(lease.pending is None for lease in intake(world, "a").leases())
    world = fresh()
    intake(world, "a").read()
    finish(world)
    assert world.in_lake() == dict.fromkeys("1234", 1)


ROUNDS = 40


def test_random_kills_doubles_and_orders(make_world, killed):
    """A small model beside it: which lines were put, and which were gone before anybody could read them."""
    world = make_world()
    random_ = random.Random(20260101)
    expected, waiting, count = Counter(), [], 0
    kills = 0
    for _ in range(ROUNDS):
        for _ in range(random_.randint(0, 3)):
            lines = [
                f"{'bad ' if random_.random() < 0.2 else ''}{(count := count + 1)}"
                for _ in range(random_.randint(0, 3))
            ]
            bucket = random_.choice([world.raw, world.versioned])
            record = world.put(
                f"k{random_.randint(0, 5)}-{count}" if bucket == world.raw else f"k{random_.randint(0, 2)}",
                lines,
                bucket,
            )
            version = record["s3"]["object"]
            if random_.random() < 0.15:
                place = {"VersionId": version["versionId"]} if "versionId" in version else {}
                world.s3.delete_object(Bucket=bucket, Key=record["s3"]["object"]["key"], **place)
            else:
                expected.update(lines)
            waiting += [record] * random_.choice([1, 1, 2, 3])
        random_.shuffle(waiting)
        for _ in range(random_.randint(0, len(waiting))):
            world.send(waiting.pop(), *(waiting[-1:] if random_.random() < 0.3 else ()))
        world.now += random_.choice([0, 0.001, 30])
        step = random_.choice([world.receive, world.plan, whole, whole])
        try:
            with world.killed_at(random_.randint(1, 45), random_.choice(["before", "after"])):
                step(world) if step is whole else step()
        except killed:
            kills += 1
    for record in waiting:
        world.send(record)
    finish(world)
    assert kills > ROUNDS / 4
    assert count > ROUNDS
    check(world, expected, orphans=kills)
