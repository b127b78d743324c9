"""A part that died is started again when somebody asks for it by name, by the supervisor."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid

import psutil
import pytest

from include.local.__main__ import main
from include.local.layout import Layout
from include.local.processes import MARKER, end_all
from include.local.restart import kill, restart
from include.local.supervisor import RUNNING, PlatformError, State, Supervisor

READY = [sys.executable, "-c", "import os, time; print('ready', os.getpid(), flush=True); time.sleep(60)"]
CRASH = [sys.executable, "-c", "import sys; sys.exit('no space left on device')"]
PART = "spark-operator"


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    """One whose loop runs beside the test, with a part that can be told from its log."""
    monkeypatch.setenv("DATA_PLATFORM_LOCAL_DIR", str(tmp_path))
    ports = {"aws": 1, "zero-etl": 2, "catalog": 4, "batch-gateway": 5, "saas": 6, "api-server": 3}
    me = psutil.Process()
    state = State(uuid.uuid4().hex, me.pid, me.create_time(), phase=RUNNING, ports=ports)
    made = Supervisor(Layout(tmp_path), state, tickit="none", environ={**os.environ, MARKER: state.run_id})
    made.commands[PART] = READY
    made.start(PART)
    stop = threading.Event()

    def watch():
        while not stop.wait(0.02):
            made.check_children()
            made.restart_requested()

    thread = threading.Thread(target=watch)
    thread.start()
    yield made
    stop.set()
    thread.join()
    end_all(state.run_id, 0)


def wait_until(supervisor, status):
    deadline = time.monotonic() + 60
    while (found := State.load(supervisor.layout).parts[PART].status) != status:
        assert time.monotonic() < deadline, f"expected {status}, found {found}"
        time.sleep(0.05)


def test_a_killed_part_is_started_again_and_goes_on_in_its_log(supervisor):
    wait_until(supervisor, RUNNING)
    first = State.load(supervisor.layout).parts[PART].pid

    assert kill(supervisor.layout, PART).detail == "signal SIGKILL"
    part = restart(supervisor.layout, PART)

    assert (part.status, part.detail) == (RUNNING, "")
    assert part.pid != first
    assert (supervisor.layout.logs / f"{PART}.log").read_text() == f"ready {first}\nready {part.pid}\n"


def test_a_part_that_runs_is_not_started_again(supervisor, capsys):
    wait_until(supervisor, RUNNING)

    assert main(["restart", PART]) == 1

    assert "expected a part that died, found it running; nothing was restarted" in capsys.readouterr().err
    assert not list(supervisor.layout.root.glob("restarts/*"))


def test_a_part_that_dies_again_is_named_with_its_log(supervisor):
    wait_until(supervisor, RUNNING)
    kill(supervisor.layout, PART)
    supervisor.commands[PART] = CRASH

    with pytest.raises(PlatformError, match=r"died \(exit status 1\)[\s\S]*no space left on device"):
        restart(supervisor.layout, PART)


def test_a_part_that_died_by_itself_stays_dead_until_somebody_asks(supervisor):
    wait_until(supervisor, RUNNING)
    supervisor.children[PART].kill()
    wait_until(supervisor, "died")
    assert [part.name for part in State.load(supervisor.layout).dead_parts()] == [PART]

    assert main(["restart", PART]) == 0

    assert State.load(supervisor.layout).dead_parts() == []


def test_an_unknown_part_is_told_with_those_there_are(supervisor):
    with pytest.raises(PlatformError, match=r"expected one of aws, .*batch-gateway.*, found gateway"):
        restart(supervisor.layout, "gateway")


def test_without_a_platform_there_is_nothing_to_restart(tmp_path):
    with pytest.raises(PlatformError, match="start it with `make up`"):
        restart(Layout(tmp_path), PART)
