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
            f"checks hold.",
            f"*{APPROVE}*: its writes are kept out for at most **{request['budget_seconds']:g} s** while the last changes drain and "
            f"everything is "
            f"compared again; reads go on. If that does not come out equal and in time, nothing is switched. Afterwards changes are "
            f"replayed back "
            f"for {request['soak_minutes']:g} minutes, so that `rollback_tenant_migration` can undo it.",
            f"*{REFUSE}*: the migration ends, what was copied is removed, the tenant stays where it is. So does silence for "
            f"{request['approve_within_minutes']:g} minutes.",
        ]
    )


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
            f"Evidence: `{archive['uri']}`, locked until {archive['locked_until']}. It is verified once more before anything is deleted.",
        ]
    )
