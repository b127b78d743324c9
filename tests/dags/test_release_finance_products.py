"""release_finance_products: its shape. What its tasks do is tested beside them, and end to end on the local platform."""

from __future__ import annotations

from datetime import timedelta

import pytest


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["release_finance_products"]


def test_a_person_decides_between_finding_and_releasing(dag):
    edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}

    assert edges == {
        "find_held": {"ask_person"},
        "ask_person": {"release_held"},
        "release_held": {"publish_scores"},
        "publish_scores": set(),
    }
    assert {task.trigger_rule for task in dag.tasks} == {"all_success"}


def test_a_held_version_starts_it_and_only_the_release_updates_the_product(dag):
    assert [asset.name for asset in dag.timetable.asset_condition.objects] == ["finance_held"]
    outlets = {task.task_id: [outlet.name for outlet in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {"release_held": ["finance_products"]}


def test_it_never_publishes_while_a_build_does(dag):
    assert {dag.get_task(name).pool for name in ("find_held", "release_held")} == {"warehouse_build"}


def test_the_run_outlasts_the_question_and_the_version_stays_pinned_as_long(dag):
    ask, find = dag.get_task("ask_person"), dag.get_task("find_held")

    assert ask.response_timeout == find.answer_within == timedelta(hours=12)
    assert dag.dagrun_timeout > ask.response_timeout
    assert ask.execution_timeout is None
