"""Writes the read-only analytic database that zero-ETL would maintain, straight from tables in memory.

The replicator publishes the same file from a running source; this is the short way for tests and fixtures:

    build_snapshot(generate("small"), tmp_path / "aurora_zeroetl_integration.duckdb")
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from include.local.tickit.schema import DATABASE, HISTORY_TABLES, TABLES

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt

    from include.local.tickit.generate import Tables

TARGET_DATABASE: Final = "aurora_zeroetl_integration"
"""The database made ``FROM INTEGRATION``; the published file is named after it."""

HISTORY_COLUMNS: Final = (
    ("_record_is_active", "BOOLEAN"),
    ("_record_create_time", "TIMESTAMP"),
    ("_record_delete_time", "TIMESTAMP"),
)
"""What history mode adds to a table, in this order (Redshift Management Guide, zero-etl-history-mode): whether the
version is the source's current one; from when (UTC) it was; until when (UTC), null while it is."""


def history_ddl() -> str:
    """The history columns as a column list."""
    return ", ".join(f"{name} {kind}" for name, kind in HISTORY_COLUMNS)


def build_snapshot(
    tables: Tables, path: Path, *, history_tables: Collection[str] = HISTORY_TABLES, as_of: datetime | None = None
) -> Path:
    """Write ``tables`` as one published snapshot; an existing file is replaced atomically.

    Args:
        tables: TICKIT tables by name, as `include.local.tickit.generate.generate` or the loader return them; a table
            left out is absent.
        path: the DuckDB file to write; ``<dir>/aurora_zeroetl_integration.duckdb`` is what dbt attaches.
        history_tables: tables in history mode; every row is then one active version.
        as_of: creation time of those versions (UTC; naive is taken as UTC); default now. The initial load of a
            zero-ETL integration cannot know when a row was written either.

    Returns:
        ``path``.
    """
    import duckdb

    moment = as_of or datetime.now(UTC)
    moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    path.parent.mkdir(parents=True, exist_ok=True)
    building = new_file(path)
    building.unlink(missing_ok=True)
    with duckdb.connect(str(building)) as connection:
        connection.execute(f"CREATE SCHEMA {DATABASE}")
        for name, columns in tables.items():
            table, history = TABLES[name], name in history_tables
            connection.execute(
                f'CREATE TABLE {DATABASE}."{name}" ({table.replica_ddl()}{", " + history_ddl() if history else ""})'
            )
            values = {column: _readable(columns[column]) for column in table.column_names}
            connection.register("incoming", values)
            versions = ", TRUE, CAST($moment AS TIMESTAMP), NULL" if history else ""
            connection.execute(
                f'INSERT INTO {DATABASE}."{name}" SELECT *{versions} FROM incoming',
                {"moment": moment} if history else None,
            )
            connection.unregister("incoming")
        connection.execute("CHECKPOINT")
    replace_durably(building, path)
    return path


def _readable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """DuckDB reads numpy's seconds but not its days."""
    return values.astype("datetime64[s]") if values.dtype == "datetime64[D]" else values


def new_file(path: Path) -> Path:
    """Where to build what will replace ``path``.

    The log of a build that was killed is removed: DuckDB would apply it to the new file, which it does not fit.
    """
    building = path.with_name(path.name + ".new")
    for leftover in path.parent.glob(building.name + ".*"):
        leftover.unlink()
    return building


def replace_durably(building: Path, path: Path) -> None:
    """Rename ``building`` to ``path`` once it is on disk: readers, and a machine that lost power, see old or new."""
    with building.open("rb") as file:
        os.fsync(file.fileno())
    building.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
