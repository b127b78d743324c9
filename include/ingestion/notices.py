"""What S3 says of its objects: the bodies of a queue's messages as object versions.

Read are notices of S3 itself (several records in one), those in an envelope of SNS, S3's events of EventBridge, and S3's test event. A
record that can't be read is a fault of its own: the others of the same message count.

A key or version is only ever data. It is never the name of a local file, nor part of a query.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from include.ingestion.exceptions import BadNotice

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_KEY_BYTES: Final = 1024
"""S3's limit, in UTF-8."""
_MOST_VERSION_BYTES: Final = 1024
_MOST_SIZE: Final = 2**53
_MOST_ENVELOPES: Final = 3
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SHORT_TEXT: Final = 200


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object.

    Attributes:
        bucket: its bucket.
        key: its key, decoded.
        version_id: None where the bucket keeps no versions (also S3's ``null`` version).
        etag: without quotes; may be empty for one with a version id.
        size: bytes.
        sequencer: S3's order of the events of one key; empty if not known. Not part of the identity: a listing doesn't tell it.
        event_time: when it was made, ISO 8601; empty if not known.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int
    sequencer: str = ""
    event_time: str = ""

    @cached_property
    def identity(self) -> str:
        """64 hexadecimal digits, the same however the version was heard of: by any notice, or by a listing.

        With a version id: bucket, key and version. Without: bucket, key, etag and size. So, where a bucket keeps no versions, an object
        that is overwritten with the same content is the same version, and isn't ingested again. Two contents are two versions. (An etag
        is a digest of the content, but for multipart uploads of other part sizes and for keys of KMS, where the same content may have
        another one: then it counts as a new version, as a notice of it says.)
        """
        parts = [self.bucket, self.key]
        parts += ["v", self.version_id] if self.version_id else ["e", self.etag, str(self.size)]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()

    def __str__(self) -> str:
        """For messages: quoted, so that a name with line breaks can't look like two lines of a log."""
        name = f"s3://{self.bucket}/{self.key}"
        return f"{json.dumps(name)} (version {self.version_id or self.etag or 'unknown'})"


@dataclass(frozen=True)
class Fault:
    """Part of a message that can't be read.

    Attributes:
        reason: code.
        detail: what was expected and found.
    """

    reason: str
    detail: str


@dataclass(frozen=True)
class Notice:
    """What a message says.

    Attributes:
        created: versions that there are now.
        removed: how many records tell of removals. A version that is still to be read is found to be gone when it is read, so they need no
            order, and change nothing.
        tests: how many test events.
        faults: what can't be read.
    """

    created: tuple[ObjectVersion, ...] = ()
    removed: int = 0
    tests: int = 0
    faults: tuple[Fault, ...] = ()


@dataclass
class _Found:
    created: list[ObjectVersion] = field(default_factory=list)
    removed: int = 0
    tests: int = 0
    faults: list[Fault] = field(default_factory=list)


def parse(body: str) -> Notice:
    """Read a message's body. Never fails: what can't be read is among the faults."""
    found = _Found()
    try:
        _read(_document(body), found, envelopes=0)
    except BadNotice as error:
        found.faults.append(Fault(error.reason, error.detail))
    return Notice(tuple(found.created), found.removed, found.tests, tuple(found.faults))


def object_version(
    bucket: Any, key: Any, version_id: Any, etag: Any, size: Any, *, sequencer: Any = "", event_time: Any = ""
) -> ObjectVersion:
    """A version of checked parts.

    Raises:
        BadNotice: a part isn't what S3 would say.
    """
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise BadNotice("bad_bucket", f"expected a bucket's name, found {_short(bucket)}")
    if not isinstance(key, str) or not 1 <= _bytes(key) <= MOST_KEY_BYTES:
        raise BadNotice("bad_key", f"expected a key of 1 to {MOST_KEY_BYTES} bytes of UTF-8, found {_short(key)}")
    if version_id in (None, "", "null"):
        version_id = None
    elif not isinstance(version_id, str) or not 1 <= _bytes(version_id) <= _MOST_VERSION_BYTES:
        raise BadNotice("bad_version", f"expected a version id, found {_short(version_id)}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_SIZE:
        raise BadNotice("bad_size", f"expected a number of bytes, found {_short(size)}")
    etag = etag.strip('"') if isinstance(etag, str) else ""
    if _bytes(etag) < 0 or len(etag) > _SHORT_TEXT or (not etag and version_id is None):
        raise BadNotice("bad_etag", f"expected an etag where there is no version id, found {_short(etag)}")
    if not isinstance(sequencer, str) or _bytes(sequencer) < 0 or len(sequencer) > _SHORT_TEXT:
        sequencer = ""
    return ObjectVersion(bucket, key, version_id, etag, size, sequencer, _time(event_time))


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadNotice("not_json", f"expected JSON, found {_short(text)} ({type(error).__name__})") from error


def _read(document: Any, found: _Found, *, envelopes: int) -> None:
    if not isinstance(document, dict):
        raise BadNotice("not_a_notice", f"expected a JSON object, found {_short(document)}")
    if document.get("Event") == "s3:TestEvent":
        found.tests += 1
    elif isinstance(document.get("Records"), list):
        _read_records(document["Records"], found)
    elif document.get("source") == "aws.s3" and "detail-type" in document:
        _read_event(document, found)
    elif isinstance(document.get("Message"), str) and "TopicArn" in document:
        if envelopes == _MOST_ENVELOPES:
            raise BadNotice("not_a_notice", f"expected a notice of S3 in at most {_MOST_ENVELOPES} envelopes")
        _read(_document(document["Message"]), found, envelopes=envelopes + 1)
    else:
        raise BadNotice("not_a_notice", f"expected a notice of S3, found an object with {_short(sorted(document))}")


def _read_records(records: list[Any], found: _Found) -> None:
    if not records:
        raise BadNotice("not_a_notice", "expected at least one record, found none")
    for position, record in enumerate(records, start=1):
        try:
            _read_record(record, found)
        except BadNotice as error:
            found.faults.append(Fault(error.reason, f"record {position}: {error.detail}"))


def _read_record(record: Any, found: _Found) -> None:
    name = record.get("eventName") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise BadNotice("not_a_notice", f"expected a record with an eventName, found {_short(record)}")
    name = name.removeprefix("s3:")
    if name.startswith(("ObjectRemoved:", "LifecycleExpiration:")):
        found.removed += 1
        return
    if not name.startswith("ObjectCreated:"):
        raise BadNotice("other_event", f"expected ObjectCreated or ObjectRemoved, found {_short(name)}")
    s3 = _part(record, "s3")
    item = _part(s3, "object")
    found.created.append(
        object_version(
            _part(s3, "bucket").get("name"),
            _decoded(item.get("key")),
            item.get("versionId"),
            item.get("eTag"),
            item.get("size"),
            sequencer=item.get("sequencer", ""),
            event_time=record.get("eventTime"),
        )
    )


def _read_event(event: Mapping[str, Any], found: _Found) -> None:
    """An event of EventBridge; its key is not URL-encoded."""
    kind = event["detail-type"]
    if kind == "Object Deleted":
        found.removed += 1
        return
    if kind != "Object Created":
        raise BadNotice("other_event", f"expected Object Created or Object Deleted, found {_short(kind)}")
    detail = _part(event, "detail")
    item = _part(detail, "object")
    found.created.append(
        object_version(
            _part(detail, "bucket").get("name"),
            item.get("key"),
            item.get("version-id"),
            item.get("etag"),
            item.get("size"),
            sequencer=item.get("sequencer", ""),
            event_time=event.get("time"),
        )
    )


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    if not isinstance(part, dict):
        raise BadNotice("not_a_notice", f"expected an object {name}, found {_short(part)}")
    return part


def _decoded(key: Any) -> str:
    """A key of a notice of S3: a blank is a plus, everything else percent signs and hexadecimal digits."""
    if not isinstance(key, str) or _bytes(key) < 0:
        raise BadNotice("bad_key", f"expected a URL-encoded key, found {_short(key)}")
    try:
        return unquote_to_bytes(key.replace("+", " ")).decode()
    except UnicodeDecodeError as error:
        raise BadNotice("bad_key", f"expected a URL-encoded key of UTF-8, found {_short(key)}") from error


def _time(text: Any) -> str:
    if not isinstance(text, str):
        return ""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return ""


def _bytes(text: str) -> int:
    """Length in UTF-8; -1 for what is no text (half a surrogate pair)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHORT_TEXT else f"{text[:_SHORT_TEXT]}…"
