"""The engine as a process: what is asked, what is believed of its answer, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.ingestion.processing import (
    DISK_FULL_CODE,
    DiskFull,
    EngineError,
    EngineFailed,
    EngineInterrupted,
    EngineMissing,
    EngineTooSlow,
    InputObject,
    OcsfProcessor,
    ProcessRequest,
    ResultInvalid,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE = """
import json, os, pathlib, signal, subprocess, sys, time
request = json.loads(pathlib.Path(sys.argv[-1]).read_text())
out = pathlib.Path(request["out"])
(out / "a.parquet").write_bytes(b"parquet")
(out / "d.jsonl.gz").write_bytes(b"letters")
result = {
    "read": 5, "written": 3, "set_aside": 2, "reasons": {"not_json": 2}, "classes": {"network_activity": 3},
    "bytes_read": 100, "seconds": 0.5, "mapping_digest": "abc",
    "outputs": [{"path": str(out / "a.parquet"), "class": "network_activity", "region": "eu-west-1", "account_id": "external",
                 "event_day": "20240203", "part": 0, "rows": 3, "bytes": 7, "time_min": 1, "time_max": 2}],
    "dead_letters": [{"path": str(out / "d.jsonl.gz"), "records": 2}],
    "objects": [{"key": o["key"], "version_id": o["version_id"], "read": 5, "written": 3, "set_aside": 2} for o in request["objects"]],
}
"""
WRITE = '\n(out / "result.json").write_text(json.dumps(result))\n'


@pytest.fixture
def request_(tmp_path) -> ProcessRequest:
    item = InputObject(tmp_path / "object", "bucket", "key ü", "v1", "etag", 10)
    return ProcessRequest("firewall", "batch-1", [item], tmp_path / "out", mapping_digest="abc")


@pytest.fixture
def engine(tmp_path) -> Callable[..., OcsfProcessor]:
    def write(program: str, **options: Any) -> OcsfProcessor:
        script = tmp_path / "engine.py"
        script.write_text(ENGINE + program)
        return OcsfProcessor(python=Path(sys.executable), command=(str(script),), **options)

    return write


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_the_engine_gets_the_request_and_its_result_is_read(request_, engine):
    result = engine('(out / "seen.json").write_text(json.dumps([request, os.getcwd(), dict(os.environ)]))' + WRITE).run(
        request_
    )

    assert (result.read, result.written, result.set_aside, result.dead_letter_share) == (5, 3, 2, 0.4)
    assert result.outputs[0].class_name == "network_activity"
    seen, folder, environment = json.loads((request_.out / "seen.json").read_text())
    assert seen == {
        "source": "firewall",
        "batch": "batch-1",
        "objects": [
            {
                "path": str(request_.objects[0].path),
                "bucket": "bucket",
                "key": "key ü",
                "version_id": "v1",
                "etag": "etag",
                "size": 10,
            }
        ],
        "out": str(request_.out),
        "threads": 1,
        "mapping_digest": "abc",
    }
    assert (Path(folder) / "include" / "ingestion" / "processing.py").is_file()
    assert environment["PYTHONPATH"] == folder


def test_the_engine_gets_no_secrets_of_the_task(request_, engine, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")

    engine('(out / "seen.json").write_text(json.dumps(dict(os.environ)))' + WRITE).run(request_)

    assert "secret" not in (request_.out / "seen.json").read_text()


def test_what_the_engine_says_is_logged_line_by_line(request_, engine, caplog):
    caplog.set_level(logging.INFO)

    engine('print("one", file=sys.stderr); print("two")' + WRITE).run(request_)

    assert {"one", "two"} <= set(caplog.messages)


def test_a_result_of_an_earlier_try_is_not_believed(request_, engine):
    engine(WRITE).run(request_)

    with pytest.raises(ResultInvalid, match=r"result\.json"):
        engine("").run(request_)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('result["written"] = 4', "read is 5, written + set_aside is 6"),
        ('result["reasons"] = {}', "the sum of reasons is 0"),
        ('result["classes"] = {}', "the sum of classes is 0"),
        ('result["dead_letters"] = []', "the records of dead_letters is 0"),
        ('result["outputs"] = []', "the rows of outputs is 0"),
        ('result["outputs"][0]["bytes"] = 8', "has 7 bytes, not 8"),
        ('result["outputs"][0]["path"] = "/etc/hostname"', "is not in"),
        ('result["outputs"][0]["path"] = str(out / "none")', "is not there"),
        ('result["dead_letters"][0]["path"] = result["outputs"][0]["path"]', "told twice"),
        ('result["objects"][0]["read"] = 4', "read of key ü is 4"),
        ('result["objects"][0]["version_id"] = "v2"', "or of others"),
        ('result["objects"] = []', "1 objects were asked for"),
        ('result["mapping_digest"] = "other"', "mapping_digest is other"),
        ('result["read"] = -1', "read: "),
        ('result["outputs"][0]["event_day"] = "2024"', "outputs.0.event_day"),
        ("result = []", "expected result.json as the engine writes it"),
    ],
)
def test_a_result_that_does_not_add_up_is_refused(request_, engine, change, told):
    with pytest.raises(ResultInvalid) as raised:
        engine(change + WRITE).run(request_)

    assert told in str(raised.value)


def test_an_engine_that_fails_is_told_with_its_last_words(request_, engine):
    with pytest.raises(EngineFailed, match="exit code 3: mapping has no class") as raised:
        engine('for word in ("before", "mapping has no class"): print(word, file=sys.stderr)\nsys.exit(3)').run(
            request_
        )

    assert "before" in str(raised.value)


@pytest.mark.parametrize(
    "program",
    [
        f"sys.exit({DISK_FULL_CODE})",
        'raise OSError(28, "No space left on device")',
        'print("IO Error: Could not write file: No space left on device\\nbye"); sys.exit(1)',
    ],
)
def test_a_full_disk_is_told_plainly(request_, engine, program):
    with pytest.raises(DiskFull, match="free some space"):
        engine(program).run(request_)


def test_a_package_that_is_missing_is_told_plainly(request_, engine):
    with pytest.raises(EngineMissing, match="no_such_package"):
        engine("import no_such_package").run(request_)


def test_an_environment_that_is_missing_is_told_plainly(request_, tmp_path):
    with pytest.raises(EngineMissing, match="warehouse_venv"):
        OcsfProcessor(python=tmp_path / "python").run(request_)


def test_an_engine_that_is_killed_is_told(request_, engine):
    with pytest.raises(EngineInterrupted, match=r"SIGKILL.*no memory"):
        engine("os.kill(os.getpid(), signal.SIGKILL)").run(request_)


SPAWN = """
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(300)"])
(out / "pids").write_text(f"{os.getpid()} {child.pid}")
os.rename(out / "pids", out / "pids.done")
time.sleep(300)
"""


def pids(request: ProcessRequest) -> list[int]:
    deadline = time.monotonic() + 20
    while not (request.out / "pids.done").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(pid) for pid in (request.out / "pids.done").read_text().split()]


def test_an_engine_that_takes_too_long_is_stopped_with_all_it_started(request_, engine):
    with pytest.raises(EngineTooSlow, match="within 2 s"):
        engine(SPAWN, timeout_seconds=2).run(request_)

    assert all(gone(pid) for pid in pids(request_))


def test_an_engine_is_stopped_with_all_it_started_when_its_task_is(request_, engine):
    processor = engine(SPAWN)
    raised: list[EngineError] = []

    def run() -> None:
        try:
            processor.run(request_)
        except EngineError as error:
            raised.append(error)

    task = threading.Thread(target=run)
    task.start()
    found = pids(request_)
    assert all(alive(pid) for pid in found)
    processor.terminate()
    task.join(20)

    assert all(gone(pid) for pid in found)
    assert isinstance(raised[0], EngineInterrupted)


def test_an_engine_is_stopped_when_its_task_times_out(request_, engine):
    class TimedOutError(BaseException):
        pass

    def expire(*_: object) -> None:
        raise TimedOutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(TimedOutError):
            engine(SPAWN).run(request_)
    finally:
        signal.signal(signal.SIGALRM, before)

    assert all(gone(pid) for pid in pids(request_))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no death signal")
def test_an_engine_dies_with_a_task_that_is_killed(request_, engine, tmp_path):
    engine(SPAWN)
    program = (
        "import pathlib, sys\n"
        "from include.ingestion.processing import OcsfProcessor, ProcessRequest\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "processor = OcsfProcessor(python=pathlib.Path(sys.executable), command=(str(folder / 'engine.py'),))\n"
        "processor.run(ProcessRequest('firewall', 'batch-1', [], folder / 'out'))\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{root}:{root / 'plugins'}"}
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment) as task:
        engine_pid, its_child = pids(request_)
        task.kill()
    try:
        assert gone(engine_pid)
    finally:
        os.kill(its_child, signal.SIGKILL)
