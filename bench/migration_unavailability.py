"""`migration-unavailability`: for how long a tenant can't write when it is switched, as its clients see it, and whether its reads go on.

Measured from the last write that succeeded before the fence to the first one after it, with the application's cache at the reference's 30
seconds. Baseline: the common way, which refuses writes and waits until every cached route is old.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench._result import percentile, write_result
from bench.moving.groups import NOTHING, added
from bench.moving.naive import Naive, lost_naively
from bench.moving.saas import Saas, Traffic, away_from, trial_saas
from include.local.saas.judge import judge_tables
from include.local.saas.load import Figures
from include.local.saas.mover import Mover
from include.local.saas.routes import CACHE_SECONDS
from include.local.saas.seed import SeedTenant
from include.tenants.request import MigrationRequest
from include.tenants.saas import Tier

CUTOVERS: Final = int(os.environ.get("MIGRATION_UNAVAILABILITY_CUTOVERS", "24"))
ITEMS: Final = int(os.environ.get("MIGRATION_UNAVAILABILITY_ITEMS", "500"))
NAIVE_CUTOVERS: Final = int(os.environ.get("MIGRATION_UNAVAILABILITY_NAIVE", "3"))
TRAFFIC: Final = Traffic(writers=2, readers=1, pause=0.05, cache_seconds=CACHE_SECONDS, stall_probability=0)
MOVES: Final = 2
"""Of each tenant: there and back."""


@dataclass(frozen=True)
class Cutover:
    """One cutover: how long its clients could not write, how long the fence was closed, what they saw meanwhile."""

    seconds: float
    fence_seconds: float
    figures: Figures


def cut_over(saas: Saas, tenant_id: str, journal: Path) -> list[Cutover]:
    """Move a tenant there and back under load, one after the other."""
    p, cutovers = saas.portability(), []
    with TRAFFIC.on(saas, [tenant_id], journal) as load:
        for number in range(MOVES):
            request = MigrationRequest(tenant_id, away_from(p, tenant_id), soak_minutes=0)
            mover, began = Mover(p, f"{tenant_id}-{number}", request), p.clock()
            mover.run()
            load.wait_for_writes(2 * TRAFFIC.writers)  # the first one after the fence ends the gap
            figures = load.figures(tenant_id, since=began, until=p.clock())
            mover.finish()  # also what the caches still point to
            fence = mover.migration.notes["cutovers"][-1]["seconds"]
            cutovers.append(Cutover(figures.gap.seconds if figures.gap else fence, fence, figures))
    return cutovers


def main() -> None:
    began = time.monotonic()
    tenants = [f"t{number}" for number in range(CUTOVERS // MOVES)]
    cutovers: list[Cutover] = []
    verdict = NOTHING
    with (
        trial_saas([SeedTenant(each, Tier.BASIC) for each in tenants], ITEMS) as saas,
        tempfile.TemporaryDirectory(prefix="migration-unavailability-") as folder,
    ):
        for tenant_id in tenants:
            journal = Path(folder) / f"{tenant_id}.jsonl"
            cutovers += cut_over(saas, tenant_id, journal)
            verdict = added(verdict, judge_tables(journal, saas.clients))
            print(f"{tenant_id}: {', '.join(f'{each.seconds:.2f} s' for each in cutovers[-MOVES:])}", flush=True)
    naive = lost_naively(Naive.TIMER, NAIVE_CUTOVERS, items=ITEMS, traffic=replace(TRAFFIC, readers=0), seed=0)
    seconds = [each.seconds for each in cutovers]
    fences = [each.fence_seconds for each in cutovers]
    write_result(
        "migration-unavailability",
        what=f"a tenant's clients can't write at a cutover, routes cached for {CACHE_SECONDS:.0f} s",
        baseline="refusing writes until every cached route is old, then draining",
        unit="s",
        samples=seconds,
        baseline_samples=naive.gaps,
        p50_s=percentile(seconds, 0.5),
        p99_s=percentile(seconds, 0.99),
        max_s=max(seconds),
        fence_p50_s=percentile(fences, 0.5),
        fence_p99_s=percentile(fences, 0.99),
        fence_max_s=max(fences),
        cache_seconds=CACHE_SECONDS,
        items=ITEMS,
        reads=sum(each.figures.reads for each in cutovers),
        read_p99_median_s=percentile([each.figures.read_p99 for each in cutovers], 0.5),
        failed_reads=verdict.failed_reads,
        behind_reads=verdict.behind_reads,
        acknowledged=verdict.acknowledged,
        lost=verdict.lost,
        stale=verdict.stale,
        foreign=verdict.foreign,
        limits={"failed_reads": 0, "lost": 0, "stale": 0, "foreign": 0},
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
