"""Compaction: the small objects of a partition of the lake become a few near Security Lake's 256 MiB, ordered by time.

Two parts that meet in files. `Compactor` runs in Airflow: it plans, fetches, has the objects merged, uploads and deletes. `merge` runs in
the warehouse environment, ``python -m include.ingestion.compaction REQUEST.json``: it alone knows Parquet.

**What is left alone.** Keys that `parse_lake_key` doesn't know; objects near the target; days that ended less than the grace ago; objects
that were written lately, or that ``settled`` says no to: an intake that has died between making an object visible and noting it asks for
the object again, and would ingest its batch once more if it was gone.

**What a reader sees.** S3 can't swap objects. So the merged object becomes visible first, and the inputs are deleted right after:

1. fetch the inputs (each exactly its etag), merge, count: rows and values in = rows and values out;
2. upload the merged object invisibly (a multipart upload that isn't completed); write the journal: upload, inputs, their etags;
3. look that all inputs are still there and the same; complete the upload;
4. delete each input if its etag is still that one; remove the journal.

A reader that lists the partition between 3 and the end of 4 sees the group's rows twice: some ten milliseconds for a few inputs, a second
or two for 500. It never misses a row. A query that has listed before and reads after 4 fails with NoSuchKey (Athena says
HIVE_CANNOT_OPEN_SPLIT) and is right when it is run again. So compaction is for the hours in which few ask. Whoever dies before 3 has
changed nothing; whoever dies after it leaves the rows doubled until the next run, which begins with what journals are left
(`Compactor.find`). The merged object's key is made of the inputs' keys and etags, so a group that is merged again gets the same name.

**Subscribers with data access** are told of every new object, so also of a merged one, whose rows they know already. They must leave out
keys whose file name begins with ``compacted-``.

**One at a time.** A lease in DynamoDB, with a number that grows by one with every holder, is on the partition. It holds the journal too,
so that nobody who has lost the lease can write one. Should such a one wake up late, then all it can still do is what the journal says:
complete the same upload, or delete the same inputs by the same etags.

A bucket that is compacted needs the lifecycle rule ``AbortIncompleteMultipartUpload`` of `include.ingestion.publish`. In a versioned bucket
deleted inputs stay as noncurrent versions until a lifecycle rule removes them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from include.ingestion.exceptions import CountsDiffer, IngestionError, LeaseLost, LeaseTaken, ObjectGone, OutputLost
from include.ingestion.security_lake import LakeKey, LakePartition, parse_lake_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from include.ingestion.ledger import Upload

log = logging.getLogger(__name__)

TARGET_BYTES: Final = 256 * 1024 * 1024
ROW_GROUP_LIMIT: Final = 256 * 1024 * 1024
"""Compressed; Security Lake's."""
PREFIX: Final = "compacted-"
"""How the batch id of a merged object begins."""
MODULE: Final = "include.ingestion.compaction"
RESULT_FILE: Final = "result.json"
_REQUEST_FILE: Final = "request.json"
_GONE: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.2
_LAST_WORDS: Final = 20
_CONDITION: Final = "ConditionalCheckFailedException"


class CompactionConflict(IngestionError):
    """An input was replaced while its rows were already in a merged object; somebody has to look."""


class MergeFailed(IngestionError):
    """The objects could not be merged. Nothing was uploaded and nothing was deleted."""


class SchemasDiffer(IngestionError):
    """Objects of a partition have a column of types that don't fit together. Nothing was changed."""


# The seam


@dataclass(frozen=True)
class MergeRequest:
    """What is to be merged.

    Attributes:
        inputs: Parquet files, in an order that is the same each time.
        output: the file to write.
        work: folder for what doesn't fit into memory; it is there.
        memory_mib: of events held at a time; the process takes about three times that.
    """

    inputs: tuple[Path, ...]
    output: Path
    work: Path
    memory_mib: int = 256

    def to_json(self) -> str:
        """As the process reads it."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> MergeRequest:
        """As it was written."""
        said = json.loads(text)
        inputs = tuple(Path(path) for path in said["inputs"])
        return cls(inputs, Path(said["output"]), Path(said["work"]), said["memory_mib"])


@dataclass(frozen=True)
class MergeResult:
    """What was merged.

    Attributes:
        input_rows: of each input.
        rows: of the output.
        bytes: of the output.
        time_min: of its first event, ms since 1970.
        time_max: of its last.
        seconds: how long it took.
    """

    input_rows: tuple[int, ...]
    rows: int
    bytes: int
    time_min: int
    time_max: int
    seconds: float


class Merger(Protocol):
    """Merges files."""

    def run(self, request: MergeRequest) -> MergeResult:
        """Merge them."""


# The orchestrating part


@dataclass(frozen=True)
class CompactionLimits:
    """What is compacted, and how.

    Attributes:
        target_bytes: an object is to have about so many.
        near: an object of at least this share of the target stays as it is.
        grace_hours: a day is compacted when it has been over for so long.
        quiet_hours: and only objects that are there for so long.
        most_inputs: of one merged object.
        memory_mib: see `MergeRequest`.
        lease_seconds: more than fetching, merging and uploading one group takes.
        threads: that fetch and delete.
    """

    target_bytes: int = TARGET_BYTES
    near: float = 0.75
    grace_hours: float = 24.0
    quiet_hours: float = 24.0
    most_inputs: int = 500
    memory_mib: int = 256
    lease_seconds: float = 1800.0
    threads: int = 8


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object in the lake.

    Attributes:
        key: its key.
        etag: without quotes.
        size: bytes.
        modified: seconds since 1970.
    """

    key: str
    etag: str
    size: int
    modified: float = 0.0


@dataclass(frozen=True)
class CompactionReport:
    """What was done to a partition.

    Attributes:
        partition: which.
        merged: objects that were made.
        inputs: objects that are gone for them.
        rows: of those that were made.
        bytes_before: of the inputs.
        bytes_after: of those that were made.
        resumed: of those that were made, by finishing what an earlier run had begun.
    """

    partition: LakePartition
    merged: int = 0
    inputs: int = 0
    rows: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    resumed: int = 0


@dataclass(frozen=True)
class _Journal:
    """What is to be finished once it is begun."""

    group: str
    attempt: int
    upload: Upload
    inputs: tuple[StoredObject, ...]

    def to_json(self) -> str:
        upload = asdict(self.upload)
        inputs = [[each.key, each.etag, each.size] for each in self.inputs]
        return json.dumps({"group": self.group, "attempt": self.attempt, "upload": upload, "inputs": inputs})

    @classmethod
    def from_json(cls, text: str) -> _Journal:
        from include.ingestion.ledger import Upload

        said = json.loads(text)
        upload = Upload(**{**said["upload"], "parts": tuple(said["upload"]["parts"])})
        return cls(said["group"], said["attempt"], upload, tuple(StoredObject(*each) for each in said["inputs"]))


def plan_groups(
    objects: Iterable[StoredObject],
    limits: CompactionLimits,
    now: float,
    settled: Callable[[LakeKey], bool] = lambda _: True,
) -> list[tuple[StoredObject, ...]]:
    """The objects of one partition that are to be merged, by merged object; the smallest first.

    Args:
        objects: that are there.
        limits: what to take.
        now: seconds since 1970.
        settled: whether an object may go; not asked for merged ones.
    """
    small = []
    for each in objects:
        key = parse_lake_key(each.key)
        if (
            key is not None
            and each.size < limits.near * limits.target_bytes
            and each.modified <= now - limits.quiet_hours * 3600
            and (key.batch_id.startswith(PREFIX) or settled(key))
        ):
            small.append(each)
    groups: list[tuple[StoredObject, ...]] = []
    group: list[StoredObject] = []
    size = 0
    for each in sorted(small, key=lambda one: (one.size, one.key)):
        if group and (size + each.size > limits.target_bytes or len(group) >= limits.most_inputs):
            groups.append(tuple(group))
            group, size = [], 0
        group.append(each)
        size += each.size
    groups.append(tuple(group))
    return [tuple(sorted(each)) for each in groups if len(each) > 1]


def group_id(inputs: Iterable[StoredObject]) -> str:
    """The name of what these become; the same for the same keys and etags."""
    parts = json.dumps(sorted([each.key, each.etag] for each in inputs))
    return PREFIX + hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass
class Compactor:
    """Compacts partitions of a lake.

    Attributes:
        s3: a boto3 client.
        dynamodb: a boto3 client.
        bucket: of the lake.
        table: of DynamoDB, with partition key ``pk`` and sort key ``sk``; it may be the ledger's.
        merger: merges files; `MergeProcess`.
        owner: who this is; a task's retry has the same and gets its own lease back at once.
        work: folder on the local disk, with room for about three times the target.
        limits: what is compacted.
        settled: whether an object may go; not asked for merged ones.
        clock: seconds since 1970.
        sleep: waits so many seconds between tries.
    """

    s3: Any
    dynamodb: Any
    bucket: str
    table: str
    merger: Merger
    owner: str
    work: Path
    limits: CompactionLimits = field(default_factory=CompactionLimits)
    settled: Callable[[LakeKey], bool] = lambda _: True
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def find(self, custom_sources: Iterable[str], oldest_day: str) -> list[LakePartition]:
        """Partitions with something to do: those that an earlier run has begun first, then those with small objects.

        Args:
            custom_sources: whose.
            oldest_day: YYYYMMDD; earlier days are not looked at. Those that were begun are found anyhow.
        """
        sources = sorted(set(custom_sources))
        begun = [each for each in self._begun() if each.custom_source in sources]
        found = []
        for source in sources:
            for prefix in self._accounts(source):
                objects: dict[LakePartition, list[StoredObject]] = {}
                for each in self._list(prefix, start=f"{prefix}eventDay={oldest_day}"):
                    if (key := parse_lake_key(each.key)) and self._is_over(key.partition.event_day):
                        objects.setdefault(key.partition, []).append(each)
                found += [partition for partition, some in sorted(objects.items()) if self._plan(some)]
        return list(dict.fromkeys([*begun, *found]))

    def compact(self, partition: LakePartition) -> CompactionReport:
        """Finish what was begun, then merge what is small.

        Raises:
            LeaseTaken: somebody else is at it.
            LeaseLost: it took longer than the lease; nothing is lost, a retry goes on.
            MergeFailed: the objects can't be merged.
            CountsDiffer: the merged object isn't its inputs; it is not uploaded.
            CompactionConflict: an input was replaced meanwhile.
            FetchFailed: an input could not be downloaded whole.
            DiskFull: there is no room.
        """
        lease = _Lease(self, partition)
        journal = lease.acquire()
        report = CompactionReport(partition)
        try:
            if journal and self._finish(lease, partition, journal):
                report = _with(report, journal, resumed=1)
            if self._is_over(partition.event_day):
                for group in self._plan(self._list(partition.prefix)):
                    done = self._merge(lease, partition, group)
                    if done and self._finish(lease, partition, done):
                        report = _with(report, done)
        except LeaseLost:
            raise  # it is somebody else's
        except Exception:
            lease.release()
            raise
        lease.release()
        return report

    # Planning

    def _is_over(self, day: str) -> bool:
        end = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
        return end.timestamp() + self.limits.grace_hours * 3600 <= self.clock()

    def _plan(self, objects: Iterable[StoredObject]) -> list[tuple[StoredObject, ...]]:
        return plan_groups(objects, self.limits, self.clock(), self.settled)

    def _list(self, prefix: str, start: str = "") -> Iterator[StoredObject]:
        request = {"Bucket": self.bucket, "Prefix": prefix} | ({"StartAfter": start} if start else {})
        for page in self.s3.get_paginator("list_objects_v2").paginate(**request):
            for each in page.get("Contents", []):
                yield StoredObject(each["Key"], each["ETag"].strip('"'), each["Size"], each["LastModified"].timestamp())

    def _accounts(self, source: str) -> list[str]:
        """Prefixes of the accounts of a source, in all regions."""
        return [account for region in self._folders(f"ext/{source}/") for account in self._folders(region)]

    def _folders(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
        return [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]

    def _begun(self) -> list[LakePartition]:
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.table,
            KeyConditionExpression="pk = :pk",
            FilterExpression="attribute_exists(journal)",
            ExpressionAttributeValues={":pk": {"S": f"compaction#{self.bucket}"}},
            ProjectionExpression="sk",
            ConsistentRead=True,
        )
        # a partition's prefix is that of its keys
        keys = [parse_lake_key(f"{item['sk']['S']}x-00000.zstd.parquet") for page in pages for item in page["Items"]]
        return sorted(key.partition for key in keys if key)

    # One group

    def _merge(self, lease: _Lease, partition: LakePartition, inputs: tuple[StoredObject, ...]) -> _Journal | None:
        """Everything that nobody sees; None if an input is gone or another one by now."""
        from include.ingestion import publish

        group = group_id(inputs)
        folder = self.work / group
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier try
        folder.mkdir(parents=True)
        try:
            lease.hold()
            try:
                paths = self._each(lambda one: self._fetch(one[1], folder / f"{one[0]:04d}.parquet"), enumerate(inputs))
            except ObjectGone as error:
                log.warning("%s is left for the next run: %s", group, error)
                return None
            output = folder / "merged"
            result = self.merger.run(MergeRequest(tuple(paths), output, folder, self.limits.memory_mib))
            _check(group, inputs, result, output)
            lease.hold()
            upload = publish.upload_invisibly(
                self.s3,
                output,
                kind="lake",
                bucket=self.bucket,
                key=str(LakeKey(partition, group, 0)),
                rows=result.rows,
                detail={"time_min": result.time_min, "time_max": result.time_max},
                batch_id=group,
                attempt=lease.generation,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        journal = _Journal(group, lease.generation, upload, inputs)
        try:
            lease.write(journal)
        except LeaseLost:
            publish.abort(self.s3, upload)
            raise
        return journal

    def _finish(self, lease: _Lease, partition: LakePartition, journal: _Journal) -> bool:
        """Make the merged object visible and delete its inputs; False if that can't be any more: then nothing was deleted."""
        from include.ingestion import publish

        upload = journal.upload
        if not self._is_visible(journal):
            there = {each.key: each.etag for each in self._list(partition.prefix)}
            changed = [each.key for each in journal.inputs if there.get(each.key) != each.etag]
            lease.hold()
            if changed:
                log.warning(
                    "%s is given up: %s of its inputs changed, first %s", journal.group, len(changed), changed[0]
                )
                publish.abort(self.s3, upload)
                if self._is_visible(journal):
                    raise self._conflict(journal, changed)
                lease.write(None)
                return False
            try:
                publish.complete(self.s3, upload, batch_id=journal.group, attempt=journal.attempt)
            except OutputLost:  # a lifecycle rule has aborted it; the inputs are all there
                lease.write(None)
                return False
        lease.hold()
        replaced = [key for key in self._each(self._delete, journal.inputs) if key]
        if replaced:
            raise self._conflict(journal, replaced)
        lease.write(None)
        return True

    def _is_visible(self, journal: _Journal) -> bool:
        from include.ingestion import publish

        bucket, key = journal.upload.bucket, journal.upload.key
        return publish.is_output_of(self.s3, bucket, key, batch_id=journal.group, attempt=journal.attempt)

    def _conflict(self, journal: _Journal, keys: Sequence[str]) -> CompactionConflict:
        upload = journal.upload
        return CompactionConflict(
            f"expected the inputs of s3://{upload.bucket}/{upload.key} to stay as they were merged, found {len(keys)} replaced: "
            f"{', '.join(keys[:5])}. Their former rows are in the merged object, the present ones beside it. Delete whichever is wrong, "
            f"then the attribute journal of the item compaction#{self.bucket} of {self.table}"
        )

    def _fetch(self, stored: StoredObject, path: Path) -> Path:
        from include.ingestion.fetch import fetch
        from include.ingestion.notices import ObjectVersion

        fetch(self.s3, ObjectVersion(self.bucket, stored.key, None, stored.etag, stored.size), path, sleep=self.sleep)
        return path

    def _delete(self, stored: StoredObject) -> str:
        """Delete an input if it is still that one; its key if it isn't, else nothing."""
        from botocore.exceptions import ClientError

        for again in range(_TRIES):
            if again:
                self.sleep(_PAUSE_SECONDS * 2 ** (again - 1))
            try:
                self.s3.delete_object(Bucket=self.bucket, Key=stored.key, IfMatch=f'"{stored.etag}"')
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _GONE:  # an earlier try has done it
                    return ""
                if code in {"PreconditionFailed", "412"}:
                    return stored.key
                if code not in {"ConditionalRequestConflict", "OperationAborted", "409"} or again == _TRIES - 1:
                    raise
            else:
                return ""
        raise AssertionError  # the last try returns or raises

    def _each[T, R](self, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
        if self.limits.threads == 1:
            return [act(each) for each in items]
        with ThreadPoolExecutor(self.limits.threads, thread_name_prefix="compaction") as pool:
            return list(pool.map(act, items))


class _Lease:
    """The right to compact a partition, and the journal that goes with it."""

    def __init__(self, compactor: Compactor, partition: LakePartition) -> None:
        self._dynamodb = compactor.dynamodb
        self._table = compactor.table
        self._owner = compactor.owner
        self._seconds = compactor.limits.lease_seconds
        self._clock = compactor.clock
        self._key = {"pk": {"S": f"compaction#{compactor.bucket}"}, "sk": {"S": partition.prefix}}
        self._until = 0.0
        self._journal = False
        self.generation = 0

    def acquire(self) -> _Journal | None:
        """Take it; what the last holder has left to be finished.

        Raises:
            LeaseTaken: somebody else has it.
        """
        now = self._clock()
        until = now + self._seconds
        item = self._update(
            "SET #owner = :owner, #until = :until ADD generation :one",
            "attribute_not_exists(#until) OR #until < :now OR #owner = :owner",
            {":until": _number(until), ":one": _number(1), ":now": _number(now), ":owner": {"S": self._owner}},
        )
        if item is None:
            raise LeaseTaken(
                f"expected {self._key['sk']['S']} to be free, found somebody else compacting it; retry when that is done, or after "
                f"{self._seconds:.0f} s at the latest"
            )
        self._until = until
        self.generation = int(item["generation"]["N"])
        self._journal = "journal" in item
        return _Journal.from_json(item["journal"]["S"]) if self._journal else None

    def hold(self) -> None:
        """Have at least half of the time left.

        Raises:
            LeaseLost: it is somebody else's.
        """
        now = self._clock()
        if self._until - now >= self._seconds / 2:
            return
        self._mine("SET #until = :until", {":until": _number(now + self._seconds)})
        self._until = now + self._seconds

    def write(self, journal: _Journal | None) -> None:
        """Put the journal, or remove it.

        Raises:
            LeaseLost: it is somebody else's; nothing was written.
        """
        until = self._clock() + self._seconds
        values = {":until": _number(until)}
        if journal:
            self._mine("SET #until = :until, journal = :journal", {**values, ":journal": {"S": journal.to_json()}})
        else:
            self._mine("SET #until = :until REMOVE journal", values)
        self._until = until
        self._journal = journal is not None

    def release(self) -> None:
        """Give it back; a journal stays."""
        from botocore.exceptions import ClientError

        if self._journal:
            self._update("SET #until = :zero", _IS_MINE, {":zero": _number(0), **self._me()})
            return
        try:
            self._dynamodb.delete_item(
                TableName=self._table,
                Key=self._key,
                ConditionExpression=_IS_MINE,
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues=self._me(),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != _CONDITION:
                raise

    def _me(self) -> dict[str, Any]:
        return {":owner": {"S": self._owner}, ":generation": _number(self.generation)}

    def _mine(self, change: str, values: Mapping[str, Any]) -> None:
        if self._update(change, _IS_MINE, {**values, **self._me()}) is None:
            raise LeaseLost(
                f"expected to hold {self._key['sk']['S']} for {self._seconds:.0f} s, found it somebody else's, who goes on from here; "
                "nothing is lost. If this comes often, raise lease_seconds"
            )

    def _update(self, change: str, condition: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The item as it is now; None if the condition doesn't hold."""
        from botocore.exceptions import ClientError

        names = {"#owner": "owner", "#until": "until"}
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=change,
                ConditionExpression=condition,
                ExpressionAttributeNames={key: name for key, name in names.items() if key in change + condition},
                ExpressionAttributeValues=dict(values),
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == _CONDITION:
                return None
            raise
        item: dict[str, Any] = answer["Attributes"]
        return item


_IS_MINE: Final = "#owner = :owner AND generation = :generation"


def _number(value: float) -> dict[str, str]:
    return {"N": f"{value:.3f}".rstrip("0").rstrip(".")}


def _with(report: CompactionReport, journal: _Journal, resumed: int = 0) -> CompactionReport:
    return CompactionReport(
        report.partition,
        report.merged + 1,
        report.inputs + len(journal.inputs),
        report.rows + journal.upload.rows,
        report.bytes_before + sum(each.size for each in journal.inputs),
        report.bytes_after + journal.upload.bytes,
        report.resumed + resumed,
    )


def _check(group: str, inputs: Sequence[StoredObject], result: MergeResult, output: Path) -> None:
    """See that nothing is missing before anybody relies on it."""
    if len(result.input_rows) != len(inputs) or sum(result.input_rows) != result.rows or result.rows <= 0:
        raise CountsDiffer(
            f"{group}: expected the rows of {len(inputs)} inputs in the merged object, found {sum(result.input_rows)} in "
            f"{len(result.input_rows)} inputs and {result.rows} in the merged one. Nothing was uploaded"
        )
    size = output.stat().st_size if output.exists() else 0
    if size != result.bytes or size == 0:
        raise CountsDiffer(
            f"{group}: expected a merged file of {result.bytes} bytes, found {size}. Nothing was uploaded"
        )


@dataclass
class MergeProcess:
    """Merges in the warehouse environment, in a process of its own that ends with the task.

    Attributes:
        timeout_seconds: for one merged object; less than the lease.
        python: of the warehouse environment; the settings' if None.
    """

    timeout_seconds: float = 1200.0
    python: Path | None = None
    _killed: threading.Event = field(default_factory=threading.Event, repr=False)
    _process: Any = field(default=None, repr=False)

    def run(self, request: MergeRequest) -> MergeResult:
        """Merge; what the process says goes to the log.

        Raises:
            MergeFailed: it gave no result; the message has its last words.
        """
        from include.ingestion.processing import engine_environment
        from include.platform.paths import PROJECT_ROOT
        from include.platform.settings import load_settings
        from include.warehouse.child_process import ChildProcess

        python = self.python or load_settings().warehouse_venv / "bin" / "python"
        (request.work / _REQUEST_FILE).write_text(request.to_json())
        process = self._process = ChildProcess()
        words: deque[str] = deque(maxlen=_LAST_WORDS)
        timer = threading.Timer(self.timeout_seconds, process.terminate)
        timer.daemon = True
        timer.start()
        try:
            arguments = [str(python), "-m", MODULE, str(request.work / _REQUEST_FILE)]
            process.start(arguments, environment=engine_environment(), directory=PROJECT_ROOT)
            for line in process.lines():
                if told := line.rstrip():
                    words.append(told)
                    log.info("%s", told)
            code = process.wait()
        except OSError as error:
            raise MergeFailed(
                f"expected Python of the warehouse environment at {python}, found: {error}; build it from locks/warehouse.txt (make setup; "
                "on MWAA the startup script does)"
            ) from error
        except BaseException:  # a time-out of the task, for one
            process.terminate()
            raise
        finally:
            timer.cancel()
        if code or self._killed.is_set():
            told = "\n".join(words) or "nothing"
            raise MergeFailed(
                f"expected {len(request.inputs)} objects to be merged within {self.timeout_seconds:.0f} s, found exit code {code}. Nothing "
                f"was changed. Its last words:\n{told}"
            )
        said = json.loads((request.work / RESULT_FILE).read_text())
        return MergeResult(**{**said, "input_rows": tuple(said["input_rows"])})

    def terminate(self) -> None:
        """Stop it; for the task's ``on_kill``. Safe at any time, from any thread."""
        self._killed.set()
        if self._process is not None:
            self._process.terminate()


# The merge: runs in the warehouse environment. pyarrow is imported there only; Airflow's environment lacks it

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Of each sorted run, so much is in memory when runs are merged."""
_MOST_BATCH_ROWS: Final = 8192
_COMPRESSION_LEVEL: Final = 3


def merge(request: MergeRequest) -> MergeResult:
    """Merge Parquet files into one that is ordered by ``time``: an external merge sort, so inputs need no order.

    Events are read until the memory is full, sorted, and written to the disk as a run; then the runs are merged, a few MiB of each at a
    time. If all fits there is no run on the disk. The schema is the union: columns and fields of structs that an input lacks are null
    in its rows; int32 becomes int64 and float becomes double where inputs differ so.

    Raises:
        SchemasDiffer: a column's types don't fit together.
        MergeFailed: an input is no Parquet file or has an event without time.
        CountsDiffer: the output isn't the inputs: rows, values of each column, or the sum of the times.
    """
    began = time.monotonic()
    merging = _Merging(request)
    output = merging.run()
    return MergeResult(
        tuple(merging.input_rows),
        output.rows,
        request.output.stat().st_size,
        output.first,
        output.last,
        time.monotonic() - began,
    )


@dataclass
class _Counted:
    """What a set of events is known by."""

    rows: int = 0
    time_sum: int = 0
    first: int = 0
    last: int = 0
    values: Counter[str] = field(default_factory=Counter)


class _Merging:
    """One merge."""

    def __init__(self, request: MergeRequest) -> None:
        self._request = request
        self._budget = request.memory_mib << 20
        self._in = _Counted()
        self.input_rows: list[int] = []

    def run(self) -> _Counted:
        import pyarrow as pa

        try:
            schema = self._open()
            runs = []
            held = None
            for table in self._sorted(schema):
                if held is not None:
                    runs.append(self._spill(held, len(runs)))
                held = table
            if held is None:
                raise MergeFailed(f"expected events in {len(self._request.inputs)} inputs, found none")
            if not runs:
                self._write(schema, [held])
            else:
                runs.append(self._spill(held, len(runs)))
                held = None
                self._write(schema, self._merged([pa.memory_map(str(path)) for path in runs]))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise MergeFailed(f"expected Parquet files of events, found: {error}") from error
        return self._verified()

    def _open(self) -> Any:
        """The schema of all; counts what is in them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds: dict[str, Any] = {}
        for path in self._request.inputs:
            with pq.ParquetFile(path, memory_map=True) as file:
                self.input_rows.append(file.metadata.num_rows)
                self._in.rows += file.metadata.num_rows
                self._in.values += _values(file.metadata)
                for column in file.schema_arrow:
                    known = kinds.get(column.name)
                    kinds[column.name] = _union(known, column.type, column.name) if known else column.type
        if kinds.get("time") != pa.int64():
            raise MergeFailed(f"expected a column time of type int64, found {kinds.get('time')}")
        return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])

    def _sorted(self, schema: Any) -> Iterator[Any]:
        """All events, in tables of what fits into memory, each ordered by time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        held: list[Any] = []
        size = 0
        for path in self._request.inputs:
            with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=self._batch_rows(file.metadata), use_threads=False):
                    columns = [
                        batch.column(column.name).cast(column.type)
                        if column.name in batch.schema.names
                        else pa.nulls(batch.num_rows, column.type)
                        for column in schema
                    ]
                    table = pa.Table.from_arrays(columns, schema=schema)
                    if table["time"].null_count:
                        raise MergeFailed(
                            f"expected a time in every event, found {table['time'].null_count} without in {path.name}"
                        )
                    self._in.time_sum += int(table["time"].to_numpy().sum())
                    held.append(table)
                    size += table.nbytes
                    if size >= self._budget:
                        yield _by_time(held)
                        held, size = [], 0
        if held:
            yield _by_time(held)

    def _batch_rows(self, metadata: Any) -> int:
        size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
        row = max(1, size // max(1, metadata.num_rows))
        return int(max(1, min(_MOST_BATCH_ROWS, self._budget // 16 // row)))

    def _spill(self, table: Any, number: int) -> Path:
        import pyarrow as pa

        path = self._request.work / f"run-{number:04d}.arrow"
        rows = max(1, int(table.num_rows * CHUNK_BYTES / max(1, table.nbytes)))
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table, max_chunksize=rows)
        return path

    def _merged(self, files: Sequence[Any]) -> Iterator[Any]:
        """Runs to one, in tables that are in order: rows up to the least of the last times in memory, before which no other can come."""
        import numpy as np
        import pyarrow as pa

        readers = [pa.ipc.open_file(file) for file in files]
        following = [0] * len(readers)
        held: dict[int, Any] = {}
        while True:
            for number, reader in enumerate(readers):
                if number not in held and following[number] < reader.num_record_batches:
                    held[number] = pa.Table.from_batches([reader.get_batch(following[number])])
                    following[number] += 1
            if not held:
                return
            times = {number: table["time"].to_numpy() for number, table in held.items()}
            waiting = [number for number in held if following[number] < readers[number].num_record_batches]
            bound = min((times[number][-1] for number in waiting), default=None)
            taken = []
            for number in sorted(held):
                table = held[number]
                rows = table.num_rows if bound is None else int(np.searchsorted(times[number], bound, side="right"))
                taken.append(table.slice(0, rows))
                if rows == table.num_rows:
                    del held[number]
                else:
                    held[number] = table.slice(rows)
            yield _by_time(taken)

    def _write(self, schema: Any, tables: Iterable[Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from include.ingestion.ocsf.parquet import PAGE_BYTES, PAGE_VALUES, ROW_GROUP_BYTES

        with pq.ParquetWriter(
            self._request.output,
            schema,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            data_page_size=PAGE_BYTES,
            dictionary_pagesize_limit=PAGE_BYTES,
            write_batch_size=PAGE_VALUES,
            version="2.6",
            store_schema=False,
        ) as writer:
            held: list[Any] = []
            size = 0

            def write() -> None:
                table = pa.concat_tables(held)
                groups = -(-max(1, table.nbytes) // ROW_GROUP_BYTES)
                writer.write_table(table, row_group_size=max(1, -(-table.num_rows // groups)))

            for table in tables:
                held.append(table)
                size += table.nbytes
                if size >= ROW_GROUP_BYTES:
                    write()
                    held, size = [], 0
            if held:
                write()

    def _verified(self) -> _Counted:
        """Read the output and compare it with the inputs."""
        import numpy as np
        import pyarrow.parquet as pq

        found = _Counted()
        with pq.ParquetFile(self._request.output, memory_map=True, pre_buffer=False) as file:
            found.rows = file.metadata.num_rows
            found.values = _values(file.metadata)
            last = None
            for batch in file.iter_batches(batch_size=1 << 16, columns=["time"], use_threads=False):
                times = batch.column("time").to_numpy()
                found.time_sum += int(times.sum())
                if (last is not None and times[0] < last) or bool(np.any(times[1:] < times[:-1])):
                    raise CountsDiffer("expected events in the order of their time, found others; nothing was uploaded")
                found.first = int(times[0]) if last is None else found.first
                last = found.last = int(times[-1])
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                size = sum(group.column(n).total_compressed_size for n in range(group.num_columns))
                if size > ROW_GROUP_LIMIT:
                    raise CountsDiffer(f"expected row groups of at most {ROW_GROUP_LIMIT} bytes, found one of {size}")
        for what, wanted, is_there in (
            ("rows", self._in.rows, found.rows),
            ("sum of the times", self._in.time_sum, found.time_sum),
            ("values of a column", self._in.values, found.values),
        ):
            if wanted != is_there:
                raise CountsDiffer(
                    f"expected the same {what} after merging, found {is_there} of {wanted}; nothing was uploaded"
                )
        return found


def _by_time(tables: Sequence[Any]) -> Any:
    """Tables as one, ordered by time; events of the same time stay in order."""
    import numpy as np
    import pyarrow as pa

    table = pa.concat_tables(tables).combine_chunks()
    times = table["time"].to_numpy()
    if bool(np.all(times[1:] >= times[:-1])):
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))


def _values(metadata: Any) -> Counter[str]:
    """How many values each leaf has, by its path; those whose file doesn't say are left out, and empty ones too."""
    found: Counter[str] = Counter()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.statistics is not None and column.statistics.has_null_count:
                path = column.path_in_schema.replace(".list.item", ".list.element")
                found[path] += column.num_values - column.statistics.null_count
    return +found


def _union(there: Any, other: Any, path: str) -> Any:
    """A type that holds the values of both.

    Raises:
        SchemasDiffer: there is none.
    """
    import pyarrow as pa

    if there.equals(other) or pa.types.is_null(other):
        return there
    if pa.types.is_null(there):
        return other
    if pa.types.is_struct(there) and pa.types.is_struct(other):
        fields = {each.name: each.type for each in there}
        for each in other:
            known = fields.get(each.name)
            fields[each.name] = _union(known, each.type, f"{path}.{each.name}") if known else each.type
        return pa.struct([pa.field(name, kind) for name, kind in fields.items()])
    if pa.types.is_list(there) and pa.types.is_list(other):
        return pa.list_(_union(there.value_type, other.value_type, f"{path}[]"))
    if pa.types.is_map(there) and pa.types.is_map(other):
        return pa.map_(
            _union(there.key_type, other.key_type, f"{path} key"), _union(there.item_type, other.item_type, f"{path}[]")
        )
    for narrow, wide in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64())):
        if {there, other} == {narrow, wide}:
            return wide
    raise SchemasDiffer(
        f"column {path}: expected types that fit together, found {there} and {other}. Nothing was changed; ingest the older objects anew, "
        "or leave this day uncompacted"
    )


def main(arguments: list[str] | None = None) -> int:
    """Merge what a request says; the result is written beside it."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("request", type=Path)
    request = MergeRequest.from_json(parser.parse_args(arguments).request.read_text())
    try:
        result = merge(request)
    except IngestionError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    (request.work / RESULT_FILE).write_text(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
