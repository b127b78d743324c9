"""Specs that are right, and how a refusal of one that is not is read."""

import copy
import re

import pytest

from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.spec import JobSpec

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


def paths(value: object, at: tuple = ()) -> list[tuple]:
    """Every place of a spec."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, part in parts for way in [(*at, key), *paths(part, (*at, key))]]
