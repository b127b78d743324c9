"""Dead letters: the records that could not be ingested, with their bytes and the reason, and their way back.

A file is gzip of JSON lines; a record longer than an engine's piece is several lines, in order. `replay` makes new landing objects of the
dead letters of published batches, one for each file and original object, and records them as received: from there they go the way of
all data, and those that fail again come back as dead letters of that batch.

A dead letter is replayed once: the landing object and the marks of what it holds are recorded in one transaction.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from include.ingestion.exceptions import BatchConflict, DeadLettersUnreadable
from include.ingestion.ledger import Arrival, BatchState, ObjectRef
from include.ingestion.notices import object_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from include.ingestion.ledger import Batch, Ledger, Upload

PREFIX: Final = "dead-letters"
REFUSED_PREFIX: Final = "refused"
REPLAY_PREFIX: Final = "replays"
_MOST_MARKS: Final = 90


@dataclass(frozen=True)
class DeadLetter:
    """A record that was set aside, or a piece of one.

    Attributes:
        source: whose data it is.
        bucket: of the object that it was in.
        key: of that object.
        version_id: of that object.
        etag: of that object.
        record: its number in the object, from 1.
        offset: of its first byte in the uncompressed object; None if not known.
        reason: code.
        detail: what was expected and found.
        raw: its bytes, or those of the piece.
        raw_truncated_bytes: how many more there were.
        batch: that it was set aside by.
        mapping_digest: of the mapping that it was set aside by.
        piece: which it is of a long record, from 1.
        pieces: how many there are of it, with the last; with the others it may be 0, for it wasn't known before.
    """

    source: str
    bucket: str
    key: str
    version_id: str | None
    etag: str
    record: int
    offset: int | None
    reason: str
    detail: str
    raw: bytes
    raw_truncated_bytes: int
    batch: str
    mapping_digest: str
    piece: int = 1
    pieces: int = 1

    @property
    def last(self) -> bool:
        """Whether the record ends with it: that is how records are counted."""
        return self.piece == self.pieces

    @property
    def object(self) -> ObjectRef:
        """The object that it was in."""
        return ObjectRef(self.bucket, self.key, self.version_id, self.etag)


@dataclass(frozen=True)
class Replay:
    """What was replayed.

    Attributes:
        records: dead letters.
        objects: landing objects that hold them.
        reasons: how many by reason.
    """

    records: int
    objects: int
    reasons: dict[str, int]


def dead_letter_key(source: str, day: str, batch_id: str, number: int) -> str:
    """Key of a file of dead letters of a batch."""
    return f"{PREFIX}/source={source}/day={day}/{batch_id}-{number}.jsonl.gz"


def refused_key(source: str, day: str, batch_id: str, number: int | None) -> str:
    """Key of a file of dead letters of a refused batch, to look at; None: the prefix of them all."""
    prefix = f"{REFUSED_PREFIX}/source={source}/day={day}/{batch_id}-"
    return prefix if number is None else f"{prefix}{number}.jsonl.gz"


def write(path: Path, letters: Iterable[DeadLetter]) -> int:
    """Write a file; gives the number of records, a long one in pieces counts once."""
    records = 0
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
        for letter in letters:
            file.write(line_of(letter))
            records += letter.last
    return records


def line_of(letter: DeadLetter) -> bytes:
    """A letter as one line of a file."""
    document = {**asdict(letter), "raw": base64.b64encode(letter.raw).decode()}
    if (letter.piece, letter.pieces) == (1, 1):
        del document["piece"], document["pieces"]
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def read(file: IO[bytes], name: str = "dead letters") -> Iterator[DeadLetter]:
    """The letters of a file, long ones in their pieces; reads it bit by bit.

    Raises:
        DeadLettersUnreadable: it isn't what was written.
    """
    number = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007 - for the message
                document = json.loads(line)
                document["raw"] = base64.b64decode(document["raw"], validate=True)
                yield DeadLetter(**document)
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error, binascii.Error) as error:
        raise DeadLettersUnreadable(
            f"expected gzip of JSON lines in {name}, found {type(error).__name__} after line {number}: {str(error)[:200]}"
        ) from error


def replay(
    s3: Any,
    ledger: Ledger,
    source: str,
    *,
    landing_bucket: str,
    day: str | None = None,
    batch_id: str | None = None,
    reasons: Collection[str] | None = None,
    work: Path | None = None,
) -> Replay:
    """Let dead letters come in again, each once.

    Args:
        s3: a boto3 client.
        ledger: where batches and versions are.
        source: whose dead letters.
        landing_bucket: where the landing objects go, below `REPLAY_PREFIX`; no notices may be sent for that prefix.
        day: of the batches, YYYYMMDD, UTC.
        batch_id: of one batch only.
        reasons: these only; None: all.
        work: folder on the local disk; None: the system's for temporary files.

    Raises:
        ValueError: neither a day nor a batch.
        BatchConflict: the batch isn't published, or is of another source.
        DeadLettersUnreadable: a file is missing or broken.
    """
    if (day is None) == (batch_id is None):
        raise ValueError(f"expected a day or a batch, found day {day!r} and batch {batch_id!r}")
    if batch_id is not None:
        batches = [ledger.batch(batch_id)]
        if batches[0].source != source or batches[0].state != BatchState.PUBLISHED:
            raise BatchConflict(
                f"batch {batch_id}: expected a published batch of {source}, found one of {batches[0].source} that is {batches[0].state}"
            )
    else:
        batches = [each for each in ledger.batches(source, day or "") if each.state == BatchState.PUBLISHED]
    total = Replay(0, 0, {})
    for batch in batches:
        for upload in ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, []):
            if upload.kind == "dead_letters":
                with tempfile.TemporaryDirectory(prefix="replay-", dir=work) as folder:
                    done = _File(s3, ledger, batch, upload, landing_bucket, reasons, Path(folder)).replay()
                counts = total.reasons
                for reason, n in done.reasons.items():
                    counts[reason] = counts.get(reason, 0) + n
                total = Replay(total.records + done.records, total.objects + done.objects, counts)
    return total


@dataclass
class _Group:
    """The dead letters of a file that were in the same object."""

    object: ObjectRef
    path: Path
    records: int
    reasons: dict[str, int]


class _File:
    """A file of dead letters on its way back."""

    def __init__(
        self,
        s3: Any,
        ledger: Ledger,
        batch: Batch,
        upload: Upload,
        bucket: str,
        reasons: Collection[str] | None,
        folder: Path,
    ) -> None:
        self._s3 = s3
        self._ledger = ledger
        self._batch = batch
        self._upload = upload
        self._bucket = bucket
        self._reasons = reasons
        self._folder = folder
        self._file = hashlib.sha256(upload.key.encode()).hexdigest()[:16]
        # what fails again is of the object that it was in at first: that one's key tells account and region
        self._first = {
            (each.version.bucket, each.version.key, each.version.version_id): each.replay_of
            for each in ledger.members(batch.batch_id)
            if each.replay_of
        }

    def replay(self) -> Replay:
        """Land what was not replayed yet."""
        records = objects = 0
        reasons: dict[str, int] = {}
        while True:
            beaten = False
            for group in self._groups():
                if self._land(group):
                    records, objects = records + group.records, objects + 1
                    for reason, n in group.reasons.items():
                        reasons[reason] = reasons.get(reason, 0) + n
                else:
                    beaten = True
            if not beaten:
                return Replay(records, objects, reasons)
            # another replay has taken some of them at the same moment: look again what is left

    def _groups(self) -> list[_Group]:
        """What is to be replayed and wasn't, by object; its bytes are in local files."""
        done = self._ledger.replayed(self._batch.batch_id)
        groups: dict[ObjectRef, _Group] = {}
        for letter in self._letters():
            if self._reasons is not None and letter.reason not in self._reasons:
                continue
            if self._mark(letter.object, letter.reason) in done:
                continue
            group = groups.get(letter.object)
            if group is None:
                path = self._folder / f"object-{len(groups):06}"
                path.write_bytes(b"")
                group = groups[letter.object] = _Group(letter.object, path, 0, {})
            with group.path.open("ab") as file:
                file.write(letter.raw)
                if letter.last and not letter.raw.endswith(b"\n"):
                    file.write(b"\n")
            if letter.last:
                group.records += 1
                group.reasons[letter.reason] = group.reasons.get(letter.reason, 0) + 1
        return list(groups.values())

    def _letters(self) -> Iterator[DeadLetter]:
        from botocore.exceptions import ClientError

        name = f"s3://{self._upload.bucket}/{self._upload.key}"
        try:
            body = self._s3.get_object(Bucket=self._upload.bucket, Key=self._upload.key)["Body"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                raise DeadLettersUnreadable(f"expected the dead letters {name}, found that they are gone") from error
            raise
        spool = self._folder / "letters"
        with spool.open("wb") as file:
            for block in body.iter_chunks(1024 * 1024):
                file.write(block)
        awaited = 0
        with spool.open("rb") as file:
            for letter in read(file, name):
                if letter.piece != awaited + 1:
                    raise DeadLettersUnreadable(f"expected piece {awaited + 1} in {name}, found {letter.piece}")
                if letter.raw_truncated_bytes:
                    raise DeadLettersUnreadable(
                        f"expected whole records in {name}, found record {letter.record} without its last "
                        f"{letter.raw_truncated_bytes} bytes"
                    )
                awaited = 0 if letter.last else letter.piece
                yield letter
        if awaited:
            raise DeadLettersUnreadable(f"expected piece {awaited + 1} in {name}, found the end")

    def _land(self, group: _Group) -> bool:
        marks = sorted(self._mark(group.object, reason) for reason in group.reasons)
        if len(marks) > _MOST_MARKS:
            raise DeadLettersUnreadable(f"expected at most {_MOST_MARKS} reasons in a file, found {len(marks)}")
        name = hashlib.sha256("\n".join([self._upload.key, *marks]).encode()).hexdigest()[:16]
        key = f"{REPLAY_PREFIX}/source={self._batch.source}/day={self._batch.day}/{self._batch.batch_id}-{name}"
        with group.path.open("rb") as body:
            answer = self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
        size = group.path.stat().st_size
        version = object_version(self._bucket, key, answer.get("VersionId"), answer["ETag"], size)
        there = group.object
        first = self._first.get((there.bucket, there.key, there.version_id), there)
        arrival = Arrival(version, self._batch.source, "replay", first)
        if self._ledger.receive_replay(arrival, self._batch.batch_id, marks):
            return True
        if self._ledger.replayed(self._batch.batch_id).isdisjoint(marks):
            # the version alone is known: somebody has received the prefix, which is not for that
            raise BatchConflict(
                f"expected s3://{self._bucket}/{key} to be unknown, found it in the ledger: no notice may be sent of {REPLAY_PREFIX}/"
            )
        return False

    def _mark(self, ref: ObjectRef, reason: str) -> str:
        parts = json.dumps([ref.bucket, ref.key, ref.version_id, ref.etag])
        return f"{self._file}#{hashlib.sha256(parts.encode()).hexdigest()[:32]}#{reason}"
