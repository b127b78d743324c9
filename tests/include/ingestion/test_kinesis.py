"""Kinesis: each record is landed once, in order of its shard, whoever dies or is late; what is gone is told."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from include.ingestion.exceptions import LeaseLost, LeaseTaken, StreamTrimmed
from include.ingestion.ledger import VersionState
from include.ingestion.notices import ObjectVersion
from include.local.aws.clock import CLOCK

HALF = str(2**127)


def send(world, *texts, key="a"):
    for text in texts:
        world.kinesis.put_record(StreamName=world.stream, Data=text.encode(), PartitionKey=key)


def landed(world):
    """The lines of the landing objects, by shard, in order."""
    found = {}
    for key, body in sorted(world.objects(world.raw, "streams/").items(), key=lambda item: _first(item[0])):
        found.setdefault(key.split("shard=")[1].split("/")[0], []).extend(gzip.decompress(body).decode().splitlines())
    return found


def _first(key):
    return int(key.rpartition("/")[2].split("-")[0])


def everything(world):
    return [line for lines in landed(world).values() for line in lines]


def test_records_are_landed_and_received(world, stream):
    send(world, "1", "2\n", "", "3")
    report = stream().read()
    assert (report.records, report.objects) == (4, 1)
    assert list(landed(world).values()) == [["1", "2", "3"]]
    (lease,) = stream().leases()
    assert (lease.checkpoint, lease.pending, lease.until) == ("4", None, 0)
    assert stream().read().records == 0
    send(world, "4")
    assert stream("b").read().records == 1
    assert world.states() == {VersionState.RECEIVED: 2}
    batches = [world.ingest(batch_id) for batch_id in world.plan().batches]
    assert sum(batch.counts.written for batch in batches) == 4
    assert world.in_lake() == dict.fromkeys("1234", 1)


def test_landing_objects_are_bounded(world, stream):
    send(world, *(f"record {n}" for n in range(10)))
    assert stream(records=3).read().objects == 4
    assert everything(world) == [f"record {n}" for n in range(10)]
    send(world, *(f"more {n}" for n in range(5)), "x" * 100)
    assert stream(bytes=20).read().objects == 4
    assert len(everything(world)) == 16


def test_a_notice_of_a_landing_object_is_the_same_version(world, stream):
    send(world, "1")
    stream().read()
    ((key, body),) = world.objects(world.raw, "streams/").items()
    etag = world.s3.head_object(Bucket=world.raw, Key=key)["ETag"].strip('"')
    world.send(world.record(world.raw, key, len(body), etag))
    assert world.receive().known == 1


def test_a_shard_has_one_reader_until_its_lease_is_over(world, stream):
    send(world, "1")
    (shard,) = [each["ShardId"] for each in world.kinesis.list_shards(StreamName=world.stream)["Shards"]]
    slow = stream("slow", lease_seconds=60)
    lease = slow._take(shard, CLOCK())
    assert stream("b").read().taken == (shard,)
    assert landed(world) == {}
    with pytest.raises(LeaseTaken):
        stream("b")._take(shard, CLOCK())
    CLOCK.advance(61)
    assert stream("b").read().records == 1
    with pytest.raises(LeaseLost, match="expected slow to still read it"):
        slow._save(lease)


@pytest.mark.parametrize("step", ["_save", "_put", "_record"])
def test_who_has_lost_the_lease_writes_nothing_more(world, stream, monkeypatch, step):
    send(world, "1", "2")
    slow = stream("slow", lease_seconds=60)
    real = getattr(type(slow), step)
    overtaken = []

    def late(self, *args, **named):
        if self.owner == "slow" and not overtaken:
            CLOCK.advance(61)
            send(world, "3")
            overtaken.append(stream("b").read())
        return real(self, *args, **named)

    monkeypatch.setattr(type(slow), step, late)
    report = slow.read()
    assert len(report.taken) == 1
    assert overtaken[0].records + report.records >= 3
    assert sorted(everything(world)) == ["1", "2", "3"]
    assert world.states()[VersionState.RECEIVED] == len(world.objects(world.raw, "streams/"))
    for batch_id in world.plan().batches:
        world.ingest(batch_id)
    assert world.in_lake() == {"1": 1, "2": 1, "3": 1}


def test_a_pending_range_is_landed_exactly(world, stream, killed):
    send(world, "1", "2")
    with pytest.raises(killed), world.failing_put(killed):
        stream().read()
    (lease,) = stream().leases()
    assert lease.pending == ("1", "2", 2)
    send(world, "3")
    stream().read()
    assert sorted(key.rpartition("/")[2] for key in world.objects(world.raw, "streams/")) == ["1-2.gz", "3-3.gz"]
    assert everything(world) == ["1", "2", "3"]


def test_children_wait_until_their_parents_are_read_to_the_end(world, stream):
    send(world, "1", "2")
    world.kinesis.split_shard(StreamName=world.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=HALF)
    send(world, "3", key="a")
    send(world, "4", key="b")
    intake = stream(records=1)
    lease = intake._take("shardId-000000000000", CLOCK())
    blocked = stream("b").read()
    assert (blocked.records, blocked.taken) == (0, ("shardId-000000000000",))
    intake._save(lease, release=True)
    report = stream("b").read()
    assert report.finished == ("shardId-000000000000",)
    assert sorted(everything(world)) == ["1", "2", "3", "4"]
    assert landed(world)["shardId-000000000000"] == ["1", "2"]


def test_a_merged_shard_waits_for_both_parents(world, stream):
    world.kinesis.split_shard(StreamName=world.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=HALF)
    send(world, "1", key="a")
    send(world, "2", key="b")
    world.kinesis.merge_shards(
        StreamName=world.stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
    )
    send(world, "3")
    held = stream("held")
    lease = held._take("shardId-000000000002", CLOCK())
    stream("b").read()
    assert "3" not in everything(world)
    held._save(lease, release=True)
    report = stream("b").read()
    assert sorted(everything(world)) == ["1", "2", "3"]
    assert len(report.finished) == 3


def test_an_iterator_that_expires_is_made_anew(world, stream):
    send(world, "1")
    intake = stream()
    real = intake.kinesis.get_records
    calls = []

    def late(**request):
        calls.append(1)
        if len(calls) == 1:
            CLOCK.advance(301)
        return real(**request)

    world.kinesis.get_records = late
    try:
        assert intake.read().records == 1
    finally:
        world.kinesis.get_records = real
    assert len(calls) == 2


def test_too_much_at_once_is_waited_out_or_left_for_the_next_time(world, stream):
    send(world, "1")
    code = "ProvisionedThroughputExceededException"
    with world.failing(world.kinesis, "GetRecords", 3, code, 400):
        assert stream().read().records == 1
    send(world, "2")
    with world.failing(world.kinesis, "GetRecords", 99, code, 400):
        report = stream().read()
    assert (report.records, report.throttled) == (0, ("shardId-000000000000",))
    assert stream("b").read().records == 1


def test_records_that_are_forgotten_before_they_are_read_are_a_named_gap(world, stream):
    send(world, "1")
    stream().read()
    send(world, "2")
    CLOCK.advance(25 * 3600)
    send(world, "3")
    with pytest.raises(StreamTrimmed, match=r"expected all records after 1 .*24 hours.*accept the gap"):
        stream().read()
    with pytest.raises(StreamTrimmed):
        stream("b").read()
    assert everything(world) == ["1"]
    lease = stream().accept_gap("shardId-000000000000", why="2 is lost")
    assert "after 1, since" in lease.gap
    assert "2 is lost" in lease.gap
    assert stream().read().records == 1
    assert everything(world) == ["1", "3"]
    assert "2 is lost" in stream().leases()[0].gap


def test_a_quiet_stream_that_is_read_has_no_gap(world, stream):
    send(world, "1")
    for _ in range(4):
        stream().read()
        CLOCK.advance(20 * 3600)
    send(world, "2")
    stream().read()
    assert everything(world) == ["1", "2"]


def test_a_pending_range_that_is_forgotten_is_a_gap_unless_it_was_put(world, stream, killed):
    send(world, "1")
    with pytest.raises(killed), world.failing_put(killed):
        stream().read()
    CLOCK.advance(25 * 3600)
    with pytest.raises(StreamTrimmed, match="found 0 records"):
        stream().read()
    stream().accept_gap("shardId-000000000000", why="gone")
    send(world, "2")
    stream().read()
    assert everything(world) == ["2"]


def test_a_range_that_was_put_is_received_though_the_stream_has_forgotten_it(world, stream, killed):
    send(world, "1")
    with pytest.raises(killed), world.failing_put(killed, after=True):
        stream().read()
    CLOCK.advance(25 * 3600)
    with pytest.raises(StreamTrimmed):
        stream().read()
    assert world.states() == {VersionState.RECEIVED: 1}
    assert stream().leases()[0].checkpoint == "1"


def test_a_gap_in_one_shard_does_not_stop_the_others(world, stream):
    send(world, "1")
    stream().read()
    world.kinesis.split_shard(StreamName=world.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=HALF)
    stream().read()
    held = stream("held", lease_seconds=90_000)
    lease = held._take("shardId-000000000001", CLOCK())
    CLOCK.advance(20 * 3600)
    stream("b").read()
    CLOCK.advance(5 * 3600)
    held._save(lease, release=True)
    send(world, "2", key="a")
    send(world, "3", key="b")
    with pytest.raises(StreamTrimmed, match="shardId-000000000001"):
        stream("b").read()
    assert len(everything(world)) == 2


def test_a_versioned_landing_bucket_gets_one_version_of_a_range(world, stream, killed):
    send(world, "1")
    intake = replace(stream(), bucket=world.versioned)
    with pytest.raises(killed), world.failing_put(killed, after=True):
        intake.read()
    intake.read()
    versions = world.s3.list_object_versions(Bucket=world.versioned)["Versions"]
    assert len(versions) == 1
    assert [each.version.version_id for each in world.ledger.waiting("trial")] == [versions[0]["VersionId"]]


def test_who_is_late_with_a_landing_object_makes_no_second_version_of_it(world, stream, monkeypatch):
    send(world, "1")
    slow, other = (replace(stream(owner, lease_seconds=60), bucket=world.versioned) for owner in ("slow", "b"))
    real = type(slow)._put
    overtaken = []

    def late(self, *args):
        if not overtaken:
            overtaken.append(None)
            CLOCK.advance(61)
            other.read()
        return real(self, *args)

    monkeypatch.setattr(type(slow), "_put", late)
    assert slow.read().taken == ("shardId-000000000000",)
    assert len(world.s3.list_object_versions(Bucket=world.versioned)["Versions"]) == 1


def test_who_has_lost_the_lease_records_no_version(world, stream):
    slow = stream("slow", lease_seconds=60)
    lease = slow._take("shardId-000000000000", CLOCK())
    CLOCK.advance(61)
    stream("b")._take("shardId-000000000000", CLOCK())
    with pytest.raises(LeaseLost):
        slow._record(lease, ObjectVersion(world.raw, "k", None, "e", 1), ("1", "1", 1), CLOCK())
    assert world.states() == {}
