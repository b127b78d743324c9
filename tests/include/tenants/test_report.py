"""What is told of a migration: in a log, in a note, on a page, at any time of its life."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest

from include.tenants.plan import begin, make_plan
from include.tenants.report import duration, gather, key, moment, publish, to_html, to_note, to_text
from include.tenants.request import MigrationRequest
from include.tenants.saas import MIGRATIONS, Tier
from include.tenants.states import State
from tests.include.tenants.conftest import REPORTS
from tests.include.tenants.histories import put_tenant

KINDS = ("missing", "different", "extra", "foreign")
BEGAN = 1_764_000_000_000


def compared(**counts):
    side = {"count": 1200, "digest": "ab" * 32}
    return {
        "at_ms": BEGAN,
        "items": 1200,
        "seconds": 2.0,
        "bytes": 4_096_000,
        "tables": [{"table": "Product", "shard_id": "acme-1", "source": side, "target": side}],
        **{f"{kind}_count": counts.get(kind, 0) for kind in KINDS},
        **{kind: [] for kind in KINDS},
    }


def cutover(seconds, *, switched=True, direction="forward", why_not=""):
    counted = {"drained": 3, "stragglers": 0, "items": 1200}
    return {
        "direction": direction,
        "closed_at": BEGAN,
        "seconds": seconds,
        "switched": switched,
        "why_not": why_not,
        **counted,
    }


@pytest.fixture
def p(portability):
    put_tenant(portability.clients, "acme", "Basic", api_key="a-secret-key")
    return portability


def moved(p, *states, target="Platinum", notes=None, why="It was asked for"):
    """A migration that went this way."""
    request = MigrationRequest("acme", Tier(target), why=why)
    migration = begin(p, "m-1", request, make_plan(p, request), by="ann")
    for state in states:
        migration = p.store.transition(migration, state, (notes or {}).get(state, {}), by="test")
    return migration


DATA = [State.PREFLIGHT, State.PROVISIONED, State.STREAM_ARMED, State.COPYING, State.CATCHING_UP, State.VERIFIED]
SWITCHED = [*DATA, State.APPROVED, State.FENCED, State.SWITCHED]


def test_before_anything_has_happened_it_tells_what_is_going_to(p):
    moved(p)
    report = gather(p, "m-1")
    assert (report["state"], report["outcome"], report["from"], report["to"]) == ("PLANNED", None, "Basic", "Platinum")
    headline, where = to_text(report).splitlines()
    assert re.fullmatch(r"acme from Basic to Platinum: PLANNED after \d+\.\d s", headline)
    assert where == "the tenant is served from Basic"
    page = to_html(report)
    assert 'http-equiv="refresh"' in page
    assert "<li class=now><b>PLANNED</b>" in page
    assert "<li class=todo><b>CLEANED</b>" in page
    assert "whole: each event carries the hash" in page
    assert "a-secret-key" not in page + json.dumps(report)


def test_while_it_copies_the_time_left_is_told(p):
    moved(p, *DATA[:4], notes={State.PREFLIGHT: {"plan": {"items": 3000}}})
    turn = p.turns.take("m-1", "copy#Product#acme-1", "test")
    figures = {"items": 1000, "bytes": 2_000_000, "read_units": 250.0, "retried": 4}
    p.turns.save(turn, {"done": True, "figures": figures})
    later = replace(p, clock=lambda: time.time() + 100)
    report = gather(later, "m-1")
    assert (report["copy"]["items"], report["copy"]["expected"], report["copy"]["partitions_done"]) == (1000, 3000, 1)
    assert 195 <= report["copy"]["seconds_left"] <= 300
    assert re.search(r"copied 1,000 of 3,000 items, about \d+ s left", to_text(report))
    page = to_html(report)
    assert "Copied <b>1,000</b> of 3,000 items, 2.0 MB, about" in page
    assert 'style="width:33.3%"' in page
    assert report["cost"]["read_units"] == 250
    assert report["cost"]["write_units"] == 2000  # two KB each


def test_where_no_data_moves_nothing_is_said_of_any(p):
    switched = [State.PREFLIGHT, State.PROVISIONED, State.VERIFIED, State.APPROVED, State.SWITCHED]
    moved(p, *switched, State.COMPLETE, State.ARCHIVED, State.CLEANED, target="Premium")
    report = gather(p, "m-1")
    assert report["cost"] == {"dollars": 0.0, "read_units": 0, "write_units": 0, "assumes": "no data moves"}
    assert to_text(report).splitlines() == [
        f"acme from Basic to Premium: CLEANED (COMPLETE) after {duration(report['seconds'])}",
        "it has left the tenant in Premium",
    ]
    page = to_html(report)
    assert "refresh" not in page  # nothing is going to change
    assert "<h2>Data</h2>" not in page
    for state in ("COPYING", "FENCED", "SOAK"):
        assert f"<b>{state}</b>" not in page


def test_cleaned_up_its_time_has_ended(p):
    moved(p, State.ABORTED, State.ARCHIVED, State.CLEANED)
    assert gather(replace(p, clock=lambda: time.time() + 9999), "m-1")["seconds"] < 600


def test_of_an_aborted_one_it_tells_why_and_how_far_it_came(p):
    aborted = {"after": "VERIFIED", "why": "not approved: not on a Friday", "asked": True, "quiet_at": 0}
    approval = {"approved": False, "by": "bea", "why": "not on a Friday", "at": BEGAN}
    verification = {"comparison": compared(extra=2, missing=1), "expires_at": 0}
    moved(
        p,
        *DATA,
        State.ABORTED,
        notes={
            State.VERIFIED: {"verification": verification},
            State.ABORTED: {"aborted": aborted, "approval": approval},
        },
    )
    report = gather(p, "m-1")
    assert (report["outcome"], report["asked"], report["write_unavailable_seconds"]) == ("ABORTED", True, 0.0)
    assert "ABORTED after" in to_text(report)
    assert "not approved: not on a Friday" in to_text(report)
    assert "1,200 items compared before the cutover: 1 missing, 2 extra" in to_text(report)
    page = to_html(report)
    for part in ("<b>VERIFIED</b>", "<b>ABORTED</b>", "refused", "bea", "<details open>"):
        assert part in page, part
    for state in ("APPROVED", "SWITCHED", "COMPLETE"):
        assert f"<b>{state}</b>" not in page


@pytest.mark.parametrize(
    ("states", "tier", "todo"),
    [
        (
            [],
            "Basic",
            "run rollback_tenant_migration, which ends it and leaves the tenant where it is; then start another",
        ),
        ([*DATA, State.APPROVED, State.FENCED], "Basic", "run rollback_tenant_migration, which ends it"),
        (SWITCHED, "Platinum", "clear the red task of its run to end it, or"),
        ([*SWITCHED, State.SOAK], "Platinum", "or run rollback_tenant_migration to move the tenant back"),
        ([*SWITCHED, State.SOAK, State.COMPLETE], "Platinum", "clear archive of its run"),
        ([*SWITCHED, State.SOAK, State.COMPLETE, State.ARCHIVED], "Platinum", "run clean_up_tenant_source"),
        ([*SWITCHED, State.SOAK, State.ROLLED_BACK, State.ARCHIVED], "Basic", "run clean_up_tenant_source"),
        ([State.ABORTED], "Basic", "clear archive of its run"),
        ([State.ABORTED, State.ARCHIVED], "Basic", "clear discard_target of its run"),
        ([State.ABORTED, State.ARCHIVED, State.CLEANED], "Basic", "clear discard_target of its run, which signs"),
        (
            [*SWITCHED, State.SOAK, State.COMPLETE, State.ARCHIVED, State.CLEANED],
            "Platinum",
            "clear clean_up of clean_up_tenant_source, which signs what was deleted",
        ),
    ],
)
def test_in_each_state_it_tells_where_the_tenant_is_and_what_a_person_would_do(p, states, tier, todo):
    moved(p, *states)
    report = gather(p, "m-1")
    page = to_html(report)
    assert report["served_from"] == tier
    assert todo in report["next_step"]
    assert f"If no task of it is running or waiting: {report['next_step']}." in page
    assert (f"the tenant is served from {tier}" in page) is (report["state"] != "CLEANED")
    assert ("its writes are kept out" in page) is (report["state"] == "FENCED")


def test_its_page_tells_of_which_moment_it_is(p):
    """It loads itself again, also when nobody writes it any more."""
    moved(p)
    assert "As of 2025-11-24 16:00:00 UTC." in to_html(gather(replace(p, clock=lambda: BEGAN / 1000), "m-1"))


def test_the_keys_that_differ_are_on_the_page(p):
    comparison = compared(missing=1, extra=1)
    comparison["missing"] = [{"table": "Order", "shard_id": "acme-3", "sort": "o-17", "source": "ab", "target": ""}]
    comparison["extra"] = [{"table": "Product", "shard_id": "acme-9", "sort": "p-4", "source": "", "target": "cd"}]
    moved(p, *DATA, notes={State.VERIFIED: {"verification": {"comparison": comparison, "expires_at": 0}}})
    page = to_html(gather(p, "m-1"))
    assert "<tr><td>missing</td><td>Order</td><td>acme-3</td><td>o-17</td></tr>" in page
    assert "<tr><td>extra</td><td>Product</td><td>acme-9</td><td>p-4</td></tr>" in page


def test_users_who_have_not_signed_in_yet_are_not_called_missing(p):
    figures = {"users": 8, "migrated": 5, "imported": 1, "missing": 2, "new": 0, "disabled": 1, "share": 0.75}
    moved(p, State.PREFLIGHT, notes={State.PREFLIGHT: {"identity_coverage": figures}})
    page = to_html(gather(p, "m-1"))
    for row in (
        "<td>users of the old user pool</td><td>8</td>",
        "<td>of them still to come</td><td>2</td>",
        "<td>in the new user pool</td><td>75.0%</td>",
    ):
        assert row in page
    assert "missing" not in page


def test_both_archives_are_told(p):
    base = "s3://evidence/tenants/acme/m-1"
    last = moved(
        p, State.ABORTED, State.ARCHIVED, notes={State.ARCHIVED: {"archive": {"uri": f"{base}/manifest.json"}}}
    )
    assert "Evidence of the deletion" not in to_html(gather(p, "m-1"))
    p.store.transition(last, State.CLEANED, by="test")
    p.store.note("m-1", {"deletion_evidence": {"uri": f"{base}/deletion/manifest.json", "version": "v2"}})
    report = gather(p, "m-1")
    assert report["deletion_evidence"]["version"] == "v2"
    assert report["next_step"] == ""
    page = to_html(report)
    for row in (f"{base}/manifest.json", f"<td>uri</td><td>{base}/deletion/manifest.json</td>", "<td>v2</td>"):
        assert row in page
    assert "If no task" not in page


def test_of_one_that_was_rolled_back_both_cutovers_and_the_last_comparison_are_told(p):
    cutovers = [
        cutover(4.5, switched=False, why_not="CutoverFailed: over budget"),
        cutover(1.25),
        cutover(2.5, direction="reverse"),
    ]
    noted = {
        State.VERIFIED: {"verification": {"comparison": compared(missing=5), "expires_at": 0}},
        State.SWITCHED: {"in_fence": compared(), "cutovers": cutovers[:2]},
        State.ROLLED_BACK: {"in_fence_back": compared(), "cutovers": cutovers},
    }
    moved(p, *DATA, State.APPROVED, State.FENCED, State.SWITCHED, State.SOAK, State.ROLLED_BACK, notes=noted)
    report = gather(p, "m-1")
    assert report["write_unavailable_seconds"] == 4.5
    assert (report["verification"]["when"], report["verification"]["equal"]) == ("in the fence of the rollback", True)
    told = to_text(report).splitlines()
    assert "forward cutover: 4.50 s without writes, not switched: CutoverFailed: over budget" in told
    assert "forward cutover: 1.25 s without writes, switched" in told
    assert "reverse cutover: 2.50 s without writes, switched" in told
    page = to_html(report)
    assert "<b>SOAK</b>" in page
    assert "<b>COMPLETE</b>" not in page
    # three comparisons of both sides, strongly consistent, 4 KB a unit
    assert report["cost"]["read_units"] == 3 * 2 * 1000


def test_nobodys_words_become_markup(p):
    evil = "<script>alert('x')</script><img src=x onerror=y>"
    aborted = {"after": "PLANNED", "why": evil, "asked": True, "quiet_at": 0}
    approval = {"approved": False, "by": evil, "why": evil, "at": BEGAN}
    check = {"ok": False, "name": evil, "expected": evil, "found": evil}
    comparison = compared(missing=1)
    comparison["tables"][0]["shard_id"] = evil
    noted = {
        "aborted": aborted,
        "approval": approval,
        "deletion": approval,
        "compliance": [check],
        "cutovers": [cutover(1.0, switched=False, why_not=evil)],
        "in_fence": comparison,
        "archive": {"uri": evil},
        "identity_coverage": {evil: evil},
    }
    moved(p, State.ABORTED, notes={State.ABORTED: noted}, why=evil)
    report = gather(p, "m-1")
    page = to_html(report)
    assert page.count("&lt;script&gt;") >= 10
    for markup in ("<script", "<img"):
        assert markup not in page


def test_an_audit_trail_that_somebody_has_changed_is_shown_as_broken(p):
    moved(p, State.PREFLIGHT)
    assert gather(p, "m-1")["audit_broken_at"] is None
    first = p.store.rows("m-1", "event#")[0]
    p.clients.dynamodb.update_item(
        TableName=MIGRATIONS,
        Key={name: first[name] for name in ("migrationId", "row")},
        UpdateExpression="SET why = :why",
        ExpressionAttributeValues={":why": {"S": "It was never asked for"}},
    )
    report = gather(p, "m-1")
    assert report["audit_broken_at"] is not None
    assert "BROKEN at event" in to_html(report)


def test_a_note_ends_where_airflow_would_cut_it(p):
    why = "x" * 5000
    moved(
        p,
        State.ABORTED,
        notes={State.ABORTED: {"aborted": {"after": "PLANNED", "why": why, "asked": False, "quiet_at": 0}}},
    )
    report = gather(p, "m-1")
    assert len(to_note(report, 900)) == 900
    assert to_note(report, 10_000).startswith("acme from Basic to Platinum: ABORTED")


def test_page_and_data_are_written_side_by_side_and_again(p):
    migration = moved(p)
    for state in ("PLANNED", "PREFLIGHT"):
        report = publish(p, "m-1")
        assert report["state"] == state
        found = {form: p.clients.s3.get_object(Bucket=REPORTS, Key=key("m-1", form)) for form in ("html", "json")}
        assert json.load(found["json"]["Body"]) == json.loads(json.dumps(report))
        assert found["html"]["Body"].read().decode() == to_html(report)
        assert found["html"]["ContentType"] == "text/html; charset=utf-8"
        if state == "PLANNED":
            p.store.transition(migration, State.PREFLIGHT, by="test")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_times_are_told_for_people(seconds, told):
    assert duration(seconds) == told


def test_moments_are_told_in_one_time_zone():
    assert moment(BEGAN) == "2025-11-24 16:00:00 UTC"
