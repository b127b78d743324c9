"""The policy: every documented status and state, unknown ones, and the messages."""

from dataclasses import replace

import pytest

from data_platform.zero_etl.health import (
    STATE_RULES,
    STATUS_RULES,
    TABLE_RULES,
    IntegrationError,
    Outcome,
    Snapshot,
    TableState,
    describe,
    evaluate,
    expired,
    unreachable,
)

SALES = TableState("demodb", "sales", "Synced", is_history_mode=True)
USERS = TableState("demodb", "users", "Synced")
HEALTHY = Snapshot(
    integration_id="6f0f",
    target_database="aurora_zeroetl_integration",
    status="active",
    errors=(),
    state="CdcRefreshState",
    connected_to="aurora_zeroetl_integration",
    lag_ms=900,
    checkpoint="c1",
    tables=(SALES, USERS),
)


def judge(snapshot, required=("demodb.sales",), *, lag_limit_ms=10_000, history=()):
    return evaluate(snapshot, required, lag_limit_ms=lag_limit_ms, history_tables=history)


def with_sales(**changes):
    return replace(HEALTHY, tables=(replace(SALES, **changes), USERS))


def test_healthy_integration_passes_without_findings():
    verdict = judge(HEALTHY)
    assert (verdict.outcome, verdict.findings, verdict.warnings) == (Outcome.PASS, (), ())


# The values that AWS documents, written out again so that a rule that goes missing is noticed.
STATUSES = {
    "creating": "wait",
    "active": "pass",
    "modifying": "wait",
    "failed": "fail",
    "deleting": "fail",
    "syncing": "wait",
    "needs_attention": "pass",
}
STATES = {
    "PendingDbConnectState": "wait",
    "SchemaDiscoveryState": "wait",
    "CdcRefreshState": "pass",
    "ErrorState": "fail",
}
TABLE_STATES = {
    "Synced": "pass",
    "Failed": "fail",
    "Deleted": "fail",
    "ResyncRequired": "wait",
    "ResyncInitiated": "wait",
    "DroppedSource": "fail",
    "ResyncDeleted": "fail",
}


def test_rules_cover_exactly_the_documented_values():
    assert set(STATUS_RULES) == set(STATUSES)
    assert set(STATE_RULES) == set(STATES)
    assert set(TABLE_RULES) == set(TABLE_STATES)


def test_status_rules_cover_botocores_enumeration():
    import botocore.session

    model = botocore.session.get_session().get_service_model("rds")
    assert set(STATUS_RULES) == set(model.shape_for("IntegrationStatus").enum)


@pytest.mark.parametrize(("status", "outcome"), STATUSES.items())
def test_integration_status_decides(status, outcome):
    verdict = judge(replace(HEALTHY, status=status))
    assert verdict.outcome == outcome
    if outcome != "pass":
        assert verdict.state == status
        assert status in verdict.reason


@pytest.mark.parametrize(("state", "outcome"), STATES.items())
def test_replication_state_decides(state, outcome):
    verdict = judge(replace(HEALTHY, state=state))
    assert verdict.outcome == outcome
    if outcome != "pass":
        assert verdict.state == state
        assert state in verdict.reason


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize(("state", "outcome"), TABLE_STATES.items())
def test_required_tables_state_decides_and_message_names_table_state_and_reason(state, outcome, history):
    verdict = judge(with_sales(state=state, reason="no primary key", is_history_mode=history))
    assert verdict.outcome == outcome
    if outcome != "pass":
        assert (verdict.table, verdict.state) == ("demodb.sales", state)
        assert "demodb.sales" in verdict.reason
        assert state in verdict.reason
        assert "no primary key" in verdict.reason


@pytest.mark.parametrize("state", [state for state, outcome in TABLE_STATES.items() if outcome == "fail"])
def test_failed_table_tells_the_statement_that_mends_it(state):
    statement = 'ALTER DATABASE "aurora_zeroetl_integration" INTEGRATION REFRESH TABLE "demodb"."sales"'
    assert statement in judge(with_sales(state=state)).reason


@pytest.mark.parametrize("state", TABLE_STATES)
def test_state_of_a_table_nobody_requires_never_blocks_but_a_failed_one_warns(state):
    verdict = judge(with_sales(state=state), required=["demodb.users"])
    assert verdict.outcome is Outcome.PASS
    assert [warning.table for warning in verdict.warnings] == (
        ["demodb.sales"] if TABLE_STATES[state] == "fail" else []
    )


@pytest.mark.parametrize(
    "snapshot",
    [
        replace(HEALTHY, status="hibernating"),
        replace(HEALTHY, state="hibernating"),
        with_sales(state="hibernating"),
    ],
    ids=["status", "state", "table state"],
)
def test_undocumented_value_waits_and_says_what_is_documented(snapshot):
    verdict = judge(snapshot)
    assert verdict.outcome is Outcome.WAIT
    assert "is hibernating: that is none of the documented values" in verdict.reason


def test_integration_that_rds_does_not_know_fails():
    verdict = judge(replace(HEALTHY, status=None, state=None, tables=()))
    assert verdict.outcome is Outcome.FAIL
    assert "integration_arn" in verdict.reason


def test_integration_that_redshift_does_not_list_fails_and_names_the_superuser():
    verdict = judge(replace(HEALTHY, state=None, connected_to="", tables=()))
    assert verdict.outcome is Outcome.FAIL
    assert "superuser" in verdict.reason


def test_integration_that_redshift_does_not_list_yet_waits_while_it_is_being_created():
    verdict = judge(replace(HEALTHY, status="creating", state=None, connected_to="", tables=()))
    assert verdict.outcome is Outcome.WAIT


def test_integration_that_feeds_another_database_fails_and_names_it():
    verdict = judge(replace(HEALTHY, state=None, connected_to="other_db", tables=()))
    assert verdict.outcome is Outcome.FAIL
    assert "other_db" in verdict.reason


def test_missing_required_table_fails():
    verdict = judge(HEALTHY, required=["demodb.sales", "demodb.venue"])
    assert (verdict.outcome, verdict.table, verdict.state) == (Outcome.FAIL, "demodb.venue", "missing")


def test_missing_table_that_differs_in_case_is_pointed_at():
    assert "Redshift lists demodb.sales; case counts" in judge(HEALTHY, required=["demodb.Sales"]).reason


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "creating"},
        {"status": "syncing"},
        {"state": "SchemaDiscoveryState"},
        {"state": "PendingDbConnectState"},
    ],
)
def test_table_that_is_not_listed_before_the_first_load_is_waited_for(changes):
    verdict = judge(replace(HEALTHY, tables=(), **changes))
    assert verdict.outcome is Outcome.WAIT


@pytest.mark.parametrize(
    ("lag_ms", "outcome"),
    [(0, "pass"), (10_000, "pass"), (10_001, "wait"), (None, "wait"), (-10_000, "pass"), (-10_001, "wait")],
)
def test_lag_decides_at_the_limit(lag_ms, outcome):
    assert judge(replace(HEALTHY, lag_ms=lag_ms)).outcome == outcome


def test_negative_lag_within_the_limit_warns_of_the_sources_clock():
    (warning,) = judge(replace(HEALTHY, lag_ms=-400)).warnings
    assert "source's clock is ahead" in warning.reason


def test_table_that_must_keep_history_fails_without_it_and_tells_the_statement():
    verdict = judge(HEALTHY, required=[], history=["demodb.sales", "demodb.users"])
    assert (verdict.outcome, verdict.table) == (Outcome.FAIL, "demodb.users")
    assert 'SET HISTORY_MODE = TRUE FOR TABLE "demodb"."users"' in verdict.reason


def test_errors_on_an_active_integration_wait_with_their_text():
    verdict = judge(replace(HEALTHY, errors=(IntegrationError("E42", "something broke"),)))
    assert verdict.outcome is Outcome.WAIT
    assert "E42: something broke" in verdict.reason


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("table demodb.sales has no primary key", "fail"),
        ("table `demodb`.`sales` has no primary key", "fail"),
        ("table 'sales' has no primary key", "fail"),
        ("table demodb.sales_archive has no primary key", "pass"),
        ("table otherdemodb.sales has no primary key", "pass"),
        ("sales figures of another table", "pass"),
    ],
)
def test_needs_attention_fails_only_if_an_error_names_a_required_table(message, outcome):
    verdict = judge(replace(HEALTHY, status="needs_attention", errors=(IntegrationError("E1", message),)))
    assert verdict.outcome == outcome
    assert message in "".join(map(str, [*verdict.findings, *verdict.warnings]))


def test_needs_attention_fails_if_a_required_table_has_failed():
    verdict = judge(replace(with_sales(state="Failed"), status="needs_attention"))
    assert verdict.outcome is Outcome.FAIL
    assert "a required table is affected" in verdict.reason


def test_needs_attention_because_of_another_table_warns_and_names_it():
    snapshot = replace(with_sales(state="Failed", reason="no primary key"), status="needs_attention")
    verdict = judge(snapshot, required=["demodb.users"])
    assert verdict.outcome is Outcome.PASS
    assert "demodb.sales" in "".join(map(str, verdict.warnings))


def test_worst_finding_comes_first_and_none_is_lost():
    snapshot = replace(with_sales(state="Failed"), status="syncing", lag_ms=99_000)
    verdict = judge(snapshot)
    assert [finding.outcome for finding in verdict.findings] == ["fail", "wait", "wait"]
    assert verdict.state == "Failed"


def test_wait_becomes_fail_at_the_deadline_and_keeps_its_reason():
    verdict = expired(judge(with_sales(state="ResyncRequired")), 1800)
    assert verdict.outcome is Outcome.FAIL
    assert "1800 s" in verdict.reason
    assert "demodb.sales is ResyncRequired" in verdict.reason


def test_unreachable_api_waits_with_the_error():
    verdict = unreachable(ConnectionError("refused"))
    assert verdict.outcome is Outcome.WAIT
    assert "refused" in verdict.reason


def test_result_for_xcom_has_only_the_required_tables():
    snapshot = replace(HEALTHY, source_arn="arn:aws:rds:us-east-1:123456789012:cluster:shop")
    result = judge(snapshot, required=["demodb.users", "demodb.venue"]).to_dict(["demodb.users", "demodb.venue"])
    assert result["tables"] == {"demodb.users": "Synced", "demodb.venue": "missing"}
    assert (result["lag_ms"], result["checkpoint"]) == (900, "c1")
    assert result["source_arn"] == "arn:aws:rds:us-east-1:123456789012:cluster:shop"


def test_overview_lists_the_required_tables():
    text = describe(HEALTHY, ["demodb.sales", "demodb.venue"])
    assert "lag 900 ms" in text
    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows == [
        ["table", "state", "history", "reason"],
        ["demodb.sales", "Synced", "on"],
        ["demodb.venue", "missing"],
    ]
