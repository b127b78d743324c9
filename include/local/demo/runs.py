"""Start DAG runs, follow them live, keep what they took."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.local.supervisor import State, describe_death
from include.platform.airflow_api import trigger_dag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from include.local.layout import Layout
    from include.platform.airflow_api import AirflowApi

POLL_SECONDS = 0.5
DONE = {"success", "failed"}
SUCCESS = frozenset({"success"})


class DemoError(RuntimeError):
    """Something the demo promises did not hold."""


@dataclass(frozen=True)
class Run:
    """A finished DAG run."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    seconds: float


def seconds_between(start: str | None, end: str | None) -> float:
    """Seconds between two ISO times of the API; 0 where one is missing."""
    if not start or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


@dataclass
class Runs:
    """The DAG runs of one demo."""

    layout: Layout
    api: AirflowApi
    finished: list[Run] = field(default_factory=list)

    def run(self, dag_id: str, conf: dict[str, Any] | None = None, timeout: float = 300) -> Run:
        """Trigger ``dag_id`` by hand and follow it to success.

        Raises:
            DemoError: the run failed or took longer than ``timeout`` seconds.
        """
        run_id = f"demo__{uuid.uuid4().hex[:8]}"
        trigger_dag(self.api, dag_id, run_id, conf)
        return self.follow(dag_id, run_id, timeout)

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the platform's parts."""
        state = State.load(self.layout)
        return state.ports if state else {}

    def task_state(self, dag_id: str, run_id: str, task_id: str) -> str | None:
        """State of a task in a run."""
        state: str | None = self.api.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["state"]
        return state

    def known(self, dag_id: str) -> set[str]:
        """Ids of the runs that ``dag_id`` has by now."""
        return set(self.states(dag_id))

    def states(self, dag_id: str) -> dict[str, str]:
        """State by run id."""
        return {run["dag_run_id"]: run["state"] for run in self.newest(dag_id)}

    def next_run(self, dag_id: str, known: set[str], timeout: float = 120, *, wanted: Collection[str] = SUCCESS) -> Run:
        """Wait for a run of ``dag_id`` that is not ``known`` (an asset event starts it) and follow it to a ``wanted`` state."""
        found: list[str] = []

        def appeared() -> bool:
            found[:] = [run["dag_run_id"] for run in self.newest(dag_id) if run["dag_run_id"] not in known]
            return bool(found)

        self.wait_until(f"a new run of {dag_id}", appeared, timeout)
        return self.follow(dag_id, found[-1], timeout, wanted=wanted)

    def follow(self, dag_id: str, run_id: str, timeout: float = 300, *, wanted: Collection[str] = SUCCESS) -> Run:
        """Print each task as it ends, until the run ends.

        Raises:
            DemoError: the run ended in a state that is not ``wanted``, or took longer than ``timeout`` seconds.
        """
        print(f"  {dag_id}  {run_id}", flush=True)
        shown: set[tuple[str, int]] = set()

        def ended() -> bool:
            path = f"/dags/{dag_id}/dagRuns/{run_id}"
            over = self.api.request("GET", path)["state"] in DONE
            for task in self.api.request("GET", f"{path}/taskInstances")["task_instances"]:
                key = (task["task_id"], task["map_index"])
                if task["state"] in {"success", "failed", "skipped", "upstream_failed"} and key not in shown:
                    shown.add(key)
                    taken = seconds_between(task["start_date"], task["end_date"])
                    print(f"    {task['state']:9} {task['task_id']:28} {taken:6.1f} s", flush=True)
            return over

        self.wait_until(f"{dag_id} {run_id}", ended, timeout)
        raw = self.api.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        run = Run(dag_id, run_id, raw["run_type"], raw["state"], seconds_between(raw["start_date"], raw["end_date"]))
        self.finished.append(run)
        if run.state not in wanted:
            raise DemoError(
                f"{dag_id} {run_id} ended {run.state}; its task logs are below {self.layout.airflow_home / 'logs'}"
            )
        return run

    def newest(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest 50 runs of ``dag_id``, the newest first, as Airflow's API tells them."""
        answer = self.api.request("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 50})
        listed: list[dict[str, Any]] = answer["dag_runs"]
        return listed

    def wait_until(self, what: str, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until ``ready``, and see that no part of the platform dies meanwhile.

        Raises:
            DemoError: ``what`` was not there after ``timeout`` seconds, or a part died.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            current = State.load(self.layout)
            if current and current.dead_parts():
                raise DemoError("\n".join(describe_death(part) for part in current.dead_parts()))
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not there after {timeout:.0f} s; see the UI or {self.layout.logs}")
            time.sleep(POLL_SECONDS)
