"""All migrations on one page: which of them need somebody, and fences that their runs have left."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from include.tenants import fence
from include.tenants.overview import HOUR, Line, publish, survey, to_html, to_text
from include.tenants.request import MigrationRequest
from include.tenants.saas import MIGRATIONS, Tier
from include.tenants.states import OUTCOMES, State
from include.tenants.transactions import transact
from tests.include.tenants.conftest import REPORTS
from tests.include.tenants.histories import put_tenant, silent

LIMITS = {"approve_within_minutes": 30, "soak_minutes": 30}
WAITS_FOR_NOBODY = {State.ARCHIVED, State.CLEANED}
"""What the tenant left behind may stay for weeks."""
AT = 1_764_000_001_000


@pytest.fixture
def p(portability):
    return portability


def at(p, hours):
    """So much later."""
    return replace(p, clock=lambda: time.time() + hours * HOUR)


def put_migration(p, tenant_id, state, *, outcome=None, **notes):
    """A migration, as if its steps had just brought it there."""
    put_tenant(p.clients, tenant_id, "Basic")
    request = MigrationRequest(tenant_id, Tier.PLATINUM, **LIMITS).to_mapping()
    noted = {"tables": [{"prefix": "Product"}], "source": {"tier": "Basic"}, **notes}
    made = p.store.plan(f"m-{tenant_id}", tenant_id, request, noted, by="test")
    for reached in {state, outcome} - {None, State.PLANNED}:
        p.clients.dynamodb.update_item(
            TableName=MIGRATIONS,
            Key={"migrationId": {"S": made.migration_id}, "row": {"S": "migration"}},
            UpdateExpression="SET #state = :state, moments.#reached = :at",
            ExpressionAttributeNames={"#state": "state", "#reached": reached.value},
            ExpressionAttributeValues={":state": {"S": state.value}, ":at": {"N": str(int(time.time() * 1000))}},
        )
    return p.store.load(made.migration_id)


def concerns(p):
    return {line.tenant_id: line.concern for line in survey(p, silent)}


def test_no_state_is_forgotten_and_none_is_cried_about_at_once(p):
    over = {State.ARCHIVED: State.COMPLETE, State.CLEANED: State.ABORTED}
    for state in State:
        outcome = over.get(state) or (state if state in OUTCOMES else None)
        noted = {"soak": {"until": int(time.time() * 1000)}, "deletion_evidence": {"uri": "s3://b/k"}}
        put_migration(p, state.value.replace("_", "-"), state, outcome=outcome, **noted)
    assert set(concerns(p).values()) == {""}
    late = concerns(at(p, 72))
    assert {name for name, concern in late.items() if not concern} == WAITS_FOR_NOBODY
    assert late["SOAK"].startswith(
        "its soak is over for 72 h 0 min: clear the red task of its run to end it, or run rollback"
    )
    assert late["VERIFIED"].startswith(
        "nobody has decided for 72 h 0 min: run rollback_tenant_migration, which ends it and"
    )
    assert late["COMPLETE"] == "it is COMPLETE for 72 h 0 min: clear archive of its run"


def test_what_is_removed_unasked_and_what_is_to_be_signed_is_looked_after(p):
    """Such a tenant could not be moved again, and nobody else would tell."""
    put_migration(p, "aborted", State.ARCHIVED, outcome=State.ABORTED)
    put_migration(p, "unsigned", State.CLEANED, outcome=State.COMPLETE)
    put_migration(p, "signed", State.CLEANED, outcome=State.COMPLETE, deletion_evidence={"uri": "s3://b/k"})
    assert set(concerns(at(p, 0.9)).values()) == {""}
    assert concerns(at(p, 2)) == {
        "aborted": "what it had made is not removed for 2 h 0 min: clear discard_target of its run",
        "unsigned": "its deletion has no evidence for 2 h 0 min: clear clean_up of clean_up_tenant_source, which signs what was deleted",
        "signed": "",
    }


def test_a_deny_that_somebody_has_put_and_nobody_has_taken_away_is_told(p):
    """The tenant would be kept out for ever, and nothing of the migration would show it."""
    for name, state, outcome, policy in (
        ("moving", State.APPROVED, None, "tenant-fence-1"),
        ("switched", State.SWITCHED, None, "tenant-fence-2"),
        ("aborted", State.ABORTED, State.ABORTED, "tenant-fence-3"),
        ("lifted", State.SOAK, None, ""),
    ):
        put_migration(p, name, state, outcome=outcome, deny=policy, soak={"until": int(time.time() * 1000)})
    told = concerns(p)
    assert {name for name, concern in told.items() if concern} == {"switched", "aborted"}
    assert told["aborted"].startswith("the tenant's writes are denied still, by the policy tenant-fence-3")


def test_a_person_has_the_time_that_was_asked_for_and_a_soak_its_own(p):
    put_migration(p, "asked", State.VERIFIED)
    put_migration(p, "soaks", State.SOAK, soak={"until": int((time.time() + 2 * HOUR) * 1000)})
    put_migration(p, "copies", State.COPYING)
    assert set(concerns(at(p, 1.4)).values()) == {""}
    late = concerns(at(p, 1.6))
    assert late == {"asked": late["asked"], "soaks": "", "copies": ""}
    assert late["asked"].startswith("nobody has decided for 1 h 36 min: ")
    assert concerns(at(p, 3.5))["soaks"].startswith("its soak is over for 1 h 30 min: ")


def test_the_newest_comes_first_and_its_longest_time_without_writes_is_told(p):
    cutovers = [{"seconds": 2.5}, {"seconds": 7.25}, {"seconds": 1.0}]
    put_migration(p, "first", State.COPYING)
    time.sleep(0.002)  # they are told apart by milliseconds
    put_migration(p, "second", State.COMPLETE, outcome=State.COMPLETE, cutovers=cutovers)
    newest, oldest = survey(p, silent)
    assert (newest.tenant_id, newest.outcome, newest.unavailable_seconds) == ("second", "COMPLETE", 7.25)
    assert (oldest.tenant_id, oldest.outcome, oldest.unavailable_seconds) == ("first", "", 0.0)
    assert newest.way == "Basic → Platinum"


def closed(p, migration, until):
    """The fence, closed for a migration."""
    tenant = p.tenant(migration.tenant_id)
    fence.close_rows(p.clients.dynamodb, tenant, migration.migration_id, until)
    transact(p.clients.dynamodb, [fence.mark_closed(tenant, migration.migration_id)])


@pytest.mark.parametrize(("state", "then"), [(State.FENCED, State.APPROVED), (State.SOAK, State.SOAK)])
def test_a_fence_that_a_dead_run_has_left_is_opened_when_its_time_is_over_and_not_before(p, state, then):
    """Of a cutover, and of a rollback."""
    until = time.time() + 60
    made = put_migration(p, "acme", state, fence={"until": until}, soak={"until": int((time.time() + HOUR) * 1000)})
    closed(p, made, until)
    said = []
    survey(at(p, 1.5 / 60), said.append)
    assert len(fence.fenced_partitions(p.clients.dynamodb, "acme")) == 10  # the cutover itself may be about to open it
    assert said == []

    [line] = survey(at(p, 5 / 60), said.append)

    assert fence.fenced_partitions(p.clients.dynamodb, "acme") == {}
    assert p.tenant("acme").fenced_by is None
    assert line.state == then.value
    assert said == ["m-acme: its fence is past its time: opening it"]
    survey(at(p, 5 / 60), said.append)
    assert len(said) == 1


def test_a_fence_of_which_the_application_has_opened_a_part_is_opened_whole(p):
    until = time.time() - 600
    made = put_migration(p, "acme", State.FENCED, fence={"until": until})
    closed(p, made, until)
    assert fence.break_fence(p.clients.dynamodb, "acme-1")
    survey(p, silent)
    assert fence.fenced_partitions(p.clients.dynamodb, "acme") == {}
    assert p.store.load(made.migration_id).state is State.APPROVED


def test_the_fence_of_another_migration_is_left_alone(p):
    made = put_migration(p, "acme", State.SOAK, soak={"until": int((time.time() + HOUR) * 1000)})
    closed(p, replace(made, migration_id="m-other"), time.time() - 600)
    survey(p, silent)
    assert set(fence.fenced_partitions(p.clients.dynamodb, "acme").values()) == {"m-other"}


def line(**changes):
    given = {
        "migration_id": "acme-1",
        "tenant_id": "acme",
        "way": "Basic → Platinum",
        "state": "SOAK",
        "outcome": "",
        "began": 1_764_000_000_000,
        "seconds": 4000.0,
        "unavailable_seconds": 1.234,
        "concern": "",
    }
    return Line(**{**given, **changes})


def test_the_page_links_each_report_and_shows_nobodys_markup():
    page = to_html([line(), line(migration_id="<b>", way="<i>", concern='<script>alert("x")</script>')], AT)
    assert '<a href="acme-1">acme-1</a>' in page
    assert "1.23 s" in page
    assert "As of 2025-11-24 16:00:01 UTC" in page  # nobody takes an old page for a new one
    assert "2025-11-24 16:00:00 UTC" in page
    for markup in ("<script", "<b>", "<i>"):
        assert markup not in page
    assert "&lt;script&gt;" in page


def test_without_migrations_the_page_and_the_log_say_so():
    assert "No tenant was ever moved." in to_html([], AT)
    assert "<table>" not in to_html([], AT)
    assert to_text([]) == "no tenant was ever moved"


def test_the_log_has_a_line_for_each():
    head, *lines = to_text([line(), line(tenant_id="globex", concern="it is COPYING for 15 h 0 min")]).splitlines()
    assert head.split() == ["tenant", "way", "state", "outcome", "since", "concern"]
    assert [each.split()[0] for each in lines] == ["acme", "globex"]
    assert "1 h 6 min" in lines[0]
    assert lines[1].endswith("it is COPYING for 15 h 0 min")


def test_page_and_data_are_written_side_by_side(p):
    publish(replace(p, clock=lambda: AT / 1000), [line()])
    found = {
        form: p.clients.s3.get_object(Bucket=REPORTS, Key=f"tenants/migrations/index.{form}")
        for form in ("html", "json")
    }
    assert json.load(found["json"]["Body"])[0]["migration_id"] == "acme-1"
    assert found["html"]["ContentType"] == "text/html; charset=utf-8"
    assert found["html"]["Body"].read().decode() == to_html([line()], AT)
