"""Real Spark behind the local gateway: spark-submit in local mode, in the environment that `make setup` builds."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import zipfile
from dataclasses import dataclass

import boto3
import psutil
import pytest
import requests

from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.spec import JobSpec
from include.local.aws.trial import trial_aws
from include.local.batch_gateway.spark import DRIVER_MARKER, spark_home
from include.local.batch_gateway.trial import trial_gateway
from include.local.layout import Layout
from include.local.processes import marked_processes
from include.platform.settings import Settings
from include.spark.jobs import spark_pi
from include.spark.packages import package_job
from include.spark.pi import plan, summarise
from include.spark.placement import place_in_s3
from tests.include.local.batch_gateway.conftest import Client, wait_for

BUCKET = "data-platform"
MINUTES = 180

IN_IMAGE = "local:///opt/spark/examples/src/main/python/pi.py"

JOB = """
import importlib.util, os, sys, time
import helper
from pyspark import SparkFiles
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print("conf", spark.conf.get("spark.some.option"), "ui", spark.sparkContext.uiWebUrl, flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
print("rows", spark.range(int(sys.argv[1])).count(), "of", spark.conf.get("spark.app.name"), "for", helper.NAME)
print("archive", os.listdir(SparkFiles.get("environment")), "image", importlib.util.find_spec("pi") is not None)
print("env", os.environ["GREETING"], sorted(name for name in os.environ if name.startswith("AIRFLOW")))
sys.exit(3)
"""


@pytest.fixture(scope="module")
def aws():
    with trial_aws([BUCKET]) as url:
        yield url


@pytest.fixture(scope="module")
def served(aws):
    if spark_home(Layout().spark_venv) is None:
        pytest.fail("the Spark environment is missing: run `make setup`")
    with trial_gateway(simulate=False, aws=aws, status_cache_millis=0) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served):
    return Client(served)


@pytest.fixture(scope="module")
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

    def submit():
        return client.submit(
            {"spark.some.option": "x=y z"},
            applicationName="rows",
            clusterId="sparkclusterb",
            mainApplicationFile=main,
            arguments=["1000"],
            deps={"pyFiles": [helper, IN_IMAGE], "archives": [f"{environment}#environment"]},
            driver={"memory": "2g", "env": [{"name": "GREETING", "value": "hello"}]},
        )

    return submit


def log_of(client, submission_id):
    return client.ask("GET", "/log", params={"subId": submission_id}, timeout=MINUTES).text


def reachable(process):
    """Whether it listens to other machines."""
    return [
        connection
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and not connection.laddr.ip.endswith("127.0.0.1")
    ]


@dataclass(frozen=True)
class Seen:
    """What was seen of the job while it waited: a Spark takes long to start, so one answers many questions."""

    submission_id: str
    ui: str
    reachable: list[object]


@pytest.fixture(scope="module")
def seen(served, client, job):
    """The job, whose gateway and operator were killed while its driver began, after its end."""
    submission_id = job()
    wait_for(lambda: marked_processes(submission_id, DRIVER_MARKER), MINUTES)
    for process in (served.operator, served.gateway):
        process.restart()
    served.wait_state(submission_id, "RUNNING", timeout=MINUTES)
    folder = served.home / "drivers" / submission_id
    wait_for(lambda: "ui http" in (folder / "driver.log").read_text(), MINUTES)
    ui = requests.get(f"{served.server}/_local/ui/spark-operator/{submission_id}", timeout=MINUTES).text
    listens = [found for found in marked_processes(submission_id, DRIVER_MARKER) if reachable(found)]
    (folder / "run-1" / "go").touch()
    served.wait_state(submission_id, "FAILED", "COMPLETED", timeout=MINUTES)
    return Seen(submission_id, ui, listens)


def test_a_job_from_s3_gets_its_files_arguments_properties_and_environment_and_its_exit_status_is_told(client, seen):
    log = log_of(client, seen.submission_id)
    assert "rows 1000 of rows for finance" in log, log
    assert "archive ['packed.txt'] image True" in log, (
        "an archive has the name that was asked for; Spark's own is there"
    )
    assert "env hello []" in log, "Airflow's own variables are none of a job's"
    assert re.search(r"conf x=y z ui http://127\.0\.0\.1:\d+\n", log)
    told = client.status(seen.submission_id)["applicationErrorMessage"]
    assert told == "driver container failed with ExitCode: 3, Reason: Error"


def test_a_driver_outlives_gateway_and_operator_and_its_ui_is_shown_to_this_machine_only(served, seen):
    assert "rows" in seen.ui
    assert seen.reachable == []
    assert served.application(seen.submission_id)["executions"] == 1


def test_a_job_whose_file_is_not_there_fails_and_its_log_says_so(served, client):
    submission_id = client.submit(mainApplicationFile="s3a://data-platform/nowhere.py")

    served.wait_state(submission_id, "FAILED", "COMPLETED", timeout=MINUTES)

    assert "can't fetch the application's files" in log_of(client, submission_id)


def test_a_driver_that_is_killed_is_a_failure_and_the_next_has_its_room(served, client, job):
    ids = [job() for _ in range(3)]
    for submission_id in ids[:2]:
        served.wait_state(submission_id, "RUNNING", timeout=MINUTES)
    assert served.wait_state(ids[2], "SUBMITTED")["pod"] == "Pending"

    for driver in wait_for(lambda: marked_processes(ids[0], DRIVER_MARKER)):
        driver.kill()

    served.wait_state(ids[0], "FAILED", timeout=MINUTES)
    assert "ExitCode: 137" in client.status(ids[0])["applicationErrorMessage"]
    served.wait_state(ids[2], "RUNNING", timeout=MINUTES)
    logs = [served.home / "drivers" / submission_id / "driver.log" for submission_id in ids]
    assert all(log.exists() for log in logs)

    for submission_id in ids:
        client.ask("DELETE", f"/spark/{submission_id}")

    wait_for(lambda: not any(marked_processes(submission_id, DRIVER_MARKER) for submission_id in ids), MINUTES)
    wait_for(lambda: not any(log.exists() for log in logs), MINUTES)


def test_the_packaged_pi_job_runs_from_where_it_was_placed(served, aws, monkeypatch):
    """Its tasks import from the zip."""
    connection = {"conn_type": "batch_gateway", "host": served.url, "login": "airflow"}
    monkeypatch.setenv("AIRFLOW_CONN_TRIAL", json.dumps(connection))
    settings = dataclasses.replace(Settings(), spark_version="3.5.0")
    params = {"submissions": 1, "slices": 3, "samples": 1000, "cluster": "sparkclustera"}
    placed = place_in_s3(package_job("spark_pi"), boto3.client("s3", endpoint_url=aws), BUCKET)
    [spec] = plan(placed, settings, params)
    with contextlib.closing(BatchGatewayHook("trial")) as hook:
        submission_id = hook.submit(JobSpec.read(spec).to_request(application_name="pi"))
        served.wait_state(submission_id, "COMPLETED", "FAILED", timeout=MINUTES)
        log = hook.driver_log(submission_id)

    inside = sum(spark_pi.points_inside(0, part, 1000) for part in range(3))
    [estimate] = summarise([{"submission_id": submission_id, "cluster": "sparkclustera"}], lambda _: log).estimates
    assert estimate.pi == spark_pi.estimate(inside, 3000)
    assert re.search(
        r"^Spark 3\.5\.\d+ on Python 3\S+: application local-\d+ \(pi\), driver .*, master local\[\d\], \d slots$",
        log,
        re.M,
    )


def test_without_the_environment_a_submission_fails_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PLATFORM_SPARK_VENV", str(tmp_path))
    with trial_gateway(simulate=False) as gateway:
        failed = gateway.wait_state(Client(gateway).submit(), "FAILED")
        assert f"expected pyspark in {tmp_path}, found none; build it with `make setup`" in failed["error"]
