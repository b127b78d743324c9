"""Makes the application's specification and labels of a submission: the gateway's defaults, roundings and mistakes too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from include.local.batch_gateway.errors import GatewayError, java
from include.local.batch_gateway.kubernetes import normalize_label
from include.local.batch_gateway.routing import parent_queue

if TYPE_CHECKING:
    from include.local.batch_gateway.config import Cluster, GatewayConfig

MAX_INSTANCES: Final = 5000
MAX_RUNNING: Final = "bpg.maxRunningMillis"
"""Spark property with which a submission limits itself."""
MAX_RUNNING_MILLIS: Final = 12 * 60 * 60 * 1000

_INSTANCES: Final = "spark.executor.instances"
_LEGIBLE_LABELS: Final = ("dag_name", "task_name")
_STAYS: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
_COPIED: Final = (
    "mainClass",
    "mainApplicationFile",
    "arguments",
    "imagePullPolicy",
    "restartPolicy",
    "volumes",
    "deps",
    "pythonVersion",
)


def check_instances(request: dict[str, Any]) -> None:
    """Limit the executors.

    Raises:
        GatewayError: 400, too many, or no number.
    """
    instances = request.get("executor", {}).get("instances")
    if instances is not None and instances > MAX_INSTANCES:
        raise GatewayError(f"Executor instances ({instances}) exceeds limit {MAX_INSTANCES})")
    told = request.get("sparkConf", {}).get(_INSTANCES)
    if told is None:
        return
    try:
        in_conf = int(told)
    except ValueError as error:
        raise GatewayError(f"Invalid value ({told}) for Spark config: {_INSTANCES})") from error
    if in_conf > MAX_INSTANCES:
        raise GatewayError(f"Executor instances in Spark config ({in_conf}) exceeds limit {MAX_INSTANCES})")


def build_spec(
    config: GatewayConfig, request: dict[str, Any], cluster: Cluster, user: str, proxy_user: str
) -> dict[str, Any]:
    """The specification of the application's resource.

    Raises:
        GatewayError: 400, no image for it; 500, a memory without a unit or a core limit that is no whole number.
    """
    kind = request.get("type") or ("Java" if request.get("mainClass") else "Python")
    version = request["sparkVersion"]
    spec = {
        "mode": "cluster",
        "originalUser": user,
        "proxyUser": proxy_user,
        "type": kind,
        "sparkVersion": version,
        "driver": _driver(request.get("driver", {}), cluster),
        "executor": _executor(request.get("executor", {})),
        "image": request.get("image") or _image(config, kind, version),
        "timeToLiveSeconds": cluster.ttl_seconds,
    }
    conf = dict(request.get("sparkConf", {}))
    if request.get("applicationName"):
        conf["spark.app.name"] = request["applicationName"]
    if conf:
        spec["sparkConf"] = conf
    return spec | {name: request[name] for name in _COPIED if name in request}


def build_labels(config: GatewayConfig, request: dict[str, Any], queue: str, proxy_user: str) -> dict[str, str]:
    """The labels of the application's resource.

    Raises:
        GatewayError: 400, it asks for a longer run than its queue allows.
    """
    labels = {"proxyUser": proxy_user, "queue": f"root.{queue}"}
    if "applicationName" in request:
        labels["applicationName"] = normalize_label(request["applicationName"])
    return labels | {"maxRunningMillis": str(_max_running_millis(config, request, queue))}


def _max_running_millis(config: GatewayConfig, request: dict[str, Any], queue: str) -> int:
    told = request.get("sparkConf", {}).get(MAX_RUNNING)
    if not told:
        return MAX_RUNNING_MILLIS
    try:
        wanted = int(told)
    except ValueError as error:
        raise GatewayError(f"Invalid value for config {MAX_RUNNING}: {told}") from error
    limits = [one.max_running_millis for one in config.queues if one.name == parent_queue(queue)]
    limit = limits[0] if limits and limits[0] is not None else MAX_RUNNING_MILLIS
    if wanted > limit:
        raise GatewayError(f"maxRunningMillis {wanted} is too large than allowed {limit} for queue {queue}")
    return wanted


def _image(config: GatewayConfig, kind: str, version: str) -> str:
    for image in config.images:
        if kind.lower() in {one.lower() for one in image.types} and image.version.lower() == version.lower():
            return image.name
    raise GatewayError(f"Spark image not found for type: {kind}, version: {version}")


def _pod(given: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = {"cores": 1, "memory": "1g", **given}
    if "labels" in pod:
        legible = {name: normalize_label(pod["labels"][name]) for name in _LEGIBLE_LABELS if name in pod["labels"]}
        pod["labels"] = pod["labels"] | legible
    limit = pod.get("coreLimit")
    if not limit:
        pod["coreLimit"] = f"{math.ceil(pod['cores'] * 1000.0)}.0m"
    elif not limit.lstrip("+-").isdigit():
        raise java("java.lang.NumberFormatException", f'For input string: "{limit}"')
    pod["memory"] = _whole(pod["memory"])
    return pod


def _whole(memory: str) -> str:
    """The number loses its fraction."""
    unit_at = next((at for at, letter in enumerate(memory) if not letter.isdigit() and letter != "."), -1)
    if unit_at < 0:
        raise java("java.lang.StringIndexOutOfBoundsException", f"begin 0, end -1, length {len(memory)}")
    try:
        return f"{int(float(memory[:unit_at]))}{memory[unit_at:]}"
    except ValueError as error:
        raise java("java.lang.NumberFormatException", f'For input string: "{memory[:unit_at]}"') from error


def _driver(given: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
    pod = _pod(given)
    pod["serviceAccount"] = pod.get("serviceAccount") or cluster.service_account
    pod["annotations"] = pod.get("annotations", {}) | _STAYS
    return pod


def _executor(given: dict[str, Any]) -> dict[str, Any]:
    pod = {"instances": 1} | _pod(given)
    pod.setdefault("annotations", dict(_STAYS))
    return pod | {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}
