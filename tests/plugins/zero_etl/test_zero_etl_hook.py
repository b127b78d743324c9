"""The hook against AWS's wire protocols: boto3 is real, only the other side of the socket is ours."""

import asyncio
import threading
from dataclasses import replace

import pytest

from data_platform.zero_etl import hook as hook_module
from data_platform.zero_etl.exceptions import (
    ZeroEtlAccessDenied,
    ZeroEtlConnectionInvalid,
    ZeroEtlConnectRefused,
    ZeroEtlStatementFailed,
    ZeroEtlUnavailable,
    ZeroEtlWaitStopped,
)
from data_platform.zero_etl.hook import Checkpoint, IntegrationConfig, ZeroEtlHook, quote_identifier
from tests.plugins.zero_etl.fake_aws import CHECKPOINT, CONN_ID, INTEGRATION_ARN, INTEGRATION_ID, TARGET, table_row

EXTRA = {
    "integration_arn": INTEGRATION_ARN,
    "workgroup_name": "analytics",
    "database": "dev",
    "target_database": TARGET,
    "source_database": "demodb",
}


@pytest.fixture
def hook(aws):
    return ZeroEtlHook(CONN_ID)


@pytest.fixture
def no_backoff(monkeypatch):
    """botocore's back-off is a random share of 2^attempt seconds; here it is none."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)


# --- what is read ------------------------------------------------------------------------------------------------------------


def test_snapshot_has_what_rds_and_redshift_report_without_padding(aws, hook):
    aws.status = "needs_attention"
    aws.errors = [("E1", "table <sales> & co")]
    aws.tables[1] = table_row("sales", "Failed", reason="no primary key", history=True)
    snapshot = hook.snapshot()
    assert (snapshot.integration_id, snapshot.status, snapshot.state) == (
        INTEGRATION_ID,
        "needs_attention",
        "CdcRefreshState",
    )
    assert [(error.code, error.message) for error in snapshot.errors] == [("E1", "table <sales> & co")]
    assert (snapshot.lag_ms, snapshot.checkpoint) == (1200, CHECKPOINT)
    assert [(t.name, t.state, t.reason, t.is_history_mode) for t in snapshot.tables] == [
        ("demodb.listing", "Synced", "", True),
        ("demodb.sales", "Failed", "no primary key", True),
        ("demodb.users", "Synced", "", False),
    ]


def test_every_page_of_tables_is_read_to_the_last(aws, hook):
    aws.tables = [table_row(f"t{number:03}") for number in range(25)]
    aws.page_size = 10
    assert [table.table for table in hook.snapshot().tables] == [f"t{number:03}" for number in range(25)]


def test_values_travel_as_bound_parameters_not_in_the_statement(aws, hook):
    hook.snapshot()
    statements = aws.calls("ExecuteStatement")
    assert statements
    for body in statements:
        assert INTEGRATION_ID not in body["Sql"]
        assert {"name": "integration_id", "value": INTEGRATION_ID} in body["Parameters"]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"secret_arn": "arn:secret"}, {"WorkgroupName": "analytics", "Database": "dev", "SecretArn": "arn:secret"}),
        (
            {"workgroup_name": None, "cluster_identifier": "c1", "db_user": "loader"},
            {"ClusterIdentifier": "c1", "Database": "dev", "DbUser": "loader"},
        ),
    ],
    ids=["workgroup with secret", "cluster with user"],
)
def test_statement_runs_in_the_warehouse_of_the_connection(aws, connect_to, extra, expected):
    connect_to(aws.url, **extra)
    ZeroEtlHook(CONN_ID).checkpoint()
    (body,) = aws.calls("ExecuteStatement")
    names = ("WorkgroupName", "ClusterIdentifier", "Database", "SecretArn", "DbUser")
    assert {name: body[name] for name in names if name in body} == expected


def test_integration_that_rds_does_not_know_has_no_status(aws, hook):
    aws.status = None
    assert hook.snapshot().status is None


def test_integration_without_a_database_yet_is_pending_and_has_no_tables(aws, hook):
    aws.integration().update(
        target_database=None, state="PendingDbConnectState", current_lag=None, last_replicated_checkpoint=None
    )
    snapshot = hook.snapshot()
    assert (snapshot.state, snapshot.lag_ms, snapshot.checkpoint, snapshot.tables) == (
        "PendingDbConnectState",
        None,
        None,
        (),
    )


def test_integration_that_feeds_another_database_is_told_apart(aws, hook):
    aws.integration()["target_database"] = "other_db"
    snapshot = hook.snapshot()
    assert (snapshot.state, snapshot.connected_to) == (None, "other_db")


def test_integration_that_redshift_does_not_list_has_no_state(aws, hook):
    aws.integrations.clear()
    assert hook.snapshot().state is None
    assert hook.checkpoint().value is None


def test_checkpoint_is_one_small_query_polled_until_it_has_finished(aws, hook):
    aws.polls_before_finished = 2
    assert hook.checkpoint() == Checkpoint(CHECKPOINT, 1200)
    assert [name for name, _ in aws.requests] == ["ExecuteStatement", *["DescribeStatement"] * 3, "GetStatementResult"]


# --- faults ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [(400, "ThrottlingException"), (503, "ServiceUnavailable"), (500, "InternalServerException")]
)
def test_passing_faults_are_retried(aws, hook, no_backoff, fault):
    aws.faults.extend([fault] * 3)
    assert hook.checkpoint().value == CHECKPOINT
    assert not aws.faults


def test_lasting_fault_is_given_up_after_four_attempts(aws, hook, no_backoff):
    aws.faults.extend([(503, "ServiceUnavailable")] * 10)
    with pytest.raises(ZeroEtlUnavailable, match="ServiceUnavailable"):
        hook.checkpoint()
    assert len(aws.faults) == 6


def test_connection_refused_is_unavailable(connect_to, no_backoff):
    connect_to("http://127.0.0.1:9")
    with pytest.raises(ZeroEtlUnavailable, match=r"127\.0\.0\.1:9"):
        ZeroEtlHook(CONN_ID).checkpoint()


def test_answer_that_does_not_come_is_unavailable(aws, hook, no_backoff, monkeypatch):
    monkeypatch.setitem(hook_module._CLIENT_CONFIG, "read_timeout", 0.1)
    monkeypatch.setitem(hook_module._CLIENT_CONFIG, "retries", {"mode": "standard", "total_max_attempts": 2})
    aws.gate = threading.Event()  # nobody sets it
    with pytest.raises(ZeroEtlUnavailable, match="timeout"):
        hook.checkpoint()


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException"])
def test_refused_credentials_are_not_retried_and_name_the_connection(aws, hook, code):
    aws.faults.append((400, code))
    with pytest.raises(ZeroEtlAccessDenied, match="aws_under_test"):
        hook.checkpoint()


def test_refused_statement_tells_the_error_and_the_statement(aws, hook):
    aws.statement_error = 'ERROR: relation "svv_integration" does not exist'
    with pytest.raises(ZeroEtlStatementFailed, match=r"does not exist \(statement: select"):
        hook.checkpoint()


def test_missing_grant_is_told_as_denied_access(aws, hook):
    aws.statement_error = "ERROR: permission denied for relation svv_integration"
    with pytest.raises(ZeroEtlAccessDenied, match="Grant"):
        hook.checkpoint()


def test_statement_that_takes_too_long_is_cancelled(aws, hook, monkeypatch):
    monkeypatch.setattr(hook_module, "STATEMENT_TIMEOUT_SECONDS", 0.3)
    aws.never_finishes = True
    with pytest.raises(ZeroEtlUnavailable, match=r"still STARTED after 0\.3 s"):
        hook.checkpoint()
    assert len(aws.calls("CancelStatement")) == 1


def test_cancelled_coroutine_cancels_its_statement_and_its_thread_ends(aws, hook):
    aws.never_finishes = True

    async def scenario():
        task = asyncio.create_task(hook.acheckpoint())
        while not aws.calls("DescribeStatement"):
            assert not task.done()
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())  # joins the thread
    assert len(aws.calls("CancelStatement")) == 1


def test_event_loop_goes_on_while_aws_is_slow(aws, hook, monkeypatch):
    """AWS answers only when the loop has ticked since it was asked, so a request made on the loop itself is never released."""
    aws.gate = threading.Event()
    make_client = hook._client
    makers = []

    def client(service):
        makers.append(threading.current_thread())
        return make_client(service)

    monkeypatch.setattr(hook, "_client", client)

    async def tick():
        while True:
            aws.gate.set()
            await asyncio.sleep(0.01)

    async def scenario():
        ticker = asyncio.create_task(tick())
        seen = await hook.acheckpoint()
        ticker.cancel()
        return seen

    assert asyncio.run(scenario()).value == CHECKPOINT
    assert aws.released
    assert all(aws.released)
    assert makers
    assert threading.current_thread() not in makers  # to make a client is slow too, though it asks nobody


# --- the connection ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"integration_arn": None}, "extra lacks integration_arn"),
        ({"target_database": ""}, "extra lacks target_database"),
        ({"integration_arn": INTEGRATION_ID}, "expected integration_arn like"),
        ({"cluster_identifier": "c1"}, "one of workgroup_name and cluster_identifier"),
        ({"workgroup_name": None}, "one of workgroup_name and cluster_identifier"),
        ({"db_user": "loader"}, "db_user goes with cluster_identifier"),
        ({"workgroup": "analytics"}, "found workgroup"),
    ],
)
def test_bad_connection_is_refused_with_what_was_expected(changes, complaint):
    with pytest.raises(ZeroEtlConnectionInvalid, match=complaint) as error:
        IntegrationConfig.from_extra("zero_etl_x", {**EXTRA, **changes})
    assert "connection zero_etl_x" in str(error.value)


def test_bare_table_names_are_of_the_source_database():
    config = IntegrationConfig.from_extra("zero_etl_x", EXTRA)
    assert config.qualify(["sales", "crm.users"]) == ["demodb.sales", "crm.users"]
    assert replace(config, source_database="crm").qualify(["sales"]) == ["crm.sales"]


# --- connecting --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pending(aws):
    aws.integration().update(target_database=None, state="PendingDbConnectState")
    return aws


def test_database_is_made_by_a_statement_of_its_own_in_a_case_sensitive_session(pending, hook):
    assert hook.connect_database() is True
    switch, create = pending.calls("ExecuteStatement")[-2:]
    assert switch["Sql"] == "set enable_case_sensitive_identifier to true"
    assert create["Sql"] == f"create database \"{TARGET}\" from integration '{INTEGRATION_ID}'"
    assert create["SessionId"]
    assert "WorkgroupName" not in create  # the session knows
    assert not pending.calls("BatchExecuteStatement")


def test_connecting_again_finds_the_database_and_makes_nothing(pending, hook):
    hook.connect_database()
    before = len(pending.submitted())
    assert hook.connect_database() is False
    assert not [sql for sql in pending.submitted()[before:] if sql.startswith("create")]


def test_database_that_appeared_meanwhile_counts_as_connected(pending, hook, monkeypatch):
    pending.databases.add(TARGET)
    answers = iter([False, True])
    monkeypatch.setattr(hook, "_is_connected", lambda: next(answers))
    assert hook.connect_database() is False


def test_name_of_an_ordinary_database_is_refused(pending, hook):
    pending.databases.add(TARGET)
    with pytest.raises(ZeroEtlConnectRefused, match="that no integration feeds"):
        hook.connect_database()


def test_database_of_another_integration_is_refused_and_the_integration_named(pending, hook):
    pending.integrations.append({**pending.integration(), "integration_id": "another", "target_database": TARGET})
    with pytest.raises(ZeroEtlConnectRefused, match="is fed by integration another"):
        hook.connect_database()
    assert not pending.databases


def test_integration_that_feeds_another_database_already_is_refused(aws, hook):
    aws.integration()["target_database"] = "other_db"
    with pytest.raises(ZeroEtlConnectRefused, match="feeds the database other_db already"):
        hook.connect_database()


def test_integration_that_is_not_listed_is_refused_with_the_superuser_named(aws, hook):
    aws.integrations.clear()
    with pytest.raises(ZeroEtlConnectRefused, match="superuser"):
        hook.connect_database()


@pytest.mark.parametrize("name", ['a"; drop database dev; --', "1st", "", "a b", "x" * 128])
def test_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(ZeroEtlConnectionInvalid, match="target_database"):
        quote_identifier(name)


def test_stopped_hook_ends_its_wait(hook):
    hook.stop()
    with pytest.raises(ZeroEtlWaitStopped):
        hook.pause(60)
