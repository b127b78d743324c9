"""Two ways to put many items into the AWS stand-in. Both leave the same items."""

from __future__ import annotations

import base64
from itertools import batched
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Item = dict[str, Any]
_BATCH: Final = 25
"""DynamoDB's limit of a batch of writes; of bytes, 16 MiB."""


class Place(Protocol):
    """Puts items into tables."""

    def __call__(self, dynamodb: Any, items: Iterable[tuple[str, Item]]) -> int:
        """Put (table name, item) pairs; gives how many."""


def place_by_batches(dynamodb: Any, items: Iterable[tuple[str, Item]]) -> int:
    """By DynamoDB's batch writes."""
    count = 0
    for chunk in batched(items, _BATCH):
        requests: dict[str, list[dict[str, Any]]] = {}
        for name, item in chunk:
            requests.setdefault(name, []).append({"PutRequest": {"Item": item}})
        while requests:
            requests = dynamodb.batch_write_item(RequestItems=requests)["UnprocessedItems"]
        count += len(chunk)
    return count


def place_directly(dynamodb: Any, items: Iterable[tuple[str, Item]]) -> int:
    """Into moto's tables, where they are in this process; ten times as fast. Their streams must be off.

    Args:
        dynamodb: makes no difference.
        items: valid ones: nothing is checked.
    """
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.dynamodb.models import dynamodb_backends
    from moto.dynamodb.models.dynamo_type import DynamoType
    from moto.dynamodb.models.dynamo_type import Item as Row

    from include.local.saas.clients import REGION

    backend = dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION]
    count = 0
    for name, item in items:
        table = backend.get_table(name)
        hash_key, range_key = (DynamoType(item[key]) for key in table.table_key_attrs)
        table.items[hash_key][range_key] = Row(hash_key, range_key, _on_the_wire(item))
        count += 1
    return count


def _on_the_wire(item: Mapping[str, Any]) -> Item:
    """An item as a request brings it: bytes in Base64."""
    return {name: _value(value) for name, value in item.items()}


def _value(value: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, content),) = value.items()
    if kind == "B":
        content = base64.b64encode(content).decode()
    elif kind == "BS":
        content = [base64.b64encode(each).decode() for each in content]
    elif kind == "L":
        content = [_value(each) for each in content]
    elif kind == "M":
        content = _on_the_wire(content)
    return {kind: content}
