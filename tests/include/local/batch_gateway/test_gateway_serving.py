"""Routing, the cache of statuses, the limit of listings, and the processes themselves."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.local.batch_gateway.__main__ import with_uis
from include.local.batch_gateway.config import Cluster, GatewayConfig, parse_config, read_config
from include.local.batch_gateway.kubernetes import is_label, normalize_label
from include.local.batch_gateway.routing import RateLimit, Router
from include.local.batch_gateway.trial import trial_gateway
from tests.include.local.batch_gateway.conftest import Client


def shares(config, submissions=400):
    router = Router(config)
    request = {"sparkVersion": "3.5.0", "queue": "dev"}
    return Counter(router.cluster(request, "somebody").id for _ in range(submissions))


def test_two_clusters_of_the_same_weight_share_the_jobs():
    told = shares(GatewayConfig(seed=1))
    assert told.keys() == {"sparkclustera", "sparkclusterb"}
    assert min(told.values()) > 160


def test_weights_decide_and_a_seed_repeats_the_choice():
    config = GatewayConfig(clusters=(Cluster("much", weight=90), Cluster("little", weight=10)), seed=7)
    assert shares(config)["much"] > 330
    assert shares(config) == shares(config)


def test_a_burst_of_a_second_is_let_through_after_a_pause_and_then_no_more(monkeypatch):
    moment = 100.0
    monkeypatch.setattr("include.local.batch_gateway.routing.time.monotonic", lambda: moment)
    limit = RateLimit(20)
    assert [limit.acquire() for _ in range(2)] == [True, False]
    moment += 60
    assert [limit.acquire() for _ in range(22)] == [True] * 21 + [False]
    moment += 0.05
    assert [limit.acquire() for _ in range(2)] == [True, False]


def test_a_status_is_kept_for_a_while_and_so_is_that_there_is_none():
    with trial_gateway(status_cache_millis=600_000) as gateway:
        client = Client(gateway)
        submission_id = client.submit({"seconds": 600})
        gateway.wait_state(submission_id, "RUNNING")
        assert client.status(submission_id)["applicationState"] == "RUNNING"
        gateway.set_state(submission_id, "FAILED")
        assert client.status(submission_id)["applicationState"] == "RUNNING"
        assert "FAILED" in client.listed()[0], "a listing is not kept"

        late = f"sparkclustera-{'0' * 32}"
        assert client.status(late) == 404
        assert client.status("nodash") == 500


def test_submissions_at_once_are_all_accepted_once(gateway, client):
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda _: Client(gateway).submit(), range(64)))

    assert len(set(ids)) == 64
    assert {one["id"] for one in gateway.applications()} == set(ids)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("daily report", "daily0report"),
        ("-dag/task", "0dag0task"),
        ("ends-", "ends0"),
        ("x" * 70, "x" * 63),
        ("x" * 62 + "-y", "x" * 62 + "0"),
        ("grüße", "gr00e"),
        ("", ""),
    ],
)
def test_a_name_becomes_a_label(name, label):
    assert normalize_label(name) == label
    assert is_label(label)


def test_a_configuration_is_written_and_read_again(tmp_path):
    config = GatewayConfig(clusters=(Cluster("a", queues=("x",)),), allowed_users=("me",), seed=3)
    (tmp_path / "config.json").write_text(config.to_json())
    assert read_config(tmp_path / "config.json") == config


@pytest.mark.parametrize("document", [{"cluster": []}, {"clusters": [{"id": "a", "wieght": 3}]}])
def test_a_configuration_with_an_unknown_field_is_refused(document):
    with pytest.raises(ValueError, match=r"expected only .*; found (cluster|wieght)$"):
        parse_config(document, "file")


def run(project_root, *arguments):
    command = [sys.executable, "-m", "include.local.batch_gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=project_root, timeout=60, check=False)


def test_a_port_that_is_taken_is_named(project_root, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(project_root, "gateway", "--home", str(tmp_path), "--port", str(port))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1: expected it free, found it taken" in done.stderr


def test_a_configuration_that_can_not_be_read_is_one_line(project_root, tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps({"weights": 1}))
    done = run(project_root, "gateway", "--home", str(tmp_path), "--config", str(tmp_path / "config.yaml"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path / 'config.yaml'}: expected only clusters")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["boto3", "yaml", "jwt", "airflow"])
def test_the_gateway_starts_without_what_only_some_requests_need(project_root, module):
    code = f"import sys, include.local.batch_gateway.server; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root, check=True)
    assert done.stdout.strip() == "False"


def test_uis_are_told_on_the_laptop_and_not_from_a_container_that_does_not_publish_them():
    config = GatewayConfig()

    assert {one.ui_url for one in with_uis(config, "127.0.0.1", 4569).clusters} == {"http://127.0.0.1:4569/_local/ui"}
    assert with_uis(config, "0.0.0.0", 4569) == config  # nothing listens there
    assert {one.ui_url for one in config.clusters} == {""}
