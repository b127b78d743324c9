"""The tasks of the ingestion against the AWS stand-in: what they give, what fails for good, what a retry mends."""

from __future__ import annotations

import gzip
import itertools
import json
import types
from collections import Counter
from pathlib import Path
from typing import ClassVar

import botocore.loaders
import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.config import Config

from include.ingestion import dead_letters, operators, processors
from include.ingestion.batches import DeadLetterFile, ObjectResult, Output, ProcessResult
from include.ingestion.exceptions import FetchFailed
from include.ingestion.intake import Intake
from include.ingestion.ledger import BatchState
from include.ingestion.operators import (
    FindReadersOperator,
    IngestBatchOperator,
    PlanBatchesOperator,
    ReadStreamOperator,
    ReceiveOperator,
    ReleaseBatchOperator,
    ReplayDeadLettersOperator,
    SummariseOperator,
)
from include.local.aws.ingestion import make_intake
from include.local.aws.ingestion_names import LAKE_BUCKET, OWN_BUCKET, RAW_BUCKET, queue_url
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at
from include.platform.assets import INGESTION_WAITING

SOURCE = "aws_network_firewall"
KEY = "AWSLogs/123456789012/network-firewall/flow/us-east-1/fw/2026/11/27/10/{}.log"
PLANS = {SOURCE: f"plan_{SOURCE}", "suricata": "plan_suricata"}
_NUMBERS = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def service_models_read_once():
    """Every hook makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture
def url():
    with trial_aws_in_process() as url:
        yield url


class Engine:
    """Stands for the OCSF engine: a line that begins with ``bad`` is set aside, any other is a network activity."""

    failure = None
    requests: ClassVar[list] = []

    def __init__(self, region):
        self.region = region

    def terminate(self):
        Engine.terminated = True

    def process(self, request):
        Engine.requests.append(request)
        if Engine.failure:
            raise Engine.failure
        good, letters, objects = 0, [], []
        for each in request.objects:
            content = Path(each.path).read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            bad = 0
            lines = content.splitlines()
            for number, line in enumerate(lines, start=1):
                if line.startswith(b"bad"):
                    where = (each.bucket, each.key, each.version_id, each.etag, number, 0)
                    tail = (line.decode(), "", line, 0, request.batch, "d")
                    letters.append(dead_letters.DeadLetter(request.source, *where, *tail))
                    bad += 1
            objects.append(ObjectResult(each.key, each.version_id, len(lines), len(lines) - bad, bad))
            good += len(lines) - bad
        outputs, files = [], []
        if good:
            path = request.out / "events.parquet"
            path.write_bytes(b"x" * good)
            output = Output(path, "network_activity", self.region, "123456789012", "20261127", 0, good, good, 0, 1)
            outputs.append(output)
        if letters:
            path = request.out / "dead.gz"
            files.append(DeadLetterFile(path, dead_letters.write(path, letters)))
        reasons = dict(Counter(letter.reason for letter in letters))
        classes = {"network_activity": good} if good else {}
        counts = (good + len(letters), good, len(letters))
        return ProcessResult(*counts, reasons, classes, request.mapping_digest, outputs, files, objects)


class World:
    def __init__(self, url):
        self.url = url
        make = clients_at(url).make
        self.s3, self.sqs, self.kinesis = (make(name, Config()) for name in ("s3", "sqs", "kinesis"))
        self.queue = queue_url(url)
        self.xcoms = {}
        self.events = []

    @property
    def ledger(self):
        return Intake().ledger

    def put(self, *lines, key=None):
        key = key or KEY.format(f"file-{next(_NUMBERS):04}")
        self.s3.put_object(Bucket=RAW_BUCKET, Key=key, Body=b"".join(line.encode() + b"\n" for line in lines))
        return key

    def context(self, task_id, params, map_index=-1):
        def push(key, value):
            self.xcoms[task_id, key] = json.loads(json.dumps(value))

        ti = types.SimpleNamespace(
            dag_id="ingest_security_logs",
            run_id="manual__1",
            task_id=task_id,
            map_index=map_index,
            try_number=1,
            log_url="http://airflow/log",
            xcom_push=push,
            xcom_pull=lambda task_ids, key="return_value": self.xcoms.get((task_ids, key)),
        )
        run = types.SimpleNamespace(run_id="manual__1", triggering_user_name="ann")

        class Outlets(dict):
            def __missing__(_, alias):
                return types.SimpleNamespace(
                    add=lambda asset, extra=None: self.events.append((asset.uri, json.loads(json.dumps(extra))))
                )

        opened = {"source": "all", "day": None, "prefix": None, "flush": True, "batch": None, "reason": None}
        return {
            "ti": ti,
            "params": {**opened, "dry_run": False, **params},
            "dag_run": run,
            "outlet_events": Outlets(),
        }

    def do(self, kind, task_id="task", *, map_index=-1, params=None, **arguments):
        """Run a task; what it gives becomes its XCom."""
        context = self.context(task_id, params or {}, map_index)
        given = kind(task_id=task_id, **arguments).execute(context)
        self.xcoms[task_id, "return_value"] = json.loads(json.dumps(given))
        return given

    def receive(self, monkeypatch=None, **params):
        """Receive; gives the numbers and the sources whose plans follow."""
        chosen = []
        task = ReceiveOperator(task_id="receive_objects", plan_task_ids=PLANS)
        task.do_branch = lambda context, branches: chosen.extend(branches)
        told = task.execute(self.context("receive_objects", params))
        assert self.xcoms["receive_objects", "return_value"] == told
        return told, chosen

    def plan(self, source=SOURCE, **params):
        return self.do(PlanBatchesOperator, f"plan_{source}", source=source, params=params)

    def ingest(self, batch_id):
        return self.do(IngestBatchOperator, f"ingest_{SOURCE}", batch_id=batch_id, map_index=0)

    def summarise(self):
        return self.do(SummariseOperator, "summarise", receive_task_id="receive_objects")

    def objects(self, bucket, prefix=""):
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


@pytest.fixture
def world(url, monkeypatch, tmp_path):
    make = clients_at(url).make
    make_intake(lambda service: make(service, Config()))
    extra = {"region_name": "us-east-1", "endpoint_url": url}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_INGESTION",
        json.dumps({"conn_type": "aws", "login": "test", "password": "test-password", "extra": extra}),
    )
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__INGESTION_QUEUE_URL", queue_url(url))
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__SCRATCH_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__INGESTION_LAKE_BUCKET", LAKE_BUCKET)
    monkeypatch.setattr(processors, "EngineProcessor", Engine)
    monkeypatch.setattr(Engine, "failure", None)
    monkeypatch.setattr(Engine, "requests", [])
    return World(url)


# Receiving


def test_notices_are_put_into_the_ledger_and_only_plans_with_something_to_do_follow(world):
    world.put("a", "b")
    told, chosen = world.receive()
    assert (told["new"], told["known"], told["tests"]) == (1, 0, 1)
    assert chosen == [PLANS[SOURCE]]
    told, chosen = world.receive()
    assert (told["messages"], told["new"]) == (0, 0)


def test_with_nothing_to_do_no_plan_follows(world):
    told, chosen = world.receive()
    assert (told["tests"], chosen) == (1, [])


def test_what_waits_too_short_for_a_batch_is_left_unless_somebody_does_not_want_to_wait(world):
    world.put("a")
    _, chosen = world.receive(flush=False)
    assert chosen == []
    assert world.plan(flush=False) == []
    _, chosen = world.receive(flush=True)
    assert chosen == [PLANS[SOURCE]]


def test_a_run_about_another_source_leaves_this_one(world):
    world.put("a")
    _, chosen = world.receive(source="suricata")
    assert chosen == []


def test_a_day_lists_what_was_written_on_it_and_takes_what_was_never_ingested(world):
    world.put("a")
    world.sqs.purge_queue(QueueUrl=world.queue)
    today = world.s3.list_objects_v2(Bucket=RAW_BUCKET)["Contents"][0]["LastModified"].date().isoformat()
    told, _ = world.receive(day="2020-01-01")
    assert (told["new"], told["known"]) == (0, 0)
    told, chosen = world.receive(day=today)
    assert (told["new"], chosen) == (1, [PLANS[SOURCE]])
    told, _ = world.receive(day=today, source=SOURCE)
    assert (told["new"], told["known"]) == (0, 1)


def test_a_listing_and_a_notice_are_of_one_version(world):
    world.put("a")
    world.receive()
    told, _ = world.receive(prefix="AWSLogs/")
    assert (told["new"], told["known"]) == (0, 1)


def test_without_a_queue_every_run_lists(world, monkeypatch):
    monkeypatch.delenv("AIRFLOW__DATA_PLATFORM__INGESTION_QUEUE_URL")
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__INGESTION_LIST_PREFIX", "AWSLogs/")
    world.put("a")
    world.put("b", key="suricata/eve.json")
    told, chosen = world.receive()
    assert (told["messages"], told["new"], chosen) == (0, 1, [PLANS[SOURCE]])


def test_a_notice_of_a_bucket_that_is_not_ours_is_set_aside_unread(world):
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": OWN_BUCKET}, "object": {"key": KEY.format("x"), "size": 1, "eTag": "e"}},
    }
    world.sqs.send_message(QueueUrl=world.queue, MessageBody=json.dumps({"Records": [record]}))
    told, chosen = world.receive()
    assert (told["unrouted"], chosen) == (1, [])


def test_a_notice_that_can_not_be_read_is_kept_and_counted(world):
    world.sqs.send_message(QueueUrl=world.queue, MessageBody="{")
    told, _ = world.receive()
    assert told["faults"] == {"not_json": 1}
    assert len(world.objects(OWN_BUCKET, "dead-letters/notices/")) == 1


# A batch


def test_a_batch_is_ingested_told_and_summed_up(world, caplog):
    world.put(*["ok"] * 39, "bad")
    world.receive()
    [batch] = world.plan()
    counts = world.ingest(batch)
    assert (counts["read"], counts["written"], counts["set_aside"], counts["state"]) == (40, 39, 1, "published")
    [key] = world.objects(LAKE_BUCKET, "ext/")
    name = key.split("/")[1]
    assert key == f"ext/{name}/region=us-east-1/accountId=123456789012/eventDay=20261127/{batch}-00000.zstd.parquet"
    [(uri, extra)] = world.events
    assert uri == f"x-security-lake://{name}"
    assert (extra["batch"], extra["rows"], extra["read"], extra["set_aside"]) == (batch, 39, 40, 1)
    assert extra["event_days"] == ["20261127"]
    summary = world.summarise()
    assert summary["total"]["classes"] == {"network_activity": 39}
    assert summary["sources"][SOURCE]["reasons"] == {"bad": 1}
    assert len(json.dumps(summary)) < 1000


def test_the_mapping_of_the_batch_is_asked_for_by_its_digest(world):
    from include.ingestion.sources import load_source, mapping_digest

    world.put("ok")
    world.receive()
    world.ingest(world.plan()[0])
    [request] = Engine.requests
    assert request.mapping_digest == mapping_digest(load_source(SOURCE))


def test_a_second_run_finds_nothing_to_do_and_a_second_try_does_it_no_second_time(world):
    world.put("ok")
    world.receive()
    [batch] = world.plan()
    first = world.ingest(batch)
    assert world.ingest(batch) == first
    assert len(Engine.requests) == 1
    assert world.plan() == []


def test_a_refused_batch_fails_for_good_and_the_summary_names_it(world):
    world.put("ok", "bad")
    world.receive()
    [batch] = world.plan()
    with pytest.raises(AirflowFailException, match=r"expected at most 5\.00% of the records to be set aside"):
        world.ingest(batch)
    assert world.objects(LAKE_BUCKET) == []
    assert world.objects(OWN_BUCKET, "refused/")
    with pytest.raises(AirflowFailException, match=rf"{batch} of {SOURCE} \(refused\)"):
        world.summarise()


def test_the_run_fails_with_whatever_failed_before_the_summary(world):
    with pytest.raises(AirflowFailException, match="expected receive_objects to have succeeded"):
        world.summarise()
    world.put("ok")
    world.receive()
    with pytest.raises(AirflowFailException, match=rf"expected plan_{SOURCE} to have succeeded"):
        world.summarise()
    world.plan()
    with pytest.raises(AirflowFailException, match=rf"of {SOURCE} \(planned\)"):
        world.summarise()


def test_an_engine_that_fails_leaves_the_batch_to_a_retry(world):
    world.put("ok")
    world.receive()
    [batch] = world.plan()
    Engine.failure = FetchFailed("not whole")
    with pytest.raises(FetchFailed):
        world.ingest(batch)
    Engine.failure = None
    assert world.plan() == [batch]
    assert world.ingest(batch)["written"] == 1


def test_counts_that_do_not_add_up_fail_for_good(world, monkeypatch):
    real = Engine.process

    def wrong(self, request):
        result = real(self, request)
        return ProcessResult(**{**vars(result), "read": result.read + 1})

    monkeypatch.setattr(Engine, "process", wrong)
    world.put("ok")
    world.receive()
    with pytest.raises(AirflowFailException, match="expected counts that add up"):
        world.ingest(world.plan()[0])


def test_an_unknown_batch_fails_for_good(world):
    with pytest.raises(AirflowFailException, match="expected a batch"):
        world.ingest("0" * 32)


def test_a_killed_task_takes_its_engine_along(world):
    task = IngestBatchOperator(task_id="ingest", batch_id="x")
    task.on_kill()  # before it has one
    task._engine = Engine("us-east-1")
    task.on_kill()
    assert Engine.terminated


def test_a_published_batch_is_one_lineage_event_whose_counts_are_the_ledgers(world, monkeypatch):
    from include.catalog import dbt_lineage
    from include.catalog.run_events import TaskRun

    told = []

    def emit(context, make):
        root = ("ns", "dag", "0199f7a4-0000-7000-8000-000000000000")
        import datetime

        moment = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
        task = TaskRun("ns", "ingest_security_logs.ingest", "run", moment, lambda attempt: root[2], 1, root)
        told.extend(make(task))

    monkeypatch.setattr(dbt_lineage, "emit_events", emit)
    world.put(*["ok"] * 39, "bad")
    world.receive()
    [batch] = world.plan()
    world.ingest(batch)
    world.ingest(batch)  # a retry tells the same event
    first, second = told
    assert (first.run.runId, first.eventTime) == (second.run.runId, second.eventTime)
    [read] = first.inputs
    assert (read.namespace, read.name) == (f"s3://{RAW_BUCKET}", SOURCE)
    assert read.inputFacets["inputStatistics"].rowCount == 40
    assert [each.success for each in read.inputFacets["dataQualityAssertions"].assertions] == [True, True]
    rows = {each.name.split("/")[0]: each.outputFacets["outputStatistics"].rowCount for each in first.outputs}
    assert rows == {"ext": 39, "dead-letters": 1}


# Dead letters and refused batches


@pytest.fixture
def with_letters(world):
    world.put(*["ok"] * 60, "bad", "bad-other")
    world.receive()
    [batch] = world.plan()
    world.ingest(batch)
    world.events.clear()
    return batch


def replay(world, **params):
    return world.do(ReplayDeadLettersOperator, "replay", params={"source": SOURCE, **params})


def test_a_dry_run_counts_and_changes_nothing(world, with_letters):
    told = replay(world, batch=with_letters, dry_run=True)
    assert (told["records"], told["reasons"]) == (2, {"bad": 1, "bad-other": 1})
    assert world.objects(OWN_BUCKET, "replays/") == []
    assert world.events == []
    assert replay(world, batch=with_letters, reason="bad", dry_run=True)["reasons"] == {"bad": 1}


def test_dead_letters_are_replayed_once_and_wake_the_ingestion(world, with_letters):
    from include.ingestion.ledger import day_of

    day = day_of(world.ledger.clock())
    told = replay(world, day=f"{day[:4]}-{day[4:6]}-{day[6:]}", reason="bad")
    assert (told["records"], told["objects"]) == (1, 1)
    assert world.events == [(INGESTION_WAITING.uri, {"source": SOURCE, "objects": 1})]
    assert replay(world, batch=with_letters, dry_run=True)["reasons"] == {"bad-other": 1}
    assert replay(world, batch=with_letters, reason="bad")["records"] == 0
    assert len(world.events) == 1


def test_a_replay_does_not_get_into_a_batch_with_fresh_records(world, with_letters):
    world.put(*["ok"] * 10)
    world.receive()
    replay(world, batch=with_letters)
    batches = [world.ledger.batch(each) for each in world.plan()]
    origins = [{member.replay_of is not None for member in world.ledger.members(each.batch_id)} for each in batches]
    assert sorted(map(sorted, origins)) == [[False], [True]]


@pytest.mark.parametrize("params", [{}, {"day": "2026-11-27", "batch": "0" * 32}])
def test_a_replay_needs_a_day_or_a_batch(world, params):
    with pytest.raises(AirflowFailException, match="expected a day or a batch"):
        replay(world, **params)


def test_a_replay_of_an_unpublished_batch_is_refused_in_a_dry_run_too(world):
    world.put("ok")
    world.receive()
    [batch] = world.plan()
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match="expected a published batch"):
            replay(world, batch=batch, dry_run=dry_run)


def release(world, batch, action="retry"):
    params = {"batch": batch, "action": action, "why": "the mapping was mended"}
    return world.do(ReleaseBatchOperator, "release", params=params)


def test_a_refused_batch_is_released_with_a_reason_and_accepted_or_refused_again(world):
    world.put("ok", "bad")
    world.receive()
    [batch] = world.plan()
    with pytest.raises(AirflowFailException):
        world.ingest(batch)
    assert world.plan() == []
    release(world, batch)
    told = {"source": SOURCE, "batch": batch, "action": "retry", "by": "ann"}
    assert world.events == [(INGESTION_WAITING.uri, told)]
    assert world.plan() == [batch]
    with pytest.raises(AirflowFailException):
        world.ingest(batch)
    release(world, batch, "accept")
    assert (world.ingest(batch)["written"], world.ledger.batch(batch).state) == (1, BatchState.PUBLISHED)


@pytest.mark.parametrize("action", ["retry", "accept", "reopen"])
def test_a_batch_in_another_state_is_not_released(world, action):
    world.put("ok")
    world.receive()
    [batch] = world.plan()
    world.ingest(batch)
    world.events.clear()
    with pytest.raises(AirflowFailException, match="expected it to be"):
        release(world, batch, action)
    assert world.events == []


# Streams


def test_shards_of_a_stream_are_shared_by_readers_which_land_each_record_once(world):
    for number in range(10):
        world.kinesis.put_record(StreamName="windows-sysmon", Data=f"r{number}".encode(), PartitionKey=str(number))
    readers = world.do(FindReadersOperator, "find_readers")
    assert readers == [{"source": "windows_sysmon", "stream": "windows-sysmon", "reader": n} for n in range(2)]
    told = [
        world.do(ReadStreamOperator, "read_stream", reader=reader, map_index=reader["reader"], seconds=20.0)
        for reader in readers
    ]
    assert sum(each["records"] for each in told) == 10
    assert [uri for uri, _ in world.events] == [INGESTION_WAITING.uri]  # the second found nothing
    landed = [
        world.s3.get_object(Bucket=OWN_BUCKET, Key=key)["Body"].read() for key in world.objects(OWN_BUCKET, "streams/")
    ]
    lines = Counter(line for body in landed for line in gzip.decompress(body).splitlines())
    assert lines == Counter(f"r{number}".encode() for number in range(10))
    [batch] = world.plan("windows_sysmon")
    assert world.ledger.batch(batch).objects == len(landed)


def test_a_gap_is_accepted_by_a_person_with_a_reason_which_the_ledger_keeps(world):
    from include.ingestion.kinesis import StreamIntake

    shard = "shardId-000000000000"
    for params in (
        {"why": "they are in the archive"},
        {"source": "windows_sysmon"},
        {"source": SOURCE, "why": "no stream"},
    ):
        with pytest.raises(AirflowFailException, match="to accept a gap"):
            world.do(FindReadersOperator, "find_readers", params={"accept_gap": shard, **params})
    params = {"accept_gap": shard, "source": "windows_sysmon", "why": "they are in the archive"}
    world.do(FindReadersOperator, "find_readers", params=params)
    rows = StreamIntake(
        world.kinesis, world.s3, world.ledger, "windows-sysmon", "windows_sysmon", OWN_BUCKET, "x"
    ).leases()
    assert [row.gap.endswith("ann: they are in the archive") for row in rows] == [True]


def test_a_stream_that_is_not_there_is_left_out(world):
    world.kinesis.delete_stream(StreamName="windows-sysmon")
    assert world.do(FindReadersOperator, "find_readers") == []


def test_a_run_about_a_source_without_a_stream_reads_none(world):
    assert world.do(FindReadersOperator, "find_readers", params={"source": SOURCE}) == []


def test_a_summary_is_a_table_of_classes_and_reasons(world):
    world.put(*["ok"] * 39, "bad")
    world.receive()
    [batch] = world.plan()
    world.ingest(batch)
    lines = operators.table(operators.summarise([world.ledger.batch(batch)]))
    assert any("network_activity" in line and line.endswith("39") for line in lines)
    assert any("set aside: bad" in line for line in lines)
    assert any("40 read = 39 written + 1 set aside" in line for line in lines)
