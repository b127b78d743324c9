"""The supervisor with parts of our own: the real ones run in tests/system."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid

import pytest

from include.local.layout import Layout
from include.local.processes import MARKER, end_all, marked_processes
from include.local.supervisor import PlatformError, State, Supervisor, launch, stop

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
CRASH = [sys.executable, "-c", "import sys; print('no space left on device', flush=True); sys.exit(7)"]


@pytest.fixture
def supervisor(tmp_path):
    state = State(
        run_id=uuid.uuid4().hex,
        ports={"aws": 1, "zero-etl": 2, "catalog": 4, "batch-gateway": 5, "saas": 6, "api-server": 3},
    )
    made = Supervisor(Layout(tmp_path), state, tickit="none", environ={**os.environ, MARKER: state.run_id})
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield made
    for number, handler in handlers.items():  # run() installs its own, which would outlive the test
        signal.signal(number, handler)
    end_all(state.run_id, 0)


def test_a_part_that_dies_is_named_with_its_exit_and_the_last_lines_of_its_log(supervisor):
    supervisor.commands["scheduler"] = CRASH
    supervisor.start("scheduler")
    with pytest.raises(PlatformError) as caught:
        supervisor.wait_for("starting Airflow", lambda: False)
    assert "scheduler died (exit status 7)" in str(caught.value)
    assert "no space left on device" in str(caught.value)
    assert State.load(supervisor.layout).dead_parts()[0].name == "scheduler"


def test_a_killed_part_is_told_and_not_restarted(supervisor):
    supervisor.commands["triggerer"] = SLEEP
    supervisor.start("triggerer")
    supervisor.children["triggerer"].kill()
    supervisor.children["triggerer"].wait()
    supervisor.check_children()
    part = supervisor.state.parts["triggerer"]
    assert (part.status, part.detail) == ("died", "signal SIGKILL")
    assert len(supervisor.children) == 1


def test_a_finished_migration_is_not_a_death(supervisor):
    supervisor.commands["migrate"] = [sys.executable, "-c", ""]
    supervisor.start("migrate")
    supervisor.wait_for("creating Airflow's database", lambda: supervisor.state.parts["migrate"].status == "done")
    assert not supervisor.state.dead_parts()


def test_a_failed_start_ends_every_process_and_keeps_the_reason(supervisor, monkeypatch):
    def bring_up():
        supervisor.commands |= {"aws": SLEEP, "scheduler": CRASH}
        supervisor.start("aws", "scheduler")
        supervisor.wait_for("starting Airflow", lambda: False)

    monkeypatch.setattr(supervisor, "bring_up", bring_up)
    assert supervisor.run() == 1
    assert not marked_processes(supervisor.state.run_id)
    state = State.load(supervisor.layout)
    assert state.phase == "failed"
    assert "scheduler died" in state.message


def test_stopping_when_nothing_runs_says_so(tmp_path):
    assert stop(Layout(tmp_path)) is None


def test_a_second_platform_in_the_same_folder_is_refused(supervisor):
    import psutil

    me = psutil.Process()
    supervisor.state.supervisor_pid, supervisor.state.supervisor_created = me.pid, me.create_time()
    supervisor.state.save(supervisor.layout)
    with pytest.raises(PlatformError, match="already up"):
        launch(supervisor.layout, tickit="none", no_login=False)


def test_processes_left_by_a_killed_supervisor_are_ended(supervisor):
    supervisor.commands["aws"] = SLEEP
    supervisor.start("aws")
    supervisor.state.supervisor_pid = 2**22 + 1  # no such process
    supervisor.state.save(supervisor.layout)
    deadline = time.monotonic() + 5
    while not marked_processes(supervisor.state.run_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked_processes(supervisor.state.run_id)  # else there is nothing to end
    stop(supervisor.layout)
    assert not marked_processes(supervisor.state.run_id)


def test_a_damaged_state_file_counts_as_no_platform(tmp_path):
    layout = Layout(tmp_path)
    layout.state_file.write_text('{"run_id": "a", "par')
    assert State.load(layout) is None
