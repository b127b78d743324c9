"""What Airflow is told about this package: its connection type, the form for it, its links.

``plugins/data_platform_batch_gateway-….dist-info`` makes the package a provider without a wheel: Airflow finds it where ``plugins/`` is on
the path when it starts, and `registration` sees to the rest.
"""

from __future__ import annotations

from typing import Any, Final

DISTRIBUTION: Final = "data-platform-batch-gateway"
"""Name in the dist-info; Airflow stops if `get_provider_info` says another."""

CONNECTION_TYPE: Final = "batch_gateway"


def get_provider_info() -> dict[str, Any]:
    """The entry point of the group ``apache_airflow_provider``; a fresh dictionary, as Airflow adds to it."""
    return {
        "package-name": DISTRIBUTION,
        "name": "Batch Processing Gateway",
        "description": "Spark jobs on EMR on EKS through the Batch Processing Gateway, exactly one per task.",
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "data_platform.batch_gateway.hook.BatchGatewayHook",
                "hook-name": "Batch Processing Gateway",
                "conn-fields": _fields(),
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"login": "User", "password": "Password"},
                    "placeholders": {
                        "host": "https://gateway.example.com",
                        "port": "8080",
                        "login": "airflow_system_account",
                    },
                },
            }
        ],
        "extra-links": [f"data_platform.batch_gateway.links.{name}" for name in LINKS],
    }


LINKS: Final = ("SparkUiLink", "SparkHistoryLink", "DriverLogLink", "GatewayRecordLink")


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


def _fields() -> dict[str, dict[str, Any]]:
    """The connection's extras, in the form's order."""
    return {
        "base_path": _field(
            "Base path",
            "Path before /spark. /skatev2 is the gateway's own; its Helm chart's ingress has /apiv2.",
            default="/skatev2",
        ),
        "user_account": _field(
            "User account", "Sent as the header User-Account, which the gateway heeds before the user above."
        ),
        "proxied_user": _field(
            "Proxied user",
            "The user that jobs run for (dagUser). It counts only if the user is airflow_system_account.",
        ),
        "queue": _field("Queue", "For jobs whose spec names none. Empty: the gateway chooses by user, else poc."),
        "queue_token": _field(
            "Queue token", "Signed token of a queue that asks for one. It is never logged.", format="password"
        ),
        "tls_verify": _field(
            "TLS verification",
            "true, false, or the path of a file with the authority's certificate.",
            default="true",
        ),
        "read_timeout_seconds": _field(
            "Read time-out in seconds",
            "Longest wait for an answer. Keep it above 180: so long may the gateway itself wait for Kubernetes, and a job be started "
            "after a shorter wait ended.",
            "integer",
            default=200,
            minimum=1,
        ),
        "settle_seconds": _field(
            "Settling time in seconds",
            "How long after a submission without an answer its job may still appear, before another may be submitted.",
            "integer",
            default=200,
            minimum=1,
        ),
        "history_url": _field(
            "History server",
            "A finished job's page in the Spark history server, such as https://history.example.com/history/{application_id}.",
        ),
    }
