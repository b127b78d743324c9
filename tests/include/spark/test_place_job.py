"""The task that places a job: in the platform's bucket, or through the gateway into its own."""

from __future__ import annotations

import json

import boto3
import pytest

from include.local.aws.trial import trial_aws
from include.local.batch_gateway.trial import trial_gateway
from include.platform import connections
from include.spark.exceptions import JobUnknown
from include.spark.operators import PlaceJobOperator
from include.spark.packages import package_job

PLATFORMS, GATEWAYS = "data-platform", "bpg-uploads"


@pytest.fixture(scope="module")
def aws():
    with trial_aws([PLATFORMS, GATEWAYS]) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(aws):
    with trial_gateway(aws=aws, s3_bucket=GATEWAYS) as served:
        yield served


@pytest.fixture
def s3(aws, monkeypatch):
    extra = {"region_name": "us-east-1", "endpoint_url": aws}
    connection = {"conn_type": "aws", "login": "t", "password": "t", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return boto3.client("s3", endpoint_url=aws)


def keys(s3, bucket):
    return sorted(each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []))


def content(s3, url):
    bucket, _, key = url.partition("://")[2].partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def place(**arguments):
    return PlaceJobOperator(task_id="place_job", **{"job": "spark_pi", **arguments}).execute({})


def test_the_job_is_in_the_platforms_bucket_and_the_xcom_says_where(s3, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__SPARK_S3_SCHEME", "s3a")
    package = package_job("spark_pi")

    value = json.loads(json.dumps(place(via_gateway="False")))

    assert value["digest"] == package.digest
    assert value["main_application_file"].startswith(f"s3a://{PLATFORMS}/spark/jobs/spark_pi/")
    assert content(s3, value["main_application_file"]) == package.main.content
    assert [content(s3, url) for url in value["py_files"]] == [package.modules.content]
    assert keys(s3, GATEWAYS) == []


@pytest.mark.parametrize("word", [True, "True", "true"])
def test_the_gateway_writes_it_to_its_own_bucket_if_asked_to(s3, gateway, monkeypatch, word):
    before, asked = keys(s3, PLATFORMS), gateway.asked("upload")
    connection = {"conn_type": "batch_gateway", "host": gateway.url, "login": "airflow"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{connections.BATCH_GATEWAY.upper()}", json.dumps(connection))

    value = place(via_gateway=word)

    assert gateway.asked("upload") == asked + 2
    package = package_job("spark_pi")
    assert value["main_application_file"].startswith(f"s3a://{GATEWAYS}/")
    assert content(s3, value["main_application_file"]) == package.main.content
    assert [content(s3, url) for url in value["py_files"]] == [package.modules.content]
    assert keys(s3, PLATFORMS) == before


def test_a_retry_gives_the_same_addresses(s3):
    assert place() == place()


def test_an_unknown_job_fails_without_a_retry(s3):
    with pytest.raises(JobUnknown, match="job 'spark_e': expected one of map_ocsf, spark_pi"):
        place(job="spark_e")


def test_a_word_that_is_neither_true_nor_false_is_refused(s3):
    with pytest.raises(ValueError, match="via_gateway: expected true or false, found 'maybe'"):
        place(via_gateway="maybe")
