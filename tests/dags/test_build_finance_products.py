"""build_finance_products: its shape in each way of execution, its params, and one run for real on small data."""

from __future__ import annotations

import copy
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.local.aurora.snapshot import build_snapshot
from include.local.aws.trial import trial_aws
from include.local.tickit.generate import generate
from include.platform.settings import load_settings
from include.warehouse.manifest import load_models

DAG_ID = "build_finance_products"
ROOT = Path(__file__).resolve().parents[2]
DAG_FILE = ROOT / "dags" / "warehouse" / f"{DAG_ID}.py"


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags[DAG_ID]


def python(program, *arguments, **environment):
    """Run ``program`` in a fresh interpreter: settings and Airflow's configuration are read once a process."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_builds_checks_publishes_or_holds_and_then_tidies_up(dag):
    edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}

    assert edges == {
        "check_replication": {"build_models"},
        "build_models": {"check_quality"},
        "check_quality": {"publish_products", "hold_products"},
        "hold_products": set(),
        "publish_products": {"retire_old_versions", "publish_scores", "write_docs"},
        "publish_scores": set(),
        "retire_old_versions": set(),
        "write_docs": set(),
    }


def test_only_one_task_at_a_time_opens_the_warehouse_file(dag):
    pools = {task.task_id: task.pool for task in dag.tasks}

    assert {task_id for task_id, pool in pools.items() if pool == "warehouse_build"} == {
        "build_models",
        "check_quality",
        "hold_products",
        "publish_products",
        "write_docs",
    }


def test_nothing_is_published_unless_the_gate_has_passed_and_what_failed_is_held(dag):
    assert dag.get_task("publish_products").trigger_rule == "all_success"
    assert dag.get_task("hold_products").trigger_rule == "all_failed"
    assert [outlet.name for outlet in dag.get_task("check_quality").outlets] == []


def test_it_starts_when_the_checkpoint_moves_and_on_a_schedule(dag):
    assert type(dag.timetable).__name__ == "AssetOrTimeSchedule"
    assert [asset.name for asset in dag.timetable.asset_condition.objects] == ["tickit_checkpoint"]


def test_every_table_that_dbt_reads_must_be_replicated(dag):
    check = dag.get_task("check_replication")

    assert set(check.required_tables) == {"category", "date", "event", "listing", "sales", "users", "venue"}
    assert set(check.history_tables) == {"listing", "sales"}


def test_every_model_is_an_active_asset_and_only_published_ones_are_published(dag):
    publish = dag.get_task("publish_products")

    assert {asset.name for asset in publish.inlets} == {f"{model.layer}.{model.name}" for model in load_models()}
    assert publish.product.relations == tuple(sorted(model.name for model in load_models() if model.published))
    assert len(publish.product.relations) >= 2
    assert [outlet.name for outlet in publish.outlets] == ["finance_products"]
    assert [outlet.name for outlet in dag.get_task("build_models").outlets] == ["finance_models"]


@pytest.mark.parametrize(
    "conf",
    [
        {"select": "--full-refresh"},
        {"select": "a; drop table"},
        {"select": 7},
        {"full_refresh": "yes please"},
        {"full_refresh": None},
    ],
)
def test_bad_params_are_refused_when_the_run_is_started(dag, conf):
    def start():
        params = copy.deepcopy(dag.params)
        params.update(conf)
        return params.validate()

    with pytest.raises(ParamValidationError):
        start()


PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
HEAVY = ("cosmos.airflow.task_group", "cosmos.operators.local", "duckdb", "pandas", "include.warehouse.dbt_run")
before = {name for name in HEAVY if name in sys.modules}
bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
print("ANSWER", json.dumps({
    "params": sorted(dag.params),
    "heavy": sorted({name for name in HEAVY if name in sys.modules} - before),
    "history_tables": dag.get_task("check_replication").history_tables,
    "vars": sorted({str(getattr(task, "vars", None) or "") for task in dag.tasks if task.task_id.startswith("build_models.")}),
    "tasks": {task.task_id: [task.pool, sorted(task.upstream_task_ids)] for task in dag.tasks},
}))
"""


def shape(execution, **settings):
    return answer(python(PARSE, str(DAG_FILE), AIRFLOW__DATA_PLATFORM__DBT_EXECUTION=execution, **settings))


def answer(ran):
    lines = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    print(ran.stdout, ran.stderr)  # shown if the test fails
    assert lines, ran.stdout[-3000:] + ran.stderr[-3000:]
    return json.loads(lines[-1].removeprefix("ANSWER "))


def test_the_default_imports_nothing_heavy():
    assert shape("graph")["heavy"] == []


@pytest.mark.parametrize(("execution", "history"), [("local", "false"), ("watcher", "true")])
def test_one_task_per_model_is_a_setting_and_without_history_mode_the_check_does_not_ask_for_it(execution, history):
    found = shape(execution, AIRFLOW__DATA_PLATFORM__ZERO_ETL_HISTORY_MODE=history)
    tasks, names = found["tasks"], {model.name for model in load_models()}

    assert {f"build_models.{name}.run" for name in names} <= set(tasks)
    parents = {task_id.split(".")[1] for task_id in tasks["build_models.fct_sales.run"][1]}
    assert parents == {"int_events_described", "int_sales_latest"}
    assert {pool for task_id, (pool, _) in tasks.items() if task_id.endswith((".run", "test", "watcher"))} == {
        "warehouse_build"
    }
    # a test of two models is a task of its own, and nothing is checked or published before it has passed
    assert "build_models.fct_sales_has_no_new_orphans_test" in tasks["check_quality"][1]
    assert found["params"] == ["full_refresh"]  # Cosmos' graph is fixed when it is parsed
    assert bool(found["history_tables"]) == (history == "true")
    if history == "false":
        assert found["vars"] == ["{'history_mode': False}"]  # every model task is told


RUN = """
import importlib.util, json, os, sqlite3, sys
from datetime import timedelta
from airflow.utils.db import initdb
initdb()
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
runs = []
for conf, marked in json.loads(sys.argv[2]):
    dag = module.build_finance_products()  # anew: a run's params would stay with it
    dag.deadline = None  # dag.test() does not store the alerts that it then looks for
    for task in dag.tasks:
        task.retries, task.retry_delay = 1, timedelta(0)
    if len(sys.argv) > 4:
        dag = dag.partial_subset(sys.argv[4], include_upstream=False)
    run = dag.test(run_conf=conf, mark_success_pattern=marked)
    with sqlite3.connect(os.environ["AIRFLOW_HOME"] + "/airflow.db") as database:
        (events,) = database.execute("select count(*) from asset_event").fetchone()
    published = os.path.exists(sys.argv[3])
    runs.append([{ti.task_id: [ti.state, ti.try_number] for ti in run.get_task_instances()}, events, published])
print("ANSWER", json.dumps(runs))
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """What a run needs: S3, a replicated snapshot, a warehouse, an Airflow home."""
    if not load_settings().dbt_executable.exists():
        pytest.fail(
            f"the warehouse environment has not been built: no {load_settings().dbt_executable}; run make setup"
        )
    import boto3

    home = tmp_path_factory.mktemp("platform")
    source = build_snapshot(generate("small"), home / "aurora_zeroetl_integration.duckdb")
    with trial_aws(["data-platform"]) as url:
        aws = {
            "conn_type": "aws",
            "login": "test",
            "password": "test",
            "extra": {"region_name": "us-east-1", "endpoint_url": url},
        }
        attach = {"aurora_zeroetl_integration": str(source)}
        warehouse = {
            "conn_type": "duckdb",
            "host": str(home / "work.duckdb"),
            "extra": {"published_dir": str(home), "attach": attach},
        }
        yield {
            "home": home,
            "s3": boto3.client("s3", endpoint_url=url),
            "environment": {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
                "AIRFLOW__DATA_PLATFORM__SCRATCH_DIR": str(home / "scratch"),
                "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
                "AIRFLOW_CONN_WAREHOUSE_BUILD": json.dumps(warehouse),
            },
        }


@pytest.mark.warehouse
def test_a_selection_publishes_nothing_and_a_run_builds_publishes_documents_and_tells_each_model(platform):
    """Three runs of one process, in this order; starting Airflow takes longer than most of their tasks."""
    runs = [
        ({"select": "stg_tickit__venues"}, "check_replication|build_models"),
        (None, "check_replication"),
        ({"select": "no_such_model"}, "check_replication"),
    ]
    published_file = platform["home"] / "finance_products.duckdb"
    ran = python(RUN, str(DAG_FILE), json.dumps(runs), str(published_file), **platform["environment"])
    selected, (built, _, _), (refused, _, _) = answer(ran)

    states = {
        "check_replication": ["success", 1],
        "build_models": ["success", 1],
        "check_quality": ["skipped", 1],
        "hold_products": ["skipped", 0],
        "publish_products": ["skipped", 0],
        "publish_scores": ["skipped", 0],
        "retire_old_versions": ["skipped", 0],
        "write_docs": ["skipped", 0],
    }
    assert selected == [states, 0, False]
    assert "readers keep the version before; run without selection to publish" in ran.stdout + ran.stderr
    assert built == {
        "check_replication": ["success", 1],
        "build_models": ["success", 1],
        "check_quality": ["success", 1],
        "hold_products": ["skipped", 0],
        "publish_products": ["success", 1],
        "publish_scores": ["skipped", 0],
        "retire_old_versions": ["skipped", 0],
        "write_docs": ["success", 1],
    }
    assert refused["build_models"] == ["failed", 1]  # no retry: it would not help
    assert refused["publish_products"][0] == "upstream_failed"
    with duckdb.connect(str(published_file), read_only=True) as published:
        (version,) = published.execute("select version from finance._publication").fetchone()
        rows = published.execute("select count(*) from finance.rpt_finance_qtr_total_sales_by_event").fetchone()[0]
    events = asset_events(platform["home"] / "airflow.db")
    assert events["finance_products"]["version"] == version
    assert set(events) - {"finance_products"} == {f"{model.layer}.{model.name}" for model in load_models()}
    told = events["finance.rpt_finance_qtr_total_sales_by_event"]
    assert told["rows"] == rows > 0
    assert told["duration_s"] > 0
    assert told["log_url"].endswith("/tasks/build_models?try_number=1")
    assert events["staging.stg_tickit__sales"]["rows"] is None  # a view
    docs = platform["s3"].get_object(Bucket="data-platform", Key="dbt-docs/index.html")["Body"].read()
    assert b"rpt_finance_qtr_total_sales_by_event" in docs


def asset_events(database):
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select a.name, e.extra from asset_event e join asset a on a.id = e.asset_id"
        ).fetchall()
    assert len(rows) == len(dict(rows)), "an event was told twice"
    return {name: json.loads(extra) for name, extra in rows}


def environment_of_its_own(platform, home):
    """The platform's environment with another warehouse and another Airflow."""
    warehouse = json.loads(platform["environment"]["AIRFLOW_CONN_WAREHOUSE_BUILD"])
    warehouse["host"], warehouse["extra"]["published_dir"] = str(home / "work.duckdb"), str(home)
    return {
        **platform["environment"],
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW_CONN_WAREHOUSE_BUILD": json.dumps(warehouse),
    }


@pytest.mark.warehouse
def test_one_task_per_model_builds_the_same_relations(platform, tmp_path):
    """Cosmos' LOCAL mode with the connection's profile, for one model and its tests alone."""
    environment = environment_of_its_own(platform, tmp_path) | {"AIRFLOW__DATA_PLATFORM__DBT_EXECUTION": "local"}
    published_file, only = str(tmp_path / "finance_products.duckdb"), "build_models.stg_tickit__venues."

    ((states, _, _),) = answer(python(RUN, str(DAG_FILE), "[[null, null]]", published_file, only, **environment))

    assert states == {f"{only}run": ["success", 1], f"{only}test": ["success", 1]}
    with sqlite3.connect(tmp_path / "airflow.db") as database:  # dbt's environment is no page of the UI
        fields = database.execute("select rendered_fields from rendered_task_instance_fields").fetchall()
    assert fields
    assert "DBT_DUCKDB_PATH" not in str(fields)
    with duckdb.connect(str(tmp_path / "work.duckdb"), read_only=True) as connection:
        assert connection.execute("select table_schema from information_schema.tables").fetchall() == [
            ("build_staging",)
        ]
