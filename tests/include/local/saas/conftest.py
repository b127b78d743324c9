"""A SaaS for the folder: its shared parts once, and tenants of each test's own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.seed import SeedTenant, seed
from include.tenants.saas import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.tenants.clients import Clients

API_URL = "http://127.0.0.1:4570"


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """URL of an AWS stand-in."""
    with trial_aws() as url:
        yield url


@pytest.fixture(scope="session")
def clients(aws) -> Clients:
    made = clients_at(aws)
    seed(made, items_per_tenant=0, api_url=API_URL, tenants=[])
    return made


@pytest.fixture
def new_tenant(clients) -> Callable[..., str]:
    """Makes a tenant that no other test has, and gives its id."""

    def make(tier: Tier = Tier.BASIC, *, items: int = 0, awkward: bool = False, users: bool = False) -> str:
        tenant_id = f"t{uuid.uuid4().hex[:10]}"
        tenants = [SeedTenant(tenant_id, tier, awkward)]
        seed(clients, items_per_tenant=items, api_url=API_URL, tenants=tenants, users=users)
        return tenant_id

    return make
