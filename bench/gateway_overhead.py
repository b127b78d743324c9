"""`gateway-overhead`: what the operator adds to a job's own time, from the task's start to its end.

The same simulated jobs run through a deferrable task (worker, triggerer, worker: three processes, each started when it is its turn) and
through one that waits in its worker. Both with the package's state store and XComs written to a file; Airflow's own scheduling is not in
it. Baseline, in turn: the gateway called with httpx alone: submit, ask for the status at the same pace, done.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench._result import percentile, write_result
from bench.lifecycle.trial import Life, Outcome, Zygote, task_processes
from include.local.batch_gateway.trial import TrialGateway, simulated_job, trial_gateway

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNS: Final = 10
POLL_SECONDS: Final = 0.5


def job(number: int) -> dict[str, Any]:
    """Of another length each time, so that its end falls anywhere between two looks."""
    return simulated_job(seconds=round(1.5 + number * POLL_SECONDS / RUNS, 3))


def own_seconds(application: Mapping[str, Any]) -> float:
    """From its acceptance to its driver's end."""
    return float(application["terminated"] - application["created"]) / 1000


def through_task(zygote: Zygote, gateway: TrialGateway, home: Path, number: int, *, deferrable: bool) -> float:
    """Seconds that the task took beyond the job."""
    gateway.reset()
    arguments = {"job": job(number), "poll_seconds": POLL_SECONDS, "deferrable": deferrable}
    with Life(zygote, gateway, home, arguments) as life:
        outcome = life.run()
        assert not outcome.problems(), outcome
    begun, ended = _moment(outcome, "running, try 1"), _moment(outcome, "success, try 1")
    return ended - begun - own_seconds(gateway.applications()[0])


def _moment(outcome: Outcome, told: str) -> float:
    """When the task first came into a state."""
    return next(float(line.split()[0]) for line in outcome.history if line.endswith(told))


def directly(gateway: TrialGateway, number: int) -> float:
    """Seconds that the gateway's bare use took beyond the job."""
    gateway.reset()
    began = time.monotonic()
    with httpx.Client(base_url=gateway.url, auth=("airflow", "pass-word"), timeout=60, trust_env=False) as client:
        posted = client.post("/spark", json=job(number) | {"applicationName": "direct"})
        posted.raise_for_status()
        job_id = posted.json()["submissionId"]
        while client.get(f"/spark/{job_id}/status").json().get("applicationState") != "COMPLETED":
            time.sleep(POLL_SECONDS)
    return time.monotonic() - began - own_seconds(gateway.applications()[0])


def main() -> None:
    deferred, waiting, direct = [], [], []
    with (
        tempfile.TemporaryDirectory(prefix="gateway-overhead-") as folder,
        trial_gateway() as gateway,
        task_processes() as zygote,
    ):
        for number in range(RUNS):
            home = Path(folder) / f"{number}"
            direct.append(directly(gateway, number))
            deferred.append(through_task(zygote, gateway, home / "deferred", number, deferrable=True))
            waiting.append(through_task(zygote, gateway, home / "waiting", number, deferrable=False))
    write_result(
        "gateway-overhead",
        what="a deferrable task from its start to its end, less the Spark job's own time",
        baseline="the gateway called with httpx, at the same pace of looks",
        unit="s",
        samples=deferred,
        baseline_samples=direct,
        waiting_in_the_worker_p50_s=percentile(waiting, 0.5),
        waiting_in_the_worker_max_s=max(waiting),
        poll_s=POLL_SECONDS,
    )


if __name__ == "__main__":
    main()
