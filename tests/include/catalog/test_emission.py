"""Telling lineage from a task: to a spool and a catalog, on good days and bad, never to the task's harm."""

import json
import logging
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from include.catalog.dbt_lineage import emit_build, emit_gate, emit_publication, warm_up
from include.local.catalog.trial import trial_catalog
from include.quality.report import GateReport
from include.warehouse.build import BuildReport
from include.warehouse.connection import DuckDbConnection
from include.warehouse.dbt_run import DbtOutcome
from include.warehouse.products import Product
from include.warehouse.publication import Publication
from include.warehouse.run_state import RunState
from tests.include.catalog.emission import airflow_option, context, openlineage
from tests.include.catalog.test_run_events import node

CONNECTION = DuckDbConnection(Path("/work.duckdb"), Path("/p"), {})
FINANCE = Product("finance", ("rpt_finance_qtr_total_sales_by_event",))
PUBLICATION = Publication("v20260131080200000000", "run", "", datetime(2026, 1, 31, 8, 2, tzinfo=UTC))
NODES = [node("fct_sales"), node("fct_listings", "error"), node("stg_tickit__sales")]


def report(*nodes):
    found = {one.unique_id: one for one in nodes}
    return BuildReport(RunState("project", "", full_refresh=False, nodes=found), DbtOutcome(nodes=found))


def spooled(folder):
    return [json.loads(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]


@pytest.fixture(scope="module")
def served():
    with trial_catalog() as catalog:
        yield catalog


@pytest.fixture
def catalog(served):
    served.reset()
    return served


def test_a_build_is_spooled_and_in_the_catalog_and_one_line_says_so(tmp_path, catalog, caplog):
    caplog.set_level(logging.INFO)
    with openlineage(tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url):
        warm_up()
        summary = emit_build(context(), report(*NODES), CONNECTION)
    assert (summary.events, summary.reason) == (3, "")
    assert len(spooled(tmp_path)) == len(catalog.events) == 3
    told = [message for message in caplog.messages if "event" in message]
    assert told == [f"lineage: told 3 events in {summary.seconds:.2f} s"]


def test_a_publication_and_a_gate_without_checks_are_told_through_the_same_client(tmp_path):
    nothing = GateReport(datetime(2026, 1, 31, 8, 1, tzinfo=UTC), 0.0, ())
    with openlineage(tmp_path.as_uri()):
        assert emit_publication(context("publish_products"), FINANCE, PUBLICATION, CONNECTION, None).events == 1
        assert emit_gate(context("check_quality"), nothing, CONNECTION, FINANCE).events == 0
    [event] = spooled(tmp_path)
    assert event["job"]["namespace"] == "data-platform"
    assert event["outputs"][0]["name"] == "work.finance.rpt_finance_qtr_total_sales_by_event"


@pytest.mark.parametrize(
    "variables", [{"AIRFLOW__OPENLINEAGE__DISABLED": "True"}, {"AIRFLOW__OPENLINEAGE__TRANSPORT": ""}]
)
def test_where_openlineage_is_off_nothing_is_told_but_that(variables, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    with openlineage(tmp_path.as_uri()):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        warm_up()
        summary = emit_build(context(), report(*NODES), CONNECTION)
    assert (summary.events, summary.reason) == (0, "OpenLineage is switched off")
    assert spooled(tmp_path) == []
    assert "OpenLineage is switched off" in caplog.text


def test_a_transport_that_cannot_be_made_costs_the_task_a_warning(caplog):
    with airflow_option(json.dumps({"type": "no.such.Transport"})):
        warm_up()
        summary = emit_build(context(), report(*NODES), CONNECTION)
    assert summary.events == 0
    assert "Transport" in summary.reason
    assert "The task itself is not concerned" in caplog.text


def test_a_committed_file_that_is_missing_costs_the_task_a_warning(tmp_path, caplog, monkeypatch):
    import include.catalog.column_lineage as committed

    elsewhere = partial(committed.load_column_lineage, tmp_path / "nothing.json")
    monkeypatch.setattr(committed, "load_column_lineage", elsewhere)
    with openlineage(tmp_path.as_uri()):
        summary = emit_build(context(), report(*NODES), CONNECTION)
    assert (summary.events, spooled(tmp_path)) == (0, [])
    assert "make manifest" in summary.reason
    assert "The task itself is not concerned" in caplog.text


def test_a_context_that_lacks_the_run_costs_the_task_a_warning(tmp_path, caplog):
    with openlineage(tmp_path.as_uri()):
        assert emit_build({"ti": context()["ti"]}, report(*NODES), CONNECTION).reason.startswith("KeyError")
    assert "The task itself is not concerned" in caplog.text


def test_a_model_that_the_committed_manifest_lacks_is_named(tmp_path, caplog):
    with openlineage(tmp_path.as_uri()):
        assert emit_build(context(), report(*NODES, node("newer")), CONNECTION).events == 3
    assert "model.data_platform.newer not in the committed manifest" in caplog.text


@pytest.mark.parametrize(
    "fault", [{"code": "InternalServerException", "status": 500}, {"code": "ThrottlingException", "status": 429}]
)
def test_what_the_catalog_refuses_now_stays_in_the_spool(fault, tmp_path, catalog):
    catalog.fault("PostLineageEvent", **fault)
    with openlineage(tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url):
        summary = emit_build(context(), report(*NODES), CONNECTION)
    assert (summary.events, summary.reason) == (3, "")
    assert len(spooled(tmp_path)) == 3
    assert catalog.events == []


def test_what_a_killed_try_told_in_part_the_next_tells_whole_and_once(tmp_path, catalog):
    whole = report(*NODES)
    part = replace(whole, state=replace(whole.state, nodes=dict(list(whole.state.nodes.items())[:1])))
    with openlineage(tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url):
        emit_build(context(), part, CONNECTION)
        told = spooled(tmp_path)
        emit_build(context(attempt=2), whole, CONNECTION)
    assert len(told) == 1
    assert told[0] in spooled(tmp_path)
    assert len(spooled(tmp_path)) == len(catalog.events) == 3


def test_a_process_that_imports_the_tasks_has_not_imported_openlineage():
    import subprocess

    program = (
        "import sys, include.catalog.dbt_lineage; print([m for m in sys.modules if 'openlineage' in m or 'attr' == m])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
