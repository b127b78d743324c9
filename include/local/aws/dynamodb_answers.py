"""DynamoDB's answers written as JSON at once.

moto looks up each attribute of each item in the service's model, with all names that it might have been given; four fifths of a Query's or
a GetRecords' time. The answers of these operations are in AWS's words already. It also lists the methods of its handlers for each request.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from moto.core import responses
from moto.dynamodb.responses import DynamoHandler
from moto.dynamodbstreams.responses import DynamoDBStreamsHandler

from include.local.aws.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS: Final = frozenset(
    {
        "BatchGetItem",
        "BatchWriteItem",
        "DeleteItem",
        "GetItem",
        "GetRecords",
        "PutItem",
        "Query",
        "Scan",
        "TransactGetItems",
        "TransactWriteItems",
        "UpdateItem",
    }
)


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    for handler in (DynamoHandler, DynamoDBStreamsHandler):
        wrap(handler, "serialized", _at_once)
    wrap(responses, "method_names_from_class", cache)


def _at_once(serialized: Callable[..., Any]) -> Callable[..., Any]:
    def answer(handler: Any, result: Any) -> Any:
        document = result.result
        if handler._get_action() not in OPERATIONS or not isinstance(document, dict):
            return serialized(handler, result)
        told = {name: value for name, value in document.items() if value is not None}
        headers = {"Content-Type": "application/x-amz-json-1.0", **handler.response_headers}
        return 200, headers, json.dumps(told, default=_text)

    return answer


def _text(value: Any) -> Any:
    """What JSON has no word for, as AWS's protocol has it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"expected something that an item has, found {value!r}")
