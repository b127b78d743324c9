"""What is secret in a spec is in the request, and in nothing that people see."""

import pytest
from airflow.serialization.helpers import serialize_template_field

from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.spec import JobSpec
from tests.plugins.batch_gateway.spec_samples import FULL, PI, line, refused, with_


def test_the_queues_token_is_in_the_request_only():
    spec = JobSpec.read(FULL)
    assert "hush-hush" not in repr(spec) + str(spec) + repr(spec.to_mapping())
    assert spec.to_request(application_name="a")["queueToken"] == "hush-hush"
    assert JobSpec.read(spec.to_mapping()).to_request(application_name="a")["queueToken"] == "hush-hush"


def test_airflow_shows_no_token_of_a_template_field():
    field = serialize_template_field(JobSpec.read(FULL).to_mapping(), "job")
    assert field["queue"] == "dev.etl"
    assert "hush-hush" not in str(field)


def test_a_token_by_template_stays_a_template():
    spec = JobSpec.read({**PI, "queueToken": "{{ conn.gateway.extra_dejson.queue_token }}"}, rendered=False)
    assert spec.to_mapping()["queueToken"] == "{{ conn.gateway.extra_dejson.queue_token }}"


@pytest.mark.parametrize(
    "spec",
    [
        {**PI, "queueToken": "hush hush"},
        {**PI, "queueToken": ["hush"]},
        {**PI, "queueTokn": "hush"},
        with_("driver.env", [{"name": "DB_PASSWORD", "value": ["hush"]}]),
        with_("driver.env", [{"name": "hush!", "value": "x"}, "PASSWORD=hush"][1:]),
        with_("driver.env", "PASSWORD=hush"),
        with_("sparkConf", {"spark.hadoop.fs.s3a.secret.key": {"x": "hush"}}),
        with_("sparkConf", {"spark.openlineage.transport.auth.apiKey": "hush"}),
        with_("arguments", "--token hush"),
        with_("arguments", [["--token", "hush"]]),
        with_("driver.annotations", {"a": ["hush"]}),
        with_("driver.javaOptions", ["-Dtoken=hush"]),
    ],
)
def test_no_message_shows_what_may_be_a_secret(spec):
    assert "hush" not in refused({**spec, "typo": "hush"})
    with pytest.raises(SpecRefused) as error:
        JobSpec(**spec)
    assert "hush" not in repr(error.value)
    assert error.value.__suppress_context__  # pydantic's own error has the input


@pytest.mark.parametrize(
    "key",
    [
        "spark.openlineage.transport.auth.apiKey",
        "spark.openlineage.transport.auth.api_key",
        "spark.openlineage.transport.transports.catalog.auth.apiKey",
        "spark.openlineage.transport.headers.Authorization",
    ],
)
@pytest.mark.parametrize("value", ["hush", "{{ conn.openlineage.password }}"])
def test_an_openlineage_key_in_spark_conf_is_refused_even_as_a_template(key, value):
    told = line(refused(with_("sparkConf", {"spark.a": "b", key: value}), rendered=False), f"sparkConf.{key}")
    assert "Kubernetes secret" in told
    assert "OPENLINEAGE_CONFIG" in told
    assert "/spec" in told
    assert "hush" not in told


def test_other_openlineage_settings_pass():
    conf = {
        "spark.openlineage.transport.type": "http",
        "spark.openlineage.transport.auth.type": "api_key",
        "spark.openlineage.parentRunId": "x",
        "spark.kubernetes.driver.secretKeyRef.API_KEY": "lineage:key",
    }
    assert JobSpec.read({**PI, "sparkConf": conf}).spark_conf == conf


def test_a_specs_repr_hides_what_looks_secret_and_nothing_else():
    told = repr(
        JobSpec.read(
            {
                **PI,
                "driver": {"env": [{"name": "DB_PASSWORD", "value": "hush"}, {"name": "REGION", "value": "us-east-1"}]},
                "sparkConf": {"spark.my.accessKey": "hush", "spark.a": "seen"},
            }
        )
    )
    assert "hush" not in told
    assert "us-east-1" in told
    assert "seen" in told
