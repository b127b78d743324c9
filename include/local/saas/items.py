"""The items that tenants begin with: the same for the same tenant, number and seed.

``sku`` and ``orderName`` begin with ``{tenantId}/``, so that an item that turns up at another tenant's is known for what it is: see
`told_owner`.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any, Final

from include.local.saas.api import NEW_SUFFIXES
from include.tenants.saas import ORDERS, PARTITION_KEY, PRODUCTS, DataTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARKS: Final = {PRODUCTS.prefix: "sku", ORDERS.prefix: "orderName"}
"""The attribute of a table's items that tells whose they are."""
_NAMES: Final = ("Anvil", "Ladder", "Compass", "Lantern", "Kettle", "Barometer", "Trowel", "Winch")
_CATEGORIES: Final = ("tools", "garden", "kitchen", "travel", "office")
_MOST_BYTES: Final = 405_000
"""The stand-in's limit of an item; DynamoDB's is 409,600."""
_DEEPEST: Final = 31
"""Below an attribute: DynamoDB's limit is 32 levels."""


def seeded_items(
    tenant_id: str, count: int, *, awkward: bool = False, seed: int = 0
) -> Iterator[tuple[DataTable, dict[str, Any]]]:
    """A tenant's items in DynamoDB's JSON; two of three are products.

    Args:
        tenant_id: whose.
        count: how many.
        awkward: with all that DynamoDB allows, not only what a shop writes.
        seed: another one gives others.
    """
    chance = random.Random(f"{seed}/{tenant_id}")
    for number in range(count):
        table = ORDERS if number % 3 == 2 else PRODUCTS
        item = _order(tenant_id, number, chance) if table is ORDERS else _product(tenant_id, number, chance)
        item[PARTITION_KEY] = {"S": f"{tenant_id}-{chance.choice(NEW_SUFFIXES)}"}
        item[table.sort_key] = {"S": uuid.UUID(int=chance.getrandbits(128), version=4).hex}
        if awkward:
            _make_awkward(table, item, number)
        yield table, item


def told_owner(item: Mapping[str, Any]) -> str | None:
    """The tenant that an item, in Python values, says it was made for; None if it says nothing."""
    mark = next((item[name] for name in MARKS.values() if name in item), "")
    tenant_id, slash, _ = str(mark).partition("/")
    return tenant_id if slash else None


def _product(tenant_id: str, number: int, chance: random.Random) -> dict[str, Any]:
    return {
        "sku": {"S": f"{tenant_id}/{number:06}"},
        "name": {"S": f"{chance.choice(_NAMES)} {number}"},
        "price": {"N": f"{chance.randrange(100, 100_000)}.{chance.randrange(1, 10)}"},
        "category": {"S": chance.choice(_CATEGORIES)},
    }


def _order(tenant_id: str, number: int, chance: random.Random) -> dict[str, Any]:
    lines = [
        {
            "M": {
                "productId": {"S": f"{chance.getrandbits(64):016x}"},
                "price": {"N": str(chance.randrange(1, 5_000))},
                "quantity": {"N": str(chance.randrange(1, 9))},
            }
        }
        for _ in range(chance.randrange(1, 4))
    ]
    return {"orderName": {"S": f"{tenant_id}/{number:06}"}, "orderProducts": {"L": lines}}


def _make_awkward(table: DataTable, item: dict[str, Any], number: int) -> None:
    """Give an item, by its number, something that a careless copy would change."""
    extras, sort_key = _PRODUCT_EXTRAS if table is PRODUCTS else _ORDER_EXTRAS, item[table.sort_key]["S"]
    item |= extras[number // 3 % len(extras)]
    item[table.sort_key] = {"S": _SORT_KEYS[number // 3 % len(_SORT_KEYS)].format(sort_key)}
    if number in _LARGE:
        item |= _LARGE[number]
    if number % 7 == 0:
        for name in ("category", "orderProducts"):
            item.pop(name, None)  # sparse


def _deep() -> dict[str, Any]:
    value: dict[str, Any] = {"S": "the bottom"}
    for level in range(_DEEPEST - 1):
        value = {"L": [value]} if level % 2 else {"M": {"below": value}}
    return {"M": {"below": value}}


_SORT_KEYS: Final = (
    "{}",
    "🎪-{}",
    "ключ-{}",
    "a b/c%20d?e=f&g#{}",
    "with:colon:{}",
    "e\u0301-{}",  # not in Unicode's composed form: an é that is another key than é
    "\u00e9-{}",
    "0{}",
    "\u2028line\n\ttab-{}",
    "ZZZ" * 300 + "{}",
)
_PRODUCT_EXTRAS: Final[tuple[dict[str, Any], ...]] = (
    {"name": {"S": ""}},
    {"price": {"N": "12345678901234567890123456789012345678"}},
    {"price": {"N": "-0.00000000000000000000000000000000000012345678901234567890123456789012345678"}},
    {"price": {"N": "9.9999999999999999999999999999999999999E+125"}},
    {"price": {"N": "1E-130"}},
    {"price": {"S": "12.50"}},
    {"price": {"N": "0"}, "discontinued": {"BOOL": False}},
    {"discontinued": {"BOOL": True}, "note": {"NULL": True}},
    {"discontinued": {"NULL": True}, "details": {"NULL": True}},
    {"labels": {"SS": ["", "naïve", "🎈", "zebra", "Zebra"]}},
    {"sizes": {"NS": ["1", "1.5", "-3", "12345678901234567890123456789012345678"]}},
    {"picture": {"B": bytes(range(256))}},
    {"picture": {"B": b""}},
    {"pictures": {"BS": [b"\x00", b"\xff\xfe", b"plain"]}},
    {"related": {"L": []}},
    {"related": {"L": [{"S": ""}, {"N": "1"}, {"NULL": True}, {"BOOL": True}, {"L": []}, {"M": {}}, {"B": b"\x00"}]}},
    {"details": {"M": {}}},
    {"details": _deep()},
    {
        "details": {
            "M": {"a.b": {"S": "dot"}, "#": {"S": "hash"}, ":v": {"S": "colon"}, "🎠": {"N": "1"}, "S": {"S": ""}}
        }
    },
    {"note": {"S": "\u0000 \u200d \u202e right to left, \U0001f9d1\u200d\U0001f680, \ufeff"}},
)
_ORDER_EXTRAS: Final[tuple[dict[str, Any], ...]] = (
    {"paid": {"BOOL": True}},
    {"paid": {"NULL": True}, "note": {"S": ""}},
    {"orderProducts": {"L": []}},
    {"details": {"M": {"total": {"N": "0.10"}, "codes": {"SS": ["b", "a"]}, "counts": {"NS": ["2", "10"]}}}},
    {"details": {"NULL": True}},
    {"note": {"S": "注文"}},
    {"note": {"NULL": True}},
)
_LARGE: Final[dict[int, dict[str, Any]]] = {
    30: {"picture": {"B": b"\xa5" * ((_MOST_BYTES - 4_000) * 3 // 4)}},  # the stand-in counts its Base64
    60: {"note": {"S": "🎡" * ((_MOST_BYTES - 3_000) // 4)}},
    62: {"orderProducts": {"L": [{"M": {"productId": {"S": "x" * 1_000}, "quantity": {"N": "1"}}}] * 390}},
}
"""A few items near the limit, by number."""
