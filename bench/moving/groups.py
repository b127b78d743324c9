"""Pairs of tenants that are moved at the same time, each there and back, while both are used; afterwards every write is looked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bench.moving.scenario import Mortal, Moved, move
from include.local.saas.judge import Verdict, judge_tables
from include.local.saas.seed import SeedTenant
from include.tenants.saas import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bench.moving.saas import Saas, Traffic

NOTHING: Final = Verdict(0, 0, 0, 0, 0)
MOVES: Final = 2
"""Of each tenant: there and back, unless one is undone."""
PAIR: Final = 2


@dataclass(frozen=True)
class Seen:
    """What became of some tenants.

    Attributes:
        moved: the migrations.
        verdict: of all writes.
        refused: how many writes met a fence, and were made again.
        reads: how many were answered.
    """

    moved: tuple[Moved, ...] = ()
    verdict: Verdict = NOTHING
    refused: int = 0
    reads: int = 0

    def __add__(self, other: Seen) -> Seen:
        """Both together."""
        return Seen(
            self.moved + other.moved,
            added(self.verdict, other.verdict),
            self.refused + other.refused,
            self.reads + other.reads,
        )


def added(one: Verdict, other: Verdict) -> Verdict:
    """Two verdicts in one."""
    names = ("acknowledged", "lost", "stale", "foreign", "ambiguous", "failed_reads", "behind_reads")
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in names}
    return replace(one, **sums, examples=one.examples + other.examples)


def pair(seed: int) -> list[SeedTenant]:
    """The tenants of a pair; the one's id begins the other's, and both begin in the pooled tables."""
    return [SeedTenant(f"t{seed}", Tier.BASIC), SeedTenant(f"t{seed}-1", Tier.BASIC)]


def run_pair(saas: Saas, mortals: Sequence[Mortal], traffic: Traffic, seeds: Sequence[int], folder: Path) -> Seen:
    """Move a pair of tenants that is there, under load.

    Args:
        saas: where.
        mortals: one for each tenant of the pair.
        traffic: that they are under.
        seeds: of the migrations; the first one names the pair (`pair`).
        folder: of the journal.
    """
    first = seeds[0]
    tenants = [each.tenant_id for each in pair(first)]
    journal = folder / f"{first}.jsonl"
    moved: list[Moved] = []

    def work(mortal: Mortal, tenant_id: str, its: Sequence[int]) -> None:
        for seed in its:
            moved.append(move(mortal, seed, tenant_id))

    with traffic.on(saas, tenants, journal, seed=first) as load:
        at_once(
            partial(work, mortal, tenant, seeds[number::PAIR])
            for number, (mortal, tenant) in enumerate(zip(mortals, tenants, strict=True))
        )
    figures = [load.figures(tenant) for tenant in tenants]
    return Seen(
        tuple(moved),
        judge_tables(journal, saas.clients),
        sum(each.refused for each in figures),
        sum(each.reads for each in figures),
    )


def at_once(works: Iterable[Callable[[], Any]]) -> None:
    """Do things at the same time; the first error is raised when all have ended."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
