"""A migration that is drawn from its seed: where its steps are killed, and whether it is undone in the end."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.moving.saas import away_from
from include.local.saas.kills import KillSwitch
from include.local.saas.mover import Mover
from include.tenants.request import MigrationRequest
from include.tenants.states import State

if TYPE_CHECKING:
    from bench.moving.saas import Saas
    from include.tenants.portability import Portability

_DIES: Final = 0.4
"""Chance of a step to be killed, at each of its first tries."""
_COPY_DIES: Final = 0.02
"""Of each of the twenty pieces of a copy: a cutover waits half a minute for the late writes of one that was killed."""
_TRIES: Final = 2
_LATEST_CALL: Final = 40
_UNDONE: Final = 0.2


@dataclass
class Kills:
    """Kills the steps of a migration, as its seed has it.

    Attributes:
        switch: of the clients that the steps use.
        chance: decides.
        landed: how many kills each step has met.
    """

    switch: KillSwitch
    chance: random.Random
    landed: Counter[str] = field(default_factory=Counter)

    def before(self, step: str, attempt: int) -> None:
        """Set the kill of a step's try; see `Mover.before`."""
        self.landed[step] += self.switch.dead
        wanted = self.chance.random() < (_COPY_DIES if step == "copy_items" else _DIES)
        at, after = self.chance.randint(1, _LATEST_CALL), self.chance.random() < 0.5
        self.switch.revive(at if wanted and attempt < _TRIES else 0, after=after)


@dataclass(frozen=True)
class Moved:
    """A migration that has come to its end.

    Attributes:
        seed: of it.
        tenant_id: who was moved.
        target_tier: where to.
        outcome: how it came out.
        began: when, in seconds since the epoch.
        ended: when.
        items: that the last comparison in a fence has seen.
        cutovers: of its notes; see `include.tenants.cutover.CutoverFigures`.
        kills: how often each step was killed.
    """

    seed: int
    tenant_id: str
    target_tier: str
    outcome: str
    began: float
    ended: float
    items: int
    cutovers: tuple[dict[str, Any], ...]
    kills: dict[str, int]


@dataclass(frozen=True)
class Mortal:
    """What migrations work with, one after the other, and the switch that kills their steps."""

    p: Portability
    switch: KillSwitch

    @classmethod
    def of(cls, saas: Saas) -> Mortal:
        """With clients of its own: they take longer to make than a step takes."""
        switch = KillSwitch()
        return cls(saas.portability(switch), switch)


def move(mortal: Mortal, seed: int, tenant_id: str) -> Moved:
    """Move a tenant to where it is not, and clean up behind it; some are moved back before they are settled."""
    p, switch = mortal.p, mortal.switch
    chance = random.Random(seed)
    undone = chance.random() < _UNDONE
    kills = Kills(switch, chance)
    switch.revive()
    began = p.clock()
    target = away_from(p, tenant_id)
    request = MigrationRequest(tenant_id, target, why=f"seed {seed}", soak_minutes=0)
    mover = Mover(p, f"{tenant_id}-{seed}", request, before=kills.before, after=switch.revive)
    mover.run(until=State.SOAK if undone else State.COMPLETE)
    if undone:
        mover.roll_back()
    mover.finish()
    switch.revive()
    migration = mover.migration
    cutovers = tuple(migration.notes["cutovers"])
    return Moved(
        seed,
        tenant_id,
        target.value,
        str(migration.outcome),
        began,
        p.clock(),
        max((each["items"] for each in cutovers), default=0),
        cutovers,
        dict(kills.landed),
    )
