"""`ensure_*` against an API that keeps what it is told, over real HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from include.platform.airflow_api import AirflowApiError, HttpAirflowApi
from include.platform.airflow_settings import parse_airflow_settings
from include.platform.configuration import ensure_connections, ensure_pools, ensure_variables

KEYS = {"pools": "name", "variables": "key", "connections": "connection_id"}


class Handler(BaseHTTPRequestHandler):
    store: dict[str, dict[str, dict]]
    calls: list[tuple[str, str]]
    failures: list[int]

    def do_POST(self):
        if self.path == "/auth/token":
            ok = self._body() == {"username": "admin", "password": "right"}
            return (
                self._answer(201, {"access_token": "t"}) if ok else self._answer(401, {"detail": "Invalid credentials"})
            )
        if self._fail():
            return None
        collection = self.path.split("/")[3]
        body = self._body()
        key = body[KEYS[collection]]
        if key in self.store[collection]:
            return self._answer(409, {"detail": "exists"})
        self.store[collection][key] = body
        return self._answer(201, body)

    def do_GET(self):
        if self._fail():
            return None
        _, _, _, collection, key = self.path.split("/")
        found = self.store[collection].get(key)
        return self._answer(200, found) if found else self._answer(404, {"detail": "not found"})

    def do_PATCH(self):
        _, _, _, collection, key = self.path.split("/")
        self.store[collection][key].update(self._body())
        return self._answer(200, self.store[collection][key])

    def _fail(self):
        self.calls.append((self.command, self.path))
        if self.failures:
            self._answer(self.failures.pop(0), {"detail": "database is locked"})
            return True
        return False

    def _body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    handler = type("H", (Handler,), {"store": {k: {} for k in KEYS}, "calls": [], "failures": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


SETTINGS = parse_airflow_settings(
    """
airflow:
  connections:
    - {conn_id: served, conn_type: aws}
    - {conn_id: missing, conn_type: http, conn_host: example, conn_extra: {a: 1}}
  pools: [{pool_name: warehouse_build, pool_slot: 2, pool_description: d}]
  variables: [{variable_name: v, variable_value: 1}]
"""
)


def test_what_is_missing_is_created_and_a_second_run_changes_nothing(server):
    handler, url = server
    api = HttpAirflowApi(url, "admin", "right")
    assert ensure_pools(api, SETTINGS) == {"warehouse_build": "created"}
    assert ensure_variables(api, SETTINGS) == {"v": "created"}
    assert ensure_pools(api, SETTINGS) == {"warehouse_build": "unchanged"}
    assert ensure_variables(api, SETTINGS) == {"v": "unchanged"}
    assert handler.store["pools"]["warehouse_build"]["slots"] == 2


def test_a_changed_pool_is_resized(server):
    handler, url = server
    handler.store["pools"]["warehouse_build"] = {"name": "warehouse_build", "slots": 9, "description": "d"}
    assert ensure_pools(HttpAirflowApi(url, "admin", "right"), SETTINGS) == {"warehouse_build": "updated"}
    assert handler.store["pools"]["warehouse_build"]["slots"] == 2


def test_connections_of_a_secrets_backend_and_existing_ones_are_never_touched(server):
    handler, url = server
    api = HttpAirflowApi(url, "admin", "right")
    done = ensure_connections(api, SETTINGS, is_served=lambda conn_id: conn_id == "served")
    assert done == {"served": "served by a secrets backend", "missing": "created"}
    assert json.loads(handler.store["connections"]["missing"]["extra"]) == {"a": 1}
    handler.store["connections"]["missing"]["host"] = "changed-by-hand"
    assert ensure_connections(api, SETTINGS, is_served=lambda _: False)["missing"] == "unchanged"
    assert handler.store["connections"]["missing"]["host"] == "changed-by-hand"


def test_a_locked_database_is_tried_again(server):
    handler, url = server
    handler.failures.extend([500, 503])
    assert ensure_pools(HttpAirflowApi(url, "admin", "right"), SETTINGS) == {"warehouse_build": "created"}


def test_a_wrong_password_is_told_with_the_status_and_without_the_password(server):
    _, url = server
    with pytest.raises(AirflowApiError, match="401") as caught:
        ensure_pools(HttpAirflowApi(url, "admin", "wrong-secret"), SETTINGS)
    assert "wrong-secret" not in str(caught.value)
