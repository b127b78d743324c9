"""`gateway-once`: how many Spark jobs a task instance makes while its parts are killed and its requests fail.

Each scenario is drawn from its seed: blows (SIGKILL) to worker, triggerer, scheduler, gateway and Spark operator, at a step of the task,
at a write of it, or at any moment, and faults of the gateway's answers. A task instance must end in success, with one job, and that job's
id; one that does not fails the benchmark, which names the seed. Baseline, taken in turn under the same seeds: a client that submits again
whenever a try has failed, as the one public operator for this gateway does.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench._result import percentile, write_result
from bench.lifecycle.trial import (
    SUBMIT_OPERATOR,
    Life,
    Outcome,
    Strike,
    Zygote,
    task_processes,
)
from include.local.batch_gateway.trial import TrialGateway, simulated_job, trial_gateway

SCENARIOS: Final = int(os.environ.get("GATEWAY_ONCE_SCENARIOS", "120"))
FIRST_SEED: Final = int(os.environ.get("GATEWAY_ONCE_SEED", "1"))
LANES: Final = 3
"""Scenarios at once, each at a gateway of its own: they mostly wait."""
NAIVE: Final = "bench.lifecycle.naive:naive_operator"

POINTS: Final = {
    "worker": [f"{side} {stage}" for stage in ("intent", "post", "id", "outcome") for side in ("before", "after")]
    + ["before deferral", "before success", "after external id"],
    "triggerer": ["before event", "after event"],
}
MOMENTS: Final = {
    "worker": ["running", "submit", "accepted"],
    "triggerer": ["deferred", "RUNNING", "COMPLETED"],
    "scheduler": ["running", "submit", "accepted", "deferred", "RUNNING", "COMPLETED", "before id", "before outcome"],
    "gateway": ["running", "submit", "accepted", "deferred", "RUNNING", "COMPLETED", "before id", "before outcome"],
    "operator": ["submit", "accepted", "RUNNING"],
}
WEIGHTS: Final = {"worker": 4, "triggerer": 2, "scheduler": 1, "gateway": 2, "operator": 1}
FAULTS: Final[list[dict[str, Any]]] = [
    {"operation": "submit", "drop": "answer"},
    {"operation": "submit", "drop": "request"},
    {"operation": "submit", "status": 500, "done": True},
    {"operation": "submit", "status": 503, "body": "<html>no upstream</html>"},
    {"operation": "submit", "status": 429},
    {"operation": "submit", "status": 200, "body": '{"submissionId', "done": True},
    {"operation": "submit", "delay_seconds": 1.0},
    {"operation": "submit", "delay_seconds": 1.0, "done": True},
    {"operation": "list", "status": 503, "times": 2},
    {"operation": "list", "status": 429, "times": 2},
    {"operation": "list", "drop": "request"},
    {"operation": "list", "cut_at": "sparkclustera", "times": 2},
    {"operation": "list", "cut_at": "sparkclusterb", "times": 2},
    {"operation": "list", "cut_after": 40},
    {"operation": "status", "status": 503, "times": 2},
    {"operation": "status", "status": 429, "times": 2},
    {"operation": "status", "drop": "answer"},
    {"operation": "status", "status": 404, "body": "<html>default backend - 404</html>"},
    {"operation": "status", "kubernetes": "throttled", "times": 2},
    {"operation": "log", "delay_seconds": 5.0},
    {"operation": "log", "cut_after": 30},
]


@dataclass(frozen=True)
class Scenario:
    """What befalls one task instance."""

    seed: int
    strikes: tuple[Strike, ...]
    faults: tuple[dict[str, Any], ...]
    arguments: dict[str, Any]

    @classmethod
    def drawn(cls, seed: int) -> Scenario:
        """Of its seed, in every process the same."""
        chance = random.Random(seed)
        faults = chance.sample(FAULTS, chance.choice([0, 1, 1, 2]))
        strikes = [_strike(chance) for _ in range(chance.choice([1, 1, 2, 2, 3]))]
        job = simulated_job(
            seconds=round(chance.uniform(0.3, 1.5), 2),
            unseen=round(chance.uniform(0, 0.3), 2),
            log_lines=chance.randint(0, 20),
        )
        arguments = {"job": job, "poll_seconds": 0.2, "patience_seconds": 40.0, "deferrable": chance.random() < 0.75}
        return cls(seed, tuple(strikes), tuple({"times": 1} | fault for fault in faults), arguments)

    def run(self, zygote: Zygote, gateway: TrialGateway, home: Path, make: str) -> Outcome:
        """At a gateway of one's own."""
        gateway.reset()
        for fault in self.faults:
            gateway.fault(**fault)
        with Life(zygote, gateway, home, self.arguments, make=make) as life:
            outcome = life.run(self.strikes, timeout=90)
            if make == SUBMIT_OPERATOR and outcome.problems():
                print(f"seed {self.seed}: {outcome.problems()}\n{self}", *outcome.history, life.log(), sep="\n")
        return outcome


def _strike(chance: random.Random) -> Strike:
    part = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    away = round(chance.uniform(0.1, 0.8), 2)
    kind = chance.random()
    if kind < 0.35 and part in POINTS:
        return Strike(part, at=chance.choice(POINTS[part]))
    if kind < 0.55:
        return Strike(part, after_seconds=round(chance.uniform(0, 2.5), 3), away_seconds=away)
    when = chance.choice(MOMENTS[part])
    return Strike(part, when=when, after_seconds=round(chance.uniform(0, 0.4), 3), away_seconds=away)


class Lane(threading.Thread):
    """Takes one seed after the other."""

    def __init__(self, zygote: Zygote, home: Path, seeds: list[int], lock: threading.Lock) -> None:
        super().__init__()
        self.zygote, self.home, self.seeds, self.lock = zygote, home, seeds, lock
        self.done: dict[int, tuple[Scenario, Outcome, Outcome]] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with trial_gateway(rate_limit=100) as gateway:
                while seed := self._next():
                    scenario = Scenario.drawn(seed)
                    ours = scenario.run(self.zygote, gateway, self.home / f"{seed}", SUBMIT_OPERATOR)
                    naive = scenario.run(self.zygote, gateway, self.home / f"{seed}-naive", NAIVE)
                    self.done[seed] = (scenario, ours, naive)
        except BaseException as error:
            self.error = error

    def _next(self) -> int | None:
        with self.lock:
            return self.seeds.pop(0) if self.seeds else None


def main() -> None:
    began = time.monotonic()
    seeds = list(range(FIRST_SEED, FIRST_SEED + SCENARIOS))
    with tempfile.TemporaryDirectory(prefix="gateway-once-") as folder:
        modules = ["bench.lifecycle.naive"]
        with task_processes(modules) as zygote:
            lock, left = threading.Lock(), seeds.copy()
            lanes = [Lane(zygote, Path(folder), left, lock) for _ in range(LANES)]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join()
    for lane in lanes:
        if lane.error:
            raise lane.error
    done = {seed: result for lane in lanes for seed, result in lane.done.items()}
    ours, naive = [done[seed][1] for seed in seeds], [done[seed][2] for seed in seeds]
    wrong = {seed: outcome.problems() for seed, outcome in zip(seeds, ours, strict=True) if outcome.problems()}
    jobs, naive_jobs = [len(one.applications) for one in ours], [len(one.applications) for one in naive]
    seconds = [one.seconds for one in ours]
    write_result(
        "gateway-once",
        what=f"Spark jobs per task instance, mean of {SCENARIOS} whose processes were killed and whose requests failed",
        baseline="a client that submits again after any failure, under the same seeds",
        unit="jobs",
        samples=[sum(jobs) / len(jobs)],
        baseline_samples=[sum(naive_jobs) / len(naive_jobs)],
        seeds=[seeds[0], seeds[-1]],
        jobs=dict(sorted(Counter(jobs).items())),
        jobs_min=min(jobs),
        jobs_max=max(jobs),
        baseline_jobs=dict(sorted(Counter(naive_jobs).items())),
        baseline_jobs_max=max(naive_jobs),
        baseline_states=dict(Counter(one.state for one in naive)),
        states=dict(Counter(one.state for one in ours)),
        wrong=wrong,
        kills=dict(sorted(Counter(strike.part for one in ours for strike in one.landed).items())),
        baseline_kills=dict(sorted(Counter(strike.part for one in naive for strike in one.landed).items())),
        kills_at=dict(sorted(Counter(_where(strike) for one in ours for strike in one.landed).items())),
        faults=dict(sorted(Counter(fault["operation"] for one, _, _ in done.values() for fault in one.faults).items())),
        tries_max=max(one.tries for one in ours),
        scenario_p50_s=percentile(seconds, 0.5),
        scenario_max_s=max(seconds),
        seconds=time.monotonic() - began,
    )
    if wrong or set(jobs) != {1}:
        raise SystemExit(f"expected one job and success of each task instance, found {wrong}")


def _where(strike: Strike) -> str:
    return strike.at or strike.when or "any moment"


if __name__ == "__main__":
    if len(sys.argv) > 2:  # a seed, to look at it
        print(asdict(Scenario.drawn(int(sys.argv[2]))))
    else:
        main()
