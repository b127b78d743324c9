"""Real Spark behind the local gateway: spark-submit in local mode, in the environment that `make setup` builds."""

from __future__ import annotations

import io
import re
import zipfile

import psutil
import pytest
import requests

from include.local.aws.trial import trial_aws
from include.local.batch_gateway.spark import DRIVER_MARKER, spark_home
from include.local.batch_gateway.trial import trial_gateway
from include.local.layout import Layout
from include.local.processes import marked_processes
from tests.include.local.batch_gateway.conftest import Client, wait_for

MINUTES = 180

JOB = """
import os, sys, time
import helper
from pyspark import SparkFiles
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print("rows", spark.range(int(sys.argv[1])).count(), "of", spark.conf.get("spark.app.name"), "for", helper.NAME)
print("archive", os.listdir(SparkFiles.get("environment")))
print("env", os.environ["GREETING"], sorted(name for name in os.environ if name.startswith("AIRFLOW")))
print("conf", spark.conf.get("spark.some.option"), "ui", spark.sparkContext.uiWebUrl, flush=True)
if sys.argv[2] == "wait":
    time.sleep(600)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def served():
    if spark_home(Layout().spark_venv) is None:
        pytest.fail("the Spark environment is missing: run `make setup`")
    with trial_aws(["data-platform"]) as aws, trial_gateway(simulate=False, aws=aws, status_cache_millis=0) as gateway:
        yield gateway


@pytest.fixture
def client(served):
    return Client(served)


@pytest.fixture
def job(client):
    """Submits the job above, which is in S3 with its helper."""

    def upload(name, content):
        answer = client.ask("POST", f"/s3/{name}", params={"folder": "jobs"}, data=content)
        return answer.json()["url"]

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("packed.txt", "")
    main, helper = upload("job.py", JOB.encode()), upload("helper.py", b"NAME = 'finance'\n")
    environment = upload("env.zip", packed.getvalue())

    def submit(ending):
        return client.submit(
            {"spark.some.option": "x=y z"},
            applicationName="rows",
            mainApplicationFile=main,
            arguments=["1000", ending],
            deps={"pyFiles": [helper], "archives": [f"{environment}#environment"]},
            driver={"memory": "2g", "env": [{"name": "GREETING", "value": "hello"}]},
        )

    return submit


def log_of(client, submission_id):
    return client.ask("GET", "/log", params={"subId": submission_id}, timeout=MINUTES).text


def test_pi_is_computed_on_each_cluster(served, client):
    ids = [
        client.submit(clusterId=cluster, applicationName="pi", arguments=["2"], executor={"memory": "2g"})
        for cluster in ("sparkclustera", "sparkclusterb")
    ]

    for submission_id in ids:
        served.wait_state(submission_id, "COMPLETED", "FAILED", timeout=MINUTES)
        log = log_of(client, submission_id)
        assert served.application(submission_id)["state"] == "COMPLETED", log
        assert 3.0 < float(re.search(r"Pi is roughly (\S+)", log)[1]) < 3.3


def test_a_job_from_s3_gets_its_files_arguments_properties_and_environment_and_its_exit_status_is_told(
    served, client, job
):
    submission_id = job("3")

    served.wait_state(submission_id, "FAILED", "COMPLETED", timeout=MINUTES)

    log = log_of(client, submission_id)
    assert "rows 1000 of rows for finance" in log, log
    assert "archive ['packed.txt']" in log, "an archive has the name that was asked for"
    assert "env hello []" in log, "Airflow's own variables are none of a job's"
    assert re.search(r"conf x=y z ui http://127\.0\.0\.1:\d+\n", log)
    told = client.status(submission_id)["applicationErrorMessage"]
    assert told == "driver container failed with ExitCode: 3, Reason: Error"


def test_a_job_whose_file_is_not_there_fails_and_its_log_says_so(served, client):
    submission_id = client.submit(mainApplicationFile="s3a://data-platform/nowhere.py")

    served.wait_state(submission_id, "FAILED", "COMPLETED", timeout=MINUTES)

    assert "can't fetch the application's files" in log_of(client, submission_id)


def test_a_driver_outlives_gateway_and_operator_and_a_deletion_ends_it(served, client, job):
    submission_id = job("wait")
    wait_for(lambda: marked_processes(submission_id, DRIVER_MARKER), MINUTES)
    for process in (served.operator, served.gateway):
        process.kill()
        process.start()
    served.wait_state(submission_id, "RUNNING", timeout=MINUTES)
    log = served.home / "drivers" / submission_id / "driver.log"
    wait_for(lambda: "ui http" in log.read_text(), MINUTES)

    ui = requests.get(f"{served.server}/_local/ui/spark-operator/{submission_id}", timeout=30)
    assert "rows" in ui.text
    assert served.application(submission_id)["executions"] == 1
    assert not [found for found in marked_processes(submission_id, DRIVER_MARKER) if reachable(found)]

    client.ask("DELETE", f"/spark/{submission_id}")

    wait_for(lambda: not marked_processes(submission_id, DRIVER_MARKER), MINUTES)
    wait_for(lambda: not log.exists())


def reachable(process):
    """Whether it listens to other machines."""
    return [
        connection
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and not connection.laddr.ip.endswith("127.0.0.1")
    ]


def test_a_driver_that_is_killed_is_a_failure(served, client, job):
    submission_id = job("wait")
    served.wait_state(submission_id, "RUNNING", timeout=MINUTES)
    drivers = wait_for(lambda: marked_processes(submission_id, DRIVER_MARKER))

    for driver in drivers:
        driver.kill()

    served.wait_state(submission_id, "FAILED", timeout=MINUTES)
    assert "ExitCode: 137" in client.status(submission_id)["applicationErrorMessage"]


def test_drivers_wait_for_room(served, client, job):
    ids = [job("wait") for _ in range(3)]
    for submission_id in ids[:2]:
        served.wait_state(submission_id, "RUNNING", timeout=MINUTES)
    assert served.wait_state(ids[2], "SUBMITTED")["pod"] == "Pending"

    client.ask("DELETE", f"/spark/{ids[0]}")

    served.wait_state(ids[2], "RUNNING", timeout=MINUTES)
    for submission_id in ids:
        client.ask("DELETE", f"/spark/{submission_id}")


def test_without_the_environment_a_submission_fails_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PLATFORM_SPARK_VENV", str(tmp_path))
    with trial_gateway(simulate=False) as gateway:
        failed = gateway.wait_state(Client(gateway).submit(), "FAILED")
        assert f"expected pyspark in {tmp_path}, found none; build it with `make setup`" in failed["error"]
