"""RDS, Redshift and the Redshift Data API over HTTP, asked by real botocore clients."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import closing

import boto3
import pytest
from botocore.exceptions import ClientError

from include.local.aurora.data_api import PAGE_ROWS
from include.local.aurora.integration import INTEGRATION_ID
from include.local.aurora.replicator import Replicator
from include.local.aurora.server import Server
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aurora.source import CHANGE_LOG, Aurora
from include.local.processes import PortTakenError
from tests.include.local.aurora.aurora_harness import fill, running, wait_until

CREATE = f"create database {TARGET_DATABASE} from integration '{INTEGRATION_ID}'"
ENDLESS = "select count(*) from range(30000000000) t(i) where i % 7 = 3"
WHERE = {"WorkgroupName": "analytics", "Database": "dev"}


class Platform:
    """A running stand-in and its clients."""

    def __init__(self, server, replicator):
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.replicator = replicator
        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.rds, self.redshift, self.data = (
            boto3.client(name, endpoint_url=self.url, **credentials) for name in ("rds", "redshift", "redshift-data")
        )

    def finish(self, statement_id):
        return wait_until(
            lambda: (
                (one := self.data.describe_statement(Id=statement_id))["Status"] in ("FINISHED", "FAILED", "ABORTED")
                and one
            )
        )

    def run(self, sql, **arguments):
        """A finished statement's description; fails the test if it failed."""
        where = {} if "SessionId" in arguments else WHERE
        described = self.finish(self.data.execute_statement(Sql=sql, **where, **arguments)["Id"])
        assert described["Status"] == "FINISHED", described.get("Error")
        return described

    def fail(self, sql, **arguments):
        """A failed statement's error."""
        described = self.finish(self.data.execute_statement(Sql=sql, **{**WHERE, **arguments})["Id"])
        assert described["Status"] == "FAILED"
        return described["Error"]

    def query(self, sql, **arguments):
        """All rows of a query, as dictionaries."""
        rows, token = [], {}
        statement_id = self.run(sql, **arguments)["Id"]
        while True:
            page = self.data.get_statement_result(Id=statement_id, **token)
            names = [column["name"] for column in page["ColumnMetadata"]]
            for record in page["Records"]:
                values = [None if "isNull" in field else next(iter(field.values())) for field in record]
                rows.append(dict(zip(names, values, strict=True)))
            if "NextToken" not in page:
                return rows
            token = {"NextToken": page["NextToken"]}

    def post(self, path, body=None, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data, method=method)) as response:
            return json.load(response)

    def connect(self):
        self.run(CREATE)
        wait_until(lambda: self.query("select state from svv_integration")[0]["state"] == "CdcRefreshState")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tiny):
    """One running platform for tests that only read, or make their own objects in ``dev``."""
    directory = tmp_path_factory.mktemp("platform")
    aurora = Aurora(directory / "aurora")
    fill(aurora, tiny)
    with (
        closing(Replicator(aurora, directory / "zero_etl", publish_seconds=0.0)) as replicator,
        running(replicator) as server,
    ):
        platform = Platform(server, replicator)
        platform.connect()
        yield platform


@pytest.fixture
def platform(shared):
    yield shared
    shared.post("/_local/overrides", method="DELETE")


@pytest.fixture
def unconnected(aurora, tmp_path):
    with (
        closing(Replicator(aurora, tmp_path / "zero_etl", publish_seconds=0.0)) as replicator,
        running(replicator) as server,
    ):
        yield Platform(server, replicator)


def error_code(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


# -- RDS and Redshift --------------------------------------------------------------------------------------------------


def test_rds_describes_the_integration(platform):
    arn = platform.replicator.integration.arn
    (found,) = platform.rds.describe_integrations(IntegrationIdentifier=arn)["Integrations"]
    assert (found["IntegrationArn"], found["Status"], found["Errors"]) == (arn, "active", [])
    assert found["CreateTime"].tzinfo is not None


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("status", ["active"], 1),
        ("status", ["failed", "active"], 1),
        ("status", ["failed"], 0),
        ("integration-identifier", [INTEGRATION_ID], 1),
        ("integration-identifier", ["other"], 0),
    ],
)
def test_rds_filters(platform, name, values, found):
    answer = platform.rds.describe_integrations(Filters=[{"Name": name, "Values": values}])
    assert len(answer["Integrations"]) == found


def test_rds_refuses_an_unknown_filter(platform):
    filters = [{"Name": "colour", "Values": ["red"]}]
    assert error_code(platform.rds.describe_integrations, Filters=filters)[0] == "InvalidParameterValue"


def test_rds_raises_not_found_as_the_service_does(platform):
    arn = "arn:aws:rds:us-east-1:123456789012:integration:none"
    with pytest.raises(platform.rds.exceptions.IntegrationNotFoundFault):
        platform.rds.describe_integrations(IntegrationIdentifier=arn)
    assert error_code(platform.rds.describe_integrations, IntegrationIdentifier=arn)[:2] == (
        "IntegrationNotFoundFault",
        404,
    )


def test_redshift_describes_the_inbound_integration(platform):
    (found,) = platform.redshift.describe_inbound_integrations()["InboundIntegrations"]
    assert (found["IntegrationArn"], found["Status"]) == (platform.replicator.integration.arn, "active")
    with pytest.raises(platform.redshift.exceptions.IntegrationNotFoundFault):
        platform.redshift.describe_inbound_integrations(IntegrationArn="arn:aws:rds:us-east-1:1:integration:none")
    other = "arn:aws:redshift-serverless:us-east-1:123456789012:namespace/other"
    assert platform.redshift.describe_inbound_integrations(TargetArn=other)["InboundIntegrations"] == []


def test_states_can_be_forced_and_released(platform):
    overrides = {
        "status": "needs_attention",
        "errors": [{"ErrorCode": "X", "ErrorMessage": "table <sales> & more"}],
        "state": "ErrorState",
        "lag_ms": 123_456,
        "tables": {"sales": {"state": "Failed", "reason": "why"}, "venue": {"state": None}},
    }
    platform.post("/_local/overrides", overrides)
    (found,) = platform.rds.describe_integrations()["Integrations"]
    assert (found["Status"], found["Errors"]) == ("needs_attention", overrides["errors"])
    (row,) = platform.query("select * from svv_integration")
    assert (row["state"], row["current_lag"], row["total_tables_failed"]) == ("ErrorState", 123_456, 1)
    rows = platform.query("select table_name, table_state, reason from svv_integration_table_state")
    states = {row["table_name"]: (row["table_state"], row["reason"]) for row in rows}
    assert states["sales"] == ("Failed", "why")
    assert "venue" not in states
    platform.post("/_local/overrides", {"missing": True})
    assert platform.rds.describe_integrations()["Integrations"] == []
    assert platform.query("select * from svv_integration") == []
    platform.post("/_local/overrides", method="DELETE")
    assert platform.rds.describe_integrations()["Integrations"][0]["Status"] == "active"


def test_a_misspelt_override_is_refused(platform):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        platform.post("/_local/overrides", {"sttus": "failed"})


# -- views of the integration ------------------------------------------------------------------------------------------


def test_views_have_the_documented_columns_and_values(platform):
    (integration,) = platform.query("select * from pg_catalog.svv_integration")
    assert integration["target_database"] == TARGET_DATABASE
    assert (integration["total_tables_replicated"], integration["total_tables_failed"]) == (7, 0)
    assert set(json.loads(integration["last_replicated_checkpoint"])) == {"txn_seq", "txn_id"}
    rows = platform.query("select * from svv_integration_table_state order by table_name")
    assert [row["table_name"] for row in rows] == ["category", "date", "event", "listing", "sales", "users", "venue"]
    assert {row["table_state"] for row in rows} == {"Synced"}
    assert {row["table_name"]: row["table_rows"] for row in rows}["sales"] == 50
    assert all(row["table_size"] >= 1 for row in rows)
    assert {row["table_name"] for row in rows if row["is_history_mode"]} == {"sales", "listing"}
    (first,) = platform.query("select * from sys_integration_activity where checkpoint_type = 'snapshot'")
    assert first["modified_tables"].split(",")[-1] == "demodb.venue"
    assert first["integration_start_time"] <= first["integration_end_time"]
    changes = platform.query(
        "select new_state from sys_integration_table_state_change where table_name = 'sales' order by record_time"
    )
    assert [change["new_state"] for change in changes] == ["ResyncInitiated", "Synced"]


def test_three_part_names_read_the_published_snapshot(platform, tiny):
    sql = f"select count(*) as n from {TARGET_DATABASE}.demodb.sales where _record_is_active"
    assert platform.query(sql) == [{"n": len(tiny["sales"]["salesid"])}]
    assert "read-only" in platform.fail(f"delete from {TARGET_DATABASE}.demodb.sales")


# -- Data API ----------------------------------------------------------------------------------------------------------


def test_values_are_typed_as_the_data_api_types_them(platform):
    statement = platform.run(
        "select 7::smallint as s, 12.30::decimal(8,2) as d, 'x'::varchar(5) as v, true as b, null::int as n, "
        "date '2008-01-01' as day, '2008-01-01 10:00:00'::timestamp as t, 1.5::float8 as f"
    )
    result = platform.data.get_statement_result(Id=statement["Id"])
    assert result["Records"] == [
        [
            {"longValue": 7},
            {"stringValue": "12.30"},
            {"stringValue": "x"},
            {"booleanValue": True},
            {"isNull": True},
            {"stringValue": "2008-01-01"},
            {"stringValue": "2008-01-01 10:00:00"},
            {"doubleValue": 1.5},
        ]
    ]
    kinds = [column["typeName"] for column in result["ColumnMetadata"]]
    assert kinds == ["int2", "numeric", "varchar", "bool", "int4", "date", "timestamp", "float8"]
    assert (result["ColumnMetadata"][1]["precision"], result["ColumnMetadata"][1]["scale"]) == (8, 2)


def test_names_fold_and_distribution_keys_are_no_error(platform):
    platform.run('CREATE TABLE Public.Folded DISTKEY (ID) SORTKEY (ID) AS SELECT 1 AS ID, 2 AS "Kept"')
    assert platform.query('SELECT Id, "Kept" FROM PUBLIC.folded') == [{"id": 1, "Kept": 2}]


def test_the_last_page_is_delivered(platform):
    count = 2 * PAGE_ROWS + 1
    rows = platform.query(
        f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) select i from n"
    )
    assert [row["i"] for row in rows] == list(range(1, count + 1))


def test_parameters_are_bound_as_values(platform):
    found = platform.query(
        "select :a as a, 1 as one where 3 = :n",
        Parameters=[{"name": "a", "value": "x'; --"}, {"name": "n", "value": "3"}],
    )
    assert found == [{"a": "x'; --", "one": 1}]


@pytest.mark.parametrize(("sql", "names"), [("select 1", ["a"]), ("select :a", ["b"])])
def test_parameters_must_match_the_statement(platform, sql, names):
    parameters = [{"name": name, "value": "1"} for name in names]
    code, status, _ = error_code(platform.data.execute_statement, Sql=sql, Parameters=parameters, **WHERE)
    assert (code, status) == ("ValidationException", 400)


def test_a_repeated_submission_runs_once(platform):
    platform.run("create table public.once (i int)")
    arguments = {"Sql": "insert into public.once values (1)", "ClientToken": "token-1", **WHERE}
    first, second = (platform.data.execute_statement(**arguments)["Id"] for _ in range(2))
    assert first == second
    platform.finish(first)
    assert platform.query("select count(*) as n from public.once") == [{"n": 1}]


def test_a_repeated_submission_keeps_one_session(platform):
    arguments = {"Sql": "select 1", "ClientToken": "token-2", "SessionKeepAliveSeconds": 30, **WHERE}
    first, second = (platform.data.execute_statement(**arguments)["SessionId"] for _ in range(2))
    assert first == second


def test_a_comment_before_a_query_does_not_hide_its_result(platform):
    assert platform.query("/* why */ select 1 as one -- and so on") == [{"one": 1}]


def test_submission_answers_before_the_statement_has_run(platform):
    submitted = platform.data.execute_statement(Sql=ENDLESS, **WHERE)
    assert platform.data.describe_statement(Id=submitted["Id"])["Status"] in ("SUBMITTED", "STARTED")
    waiting = platform.data.execute_statement(Sql="select 1", **WHERE)
    assert platform.data.describe_statement(Id=waiting["Id"])["Status"] == "SUBMITTED"
    assert error_code(platform.data.get_statement_result, Id=waiting["Id"])[0] == "ResourceNotFoundException"
    wait_until(lambda: platform.data.describe_statement(Id=submitted["Id"])["Status"] == "STARTED")
    assert platform.data.cancel_statement(Id=submitted["Id"])["Status"] is True
    assert platform.finish(submitted["Id"])["Status"] == "ABORTED"
    assert platform.finish(waiting["Id"])["Status"] == "FINISHED"


def test_a_cancelled_statement_leaves_nothing_behind_whenever_the_cancel_comes(platform):
    """A cancel may hit the statement's surroundings: attaching the integration's database, or detaching it."""
    for number in range(60):
        submitted = platform.data.execute_statement(Sql=ENDLESS, **WHERE)
        wait_until(lambda found=submitted: platform.data.describe_statement(Id=found["Id"])["Status"] == "STARTED")
        time.sleep(number % 20 / 1000)
        platform.data.cancel_statement(Id=submitted["Id"])
        assert platform.query("select 1 as one") == [{"one": 1}]
    assert platform.query("select count(*) as n from aurora_zeroetl_integration.demodb.sales")[0]["n"] >= 0


def test_a_cancelled_batch_is_rolled_back(platform):
    platform.run("create table public.counted (i int)")
    batch = platform.data.batch_execute_statement(Sqls=["insert into public.counted values (1)", ENDLESS], **WHERE)
    wait_until(lambda: platform.data.describe_statement(Id=batch["Id"])["SubStatements"][0]["Status"] == "FINISHED")
    platform.data.cancel_statement(Id=batch["Id"])
    assert platform.query("select count(*) as n from public.counted") == [{"n": 0}]


def test_a_finished_statement_cannot_be_cancelled(platform):
    code, _, message = error_code(platform.data.cancel_statement, Id=platform.run("select 1")["Id"])
    assert code == "ValidationException"
    assert "already in FINISHED state" in message


@pytest.mark.parametrize("operation", ["describe_statement", "get_statement_result", "cancel_statement"])
def test_unknown_statements_are_not_found(platform, operation):
    call = getattr(platform.data, operation)
    assert error_code(call, Id="00000000-0000-0000-0000-000000000000") == (
        "ResourceNotFoundException", 400, "Query does not exist.",
    )  # fmt: skip
    assert error_code(call, Id="no-id")[0] == "ValidationException"


def test_a_warehouse_must_be_named(platform):
    assert error_code(platform.data.execute_statement, Sql="select 1", Database="dev")[0] == "ValidationException"
    assert (
        error_code(platform.data.execute_statement, Sql="select 1", WorkgroupName="analytics")[0]
        == "ValidationException"
    )


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from nowhere", 'ERROR: relation "nowhere" does not exist'),
        ("select nothing from svv_integration", 'ERROR: column "nothing" does not exist'),
        ("select * from missing_schema.t", 'ERROR: relation "missing_schema.t" does not exist'),
        ("selec 1 from (", "ERROR: syntax error"),
        ("select 1; select 2", "ERROR: cannot insert multiple commands into a prepared statement"),
        ("select 'x'::int", "ERROR: "),
        ("show no_such_setting", 'ERROR: unrecognized configuration parameter "no_such_setting"'),
    ],
)
def test_failed_statements_say_what_redshift_says(platform, sql, message):
    assert message.lower() in platform.fail(sql).lower()


def test_an_unknown_database_fails_the_statement(platform):
    assert platform.fail("select 1", Database="nowhere") == 'FATAL: database "nowhere" does not exist'
    assert platform.query("select 1 as one") == [{"one": 1}]


def test_statements_are_listed_newest_first(platform):
    platform.run("select 1", StatementName="listed")
    platform.run("select 2", StatementName="listed")
    found = platform.data.list_statements(StatementName="listed", Status="FINISHED")["Statements"]
    assert [one["QueryString"] for one in found] == ["select 2", "select 1"]


def test_a_session_keeps_its_settings(platform):
    kept = platform.data.execute_statement(
        Sql="set enable_case_sensitive_identifier to off", SessionKeepAliveSeconds=60, **WHERE
    )
    platform.finish(kept["Id"])
    session = {"SessionId": kept["SessionId"]}
    assert platform.query("show enable_case_sensitive_identifier", **session) == [
        {"enable_case_sensitive_identifier": "off"}
    ]
    assert platform.query('select 1 as "Name"', **session) == [{"name": 1}]
    assert platform.query('select 1 as "Name"') == [{"Name": 1}]
    assert platform.query("show enable_case_sensitive_identifier") == [{"enable_case_sensitive_identifier": "on"}]
    assert error_code(platform.data.execute_statement, Sql="select 1", **session, **WHERE)[0] == "ValidationException"
    gone = {"SessionId": "00000000-0000-0000-0000-000000000000"}
    assert error_code(platform.data.execute_statement, Sql="select 1", **gone)[0] == "ResourceNotFoundException"


# -- batches -----------------------------------------------------------------------------------------------------------


def test_views_switch_together_in_one_batch(platform):
    for sql in (
        "create schema finance",
        "create schema finance_1",
        "create schema finance_2",
        "create table finance_1.r as select 1 as version",
        "create table finance_2.r as select 2 as version",
        "create view finance.r as select * from finance_1.r with no schema binding",
        "create view finance.s as select * from finance_1.r with no schema binding",
    ):
        platform.run(sql)
    switch = "create or replace view finance.{} as select * from finance_2.r with no schema binding"
    broken = platform.data.batch_execute_statement(
        Sqls=[switch.format("r"), "select * from nowhere", "select 1"], **WHERE
    )
    described = platform.finish(broken["Id"])
    assert described["Status"] == "FAILED"
    assert described["Error"] == 'Query #2 failed with ERROR: relation "nowhere" does not exist'
    assert [part["Status"] for part in described["SubStatements"]] == ["FINISHED", "FAILED", "ABORTED"]
    assert platform.query("select version from finance.r") == [{"version": 1}]
    done = platform.data.batch_execute_statement(
        Sqls=[switch.format("r"), switch.format("s"), "select version from finance.s"], **WHERE
    )
    described = platform.finish(done["Id"])
    assert described["Status"] == "FINISHED"
    assert platform.data.get_statement_result(Id=described["SubStatements"][2]["Id"])["Records"] == [[{"longValue": 2}]]
    assert platform.query("select version from finance.r") == [{"version": 2}]


# -- CREATE DATABASE FROM INTEGRATION ----------------------------------------------------------------------------------


def test_nothing_is_published_before_the_database_is_made(unconnected, tmp_path):
    (row,) = unconnected.query("select * from svv_integration")
    assert (row["state"], row["target_database"], row["current_lag"]) == ("PendingDbConnectState", "", None)
    assert not unconnected.replicator.cycle()
    assert not (tmp_path / "zero_etl" / f"{TARGET_DATABASE}.duckdb").exists()
    unconnected.connect()
    assert (tmp_path / "zero_etl" / f"{TARGET_DATABASE}.duckdb").exists()


def test_create_database_is_refused_as_redshift_refuses_it(unconnected):
    batch = unconnected.data.batch_execute_statement(Sqls=[CREATE], **WHERE)
    assert "CREATE DATABASE cannot run inside a transaction block" in unconnected.finish(batch["Id"])["Error"]
    unknown = f"create database {TARGET_DATABASE} from integration '00000000-0000-0000-0000-000000000000'"
    assert "does not exist" in unconnected.fail(unknown)
    unconnected.run(
        f"create database \"{TARGET_DATABASE}\" from integration '{INTEGRATION_ID}' set history_mode = false;"
    )
    assert unconnected.fail(CREATE) == f'ERROR: database "{TARGET_DATABASE}" already exists'
    assert "already has the database" in unconnected.fail(f"create database other from integration '{INTEGRATION_ID}'")


def test_drop_database_ends_replication_until_it_is_made_again(unconnected, tmp_path):
    unconnected.connect()
    unconnected.run(f"drop database {TARGET_DATABASE}")
    assert not (tmp_path / "zero_etl" / f"{TARGET_DATABASE}.duckdb").exists()
    assert unconnected.query("select state from svv_integration") == [{"state": "PendingDbConnectState"}]
    with unconnected.replicator.aurora.transaction() as connection:
        connection.execute("update venue set venueseats = 1")
        assert connection.execute(f"select count(*) from {CHANGE_LOG}").fetchone() == (0,)
    assert unconnected.fail(f"drop database {TARGET_DATABASE}") == f'ERROR: database "{TARGET_DATABASE}" does not exist'
    unconnected.run(f"drop database if exists {TARGET_DATABASE}")
    unconnected.connect()
    assert unconnected.query(f"select count(*) as n from {TARGET_DATABASE}.demodb.venue") == [{"n": 5}]


def test_refresh_tables_reloads_a_table_after_its_repair(unconnected):
    unconnected.connect()
    with unconnected.replicator.aurora.transaction() as connection:
        connection.execute("create table keyless (i integer)")
    state = "select table_state, reason from svv_integration_table_state where table_name = 'keyless'"
    (row,) = wait_until(lambda: unconnected.query(state))
    assert row["table_state"] == "Failed"
    assert "primary key" in row["reason"]
    (found,) = unconnected.rds.describe_integrations()["Integrations"]
    assert found["Status"] == "needs_attention"
    assert "keyless" in found["Errors"][0]["ErrorMessage"]
    with unconnected.replicator.aurora.transaction() as connection:
        connection.execute("drop table keyless")
        connection.execute("create table keyless (i integer primary key)")
    unconnected.run(f"alter database {TARGET_DATABASE} integration refresh tables demodb.keyless")
    wait_until(lambda: unconnected.query(state)[0]["table_state"] == "Synced")
    assert unconnected.rds.describe_integrations()["Integrations"][0]["Status"] == "active"
    assert "does not exist" in unconnected.fail(
        f"alter database {TARGET_DATABASE} integration refresh tables demodb.none"
    )


# -- the server --------------------------------------------------------------------------------------------------------


def test_health_tells_the_state(platform):
    with urllib.request.urlopen(platform.url + "/health") as response:
        assert json.load(response) == {"status": "ok", "error": None, "state": "CdcRefreshState"}


def test_recorded_state_has_lag_per_table(platform):
    with urllib.request.urlopen(platform.url + "/_local/state") as response:
        state = json.load(response)
    assert len(state["tables"]) == 7
    assert all(table["lag_ms"] is not None for table in state["tables"])


def test_taken_port_is_named(platform):
    port = int(platform.url.rsplit(":", 1)[1])
    with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1: expected it free, found it taken"):
        Server(platform.replicator, port=port)
