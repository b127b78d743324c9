"""A small AWS over HTTP whose state a test sets: RDS DescribeIntegrations and the Redshift Data API, as boto3 calls them.

The local platform's stand-in is asked too (test_zero_etl_stand_in.py); it is mostly healthy, so states, faults and pages come from here.
"""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

INTEGRATION_ID = "6f0f2b5e-7a53-4a8e-9d1c-0f3f5a7c9b11"
INTEGRATION_ARN = f"arn:aws:rds:us-east-1:123456789012:integration:{INTEGRATION_ID}"
SOURCE_ARN = "arn:aws:rds:us-east-1:123456789012:cluster:shop"
CONN_ID = "zero_etl_under_test"
TARGET = "aurora_zeroetl_integration"
CHECKPOINT = '{"txn_seq":1,"txn_id":10}'
GATE_SECONDS = 5.0


@dataclass
class FakeAws:
    """What AWS would answer. Faults are taken one per request, before anything else is looked at.

    With a ``gate``, a request is answered only after somebody has set the gate once more; ``released`` tells of each whether that came.
    """

    url: str = ""
    status: str | None = "active"
    errors: list[tuple[str, str]] = field(default_factory=list)
    integrations: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    databases: set[str] = field(default_factory=set)
    faults: deque[tuple[int, str]] = field(default_factory=deque)
    gate: threading.Event | None = None
    released: list[bool] = field(default_factory=list)
    page_size: int = 1000
    never_finishes: bool = False
    polls_before_finished: int = 0
    statement_error: str | None = None
    case_sensitive: str = "on"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    statements: dict[str, dict[str, Any]] = field(default_factory=dict)

    def integration(self) -> dict[str, Any]:
        return self.integrations[0]

    def calls(self, action: str) -> list[dict[str, Any]]:
        return [body for name, body in self.requests if name == action]

    def submitted(self) -> list[str]:
        return [body["Sql"] for body in self.calls("ExecuteStatement")]

    # RDS, query protocol -----------------------------------------------------------------------------------------------------------

    def describe_integrations(self, body: dict[str, Any]) -> tuple[int, str]:
        if self.status is None:
            return 404, _rds_error("IntegrationNotFoundFault", "Integration not found")
        errors = "".join(
            f"<IntegrationError><ErrorCode>{code}</ErrorCode><ErrorMessage>{escape(text)}</ErrorMessage></IntegrationError>"
            for code, text in self.errors
        )
        return 200, (
            '<DescribeIntegrationsResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeIntegrationsResult><Integrations>'
            f"<Integration><IntegrationArn>{INTEGRATION_ARN}</IntegrationArn><IntegrationName>tickit</IntegrationName>"
            f"<SourceArn>{SOURCE_ARN}</SourceArn>"
            f"<Status>{self.status}</Status><Errors>{errors}</Errors></Integration>"
            "</Integrations></DescribeIntegrationsResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
            "</DescribeIntegrationsResponse>"
        )

    # Redshift Data API, JSON 1.1 ---------------------------------------------------------------------------------------------------

    def execute_statement(self, body: dict[str, Any]) -> dict[str, Any]:
        number = f"00000000-0000-4000-8000-{len(self.statements):012d}"
        statement: dict[str, Any] = {"rows": [], "error": self.statement_error, "polls": 0}
        parameters = {one["name"]: one["value"] for one in body.get("Parameters", [])}
        if statement["error"] is None:
            self._run(body, parameters, statement)
        self.statements[number] = statement
        answer = {"Id": number}
        if "SessionKeepAliveSeconds" in body:
            answer["SessionId"] = "5e551011-0000-4000-8000-000000000000"
        return answer

    def _run(self, body: dict[str, Any], parameters: dict[str, str], statement: dict[str, Any]) -> None:
        sql = body["Sql"]
        if "svv_integration_table_state" in sql:
            statement["rows"] = self.tables
        elif "from svv_integration" in sql:
            statement["rows"] = [
                row for row in self.integrations if all(row[name] == value for name, value in parameters.items())
            ]
        elif sql.startswith("create database"):
            name = sql.split('"')[1]
            if name in self.databases:
                statement["error"] = f'ERROR: database "{name}" already exists'
            else:
                self.databases.add(name)
                self.integration().update(target_database=name, state="CdcRefreshState")
        elif sql.startswith("show"):
            statement["rows"] = [{"enable_case_sensitive_identifier": self.case_sensitive}]

    def describe_statement(self, body: dict[str, Any]) -> dict[str, Any]:
        statement = self.statements[body["Id"]]
        statement["polls"] += 1
        if self.never_finishes:
            return {"Id": body["Id"], "Status": "STARTED"}
        if statement["error"]:
            return {"Id": body["Id"], "Status": "FAILED", "Error": statement["error"]}
        return {
            "Id": body["Id"],
            "Status": "SUBMITTED" if statement["polls"] <= self.polls_before_finished else "FINISHED",
        }

    def get_statement_result(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = self.statements[body["Id"]]["rows"]
        start = int(body.get("NextToken", 0))
        page = rows[start : start + self.page_size]
        names = list(rows[0]) if rows else []
        answer: dict[str, Any] = {
            "ColumnMetadata": [{"name": name} for name in names],
            "Records": [[_field(row[name]) for name in names] for row in page],
        }
        if start + self.page_size < len(rows):
            answer["NextToken"] = str(start + self.page_size)
        return answer

    def cancel_statement(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Status": True}


def _field(value: Any) -> dict[str, Any]:
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    return {"stringValue": str(value).ljust(128)}  # character(128), padded as Redshift does


def _rds_error(code: str, message: str) -> str:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>1</RequestId></ErrorResponse>"
    )


_ACTIONS = {
    "DescribeIntegrations": FakeAws.describe_integrations,
    "ExecuteStatement": FakeAws.execute_statement,
    "DescribeStatement": FakeAws.describe_statement,
    "GetStatementResult": FakeAws.get_statement_result,
    "CancelStatement": FakeAws.cancel_statement,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet per answer: no 40 ms for Nagle's algorithm
    aws: FakeAws

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        target = self.headers.get("X-Amz-Target")
        rds = target is None
        body = {key: value[0] for key, value in parse_qs(raw.decode()).items()} if rds else json.loads(raw)
        action = body["Action"] if rds else target.rsplit(".", 1)[-1]
        if self.aws.gate is not None:
            self.aws.gate.clear()  # first, so that only what happens while this request is under way releases it
            self.aws.released.append(self.aws.gate.wait(GATE_SECONDS))
        if self.aws.faults:
            status, code = self.aws.faults.popleft()
            answer = _rds_error(code, "injected") if rds else json.dumps({"__type": code, "message": "injected"})
        else:
            self.aws.requests.append((action, body))
            result = _ACTIONS[action](self.aws, body)
            status, answer = result if isinstance(result, tuple) else (200, json.dumps(result))
        payload = answer.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml" if rds else "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        pass


def table_row(name: str, state: str = "Synced", *, reason: str | None = None, history: bool = False) -> dict[str, Any]:
    return {
        "schema_name": "demodb",
        "table_name": name,
        "table_state": state,
        "reason": reason,
        "is_history_mode": history,
    }


def connection_env(url: str, **extra: Any) -> dict[str, str]:
    """AIRFLOW_CONN_* for the integration's connection and an AWS connection whose clients talk to ``url``."""
    endpoint = {"endpoint_url": url}
    aws = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": {
            "region_name": "us-east-1",
            "endpoint_url": "http://127.0.0.1:9",  # discard: only service_config must be used
            "service_config": {"rds": endpoint, "redshift-data": endpoint},
        },
    }
    integration = {
        "integration_arn": INTEGRATION_ARN,
        "workgroup_name": "analytics",
        "database": "dev",
        "target_database": TARGET,
        "source_database": "demodb",
        "aws_conn_id": "aws_under_test",
        **extra,
    }
    return {
        "AIRFLOW_CONN_AWS_UNDER_TEST": json.dumps(aws),
        f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps({"conn_type": "aws", "extra": integration}),
    }


@contextmanager
def serve(fake: FakeAws) -> Iterator[None]:
    """Answer on a free port of the loopback; sets ``fake.url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"aws": fake}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        if fake.gate is not None:
            fake.gate.set()  # no request outlives its test
        server.shutdown()
        server.server_close()
        thread.join()


def healthy() -> FakeAws:
    """An active integration with three synced tables."""
    return FakeAws(
        integrations=[
            {
                "integration_id": INTEGRATION_ID,
                "target_database": TARGET,
                "state": "CdcRefreshState",
                "current_lag": 1200,
                "last_replicated_checkpoint": CHECKPOINT,
            }
        ],
        tables=[table_row("listing", history=True), table_row("sales", history=True), table_row("users")],
    )
