"""`migration-copy`: how fast a tenant's items are copied and compared, what readers feel of it, and what a kill and a rollback cost.

The copy, in as many tasks as the DAG has, stands beside a bare loop with as many requests in flight, which queries the same partitions and
writes what it gets by BatchWriteItem, keeping no record of how far it is; the comparison beside a bare loop that reads both sides. Each
pair is taken on the same stand-in, now the one first and now the other.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench._result import write_result
from bench.moving.groups import at_once
from bench.moving.saas import Saas, Traffic, trial_saas
from include.local.saas.judge import judge_tables
from include.local.saas.kills import Killed, KillSwitch
from include.local.saas.mover import Mover, silent
from include.local.saas.seed import SeedTenant
from include.local.saas.tables import make_data_tables
from include.tenants.changes import Direction
from include.tenants.copying import copied, copy_unit, units
from include.tenants.plan import count_items
from include.tenants.request import LIMITS, MigrationRequest
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, POOLED, Tier
from include.tenants.states import State
from include.tenants.store import Migration
from include.tenants.verify import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.tenants.copying import Unit
    from include.tenants.portability import Portability

ITEMS: Final = int(os.environ.get("MIGRATION_COPY_ITEMS", "10000"))
ROUNDS: Final = int(os.environ.get("MIGRATION_COPY_ROUNDS", "6"))
SOAK_WRITES: Final = int(os.environ.get("MIGRATION_COPY_SOAK_WRITES", "300"))
LEAST_SHARE: Final = 0.9
TENANT: Final = "mover"
SOAKED: Final = "soaked"
SOAKED_ITEMS: Final = 500
_TASKS: Final = 4
"""As the DAG has."""
_THREADS: Final = 4 * _TASKS
"""As many writes as the tasks have in flight."""
_READ_THREADS: Final = 4
"""As the comparison has."""
_BATCH: Final = 25
_BEFORE_SECONDS: Final = 5.0
_READERS: Final = Traffic(writers=0, readers=2, pause=0.01, stall_probability=0)
_READ_UNITS: Final = LIMITS["read_units"][1]
"""So that no limit is measured."""


def seconds(work: Callable[[], Any]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def migration(p: Portability, name: str, state: State = State.COPYING) -> Migration:
    """A migration of the tenant to new tables of this name, without the steps around."""
    make_data_tables(p.clients.dynamodb, name)
    ways = [
        {"prefix": each.prefix, "source": f"{each.prefix}-{POOLED}", "target": f"{each.prefix}-{name}"}
        for each in DATA_TABLES
    ]
    return Migration(name, TENANT, state, 0, {"read_units": _READ_UNITS}, {"tables": ways})


def copy(p: Portability, moving: Migration, *, read_units: float = _READ_UNITS) -> None:
    """All pieces, dealt to a few tasks."""
    pieces = units(moving.tenant_id)

    def task(number: int) -> None:
        for unit in pieces[number::_TASKS]:
            source, target = (f"{unit.table.prefix}-{each}" for each in (POOLED, moving.migration_id))
            rate = read_units / _TASKS
            copy_unit(p, moving, unit, source, target, owner=f"task {number}", units_per_second=rate, say=silent)

    at_once(partial(task, number) for number in range(_TASKS))


def bare_copy(p: Portability, moving: Migration) -> None:
    """The same items by a loop that knows nothing of kills."""

    def one(unit: Unit) -> None:
        target = f"{unit.table.prefix}-{moving.migration_id}"
        for page in _pages(p, f"{unit.table.prefix}-{POOLED}", unit.shard_id):
            for batch in batched(page, _BATCH):
                left = {target: [{"PutRequest": {"Item": item}} for item in batch]}
                while left:
                    left = p.clients.dynamodb.batch_write_item(RequestItems=left)["UnprocessedItems"]

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(one, units(TENANT)))


def bare_read(p: Portability, moving: Migration) -> None:
    """All items of both sides."""

    def one(unit: Unit) -> None:
        for name in (POOLED, moving.migration_id):
            for _ in _pages(p, f"{unit.table.prefix}-{name}", unit.shard_id, ConsistentRead=True):
                pass

    with ThreadPoolExecutor(_READ_THREADS) as pool:
        list(pool.map(one, units(TENANT)))


def _pages(p: Portability, table_name: str, shard_id: str, **options: Any) -> Iterator[list[dict[str, Any]]]:
    pages = p.clients.dynamodb.get_paginator("query").paginate(
        TableName=table_name,
        KeyConditionExpression=f"{PARTITION_KEY} = :shard",
        ExpressionAttributeValues={":shard": {"S": shard_id}},
        **options,
    )
    for page in pages:
        yield page["Items"]


def rates(p: Portability) -> dict[str, list[float]]:
    """Items per second of copy, bare copy, comparison and bare reading, in turn."""
    found: dict[str, list[float]] = {name: [] for name in ("bare", "copy", "bare_read", "verify")}
    for number in range(ROUNDS):
        bare, ours = migration(p, f"bare-{number}"), migration(p, f"ours-{number}")
        copies = {"bare": partial(bare_copy, p, bare), "copy": partial(copy, p, ours)}
        reads = {"bare_read": partial(bare_read, p, ours), "verify": partial(verify, p, ours)}
        for works, items in ((copies, ITEMS), (reads, 2 * ITEMS)):
            for name in sorted(works, reverse=number % 2 == 1):
                found[name].append(items / seconds(works[name]))
    return found


def verify(p: Portability, moving: Migration) -> None:
    """Compare both sides.

    Raises:
        SystemExit: the copy wasn't one.
    """
    comparison = compare(p, moving, Direction.FORWARD, say=silent)
    if not comparison.equal or comparison.items != ITEMS:
        raise SystemExit(f"expected {ITEMS} equal items after the copy, found {comparison.summary}")


def latency(saas: Saas, p: Portability, folder: Path) -> dict[str, float]:
    """How long reads of the tenant take before and during the copy, by the default limit of the copy's reads."""
    moving = migration(p, "felt")
    # the readers look at what the writers have written
    traffic = Traffic(**{**vars(_READERS), "writers": 1})
    with traffic.on(saas, [TENANT], folder / "felt.jsonl") as load:
        time.sleep(_BEFORE_SECONDS)
        began = p.clock()
        copy(p, moving, read_units=MigrationRequest(TENANT, Tier.PLATINUM).read_units)
        ended = p.clock()
    before = load.figures(TENANT, since=began - _BEFORE_SECONDS + 1, until=began)
    during = load.figures(TENANT, since=began, until=ended)
    return {
        "read_p50_before_s": before.read_p50,
        "read_p50_during_s": during.read_p50,
        "read_p99_before_s": before.read_p99,
        "read_p99_during_s": during.read_p99,
        "failed_reads_during": during.failed_reads,
    }


def resumed(saas: Saas) -> dict[str, float]:
    """What is left to do, and done twice, after all copying tasks were killed in the middle."""
    switch = KillSwitch(ITEMS // _BATCH // 2, only="batch_write_item")
    mortal = saas.portability(switch)
    moving = migration(mortal, "killed")
    with suppress(Killed):
        copy(mortal, moving)
    switch.revive()
    there = sum(count_items(mortal, f"{each.prefix}-killed", TENANT)[0] for each in DATA_TABLES)
    kept, _ = copied(mortal, moving)
    took = seconds(lambda: copy(mortal, moving))
    verify(mortal, moving)
    return {"resume_at_items": there, "resume_repeated_items": there - kept.items, "resume_s": took}


def rolled_back(saas: Saas, folder: Path) -> dict[str, float]:
    """What is lost when a tenant that has written to the target for a while is moved back."""
    p, journal = saas.portability(), folder / "soaked.jsonl"
    with Traffic().on(saas, [SOAKED], journal) as load:
        mover = Mover(p, "soaked", MigrationRequest(SOAKED, Tier.PLATINUM))
        mover.run(until=State.SOAK)
        before = load.writes(SOAKED)
        while load.writes(SOAKED) < before + SOAK_WRITES and not load.broken:
            mover.replicate(Direction.REVERSE)
            time.sleep(0.2)
        written = load.writes(SOAKED) - before
        took = seconds(mover.roll_back)
        time.sleep(1)
    verdict = judge_tables(journal, saas.clients)
    return {
        "rollback_after_writes": written,
        "rollback_s": took,
        "rollback_fence_s": mover.migration.notes["cutovers"][-1]["seconds"],
        "rollback_acknowledged": verdict.acknowledged,
        "rollback_lost": verdict.lost + verdict.stale,
    }


def main() -> None:
    began = time.monotonic()
    with (
        trial_saas([SeedTenant(TENANT, Tier.BASIC)], ITEMS) as saas,
        tempfile.TemporaryDirectory(prefix="migration-copy-") as folder,
    ):
        saas.add([SeedTenant(SOAKED, Tier.BASIC)], SOAKED_ITEMS)
        p = saas.portability()
        found = rates(p)
        after_a_kill = resumed(saas)
        felt = latency(saas, p, Path(folder))
        undone = rolled_back(saas, Path(folder))
    shares = [ours / bare for ours, bare in zip(found["copy"], found["bare"], strict=True)]
    write_result(
        "migration-copy",
        what=f"copying {ITEMS} items in {_TASKS} tasks, with a record of how far they are",
        baseline="a bare loop with as many requests in flight: query, write in batches",
        unit="items/s",
        samples=found["copy"],
        baseline_samples=found["bare"],
        verify_items_per_s=statistics.median(found["verify"]),
        bare_read_items_per_s=statistics.median(found["bare_read"]),
        verify_share=statistics.median(a / b for a, b in zip(found["verify"], found["bare_read"], strict=True)),
        copy_s=ITEMS / statistics.median(found["copy"]),
        **after_a_kill,
        **felt,
        **undone,
        bare_over_copy=1 / statistics.median(shares),
        limits={"bare_over_copy": 1 / LEAST_SHARE, "rollback_lost": 0, "failed_reads_during": 0},
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()
