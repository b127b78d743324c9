"""The dbt docs in Airflow's UI: only for logged-in users, never with their session, and clear when there is nothing to show."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from include.warehouse import docs


@pytest.fixture
def client(ui):
    """The plugin's app, asked with whatever token a test sets."""
    from data_platform.dbt_docs import app

    return TestClient(app)


def test_without_a_token_nothing_is_shown(client, viewer):
    assert client.get("/index.html").status_code == 401
    assert client.get("/index.html", headers={"Authorization": "Bearer forged"}).status_code == 403
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path, headers=viewer).status_code == 404


def test_every_route_asks_who_is_there(client):
    routes = [route for route in client.app.routes if getattr(route, "dependant", None)]

    assert [route.path for route in routes] == ["/index.html"]
    assert all(route.dependant.dependencies for route in routes)


def test_before_the_first_build_it_says_what_will_write_the_docs(client, viewer, s3):
    s3.delete_object(Bucket="data-platform", Key=docs.KEY)

    page = client.get("/index.html", headers=viewer)

    assert page.status_code == 404
    assert "the first successful run of build_finance_products writes it" in page.text


def test_a_viewer_reads_the_docs_in_a_sandbox(client, viewer, s3, tmp_path):
    (tmp_path / "static_index.html").write_text("<html>models</html>")
    docs.save_docs(s3, "data-platform", "fingerprint", tmp_path)

    page = client.get("/index.html", headers=viewer)

    assert page.status_code == 200
    assert page.text == "<html>models</html>"
    policy = dict(directive.strip().split(" ", 1) for directive in page.headers["content-security-policy"].split(";"))
    assert "allow-same-origin" not in policy["sandbox"]  # the page gets no cookie and no API
    assert policy["connect-src"] == "'none'"
    assert policy["frame-ancestors"] == "'self'"
    assert docs.docs_are_current(s3, "data-platform", "fingerprint")
    assert not docs.docs_are_current(s3, "data-platform", "of another project")


def test_a_silent_s3_is_told_without_its_details(client, viewer, monkeypatch):
    extra = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "login": "t", "password": "t", "extra": extra})
    )

    page = client.get("/index.html", headers=viewer)

    assert page.status_code == 503
    assert "can&#x27;t be read from S3 just now" in page.text
    assert "127.0.0.1" not in page.text


def test_the_page_is_in_the_menu_at_the_apps_address():
    from data_platform.dbt_docs import KEY, DbtDocsPlugin

    (app,), (view,) = DbtDocsPlugin.fastapi_apps, DbtDocsPlugin.external_views
    assert view["href"] == f"{app['url_prefix']}/index.html"
    assert view["destination"] == "nav"
    assert docs.KEY == KEY  # the writer's key is the reader's
