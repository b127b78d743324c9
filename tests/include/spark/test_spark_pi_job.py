"""The job spark_pi: its arguments, its result, and that a real Spark runs it as it was packaged."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys

import boto3
import pytest

from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.spec import JobSpec
from include.local.aws.trial import trial_aws
from include.local.batch_gateway.trial import trial_gateway
from include.platform.settings import Settings
from include.spark.jobs import spark_pi
from include.spark.packages import package_job
from include.spark.pi import plan, summarise
from include.spark.placement import place_in_s3

BUCKET = "data-platform"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A folder with the packaged job and nothing else of the project."""
    folder = tmp_path_factory.mktemp("cluster")
    for file in package_job("spark_pi").files:
        (folder / file.name).write_bytes(file.content)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slices", "0"], "argument --slices: expected a whole number from 1 to 10000, found '0'"),
        (["--samples", "1e6"], "argument --samples: expected a whole number from 1 to 2147483647, found '1e6'"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to 2147483647, found '-1'"),
        (["--sam", "5"], "unrecognized arguments: --sam 5"),
        (["10"], "unrecognized arguments: 10"),
    ],
)
def test_bad_arguments_end_the_job_before_spark_starts(cluster, arguments, message):
    """There is no Spark here at all."""
    done = subprocess.run(
        [sys.executable, "spark_pi.py", *arguments],
        cwd=cluster,
        env=os.environ | {"PYTHONPATH": "modules.zip"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == f"spark_pi: error: {message}"


def test_more_points_come_nearer_to_pi():
    def error(samples):
        inside = sum(spark_pi.points_inside(1, part, samples) for part in range(4))
        return abs(spark_pi.estimate(inside, 4 * samples) - math.pi)

    assert error(100_000) < 0.01
    assert error(100) > error(100_000)


def test_slices_have_points_of_their_own():
    assert len({spark_pi.points_inside(1, part, 10_000) for part in range(5)}) == 5
    assert spark_pi.points_inside(1, 0, 10_000) != spark_pi.points_inside(2, 0, 10_000)


def test_a_cluster_runs_the_job_from_where_it_was_placed(tmp_path_factory, monkeypatch):
    """A real Spark, through the gateway; the tasks import from the zip."""
    settings = dataclasses.replace(Settings(), spark_version="3.5.0")
    params = {"submissions": 1, "slices": 3, "samples": 1000, "cluster": "sparkclustera"}
    with trial_aws([BUCKET]) as aws, trial_gateway(simulate=False, aws=aws) as gateway:
        connection = {"conn_type": "batch_gateway", "host": gateway.url, "login": "airflow"}
        monkeypatch.setenv("AIRFLOW_CONN_TRIAL", json.dumps(connection))
        hook = BatchGatewayHook("trial")
        placed = place_in_s3(package_job("spark_pi"), boto3.client("s3", endpoint_url=aws), BUCKET)
        [spec] = plan(placed, settings, params)
        submission_id = hook.submit(JobSpec.read(spec).to_request(application_name="pi"))
        gateway.wait_state(submission_id, "COMPLETED", "FAILED", timeout=120)
        log = hook.driver_log(submission_id)
        hook.close()

    inside = sum(spark_pi.points_inside(0, part, 1000) for part in range(3))
    [estimate] = summarise([{"submission_id": submission_id, "cluster": "sparkclustera"}], lambda _: log).estimates
    assert estimate.pi == spark_pi.estimate(inside, 3000)
    assert re.search(
        r"^Spark 3\.5\.\d+ on Python 3\S+: application local-\d+ \(pi\), driver .*, master local\[\d\], \d slots$",
        log,
        re.M,
    )
