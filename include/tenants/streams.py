"""Reads the changes of a table in order, from a moment on, whatever happens to its stream meanwhile.

A stream has shards. Each is open for some hours, then closed and continued by its children; an item's changes are in one shard at a time,
so a child is read only after its parent was read to its end. A `Position` says for each shard how far it was read, and it is all that
has to be kept.

**Where a position begins** (`arm`). No call gives the number of the newest change: a LATEST iterator has none until something was
read with it, and it expires after 15 minutes. So a position begins at the oldest kept change of each shard that is open at that time. A
change that is made later is in one of these shards or in a descendant. What was made more than `SINCE_SECONDS` before is skipped, by
the time that AWS gave it and by AWS's own clock: this costs reading at most the few hours that a shard is open, and not one write. The
minutes before are replayed, because the copy is read eventually consistent; replaying them changes nothing else.

**Every shard that was ever listed stays in the position** until AWS lists it no more, closed ones as ended. So any other shard in a listing
is a new one, however late a listing shows it.

**A position is good for less than 24 hours.** It knows until when each shard was read; once that is nearly a day ago, records may be gone
unseen, and `StreamTrimmed` is raised whatever could still be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import ProvisioningFailed, StreamTrimmed
from include.tenants.request import STREAM_HOURS
from include.tenants.saas import PARTITION_KEY
from include.tenants.throttle import insist, is_passing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.tenants.portability import Portability

SINCE_SECONDS: Final = 600.0
"""How long before `arm` a change may have been made to be replayed; far more than an eventually consistent read is behind."""
MOST_LAG_SECONDS: Final = (STREAM_HOURS - 0.5) * 3600
"""From here on a stream may have forgotten what was not read yet."""
MOST_RECORDS: Final = 1000
"""DynamoDB's limit of GetRecords."""
_VIEWS: Final = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE")
_ENABLING_SECONDS: Final = 300.0
_LISTING_SECONDS: Final = 5.0
_SOON_SECONDS: Final = 0.25
"""Between two listings when a shard's children are looked for; AWS allows ten a second."""
TIP_PAGES: Final = 3
"""A page may be empty before the end; so many in a row are taken for the tip."""
_PAST_SECONDS: Final = 1.0
"""A record that is more than this later than another was written after it, though AWS rounds their times down to seconds."""
_CHILDLESS_LISTINGS: Final = 3
"""A shard that has ended and has no children in so many listings has none."""
_ENDED_SECONDS: Final = (STREAM_HOURS + 1) * 3600


@dataclass(frozen=True)
class ShardPosition:
    """How far a shard was read.

    Attributes:
        after: sequence number of the last record that was read; empty before the first.
        covered: all its records that were made before this time were read.
        ended: when it was read to its end; None while there may be more.
    """

    after: str = ""
    covered: float = 0.0
    ended: float | None = None


@dataclass(frozen=True)
class Position:
    """How far a stream was read.

    Attributes:
        stream: its ARN.
        armed: when the position began, in seconds since the epoch.
        since: records made earlier are skipped.
        shards: by id.
    """

    stream: str
    armed: float
    since: float
    shards: Mapping[str, ShardPosition] = field(default_factory=dict)

    @property
    def covered(self) -> float:
        """All changes that were made from `armed` on and before this time were read."""
        shards = self.shards.values()
        last = max((shard.covered for shard in shards), default=self.armed)
        return min((shard.covered for shard in shards if shard.ended is None), default=last)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, few: it is written often."""
        shards = {
            shard_id: {
                "to": shard.covered,
                **({"after": shard.after} if shard.ended is None else {"ended": shard.ended}),
            }
            for shard_id, shard in self.shards.items()
        }
        return {"stream": self.stream, "armed": self.armed, "since": self.since, "shards": shards}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Read what `to_json` gave."""
        shards = {
            shard_id: ShardPosition(shard.get("after", ""), shard["to"], shard.get("ended"))
            for shard_id, shard in value["shards"].items()
        }
        return cls(value["stream"], value["armed"], value["since"], shards)


@dataclass(frozen=True)
class Record:
    """A change of an item.

    Attributes:
        table: where.
        sequence_number: grows from change to change of an item.
        kind: INSERT, MODIFY or REMOVE.
        key: the item's keys, as DynamoDB's JSON.
        new_image: the item afterwards; None if it is gone.
        at: when, in seconds since the epoch, rounded down to a second.
    """

    table: str
    sequence_number: str
    kind: str
    key: Mapping[str, Any]
    new_image: Mapping[str, Any] | None
    at: float

    @property
    def number(self) -> int:
        """The sequence number, to compare: the texts may differ in length."""
        return int(self.sequence_number)

    @property
    def shard_id(self) -> str:
        """The item's partition key; not to be mixed up with the stream's shard."""
        value: str = self.key[PARTITION_KEY]["S"]
        return value

    @property
    def sort(self) -> str:
        """The item's sort key."""
        (value,) = (part["S"] for name, part in self.key.items() if name != PARTITION_KEY)
        text: str = value
        return text


def arm(p: Portability, table_name: str, *, margin_seconds: float = SINCE_SECONDS) -> Position:
    """Make sure that the table has a stream, and give a position that no change made from now on is before.

    Args:
        p: what it works with.
        table_name: whose.
        margin_seconds: changes that were made up to so long before are replayed too.

    Raises:
        ProvisioningFailed: the table's stream doesn't tell items, or isn't ready in time.
    """
    dynamodb = p.clients.dynamodb
    end = p.clock() + _ENABLING_SECONDS
    while True:
        describe = partial(dynamodb.describe_table, TableName=table_name)
        table = insist(describe, clock=p.clock, sleep=p.sleep)["Table"]
        specification = table.get("StreamSpecification", {})
        status = "absent"
        if specification.get("StreamEnabled"):
            if specification["StreamViewType"] not in _VIEWS:
                raise ProvisioningFailed(
                    f"{table_name}: expected a stream of the view type {_VIEWS[0]}, found {specification['StreamViewType']}. Who reads it? "
                    "Switch it off (UpdateTable), start again, and point its readers to the new one"
                )
            stream, shards = _describe(p, table["LatestStreamArn"])
            status = stream["StreamStatus"]
            if status == "ENABLED":
                return _beginning(p, stream, shards, margin_seconds)
        elif table["TableStatus"] == "ACTIVE":
            _enable(p, table_name)
        if p.clock() >= end:
            raise ProvisioningFailed(
                f"{table_name}: expected its stream to be ENABLED within {_ENABLING_SECONDS:.0f} s, found it {status} and the table "
                f"{table['TableStatus']}; look at the table, then retry this task"
            )
        p.sleep(0.1)


def _enable(p: Portability, table_name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        p.clients.dynamodb.update_table(
            TableName=table_name, StreamSpecification={"StreamEnabled": True, "StreamViewType": _VIEWS[0]}
        )
    except ClientError as error:
        # somebody changes the table, or has just enabled the stream: the next look tells
        known = error.response["Error"]["Code"] in ("ResourceInUseException", "ValidationException")
        if not known and not is_passing(error):
            raise


def _beginning(
    p: Portability, stream: Mapping[str, Any], shards: list[Mapping[str, Any]], margin_seconds: float
) -> Position:
    """Where reading begins: at each shard that has no children yet; the others count as read, since the copy sees what came by them."""
    armed = p.clock()
    date = stream["date"]
    since = min(armed, date) - margin_seconds if date is not None else 0.0
    parents = {shard.get("ParentShardId") for shard in shards}
    return Position(
        stream["StreamArn"],
        armed,
        since,
        {
            # a closed shard whose children aren't listed yet is read too
            shard["ShardId"]: ShardPosition(covered=armed, ended=armed if shard["ShardId"] in parents else None)
            for shard in shards
        },
    )


def _describe(p: Portability, arn: str, seconds: float = 60) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """The stream, with AWS's time as ``date``, and all its shards."""
    shards: list[Mapping[str, Any]] = []
    more: dict[str, Any] = {}
    while True:
        answer = insist(
            partial(p.clients.streams.describe_stream, StreamArn=arn, **more),
            seconds=seconds,
            clock=p.clock,
            sleep=p.sleep,
        )
        stream = answer["StreamDescription"]
        shards += stream.get("Shards", [])
        last = stream.get("LastEvaluatedShardId")
        if not last:
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            date = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else None
            return {**stream, "date": date}, shards
        more = {"ExclusiveStartShardId": last}


@dataclass
class _Shard:
    """A shard that is read."""

    shard_id: str
    after: str
    covered: float
    ended: float | None
    iterator: str | None = None
    empty_pages: int = 0
    reached: float | None = None
    listings: int = 0

    @property
    def at_tip(self) -> bool:
        return self.empty_pages >= TIP_PAGES


class Stream:
    """A table's changes from a position on.

    Args:
        p: what it works with.
        table_name: whose.
        position: where it begins.

    Attributes:
        repeated: records that came again and were left out.
        older: records that were left out because they were made before the position began.
        patience: how many seconds a call that fails for now is made again.
    """

    def __init__(self, p: Portability, table_name: str, position: Position) -> None:
        self._p = p
        self._table = table_name
        self._begin = position
        self._shards = {
            shard_id: _Shard(shard_id, shard.after, shard.covered, shard.ended, listings=_CHILDLESS_LISTINGS)
            for shard_id, shard in position.shards.items()
        }
        self._listed_at: float | None = None
        self._turn = 0
        self.repeated = 0
        self.older = 0
        self.patience = 60.0

    @property
    def position(self) -> Position:
        """After the last record that `read` gave."""
        shards = {
            shard.shard_id: ShardPosition(shard.after, shard.covered, shard.ended) for shard in self._shards.values()
        }
        return Position(self._begin.stream, self._begin.armed, self._begin.since, shards)

    @property
    def at_tip(self) -> bool:
        """Whether there seems to be nothing more to read now. No proof: records take a moment to come into a stream."""
        return self._listed_at is not None and all(
            shard.at_tip if shard.ended is None else shard.listings >= _CHILDLESS_LISTINGS
            for shard in self._shards.values()
        )

    def is_past(self, moment: float) -> bool:
        """Whether each shard was read to its tip, or to a change, also another tenant's, that was made after ``moment``.

        A table that others write to all the time has no tip. Changes come by their time as a rule and not by promise, as at the tip.
        """
        return self._listed_at is not None and all(
            shard.at_tip or (shard.reached is not None and shard.reached > moment + _PAST_SECONDS)
            if shard.ended is None
            else shard.listings >= _CHILDLESS_LISTINGS
            for shard in self._shards.values()
        )

    @property
    def open_shards(self) -> int:
        """How many shards are read."""
        return len(self._open())

    @property
    def lag_seconds(self) -> float:
        """How long ago the oldest change that wasn't read may have been made; 0 at the tip."""
        behind = [shard.covered for shard in self._open() if not shard.at_tip]
        return max(self._p.clock() - min(behind), 0.0) if behind and not self.at_tip else 0.0

    @property
    def reached(self) -> float | None:
        """When the last record that was read of the slowest shard was made, also one that was left out; None at the tip or if unknown."""
        behind = [shard.reached for shard in self._open() if not shard.at_tip and shard.reached is not None]
        return min(behind, default=None)

    def forget_tip(self) -> None:
        """Look anew whether there is more: `at_tip` is said only of what is looked at from now on."""
        for shard in self._shards.values():
            shard.empty_pages = 0

    def read(self, most: int = MOST_RECORDS) -> list[Record]:
        """The next records of one of the shards, in order; none although there are more, now and then: see `at_tip`.

        Raises:
            StreamTrimmed: records are gone, or may be, or the stream was switched off.
        """
        self._list_if_due()
        shards = self._open()
        for offset in range(len(shards)):
            shard = shards[(self._turn + offset) % len(shards)]
            records = self._page(shard, most)
            if records:
                self._turn += offset + 1
                return records
        return []

    def _open(self) -> list[_Shard]:
        return [shard for shard in self._shards.values() if shard.ended is None]

    def _page(self, shard: _Shard, most: int) -> list[Record]:
        asked = self._p.clock()
        answer = self._get_records(shard, min(most, MOST_RECORDS))
        shard.iterator = answer.get("NextShardIterator")
        found = sorted((self._record(raw) for raw in answer["Records"]), key=lambda record: record.number)
        records = []
        for record in found:
            if shard.after and record.number < int(shard.after):
                self.repeated += 1  # the same number again is passed on: it may be another change
                continue
            shard.after = record.sequence_number
            shard.reached = record.at
            shard.covered = max(shard.covered, record.at)
            if record.at < self._begin.since:
                self.older += 1
            else:
                records.append(record)
        shard.empty_pages = 0 if found else shard.empty_pages + 1
        if shard.at_tip:
            shard.covered = max(shard.covered, asked)
        if shard.iterator is None:
            shard.ended, shard.listings = asked, 0
        return records

    def _record(self, raw: Mapping[str, Any]) -> Record:
        change = raw["dynamodb"]
        return Record(
            self._table,
            change["SequenceNumber"],
            raw["eventName"],
            change["Keys"],
            change.get("NewImage"),
            change["ApproximateCreationDateTime"].timestamp(),
        )

    def _get_records(self, shard: _Shard, most: int) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        tries = 0
        while True:
            iterator = shard.iterator or self._iterator(shard, oldest=tries > 1)
            try:
                answer: dict[str, Any] = self._insist("get_records", ShardIterator=iterator, Limit=most)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                shard.iterator = None
                tries += 1
                if code == "TrimmedDataAccessException":
                    self._refuse_if_trimmed(shard, error)
                    tries += 1
                elif code == "ResourceNotFoundException":
                    raise self._trimmed("it to be there", "that it is gone") from error
                elif code != "ExpiredIteratorException":
                    raise
                if tries > 4:
                    raise
            else:
                return answer

    def _iterator(self, shard: _Shard, *, oldest: bool) -> str:
        from botocore.exceptions import ClientError

        where = {"StreamArn": self._begin.stream, "ShardId": shard.shard_id}
        if shard.after and not oldest:
            try:
                kind = "AFTER_SEQUENCE_NUMBER"
                answer = self._insist("get_shard_iterator", ShardIteratorType=kind, SequenceNumber=shard.after, **where)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ResourceNotFoundException":
                    raise self._trimmed("it to be there", "that it is gone") from error
                if code != "TrimmedDataAccessException":
                    raise
                self._refuse_if_trimmed(shard, error)
            else:
                return str(answer["ShardIterator"])
        try:
            answer = self._insist("get_shard_iterator", ShardIteratorType="TRIM_HORIZON", **where)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            raise self._trimmed("it to be there", "that it is gone") from error
        return str(answer["ShardIterator"])

    def _refuse_if_trimmed(self, shard: _Shard, error: Exception) -> None:
        """The record of a position may be gone although none after it is: what was made since ``covered`` is kept long enough."""
        if self._p.clock() - shard.covered > MOST_LAG_SECONDS:
            raise self._trimmed("changes that were not read yet to be there", "that they are gone") from error

    def _list_if_due(self) -> None:
        if self._listed_at is not None:
            waited = max(self._p.clock() - self._listed_at, 0.0)
            childless = [
                shard.listings
                for shard in self._shards.values()
                if shard.ended is not None and shard.listings < _CHILDLESS_LISTINGS
            ]
            if not childless:
                if waited < _LISTING_SECONDS:
                    return
            elif min(childless) and waited < _SOON_SECONDS:
                self._p.sleep(_SOON_SECONDS - waited)
        self._list()

    def _list(self) -> None:
        """Look which shards there are, and begin with those whose parents were read to their end."""
        from botocore.exceptions import ClientError

        covered = self.position.covered
        now = self._p.clock()
        if now - covered > MOST_LAG_SECONDS:
            raise self._trimmed(
                f"it to be read until less than {MOST_LAG_SECONDS / 3600:g} hours ago",
                f"that it was read until {(now - covered) / 3600:.1f} hours ago",
            )
        try:
            stream, listed = _describe(self._p, self._begin.stream, self.patience)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            raise self._trimmed("it to be there", "that it is gone") from error
        if stream["StreamStatus"].startswith("DISABL"):
            raise self._trimmed("it to stay on", "that somebody has switched it off, so changes may be missing")
        self._add(listed, covered)
        ids = {shard["ShardId"] for shard in listed}
        for known in list(self._shards.values()):
            known.listings += 1
            if known.ended is not None and known.shard_id not in ids and now - known.ended > _ENDED_SECONDS:
                del self._shards[known.shard_id]
        self._listed_at = now

    def _add(self, listed: list[Mapping[str, Any]], covered: float) -> None:
        """Begin with the shards that are new and may be read now.

        Args:
            listed: all that AWS tells.
            covered: until when all that was known before was read.
        """
        ids = {shard["ShardId"] for shard in listed}
        for shard in listed:
            shard_id, parent = shard["ShardId"], shard.get("ParentShardId")
            known = self._shards.get(parent) if parent else None
            if known is not None and known.ended is not None:
                known.listings = _CHILDLESS_LISTINGS
                covered_before = known.covered
            elif known is None and parent not in ids:
                covered_before = covered  # its parent is forgotten, or it has none
            else:
                continue  # its parent comes first
            if shard_id not in self._shards:
                self._shards[shard_id] = _Shard(shard_id, "", covered_before, None)

    def _insist(self, call: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = insist(
            partial(getattr(self._p.clients.streams, call), **arguments),
            seconds=self.patience,
            clock=self._p.clock,
            sleep=self._p.sleep,
        )
        return answer

    def _trimmed(self, expected: str, found: str) -> StreamTrimmed:
        return StreamTrimmed(
            f"stream of {self._table}: expected {expected}, found {found}. The tenant's changes are not complete any more. Before "
            "the switch: end this migration (rollback_tenant_migration) and start another. After it: the tenant is well where it is, but "
            "there is no way back; mark replicate_reverse as success and clear complete"
        )
