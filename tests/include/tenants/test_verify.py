"""Comparing both sides: nothing that differs goes unseen, and what only seemed to differ is seen to be the same."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import pytest

from include.local.aws.controls import Controls
from include.tenants import verify
from include.tenants.changes import Direction
from include.tenants.exceptions import NotVerified, SchemaDrift
from include.tenants.items import PartitionDigest, digest
from include.tenants.keys import MARKER, shard_ids
from include.tenants.states import State
from include.tenants.verify import Comparison, compare, recheck
from tests.include.tenants.moving import AWKWARD, begin, everything, fill, product, put

SOURCE, TARGET = "Product-pooled", "Product-acme"


@pytest.fixture
def controls(aws):
    controls = Controls(aws)
    yield controls
    controls.reset()


@pytest.fixture
def p(portability):
    return portability


@pytest.fixture
def migration(p):
    return begin(p)


def both(p, *items, tables=(SOURCE, TARGET)):
    for table in tables:
        put(p, table, *items)


def run(p, migration, direction=Direction.FORWARD, *, say=lambda text: None):
    return compare(p, migration, direction, say=say)


def keys(mismatches):
    return [(each.table, each.shard_id, each.sort) for each in mismatches]


def test_a_tenant_without_items_is_equal(p, migration):
    comparison = run(p, migration)

    assert comparison.equal
    assert comparison.items == 0
    assert len(comparison.tables) == 20
    assert comparison.summary == "0 equal items"


def test_awkward_items_are_equal_when_they_are(p, migration):
    both(p, *(product("acme-7", name, **attributes) for name, attributes in AWKWARD.items()))

    comparison = run(p, migration)

    assert comparison.equal
    assert comparison.items == len(AWKWARD)
    assert comparison.bytes > 400_000


def test_numbers_and_sets_that_are_written_differently_are_equal(p, migration):
    put(p, SOURCE, product("acme-1", "1", price={"N": "1.50"}, labels={"SS": ["a", "b"]}))
    put(p, TARGET, product("acme-1", "1", price={"N": "15E-1"}, labels={"SS": ["b", "a"]}))

    assert run(p, migration).equal


def test_every_kind_of_difference_is_found_at_either_end_of_a_partition_and_in_between(p, migration):
    for shard_id in ("acme-1", "acme-10"):
        both(p, *(product(shard_id, f"{number}") for number in (2, 4, 5, 7)))
        for missing in ("1", "3", "8"):
            put(p, SOURCE, product(shard_id, missing))
        for extra in ("0", "6", "9"):
            put(p, TARGET, product(shard_id, extra))
        put(p, TARGET, product(shard_id, "5", note={"S": "another"}))
    put(p, "Order-pooled", {"shardId": {"S": "acme-3"}, "orderId": {"S": "one"}})

    comparison = run(p, migration)

    def of_both(*sorts):
        return [("Product", shard_id, sort) for shard_id in ("acme-1", "acme-10") for sort in sorts]

    assert not comparison.equal
    assert keys(comparison.missing) == [*of_both("1", "3", "8"), ("Order", "acme-3", "one")]
    assert keys(comparison.extra) == of_both("0", "6", "9")
    assert keys(comparison.different) == of_both("5")
    assert comparison.counts == {"missing": 7, "different": 2, "extra": 6}
    assert comparison.summary == "7 missing, 2 different, 6 extra of 15 items, as Product acme-1:0"


@pytest.mark.parametrize(
    "changed",
    [
        {"note": {"S": ""}},
        {"note": {"NULL": True}},
        {"price": {"N": "12345678901234567890123456789012345678"}},
        {"picture": {"B": b"\x00"}},
        {"labels": {"SS": ["a"]}},
        {"details": {"M": {"a": {"L": [{"N": "1"}]}}}},
    ],
    ids=str,
)
def test_the_smallest_difference_is_found_also_in_an_item_of_400_kb(p, migration, changed):
    base = {
        "sku": {"S": "x" * 390_000},
        "price": {"N": "12345678901234567890123456789012345679"},
        "picture": {"B": b"\x01"},
        "labels": {"SS": ["a", "b"]},
        "details": {"M": {"a": {"L": [{"N": "2"}]}}},
    }
    put(p, SOURCE, product("acme-1", "1", **base))
    put(p, TARGET, product("acme-1", "1", **{**base, **changed}))

    assert keys(run(p, migration).different) == [("Product", "acme-1", "1")]


def test_keys_are_ordered_as_dynamodb_orders_them(p, migration):
    sorts = ["a", "Z", "é", "\uffee", "\U0001f3b5", "zz", "日", "~"]
    both(p, *(product("acme-1", sort) for sort in sorts))
    put(p, SOURCE, product("acme-1", "\ue000"))

    comparison = run(p, migration)

    assert keys(comparison.mismatches) == [("Product", "acme-1", "\ue000")]
    assert comparison.items == 9


def test_partitions_of_many_pages_are_compared_to_their_last_item(p, migration):
    large = {"note": {"S": "x" * 300_000}}
    both(p, *(product("acme-2", f"{number}", **large) for number in range(9)))
    put(p, SOURCE, product("acme-2", "9"))

    comparison = run(p, migration)

    assert keys(comparison.mismatches) == [("Product", "acme-2", "9")]


def test_digests_are_those_of_the_items(p, migration):
    items = [product("acme-4", f"{number}", note={"S": f"{number}"}) for number in range(3)]
    both(p, *items)
    expected = PartitionDigest()
    for item in items:
        expected = expected.add(digest(item))

    found = {(each["table"], each["shard_id"]): each for each in run(p, migration).tables}

    assert found["Product", "acme-4"]["source"] == found["Product", "acme-4"]["target"]
    assert found["Product", "acme-4"]["target"] == {"count": 3, "digest": expected.hex}
    assert found["Order", "acme-4"]["source"] == {"count": 0, "digest": "0" * 64}


def test_markers_and_other_tenants_items_of_the_pooled_table_do_not_count(p, migration):
    put(p, SOURCE, product("acme-1", f"{MARKER}m-1#forward#1"), product("acme-1-1", "1"), product("acme-22", "1"))

    assert run(p, migration).equal


def test_a_foreign_item_in_a_table_of_the_tenant_s_own_is_found_in_both_directions(p, migration):
    put(p, TARGET, product("acme-2-1", "another's"), product("acme-11", "nobody's"))

    for direction in Direction:
        comparison = run(p, migration, direction)
        assert sorted(keys(comparison.foreign)) == [
            ("Product", "acme-11", "nobody's"),
            ("Product", "acme-2-1", "another's"),
        ]
        assert not comparison.equal
        assert not comparison.mismatches
        assert "2 foreign" in comparison.summary


def test_an_item_with_another_s_tenant_id_is_foreign(p, migration):
    both(p, product("acme-1", "1", tenantId={"S": "acme-2"}), product("acme-1", "2", tenantId={"S": "acme"}))

    comparison = run(p, migration, Direction.REVERSE)

    assert keys(comparison.foreign) == [("Product", "acme-1", "1")]
    assert not comparison.equal


def test_foreign_items_are_looked_for_again(p, migration):
    foreign = product("acme-2-1", "another's")
    put(p, TARGET, foreign)
    comparison = run(p, migration)
    assert recheck(p, migration, Direction.FORWARD, comparison).foreign_count == 1

    p.clients.dynamodb.delete_item(TableName=TARGET, Key=foreign)

    assert recheck(p, migration, Direction.FORWARD, comparison).equal


def test_in_reverse_the_target_is_the_source(p, migration):
    put(p, TARGET, product("acme-1", "1"))

    comparison = run(p, migration, Direction.REVERSE)

    assert keys(comparison.missing) == [("Product", "acme-1", "1")]


def test_looking_again_tells_the_same_as_comparing_again(p, migration):
    both(p, *(product("acme-1", f"{number}") for number in range(6)))
    put(p, SOURCE, product("acme-1", "0", note={"S": "new"}), product("acme-1", "8"), product("acme-2", "1"))
    put(p, TARGET, product("acme-1", "9"), product("acme-1", "5", note={"S": "old"}))
    before = run(p, migration)
    put(p, TARGET, product("acme-1", "0", note={"S": "new"}), product("acme-2", "1"))
    p.clients.dynamodb.delete_item(TableName=TARGET, Key=product("acme-1", "9"))
    p.clients.dynamodb.delete_item(TableName=SOURCE, Key=product("acme-1", "5"))

    after = recheck(p, migration, Direction.FORWARD, before)

    assert keys(after.missing) == [("Product", "acme-1", "8")]
    assert keys(after.extra) == [("Product", "acme-1", "5")]
    assert after.counts == {"missing": 1, "different": 0, "extra": 1}
    assert after.tables == run(p, migration).tables
    assert after.at_ms == before.at_ms


@pytest.mark.parametrize("way", ["as it is", "read from its JSON", "with few remembered"])
def test_looking_again_ends_equal_when_all_is_replayed(p, migration, monkeypatch, way):
    if way == "with few remembered":
        monkeypatch.setattr(verify, "_MOST_KEPT", 3)
    fill(p, SOURCE, "acme-1", 40)
    before = run(p, migration)
    assert before.counts["missing"] == 40
    if way == "read from its JSON":
        before = Comparison.from_json(json.loads(json.dumps(before.to_json())))
    fill(p, TARGET, "acme-1", 40)

    after = recheck(p, migration, Direction.FORWARD, before)

    assert after.equal
    assert after.items == 40
    assert after.tables == run(p, migration).tables


def test_only_what_differed_is_read_again(p, migration, controls):
    both(p, *(product("acme-1", f"{number}") for number in range(3)))
    put(p, SOURCE, product("acme-1", "1", note={"S": "changed"}))
    comparison = run(p, migration)
    before = controls.requests()

    recheck(p, migration, Direction.FORWARD, comparison)

    after = controls.requests()
    assert after["BatchGetItem"] - before.get("BatchGetItem", 0) == 2
    assert after["Query"] == before["Query"]


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "Query", "code": "ProvisionedThroughputExceededException", "times": 4},
        {"operation": "Query", "drop": "answer", "times": 4},
        {"operation": "BatchGetItem", "unprocessed": 0.7, "times": 6},
        {"operation": "BatchGetItem", "code": "ThrottlingException", "times": 4},
        {"operation": "Scan", "code": "InternalServerError", "times": 4},
    ],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
def test_a_fault_that_passes_hides_no_difference(p, migration, controls, fault):
    fill(p, SOURCE, "acme-1", 30)
    fill(p, TARGET, "acme-1", 28)
    put(p, TARGET, product("acme-1", "000003"))
    controls.fault(**fault)

    comparison = recheck(p, migration, Direction.FORWARD, run(p, migration))

    assert comparison.counts == {"missing": 2, "different": 1, "extra": 0}
    assert comparison.tables == run(p, migration).tables


def test_json_tells_few_keys_and_all_counts(p, migration):
    fill(p, SOURCE, "acme-1", 40)

    told = json.loads(json.dumps(run(p, migration).to_json()))

    assert (len(told["missing"]), told["missing_count"]) == (20, 40)
    assert (told["different_count"], told["extra_count"], told["foreign_count"]) == (0, 0, 0)
    assert (told["items"], told["equal"]) == (40, False)
    assert told["at_ms"] > 0
    assert Comparison.from_json(told).to_json() == told


def test_items_that_the_model_does_not_allow_are_told_on_the_way_there_and_bar_no_way_back(p, migration):
    both(p, product("acme-1", "1", weight={"N": "1"}), product("acme-2", "2", weight={"N": "2"}, sku={"N": "3"}))

    with pytest.raises(
        SchemaDrift,
        match=r"Product\.sku: expected S, found N in 1 items.*Product\.weight: expected no such attribute.*2 items",
    ):
        run(p, migration)
    assert run(p, migration, Direction.REVERSE).equal


def test_a_table_that_is_gone_is_told(p, migration):
    p.clients.dynamodb.delete_table(TableName="Order-acme")

    with pytest.raises(NotVerified, match="Order-acme"):
        run(p, migration)


def test_progress_is_told(p, migration):
    fill(p, SOURCE, "acme-1", 5)
    said = []
    run(p, migration, say=said.append)
    assert said[-1] == "5 items compared"


def test_outside_the_fence_the_source_is_read_no_faster_than_allowed(p, migration):
    slow = replace(migration, request={"read_units": 10.0})
    large = {"note": {"S": "x" * 200_000}}
    put(p, SOURCE, *(product("acme-1", f"{number}", **large) for number in range(12)))  # some 600 units
    slept = []
    waiting = replace(p, clock=lambda: 5000 + sum(slept), sleep=slept.append)

    run(waiting, slow)
    assert sum(slept) > 20

    slept.clear()
    run(waiting, replace(slow, state=State.FENCED))
    assert slept == []


def test_memory_does_not_grow_with_the_items(p, migration, monkeypatch):
    monkeypatch.setattr(verify, "_THREADS", 1)
    large = {"note": {"S": "x" * 100_000}}

    def peak():
        tracemalloc.start()
        run(p, migration)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    for shard_id in shard_ids("acme")[:1]:
        both(p, *(product(shard_id, f"{number:03}", **large) for number in range(20)))
    few = peak()
    for shard_id in shard_ids("acme")[1:6]:
        both(p, *(product(shard_id, f"{number:03}", **large) for number in range(20)))
    assert len(everything(p, SOURCE)) == 120

    assert peak() < 1.5 * few
