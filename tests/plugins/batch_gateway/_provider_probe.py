"""Tell, as JSON, what the API server of a fresh process knows of the connection type, and what its *Test* button says of a gateway.

The argument is the gateway's URL. Nothing but Airflow puts plugins/ on the path.
"""

from __future__ import annotations

import json
import sys


def main():
    on_path_at_first = any(path.endswith("/plugins") for path in sys.path)

    from airflow import settings
    from airflow.models.revoked_token import RevokedToken

    RevokedToken.__table__.create(settings.engine, checkfirst=True)  # the one table that logging in reads

    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"), raise_server_exceptions=False)
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.get("/ui/connections/hook_meta", headers=headers)
    forms = [form for form in answer.json() if form["connection_type"] == "batch_gateway"]
    providers = client.get("/api/v2/providers?limit=200", headers=headers).json()["providers"]
    errors = client.get("/api/v2/plugins/importErrors", headers=headers).json()["import_errors"]

    connection = {"connection_id": "typed_in", "conn_type": "batch_gateway", "host": sys.argv[1], "login": "a"}
    tested = client.post("/api/v2/connections/test", headers=headers, json=connection).json()

    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    json.dump(
        {
            "on_path_at_first": on_path_at_first,
            "status": answer.status_code,
            "forms": forms,
            "providers": [each for each in providers if each["package_name"] == "data-platform-batch-gateway"],
            "import_errors": errors,
            "tested": tested,
            "hook": getattr(ProvidersManagerTaskRuntime().hooks.get("batch_gateway"), "hook_class_name", None),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
