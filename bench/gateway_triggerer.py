"""`gateway-triggerer`: what it takes one triggerer to watch 300 deferred jobs to their end, and how late it knows of it.

The jobs are simulated by the local gateway; their ends are spread over the run. The triggers run on one event loop in a process of their
own. Baseline, in turn: a client in the same kind of process that asks for each job's status by itself, at the same pace, with the same
HTTP library and the same limits. A last run shows the triggers with the drivers' logs, which the baseline has not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench._result import percentile, write_result
from include.local.batch_gateway.trial import TrialGateway, simulated_job, trial_gateway
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

JOBS: Final = 300
RUNS: Final = 2
POLL_SECONDS: Final = 5.0
FIRST_END_SECONDS: Final = 12.0
"""Of the jobs' ends after the first was submitted: by then all are, and are watched."""
LAST_END_SECONDS: Final = 30.0
CONN_ID: Final = "gateway_of_bench"
LOG_BYTES: Final = 256 * 2**10


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        cpu_per_minute: CPU seconds of the watching process per minute.
        requests_per_second: at the gateway, while it was watched.
        requests: by operation.
        lags: how late timers were, in milliseconds.
        delays: from a job's end to the trigger's event, in seconds.
    """

    cpu_per_minute: float
    requests_per_second: float
    requests: dict[str, int]
    lags: list[float]
    delays: list[float]

    def told(self, prefix: str) -> dict[str, Any]:
        """For the result."""
        return {
            f"{prefix}cpu_s_per_minute": self.cpu_per_minute,
            f"{prefix}requests_per_s": self.requests_per_second,
            f"{prefix}requests": self.requests,
            f"{prefix}stall_max_ms": max(self.lags),
            f"{prefix}stall_p99_ms": percentile(self.lags, 0.99),
            f"{prefix}end_to_event_p50_s": percentile(self.delays, 0.5),
            f"{prefix}end_to_event_p99_s": percentile(self.delays, 0.99),
        }


def submit(gateway: TrialGateway, log_lines: int) -> list[str]:
    """All jobs, so that their ends are spread evenly."""
    began = time.monotonic()
    with httpx.Client(base_url=gateway.url, auth=("airflow", "pass-word"), trust_env=False) as client:

        def one(number: int) -> str:
            end = FIRST_END_SECONDS + (LAST_END_SECONDS - FIRST_END_SECONDS) * number / JOBS
            left = max(end - (time.monotonic() - began), 0.5)
            job = simulated_job(seconds=round(left, 2), log_lines=log_lines) | {"applicationName": f"job-{number}"}
            answer = client.post("/spark", json=job)
            answer.raise_for_status()
            return str(answer.json()["submissionId"])

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, range(JOBS)))


def measure(gateway: TrialGateway, how: str, log_max_bytes: int = 0) -> Run:
    """One run."""
    gateway.reset()
    connection = {"conn_type": "batch_gateway", "host": gateway.server, "login": "airflow", "password": "pass-word"}
    with tempfile.TemporaryDirectory(prefix="gateway-triggerer-") as folder:
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")]),
            "AIRFLOW_HOME": folder,
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(connection),
        }
        command = [sys.executable, "-m", "bench._gateway_watch_probe"]
        with subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as probe:
            assert probe.stdin
            assert probe.stdout
            line_of(probe.stdout, "ready")
            jobs = submit(gateway, log_lines=20 if log_max_bytes else 1)
            before = gateway.state()["requests"]
            given = {
                "how": how,
                "url": gateway.url,
                "conn_id": CONN_ID,
                "jobs": jobs,
                "poll_seconds": POLL_SECONDS,
                "log_max_bytes": log_max_bytes,
            }
            probe.stdin.write(json.dumps(given) + "\n")
            probe.stdin.flush()
            result = json.loads(line_of(probe.stdout, "result "))
    after = gateway.state()["requests"]
    requests = {name: times - before.get(name, 0) for name, times in after.items() if times > before.get(name, 0)}
    ended = {one["id"]: one["terminated"] / 1000 for one in gateway.applications()}
    delays = [moment - ended[job] for job, moment in result["ends"].items()]
    assert len(delays) == JOBS, f"expected the end of {JOBS} jobs, found {len(delays)}"
    return Run(
        cpu_per_minute=result["cpu_seconds"] / result["seconds"] * 60,
        requests_per_second=sum(requests.values()) / result["seconds"],
        requests=requests,
        lags=[1000 * lag for lag in result["lags"]],
        delays=delays,
    )


def line_of(lines: Any, beginning: str) -> str:
    """What follows in the first line that begins so; a trigger's log is between.

    Raises:
        RuntimeError: the process ended before.
    """
    for line in lines:
        if line.startswith(beginning):
            return str(line[len(beginning) :])
    raise RuntimeError(f"the probe ended without a line that begins with {beginning!r}")


def together(runs: Sequence[Run]) -> Run:
    """All runs as one."""
    operations = sorted({name for run in runs for name in run.requests})
    return Run(
        cpu_per_minute=sum(run.cpu_per_minute for run in runs) / len(runs),
        requests_per_second=sum(run.requests_per_second for run in runs) / len(runs),
        requests={name: sum(run.requests.get(name, 0) for run in runs) for name in operations},
        lags=[lag for run in runs for lag in run.lags],
        delays=[delay for run in runs for delay in run.delays],
    )


def main() -> None:
    with trial_gateway() as gateway:
        shared, each = [], []
        for _ in range(RUNS):
            each.append(measure(gateway, "each"))
            shared.append(measure(gateway, "shared"))
        with_logs = measure(gateway, "shared", LOG_BYTES)
    write_result(
        "gateway-triggerer",
        what=f"CPU of a triggerer that watches {JOBS} deferred jobs, looking every {POLL_SECONDS:.0f} s",
        baseline="one status request per job and look",
        unit="s/min",
        samples=[run.cpu_per_minute for run in shared],
        baseline_samples=[run.cpu_per_minute for run in each],
        jobs=JOBS,
        poll_s=POLL_SECONDS,
        **together(shared).told(""),
        **together(each).told("baseline_"),
        **with_logs.told("with_driver_logs_"),
    )


if __name__ == "__main__":
    main()
