"""The stand-in as a process: ready, healthy, restarted with its state, stopped."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import boto3
import pytest

from include.local.catalog.identity import DOMAIN_ID, PROJECT_ID
from tests.include.local.catalog.conftest import Caller, run_event, view_forms


@contextmanager
def running(project_root, *options):
    command = [sys.executable, "-m", "include.local.catalog", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root) as process:
        try:
            url = process.stdout.readline().removeprefix("ready on ").strip()
            client = boto3.client("datazone", region_name="us-east-1", endpoint_url=url)
            yield url, Caller(client, DOMAIN_ID), process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_a_restart_loses_nothing(project_root, tmp_path):
    options = ["--home", str(tmp_path / "catalog"), "--processing-seconds", "0"]
    event = json.dumps(run_event(inputs=["a"], outputs=[("b", {"y": [("a", "x")]})]))
    with running(project_root, *options) as (url, client, _):
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert json.load(answer) == {"status": "ok"}
        event_id = client.post_lineage_event(event=event, clientToken="t")["id"]
        node = client.get_lineage_node(identifier="ns/b")
        wanted = {"name": "v", "typeIdentifier": "amazon.datazone.RedshiftViewAssetType", "formsInput": view_forms()}
        asset = client.create_asset(**wanted, owningProjectIdentifier=PROJECT_ID)
    with running(project_root, *options) as (_, client, _):
        assert client.get_lineage_node(identifier="ns/b") == node
        assert client.get_asset(identifier=asset["id"]) == asset
        assert client.post_lineage_event(event=event, clientToken="t")["id"] == event_id
        assert len(client.list_lineage_events()["items"]) == 1


def test_a_kill_loses_nothing_that_was_answered_and_what_waits_is_processed_afterwards(project_root, tmp_path):
    home = ["--home", str(tmp_path)]
    command = [sys.executable, "-m", "include.local.catalog", "--port", "0", *home, "--processing-seconds", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root) as process:
        url = process.stdout.readline().removeprefix("ready on ").strip()
        client = Caller(boto3.client("datazone", region_name="us-east-1", endpoint_url=url), DOMAIN_ID)
        event_id = client.post_lineage_event(event=json.dumps(run_event(outputs=["b"])))["id"]
        process.kill()
    with running(project_root, *home, "--processing-seconds", "0") as (_, client, _):
        assert client.get_lineage_event(identifier=event_id)["processingStatus"] == "SUCCESS"
        assert client.get_lineage_node(identifier="ns/b")


def test_another_domain_can_be_served(project_root):
    with running(project_root, "--domain", "dzd_other", "--project", "p") as (_, client, _):
        assert client.list_lineage_events(domainIdentifier="dzd_other")["items"] == []
        assert client.get_project(domainIdentifier="dzd_other", identifier="p")["id"] == "p"


def test_a_port_that_is_taken_is_named(project_root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "include.local.catalog", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=project_root, timeout=60, check=False)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1: expected it free, found it taken" in done.stderr


@pytest.mark.parametrize("module", ["botocore", "boto3", "include.local.catalog.protocol"])
def test_whoever_configures_a_client_imports_nothing_heavy(project_root, module):
    code = f"import sys, include.local.catalog.identity; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root, check=True)
    assert done.stdout.strip() == "False"
