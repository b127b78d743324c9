"""Read ``airflow_settings.yaml``: connections, pools and variables in the form Astro's CLI defines.

One file serves three readers: ``astro dev start``, the laptop's supervisor, and the DAG ``configure_platform``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


class AirflowSettingsError(ValueError):
    """The file is not what Astro's CLI would accept."""


@dataclass(frozen=True)
class ConnectionSpec:
    """One connection."""

    conn_id: str
    conn_type: str
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    port: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PoolSpec:
    """One pool."""

    name: str
    slots: int
    description: str


@dataclass(frozen=True)
class VariableSpec:
    """One variable."""

    name: str
    value: str


@dataclass(frozen=True)
class AirflowSettings:
    """The whole file."""

    connections: tuple[ConnectionSpec, ...]
    pools: tuple[PoolSpec, ...]
    variables: tuple[VariableSpec, ...]


def _required(entry: dict[str, Any], key: str, where: str) -> Any:
    value = entry.get(key)
    if value in (None, ""):
        raise AirflowSettingsError(f"{where}: expected {key}, found none; every entry needs one")
    return value


def parse_airflow_settings(text: str, source: str = "airflow_settings.yaml") -> AirflowSettings:
    """Parse the file's text.

    Raises:
        AirflowSettingsError: not YAML, or an entry lacks a field; says which entry.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AirflowSettingsError(f"{source}: expected YAML; {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("airflow"), dict):
        raise AirflowSettingsError(
            f"{source}: expected a mapping with the key 'airflow', found {type(document).__name__}"
        )
    airflow = document["airflow"]
    connections = tuple(
        ConnectionSpec(
            conn_id=_required(entry, "conn_id", f"{source}: connection {position}"),
            conn_type=_required(entry, "conn_type", f"{source}: connection {position}"),
            host=entry.get("conn_host") or None,
            schema=entry.get("conn_schema") or None,
            login=entry.get("conn_login") or None,
            password=entry.get("conn_password") or None,
            port=int(entry["conn_port"]) if entry.get("conn_port") else None,
            extra=entry.get("conn_extra") or {},
        )
        for position, entry in enumerate(airflow.get("connections") or [], start=1)
    )
    pools = tuple(
        PoolSpec(
            name=_required(entry, "pool_name", f"{source}: pool {position}"),
            slots=int(_required(entry, "pool_slot", f"{source}: pool {position}")),
            description=entry.get("pool_description") or "",
        )
        for position, entry in enumerate(airflow.get("pools") or [], start=1)
    )
    variables = tuple(
        VariableSpec(
            name=_required(entry, "variable_name", f"{source}: variable {position}"),
            value=str(entry.get("variable_value", "")),
        )
        for position, entry in enumerate(airflow.get("variables") or [], start=1)
    )
    return AirflowSettings(connections, pools, variables)


def load_airflow_settings(path: Path) -> AirflowSettings:
    """Read and parse the file at ``path``."""
    return parse_airflow_settings(path.read_text(encoding="utf-8"), source=path.name)
