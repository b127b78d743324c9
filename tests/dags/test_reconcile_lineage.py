"""reconcile_lineage: structure, parameters, and what its tasks say to whom."""

import importlib.util
import json
import logging
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, ParamValidationError

from data_platform.lineage.config import transport_config
from data_platform.lineage.spool import SpoolConfig, SpoolTransport
from data_platform.lineage.store import open_store
from include.catalog.reconcile import Options
from include.catalog.reconcile_operators import ProveDeliveryOperator, ReconcileLineageOperator
from include.catalog.score_operators import PublishScoresOperator
from include.catalog.spool import Spool
from include.local.aws.trial import trial_aws
from include.local.catalog.faults import PROCESSING
from include.local.catalog.trial import trial_catalog
from include.warehouse.products import published_product
from tests.plugins.lineage.events import run_event

ROOT = Path(__file__).resolve().parents[2]
DAG_FILE = ROOT / "dags/catalog/reconcile_lineage.py"
DEFAULTS = {"since": None, "until": None, "max_events": 2000, "retry_rejected": False}
PLACE = {"region": "us-east-1", "account_id": "123456789012"}


@pytest.fixture(scope="module")
def dag():
    spec = importlib.util.spec_from_file_location("reconcile_lineage", DAG_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reconcile_lineage()


@pytest.fixture(scope="module")
def catalog():
    with trial_catalog() as served:
        yield served


@pytest.fixture
def spool(tmp_path, catalog, monkeypatch):
    """A deployment with a catalog; returns its spool's folder."""
    catalog.reset()
    option = transport_config(spool=tmp_path.as_uri(), domain_id=catalog.domain_id, **PLACE)
    aws = {"conn_type": "aws", "extra": {"region_name": "us-east-1", "endpoint_url": catalog.url}}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__CATALOG_DOMAIN_ID", catalog.domain_id)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    return tmp_path


def emit(folder, **event):
    SpoolTransport(SpoolConfig.from_dict({"url": folder.as_uri()})).emit(
        run_event(datetime.now(UTC) - timedelta(minutes=30), **event)
    )


def reconcile(**params):
    return ReconcileLineageOperator(task_id="reconcile_events").execute({"params": {**DEFAULTS, **params}})


def prove(run_id=None):
    """As one run does; another each time, unless it is named."""
    ProveDeliveryOperator(task_id="prove_delivery").execute({"run_id": run_id or str(uuid.uuid4())})


def post_scores():
    PublishScoresOperator(task_id="publish_scores", product=published_product("finance")).execute({"ti": None})


def test_delivery_is_proved_after_it_was_reconciled(dag):
    assert {task_id: task.downstream_task_ids for task_id, task in dag.task_dict.items()} == {
        "reconcile_events": {"prove_delivery"},
        "prove_delivery": set(),
    }
    for task_id in dag.task_dict:
        assert f"`{task_id}`" in dag.doc_md


def test_the_form_and_the_code_have_the_same_default(dag):
    assert dag.params["max_events"] == Options.max_events


@pytest.mark.parametrize(
    ("name", "value"),
    [("since", "yesterday"), ("until", 7), ("max_events", 0), ("max_events", 100_000), ("retry_rejected", "yes")],
)
def test_a_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_events_arrive_and_the_sums_are_the_xcom(spool, caplog):
    emit(spool)
    caplog.set_level(logging.INFO)
    first = reconcile()
    assert (first["spooled"], first["pending"], first["replayed"]) == (1, 1, 1)
    second = reconcile()
    assert (second["spooled"], second["accepted"], second["pending"]) == (1, 1, 0)
    assert len(json.dumps(second)) < 1000
    assert "1 events spooled = 1 accepted + 0 rejected + 0 pending" in caplog.text
    prove()


def test_the_spool_in_s3_is_read_through_the_aws_connection(spool, catalog, monkeypatch):
    with trial_aws(["data-platform"]) as s3:
        url = "s3://data-platform/lineage"
        aws = {
            "region_name": "us-east-1",
            "endpoint_url": s3,
            "service_config": {"datazone": {"endpoint_url": catalog.url}},
        }
        option = transport_config(spool=url, domain_id=catalog.domain_id, **PLACE)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": aws}))
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))
        moment = datetime.now(UTC) - timedelta(minutes=30)
        SpoolTransport(SpoolConfig.from_dict({"url": url, "endpoint": s3})).emit(run_event(moment))
        catalog.fault(PROCESSING, outcome="FAILED")
        assert reconcile()["replayed"] == 1
        assert reconcile()["rejected"] == 1
        with pytest.raises(AirflowFailException, match="found 1 new ones"):
            prove()
        prove()


def test_a_window_limits_what_is_looked_at(spool):
    emit(spool)
    assert reconcile(since="2100-01-01T00:00:00+00:00")["hours"] == 0
    assert reconcile(until="2000-01-01T00:00:00+00:00")["hours"] == 0
    assert reconcile(since="2020-01-01T00:00:00+00:00", max_events=1)["replayed"] == 1


def test_new_rejects_fail_the_proof_once_with_job_run_and_reason(spool, catalog):
    emit(spool, run_id="019c0000-0000-7000-8000-000000000001")
    catalog.fault(PROCESSING, outcome="FAILED")
    reconcile()
    reconcile()
    with pytest.raises(
        AirflowFailException,
        match=r"found 1 new ones.*rpt_top run 019c0000-0000-7000-8000-000000000001 COMPLETE of .*failed to process it",
    ):
        prove()
    prove()
    reconcile()
    prove()


def test_a_run_that_was_ended_before_it_could_fail_tells_again_and_no_other_run_does(spool, catalog):
    emit(spool)
    catalog.fault(PROCESSING, outcome="FAILED")
    reconcile()
    reconcile()
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="found 1 new ones"):
            prove("first")
    reconcile()
    prove("second")
    prove("first")  # put away: what was told is not looked through again


def test_what_was_told_before_runs_were_noted_stays_told(spool, catalog):
    emit(spool)
    catalog.fault(PROCESSING, outcome="FAILED")
    reconcile()
    reconcile()
    [new] = (spool / "rejects/new").iterdir()
    (spool / "rejects/told").mkdir()
    new.rename(spool / "rejects/told" / new.name)
    reconcile()
    prove()


def test_many_rejects_are_all_in_the_log_but_not_all_in_the_message(spool, catalog, caplog):
    catalog.fault(PROCESSING, outcome="FAILED")
    for _ in range(21):
        emit(spool)
    reconcile()
    reconcile()
    with pytest.raises(AirflowFailException, match=r"found 21 new ones.* … and 1 more, see the log"):
        prove()
    assert caplog.text.count("lineage: rejected: ") == 21
    assert not Spool(open_store(spool.as_uri())).new_rejects()


@pytest.mark.parametrize("act", [reconcile, prove])
def test_without_a_catalog_the_tasks_are_skipped_and_say_why(act, monkeypatch):
    monkeypatch.delenv("AIRFLOW__DATA_PLATFORM__CATALOG_DOMAIN_ID", raising=False)
    with pytest.raises(AirflowSkipException, match="catalog_domain_id is empty"):
        act()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({}, "make the option with"),
        (transport_config(spool="file:///spool", **PLACE), "found no catalog"),
        (transport_config(spool="file:///spool", domain_id="dzd_other", **PLACE), "found dzd_other"),
    ],
)
def test_a_transport_of_another_catalog_fails_without_a_retry(spool, monkeypatch, option, message):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))
    with pytest.raises(AirflowFailException, match=message):
        reconcile()


@pytest.mark.parametrize("act", [reconcile, post_scores])
def test_malformed_names_fail_without_a_retry(spool, monkeypatch, catalog, act):
    option = transport_config(spool=spool.as_uri(), domain_id=catalog.domain_id, **PLACE)
    option["transports"]["catalog"]["transformer_properties"]["account_id"] = "1234"
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))
    with pytest.raises(AirflowFailException, match=r"expected .*12 digits.*make the option anew"):
        act()


def test_parsing_the_dag_file_imports_nothing_heavy():
    code = (
        "import sys, runpy\n"
        f"runpy.run_path({str(DAG_FILE)!r})\n"
        "heavy = {'boto3', 'botocore', 'openlineage.client', 'duckdb', 'include.catalog.reconcile', 'data_platform.lineage.naming'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
