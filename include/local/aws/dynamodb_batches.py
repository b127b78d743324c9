"""The limits of DynamoDB's BatchWriteItem in moto, as AWS documents them.

moto takes more than 25 requests, and two of one key if one of them deletes or their items differ; it refuses the same key in two tables.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.responses import DynamoHandler

from include.local.aws.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_REQUESTS: Final = 25


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    wrap(DynamoHandler, "batch_write_item", _checked)


def _checked(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def batch_write_item(handler: Any) -> Any:
        asked = handler.body["RequestItems"]
        count = sum(len(requests) for requests in asked.values())
        if not all(asked.values()) or not 1 <= count <= MOST_REQUESTS:
            raise MockValidationException(
                f"1 validation error detected: Value at 'requestItems' failed to satisfy constraint: expected 1 to {MOST_REQUESTS} "
                f"requests, found {count}"
            )
        for name, requests in asked.items():
            names = handler.dynamodb_backend.get_table(name).table_key_attrs
            keys = [_key(request, names) for request in requests]
            if len(set(keys)) < len(keys):
                raise MockValidationException("Provided list of item keys contains duplicates")
        handler._contains_duplicates = lambda _: False
        return write(handler)

    return batch_write_item


def _key(request: dict[str, Any], names: list[str]) -> str:
    (body,) = request.values()
    there = body.get("Item") or body.get("Key") or {}
    if not set(names) <= set(there):
        raise MockValidationException("The provided key element does not match the schema")
    return json.dumps([there[name] for name in names], default=str)
