from __future__ import annotations

import asyncio
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from airflow.sdk import Connection

from data_platform.alerts.notifier import Alert, AlertNotifier, LogChannel, SnsChannel, WebhookChannel, channel_for

CONTEXT = {
    "ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", try_number=2, log_url="http://ui/log"),
    "exception": ValueError("lag 92 s > limit 30 s"),
}


@pytest.fixture
def webhook(request):
    received = []
    status = getattr(request, "param", 200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(
                (self.path, dict(self.headers), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            )
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    server.server_close()


def notifier(event="task_failed"):
    return AlertNotifier(conn_id="alerts_failures", owner="finance", event=event)


def connect(monkeypatch, **fields):
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_FAILURES", json.dumps(fields))


def test_without_a_connection_a_failure_goes_to_the_log(caplog):
    with caplog.at_level(logging.ERROR):
        notifier().notify(CONTEXT)
    assert "[finance] task failed: d.t" in caplog.text
    assert "lag 92 s > limit 30 s" in caplog.text


def test_a_webhook_gets_what_happened_and_where(webhook, monkeypatch):
    url, received = webhook
    connect(monkeypatch, conn_type="http", host=url, extra={"endpoint": "/hook", "headers": {"X-Key": "k"}})
    notifier().notify(CONTEXT)
    path, headers, body = received[0]
    assert path == "/hook"
    assert headers["X-Key"] == "k"
    assert body["reason"] == "ValueError: lag 92 s > limit 30 s"
    assert body["url"] == "http://ui/log"


@pytest.mark.parametrize("webhook", [500], indirect=True)
def test_an_alert_that_cannot_be_sent_is_logged_and_fails_nothing(webhook, monkeypatch, caplog):
    connect(monkeypatch, conn_type="http", host=webhook[0])
    with caplog.at_level(logging.ERROR):
        notifier().notify(CONTEXT)
    assert "could not send the alert" in caplog.text
    assert "lag 92 s" in caplog.text


def test_a_missed_deadline_is_told_without_blocking_the_event_loop(webhook, monkeypatch):
    url, received = webhook
    connect(monkeypatch, conn_type="http", host=url)
    context = {"dag_run": {"dag_id": "d", "run_id": "r"}, "deadline": {"deadline_time": "2026-01-01T00:00:00Z"}}
    asyncio.run(notifier("deadline_missed").async_notify(context))
    body = received[0][2]
    assert (body["dag_id"], body["run_id"], body["task_id"]) == ("d", "r", None)
    assert "2026-01-01T00:00:00Z" in body["reason"]


def test_the_connection_decides_the_channel():
    sns = Connection(conn_id="a", conn_type="aws", extra=json.dumps({"topic_arn": "arn:aws:sns:us-east-1:1:t"}))
    hook = Connection(conn_id="a", conn_type="https", host="chat.example", port=8443)
    assert channel_for("a", sns) == SnsChannel("a", "arn:aws:sns:us-east-1:1:t")
    assert channel_for("a", hook) == WebhookChannel("https://chat.example:8443")
    assert isinstance(channel_for("a", None), LogChannel)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "aws"}, "expected extra.topic_arn"),
        ({"conn_type": "http"}, "expected a host"),
        ({"conn_type": "ftp", "host": "h"}, "found 'ftp'"),
    ],
)
def test_a_connection_that_cannot_carry_an_alert_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        channel_for("a", Connection(conn_id="a", **fields))


def test_an_alert_without_a_reason_says_so():
    assert Alert.from_context({}, event="task_failed", owner="o").reason == "no reason was given"
