"""Every process of a Spark task's life is killed, in a real Airflow, while its jobs are submitted, run and end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from include.local.batch_gateway.trial import trial_gateway
from include.local.processes import marked_processes
from include.local.trial import trial_platform
from include.platform.airflow_api import trigger_dag

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DAG, TASK = "kill_spark", "run_job"


@pytest.fixture(scope="module")
def gateway():
    with trial_gateway() as running:
        yield running


@pytest.fixture(scope="module")
def platform(tmp_path_factory, project_root, gateway):
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(project_root / "dags/platform/configure_platform.py", dags)
    shutil.copy(Path(__file__).with_name("kill_spark_dag.py"), dags / f"{DAG}.py")
    options = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    }
    with trial_platform(tmp_path_factory.mktemp("platform"), tickit="none", options=options) as trial:
        connection = {
            "connection_id": "killable_gateway",
            "conn_type": "batch_gateway",
            "host": gateway.server,
            "login": "airflow",
            "password": "not-a-secret",
            "extra": '{"settle_seconds": 10, "read_timeout_seconds": 15}',
        }
        trial.api.request("POST", "/connections", connection)
        yield trial


class Run:
    """One run of the DAG."""

    def __init__(self, platform, gateway) -> None:
        self.platform, self.gateway = platform, gateway
        self.run_id = f"kills_{time.time_ns()}"
        trigger_dag(platform.api, DAG, self.run_id)

    def tasks(self):
        path = f"/dags/{DAG}/dagRuns/{self.run_id}/taskInstances"
        return [one for one in self.platform.api.request("GET", path)["task_instances"] if one["task_id"] == TASK]

    def wait(self, what, come, seconds=180.0):
        deadline = time.monotonic() + seconds
        while not come():
            assert time.monotonic() < deadline, f"{what}: {self.tasks()} {self.gateway.applications()}"
            time.sleep(0.2)

    def workers(self):
        """The processes of the run's tasks."""
        wanted = {one["id"] for one in self.tasks()}
        found = [(one, " ".join(one.cmdline()).split()) for one in marked_processes(self.platform.state.run_id)]
        return [one for one, words in found if words[:3] == ["airflow", "worker", "--"] and words[3] in wanted]

    def kill_workers(self) -> int:
        killed = 0
        for worker in self.workers():
            os.kill(worker.pid, signal.SIGKILL)
            killed += 1
        return killed


def test_whatever_is_killed_each_task_has_one_job_and_the_right_end(platform, gateway):
    gateway.fault("submit", delay_seconds=4.0, done=True, times=3)  # accepted, and the answer on its way
    run = Run(platform, gateway)

    gateway.wait_until_asked("submit", 2, timeout=120)
    assert run.kill_workers() >= 1
    gateway.gateway.restart()

    run.wait("all deferred", lambda: [one["state"] for one in run.tasks()].count("deferred") >= 2)
    platform.kill("triggerer", descendants=True)
    gateway.gateway.kill()
    platform.restart("triggerer")
    gateway.gateway.start()

    run.wait("a job's end", lambda: any(one["state"] == "COMPLETED" for one in gateway.applications()))
    platform.kill("scheduler", descendants=True)  # its workers die with it
    gateway.operator.restart()
    platform.restart("scheduler")

    run.wait("the end", lambda: all(one["state"] in {"success", "failed"} for one in run.tasks()), seconds=300)
    assert {one["state"] for one in run.tasks()} == {"success"}
    assert len(run.tasks()) == 3
    jobs = gateway.applications()
    assert len(jobs) == len({one["name"] for one in jobs}) == 3
    assert {one["state"] for one in jobs} == {"COMPLETED"}
    assert not [one for one in jobs if one["deleted"]]
    path = f"/dags/{DAG}/dagRuns/{run.run_id}/taskInstances/{TASK}/xcomEntries/return_value"
    told = {
        platform.api.request("GET", path, params={"map_index": index})["value"]["submission_id"] for index in range(3)
    }
    assert told == {one["id"] for one in jobs}


def test_a_task_cleared_while_its_job_runs_ends_that_job_before_the_next(platform, gateway):
    gateway.reset()
    run = Run(platform, gateway)
    run.wait("all deferred", lambda: [one["state"] for one in run.tasks()].count("deferred") == 3)
    longest = next(one for one in run.tasks() if one["map_index"] == 2)
    body = {
        "dry_run": False,
        "dag_run_id": run.run_id,
        "task_ids": [[TASK, longest["map_index"]]],
        "only_failed": False,
    }
    platform.api.request("POST", f"/dags/{DAG}/clearTaskInstances", body)

    gateway.wait_accepted(4, timeout=120)
    jobs = gateway.applications()
    assert [bool(one["deleted"]) for one in jobs].count(True) == 1
    run.wait("deferred again", lambda: [one["state"] for one in run.tasks() if one["map_index"] == 2] == ["deferred"])
    for one in run.tasks():
        if one["state"] == "deferred":
            path = f"/dags/{DAG}/dagRuns/{run.run_id}/taskInstances/{TASK}/{one['map_index']}"
            platform.api.request("PATCH", path, {"new_state": "failed"})
    run.wait(
        "every job's end", lambda: all(one["deleted"] or one["state"] == "COMPLETED" for one in gateway.applications())
    )
