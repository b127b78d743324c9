"""Clients of the AWS stand-in."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final

from include.local.aws.in_process import shortcut
from include.tenants.clients import Clients

REGION: Final = "us-east-1"
_MAKING: Final = threading.Lock()
"""Held while a client is made: a session of boto3 is no friend of threads."""


def clients_at(endpoint_url: str) -> Clients:
    """Clients of the stand-in that listens there; any credentials do. They need no socket if it is of this process."""

    def make(service: str, config: Any) -> Any:
        with _MAKING:
            return shortcut(_session().client(service, endpoint_url=endpoint_url, config=config), endpoint_url)

    return Clients(make)


@cache
def _session() -> Any:
    """One for the process: each reads the services' models anew, which takes as long as a hundred requests."""
    import boto3

    return boto3.session.Session(aws_access_key_id="stand-in", aws_secret_access_key="not-a-secret", region_name=REGION)
