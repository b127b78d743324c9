"""clean_up_tenant_source: its shape and its form."""

from __future__ import annotations

from copy import copy
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.tenants.operators import CleanUpOperator, PlanDeletionOperator


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["clean_up_tenant_source"]


def test_the_evidence_is_looked_at_then_a_person_asked_then_deleted(dag):
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "plan_deletion": {"approve_deletion", "clean_up", "report"},
        "approve_deletion": {"clean_up"},
        "clean_up": {"report"},
        "report": set(),
    }
    assert isinstance(dag.get_task("plan_deletion"), PlanDeletionOperator)
    assert isinstance(dag.get_task("clean_up"), CleanUpOperator)


def test_only_an_answer_deletes_and_a_refusal_is_reported_too(dag):
    assert {task.task_id: task.trigger_rule for task in dag.tasks if task.trigger_rule != "all_success"} == {
        "report": "none_failed"
    }
    assert dag.get_task("clean_up").ask_task_id == "approve_deletion"


def test_silence_for_a_day_refuses_and_the_run_outlasts_it(dag):
    ask = dag.get_task("approve_deletion")
    assert (ask.response_timeout, ask.defaults) == (timedelta(hours=24), ["Refuse"])
    assert ask.execution_timeout is None
    assert dag.dagrun_timeout > ask.response_timeout + dag.get_task("clean_up").execution_timeout
    assert "ti.xcom_pull(task_ids='plan_deletion', key='question')" in ask.body
    assert not set(dag.params) & set(ask.params)  # Airflow would fill the run's value into the question's form


def test_it_runs_by_hand_only_and_tells_triage(dag):
    assert dag.schedule is None
    triage = dag.doc_md.partition("#### Triage")[2]
    for task_id in ("plan_deletion", "approve_deletion", "clean_up"):
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize("value", [None, "", "acme_2", "a;b", "a" * 64])
def test_bad_tenant_is_refused(dag, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param("tenant_id").resolve(value)


def test_good_tenant_is_taken(dag):
    param = copy(dag.params.get_param("tenant_id"))  # it keeps what it resolves
    assert param.resolve("0f3a") == "0f3a"
