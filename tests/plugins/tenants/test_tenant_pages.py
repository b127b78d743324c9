"""The tenant migrations in Airflow's UI: only for logged-in users, without a script, clear when there is nothing to show."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from include.tenants import operators, report

SECRET_KEY = "tenants/migrations/m1/report.json"


@pytest.fixture
def client(ui):
    from data_platform.tenants.pages import app

    return TestClient(app)


def put(s3, key, text):
    s3.put_object(Bucket="data-platform", Key=key, Body=text.encode())


def test_without_a_token_nothing_is_shown(client, s3):
    put(s3, report.key("acme-1", "html"), "<p>report</p>")
    for path in ("/", "/acme-1", "/docs", "/openapi.json"):
        assert client.get(path).status_code in (401, 404)
    routes = [route for route in client.app.routes if getattr(route, "dependant", None)]
    assert sorted(route.path for route in routes) == ["/", "/{migration_id}"]
    assert all(route.dependant.dependencies for route in routes)


def test_a_viewer_reads_a_report_that_can_run_no_script(client, viewer, s3):
    put(s3, report.key("acme-1", "html"), "<p>report</p>")
    page = client.get("/acme-1", headers=viewer)
    assert page.status_code == 200
    assert page.text == "<p>report</p>"
    policy = dict(directive.strip().split(" ", 1) for directive in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == "'self'"


@pytest.mark.parametrize("name", ["..%2F..%2Fdbt-docs%2Findex", "acme/../x", "m1%2Freport.json", "-x", "a" * 200])
def test_only_a_migrations_id_is_looked_up(client, viewer, s3, name):
    put(s3, SECRET_KEY, "{}")
    assert client.get(f"/{name}", headers=viewer).status_code == 404


def test_what_is_not_there_is_said_to_be_so(client, viewer):
    assert "No such migration" in client.get("/none", headers=viewer).text
    assert "report_tenant_migrations writes it" in client.get("/", headers=viewer).text


def test_a_silent_s3_is_told_without_its_details(client, viewer, monkeypatch):
    extra = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "login": "t", "password": "t", "extra": extra})
    )
    page = client.get("/acme-1", headers=viewer)
    assert page.status_code == 503
    assert "127.0.0.1" not in page.text


def test_the_writers_keys_and_the_tasks_link_are_the_readers():
    from data_platform.tenants.pages import PREFIX, URL_PREFIX, TenantMigrationsPlugin

    assert report.PREFIX == PREFIX
    assert f"{URL_PREFIX}/{{migration_id}}" == operators.REPORT_URL
    (app,), (view,) = TenantMigrationsPlugin.fastapi_apps, TenantMigrationsPlugin.external_views
    assert view["href"] == f"{app['url_prefix']}/"
