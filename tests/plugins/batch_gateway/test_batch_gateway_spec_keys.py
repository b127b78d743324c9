"""Keys that the gateway does not know are refused, with what to write instead."""

import pytest

from tests.plugins.batch_gateway.spec_samples import line, refused, with_


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
        ("driver", "CORES", "cores", "the gateway would silently ignore it"),
        ("", "subscription", None, "the gateway would refuse the request with 400"),
        ("driver", "restart", None, "the gateway would silently ignore it"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_and_what_the_gateway_would_do(at, key, nearest, fate):
    path = f"{at}.{key}" if at else key
    told = line(refused(with_(path, "1")), path)
    assert f"found the unknown key {key}, and {fate}" in told
    assert f"expected {nearest}; " in told if nearest else "expected only " in told


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


TEMPLATE = "spark.kubernetes.driver.podTemplateFile"
PODS = [
    ("tolerations", TEMPLATE),
    ("initContainers", TEMPLATE),
    ("sidecars", TEMPLATE),
    ("hostNetwork", TEMPLATE),
    ("dnsConfig", TEMPLATE),
    ("priorityClassName", TEMPLATE),
    ("podSecurityContext", TEMPLATE),
    ("ports", TEMPLATE),
    ("schedulerName", "spark.kubernetes.scheduler.name"),
    ("nodeSelector", "spark.kubernetes.node.selector.<label>"),
    ("gpu", "spark.executor.resource.gpu.amount"),
    ("resources", "cores, coreRequest, coreLimit and memory"),
    ("configMaps", "volumes with configMap"),
    ("envVars", "env, a list"),
    ("envSecretKeyRefs", "spark.kubernetes.driver.secretKeyRef.<NAME>"),
    ("imagePullPolicy", "imagePullPolicy of the job"),
]


@pytest.mark.parametrize("pod", ["driver", "executor"])
@pytest.mark.parametrize(("key", "instead"), PODS)
def test_a_pods_key_that_emr_or_the_operator_knows_is_refused_with_its_place_here(pod, key, instead):
    told = line(refused(with_(f"{pod}.{key}", [])), f"{pod}.{key}")
    assert f"expected no {key} here: " in told
    assert instead in told
    assert "the gateway would silently ignore it" in told


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("dynamicAllocation", "spark.dynamicAllocation.enabled"),
        ("nodeSelector", "spark.kubernetes.node.selector.<label>"),
        ("tolerations", TEMPLATE),
        ("schedulerName", "spark.kubernetes.scheduler.name"),
        ("batchScheduler", "spark.kubernetes.scheduler.name"),
        ("imagePullSecrets", "spark.kubernetes.container.image.pullSecrets"),
        ("hadoopConf", "spark.hadoop.<property>"),
        ("serviceAccount", "driver.serviceAccount"),
        ("env", "driver.env and executor.env"),
        ("labels", "driver.labels and executor.labels"),
        ("volumeMounts", "driver.volumeMounts and executor.volumeMounts"),
        ("failureRetries", "restartPolicy"),
        ("name", "leave it out, since the operator names the job"),
        ("metadata", "what is below spec"),
        ("spec", "what is below spec"),
        ("executionRoleArn", "driver.serviceAccount"),
        ("releaseLabel", "sparkVersion"),
        ("virtualClusterId", "clusterId"),
        ("entryPoint", "mainApplicationFile"),
        ("jobDriver", "mainApplicationFile"),
        ("entryPointArguments", "arguments"),
        ("sparkSubmitParameters", "sparkConf"),
        ("configurationOverrides", "sparkConf"),
        ("retryPolicyConfiguration", "restartPolicy"),
    ],
)
def test_a_key_of_emr_or_the_operator_is_refused_with_its_place_here(key, instead):
    told = line(refused(with_(key, {})), key)
    assert f"expected no {key} here: " in told
    assert instead in told
    assert "the gateway would refuse the request with 400" in told
