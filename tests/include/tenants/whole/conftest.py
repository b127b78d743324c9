"""A stand-in for each file, with tenants that no test has moved yet."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from include.local.aws.controls import Controls
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at
from include.local.saas.seed import SeedTenant, seed
from include.tenants.portability import Portability
from include.tenants.saas import Tier
from tests.include.tenants.whole.trial import CONFIG, ITEMS, NEIGHBOUR


@pytest.fixture(scope="module")
def url():
    with trial_aws_in_process(["data-platform"]) as url:
        yield url


@pytest.fixture(scope="module")
def clients(url):
    clients = clients_at(url)
    tenants = [SeedTenant(NEIGHBOUR, Tier.BASIC), *(SeedTenant(f"n-{number}", Tier.BASIC) for number in range(24))]
    seed(clients, items_per_tenant=ITEMS, api_url="http://127.0.0.1:4570", tenants=tenants, users=False)
    return clients


@pytest.fixture(scope="module")
def fresh(clients):
    """Ids of tenants that no test has moved yet."""
    return (f"n-{number}" for number in itertools.count())


@pytest.fixture
def p(clients):
    return Portability(clients, CONFIG)


@pytest.fixture
def controls(url):
    controls = Controls(url)
    yield controls
    controls.reset()


@pytest.fixture
def hasty(p):
    """The same with a clock of its own: while it sleeps, time passes twenty times as fast, so that budgets end soon."""
    gained = [0.0]

    def sleep(seconds):
        time.sleep(seconds / 20)
        gained[0] += seconds * 19 / 20

    return replace(p, clock=lambda: time.time() + gained[0], sleep=sleep)
