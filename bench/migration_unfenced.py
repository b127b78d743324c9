"""`migration-unfenced`: cutovers that leave something out lose writes, and this harness sees it.

The load is that of `migration-losses`, with stalls twice as long. Left out is the fence; or the fence is a timer, shorter than writes
stall; or the stream is armed after the copy, and nothing is compared before the switch. Each must lose writes. Baseline: migrations by the
real steps, under the same load in the same run; they must lose none.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Final

from bench._result import write_result
from bench.migration_losses import FIRST_SEED, ITEMS, TRAFFIC, told
from bench.moving.groups import MOVES, PAIR, Seen, pair, run_pair
from bench.moving.naive import Naive, lost_naively
from bench.moving.saas import trial_saas
from bench.moving.scenario import Mortal

MIGRATIONS: Final = int(os.environ.get("MIGRATION_UNFENCED_MIGRATIONS", "8"))
"""Of each kind."""
LOAD: Final = replace(TRAFFIC, stall_seconds=2 * TRAFFIC.stall_seconds)
"""Stalls that outlast the timer and the drain behind it by far: else it would be chance whether one is in flight then."""


def fenced() -> Seen:
    """As many migrations by the real steps."""
    groups = [range(first, first + MOVES * PAIR) for first in range(FIRST_SEED, FIRST_SEED + MIGRATIONS, MOVES * PAIR)]
    tenants = [tenant for seeds in groups for tenant in pair(seeds[0])]
    with trial_saas(tenants, ITEMS) as saas, tempfile.TemporaryDirectory(prefix="migration-unfenced-") as folder:
        mortals = [Mortal.of(saas) for _ in range(PAIR)]
        return reduce(add, (run_pair(saas, mortals, LOAD, list(seeds), Path(folder)) for seeds in groups))


def main() -> None:
    began = time.monotonic()
    lost = {naive: lost_naively(naive, MIGRATIONS, items=ITEMS, traffic=LOAD, seed=FIRST_SEED) for naive in Naive}
    seen = fenced()
    whole = [1 - each.harmed / each.migrations for each in lost.values()]
    write_result(
        "migration-unfenced",
        what="share of the migrations that lost nothing, of those whose cutover leaves something out; one figure for each way",
        baseline="the real cutover under the same load",
        unit="of 1",
        samples=whole,
        baseline_samples=[float(seen.verdict.ok)],
        migrations_each=MIGRATIONS,
        items=ITEMS,
        stall_seconds=LOAD.stall_seconds,
        cache_seconds=LOAD.cache_seconds,
        ways={
            naive.value: {
                "migrations": each.migrations,
                "harmed": each.harmed,
                "lost_per_migration": each.verdict.lost / each.migrations,
                **told(each.verdict),
            }
            for naive, each in lost.items()
        },
        fenced={"migrations": len(seen.moved), **told(seen.verdict)},
        seconds=time.monotonic() - began,
    )
    silent = [naive.value for naive, each in lost.items() if not each.verdict.lost]
    if silent:
        raise SystemExit(f"expected each way to lose writes, found none lost by: {'; '.join(silent)}")
    if not seen.verdict.ok:
        raise SystemExit(f"expected the real cutover to lose nothing, found {seen.verdict}")


if __name__ == "__main__":
    main()
