"""A spec given as text, or with Jinja in it."""

import copy
import json

import pytest
import yaml

from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.spec import DriverSpec, JobSpec
from tests.plugins.batch_gateway.spec_samples import FULL, PI, line, paths, refused, with_


@pytest.mark.parametrize("way", paths(FULL), ids=lambda way: ".".join(map(str, way)))
def test_jinja_stands_for_anything_until_it_is_rendered(way):
    spec = copy.deepcopy(FULL)
    node = spec
    for key in way[:-1]:
        node = node[key]
    node[way[-1]] = "{{ params.x }}"
    held = JobSpec.read(spec, rendered=False).to_mapping()
    for key in way:
        held = held[key]
    assert held == "{{ params.x }}"


@pytest.mark.parametrize(
    "path",
    [
        "sparkVersion",
        "mainApplicationFile",
        "driver",
        "driver.memory",
        "executor.instances",
        "sparkConf",
        "arguments",
        "queue",
        "queueToken",
        "driver.env",
        "clusterId",
        "submissionIdSuffix",
        "spotInstance",
        "type",
        "deps",
        "driver.coreRequest",
    ],
)
def test_jinja_that_was_not_rendered_is_refused(path):
    spec = with_(path, "{{ params.x }}")
    JobSpec.read(spec, rendered=False)
    assert line(refused(spec), path).startswith(f"- {path}: expected ")


def test_a_part_made_with_jinja_is_judged_when_it_is_rendered():
    spec = JobSpec(
        spark_version="3.5.0",
        main_application_file="s3a://bucket/job.py",
        driver=DriverSpec(memory="{{ params.memory }}"),
        executor="{% if params.big %}…{% endif %}",
    )
    message = refused(spec)
    assert "- driver.memory: expected a whole number with a unit" in message
    assert "- executor: expected the executors' pods" in message
    rendered = {**spec.to_mapping(), "driver": {"memory": "2048"}, "executor": {}}
    assert "- driver.memory: " in refused(rendered)
    assert JobSpec.read({**rendered, "driver": {"memory": "2048m"}})
    assert "- driver.memory: " in refused({**rendered, "driver": DriverSpec(memory="{{ x }}")})


def test_what_is_wrong_beside_jinja_is_refused_at_once():
    with pytest.raises(SpecRefused) as error:
        JobSpec.read(
            {**with_("driver.memory", "2048"), "arguments": ["{{ ds }}"], "executor": "{{ x }}"}, rendered=False
        )
    assert [problem.path for problem in error.value.problems] == [("driver", "memory")]


def test_jinja_in_a_key_is_refused_since_airflow_renders_no_keys():
    for spec in (with_("driver.labels", {"{{ x }}": "a"}), with_("sparkConf", {"spark.{{ x }}": "a"})):
        with pytest.raises(SpecRefused, match="found the key"):
            JobSpec.read(spec, rendered=False)


def test_json_and_yaml_text_are_read_as_the_mapping():
    assert JobSpec.read(json.dumps(FULL)) == JobSpec.read(FULL)
    assert JobSpec.read(yaml.safe_dump(FULL)) == JobSpec.read(FULL)


def test_yaml_keeps_what_was_written():
    text = """
sparkVersion: 3.10
mainApplicationFile: s3a://bucket/job.py
driver: {cores: 2, labels: {version: 3.10}}
executor: {}
arguments: [2026-01-31, 1_000, no, 12:30:00, 'null', 010]
sparkConf: {spark.a: 1e3, spark.b: yes}
deps: null
queue:
"""
    spec = JobSpec.read(text)
    assert spec.spark_version == "3.10"
    assert spec.driver.labels == {"version": "3.10"}
    assert spec.arguments == ("2026-01-31", "1_000", "no", "12:30:00", "null", "010")
    assert spec.spark_conf == {"spark.a": "1e3", "spark.b": "yes"}
    assert (spec.deps, spec.queue) == (None, None)


def test_json_keeps_what_was_written_too():
    text = json.dumps(PI).replace('"3.5.0"', "3.10")
    assert JobSpec.read(text).spark_version == "3.10"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("jobs/pi.yaml", "found a text 'jobs/pi.yaml': is it a file that Airflow did not find?"),
        ("hush", "expected an object with sparkVersion"),
        ("", "found nothing"),
        ("- a", "found a list"),
        ('driver: "hush', "expected JSON or YAML; found a fault at line 1"),
        ('a: 1\nb: [hush', "expected JSON or YAML; found a fault at line 2"),
        ('{"a": "hush",, }', "expected JSON or YAML; found a fault at line 1, column 14"),
        ('{"driver": {"memory": "1g", "memory": "hush"}}', "found 'memory' more than once in one object"),
        ("driver:\n  memory: 1g\n  memory: hush\n", "found a fault at line 2, column 3: the key 'memory' more than once"),
        ("a: !!python/object/apply:os.system [hush]", "expected sparkVersion"),
    ],
)  # fmt: skip
def test_text_that_is_no_spec_is_refused_without_showing_it(text, found):
    message = refused(text)
    assert found in message or message.count("- ") > 3
    assert "hush" not in message


@pytest.mark.parametrize(("source", "found"), [(None, "nothing"), (7, "a number"), ([PI], "a list")])
def test_what_is_no_object_is_refused(source, found):
    assert (
        f"- the spec: expected an object with sparkVersion, mainApplicationFile, driver, executor; found {found}"
        in refused(source)
    )
