"""The AWS stand-in: real boto3 clients against a served moto."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError

from include.local.aws.server import OneAtATime, make_aws_server
from include.local.aws.trial import trial_aws
from include.local.processes import PortTakenError

RESET_PATH = "/moto-api/reset"
"""moto's own: POST here forgets everything."""
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint():
    with trial_aws() as url:
        yield url


@pytest.fixture
def s3(endpoint):
    urllib.request.urlopen(urllib.request.Request(endpoint + RESET_PATH, method="POST")).read()
    client = boto3.client("s3", endpoint_url=endpoint, **CREDENTIALS)
    client.create_bucket(Bucket="data-platform")
    return client


def test_health_answers(endpoint):
    with urllib.request.urlopen(endpoint + "/health") as response:
        assert json.load(response) == {"status": "ok"}


def test_buckets_asked_for_are_there_from_the_start_and_each_process_has_its_own(endpoint):
    with trial_aws(["data-platform", "other"]) as url:
        s3 = boto3.client("s3", endpoint_url=url, **CREDENTIALS)
        s3.put_object(Bucket="data-platform", Key="a", Body=b"b")
        assert sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]) == ["data-platform", "other"]
        elsewhere = boto3.client("s3", endpoint_url=endpoint, **CREDENTIALS)
        assert "other" not in {bucket["Name"] for bucket in elsewhere.list_buckets()["Buckets"]}


def test_only_one_of_many_conditional_writes_succeeds(s3):
    def put(number):
        try:
            s3.put_object(Bucket="data-platform", Key="lock", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "written"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(put, range(24)))
    assert outcomes.count("written") == 1
    assert outcomes.count("PreconditionFailed") == 23


def test_requests_run_one_at_a_time():
    running = []

    def application(environ, start_response):
        running.append(1)
        assert len(running) == 1
        time.sleep(0.01)
        running.pop()
        start_response("200 OK", [])
        return [b""]

    one_at_a_time = OneAtATime(application)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: one_at_a_time({"PATH_INFO": "/"}, lambda *_: None), range(16)))


def test_reset_forgets_everything(endpoint, s3):
    urllib.request.urlopen(urllib.request.Request(endpoint + RESET_PATH, method="POST")).read()
    assert s3.list_buckets()["Buckets"] == []


def test_taken_port_is_named(endpoint):
    port = int(endpoint.rsplit(":", 1)[1])
    with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1: expected it free"):
        make_aws_server(port=port)


def test_sigterm_stops_it_cleanly(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "include.local.aws", "--port", "0", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert "ready on http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
