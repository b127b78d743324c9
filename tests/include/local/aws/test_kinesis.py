"""Kinesis in the stand-in: shards that end, iterators that expire, records that are forgotten."""

from __future__ import annotations

from uuid import uuid4

import pytest

from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at

HALF = str(2**127)
FIRST = "shardId-000000000000"


@pytest.fixture(scope="module")
def kinesis():
    from botocore.config import Config

    with trial_aws_in_process() as url:
        yield clients_at(url).make("kinesis", Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def stream(kinesis):
    name = uuid4().hex
    kinesis.create_stream(StreamName=name, ShardCount=1)
    yield name
    kinesis.delete_stream(StreamName=name)


@pytest.fixture
def clock():
    from include.local.aws.clock import CLOCK

    yield CLOCK
    CLOCK.reset()


def put(kinesis, stream, text, key="a"):
    return kinesis.put_record(StreamName=stream, Data=text.encode(), PartitionKey=key)["ShardId"]


def iterator(kinesis, stream, shard=FIRST):
    where = {"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    return kinesis.get_shard_iterator(**where)["ShardIterator"]


def page(kinesis, stream, shard=FIRST, **named):
    return kinesis.get_records(ShardIterator=iterator(kinesis, stream, shard), **named)


def texts(answer):
    return [record["Data"].decode() for record in answer["Records"]]


def test_a_shard_that_was_split_keeps_its_records_and_ends(kinesis, stream):
    put(kinesis, stream, "1")
    kinesis.split_shard(StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=HALF)
    assert put(kinesis, stream, "2", "a") == "shardId-000000000001"
    assert put(kinesis, stream, "3", "b") == "shardId-000000000002"
    answer = page(kinesis, stream)
    assert texts(answer) == ["1"]
    assert "NextShardIterator" not in answer
    assert texts(page(kinesis, stream, "shardId-000000000001")) == ["2"]
    assert "NextShardIterator" in page(kinesis, stream, "shardId-000000000001")


def test_shards_that_were_merged_keep_theirs(kinesis, stream):
    kinesis.split_shard(StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=HALF)
    put(kinesis, stream, "1", "a")
    kinesis.merge_shards(
        StreamName=stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
    )
    assert put(kinesis, stream, "2") == "shardId-000000000003"
    assert texts(page(kinesis, stream, "shardId-000000000001")) == ["1"]
    assert texts(page(kinesis, stream, "shardId-000000000003")) == ["2"]


def test_a_page_that_is_not_the_last_says_that_there_is_more(kinesis, stream):
    put(kinesis, stream, "1")
    put(kinesis, stream, "2")
    first = page(kinesis, stream, Limit=1)
    assert first["MillisBehindLatest"] > 0
    second = kinesis.get_records(ShardIterator=first["NextShardIterator"])
    assert (texts(second), second["MillisBehindLatest"]) == (["2"], 0)


def test_an_iterator_expires(kinesis, stream, clock):
    made = iterator(kinesis, stream)
    clock.advance(301)
    with pytest.raises(kinesis.exceptions.ExpiredIteratorException):
        kinesis.get_records(ShardIterator=made)


def test_a_record_is_forgotten_and_its_number_is_not_given_again(kinesis, stream, clock):
    put(kinesis, stream, "1")
    clock.advance(24 * 3600 + 1)
    assert texts(page(kinesis, stream)) == []
    put(kinesis, stream, "2")
    (record,) = page(kinesis, stream)["Records"]
    assert record["SequenceNumber"] == "2"
