"""Every refusal of a spec, by its message; what passes, and how it is told."""

import copy
import json
import pickle
import re

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.helpers import serialize_template_field
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_platform.batch_gateway.exceptions import BatchGatewayError, SpecRefused
from data_platform.batch_gateway.forms import DEFAULT_MAX_RUNNING_MILLIS
from data_platform.batch_gateway.spec import (
    CLUSTER_ID_ALLOWANCE,
    Dependencies,
    DriverSpec,
    EnvVar,
    ExecutorSpec,
    JobSpec,
)

PI = {
    "sparkVersion": "3.5.0",
    "mainApplicationFile": "local:///usr/lib/spark/examples/jars/spark-examples.jar",
    "mainClass": "org.apache.spark.examples.SparkPi",
    "driver": {"cores": 1, "memory": "2g"},
    "executor": {"instances": 1, "cores": 1, "memory": "2g"},
}
FULL = {
    **PI,
    "submissionIdSuffix": "pi",
    "applicationName": "spark.pi-1",
    "type": "Scala",
    "mode": "cluster",
    "image": "registry.example.org/spark:3.5.0",
    "spotInstance": True,
    "arguments": ["100", "--date", "2026-01-31"],
    "sparkConf": {"spark.sql.shuffle.partitions": "200", "bpg.maxRunningMillis": "3600000"},
    "volumes": [
        {"name": "scratch", "hostPath": {"path": "/mnt/scratch", "type": "DirectoryOrCreate"}},
        {"name": "settings", "configMap": {"name": "job.settings"}},
    ],
    "driver": {
        "cores": 2,
        "coreLimit": "3",
        "coreRequest": "500m",
        "memory": "1536m",
        "memoryOverhead": "512m",
        "image": "registry.example.org/driver:1",
        "env": [
            {"name": "AWS_REGION", "value": "us-east-1"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "labels": {"team": "finance", "example.org/version": "3.5.0", "empty": ""},
        "annotations": {"example.org/owner": "Finance, second floor"},
        "serviceAccount": "emr-containers-sa-spark",
        "volumeMounts": [{"name": "scratch", "mountPath": "/data", "subPath": "pi", "readOnly": True}],
        "securityContext": {"privileged": False, "runAsUser": 185, "allowPrivilegeEscalation": False},
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "preference": {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}}
                ],
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
                            ]
                        }
                    ]
                },
            }
        },
        "javaOptions": "-XX:+UseG1GC -Dx=y",
        "terminationGracePeriodSeconds": 60,
        "podName": "pi-driver",
        "kubernetesMaster": "k8s://https://kubernetes.default",
    },
    "executor": {"instances": 5000, "cores": 4, "memory": "8g", "deleteOnTermination": False},
    "driverOverheadFactor": 0.2,
    "executorOverheadFactor": 0.1,
    "overheadFactor": 0.0,
    "deps": {
        "jars": ["s3a://bucket/a.jar"],
        "files": ["s3a://bucket/a.txt"],
        "pyFiles": ["s3a://bucket/a.zip"],
        "packages": ["org.example:lib:1.0"],
        "excludePackages": ["org.example:other"],
        "repositories": ["https://repo.example.org"],
        "archives": ["s3a://bucket/a.tgz"],
    },
    "pythonVersion": "3",
    "imagePullPolicy": "IfNotPresent",
    "restartPolicy": {
        "type": "OnFailure",
        "onSubmissionFailureRetries": 3,
        "onFailureRetries": 2,
        "onSubmissionFailureRetryInterval": 20,
        "onFailureRetryInterval": 10,
    },
    "clusterId": "sparkclustera",
    "queue": "dev.etl",
    "queueToken": "hush-hush",
}
PYTHON = {**PI, "mainApplicationFile": "s3a://bucket/job.py", "mainClass": None}
HOURS_12 = 43_200_000
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def with_(path: str, value: object, base: dict = PI) -> dict:
    """The base with another value at a path such as driver.env[0].name; … stands for nothing there."""
    spec = copy.deepcopy(base)
    *way, last = re.findall(r"[^.\[\]]+", path)
    node = spec
    for key in way:
        node = node.setdefault(key, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return spec


def refused(spec: object, **how) -> str:
    with pytest.raises(SpecRefused) as error:
        JobSpec.read(spec, **how)
    return str(error.value)


def line(message: str, path: str) -> str:
    return next((each for each in message.splitlines() if each.startswith(f"- {path}: ")), message)


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


# A field of a pod that is wrong: its value, what is expected, what is found, what is said beside.
PODS = [
    (
        "memory",
        "1.5g",
        "a whole number with a unit of Spark's (b, k, m, g, t or p), such as 1536m or 2g",
        "'1.5g'",
        "would make it 1g",
    ),
    ("memory", "2048", "a whole number with a unit", "'2048'", "the gateway answers 500 without a unit"),
    ("memory", 2048, "a whole number with a unit", "2048", "the gateway answers 500 without a unit"),
    ("memory", "1.5", "a whole number with a unit", "'1.5'", "500"),
    ("memory", "0g", "from 1m", "'0g'", "Spark counts whole m"),
    ("memory", "1023k", "from 1m", "'1023k'", "Spark counts whole m"),
    ("memory", "9000p", "below 8192p", "'9000p'", ""),
    ("memory", "2Gi", "a whole number with a unit", "'2Gi'", ""),
    ("memory", "2e", "a whole number with a unit", "'2e'", ""),
    ("memory", "-2g", "a whole number with a unit", "'-2g'", ""),
    ("memory", "2 g", "a whole number with a unit", "'2 g'", ""),
    ("memory", "", "a whole number with a unit", "nothing", ""),
    ("memory", True, "a whole number with a unit", "true", ""),
    ("memoryOverhead", "1.5g", "a whole number with a unit", "'1.5g'", "Spark reads no fractions"),
    ("memoryOverhead", "2048", "a whole number with a unit", "'2048'", "Spark would take it for m"),
    ("memoryOverhead", "0m", "from 1m", "'0m'", ""),
    ("memoryOverhead", "512MiB", "a whole number with a unit", "'512MiB'", ""),
    ("coreLimit", "1000m", "a whole number of cores without a unit, such as 2", "'1000m'", "answers 500 to 1000m"),
    ("coreLimit", "1.5", "a whole number of cores without a unit", "'1.5'", "500"),
    ("coreLimit", "0", "a whole number of cores", "'0'", ""),
    ("coreLimit", "2 cores", "a whole number of cores", "'2 cores'", ""),
    ("coreRequest", "0.5", "whole cores or millicores, such as 2 or 500m", "'0.5'", "round fractions"),
    ("coreRequest", 0.5, "whole cores or millicores", "0.5", "round fractions"),
    ("coreRequest", "0m", "whole cores or millicores", "'0m'", ""),
    ("coreRequest", "2g", "whole cores or millicores", "'2g'", ""),
    ("cores", 0.5, "a whole number of 1 or more, such as 2", "0.5", "would cut a fraction off"),
    ("cores", "1.5", "a whole number of 1 or more", "'1.5'", "would cut a fraction off"),
    ("cores", 1.0, "a whole number", "1.0", ""),
    ("cores", 0, "a whole number of 1 or more", "0", ""),
    ("cores", "-1", "a whole number of 1 or more", "'-1'", ""),
    ("cores", True, "a whole number", "true", ""),
    ("cores", "two", "a whole number", "'two'", ""),
    ("cores", 2**31, "a whole number", "2147483648", ""),
    ("image", "a b", "without blanks", "'a b'", ""),
    ("image", "", "an image", "nothing", ""),
    ("serviceAccount", "Spark_SA", "a Kubernetes name of lower-case letters", "'Spark_SA'", ""),
    ("javaOptions", ["-X"], "a text", "a list", ""),
    ("terminationGracePeriodSeconds", "30s", "a whole number of 0 or more, such as 30", "'30s'", ""),
    ("terminationGracePeriodSeconds", -1, "a whole number of 0 or more", "-1", ""),
    ("labels", ["team"], "an object, such as {'team': 'finance'}", "a list", ""),
    ("annotations", "a=b", "an object", "a text", ""),
    ("env", {"A": "b"}, "a list, such as [{'name': 'AWS_REGION'", "an object", ""),
    ("env", "A=b", "a list", "a text", ""),
    ("volumeMounts", {"name": "a"}, "a list, such as", "an object", ""),
    ("securityContext", "root", "an object", "a text", ""),
    ("affinity", [], "an object", "a list", ""),
]


@pytest.mark.parametrize("pod", ["driver", "executor"])
@pytest.mark.parametrize(("field", "value", "expected", "found", "note"), PODS)
def test_a_pods_wrong_value_is_refused_with_the_right_form(pod, field, value, expected, found, note):
    told = line(refused(with_(f"{pod}.{field}", value)), f"{pod}.{field}")
    assert told.startswith(f"- {pod}.{field}: expected ")
    left, _, right = told.partition("; found ")
    assert expected in left
    assert right.startswith(found)
    assert note in right


# Any other field that is wrong: its path, its value, what is expected, what is found.
FIELDS = [
    ("sparkVersion", ..., "the Spark version as the gateway lists it, such as '3.5.0'", "nothing"),
    ("sparkVersion", None, "the Spark version", "nothing"),
    ("sparkVersion", "", "a version as a text", "nothing"),
    ("sparkVersion", 3.5, "a version as a text, such as '3.5.0'", "the number 3.5 (3.10 as a number is 3.1)"),
    ("sparkVersion", "3.5.0\n", "without blanks", r"'3.5.0\n'"),
    ("pythonVersion", 3.1, "a version as a text", "the number 3.1"),
    ("mainApplicationFile", ..., "the file to run, such as s3a://bucket/jobs/job.py", "nothing"),
    ("mainApplicationFile", "", "the file to run", "nothing"),
    ("mainApplicationFile", "s3a://bucket/my job.py", "without blanks", "'s3a://bucket/my job.py'"),
    ("mainApplicationFile", ["a.jar"], "the file to run", "a list"),
    ("driver", ..., "the driver's pod, such as {'cores': 1, 'memory': '2g'}", "nothing"),
    ("driver", None, "the driver's pod", "nothing"),
    ("driver", "small", "the driver's pod", "a text"),
    ("executor", ..., "the executors' pods, such as {'instances': 2", "nothing"),
    ("executor", [], "the executors' pods", "a list"),
    ("executor.instances", 0, "a whole number from 1 to 5000, such as 2", "0"),
    ("executor.instances", 5001, "a whole number from 1 to 5000", "5001"),
    ("executor.instances", "5001", "a whole number from 1 to 5000", "'5001'"),
    ("executor.instances", 1.5, "a whole number from 1 to 5000", "1.5"),
    ("executor.deleteOnTermination", "yes", "true or false", "'yes'"),
    ("driver.podName", "d" * 64, "at most 63 lower-case letters, digits and inner dashes", "64 characters"),
    ("driver.podName", "Pi_driver", "a Kubernetes name", "'Pi_driver'"),
    ("driver.podName", "pi-", "a Kubernetes name", "'pi-'"),
    ("driver.kubernetesMaster", "", "an address", "nothing"),
    ("type", "Go", "one of Java, Scala, Python, R", "'Go'"),
    ("type", "python", "one of Java, Scala, Python, R", "'python'"),
    ("mode", "client", "one of cluster", "'client'"),
    ("mainClass", "org example Pi", "without blanks", "'org example Pi'"),
    ("spotInstance", 1, "true or false", "1"),
    ("image", " spark", "an image", "' spark'"),
    ("imagePullPolicy", "always", "one of Always, IfNotPresent, Never", "'always'"),
    ("restartPolicy", "Never", "an object, such as {'type': 'Never'}", "a text"),
    ("restartPolicy.type", "Sometimes", "one of Never, OnFailure, Always", "'Sometimes'"),
    ("restartPolicy.onFailureRetries", -1, "a whole number of 0 or more", "-1"),
    ("restartPolicy.onFailureRetryInterval", 0, "a whole number of 1 or more", "0"),
    ("arguments", "--date 2026", "a list, such as ['--date', '2026-01-31']", "a text"),
    ("arguments", [1, ""], "a text that is not empty", "nothing"),
    ("arguments", ["a", None], "a text, a number, or true or false", "nothing"),
    ("arguments", ["a", ["b"]], "a text, a number, or true or false", "a list"),
    ("sparkConf", ["spark.a=b"], "an object, such as {'spark.sql.shuffle.partitions': '200'}", "a list"),
    ("deps", ["a.jar"], "an object, such as {'pyFiles': ['s3a://bucket/a.zip']}", "a list"),
    ("deps.jars", "s3a://bucket/a.jar", "a list, such as ['s3://bucket/a.jar']", "a text"),
    ("volumes", {"name": "v"}, "a list, such as [{'name': 'scratch'", "an object"),
    ("queue", "", "a queue of at most 58 letters", "nothing"),
    ("queue", ".dev", "a queue of at most 58 letters", "'.dev'"),
    ("queue", "dev..etl", "single dots", "'dev..etl'"),
    ("queue", "q" * 59, "a queue of at most 58 letters", "'qqq"),
    ("queueToken", "", "a token", "nothing"),
    (
        "clusterId",
        "spark-cluster-a",
        "a cluster id without a dash",
        "'spark-cluster-a' (the gateway takes what stands before the first dash",
    ),
    ("clusterId", "SparkA", "a cluster id of lower-case letters and digits", "'SparkA'"),
    ("clusterId", "c" * 24, "at most 23 characters", "24, 'cccc"),
    ("submissionIdSuffix", "Nightly", "lower-case letters, digits and inner dashes", "'Nightly'"),
    ("submissionIdSuffix", "a.b", "lower-case letters", "'a.b'"),
    ("submissionIdSuffix", "pi-", "inner dashes", "'pi-'"),
    (
        "submissionIdSuffix",
        "a" * 9,
        "at most 8 characters beside a cluster id of up to 14, since <cluster>-<32 hex digits>-<suffix>-driver",
        "9, 'aaaaaaaaa'",
    ),
    ("applicationName", "Spark Pi", "without blanks", "'Spark Pi'"),
    ("applicationName", "n" * 64, "at most 63 letters", "'nnn"),
    ("applicationName", "_pi", "at most 63 letters", "'_pi' (the gateway would list it as '0pi')"),
    ("overheadFactor", -0.1, "a number of 0 or more, such as 0.1", "-0.1"),
    ("driverOverheadFactor", "-1", "a number of 0 or more", "'-1'"),
    ("executorOverheadFactor", "much", "a number of 0 or more", "'much'"),
    ("overheadFactor", float("nan"), "a number of 0 or more", "nan"),
    ("overheadFactor", True, "a number of 0 or more", "true"),
]


@pytest.mark.parametrize(("path", "value", "expected", "found"), FIELDS)
def test_a_wrong_field_is_refused_with_the_right_form(path, value, expected, found):
    spec = with_(path, value)
    if path == "arguments" and isinstance(value, list):
        path = "arguments[1]"
    told = line(refused(spec), path)
    assert told.startswith(f"- {path}: expected ")
    left, _, right = told.partition("; found ")
    assert expected in left
    assert right.startswith(found)


# What is wrong in the middle of objects: where it is put, what, the path told, what is expected, what is found.
INSIDE = [
    ("driver.env", [{"name": "A"}, {"value": "b"}], "driver.env[1].name", "the variable's name", "nothing"),
    ("driver.env", [{"name": "1A"}], "driver.env[0].name", "the variable's name in letters", "'1A'"),
    ("driver.env", [{"name": "A", "value": ["b"]}], "driver.env[0].value", "a text, a number, or true", "a list"),
    ("driver.env", ["A=b"], "driver.env[0]", "an object", "a text"),
    (
        "driver.env",
        [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
        "driver.env[0].valueFrom",
        "value or valueFrom, not both",
        "both",
    ),
    ("driver.env", [{"name": "A", "valueFrom": {}}], "driver.env[0].valueFrom", "a fieldRef", "nothing"),
    (
        "driver.env",
        [{"name": "A", "valueFrom": {"fieldRef": {}}}],
        "driver.env[0].valueFrom.fieldRef.fieldPath",
        "a pod's field, such as status.podIP",
        "nothing",
    ),
    (
        "executor.labels",
        {"-team": "x"},
        "executor.labels.-team",
        "a key such as team or example.org/team",
        "the key '-team' (Kubernetes refuses it)",
    ),
    (
        "executor.labels",
        {"Example.org/team": "x"},
        "executor.labels.Example.org/team",
        "a key such as",
        "the key 'Example.org/team'",
    ),
    ("executor.labels", {"k" * 64: "x"}, "executor.labels." + "k" * 64, "a key such as", "the key 'kkk"),
    ("executor.labels", {3: "x"}, "executor.labels.3", "a key such as", "the key 3"),
    (
        "executor.labels",
        {"a": "x", "team": "two words"},
        "executor.labels.team",
        "at most 63 letters, digits and inner dashes",
        "'two words' (Kubernetes refuses the label",
    ),
    ("executor.labels", {"team": "v" * 64}, "executor.labels.team", "at most 63 letters", "'vvv"),
    ("executor.labels", {"team": "x-"}, "executor.labels.team", "at most 63 letters", "'x-'"),
    ("executor.labels", {"team": None}, "executor.labels.team", "a text, a number", "nothing"),
    ("driver.annotations", {"a b": "x"}, "driver.annotations.a b", "a key such as", "the key 'a b'"),
    ("driver.annotations", {"a": {"b": 1}}, "driver.annotations.a", "a text, a number", "an object"),
    ("driver.volumeMounts", [{"name": "v"}], "driver.volumeMounts[0].mountPath", "a path in the container", "nothing"),
    ("driver.securityContext", {"runAsUser": "root"}, "driver.securityContext.runAsUser", "a whole number", "'root'"),
    (
        "driver.affinity",
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "is"}]}]}}},
        f"driver.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].operator",
        "one of In, NotIn",
        "'is'",
    ),
    (
        "driver.affinity",
        {"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {"matchExpressions": []}}]}},
        f"driver.affinity.nodeAffinity.{PREFERRED}[0].weight",
        "a whole number from 1 to 100",
        "101",
    ),
    ("volumes", [{"hostPath": {"path": "/x"}}], "volumes[0].name", "the volume's name", "nothing"),
    ("volumes", [{"name": "v", "hostPath": {}}], "volumes[0].hostPath.path", "a path on the node", "nothing"),
    ("volumes", [{"name": "v"}], "volumes[0]", "one of hostPath and configMap", "neither"),
    (
        "volumes",
        [{"name": "v", "hostPath": {"path": "/x"}, "configMap": {"name": "c"}}],
        "volumes[0]",
        "one of hostPath and configMap",
        "hostPath and configMap",
    ),
    ("deps", {"jars": ["a", {}]}, "deps.jars[1]", "a text, a number", "an object"),
    ("sparkConf", {"spark.a": {"b": "c"}}, "sparkConf.spark.a", "a text, a number, or true or false", "an object"),
    ("sparkConf", {"spark.a": None}, "sparkConf.spark.a", "a text, a number", "nothing"),
    ("sparkConf", {"spark.a": float("inf")}, "sparkConf.spark.a", "a text, a number", "inf"),
    (
        "sparkConf",
        {"sql.x": "1"},
        "sparkConf.sql.x",
        "a property that begins with spark., or bpg.maxRunningMillis",
        "the key 'sql.x' (Spark ignores any other)",
    ),
    (
        "sparkConf",
        {"bpg.maxRunningMilis": "1"},
        "sparkConf.bpg.maxRunningMilis",
        "bpg.maxRunningMillis",
        "the key 'bpg.maxRunningMilis'",
    ),
    ("sparkConf", {"spark.a=b": "1"}, "sparkConf.spark.a=b", "a property", "the key 'spark.a=b'"),
    (
        "sparkConf",
        {"spark.executor.instances": "5001"},
        "sparkConf.spark.executor.instances",
        "a whole number from 0 to 5000",
        "'5001'",
    ),
    (
        "sparkConf",
        {"spark.executor.instances": "2.5"},
        "sparkConf.spark.executor.instances",
        "a whole number from 0 to 5000",
        "'2.5'",
    ),
    (
        "sparkConf",
        {"bpg.maxRunningMillis": "12h"},
        "sparkConf.bpg.maxRunningMillis",
        f"a whole number from 1 to {HOURS_12}",
        "'12h'",
    ),
    ("sparkConf", {"bpg.maxRunningMillis": ""}, "sparkConf.bpg.maxRunningMillis", "a whole number", "nothing"),
    ("sparkConf", {"bpg.maxRunningMillis": 0}, "sparkConf.bpg.maxRunningMillis", "a whole number from 1", "0"),
    (
        "sparkConf",
        {"bpg.maxRunningMillis": HOURS_12 + 1},
        "sparkConf.bpg.maxRunningMillis",
        f"to {HOURS_12}",
        str(HOURS_12 + 1),
    ),
]


@pytest.mark.parametrize(("at", "value", "path", "expected", "found"), INSIDE)
def test_what_is_wrong_within_an_object_is_told_with_its_path(at, value, path, expected, found):
    told = line(refused(with_(at, value)), path)
    assert told.startswith(f"- {path}: expected ")
    left, _, right = told.partition("; found ")
    assert expected in left
    assert right.startswith(found)


@pytest.mark.parametrize(
    ("at", "key", "nearest", "fate"),
    [
        ("", "mainClas", "mainClass", "the gateway would refuse the request with 400"),
        ("", "main_klass", "mainClass", "the gateway would refuse the request with 400"),
        ("", "sparkconf", "sparkConf", "the gateway would refuse the request with 400"),
        ("driver", "coreRequests", "coreRequest", "the gateway would silently ignore it"),
        ("executor", "instance", "instances", "the gateway would silently ignore it"),
        ("executor", "podname", None, "the gateway would silently ignore it"),
        ("deps", "pyfiles", "pyFiles", "the gateway would silently ignore it"),
        ("restartPolicy", "onFailureRetry", "onFailureRetries", "the gateway would silently ignore it"),
        ("driver.securityContext", "runAsUsers", "runAsUser", "the gateway would silently ignore it"),
        ("driver.affinity", "nodeAfinity", "nodeAffinity", "the gateway would silently ignore it"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_and_what_the_gateway_would_do(at, key, nearest, fate):
    path = f"{at}.{key}" if at else key
    told = line(refused(with_(path, "1")), path)
    assert f"found the unknown key {key}, and {fate}" in told
    if nearest:
        assert f"expected {nearest}; " in told


@pytest.mark.parametrize(
    ("spec", "path", "instead"),
    [
        (
            with_("driver.env", [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "n", "key": "k"}}}]),
            "driver.env[0].valueFrom.secretKeyRef",
            "sparkConf spark.kubernetes.driver.secretKeyRef.<NAME>: <secret>:<key>",
        ),
        (with_("volumes", [{"name": "v", "emptyDir": {}}]), "volumes[0].emptyDir", "spark.kubernetes.driver.volumes."),
        (with_("volumes", [{"name": "v", "secret": {}}]), "volumes[0].secret", "spark.kubernetes.driver.secrets."),
        (with_("driver.affinity", {"podAffinity": {}}), "driver.affinity.podAffinity", "nodeAffinity"),
        (with_("executor.nodeSelector", {"a": "b"}), "executor.nodeSelector", "spark.kubernetes.node.selector.<label>"),
    ],
)
def test_what_kubernetes_knows_and_the_gateway_drops_is_refused_with_another_way(spec, path, instead):
    told = line(refused(spec), path)
    assert "the gateway would silently ignore it" in told
    assert instead in told


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"type": "Java", "mainClass": None}, "mainClass", "the class to run, since type is Java"),
        ({"type": "Scala", "mainClass": None}, "mainClass", "the class to run, since type is Scala"),
        ({"mainClass": None}, "mainClass", "the class to run, since mainApplicationFile is a jar"),
        ({"type": "Python", "mainApplicationFile": "a.py"}, "type", "Java or Scala, since mainClass is given"),
        ({"type": "R", "mainApplicationFile": "a.R"}, "type", "Java or Scala, since mainClass is given"),
        ({"mainClass": None, "mainApplicationFile": "a.R"}, "type", "R, since mainApplicationFile is R"),
        ({"mainApplicationFile": "a.py"}, "mainApplicationFile", "a jar, since mainClass is given"),
        ({"type": "Python", "mainClass": None}, "mainApplicationFile", "a file of Python, which type says"),
    ],
)
def test_type_class_and_file_that_contradict_each_other_are_refused(changes, path, expected):
    assert f"expected {expected}; found" in line(refused({**PI, **changes}), path)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Java"},
        {"type": "Scala"},
        {"type": "Python", "mainClass": None, "mainApplicationFile": "a.py"},
        {"mainClass": None, "mainApplicationFile": "a.py"},
        {"type": "R", "mainClass": None, "mainApplicationFile": "a.R"},
    ],
)
def test_type_class_and_file_that_go_together_pass(changes):
    assert JobSpec.read({**PI, **changes})


@pytest.mark.parametrize(("cluster", "room"), [("sparkclustera", 9), (None, 22 - CLUSTER_ID_ALLOWANCE), ("c", 21)])
def test_a_suffix_fills_the_drivers_name_to_63_characters_and_no_more(cluster, room):
    assert JobSpec.read({**PI, "clusterId": cluster, "submissionIdSuffix": "s" * room})
    told = refused({**PI, "clusterId": cluster, "submissionIdSuffix": "s" * (room + 1)})
    assert f"expected at most {room} characters beside" in line(told, "submissionIdSuffix")
    longest = f"{cluster or 'c' * CLUSTER_ID_ALLOWANCE}-{'0' * 32}-{'s' * room}-driver"
    assert len(longest) == 63


def test_a_mount_of_a_volume_that_the_request_lacks_is_refused():
    spec = with_(
        "driver.volumeMounts", [{"name": "scratch", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}], FULL
    )
    told = line(refused(spec), "driver.volumeMounts[1].name")
    assert "expected one of volumes (scratch, settings); found 'data'" in told
    assert JobSpec.read({key: value for key, value in spec.items() if key != "volumes"})  # the cluster may have it


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


def test_the_limit_of_the_running_time_is_12_hours_unless_the_queues_is_given():
    asks = lambda millis: with_("sparkConf", {"bpg.maxRunningMillis": millis})  # noqa: E731
    assert DEFAULT_MAX_RUNNING_MILLIS == HOURS_12
    assert JobSpec.read(asks(HOURS_12)).spark_conf == {"bpg.maxRunningMillis": str(HOURS_12)}
    assert JobSpec.read(asks(2 * HOURS_12), max_running_millis=2 * HOURS_12)
    assert "from 1 to 1000; found 1001" in refused(asks(1001), max_running_millis=1000)


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


def test_the_texts_of_rendered_templates_become_numbers_and_booleans():
    rendered = with_("executor", {"instances": "20", "cores": " 4 ", "deleteOnTermination": "True"}, PI)
    sent = JobSpec.read({**rendered, "spotInstance": "false", "overheadFactor": "0.2"}).to_request(application_name="a")
    assert sent["executor"] == {"instances": 20, "cores": 4, "deleteOnTermination": True}
    assert sent["spotInstance"] is False
    assert sent["overheadFactor"] == 0.2


# Jinja


def paths(value: object, at: tuple = ()) -> list[tuple]:
    """Every place of a spec."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, part in parts for way in [(*at, key), *paths(part, (*at, key))]]


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


# Text


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


# Secrets


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


# What passes with a remark


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


# Properties

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
