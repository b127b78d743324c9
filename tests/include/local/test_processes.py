from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from include.local.processes import end_all, free_port, is_alive, marked_environment, marked_processes

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
TITLED = "import setproctitle, time; setproctitle.setproctitle('airflow api_server'); print('titled', flush=True); time.sleep(60)"
PARENT_OF_A_NEW_SESSION = (
    "import subprocess, sys, time; "
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True).pid, flush=True); "
    "time.sleep(60)"
)


@pytest.fixture
def run_id():
    name = uuid.uuid4().hex
    yield name
    end_all(name, 0)


def spawn(code, run_id):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **marked_environment(run_id)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for_marker(run_id, count):
    deadline = time.monotonic() + 10
    while len(marked_processes(run_id)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(marked_processes(run_id)) == count


def test_a_process_in_a_session_of_its_own_is_ended_with_its_dead_parent(run_id):
    parent = spawn(PARENT_OF_A_NEW_SESSION, run_id)
    grandchild = int(parent.stdout.readline())
    created = psutil.Process(grandchild).create_time()
    wait_for_marker(run_id, 2)
    parent.kill()
    parent.wait()
    end_all(run_id, 2)
    assert not is_alive(grandchild, created)


def test_a_process_that_sets_its_title_as_airflow_does_is_still_found(run_id):
    process = spawn(TITLED, run_id)
    assert process.stdout.readline() == b"titled\n"
    assert [found.pid for found in marked_processes(run_id)] == [process.pid]
    created = psutil.Process(process.pid).create_time()
    end_all(run_id, 2)
    assert not is_alive(process.pid, created)


def test_a_process_that_ignores_sigterm_is_killed(run_id):
    process = spawn(STUBBORN, run_id)
    assert process.stdout.readline() == b"deaf\n"
    created = psutil.Process(process.pid).create_time()
    end_all(run_id, 0.5)
    assert not is_alive(process.pid, created)


def test_processes_of_another_platform_are_left_alone(run_id):
    other = spawn("import time; time.sleep(60)", "other-" + run_id)
    try:
        end_all(run_id, 0)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_pid_that_was_given_to_a_later_process_does_not_count_as_alive():
    own = psutil.Process()
    assert is_alive(own.pid, own.create_time())
    assert not is_alive(own.pid, own.create_time() - 3600)


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken
    assert free_port(taken, taken=[taken]) != taken
