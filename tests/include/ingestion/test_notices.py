"""Notices: every shape that a queue gives them, and what isn't one."""

from __future__ import annotations

import json

import pytest

from include.ingestion.exceptions import BadNotice
from include.ingestion.notices import ObjectVersion, object_version, parse

ETAG = "0cc175b9c0f1b6a831c399e269772661"


def record(key="a%2Fb+c.log", event="ObjectCreated:Put", **item):
    item = {"key": key, "size": 5, "eTag": ETAG, "sequencer": "0A", **item}
    return {
        "eventName": event,
        "eventTime": "2026-01-02T03:04:05.678Z",
        "s3": {"bucket": {"name": "raw-logs"}, "object": item},
    }


def body(*records):
    return json.dumps({"Records": list(records)})


def test_several_records_of_one_notice():
    notice = parse(body(record("a"), record("b", versionId="v1"), record("c", event="ObjectRemoved:Delete")))
    assert [(each.key, each.version_id) for each in notice.created] == [("a", None), ("b", "v1")]
    assert (notice.removed, notice.faults) == (1, ())


def test_a_key_is_decoded_and_all_is_kept():
    (version,) = parse(body(record("a%2Fb+c%2B%C3%BC%0A.log"))).created
    assert version == ObjectVersion("raw-logs", "a/b c+ü\n.log", None, ETAG, 5, "0A", "2026-01-02T03:04:05.678+00:00")
    assert "\n" not in str(version)


def test_an_envelope_of_sns():
    wrapped = json.dumps({"Type": "Notification", "TopicArn": "arn:x", "Message": body(record("a"))})
    assert [each.key for each in parse(wrapped).created] == ["a"]
    for _ in range(9):
        wrapped = json.dumps({"TopicArn": "arn:x", "Message": wrapped})
    assert [fault.reason for fault in parse(wrapped).faults] == ["not_a_notice"]


def test_an_event_of_eventbridge_whose_key_is_not_encoded():
    item = {"key": "a b+c%20", "size": 5, "etag": ETAG, "version-id": "v1", "sequencer": "0A"}
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-01-02T03:04:05Z",
        "detail": {"bucket": {"name": "raw-logs"}, "object": item},
    }
    (version,) = parse(json.dumps(event)).created
    assert (version.key, version.version_id, version.event_time) == ("a b+c%20", "v1", "2026-01-02T03:04:05.000+00:00")
    assert parse(json.dumps({**event, "detail-type": "Object Deleted"})).removed == 1
    assert [fault.reason for fault in parse(json.dumps({**event, "detail-type": "Object Tags Added"})).faults] == [
        "other_event"
    ]


def test_the_test_event():
    notice = parse(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))
    assert (notice.tests, notice.faults) == (1, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        ("{", "not_json"),
        ("[" * 100_000, "not_json"),
        ("1" * 10_000, "not_json"),
        ("null", "not_a_notice"),
        ("[]", "not_a_notice"),
        ("{}", "not_a_notice"),
        ('{"Records": []}', "not_a_notice"),
        ('{"Records": "x"}', "not_a_notice"),
        (body(None), "not_a_notice"),
        (body({"eventName": 5}), "not_a_notice"),
        (body({"eventName": "ObjectCreated:Put"}), "not_a_notice"),
        (body(record(event="ObjectRestore:Completed")), "other_event"),
        (body(record("")), "bad_key"),
        (body(record(None)), "bad_key"),
        (body(record("%ff")), "bad_key"),
        (body(record("\ud800")), "bad_key"),
        (body(record("k" * 1025)), "bad_key"),
        (body(record(size=-1)), "bad_size"),
        (body(record(size="5")), "bad_size"),
        (body(record(size=True)), "bad_size"),
        (body(record(size=2**80)), "bad_size"),
        (body(record(eTag="")), "bad_etag"),
        (body(record(eTag=None)), "bad_etag"),
        (body(record(versionId=7)), "bad_version"),
        (json.dumps({"TopicArn": "a", "Message": "x"}), "not_json"),
    ],
)
def test_what_can_not_be_read_has_a_reason(text, reason):
    notice = parse(text)
    assert [fault.reason for fault in notice.faults] == [reason]
    assert notice.created == ()
    assert len(notice.faults[0].detail) < 500


def test_a_bad_record_does_not_stop_the_others():
    notice = parse(body(record("a"), record("%ff"), record("b")))
    assert [each.key for each in notice.created] == ["a", "b"]
    assert [fault.detail.split(":")[0] for fault in notice.faults] == ["record 2"]


def test_a_bucket_with_a_strange_name_is_refused():
    with pytest.raises(BadNotice, match="bad_bucket"):
        object_version("a/b", "k", None, ETAG, 1)


def version(**parts):
    return ObjectVersion(**{"bucket": "b", "key": "k", "version_id": None, "etag": ETAG, "size": 5, **parts})


def test_with_a_version_id_the_identity_is_bucket_key_and_version():
    here = version(version_id="v1")
    assert here.identity == version(version_id="v1", etag="", size=9, sequencer="0B", event_time="x").identity
    others = [
        version(version_id="v2"),
        version(version_id="v1", key="l"),
        version(version_id="v1", bucket="c"),
        version(),
    ]
    assert len({here.identity, *(each.identity for each in others)}) == 5


def test_without_a_version_id_the_identity_is_that_of_the_content_so_a_listing_and_a_notice_agree():
    assert version(sequencer="0A").identity == version(sequencer="0B", event_time="x").identity
    assert len({version().identity, version(etag="e").identity, version(size=6).identity}) == 3
    assert (
        object_version("bbb", "k", "null", f'"{ETAG}"', 5).identity
        == object_version("bbb", "k", None, ETAG, 5).identity
    )


def test_parts_of_an_identity_do_not_run_into_each_other():
    assert version(bucket="a", key="b/c").identity != version(bucket="a/b", key="c").identity
