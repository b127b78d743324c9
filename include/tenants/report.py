"""What is known of a migration now: for the task's log, as JSON, and as a page that loads itself again while the migration goes on.

Everything comes from the migration's own rows, so a report can be made at any time, by anybody who may read them. No secret is in it,
and no content of an item.
"""

from __future__ import annotations

import html
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from include.tenants.plan import moves_data, source_tier, target_tier
from include.tenants.states import OUTCOMES, State, reached
from include.tenants.store import altered, broken_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.tenants.portability import Portability
    from include.tenants.saas import Tier
    from include.tenants.store import Migration

PREFIX: Final = "tenants/migrations"
READ_DOLLARS: Final = 0.125 / 1_000_000
WRITE_DOLLARS: Final = 0.625 / 1_000_000
"""DynamoDB on demand in us-east-1, per request unit (aws.amazon.com/dynamodb/pricing/on-demand)."""
_UNIT_BYTES: Final = 1024
_REFRESH_SECONDS: Final = 5
_MOST_KEYS: Final = 50
_IDENTITY: Final = {
    "users": "users of the old user pool",
    "migrated": "of them came over with their passwords",
    "imported": "of them imported, who have to set a password",
    "missing": "of them still to come",
    "new": "made since the switch",
    "disabled": "of the old pool's, who may not sign in",
}
"""What the figures of `include.tenants.identity.IdentityCoverage` are called on the page."""
_WAY: Final = tuple(state for state in State if state not in (State.ABORTED, State.ROLLED_BACK))
_WAY_WITHOUT_DATA: Final = tuple(
    state
    for state in _WAY
    if state not in (State.STREAM_ARMED, State.COPYING, State.CATCHING_UP, State.FENCED, State.SOAK)
)


def key(migration_id: str, form: str) -> str:
    """Where the report is in the report bucket; ``form`` is html or json."""
    return f"{PREFIX}/{migration_id}/report.{form}"


def gather(p: Portability, migration_id: str) -> dict[str, Any]:
    """All figures, as plain JSON values."""
    migration, events = p.store.record(migration_id)
    now = int(p.clock() * 1000)
    notes = migration.notes
    return {
        "migration_id": migration_id,
        "tenant_id": migration.tenant_id,
        "from": source_tier(migration).value,
        "to": migration.request["target_tier"],
        "asked_for": migration.request.get("why", ""),
        "state": migration.state.value,
        "served_from": served_from(migration).value,
        "next_step": next_step(migration),
        "outcome": migration.outcome.value if migration.outcome else None,
        "why": notes.get("aborted", {}).get("why", ""),
        "asked": notes.get("aborted", {}).get("asked", False),
        "at": now,
        "seconds": ((max(migration.moments.values()) if migration.state is State.CLEANED else now) - migration.began)
        / 1000,
        "moments": dict(migration.moments),
        "copy": _copy(p, migration),
        "replay": _replay(p, migration),
        "verification": _verification(notes),
        "cutovers": notes.get("cutovers", []),
        "write_unavailable_seconds": max((each["seconds"] for each in notes.get("cutovers", [])), default=0.0),
        "identity": notes.get("identity_coverage", {}),
        "compliance": notes.get("compliance", []),
        "approval": notes.get("approval"),
        "deletion": notes.get("deletion"),
        "cleaned": notes.get("cleaned"),
        "cost": _cost(p, migration),
        "evidence": notes.get("archive", {}),
        "deletion_evidence": notes.get("deletion_evidence", {}),
        "audit": [vars(event) for event in events],
        "audit_broken_at": broken_at(events),
        "audit_altered": altered(migration, events),
    }


def served_from(migration: Migration) -> Tier:
    """The tier that the tenant is in as far as this migration goes: its route and the state change in one transaction."""
    moved = reached(migration.state, State.SWITCHED) or migration.outcome is State.COMPLETE
    return target_tier(migration) if moved else source_tier(migration)


def next_step(migration: Migration) -> str:
    """What a person does if no task of the migration goes on any more; empty if there is nothing to do."""
    if migration.state is State.CLEANED:
        task = "discard_target of its run" if removed_unasked(migration) else "clean_up of clean_up_tenant_source"
        return "" if "deletion_evidence" in migration.notes else f"clear {task}, which signs what was deleted"
    if migration.state is State.ARCHIVED:
        return "clear discard_target of its run" if removed_unasked(migration) else "run clean_up_tenant_source"
    if migration.state in OUTCOMES:
        return "clear archive of its run"
    if migration.state in (State.SWITCHED, State.SOAK):
        return "clear the red task of its run to end it, or run rollback_tenant_migration to move the tenant back"
    return "run rollback_tenant_migration, which ends it and leaves the tenant where it is; then start another"


def removed_unasked(migration: Migration) -> bool:
    """Whether ``discard_target`` cleans up after it: nobody was served from what it removes, or there is nothing to remove."""
    return migration.outcome is State.ABORTED or not moves_data(migration)


def publish(p: Portability, migration_id: str) -> dict[str, Any]:
    """Write the report's page and its JSON to S3; gives the report."""
    report = gather(p, migration_id)
    for form, body, kind in (
        ("json", json.dumps(report, indent=2).encode(), "application/json"),
        ("html", to_html(report).encode(), "text/html; charset=utf-8"),
    ):
        p.clients.s3.put_object(Bucket=p.config.report_bucket, Key=key(migration_id, form), Body=body, ContentType=kind)
    return report


def to_text(report: Mapping[str, Any]) -> str:
    """A few lines for a log."""
    lines = [_headline(report), _whereabouts(report)]
    copy, replay = report["copy"], report["replay"]
    if copy["expected"]:
        left = f", about {copy['seconds_left']:.0f} s left" if copy["seconds_left"] else ""
        lines.append(f"copied {copy['items']:,} of {copy['expected']:,} items{left}")
    for direction, figures in replay.items():
        lines.append(f"replayed {figures['applied']:,} changes {direction}, {figures['lag_seconds']:.1f} s behind")
    if verification := report["verification"]:
        lines.append(verification["summary"])
    for each in report["cutovers"]:
        done = "switched" if each["switched"] else f"not switched: {each['why_not']}"
        lines.append(f"{each['direction']} cutover: {each['seconds']:.2f} s without writes, {done}")
    return "\n".join(lines)


def to_note(report: Mapping[str, Any], most: int) -> str:
    """Markdown for a run's page, of at most so many characters."""
    return "\n\n".join(to_text(report).splitlines())[:most]


def to_html(report: Mapping[str, Any]) -> str:
    """The page: no script, no picture, nothing from elsewhere."""
    going_on = report["state"] != State.CLEANED
    refresh = f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">' if going_on else ""
    body = "".join(
        [
            f"<h1>Tenant {_text(report['tenant_id'])}: {_text(report['from'])} → {_text(report['to'])}</h1>",
            f"<p class=lead>{_text(_headline(report))}</p>",
            f"<p>{_text(_whereabouts(report))}</p>",
            f"<p>As of {moment(report['at'])}.{_todo(report)}</p>",
            _way(report),
            _bars(report),
            _section("Write-unavailability", _cutover_table(report["cutovers"])),
            _section("Verification", _verification_table(report["verification"])),
            _section("Decisions", _decisions(report)),
            _section("Identity", _identity(report["identity"])),
            _section("Compliance", _checks(report["compliance"])),
            _section("Cost of the move", _pairs(report["cost"])),
            _section("Evidence", _pairs(report["evidence"])),
            _section("Evidence of the deletion", _pairs(report["deletion_evidence"])),
            _section("Audit trail", _audit(report)),
        ]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{refresh}'
        f"<title>{_text(report['tenant_id'])}: {_text(report['state'])}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _headline(report: Mapping[str, Any]) -> str:
    outcome = f" ({report['outcome']})" if report["outcome"] and report["outcome"] != report["state"] else ""
    why = f": {report['why']}" if report["why"] else ""
    return (
        f"{report['tenant_id']} from {report['from']} to {report['to']}: {report['state']}{outcome} after "
        f"{duration(report['seconds'])}{why}"
    )


def _whereabouts(report: Mapping[str, Any]) -> str:
    if report["state"] == State.CLEANED:
        return f"it has left the tenant in {report['served_from']}"
    kept_out = ", its writes are kept out" if report["state"] == State.FENCED else ""
    return f"the tenant is served from {report['served_from']}{kept_out}"


def _todo(report: Mapping[str, Any]) -> str:
    if not report["next_step"]:
        return ""
    return f" If no task of it is running or waiting: {_text(report['next_step'])}."


def _copy(p: Portability, migration: Migration) -> dict[str, Any]:
    expected = migration.notes["plan"]["items"]
    figures = {"items": 0, "bytes": 0, "read_units": 0.0, "retried": 0}
    done = 0
    for turn in p.turns.all(migration.migration_id, "copy#"):
        done += bool(turn.checkpoint.get("done"))
        for name in figures:
            figures[name] += turn.checkpoint.get("figures", {}).get(name, 0)
    began = migration.moments.get(State.COPYING.value)
    left = 0.0
    if migration.state is State.COPYING and began and figures["items"]:
        rate = figures["items"] / max(p.clock() - began / 1000, 0.001)
        left = max(expected - figures["items"], 0) / rate
    # a tenant that is being used may have more by now
    return {**figures, "expected": max(expected, figures["items"]), "partitions_done": done, "seconds_left": left}


def _replay(p: Portability, migration: Migration) -> dict[str, Any]:
    return {
        turn.name.removeprefix("replay#"): {
            "applied": turn.checkpoint.get("totals", {}).get("applied", 0),
            "lag_seconds": turn.checkpoint.get("lag", 0.0),
            "repeated": turn.checkpoint.get("totals", {}).get("repeated", 0),
        }
        for turn in p.turns.all(migration.migration_id, "replay#")
    }


def _verification(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The last comparison, and which one it was."""
    named = (
        ("after_soak", "after the soak"),
        ("in_fence_back", "in the fence of the rollback"),
        ("in_fence", "in the fence"),
        ("not_equal", "before the switch"),
    )
    compared = [(notes[name], when) for name, when in named if name in notes]
    if "verification" in notes:
        compared.append((notes["verification"]["comparison"], "before the cutover"))
    return _told(*max(compared, key=lambda each: each[0]["at_ms"])) if compared else {}


def _told(comparison: Mapping[str, Any], when: str) -> dict[str, Any]:
    counts = {name: comparison[f"{name}_count"] for name in ("missing", "different", "extra", "foreign")}
    equal = not any(counts.values())
    told = "equal on both sides" if equal else ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return {
        "when": when,
        "at": comparison["at_ms"],
        "summary": f"{comparison['items']:,} items compared {when}: {told}",
        "equal": equal,
        **counts,
        "items": comparison["items"],
        "tables": comparison["tables"],
        "differ": [{**each, "kind": kind} for kind in counts for each in comparison[kind]][:_MOST_KEYS],
    }


def _cost(p: Portability, migration: Migration) -> dict[str, Any]:
    """An estimate from what was counted: what reading and writing would cost on demand."""
    if not moves_data(migration):
        return {"dollars": 0.0, "read_units": 0, "write_units": 0, "assumes": "no data moves"}
    copy = _copy(p, migration)
    replayed = sum(each["applied"] for each in _replay(p, migration).values())
    compared = [
        migration.notes[name] for name in ("in_fence", "in_fence_back", "after_soak") if name in migration.notes
    ]
    if "verification" in migration.notes:
        compared.append(migration.notes["verification"]["comparison"])
    # strongly consistent reads of both sides, 4 KB a unit
    read = copy["read_units"] + sum(2 * math.ceil(each.get("bytes", 0) / (4 * _UNIT_BYTES)) for each in compared)
    average = math.ceil(copy["bytes"] / copy["items"] / _UNIT_BYTES) if copy["items"] else 1
    write = copy["items"] * average + 2 * replayed * average  # a write in a transaction counts twice
    return {
        "dollars": round(read * READ_DOLLARS + write * WRITE_DOLLARS, 4),
        "read_units": round(read, 1),
        "write_units": write,
        "assumes": "on demand, us-east-1; items of average size; stacks, streams and storage not counted",
    }


def _way(report: Mapping[str, Any]) -> str:
    way: list[State] = list(_WAY if report["copy"]["expected"] or "COPYING" in report["moments"] else _WAY_WITHOUT_DATA)
    if report["outcome"] in (State.ABORTED, State.ROLLED_BACK):
        kept = [
            state
            for state in way
            if state.value in report["moments"] and state not in (*OUTCOMES, State.ARCHIVED, State.CLEANED)
        ]
        way = [*kept, State(report["outcome"]), State.ARCHIVED, State.CLEANED]
    steps = []
    for state in way:
        at = report["moments"].get(state.value)
        kind = "now" if state == report["state"] else "done" if at else "todo"
        steps.append(f"<li class={kind}><b>{state.value}</b><small>{moment(at) if at else ''}</small></li>")
    return f"<ol class=way>{''.join(steps)}</ol>"


def _bars(report: Mapping[str, Any]) -> str:
    copy = report["copy"]
    if not copy["expected"] and not report["replay"]:
        return ""
    share = min(100.0, 100.0 * copy["items"] / copy["expected"]) if copy["expected"] else 100.0
    left = f", about {duration(copy['seconds_left'])} left" if copy["seconds_left"] else ""
    rows = [
        f"<p>Copied <b>{copy['items']:,}</b> of {copy['expected']:,} items, {copy['bytes'] / 1e6:,.1f} MB{left}</p>"
        f'<div class=bar><span style="width:{share:.1f}%"></span></div>'
    ]
    for direction, figures in report["replay"].items():
        rows.append(
            f"<p>Replayed <b>{figures['applied']:,}</b> changes {_text(direction)}, {figures['lag_seconds']:.1f} s behind</p>"
        )
    return _section("Data", "".join(rows))


def _cutover_table(cutovers: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (
            each["direction"],
            moment(each["closed_at"]),
            f"{each['seconds']:.2f} s",
            f"{each['drained']:,}",
            f"{each['stragglers']:,}",
            f"{each['items']:,}",
            "switched" if each["switched"] else each["why_not"],
        )
        for each in cutovers
    ]
    return _table(("direction", "closed", "without writes", "drained", "past the fence", "compared", "result"), rows)


def _verification_table(verification: Mapping[str, Any]) -> str:
    if not verification:
        return ""
    rows = [
        (
            each["table"],
            each["shard_id"],
            f"{each['source']['count']:,}",
            f"{each['target']['count']:,}",
            each["source"]["digest"][:16],
            each["target"]["digest"][:16],
        )
        for each in verification["tables"]
    ]
    table = _table(("table", "partition", "source", "target", "digest of the source", "digest of the target"), rows)
    differ = _table(
        ("", "table", "partition", "key"),
        [(each["kind"], each["table"], each["shard_id"], each["sort"]) for each in verification["differ"]],
    )
    kind = "good" if verification["equal"] else "bad"
    return (
        f"<p class={kind}>{_text(verification['summary'])}</p>{differ}<details{'' if verification['equal'] else ' open'}><summary>By "
        f"partition</summary>{table}</details>"
    )


def _decisions(report: Mapping[str, Any]) -> str:
    rows = []
    for title, decision in (("cutover", report["approval"]), ("deletion", report["deletion"])):
        if decision:
            said = "approved" if decision["approved"] else "refused"
            rows.append((title, said, decision["by"], moment(decision["at"]), decision["why"]))
    return _table(("of", "decision", "by", "at", "why"), rows)


def _identity(figures: Mapping[str, Any]) -> str:
    named = {_IDENTITY.get(name, name): value for name, value in figures.items() if name != "share"}
    if "share" in figures:
        named["in the new user pool"] = f"{figures['share']:.1%}"
    return _pairs(named)


def _checks(checks: Iterable[Mapping[str, Any]]) -> str:
    rows = [("ok" if each["ok"] else "NOT", each["name"], each["expected"], each["found"]) for each in checks]
    return _table(("", "check", "expected", "found"), rows)


def _audit(report: Mapping[str, Any]) -> str:
    rows = [
        (event["epoch"], moment(event["at"]), event["after"], event["by"], event["why"], event["digest"][:12])
        for event in report["audit"]
        if event["before"] != event["after"]
    ]
    broken, changed = report["audit_broken_at"], report["audit_altered"]
    told, kind = "whole: each event carries the hash of the one before, and of what was noted", "good"
    if broken is not None or changed:
        where = f"at event {broken}" if broken is not None else f"in {', '.join(changed)}"
        told, kind = _text(f"BROKEN {where}: somebody has changed the table"), "bad"
    return f"<p class={kind}>{told}</p>" + _table(("", "at", "state", "by", "why", "hash"), rows)


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>{content}" if content else ""


def _pairs(values: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    return _table(("", ""), [(name.replace("_", " "), value) for name, value in plain.items()])


def _table(titles: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{_text(title)}</th>" for title in titles)
    return f"<div class=wide><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _text(value: Any) -> str:
    return html.escape(str(value))


def moment(at: int) -> str:
    """A moment in milliseconds since the epoch, for people."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """So many seconds, for people."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #2e9e5b; --bad: #d64545; --now: #2f7de1 }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 68rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
.lead { margin: .3rem 0 1rem; opacity: .85 }
.way { display: flex; flex-wrap: wrap; gap: .35rem; list-style: none; padding: 0 }
.way li { border: 1px solid var(--line); border-radius: .4rem; padding: .25rem .5rem; font-size: .8rem }
.way small { display: block; opacity: .7; font-size: .68rem }
.way .done { border-color: var(--good) }
.way .todo { opacity: .5 }
.way .now { border-color: var(--now); background: var(--now); color: #fff }
.bar { height: .6rem; border-radius: .3rem; background: var(--line); overflow: hidden }
.bar span { display: block; height: 100%; background: var(--good) }
.good { color: var(--good) } .bad { color: var(--bad) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; opacity: .7 }
"""
