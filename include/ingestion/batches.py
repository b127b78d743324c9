"""Batches: what waits is grouped, and each batch is ingested whole, once, or not at all.

`plan` groups a source's waiting versions by size and number, the oldest first. `Ingestion.ingest` brings one batch from ``planned`` to
``published``: fetch, process, check that the counts add up, upload invisibly, commit, make visible. It may die anywhere and be called
again: before the commit it begins anew, with an attempt number of its own, and what the dead attempt had uploaded is given up; after
the commit it only finishes, whatever the mapping is by then. Of two workers at one batch the first to commit wins.

What "visible all at once" means on S3 is told in `include.ingestion.publish`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from include.ingestion import dead_letters, publish
from include.ingestion.exceptions import (
    BatchConflict,
    BatchRefused,
    CountsDiffer,
    DiskFull,
    MappingChanged,
    ObjectArchived,
    ObjectGone,
)
from include.ingestion.fetch import fetch
from include.ingestion.ledger import Batch, BatchState, Counts, ObjectFinding, VersionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from include.ingestion.ledger import Ledger, Member, ObjectRef, Upload, Version

_LOG: Final = logging.getLogger(__name__)
MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class BatchLimits:
    """How a source's versions are grouped.

    Attributes:
        objects: the most of a batch.
        bytes: the most of a batch; a larger object is a batch of its own.
        wait_seconds: a batch that isn't full waits for more until its oldest version was received so long ago.
        open_batches: the most that are planned and not yet published (back-pressure); then nothing more is planned.
    """

    objects: int = 500
    bytes: int = 256 * MIB
    wait_seconds: float = 60.0
    open_batches: int = 32

    def __post_init__(self) -> None:
        if self.objects < 1 or self.bytes < 1 or self.open_batches < 1 or self.wait_seconds < 0:
            raise ValueError(f"expected limits above 0 (wait_seconds: 0 or more), found {self}")


@dataclass(frozen=True)
class Plan:
    """What there is to do for a source.

    Attributes:
        batches: ids of all batches to ingest, the oldest first: those planned now, and those of earlier plans that aren't published.
        new: those planned now.
        full: nothing more was planned because too many batches are open.
    """

    batches: tuple[str, ...]
    new: tuple[str, ...]
    full: bool


@dataclass(frozen=True)
class FetchedObject:
    """An object of a request.

    Attributes:
        path: of the local file.
        bucket: where it came from.
        key: where it came from.
        version_id: None where the bucket keeps no versions.
        etag: without quotes.
        size: bytes.
        replay_of: the object whose dead letters it holds, record by record, each ended by a line break; its key tells account and
            region. None: the object is as its source made it.
    """

    path: Path
    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int
    replay_of: ObjectRef | None = None

    def to_json(self) -> dict[str, Any]:
        """As the engine reads it; ``replay_of`` only where it is one."""
        document = {**vars(self), "path": str(self.path)}
        if self.replay_of is None:
            del document["replay_of"]
        else:
            document["replay_of"] = dict(vars(self.replay_of))
        return document


@dataclass(frozen=True)
class ProcessRequest:
    """What the engine is to do.

    Attributes:
        source: whose data it is.
        batch: its id.
        objects: local files.
        out: folder for what it writes.
        threads: how many it may use.
        mapping_digest: the mapping it must use; None: the present one.
    """

    source: str
    batch: str
    objects: Sequence[FetchedObject]
    out: Path
    threads: int = 1
    mapping_digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the engine reads it."""
        return {**vars(self), "objects": [each.to_json() for each in self.objects], "out": str(self.out)}


@dataclass(frozen=True)
class Output:
    """A file for the lake.

    Attributes:
        path: of the local file.
        class_name: OCSF class of its events.
        region: of the partition.
        account_id: of the partition.
        event_day: of the partition, YYYYMMDD, UTC.
        part: number within the batch and partition.
        rows: events.
        bytes: its size.
        time_min: of its events, milliseconds since the epoch.
        time_max: of its events.
    """

    path: Path
    class_name: str
    region: str
    account_id: str
    event_day: str
    part: int
    rows: int
    bytes: int
    time_min: int
    time_max: int

    @property
    def detail(self) -> dict[str, Any]:
        """What the ledger keeps of it."""
        names = ("region", "account_id", "event_day", "part", "time_min", "time_max")
        return {"class": self.class_name, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class DeadLetterFile:
    """A file of dead letters.

    Attributes:
        path: of the local file.
        records: in it; a long one that is in pieces counts once.
    """

    path: Path
    records: int


@dataclass(frozen=True)
class ObjectResult:
    """What the engine has found in an object.

    Attributes:
        key: of the object.
        version_id: of the object.
        read: records.
        written: of those.
        set_aside: of those.
    """

    key: str
    version_id: str | None
    read: int
    written: int
    set_aside: int


@dataclass(frozen=True)
class ProcessResult:
    """What the engine has done.

    Attributes:
        read: records.
        written: of those.
        set_aside: of those.
        reasons: how many were set aside by reason.
        classes: how many were written by class.
        mapping_digest: of the mapping that was used.
        outputs: files for the lake.
        dead_letters: files of what was set aside.
        objects: the same counts for each object.
        bytes_read: of the objects, as they are stored.
        seconds: that it took.
    """

    read: int
    written: int
    set_aside: int
    reasons: Mapping[str, int]
    classes: Mapping[str, int]
    mapping_digest: str
    outputs: Sequence[Output] = ()
    dead_letters: Sequence[DeadLetterFile] = ()
    objects: Sequence[ObjectResult] = ()
    bytes_read: int = 0
    seconds: float = 0.0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ProcessResult:
        """Read the engine's ``result.json``.

        Raises:
            KeyError: something is missing.
        """
        outputs = [
            Output(
                Path(each["path"]),
                each["class"],
                each["region"],
                each["account_id"],
                each["event_day"],
                each["part"],
                each["rows"],
                each["bytes"],
                each["time_min"],
                each["time_max"],
            )
            for each in document["outputs"]
        ]
        return cls(
            document["read"],
            document["written"],
            document["set_aside"],
            document["reasons"],
            document["classes"],
            document["mapping_digest"],
            outputs,
            [DeadLetterFile(Path(each["path"]), each["records"]) for each in document["dead_letters"]],
            [
                ObjectResult(each["key"], each["version_id"], each["read"], each["written"], each["set_aside"])
                for each in document["objects"]
            ],
            document.get("bytes_read", 0),
            document.get("seconds", 0.0),
        )


class Processor(Protocol):
    """Reads, maps, validates and writes the objects of a batch, locally."""

    def process(self, request: ProcessRequest) -> ProcessResult:
        """Do it. Anything that is raised fails the attempt; the batch stays planned."""
        ...


def plan(source: str, ledger: Ledger, limits: BatchLimits, now: float, *, flush: bool = False) -> Plan:
    """Group what waits of a source.

    Args:
        source: whose data.
        ledger: what waits.
        limits: of a batch, and of how many may be open.
        now: seconds since the epoch.
        flush: don't wait for a batch to become full.
    """
    for batch in ledger.open_batches(source):
        if batch.state == BatchState.FORMING:
            ledger.seal(batch.batch_id)  # its planner has died, or is so slow that it will see that it was sealed
    room = limits.open_batches - len(ledger.open_batches(source))
    new: list[str] = []
    full = room <= 0
    for group in _groups(ledger.waiting(source), limits, now, flush=flush) if room > 0 else ():
        if len(new) == room:
            full = True
            break
        batch_id = ledger.form(source, group)
        if batch_id is not None:
            new.append(batch_id)
    ready = [each.batch_id for each in ledger.open_batches(source) if each.state != BatchState.FORMING]
    return Plan(tuple(ready), tuple(each for each in new if each in ready), full)


def _groups(versions: Iterable[Version], limits: BatchLimits, now: float, *, flush: bool) -> Iterator[list[Version]]:
    """Groups that are full, and the rest if it has waited long enough."""
    from datetime import datetime

    group: list[Version] = []
    size = 0
    names: set[tuple[str, str | None]] = set()
    for each in versions:
        # the engine tells its counts by key and version id: two objects that have the same don't meet in a batch
        name = (each.version.key, each.version.version_id)
        if group and (len(group) == limits.objects or size + each.version.size > limits.bytes or name in names):
            yield group
            group, size, names = [], 0, set()
        group.append(each)
        names.add(name)
        size += each.version.size
    if group:
        waited = now - datetime.fromisoformat(group[0].received).timestamp()
        full = len(group) == limits.objects or size >= limits.bytes
        if flush or full or waited >= limits.wait_seconds:
            yield group


@dataclass
class _Fetched:
    objects: list[FetchedObject] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    missing: list[ObjectFinding] = field(default_factory=list)


@dataclass(frozen=True)
class Ingestion:
    """Ingests batches.

    Attributes:
        s3: a boto3 client; `include.ingestion.fetch.client_config` suits it.
        ledger: where batches are.
        processor: the engine.
        lake_bucket: where outputs go.
        output_key: key of an output: source, output, batch id. The same for the same arguments.
        dead_letter_bucket: where dead letters go.
        dead_letter_share: the largest share of a source's records that may be set aside, 0 to 1.
        work: folder on the worker's local disk.
        threads: of the engine.
        transfers: objects that are fetched or uploaded at the same time.
        mapping_digest: the mapping that must be used, by source; None: whatever the engine finds.
        sleep: waits so many seconds.
    """

    s3: Any
    ledger: Ledger
    processor: Processor
    lake_bucket: str
    output_key: Callable[[str, Output, str], str]
    dead_letter_bucket: str
    dead_letter_share: Callable[[str], float]
    work: Path
    threads: int = 1
    transfers: int = 8
    mapping_digest: Callable[[str], str | None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep

    def ingest(self, batch_id: str) -> Batch:
        """Bring a batch to its end; one that is published already stays.

        Returns:
            The published batch, with its counts.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it is still forming.
            BatchRefused: too many of its records can't be ingested, or it was refused before.
            CountsDiffer: the engine's numbers don't add up; nothing was published.
            MappingChanged: the engine used another mapping; nothing was published.
            OutputLost: see `reopen`.
            FetchFailed: an object could not be downloaded; the batch stays planned.
            DiskFull: there is no room; the batch stays planned.
        """
        while True:
            batch = self.ledger.batch(batch_id)
            if batch.state == BatchState.PUBLISHED:
                return batch
            if batch.state == BatchState.COMMITTED:
                return self._publish(batch)
            if batch.state == BatchState.REFUSED:
                raise BatchRefused(f"batch {batch_id} of {batch.source} was refused: {batch.reason}")
            if batch.state != BatchState.PLANNED:
                raise BatchConflict(f"batch {batch_id}: expected it to be planned, found it {batch.state}; plan again")
            attempt = self.ledger.begin_attempt(batch_id)
            if attempt is not None:
                with _work_folder(self.work, f"{batch_id}-{attempt}") as folder:
                    self._attempt(batch, attempt, folder)

    def retry_refused(self, batch_id: str, *, accept: bool = False) -> Batch:
        """Plan a refused batch again, after a fix.

        Args:
            batch_id: of the batch.
            accept: publish it whatever share of it is set aside: somebody has looked at its dead letters.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it isn't refused.
        """
        return self.ledger.release(batch_id, accept=accept)

    def reopen(self, batch_id: str) -> Batch:
        """Plan a committed batch again whose uploads are lost; what it had made visible is deleted first.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it isn't committed.
        """
        batch = self.ledger.batch(batch_id)
        if batch.state != BatchState.COMMITTED:
            raise BatchConflict(f"batch {batch_id}: expected it to be committed, found it {batch.state}")
        for upload in self.ledger.uploads(batch_id, batch.commit).get(batch.commit, []):
            publish.abort(self.s3, upload)
            if publish.is_output_of(self.s3, upload.bucket, upload.key, batch_id=batch_id, attempt=batch.commit):
                self.s3.delete_object(Bucket=upload.bucket, Key=upload.key)
        return self.ledger.reopen(batch_id)

    def _attempt(self, batch: Batch, attempt: int, folder: Path) -> None:
        """One try; afterwards the batch isn't planned any more, or something was raised."""
        fetched = self._fetch(batch, folder)
        result = self._process(batch, fetched, folder)
        check_counts(batch, fetched.objects, result)
        counts = Counts(
            result.read,
            result.written,
            result.set_aside,
            dict(result.reasons),
            dict(result.classes),
            len(fetched.missing),
        )
        allowed = self.dead_letter_share(batch.source)
        if not batch.accepted and result.set_aside > allowed * result.read:
            self._refuse(batch, result, counts, allowed)
            return
        by_name = {(each.key, each.version_id): each for each in result.objects}
        findings = [*fetched.missing]
        for member in fetched.members:
            found = by_name[member.version.key, member.version.version_id]
            findings.append(ObjectFinding(member.version.identity, found.read, found.written, found.set_aside))
        uploads: list[Upload] = []
        try:
            uploads += self._upload(batch, attempt, result)
            self.ledger.record_findings(batch.batch_id, attempt, findings)
            committed = self.ledger.commit(batch.batch_id, attempt, counts, result.mapping_digest)
        except Exception:
            if self.ledger.batch(batch.batch_id).commit != attempt:
                self._give_up(batch.batch_id, attempt)
            raise
        if not committed:
            _LOG.warning("batch %s: somebody else was faster; attempt %d is given up", batch.batch_id, attempt)
            self._give_up(batch.batch_id, attempt)

    def _fetch(self, batch: Batch, folder: Path) -> _Fetched:
        members = self.ledger.members(batch.batch_id)
        (folder / "in").mkdir()

        def one(numbered: tuple[int, Member]) -> ObjectFinding | None:
            number, member = numbered
            try:
                fetch(self.s3, member.version, self._path(folder, number), sleep=self.sleep)
            except ObjectGone as error:
                _LOG.warning("batch %s: %s", batch.batch_id, error)
                return ObjectFinding(member.version.identity, state=VersionState.GONE, reason=error.reason)
            except ObjectArchived as error:
                _LOG.warning("batch %s: %s", batch.batch_id, error)
                return ObjectFinding(member.version.identity, state=VersionState.SET_ASIDE, reason="archived")
            return None

        fetched = _Fetched()
        numbered = list(enumerate(members, start=1))
        for (number, member), missing in zip(numbered, self._each(one, numbered), strict=True):
            if missing:
                fetched.missing.append(missing)
                continue
            version = member.version
            fetched.members.append(member)
            fetched.objects.append(
                FetchedObject(
                    self._path(folder, number),
                    version.bucket,
                    version.key,
                    version.version_id,
                    version.etag,
                    version.size,
                    member.replay_of,
                )
            )
        return fetched

    def _path(self, folder: Path, number: int) -> Path:
        return folder / "in" / f"object-{number:06}"

    def _process(self, batch: Batch, fetched: _Fetched, folder: Path) -> ProcessResult:
        wanted = self.mapping_digest(batch.source)
        if not fetched.objects:
            return ProcessResult(0, 0, 0, {}, {}, wanted or "")
        out = folder / "out"
        out.mkdir()
        try:
            request = ProcessRequest(batch.source, batch.batch_id, fetched.objects, out, self.threads, wanted)
            result = self.processor.process(request)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(
                    f"batch {batch.batch_id}: expected room in {self.work} for what is made of {batch.bytes} bytes, found none; free some, "
                    "or lower the source's batches.max_mib; the batch stays planned"
                ) from error
            raise
        if wanted is not None and result.mapping_digest != wanted:
            raise MappingChanged(
                f"batch {batch.batch_id}: expected mapping {wanted}, found that {result.mapping_digest} was used: it was changed "
                "meanwhile; retry"
            )
        return result

    def _refuse(self, batch: Batch, result: ProcessResult, counts: Counts, allowed: float) -> None:
        for number, file in enumerate(result.dead_letters, start=1):
            key = dead_letters.refused_key(batch.source, batch.day, batch.batch_id, number)
            with file.path.open("rb") as body:
                self.s3.put_object(Bucket=self.dead_letter_bucket, Key=key, Body=body)
        share = result.set_aside / result.read
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(result.reasons.items(), key=lambda each: -each[1]))
        reason = (
            f"expected at most {allowed:.2%} of the records to be set aside, found {result.set_aside} of {result.read} ({share:.2%}): "
            f"{reasons}; look at s3://{self.dead_letter_bucket}/"
            f"{dead_letters.refused_key(batch.source, batch.day, batch.batch_id, None)}, fix the mapping, and retry the batch"
        )
        if self.ledger.refuse(batch.batch_id, reason, counts, result.mapping_digest):
            raise BatchRefused(f"batch {batch.batch_id} of {batch.source}: {reason}")

    def _upload(self, batch: Batch, attempt: int, result: ProcessResult) -> list[Upload]:
        jobs: list[tuple[str, Path, str, str, int, Mapping[str, Any]]] = []
        for number, file in enumerate(result.dead_letters, start=1):
            key = dead_letters.dead_letter_key(batch.source, batch.day, batch.batch_id, number)
            jobs.append(("dead_letters", file.path, self.dead_letter_bucket, key, file.records, {}))
        for output in result.outputs:
            key = self.output_key(batch.source, output, batch.batch_id)
            jobs.append(("lake", output.path, self.lake_bucket, key, output.rows, output.detail))
        repeated = [key for key, n in Counter(job[3] for job in jobs).items() if n > 1]
        if repeated:
            raise CountsDiffer(
                f"batch {batch.batch_id}: expected a key of its own for each output, found {repeated[0]!r} twice"
            )

        def one(numbered: tuple[int, tuple[str, Path, str, str, int, Mapping[str, Any]]]) -> Upload:
            number, (kind, path, bucket, key, rows, detail) = numbered
            upload = publish.upload_invisibly(
                self.s3,
                path,
                kind=kind,
                bucket=bucket,
                key=key,
                rows=rows,
                detail=detail,
                batch_id=batch.batch_id,
                attempt=attempt,
            )
            self.ledger.record_upload(batch.batch_id, attempt, number, upload)
            return upload

        return list(self._each(one, list(enumerate(jobs, start=1))))

    def _publish(self, batch: Batch) -> Batch:
        uploads = self.ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, [])
        list(
            self._each(
                lambda upload: publish.complete(self.s3, upload, batch_id=batch.batch_id, attempt=batch.commit), uploads
            )
        )
        for attempt in sorted(self.ledger.attempts_kept(batch.batch_id) - {batch.commit}):
            self._give_up(batch.batch_id, attempt)
        published = self.ledger.publish(batch.batch_id)
        counts = published.counts
        _LOG.info(
            "batch %s of %s: %d read = %d written + %d set aside, of %d objects, %d of which were gone",
            published.batch_id,
            published.source,
            counts.read,
            counts.written,
            counts.set_aside,
            published.objects,
            counts.gone,
        )
        return published

    def _give_up(self, batch_id: str, attempt: int) -> None:
        for upload in self.ledger.uploads(batch_id, attempt).get(attempt, []):
            publish.abort(self.s3, upload)
        self.ledger.forget_attempt(batch_id, attempt)

    def _each[Item, Answer](self, do: Callable[[Item], Answer], items: Sequence[Item]) -> Iterator[Answer]:
        """Do it for each, some at a time; the first error is raised when none is being done any more."""
        if self.transfers <= 1 or len(items) <= 1:
            yield from map(do, items)
            return
        with ThreadPoolExecutor(self.transfers) as pool:
            futures = [pool.submit(do, item) for item in items]
            try:
                for future in futures:
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def check_counts(batch: Batch, objects: Sequence[FetchedObject], result: ProcessResult) -> None:
    """Check that read = written + set aside, in all, for each object, and in each breakdown.

    Raises:
        CountsDiffer: it is not so.
    """
    totals = (result.read, result.written, result.set_aside)
    sums: list[tuple[str, int, int]] = [
        ("written + set aside", result.written + result.set_aside, result.read),
        ("rows of the outputs", sum(each.rows for each in result.outputs), result.written),
        ("records of the dead letters", sum(each.records for each in result.dead_letters), result.set_aside),
        ("records by reason", sum(result.reasons.values()), result.set_aside),
        ("records by class", sum(result.classes.values()), result.written),
        ("records read of the objects", sum(each.read for each in result.objects), result.read),
        ("records written of the objects", sum(each.written for each in result.objects), result.written),
        ("records set aside of the objects", sum(each.set_aside for each in result.objects), result.set_aside),
    ]
    sums += [
        (f"written + set aside of the object {each.key!r}", each.written + each.set_aside, each.read)
        for each in result.objects
    ]
    sums += [(f"bytes of the output {each.path.name}", each.path.stat().st_size, each.bytes) for each in result.outputs]
    wrong = [f"{what}: {found}, not {expected}" for what, found, expected in sums if found != expected]
    if min(totals) < 0:
        wrong.append(f"less than nothing: {totals}")
    named = Counter((each.key, each.version_id) for each in objects)
    counted = Counter((each.key, each.version_id) for each in result.objects)
    if named != counted:
        wrong.append(f"counts of {counted.total()} objects, not of the {named.total()} that were given")
    if wrong:
        raise CountsDiffer(
            f"batch {batch.batch_id} of {batch.source}: expected counts that add up, found {'; '.join(wrong[:5])}; nothing was published. "
            "This is an error of the engine"
        )


@contextlib.contextmanager
def _work_folder(work: Path, name: str) -> Iterator[Path]:
    """A folder that is gone afterwards; those that killed workers have left are gone before.

    Its lock file tells whether somebody works in it: the system lets go of the lock when the process ends, however it ends.
    """
    work.mkdir(parents=True, exist_ok=True)
    for lock in sorted(work.glob("*.lock")):
        with contextlib.suppress(OSError), lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    lock = work / f"{name}.lock"
    folder = work / name
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
