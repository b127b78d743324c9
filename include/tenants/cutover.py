"""The one moment that matters: writes are kept out, the last changes drain, both sides are compared, the route is switched.

The same in both directions: a rollback is a cutover whose source is the target. What decides is the comparison, strongly consistent, of
all the tenant's items inside the fence: DynamoDB orders changes per item only, so that a drained stream is a good sign and no proof.

Whatever goes wrong before the switch opens the fence again; the tenant is then where it was, with everything it wrote. If this process
dies, the application opens the fence itself once its time is over (`include.tenants.fence`), and then nobody can switch any more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants import fence
from include.tenants.changes import Direction, arm, replay, replay_turn
from include.tenants.draining import drain, put_markers, remove_markers
from include.tenants.exceptions import CutoverFailed, MigrationConflict, NotVerified
from include.tenants.states import State
from include.tenants.transactions import ConditionFailed, transact
from include.tenants.verify import compare, recheck

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.tenants.portability import Portability
    from include.tenants.saas import Route
    from include.tenants.store import Migration
    from include.tenants.verify import Comparison

TURN: Final = "cutover"
CATCH_UP_SECONDS: Final = 300.0
"""How long the replay has to come near before the fence is closed."""
SWITCH_SECONDS: Final = 1.0
"""What is kept of the budget for the switch itself."""
_RECHECK_PAUSE_SECONDS: Final = 0.2
_MARGIN_SECONDS: Final = 5.0
"""Changes of so long before are replayed back too: AWS gives their times in whole seconds."""


@dataclass(frozen=True)
class CutoverFigures:
    """How a cutover went.

    Attributes:
        direction: forward, or reverse for a rollback.
        closed_at: when writes were kept out, in milliseconds since the epoch.
        opened_at: when they could come again.
        markers: how many of the markers the stream has shown.
        drained: changes that came out of the stream inside the fence.
        stragglers: changes that came after the marker of their partition: writes past the fence.
        items: compared.
        rounds: of looking again at what differed.
        switched: whether the tenant has moved.
        why_not: if it has not.
    """

    direction: str
    closed_at: int
    opened_at: int
    markers: int = 0
    drained: int = 0
    stragglers: int = 0
    items: int = 0
    rounds: int = 0
    switched: bool = False
    why_not: str = ""

    @property
    def seconds(self) -> float:
        """How long the tenant could not write."""
        return (self.opened_at - self.closed_at) / 1000

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"seconds": self.seconds}


def cut_over(
    p: Portability, migration: Migration, route: Route, *, owner: str, say: Callable[[str], None]
) -> Migration:
    """Move the tenant to ``route``, or leave everything as it was.

    Called again after a kill it goes on, if the fence is still closed and there is time; else it begins anew.

    Args:
        p: what to work with.
        migration: approved, or in a fence that a killed try has closed.
        route: of the target.
        owner: who does it.
        say: told what happens.

    Returns:
        The migration, switched.

    Raises:
        NotVerified: source and target differ; the migration is catching up again.
        CutoverFailed: over budget, or not caught up; it is still approved.
        MigrationConflict: somebody else has moved the tenant or the migration.
    """
    if migration.state is State.FENCED:
        migration = _resume(p, migration, owner, say)
        if migration.state is not State.FENCED:
            raise CutoverFailed(
                f"migration {migration.migration_id}: a try before this one has died in the fence, which is open again; nothing was lost. "
                f"Try again"
            )
    else:
        _before(p, migration, Direction.FORWARD, owner, say)
        # before anybody is served there; what the replay to it still writes is replayed back too, which changes nothing
        reverse_from = {
            table["target"]: arm(p, table["target"], margin_seconds=_MARGIN_SECONDS).to_json()
            for table in migration.notes["tables"]
        }
        migration = _close(p, migration, owner, reverse_from)
    tenant = p.tenant(migration.tenant_id)
    state = migration.notes["fence"]
    work = _Cutover(p, migration, Direction.FORWARD, owner, say, state["closed_at"], state["until"])
    try:
        comparison = work.prove_equal()
        switched = p.store.transition(
            migration,
            State.SWITCHED,
            {"in_fence": comparison.to_json(), **work.note(p, switched=True)},
            by=owner,
            why=f"{comparison.items:,} items compared in the fence: equal",
            # a forward replay that is still alive must not see what the reverse one writes
            beside=[
                *fence.switch(tenant, migration.migration_id, route),
                p.turns.retire(migration.migration_id, replay_turn(Direction.FORWARD)),
            ],
        )
    except BaseException as error:
        _open(p, work, error, say)
        if isinstance(error, MigrationConflict):
            raise CutoverFailed(
                f"migration {migration.migration_id}: expected the fence to be whole until the switch, found it broken (its time was over, "
                f"or "
                f"somebody opened it): the tenant is where it was. {error}"
            ) from error
        raise
    figures = switched.notes["cutovers"][-1]
    remove_markers(p, switched)  # a task that is killed here leaves them to the soak's
    say(f"switched after {figures['seconds']:.2f} s without writes; {comparison.items:,} items are equal on both sides")
    return switched


def switch_route(p: Portability, migration: Migration, route: Route, *, owner: str) -> Migration:
    """Move the tenant between two tiers that share their tables: nothing is copied, so nothing has to be kept out."""
    tenant = p.tenant(migration.tenant_id)
    return p.store.transition(
        migration,
        State.SWITCHED,
        by=owner,
        why="no data moves",
        beside=fence.switch(tenant, migration.migration_id, route, fenced=False),
    )


def roll_back(
    p: Portability, migration: Migration, route: Route, *, owner: str, why: str, say: Callable[[str], None]
) -> Migration:
    """Move the tenant back to ``route``, where everything that was written since the switch is by now.

    Args:
        p: what to work with.
        migration: switched, or in its soak.
        route: of the source.
        owner: who does it.
        why: in the words of who asked for it.
        say: told what happens.

    Raises:
        NotVerified: the sides differ; the tenant stays on the target.
        CutoverFailed: over budget; likewise. Try again.
    """
    tenant = p.tenant(migration.tenant_id)
    if not migration.notes["tables"]:
        beside = fence.switch(tenant, migration.migration_id, route, fenced=False)
        return p.store.transition(migration, State.ROLLED_BACK, by=owner, why=why, beside=beside)
    _before(p, migration, Direction.REVERSE, owner, say)
    closed, until = p.clock(), p.clock() + migration.request["budget_seconds"]
    turn = p.turns.take(migration.migration_id, TURN, owner, always=True)
    try:
        transact(
            p.clients.dynamodb,
            [*fence.close(tenant, migration.migration_id, until), p.turns.check(turn)],
            sleep=p.sleep,
        )
    except ConditionFailed as error:
        raise MigrationConflict(
            f"migration {migration.migration_id}: expected tenant {tenant.tenant_id} at epoch {tenant.epoch} without another's fence, "
            f"found "
            "something else: somebody has moved the tenant"
        ) from error
    work = _Cutover(p, migration, Direction.REVERSE, owner, say, int(closed * 1000), until)
    try:
        comparison = work.prove_equal()
        done = p.store.transition(
            migration,
            State.ROLLED_BACK,
            {"in_fence_back": comparison.to_json(), **work.note(p, switched=True)},
            by=owner,
            why=why,
            beside=[
                *fence.switch(tenant, migration.migration_id, route),
                p.turns.check(turn),
                p.turns.retire(migration.migration_id, replay_turn(Direction.REVERSE)),
            ],
        )
    except BaseException as error:
        _open(p, work, error, say)
        raise
    remove_markers(p, done)
    say(f"rolled back after {done.notes['cutovers'][-1]['seconds']:.2f} s without writes")
    return done


class _Cutover:
    """The work inside the fence."""

    def __init__(
        self,
        p: Portability,
        migration: Migration,
        direction: Direction,
        owner: str,
        say: Callable[[str], None],
        closed_at: int,
        until: float,
    ) -> None:
        self._p = p
        self.migration = migration
        self.direction = direction
        self.owner = owner
        self._say = say
        self.closed_at = closed_at
        self.deadline = until - SWITCH_SECONDS
        self.figures: dict[str, Any] = {}

    def prove_equal(self) -> Comparison:
        """Drain, then compare until both sides are equal.

        Raises:
            NotVerified: they aren't.
            CutoverFailed: there is no time left.
        """
        p, migration = self._p, self.migration
        put_markers(p, migration, self.direction)
        drained = drain(p, migration, self.direction, owner=self.owner, deadline=self.deadline, say=self._say)
        self.figures |= {
            "markers": drained.markers_seen,
            "drained": drained.records,
            "stragglers": drained.stragglers,
        }
        if not drained.complete:
            raise self._over_budget("the changes to drain out of the stream")
        comparison = compare(p, migration, self.direction, recheck_seconds=0, say=self._say)
        rounds = 0
        while not comparison.equal:
            if p.clock() >= self.deadline:
                raise self._differs(comparison)
            rounds += 1
            p.sleep(_RECHECK_PAUSE_SECONDS)
            replay(p, migration, self.direction, owner=self.owner, seconds=1, always=True, say=self._say)
            comparison = recheck(p, migration, self.direction, comparison)
        self.figures |= {"items": comparison.items, "rounds": rounds}
        if p.clock() >= self.deadline:
            raise self._over_budget("the comparison")
        return comparison

    def note(self, p: Portability, *, switched: bool, why_not: str = "") -> dict[str, Any]:
        """The figures of all cutovers of the migration, this one last."""
        figures = CutoverFigures(
            self.direction.value,
            self.closed_at,
            int(p.clock() * 1000),
            switched=switched,
            why_not=why_not,
            **self.figures,
        )
        return {"cutovers": [*self.migration.notes.get("cutovers", []), figures.to_json()]}

    def _over_budget(self, what: str) -> CutoverFailed:
        return CutoverFailed(
            f"migration {self.migration.migration_id}: expected {what} to end within the budget of "
            f"{self.migration.request['budget_seconds']} s, found it still going on; the fence is open again, the tenant is where it was, "
            f"nothing "
            "is lost. Try when fewer changes come, or with a higher budget_seconds"
        )

    def _differs(self, comparison: Comparison) -> NotVerified:
        return NotVerified(
            f"migration {self.migration.migration_id}: expected both sides to be equal in the fence, found {comparison.summary}; the fence "
            f"is open "
            "again, the tenant is where it was, nothing is lost. Did somebody write to the tables without the application?"
        )


def _before(p: Portability, migration: Migration, direction: Direction, owner: str, say: Callable[[str], None]) -> None:
    """Come near enough, and let the last write of a copying task that has lost its turn arrive, before anybody is kept out."""
    if direction is Direction.FORWARD:
        quiet = migration.notes["copied"]["quiet_at"] - p.clock()
        if quiet > 0:
            say(f"waiting {quiet:.0f} s: so long may a killed task of the copy still be writing")
            p.sleep(quiet)
        needed = migration.notes["verification"]["comparison"]["seconds"]
        if needed > migration.request["budget_seconds"] / 2:
            raise CutoverFailed(
                f"migration {migration.migration_id}: expected the comparison to need at most half of budget_seconds = "
                f"{migration.request['budget_seconds']}, found that it took {needed:.1f} s before; the fence was not closed. Give a higher "
                f"budget"
            )
    end = p.clock() + CATCH_UP_SECONDS
    most = migration.request["most_lag_seconds"]
    while True:
        figures = replay(p, migration, direction, owner=owner, seconds=5, until_lag=0, always=True, say=say)
        if figures.at_tip or figures.lag_seconds <= most:
            return
        if p.clock() > end:
            raise CutoverFailed(
                f"migration {migration.migration_id}: expected a lag of at most {most} s within {CATCH_UP_SECONDS:.0f} s, found "
                f"{figures.lag_seconds:.0f} s; the fence was not closed. Try when fewer changes come"
            )


def _close(p: Portability, migration: Migration, owner: str, reverse_from: Mapping[str, Any]) -> Migration:
    tenant = p.tenant(migration.tenant_id)
    closed = p.clock()
    until = closed + migration.request["budget_seconds"]
    # the turn ends whatever a try that was killed may still be doing
    turn = p.turns.take(migration.migration_id, TURN, owner, always=True)
    return p.store.transition(
        migration,
        State.FENCED,
        {
            "fence": {"closed_at": int(closed * 1000), "until": until, "epoch": tenant.epoch},
            "reverse_from": dict(reverse_from),
        },
        by=owner,
        beside=[*fence.close(tenant, migration.migration_id, until), p.turns.check(turn)],
    )


def _resume(p: Portability, migration: Migration, owner: str, say: Callable[[str], None]) -> Migration:
    """Take over a fence that a killed try has closed, or open it if its time is nearly over."""
    left = migration.notes["fence"]["until"] - p.clock()
    if left > migration.request["budget_seconds"] / 2:
        say(f"going on in the fence of a try that has died: {left:.0f} s are left")
        p.turns.take(migration.migration_id, TURN, owner, always=True)
        return migration
    say("a try that has died has left the fence closed: opening it")
    return reopen(p, migration, owner=owner, why="a try has died in the fence")


def reopen(p: Portability, migration: Migration, *, owner: str, why: str, to: State = State.APPROVED) -> Migration:
    """Open the fence of a migration that is `State.FENCED`, and leave the tenant where it is."""
    tenant = p.tenant(migration.tenant_id)
    return p.store.transition(migration, to, by=owner, why=why, beside=fence.open_again(tenant, migration.migration_id))


def _open(p: Portability, work: _Cutover, error: BaseException, say: Callable[[str], None]) -> None:
    """Open the fence after an error, unless the tenant has moved all the same (the answer of the switch was lost)."""
    migration = p.store.load(work.migration.migration_id)
    why = f"{type(error).__name__}: {error}"
    if work.direction is Direction.FORWARD:
        if migration.state is not State.FENCED:
            return
        tenant = p.tenant(migration.tenant_id)
        back = State.CATCHING_UP if isinstance(error, NotVerified) else State.APPROVED
        p.store.transition(
            migration,
            back,
            work.note(p, switched=False, why_not=why),
            by=work.owner,
            why=why,
            beside=fence.open_again(tenant, migration.migration_id),
        )
    elif migration.state is not State.ROLLED_BACK:
        tenant = p.tenant(migration.tenant_id)
        transact(p.clients.dynamodb, fence.open_again(tenant, migration.migration_id), sleep=p.sleep)
        p.store.note(migration.migration_id, work.note(p, switched=False, why_not=why))
    say(f"the fence is open again ({why}); tenant {migration.tenant_id} is where it was")
    remove_markers(p, migration)
