"""The gate as a task: what it leaves behind and how it ends for good, bad and unknowable data, a bad contract, a kill."""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
import types

import boto3
import duckdb
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.contracts import load
from include.local.aws.trial import trial_aws
from include.quality.evidence import EvidenceStore
from include.quality.exceptions import GateErrored, ScanInterrupted
from include.quality.operators import REPORT_KEY, CheckQualityOperator
from include.quality.report import Verdict
from include.warehouse.products import Product
from include.warehouse.run_state import RunStateStore

BUCKET = "data-platform"
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 0b9b3f0e-7c0e-4e55-8a3e-1f8f0f6f2a12
name: People
version: 1.0.0
status: active
domain: trial
dataProduct: people
description: {purpose: To try the gate., usage: In tests., limitations: None.}
team: {name: Trial, members: [{username: ada@example.com, role: owner}]}
roles: [{role: analyst, access: read}]
support: [{channel: trial, url: "mailto:trial@example.com"}]
servers: [{server: laptop, type: duckdb, database: trial.duckdb, schema: trial}]
slaProperties: [{property: retention, value: 3, unit: y}]
schema:
  - name: people
    physicalName: rpt_people
    description: One row a person.
    quality:
      - {id: rule, type: sql, query: "RULE", mustBe: 0, description: The rule holds.}
    properties:
      - {name: id, logicalType: integer, physicalType: integer, description: Key., classification: internal, primaryKey: true}
      - {name: email, logicalType: string, physicalType: varchar(200), description: Address., classification: personal}
"""
RULE = "select count(*) from ${object} where email is null"
SLOW = "select count(*) from ${object} as a, ${object} as b, ${object} as c where a.email || b.email || c.email = 'no such'"
MANY = "(0, 'ada@example.com')" + "".join(f", ({number}, 'a@example.com')" for number in range(1, 20_000))


@pytest.fixture(scope="module")
def endpoint():
    with trial_aws([BUCKET]) as url:
        yield url


class Trial:
    """An area with one contract and one relation."""

    def __init__(self, folder, s3):
        self.folder, self.s3 = folder, s3
        self.pushed = {}
        self.operator = CheckQualityOperator(
            task_id="check_quality", product=Product("trial", ("rpt_people",)), build_task_id="build_models"
        )

    def given(self, rows="(1, 'ada@example.com')", rule=RULE, contract=CONTRACT, builder="run"):
        place = self.folder / "contracts" / "trial" / "people"
        place.mkdir(parents=True, exist_ok=True)
        (place / "contract.odcs.yaml").write_text(contract.replace("RULE", rule))
        with duckdb.connect(str(self.folder / "work.duckdb")) as connection:
            connection.execute("create schema build_trial_audit")
            connection.execute("create table build_trial_audit.rpt_people (id integer, email varchar)")
            connection.execute(f"insert into build_trial_audit.rpt_people values {rows}")
        store = RunStateStore(lambda: self.s3, BUCKET, dag_id="build", run_id=builder, task_id="build_models")
        store.claim()

    def run(self, **params):
        ti = types.SimpleNamespace(
            dag_id="build",
            run_id="run",
            task_id="check_quality",
            try_number=1,
            log_url="http://airflow/log",
            xcom_push=self.pushed.__setitem__,
        )
        return self.operator.execute({"ti": ti, "params": params})

    def report(self):
        return EvidenceStore(lambda: self.s3, BUCKET, "trial").load("run")


@pytest.fixture
def trial(endpoint, tmp_path, monkeypatch):
    s3 = boto3.client("s3", endpoint_url=endpoint)
    s3.delete_object(Bucket=BUCKET, Key="quality/trial/run.json")
    monkeypatch.setattr(load, "load_products", functools.partial(load.load_products, root=tmp_path / "contracts"))
    aws = {"conn_type": "aws", "extra": {"region_name": "us-east-1", "endpoint_url": endpoint}}
    extra = {"published_dir": str(tmp_path)}
    warehouse = {"conn_type": "duckdb", "host": str(tmp_path / "work.duckdb"), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BUILD", json.dumps(warehouse))
    return Trial(tmp_path, s3)


def test_good_data_passes_with_its_score_and_its_report(trial):
    trial.given()

    told = trial.run()

    assert (told["verdict"], told["score"], told["not_passed"]) == ("passed", 100.0, [])
    assert told["report"] == f"s3://{BUCKET}/quality/trial/run.json"
    assert trial.report().verdict is Verdict.PASSED


def test_bad_data_fails_for_good_with_check_value_and_rows_but_nothing_personal(trial, caplog):
    trial.given("(1, 'ada@example.com'), (2, null), (2, 'bob@example.com')")

    with pytest.raises(
        AirflowFailException, match=r"checks did not pass.*people/rpt_people/key: expected = 0, found 1"
    ) as caught:
        trial.run()

    assert "readers keep the version before" in str(caught.value)
    assert trial.report().verdict is Verdict.FAILED
    told = trial.pushed[REPORT_KEY]
    for where in (json.dumps(told), caplog.text):
        assert "people/rpt_people/key" in where
        assert "example.com" not in where
    [key] = [found for found in told["not_passed"] if found["check"] == "people/rpt_people/key"]
    assert (key["severity"], key["measured"], key["some_rows"]) == ("error", 1, [{"id": 2, "occurrences": 2}])


def test_a_rule_that_cannot_be_evaluated_is_no_verdict_and_is_tried_again(trial):
    trial.given(rule="select count(*) from ${schema}.no_such_table")

    with pytest.raises(GateErrored, match=r"(?s)no_such_table.*no proof against the data"):
        trial.run()

    assert trial.report().verdict is Verdict.ERRORED


def test_a_malformed_contract_fails_for_good_with_its_place(trial):
    trial.given(contract=CONTRACT.replace("mustBe: 0", "mustBee: 0"))
    line = 1 + CONTRACT[: CONTRACT.index("mustBe: 0")].count("\n")

    with pytest.raises(AirflowFailException, match=rf"contract.odcs.yaml:{line}:\d+"):
        trial.run()

    assert trial.report() is None


def test_a_published_relation_without_contract_fails_for_good(trial):
    trial.given()
    trial.operator.product = Product("trial", ("rpt_people", "rpt_secret"))

    with pytest.raises(AirflowFailException, match="found none for rpt_secret"):
        trial.run()


def test_a_selection_is_not_checked_because_it_is_not_published(trial):
    with pytest.raises(AirflowSkipException, match="nothing to check"):
        trial.run(select="rpt_people")


def test_what_another_run_has_built_is_not_checked_under_this_runs_name(trial):
    trial.given(builder="another")

    with pytest.raises(AirflowFailException, match="found that run another has built since"):
        trial.run()

    assert trial.report() is None


def test_a_missing_warehouse_connection_says_where_to_add_it(trial, monkeypatch):
    trial.given()
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_BUILD")

    with pytest.raises(Exception, match="warehouse_build"):
        trial.run()


def test_a_kill_in_the_middle_of_a_scan_stops_soda_and_leaves_no_verdict(trial, caplog):
    caplog.set_level(logging.INFO)
    trial.given(MANY, rule=SLOW)
    ended = []

    def scan():
        try:
            trial.run()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=scan)
    thread.start()
    deadline = time.monotonic() + 120
    while "checks to run with Soda Core" not in caplog.text:  # it is connected, and one of its queries takes hours
        assert thread.is_alive(), ended
        assert time.monotonic() < deadline
        time.sleep(0.05)

    trial.operator.on_kill()
    thread.join(60)

    assert [type(error) for error in ended] == [ScanInterrupted]
    assert trial.report() is None
