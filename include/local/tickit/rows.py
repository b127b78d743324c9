"""Tables between their two shapes: numpy columns for making data, rows for databases and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from include.local.tickit.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from include.local.tickit.generate import Array, Columns, Tables
    from include.local.tickit.schema import Column


def to_rows(table: str, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """The rows as SQLite takes them: dates and timestamps as text, booleans as 0 and 1, nulls as None."""
    return zip(*(_plain(columns[name]) for name in TABLES[table].column_names), strict=True)


def _plain(values: Array) -> list[Any]:
    if values.dtype.kind != "M":
        return list(values.tolist())
    texts = np.char.replace(np.datetime_as_string(values), "T", " ").astype(object)
    texts[np.isnat(values)] = None
    return list(texts.tolist())


def to_columns(table: str, rows: Sequence[Sequence[Any]]) -> Columns:
    """The columns as the generator makes them, from rows as `to_rows` gives them."""
    transposed: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(TABLES[table].columns)
    columns = {}
    for column, values in zip(TABLES[table].columns, transposed, strict=True):
        base = column.mysql.base
        if base in {"DATE", "TIMESTAMP"}:
            unit = "datetime64[D]" if base == "DATE" else "datetime64[s]"
            columns[column.name] = np.array([value or "NaT" for value in values], dtype=unit)
        elif None in values or base in {"CHAR", "VARCHAR"}:
            columns[column.name] = np.array(values, dtype=object)
        else:
            columns[column.name] = np.array(values, dtype=float if base == "DECIMAL" else np.int64)
    return columns


def write_files(tables: Tables, directory: Path) -> dict[str, Path]:
    r"""Write files that can be loaded: ``<table>/<table>.txt``, pipe separated, ``\N`` for null.

    Returns:
        The file of each table.
    """
    written = {}
    for name, columns in tables.items():
        path = directory / name / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        kinds = TABLES[name].columns
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for row in to_rows(name, columns):
                fields = (_field(column, value) for column, value in zip(kinds, row, strict=True))
                file.write("|".join(fields) + "\n")
        written[name] = path
    return written


def _field(column: Column, value: Any) -> str:
    if value is None:
        return "\\N"
    if column.boolean:
        return "TRUE" if value else "FALSE"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
