"""What passes and how it is told; how refusals as a whole behave."""

import copy
import json
import pickle
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from data_platform.batch_gateway.exceptions import BatchGatewayError, SpecRefused
from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from data_platform.batch_gateway.spec import (
    Dependencies,
    DriverSpec,
    EnvVar,
    ExecutorSpec,
    JobSpec,
)
from tests.plugins.batch_gateway.spec_samples import FULL, PI, line, refused, with_


def test_the_posts_own_job_is_sent_as_it_is():
    assert JobSpec.read(PI).to_request(application_name="pi-1") == {**PI, "applicationName": "pi-1"}


def test_every_field_of_the_request_goes_through():
    sent = JobSpec.read(FULL).to_request(application_name="pi-1")
    assert sent == {**FULL, "applicationName": "pi-1"}
    assert json.loads(json.dumps(sent)) == sent


def test_the_full_spec_leaves_no_field_out():
    for model, whole in (
        (JobSpec, FULL),
        (DriverSpec, FULL["driver"]),
        (ExecutorSpec, {**FULL["driver"], **FULL["executor"]}),
        (Dependencies, FULL["deps"]),
    ):
        assert {field.alias for field in model.model_fields.values()} <= set(whole)


def test_pythons_names_do_as_well_as_the_gateways():
    spec = JobSpec(
        spark_version="3.5.0",
        main_application_file="s3a://bucket/job.py",
        driver=DriverSpec(core_limit="2", env=(EnvVar(name="A", value="b"),)),
        executor=ExecutorSpec(instances=2, delete_on_termination=True),
        deps=Dependencies(py_files=("s3a://bucket/a.zip",)),
    )
    assert spec.to_mapping() == {
        "sparkVersion": "3.5.0",
        "mainApplicationFile": "s3a://bucket/job.py",
        "driver": {"coreLimit": "2", "env": [{"name": "A", "value": "b"}]},
        "executor": {"instances": 2, "deleteOnTermination": True},
        "deps": {"pyFiles": ["s3a://bucket/a.zip"]},
    }
    assert JobSpec.read({"spark_version": "3.5.0", "main_application_file": "a.py", "driver": {}, "executor": {}})


def test_every_problem_is_told_at_once_the_last_as_well():
    spec = with_(
        "executor.env", [{"name": f"V{number}", "value": {}} for number in range(20)], with_("driver.memory", "2048")
    )
    message = refused({**spec, "mainClass": None, "typo": 1})
    assert message.startswith("the job's spec is refused before anything is sent, for 23 problems:")
    assert len(message.splitlines()) == 24
    for path in ("driver.memory", "executor.env[19].value", "mainClass", "typo"):
        assert line(message, path).startswith(f"- {path}: ")


def test_a_refusal_is_one_that_no_retry_mends_and_keeps_its_problems():
    with pytest.raises(SpecRefused) as error:
        JobSpec.read(with_("driver.cores", 0))
    assert isinstance(error.value, BatchGatewayError)
    assert isinstance(error.value, AirflowFailException)
    assert [problem.path for problem in error.value.problems] == [("driver", "cores")]
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_bad_part_is_refused_where_it_is_made():
    with pytest.raises(SpecRefused, match=r"- memory: expected .*; found '2048'"):
        DriverSpec(memory="2048")
    with pytest.raises(SpecRefused, match=r"- driver.cores: .*\n(.*\n)*- executor: "):
        JobSpec(spark_version="3.5.0", main_application_file="a.py", driver={"cores": 0.5}, executor=None)


HOURS_24 = 86_400_000


def test_a_spec_may_ask_for_any_running_time_until_the_queues_limit_is_known():
    asks = with_("sparkConf", {"bpg.maxRunningMillis": HOURS_24})
    assert JobSpec(**asks).spark_conf == {"bpg.maxRunningMillis": str(HOURS_24)}
    assert JobSpec.read(asks).spark_conf == {"bpg.maxRunningMillis": str(HOURS_24)}
    assert JobSpec.read(JobSpec(**asks), max_running_millis=HOURS_24)
    told = line(refused(asks, max_running_millis=HOURS_24 - 1), "sparkConf.bpg.maxRunningMillis")
    assert f"expected a whole number from 1 to {HOURS_24 - 1}, which is the operator's queue_limit in ms; found" in told


def test_the_operators_queue_limit_is_the_one_that_counts():
    longer = JobSpec(**with_("sparkConf", {"bpg.maxRunningMillis": HOURS_24}))
    assert BatchGatewaySubmitOperator(task_id="submit", job=longer, queue_limit=timedelta(hours=24))
    with pytest.raises(SpecRefused, match="from 1 to 43200000, which is the operator's queue_limit in ms"):
        BatchGatewaySubmitOperator(task_id="submit", job=longer)


def test_numbers_and_booleans_become_the_texts_that_spark_writes():
    spec = JobSpec.read(
        {
            **PI,
            "arguments": [100, 0.5, True, "x"],
            "sparkConf": {"spark.a": True, "spark.b": False, "spark.c": 3, "spark.d": 0.25, "spark.e": ""},
            "driver": {
                "labels": {"n": 3},
                "annotations": {"b": True},
                "env": [{"name": "N", "value": 7}],
                "coreLimit": 2,
            },
        }
    )
    assert spec.arguments == ("100", "0.5", "true", "x")
    assert spec.spark_conf == {"spark.a": "true", "spark.b": "false", "spark.c": "3", "spark.d": "0.25", "spark.e": ""}
    driver = spec.to_mapping()["driver"]
    assert driver == {
        "labels": {"n": "3"},
        "annotations": {"b": "true"},
        "env": [{"name": "N", "value": "7"}],
        "coreLimit": "2",
    }


def test_an_argument_may_be_empty():
    assert JobSpec.read({**PI, "arguments": ["--filter", ""]}).arguments == ("--filter", "")


def test_a_share_of_a_core_and_memory_in_mib_are_sent_as_they_are():
    spec = JobSpec.read(with_("driver", {"coreRequest": 0.5, "memoryOverhead": 512}))
    assert spec.to_mapping()["driver"] == {"coreRequest": "0.5", "memoryOverhead": "512"}


def test_the_texts_of_rendered_templates_become_numbers_and_booleans():
    rendered = with_("executor", {"instances": "20", "cores": " 4 ", "deleteOnTermination": "True"}, PI)
    sent = JobSpec.read({**rendered, "spotInstance": "false", "overheadFactor": "0.2"}).to_request(application_name="a")
    assert sent["executor"] == {"instances": 20, "cores": 4, "deleteOnTermination": True}
    assert sent["spotInstance"] is False
    assert sent["overheadFactor"] == 0.2


@pytest.mark.parametrize(
    ("spec", "remark"),
    [
        ({**PI, "overheadFactor": 0.2}, "overheadFactor: the gateway does not pass it on"),
        (with_("sparkConf", {"spark.driver.memory": "4g"}), "sparkConf.spark.driver.memory: driver.memory wins"),
        (with_("sparkConf", {"spark.app.name": "x"}), "sparkConf.spark.app.name: the gateway overwrites it"),
        (with_("sparkConf", {"spark.hadoop.fs.s3a.secret.key": "x"}), "sparkConf.spark.hadoop.fs.s3a.secret.key: the gateway's /spec"),
        (with_("restartPolicy", {"type": "Always"}), "restartPolicy.type: with Always"),
        (with_("driver.volumeMounts", [{"name": "v", "mountPath": "/v"}]), "driver.volumeMounts: without volumes"),
        (with_("driver.podName", "pi"), "driver.podName: a second job of that name fails"),
        (with_("clusterId", "spark-cluster-a"), "clusterId: with a dash in it"),
        (with_("driver.memoryOverhead", "512"), "driver.memoryOverhead: Spark takes 512 for MiB; write 512m"),
        (with_("executor.memoryOverhead", 512), "executor.memoryOverhead: Spark takes 512 for MiB; write 512m"),
        (with_("driver.coreRequest", "0.5"), "driver.coreRequest: later versions of the gateway round 0.5"),
        (with_("executor.coreRequest", 1.25), "executor.coreRequest: later versions of the gateway round 1.25"),
    ],
)  # fmt: skip
def test_what_the_gateway_takes_without_effect_is_remarked_upon(spec, remark):
    (told,) = JobSpec.read(spec).remarks()
    assert told.startswith(remark)


def test_an_ordinary_spec_has_no_remarks():
    assert JobSpec.read(PI).remarks() == ()


def test_a_spec_can_be_neither_changed_nor_left_behind_by_a_copy():
    spec = JobSpec.read(FULL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.queue = "prod"
    assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec
