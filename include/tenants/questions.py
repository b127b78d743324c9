"""What a person is told before they decide; Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.tenants.plan import moves_data, source_tier, target_tier
from include.tenants.states import State

if TYPE_CHECKING:
    from include.tenants.store import Migration

APPROVE, REFUSE = "Approve", "Refuse"
"""The answers to the questions whether to cut over, and whether to delete."""


def cutover_question(migration: Migration) -> str:
    """Before the tenant is moved."""
    head = f"Tenant **{migration.tenant_id}** goes from **{source_tier(migration)}** to **{target_tier(migration)}**."
    if not moves_data(migration):
        return f"{head}\n\nBoth share their tables and users: only its plan and its key change, nothing is kept out."
    request, comparison = migration.request, migration.notes["verification"]["comparison"]
    return "\n\n".join(
        [
            head,
            f"Verified: {comparison['items']:,} items are equal on both sides. {len(migration.notes.get('compliance', []))} compliance "
            "checks held when the target was provisioned.",
            f"*{APPROVE}*: its writes are kept out for at most **{request['budget_seconds']:g} s** while the last changes drain and "
            "everything is compared again; reads go on. If that does not come out equal and in time, nothing is switched. Afterwards "
            f"changes are replayed back for {_minutes(request['soak_minutes'])}, so that `rollback_tenant_migration` can undo it.",
            f"*{REFUSE}*: the migration ends, what was copied is removed, the tenant stays where it is. So does silence for "
            f"{_minutes(request['approve_within_minutes'])}.",
            _report(migration),
        ]
    )


def _report(migration: Migration) -> str:
    return f"[Migration report](/tenant-migrations/{migration.migration_id})"


def _users_told(migration: Migration) -> list[str]:
    """Who of its users has to set a password, since they had not signed in before their time was over."""
    coverage = migration.notes.get("identity_coverage", {})
    if not coverage.get("users"):
        return []
    return [
        f"Users: {coverage['migrated']:,} of {coverage['users']:,} came over with their passwords, {coverage['imported']:,} were imported "
        f"and have to set one, {coverage['missing']:,} have yet to come."
    ]


def _left_behind(migration: Migration) -> list[str]:
    """What only the side that is deleted has, if anything has."""
    lost = migration.notes.get("way_back_lost")
    told_first = [f"**The way back was lost during the soak**: {lost}"] if lost else []
    comparison = migration.notes.get("after_soak", {})
    counts = {kind: comparison.get(f"{kind}_count", 0) for kind in ("missing", "different", "extra", "foreign")}
    if not any(counts.values()):
        return told_first
    told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    return [
        *told_first,
        f"**The sides were not equal at the end of the soak: {told}.** Somebody wrote to the old tables past the application; what they "
        "wrote is only there and goes with them. The keys of the first are in the report.",
    ]


def deletion_question(migration: Migration) -> str:
    """Before what has served the tenant is deleted."""
    side = "source" if migration.outcome is State.COMPLETE else "target"
    what = {
        "source": migration.notes["plan"]["deletes"],
        "target": [f"what the migration made for it in {target_tier(migration)}"],
    }[side]
    archive = migration.notes["archive"]
    return "\n\n".join(
        [
            f"Tenant **{migration.tenant_id}** is served from {'the target' if side == 'source' else 'the source'} since the migration is "
            f"{migration.outcome}.",
            f"*{APPROVE}* deletes: {'; '.join(what)}. It can't be undone, but by the tables' point-in-time recovery.",
            *_left_behind(migration),
            *_users_told(migration),
            f"Evidence: `{archive['uri']}`, locked until {archive['locked_until']}. It is verified once more before anything is deleted.",
            _report(migration),
        ]
    )


def _minutes(count: float) -> str:
    return f"{count:g} minute{'' if count == 1 else 's'}"
