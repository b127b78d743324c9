"""Bring pools, variables and connections of an Airflow environment to what ``airflow_settings.yaml`` says; safe to run again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from include.platform.airflow_api import AirflowApi, AirflowApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.platform.airflow_settings import AirflowSettings


def _read(api: AirflowApi, path: str) -> Any:
    try:
        return api.request("GET", path)
    except AirflowApiError as error:
        if error.status == 404:
            return None
        raise


def _ensure(api: AirflowApi, collection: str, key: str, wanted: dict[str, Any], compared: tuple[str, ...]) -> str:
    """Create or update one entry; returns what was done."""
    path = f"/{collection}/{quote(key, safe='')}"
    existing = _read(api, path)
    if existing is None:
        try:
            api.request("POST", f"/{collection}", wanted)
        except AirflowApiError as error:
            if error.status != 409:  # 409: a retry of our own, or somebody at the same time; it exists
                raise
        return "created"
    if all(existing.get(name) == wanted.get(name) for name in compared):
        return "unchanged"
    api.request("PATCH", path, wanted)
    return "updated"


def ensure_pools(api: AirflowApi, settings: AirflowSettings) -> dict[str, str]:
    """Create or resize every pool of the file; pools the file does not name stay as they are."""
    return {
        pool.name: _ensure(
            api,
            "pools",
            pool.name,
            {"name": pool.name, "slots": pool.slots, "description": pool.description, "include_deferred": False},
            ("slots", "description"),
        )
        for pool in settings.pools
    }


def ensure_variables(api: AirflowApi, settings: AirflowSettings) -> dict[str, str]:
    """Create or set every variable of the file."""
    return {
        variable.name: _ensure(
            api, "variables", variable.name, {"key": variable.name, "value": variable.value}, ("value",)
        )
        for variable in settings.variables
    }


def ensure_connections(api: AirflowApi, settings: AirflowSettings, is_served: Callable[[str], bool]) -> dict[str, str]:
    """Create every connection that ``is_served`` does not find in a secrets backend; never change one that exists."""
    done = {}
    for spec in settings.connections:
        if is_served(spec.conn_id):
            done[spec.conn_id] = "served by a secrets backend"
            continue
        wanted = {
            "connection_id": spec.conn_id,
            "conn_type": spec.conn_type,
            "host": spec.host,
            "schema": spec.schema,
            "login": spec.login,
            "password": spec.password,
            "port": spec.port,
            "extra": json.dumps(spec.extra) if spec.extra else None,
        }
        done[spec.conn_id] = _ensure(api, "connections", spec.conn_id, wanted, ())
    return done
