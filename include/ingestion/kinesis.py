"""Kinesis: a stream's records become landing objects, which go the way of all data.

Each shard has a row in the ledger's table, ``stream#{stream}`` / ``shard#{id}``: who reads it until when (a lease), a token that grows
with each lease, the checkpoint, and the pending range.

A range of records is landed in four steps: its first and last sequence number are written as pending; the object is put, under a key made
of them and only if it isn't there; the object's version is recorded as received; the checkpoint is moved to the last number. Who
goes on after a death finds the pending range and lands exactly that one, so that the object is the same, and is received once. Every write
to the table has the condition that the lease's token is still the same: whoever has lost a shard writes nothing more of it.

A shard that was split or merged is read to its end before its children are begun, so the order of records of one key stays.

A stream forgets records after its retention period. Where the last read was so long ago that some may have been forgotten, the shard stops,
and the error names the gap; `accept_gap` lets it go on, and the row keeps the gap.
"""

from __future__ import annotations

import gzip
import json
import logging
import time
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.exceptions import LeaseLost, LeaseTaken, StreamTrimmed
from include.ingestion.ledger import PARTITION, SORT, Arrival, stamp
from include.ingestion.notices import object_version
from include.ingestion.receive import head
from include.tenants.transactions import ConditionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.ingestion.ledger import Ledger
    from include.ingestion.notices import ObjectVersion

_LOG: Final = logging.getLogger(__name__)
LANDING_PREFIX: Final = "streams"
_SHARD: Final = "shard#"
_THROTTLED: Final = frozenset(
    {"ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"}
)
_MOST_PAUSES: Final = 6
_PAUSE_SECONDS: Final = 0.5
_READ_AT_ONCE: Final = 10_000
"""Kinesis's limit of a GetRecords, which also gives at most 10 MiB."""


@dataclass(frozen=True)
class StreamLimits:
    """How a stream is read.

    Attributes:
        bytes: of the records of a landing object before compression; one more GetRecords (10 MiB) may be in memory beside them.
        records: the most of a landing object.
        seconds: begin no further landing object after this.
        lease_seconds: how long a lease lasts unless something is written.
    """

    bytes: int = 64 * 1024 * 1024
    records: int = 500_000
    seconds: float = 120.0
    lease_seconds: float = 120.0


@dataclass(frozen=True)
class Lease:
    """A shard's row, as somebody has it who may write to it.

    Attributes:
        shard: its id.
        owner: who reads it.
        token: of this lease.
        until: when others may take it, seconds since the epoch.
        checkpoint: sequence number of the last record that was landed; empty if none was.
        covered: all records that arrived before were landed; seconds since the epoch.
        pending: first and last sequence number and count of the range that is being landed; None if none is.
        finished: it was read to its end.
        gap: gaps that were accepted.
    """

    shard: str
    owner: str
    token: int
    until: float
    checkpoint: str
    covered: float
    pending: tuple[str, str, int] | None
    finished: bool
    gap: str


@dataclass(frozen=True)
class StreamReport:
    """What was read.

    Attributes:
        records: landed.
        bytes: of those, before compression.
        objects: landing objects.
        finished: shards that were read to their ends, now or before.
        taken: shards that somebody else reads.
        throttled: shards that were left for the next time because Kinesis was asked too much.
    """

    records: int = 0
    bytes: int = 0
    objects: int = 0
    finished: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    throttled: tuple[str, ...] = ()


class _ThrottledError(Exception):
    """Kinesis says for long that it is too much."""


@dataclass
class _Buffer:
    """Records that go into the same landing object."""

    records: list[bytes] = field(default_factory=list)
    size: int = 0
    first: str = ""
    last: str = ""

    def add(self, record: Mapping[str, Any]) -> None:
        data = bytes(record["Data"])
        self.records.append(data)
        self.size += len(data) + 1
        self.first = self.first or record["SequenceNumber"]
        self.last = record["SequenceNumber"]

    def is_full(self, record: Mapping[str, Any], limits: StreamLimits) -> bool:
        """Whether it has no room for a record; an empty one always has."""
        more = len(record["Data"]) + 1
        return bool(self.records) and (len(self.records) >= limits.records or self.size + more > limits.bytes)

    def content(self) -> bytes:
        """Gzip of the records, each ended by a line break; the same for the same records."""
        out = BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as file:
            for data in self.records:
                file.write(data if data.endswith(b"\n") or not data else data + b"\n")
        return out.getvalue()


@dataclass
class _Run:
    """What a call of `StreamIntake.read` has done so far."""

    end: float
    report: StreamReport = field(default_factory=StreamReport)
    trimmed: dict[str, str] = field(default_factory=dict)

    def count(self, buffer: _Buffer) -> None:
        there = self.report
        self.report = replace(
            there,
            records=there.records + len(buffer.records),
            bytes=there.bytes + buffer.size,
            objects=there.objects + 1,
        )

    def finished(self, shard: str) -> None:
        if shard not in self.report.finished:
            self.report = replace(self.report, finished=(*self.report.finished, shard))


def landing_key(source: str, stream: str, shard: str, first: str, last: str) -> str:
    """Key of a landing object."""
    return f"{LANDING_PREFIX}/source={source}/stream={stream}/shard={shard}/{first}-{last}.gz"


@dataclass(frozen=True)
class StreamIntake:
    """Reads a stream.

    Attributes:
        kinesis: a boto3 client.
        s3: a boto3 client.
        ledger: where leases and versions are.
        stream: its name.
        source: whose data it is.
        bucket: where landing objects go, below `LANDING_PREFIX`.
        owner: who reads: a retry of a task has the same and goes on at once.
        limits: see there.
        clock: seconds since the epoch.
        sleep: waits so many seconds.
    """

    kinesis: Any
    s3: Any
    ledger: Ledger
    stream: str
    source: str
    bucket: str
    owner: str
    limits: StreamLimits = field(default_factory=StreamLimits)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def read(self) -> StreamReport:
        """Land what the stream has, until nothing more is there or the time is over.

        Raises:
            StreamTrimmed: records of some shards are gone before they were read, or may be; the other shards were read.
        """
        run = _Run(self.clock() + self.limits.seconds)
        done: set[str] = set()
        while self.clock() < run.end:
            ready = {shard: covered for shard, covered in self._ready(run).items() if shard not in done}
            if not ready:
                break
            for shard, covered in ready.items():
                done.add(shard)
                if self.clock() < run.end:
                    self._try_shard(shard, covered, run)
        if run.trimmed:
            raise StreamTrimmed("; ".join(run.trimmed.values()))
        return run.report

    def leases(self) -> list[Lease]:
        """The rows of the stream's shards: who reads them, how far they were read, what gaps were accepted."""
        pages = self.ledger.dynamodb.get_paginator("query").paginate(
            TableName=self.ledger.table,
            ConsistentRead=True,
            KeyConditionExpression=f"{PARTITION} = :pk AND begins_with({SORT}, :prefix)",
            ExpressionAttributeValues={":pk": {"S": f"stream#{self.stream}"}, ":prefix": {"S": _SHARD}},
        )
        return [_read_row(row) for page in pages for row in page["Items"]]

    def accept_gap(self, shard: str, *, why: str) -> Lease:
        """Let a shard go on whose records are gone, or may be: an operator's decision. The row keeps it.

        Args:
            shard: its id.
            why: in the operator's words.

        Raises:
            LeaseTaken: somebody reads it now.
            LeaseLost: somebody has begun to meanwhile.
        """
        lease = self._take(shard, self.clock())
        if lease.pending:
            version = head(self.s3, self.bucket, self._key(lease, *lease.pending[:2]))
            if version is not None:
                lease = self._record(lease, version, lease.pending, lease.covered)
        listed = {each["ShardId"] for each in self._list()}
        gap = f"{stamp(self.clock())}: after {lease.checkpoint or 'the beginning'}, since {stamp(lease.covered)}: {why}"
        kept = "\n".join(filter(None, [lease.gap, gap]))
        return self._save(
            replace(lease, pending=None, covered=self.clock(), finished=shard not in listed, gap=kept), release=True
        )

    # Which shards may be read

    def _ready(self, run: _Run) -> dict[str, float]:
        """The shards to read whose parents were read to their ends, and until when what came before them was read."""
        rows = {each.shard: each for each in self.leases()}
        listed = {each["ShardId"]: each for each in self._list()}
        for shard, row in rows.items():
            if shard not in listed and not row.finished and not row.pending:
                run.trimmed[shard] = self._gap(row, "that the shard is gone")
        ready: dict[str, float] = {}
        for shard, each in listed.items():
            row_ = rows.get(shard)
            if row_ is not None and row_.finished:
                run.finished(shard)
                continue
            parents = [each[name] for name in ("ParentShardId", "AdjacentParentShardId") if each.get(name)]
            known = [rows[parent] for parent in parents if parent in rows]
            if any(not parent.finished for parent in known) or any(
                parent in listed and parent not in rows for parent in parents
            ):
                continue
            ready[shard] = min((parent.covered for parent in known), default=self.clock())
        # a range that was begun may be landed already though its shard is gone
        ready |= {shard: row.covered for shard, row in rows.items() if shard not in listed and row.pending}
        return ready

    def _list(self) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = []
        request: dict[str, Any] = {"StreamName": self.stream}
        while True:
            answer = self._insist(self.kinesis.list_shards, **request)
            shards += answer["Shards"]
            if not answer.get("NextToken"):
                return shards
            request = {"NextToken": answer["NextToken"]}

    # Reading

    def _try_shard(self, shard: str, covered: float, run: _Run) -> None:
        try:
            lease = self._take(shard, covered)
            lease = self._read_shard(lease, run)
            if lease.finished:
                run.finished(shard)
        except (LeaseTaken, LeaseLost) as error:
            _LOG.info("stream %s: %s", self.stream, error)
            run.report = replace(run.report, taken=(*run.report.taken, shard))
        except _ThrottledError:
            run.report = replace(run.report, throttled=(*run.report.throttled, shard))
        except StreamTrimmed as error:
            run.trimmed[shard] = str(error)

    def _read_shard(self, lease: Lease, run: _Run) -> Lease:
        if lease.pending:
            lease = self._land_pending(lease, lease.pending, run)
        retention = self._insist(self.kinesis.describe_stream_summary, StreamName=self.stream)
        hours = retention["StreamDescriptionSummary"]["RetentionPeriodHours"]
        if self.clock() - lease.covered > hours * 3600:
            self._save(lease, release=True)
            raise StreamTrimmed(self._gap(lease, f"that the stream keeps records for {hours} hours only"))
        buffer = _Buffer()
        iterator: str | None = self._iterator(lease.shard, lease.checkpoint)
        covered = lease.covered
        throttled: _ThrottledError | None = None
        while iterator is not None and self.clock() < run.end:
            if self.clock() > lease.until - self.limits.lease_seconds / 2:
                lease = self._save(lease)
            asked = self.clock()
            try:
                answer = self._get(lease.shard, iterator, buffer.last or lease.checkpoint)
            except _ThrottledError as error:
                throttled = error
                break
            for record in answer["Records"]:
                if buffer.is_full(record, self.limits):
                    lease = self._land(lease, buffer, covered, run)
                    buffer = _Buffer()
                buffer.add(record)
                covered = max(covered, record["ApproximateArrivalTimestamp"].timestamp())
            iterator = answer.get("NextShardIterator")
            if not answer.get("MillisBehindLatest"):
                covered = max(covered, asked)
                if iterator is not None:
                    break
        if buffer.records:
            lease = self._land(lease, buffer, covered, run)
        lease = self._save(replace(lease, covered=covered, finished=iterator is None), release=True)
        if throttled:
            raise throttled
        return lease

    def _land_pending(self, lease: Lease, pending: tuple[str, str, int], run: _Run) -> Lease:
        """Land the range that somebody began to land, and exactly that."""
        first, last, count = pending
        version = head(self.s3, self.bucket, self._key(lease, first, last))
        if version is None:
            buffer = self._read_range(lease, last)
            if (buffer.first, buffer.last, len(buffer.records)) != (first, last, count):
                self._save(lease, release=True)
                raise StreamTrimmed(
                    self._gap(
                        lease, f"{len(buffer.records)} records {buffer.first}-{buffer.last} of {count}, {first}-{last}"
                    )
                )
            version = self._put(lease, buffer)
            run.count(buffer)
        return self._record(lease, version, pending, lease.covered)

    def _read_range(self, lease: Lease, last: str) -> _Buffer:
        """The records after the checkpoint, to the end of the pending range; fewer if they aren't there."""
        buffer = _Buffer()
        iterator: str | None = self._iterator(lease.shard, lease.checkpoint)
        while iterator is not None:
            answer = self._get(lease.shard, iterator, buffer.last or lease.checkpoint)
            for record in answer["Records"]:
                if int(record["SequenceNumber"]) > int(last):
                    return buffer
                buffer.add(record)
            iterator = answer.get("NextShardIterator")
            if buffer.last == last or not answer.get("MillisBehindLatest"):
                return buffer
        return buffer

    def _iterator(self, shard: str, after: str) -> str:
        from botocore.exceptions import ClientError

        where = {"StreamName": self.stream, "ShardId": shard}
        if after:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        else:
            start = {"ShardIteratorType": "TRIM_HORIZON"}
        try:
            return str(self._insist(self.kinesis.get_shard_iterator, **where, **start)["ShardIterator"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"InvalidArgumentException", "ResourceNotFoundException"}:
                raise
            raise StreamTrimmed(
                f"stream {self.stream}, {shard}: expected it to be readable after {after or 'its beginning'}, found "
                f"{error.response['Error']['Message']}; {_ACCEPT}"
            ) from error

    def _get(self, shard: str, iterator: str, after: str) -> dict[str, Any]:
        """A page of records; an iterator that has expired is made anew."""
        limit = min(self.limits.records, _READ_AT_ONCE)
        try:
            return self._insist(self.kinesis.get_records, ShardIterator=iterator, Limit=limit)
        except self.kinesis.exceptions.ExpiredIteratorException:
            return self._insist(self.kinesis.get_records, ShardIterator=self._iterator(shard, after), Limit=limit)

    def _insist(self, call: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        pauses = 0
        while True:
            try:
                return call(**arguments)
            except ClientError as error:
                if error.response["Error"]["Code"] not in _THROTTLED:
                    raise
                if pauses == _MOST_PAUSES:
                    raise _ThrottledError from error
                self.sleep(_PAUSE_SECONDS * 2**pauses)
                pauses += 1

    # Landing

    def _land(self, lease: Lease, buffer: _Buffer, covered: float, run: _Run) -> Lease:
        pending = (buffer.first, buffer.last, len(buffer.records))
        lease = self._save(replace(lease, pending=pending))
        version = self._put(lease, buffer)
        run.count(buffer)
        return self._record(lease, version, pending, covered)

    def _record(self, lease: Lease, version: ObjectVersion, pending: tuple[str, str, int], covered: float) -> Lease:
        """Record a landing object as received, then move the checkpoint over it."""
        try:
            self.ledger.receive([Arrival(version, self.source, "stream")], guard=[self._check(lease)])
        except ConditionFailed as error:
            raise self._lost(lease) from error
        return self._save(replace(lease, pending=None, checkpoint=pending[1], covered=max(covered, lease.covered)))

    def _put(self, lease: Lease, buffer: _Buffer) -> ObjectVersion:
        """Put the landing object, if it isn't there: so there is one version of it, whoever puts it again."""
        from botocore.exceptions import ClientError

        key = self._key(lease, buffer.first, buffer.last)
        content = buffer.content()
        for _ in range(_MOST_PAUSES):
            try:
                answer = self.s3.put_object(Bucket=self.bucket, Key=key, Body=content, IfNoneMatch="*")
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code not in {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
                    raise
                version = head(self.s3, self.bucket, key)
                if version is not None:
                    return version
                self.sleep(_PAUSE_SECONDS)  # somebody else is putting it at this moment
            else:
                return object_version(self.bucket, key, answer.get("VersionId"), answer["ETag"], len(content))
        raise LeaseLost(f"expected to put s3://{self.bucket}/{key}, found that others do all the time; retry")

    def _key(self, lease: Lease, first: str, last: str) -> str:
        return landing_key(self.source, self.stream, lease.shard, first, last)

    # The row

    def _take(self, shard: str, covered: float) -> Lease:
        now = self.clock()
        try:
            row = self.ledger.dynamodb.update_item(
                TableName=self.ledger.table,
                Key=self._row_key(shard),
                UpdateExpression="SET #owner = :owner, #until = :until, covered = if_not_exists(covered, :covered) ADD #token :one",
                ConditionExpression=f"attribute_not_exists({PARTITION}) OR #until <= :now OR #owner = :owner",
                ExpressionAttributeNames={"#owner": "owner", "#until": "until", "#token": "token"},
                ExpressionAttributeValues={
                    ":owner": {"S": self.owner},
                    ":until": _ms(now + self.limits.lease_seconds),
                    ":now": _ms(now),
                    ":covered": _ms(covered),
                    ":one": {"N": "1"},
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except self.ledger.dynamodb.exceptions.ConditionalCheckFailedException as error:
            raise LeaseTaken(f"expected nobody to read {shard}, found somebody else who does") from error
        return _read_row(row)

    def _save(self, lease: Lease, *, release: bool = False) -> Lease:
        """Write the row as the lease has it, and prolong the lease, or end it.

        Raises:
            LeaseLost: somebody else has taken the shard.
        """
        until = 0.0 if release else self.clock() + self.limits.lease_seconds
        values = {
            ":until": _ms(until),
            ":checkpoint": {"S": lease.checkpoint},
            ":covered": _ms(lease.covered),
            ":pending": {"S": json.dumps(lease.pending)},
            ":finished": {"BOOL": lease.finished},
            ":gap": {"S": lease.gap},
            ":token": {"N": str(lease.token)},
        }
        try:
            self.ledger.dynamodb.update_item(
                TableName=self.ledger.table,
                Key=self._row_key(lease.shard),
                UpdateExpression="SET #until = :until, checkpoint = :checkpoint, covered = :covered, pending = :pending, "
                "finished = :finished, gap = :gap",
                ConditionExpression="#token = :token",
                ExpressionAttributeNames={"#until": "until", "#token": "token"},
                ExpressionAttributeValues=values,
            )
        except self.ledger.dynamodb.exceptions.ConditionalCheckFailedException as error:
            raise self._lost(lease) from error
        return replace(lease, until=until)

    def _check(self, lease: Lease) -> dict[str, Any]:
        return {
            "ConditionCheck": {
                "TableName": self.ledger.table,
                "Key": self._row_key(lease.shard),
                "ConditionExpression": "#token = :token",
                "ExpressionAttributeNames": {"#token": "token"},
                "ExpressionAttributeValues": {":token": {"N": str(lease.token)}},
            }
        }

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(
            f"stream {self.stream}, {lease.shard}: expected {lease.owner} to still read it, found that "
            "somebody else does; this one stops"
        )

    def _row_key(self, shard: str) -> dict[str, Any]:
        return {PARTITION: {"S": f"stream#{self.stream}"}, SORT: {"S": _SHARD + shard}}

    def _gap(self, lease: Lease, found: str) -> str:
        return (
            f"stream {self.stream}, {lease.shard}: expected all records after {lease.checkpoint or 'its beginning'} (read until "
            f"{stamp(lease.covered)}), found {found}; what arrived between then and the oldest that is there may be lost. {_ACCEPT}"
        )


_ACCEPT: Final = (
    "Get them from where they come from if you can, then accept the gap of the shard: it goes on from what is there"
)


def _ms(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}


def _read_row(row: Mapping[str, Any]) -> Lease:
    def text(name: str) -> str:
        return str(row[name]["S"]) if name in row else ""

    pending = json.loads(text("pending") or "null")
    return Lease(
        row[SORT]["S"].removeprefix(_SHARD),
        text("owner"),
        int(row["token"]["N"]),
        int(row["until"]["N"]) / 1000,
        text("checkpoint"),
        int(row["covered"]["N"]) / 1000,
        (pending[0], pending[1], pending[2]) if pending else None,
        row.get("finished", {}).get("BOOL", False),
        text("gap"),
    )
