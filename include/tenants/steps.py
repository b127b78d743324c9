"""What each task of a migration does. A benchmark and the tests run the same functions without Airflow.

Each takes the migration's id, reads where it is, and does what is missing: it may be killed at any line and called again, by whomever. What
has to happen once is a conditional transition; what may happen twice changes nothing the second time.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from include.tenants import cutover, fence, stream_switch
from include.tenants.changes import Direction, arm, replay, replay_turn
from include.tenants.draining import remove_markers
from include.tenants.exceptions import (
    ApprovalRefused,
    BadRequest,
    MigrationConflict,
    NotVerified,
    ProvisioningFailed,
    StreamTrimmed,
    TenantUnknown,
    TurnLost,
    TurnTaken,
)
from include.tenants.plan import moves_data, source_tier
from include.tenants.preflight import preflight
from include.tenants.request import STREAM_HOURS
from include.tenants.saas import Route
from include.tenants.states import OUTCOMES, State, reached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.tenants.changes import ReplayFigures
    from include.tenants.copying import CopyFigures, Unit
    from include.tenants.portability import Portability
    from include.tenants.store import Migration
    from include.tenants.verify import Comparison

    type Say = Callable[[str], None]

REPLAY_SHARE: Final = 0.9
"""Of the time that the stream keeps a change: a replay that would be further behind is given up."""
RECHECK_SECONDS: Final = 60.0
"""How long a verification looks again at items that were changed while it ran."""


def look_before(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """See whether it may begin; see `include.tenants.preflight`."""
    migration = p.store.load(migration_id)
    if migration.state is not State.PLANNED:
        return _past(migration, State.PREFLIGHT)
    found = preflight(p, migration, say)
    return p.store.transition(migration, State.PREFLIGHT, {"preflight": found}, by=owner)


def provision(p: Portability, migration_id: str, *, owner: str, say: Say) -> None:
    """Make the target's resources and configuration, and look whether they keep tenants apart. The state moves on with `port_identity`.

    Raises:
        ProvisioningFailed: something could not be made, or isn't as it has to be.
        IsolationBroken: the target's policy lets a tenant see another's items.
    """
    from include.tenants import isolation, resources

    migration = p.store.load(migration_id)
    if migration.state is not State.PREFLIGHT:
        _past(migration, State.PROVISIONED)
        return
    if moves_data(migration):
        p.store.note(migration_id, {"resources": resources.provision(p, migration, say)})
        migration = p.store.load(migration_id)
        p.store.note(migration_id, {"observability": resources.mirror_observability(p, migration)})
        migration = p.store.load(migration_id)
        p.store.note(migration_id, {"isolation": isolation.check_isolation(p, migration)})


def port_identity(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """Make the target's user pool, client, group and the way its users come over; then check what was provisioned as a whole.

    Raises:
        ProvisioningFailed: a compliance check does not hold.
    """
    from include.tenants import compliance, configuration, identity

    migration = p.store.load(migration_id)
    if migration.state is not State.PREFLIGHT:
        return _past(migration, State.PROVISIONED)
    if moves_data(migration):
        p.store.note(migration_id, {"identity": identity.port_identity(p, migration, say)})
        migration = p.store.load(migration_id)
    p.store.note(migration_id, {"configuration": configuration.configure(p, migration)})
    migration = p.store.load(migration_id)
    checks = compliance.run_checks(p, migration)
    for check in checks:
        say(f"{'ok ' if check.ok else 'NOT'} {check.name}: expected {check.expected}, found {check.found}")
    bad = [f"{check.name}: expected {check.expected}, found {check.found}" for check in checks if not check.ok]
    if bad:
        raise ProvisioningFailed(f"migration {migration_id}: the target is not as it has to be: {'; '.join(bad)}")
    return p.store.transition(
        migration, State.PROVISIONED, {"compliance": [asdict(check) for check in checks]}, by=owner
    )


def arm_streams(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """Store where the replay begins, before anything is copied: whatever is changed from here on is replayed."""
    migration = p.store.load(migration_id)
    if migration.state is not State.PROVISIONED:
        return _past(migration, State.STREAM_ARMED)
    if not moves_data(migration):
        return migration
    stream_switch.about_to_enable(p, migration)
    armed, streams = {}, {}
    for table in migration.notes["tables"]:
        position = arm(p, table["source"])
        armed[table["source"]], streams[table["source"]] = position.to_json(), position.stream
        # so that the reverse channel need not wait for its stream inside the fence
        streams[table["target"]] = arm(p, table["target"]).stream
        say(f"every change of {table['source']} from here on is replayed")
    return p.store.transition(
        migration,
        State.STREAM_ARMED,
        {"armed": armed, **stream_switch.made(p, migration, streams)},
        by=owner,
    )


def begin_copy(p: Portability, migration_id: str, *, owner: str) -> list[Unit]:
    """What is to be copied, in pieces that can be copied at once."""
    from include.tenants.copying import units

    migration = p.store.load(migration_id)
    if migration.state is State.STREAM_ARMED:
        migration = p.store.transition(migration, State.COPYING, by=owner)
    _past(migration, State.COPYING)
    return units(migration.tenant_id)


def copy(
    p: Portability, migration_id: str, unit: Unit, *, owner: str, units_per_second: float, say: Say
) -> CopyFigures | None:
    """Copy a piece; None if the copy is over already."""
    from include.tenants.copying import copy_unit

    migration = p.store.load(migration_id)
    if migration.state is not State.COPYING:
        _past(migration, State.CATCHING_UP)
        return None
    names = next(names for names in migration.notes["tables"] if names["prefix"] == unit.table.prefix)
    return copy_unit(
        p,
        migration,
        unit,
        names["source"],
        names["target"],
        owner=owner,
        units_per_second=units_per_second,
        say=say,
    )


def finish_copy(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """End the copy: no task can write another page of it.

    Raises:
        MigrationConflict: a piece isn't copied to its end.
    """
    from include.tenants.copying import copied, quiet_at, units

    migration = p.store.load(migration_id)
    if migration.state is not State.COPYING:
        return _past(migration, State.CATCHING_UP)
    figures, missing = copied(p, migration)
    if missing:
        raise MigrationConflict(
            f"migration {migration_id}: expected {len(units(migration.tenant_id))} pieces to be copied, found {len(missing)} that are not: "
            f"{', '.join(missing[:5])}; see why their tasks ended, and start another migration"
        )
    notes = {"copied": asdict(figures) | {"quiet_at": quiet_at(p, migration)}}
    say(f"copied {figures.items:,} items ({figures.bytes / 1e6:,.1f} MB) for {figures.read_units:,.0f} read units")
    return p.store.transition(migration, State.CATCHING_UP, notes, by=owner)


def replicate(
    p: Portability,
    migration_id: str,
    direction: Direction,
    *,
    owner: str,
    seconds: float,
    past: float = math.inf,
    say: Say,
) -> ReplayFigures | None:
    """Replay changes for a while (see `replay`); None if the replay in this direction is over, or somebody else is at it.

    Raises:
        StreamTrimmed: it is, or would be, too far behind to catch up before the stream forgets.
    """
    migration = p.store.load(migration_id)
    if not replicates(migration, direction):
        return None
    try:
        figures = replay(p, migration, direction, owner=owner, seconds=seconds, past=past, say=say)
    except (TurnTaken, TurnLost) as error:
        say(str(error))
        return None
    if figures.lag_seconds > STREAM_HOURS * 3600 * REPLAY_SHARE:
        todo = (
            "this migration ends; start another when fewer changes come, or with more read_units"
            if direction is Direction.FORWARD
            else "run rollback_tenant_migration now, or let the way back go: mark replicate_reverse as success and clear complete"
        )
        raise StreamTrimmed(
            f"migration {migration_id}: expected a lag below {STREAM_HOURS * REPLAY_SHARE:.0f} hours, found "
            f"{figures.lag_seconds / 3600:.1f}: the stream would forget changes before they are replayed; {todo}"
        )
    return figures


def replicates(migration: Migration, direction: Direction) -> bool:
    """Whether changes are replayed in this direction in the state that the migration is in."""
    if direction is Direction.FORWARD:
        return migration.state in (State.CATCHING_UP, State.VERIFIED, State.APPROVED, State.FENCED)
    return migration.state in (State.SWITCHED, State.SOAK) and moves_data(migration)


def verify(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """Compare both sides while the tenant writes; what was changed meanwhile is looked at again behind the replay.

    Raises:
        NotVerified: they differ for good, or comparing them takes too long for the budget: nobody need approve that.
    """
    migration = p.store.load(migration_id)
    if migration.state is State.PROVISIONED and not moves_data(migration):
        return p.store.transition(migration, State.VERIFIED, by=owner, why="no data moves")
    if migration.state is not State.CATCHING_UP:
        return _past(migration, State.VERIFIED)
    began = p.clock()
    comparison = _compared(p, migration, Direction.FORWARD, owner=owner, say=say)
    if not comparison.equal:
        p.store.note(migration_id, {"not_equal": comparison.to_json()})
        raise NotVerified(
            f"migration {migration_id}: expected both sides to be equal behind the replay, found {comparison.summary}. Is the target "
            "written to by somebody else? Look at the keys in the report"
        )
    cutover.require_time(migration, comparison.seconds)
    expires = int((began + p.config.verification_minutes * 60) * 1000)
    say(
        f"verified: {comparison.items:,} items are equal on both sides; good for {p.config.verification_minutes:.0f} minutes"
    )
    notes = {"verification": {"comparison": comparison.to_json(), "expires_at": expires}}
    return p.store.transition(migration, State.VERIFIED, notes, by=owner)


def _compared(p: Portability, migration: Migration, direction: Direction, *, owner: str, say: Say) -> Comparison:
    """Compare both sides while the tenant writes: what differs is looked at again behind the replay, for a while."""
    from include.tenants.verify import compare, recheck

    name = migration.migration_id
    replicate(p, name, direction, owner=owner, seconds=RECHECK_SECONDS, past=p.clock(), say=say)
    comparison = compare(p, migration, direction, say=say)
    end = p.clock() + RECHECK_SECONDS
    while not comparison.equal and p.clock() < end:
        # whoever is at the replay goes on; if nobody is, this does it
        replicate(p, name, direction, owner=owner, seconds=5, past=p.clock(), say=_silent)
        comparison = recheck(p, migration, direction, comparison)
        say(f"looked again at what differed: {comparison.summary}")
    return comparison


def decide(p: Portability, migration_id: str, *, approved: bool, by: str, why: str, at: int) -> Migration:
    """Write down what a person decided about the cutover; a refusal ends the migration.

    Args:
        p: what to work with.
        migration_id: verified.
        approved: what they decided.
        by: their name; ``nobody`` if nobody has answered in time.
        why: in their words.
        at: when, in milliseconds since the epoch.
    """
    migration = p.store.load(migration_id)
    if migration.state is not State.VERIFIED:
        return migration if migration.outcome else _past(migration, State.APPROVED)
    notes = {"approval": {"approved": approved, "by": by, "why": why, "at": at}}
    if not approved:
        return abort(p, migration_id, owner=by, why=f"not approved: {why}", say=_silent, asked=True, notes=notes)
    return p.store.transition(migration, State.APPROVED, notes, by=by, why=why)


def cut_over(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """Move the tenant; see `include.tenants.cutover`. What was verified too long ago is verified again first: the approval holds.

    Raises:
        ApprovalRefused: nobody has approved it, or too long ago.
        NotVerified: both sides differ. Nothing was switched.
        CutoverFailed: over budget; likewise.
    """
    from include.tenants.configuration import target_route

    migration = p.store.load(migration_id)
    if reached(migration.state, State.SWITCHED):
        return migration
    if migration.state is State.FENCED:
        migration = cutover.resume(p, migration, owner=owner, say=say)
    approval = migration.notes.get("approval")
    if not approval or not approval["approved"] or migration.outcome:
        raise ApprovalRefused(
            f"migration {migration_id}: expected it to be approved, found it {migration.state}; nothing was switched"
        )
    age = p.clock() / 60 - approval["at"] / 60000
    most = migration.request["approve_within_minutes"]
    if age > most and migration.state is not State.FENCED:
        raise ApprovalRefused(
            f"migration {migration_id}: expected an approval that is at most {most:g} minutes old, found one of {age:.0f} minutes ago by "
            f"{approval['by']}; nothing was switched"
        )
    if not moves_data(migration):
        route = target_route(p, migration)
        return cutover.switch_plan(p, migration, route, to=State.SWITCHED, owner=owner, why="no data moves")
    migration = _verified_again(p, migration, owner=owner, say=say)
    return cutover.cut_over(p, migration, target_route(p, migration), owner=owner, say=say)


def _verified_again(p: Portability, migration: Migration, *, owner: str, say: Say) -> Migration:
    """The approved migration with a verification that is still good."""
    if migration.state is State.APPROVED:
        if p.clock() * 1000 <= migration.notes["verification"]["expires_at"]:
            return migration
        migration = p.store.transition(migration, State.CATCHING_UP, by=owner, why="the verification has expired")
    if migration.state is State.CATCHING_UP:
        migration = verify(p, migration.migration_id, owner=owner, say=say)
    if migration.state is State.VERIFIED:
        why = f"verified again; approved by {migration.notes['approval']['by']}"
        migration = p.store.transition(migration, State.APPROVED, by=owner, why=why)
    return migration


def begin_soak(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """Begin to replay what the tenant writes now back to the source, so that the migration can be rolled back without loss."""
    migration = p.store.load(migration_id)
    if migration.state is not State.SWITCHED or not moves_data(migration):
        return migration
    remove_markers(p, migration)
    p.store.note(migration_id, _covered(p, migration, say))
    until = int((p.clock() + migration.request["soak_minutes"] * 60) * 1000)
    return p.store.transition(migration, State.SOAK, {"soak": {"until": until}}, by=owner)


def _covered(p: Portability, migration: Migration, say: Say) -> dict[str, Any]:
    """How far the users have come, to be noted. Neither the replay back nor the end waits until Cognito can tell."""
    from include.tenants.identity import coverage

    try:
        return {"identity_coverage": coverage(p, migration).to_json()}
    except Exception as error:  # of Cognito
        say(f"how many users have come over is not known now: {error}")
        return {}


def complete(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration:
    """End the way back. Both sides are compared once more: what differs now was written to the source behind the application's back."""
    migration = _after_a_rollback(p, p.store.load(migration_id), say)
    if migration.outcome:
        return migration
    if migration.state not in (State.SWITCHED, State.SOAK):
        raise MigrationConflict(f"migration {migration_id}: expected it to be switched, found it {migration.state}")
    notes: dict[str, Any] = {}
    beside = []
    if moves_data(migration):
        notes |= _covered(p, migration, say)
        fence.open_rows(p.clients.dynamodb, migration.tenant_id, migration_id, sleep=p.sleep)
        tenant = p.tenant(migration.tenant_id)
        if tenant.fenced_by == migration_id:  # a rollback that has died in its fence
            beside.append(fence.mark_open(tenant, migration_id))
        comparison = _compared_after_soak(p, migration, owner=owner, say=say, notes=notes)
        notes["after_soak"] = comparison.to_json()
        if not comparison.equal:
            say(f"written behind the application's back since the switch, and left where it is: {comparison.summary}")
        beside.append(p.turns.retire(migration_id, replay_turn(Direction.REVERSE)))
    return p.store.transition(migration, State.COMPLETE, notes, by=owner, beside=beside)


def _after_a_rollback(p: Portability, migration: Migration, say: Say) -> Migration:
    """Let a rollback that is in its fence come to its end: whoever has asked for it in time gets it."""
    waited = False
    while not migration.outcome:
        until = fence.fenced_until(p.clients.dynamodb, migration.tenant_id, migration.migration_id)
        left = (until or 0) - p.clock()
        if left <= 0:
            break
        if not waited:
            say(f"waiting for a rollback that is in its fence, for {left:.0f} s at most")
        waited = True
        p.sleep(min(1.0, left))
        migration = p.store.load(migration.migration_id)
    return migration


def _compared_after_soak(
    p: Portability, migration: Migration, *, owner: str, say: Say, notes: dict[str, Any]
) -> Comparison:
    """Both sides, once more; also when the way back was lost because its stream has forgotten changes."""
    from include.tenants.verify import compare

    try:
        return _compared(p, migration, Direction.REVERSE, owner=owner, say=say)
    except StreamTrimmed as error:
        say(f"the way back is lost, and ends here: {error}")
        notes["way_back_lost"] = str(error)
        return compare(p, migration, Direction.REVERSE, say=say)


def abort(
    p: Portability,
    migration_id: str,
    *,
    owner: str,
    why: str,
    say: Say,
    asked: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Migration:
    """End a migration before the tenant has moved: open the fence if it is closed, let no task of it write any more.

    What was copied already is removed when it is cleaned up, which needs no approval: nobody has ever been served from it.

    Args:
        p: what to work with.
        migration_id: not switched.
        owner: who does it.
        why: in their words.
        say: told what happens.
        asked: whether a person wanted it.
        notes: what else is known by now.

    Raises:
        MigrationConflict: the tenant has moved; roll it back instead.
    """
    from include.tenants.copying import quiet_at, units

    migration = p.store.load(migration_id)
    if migration.outcome:
        return migration
    if reached(migration.state, State.SWITCHED):
        raise MigrationConflict(
            f"migration {migration_id}: expected the tenant not to have moved, found {migration.state}; roll it back "
            "(rollback_tenant_migration)"
        )
    names = [replay_turn(direction) for direction in Direction]
    if moves_data(migration):
        names += [unit.name for unit in units(migration.tenant_id)]
    beside = [p.turns.retire(migration_id, name) for name in names]
    fence.open_rows(p.clients.dynamodb, migration.tenant_id, migration_id, sleep=p.sleep)
    try:
        tenant = p.tenant(migration.tenant_id)
    except TenantUnknown:  # somebody has deleted it: the migration is to end all the same
        say(f"tenant {migration.tenant_id} is there no more")
    else:
        if tenant.fenced_by == migration_id:
            beside.append(fence.mark_open(tenant, migration_id))
    aborted = p.store.transition(
        migration,
        State.ABORTED,
        {
            "aborted": {
                "after": migration.state.value,
                "why": why,
                "asked": asked,
                "quiet_at": quiet_at(p, migration),
            },
            **(notes or {}),
        },
        by=owner,
        why=why,
        beside=beside,
    )
    say(f"aborted after {migration.state}: {why}; the tenant is where it was")
    return aborted


def roll_back(p: Portability, migration_id: str, *, owner: str, why: str, say: Say) -> Migration:
    """Undo a migration: abort it before the switch; after it, move the tenant back with everything it wrote since.

    Raises:
        BadRequest: it is over, so there is no way back any more but another migration.
    """
    migration = p.store.load(migration_id)
    if migration.state is State.ROLLED_BACK:
        _return_users(p, migration, say)
    if migration.outcome in (State.ABORTED, State.ROLLED_BACK):
        return migration  # the tenant is where it was
    if migration.state not in (State.SWITCHED, State.SOAK):
        if migration.outcome:
            raise BadRequest(
                f"migration {migration_id}: expected it to be under way, found it {migration.state}: the replay to the source has ended. "
                f"Start another migration to {source_tier(migration)}"
            )
        return abort(p, migration_id, owner=owner, why=why, say=say, asked=True)
    route = source_route(p, migration)
    if not moves_data(migration):
        return cutover.switch_plan(p, migration, route, to=State.ROLLED_BACK, owner=owner, why=why)
    _return_users(p, migration, say)  # those that were made since the switch can sign in when they are back
    migration = cutover.roll_back(p, migration, route, owner=owner, why=why, say=say)
    _return_users(p, migration, say)  # and those that were made meanwhile
    return migration


def _return_users(p: Portability, migration: Migration, say: Say) -> None:
    """Bring users that were made in the target back; the clean-up does it again. Where the tenant is served doesn't wait for it."""
    from include.tenants.identity import return_identity

    try:
        return_identity(p, migration, say)
    except Exception as error:  # of Cognito, which must not keep a tenant where it is in trouble
        say(f"not all users that were made since the switch are back, the clean-up tries again: {error}")


def source_route(p: Portability, migration: Migration) -> Route:
    """The route that the tenant had, with the API key read again."""
    from include.tenants.configuration import source_api_key

    source = migration.notes["source"]
    key = source_api_key(p, migration)
    return Route(source_tier(migration), source["user_pool_id"], source["app_client_id"], source["api_url"], key)


def archive(p: Portability, migration_id: str, *, owner: str, say: Say) -> Migration | None:
    """Lock the evidence away; None if the migration isn't over yet."""
    from include.tenants.archive import archive as write_archive

    migration = p.store.load(migration_id)
    if migration.state in (State.ARCHIVED, State.CLEANED):
        return migration
    if migration.state not in OUTCOMES:
        return None
    written = write_archive(p, migration)
    say(f"evidence: {written['uri']}, locked until {written['locked_until']}")
    return p.store.transition(migration, State.ARCHIVED, {"archive": written}, by=owner)


def clean_up(
    p: Portability, migration_id: str, *, owner: str, say: Say, approval: Mapping[str, Any] | None = None
) -> Migration:
    """Remove what the tenant left behind, and free it for another migration.

    Args:
        p: what to work with.
        migration_id: archived.
        owner: who does it.
        say: told what happens.
        approval: who has agreed to delete what has served the tenant, and why. Not needed after an abort: nothing there has.

    Raises:
        ApprovalRefused: it is needed.
        EvidenceInvalid: the archive isn't there or isn't what was signed; nothing was deleted.
    """
    from include.tenants.archive import archive_deletion
    from include.tenants.clean_up import remove_leftovers

    migration = p.store.load(migration_id)
    if migration.state is State.CLEANED:
        archive_deletion(p, migration)  # a try before this one may have died before it
        return migration
    if migration.state is not State.ARCHIVED:
        raise MigrationConflict(
            f"migration {migration_id}: expected it to be archived before anything is deleted, found it {migration.state}"
        )
    if migration.outcome is not State.ABORTED and moves_data(migration) and not (approval and approval.get("approved")):
        raise ApprovalRefused(
            f"migration {migration_id}: expected a person to have agreed to the deletion, found nobody"
        )
    if migration.outcome is State.ABORTED:
        # a write of a copying task that has lost its turn may still be on its way
        late = migration.notes["aborted"]["quiet_at"] - p.clock()
        if late > 0:
            say(f"waiting {late:.0f} s: so long may a write of the copy be on its way")
            p.sleep(late)
    removed = remove_leftovers(p, migration, say, owner=owner)
    notes = {"cleaned": removed, **({"deletion": dict(approval)} if approval else {})}
    cleaned = p.store.transition(migration, State.CLEANED, notes, by=owner, why=str((approval or {}).get("why", "")))
    say(f"evidence of the deletion: {archive_deletion(p, cleaned)['uri']}")
    return cleaned


def _past(migration: Migration, wanted: State) -> Migration:
    """The migration, which must be at ``wanted`` or past it.

    Raises:
        MigrationConflict: it has gone another way.
    """
    if not reached(migration.state, wanted):
        raise MigrationConflict(
            f"migration {migration.migration_id}: expected it to be on its way to {wanted}, found it {migration.state}; see its report"
        )
    return migration


def _silent(text: str) -> None:
    """Say nothing."""
