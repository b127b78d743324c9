"""What a person is told before they decide."""

from __future__ import annotations

import pytest

from include.tenants.questions import APPROVE, REFUSE, cutover_question, deletion_question
from include.tenants.request import MigrationRequest
from include.tenants.saas import Tier
from include.tenants.states import State
from include.tenants.store import Migration

KINDS = ("missing", "different", "extra", "foreign")


def migration(target="Platinum", *, source="Basic", outcome=None, data=True, **notes):
    request = MigrationRequest("acme", Tier(target), budget_seconds=12, soak_minutes=90, approve_within_minutes=45)
    noted = {
        "source": {"tier": source},
        "tables": [{"prefix": "Product"}] if data else [],
        "plan": {"deletes": ["the tenant's items in the pooled tables", "its users there"]},
        "archive": {"uri": "s3://evidence/tenants/acme/m-1/", "locked_until": "2033-11-25T00:00:00+00:00"},
        **notes,
    }
    moments = {State.PLANNED.value: 1} | ({outcome.value: 2} if outcome else {})
    return Migration("m-1", "acme", outcome or State.VERIFIED, 1, request.to_mapping(), noted, moments)


def test_the_cutover_is_asked_about_with_what_was_found_and_what_each_answer_does():
    verification = {"comparison": {"items": 10_250}}
    told = cutover_question(migration(verification=verification, compliance=[{}, {}, {}]))
    for part in (
        "**acme** goes from **Basic** to **Platinum**",
        "10,250 items are equal on both sides",
        "3 compliance checks",
        f"*{APPROVE}*: its writes are kept out for at most **12 s**",
        "reads go on",
        "for 90 minutes, so that `rollback_tenant_migration` can undo it",
        f"*{REFUSE}*: the migration ends, what was copied is removed",
        "silence for 45 minutes",
    ):
        assert part in told, part


def test_where_no_data_moves_nothing_is_said_of_items_or_a_fence():
    told = cutover_question(migration("Premium", data=False))
    assert "from **Basic** to **Premium**" in told
    assert "only its plan and its key change, nothing is kept out" in told
    assert "items" not in told


@pytest.mark.parametrize(
    ("outcome", "side", "what"),
    [
        (State.COMPLETE, "the target", "the tenant's items in the pooled tables; its users there"),
        (State.ROLLED_BACK, "the source", "what the migration made for it in Platinum"),
    ],
)
def test_the_deletion_is_asked_about_with_what_would_go_and_where_the_tenant_is(outcome, side, what):
    told = deletion_question(migration(outcome=outcome))
    assert f"is served from {side} since the migration is {outcome.value}" in told
    assert f"*{APPROVE}* deletes: {what}." in told
    assert "`s3://evidence/tenants/acme/m-1/`, locked until 2033-11-25" in told


def test_what_was_written_past_the_application_and_would_be_lost_is_said_before_the_deletion():
    equal = {f"{kind}_count": 0 for kind in KINDS}
    assert "not equal" not in deletion_question(migration(outcome=State.COMPLETE, after_soak=equal))
    differs = equal | {"missing_count": 1200, "different_count": 3}
    told = deletion_question(migration(outcome=State.COMPLETE, after_soak=differs))
    assert "not equal at the end of the soak: 1,200 missing, 3 different." in told


def test_each_question_links_the_report_to_look_at():
    verification = {"comparison": {"items": 10_250}}
    for told in (
        cutover_question(migration(verification=verification)),
        deletion_question(migration(outcome=State.COMPLETE)),
    ):
        assert "[Migration report](/tenant-migrations/m-1)" in told


def test_who_has_to_set_a_password_and_that_the_way_back_was_lost_is_said_before_the_deletion():
    coverage = {"users": 1200, "migrated": 1000, "imported": 199, "missing": 1}
    told = deletion_question(
        migration(outcome=State.COMPLETE, identity_coverage=coverage, way_back_lost="stream of Product-acme: too late")
    )
    assert "1,000 of 1,200 came over with their passwords, 199 were imported and have to set one, 1 have yet" in told
    assert "**The way back was lost during the soak**: stream of Product-acme: too late" in told


def test_the_answers_are_the_ones_that_are_looked_for():
    """The tasks behind the questions and the demo compare them as texts."""
    assert (APPROVE, REFUSE) == ("Approve", "Refuse")
