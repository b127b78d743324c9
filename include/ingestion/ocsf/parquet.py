"""Mapped events to Parquet as Security Lake wants it: one class, region, account and UTC day an object, ordered by time, zstd, small pages.

Rules: https://docs.aws.amazon.com/security-lake/latest/userguide/custom-sources-best-practices.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from include.ingestion.ocsf.compile import KindPlan, Layout

DAY_MS: Final = 86_400_000
PAGE_BYTES: Final = 512 << 10
"""Uncompressed. Security Lake wants 1 MiB at most; a page is closed only after the values that fill it."""
PAGE_VALUES: Final = 256
"""How many values are written between two looks at the page's size."""
ROW_GROUP_BYTES: Final = 128 << 20
"""As Arrow holds them; compressed it is far below Security Lake's 256 MB."""
WINDOW_BYTES: Final = 384 << 20
"""Events that are sorted and written together: more than that of one partition is another object."""
TOTAL_BYTES: Final = 768 << 20
"""Events of all partitions that are held; above it the largest is written."""

_SCALARS: Final = {
    "text": pa.string(),
    "json": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "ms": pa.int64(),
    "bool": pa.bool_(),
    "double": pa.float64(),
}
UNMAPPED: Final = pa.map_(pa.string(), pa.string())


@dataclass(frozen=True, order=True)
class Partition:
    """Where an object belongs in the lake."""

    class_name: str
    region: str
    account_id: str
    event_day: str


@dataclass(frozen=True)
class Output:
    """A written object.

    Attributes:
        path: local file.
        rows: events.
        size: bytes.
        time_min: epoch ms of its first event.
        time_max: of its last.
    """

    partition: Partition
    path: Path
    rows: int
    size: int
    time_min: int
    time_max: int


def arrow_type(kind: Any) -> pa.DataType:
    """The Arrow type of a layout's entry."""
    if isinstance(kind, list):
        return pa.list_(arrow_type(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([pa.field(name, arrow_type(below)) for name, below in kind.items()])
    return _SCALARS[kind]


def class_schema(layout: Layout) -> pa.Schema:
    """The Arrow schema of a class as one source fills it."""
    return pa.schema(
        [*(pa.field(name, arrow_type(kind)) for name, kind in layout.items()), pa.field("unmapped", UNMAPPED)]
    )


def assemble(layout: Layout, plan: KindPlan, table: pa.Table, rest: Sequence[str] = ()) -> pa.Table:
    """Flat columns to the structs of an event. Nothing is copied: a struct is its columns and where it is missing.

    Args:
        layout: of the class.
        plan: of the kind.
        table: what one of the plan's selects gave.
        rest: keys of ``unmapped`` in its columns ``x0``, ``x1`` …
    """
    columns = {leaf.path: _array(table, leaf.column) for leaf in plan.leaves}
    rows = table.num_rows

    def build(kind: Any, path: tuple[str, ...]) -> pa.Array:
        if path in columns:
            found, wanted = columns[path], arrow_type(kind)
            return found if found.type == wanted else found.cast(wanted)
        if not isinstance(kind, dict):
            return pa.nulls(rows, arrow_type(kind))
        children = [build(below, (*path, name)) for name, below in kind.items()]
        missing = None
        for child in children:
            if child.null_count == 0:
                missing = None
                break
            gone = child.is_null()
            missing = gone if missing is None else pc.and_(missing, gone)
        fields = [pa.field(name, child.type) for name, child in zip(kind, children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=missing)

    arrays = [build(kind, (name,)) for name, kind in layout.items()]
    if "unmapped" in table.column_names:
        unmapped = _array(table, "unmapped")
        arrays.append(unmapped if unmapped.type == UNMAPPED else unmapped.cast(UNMAPPED))
    else:
        names = [f"u{place}" for place in range(len(plan.explicit))] + [f"x{place}" for place in range(len(rest))]
        arrays.append(_map_of([*plan.explicit, *rest], [_array(table, name) for name in names], rows))
    return pa.Table.from_arrays(arrays, schema=class_schema(layout))


def _map_of(keys: Sequence[str], columns: Sequence[pa.Array], rows: int) -> pa.Array:
    """Columns as one map a row, of those that have a value; none where no column has."""
    if not columns:
        return pa.nulls(rows, UNMAPPED)
    there = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in columns], axis=1)
    row, place = np.nonzero(there)
    offsets = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(there.sum(axis=1), out=offsets[1:])
    values = pa.concat_arrays(columns).take(pa.array(place * rows + row))
    empty = offsets[1:] == offsets[:-1]
    at = pa.array(offsets, mask=np.append(empty, False)) if empty.any() else pa.array(offsets)
    return pa.MapArray.from_arrays(at, pa.array(keys, pa.string()).take(pa.array(place)), values)


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def split(
    class_name: str, events: pa.Table, accounts: pa.ChunkedArray, regions: pa.ChunkedArray
) -> Iterator[tuple[Partition, pa.Table]]:
    """Events by partition; the day is the UTC one of the event's own time."""
    if not events.num_rows:
        return
    days = pc.divide(events.column("time"), DAY_MS)  # no time is before 1970: sources refuse that
    keys = pa.table({"region": regions, "account": accounts, "day": days})
    found = keys.group_by(["region", "account", "day"], use_threads=False).aggregate([]).to_pylist()
    found.sort(key=lambda key: (key["region"], key["account"], key["day"]))
    for key in found:
        part = events
        if len(found) > 1:
            chosen = pc.and_(
                pc.and_(pc.equal(regions, key["region"]), pc.equal(accounts, key["account"])),
                pc.equal(days, key["day"]),
            )
            part = events.filter(chosen)
        yield Partition(class_name, key["region"], key["account"], event_day(key["day"])), part


def event_day(days: int) -> str:
    """``YYYYMMDD`` of days since 1970."""
    return str(np.datetime64(int(days), "D")).replace("-", "")


@dataclass
class PartitionedWriter:
    """Collects events by partition and writes an object whenever enough are there."""

    folder: Path
    prefix: str = "events"
    window_bytes: int = WINDOW_BYTES
    total_bytes: int = TOTAL_BYTES
    outputs: list[Output] = field(default_factory=list)
    _held: dict[Partition, list[pa.Table]] = field(default_factory=dict)
    _bytes: dict[Partition, int] = field(default_factory=dict)

    def add(self, partition: Partition, events: pa.Table) -> None:
        """Take events; may write an object."""
        self._held.setdefault(partition, []).append(events)
        self._bytes[partition] = self._bytes.get(partition, 0) + events.nbytes
        if self._bytes[partition] >= self.window_bytes:
            self._write(partition)
        while sum(self._bytes.values()) >= self.total_bytes:
            self._write(max(self._bytes, key=lambda one: (self._bytes[one], one)))

    def close(self) -> list[Output]:
        """Write what is left; all objects, in the order of their partitions."""
        for partition in sorted(self._held):
            self._write(partition)
        return sorted(self.outputs, key=lambda output: (output.partition, output.path.name))

    def _write(self, partition: Partition) -> None:
        held = self._held.pop(partition)
        self._bytes.pop(partition)
        events = held[0] if len(held) == 1 else pa.concat_tables(held)
        times = events.column("time").to_numpy()
        if len(times) > 1 and not bool((times[1:] >= times[:-1]).all()):
            order = np.argsort(times, kind="stable")
            events, times = events.take(pa.array(order)), times[order]
        path = self.folder / f"{self.prefix}-{len(self.outputs):05d}.parquet"
        write_events(events, path)
        self.outputs.append(
            Output(partition, path, events.num_rows, path.stat().st_size, int(times[0]), int(times[-1]))
        )


def write_events(events: pa.Table, path: Path) -> None:
    """One Parquet file of events that are in order already."""
    rows = max(1, int(events.num_rows * min(1.0, ROW_GROUP_BYTES / max(1, events.nbytes))))
    pq.write_table(
        events,
        path,
        row_group_size=rows,
        compression="zstd",
        compression_level=1,
        data_page_size=PAGE_BYTES,
        dictionary_pagesize_limit=PAGE_BYTES,
        write_batch_size=PAGE_VALUES,
        version="2.6",
        store_schema=False,
        use_dictionary=_dictionaries(events.schema),
    )


def _dictionaries(schema: pa.Schema) -> list[str]:
    """Columns worth a dictionary: texts. Numbers pack well without one."""
    found: list[str] = []

    def walk(kind: pa.DataType, path: str) -> None:
        if pa.types.is_struct(kind):
            for inner in kind:
                walk(inner.type, f"{path}.{inner.name}")
        elif pa.types.is_map(kind):
            found.extend((f"{path}.key_value.key", f"{path}.key_value.value"))
        elif pa.types.is_list(kind):
            walk(kind.value_type, f"{path}.list.element")
        elif pa.types.is_string(kind):
            found.append(path)

    for column in schema:
        walk(column.type, column.name)
    return found


def hive_type(kind: Any) -> str:
    """The Glue type of a layout's entry."""
    if isinstance(kind, list):
        return f"array<{hive_type(kind[0])}>"
    if isinstance(kind, dict):
        return f"struct<{','.join(f'{name}:{hive_type(below)}' for name, below in kind.items())}>"
    return {
        "text": "string",
        "json": "string",
        "int32": "int",
        "int64": "bigint",
        "ms": "bigint",
        "bool": "boolean",
        "double": "double",
    }[kind]


def glue_columns(layout: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Columns of the class's Glue table: name and type."""
    return [*((name, hive_type(kind)) for name, kind in layout.items()), ("unmapped", "map<string,string>")]
