"""Airflow's connections, with a message for the person who forgot one.

Airflow says only that an id isn't defined, whatever the reason: a backend that refuses to answer is skipped like one that has no such
secret (``airflow.sdk.execution_time.context``), and an id outside the backend's look-up pattern is never asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection


class ConnectionMissing(AirflowNotFoundException):
    """No backend gave a connection of this id."""


def find_connection(conn_id: str) -> Connection:
    """The connection.

    Raises:
        ConnectionMissing: there is none, or none that may be read; the message says where one is expected and what to check.
    """
    try:
        connection: Connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConnectionMissing(
            f"connection {conn_id}: expected {_expected(conn_id)}, found none; what it holds is in docs/deploy.md, Connections"
        ) from error
    return connection


def _expected(conn_id: str) -> str:
    """Where Airflow looks, as this process is configured."""
    elsewhere = f"a connection of Airflow's own or the variable AIRFLOW_CONN_{conn_id.upper()}"
    prefix, pattern = _secrets()
    if prefix is None:
        return elsewhere
    secret = f"{prefix}/{conn_id}".lstrip("/")
    if pattern and not re.match(pattern, conn_id):
        return f"{elsewhere} (the id is outside the secrets backend's connections_lookup_pattern {pattern}, so no secret is asked for)"
    return (
        f"the secret {secret}, which the role of this Airflow may read (secretsmanager:GetSecretValue), or {elsewhere}"
    )


def _secrets() -> tuple[str | None, str | None]:
    """Prefix and look-up pattern of Secrets Manager as the secrets backend; no prefix if it is not the backend."""
    from airflow.providers.common.compat.sdk import conf

    for section, backend, arguments in (
        ("workers", "secrets_backend", "secrets_backend_kwargs"),
        ("secrets", "backend", "backend_kwargs"),
    ):
        name = conf.get(section, backend, fallback="")
        if not name:
            continue
        if not name.endswith(".SecretsManagerBackend"):
            return None, None
        given: Any = conf.getjson(section, arguments, fallback={})
        given = given if isinstance(given, dict) else {}
        return given.get("connections_prefix", "airflow/connections"), given.get("connections_lookup_pattern")
    return None, None
