"""What submit_spark_pi submits, and what it makes of the drivers' logs."""

from __future__ import annotations

import dataclasses
import json

import pytest

from data_platform.batch_gateway.spec import JobSpec
from include.platform.settings import Settings
from include.spark.exceptions import JobOutputMissing
from include.spark.pi import plan, summarise
from include.spark.placement import PlacedJob

PLACED = PlacedJob(
    "spark_pi", "d" * 64, "s3://b/spark/jobs/spark_pi/d/spark_pi.py", ("s3://b/spark/jobs/spark_pi/d/modules.zip",)
)
PARAMS = {"submissions": 3, "slices": 2, "samples": 1000, "queue": None, "cluster": None}
A, B = "sparkclustera", "sparkclusterb"


def job(number, cluster):
    return {"submission_id": f"{cluster}-{number:032x}", "cluster": cluster, "state": "COMPLETED"}


def logs(**by_number):
    def driver_log(submission_id):
        return by_number[f"n{int(submission_id.rpartition('-')[2], 16)}"]

    return driver_log


@pytest.fixture
def summary():
    return summarise(
        [job(1, A), job(2, B), job(3, A)],
        logs(n1="26/11/26 INFO x\nPi is roughly 3.14\n", n2="Pi is roughly 3.15", n3="Pi is roughly 3\r\nbye\n"),
    )


def test_each_submission_is_a_spec_that_the_gateway_takes_and_an_xcom_can_hold():
    specs = plan(PLACED, Settings(), PARAMS)

    assert json.loads(json.dumps(specs)) == specs
    for spec in specs:
        request = JobSpec.read(spec).to_request(application_name="n")
        assert request["mainApplicationFile"] == PLACED.main_application_file
        assert request["deps"] == {"pyFiles": list(PLACED.py_files)}
        assert request["sparkVersion"] == "3.5.0"
        assert "queue" not in request
        assert "clusterId" not in request


def test_submissions_differ_only_in_their_random_numbers():
    specs = plan(PLACED, Settings(), PARAMS)
    assert [spec["arguments"] for spec in specs] == [
        ["--slices", "2", "--samples", "1000", "--seed", str(seed)] for seed in (0, 1, 2)
    ]
    assert len({json.dumps(spec | {"arguments": []}) for spec in specs}) == 1


def test_deployment_and_parameters_reach_the_spec():
    settings = dataclasses.replace(
        Settings(), spark_version="emr-7.1.0", spark_service_account="emr-containers-sa-spark"
    )
    [spec] = plan(PLACED, settings, PARAMS | {"submissions": 1, "queue": "dev", "cluster": "sparkclusterb"})

    assert (spec["sparkVersion"], spec["queue"], spec["clusterId"]) == ("emr-7.1.0", "dev", "sparkclusterb")
    for pod in ("driver", "executor"):
        assert spec[pod]["serviceAccount"] == "emr-containers-sa-spark"
        assert spec[pod]["labels"] == {"version": "emr-7.1.0"}


def test_a_job_without_modules_has_no_deps():
    [spec] = plan(dataclasses.replace(PLACED, py_files=()), Settings(), PARAMS | {"submissions": 1})
    assert "deps" not in spec


def test_results_come_from_the_drivers_logs(summary):
    assert [each.pi for each in summary.estimates] == [3.14, 3.15, 3.0]
    assert summary.pi == pytest.approx(9.29 / 3)


def test_shares_are_of_all_jobs(summary):
    assert summary.shares() == [(A, 2, pytest.approx(2 / 3)), (B, 1, pytest.approx(1 / 3))]


def test_the_log_has_a_table_of_shares_and_every_result(summary):
    lines = [line.split() for line in summary.to_text().splitlines()]
    assert [A, "2", "66.7%"] in lines
    assert [B, "1", "33.3%"] in lines
    assert [f"{B}-{2:032x}", "Pi", "is", "roughly", "3.15"] in lines
    assert lines[-1][:4] == ["Pi", "is", "roughly", "3.096667"]


def test_the_note_is_a_table_within_its_limit():
    many = summarise([job(number, f"cluster{number}") for number in range(50)], lambda _: "Pi is roughly 3.1")

    whole, short = many.to_note(10_000), many.to_note(300)

    assert whole.count("\n| cluster") == 50
    assert len(short) <= 300
    kept = short.count("\n| cluster")
    assert 0 < kept < 50
    assert short.endswith(f"and {50 - kept} more clusters")


def test_the_xcom_has_shares_and_lines(summary):
    value = json.loads(json.dumps(summary.to_xcom()))
    assert value["clusters"][B] == {"jobs": 1, "share": pytest.approx(1 / 3)}
    assert [each["line"] for each in value["jobs"]] == ["Pi is roughly 3.14", "Pi is roughly 3.15", "Pi is roughly 3.0"]
    assert value["jobs"][2]["submission_id"] == f"{A}-{3:032x}"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "the gateway has no log of it"),
        ("starting\nPi is roughly nothing\nended", "it ends 'starting ⏎ Pi is roughly nothing ⏎ ended'"),
        ("a log that says Pi is roughly 3.14 in passing", "it ends 'a log that"),
    ],
)
def test_a_log_without_a_result_is_a_failure_that_names_the_submission(log, told):
    with pytest.raises(JobOutputMissing) as refused:
        summarise([job(1, A), job(2, B), job(3, B)], logs(n1="Pi is roughly 3.14", n2=log, n3="Pi is roughly 3.1"))

    assert f"found none of {B}-{2:032x} on {B}: {told}" in str(refused.value)
    assert A not in str(refused.value)
    assert f"{3:032x}" not in str(refused.value)


def test_every_submission_without_a_result_is_named():
    with pytest.raises(JobOutputMissing, match=rf"of {A}-{1:032x} on .*; of {B}-{2:032x} on "):
        summarise([job(1, A), job(2, B)], lambda _: "")


def test_a_long_log_is_told_by_its_end():
    with pytest.raises(JobOutputMissing) as refused:
        summarise([job(1, A)], lambda _: "\n".join(f"line {number}" for number in range(1000)))
    assert "line 999" in str(refused.value)
    assert "line 500" not in str(refused.value)
