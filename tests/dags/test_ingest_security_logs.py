"""ingest_security_logs: its shape, its pools, its form, its page."""

from __future__ import annotations

from copy import copy
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.ingestion.operators import IngestBatchOperator, PlanBatchesOperator, ReceiveOperator, SummariseOperator
from include.ingestion.params import ALL, known_sources
from include.ingestion.sources import all_sources, source_names
from include.platform.airflow_settings import load_airflow_settings
from include.platform.assets import INGESTION_QUEUE, INGESTION_WAITING, SECURITY_LAKE_SOURCES
from include.platform.pools import ingest_pool


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["ingest_security_logs"]


def test_what_is_received_is_planned_and_ingested_by_source_and_summed_up(dag):
    sources = known_sources()
    plans, ingests = {f"plan_{name}" for name in sources}, {f"ingest_{name}" for name in sources}
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "receive_objects": {*plans, "summarise"},
        **{f"plan_{name}": {f"ingest_{name}", "summarise"} for name in sources},
        **{task_id: {"summarise"} for task_id in ingests},
        "summarise": set(),
    }
    assert isinstance(dag.get_task("receive_objects"), ReceiveOperator)
    assert isinstance(dag.get_task("summarise"), SummariseOperator)
    for name in sources:
        assert isinstance(dag.get_task(f"plan_{name}"), PlanBatchesOperator)
        assert dag.get_task(f"plan_{name}").source == name


def test_the_sources_that_parsing_knows_are_those_that_there_are():
    names = source_names()
    assert names
    assert known_sources() == names
    assert ALL not in names


def test_each_batch_is_a_task_instance_in_its_sources_pool(dag):
    for name in known_sources():
        ingest = dag.get_task(f"ingest_{name}")
        assert ingest.is_mapped
        assert ingest.operator_class is IngestBatchOperator
        assert (ingest.pool, ingest_pool(name)) == (f"ingest_{name}", f"ingest_{name}")
        assert ingest.outlets == [SECURITY_LAKE_SOURCES]


def test_each_pool_is_as_large_as_its_source_says(project_root):
    pools = {each.name: each.slots for each in load_airflow_settings(project_root / "airflow_settings.yaml").pools}
    assert {name: slots for name, slots in pools.items() if name.startswith("ingest_")} == {
        ingest_pool(source.name): source.batches.pool_slots for source in all_sources()
    }


def test_the_summary_is_made_whatever_becomes_of_a_batch_and_left_out_where_there_is_none(dag):
    rules = {task.task_id: task.trigger_rule for task in dag.tasks if task.trigger_rule != "all_success"}
    assert rules == {"summarise": "all_done"}
    # directly below, so that it is skipped with all plans where there is nothing to do
    assert "summarise" in dag.get_task("receive_objects").downstream_task_ids
    assert dag.get_task("summarise").receive_task_id == "receive_objects"


def test_it_starts_by_the_doorbell_by_what_waits_and_by_the_clock(dag):
    assert dag.schedule.asset_condition == INGESTION_QUEUE | INGESTION_WAITING
    assert dag.schedule.timetable.expression == "*/5 * * * *"


def test_without_a_queue_there_is_no_doorbell_to_fail():
    assert INGESTION_QUEUE.watchers == []  # as the tests' settings name no queue


def test_a_batch_may_take_longer_than_the_engine(dag):
    from include.ingestion.processing import ENGINE_SECONDS

    for name in known_sources():
        assert dag.get_task(f"ingest_{name}").partial_kwargs.get(
            "execution_timeout", dag.default_args["execution_timeout"]
        ) > timedelta(seconds=ENGINE_SECONDS)


def test_triage_tells_of_every_task(dag):
    triage = dag.doc_md.partition("#### Triage")[2]
    for task_id in ("receive_objects", "plan_<source>", "ingest_<source>", "summarise"):
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "aws_nothing"),
        ("source", None),
        ("day", "20261127"),
        ("day", "2026-11-27T00:00:00"),
        ("day", ""),
        ("prefix", ""),
        ("prefix", "x" * 1025),
        ("flush", "yes"),
    ],
)
def test_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        copy(dag.params.get_param(name)).resolve(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("source", "all"), ("source", "windows_sysmon"), ("day", "2026-11-27"), ("day", None), ("prefix", "AWSLogs/")],
)
def test_good_parameter_is_taken(dag, name, value):
    assert copy(dag.params.get_param(name)).resolve(value) == value
