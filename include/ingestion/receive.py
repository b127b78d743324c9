"""Receives: what a queue or a listing tells of is recorded in the ledger, and only then is a message deleted.

A queue may deliver a message twice, late and in any order; the ledger knows a version whatever it was heard by. Who dies before the
deletion gets the messages again, when their visibility time-out is over.

Where there is no queue, and for a backfill, the objects are listed. A listing and a notice name a version alike: where the bucket keeps
versions, each version is listed, and an older one that was overwritten is ingested as it is by its notice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.ledger import Arrival, day_of, stamp
from include.ingestion.notices import Fault, ObjectVersion, object_version, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from include.ingestion.ledger import Ledger

    type Route = Callable[[ObjectVersion], str | None]
    """Tells whose data a version is; None: no source's."""

NOTICES_PREFIX: Final = "dead-letters/notices"
_MOST_MESSAGES: Final = 10
"""SQS's limit of a call."""
_CHUNK: Final = 10
"""Calls whose messages are recorded together."""


@dataclass(frozen=True)
class ReceiveLimits:
    """When to stop.

    Attributes:
        messages: the most.
        seconds: begin no further call after this.
        wait_seconds: how long a call waits for a message (long poll), at most 20.
        visibility_seconds: how long a message is hidden; it is hidden again if recording takes more than half of that.
    """

    messages: int = 10_000
    seconds: float = 120.0
    wait_seconds: int = 5
    visibility_seconds: int = 300


@dataclass(frozen=True)
class ReceiveReport:
    """What was received.

    Attributes:
        messages: read.
        new: versions that the ledger didn't know.
        known: versions that it did.
        unrouted: of all those, versions that no source takes; set aside in the ledger.
        removed: notices of removals.
        tests: S3's test events.
        faults: what could not be read, by reason; kept in the dead letters.
        kept: messages that were recorded and could not be deleted; they come again, and are known then.
    """

    messages: int = 0
    new: int = 0
    known: int = 0
    unrouted: int = 0
    removed: int = 0
    tests: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0


def receive_queue(
    sqs: Any,
    s3: Any,
    ledger: Ledger,
    queue_url: str,
    route: Route,
    *,
    dead_letter_bucket: str,
    limits: ReceiveLimits | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> ReceiveReport:
    """Empty a queue into the ledger, until it gives nothing more or a limit is reached.

    Args:
        sqs: a boto3 client.
        s3: a boto3 client; keeps what can't be read.
        ledger: where versions go.
        queue_url: of the queue.
        route: whose data a version is.
        dead_letter_bucket: where messages go that can't be read, below `NOTICES_PREFIX`.
        limits: when to stop.
        monotonic: seconds.
    """
    receiver = _Receiver(sqs, s3, ledger, queue_url, route, dead_letter_bucket, limits or ReceiveLimits(), monotonic)
    return receiver.run()


def receive_listing(
    s3: Any,
    ledger: Ledger,
    bucket: str,
    prefix: str,
    route: Route,
    *,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ReceiveReport:
    """List a prefix into the ledger: on a schedule where there is no queue, and for a backfill.

    Args:
        s3: a boto3 client.
        ledger: where versions go.
        bucket: to list.
        prefix: to list; the narrower, the cheaper (most sources have the day in it).
        route: whose data a version is.
        source: record this source's only; None: all, and what no source takes is set aside.
        since: only what was last modified then or later (aware).
        until: only what was last modified before (aware).
    """
    versions = (
        version
        for version, modified in list_versions(s3, bucket, prefix)
        if (since is None or modified >= since) and (until is None or modified < until)
    )
    return _record(ledger, versions, route, source)


def receive_keys(
    s3: Any, ledger: Ledger, bucket: str, keys: Iterable[str], route: Route, *, source: str | None = None
) -> ReceiveReport:
    """Record the present versions of some keys; one that isn't there counts as a fault ``deleted``.

    Args:
        s3: a boto3 client.
        ledger: where versions go.
        bucket: of the keys.
        keys: as they are, not encoded.
        route: whose data a version is.
        source: record this source's only; None: all.
    """
    missing: Counter[str] = Counter()

    def present() -> Iterator[ObjectVersion]:
        for key in keys:
            version = head(s3, bucket, key)
            if version is None:
                missing["deleted"] += 1
            else:
                yield version

    report = _record(ledger, present(), route, source)
    return ReceiveReport(0, report.new, report.known, report.unrouted, faults=dict(missing))


def head(s3: Any, bucket: str, key: str) -> ObjectVersion | None:
    """The present version of an object; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        answer = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
            return None
        raise
    size = answer["ContentLength"]
    modified = answer["LastModified"].isoformat()
    return object_version(bucket, key, answer.get("VersionId"), answer["ETag"], size, event_time=modified)


def list_versions(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[ObjectVersion, datetime]]:
    """The versions below a prefix, and when each was made. Delete markers are none."""
    versioned = s3.get_bucket_versioning(Bucket=bucket).get("Status") in {"Enabled", "Suspended"}
    operation, part = ("list_object_versions", "Versions") if versioned else ("list_objects_v2", "Contents")
    for page in s3.get_paginator(operation).paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get(part, []):
            modified = item["LastModified"]
            version = object_version(
                bucket,
                item["Key"],
                item.get("VersionId"),
                item["ETag"],
                item["Size"],
                event_time=modified.isoformat(),
            )
            yield version, modified


def _record(ledger: Ledger, versions: Iterable[ObjectVersion], route: Route, source: str | None) -> ReceiveReport:
    new = known = unrouted = 0
    for some in batched(versions, 1000):
        arrivals = [Arrival(version, route(version), "listing") for version in some]
        if source is not None:
            arrivals = [each for each in arrivals if each.source == source]
        unrouted += sum(each.source is None for each in arrivals)
        received = ledger.receive(arrivals, mostly_known=True)
        new, known = new + received.new, known + received.known
    return ReceiveReport(0, new, known, unrouted)


class _Receiver:
    def __init__(
        self,
        sqs: Any,
        s3: Any,
        ledger: Ledger,
        queue_url: str,
        route: Route,
        bucket: str,
        limits: ReceiveLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._sqs = sqs
        self._s3 = s3
        self._ledger = ledger
        self._queue_url = queue_url
        self._route = route
        self._bucket = bucket
        self._limits = limits
        self._monotonic = monotonic
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._hidden_at = 0.0

    def run(self) -> ReceiveReport:
        end = self._monotonic() + self._limits.seconds
        more = True
        while more and self._counts["messages"] < self._limits.messages:
            messages, more = self._take(end)
            if messages:
                self._take_in(messages)
        return ReceiveReport(faults=dict(self._faults), **self._counts)

    def _take(self, end: float) -> tuple[list[dict[str, Any]], bool]:
        """Some messages, and whether there may be more."""
        messages: dict[str, dict[str, Any]] = {}
        for call in range(_CHUNK):
            left = self._limits.messages - self._counts["messages"] - len(messages)
            if left <= 0 or self._monotonic() >= end:
                return list(messages.values()), False
            if not call:
                self._hidden_at = self._monotonic()
            elif self._monotonic() - self._hidden_at > self._limits.visibility_seconds / 4:
                break
            answer = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=min(left, _MOST_MESSAGES),
                # who has some already records them rather than wait for more
                WaitTimeSeconds=0 if messages else self._limits.wait_seconds,
                VisibilityTimeout=self._limits.visibility_seconds,
            )
            found = answer.get("Messages", [])
            messages |= {each["MessageId"]: each for each in found}
            if not found:
                return list(messages.values()), False
        return list(messages.values()), True

    def _take_in(self, messages: list[dict[str, Any]]) -> None:
        arrivals: list[Arrival] = []
        for message in messages:
            body = message.get("Body", "")
            notice = parse(body)
            self._counts["removed"] += notice.removed
            self._counts["tests"] += notice.tests
            arrivals += [Arrival(version, self._route(version), "notice") for version in notice.created]
            if notice.faults:
                self._keep(body, message, notice.faults)
                self._stay_hidden(messages)
        received = self._ledger.receive(arrivals, between=lambda: self._stay_hidden(messages))
        self._counts["messages"] += len(messages)
        self._counts["new"] += received.new
        self._counts["known"] += received.known
        self._counts["unrouted"] += len({each.version.identity for each in arrivals if each.source is None})
        self._delete(messages)

    def _keep(self, body: str, message: Mapping[str, Any], faults: Iterable[Fault]) -> None:
        """Put a message that can't be read, or can't be wholly, where somebody finds it. The same one again is the same object."""
        now = self._ledger.clock()
        digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        content = {
            "queue": self._queue_url,
            "message": message.get("MessageId", ""),
            "at": stamp(now),
            "faults": [{"reason": fault.reason, "detail": fault.detail} for fault in faults],
            "body": body,
        }
        self._s3.put_object(
            Bucket=self._bucket,
            Key=f"{NOTICES_PREFIX}/day={day_of(now)}/{digest}.json",
            Body=json.dumps(content).encode(),
            ContentType="application/json",
        )
        self._faults.update(fault.reason for fault in faults)

    def _stay_hidden(self, messages: list[dict[str, Any]]) -> None:
        """Hide the messages for longer if recording them takes long, so that nobody else gets them meanwhile."""
        if self._monotonic() - self._hidden_at < self._limits.visibility_seconds / 2:
            return
        self._hidden_at = self._monotonic()
        for some in batched(messages, _MOST_MESSAGES):
            entries = [
                {
                    "Id": str(position),
                    "ReceiptHandle": message["ReceiptHandle"],
                    "VisibilityTimeout": self._limits.visibility_seconds,
                }
                for position, message in enumerate(some)
            ]
            # one that can't be hidden any more comes again: that does no harm
            self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)

    def _delete(self, messages: list[dict[str, Any]]) -> None:
        for some in batched(messages, _MOST_MESSAGES):
            entries = [
                {"Id": str(position), "ReceiptHandle": message["ReceiptHandle"]}
                for position, message in enumerate(some)
            ]
            answer = self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
            self._counts["kept"] += len(answer.get("Failed", []))
