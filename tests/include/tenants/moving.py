"""A tenant with items, and a migration of them, without the steps around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.local.saas.tables import make_data_tables
from include.tenants.saas import DATA_TABLES, POOLED, PRODUCTS, DataTable

if TYPE_CHECKING:
    from include.tenants.portability import Portability
    from include.tenants.store import Migration

AWKWARD: dict[str, dict[str, Any]] = {
    "unicode ✓ \U0001f3b5 \u00e9 e\u0301": {"name": {"S": "日本語 \u0001\ud7ff"}, "sku": {"S": ""}},
    "numbers": {
        "sizes": {"NS": ["12345678901234567890123456789012345678", "-0.5", "1E+100"]},
        "price": {"N": "1E-130"},
    },
    "binary": {"picture": {"B": bytes(range(256))}, "pictures": {"BS": [b"", b"\x00"]}},
    "nested": {
        "details": {"M": {" ": {"NULL": True}, "list": {"L": [{"L": []}, {"M": {}}, {"BOOL": False}, {"N": "0"}]}}},
        "related": {"L": []},
    },
    "large": {"note": {"S": "x" * 404_900}},
    "sparse": {},
}
"""Attributes of products that are easy to get wrong, by product id."""


def begin(p: Portability, tenant_id: str = "acme", *, migration_id: str = "m-1", to_silo: bool = True) -> Migration:
    """A migration of a tenant whose tables are there."""
    make_data_tables(p.clients.dynamodb, POOLED)
    make_data_tables(p.clients.dynamodb, tenant_id)
    ways = [
        {
            "prefix": table.prefix,
            "source": f"{table.prefix}-{POOLED if to_silo else tenant_id}",
            "target": f"{table.prefix}-{tenant_id if to_silo else POOLED}",
        }
        for table in DATA_TABLES
    ]
    return p.store.plan(migration_id, tenant_id, {"read_units": 1000}, {"tables": ways}, by="a test")


def product(shard_id: str, product_id: str, **attributes: Any) -> dict[str, Any]:
    return {"shardId": {"S": shard_id}, "productId": {"S": product_id}, **attributes}


def put(p: Portability, table_name: str, *items: dict[str, Any]) -> None:
    for item in items:
        p.clients.dynamodb.put_item(TableName=table_name, Item=item)


def fill(p: Portability, table_name: str, shard_id: str, count: int, table: DataTable = PRODUCTS) -> None:
    """Many items at once."""
    items = [
        {"shardId": {"S": shard_id}, table.sort_key: {"S": f"{number:06}"}, "note": {"S": f"item {number}"}}
        for number in range(count)
    ]
    for start in range(0, count, 25):
        requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        p.clients.dynamodb.batch_write_item(RequestItems={table_name: requests})


def everything(p: Portability, table_name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """All items of a table by their keys."""
    sort = "productId" if table_name.startswith(PRODUCTS.prefix) else "orderId"
    return {
        (item["shardId"]["S"], item[sort]["S"]): item
        for page in p.clients.dynamodb.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True)
        for item in page["Items"]
    }
