"""The part of `migration-losses` that runs through Airflow: ``python -m bench.migration_airflow``.

A platform of its own, with 10,000 items of each tenant. Its tenants move there and back by the DAG, under load over HTTP; in each run
some processes of tasks are killed by SIGKILL at a moment that the run's seed gives. A person approves; the users who have not come over
are imported, and a person agrees to the deletion. Afterwards each acknowledged write is looked for. The figures go into the result of
`bench.migration_losses`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench._result import percentile
from bench.migration_losses import AIRFLOW, FIRST_SEED
from bench.moving.groups import at_once
from bench.moving.saas import CONFIG, away_from
from include.local.demo.questions import answer
from include.local.processes import marked_processes
from include.local.saas.client import HttpApi
from include.local.saas.clients import clients_at
from include.local.saas.judge import judge_tables
from include.local.saas.load import Load
from include.local.saas.logins import LOGINS, login_of
from include.local.trial import trial_platform
from include.platform.airflow_api import trigger_dag
from include.tenants.identity import identities_due
from include.tenants.operators import migration_id
from include.tenants.portability import Portability
from include.tenants.questions import APPROVE
from include.tenants.states import State

if TYPE_CHECKING:
    import psutil

    from include.local.trial import Trial

RUNS: Final = int(os.environ.get("MIGRATION_AIRFLOW_RUNS", "10"))
ITEMS: Final = int(os.environ.get("MIGRATION_AIRFLOW_ITEMS", "10000"))
TENANTS: Final = ("acme", "acme-2", "globex", "acme-2-1")
LANES: Final = 2
"""Tenants that move at the same time."""
KILLS: Final = 2
"""Of each run."""
VICTIMS: Final = (
    "preflight",
    "provision_target",
    "port_identity",
    "arm_streams",
    "copy_items",
    "copy_items",
    "finish_copy",
    "replicate_forward",
    "verify",
    "record_approval",
    "cut_over",
    "cut_over",
    "replicate_reverse",
    "complete",
    "archive",
)
"""Tasks to kill, by how much they have to lose."""
OPTIONS: Final = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",  # so long a killed worker's task is waited for
}
DAG: Final = "migrate_tenant"
FINISH: Final = "finish_tenant_identity"
CLEAN_UP: Final = "clean_up_tenant_source"
WHY: Final = "A benchmark moves it there and back"
_RUN_SECONDS: Final = 1200.0
_LOOK_SECONDS: Final = 0.5


@dataclass
class Ran:
    """One run of the DAG and what came of it."""

    seed: int
    tenant_id: str
    target_tier: str
    seconds: float = 0.0
    outcome: str = ""
    items: int = 0
    fences: list[float] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)


class Killer(threading.Thread):
    """Kills one try of each victim of a run, some moment after it has begun, until it is told to stop."""

    def __init__(self, trial: Trial, run_id: str, seed: int) -> None:
        super().__init__(name=f"killer of {run_id}", daemon=True)
        self._trial, self._run_id = trial, run_id
        self._chance = random.Random(seed)
        self._victims = self._chance.sample(VICTIMS, KILLS)
        self._stopping = threading.Event()
        self.killed: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self._victims and not self._stopping.wait(_LOOK_SECONDS):
                for task_id, worker in self._workers():
                    if task_id in self._victims:
                        self._victims.remove(task_id)
                        if self._stopping.wait(self._chance.uniform(0, 1.5)) or not worker.is_running():
                            continue
                        os.kill(worker.pid, signal.SIGKILL)
                        self.killed.append(task_id)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """End it.

        Raises:
            BaseException: what went wrong in it.
        """
        self._stopping.set()
        self.join()
        if self.error:
            raise self.error

    def _workers(self) -> list[tuple[str, psutil.Process]]:
        """The processes of the run's tasks that run now, with the tasks' names."""
        path = f"/dags/{DAG}/dagRuns/{self._run_id}/taskInstances"
        listed = self._trial.api.request("GET", path, params={"limit": 100})["task_instances"]
        running = {one["id"]: one["task_id"] for one in listed if one["state"] == "running"}
        found = []
        for process in marked_processes(self._trial.state.run_id) if running else []:
            words = " ".join(process.cmdline()).split()
            if words[:3] == ["airflow", "worker", "--"] and words[3] in running:
                found.append((running[words[3]], process))
        return found


def move(trial: Trial, p: Portability, api: HttpApi, seed: int, tenant_id: str) -> Ran:
    """Move a tenant to where it is not by the DAG, with kills; then clean up behind it. Its user signs in before that ends."""
    target, began = away_from(p, tenant_id), time.monotonic()
    run_id = f"bench_{seed}_{time.time_ns()}"
    ran = Ran(seed, tenant_id, target.value)
    conf = {"tenant_id": tenant_id, "target_tier": target.value, "why": WHY, "soak_minutes": 0}
    trigger_dag(trial.api, DAG, run_id, conf)
    killer = Killer(trial, run_id, seed)
    killer.start()
    try:
        answer(trial.api, DAG, run_id, "approve_cutover", APPROVE, WHY, timeout=_RUN_SECONDS)
        trial.runs.follow(DAG, run_id, timeout=_RUN_SECONDS)
    finally:
        killer.stop()
    ran.seconds = time.monotonic() - began
    api.sign_in(tenant_id)  # with the old password; after the deadline a new one would be asked for
    if identities_due(p, tenant_id):  # nobody waits for that deadline
        trigger_dag(trial.api, FINISH, f"{run_id}_finish", {"tenant_id": tenant_id})
        trial.runs.follow(FINISH, f"{run_id}_finish", timeout=_RUN_SECONDS)
    clean_id = f"{run_id}_clean"
    trigger_dag(trial.api, CLEAN_UP, clean_id, {"tenant_id": tenant_id})
    answer(trial.api, CLEAN_UP, clean_id, "approve_deletion", APPROVE, WHY, timeout=_RUN_SECONDS)
    trial.runs.follow(CLEAN_UP, clean_id, timeout=_RUN_SECONDS)
    migration = p.store.load(migration_id(tenant_id, run_id))
    cutovers = migration.notes["cutovers"]
    ran.outcome, ran.killed = str(migration.outcome), killer.killed
    ran.items, ran.fences = cutovers[-1]["items"], [each["seconds"] for each in cutovers]
    print(ran, flush=True)
    return ran


def run_lane(trial: Trial, api: HttpApi, seeds: list[int], tenants: list[str], done: list[Ran]) -> None:
    """Move tenants one after the other."""
    p = Portability(clients_at(f"http://127.0.0.1:{trial.state.ports['aws']}"), CONFIG)
    for number, seed in enumerate(seeds):
        done.append(move(trial, p, api, seed, tenants[number % len(tenants)]))


def main() -> None:
    began = time.monotonic()
    seeds, done = list(range(FIRST_SEED, FIRST_SEED + RUNS)), list[Ran]()
    with tempfile.TemporaryDirectory(prefix="migration-airflow-") as folder:
        home = Path(folder)
        journal = home / "journal.jsonl"
        with trial_platform(home / "platform", tickit="none", options=OPTIONS, saas_items=ITEMS) as trial:
            clients = clients_at(f"http://127.0.0.1:{trial.state.ports['aws']}")
            logins = {tenant: login_of(trial.layout.aws / LOGINS, tenant) for tenant in TENANTS}
            api = HttpApi(f"http://127.0.0.1:{trial.state.ports['saas']}", clients, logins)
            with Load([api], TENANTS, journal=journal, seed=FIRST_SEED, writers=2, readers=1, pause=0.5) as load:
                at_once(
                    partial(run_lane, trial, api, seeds[lane::LANES], list(TENANTS[lane::LANES]), done)
                    for lane in range(LANES)
                )
            verdict = judge_tables(journal, clients)
            figures = [load.figures(tenant) for tenant in TENANTS]
    told: dict[str, Any] = {
        "runs": len(done),
        "runs_with_kills": sum(bool(each.killed) for each in done),
        "kills": dict(Counter(task for each in done for task in each.killed)),
        "items_min": min(each.items for each in done),
        "directions": dict(Counter(each.target_tier for each in done)),
        "outcomes": dict(Counter(each.outcome for each in done)),
        "fence_p50_s": percentile([each for ran in done for each in ran.fences], 0.5),
        "fence_max_s": max(each for ran in done for each in ran.fences),
        "run_p50_s": percentile([each.seconds for each in done], 0.5),
        "reads": sum(each.reads for each in figures),
        **{name: value for name, value in asdict(verdict).items() if name != "examples"},
        "seconds": time.monotonic() - began,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    AIRFLOW.parent.mkdir(parents=True, exist_ok=True)
    AIRFLOW.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=2))
    if not verdict.ok or verdict.failed_reads or set(told["outcomes"]) != {State.COMPLETE.value}:
        raise SystemExit(f"expected all runs to be COMPLETE and nothing lost, found {told['outcomes']}, {verdict}")


if __name__ == "__main__":
    main()
