"""The ingestion's other DAGs: their shapes, forms and pages."""

from __future__ import annotations

from copy import copy

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.ingestion.lake_operators import CompactPartitionOperator
from include.ingestion.operators import ReadStreamOperator, ReleaseBatchOperator, ReplayDeadLettersOperator
from include.platform import pools
from include.platform.assets import INGESTION_ARRIVALS

SHAPES = {
    "ingest_security_stream": {"find_readers": {"read_stream"}, "read_stream": set()},
    "register_security_lake_sources": {"register_sources": {"register_partitions"}, "register_partitions": set()},
    "compact_security_lake": {"find_partitions": {"compact_partition"}, "compact_partition": set()},
    "replay_dead_letters": {"replay": set()},
    "release_refused_batch": {"release": set()},
}
BY_HAND = {"replay_dead_letters", "release_refused_batch"}
BATCH = "0123456789abcdef" * 2


@pytest.mark.parametrize("dag_id", SHAPES)
def test_shape(dag_bag, dag_id):
    dag = dag_bag.dags[dag_id]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == SHAPES[dag_id]


@pytest.mark.parametrize("dag_id", SHAPES)
def test_triage_tells_of_every_task(dag_bag, dag_id):
    triage = dag_bag.dags[dag_id].doc_md.partition("#### Triage")[2]
    for task_id in SHAPES[dag_id]:
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize("dag_id", SHAPES)
def test_what_changes_by_hand_only_has_no_schedule(dag_bag, dag_id):
    assert (dag_bag.dags[dag_id].schedule is None) == (dag_id in BY_HAND)


def test_shards_are_shared_by_mapped_tasks_which_tell_when_something_has_come(dag_bag):
    read = dag_bag.dags["ingest_security_stream"].get_task("read_stream")
    assert read.is_mapped
    assert read.operator_class is ReadStreamOperator
    assert read.outlets == [INGESTION_ARRIVALS]
    assert read.partial_kwargs["seconds"] <= 300


@pytest.mark.parametrize(
    ("dag_id", "task_id", "kind"),
    [
        ("replay_dead_letters", "replay", ReplayDeadLettersOperator),
        ("release_refused_batch", "release", ReleaseBatchOperator),
    ],
)
def test_who_puts_something_into_the_ledger_wakes_the_ingestion(dag_bag, dag_id, task_id, kind):
    task = dag_bag.dags[dag_id].get_task(task_id)
    assert isinstance(task, kind)
    assert task.outlets == [INGESTION_ARRIVALS]


def test_partitions_are_compacted_one_at_a_time(dag_bag):
    compact = dag_bag.dags["compact_security_lake"].get_task("compact_partition")
    assert compact.is_mapped
    assert compact.operator_class is CompactPartitionOperator
    assert compact.pool == pools.SECURITY_LAKE


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        ("ingest_security_stream", "source", "none"),
        ("ingest_security_stream", "accept_gap", "all"),
        ("ingest_security_stream", "why", "because"),
        ("register_security_lake_sources", "days", 0),
        ("register_security_lake_sources", "days", "3"),
        ("compact_security_lake", "grace_hours", -1),
        ("compact_security_lake", "oldest_day", "20261127"),
        ("replay_dead_letters", "source", "all"),
        ("replay_dead_letters", "source", None),
        ("replay_dead_letters", "batch", "x"),
        ("replay_dead_letters", "reason", "no such; drop"),
        ("replay_dead_letters", "dry_run", "no"),
        ("release_refused_batch", "batch", BATCH.upper()),
        ("release_refused_batch", "batch", None),
        ("release_refused_batch", "action", "force"),
        ("release_refused_batch", "why", "because"),
    ],
)
def test_bad_parameter_is_refused(dag_bag, dag_id, name, value):
    with pytest.raises(ParamValidationError):
        copy(dag_bag.dags[dag_id].params.get_param(name)).resolve(value)


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        ("compact_security_lake", "grace_hours", 0),
        ("compact_security_lake", "oldest_day", "2026-11-27"),
        ("replay_dead_letters", "source", "suricata"),
        ("replay_dead_letters", "day", "2026-11-27"),
        ("replay_dead_letters", "batch", BATCH),
        ("replay_dead_letters", "reason", "unmapped_kind"),
        ("release_refused_batch", "batch", BATCH),
        ("release_refused_batch", "action", "reopen"),
        ("release_refused_batch", "why", "mapping of kind 12 was mended"),
    ],
)
def test_good_parameter_is_taken(dag_bag, dag_id, name, value):
    assert copy(dag_bag.dags[dag_id].params.get_param(name)).resolve(value) == value
