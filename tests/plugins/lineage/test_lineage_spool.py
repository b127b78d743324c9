"""The spool on a disk and in S3: each event once, whole or not at all, and never in a task's way."""

import errno
import json
import logging
import os
import threading
from pathlib import Path

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, JobEvent

from data_platform.lineage import losses
from data_platform.lineage.budget import Budget
from data_platform.lineage.config import transport_config
from data_platform.lineage.events import client_token, parse_event
from data_platform.lineage.exceptions import LineageConfigInvalid
from data_platform.lineage.spool import SpoolConfig, SpoolTransport
from data_platform.lineage.store import FileStore, open_store
from include.local.aws.trial import trial_aws
from tests.plugins.lineage.events import as_json, run_event

FOLDER = "events/2026-01-31/08"
PLACE = {"region": "us-east-1", "account_id": "123456789012"}


@pytest.fixture(autouse=True)
def nothing_lost():
    losses._not_spooled.clear()


def spool_at(folder: Path, **options) -> SpoolTransport:
    return SpoolTransport(SpoolConfig.from_dict({"url": folder.as_uri(), **options}))


def test_an_event_is_one_file_named_by_its_token_in_the_folder_of_its_hour(tmp_path):
    event = run_event()
    spool_at(tmp_path).emit(event)
    (file,) = tmp_path.rglob("*.json")
    assert file.relative_to(tmp_path) == Path(FOLDER) / f"{client_token(event)}.json"
    assert parse_event(file.read_bytes()) == as_json(event)


def test_the_folder_is_that_of_the_events_own_time_in_utc(tmp_path):
    spool_at(tmp_path).emit(run_event("2031-02-01T00:30:00+01:00"))
    (file,) = tmp_path.rglob("*.json")
    assert file.parent.relative_to(tmp_path) == Path("events/2031-01-31/23")


@pytest.mark.parametrize(
    ("moment", "folder"),
    [("0001-01-01T00:00:00Z", "events/1970-01-01/00"), ("9999-12-31T23:59:59Z", "events/2999-12-31/23")],
)
def test_a_clock_out_of_all_bounds_does_not_lose_the_event(tmp_path, moment, folder):
    spool_at(tmp_path).emit(run_event(moment))
    (file,) = tmp_path.rglob("*.json")
    assert file.parent.relative_to(tmp_path) == Path(folder)


def test_the_same_event_twice_is_one_untouched_file(tmp_path):
    spool, event = spool_at(tmp_path), run_event()
    spool.emit(event)
    (file,) = tmp_path.rglob("*.json")
    before = file.stat()
    spool.emit(event)
    assert file.stat().st_ino == before.st_ino
    assert len(list(tmp_path.rglob("*.*"))) == 1


def test_a_reader_never_sees_half_a_file(tmp_path):
    store, done = FileStore(tmp_path), threading.Event()
    whole, seen = json.dumps(as_json(run_event(sql="x" * 200_000))).encode(), []

    def look():
        while not done.is_set():
            seen.extend(len(store.get(f"{FOLDER}/{name}") or b"") for name in store.names(FOLDER))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(50):
            store.put(f"{FOLDER}/{number:064}.json", whole)
    finally:
        done.set()
        reader.join()
    assert set(seen) <= {len(whole)}


def test_a_file_that_a_killed_process_left_half_written_is_not_listed(tmp_path):
    spool_at(tmp_path).emit(run_event())
    (tmp_path / FOLDER / ".0af1.json.77.tmp").write_text('{"eventTy')
    assert len(FileStore(tmp_path).names(FOLDER)) == 1


def test_a_full_disk_fails_no_task_and_is_told_once_with_what_to_do(tmp_path, monkeypatch, caplog):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = spool_at(tmp_path)
    monkeypatch.setattr("data_platform.lineage.store.os.fsync", full)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            spool.emit(run_event())
    assert spool.counts == {"failed": 3}
    (told,) = caplog.records
    assert "No space left on device" in told.getMessage()
    assert "Make room" in told.getMessage()
    assert not list(tmp_path.rglob("*.*")), "nothing half-written stays"


def test_without_a_catalog_an_event_that_can_not_be_spooled_is_in_the_log_from_where_it_can_be_brought_back(
    tmp_path, monkeypatch, caplog
):
    (tmp_path / "events").write_text("a file where a folder should be")
    spool, event = spool_at(tmp_path, last=True), run_event()
    spool.emit(event)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{FOLDER}/{client_token(event)}.json" in told
    assert parse_event(told[told.index(": {") + 2 :].encode()) == as_json(event)


def test_a_large_event_is_logged_without_what_the_graph_does_not_need(tmp_path, caplog):
    (tmp_path / "events").write_text("a file where a folder should be")
    spool_at(tmp_path, last=True).emit(run_event(sql="x" * 1_000_000))
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) < losses.LOGGED_BYTES + 1000
    assert parse_event(told[told.index(": {") + 2 :].encode())["outputs"]


def test_what_is_no_run_event_is_not_spooled(tmp_path):
    spool = spool_at(tmp_path)
    spool.emit(JobEvent(eventTime="2026-01-31T08:30:00Z", job=Job("data-platform", "a")))
    assert spool.counts == {"ignored": 1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["", "/tmp/spool", "file://", "file:///", "s3://", "gs://bucket/lineage"])
def test_a_url_that_is_no_spool_is_refused(url):
    with pytest.raises(LineageConfigInvalid, match=r"expected file:///<folder> or s3://<bucket>/<prefix>"):
        open_store(url)


def test_a_mistyped_option_is_refused(tmp_path):
    with pytest.raises(LineageConfigInvalid, match="found ulr"):
        SpoolConfig.from_dict({"ulr": tmp_path.as_uri()})


def test_the_client_loads_the_spool_from_airflows_option(tmp_path):
    client = OpenLineageClient(config={"transport": transport_config(spool=tmp_path.as_uri(), **PLACE)})
    event = run_event()
    client.emit(event)
    assert FileStore(tmp_path).names(FOLDER) == [f"{client_token(event)}.json"]


@pytest.fixture(scope="module")
def s3():
    with trial_aws(["data-platform"]) as url:
        yield url


def test_an_event_is_one_object_under_the_prefix(s3):
    spool = SpoolTransport(SpoolConfig.from_dict({"url": "s3://data-platform/one", "endpoint": s3}))
    event = run_event()
    spool.emit(event)
    spool.emit(event)
    store = open_store("s3://data-platform/one", endpoint=s3)
    assert store.folders("events") == ["2026-01-31"]
    assert store.folders("events/2026-01-31") == ["08"]
    assert store.names(FOLDER) == [f"{client_token(event)}.json"]
    assert parse_event(store.get(f"{FOLDER}/{client_token(event)}.json") or b"") == as_json(event)
    assert store.get("none.json") is None


def test_a_bucket_that_is_not_there_fails_no_task(s3, caplog):
    spool = SpoolTransport(SpoolConfig.from_dict({"url": "s3://nobodys-bucket/a", "endpoint": s3, "last": True}))
    spool.emit(run_event())
    assert spool.counts == {"failed": 1}
    assert "NoSuchBucket" in caplog.text


def test_a_forked_process_makes_its_own_connections(s3):
    made = []

    class Client:
        def put_object(self, **_):
            made.append(os.getpid())

    store = open_store("s3://data-platform/fork", make_client=lambda: made.append("client") or Client())
    store.put("a", b"")
    child = os.fork()
    if not child:
        store.put("b", b"")
        os._exit(made.count("client"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert made == ["client", os.getpid()]


def test_s3_that_does_not_answer_is_not_asked_again_and_again(closed_port):
    url = f"http://127.0.0.1:{closed_port}"
    spool = SpoolTransport(SpoolConfig.from_dict({"url": "s3://data-platform/down", "endpoint": url}))
    asked = []
    put = spool.store.put_once
    spool.store.put_once = lambda *arguments: asked.append(1) or put(*arguments)
    for _ in range(10):
        spool.emit(run_event())
    assert spool.counts == {"failed": 10}
    assert len(asked) == 2


@pytest.mark.parametrize("takes", [0.1, 0.9, 1.0])
def test_a_process_never_waits_longer_than_its_budget(takes):
    now = [0.0]
    budget = Budget(2.0, 1.0, clock=lambda: now[0])
    waited = 0.0
    for _ in range(100):
        if budget.refusal() is None:
            with budget.spend():
                now[0] += takes
                waited += takes
    assert 1.0 < waited <= 2.0 + 0.1


def test_a_budget_comes_back_so_that_a_scheduler_sends_for_weeks():
    now = [0.0]
    budget = Budget(2.0, 1.0, clock=lambda: now[0])
    for _ in range(2):
        assert budget.refusal() is None
        with budget.spend():
            now[0] += 1.0
    assert "are spent" in (budget.refusal() or "")
    now[0] += 300
    assert budget.refusal() is None


def test_a_breaker_opens_after_failures_in_a_row_and_tries_again_later():
    now = [0.0]
    budget = Budget(100.0, 1.0, failures_to_open=3, open_seconds=60, clock=lambda: now[0])
    for _ in range(3):
        assert budget.refusal() is None
        with pytest.raises(OSError, match="down"), budget.spend():
            raise OSError("down")
    assert "3 calls in a row failed" in (budget.refusal() or "")
    now[0] += 60
    assert budget.refusal() is None
    with budget.spend():
        pass
    assert budget.refusal() is None
