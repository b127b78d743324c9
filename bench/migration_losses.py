"""`migration-losses`: how many acknowledged writes are lost when tenants are moved while they are used.

Each migration is drawn from its seed. It drives the functions that Airflow's tasks run, under a load whose keys are written once, so that a
lost write stays lost; writes stall for longer than a fence is closed, steps are killed at any call, some migrations are undone. Tenants
are moved in pairs, there and back, and each client also asks for the other's keys. Afterwards each acknowledged write is looked for where
its tenant is. One lost, one old or one foreign item fails the benchmark.

Baseline: the same load, and a cutover that drains and switches without a fence.

Where Airflow ran a part of the migrations (`bench.migration_airflow`), its figures are in the result, too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench._result import RESULTS, percentile, write_result
from bench.moving.groups import MOVES, PAIR, Seen, at_once, pair, run_pair
from bench.moving.naive import Naive, lost_naively
from bench.moving.saas import Traffic, trial_saas
from bench.moving.scenario import Mortal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.local.saas.judge import Verdict

MIGRATIONS: Final = int(os.environ.get("MIGRATION_LOSSES_MIGRATIONS", "100"))
FIRST_SEED: Final = int(os.environ.get("MIGRATION_LOSSES_SEED", "1"))
ITEMS: Final = int(os.environ.get("MIGRATION_LOSSES_ITEMS", "500"))
PROCESSES: Final = int(os.environ.get("MIGRATION_LOSSES_PROCESSES", "2"))
"""Each with an AWS stand-in of its own: one serves one request at a time."""
PAIRS_AT_ONCE: Final = 1
"""In a process. More would not be faster: what the clients do meanwhile costs as much as the migrations."""
NAIVE_MIGRATIONS: Final = int(os.environ.get("MIGRATION_LOSSES_NAIVE", "4"))
TRAFFIC: Final = Traffic()
AIRFLOW: Final = RESULTS / "migration-losses-airflow.json"
"""What `bench.migration_airflow` has left."""


def run(groups: Sequence[Sequence[int]]) -> Seen:
    """Move the pairs of these groups of seeds, in a stand-in of their own."""
    seen: list[Seen] = []
    left = list(groups)
    tenants = [tenant for seeds in groups for tenant in pair(seeds[0])]
    with trial_saas(tenants, ITEMS) as saas, tempfile.TemporaryDirectory(prefix="migration-losses-") as folder:

        def lane() -> None:
            mortals = [Mortal.of(saas) for _ in range(PAIR)]
            while left:
                seeds = left.pop(0)
                seen.append(run_pair(saas, mortals, TRAFFIC, seeds, Path(folder)))
                told = ", ".join(f"{each.tenant_id} → {each.target_tier} {each.outcome}" for each in seen[-1].moved)
                print(f"seeds {seeds}: {told}: {seen[-1].verdict}", flush=True)

        at_once(lane for _ in range(PAIRS_AT_ONCE))
    return reduce(add, seen, Seen())


def main() -> None:
    began = time.monotonic()
    groups = [
        list(range(first, first + MOVES * PAIR)) for first in range(FIRST_SEED, FIRST_SEED + MIGRATIONS, MOVES * PAIR)
    ]
    shares = [share for number in range(PROCESSES) if (share := groups[number::PROCESSES])]
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        seen = reduce(add, pool.map(run, shares))
    naive = lost_naively(Naive.NO_FENCE, NAIVE_MIGRATIONS, items=ITEMS, traffic=TRAFFIC, seed=FIRST_SEED)
    verdict = seen.verdict
    airflow = json.loads(AIRFLOW.read_text(encoding="utf-8")) if AIRFLOW.exists() else None
    if airflow is None:
        print("without Airflow's part: python -m bench.migration_airflow measures it", file=sys.stderr)
    fences = [each["seconds"] for moved in seen.moved for each in moved.cutovers]
    write_result(
        "migration-losses",
        what=f"acknowledged writes lost or old per migration, over {len(seen.moved)} under load, with stalls and kills",
        baseline=f"the same load, switched without a fence ({naive.migrations} migrations)",
        unit="writes",
        samples=[(verdict.lost + verdict.stale) / len(seen.moved)],
        baseline_samples=[naive.verdict.lost / naive.migrations],
        seeds=[groups[0][0], groups[-1][-1]],
        **told(verdict),
        reads=seen.reads,
        refused_writes=seen.refused,
        directions=dict(Counter(each.target_tier for each in seen.moved)),
        outcomes=dict(Counter(each.outcome for each in seen.moved)),
        items_min=min(each.items for each in seen.moved),
        items_max=max(each.items for each in seen.moved),
        kills=sum(sum(each.kills.values()) for each in seen.moved),
        kills_by_step=dict(sum((Counter(each.kills) for each in seen.moved), Counter())),
        cutovers=len(fences),
        fences_opened_again=sum(not each["switched"] for moved in seen.moved for each in moved.cutovers),
        fence_p50_s=percentile(fences, 0.5),
        fence_max_s=max(fences),
        stall_seconds=TRAFFIC.stall_seconds,
        fences_shorter_than_a_stall=sum(each < TRAFFIC.stall_seconds for each in fences),
        migration_p50_s=percentile([each.ended - each.began for each in seen.moved], 0.5),
        baseline_acknowledged=naive.verdict.acknowledged,
        baseline_lost=naive.verdict.lost,
        airflow=airflow,
        seconds=time.monotonic() - began,
    )
    if not verdict.ok or verdict.failed_reads:
        print(json.dumps([asdict(each) for each in seen.moved]), file=sys.stderr)  # when each was moved
        raise SystemExit(f"expected no write to be lost or old, no foreign item and no failed read, found {verdict}")
    if not naive.verdict.lost:
        raise SystemExit(
            "expected the cutover without a fence to lose writes, found none lost: this benchmark would not see any"
        )


def told(verdict: Verdict) -> dict[str, Any]:
    """A verdict's figures."""
    return {name: value for name, value in asdict(verdict).items() if name != "examples"}


if __name__ == "__main__":
    main()
