"""migrate_tenant: its shape and its form. What its tasks do is tested beside them, and end to end on the local platform."""

from __future__ import annotations

import re
from copy import copy
from datetime import timedelta
from itertools import pairwise

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.platform.airflow_settings import load_airflow_settings
from include.tenants.operators import MIGRATION, MigrationOperator, MigrationReportLink
from include.tenants.request import LIMITS, MigrationRequest
from include.tenants.saas import Tier

ORDER = [
    *("plan_migration", "preflight", "provision_target", "port_identity", "arm_streams", "copy_items", "finish_copy"),
    *("verify", "approve_cutover", "record_approval", "cut_over", "replicate_reverse", "complete"),
    *("archive", "discard_target", "report"),
]
"""The way of a migration that ends well, but for what runs beside it."""


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["migrate_tenant"]


def test_it_is_planned_copied_verified_approved_switched_and_archived_in_this_order(dag):
    edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}

    expected = {name: {following} for name, following in pairwise(ORDER)} | {"report": set()}
    expected["finish_copy"] = {"replicate_forward", "verify"}
    expected["replicate_forward"] = set()
    expected["cut_over"] = {"replicate_reverse", "abort"}
    expected["abort"] = {"archive"}
    assert edges == expected


def test_whatever_fails_before_the_switch_is_aborted_archived_and_told(dag):
    """Also a skip: a refusal skips the cutover, and the evidence of a refused migration is locked away like any other."""
    assert {task.task_id for task in dag.tasks if task.trigger_rule == "all_done"} == {"abort", "archive", "report"}
    assert {task.trigger_rule for task in dag.tasks} == {"all_success", "all_done"}
    before = dag.get_task("abort").get_flat_relative_ids(upstream=True)
    assert before == set(ORDER[: ORDER.index("cut_over") + 1])


def test_nothing_is_deleted_without_the_evidence(dag):
    discard = dag.get_task("discard_target")
    assert discard.trigger_rule == "all_success"
    assert discard.upstream_task_ids == {"archive"}


def test_a_failed_replay_is_not_waited_for_by_the_cutover(dag):
    """The cutover replays to the end by itself, so the long task beside it decides nothing."""
    assert "replicate_forward" not in dag.get_task("cut_over").get_flat_relative_ids(upstream=True)
    assert "replicate_forward" not in dag.get_task("report").get_flat_relative_ids(upstream=True)


def test_the_pieces_of_the_copy_are_mapped_and_share_a_pool_that_protects_the_source(dag, project_root):
    copy = dag.get_task("copy_items")
    assert copy.is_mapped
    assert copy.expand_input.value.keys() == {"pieces"}
    assert copy.partial_kwargs["tasks"] == dag.get_task("arm_streams").tasks == 4
    assert {task.task_id for task in dag.tasks if task.pool != "default_pool"} == {"copy_items"}
    sizes = {pool.name: pool.slots for pool in load_airflow_settings(project_root / "airflow_settings.yaml").pools}
    assert sizes[copy.pool] >= 4


def test_both_replays_go_in_their_directions(dag):
    assert dag.get_task("replicate_forward").direction == "forward"
    assert dag.get_task("replicate_reverse").direction == "reverse"


def test_each_step_is_of_the_runs_migration_and_links_its_report(dag):
    steps = [task for task in dag.tasks if task.task_id != "approve_cutover"]
    for task in steps:
        kind = task.operator_class if task.is_mapped else type(task)
        assert issubclass(kind, MigrationOperator), task.task_id
        assert any(isinstance(link, MigrationReportLink) for link in kind.operator_extra_links), task.task_id
        if not task.is_mapped and task.task_id != "plan_migration":
            assert task.migration == MIGRATION, task.task_id
    assert "task_ids='plan_migration'" in MIGRATION


def test_the_question_shows_what_was_verified_and_its_answer_is_recorded(dag):
    ask, record = dag.get_task("approve_cutover"), dag.get_task("record_approval")
    assert "ti.xcom_pull(task_ids='verify')" in ask.body
    assert record.ask_task_id == "approve_cutover"
    assert ask.defaults == ["Refuse"]
    assert ask.execution_timeout is None


def test_a_run_outlasts_copy_approval_and_soak_at_their_longest(dag):
    minutes = LIMITS["approve_within_minutes"][1] + LIMITS["soak_minutes"][1]
    assert dag.dagrun_timeout >= timedelta(minutes=minutes) + timedelta(hours=12)
    for task in dag.tasks:
        if task.task_id not in ("approve_cutover", "cut_over"):
            assert task.execution_timeout > timedelta(minutes=LIMITS["soak_minutes"][1]), task.task_id


def test_a_cutover_that_hangs_is_killed_soon(dag):
    """Its budget is at most two minutes; the rest is coming near before the fence."""
    assert dag.get_task("cut_over").execution_timeout == timedelta(minutes=30)
    assert dag.get_task("cut_over").retries == 2


def test_it_runs_by_hand_only_several_tenants_at_once_and_tells_triage_of_every_task_that_can_fail(dag):
    assert dag.schedule is None
    assert dag.max_active_runs > 1
    triage = re.split(r"#+ Triage", dag.doc_md)[1]
    unsaid = {"arm_streams", "finish_copy", "record_approval"}
    for task_id in dag.task_dict.keys() - unsaid:
        assert f"`{task_id}`" in triage, task_id


def test_the_form_asks_for_everything_a_request_has_and_nothing_else(dag):
    asked = set(dag.params) - {"dry_run"}
    assert asked == MigrationRequest("acme", Tier.BASIC).to_mapping().keys()


def test_no_param_has_the_name_of_what_a_person_answers(dag):
    """Airflow would fill the run's value into the form of the question."""
    assert not set(dag.params) & set(dag.get_task("approve_cutover").params)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant_id", None),
        ("tenant_id", ""),
        ("tenant_id", "a b"),
        ("tenant_id", "-a"),
        ("tenant_id", "a" * 64),
        ("target_tier", None),
        ("target_tier", "Gold"),
        ("target_tier", "platinum"),
        ("why", "too short"),
        ("why", "x" * 1001),
        ("dry_run", "yes"),
        ("budget_seconds", "30"),
        *((name, least - 1) for name, (least, _) in LIMITS.items()),
        *((name, most + 1) for name, (_, most) in LIMITS.items()),
    ],
)
def test_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant_id", "acme-2-1"),
        *(("target_tier", tier.value) for tier in Tier),
        *((name, bound) for name, bounds in LIMITS.items() for bound in bounds),
    ],
)
def test_good_parameter_is_taken(dag, name, value):
    param = copy(dag.params.get_param(name))  # it keeps what it resolves
    assert param.resolve(value) == value
