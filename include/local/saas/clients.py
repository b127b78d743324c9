"""Clients of the AWS stand-in."""

from __future__ import annotations

from typing import Any, Final

from include.tenants.clients import Clients

REGION: Final = "us-east-1"


def clients_at(endpoint_url: str) -> Clients:
    """Clients of the stand-in that listens there; any credentials do."""
    import boto3

    session = boto3.session.Session(
        aws_access_key_id="stand-in", aws_secret_access_key="not-a-secret", region_name=REGION
    )

    def make(service: str, config: Any) -> Any:
        return session.client(service, endpoint_url=endpoint_url, config=config)

    return Clients(make)
