"""``ConsumedCapacity`` of DynamoDB's operations in moto, by the sizes of the items they touch, as AWS documents it.

moto tells the same number whatever was read or written, so nothing that keeps below a rate can be tried out. A read unit is 4 KB read
strongly consistently or 8 KB otherwise, rounded up for a page of a Query and for each item elsewhere; a write unit is 1 KB of an item, of
the larger one of before and after; transactions take double. Indexes take nothing here.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

from moto.dynamodb.responses import DynamoHandler

from include.local.aws.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_READ_BYTES: Final = 4096
_WRITE_BYTES: Final = 1024
_KINDS: Final = {"read": "ReadCapacityUnits", "write": "WriteCapacityUnits"}


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    for name in ("query", "scan"):
        wrap(DynamoHandler, name, _of_page)
    wrap(DynamoHandler, "get_item", _of_get)
    for name in ("put_item", "update_item", "delete_item"):
        wrap(DynamoHandler, name, _of_write)
    wrap(DynamoHandler, "batch_get_item", _of_batch_get)
    wrap(DynamoHandler, "batch_write_item", _of_batch_write)
    wrap(DynamoHandler, "transact_get_items", _of_transact_get)
    wrap(DynamoHandler, "transact_write_items", _of_transact_write)


def read_units(size: int, consistent: bool) -> float:
    """Units of reading so many bytes at once."""
    return max(1, ceil(size / _READ_BYTES)) * (1.0 if consistent else 0.5)


def write_units(size: int) -> float:
    """Units of writing an item of so many bytes."""
    return float(max(1, ceil(size / _WRITE_BYTES)))


def _of_page(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def page(handler: Any) -> Any:
        answer = action(handler)
        table = handler.dynamodb_backend.get_table(handler.body["TableName"])
        units = read_units(table.examined, handler.body.get("ConsistentRead", False))
        return _told(handler, answer, {handler.body["TableName"]: units})

    return page


def _of_get(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_item(handler: Any) -> Any:
        answer = action(handler)
        name, key = handler.body["TableName"], handler.body["Key"]
        units = read_units(_size(handler, name, key), handler.body.get("ConsistentRead", False))
        return _told(handler, answer, {name: units})

    return get_item


def _of_write(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write(handler: Any) -> Any:
        name = handler.body["TableName"]
        key = handler.body.get("Key") or handler.body["Item"]
        before = _size(handler, name, key)
        answer = action(handler)
        return _told(handler, answer, {name: write_units(max(before, _size(handler, name, key)))})

    return write


def _of_batch_get(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def batch_get_item(handler: Any) -> Any:
        answer = action(handler)
        units = {
            name: sum(
                read_units(_size(handler, name, key), asked.get("ConsistentRead", False)) for key in asked["Keys"]
            )
            for name, asked in handler.body["RequestItems"].items()
        }
        return _told(handler, answer, units, many=True)

    return batch_get_item


def _of_batch_write(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def batch_write_item(handler: Any) -> Any:
        keys = [
            (name, body.get("Key") or body["Item"])
            for name, requests in handler.body["RequestItems"].items()
            for request in requests
            for body in request.values()
        ]
        answer, units = _written(handler, action, keys)
        return _told(handler, answer, units, many=True)

    return batch_write_item


def _of_transact_get(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def transact_get_items(handler: Any) -> Any:
        answer = action(handler)
        units: dict[str, float] = {}
        for element in handler.body["TransactItems"]:
            name, key = element["Get"]["TableName"], element["Get"]["Key"]
            units[name] = units.get(name, 0.0) + 2 * read_units(_size(handler, name, key), True)
        return _told(handler, answer, units, many=True, kind="read")

    return transact_get_items


def _of_transact_write(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def transact_write_items(handler: Any) -> Any:
        keys = [
            (body["TableName"], body.get("Key") or body["Item"])
            for element in handler.body["TransactItems"]
            for body in element.values()
        ]
        answer, units = _written(handler, action, keys)
        return _told(handler, answer, {name: 2 * each for name, each in units.items()}, many=True, kind="write")

    return transact_write_items


def _written(
    handler: Any, action: Callable[[Any], Any], keys: Iterable[tuple[str, Mapping[str, Any]]]
) -> tuple[Any, dict[str, float]]:
    """The answer, and units by table."""
    before = [(name, key, _size(handler, name, key)) for name, key in keys] if _wanted(handler) else []
    answer = action(handler)
    units: dict[str, float] = {}
    for name, key, size in before:
        units[name] = units.get(name, 0.0) + write_units(max(size, _size(handler, name, key)))
    return answer, units


def _wanted(handler: Any) -> bool:
    return bool(handler.body.get("ReturnConsumedCapacity", "NONE") != "NONE")


def _size(handler: Any, name: str, key: Mapping[str, Any]) -> int:
    """Bytes of an item; 0 if there is none, or if nobody asks."""
    if not _wanted(handler):
        return 0
    backend = handler.dynamodb_backend
    names = backend.get_table(name).table_key_attrs
    if not set(names) <= set(key):
        return 0  # refused by the operation itself
    item = backend.get_item(name, key)
    return item.size() if item else 0


def _told(handler: Any, answer: Any, units: Mapping[str, float], *, many: bool = False, kind: str = "") -> Any:
    """The answer, with what the caller asked for of the units."""
    answer.result.pop("ConsumedCapacity", None)
    wanted = handler.body.get("ReturnConsumedCapacity", "NONE")
    if wanted == "NONE":
        return answer
    told = []
    for name, each in units.items():
        capacity = {"CapacityUnits": each, **({_KINDS[kind]: each} if kind else {})}
        told.append({"TableName": name, **capacity, **({"Table": capacity} if wanted == "INDEXES" else {})})
    answer.result["ConsumedCapacity"] = told if many else told[0]
    return answer
