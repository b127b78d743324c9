"""The tasks around the data lake against the AWS stand-in: custom sources, tables, partitions."""

from __future__ import annotations

import json
import types

import botocore.loaders
import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.config import Config

from include.ingestion.classes import load_classes, wanted_tables
from include.ingestion.intake import Intake
from include.ingestion.lake_operators import (
    CompactPartitionOperator,
    FindPartitionsOperator,
    RegisterPartitionsOperator,
    RegisterSourcesOperator,
)
from include.ingestion.ledger import Arrival, Counts, Upload
from include.ingestion.notices import ObjectVersion
from include.ingestion.security_lake import custom_source_name, lake_key
from include.ingestion.sources import SourceInvalid
from include.local.aws.ingestion import make_intake
from include.local.aws.ingestion_names import CRAWLER_ROLE, LAKE_BUCKET
from include.local.aws.trial import trial_aws_in_process
from include.local.catalog.identity import ACCOUNT_ID
from include.local.saas.clients import clients_at

SOURCE, CLASS = "aws_network_firewall", "network_activity"
NAME = custom_source_name(SOURCE, CLASS)
DATABASE = "amazon_security_lake_glue_db_us_east_1"


@pytest.fixture(scope="module", autouse=True)
def service_models_read_once():
    """Every hook makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture
def aws(monkeypatch, tmp_path):
    with trial_aws_in_process() as url:
        make = clients_at(url).make
        make_intake(lambda service: make(service, Config()))
        extra = {"region_name": "us-east-1", "endpoint_url": url}
        connection = {"conn_type": "aws", "login": "test", "password": "test-password", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_INGESTION", json.dumps(connection))
        for name, value in {
            "SCRATCH_DIR": str(tmp_path),
            "INGESTION_LAKE_BUCKET": LAKE_BUCKET,
            "INGESTION_LAKE_ACCOUNT": ACCOUNT_ID,
            "INGESTION_LAKE_CRAWLER_ROLE": CRAWLER_ROLE,
        }.items():
            monkeypatch.setenv(f"AIRFLOW__DATA_PLATFORM__{name}", value)
        yield lambda service: make(service, Config())


def do(kind, **arguments):
    params = {"source": SOURCE, "days": 2, "grace_hours": 0, "oldest_day": None, **arguments.pop("params", {})}
    ti = types.SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
    return kind(task_id="t", **arguments).execute({"params": params, "ti": ti})


def tables(aws):
    pages = aws("glue").get_paginator("get_tables").paginate(DatabaseName=DATABASE)
    return {table["Name"]: table for page in pages for table in page["TableList"]}


def partitions(aws):
    [name] = [name for name in tables(aws) if name.endswith(NAME.replace("-", "_"))]
    found = aws("glue").get_partitions(DatabaseName=DATABASE, TableName=name)["Partitions"]
    return sorted(tuple(each["Values"]) for each in found)


def publish(days=("20261127",)):
    """A published batch with an object in each day's partition."""
    ledger = Intake().ledger
    ledger.receive([Arrival(ObjectVersion("raw", f"k{days}", "v", "e", 1), SOURCE, "notice")])
    batch = ledger.form(SOURCE, list(ledger.waiting(SOURCE)))
    attempt = ledger.begin_attempt(batch)
    for number, day in enumerate(days):
        detail = {"class": CLASS, "region": "us-east-1", "account_id": "123456789012", "event_day": day, "part": number}
        key = lake_key(NAME, "us-east-1", "123456789012", day, batch, number)
        ledger.record_upload(batch, attempt, number, Upload("lake", LAKE_BUCKET, key, "u", (), 1, 1, detail))
    ledger.commit(batch, attempt, Counts(1, 1), "digest")
    ledger.publish(batch)
    return batch


def test_each_class_of_each_source_becomes_a_custom_source_with_a_table(aws):
    done = do(RegisterSourcesOperator, params={"source": "all"})
    wanted = {table.custom_source: table for table in wanted_tables()}
    assert len(wanted) > 10
    assert set(done) == set(wanted)
    assert {what.partition(",")[0] for what in done.values()} == {"made"}
    found = tables(aws)
    for name, table in wanted.items():
        there = found[f"amazon_security_lake_table_us_east_1_ext_{name}".replace("-", "_")]
        columns = [(each["Name"], each["Type"]) for each in there["StorageDescriptor"]["Columns"]]
        assert len(columns) == len(table.columns)
        assert [key["Name"] for key in there["PartitionKeys"]] == ["region", "accountid", "eventday"]


def test_registering_again_changes_nothing(aws):
    do(RegisterSourcesOperator)
    before = tables(aws)
    assert set(do(RegisterSourcesOperator).values()) == {"as wanted"}
    assert tables(aws) == before


@pytest.mark.parametrize("option", ["INGESTION_LAKE_ACCOUNT", "INGESTION_LAKE_CRAWLER_ROLE"])
def test_a_missing_setting_is_named(aws, monkeypatch, option):
    monkeypatch.delenv(f"AIRFLOW__DATA_PLATFORM__{option}")
    with pytest.raises(AirflowFailException, match=option.lower()):
        do(RegisterSourcesOperator)


def test_another_bucket_than_the_lakes_is_refused_before_anything_is_made(aws, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__INGESTION_LAKE_BUCKET", "elsewhere")
    with pytest.raises(
        AirflowFailException, match=rf"to be elsewhere, which events are written to, found {LAKE_BUCKET}"
    ):
        do(RegisterSourcesOperator)
    assert tables(aws) == {}


def test_partitions_of_published_batches_are_added_once(aws):
    do(RegisterSourcesOperator)
    publish(("20261126", "20261127"))
    assert do(RegisterPartitionsOperator) == {NAME: 2}
    assert partitions(aws) == [("us-east-1", "123456789012", "20261126"), ("us-east-1", "123456789012", "20261127")]
    assert do(RegisterPartitionsOperator) == {NAME: 0}


def test_partitions_without_a_table_are_left_until_there_is_one(aws):
    publish()
    assert do(RegisterPartitionsOperator) == {}
    do(RegisterSourcesOperator)
    assert do(RegisterPartitionsOperator) == {NAME: 1}


# Compaction


class Merger:
    """Stands for the process that merges: the bytes one after the other."""

    def run(self, request):
        from include.ingestion.compaction import MergeResult

        bodies = [path.read_bytes() for path in request.inputs]
        request.output.write_bytes(b"".join(bodies))
        rows = tuple(len(body) for body in bodies)
        return MergeResult(rows, sum(rows), sum(rows), 0, 1, 0.1)

    def terminate(self):
        pass


@pytest.fixture
def merger(monkeypatch):
    from include.ingestion import compaction

    monkeypatch.setattr(compaction, "MergeProcess", Merger)


def put(aws, batch, part, day="20200101"):
    key = lake_key(NAME, "us-east-1", "123456789012", day, batch, part)
    aws("s3").put_object(Bucket=LAKE_BUCKET, Key=key, Body=b"row")
    return key


def keys(aws):
    return [each["Key"] for each in aws("s3").list_objects_v2(Bucket=LAKE_BUCKET, Prefix="ext/").get("Contents", [])]


def test_small_objects_of_a_day_become_one(aws, merger):
    batch = publish()
    for part in range(3):
        put(aws, batch, part)
    [partition] = do(FindPartitionsOperator, params={"oldest_day": "2019-12-31"})
    assert partition == {
        "custom_source": NAME,
        "region": "us-east-1",
        "account": "123456789012",
        "event_day": "20200101",
    }
    told = do(CompactPartitionOperator, partition=partition)
    assert (told["merged"], told["inputs"], told["rows"]) == (1, 3, 9)
    [key] = keys(aws)
    assert key.rpartition("/")[2].startswith("compacted-")
    assert do(FindPartitionsOperator, params={"oldest_day": "2019-12-31"}) == []


def test_days_before_the_oldest_are_not_looked_at(aws, merger):
    batch = publish()
    put(aws, batch, 0), put(aws, batch, 1)
    assert do(FindPartitionsOperator, params={"oldest_day": "2020-01-02"}) == []
    assert do(FindPartitionsOperator) == []  # five weeks, unless somebody says otherwise


def test_objects_of_a_batch_that_is_not_published_stay(aws, merger):
    ledger = Intake().ledger
    ledger.receive([Arrival(ObjectVersion("raw", "k", "v", "e", 1), SOURCE, "notice")])
    batch = ledger.form(SOURCE, list(ledger.waiting(SOURCE)))
    put(aws, batch, 0), put(aws, batch, 1)
    assert do(FindPartitionsOperator, params={"oldest_day": "2019-12-31"}) == []


# What the sources' files say


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected an object of classes"),
        ('{"network_activity": []}', "network_activity: expected a list of columns"),
        ('{"network_activity": [["time"]]}', r"expected columns as \[name, type\]"),
        ('{"network_activity": [["time", 1]]}', r"expected columns as \[name, type\]"),
    ],
)
def test_malformed_classes_are_refused_with_their_place(tmp_path, content, message):
    file = tmp_path / "classes.json"
    file.write_text(content)
    with pytest.raises(SourceInvalid, match=message):
        load_classes(file)


def test_partition_keys_are_no_columns(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text('{"network_activity": [["time", "bigint"], ["region", "string"]]}')
    assert load_classes(file) == {"network_activity": (("time", "bigint"),)}
