"""rollback_tenant_migration: its shape and its form."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.tenants.operators import RollBackOperator


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["rollback_tenant_migration"]


def test_it_undoes_archives_and_tells_without_asking_anybody(dag):
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "roll_back": {"archive", "discard_target", "report"},
        "archive": {"discard_target"},
        "discard_target": {"report"},
        "report": set(),
    }
    assert {task.task_id for task in dag.tasks if task.trigger_rule == "all_done"} == {"report"}
    assert isinstance(dag.get_task("roll_back"), RollBackOperator)


def test_each_task_is_of_the_migration_that_the_first_one_found(dag):
    for name in ("archive", "discard_target", "report"):
        task = dag.get_task(name)
        assert task.migration.operator.task_id == "roll_back", name


def test_it_runs_by_hand_only_and_tells_triage(dag):
    assert dag.schedule is None
    triage = dag.doc_md.partition("#### Triage")[2]
    for task_id in ("roll_back", "archive"):
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize(
    ("name", "value"),
    [("tenant_id", None), ("tenant_id", "a/b"), ("why", None), ("why", "because"), ("why", "x" * 1001)],
)
def test_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_good_parameters_are_taken(dag):
    assert dag.params.get_param("tenant_id").resolve("acme-2") == "acme-2"
    assert dag.params.get_param("why").resolve("it is too slow there") == "it is too slow there"
