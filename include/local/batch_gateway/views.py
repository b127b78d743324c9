"""How the gateway tells of an application: its status, its line in a listing, its description."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from include.local.batch_gateway.errors import KUBERNETES
from include.local.batch_gateway.spec import MAX_RUNNING_MILLIS
from include.local.batch_gateway.store import TERMINAL, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.local.batch_gateway.config import Cluster, GatewayConfig
    from include.local.batch_gateway.store import Application

UNKNOWN: Final = "UNKNOWN"
THROTTLED: Final = {
    "applicationState": UNKNOWN,
    "applicationErrorMessage": f"{KUBERNETES}: Failure executing: GET. Message: Too many requests, please try again later.",
}
"""What a status tells when the cluster's API has no time: nothing about the application."""

_NEARLY_MILLIS: Final = 2 * 60 * 1000
_UNITS: Final = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def whole_second(moment: int | None) -> int | None:
    """Kubernetes keeps moments to the second."""
    return None if moment is None else moment // 1000 * 1000


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Nothing that there isn't."""
    return {name: value for name, value in values.items() if value is not None}


def _facts(application: Application) -> dict[str, Any]:
    created = application.created // 1000 * 1000
    facts: dict[str, Any] = {
        "creationTime": created,
        "duration": now() - created,
        "applicationState": application.state,
    }
    if application.state is None:  # the operator has not seen it
        return facts | {"applicationState": UNKNOWN}
    return facts | {
        "sparkApplicationId": application.app_id,
        "executionAttempts": application.executions or 1,
        "terminationTime": whole_second(application.terminated),
        "applicationErrorMessage": application.error,
    }


def status(application: Application, cluster: Cluster) -> dict[str, Any]:
    """What ``/status`` answers."""
    facts = _facts(application)
    if application.state == "RUNNING" and cluster.ui_url:
        facts["sparkUIUrl"] = ui_url(application, cluster)
    if remark := _running_too_long(application):
        facts["applicationErrorMessage"] = " ".join(filter(None, (application.error, remark)))
    return _told(facts)


def _running_too_long(application: Application) -> str:
    """The gateway guesses from the times: a quick failure with a small limit is called too long as well."""
    limit = int(application.label["maxRunningMillis"])
    if application.state == "FAILED" and application.terminated is not None:
        ran = application.terminated // 1000 * 1000 - application.created // 1000 * 1000
        if ran >= limit - _NEARLY_MILLIS:
            return "(application might be killed because of running too long)"
    if limit > MAX_RUNNING_MILLIS:
        return (
            f"(warning: application is configured with custom max running time: {limit} millis, "
            "but might be still killed in certain situations like maintenance)"
        )
    return ""


def ui_url(application: Application, cluster: Cluster) -> str:
    """Where the UI of a running application is."""
    return f"{cluster.ui_url}/{cluster.namespace}/{application.id}"


def summary(application: Application, cluster: Cluster, config: GatewayConfig) -> dict[str, Any]:
    """Its line in a listing."""
    facts, spec = _facts(application), application.document
    driver, executor = spec["driver"], spec["executor"]
    memory = {"driver": _gigabytes(driver["memory"]), "executor": _gigabytes(executor["memory"])}
    if application.state == "RUNNING" and cluster.ui_url:
        facts["sparkUIUrl"] = ui_url(application, cluster)
    elif application.state in TERMINAL and config.history_dns:
        facts["sparkUIUrl"] = f"https://{config.history_dns}/history/{_or_null(application.app_id)}"
    return _told(
        facts
        | {
            "submissionId": application.id,
            "user": application.label["proxyUser"],
            "queue": application.label["queue"],
            "dagName": driver.get("labels", {}).get("dag_name", ""),
            "driverCores": driver["cores"],
            "driverMemoryGB": memory["driver"],
            "executorInstances": executor["instances"],
            "executorCores": executor["cores"],
            "executorMemoryGB": memory["executor"],
            "totalCores": driver["cores"] + executor["instances"] * executor["cores"],
            "totalMemoryGB": memory["driver"] + executor["instances"] * memory["executor"],
            "sparkVersion": spec["sparkVersion"],
            "applicationName": application.spark_conf.get("spark.app.name"),
            "applicationArguments": spec.get("arguments"),
        }
    )


def _or_null(value: str | None) -> str:
    return "null" if value is None else value


def _gigabytes(memory: str) -> int:
    """Whole ones; 0 for what Spark can't read."""
    parts = re.fullmatch(r"(\d+)([a-z]?)b?", memory.lower())
    if not parts or parts[2] not in _UNITS:
        return 0
    return int(int(parts[1]) * 1024 ** (_UNITS[parts[2]] - 3))


def without_env(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification as it is shown: environment variables may hold secrets."""
    return spec | {
        pod: {name: value for name, value in spec[pod].items() if name != "env"} for pod in ("driver", "executor")
    }


def describe(
    application: Application, events: list[tuple[int, str, str]], driver_events: list[tuple[int, str, str]]
) -> Iterator[str]:
    """The lines of ``/describe``."""
    import yaml

    yield "--- Spark Spec ---\n"
    yield yaml.safe_dump(without_env(application.document), sort_keys=False) + "\n"
    yield "--- Spark Application Events ---\n"
    yield from (_event(*event) for event in events)
    yield "--- Spark Driver Events ---\n"
    yield from (_event(*event) for event in driver_events)


def _event(moment: int, reason: str, message: str) -> str:
    return f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%dT%H:%M:%SZ} {reason} {message}\n"
