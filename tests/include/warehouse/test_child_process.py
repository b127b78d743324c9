"""A process that its task owns: what it reads and writes, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from include.warehouse import child_process
from include.warehouse.child_process import ChildProcess

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def started(program: str, stdin: bytes | None = None) -> ChildProcess:
    process = ChildProcess()
    process.start([sys.executable, "-c", program], environment=ENVIRONMENT, stdin=stdin)
    return process


def alive(pid: int) -> bool:
    """Whether any of its threads is: a killed process counts as ended when its first thread is, and others may still hold its files."""
    try:
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # one has just ended
        return alive(pid)
    return any(state not in "ZX" for state in states)


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_it_reads_all_of_its_input_and_both_streams_are_read():
    program = "import sys; sys.stderr.write('told\\n'); sys.stderr.flush(); print(len(sys.stdin.buffer.read()))"

    process = started(program, b"x" * 1_000_000)

    assert list(process.lines()) == ["told\n", "1000000\n"]
    assert process.wait() == 0


def test_without_input_there_is_nothing_to_read():
    process = started("import sys; print(repr(sys.stdin.read()))")

    assert list(process.lines()) == ["''\n"]


def test_it_may_end_before_it_has_read_its_input():
    process = started("import os; os.close(0); print('no'); raise SystemExit(3)", b"x" * 1_000_000)

    assert list(process.lines()) == ["no\n"]
    assert process.wait() == 3


def test_it_inherits_nothing_of_the_tasks_environment(monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_WORKER", "1")

    process = started("import os; print('A_SECRET_OF_THE_WORKER' in os.environ)")

    assert list(process.lines()) == ["False\n"]


def test_a_line_without_end_is_cut_and_the_next_is_whole(monkeypatch):
    monkeypatch.setattr(child_process, "MAX_LINE_CHARACTERS", 10)

    process = started("print('x' * 95); print('next')")

    assert list(process.lines()) == ["x" * 10, "next\n"]


def test_a_process_that_ignores_the_interrupt_is_killed(monkeypatch):
    monkeypatch.setattr(child_process, "INTERRUPT_SECONDS", 0.2)
    process = started(
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); time.sleep(300)"
    )
    lines = process.lines()
    assert next(lines) == "ready\n"

    process.terminate()

    assert list(lines) == []
    assert process.wait() == -signal.SIGKILL


def test_a_process_may_end_by_itself_when_interrupted():
    process = started(
        "import signal, time, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); print('ready', flush=True); time.sleep(300)"
    )
    lines = process.lines()
    assert next(lines) == "ready\n"

    process.terminate()

    assert process.wait() == 7


def test_to_terminate_what_never_started_or_has_ended_does_nothing():
    ChildProcess().terminate()
    process = started("pass")
    process.wait()
    process.terminate()

    with pytest.raises(RuntimeError, match="call start first"):
        ChildProcess().wait()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no death signal")
def test_it_dies_with_a_parent_that_is_killed():
    program = (
        "import sys\n"
        "from include.warehouse.child_process import ChildProcess\n"
        "child = ChildProcess()\n"
        "child.start([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(300)'], environment={})\n"
        "for line in child.lines(): print(line, end='', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[3]
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()

    assert gone(child)
