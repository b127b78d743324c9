"""The ledger: each object version that was received, and the one batch that it is in. One table of DynamoDB.

Partition key ``pk``, sort key ``sk``:

- ``version#{identity}`` / ``version``: an object version and its state (`VersionState`). While it waits for a batch it also has
  ``waiting`` (its source) and ``waiting_since``, the keys of the sparse index ``waiting``; one that was set aside without a batch waits
  there as `ASIDE`.
- ``batch#{id}`` / ``batch``: a batch and its state (`BatchState`).
- ``batch#{id}`` / ``member#{identity}``: a version of the batch. One item each: 500 keys of 1,024 bytes are more than an item may have.
- ``batch#{id}`` / ``upload#{attempt}#{number}``: an upload of an attempt to ingest it.
- ``batch#{id}`` / ``objects#{attempt}#{number}``: what an attempt has found in up to a thousand of its objects.
- ``batch#{id}`` / ``replayed#{file}#{object}#{reason}``: dead letters of the batch that were replayed.
- ``open#{source}``, ``refused#{source}``, ``day#{source}#{day}`` / ``{id}``: the batches to be found so. Written with the batch.
- ``stream#{name}`` / …: see `include.ingestion.kinesis`.

**A version gets one batch.** A batch is ``forming`` first. A transaction that claims versions for it has, for each, the condition that it
still waits, and the condition that the batch is still forming. Who dies between two such transactions leaves a smaller batch: the next
planner seals it, after which nobody can add to it, and plans the rest anew.

**A batch is committed once.** Whoever works on it makes an attempt of its own: uploads and findings under the attempt's number, which
nobody reads until one conditional write makes that attempt the batch's.

Writes are conditional or repeat themselves, so that any step may be made again. Reads are consistent, but for those of the index, whose
answers are therefore only proposals. All versions of a source wait in one partition of the index: some thousand a second.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import batched, count
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.exceptions import BatchConflict, BatchUnknown, VersionUnknown
from include.ingestion.notices import ObjectVersion
from include.tenants.transactions import MOST_ELEMENTS, ConditionFailed, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PARTITION: Final = "pk"
SORT: Final = "sk"
WAITING: Final = "waiting"
"""Name of the index, and of its partition key."""
ASIDE: Final = "#set_aside"
"""Where versions wait that are in no batch and go in none; no source is called so."""
NO_SOURCE: Final = "no_source"
"""Reason of a version that no source takes; if one does later, receiving it again admits it."""
_SINCE: Final = "waiting_since"
_VERSION: Final = "version"
_BATCH: Final = "batch"
_CLAIMED_AT_ONCE: Final = (MOST_ELEMENTS - 1) // 2
_KEYS_READ_AT_ONCE: Final = 100
_OBJECTS_AN_ITEM: Final = 1000
_FRESH: Final = f"attribute_not_exists({PARTITION})"


class VersionState(StrEnum):
    """Where an object version is."""

    RECEIVED = "received"
    """It waits for a batch."""
    BATCHED = "batched"
    """It is in a batch that isn't published yet, or was refused."""
    INGESTED = "ingested"
    """Its batch is published: all its records were written or set aside as dead letters."""
    GONE = "gone"
    """Its batch is published without it: it could not be read any more."""
    SET_ASIDE = "set_aside"
    """It is not ingested; the reason says why."""


class BatchState(StrEnum):
    """Where a batch is."""

    FORMING = "forming"
    """Versions are being claimed for it."""
    PLANNED = "planned"
    """Its versions are settled; it may be ingested."""
    COMMITTED = "committed"
    """Its outputs are uploaded and settled; they are being made visible."""
    PUBLISHED = "published"
    """Its outputs are visible."""
    REFUSED = "refused"
    """Too much of it can't be ingested; nothing was published."""


@dataclass(frozen=True)
class ObjectRef:
    """An object version that something came from.

    Attributes:
        bucket: its bucket.
        key: its key.
        version_id: None where the bucket keeps no versions.
        etag: may be empty.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str


@dataclass(frozen=True)
class Arrival:
    """A version that somebody has heard of.

    Attributes:
        version: of an object.
        source: whose data it is; None if no source takes it.
        origin: ``notice``, ``listing``, ``stream``, ``replay``.
        replay_of: the object whose dead letters it holds; None if it is no replay.
    """

    version: ObjectVersion
    source: str | None
    origin: str
    replay_of: ObjectRef | None = None


@dataclass(frozen=True)
class Version:
    """An object version as the ledger has it.

    Attributes:
        version: of an object.
        source: whose data it is; empty if nobody's.
        state: where it is.
        origin: how it was first heard of.
        received: when, ISO 8601.
        batch: id of its batch; empty before it has one.
        reason: why it is gone or set aside.
        read: its records.
        written: of those.
        set_aside: of those.
        replay_of: the object whose dead letters it holds.
    """

    version: ObjectVersion
    source: str
    state: VersionState
    origin: str
    received: str
    batch: str = ""
    reason: str = ""
    read: int = 0
    written: int = 0
    set_aside: int = 0
    replay_of: ObjectRef | None = None


@dataclass(frozen=True)
class Member:
    """A version of a batch.

    Attributes:
        version: of an object.
        replay_of: the object whose dead letters it holds.
    """

    version: ObjectVersion
    replay_of: ObjectRef | None = None


@dataclass(frozen=True)
class Counts:
    """What became of the records of a batch: read = written + set aside.

    Attributes:
        read: records.
        written: of those.
        set_aside: of those; they are in the dead letters.
        reasons: how many were set aside by reason.
        classes: how many were written by class.
        gone: objects that could not be read any more, or were set aside as a whole.
    """

    read: int = 0
    written: int = 0
    set_aside: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    gone: int = 0


@dataclass(frozen=True)
class Batch:
    """A batch as the ledger has it.

    Attributes:
        batch_id: 32 hexadecimal digits, made of its versions.
        source: whose data it is.
        state: where it is.
        day: UTC day of its planning, YYYYMMDD.
        planned: when, ISO 8601.
        objects: versions in it.
        bytes: of those.
        attempts: how often somebody began to ingest it.
        commit: number of the attempt that was committed; 0 before.
        counts: of the records, since it was committed or refused.
        mapping_digest: of the mapping that it was committed or refused with.
        committed: when, ISO 8601; empty before.
        published: when, ISO 8601; empty before.
        reason: why it was refused.
        accepted: an operator has accepted whatever share of dead letters it has.
    """

    batch_id: str
    source: str
    state: BatchState
    day: str
    planned: str
    objects: int
    bytes: int
    attempts: int = 0
    commit: int = 0
    counts: Counts = field(default_factory=Counts)
    mapping_digest: str = ""
    committed: str = ""
    published: str = ""
    reason: str = ""
    accepted: bool = False


@dataclass(frozen=True)
class Upload:
    """A multipart upload of an attempt, all parts of which are there.

    Attributes:
        kind: ``lake`` or ``dead_letters``.
        bucket: where to.
        key: where to.
        upload_id: S3's.
        parts: elements of CompleteMultipartUpload's ``Parts``.
        rows: records in it.
        bytes: its size.
        detail: of an output: class, region, account_id, event_day, part, time_min, time_max.
    """

    kind: str
    bucket: str
    key: str
    upload_id: str
    parts: tuple[Mapping[str, Any], ...]
    rows: int
    bytes: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectFinding:
    """What an attempt has found in an object of its batch.

    Attributes:
        identity: of the version.
        read: its records.
        written: of those.
        set_aside: of those.
        state: ingested, gone or set_aside.
        reason: of gone and set_aside.
    """

    identity: str
    read: int = 0
    written: int = 0
    set_aside: int = 0
    state: VersionState = VersionState.INGESTED
    reason: str = ""


@dataclass(frozen=True)
class Received:
    """What recording has done.

    Attributes:
        new: versions that were not known.
        known: versions that were.
    """

    new: int = 0
    known: int = 0


@dataclass(frozen=True)
class Wait:
    """What waits of a source.

    Attributes:
        objects: how many versions.
        bytes: of those.
        since: when the first of them was received, ISO 8601; empty if nothing waits.
    """

    objects: int
    bytes: int
    since: str


def ledger_table(name: str) -> dict[str, Any]:
    """Arguments of CreateTable; what makes the table also switches on point-in-time recovery."""
    texts = (PARTITION, SORT, WAITING, _SINCE)
    return {
        "TableName": name,
        "KeySchema": [
            {"AttributeName": PARTITION, "KeyType": "HASH"},
            {"AttributeName": SORT, "KeyType": "RANGE"},
        ],
        "AttributeDefinitions": [{"AttributeName": text, "AttributeType": "S"} for text in texts],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [
            {
                "IndexName": WAITING,
                "KeySchema": [
                    {"AttributeName": WAITING, "KeyType": "HASH"},
                    {"AttributeName": _SINCE, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        "SSESpecification": {"Enabled": True, "SSEType": "KMS"},
    }


def batch_id_of(source: str, identities: Iterable[str], generation: int = 0) -> str:
    """The id of a batch: 32 hexadecimal digits, the same whatever the order of its versions."""
    parts = [source, *sorted(identities), *([str(generation)] if generation else [])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def stamp(seconds: float) -> str:
    """A moment as the ledger writes it: ISO 8601 in UTC, milliseconds. Later moments sort later."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def day_of(seconds: float) -> str:
    """The UTC day of a moment, YYYYMMDD."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")


class Ledger:
    """The table.

    Args:
        dynamodb: a boto3 client.
        table: its name.
        clock: seconds since the epoch.
    """

    def __init__(self, dynamodb: Any, table: str, clock: Callable[[], float] = time.time) -> None:
        self.dynamodb = dynamodb
        self.table = table
        self.clock = clock

    # Versions

    def receive(
        self,
        arrivals: Iterable[Arrival],
        *,
        guard: Sequence[Mapping[str, Any]] = (),
        mostly_known: bool = False,
        between: Callable[[], None] | None = None,
    ) -> Received:
        """Record versions; one that is known stays as it is.

        Args:
            arrivals: in any order, any number of times.
            guard: elements of ``TransactItems`` without which nothing is written.
            mostly_known: look first which are known (a listing tells of the same ones each time).
            between: called between two writes.

        Raises:
            ConditionFailed: a condition of ``guard`` does not hold.
        """
        rows = {arrival.version.identity: arrival for arrival in arrivals}
        asked, new = len(rows), 0
        if mostly_known:
            for identity in self._settled(rows):
                del rows[identity]
        for some in batched(rows.values(), MOST_ELEMENTS - len(guard)):
            new += self._put_new(list(some), guard)
            if between:
                between()
        return Received(new, asked - new)

    def receive_replay(self, arrival: Arrival, batch_id: str, marks: Sequence[str]) -> bool:
        """Record a version of dead letters and mark those as replayed, both or neither.

        Args:
            arrival: the version.
            batch_id: whose dead letters they are.
            marks: which; see `replayed`.

        Returns:
            False if one of them was replayed before.
        """
        elements = [self._put(self._version_row(arrival), _FRESH)]
        for mark in marks:
            row = {**_key(_batch_pk(batch_id), f"replayed#{mark}"), "by": _s(arrival.version.identity)}
            elements.append(self._put({**row, "at": _s(stamp(self.clock()))}, _FRESH))
        try:
            transact(self.dynamodb, elements)
        except ConditionFailed:
            return False
        return True

    def replayed(self, batch_id: str) -> frozenset[str]:
        """The marks of a batch's dead letters that were replayed."""
        prefix = "replayed#"
        return frozenset(
            row[SORT]["S"].removeprefix(prefix) for row in self._query(_batch_pk(batch_id), prefix, projection=SORT)
        )

    def version(self, identity: str) -> Version:
        """A version.

        Raises:
            VersionUnknown: there is none.
        """
        row = self._get(_key(_version_pk(identity), _VERSION))
        if row is None:
            raise VersionUnknown(
                f"expected object version {identity} in {self.table}, found none: it was never received"
            )
        return _read_version(row)

    def waiting(self, source: str) -> Iterator[Version]:
        """The versions of a source that wait, the first received first; `ASIDE`: those that were set aside.

        By the index, which is a little late: one may have gone to a batch by now, or not be there yet.
        """
        for row in self._waiting_rows(source):
            yield _read_version(row)

    def wait_of(self, source: str) -> Wait:
        """How much of a source waits, and since when."""
        objects = size = 0
        since = ""
        for row in self._waiting_rows(source, projection=f"{_SINCE}, bytes"):
            objects, size = objects + 1, size + int(row["bytes"]["N"])
            since = since or row[_SINCE]["S"].partition("#")[0]
        return Wait(objects, size, since)

    def set_aside(self, identity: str, reason: str) -> None:
        """Take a version that waits out of the queue; `admit` puts it back.

        Raises:
            VersionUnknown: there is none.
            BatchConflict: it doesn't wait.
        """
        values = {
            ":from": _s(VersionState.RECEIVED),
            ":to": _s(VersionState.SET_ASIDE),
            ":reason": _s(reason),
            ":aside": _s(ASIDE),
        }
        self._move_version(identity, f"SET #state = :to, reason = :reason, {WAITING} = :aside", values)

    def admit(self, identity: str, source: str) -> None:
        """Let a version that was set aside without a batch wait for one of ``source``.

        Raises:
            VersionUnknown: there is none.
            BatchConflict: it wasn't set aside, or has been in a batch.
        """
        values = {
            ":from": _s(VersionState.SET_ASIDE),
            ":to": _s(VersionState.RECEIVED),
            ":source": _s(source),
        }
        update = f"SET #state = :to, #source = :source, {WAITING} = :source REMOVE reason"
        self._move_version(identity, update, values, {"#source": "source"}, f" AND attribute_exists({WAITING})")

    # Batches

    def form(self, source: str, versions: Sequence[Version]) -> str | None:
        """Make a batch of those versions that still wait.

        Returns:
            Its id; None if none of them waits any more.
        """
        batch_id = self._begin(source, [each.version.identity for each in versions])
        for some in batched(versions, _CLAIMED_AT_ONCE):
            if not self._claim(batch_id, list(some)):
                break  # somebody has sealed it: the others are planned anew
        return self.seal(batch_id)

    def seal(self, batch_id: str) -> str | None:
        """Settle which versions are in a batch; one that has none is no batch. Safe at any time, from anywhere.

        Returns:
            Its id; None if it has no versions.
        """
        state = {"ExpressionAttributeNames": {"#state": "state"}}
        while True:
            try:
                batch = self.batch(batch_id)
            except BatchUnknown:
                return None
            if batch.state != BatchState.FORMING:
                return batch_id
            forming = {":forming": _s(BatchState.FORMING), ":none": _n(0)}
            try:
                if batch.objects:
                    update = {"UpdateExpression": "SET #state = :planned", **state}
                    condition = "#state = :forming AND objects > :none"
                    values = {**forming, ":planned": _s(BatchState.PLANNED)}
                    transact(self.dynamodb, [self._update(_batch_key(batch_id), update, condition, values)])
                    return batch_id
                gone = {
                    "ConditionExpression": "#state = :forming AND objects = :none",
                    "ExpressionAttributeValues": forming,
                    **state,
                }
                pointers = [self._delete(_key(pk, batch_id)) for pk in (_open_pk(batch), _day_pk(batch))]
                transact(self.dynamodb, [self._delete(_batch_key(batch_id), gone), *pointers])
            except ConditionFailed:
                continue  # somebody has claimed more, or has sealed it
            return None

    def batch(self, batch_id: str) -> Batch:
        """A batch.

        Raises:
            BatchUnknown: there is none.
        """
        row = self._get(_batch_key(batch_id))
        if row is None:
            raise BatchUnknown(f"expected a batch {batch_id!r} in {self.table}, found none")
        return _read_batch(row)

    def members(self, batch_id: str) -> list[Member]:
        """The versions of a batch, in the order of their identities."""
        return [
            Member(_read_object(row), _read_ref(row.get("replay_of")))
            for row in self._query(_batch_pk(batch_id), "member#")
        ]

    def versions_of(self, batch_id: str) -> list[Version]:
        """The versions of a batch with their states, in the order of their identities."""
        return [self.version(each.version.identity) for each in self.members(batch_id)]

    def open_batches(self, source: str) -> list[Batch]:
        """A source's batches that are forming, planned or committed, the oldest first."""
        return self._pointed(f"open#{source}")

    def refused_batches(self, source: str) -> list[Batch]:
        """A source's batches that were refused, the oldest first."""
        return self._pointed(f"refused#{source}")

    def batches(self, source: str, day: str) -> list[Batch]:
        """All of a source's batches that were planned on a UTC day (YYYYMMDD), the oldest first."""
        return self._pointed(f"day#{source}#{day}")

    def begin_attempt(self, batch_id: str) -> int | None:
        """A number for an attempt to ingest a planned batch; None if it isn't planned (any more)."""
        try:
            row = self.dynamodb.update_item(
                TableName=self.table,
                Key=_batch_key(batch_id),
                UpdateExpression="SET attempts = if_not_exists(attempts, :none) + :one",
                ConditionExpression="#state = :planned",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":none": _n(0), ":one": _n(1), ":planned": _s(BatchState.PLANNED)},
                ReturnValues="UPDATED_NEW",
            )["Attributes"]
        except self.dynamodb.exceptions.ConditionalCheckFailedException:
            return None
        return int(row["attempts"]["N"])

    def record_upload(self, batch_id: str, attempt: int, number: int, upload: Upload) -> None:
        """Keep an upload of an attempt."""
        row = {
            **_key(_batch_pk(batch_id), f"upload#{attempt:06}#{number:06}"),
            "body": _s(json.dumps(asdict(upload), separators=(",", ":"))),
        }
        self.dynamodb.put_item(TableName=self.table, Item=row)

    def record_findings(self, batch_id: str, attempt: int, findings: Sequence[ObjectFinding]) -> None:
        """Keep what an attempt has found in its objects."""
        for number, some in enumerate(batched(findings, _OBJECTS_AN_ITEM)):
            found = [[f.identity, f.read, f.written, f.set_aside, f.state.value, f.reason] for f in some]
            row = {
                **_key(_batch_pk(batch_id), f"objects#{attempt:06}#{number:06}"),
                "body": _s(json.dumps(found, separators=(",", ":"))),
            }
            self.dynamodb.put_item(TableName=self.table, Item=row)

    def commit(self, batch_id: str, attempt: int, counts: Counts, mapping_digest: str) -> bool:
        """Make an attempt the batch's; False if the batch is not planned any more, so that the attempt is for nothing."""
        values = {":to": _s(BatchState.COMMITTED), ":planned": _s(BatchState.PLANNED), ":commit": _n(attempt)}
        update = "SET #state = :to, #commit = :commit, committed = :at REMOVE reason"
        return self._settle(batch_id, update, values, counts, mapping_digest, {"#commit": "commit"}) or (
            self.batch(batch_id).commit == attempt  # it was an earlier try of this write
        )

    def refuse(self, batch_id: str, reason: str, counts: Counts, mapping_digest: str) -> bool:
        """Refuse a planned batch; False if it is not planned any more."""
        batch = self.batch(batch_id)
        values = {":to": _s(BatchState.REFUSED), ":planned": _s(BatchState.PLANNED), ":reason": _s(reason)}
        moves = [self._delete(_key(_open_pk(batch), batch_id)), self._put(_pointer(_refused_pk(batch), batch))]
        update = "SET #state = :to, reason = :reason, refused = :at"
        return self._settle(batch_id, update, values, counts, mapping_digest, {}, moves)

    def release(self, batch_id: str, *, accept: bool = False) -> Batch:
        """Plan a refused batch again.

        Args:
            batch_id: of the batch.
            accept: it may have whatever share of dead letters it has.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it isn't refused.
        """
        batch = self.batch(batch_id)
        if batch.state == BatchState.PLANNED and batch.reason and batch.accepted == accept:
            return batch  # it was released so already
        if batch.state != BatchState.REFUSED:
            raise BatchConflict(
                f"batch {batch_id}: expected it to be refused, found it {batch.state}; nothing was written"
            )
        moves = [self._delete(_key(_refused_pk(batch), batch_id)), self._put(_pointer(_open_pk(batch), batch))]
        values = {":to": _s(BatchState.PLANNED), ":accepted": {"BOOL": accept}}
        return self._move(batch, BatchState.REFUSED, "SET #state = :to, accepted = :accepted", values, moves)

    def reopen(self, batch_id: str) -> Batch:
        """Plan a committed batch again, whose uploads are lost. What it had made visible must be gone by then.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it isn't committed.
        """
        values = {":to": _s(BatchState.PLANNED)}
        update = "SET #state = :to REMOVE #commit, committed"
        return self._move(self.batch(batch_id), BatchState.COMMITTED, update, values, (), {"#commit": "commit"})

    def uploads(self, batch_id: str, attempt: int | None = None) -> dict[int, list[Upload]]:
        """Uploads by attempt; of one attempt only if a number is given."""
        found: dict[int, list[Upload]] = {}
        for row in self._query(_batch_pk(batch_id), "upload#" if attempt is None else f"upload#{attempt:06}#"):
            body = json.loads(row["body"]["S"])
            upload = Upload(**{**body, "parts": tuple(body["parts"])})
            found.setdefault(int(row[SORT]["S"].split("#")[1]), []).append(upload)
        return found

    def findings(self, batch_id: str, attempt: int) -> list[ObjectFinding]:
        """What an attempt has found in its objects."""
        return [
            ObjectFinding(identity, read, written, set_aside, VersionState(state), reason)
            for row in self._query(_batch_pk(batch_id), f"objects#{attempt:06}#")
            for identity, read, written, set_aside, state, reason in json.loads(row["body"]["S"])
        ]

    def forget_attempt(self, batch_id: str, attempt: int) -> None:
        """Remove what was kept of an attempt that came to nothing."""
        for prefix in ("upload", "objects"):
            for row in self._query(_batch_pk(batch_id), f"{prefix}#{attempt:06}#", projection=f"{PARTITION}, {SORT}"):
                self.dynamodb.delete_item(TableName=self.table, Key={name: row[name] for name in (PARTITION, SORT)})

    def attempts_kept(self, batch_id: str) -> set[int]:
        """Attempts of which something is kept."""
        return {
            int(row[SORT]["S"].split("#")[1])
            for prefix in ("upload#", "objects#")
            for row in self._query(_batch_pk(batch_id), prefix, projection=SORT)
        }

    def publish(self, batch_id: str) -> Batch:
        """The outputs of a committed batch are visible: its versions are ingested or gone, and then it is published.

        Raises:
            BatchUnknown: there is none.
            BatchConflict: it is neither committed nor published.
        """
        batch = self.batch(batch_id)
        if batch.state == BatchState.PUBLISHED:
            return batch
        if batch.state == BatchState.COMMITTED:
            for some in batched(self.findings(batch_id, batch.commit), MOST_ELEMENTS):
                transact(self.dynamodb, [self._finish(batch_id, each) for each in some])
        values = {":to": _s(BatchState.PUBLISHED), ":at": _s(stamp(self.clock()))}
        pointer = [self._delete(_key(_open_pk(batch), batch_id))]
        return self._move(batch, BatchState.COMMITTED, "SET #state = :to, published = :at", values, pointer)

    # How it is done

    def _settled(self, identities: Iterable[str]) -> set[str]:
        """Those that are known and would stay as they are."""
        known: set[str] = set()
        for some in batched(identities, _KEYS_READ_AT_ONCE):
            keys = [_key(_version_pk(identity), _VERSION) for identity in some]
            asked: dict[str, Any] = {
                self.table: {
                    "Keys": keys,
                    "ProjectionExpression": f"{PARTITION}, reason",
                }
            }
            while asked:
                answer = self.dynamodb.batch_get_item(RequestItems=asked)
                known |= {
                    row[PARTITION]["S"].partition("#")[2]
                    for row in answer["Responses"].get(self.table, [])
                    if row.get("reason", {}).get("S") != NO_SOURCE
                }
                asked = answer.get("UnprocessedKeys", {})
        return known

    def _put_new(self, arrivals: list[Arrival], guard: Sequence[Mapping[str, Any]]) -> int:
        while arrivals:
            try:
                transact(self.dynamodb, [*guard, *(self._put_if_new(each) for each in arrivals)])
            except ConditionFailed as error:
                if error.elements[0] < len(guard):
                    raise
                known = {position - len(guard) for position in error.elements}
                arrivals = [each for position, each in enumerate(arrivals) if position not in known]
            else:
                break
        return len(arrivals)

    def _put_if_new(self, arrival: Arrival) -> dict[str, Any]:
        row = self._version_row(arrival)
        if arrival.source is None:
            return self._put(row, _FRESH)
        # a source takes now what none took before; it never was in a batch
        values = {":aside": _s(VersionState.SET_ASIDE), ":reason": _s(NO_SOURCE)}
        names = {"#state": "state"}
        return self._put(row, f"{_FRESH} OR (#state = :aside AND reason = :reason)", values, names)

    def _version_row(self, arrival: Arrival) -> dict[str, Any]:
        identity = arrival.version.identity
        now = stamp(self.clock())
        state = VersionState.SET_ASIDE if arrival.source is None else VersionState.RECEIVED
        row = {
            **_key(_version_pk(identity), _VERSION),
            **_object(arrival.version),
            "state": _s(state),
            "source": _s(arrival.source or ""),
            "origin": _s(arrival.origin),
            "received": _s(now),
            WAITING: _s(arrival.source or ASIDE),
            _SINCE: _s(f"{now}#{identity}"),
        }
        if arrival.source is None:
            row["reason"] = _s(NO_SOURCE)
        if arrival.replay_of:
            row["replay_of"] = _s(json.dumps(asdict(arrival.replay_of)))
        return row

    def _move_version(
        self,
        identity: str,
        update: str,
        values: Mapping[str, Any],
        names: Mapping[str, str] | None = None,
        condition: str = "",
    ) -> None:
        try:
            self.dynamodb.update_item(
                TableName=self.table,
                Key=_key(_version_pk(identity), _VERSION),
                UpdateExpression=update,
                ConditionExpression=f"#state = :from{condition}",
                ExpressionAttributeNames={"#state": "state", **(names or {})},
                ExpressionAttributeValues=dict(values),
            )
        except self.dynamodb.exceptions.ConditionalCheckFailedException as error:
            found = self.version(identity)
            raise BatchConflict(
                f"object version {identity}: expected it to be {values[':from']['S']} and in no batch, found it {found.state}"
                f"{f' in batch {found.batch}' if found.batch else ''}"
            ) from error

    def _waiting_rows(self, source: str, projection: str = "") -> Iterator[dict[str, Any]]:
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.table,
            IndexName=WAITING,
            KeyConditionExpression=f"{WAITING} = :source",
            ExpressionAttributeValues={":source": _s(source)},
            **({"ProjectionExpression": projection.replace("bytes", "#bytes")} if projection else {}),
            **({"ExpressionAttributeNames": {"#bytes": "bytes"}} if "bytes" in projection else {}),
        )
        for page in pages:
            yield from page["Items"]

    def _begin(self, source: str, identities: Sequence[str]) -> str:
        """A batch that is forming; the same one if somebody began it and died."""
        now = self.clock()
        for generation in count():
            batch_id = batch_id_of(source, identities, generation)
            batch = Batch(batch_id, source, BatchState.FORMING, day_of(now), stamp(now), 0, 0)
            row = {
                **_batch_key(batch_id),
                "source": _s(source),
                "state": _s(batch.state),
                "day": _s(batch.day),
                "planned": _s(batch.planned),
                "objects": _n(0),
                "bytes": _n(0),
                "attempts": _n(0),
            }
            pointers = [self._put(_pointer(pk, batch)) for pk in (_open_pk(batch), _day_pk(batch))]
            try:
                transact(self.dynamodb, [self._put(row, _FRESH), *pointers])
            except ConditionFailed:
                there = self._get(_batch_key(batch_id))
                if there is not None and there["state"]["S"] == BatchState.FORMING:
                    return batch_id
            else:
                return batch_id
        raise AssertionError

    def _claim(self, batch_id: str, versions: list[Version]) -> bool:
        """Claim those that still wait; False if the batch isn't forming any more."""
        while versions:
            size = sum(each.version.size for each in versions)
            more = {
                "UpdateExpression": "ADD objects :objects, #bytes :bytes",
                "ExpressionAttributeNames": {"#state": "state", "#bytes": "bytes"},
            }
            values = {":objects": _n(len(versions)), ":bytes": _n(size), ":forming": _s(BatchState.FORMING)}
            elements = [self._update(_batch_key(batch_id), more, "#state = :forming", values)]
            for each in versions:
                elements += self._claiming(batch_id, each)
            try:
                transact(self.dynamodb, elements)
            except ConditionFailed as error:
                if error.elements[0] == 0:
                    return False
                taken = {(position - 1) // 2 for position in error.elements}
                versions = [each for position, each in enumerate(versions) if position not in taken]
            else:
                break
        return True

    def _claiming(self, batch_id: str, version: Version) -> list[dict[str, Any]]:
        identity = version.version.identity
        claim = {
            "UpdateExpression": f"SET #state = :batched, batch_id = :batch REMOVE {WAITING}, {_SINCE}",
            "ExpressionAttributeNames": {"#state": "state", "#source": "source"},
        }
        values = {
            ":batched": _s(VersionState.BATCHED),
            ":received": _s(VersionState.RECEIVED),
            ":batch": _s(batch_id),
            ":source": _s(version.source),
        }
        member = {**_key(_batch_pk(batch_id), f"member#{identity}"), **_object(version.version)}
        if version.replay_of:
            member["replay_of"] = _s(json.dumps(asdict(version.replay_of)))
        condition = "#state = :received AND #source = :source"
        return [self._update(_key(_version_pk(identity), _VERSION), claim, condition, values), self._put(member)]

    def _settle(
        self,
        batch_id: str,
        update: str,
        values: Mapping[str, Any],
        counts: Counts,
        mapping_digest: str,
        names: Mapping[str, str],
        moves: Sequence[dict[str, Any]] = (),
    ) -> bool:
        set_, remove, removed = update.partition(" REMOVE ")
        element = {
            "UpdateExpression": f"{set_}, counts = :counts, mapping_digest = :digest{remove}{removed}",
            "ExpressionAttributeNames": {"#state": "state", **names},
        }
        values = {
            **values,
            ":at": _s(stamp(self.clock())),
            ":counts": _s(json.dumps(asdict(counts))),
            ":digest": _s(mapping_digest),
        }
        try:
            transact(self.dynamodb, [self._update(_batch_key(batch_id), element, "#state = :planned", values), *moves])
        except ConditionFailed:
            return False
        return True

    def _move(
        self,
        batch: Batch,
        expected: BatchState,
        update: str,
        values: Mapping[str, Any],
        moves: Sequence[dict[str, Any]],
        names: Mapping[str, str] | None = None,
    ) -> Batch:
        """Move a batch from one state to another; one that is there already stays."""
        element = {"UpdateExpression": update, "ExpressionAttributeNames": {"#state": "state", **(names or {})}}
        header = self._update(_batch_key(batch.batch_id), element, "#state = :from", {**values, ":from": _s(expected)})
        try:
            transact(self.dynamodb, [header, *moves])
        except ConditionFailed as error:
            found = self.batch(batch.batch_id)
            if found.state != values[":to"]["S"]:
                raise BatchConflict(
                    f"batch {batch.batch_id}: expected it to be {expected}, found it {found.state}; nothing was written"
                ) from error
            return found
        return self.batch(batch.batch_id)

    def _finish(self, batch_id: str, found: ObjectFinding) -> dict[str, Any]:
        numbers = {":read": found.read, ":written": found.written, ":aside": found.set_aside}
        update = "SET #state = :to, #read = :read, written = :written, set_aside = :aside"
        values = {":to": _s(found.state), ":batch": _s(batch_id), **{name: _n(n) for name, n in numbers.items()}}
        if found.reason:
            update += ", reason = :reason"
            values[":reason"] = _s(found.reason)
        element = {"UpdateExpression": update, "ExpressionAttributeNames": {"#state": "state", "#read": "read"}}
        return self._update(_key(_version_pk(found.identity), _VERSION), element, "batch_id = :batch", values)

    def _pointed(self, pk: str) -> list[Batch]:
        found = []
        for row in self._query(pk, ""):
            there = self._get(_batch_key(row[SORT]["S"]))
            if there is not None:
                found.append(_read_batch(there))
        return sorted(found, key=lambda batch: (batch.planned, batch.batch_id))

    def _get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        row: dict[str, Any] | None = self.dynamodb.get_item(TableName=self.table, Key=key, ConsistentRead=True).get(
            "Item"
        )
        return row

    def _query(self, pk: str, prefix: str, projection: str = "") -> Iterator[dict[str, Any]]:
        arguments: dict[str, Any] = {
            "KeyConditionExpression": f"{PARTITION} = :pk",
            "ExpressionAttributeValues": {":pk": _s(pk)},
        }
        if prefix:
            arguments["KeyConditionExpression"] += f" AND begins_with({SORT}, :prefix)"
            arguments["ExpressionAttributeValues"][":prefix"] = _s(prefix)
        if projection:
            arguments["ProjectionExpression"] = projection
        pages = self.dynamodb.get_paginator("query").paginate(TableName=self.table, ConsistentRead=True, **arguments)
        for page in pages:
            yield from page["Items"]

    def _put(
        self,
        row: Mapping[str, Any],
        condition: str = "",
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        element: dict[str, Any] = {"TableName": self.table, "Item": dict(row)}
        if condition:
            element["ConditionExpression"] = condition
        if values:
            element["ExpressionAttributeValues"] = dict(values)
        if names:
            element["ExpressionAttributeNames"] = dict(names)
        return {"Put": element}

    def _update(
        self, key: Mapping[str, Any], update: Mapping[str, Any], condition: str, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        where = {"TableName": self.table, "Key": dict(key), "ConditionExpression": condition}
        return {"Update": {**where, **update, "ExpressionAttributeValues": dict(values)}}

    def _delete(self, key: Mapping[str, Any], condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"Delete": {"TableName": self.table, "Key": dict(key), **(condition or {})}}


def _s(text: str) -> dict[str, str]:
    return {"S": str(text)}


def _n(number: int) -> dict[str, str]:
    return {"N": str(number)}


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {PARTITION: _s(pk), SORT: _s(sk)}


def _version_pk(identity: str) -> str:
    return f"version#{identity}"


def _batch_pk(batch_id: str) -> str:
    return f"batch#{batch_id}"


def _batch_key(batch_id: str) -> dict[str, Any]:
    return _key(_batch_pk(batch_id), _BATCH)


def _open_pk(batch: Batch) -> str:
    return f"open#{batch.source}"


def _refused_pk(batch: Batch) -> str:
    return f"refused#{batch.source}"


def _day_pk(batch: Batch) -> str:
    return f"day#{batch.source}#{batch.day}"


def _pointer(pk: str, batch: Batch) -> dict[str, Any]:
    return _key(pk, batch.batch_id)


def _object(version: ObjectVersion) -> dict[str, Any]:
    row = {"bucket": _s(version.bucket), "object_key": _s(version.key), "bytes": _n(version.size)}
    texts = {
        "version_id": version.version_id,
        "etag": version.etag,
        "sequencer": version.sequencer,
        "event_time": version.event_time,
    }
    return row | {name: _s(text) for name, text in texts.items() if text}


def _read_object(row: Mapping[str, Any]) -> ObjectVersion:
    def text(name: str) -> str:
        return str(row[name]["S"]) if name in row else ""

    return ObjectVersion(
        text("bucket"),
        text("object_key"),
        text("version_id") or None,
        text("etag"),
        int(row["bytes"]["N"]),
        text("sequencer"),
        text("event_time"),
    )


def _read_ref(value: Mapping[str, Any] | None) -> ObjectRef | None:
    return ObjectRef(**json.loads(value["S"])) if value else None


def _read_version(row: Mapping[str, Any]) -> Version:
    def number(name: str) -> int:
        return int(row[name]["N"]) if name in row else 0

    return Version(
        _read_object(row),
        row["source"]["S"],
        VersionState(row["state"]["S"]),
        row["origin"]["S"],
        row["received"]["S"],
        row["batch_id"]["S"] if "batch_id" in row else "",
        row["reason"]["S"] if "reason" in row else "",
        number("read"),
        number("written"),
        number("set_aside"),
        _read_ref(row.get("replay_of")),
    )


def _read_batch(row: Mapping[str, Any]) -> Batch:
    def text(name: str) -> str:
        return str(row[name]["S"]) if name in row else ""

    batch = Batch(
        text(PARTITION).partition("#")[2],
        text("source"),
        BatchState(text("state")),
        text("day"),
        text("planned"),
        int(row["objects"]["N"]),
        int(row["bytes"]["N"]),
        int(row["attempts"]["N"]),
        int(row["commit"]["N"]) if "commit" in row else 0,
        mapping_digest=text("mapping_digest"),
        committed=text("committed"),
        published=text("published"),
        reason=text("reason"),
        accepted=row.get("accepted", {}).get("BOOL", False),
    )
    return replace(batch, counts=Counts(**json.loads(text("counts")))) if "counts" in row else batch
