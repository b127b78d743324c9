"""The demo's Spark part: one run of ``submit_spark_pi``, how the gateway shared its jobs out, and what each found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from include.local.demo.runs import DemoError

if TYPE_CHECKING:
    from include.local.demo.runs import Runs
    from include.local.layout import Layout

DAG = "submit_spark_pi"
SUBMISSIONS = 4


def run_spark(runs: Runs, layout: Layout) -> dict[str, Any]:
    """Submit the jobs and show their results.

    Raises:
        DemoError: a job has no result.
    """
    del layout
    run = runs.run(DAG, {"submissions": SUBMISSIONS})
    path = f"/dags/{DAG}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/summarise/xcomEntries/return_value"
    value = runs.api.request("GET", path)["value"]
    summary: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    if len(summary["jobs"]) != SUBMISSIONS:
        raise DemoError(f"expected {SUBMISSIONS} jobs with a result, found {len(summary['jobs'])}")
    print("\nSpark jobs through the batch gateway, by cluster")
    for cluster, told in summary["clusters"].items():
        print(f"  {cluster:32} {told['jobs']:4} {told['share']:7.0%}")
    for job in summary["jobs"]:
        print(f"  {job['submission_id']:47} {job['line']}")
    return summary
