"""dbt's run state: when a retry resumes, what happens when S3 does not answer, and how dbt's events become results."""

from __future__ import annotations

import json
import logging

import boto3
import pytest
from botocore.config import Config

from include.warehouse.build import BuildReport
from include.warehouse.dbt_run import DbtEvents, DbtOutcome, NodeResult
from include.warehouse.exceptions import DbtNodesFailed, RunStateUnreadable, SelectionRefused
from include.warehouse.run_state import RunState, RunStateStore, StateWriter, project_fingerprint
from include.warehouse.selection import selection_options
from tests.include.warehouse.conftest import BUCKET, build

FIRST = NodeResult("model.p.first", "model", "first", "table", ("build_finance", "first"), "success", 0.5, 1)
BAD_ROWS = NodeResult("test.p.unique", "test", "unique", "test", None, "fail", 0.1, 1, "Got 2 results")
SECOND = NodeResult("model.p.second", "model", "second", "view", None, "error", 0.1, 1, "Runtime Error")


def state(**kwargs):
    return RunState(
        **{"project": "abc", "selection": "", "full_refresh": False, "nodes": {FIRST.unique_id: FIRST}, **kwargs}
    )


@pytest.fixture
def store(s3, request):
    return RunStateStore(
        lambda: s3,
        BUCKET,
        dag_id="dag",
        run_id=f"manual__2026-11-23T14:00:00+00:00/{request.node.name}",
        task_id="build",
    )


def unreachable():
    config = Config(connect_timeout=0.2, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=config)


def test_the_state_survives_the_way_through_s3(store):
    saved = state(nodes={node.unique_id: node for node in (FIRST, SECOND)})

    store.save(saved)

    assert store.load() == saved
    assert set(saved.done) == {"model.p.first"}


def test_no_state_is_no_error(store):
    assert store.load() is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"version": 0}', b'{"version": 1, "nodes": [{}]}'])
def test_a_state_that_is_none_is_told(s3, store, body):
    s3.put_object(Bucket=BUCKET, Key=f"{store.prefix}/state.json", Body=body)

    with pytest.raises(RunStateUnreadable, match="expected run state of version 1"):
        store.load()


def test_a_silent_s3_is_told_and_everything_is_built(caplog):
    caplog.set_level(logging.INFO)
    store = RunStateStore(unreachable, BUCKET, dag_id="d", run_id="r", task_id="t")
    dbt = FakeDbt()

    report = build(dbt, store, state(nodes={}), attempt=2)

    assert report.error is None
    assert dbt.commands == [["build"]]
    assert "to be readable, found" in caplog.text
    assert "building everything" in caplog.text
    assert caplog.text.count("can't be saved") == 1


class FakeDbt:
    """Says that it built one node. The real one is in test_dbt_build.py."""

    def __init__(self):
        self.commands = []

    def run(self, command, options=(), *, attempt=1, on_node=None, on_start=None):
        self.commands.append([*command, *options])
        on_node(FIRST)
        return DbtOutcome(nodes={FIRST.unique_id: FIRST}, total=1)

    def list_fqns(self, options):
        return {"model.p.first": "p.first"}


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [
        (state(complete=True), "the task was cleared"),
        (state(project="xyz"), "the dbt project has changed"),
        (state(selection="first"), "params have changed"),
        (state(full_refresh=True), "params have changed"),
        (state(nodes={SECOND.unique_id: SECOND}), "no node succeeded"),
        (
            state(nodes={FIRST.unique_id: FIRST, BAD_ROWS.unique_id: BAD_ROWS}),
            "data tests failed in the earlier try (unique)",
        ),
    ],
)
def test_a_retry_that_cannot_resume_says_why_and_builds_everything(store, caplog, earlier, reason):
    caplog.set_level(logging.INFO)
    store.claim()
    store.save(earlier)
    dbt = FakeDbt()

    report = build(dbt, store, state(nodes={}), attempt=2)

    assert reason in caplog.text
    assert dbt.commands == [["build"]]
    assert report.resumed == 0


def test_a_try_that_was_killed_after_its_last_node_has_nothing_left_to_run(store):
    store.claim()
    store.save(state(full_refresh=True))
    dbt = FakeDbt()

    report = build(dbt, store, state(nodes={}, full_refresh=True), attempt=2)

    assert report.error is None
    assert dbt.commands == []


def test_a_cleared_run_builds_everything_if_another_run_has_begun_to_build_since(s3, store, caplog):
    caplog.set_level(logging.INFO)
    store.claim()
    store.save(state())
    later = RunStateStore(lambda: s3, BUCKET, dag_id="dag", run_id="later", task_id="build")
    build(FakeDbt(), later, state(nodes={}), attempt=1)
    dbt = FakeDbt()

    build(dbt, store, state(nodes={}), attempt=2)

    assert dbt.commands == [["build"]]
    assert "run later has built since the earlier try: building everything" in caplog.text
    assert store.last_build().run_id == store.run_id


def test_a_claim_that_s3_refused_is_tried_again_before_a_state_is_saved(s3, store):
    class Refusing:
        refusals = 1

        def __getattr__(self, name):
            return getattr(s3, name)

        def put_object(self, **kwargs):
            if self.refusals:
                self.refusals -= 1
                raise OSError("no route to host")
            return s3.put_object(**kwargs)

    refused = RunStateStore(Refusing, BUCKET, dag_id="dag", run_id="refused", task_id=store.prefix)

    build(FakeDbt(), refused, state(nodes={}), attempt=1)

    assert refused.last_build().run_id == "refused"
    assert set(refused.load().nodes) == {FIRST.unique_id}


def test_only_a_task_that_ended_well_is_complete(store):
    report = build(FakeDbt(), store, state(nodes={}), attempt=1)
    assert not store.load().complete

    store.complete(report.state)

    assert store.load().complete
    assert store.load().nodes == report.state.nodes


def test_a_first_try_never_resumes(store):
    store.save(state())
    dbt = FakeDbt()

    build(dbt, store, state(nodes={}, full_refresh=True), attempt=1)

    assert dbt.commands == [["build", "--full-refresh"]]


def test_the_state_is_saved_while_nodes_finish(store):
    import time

    with StateWriter(store, state(nodes={}), interval_seconds=0.05) as writer:
        writer.add(FIRST)
        deadline = time.monotonic() + 5
        while store.load() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert set(store.load().nodes) == {FIRST.unique_id}
        assert not store.load().complete


def test_the_fingerprint_follows_what_dbt_reads_and_nothing_else(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.sql").write_text("select 1")
    before = project_fingerprint(tmp_path)

    (tmp_path / "manifest.json").write_text("{}")
    assert project_fingerprint(tmp_path) == before
    (tmp_path / "models" / "a.sql").rename(tmp_path / "models" / "b.sql")
    renamed = project_fingerprint(tmp_path)
    (tmp_path / "models" / "b.sql").write_text("select 2")
    assert len({before, renamed, project_fingerprint(tmp_path)}) == 3


@pytest.mark.parametrize(
    "selection", ["", "fct_sales", "+fct_sales+2 tag:finance,path:models/marts", "@stg_*", "finance.*", "2+a"]
)
def test_dbt_selections_are_accepted(selection):
    assert selection_options(selection) == (["--select", *selection.split()] if selection else [])


@pytest.mark.parametrize(
    "selection",
    ["--full-refresh", "a --vars x", "a; rm -rf /", "a\nb", "$(id)", " a", "a  b", "a,,b", "-a", "a" * 2001, "+", "é"],
)
def test_what_is_no_dbt_selection_is_refused(selection):
    with pytest.raises(SelectionRefused, match="Nothing was changed"):
        selection_options(selection)


def event(name, level="info", msg="told", **data):
    return json.dumps({"info": {"name": name, "level": level, "msg": msg}, "data": data})


def test_memory_is_bounded_whatever_dbt_says(caplog):
    outcome = DbtOutcome()
    events = DbtEvents(outcome, 1, lambda _: None)

    for number in range(500):
        events.read(f"no event {number} " + "x" * 10_000)

    assert len(outcome.errors) == 20
    assert outcome.errors[-1].startswith("no event 499")
    assert max(map(len, outcome.errors)) == 2000


def test_a_failure_is_told_once_with_dbts_words():
    outcome = DbtOutcome()
    seen = []
    events = DbtEvents(outcome, 3, seen.append)
    node = {
        "unique_id": "test.p.t",
        "resource_type": "test",
        "node_name": "t",
        "node_status": "fail",
        "materialized": "test",
    }

    events.read(event("LogTestResult", "error", status="fail", node_info=node, execution_time=0.25, total=7))
    events.read(event("RunResultError", "error", "  Got 3 results, configured to fail if != 0", node_info=node))
    outcome.exit_code = 1

    assert outcome.nodes["test.p.t"].message == "Got 3 results, configured to fail if != 0"
    assert seen[-1].message == "Got 3 results, configured to fail if != 0"
    assert (outcome.total, seen[0].attempt, seen[0].duration_seconds) == (7, 3, 0.25)
    error = BuildReport(state(), outcome).error
    assert isinstance(error, DbtNodesFailed)
    assert "test.p.t: fail\nGot 3 results" in str(error)
