"""`migration-growth`: whether a migration's time grows with the tenant's items as it should, and what several at once get done.

Seconds per item of what every item goes through: copy, comparison before the approval, fence. Baseline: the smallest tenant, in the
same run.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench._result import write_result
from bench.moving.groups import at_once
from bench.moving.saas import trial_saas
from include.local.saas.mover import Mover
from include.local.saas.seed import SeedTenant
from include.tenants.request import LIMITS, MigrationRequest
from include.tenants.saas import Tier
from include.tenants.states import State

if TYPE_CHECKING:
    from bench.moving.saas import Saas
    from include.tenants.portability import Portability

SIZES: Final = [int(size) for size in os.environ.get("MIGRATION_GROWTH_SIZES", "1000 10000 100000").split()]
AT_ONCE: Final = (1, 2, 4)
AT_ONCE_ITEMS: Final = int(os.environ.get("MIGRATION_GROWTH_AT_ONCE_ITEMS", "2000"))
STEPS: Final = ("copy_items", "verify", "cut_over")
"""Those that each item goes through."""


@dataclass
class Watch:
    """Tells how long the steps of a migration take; see `Mover.before`."""

    def __post_init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._step, self._since = "", time.perf_counter()

    def before(self, step: str, attempt: int) -> None:
        """A step begins, so another has ended."""
        now = time.perf_counter()
        self.spent[self._step] += now - self._since
        self._step, self._since = step, now


def move(p: Portability, tenant_id: str) -> tuple[Watch, Mover]:
    """Move a tenant, as fast as it can be."""
    watch = Watch()
    units, budget = (LIMITS[name][1] for name in ("read_units", "budget_seconds"))
    request = MigrationRequest(tenant_id, Tier.PLATINUM, soak_minutes=0, read_units=units, budget_seconds=budget)
    mover = Mover(p, f"{tenant_id}-grows", request, before=watch.before)
    mover.run(until=State.SOAK)
    watch.before("", 0)
    return watch, mover


def of_size(size: int) -> dict[str, float]:
    """What a tenant of so many items takes."""
    with trial_saas([SeedTenant("a", Tier.BASIC)], size) as saas:
        began = time.perf_counter()
        watch, mover = move(saas.portability(), "a")
        whole = time.perf_counter() - began
        fence = mover.migration.notes["cutovers"][-1]
    spent = {f"{step}_s": watch.spent[step] for step in STEPS}
    if fence["items"] != size:
        raise SystemExit(f"expected {size} items to be compared in the fence, found {fence['items']}")
    return {**spent, "fence_s": fence["seconds"], "whole_s": whole, "s_per_item": sum(spent.values()) / size}


def together(saas: Saas, tenants: list[str]) -> float:
    """Items per second of some migrations at once, all steps counted."""
    makers = [partial(move, saas.portability(), tenant) for tenant in tenants]
    began = time.perf_counter()
    at_once(makers)
    return len(tenants) * AT_ONCE_ITEMS / (time.perf_counter() - began)


def main() -> None:
    began = time.monotonic()
    by_size = {}
    for size in SIZES:
        by_size[size] = of_size(size)
        print(f"{size} items: {by_size[size]}", flush=True)
    groups = [[f"g{count}-{number}" for number in range(count)] for count in AT_ONCE]
    with trial_saas([SeedTenant(each, Tier.BASIC) for group in groups for each in group], AT_ONCE_ITEMS) as saas:
        throughput = {len(group): together(saas, group) for group in groups}
    smallest, middle, largest = (by_size[size]["s_per_item"] for size in (SIZES[0], SIZES[-2], SIZES[-1]))
    write_result(
        "migration-growth",
        what=f"copy, comparison and cutover of a tenant with {SIZES[-1]} items, per item",
        baseline=f"with {SIZES[0]} items",
        unit="s/item",
        samples=[largest],
        baseline_samples=[smallest],
        by_items=by_size,
        largest_over_middle=largest / middle,
        middle_over_smallest=middle / smallest,
        at_once_items_per_s=throughput,
        at_once_items=AT_ONCE_ITEMS,
        limits={"largest_over_middle": 1.5, "middle_over_smallest": 1.5},
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
