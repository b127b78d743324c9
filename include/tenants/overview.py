"""All migrations on one page, and what somebody should look at."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants import fence
from include.tenants.cutover import reopen
from include.tenants.deny import DENY
from include.tenants.exceptions import MigrationConflict, TenantUnknown
from include.tenants.plan import source_tier, target_tier
from include.tenants.report import PREFIX, STYLE, duration, moment, next_step, removed_unasked
from include.tenants.states import State, reached
from include.tenants.transactions import ConditionFailed, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

HOUR: Final = 3600.0
PATIENCE_SECONDS: Final[dict[State, float]] = {
    State.PLANNED: HOUR,
    State.PREFLIGHT: HOUR,
    State.PROVISIONED: HOUR,
    State.STREAM_ARMED: HOUR,
    State.COPYING: 14 * HOUR,
    State.CATCHING_UP: 14 * HOUR,
    State.APPROVED: HOUR,
    State.FENCED: HOUR / 6,
    State.SWITCHED: HOUR,
    State.COMPLETE: HOUR,
    State.ABORTED: HOUR,
    State.ROLLED_BACK: HOUR,
}
"""How long a migration may be in a state that a task leaves at once."""
_LATE_SECONDS: Final = HOUR


@dataclass(frozen=True)
class Line:
    """A migration, in one line.

    Attributes:
        migration_id: which.
        tenant_id: whose.
        way: from which tier to which.
        state: where it is.
        outcome: how it came out; empty while it goes on.
        began: milliseconds since the epoch.
        seconds: how long it has been in its state.
        unavailable_seconds: longest time without writes.
        concern: why somebody should look at it, and what to do; empty if nobody has to.
    """

    migration_id: str
    tenant_id: str
    way: str
    state: str
    outcome: str
    began: int
    seconds: float
    unavailable_seconds: float
    concern: str


def survey(p: Portability, say: Callable[[str], None]) -> list[Line]:
    """Look at all migrations, the newest first; opens the fences whose time is over and whose run has left them."""
    return [_line(p, _opened(p, migration, say)) for migration in p.store.all()]


def publish(p: Portability, lines: Sequence[Line]) -> None:
    """Write the page with all migrations and its JSON to S3."""
    for form, body, kind in (
        ("json", json.dumps([asdict(line) for line in lines], indent=2).encode(), "application/json"),
        ("html", to_html(lines, int(p.clock() * 1000)).encode(), "text/html; charset=utf-8"),
    ):
        p.clients.s3.put_object(
            Bucket=p.config.report_bucket, Key=f"{PREFIX}/index.{form}", Body=body, ContentType=kind
        )


def to_text(lines: Sequence[Line]) -> str:
    """For a log."""
    if not lines:
        return "no tenant was ever moved"
    told = [f"{'tenant':24} {'way':22} {'state':12} {'outcome':12} {'since':>14}  concern"]
    told += [
        f"{line.tenant_id:24} {line.way:22} {line.state:12} {line.outcome:12} {duration(line.seconds):>14}  {line.concern}"
        for line in lines
    ]
    return "\n".join(told)


def to_html(lines: Sequence[Line], at: int) -> str:
    """The page, as of a moment in milliseconds since the epoch."""
    rows = "".join(
        f'<tr><td><a href="{html.escape(line.migration_id)}">{html.escape(line.migration_id)}</a></td><td>{html.escape(line.way)}</td>'
        f"<td>{line.state}</td><td>{line.outcome}</td><td>{moment(line.began)}</td><td>{line.unavailable_seconds:.2f} s</td><td "
        f"class=bad>{html.escape(line.concern)}</td></tr>"
        for line in lines
    )
    head = "".join(
        f"<th>{title}</th>" for title in ("migration", "way", "state", "outcome", "began", "without writes", "")
    )
    table = (
        f"<div class=wide><table><tr>{head}</tr>{rows}</table></div>" if lines else "<p>No tenant was ever moved.</p>"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tenant migrations</title><style>{STYLE}</style></head>'
        f"<body><h1>Tenant migrations</h1><p>As of {moment(at)}; report_tenant_migrations writes it each hour.</p>{table}</body></html>"
    )


def _opened(p: Portability, migration: Migration, say: Callable[[str], None]) -> Migration:
    if migration.state is State.CLEANED:
        return migration
    until = fence.fenced_until(p.clients.dynamodb, migration.tenant_id, migration.migration_id)
    if until is None or p.clock() <= until + _GRACE_SECONDS:
        return migration
    say(f"{migration.migration_id}: its fence is past its time: opening it")
    try:
        if migration.state is State.FENCED:
            return reopen(p, migration, owner="report_tenant_migrations", why="the fence was past its time")
        fence.open_rows(p.clients.dynamodb, migration.tenant_id, migration.migration_id, sleep=p.sleep)
        tenant = p.tenant(migration.tenant_id)
        if tenant.fenced_by == migration.migration_id:
            transact(p.clients.dynamodb, [fence.mark_open(tenant, migration.migration_id)], sleep=p.sleep)
    except (MigrationConflict, ConditionFailed, TenantUnknown) as error:
        say(f"{migration.migration_id}: somebody else was faster ({error})")
    return p.store.load(migration.migration_id)


_GRACE_SECONDS: Final = 60.0
"""The cutover itself opens its fence; whoever does it for it waits so long."""


def _line(p: Portability, migration: Migration) -> Line:
    now = p.clock()
    since = now - migration.moments[migration.state.value] / 1000
    cutovers: list[dict[str, Any]] = migration.notes.get("cutovers", [])
    return Line(
        migration.migration_id,
        migration.tenant_id,
        f"{source_tier(migration)} → {target_tier(migration)}",
        migration.state.value,
        migration.outcome.value if migration.outcome else "",
        migration.began,
        since,
        max((each["seconds"] for each in cutovers), default=0.0),
        _concern(migration, now, since),
    )


def _concern(migration: Migration, now: float, since: float) -> str:
    policy = migration.notes.get(DENY)
    if policy and (migration.outcome or reached(migration.state, State.SWITCHED)):
        return (
            f"the tenant's writes are denied still, by the policy {policy} of the application's role: remove_deny "
            "(include/tenants/deny.py)"
        )
    late = _late(migration, now, since)
    return f"{late}: {next_step(migration)}" if late else ""


def _late(migration: Migration, now: float, since: float) -> str:
    if migration.state is State.SOAK:
        over = now - migration.notes["soak"]["until"] / 1000
        return f"its soak is over for {duration(over)}" if over > _LATE_SECONDS else ""
    if migration.state is State.VERIFIED:
        over = since - migration.request["approve_within_minutes"] * 60
        return f"nobody has decided for {duration(since)}" if over > _LATE_SECONDS else ""
    if since > _LATE_SECONDS:
        if migration.state is State.ARCHIVED and removed_unasked(migration):
            return f"what it had made is not removed for {duration(since)}"
        if migration.state is State.CLEANED and "deletion_evidence" not in migration.notes:
            return f"its deletion has no evidence for {duration(since)}"
    patience = PATIENCE_SECONDS.get(migration.state)
    return f"it is {migration.state} for {duration(since)}" if patience and since > patience else ""
