"""What Soda is told of the warehouse, and what it makes of it: its own source is asked, with the driver's ``connect`` taken away."""

from __future__ import annotations

import json
import subprocess

import boto3
import pytest
from botocore.stub import Stubber

from include.quality import gate
from include.quality.data_source import AWS_ACTIONS, Login, redshift_login, soda_data_source
from include.quality.exceptions import LoginRefused
from include.warehouse.connection import DuckDbConnection, RedshiftConnection

PASSWORD = "p${HOME}'\"\\ {{ x }}"
HOST = "finance.123456789012.us-east-1.redshift-serverless.amazonaws.com"


def redshift(**changes) -> RedshiftConnection:
    fields = {
        "host": HOST,
        "port": 5439,
        "database": "dev",
        "user": None,
        "password": None,
        "iam": True,
        "workgroup": "finance",
        "cluster": None,
        "region": "us-east-1",
        "secret_arn": None,
        "aws_conn_id": "aws_default",
    }
    return RedshiftConnection(**fields | changes)


def stubbed(service: str, operation: str, answer: dict, expected: dict):
    client = boto3.client(service, region_name="us-east-1")
    stub = Stubber(client)
    stub.add_response(operation, answer, expected)
    stub.activate()
    return client, stub


def test_a_duckdb_file_is_opened_read_only(tmp_path):
    warehouse = DuckDbConnection(tmp_path / "build.duckdb", tmp_path, {})

    assert soda_data_source(warehouse, "build_finance_audit", None) == {
        "type": "duckdb",
        "path": str(tmp_path / "build.duckdb"),
        "read_only": True,
        "schema": "build_finance_audit",
    }


def test_a_user_and_a_password_are_handed_on():
    login = redshift_login(redshift(iam=False, user="dbt", password=PASSWORD), client=pytest.fail)

    assert login == Login("dbt", PASSWORD)
    assert PASSWORD not in repr(login)


def test_a_workgroup_gives_the_tasks_role_a_user_of_its_own():
    client, stub = stubbed(
        "redshift-serverless",
        "get_credentials",
        {"dbUser": "IAMR:worker", "dbPassword": "once"},
        {"workgroupName": "finance", "dbName": "dev", "durationSeconds": 900},
    )

    assert redshift_login(redshift(), lambda service: client) == Login("IAMR:worker", "once")
    stub.assert_no_pending_responses()


def test_a_cluster_gives_the_named_user():
    client, stub = stubbed(
        "redshift",
        "get_cluster_credentials",
        {"DbUser": "IAM:dbt", "DbPassword": "once"},
        {"ClusterIdentifier": "c1", "DbName": "dev", "DurationSeconds": 900, "DbUser": "dbt", "AutoCreate": False},
    )

    assert redshift_login(redshift(workgroup=None, cluster="c1", user="dbt"), lambda service: client).user == "IAM:dbt"
    stub.assert_no_pending_responses()


def test_a_cluster_without_a_named_user_gives_the_role_one():
    client, stub = stubbed(
        "redshift",
        "get_cluster_credentials_with_iam",
        {"DbUser": "IAMR:worker", "DbPassword": "once"},
        {"ClusterIdentifier": "c1", "DbName": "dev", "DurationSeconds": 900},
    )

    assert redshift_login(redshift(workgroup=None, cluster="c1"), lambda service: client).user == "IAMR:worker"
    stub.assert_no_pending_responses()


def test_the_actions_that_a_role_needs_are_those_that_are_called():
    called = {
        f"{service}:{client.meta.method_to_api_mapping[operation]}"
        for service, operation in (
            ("redshift-serverless", "get_credentials"),
            ("redshift", "get_cluster_credentials"),
            ("redshift", "get_cluster_credentials_with_iam"),
        )
        if (client := boto3.client(service, region_name="us-east-1"))
    }

    assert called == set(AWS_ACTIONS)


def test_a_refusal_of_aws_says_which_action_the_role_needs():
    client = boto3.client("redshift-serverless", region_name="us-east-1")
    with Stubber(client) as stub:
        stub.add_client_error("get_credentials", "AccessDeniedException", "no")
        with pytest.raises(
            LoginRefused, match=r"credentials of finance .*AccessDenied.*redshift-serverless:GetCredentials"
        ):
            redshift_login(redshift(), lambda service: client)


def test_a_connection_without_any_login_is_refused():
    with pytest.raises(LoginRefused, match=r"expected login and password, or extra\.iam, found neither"):
        redshift_login(redshift(iam=False, user="dbt"))


def in_warehouse_environment(python, program: str, *, stdin: str = "") -> dict:
    done = subprocess.run(
        [str(python), "-c", program, str(gate.RUNNER)],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        env=gate.soda_environment(),
    )
    return json.loads(done.stdout.splitlines()[-1])


CONNECT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("soda_runner", sys.argv[1]); runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)
import psycopg2
seen = []

class Cursor:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def execute(self, sql): seen.append(sql)

class Connection:
    def cursor(self): return Cursor()
    def commit(self): seen.append("commit")
    def close(self): pass

def connect(**arguments):
    seen.append(arguments)
    return Connection()

psycopg2.connect = connect
job = json.load(sys.stdin)
runner.quiet()
scan = runner.new_scan(job)
runner.prepare(scan._data_source_manager.get_data_source(runner.NAME), job)
from soda.telemetry.soda_telemetry import SodaTelemetry
print(json.dumps({"seen": seen, "sends": SodaTelemetry.get_instance()._SodaTelemetry__send, "cloud": scan._configuration.soda_cloud}))
"""


@pytest.fixture(scope="module")
def connected(soda_python):
    source = soda_data_source(redshift(), "build_finance_audit", Login("IAMR:worker", PASSWORD))
    job = {
        "data_source": source,
        "now": "2026-03-01T12:00:00+00:00",
        "timeout_seconds": 900.0,
        "most_rows": 1,
        "most_characters": 1,
    }
    return in_warehouse_environment(soda_python, CONNECT, stdin=json.dumps(job))


def test_soda_connects_to_redshift_with_what_it_is_told(connected):
    assert connected["seen"][0] == {
        "user": "IAMR:worker",
        "password": PASSWORD,  # as it is, though Soda reads a configuration file as a template
        "host": HOST,
        "port": 5439,
        "connect_timeout": 30,
        "database": "dev",
        "options": "-c search_path=build_finance_audit",
    }


def test_a_query_on_redshift_does_not_outlive_the_scan_for_long(connected):
    """Committed, for Soda rolls back after a query that failed."""
    assert connected["seen"][1:] == ["set statement_timeout to 900000", "commit"]


def test_soda_sends_nothing_to_its_makers(connected):
    assert connected["sends"] is False
    assert connected["cloud"] is None
