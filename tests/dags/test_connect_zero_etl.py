"""connect_zero_etl: structure, parameters, and what its tasks do when their templates are rendered."""

import importlib.util
from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError

from data_platform.zero_etl.operators import ConnectZeroEtlOperator, ZeroEtlHealthOperator

DAG_FILE = Path(__file__).resolve().parents[2] / "dags/warehouse/connect_zero_etl.py"


@pytest.fixture(scope="module")
def dag():
    spec = importlib.util.spec_from_file_location("connect_zero_etl", DAG_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.connect_zero_etl()


def test_database_is_made_before_replication_is_waited_for(dag):
    assert dag.dag_id == "connect_zero_etl"
    assert {task_id: task.downstream_task_ids for task_id, task in dag.task_dict.items()} == {
        "create_database": {"wait_until_replicating"},
        "wait_until_replicating": set(),
    }
    assert isinstance(dag.get_task("create_database"), ConnectZeroEtlOperator)
    assert isinstance(dag.get_task("wait_until_replicating"), ZeroEtlHealthOperator)


def test_dag_runs_by_hand_only_and_tells_its_triage(dag):
    assert dag.schedule is None
    assert "#### Triage" in dag.doc_md
    for task_id in dag.task_dict:
        assert f"`{task_id}`" in dag.doc_md


def test_parameters_reach_the_tasks_with_their_types(dag):
    params = {"zero_etl_conn_id": "zero_etl_crm", "required_tables": ["sales", "crm.users"], "timeout_minutes": 5}
    wait = dag.get_task("wait_until_replicating")
    wait.render_template_fields({"params": params}, dag.get_template_env())
    assert wait.zero_etl_conn_id == "zero_etl_crm"
    assert wait.required_tables == ["sales", "crm.users"]
    assert wait.timeout_seconds == 300


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zero_etl_conn_id", "no such; id"),
        ("zero_etl_conn_id", ""),
        ("required_tables", "sales"),
        ("required_tables", ["a.b.c"]),
        ("required_tables", ["sales", "sales"]),
        ("timeout_minutes", 0),
        ("timeout_minutes", "60"),
        ("timeout_minutes", 10_000),
    ],
)
def test_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_default_parameters_are_valid(dag):
    dag.params.validate()
