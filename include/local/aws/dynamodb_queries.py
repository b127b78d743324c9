"""DynamoDB's Query of a partition in moto, at a cost that grows with the partition.

moto sorts and walks through the whole table for each page of a Query, and copies what it found; a pooled table holds everybody's items.
Here a page is taken from the partition only, in order, from where it begins. An answer is made before the next request is done, so nothing
of it need be copied.

moto also keeps a reference to every item that it ever made, each answer's copies too, for as long as it runs, and measures an item anew
for each of its attributes. Here it doesn't.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Final

from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import RESULT_SIZE_LIMIT, Table

from include.local.aws.wrapping import replace, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


MOST_ITEM_BYTES: Final = 400 * 1024
_NOT_FILTERS: Final = frozenset({"hash_key_conditions", "range_key_conditions"})
"""What moto's Query is told by name beside the fields to compare."""


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    wrap(Table, "query", _by_partition)
    wrap(Table, "scan", _measured)
    replace(Table, "all_items", _all_items)
    replace(Item, "__new__", staticmethod(_new_item))
    replace(Item, "__init__", _make_item)
    replace(Item, "size", _size)


def _by_partition(query: Callable[..., Any]) -> Callable[..., Any]:
    def query_partition(
        table: Any,
        hash_key: DynamoType | None,
        range_comparison: str | None,
        range_objs: list[DynamoType],
        limit: int,
        exclusive_start_key: Mapping[str, Any] | None,
        scan_index_forward: bool,
        projection_expressions: Any,
        index_name: str | None = None,
        consistent_read: bool = False,
        filter_expression: Any = None,
        **named: Any,
    ) -> Any:
        if index_name is None and hash_key is not None and not named.keys() - _NOT_FILTERS:
            items = _in_order(table, hash_key, exclusive_start_key, scan_index_forward)
            found = _page(table, items, range_comparison, range_objs, limit)
        else:
            arguments = (hash_key, range_comparison, range_objs, limit, exclusive_start_key, scan_index_forward)
            found = query(table, *arguments, None, index_name, consistent_read, None, **named)
        return _chosen(table, found, filter_expression, projection_expressions)

    return query_partition


def _measured(scan: Callable[..., Any]) -> Callable[..., Any]:
    def scan_measured(
        table: Any,
        filters: Any,
        limit: int,
        exclusive_start_key: Any,
        filter_expression: Any = None,
        index_name: str | None = None,
        consistent_read: bool = False,
        projection_expression: Any = None,
        **named: Any,
    ) -> Any:
        found = scan(table, filters, limit, exclusive_start_key, None, index_name, consistent_read, None, **named)
        return _chosen(table, found, filter_expression, projection_expression)

    return scan_measured


def _chosen(table: Any, found: tuple[list[Item], int, Any], condition: Any, paths: Any) -> tuple[list[Item], int, Any]:
    """What is answered of the items that a page went over; how many bytes those were, the table keeps for its capacity."""
    items, count, last = found
    table.examined = sum(item.size() for item in items)
    if condition is not None:
        items = [item for item in items if condition.expr(item)]
    return [item.project(paths) for item in items] if paths else items, count, last


def _in_order(table: Any, hash_key: DynamoType, after: Mapping[str, Any] | None, forward: bool) -> list[Item]:
    """The partition's items that follow a key, in the order that is wanted."""
    partition = table.items.get(hash_key)
    if not partition:
        return []
    if not table.has_range_key:
        return [] if after else [partition]
    items = sorted(partition.values(), key=_sort_value)
    if after:
        start = DynamoType(after[table.range_key_attr]).cast_value
        here = slice(bisect_right(items, start, key=_sort_value), None)
        items = items[here] if forward else items[: bisect_left(items, start, key=_sort_value)]
    return items if forward else items[::-1]


def _page(
    table: Any, items: Iterable[Any], comparison: str | None, operands: list[DynamoType], limit: int | None
) -> tuple[list[Item], int, Any]:
    """The first items whose sort key is wanted, as many as a page takes, their number, and the last one's key if any may follow."""
    page: list[Any] = []
    size = 0
    for item in items:
        more = item.size()
        if len(page) == limit or size + more > RESULT_SIZE_LIMIT:
            return page, len(page), table._get_last_evaluated_key(page[-1], None)
        if comparison is None or item.range_key.compare(comparison, operands):
            page.append(item)
            size += more
    return page, len(page), None


def _sort_value(item: Any) -> Any:
    return item.range_key.cast_value


def _all_items(table: Any) -> list[Item]:
    """All items by partition and, within one, by sort key."""
    if not table.has_range_key:
        return [table.items[key] for key in sorted(table.items, key=lambda key: key.cast_value)]
    return [
        item
        for key in sorted(table.items, key=lambda key: key.cast_value)
        for item in sorted(table.items[key].values(), key=_sort_value)
    ]


def _new_item(cls: type[Item], *_: Any, **__: Any) -> Any:
    return object.__new__(cls)


def _make_item(item: Any, hash_key: DynamoType, range_key: DynamoType | None, attrs: Mapping[str, Any]) -> None:
    item.hash_key, item.range_key, item.attrs = hash_key, range_key, LimitedSizeDict()
    dict.update(item.attrs, {name: DynamoType(value) for name, value in attrs.items()})
    if item.size() > MOST_ITEM_BYTES:
        raise ItemSizeTooLarge


def _size(item: Any) -> int:
    """Bytes of an item: its names and values, as moto counts them."""
    size = 0
    for name, value in item.attrs.items():
        size += len(name) if name.isascii() else len(name.encode())
        held = value.value
        size += len(held) if isinstance(held, str) and held.isascii() else value.size()
    return size
