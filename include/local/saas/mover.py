"""Runs a migration in one process: the steps that Airflow's tasks run, in their order, called again when one is killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from include.local.saas.kills import Killed
from include.tenants import steps
from include.tenants.changes import Direction
from include.tenants.exceptions import CutoverFailed
from include.tenants.identity import finish_identity
from include.tenants.plan import begin, make_plan, moves_data
from include.tenants.states import State, reached

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.tenants.portability import Portability
    from include.tenants.request import MigrationRequest
    from include.tenants.store import Migration

TRIES: Final = 20
"""Of each step: kills included, and cutovers that are over budget."""
_BURST_SECONDS: Final = 5.0


def silent(text: str) -> None:
    """Say nothing."""


@dataclass
class Mover:
    """One migration.

    Attributes:
        p: what the steps work with.
        migration_id: its id.
        request: what is asked for.
        say: told what happens.
        before: called with each step's name and the number of its try, from 0; it may set the next kill.
        after: called when a step has ended; a kill that it was too short for is no other's.
        copy_first: arms the streams after the copy, which loses what is written meanwhile: to show that the order matters.
        done: the steps that ended, in order.
        kills: how often a step was killed.
    """

    p: Portability
    migration_id: str
    request: MigrationRequest
    say: Callable[[str], None] = silent
    before: Callable[[str, int], None] = lambda name, attempt: None
    after: Callable[[], None] = lambda: None
    copy_first: bool = False
    done: list[str] = field(default_factory=list)
    kills: int = 0

    @property
    def migration(self) -> Migration:
        """As it is now."""
        return self.p.store.load(self.migration_id)

    def run(self, *, until: State = State.COMPLETE) -> Migration:
        """Move the tenant, approve it, let it soak for no longer than it takes, end the way back."""
        self.begin()
        if self.copy_first:
            self._copy()
        self.step("arm_streams", lambda: self._arm())
        if moves_data(self.migration):
            self._copy()
            self.step("replicate_forward", lambda: self.replicate(Direction.FORWARD))
        if until is State.CATCHING_UP:
            return self.migration
        self.step("verify", lambda: steps.verify(self.p, self.migration_id, owner="verify", say=self.say))
        if until is State.VERIFIED:
            return self.migration
        self.step("record_approval", self._approve)
        self.step("cut_over", lambda: steps.cut_over(self.p, self.migration_id, owner="cut_over", say=self.say))
        self.step("begin_soak", lambda: steps.begin_soak(self.p, self.migration_id, owner="soak", say=self.say))
        if until is State.SOAK:
            return self.migration
        self.step("replicate_reverse", lambda: self.replicate(Direction.REVERSE))
        self.step("complete", lambda: steps.complete(self.p, self.migration_id, owner="complete", say=self.say))
        return self.migration

    def begin(self) -> None:
        """Plan it, look whether it may begin, make the target."""
        self.step("plan_migration", self._plan)
        for name, work in (
            ("preflight", steps.look_before),
            ("provision_target", steps.provision),
            ("port_identity", steps.port_identity),
        ):
            self.step(name, partial(work, self.p, self.migration_id, owner=name, say=self.say))

    def roll_back(self, why: str = "it was only a trial") -> Migration:
        """Undo it."""
        self.step("roll_back", lambda: steps.roll_back(self.p, self.migration_id, owner="me", why=why, say=self.say))
        return self.migration

    def finish(self) -> Migration:
        """Archive it, bring the last users over, and remove what the tenant left behind."""
        if self.migration.outcome is State.COMPLETE:
            self.step("finish_identity", lambda: finish_identity(self.p, self.migration, self.say))
        self.step("archive", lambda: steps.archive(self.p, self.migration_id, owner="archive", say=self.say))
        approval = {"approved": True, "by": "an operator", "why": "nobody needs it", "at": int(self.p.clock() * 1000)}
        self.step(
            "clean_up",
            lambda: steps.clean_up(self.p, self.migration_id, owner="clean_up", say=self.say, approval=approval),
        )
        return self.migration

    def replicate(self, direction: Direction) -> None:
        """Replay until there is nothing to replay."""
        while True:
            figures = steps.replicate(
                self.p,
                self.migration_id,
                direction,
                owner=f"replicate_{direction.value}",
                seconds=_BURST_SECONDS,
                past=self.p.clock(),
                say=self.say,
            )
            if figures is None or figures.at_tip or figures.lag_seconds <= self.request.most_lag_seconds:
                return

    def step(self, name: str, work: Callable[[], Any]) -> None:
        """Take a step; again if it is killed, or over budget."""
        for attempt in range(TRIES):
            self.before(name, attempt)
            try:
                work()
            except Killed as killed:
                self.kills += 1
                self.say(f"{name} was killed {killed}")
            except CutoverFailed as error:
                self.say(str(error))
                if attempt == TRIES - 1:
                    raise
            else:
                self.after()
                self.done.append(name)
                return
        raise AssertionError(f"{name} was killed {TRIES} times")

    def _plan(self) -> None:
        begin(self.p, self.migration_id, self.request, make_plan(self.p, self.request), by="me")

    def _arm(self) -> None:
        steps.arm_streams(self.p, self.migration_id, owner="arm_streams", say=self.say)

    def _copy(self) -> None:
        """The whole copy; with `copy_first` it happens before the streams are armed and is found done afterwards."""
        from include.tenants.copying import copy_unit, units

        if reached(self.migration.state, State.STREAM_ARMED):
            self.step("begin_copy", lambda: steps.begin_copy(self.p, self.migration_id, owner="arm_streams") and None)
        tables = {names["prefix"]: names for names in self.migration.notes["tables"]}
        for unit in units(self.migration.tenant_id):

            def copy(unit: Any = unit) -> None:
                names = tables[unit.table.prefix]
                copy_unit(
                    self.p,
                    self.migration,
                    unit,
                    names["source"],
                    names["target"],
                    owner=f"copy_items {unit.name}",
                    units_per_second=self.request.read_units,
                    say=self.say,
                )

            self.step("copy_items", copy)
        if reached(self.migration.state, State.COPYING):
            self.step(
                "finish_copy", lambda: steps.finish_copy(self.p, self.migration_id, owner="finish_copy", say=self.say)
            )

    def _approve(self) -> None:
        steps.decide(
            self.p,
            self.migration_id,
            approved=True,
            by="an operator",
            why="it was verified",
            at=int(self.p.clock() * 1000),
        )
