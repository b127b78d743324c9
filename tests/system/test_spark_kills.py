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
from include.platform.airflow_api import trigger_dag

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DAG, TASK, JOBS = "kill_spark", "run_job", 3
"""As in kill_spark_dag.py."""


@pytest.fixture(scope="module")
def gateway():
    with trial_gateway() as running:
        yield running


@pytest.fixture(scope="module")
def killable(platform, dags_folder, gateway):
    """The folder's own, with the DAG of these tests and a connection to their gateway."""
    shutil.copy(Path(__file__).with_name("kill_spark_dag.py"), dags_folder / f"{DAG}.py")
    connection = {
        "connection_id": "killable_gateway",
        "conn_type": "batch_gateway",
        "host": gateway.server,
        "login": "airflow",
        "password": "not-a-secret",
        "extra": '{"settle_seconds": 10}',
    }
    platform.api.request("POST", "/connections", connection)
    deadline = time.monotonic() + 180
    while not platform.api.request("GET", "/dags", params={"dag_id_pattern": DAG})["dags"]:
        assert time.monotonic() < deadline, f"{DAG} was not read: {platform.api.request('GET', '/importErrors')}"
        time.sleep(0.5)
    return platform


class Run:
    """One run of the DAG."""

    def __init__(self, platform, gateway) -> None:
        self.platform, self.gateway = platform, gateway
        self.run_id = f"kills_{time.time_ns()}"
        trigger_dag(platform.api, DAG, self.run_id)

    def tasks(self):
        path = f"/dags/{DAG}/dagRuns/{self.run_id}/taskInstances"
        return [one for one in self.platform.api.request("GET", path)["task_instances"] if one["task_id"] == TASK]

    def states(self):
        return [one["state"] for one in self.tasks()]

    def watched(self):
        """Whether a triggerer has each task's job: it can't end one that it has not come to yet."""
        logs = (
            self.platform.layout.airflow_home / "logs" / f"dag_id={DAG}" / f"run_id={self.run_id}" / f"task_id={TASK}"
        )
        names = [f"map_index={one['map_index']}/attempt={one['try_number']}.log.trigger*" for one in self.tasks()]
        return self.states() == ["deferred"] * JOBS and all(any(logs.glob(name)) for name in names)

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


def test_whatever_is_killed_each_task_has_one_job_and_the_right_end(killable, gateway):
    gateway.fault("submit", delay_seconds=3600, done=True, times=3)  # accepted, and the answer comes after all kills
    run = Run(killable, gateway)

    gateway.wait_accepted(2, timeout=120)
    assert run.kill_workers() >= 1
    gateway.gateway.restart()  # no answer is held back any more

    run.wait("all deferred", lambda: run.states() == ["deferred"] * JOBS)
    killable.kill("triggerer", descendants=True)
    gateway.gateway.kill()
    killable.restart("triggerer")
    gateway.gateway.start()

    first, *others = gateway.applications()
    gateway.set_state(first["id"], "COMPLETED")
    killable.kill("scheduler", descendants=True)  # its workers die with it
    gateway.operator.restart()
    killable.restart("scheduler")
    for one in others:
        gateway.set_state(one["id"], "COMPLETED")

    run.wait("the end", lambda: set(run.states()) <= {"success", "failed"}, seconds=300)
    assert run.states() == ["success"] * JOBS
    jobs = gateway.applications()
    assert len(jobs) == len({one["name"] for one in jobs}) == JOBS
    assert {one["state"] for one in jobs} == {"COMPLETED"}
    assert not [one for one in jobs if one["deleted"]]
    path = f"/dags/{DAG}/dagRuns/{run.run_id}/taskInstances/{TASK}/xcomEntries/return_value"
    told = {
        killable.api.request("GET", path, params={"map_index": index})["value"]["submission_id"]
        for index in range(JOBS)
    }
    assert told == {one["id"] for one in jobs}


def test_a_task_cleared_while_its_job_runs_ends_that_job_before_the_next(killable, gateway):
    gateway.reset()
    run = Run(killable, gateway)
    run.wait("all deferred", lambda: run.states() == ["deferred"] * JOBS)
    cleared = JOBS - 1
    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": [[TASK, cleared]], "only_failed": False}
    killable.api.request("POST", f"/dags/{DAG}/clearTaskInstances", body)

    gateway.wait_accepted(JOBS + 1, timeout=120)

    assert [bool(one["deleted"]) for one in gateway.applications()].count(True) == 1
    run.wait("all watched", run.watched)
    for index in range(JOBS):
        path = f"/dags/{DAG}/dagRuns/{run.run_id}/taskInstances/{TASK}/{index}"
        killable.api.request("PATCH", path, {"new_state": "failed"})
    run.wait("every job's end", lambda: all(one["deleted"] for one in gateway.applications()))
    assert len(gateway.applications()) == JOBS + 1
