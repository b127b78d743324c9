"""Digests and sizes of items: equal for equal items, different for different ones, as DynamoDB counts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.tenants.items import PartitionDigest, digest, size
from tests.include.tenants.moving import AWKWARD, product, put

NUMBERS = st.one_of(
    st.integers(-(10**37), 10**37).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=8).map(str),
)
SCALARS = st.one_of(
    st.fixed_dictionaries({"S": st.text(max_size=20)}),
    st.fixed_dictionaries({"N": NUMBERS}),
    st.fixed_dictionaries({"B": st.binary(max_size=20)}),
    st.fixed_dictionaries({"BOOL": st.booleans()}),
    st.just({"NULL": True}),
    st.fixed_dictionaries({"SS": st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True)}),
    st.fixed_dictionaries({"BS": st.lists(st.binary(max_size=5), min_size=1, max_size=4, unique=True)}),
    st.fixed_dictionaries({"NS": st.lists(st.integers(-999, 999).map(str), min_size=1, max_size=4, unique=True)}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"L": st.lists(inner, max_size=4)}),
        st.fixed_dictionaries({"M": st.dictionaries(st.text(max_size=5), inner, max_size=4)}),
    ),
    max_leaves=12,
)
ITEMS = st.dictionaries(st.text(max_size=8), VALUES, max_size=6)


def shuffled(item, random):
    """The same item, written down in another order."""
    entries = list(item.items())
    random.shuffle(entries)
    return {name: _shuffled_value(value, random) for name, value in entries}


def _shuffled_value(value, random):
    ((kind, content),) = value.items()
    if kind == "M":
        return {"M": shuffled(content, random)}
    if kind == "L":
        return {"L": [_shuffled_value(each, random) for each in content]}
    if kind in ("SS", "NS", "BS"):
        return {kind: random.sample(content, len(content))}
    return value


@given(ITEMS, st.randoms(use_true_random=False))
def test_the_order_of_attributes_and_of_members_of_sets_does_not_matter(item, random):
    assert digest(shuffled(item, random)) == digest(item)


def meaning(value):
    """A value as plain data that is equal only for equal values: what `digest` must tell apart, told in another way."""
    ((kind, content),) = value.items()
    if kind == "M":
        return kind, frozenset((name, meaning(each)) for name, each in content.items())
    if kind == "L":
        return kind, tuple(meaning(each) for each in content)
    if kind in ("SS", "BS"):
        return kind, frozenset(content)
    if kind == "NS":
        return kind, frozenset(Decimal(each) for each in content)
    return kind, Decimal(content) if kind == "N" else content


@given(ITEMS, ITEMS)
def test_items_have_the_same_digest_exactly_if_they_are_equal(one, other):
    assert (digest(one) == digest(other)) == (meaning({"M": one}) == meaning({"M": other}))


@given(ITEMS, st.text(max_size=8), VALUES)
def test_a_change_of_one_attribute_changes_the_digest(item, name, value):
    changed = {**item, name: value}

    assert (digest(item) == digest(changed)) == (meaning({"M": item}) == meaning({"M": changed}))


@pytest.mark.parametrize(
    ("texts", "equal"),
    [
        (("1", "1.0", "1E0", "1e+0", "0.1E1", "10E-1", "+1", "01"), True),
        (("0", "-0", "0.0", "0E5", "-0.00"), True),
        (("100", "1E2", "1.00E+2"), True),
        (("-1.50", "-15E-1"), True),
        (("12345678901234567890123456789012345678", "12345678901234567890123456789012345679"), False),
        (("1", "-1"), False),
        (("1", "10"), False),
        (("0.1", "0.01"), False),
        (("1E125", "1E-130"), False),
    ],
)
def test_a_number_is_its_value_with_all_of_its_38_digits(texts, equal):
    digests = {digest({"price": {"N": text}}) for text in texts}

    assert len(digests) == (1 if equal else len(texts))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": {"S": "1"}}, {"a": {"N": "1"}}),
        ({"a": {"S": "x"}}, {"a": {"B": b"x"}}),
        ({"a": {"S": ""}}, {}),
        ({"a": {"NULL": True}}, {"a": {"BOOL": True}}),
        ({"a": {"L": []}}, {"a": {"M": {}}}),
        ({"a": {"SS": ["x", "y"]}}, {"a": {"L": [{"S": "x"}, {"S": "y"}]}}),
        ({"a": {"SS": ["xy", "z"]}}, {"a": {"SS": ["x", "yz"]}}),
        ({"a": {"L": [{"S": "x"}, {"S": "y"}]}}, {"a": {"L": [{"S": "y"}, {"S": "x"}]}}),
        ({"a": {"S": "\u00e9"}}, {"a": {"S": "e\u0301"}}),
        ({"a": {"S": "b"}, "c": {"S": "d"}}, {"a": {"S": "b"}, "cd": {"S": ""}}),
    ],
)
def test_what_dynamodb_tells_apart_is_told_apart(one, other):
    assert digest(one) != digest(other)


def test_a_partition_is_told_by_its_items_whatever_their_order_and_sees_an_item_twice():
    one, two, three = (digest({"a": {"N": str(number)}}) for number in range(3))
    forwards = PartitionDigest().add(one).add(two).add(three)

    assert forwards == PartitionDigest().add(three).merge(PartitionDigest().add(two).add(one))
    assert forwards.count == 3
    assert forwards.remove(two) == PartitionDigest().add(one).add(three)
    assert forwards.add(three).add(three).hex != forwards.hex
    assert len(PartitionDigest().hex) == 64


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"shardId": {"S": "acme-1"}}, 7 + 6),
        ({"é": {"S": "日"}}, 2 + 3),
        ({"a": {"B": b"123"}, "b": {"NULL": True}, "c": {"BOOL": False}}, 4 + 2 + 2),
        ({"a": {"L": []}}, 1 + 3),
        ({"a": {"L": [{"S": "x"}, {"S": "y"}]}}, 1 + 3 + 2 * 2),
        ({"a": {"M": {"b": {"S": "x"}}}}, 1 + 3 + 1 + 1 + 1),
        ({"a": {"SS": ["x", "yz"]}}, 1 + 3),
    ],
)
def test_a_size_is_what_dynamodb_documents(item, expected):
    assert size(item) == expected


@given(NUMBERS)
def test_a_number_is_never_smaller_than_documented(text):
    digits = len(str(abs(int(Decimal(text).scaleb(8)))).strip("0"))

    assert size({"a": {"N": text}}) >= 1 + (digits + 1) // 2 + 1


def test_awkward_items_have_the_same_digest_when_they_come_back(portability):
    items = [product("acme-1", name, **attributes) for name, attributes in AWKWARD.items()]
    put(portability, "Product-pooled", *items)

    back = portability.clients.dynamodb.query(
        TableName="Product-pooled",
        KeyConditionExpression="shardId = :shard",
        ExpressionAttributeValues={":shard": {"S": "acme-1"}},
    )["Items"]

    assert {digest(item) for item in back} == {digest(item) for item in items}
    assert len(back) == len(AWKWARD)
