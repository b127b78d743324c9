"""The commands behind `make up`, `make status` and `make down`, without starting a platform: tests/system starts one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from include.local.__main__ import main
from include.local.environment import USERS, load_secrets
from include.local.layout import Layout
from include.local.processes import end_all, marked_environment, marked_processes
from include.local.supervisor import FAILED, RUNNING, STARTING, STOPPED, Part, State
from include.platform.paths import PROJECT_ROOT

PORTS = {"aws": 4566, "zero-etl": 4567, "catalog": 4568, "batch-gateway": 4569, "saas": 4570, "api-server": 8080}
NO_PID = 2**22 + 1
"""Above the highest process id of Linux."""


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    monkeypatch.setenv("DATA_PLATFORM_LOCAL_DIR", str(tmp_path))
    monkeypatch.delenv("NO_LOGIN", raising=False)
    return Layout()


@pytest.fixture
def running(layout) -> State:
    """A platform whose supervisor is this process."""
    me = psutil.Process()
    state = State("run", me.pid, me.create_time(), phase=RUNNING, ports=dict(PORTS))
    for name in ("aws", "scheduler", "api-server"):
        state.parts[name] = Part(name, RUNNING, pid=me.pid, port=PORTS.get(name), log=str(layout.logs / f"{name}.log"))
    state.parts["migrate"] = Part("migrate", "done")
    state.save(layout)
    return state


@pytest.fixture
def scheduler_died(layout, running) -> State:
    part = running.parts["scheduler"]
    part.status, part.pid, part.detail = "died", None, "exit status 7"
    layout.logs.mkdir()
    (layout.logs / "scheduler.log").write_text(
        "".join(f"line {number}\n" for number in range(50)) + "no space left on device\n"
    )
    running.save(layout)
    return running


def files(layout):
    return {str(path.relative_to(layout.root)) for path in layout.root.rglob("*")}


def test_up_on_a_running_platform_says_so_shows_the_logins_and_starts_nothing(layout, running, capsys):
    load_secrets(layout)
    before = files(layout), layout.state_file.read_bytes()

    for _ in range(2):
        assert main(["up"]) == 0
        told = capsys.readouterr().out
        assert told.startswith("Already running.\n")
        assert "http://127.0.0.1:8080" in told
        for user in USERS:
            assert f"{user:9} {load_secrets(layout)['passwords'][user]}" in told
    assert (files(layout), layout.state_file.read_bytes()) == before


def test_up_names_the_ports_that_differ_from_the_usual(layout, running, capsys):
    running.ports["aws"] = 50001
    running.save(layout)

    assert main(["up"]) == 0

    assert "aws is on 50001 (4566 was taken)" in capsys.readouterr().out


def test_up_shows_no_password_where_none_is_asked_for(layout, running, capsys):
    passwords = load_secrets(layout)["passwords"]
    running.no_login = True
    running.save(layout)

    assert main(["up"]) == 0

    told = capsys.readouterr().out
    assert "NO_LOGIN=1" in told
    assert not [user for user, password in passwords.items() if password in told]


def test_up_refuses_to_go_on_where_a_part_died_and_names_it(layout, scheduler_died, capsys):
    assert main(["up"]) == 1

    told = capsys.readouterr()
    assert told.err.startswith("scheduler died (exit status 7)")
    assert "no space left on device" in told.err
    assert "make down" in told.err
    assert "Already running" not in told.out


def test_status_of_a_running_platform_lists_its_parts_and_where_the_ui_is(layout, running, capsys):
    assert main(["status"]) == 0

    told = capsys.readouterr().out
    words = [line.split() for line in told.splitlines()]
    assert ["aws", "running", "pid", str(os.getpid()), "port", "4566"] in words
    assert ["scheduler", "running", "pid", str(os.getpid())] in words
    assert ["UI", "http://127.0.0.1:8080"] in words
    assert "migrate" not in told  # it has done its work


def test_status_names_a_part_that_died_with_the_last_lines_of_its_log(layout, scheduler_died, capsys):
    assert main(["status"]) == 1

    told = capsys.readouterr().out
    assert f"scheduler died (exit status 7); the last lines of {layout.logs / 'scheduler.log'}:" in told
    assert told.rstrip().endswith("no space left on device")
    assert "line 49" in told
    assert "line 30" not in told


@pytest.mark.parametrize("left", ["nothing", "a stopped platform"])
def test_status_where_nothing_runs_says_how_to_start(layout, left, capsys):
    if left == "a stopped platform":
        State("run", NO_PID, phase=STOPPED, ports=dict(PORTS)).save(layout)

    assert main(["status"]) == 3

    assert capsys.readouterr().out == "Not running. Start with `make up`.\n"


def test_status_tells_why_the_last_start_failed(layout, capsys):
    State("run", NO_PID, phase=FAILED, ports=dict(PORTS), message="scheduler died (exit status 7)").save(layout)

    assert main(["status"]) == 3

    assert "The last start failed. scheduler died (exit status 7)" in capsys.readouterr().out


@pytest.mark.parametrize("left", ["nothing", "a stopped platform"])
def test_down_where_nothing_runs_is_harmless(layout, left, capsys):
    if left == "a stopped platform":
        State("run", NO_PID, phase=STOPPED, ports=dict(PORTS)).save(layout)

    assert main(["down"]) == 0

    assert capsys.readouterr().out == "Nothing was running.\n"


def test_an_unknown_part_of_the_demo_is_refused_before_anything_starts(layout, capsys):
    assert main(["demo", "--only", "finances"]) == 1

    told = capsys.readouterr()
    assert "finances" in told.err
    assert "finance" in told.err.replace("finances", "")  # the one that was meant
    assert State.load(layout) is None


# A supervisor that does nothing, and a slow look for ports, in which a second command would find no platform yet.
LAUNCH = """
import sys, time
from include.local import supervisor
from include.local.layout import Layout

free_port = supervisor.free_port
def slow(*arguments):
    time.sleep(0.2)
    return free_port(*arguments)
supervisor.free_port, sys.executable = slow, sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
print(supervisor.launch(Layout(), tickit="none", no_login=False).run_id)
"""


def test_of_two_starts_at_the_same_moment_one_starts_and_the_other_finds_it(layout, tmp_path):
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\nexec sleep 60\n")
    idle.chmod(0o755)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(idle)],
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told: list[tuple[str, str]] = []
    try:
        for process in both:
            assert process.stdout.readline() == "ready\n"
        for process in both:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=30) for process in both]
        assert sorted(process.returncode for process in both) == [0, 1]
        [started] = [out.strip() for out, _ in told if out.strip()]
        [refused] = [err for _, err in told if "PlatformError" in err]
        state = State.load(layout)
        assert state.run_id == started
        assert state.phase == STARTING
        assert state.alive
        assert f"already up (supervisor {state.supervisor_pid})" in refused
    finally:
        for process in both:
            process.kill()
            process.wait()
        for out, _ in told:
            if out.strip():
                end_all(out.strip(), 0)


def test_serve_ends_with_its_stand_ins_when_it_is_told_to(tmp_path):
    """As `docker stop` tells it; here on free ports."""
    code = (
        "from include.local import __main__ as command\n"
        "command.DEFAULT_PORTS = {'aws': 0, 'zero-etl': 0, 'catalog': 0, 'batch-gateway': 0, 'saas': 0}\n"
        "raise SystemExit(command.main(['serve', '--tickit', 'none', '--saas-items', '0']))\n"
    )
    run_id = f"serve-{tmp_path.name}"
    path = os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")])
    environ = {**os.environ, "DATA_PLATFORM_LOCAL_DIR": str(tmp_path), "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=PROJECT_ROOT,
        env=environ | marked_environment(run_id),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready = 0
        while ready < 5:
            line = process.stdout.readline()
            assert line, "serve ended before its stand-ins were ready"
            ready += "ready on" in line

        process.terminate()

        assert process.wait(timeout=30) == 0
        assert marked_processes(run_id) == []
    finally:
        end_all(run_id, 0)
        process.communicate()


def test_serve_says_which_stand_in_ended(layout, monkeypatch, capsys):
    monkeypatch.setattr(
        "include.local.__main__.stand_ins",
        lambda *_: {
            "aws": [sys.executable, "-c", "import time; time.sleep(60)"],
            "zero-etl": [sys.executable, "-c", "raise SystemExit(3)"],
        },
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["serve"]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "zero-etl ended with exit status 3; stopping\n"


def test_down_ends_the_supervisor_and_says_so(layout, capsys):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        State("run", process.pid, psutil.Process(process.pid).create_time(), phase=RUNNING, ports=dict(PORTS)).save(
            layout
        )

        assert main(["down"]) == 0

        assert capsys.readouterr().out == "Stopped.\n"
        assert process.wait(timeout=60) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
