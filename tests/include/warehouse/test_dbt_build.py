"""The dbt runner with a real dbt: success, failure, resume, kills. Each dbt process takes three seconds, so tests share what they can."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from include.warehouse.build import count_rows
from include.warehouse.exceptions import DbtCouldNotRun, DbtInterrupted, DbtNodesFailed, SelectionRefused
from include.warehouse.gateway import open_warehouse
from tests.include.warehouse.conftest import TINY_PROJECT, TINY_SECRET, build
from tests.include.warehouse.test_child_process import alive

pytestmark = pytest.mark.warehouse

ALL = {
    "model.tiny.first": "success",
    "model.tiny.second": "success",
    "model.tiny.third": "success",
    "model.tiny.side": "success",
    "unit_test.tiny.side.side_passes_rows_on": "pass",
    "test.tiny.unique_first_id.363f2ee484": "pass",
    "test.tiny.not_null_third_id.34247a5597": "pass",
    "test.tiny.accepted_values_side_id__False__1.5220924423": "warn",
}


def statuses(nodes):
    return {unique_id: node.status for unique_id, node in nodes.items()}


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "expected it to happen"
        time.sleep(0.05)


def test_after_a_failed_data_test_everything_is_built_and_a_build_reports_each_node_and_no_secret(tiny, caplog):
    caplog.set_level(logging.DEBUG)
    store, dbt = tiny.store("tested"), tiny.dbt()
    tiny.says("null")

    failed = build(dbt, store, tiny.wanted(full_refresh=True), attempt=1)
    assert failed.error.failed == ("test.tiny.not_null_third_id.34247a5597",)

    tiny.says("ok")  # the source is mended
    began = datetime.now(UTC)
    report = build(dbt, store, tiny.wanted(full_refresh=True), attempt=2)

    assert report.error is None
    assert "data tests failed in the earlier try (not_null_third_id)" in caplog.text
    assert statuses(report.outcome.nodes) == ALL
    assert all(node.duration_seconds > 0 for node in report.outcome.nodes.values())
    ends = [datetime.fromisoformat(node.finished_at) for node in report.outcome.nodes.values()]
    assert began < min(ends) <= max(ends) < datetime.now(UTC)
    assert "Got 1 result" in report.outcome.nodes["test.tiny.accepted_values_side_id__False__1.5220924423"].message
    rows = count_rows(lambda: open_warehouse(tiny.warehouse, read_only=True), report.built_models)
    assert rows == {
        "model.tiny.first": 2,
        "model.tiny.second": 2,
        "model.tiny.third": 2,
    }  # a view's rows are not counted
    assert "1 of 8 START sql table model build_finance.first  [RUN]" in caplog.messages
    assert TINY_SECRET not in caplog.text

    store.save_artifacts(dbt.target_dir, "fingerprint")
    kept = store.load()
    assert not kept.complete  # the task has yet to count rows and tell Airflow
    assert statuses(kept.nodes) == ALL
    keys = [entry["Key"] for entry in tiny.s3.list_objects_v2(Bucket="tiny")["Contents"]]
    assert f"{store.prefix}/run_results.json.gz" in keys
    assert "dbt-manifests/fingerprint.json.gz" in keys


def test_a_failed_model_fails_with_dbts_words_and_a_retry_builds_only_what_is_left(tiny, caplog):
    caplog.set_level(logging.INFO)
    tiny.says("fail")
    store = tiny.store("resume")

    failed = build(tiny.dbt(), store, tiny.wanted(full_refresh=True), attempt=1)

    error = failed.error
    assert isinstance(error, DbtNodesFailed)
    assert error.failed == ("model.tiny.second",)
    assert "Runtime Error in model second (models/second.sql)" in str(error)
    assert "told to fail" in str(error)
    assert failed.summary()["skipped"] == ["model.tiny.third", "test.tiny.not_null_third_id.34247a5597"]

    tiny.says("ok")
    retried = build(tiny.dbt(), store, tiny.wanted(full_refresh=True), attempt=2)

    assert retried.error is None
    assert set(retried.outcome.nodes) == {
        "model.tiny.second",
        "model.tiny.third",
        "test.tiny.not_null_third_id.34247a5597",
    }
    assert statuses(retried.state.nodes) == ALL  # the earlier try's nodes are still told
    assert {node.attempt for node in retried.built_models} == {1, 2}
    assert retried.resumed == 5
    assert "resuming: 5 of 8 nodes were built by an earlier try, 3 are left" in caplog.messages


def test_a_kill_in_the_middle_leaves_a_state_to_resume_from(tiny):
    """SIGKILL of dbt alone, then, in the retry, of the whole worker process: then dbt dies with it and frees the build file."""
    tiny.says("slow")
    store = tiny.store("killed")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import boto3, logging; logging.basicConfig(level='INFO')\n"
        "from pathlib import Path\n"
        "from tests.include.warehouse.conftest import Tiny, build\n"
        "tiny = Tiny(Path(sys.argv[2]), boto3.client('s3', endpoint_url=sys.argv[3]))\n"
        "for attempt in (1, 2):\n"
        "    report = build(tiny.dbt(), tiny.store(sys.argv[4]), tiny.wanted(), attempt)\n"
        "    print(type(report.error).__name__, report.error, flush=True)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    arguments = [root, str(tiny.home), tiny.s3.meta.endpoint_url, "killed"]
    worker = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        # the state is saved within seconds while `second` runs on
        wait_until(lambda: (state := store.load()) is not None and "model.tiny.side" in state.done)
        [first] = children(worker.pid)
        os.kill(first, signal.SIGKILL)
        assert worker.stdout.readline().startswith(
            "DbtInterrupted expected dbt to run 8 nodes, found it ended (exit code -9)"
        )
        wait_until(lambda: builders(worker.pid, tiny.warehouse.path))
        [second] = builders(worker.pid, tiny.warehouse.path)
    finally:
        worker.kill()
        worker.communicate(timeout=60)
    wait_until(lambda: not alive(second))

    tiny.says("ok")
    retried = build(tiny.dbt(), store, tiny.wanted(), attempt=3)

    assert retried.error is None
    assert "model.tiny.first" not in retried.outcome.nodes
    assert statuses(retried.state.nodes) == ALL


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def builders(pid, database):
    """The children that build, once they have the build file open; the retry lists the selection before, in another process."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):  # it has just ended
            if b"\0build\0" in Path(f"/proc/{child}/cmdline").read_bytes() and any(
                os.readlink(file) == str(database) for file in Path(f"/proc/{child}/fd").iterdir()
            ):
                found.append(child)
    return found


def test_terminating_kills_dbt_and_its_children(tmp_path):
    """dbt that has a child, and that does not care for SIGINT: both are gone at the end."""
    stubborn = tmp_path / "dbt"
    stubborn.write_text("#!/bin/sh\ntrap '' INT\nsleep 300 &\necho $! > child\necho $$ > parent\nwait\nwait\n")
    stubborn.chmod(0o755)
    from include.warehouse.dbt_run import DbtProcess

    dbt = DbtProcess(stubborn, TINY_PROJECT, tmp_path / "target", {"PATH": os.environ["PATH"]})
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(dbt.run(["build"])))
    thread.start()
    parent = tmp_path / "target" / "parent"
    wait_until(lambda: parent.exists() and parent.read_text().strip())
    pids = [int((tmp_path / "target" / name).read_text()) for name in ("child", "parent")]

    dbt.terminate()
    thread.join(60)

    assert outcomes[0].exit_code == -signal.SIGKILL
    wait_until(lambda: not any(alive(pid) for pid in pids))  # a killed process takes a moment to go


def test_a_selection_that_matches_nothing_is_refused_and_nothing_is_built(tiny):
    report = build(tiny.dbt(), tiny.store("nothing"), tiny.wanted("no_such_model"), attempt=1)

    assert isinstance(report.error, SelectionRefused)
    assert "found none for 'no_such_model'" in str(report.error)
    assert not tiny.warehouse.path.exists() or not relations(tiny)


def relations(tiny):
    with duckdb.connect(str(tiny.warehouse.path), read_only=True) as connection:
        return connection.execute("select table_name from information_schema.tables").fetchall()


def test_a_broken_project_is_told_with_dbts_words(tiny, tmp_path):
    (tmp_path / "dbt_project.yml").write_text("name: [broken\n")

    report = build(tiny.dbt(tmp_path), tiny.store("broken"), tiny.wanted(), attempt=1)

    assert isinstance(report.error, DbtCouldNotRun)
    assert "did not find expected ',' or ']'" in str(report.error)
    assert "exit code 2 before any node ran" in str(report.error)


def test_a_locked_build_file_is_told_with_dbts_words(tiny):
    with duckdb.connect(str(tiny.warehouse.path)):
        # another process is needed for the lock to count: dbt is one
        report = build(tiny.dbt(), tiny.store("locked"), tiny.wanted(), attempt=1)

    assert isinstance(report.error, DbtCouldNotRun | DbtInterrupted)
    assert "lock" in str(report.error).lower()
