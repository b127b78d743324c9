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
