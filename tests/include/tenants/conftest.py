"""An AWS stand-in for the folder, and in it, for each test, an application without tenants."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at
from include.local.saas.tables import make_data_tables, make_shared_tables
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.saas import POOLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.tenants.clients import Clients

REPORTS = "data-platform"
EVIDENCE = "data-platform-evidence"


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """URL of an AWS stand-in."""
    with trial_aws_in_process([REPORTS]) as url:
        yield url


@pytest.fixture(scope="module")
def clients(aws) -> Clients:
    return clients_at(aws)


@contextmanager
def application(clients: Clients) -> Iterator[Portability]:
    """What the steps work with, and the application's tables, empty; all tables are gone afterwards."""
    make_shared_tables(clients.dynamodb)
    make_data_tables(clients.dynamodb, POOLED)
    yield Portability(clients, PortabilityConfig(REPORTS, EVIDENCE, "alias/tenant-migrations"))
    for page in clients.dynamodb.get_paginator("list_tables").paginate():
        for name in page["TableNames"]:
            clients.dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
            clients.dynamodb.delete_table(TableName=name)


@pytest.fixture
def portability(clients) -> Iterator[Portability]:
    """What the steps work with; what a test makes in DynamoDB is gone afterwards."""
    with application(clients) as p:
        yield p


@pytest.fixture
def saas(portability) -> Clients:
    """The clients, with the application's tables empty."""
    return portability.clients
