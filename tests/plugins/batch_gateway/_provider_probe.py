"""Tell, as JSON, what the API server of a fresh process knows of the connection type, and what its *Test* button says of a gateway.

The first argument is the gateway's URL. With a second, ``http``, the server itself is asked; without it, what its routes call: its hundreds
of routes take most of the time, and are the same wherever plugins/ is. Nothing but Airflow puts plugins/ on the path.
"""

from __future__ import annotations

import json
import os
import sys


def over_http(url):
    from airflow import settings
    from airflow.models.revoked_token import RevokedToken

    RevokedToken.__table__.create(settings.engine, checkfirst=True)  # the one table that logging in reads

    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"), raise_server_exceptions=False)
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    headers = {"Authorization": f"Bearer {token}"}
    forms = client.get("/ui/connections/hook_meta", headers=headers).json()
    providers = client.get("/api/v2/providers?limit=200", headers=headers).json()["providers"]
    errors = client.get("/api/v2/plugins/importErrors", headers=headers).json()["import_errors"]

    connection = {"connection_id": "typed_in", "conn_type": "batch_gateway", "host": url, "login": "a"}
    tested = client.post("/api/v2/connections/test", headers=headers, json=connection).json()
    return forms, providers, errors, tested


def behind_the_routes(url):
    from airflow import plugins_manager

    plugins_manager.get_fastapi_plugins()  # the server loads plugins when it is made, before any form

    from airflow.api_fastapi.core_api.services.public.providers import _provider_mapper
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    from airflow.models.connection import Connection
    from airflow.providers_manager import ProvidersManager

    forms = [form.model_dump(mode="json", by_alias=True) for form in HookMetaService.hook_meta_data()]
    providers = [_provider_mapper(one).model_dump(mode="json") for one in ProvidersManager().providers.values()]
    errors = [{"source": source, "error": error} for source, error in plugins_manager.get_import_errors().items()]

    connection = Connection(conn_id="typed_in", conn_type="batch_gateway", host=url, login="a")
    os.environ["AIRFLOW_CONN_TYPED_IN"] = connection.get_uri()  # as the route does
    status, message = connection.test_connection()
    return forms, providers, errors, {"status": status, "message": message}


def main():
    on_path_at_first = any(path.endswith("/plugins") for path in sys.path)
    url, *how = sys.argv[1:]

    import airflow  # noqa: F401  puts plugins/ on the path

    forms, providers, errors, tested = (over_http if how else behind_the_routes)(url)

    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    json.dump(
        {
            "on_path_at_first": on_path_at_first,
            "known_forms": len(forms),
            "forms": [form for form in forms if form["connection_type"] == "batch_gateway"],
            "providers": [each for each in providers if each["package_name"] == "data-platform-batch-gateway"],
            "import_errors": errors,
            "tested": tested,
            "hook": getattr(ProvidersManagerTaskRuntime().hooks.get("batch_gateway"), "hook_class_name", None),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
