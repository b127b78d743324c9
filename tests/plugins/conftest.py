"""What the pages in Airflow's UI are tested with: S3 with their bucket, and a user who has logged in."""

from __future__ import annotations

import json

import boto3
import pytest

from include.local.aws.trial import trial_aws


@pytest.fixture(scope="module")
def s3():
    with trial_aws(["data-platform"]) as url:
        yield boto3.client("s3", endpoint_url=url)


@pytest.fixture
def ui(s3, monkeypatch):
    """How Airflow is configured for the pages: its login, the connection to S3."""
    monkeypatch.setenv(
        "AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-for-this-test-that-is-long-enough-for-hs512-signatures-0123456789"
    )
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "viewer:viewer")
    extra = {"region_name": "us-east-1", "endpoint_url": s3.meta.endpoint_url}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "login": "t", "password": "t", "extra": extra})
    )


@pytest.fixture(scope="module")
def revoked_tokens():
    """The one table of Airflow's database that logging in reads."""
    from airflow import settings
    from airflow.models.revoked_token import RevokedToken

    RevokedToken.__table__.create(settings.engine, checkfirst=True)


@pytest.fixture
def viewer(ui, revoked_tokens):
    from airflow.api_fastapi.app import create_auth_manager, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    create_auth_manager()
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
    return {"Authorization": f"Bearer {token}"}
