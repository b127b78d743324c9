"""What a build's run events say, and that they are the same whenever they are made."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from openlineage.client.event_v2 import RunState

from data_platform.lineage.events import client_token
from data_platform.lineage.spool import wire
from include.catalog.column_lineage import load_column_lineage
from include.catalog.dbt_graph import load_graph
from include.catalog.dbt_lineage import dbt_version, task_run
from include.catalog.run_events import BuildFacts, build_events, gate_events, publication_events
from include.contracts.checks import Check, Severity
from include.quality.report import CheckResult, GateReport, Outcome
from include.warehouse.connection import DuckDbConnection, StandsFor
from include.warehouse.dbt_run import NodeResult
from include.warehouse.products import Product
from include.warehouse.publication import Publication
from tests.include.catalog.emission import BEGAN, HOST, SOURCE_ARN, context

PROJECT = "data_platform"
CONNECTION = DuckDbConnection(Path("/work.duckdb"), Path("/p"), {}, stands_for=StandsFor(HOST, 5439, "dev"))
FINANCE = Product("finance", ("rpt_finance_qtr_total_sales_by_event",))
[RELATION] = FINANCE.relations
SECRET = "Could not convert string 'ada@example.org' to INT32"


def facts(attempt=1, **changes):
    task = task_run(context(attempt=attempt))
    return replace(BuildFacts(task, CONNECTION, load_graph(), load_column_lineage(), history_mode=True), **changes)


def node(name, status="success", *, attempt=1, seconds=5, kind="model", message=""):
    unique_id = name if "." in name else f"{kind}.{PROJECT}.{name}"
    finished = (BEGAN + timedelta(seconds=seconds)).isoformat()
    return NodeResult(unique_id, kind, name, "table", None, status, 0.1, attempt, message, finished)


def events(*nodes, rows=None, source_arn=None, **changes):
    made = build_events(facts(**changes), {one.unique_id: one for one in nodes}, rows or {}, source_arn)
    return [wire(event) for event in made]


def data_tests(model):
    graph = load_graph()
    return sorted(key for key, test in graph.tests.items() if test.about.endswith(f".{model}"))


# Models


def test_a_models_event_names_its_parents_and_what_it_made():
    [event] = events(node("fct_sales"), rows={f"model.{PROJECT}.fct_sales": 7})

    assert event["job"]["name"] == "build_finance_products.build_models.fct_sales"
    assert event["job"]["facets"]["jobType"]["jobType"] == "MODEL"
    assert sorted(dataset["name"] for dataset in event["inputs"]) == [
        "dev.build_intermediate.int_events_described",
        "dev.build_intermediate.int_sales_latest",
    ]
    kinds = {d["name"].rpartition(".")[2]: d["facets"]["datasetType"]["datasetType"] for d in event["inputs"]}
    assert kinds == {"int_events_described": "VIEW", "int_sales_latest": "TABLE"}
    [output] = event["outputs"]
    assert (output["name"], output["namespace"]) == ("dev.build_finance.fct_sales", f"redshift://{HOST}:5439")
    assert output["facets"]["datasetType"]["datasetType"] == "VIEW"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 7
    lineage = output["facets"]["columnLineage"]
    [origin] = lineage["fields"]["season_year"]["inputFields"]
    assert (origin["name"], origin["field"]) == ("dev.build_intermediate.int_events_described", "season_year")
    assert origin["transformations"] == [{"type": "DIRECT", "subtype": "IDENTITY"}]
    assert {(one["field"], one["transformations"][0]["subtype"]) for one in lineage["dataset"]} == {
        ("eventid", "JOIN"),
        ("is_deleted", "FILTER"),
    }


def test_a_published_models_event_is_of_the_audit_schema():
    [event] = events(node(RELATION))
    assert [dataset["name"] for dataset in event["outputs"]] == [f"dev.build_finance_audit.{RELATION}"]


def test_every_event_belongs_to_the_task_and_the_dags_run_as_the_provider_names_them():
    from airflow.providers.openlineage.plugins.macros import lineage_parent_id, lineage_root_parent_id

    everything = events(node("fct_sales"), node(data_tests("fct_sales")[0], "pass", kind="test"), source_arn=SOURCE_ARN)
    assert len(everything) == 2
    for event in everything:
        parent = event["run"]["facets"]["parent"]
        ids = [(p["job"]["namespace"], p["job"]["name"], p["run"]["runId"]) for p in (parent, parent["root"])]
        ti = context()["ti"]
        assert ["/".join(one) for one in ids] == [lineage_parent_id(ti), lineage_root_parent_id(ti)]


def test_a_failed_model_is_told_without_the_warehouses_words_which_may_quote_a_row():
    [event] = events(node("fct_sales", "error", message=SECRET), rows={f"model.{PROJECT}.fct_sales": 7})
    assert event["eventType"] == "FAIL"
    assert "ended fct_sales with status error" in event["run"]["facets"]["errorMessage"]["message"]
    assert "ada" not in json.dumps(event)
    assert not event["outputs"][0]["outputFacets"]


def test_what_did_not_run_and_what_the_manifest_lacks_has_no_event():
    assert (
        events(
            node("fct_sales", "skipped"), node("newer_than_the_manifest"), node("a_unit_test", "pass", kind="unit_test")
        )
        == []
    )


def test_without_history_mode_a_constant_is_told_as_one():
    [event] = events(node("stg_tickit__sales"), history_mode=False)
    fields = event["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert fields["_record_is_active"] == {"inputFields": [], "transformationDescription": "constant"}
    assert "_record_is_active" not in [f["name"] for f in event["inputs"][0]["facets"]["schema"]["fields"]]
    [event] = events(node("stg_tickit__sales"))
    assert event["outputs"][0]["facets"]["columnLineage"]["fields"]["_record_is_active"]["inputFields"]


# Tests of data


def test_data_tests_are_assertions_on_what_they_are_about_in_one_event_a_try():
    not_null, unique = data_tests("stg_tickit__venues")
    results = [node(not_null, "pass", kind="test"), node(unique, "fail", kind="test", seconds=9, message=SECRET)]
    other = data_tests("fct_listings")
    [event] = events(*results, node(other[0], "error", kind="test", message=SECRET))

    assert event["job"]["name"] == "build_finance_products.build_models.data_tests"
    assert event["eventType"] == "COMPLETE"  # the tests have been run; what they found, they say
    assert event["eventTime"] == (BEGAN + timedelta(seconds=9)).isoformat()
    assert not event["outputs"]
    found = {
        d["name"].rpartition(".")[2]: d["inputFacets"]["dataQualityAssertions"]["assertions"] for d in event["inputs"]
    }
    told = [(one["assertion"], one["column"], one["success"], one["severity"]) for one in found["stg_tickit__venues"]]
    assert told == [("not_null", "venueid", True, "error"), ("unique", "venueid", False, "error")]
    [errored] = found["fct_listings"]
    assert (errored["success"], errored["actual"]) == (False, "not evaluated")
    assert "ada" not in json.dumps(event)


# Sent again


def test_whoever_makes_an_event_again_makes_the_same():
    nodes = [node("fct_sales"), node("stg_tickit__sales"), node(data_tests("fct_sales")[0], "pass", kind="test")]
    first = events(*nodes, source_arn=SOURCE_ARN)
    assert len(first) == 4
    assert events(*nodes, source_arn=SOURCE_ARN, attempt=2) == first  # a retry that tells the try before
    assert len({client_token(event) for event in first}) == 4


@pytest.mark.parametrize("change", [{"attempt": 2}, {"seconds": 6}])
def test_what_ran_anew_is_another_run(change):
    [first], [second] = events(node("fct_sales")), events(node("fct_sales", **change))
    assert client_token(first) != client_token(second)
    assert first["run"]["runId"] != second["run"]["runId"]


def test_another_run_of_the_dag_is_another_run():
    other = task_run(context(run_id="manual__2026-01-31"))
    [first], [second] = events(node("fct_sales")), events(node("fct_sales"), task=other)
    assert first["run"]["runId"] != second["run"]["runId"]


def test_the_newest_tries_events_come_first():
    """What the catalog has already must not use up the time in which it is told what is new."""
    made = events(node("fct_sales", attempt=1), node("fct_listings", attempt=2))
    assert [event["job"]["name"].rpartition(".")[2] for event in made] == ["fct_listings", "fct_sales"]


def test_a_state_that_does_not_say_when_a_node_ended_gives_the_runs_beginning():
    [event] = events(replace(node("fct_sales"), finished_at=""))
    assert event["eventTime"] == BEGAN.isoformat()


# Replication


def test_a_source_table_that_was_read_comes_from_aurora_column_by_column():
    replication, model = events(node("stg_tickit__sales"), source_arn=SOURCE_ARN)
    assert model["job"]["name"].endswith("stg_tickit__sales")
    assert replication["job"]["name"] == "zero_etl.aurora_zeroetl_integration.sales"
    [source], [replica] = replication["inputs"], replication["outputs"]
    aurora = "mysql://aurora-zeroetl-integration.123456789012.us-east-1.rds.amazonaws.com:3306"
    assert (source["namespace"], source["name"]) == (aurora, "demodb.sales")
    assert (replica["namespace"], replica["name"]) == (model["inputs"][0]["namespace"], model["inputs"][0]["name"])
    fields = replica["facets"]["columnLineage"]["fields"]
    assert {f["name"] for f in source["facets"]["schema"]["fields"]} == {name for name in fields if name[0] != "_"}
    [price] = fields["pricepaid"]["inputFields"]
    assert (price["namespace"], price["name"], price["field"]) == (aurora, "demodb.sales", "pricepaid")


@pytest.mark.parametrize("source_arn", [None, "", "arn:aws:dynamodb:us-east-1:123456789012:table/x", "sales"])
def test_of_a_source_that_is_no_aurora_nothing_is_made_up(source_arn):
    assert len(events(node("stg_tickit__sales"), source_arn=source_arn)) == 1


# The gate and the publication


def gate(*outcomes):
    def result(position, outcome):
        check = Check(
            key=f"finance.{RELATION}.{position}",
            product="finance",
            contract_version="1.0.0",
            relation=RELATION,
            columns=("sales_made",),
            dimension="completeness",
            severity=Severity.ERROR,
            description="Sales are counted.",
            sodacl={"missing_count(sales_made) = 0": None},
        )
        return CheckResult(check, outcome, None if outcome is Outcome.ERRORED else 3, SECRET, ({"email": "ada"},))

    results = tuple(result(position, outcome) for position, outcome in enumerate(outcomes))
    return GateReport(datetime(2026, 1, 31, 8, 1, tzinfo=UTC), 1.0, results)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([Outcome.PASSED, Outcome.PASSED], RunState.COMPLETE),
        ([Outcome.PASSED, Outcome.FAILED], RunState.COMPLETE),
        ([Outcome.PASSED, Outcome.ERRORED], RunState.FAIL),
    ],
)
def test_whatever_the_gate_found_is_told_and_no_row_with_it(outcomes, state):
    [event] = gate_events(task_run(context("check_quality")), gate(*outcomes), CONNECTION, FINANCE)
    assert event.eventType is state
    told = wire(event)
    assert told["job"]["name"] == f"build_finance_products.check_quality.{RELATION}"
    [dataset] = told["inputs"]
    assert dataset["name"] == f"dev.build_finance_audit.{RELATION}"
    assertions = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [one["success"] for one in assertions] == [outcome is Outcome.PASSED for outcome in outcomes]
    assert "ada" not in json.dumps(told)


def test_a_publication_is_the_audited_relation_as_it_is_under_its_version_and_checks():
    publication = Publication("v20260131080200000000", "run", "", datetime(2026, 1, 31, 8, 2, tzinfo=UTC))
    task, report = task_run(context("publish_products")), gate(Outcome.PASSED)
    [event] = publication_events(task, FINANCE, publication, CONNECTION, load_graph(), report)
    told = wire(event)

    [output] = told["outputs"]
    assert (output["name"], output["facets"]["datasetType"]["datasetType"]) == (f"dev.finance.{RELATION}", "VIEW")
    assert output["facets"]["version"]["datasetVersion"] == publication.version
    assert output["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    assert output["facets"]["dataQualityAssertions"]["assertions"]
    fields = output["facets"]["columnLineage"]["fields"]
    assert {name: [(i["name"], i["field"]) for i in f["inputFields"]] for name, f in fields.items()} == {
        column.name: [(f"dev.build_finance_audit.{RELATION}", column.name)]
        for column in load_graph().model_named(RELATION).columns
    }
    [again] = publication_events(task, FINANCE, publication, CONNECTION, load_graph(), report)
    assert wire(again) == told
    later = replace(publication, version="v20260131080300000000", published_at=datetime(2026, 1, 31, 8, 3, tzinfo=UTC))
    [other] = publication_events(task, FINANCE, later, CONNECTION, load_graph(), None)
    assert client_token(other) != client_token(event)
    assert "dataQualityAssertions" not in wire(other)["outputs"][0]["facets"]


def test_the_version_of_dbt_is_that_of_the_warehouse_environment(tmp_path):
    assert dbt_version(tmp_path) == ""
    (tmp_path / "lib/python3.12/site-packages/dbt_core-1.11.16.dist-info").mkdir(parents=True)
    assert dbt_version(tmp_path) == "1.11.16"
    [event] = events(node("fct_sales"), dbt_version="1.11.16")
    assert event["run"]["facets"]["processing_engine"]["version"] == "1.11.16"
