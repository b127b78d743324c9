"""The load and the judge together: they find the losses of a move without a fence, and none of one with it."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ReadTimeoutError

from include.local.saas.api import Application, Found, Page, Written
from include.local.saas.errors import Fenced, NotFound
from include.local.saas.journal import Told, entries
from include.local.saas.judge import judge, judge_tables
from include.local.saas.load import Load, Stalls, instances, percentile
from tests.include.local.saas.moving_by_hand import move_behind_the_fence, move_without


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come about within a minute"
        time.sleep(0.005)


class Memory:
    """An application in memory, without faults of its own."""

    def __init__(self):
        self.items = {}
        self.fenced = False

    def put(self, tenant_id, table, key, body):
        if self.fenced:
            raise Fenced("moving", retry_after=0.001)
        self.items[tenant_id, table, key] = dict(body)
        return Written(key, 0)

    def update(self, tenant_id, table, key, body):
        self.get(tenant_id, table, key)
        return self.put(tenant_id, table, key, body)

    def delete(self, tenant_id, table, key):
        self.get(tenant_id, table, key)
        if self.fenced:
            raise Fenced("moving", retry_after=0.001)
        del self.items[tenant_id, table, key]
        return Written(key, 0)

    def get(self, tenant_id, table, key):
        try:
            return Found(self.items[tenant_id, table, key], 0)
        except KeyError:
            raise NotFound(key) from None

    def list(self, tenant_id, table, *, limit=100, after=None):
        return Page([item for (tenant, _, _), item in list(self.items.items()) if tenant == tenant_id][:limit], None, 0)

    def read(self, *where):
        return self.items.get(where)


def test_a_load_without_trouble_loses_nothing_and_does_all_kinds_of_writes(tmp_path):
    memory = Memory()
    with Load([memory], ["acme", "acme-2"], journal=tmp_path / "journal", pause=0.001) as load:
        load.wait_for_writes(200)
        wait_for(lambda: load.figures("acme").reads > 200)
    verdict = judge(tmp_path / "journal", memory.read)
    assert verdict.ok, verdict
    assert verdict.acknowledged == load.writes("acme") + load.writes("acme-2")
    journal = list(entries(tmp_path / "journal"))
    assert {entry.told for entry in journal} == {Told.WRITTEN, Told.DELETED}
    hot = {entry.key for entry in journal if entry.hot}
    once = [entry.key for entry in journal if not entry.hot and entry.told is Told.WRITTEN]
    assert len(once) == len(set(once)) > len(hot) > 0
    assert max(entry.value for entry in journal if entry.hot) > 5
    figures = load.figures("acme")
    assert (figures.refused, figures.gap, figures.stale_reads, figures.foreign_reads) == (0, None, 0, 0)


def test_the_same_seed_writes_the_same_keys(tmp_path):
    def keys(name, seed):
        with Load([Memory()], ["acme"], journal=tmp_path / name, seed=seed, writers=1, readers=0) as load:
            load.wait_for_writes(50)
        return [(entry.table, entry.key, entry.value) for entry in entries(tmp_path / name)][:50]

    assert keys("a", 1) == keys("b", 1)
    assert keys("c", 2) != keys("a", 1)


def test_a_write_without_an_answer_is_unclear_and_its_key_is_let_be(tmp_path):
    class Dropping(Memory):
        """Does each tenth write and drops the answer."""

        count = 0

        def put(self, *arguments):
            answer = super().put(*arguments)
            self.count += 1
            if self.count % 10 == 0:
                raise ReadTimeoutError(endpoint_url="http://x")
            return answer

    memory = Dropping()
    with Load([memory], ["acme"], journal=tmp_path / "journal", writers=1) as load:
        load.wait_for_writes(200)
    journal = list(entries(tmp_path / "journal"))
    unclear = [entry for entry in journal if entry.told is Told.WRITE_UNCLEAR]
    assert len(unclear) == load.figures("acme").unclear > 5
    assert any(entry.hot for entry in unclear)
    for entry in unclear:
        assert [each for each in journal if each.key == entry.key][-1] == entry
    verdict = judge(tmp_path / "journal", memory.read)
    assert verdict.ok, verdict
    assert verdict.ambiguous == len(unclear)


def test_readers_see_what_went_missing_came_back_or_is_another_tenants(tmp_path):
    memory = Memory()
    with Load([memory], ["acme"], journal=tmp_path / "journal", writers=1, pause=0.002) as load:
        load.wait_for_writes(50)
        for where, item in list(memory.items.items())[:20]:
            memory.items[where] = item | {"sku": "acme-2/1"}
        wait_for(lambda: load.figures("acme").foreign_reads > 0)
        for where in list(memory.items)[:30]:
            memory.items.pop(where, None)
        wait_for(lambda: load.figures("acme").stale_reads > 0)
    verdict = judge(tmp_path / "journal", memory.read)
    assert verdict.lost > 0
    assert verdict.stale > 0
    assert verdict.foreign > 0


def test_the_gap_is_the_time_around_refusals(tmp_path):
    memory = Memory()
    # one writer: a second may have come past the fence before it was closed
    with Load([memory], ["acme"], journal=tmp_path / "journal", writers=1) as load:
        load.wait_for_writes(50)
        memory.fenced = True
        wait_for(lambda: load.figures("acme").refused > 3)
        began = time.time()
        time.sleep(0.2)
        memory.fenced = False
        ended = time.time()
        load.wait_for_writes(50)
    gap = load.figures("acme").gap
    assert gap.began <= began < ended <= gap.ended
    assert load.figures("acme", until=gap.began - 0.01).gap is None
    assert judge(tmp_path / "journal", memory.read).ok


def test_a_client_that_breaks_off_is_told(tmp_path):
    class Broken(Memory):
        def put(self, *_):
            raise ZeroDivisionError

    load = Load([Broken()], ["acme"], journal=tmp_path / "journal").start()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        load.stop()


def test_percentiles():
    assert percentile([], 0.5) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.99) == 99
    assert percentile([5], 0.99) == 5


def test_a_move_behind_the_fence_loses_nothing_even_with_stalls(clients, new_tenant, tmp_path):
    moved, neighbour = new_tenant(items=60), new_tenant()
    apis = instances(clients, 2, cache_seconds=30, stalls=Stalls(0.05, 0.3))
    with Load(apis, [moved, neighbour], journal=tmp_path / "journal", pause=0.005) as load:
        load.wait_for_writes(20)
        # some may stall as long as the copy takes
        move_behind_the_fence(clients, moved, meanwhile=lambda: wait_for(lambda: load.figures(moved).refused > 0))
        load.wait_for_writes(20)
    verdict = judge_tables(tmp_path / "journal", clients)
    assert verdict.ok, verdict
    assert verdict.acknowledged > 80
    assert verdict.failed_reads == 0
    assert {entry.epoch for entry in entries(tmp_path / "journal") if entry.told is Told.WRITTEN} == {0, 1}
    assert load.figures(moved).gap is not None
    assert load.figures(neighbour).gap is None


def test_the_same_move_without_the_fence_loses_acknowledged_writes_and_the_judge_finds_them(
    clients, new_tenant, tmp_path
):
    tenant = new_tenant(items=60)
    apis = instances(clients, 2, cache_seconds=30, fenced=False)
    with Load(apis, [tenant], journal=tmp_path / "journal", pause=0.005) as load:
        load.wait_for_writes(20)
        move_without(clients, tenant, meanwhile=lambda: load.wait_for_writes(20))
        load.wait_for_writes(20)
    verdict = judge_tables(tmp_path / "journal", clients)
    assert verdict.lost > 0
    assert not verdict.ok
    assert any("was acknowledged at" in example for example in verdict.examples)


def test_the_judge_reads_where_the_tenant_is_now(clients, new_tenant, tmp_path):
    tenant = new_tenant()
    with Load([Application(clients)], [tenant], journal=tmp_path / "journal", readers=0, pause=0.005) as load:
        load.wait_for_writes(10)
    assert judge_tables(tmp_path / "journal", clients).ok
    move_without(clients, tenant, meanwhile=lambda: None)
    assert judge_tables(tmp_path / "journal", clients).ok
    last = {entry.key: entry for entry in entries(tmp_path / "journal")}
    written = next(entry for entry in last.values() if entry.told is Told.WRITTEN)
    names = ("shardId", "productId" if written.table == "Product" else "orderId")
    key = {name: {"S": part} for name, part in zip(names, written.key.split(":"), strict=True)}
    clients.dynamodb.delete_item(TableName=f"{written.table}-{tenant}", Key=key)
    assert judge_tables(tmp_path / "journal", clients).lost == 1
