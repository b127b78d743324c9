"""Cutovers as one would write them first; each loses writes. They are here to show that the benchmark sees it, and belong nowhere else."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.moving.groups import NOTHING, added, at_once
from bench.moving.saas import away_from, trial_saas
from include.local.saas.api import Application
from include.local.saas.errors import Fenced
from include.local.saas.judge import judge_tables
from include.local.saas.mover import Mover
from include.local.saas.seed import SeedTenant
from include.tenants import fence
from include.tenants.changes import Direction
from include.tenants.configuration import target_route
from include.tenants.request import MigrationRequest
from include.tenants.saas import Tier
from include.tenants.states import State
from include.tenants.transactions import transact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.moving.saas import Saas, Traffic
    from include.local.saas.judge import Verdict
    from include.local.saas.load import Load
    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable, Tenant
    from include.tenants.store import Migration

_OWNER: Final = "a naive cutover"
_LONGEST_REQUEST_SECONDS: Final = 0.5
"""What the timer gives a request beside the cache's time."""
_FENCE_SECONDS: Final = 20.0
_BEFORE_SECONDS: Final = 1.0
_AT_ONCE: Final = 4


class Naive(StrEnum):
    """What is left out."""

    NO_FENCE = "no fence: drain, then switch"
    TIMER = "a timer for a fence: refuse writes, wait as long as routes are cached, drain, switch"
    COPY_FIRST = "copy, then arm the stream; fenced, and switched without a comparison"


class TimerFenced(Application):
    """An application that refuses writes by what its cache says, and checks nothing as it writes."""

    def _write(self, tenant_id: str, model: DataTable, shard_id: str, kind: str, element: Mapping[str, Any]) -> int:
        tenant: Tenant = self._tenant(tenant_id)
        if tenant.fenced_by:
            raise Fenced(f"tenant {tenant_id} is being moved; come again")
        return super()._write(tenant_id, model, shard_id, kind, element)


@dataclass(frozen=True)
class NaiveMove:
    """A migration of one tenant, by a cutover that leaves something out.

    Attributes:
        saas: where.
        naive: what is left out.
        traffic: that the tenant is under.
    """

    saas: Saas
    naive: Naive
    traffic: Traffic

    @property
    def application(self) -> dict[str, Any]:
        """What `Traffic.on` makes the application by."""
        if self.naive is Naive.COPY_FIRST:
            return {}
        return {"fenced": False, **({"make": TimerFenced} if self.naive is Naive.TIMER else {})}

    def move_under(self, tenant_id: str, load: Load) -> None:
        """Move it under its load; the load has ended afterwards."""
        with load:
            time.sleep(_BEFORE_SECONDS)
            self._move(tenant_id)
            # until no client goes by an old route
            time.sleep(self.traffic.cache_seconds + self.traffic.stall_seconds)

    def _move(self, tenant_id: str) -> None:
        p = self.saas.portability()
        request = MigrationRequest(tenant_id, away_from(p, tenant_id), soak_minutes=0)
        mover = Mover(p, f"{tenant_id}-naively", request, copy_first=self.naive is Naive.COPY_FIRST)
        mover.run(until=State.CATCHING_UP)
        migration = mover.migration
        for state in (State.VERIFIED, State.APPROVED):
            migration = p.store.transition(migration, state, by=_OWNER)
        {Naive.NO_FENCE: self._switch, Naive.TIMER: self._wait_and_switch, Naive.COPY_FIRST: self._fence_and_switch}[
            self.naive
        ](p, mover, migration)

    def _switch(self, p: Portability, mover: Mover, migration: Migration) -> None:
        self._mark(p, migration)  # as the switch wants it; this application doesn't look
        self._drain_and_switch(p, mover, migration)

    def _wait_and_switch(self, p: Portability, mover: Mover, migration: Migration) -> None:
        self._mark(p, migration)
        p.sleep(self.traffic.cache_seconds + _LONGEST_REQUEST_SECONDS)
        self._drain_and_switch(p, mover, migration)

    def _mark(self, p: Portability, migration: Migration) -> None:
        marked = fence.mark_closed(p.tenant(migration.tenant_id), migration.migration_id)
        transact(p.clients.dynamodb, [marked])

    def _drain_and_switch(self, p: Portability, mover: Mover, migration: Migration) -> None:
        mover.replicate(Direction.FORWARD)
        tenant, route = p.tenant(migration.tenant_id), target_route(p, migration)
        *_, row = fence.switch(tenant, migration.migration_id, route, until=0)
        p.store.transition(migration, State.SWITCHED, by=_OWNER, beside=[row])

    def _fence_and_switch(self, p: Portability, mover: Mover, migration: Migration) -> None:
        tenant, name = p.tenant(migration.tenant_id), migration.migration_id
        until = p.clock() + _FENCE_SECONDS
        migration = p.store.transition(migration, State.FENCED, by=_OWNER, beside=[fence.mark_closed(tenant, name)])
        fence.close_rows(p.clients.dynamodb, tenant, name, until)
        mover.replicate(Direction.FORWARD)
        beside = fence.switch(tenant, name, target_route(p, migration), until)
        p.store.transition(migration, State.SWITCHED, by=_OWNER, beside=beside)


@dataclass(frozen=True)
class Lost:
    """What became of the writes of tenants that were moved naively.

    Attributes:
        migrations: how many.
        verdict: of all writes.
        harmed: migrations that lost a write.
        gaps: seconds without a write of the clients of each tenant.
    """

    migrations: int
    verdict: Verdict
    harmed: int
    gaps: tuple[float, ...]


def lost_naively(naive: Naive, migrations: int, *, items: int, traffic: Traffic, seed: int) -> Lost:
    """Move as many tenants naively, a few at a time, in a SaaS of their own, and look for their writes."""
    tenants = [f"naive-{seed}-{number}" for number in range(migrations)]
    verdict, harmed, gaps = NOTHING, 0, []
    with tempfile.TemporaryDirectory(prefix="naive-") as folder:
        # a table that had a stream before may be copied early: arming tells the minutes before, too
        starts = Tier.PLATINUM if naive is Naive.COPY_FIRST else Tier.BASIC
        with trial_saas([SeedTenant(each, starts) for each in tenants], items) as saas:
            work = NaiveMove(saas, naive, traffic)
            for some in batched(tenants, _AT_ONCE):
                loads = [
                    (each, traffic.on(saas, [each], Path(folder) / f"{each}.jsonl", seed=seed, **work.application))
                    for each in some
                ]
                at_once(partial(work.move_under, each, load) for each, load in loads)
                gaps += [gap.seconds for each, load in loads if (gap := load.figures(each).gap)]
            for each in tenants:
                found = judge_tables(Path(folder) / f"{each}.jsonl", saas.clients)
                harmed += bool(found.lost)
                verdict = added(verdict, found)
    return Lost(migrations, verdict, harmed, tuple(gaps))
