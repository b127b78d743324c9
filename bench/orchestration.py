"""`orchestration-tickit` and `orchestration-185`: what running a dbt graph in Airflow costs over running it bare.

Measured: first dbt task queued → last dbt task finished, asset events included, on a running local platform. Baseline: ``dbt build`` of
the same graph with the same data, threads, tests and partial-parse state, in the same folder, taken in turn. Health check and publication
are told apart. Beside it the same graph as one Cosmos task per model, WATCHER and LOCAL; for 185 models both are extrapolated from TICKIT's
time per task.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._result import RESULTS, write_result
from bench.synthetic_dbt import MODELS, write_manifest
from include.local.demo.runs import seconds_between
from include.local.environment import airflow_environment
from include.local.trial import Trial, trial_platform
from include.platform.paths import DBT_PROJECT_DIR, PROJECT_ROOT
from include.platform.settings import load_settings
from include.warehouse.connection import warehouse_connection
from include.warehouse.profile import inherited_environment, profile_environment

EXECUTION = "AIRFLOW__DATA_PLATFORM__DBT_EXECUTION"

GRAPH_DAG = '''
"""An airflow dag of the synthetic dbt project.

#### Triage
None: it is only measured.
"""
from datetime import timedelta
from pathlib import Path

import include.platform.paths as paths

paths.DBT_PROJECT_DIR = Path({project!r})
paths.DBT_MANIFEST = paths.DBT_PROJECT_DIR / "manifest.json"

from airflow.sdk import Param, dag

from include.platform import pools
from include.platform.assets import FINANCE_MODELS
from include.platform.policy import dag_defaults
from include.platform.settings import DbtExecution, load_settings
from include.platform.tags import Tag
from include.warehouse.operators import BuildModelsOperator


@dag(
    schedule=None,
    params={{"full_refresh": Param(False, type="boolean", description="x")}},
    **dag_defaults(owner="bench", tags=[Tag.DBT], deadline=timedelta(hours=1)),
)
def bench_graph():
    execution = load_settings().dbt_execution
    if execution is DbtExecution.GRAPH:
        BuildModelsOperator(task_id="build_models", pool=pools.WAREHOUSE_BUILD, outlets=[FINANCE_MODELS])
    else:
        from include.warehouse.cosmos_graph import model_tasks

        model_tasks("build_models", execution)


bench_graph()
'''


@dataclass
class Graph:
    """What is measured."""

    name: str
    dag_id: str
    project: Path
    tickit: str
    runs: int
    options: dict[str, str]


def bare_dbt_build(trial: Trial, graph: Graph) -> float:
    """Seconds of ``dbt build`` outside Airflow, with what the task itself would give dbt."""
    from airflow.sdk import Connection

    environ = airflow_environment(trial.layout, trial.state.ports)
    settings = load_settings(environ)
    warehouse = warehouse_connection(Connection.from_json(environ["AIRFLOW_CONN_WAREHOUSE_BUILD"], "warehouse_build"))
    profile = profile_environment(warehouse, threads=settings.dbt_threads, scratch=settings.scratch_dir, run_key="bare")
    target = settings.scratch_dir / "dbt" / graph.dag_id
    command = [
        str(settings.dbt_executable),
        "build",
        "--project-dir",
        str(graph.project),
        "--profiles-dir",
        str(graph.project),
    ]
    command += ["--target-path", str(target), "--log-path", str(target), "--no-version-check"]
    began = time.perf_counter()
    subprocess.run(command, env={**inherited_environment(), **profile}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def in_airflow(trial: Trial, graph: Graph) -> dict[str, float]:
    """One run of the DAG: seconds of the dbt tasks, of the health check and of the publication, and how many dbt tasks there were."""
    trial.wait_for_idle(graph.dag_id)
    run = trial.runs.run(graph.dag_id, timeout=3000)
    path = f"/dags/{graph.dag_id}/dagRuns/{run.run_id}/taskInstances"
    tasks: list[dict[str, Any]] = []
    while not tasks or len(tasks) % 100 == 0:
        page = trial.api.request("GET", path, params={"limit": 100, "offset": len(tasks)})["task_instances"]
        if not page:
            break
        tasks += page
    dbt = [task for task in tasks if task["task_id"].startswith("build_models") and task["start_date"]]
    queued = [
        task["queued_when"] or task["start_date"] for task in dbt
    ]  # a task that resumed from the triggerer lost its first time
    seconds = seconds_between(min(queued), max(task["end_date"] for task in dbt))
    others = {
        task["task_id"]: seconds_between(task["start_date"], task["end_date"]) for task in tasks if task not in dbt
    }
    return {
        "seconds": seconds,
        "tasks": len(dbt),
        "health": others.get("check_replication", 0.0),
        "publish": others.get("publish_products", 0.0),
    }


def prepare(trial: Trial, graph: Graph) -> None:
    """Connect the source and build everything once, so that all that is measured are warm, incremental builds."""
    trial.runs.run("connect_zero_etl")
    trial.wait_for_idle(graph.dag_id)
    in_airflow(trial, graph)


def cosmos(folder: Path, graph: Graph, execution: str) -> dict[str, float]:
    with trial_platform(folder, tickit=graph.tickit, options={**graph.options, EXECUTION: execution}) as trial:
        return in_airflow(trial, graph)


def measure(graph: Graph, folder: Path) -> None:
    bare: list[float] = []
    ours: list[dict[str, float]] = []
    with trial_platform(folder, tickit=graph.tickit, options=graph.options) as trial:
        prepare(trial, graph)
        for _ in range(graph.runs):
            trial.wait_for_idle(graph.dag_id)
            bare.append(bare_dbt_build(trial, graph))
            ours.append(in_airflow(trial, graph))
            print(f"  bare {bare[-1]:.1f} s, in Airflow {ours[-1]['seconds']:.1f} s", flush=True)
    if graph.tickit == "full":
        beside = {mode: cosmos(folder, graph, mode) for mode in ("watcher", "local")}
        note = "one run each"
    else:  # a run of either takes the better part of an hour
        tickit = json.loads((RESULTS / "orchestration-tickit.json").read_text(encoding="utf-8"))
        tasks = 2 * MODELS  # Cosmos makes one for each model and one for its tests
        beside = {
            mode: {"seconds": tickit[f"cosmos_{mode}_s"] / tickit[f"cosmos_{mode}_tasks"] * tasks, "tasks": tasks}
            for mode in ("watcher", "local")
        }
        note = "extrapolated from TICKIT's seconds per task"
    base = statistics.median(bare)
    write_result(
        graph.name,
        what="first dbt task queued to last finished, asset events included",
        baseline="bare dbt build",
        unit="s",
        samples=[run["seconds"] for run in ours],
        baseline_samples=bare,
        health_s=statistics.median(run["health"] for run in ours),
        publish_s=statistics.median(run["publish"] for run in ours),
        **{f"cosmos_{mode}_s": run["seconds"] for mode, run in beside.items()},
        **{f"cosmos_{mode}_tasks": run["tasks"] for mode, run in beside.items()},
        **{f"cosmos_{mode}_ratio": run["seconds"] / base for mode, run in beside.items()},
        cosmos_note=note,
        limits={"ratio": 1.5 if graph.tickit == "full" else 1.2},
    )


def main(name: str) -> None:
    if name == "orchestration-185" and not (RESULTS / "orchestration-tickit.json").exists():
        raise SystemExit(
            "orchestration-185 needs the result of orchestration-tickit: run make bench ONLY=orchestration-tickit first"
        )
    with tempfile.TemporaryDirectory(prefix="orchestration-") as work:
        folder = Path(work)
        if name == "orchestration-tickit":
            graph = Graph(name, "build_finance_products", DBT_PROJECT_DIR, "full", 5, {})
        else:
            project = write_manifest(folder / "project").parent
            dags = folder / "dags"
            dags.mkdir()
            for needed in ("platform/configure_platform.py", "warehouse/connect_zero_etl.py"):
                shutil.copy(PROJECT_ROOT / "dags" / needed, dags)
            (dags / "bench_graph.py").write_text(GRAPH_DAG.format(project=str(project)), encoding="utf-8")
            graph = Graph(name, "bench_graph", project, "small", 3, {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)})
        measure(graph, folder / "platform")


if __name__ == "__main__":
    main(sys.argv[1])
