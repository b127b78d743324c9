"""finish_tenant_identity: its shape and its form."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.tenants.operators import FinishIdentityOperator


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["finish_tenant_identity"]


def test_each_migration_that_is_due_is_finished_by_a_task_of_its_own(dag):
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {"find_due": {"finish"}, "finish": set()}
    finish = dag.get_task("finish")
    assert finish.is_mapped
    assert finish.operator_class is FinishIdentityOperator
    assert finish.expand_input.value["migration"].operator.task_id == "find_due"


def test_it_runs_every_day_and_tells_triage(dag):
    assert dag.schedule == "@daily"
    triage = dag.doc_md.partition("#### Triage")[2]
    for task_id in dag.task_dict:
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize("value", ["", "a b", 7])
def test_bad_tenant_is_refused(dag, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param("tenant_id").resolve(value)


def test_without_a_tenant_it_looks_at_all(dag):
    param = dag.params.get_param("tenant_id")
    assert param.resolve() is None
    assert param.resolve("acme") == "acme"
