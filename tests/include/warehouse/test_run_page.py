"""What a failed build leaves on the run's page."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from include.warehouse.build import BuildReport
from include.warehouse.dbt_run import DbtOutcome, NodeResult
from include.warehouse.operators import tell_on_run_page
from include.warehouse.run_state import RunState

CONTEXT = {
    "ti": SimpleNamespace(
        dag_id="build_finance_products",
        run_id="asset_triggered__2026-11-23T14:00:00+00:00_x",
        task_id="build_models",
        try_number=2,
        log_url="http://airflow/dags/d/runs/r/tasks/build_models?try_number=2",
    )
}


def report(message="Runtime Error in model fct_sales"):
    node = NodeResult("model.p.fct_sales", "model", "fct_sales", "table", None, "error", 0.1, 2, message)
    return BuildReport(RunState("abc", "", False), DbtOutcome(1, {node.unique_id: node}))


@pytest.fixture
def airflow_api(monkeypatch):
    """Answers as Airflow's REST API does, and keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.answer({"access_token": "token"})

        def do_PATCH(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body, self.headers["Authorization"]))
            self.answer(body)

        def answer(self, body):
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    connection = {
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": server.server_port,
        "login": "admin",
        "password": "secret",
    }
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(connection))
    yield asked
    server.shutdown()
    thread.join()


def test_a_failure_becomes_the_runs_note_with_a_link_to_the_log(airflow_api):
    tell_on_run_page(CONTEXT, report())

    ((path, body, authorization),) = airflow_api
    assert path == (
        "/api/v2/dags/build_finance_products/dagRuns/asset_triggered__2026-11-23T14%3A00%3A00%2B00%3A00_x?update_mask=note"
    )
    assert authorization == "Bearer token"
    assert body["note"].startswith(
        "[build_models, try 2](http://airflow/dags/d/runs/r/tasks/build_models?try_number=2): 1 dbt node(s) failed"
    )
    assert "Runtime Error in model fct_sales" in body["note"]


def test_a_long_failure_is_cut_to_what_airflow_takes(airflow_api):
    tell_on_run_page(CONTEXT, report("x" * 5000))

    assert len(airflow_api[0][1]["note"]) == 1000


def test_a_retry_that_mends_it_says_so(airflow_api):
    tell_on_run_page(CONTEXT, BuildReport(RunState("abc", "", False), DbtOutcome(), resumed=5))

    assert "succeeded; earlier tries had built 5 of" in airflow_api[0][1]["note"]


def test_without_the_connection_the_failure_stays_in_the_log(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("AIRFLOW_CONN_AIRFLOW_API", raising=False)

    tell_on_run_page(CONTEXT, report())

    assert "the run's page has no note" in caplog.text
