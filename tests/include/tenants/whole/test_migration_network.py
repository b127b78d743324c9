"""Whole migrations over a network that fails. What the application's clients were told counts, whatever the migration was told."""

from __future__ import annotations

import random
import threading
import time

import pytest

from include.local.saas.clients import clients_at
from include.local.saas.judge import judge_tables
from include.local.saas.load import Load, instances
from include.local.saas.proxy import Proxy
from include.tenants import steps
from include.tenants.portability import Portability
from include.tenants.saas import Tier
from include.tenants.states import State
from tests.include.tenants.whole.trial import CONFIG, mover, served_from

FAILURES = ({"drop": "request"}, {"drop": "answer"}, {"delay_seconds": 0.5}, {"overtaken_by": 2, "delay_seconds": 1.0})
OPERATIONS = ("BatchWriteItem", "TransactWriteItems", "UpdateItem", "GetRecords", "Query", "GetItem")


@pytest.fixture
def network(url):
    """Between the migration and AWS; the application has its own."""
    with Proxy(url) as network:
        yield network


@pytest.fixture
def used(url, fresh, tmp_path):
    """A tenant that is being used, its load, and the journal of what its clients were told."""
    tenant_id, journal = next(fresh), tmp_path / "journal.jsonl"
    apis = instances(clients_at(url), 1, cache_seconds=0.5)
    with Load(apis, [tenant_id], journal=journal, writers=2, readers=1, pause=0.1) as load:
        load.wait_for_writes(4)
        yield tenant_id, load, journal


def nothing_lost(p, load, journal):
    load.wait_for_writes(4)
    load.stop()
    verdict = judge_tables(journal, p.clients)
    assert verdict.ok, verdict
    assert verdict.failed_reads == 0


def test_requests_that_are_dropped_late_or_overtaken_lose_no_write(p, network, used):
    tenant_id, load, journal = used
    chance = random.Random(7)
    for operation in OPERATIONS:
        # apart, so that a request comes through within its tries: else its task would end, and be tried again
        for failure, after in zip(FAILURES * 2, chance.sample(range(2, 60, 5), 2 * len(FAILURES)), strict=True):
            network.rule(operation, times=1, after=after, **failure)
    moving = mover(Portability(clients_at(network.url), CONFIG), tenant_id, budget_seconds=60)
    assert moving.run().state is State.COMPLETE
    assert served_from(p, tenant_id) is Tier.PLATINUM
    befallen = {rule.operation for rule in network.rules.in_force()}
    assert befallen < set(OPERATIONS)  # of some, all failures have happened
    nothing_lost(p, load, journal)


def test_a_network_that_is_cut_in_the_fence_keeps_nobody_out_for_longer_than_the_budget(p, network, used, controls):
    """The migration can't even open the fence; the application does, when its time is over."""
    tenant_id, load, journal = used
    far = Portability(clients_at(network.url), CONFIG)
    moving = mover(far, tenant_id, budget_seconds=6)
    moving.run(until=State.VERIFIED)
    moving.step("record_approval", moving._approve)
    controls.fault("GetRecords", delay_seconds=1.0)

    def cut():
        while p.store.load(moving.migration_id).state is not State.FENCED:
            time.sleep(0.01)
        network.cut()

    cutting = threading.Thread(target=cut, daemon=True)
    cutting.start()
    with pytest.raises(Exception, match=r"(?i)connect|endpoint"):
        steps.cut_over(far, moving.migration_id, owner="cut_over", say=lambda text: None)
    cutting.join()
    assert p.tenant(tenant_id).route.tier is Tier.BASIC
    load.wait_for_writes(4)
    network.heal()
    controls.reset()
    done = steps.cut_over(far, moving.migration_id, owner="cut_over", say=lambda text: None)
    assert done.state is State.SWITCHED
    assert served_from(p, tenant_id) is Tier.PLATINUM
    nothing_lost(p, load, journal)
