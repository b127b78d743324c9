"""Every value of a wrong form is refused, with the right form and the value's path."""

import pytest

from tests.plugins.batch_gateway.spec_samples import line, refused, with_

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


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
    ("memoryOverhead", "0", "from 1m", "'0'", ""),
    ("memoryOverhead", 0.5, "a whole number with a unit", "0.5", "Spark reads no fractions"),
    ("memoryOverhead", "512.5", "a whole number with a unit", "'512.5'", "Spark reads no fractions"),
    ("memoryOverhead", "0m", "from 1m", "'0m'", ""),
    ("memoryOverhead", "512MiB", "a whole number with a unit", "'512MiB'", ""),
    ("coreLimit", "1000m", "a whole number of cores without a unit, such as 2", "'1000m'", "answers 500 to 1000m"),
    ("coreLimit", "1.5", "a whole number of cores without a unit", "'1.5'", "500"),
    ("coreLimit", "0", "a whole number of cores", "'0'", ""),
    ("coreLimit", "2 cores", "a whole number of cores", "'2 cores'", ""),
    ("coreRequest", "0m", "cores or millicores, such as 2 or 500m", "'0m'", ""),
    ("coreRequest", "0.0", "cores or millicores", "'0.0'", ""),
    ("coreRequest", 0, "cores or millicores", "0", ""),
    ("coreRequest", "1.5m", "cores or millicores", "'1.5m'", ""),
    ("coreRequest", "0.0005", "cores or millicores", "'0.0005'", ""),
    ("coreRequest", "2g", "cores or millicores", "'2g'", ""),
    ("coreRequest", True, "cores or millicores", "true", ""),
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
    ("arguments", ["a", None], "a text, a number, or true or false", "nothing"),
    ("arguments", ["a", ["b"]], "a text, a number, or true or false", "a list"),
    ("sparkConf", ["spark.a=b"], "an object, such as {'spark.sql.shuffle.partitions': '200'}", "a list"),
    ("deps", ["a.jar"], "an object, such as {'pyFiles': ['s3a://bucket/a.zip']}", "a list"),
    ("deps.jars", [1, ""], "a text that is not empty", "nothing"),
    ("deps.jars", "s3a://bucket/a.jar", "a list, such as ['s3://bucket/a.jar']", "a text"),
    ("volumes", {"name": "v"}, "a list, such as [{'name': 'scratch'", "an object"),
    ("queue", "", "a queue of at most 58 letters", "nothing"),
    ("queue", ".dev", "a queue of at most 58 letters", "'.dev'"),
    ("queue", "dev..etl", "single dots", "'dev..etl'"),
    ("queue", "q" * 59, "a queue of at most 58 letters", "'qqq"),
    ("queueToken", "", "a token", "nothing"),
    ("clusterId", "SparkA", "a cluster id of lower-case letters, digits, inner dots and dashes", "'SparkA'"),
    ("clusterId", "spark-", "a cluster id of lower-case letters", "'spark-'"),
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
    if path in ("arguments", "deps.jars") and isinstance(value, list):
        path = f"{path}[1]"
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
        "a whole number of 1 or more",
        "'12h'",
    ),
    ("sparkConf", {"bpg.maxRunningMillis": ""}, "sparkConf.bpg.maxRunningMillis", "a whole number", "nothing"),
    ("sparkConf", {"bpg.maxRunningMillis": 0}, "sparkConf.bpg.maxRunningMillis", "a whole number of 1 or more", "0"),
]


@pytest.mark.parametrize(("at", "value", "path", "expected", "found"), INSIDE)
def test_what_is_wrong_within_an_object_is_told_with_its_path(at, value, path, expected, found):
    told = line(refused(with_(at, value)), path)
    assert told.startswith(f"- {path}: expected ")
    left, _, right = told.partition("; found ")
    assert expected in left
    assert right.startswith(found)
