"""The one moment that matters: writes are kept out, the last changes drain, both sides are compared, the route is switched.

The same in both directions: a rollback is a cutover whose source is the target. What decides is the comparison, strongly consistent, of
all the tenant's items inside the fence: DynamoDB orders changes per item only, so that a drained stream is a good sign and no proof.

Whatever goes wrong before the switch opens the fence again; the tenant is then where it was, with everything it wrote. If this process
dies, the application opens the fence itself once its time is over (`include.tenants.fence`), and then nobody can switch any more.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
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
    from collections.abc import Callable, Iterator

    from include.tenants.portability import Portability
    from include.tenants.saas import Route
    from include.tenants.store import Migration
    from include.tenants.turns import Turn
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
    turn = p.turns.take(migration.migration_id, TURN, owner, always=True)
    if migration.state is not State.FENCED:
        _before(p, migration, Direction.FORWARD, owner, say)
        migration = _begin(p, migration, turn, owner)
    tenant = p.tenant(migration.tenant_id)
    state = migration.notes["fence"]
    work = _Cutover(p, migration, Direction.FORWARD, turn, say, state["closed_at"], state["until"])
    with _opened_after_an_error(p, work, say):
        fence.close_rows(
            p.clients.dynamodb, tenant, migration.migration_id, state["until"], sleep=p.sleep, clock=p.clock
        )
        comparison = work.prove_equal()
        switched = p.store.transition(
            migration,
            State.SWITCHED,
            {"in_fence": comparison.to_json(), **work.note(p, switched=True)},
            by=owner,
            why=f"{comparison.items:,} items compared in the fence: equal",
            beside=[*fence.switch(tenant, migration.migration_id, route, state["until"]), *work.ends()],
        )
    figures = switched.notes["cutovers"][-1]
    remove_markers(p, switched)  # a task that is killed here leaves them to the soak's
    say(f"switched after {figures['seconds']:.2f} s without writes; {comparison.items:,} items are equal on both sides")
    return switched


def switch_plan(p: Portability, migration: Migration, route: Route, *, to: State, owner: str, why: str) -> Migration:
    """Give the tenant another tier that shares the tables of its own: nothing is copied, so nothing has to be kept out."""
    return p.store.transition(
        migration, to, by=owner, why=why, beside=[fence.switch_plan(p.tenant(migration.tenant_id), route)]
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
        CutoverFailed: over budget, or the fence did not hold; likewise. Try again.
        MigrationConflict: somebody else has moved the tenant.
    """
    turn = p.turns.take(migration.migration_id, TURN, owner, always=True)
    _before(p, migration, Direction.REVERSE, owner, say)
    tenant = p.tenant(migration.tenant_id)
    closed, until = p.clock(), p.clock() + migration.request["budget_seconds"]
    try:
        closing = [fence.mark_closed(tenant, migration.migration_id), p.turns.check(turn)]
        transact(p.clients.dynamodb, closing, sleep=p.sleep)
    except ConditionFailed as error:
        raise MigrationConflict(
            f"migration {migration.migration_id}: expected tenant {tenant.tenant_id} at epoch {tenant.epoch} without another's fence, "
            "found something else: somebody has moved the tenant, or rolls it back at this moment"
        ) from error
    work = _Cutover(p, migration, Direction.REVERSE, turn, say, int(closed * 1000), until)
    with _opened_after_an_error(p, work, say):
        fence.close_rows(p.clients.dynamodb, tenant, migration.migration_id, until, sleep=p.sleep, clock=p.clock)
        comparison = work.prove_equal()
        done = p.store.transition(
            migration,
            State.ROLLED_BACK,
            {"in_fence_back": comparison.to_json(), **work.note(p, switched=True)},
            by=owner,
            why=why,
            beside=[*fence.switch(tenant, migration.migration_id, route, until), *work.ends()],
        )
    remove_markers(p, done)
    say(f"rolled back after {done.notes['cutovers'][-1]['seconds']:.2f} s without writes")
    return done


def resume(p: Portability, migration: Migration, *, owner: str, say: Callable[[str], None]) -> Migration:
    """Look at a fence that a killed try has closed: the migration is still fenced if there is time to go on, else approved again."""
    left = migration.notes["fence"]["until"] - p.clock()
    if left > migration.request["budget_seconds"] / 2:
        say(f"going on in the fence of a try that has died: {left:.0f} s are left")
        return migration
    say("a try that has died has left the fence closed: opening it")
    return reopen(p, migration, owner=owner, why="a try has died in the fence")


def reopen(p: Portability, migration: Migration, *, owner: str, why: str) -> Migration:
    """Open the fence of a migration that is `State.FENCED`, and leave the tenant where it is."""
    fence.open_rows(p.clients.dynamodb, migration.tenant_id, migration.migration_id, sleep=p.sleep)
    return p.store.transition(
        migration,
        State.APPROVED,
        by=owner,
        why=why,
        beside=[fence.mark_open(p.tenant(migration.tenant_id), migration.migration_id)],
    )


class _Cutover:
    """The work inside the fence."""

    def __init__(
        self,
        p: Portability,
        migration: Migration,
        direction: Direction,
        turn: Turn,
        say: Callable[[str], None],
        closed_at: int,
        until: float,
    ) -> None:
        self._p = p
        self.migration = migration
        self.direction = direction
        self.turn = turn
        self.owner = turn.owner
        self.mark = str(turn.token)
        self._until = until
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
        put_markers(p, migration, self.direction, mark=self.mark)
        drained = drain(
            p, migration, self.direction, owner=self.owner, deadline=self.deadline, say=self._say, mark=self.mark
        )
        self.figures |= {
            "markers": drained.markers_seen,
            "drained": drained.records,
            "stragglers": drained.stragglers,
        }
        if not drained.complete:
            raise self._over_budget("the changes to drain out of the stream")
        comparison, rounds = self._compared(), 0
        while not comparison.equal:
            if p.clock() >= self.deadline:
                raise self._differs(comparison)
            rounds += 1
            p.sleep(_RECHECK_PAUSE_SECONDS)
            replay(p, migration, self.direction, owner=self.owner, seconds=1, always=True, say=self._say)
            comparison = recheck(p, migration, self.direction, comparison)
            if comparison.equal:  # the replay may have touched what was equal before
                comparison = self._compared()
        self.figures |= {"items": comparison.items, "rounds": rounds}
        if p.clock() >= self.deadline:
            raise self._over_budget("the comparison")
        return comparison

    def _compared(self) -> Comparison:
        """Everything, while nobody replays: whose transaction is still on its way has lost the turn, and it is kept until the switch."""
        p = self._p
        seconds = max(self._until - p.clock(), 1.0)
        self._replays = p.turns.take(
            self.migration.migration_id, replay_turn(self.direction), self.owner, seconds=seconds, always=True
        )
        return compare(p, self.migration, self.direction, say=self._say)

    def ends(self) -> list[dict[str, Any]]:
        """What stands beside the switch: nobody else has cut over or replayed since the comparison, and nobody replays any more.

        A replay that was thought dead would take what the other direction writes for changes of its own.
        """
        name = replay_turn(self.direction)
        return [
            self._p.turns.check(self.turn),
            self._p.turns.retire(self.migration.migration_id, name, self._replays),
        ]

    def has_moved(self, migration: Migration) -> bool:
        """Whether the switch has happened, although its answer was lost."""
        moved = State.SWITCHED if self.direction is Direction.FORWARD else State.ROLLED_BACK
        return moved.value in migration.moments

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
            "nothing is lost. Try when fewer changes come, or with a higher budget_seconds"
        )

    def _differs(self, comparison: Comparison) -> NotVerified:
        self._p.store.note(self.migration.migration_id, {"not_equal": comparison.to_json()})
        return NotVerified(
            f"migration {self.migration.migration_id}: expected both sides to be equal in the fence, found {comparison.summary}; the fence "
            "is open again, the tenant is where it was, nothing is lost. Did somebody write to the tables without the application? "
            "The keys are in the report"
        )


def require_time(migration: Migration, seconds: float) -> None:
    """Look that a comparison that takes ``seconds`` leaves time to drain and to switch.

    Raises:
        NotVerified: it would need more than half of the budget.
    """
    budget = migration.request["budget_seconds"]
    if seconds > budget / 2:
        raise NotVerified(
            f"migration {migration.migration_id}: expected the comparison to need at most half of budget_seconds = {budget:g}, found that "
            f"it took {seconds:.1f} s; the fence was not closed. Start another migration with budget_seconds = {math.ceil(3 * seconds)}"
        )


def _before(p: Portability, migration: Migration, direction: Direction, owner: str, say: Callable[[str], None]) -> None:
    """Come near enough, and let the last write of a copying task that has lost its turn arrive, before anybody is kept out."""
    if direction is Direction.FORWARD:
        quiet = migration.notes["copied"]["quiet_at"] - p.clock()
        if quiet > 0:
            say(f"waiting {quiet:.0f} s: so long may a killed task of the copy still be writing")
            p.sleep(quiet)
        require_time(migration, migration.notes["verification"]["comparison"]["seconds"])
    end = p.clock() + CATCH_UP_SECONDS
    most = migration.request["most_lag_seconds"]
    while True:
        figures = replay(p, migration, direction, owner=owner, seconds=5, past=p.clock(), always=True, say=say)
        if figures.at_tip or figures.lag_seconds <= most:
            return
        if p.clock() > end:
            raise CutoverFailed(
                f"migration {migration.migration_id}: expected a lag of at most {most} s within {CATCH_UP_SECONDS:.0f} s, found "
                f"{figures.lag_seconds:.0f} s; the fence was not closed. Try when fewer changes come"
            )


def _begin(p: Portability, migration: Migration, turn: Turn, owner: str) -> Migration:
    """Say that the fence is going to be closed, and store where the reverse replay would begin."""
    # before anybody is served there; what the replay to it still writes is replayed back too, which changes nothing
    reverse_from = {
        table["target"]: arm(p, table["target"], margin_seconds=_MARGIN_SECONDS).to_json()
        for table in migration.notes["tables"]
    }
    tenant = p.tenant(migration.tenant_id)
    closed = p.clock()
    until = closed + migration.request["budget_seconds"]
    return p.store.transition(
        migration,
        State.FENCED,
        {
            "fence": {"closed_at": int(closed * 1000), "until": until, "epoch": tenant.epoch},
            "reverse_from": reverse_from,
        },
        by=owner,
        beside=[fence.mark_closed(tenant, migration.migration_id), p.turns.check(turn)],
    )


@contextmanager
def _opened_after_an_error(p: Portability, work: _Cutover, say: Callable[[str], None]) -> Iterator[None]:
    """Open the fence after an error, unless the tenant has moved all the same (the answer of the switch was lost).

    Raises:
        CutoverFailed: instead of the conflict that a broken fence is.
    """
    try:
        yield
    except BaseException as error:
        migration = p.store.load(work.migration.migration_id)
        why = f"{type(error).__name__}: {error}"
        now = p.turns.read(work.turn.migration_id, work.turn.name)
        mine = now is not None and now.token == work.turn.token  # else another try is in the fence, and opens it
        if mine and not work.has_moved(migration) and _open(p, work, error, why):
            say(f"the fence is open again ({why}); tenant {migration.tenant_id} is where it was")
            remove_markers(p, migration)
            if isinstance(error, MigrationConflict):
                raise CutoverFailed(
                    f"migration {migration.migration_id}: expected the fence to be whole until the switch, found it broken (its time was "
                    f"over, or somebody opened it); the tenant is where it was, nothing is lost. Try again. {error}"
                ) from error
        raise


def _open(p: Portability, work: _Cutover, error: BaseException, why: str) -> bool:
    """Open the fence; False if the switch has arrived in the last moment after all."""
    fence.open_rows(p.clients.dynamodb, work.migration.tenant_id, work.migration.migration_id, sleep=p.sleep)
    migration = p.store.load(work.migration.migration_id)  # from here on none can arrive any more
    if work.has_moved(migration):
        return False
    opened = fence.mark_open(p.tenant(migration.tenant_id), migration.migration_id)
    if work.direction is Direction.REVERSE:
        transact(p.clients.dynamodb, [opened, p.turns.check(work.turn)], sleep=p.sleep)
        p.store.note(migration.migration_id, work.note(p, switched=False, why_not=why))
    elif migration.state is State.FENCED:
        back = State.CATCHING_UP if isinstance(error, NotVerified) else State.APPROVED
        p.store.transition(
            migration,
            back,
            work.note(p, switched=False, why_not=why),
            by=work.owner,
            why=why,
            beside=[opened, p.turns.check(work.turn)],
        )
    return True
