"""Ask the whole api-server, with FAB as its auth manager, for the plugin's page as users of several roles; prints the statuses as JSON."""

from __future__ import annotations

import json
import secrets

ROLES = ("Public", "Viewer", "User", "Op", "Admin")
PAGE = "/dbt-docs/index.html"


def main():
    from airflow.utils.db import initdb

    initdb()
    from airflow.providers.fab.www.app import create_app as create_flask_app

    flask = create_flask_app(enable_plugins=False)
    password = secrets.token_urlsafe(16)
    with flask.app_context():
        manager = flask.appbuilder.sm
        for role in ROLES:
            manager.add_user(role, role, "Test", f"{role}@example.invalid", manager.find_role(role), password=password)

    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    seen = {}
    with TestClient(create_app(apps="core")) as client:
        seen["nobody"] = client.get(PAGE).status_code
        seen["forged"] = client.get(PAGE, headers={"Authorization": "Bearer forged"}).status_code
        for role in ROLES:
            answer = client.post("/auth/token", json={"username": role, "password": password})
            token = answer.json().get("access_token")
            client.cookies.clear()
            seen[role] = (
                client.get(PAGE, headers={"Authorization": f"Bearer {token}"}).status_code
                if token
                else answer.status_code
            )
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
