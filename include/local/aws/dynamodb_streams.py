"""DynamoDB Streams in moto, with shards that split, iterators that expire and records that are trimmed, as AWS documents them.

moto's stream is one shard that is always open; its numbers begin anew with each stream, it can't be enabled again after it was disabled,
iterators are good forever, ``Limit`` and pages are ignored, an update of a new item is two records and one without a change is one.

Here, as on AWS:

- A shard is open until it is split, its stream is disabled or its table is deleted. Its children name it as parent; an item's records are
  in the shard that has the hash of its partition key at that time, so a reader must read a parent to its end before a child.
- A stream that is disabled can be read until its records are trimmed. Enabling again makes another stream, with an ARN of its own.
- Sequence numbers grow, and nobody can tell which is the next.
- Records are there for 24 h, iterators for 15 minutes, by `include.local.aws.clock.CLOCK`.
- `Behaviour` makes it do what AWS may do but seldom does where a test can wait for it.

The Lambda functions that moto lets a stream call are not called.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
from bisect import bisect_left
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from uuid import uuid4

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table
from moto.dynamodb.models.utilities import dynamo_to_dict
from moto.dynamodbstreams.models import dynamodbstreams_backends
from moto.dynamodbstreams.responses import DynamoDBStreamsHandler

from include.local.aws import wrapping
from include.local.aws.clock import CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moto.dynamodb.models.dynamo_type import Item

RETENTION_SECONDS: Final = 24 * 3600.0
ITERATOR_SECONDS: Final = 15 * 60.0
MOST_RECORDS: Final = 1000
MOST_BYTES: Final = 1024 * 1024
MOST_SHARDS: Final = 100
_STREAMS: Final = "streams_of_the_stand_in"
_HASHES: Final = 2**64
_NEW: Final = frozenset({"NEW_IMAGE", "NEW_AND_OLD_IMAGES"})
_OLD: Final = frozenset({"OLD_IMAGE", "NEW_AND_OLD_IMAGES"})
_KEYS_ONLY: Final = "KEYS_ONLY"


class _Numbers:
    """Sequence numbers of all streams of the process: a table that is made again doesn't begin anew."""

    def __init__(self) -> None:
        self._last = 100_000_000_000_017_454_423_009
        self._steps = itertools.cycle((1, 7, 2, 19, 5, 113))  # nobody may count on the next one

    def take(self) -> int:
        self._last += next(self._steps)
        return self._last

    @property
    def last(self) -> int:
        """The last one that was given out."""
        return self._last


NUMBERS: Final = _Numbers()


@dataclass
class Behaviour:
    """What a stream's readers find out of the ordinary.

    Attributes:
        empty_every: each so-many-th page is empty although there are records to come; 0: none.
        records_per_page: at most so many records; 0: as many as were asked for.
        shards_per_page: of DescribeStream; 0: as many as were asked for.
        lag_seconds: records are found only so long after the write.
        enabling_seconds: a stream that is enabled from now on is ENABLING for so long, and tells no change meanwhile.
    """

    empty_every: int = 0
    records_per_page: int = 0
    shards_per_page: int = 0
    lag_seconds: float = 0.0
    enabling_seconds: float = 0.0

    def changed(self, document: Mapping[str, Any]) -> Self:
        """With other values.

        Raises:
            ValueError: there is no such attribute, or its value is not a number.
        """
        known = {each.name for each in fields(self)}
        if unknown := sorted(set(document) - known):
            raise ValueError(f"expected only {', '.join(sorted(known))}; found {', '.join(unknown)}")
        for name, value in document.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name}: expected a number that is not below 0, found {value!r}")
        return replace(self, **document)


@dataclass(frozen=True)
class Record:
    """A change of an item."""

    number: int
    at: float
    size: int
    document: Mapping[str, Any]


@dataclass
class Shard:
    """A part of a stream.

    Attributes:
        shard_id: as AWS names them, the older one first.
        parent: the shard that it continues.
        low: hashes of partition keys from here ...
        high: ... to below here are in it.
        first: sequence number that no record of it is below.
        last: sequence number that no record of it is above; None while it is open.
        closed_at: when.
        records: those that aren't trimmed.
        trimmed: sequence number of the last record that was.
        repeats: so many records before the position are given again by the next page.
    """

    shard_id: str
    parent: str | None
    low: int
    high: int
    first: int
    last: int | None = None
    closed_at: float = 0.0
    records: list[Record] = field(default_factory=list)
    trimmed: int = 0
    repeats: int = 0

    def trim(self) -> None:
        """Forget what is too old."""
        oldest = CLOCK() - RETENTION_SECONDS
        count = next((at for at, record in enumerate(self.records) if record.at >= oldest), len(self.records))
        if count:
            self.trimmed = self.records[count - 1].number
            del self.records[:count]

    def close(self) -> None:
        """No record comes any more."""
        self.last, self.closed_at = NUMBERS.take(), CLOCK()

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return self.last is not None and self.closed_at < CLOCK() - RETENTION_SECONDS

    def to_json(self) -> dict[str, Any]:
        """As DescribeStream tells it."""
        numbers = {"StartingSequenceNumber": str(self.first)}
        if self.last is not None:
            numbers["EndingSequenceNumber"] = str(self.last)
        parent = {"ParentShardId": self.parent} if self.parent else {}
        return {"ShardId": self.shard_id, "SequenceNumberRange": numbers, **parent}


class Stream:
    """The changes of a table from its enabling on; moto calls `add` for each.

    Args:
        table: moto's table.
        view_type: what its records tell.
        label: distinguishes it from the table's other streams.
        behaviour: see there.
    """

    def __init__(self, table: Any, view_type: str, label: str, behaviour: Behaviour) -> None:
        self.table_name: str = table.name
        self.key_schema: list[dict[str, str]] = table.schema
        self.region: str = table.region_name
        self.label = label
        self.arn = f"{table.table_arn}/stream/{label}"
        self.view_type = view_type
        self.behaviour = behaviour
        self.created = datetime.now(UTC)
        self.enabled = True
        self.enabled_at = CLOCK() + behaviour.enabling_seconds
        self.shards: dict[str, Shard] = {}
        self._pages = 0
        self._open(None, 0, _HASHES)

    def add(self, old: Item | None, new: Item | None) -> None:
        """A write: the item before and after it; one that changes nothing makes no record."""
        before, after = (_plain(item) if item is not None else None for item in (old, new))
        image = before if after is None else after
        if image is None or before == after or self.status != "ENABLED":
            return
        keys = {part["AttributeName"]: image[part["AttributeName"]] for part in self.key_schema}
        told = {"Keys": keys}
        if after is not None and self.view_type in _NEW:
            told["NewImage"] = after
        if before is not None and self.view_type in _OLD:
            told["OldImage"] = before
        number, at = NUMBERS.take(), CLOCK()
        size = sum(_size(each) for each in told.values())
        document = {
            "eventID": uuid4().hex,
            "eventName": "INSERT" if before is None else "REMOVE" if after is None else "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": self.region,
            "dynamodb": {
                **told,
                "ApproximateCreationDateTime": datetime.fromtimestamp(int(at), UTC),  # AWS tells whole seconds
                "SequenceNumber": str(number),
                "SizeBytes": size,
                "StreamViewType": self.view_type,
            },
        }
        place = _hash(keys[self.key_schema[0]["AttributeName"]])
        shard = next(each for each in self.open_shards if each.low <= place < each.high)
        shard.records.append(Record(number, at, size, document))

    @property
    def open_shards(self) -> list[Shard]:
        """Those that records come into."""
        return [shard for shard in self.shards.values() if shard.last is None]

    def split(self, shard_id: str | None = None, *, children: int = 2) -> list[str]:
        """Close an open shard, and let children go on.

        Args:
            shard_id: which; None: all that are open.
            children: 2; or 1, as AWS does with a shard every few hours.

        Returns:
            The children's ids.

        Raises:
            ValueError: there is no such open shard.
        """
        chosen = [shard for shard in self.open_shards if shard_id in (None, shard.shard_id)]
        if not chosen:
            raise ValueError(f"{self.table_name}: expected an open shard {shard_id or ''}, found none")
        made = []
        for shard in chosen:
            shard.close()
            width = (shard.high - shard.low) // children
            for child in range(children):
                low = shard.low + child * width
                high = shard.high if child == children - 1 else low + width
                made.append(self._open(shard.shard_id, low, high))
        return made

    def repeat(self, records: int) -> None:
        """Let the next page of each shard begin so many records before its position."""
        for shard in self.shards.values():
            shard.repeats = records

    def disable(self) -> None:
        """End it; it can still be read."""
        self.enabled = False
        for shard in self.open_shards:
            shard.close()

    @property
    def status(self) -> str:
        """As AWS calls it."""
        if not self.enabled:
            return "DISABLED"
        return "ENABLED" if CLOCK() >= self.enabled_at else "ENABLING"

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return not self.enabled and all(shard.gone for shard in self.shards.values())

    def describe(self, after: str | None, limit: int, parent: str | None) -> dict[str, Any]:
        """Answer DescribeStream.

        Args:
            after: shard that the page follows.
            limit: at most so many shards.
            parent: only the children of this one.
        """
        limit = min(limit, MOST_SHARDS, int(self.behaviour.shards_per_page) or MOST_SHARDS)
        listed = [shard for shard in self.shards.values() if not shard.gone]
        if parent is not None:
            listed = [shard for shard in listed if shard.parent == parent]
        if after is not None:
            listed = [shard for shard in listed if shard.shard_id > after]
        page = listed[:limit]
        more = {"LastEvaluatedShardId": page[-1].shard_id} if len(listed) > len(page) else {}
        return {
            "StreamArn": self.arn,
            "StreamLabel": self.label,
            "StreamStatus": self.status,
            "StreamViewType": self.view_type,
            "CreationRequestDateTime": self.created,
            "TableName": self.table_name,
            "KeySchema": self.key_schema,
            "Shards": [shard.to_json() for shard in page],
            **more,
        }

    def shard(self, shard_id: str) -> Shard:
        """A shard of which something is left."""
        shard = self.shards.get(shard_id)
        if shard is None or shard.gone:
            _refuse("ResourceNotFoundException", f"Requested resource not found: Shard does not exist: {shard_id}")
        shard.trim()
        return shard

    def page(self, shard: Shard, start: int, limit: int) -> tuple[list[Record], int | None]:
        """Records of a shard from a sequence number on, and where the next page begins; None at the end of a closed shard."""
        begin = bisect_left(shard.records, start, key=lambda record: record.number)
        coming = shard.records[begin : begin + limit]
        if self.behaviour.lag_seconds:
            seen = CLOCK() - self.behaviour.lag_seconds
            coming = [record for record in coming if record.at <= seen]
        self._pages += 1
        if coming and self.behaviour.empty_every and self._pages % self.behaviour.empty_every == 0:
            return [], start
        again = shard.records[max(0, begin - shard.repeats) : begin]
        shard.repeats = 0
        page = _at_most([*again, *coming], min(limit, int(self.behaviour.records_per_page) or limit))
        if page:
            start = page[-1].number + 1
        done = shard.last is not None and not (shard.records and shard.records[-1].number >= start)
        return page, None if done else start

    def _open(self, parent: str | None, low: int, high: int) -> str:
        number, millis = NUMBERS.take(), int(CLOCK() * 1000)
        if self.shards:  # ids grow, also within a millisecond
            millis = max(millis, int(next(reversed(self.shards)).split("-")[1]) + 1)
        shard_id = f"shardId-{millis:020}-{number % 2**32:08x}"
        self.shards[shard_id] = Shard(shard_id, parent, low, high, number)
        return shard_id


@dataclass(frozen=True)
class Iterator:
    """A place in a shard, as a text that tells it all: the stand-in keeps none."""

    arn: str
    shard_id: str
    start: int
    at: float
    oldest: bool = False

    @property
    def text(self) -> str:
        """As the caller gets it."""
        body = json.dumps([self.shard_id, self.start, self.at, self.oldest, uuid4().hex])
        return f"{self.arn}|1|{base64.b64encode(body.encode()).decode()}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what a caller has got."""
        arn, _, rest = text.partition("|1|")
        try:
            shard_id, start, at, oldest, _ = json.loads(base64.b64decode(rest, validate=True))
        except (ValueError, binascii.Error):
            raise MockValidationException("Invalid ShardIterator") from None
        return cls(arn, shard_id, start, at, oldest)


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    wrapping.replace(Table, "set_stream_specification", _set_specification)
    wrapping.replace(DynamoDBBackend, "update_table_streams", _update_table_streams)
    wrapping.wrap(DynamoDBBackend, "delete_table", _disable_first)
    for name, method in {
        "describe_stream": _describe_stream,
        "list_streams": _list_streams,
        "get_shard_iterator": _get_shard_iterator,
        "get_records": _get_records,
    }.items():
        wrapping.replace(DynamoDBStreamsHandler, name, method)


def stream_of(table: Any) -> Stream:
    """The stream that a table has now, or had last.

    Raises:
        ValueError: it never had one.
    """
    streams = [each for each in _streams(table.account_id, table.region_name).values() if each.table_name == table.name]
    if not streams:
        raise ValueError(f"expected table {table.name} to have a stream, found none; enable it")
    return streams[-1]


def _streams(account: str, region: str) -> dict[str, Stream]:
    """All streams by ARN; they outlive their tables, and end with moto's reset."""
    found: dict[str, Stream] = dynamodbstreams_backends[account][region].__dict__.setdefault(_STREAMS, {})
    for arn in [arn for arn, stream in found.items() if stream.gone]:
        del found[arn]
    return found


def behaviours(table: Any) -> dict[str, Behaviour]:
    """How the tables' streams behave, those to come too."""
    backend = dynamodbstreams_backends[table.account_id][table.region_name]
    found: dict[str, Behaviour] = backend.__dict__.setdefault(f"{_STREAMS}_behaviours", {})
    return found


def _set_specification(table: Any, wanted: Mapping[str, Any] | None) -> None:
    if not wanted or not wanted.get("StreamEnabled", "StreamViewType" in wanted):  # CloudFormation says only the type
        if table.stream_shard is not None:
            table.stream_shard.disable()
        table.stream_shard, table.stream_specification = None, {"StreamEnabled": False}
        return
    view_type = wanted.get("StreamViewType")
    if view_type not in _NEW | _OLD | {_KEYS_ONLY}:
        raise MockValidationException(
            "One or more parameter values were invalid: StreamViewType must be specified when StreamEnabled is true"
        )
    streams = _streams(table.account_id, table.region_name)
    now = CLOCK()
    label = _label(now)
    while f"{table.table_arn}/stream/{label}" in streams:
        now += 0.001
        label = _label(now)
    stream = Stream(table, view_type, label, behaviours(table).get(table.name, Behaviour()))
    streams[stream.arn] = stream
    table.stream_shard, table.latest_stream_label = stream, label
    table.stream_specification = {"StreamEnabled": True, "StreamViewType": view_type}


def _label(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def _update_table_streams(_: DynamoDBBackend, table: Any, wanted: Mapping[str, Any]) -> None:
    if wanted.get("StreamEnabled"):
        if table.stream_shard is not None:
            raise MockValidationException(f"Table already has an enabled stream: TableName: {table.name}")
    elif table.stream_shard is None:
        raise MockValidationException(f"Table has no stream to disable: TableName: {table.name}")
    table.set_stream_specification(wanted)


def _disable_first(delete: Callable[..., Any]) -> Callable[..., Any]:
    def delete_table(backend: Any, name: str) -> Any:
        table = delete(backend, name)
        if table.stream_shard is not None:
            table.stream_shard.disable()
        return table

    return delete_table


def _stream(handler: Any, arn: str) -> Stream:
    stream = _streams(handler.current_account, handler.region).get(arn)
    if stream is None:
        _refuse("ResourceNotFoundException", f"Requested resource not found: Stream: {arn} not found")
    return stream


def _describe_stream(handler: Any) -> ActionResult:
    stream = _stream(handler, handler._get_param("StreamArn"))
    limit = handler._get_param("Limit")
    if limit is not None and limit < 1:
        _invalid("limit", limit, "greater than or equal to 1")
    children = (handler._get_param("ShardFilter") or {}).get("ShardId")
    after = handler._get_param("ExclusiveStartShardId")
    return ActionResult({"StreamDescription": stream.describe(after, limit or MOST_SHARDS, children)})


def _list_streams(handler: Any) -> ActionResult:
    name, limit = handler._get_param("TableName"), handler._get_param("Limit") or MOST_SHARDS
    after = handler._get_param("ExclusiveStartStreamArn")
    streams = sorted(_streams(handler.current_account, handler.region).values(), key=lambda stream: stream.arn)
    listed = [each for each in streams if name in (None, each.table_name) and (after is None or each.arn > after)]
    page = listed[:limit]
    told = [{"StreamArn": each.arn, "TableName": each.table_name, "StreamLabel": each.label} for each in page]
    more = {"LastEvaluatedStreamArn": page[-1].arn} if len(listed) > len(page) else {}
    return ActionResult({"Streams": told, **more})


def _get_shard_iterator(handler: Any) -> ActionResult:
    stream = _stream(handler, handler._get_param("StreamArn"))
    shard = stream.shard(handler._get_param("ShardId"))
    kind, given = handler._get_param("ShardIteratorType"), handler._get_param("SequenceNumber")
    if kind not in {"TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"}:
        raise MockValidationException(f"Value '{kind}' at 'shardIteratorType' failed to satisfy constraint")
    if kind in {"TRIM_HORIZON", "LATEST"}:
        if given is not None:
            raise MockValidationException(f"SequenceNumber can't be given with ShardIteratorType {kind}")
        start = shard.first if kind == "TRIM_HORIZON" else NUMBERS.last + 1
    else:
        number = _sequence_number(given, kind, shard)
        start = number if kind == "AT_SEQUENCE_NUMBER" else number + 1
    iterator = Iterator(stream.arn, shard.shard_id, start, CLOCK(), kind == "TRIM_HORIZON")
    return ActionResult({"ShardIterator": iterator.text})


def _sequence_number(given: str | None, kind: str, shard: Shard) -> int:
    if given is None:
        raise MockValidationException(f"SequenceNumber is required with ShardIteratorType {kind}")
    if not given.isdecimal():
        raise MockValidationException(f"Invalid SequenceNumber: {given}")
    number = int(given)
    highest = NUMBERS.last if shard.last is None else shard.last
    if not shard.first <= number <= highest:
        raise MockValidationException(
            f"Invalid SequenceNumber: {given} is not in the range of shard {shard.shard_id}: {shard.first} to {highest}"
        )
    if number <= shard.trimmed:
        _refuse("TrimmedDataAccessException", f"The sequence number {given} is beyond the trim horizon")
    return number


def _get_records(handler: Any) -> ActionResult:
    iterator = Iterator.read(handler._get_param("ShardIterator"))
    limit = handler._get_param("Limit")
    if limit is not None and not 1 <= limit <= MOST_RECORDS:
        _invalid("limit", limit, f"between 1 and {MOST_RECORDS}")
    stream = _stream(handler, iterator.arn)
    if CLOCK() - iterator.at > ITERATOR_SECONDS:
        _refuse(
            "ExpiredIteratorException",
            f"Iterator expired. The iterator was created {CLOCK() - iterator.at:.0f} s ago; it is good for {ITERATOR_SECONDS:.0f} s",
        )
    shard = stream.shard(iterator.shard_id)
    if iterator.start <= shard.trimmed and not iterator.oldest:
        _refuse("TrimmedDataAccessException", "The iterator's sequence number is beyond the trim horizon")
    page, start = stream.page(shard, iterator.start, limit or MOST_RECORDS)
    answer: dict[str, Any] = {"Records": [record.document for record in page]}
    if start is not None:
        oldest = iterator.oldest and start == iterator.start
        answer["NextShardIterator"] = replace(iterator, start=start, at=CLOCK(), oldest=oldest).text
    return ActionResult(answer)


def _at_most(records: Sequence[Record], limit: int) -> list[Record]:
    page: list[Record] = []
    size = 0
    for record in records[:limit]:
        size += record.size
        if page and size > MOST_BYTES:
            break
        page.append(record)
    return page


def _plain(item: Item) -> dict[str, Any]:
    """The item's attributes, bytes as bytes; nothing of it is shared with the item, which moto changes in place."""
    image: dict[str, Any] = dynamo_to_dict(dict(item.attrs))
    return image


def _hash(key: Mapping[str, Any]) -> int:
    value = next(iter(key.values()))
    return int.from_bytes(hashlib.md5(value if isinstance(value, bytes) else str(value).encode()).digest()[:8])


def _size(image: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + _size_of(value) for name, value in image.items())


def _size_of(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "M":
            return 3 + _size(content)
        case "L":
            return 3 + sum(1 + _size_of(each) for each in content)
        case "SS" | "NS" | "BS":
            return sum(_length(each) for each in content)
        case "BOOL" | "NULL":
            return 1
    return _length(content)


def _length(value: str | bytes) -> int:
    return len(value if isinstance(value, bytes) else value.encode())


def _refuse(code: str, message: str) -> NoReturn:
    raise JsonRESTError(f"com.amazonaws.dynamodb.v20120810#{code}", message)


def _invalid(name: str, value: Any, wanted: str) -> NoReturn:
    raise MockValidationException(
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must have value {wanted}"
    )
