"""DynamoDB's transactions in moto, as AWS documents them and at a cost that grows with the items they touch.

moto copies each table that a transaction names, so that one element costs as much as the table has items. Restoring the copies also undoes
what others' requests hold on to, and two elements are seen to be of one item only after the first was written. Here all conditions are
looked at before anything is written (no two elements are of one item, so none sees another's write), and what was written is put back
item by item if a later element can't be.

What moto doesn't do at all, and AWS does:

- ``ClientRequestToken``: the same request again within ten minutes writes nothing; another one with the same token is refused. boto3 sends
  a token with each transaction, so its own second tries rely on it.
- An element that can't be done is a reason ``ValidationError`` of the cancelled transaction.
- ``TransactGetItems`` takes 100 elements, and a ``ProjectionExpression`` each.
- An update that fails half-way leaves nothing behind, and one that makes an item is one record of the stream, not two.
- ``size()`` of an attribute that isn't there makes a condition false; moto breaks.
- A value that no expression uses is refused.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from moto.dynamodb import comparisons, responses
from moto.dynamodb.exceptions import (
    ConditionalCheckFailed,
    DuplicateUpdateExpression,
    DynamodbException,
    InvalidConditionExpression,
    InvalidUpdateExpression,
    MockValidationException,
    MultipleTransactionsException,
    ProvidedKeyDoesNotExist,
    TooManyClauses,
    TooManyTransactionsException,
    TransactionCanceledException,
    TransactWriteSingleOpException,
)
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.parsing import expressions

from include.local.aws.clock import CLOCK
from include.local.aws.wrapping import replace, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from moto.dynamodb.models.dynamo_type import DynamoType, Item

MOST_ELEMENTS: Final = 100
MOST_BYTES: Final = 4 * 1024 * 1024
TOKEN_SECONDS: Final = 600.0
_TOKENS: Final = "transaction_tokens"
_expressions: Any = expressions  # moto declares no types for it
_STATIC: Final = (
    InvalidUpdateExpression,
    InvalidConditionExpression,
    DuplicateUpdateExpression,
    TooManyClauses,
    MultipleTransactionsException,
)
"""What is wrong with a request whatever the items are: refused as ``ValidationException``, not as a cancelled transaction."""


class IdempotentParameterMismatch(DynamodbException):
    """A token was used again for another request."""

    def __init__(self) -> None:
        super().__init__(
            "com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException",
            "The request uses the same client token as a previous, but non-identical request",
        )


@dataclass(frozen=True)
class Element:
    """One element of a transaction.

    Attributes:
        kind: ``Put``, ``Update``, ``Delete`` or ``ConditionCheck``.
        request: what it says.
        table: the table it is of.
        hash_key: value of the item's partition key.
        range_key: value of the item's sort key.
    """

    kind: str
    request: Mapping[str, Any]
    table: Any
    hash_key: DynamoType
    range_key: DynamoType | None

    @classmethod
    def of(cls, backend: DynamoDBBackend, document: Mapping[str, Any]) -> Element:
        """Read an element."""
        if len(document) != 1:
            raise TransactWriteSingleOpException
        kind, request = next(iter(document.items()))
        table = backend.get_table(request["TableName"])
        key = request["Item"] if kind == "Put" else request["Key"]
        if kind != "Put" and len(key) != len(table.table_key_attrs):
            raise ProvidedKeyDoesNotExist
        return cls(kind, request, table, *backend.get_keys_value(table, key))

    @property
    def item(self) -> Item | None:
        """The item as it is now."""
        found: Item | None = self.table.get_item(self.hash_key, self.range_key)
        return found

    def refusal(self) -> tuple[str, str, dict[str, Any] | None] | None:
        """Why it can't be done: code, message and the item if it was asked for."""
        condition = comparisons.get_filter_expression(
            self.request.get("ConditionExpression"),
            self.request.get("ExpressionAttributeNames"),
            self.request.get("ExpressionAttributeValues"),
        )
        item = self.item
        if condition.expr(item):
            return None
        wanted = item is not None and self.request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        error = ConditionalCheckFailed()
        return "ConditionalCheckFailed", error.message, item.to_json()["Attributes"] if item and wanted else None

    def write(self, backend: Any) -> None:
        """Do it; its condition holds."""
        if self.kind == "Put":
            self.table.put_item(self.request["Item"], overwrite=True)
        elif self.kind == "Delete":
            self.table.delete_item(self.hash_key, self.range_key)
        elif self.kind == "Update":
            backend.update_item(
                self.table.name,
                self.request["Key"],
                update_expression=self.request["UpdateExpression"],
                expression_attribute_names=self.request.get("ExpressionAttributeNames"),
                expression_attribute_values=self.request.get("ExpressionAttributeValues"),
            )


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    replace(DynamoDBBackend, "transact_write_items", transact_write_items)
    wrap(DynamoDBBackend, "get_keys_value", _keys)
    wrap(DynamoDBBackend, "update_item", _update_whole)
    wrap(responses.DynamoHandler, "transact_write_items", _once_per_token)
    wrap(responses.DynamoHandler, "transact_get_items", _projected)
    responses.TRANSACTION_MAX_ITEMS = MOST_ELEMENTS
    replace(comparisons.FuncSize, "expr", _size)


def transact_write_items(backend: DynamoDBBackend, documents: Sequence[Mapping[str, Any]]) -> None:
    """Do all elements or none."""
    if len(documents) > MOST_ELEMENTS:
        raise TooManyTransactionsException
    found = [_tried(partial(Element.of, backend, document)) for document in documents]
    _check_distinct([element for element, _ in found if element is not None])
    checked = [(None, refusal) if element is None else _tried(element.refusal) for element, refusal in found]
    refusals = [answer or refusal for answer, refusal in checked]
    if any(refusals):
        raise _cancelled(refusals)
    elements = [element for element, _ in found if element is not None]
    before = [copy.deepcopy(element.item) for element in elements]
    streams = {id(element.table): element.table.stream_shard for element in elements}
    with _silent({id(element.table): element.table for element in elements}.values()):
        refusals = [None] * len(elements)
        for position, element in enumerate(elements):
            _, refusals[position] = _undone_on_error(partial(element.write, backend), elements, before)
        if any(refusals):
            _put_back(elements, before)
            raise _cancelled(refusals)
        if (
            sum(max(_size_of(old), _size_of(element.item)) for element, old in zip(elements, before, strict=True))
            > MOST_BYTES
        ):
            _put_back(elements, before)
            raise MockValidationException(f"Transaction request cannot be larger than {MOST_BYTES} bytes")
    for element, old in zip(elements, before, strict=True):
        stream = streams[id(element.table)]
        if element.kind != "ConditionCheck" and stream is not None and (old is not None or element.item is not None):
            stream.add(old, element.item)


type _Refusal = tuple[str, str, dict[str, Any] | None]


def _tried[T](action: Callable[[], T]) -> tuple[T | None, _Refusal | None]:
    """What the action gives, or why the element can't be done."""
    try:
        return action(), None
    except _STATIC:
        raise
    except (MockValidationException, ValueError) as error:
        return None, ("ValidationError", getattr(error, "message", str(error)), None)


def _undone_on_error(
    action: Callable[[], None], elements: Sequence[Element], before: Sequence[Item | None]
) -> tuple[None, _Refusal | None]:
    try:
        return _tried(action)
    except Exception:
        _put_back(elements, before)
        raise


def _check_distinct(elements: Sequence[Element]) -> None:
    keys = {(element.table.name, element.hash_key, element.range_key) for element in elements}
    if len(keys) < len(elements):
        raise MultipleTransactionsException


def _cancelled(refusals: Sequence[_Refusal | None]) -> TransactionCanceledException:
    return TransactionCanceledException([refusal or (None, None, None) for refusal in refusals])


def _put_back(elements: Sequence[Element], items: Sequence[Item | None]) -> None:
    for element, item in zip(elements, items, strict=True):
        put_back(element.table, element.hash_key, element.range_key, item)


def put_back(table: Any, hash_key: DynamoType, range_key: DynamoType | None, item: Item | None) -> None:
    """Make an item what it was; None: it wasn't there."""
    if range_key is None:
        if item is None:
            table.items.pop(hash_key, None)
        else:
            table.items[hash_key] = item
    elif item is None:
        table.items[hash_key].pop(range_key, None)
    else:
        table.items[hash_key][range_key] = item


@contextmanager
def _silent(tables: Iterable[Any]) -> Iterator[None]:
    """Let the tables' streams hear nothing meanwhile."""
    streams = [(table, table.stream_shard) for table in tables]
    for table, _ in streams:
        table.stream_shard = None
    try:
        yield
    finally:
        for table, stream in streams:
            table.stream_shard = stream


def _size_of(item: Item | None) -> int:
    return item.size() if item is not None else 0


def _keys(values: Callable[..., Any]) -> Callable[..., Any]:
    def get_keys_value(backend: Any, table: Any, key: Mapping[str, Any]) -> Any:
        if not set(table.table_key_attrs) <= set(key):
            raise ProvidedKeyDoesNotExist  # moto says only that something is invalid
        return values(backend, table, key)

    return get_keys_value


def _update_whole(update: Callable[..., Item]) -> Callable[..., Item]:
    """An update that happens whole or not at all, and that the stream hears of once."""

    def update_item(backend: Any, table_name: str, key: Mapping[str, Any], *args: Any, **named: Any) -> Item:
        table = backend.get_table(table_name)
        hash_key, range_key = backend.get_keys_value(table, key)
        before = copy.deepcopy(table.get_item(hash_key, range_key))
        with _silent([table]):
            try:
                item = update(backend, table_name, key, *args, **named)
            except Exception:
                put_back(table, hash_key, range_key, before)
                raise
        if table.stream_shard is not None:
            table.stream_shard.add(before, item)
        return item

    return update_item


def _once_per_token(transact: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def transact_write_items(handler: Any) -> Any:
        for document in handler.body["TransactItems"]:
            _check_values_used(document)
        token = handler.body.get("ClientRequestToken")
        if not token:
            return transact(handler)
        request = {name: value for name, value in handler.body.items() if name != "ClientRequestToken"}
        digest = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).digest()
        answered = handler.dynamodb_backend.__dict__.setdefault(_TOKENS, {})
        while answered and answered[oldest := next(iter(answered))][1] <= CLOCK():
            del answered[oldest]
        if token in answered:
            there, _, answer = answered[token]
            if there != digest:
                raise IdempotentParameterMismatch
            return answer
        answer = transact(handler)
        answered[token] = (digest, CLOCK() + TOKEN_SECONDS, answer)
        return answer

    return transact_write_items


def _check_values_used(document: Mapping[str, Any]) -> None:
    for request in document.values():
        values = request.get("ExpressionAttributeValues") or {}
        parser = comparisons.create_condition_expression_parser(
            request.get("ConditionExpression"), request.get("ExpressionAttributeNames") or {}, values
        )
        parser.parse()
        used = list(parser.expr_attr_values_found)
        if update := request.get("UpdateExpression"):
            parsed = _expressions.UpdateExpressionParser.make(update)
            clauses = parsed.find_clauses([_expressions.ExpressionAttributeValue])
            used += [clause.get_value_name() for clause in clauses]
        responses.validate_attributes_used(values, used, "Values", validation_error_prefix=False)


def _projected(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def transact_get_items(handler: Any) -> Any:
        answer = get(handler)
        for document, found in zip(handler.body["TransactItems"], answer.result["Responses"], strict=True):
            request = document["Get"]
            if found and request.get("ProjectionExpression"):
                names = request.get("ExpressionAttributeNames") or {}
                paths = responses.ProjectionExpressionParser(request["ProjectionExpression"], names).parse()
                item = handler.dynamodb_backend.get_item(request["TableName"], request["Key"], paths)
                found.update(responses.DynamoResult(item.describe_attrs()).result)
        return answer

    return transact_get_items


def _size(function: Any, item: Item | None) -> int | None:
    kind, value = function.attr.get_type(item), function.attr.expr(item)
    if kind == "B" and isinstance(value, str):
        return len(base64.b64decode(value))  # moto keeps bytes as they came
    return len(value) if kind in {"S", "SS", "NS", "B", "BS", "L", "M"} else None
