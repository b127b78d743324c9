"""Reports in S3, as the AWS stand-in serves it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import boto3
import pytest

from include.local.aws.trial import trial_aws
from include.quality.evidence import EvidenceStore
from include.quality.exceptions import EvidenceUnreadable
from include.quality.report import Outcome
from tests.include.quality.conftest import SCANNED_AT, counting, report, result

BUCKET = "evidence"
RUN = "scheduled__2026-03-01T12:00:00+00:00/1"
GOOD = report(result(counting("ids", "id < 0")))
BAD = report(result(counting("ids", "id < 0"), Outcome.FAILED, measured=1))


@pytest.fixture(scope="module")
def s3():
    with trial_aws([BUCKET]) as url:
        yield boto3.client("s3", endpoint_url=url)


@pytest.fixture
def store(s3, request):
    return EvidenceStore(lambda: s3, BUCKET, request.node.name.removeprefix("test_")[:40])


def keys(s3, store):
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"quality/{store.area}/")["Contents"]]


def test_a_report_is_kept_under_its_run_and_named_the_latest(s3, store):
    uri = store.save(RUN, GOOD)

    key = f"quality/{store.area}/scheduled__2026-03-01T12%3A00%3A00%2B00%3A00%2F1.json"
    assert uri == f"s3://{BUCKET}/{key}"
    assert keys(s3, store) == sorted([f"quality/{store.area}/_latest", key])
    assert store.load(RUN) == GOOD
    latest = store.latest()
    assert (latest.run_id, latest.scanned_at, latest.verdict, latest.score) == (RUN, SCANNED_AT, "passed", 100.0)


def test_to_save_twice_is_to_save_once_and_a_retry_writes_over_its_own(s3, store):
    store.save(RUN, GOOD)
    before = keys(s3, store)
    store.save(RUN, GOOD)
    assert store.load(RUN) == GOOD

    store.save(RUN, BAD)

    assert keys(s3, store) == before
    assert store.load(RUN) == BAD
    assert store.latest().verdict == "failed"


def test_a_report_that_is_saved_late_is_not_the_latest(store):
    store.save("new", dataclasses.replace(GOOD, scanned_at=SCANNED_AT + timedelta(hours=1)))

    store.save("old", BAD)

    assert store.latest().run_id == "new"
    assert store.load("old") == BAD


def test_no_report_is_none(store):
    assert store.load("never") is None
    assert store.latest() is None


def test_a_run_named_like_the_pointer_does_not_overwrite_it(store):
    store.save("_latest", GOOD)

    assert store.latest().run_id == "_latest"
    assert store.load("_latest") == GOOD


def test_what_is_no_report_is_refused_and_a_pointer_that_is_none_is_mended(s3, store):
    s3.put_object(Bucket=BUCKET, Key=store.key(RUN), Body=b"<html>")
    s3.put_object(Bucket=BUCKET, Key=store.latest_key, Body=b"<html>")

    with pytest.raises(EvidenceUnreadable, match="run the gate again to replace it"):
        store.load(RUN)
    with pytest.raises(EvidenceUnreadable, match="the next gate mends it"):
        store.latest()

    store.save(RUN, GOOD)
    assert store.latest().run_id == RUN


def test_an_s3_that_refuses_is_told_with_what_the_role_needs(s3):
    store = EvidenceStore(lambda: s3, "no-such-bucket", "finance")

    with pytest.raises(EvidenceUnreadable, match="NoSuchBucket"):
        store.load(RUN)
