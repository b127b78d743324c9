"""Kinesis in moto, with shards that close, iterators that expire and records that are forgotten, as AWS documents them.

moto moves a shard's records to its children when it is split or merged (and keeps those of a merged one too), writes to a closed shard, and
never ends one. Its iterators last for ever, and so do its records.

Here a parent keeps its records and ends after them, new records go to open shards only, an iterator lasts for five minutes, and a record
for the stream's retention period, by the stand-in's clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from moto.core.exceptions import JsonRESTError
from moto.kinesis.models import KinesisBackend, Record, Shard, Stream
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import decompose_shard_iterator
from moto.utilities.utils import md5_hash

from include.local.aws.clock import CLOCK
from include.local.aws.wrapping import replace, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

ITERATOR_SECONDS: Final = 300.0


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    replace(Shard, "put_record", _put_record)
    replace(Stream, "get_shard_for_key", _get_shard_for_key)
    wrap(Stream, "split_shard", _keeping_records)
    wrap(Stream, "merge_shards", _keeping_records)
    wrap(KinesisBackend, "get_shard_iterator", _dated)
    wrap(KinesisBackend, "get_records", _checked)
    wrap(KinesisResponse, "get_records", _with_end)


def _put_record(shard: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
    number = getattr(shard, "last_number", 0) + 1
    shard.last_number = number
    record: Any = Record(partition_key, data, number, explicit_hash_key)
    record.put_at = CLOCK()
    shard.records[number] = record
    return str(number)


def _get_shard_for_key(stream: Stream, partition_key: str, explicit_hash_key: str) -> Shard | None:
    hashed = explicit_hash_key or str(int(md5_hash(partition_key.encode()).hexdigest(), 16))
    return next(
        (
            each
            for each in stream.shards.values()
            if each.is_open and each.starting_hash <= int(hashed) <= each.ending_hash
        ),
        None,
    )


def _keeping_records(reshard: Callable[..., None]) -> Callable[..., None]:
    def resharded(stream: Stream, *args: Any) -> None:
        kept = {shard_id: shard.records for shard_id, shard in stream.shards.items()}
        for shard in stream.shards.values():
            shard.records = OrderedDict()
        try:
            reshard(stream, *args)
        finally:
            for shard_id, records in kept.items():
                stream.shards[shard_id].records = records

    return resharded


def _dated(make: Callable[..., str]) -> Callable[..., str]:
    def get_shard_iterator(backend: KinesisBackend, stream_arn: str | None, stream_name: str | None, *args: Any) -> str:
        stream = backend.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
        return f"{CLOCK()}|{make(backend, None, stream.stream_name, *args)}"

    return get_shard_iterator


def _checked(get: Callable[..., Any]) -> Callable[..., Any]:
    def get_records(backend: KinesisBackend, stream_arn: str | None, shard_iterator: str, limit: int | None) -> Any:
        made, _, position = shard_iterator.partition("|")
        if CLOCK() - float(made) > ITERATOR_SECONDS:
            raise JsonRESTError(
                "ExpiredIteratorException", f"Iterator expired. It is good for {ITERATOR_SECONDS:.0f} s"
            )
        name, shard_id, _ = decompose_shard_iterator(position)
        stream = backend.describe_stream(stream_arn=stream_arn, stream_name=name)
        shard = stream.get_shard(shard_id)
        oldest = CLOCK() - float(stream.retention_period_hours) * 3600
        for number, record in list(shard.records.items()):
            if getattr(record, "put_at", 0.0) < oldest:
                del shard.records[number]
        following, records, _ = get(backend, stream_arn, position, limit)
        last = int(decompose_shard_iterator(following)[2])
        rest = [record for number, record in shard.records.items() if number > last]
        behind = max(int((CLOCK() - getattr(rest[0], "put_at", 0.0)) * 1000), 1) if rest else 0
        ended = not rest and not shard.is_open
        return None if ended else f"{CLOCK()}|{following}", records, behind

    return get_records


def _with_end(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The answer at a shard's end has no iterator and names the children."""

    def get_records(handler: Any) -> Any:
        answer = get(handler)
        if answer.result["NextShardIterator"] is None:
            del answer.result["NextShardIterator"]
        return answer

    return get_records
