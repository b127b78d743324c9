"""Items that the target's model does not allow are found, however many pages there are, and those that it does are left alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.tenants.drift import Drift, Unexpected, find_drift
from include.tenants.keys import MARKER
from include.tenants.saas import ORDERS, PRODUCTS
from tests.include.tenants.moving import AWKWARD, begin, fill, product, put


@pytest.fixture
def migration(portability):
    return begin(portability)


def test_every_type_that_the_model_allows_passes(portability, migration):
    put(portability, "Product-pooled", *(product("acme-1", name, **each) for name, each in AWKWARD.items()))
    put(portability, "Product-pooled", product("acme-1", "text", price={"S": "1.50"}, note={"NULL": True}))

    assert find_drift(portability, migration) == []


def test_an_unknown_attribute_and_another_type_are_found_with_how_many_and_an_example(portability, migration):
    put(
        portability,
        "Product-pooled",
        product("acme-1", "a", weight={"N": "1"}),
        product("acme-3", "b", weight={"N": "2"}, sku={"L": []}),
        product("acme-3", "c", weight={"S": "3"}),
    )
    put(portability, "Order-pooled", {"shardId": {"S": "acme-10"}, "orderId": {"S": "o"}, "sku": {"S": "x"}})

    found = find_drift(portability, migration)

    assert found == [
        Unexpected("Order", "sku", "S", (), 1, ("acme-10", "o")),
        Unexpected("Product", "sku", "L", ("S",), 1, ("acme-3", "b")),
        Unexpected("Product", "weight", "N", (), 2, ("acme-1", "a")),
        Unexpected("Product", "weight", "S", (), 1, ("acme-3", "c")),
    ]
    assert str(found[1]) == "Product.sku: expected S, found L in 1 items, as in acme-3:b"
    assert "no such attribute" in str(found[2])
    assert json.loads(json.dumps(found[0].to_json()))["example"] == ["acme-10", "o"]


def test_other_tenants_items_and_markers_are_not_looked_at(portability, migration):
    put(
        portability,
        "Product-pooled",
        product("acme-1-1", "a", weight={"N": "1"}),
        product("acme-1", f"{MARKER}m-1#forward#1", weight={"N": "1"}),
    )

    assert find_drift(portability, migration) == []


def test_the_last_item_of_the_last_page_is_looked_at(portability, migration):
    large = {"note": {"S": "x" * 300_000}}
    put(portability, "Product-pooled", *(product("acme-10", f"{number}", **large) for number in range(8)))
    put(portability, "Product-pooled", product("acme-10", "9", weight={"N": "1"}))
    fill(portability, "Product-pooled", "acme-2", 30)

    (found,) = find_drift(portability, migration)

    assert found.example == ("acme-10", "9")


def test_the_source_is_read_no_faster_than_allowed(portability, migration):
    large = {"note": {"S": "x" * 300_000}}
    put(portability, "Product-pooled", *(product("acme-1", f"{number}", **large) for number in range(8)))
    slept = []
    p = replace(portability, clock=lambda: 5000.0 + sum(slept), sleep=slept.append)

    find_drift(p, replace(migration, request={"read_units": 10.0}))

    assert sum(slept) > 5


def test_two_findings_are_one_when_they_are_merged():
    one, other = Drift(), Drift()
    one.see(PRODUCTS, product("acme-1", "a", weight={"N": "1"}))
    other.see(PRODUCTS, product("acme-2", "b", weight={"N": "1"}))
    other.see(ORDERS, {"shardId": {"S": "acme-1"}, "orderId": {"S": "o"}, "weight": {"N": "1"}})
    one.merge(other)

    assert [(each.table, each.count, each.example) for each in one.found] == [
        ("Order", 1, ("acme-1", "o")),
        ("Product", 2, ("acme-1", "a")),
    ]
