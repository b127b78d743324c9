"""What holds of every spec, right or wrong."""

import copy
import json
import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.spec import JobSpec
from tests.plugins.batch_gateway.spec_samples import FULL, paths

plain = st.text(st.characters(codec="utf-8", exclude_characters="{", exclude_categories=("Cs",)), max_size=20)
label = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?\Z")
size = st.builds("{}{}".format, st.integers(1, 4096), st.sampled_from(["m", "g", "MB", "T", "gb"]))
short = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\Z")


def some(required: dict, optional: dict) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries(required, optional=optional)


pod = {
    "cores": st.integers(1, 64),
    "coreLimit": st.integers(1, 64).map(str),
    "coreRequest": st.one_of(st.integers(1, 64).map(str), st.integers(1, 9999).map("{}m".format)),
    "memory": size,
    "memoryOverhead": size,
    "labels": st.dictionaries(label, st.one_of(label, st.just("")), max_size=3),
    "annotations": st.dictionaries(label, plain, max_size=3),
    "env": st.lists(some({"name": st.from_regex(r"\A[A-Z_]{1,9}\Z")}, {"value": plain}), max_size=3),
    "securityContext": some({}, {"privileged": st.booleans(), "runAsUser": st.integers(0, 2**63 - 1)}),
    "javaOptions": plain.filter(str.strip),
    "terminationGracePeriodSeconds": st.integers(0, 2**63 - 1),
}
specs = some(
    {
        "sparkVersion": st.from_regex(r"\A[1-9]\.[0-9]{1,2}(\.[0-9])?\Z"),
        "mainApplicationFile": st.sampled_from(["local:///opt/job.py", "s3a://bucket/jobs/job.py"]),
        "driver": some({}, {**pod, "podName": short}),
        "executor": some({}, {**pod, "instances": st.integers(1, 5000), "deleteOnTermination": st.booleans()}),
    },
    {
        "arguments": st.lists(plain.filter(str.strip), max_size=4),
        "sparkConf": st.dictionaries(label.map("spark.x{}".format), plain, max_size=3),
        "deps": some({}, {"jars": st.lists(plain.filter(str.strip), max_size=2)}),
        "volumes": st.lists(st.builds(lambda name: {"name": name, "hostPath": {"path": "/x"}}, short), max_size=2),
        "restartPolicy": some(
            {}, {"type": st.sampled_from(["Never", "OnFailure"]), "onFailureRetries": st.integers(0, 9)}
        ),
        "imagePullPolicy": st.sampled_from(["Always", "IfNotPresent", "Never"]),
        "spotInstance": st.booleans(),
        "queue": label.filter(lambda queue: ".." not in queue),
        "clusterId": st.just("sparkclustera"),
        "submissionIdSuffix": short,
        "overheadFactor": st.floats(0, 1),
    },
)


@given(specs)
@settings(max_examples=60, deadline=None)
def test_a_valid_spec_comes_back_from_its_mapping_its_json_and_its_yaml(given_spec):
    spec = JobSpec.read(given_spec)
    assert spec.to_mapping() == given_spec
    assert JobSpec.read(spec) == spec
    assert JobSpec.read(spec.to_mapping()) == spec
    assert JobSpec.read(json.dumps(spec.to_mapping())) == spec
    assert JobSpec.read(yaml.safe_dump(spec.to_mapping())) == spec
    assert JobSpec(**given_spec) == spec


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), plain, st.binary(max_size=3)),
    lambda part: st.one_of(
        st.lists(part, max_size=3), st.dictionaries(st.one_of(plain, st.integers()), part, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(paths(FULL)), anything)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_anywhere_is_sent_as_json_or_refused_in_our_words(way, value):
    spec = copy.deepcopy(FULL)
    node = spec
    for key in way[:-1]:
        node = node[key]
    node[way[-1]] = value
    problems = ()
    try:
        json.dumps(JobSpec.read(spec).to_request(application_name="a"), allow_nan=False)
    except SpecRefused as error:
        problems = error.problems
    assert all(re.match("expected .*; found ", problem.text, re.DOTALL) for problem in problems)
