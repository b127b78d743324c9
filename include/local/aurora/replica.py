"""The replica's tables in DuckDB: what is known of each, and the SQL that loads it and applies changes to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.local.aurora.integration import TableState
from include.local.aurora.snapshot import HISTORY_COLUMNS
from include.local.aurora.source import SourceTable
from include.local.tickit.schema import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    import duckdb

    from include.local.tickit.generate import Array

type Columns = Sequence[tuple[str, str]]
"""(name, type) in order."""


@dataclass(frozen=True)
class Replica:
    """A table as the working file has it; ``shape`` is its source columns and key as JSON."""

    name: str
    shape: str
    state: TableState
    reason: str
    history: bool

    def source(self) -> SourceTable:
        """The source table that it has been replicating."""
        shape = json.loads(self.shape)
        columns = tuple((name, kind) for name, kind in shape["columns"])
        return SourceTable(self.name, columns, tuple(shape["key"]), captured=True)

    def fail(self, error: Exception) -> Replica:
        """The table after a value could not be converted."""
        reason = f"A value does not fit its column: {str(error).splitlines()[0]}"
        return replace(self, state=TableState.FAILED, reason=reason)


def shape_of(table: SourceTable) -> str:
    """What `Replica.shape` keeps of a source table."""
    return json.dumps({"columns": table.columns, "key": table.key})


def typed_changes_sql(table: Replica) -> str:
    """Log entries of one table as typed versions, one per row and transaction, with the time the next one begins."""
    source = table.source()
    columns = source.replica_columns()
    kinds = dict(columns)
    keys = [(f"key_{i}", kinds[name]) for i, name in enumerate(source.key, 1)]
    return f"""
        CREATE OR REPLACE TEMP TABLE "changes_{table.name}" AS
        WITH events AS (
            SELECT lsn, 0 AS part, txn, "at", old_key AS key, NULL AS new_row FROM log
            WHERE table_name = $table AND (operation = 'D' OR (operation = 'U' AND old_key <> new_key))
            UNION ALL
            SELECT lsn, 1, txn, "at", new_key, new_row FROM log WHERE table_name = $table AND operation IN ('I', 'U')
        ), settled AS (
            FROM events QUALIFY row_number() OVER (PARTITION BY key, txn ORDER BY lsn DESC, part DESC) = 1
        ), parsed AS (
            SELECT "at", lead("at") OVER (PARTITION BY key ORDER BY txn) AS until, new_row IS NOT NULL AS present,
                row_number() OVER (PARTITION BY key ORDER BY txn) = 1 AS first, from_json(key, '["VARCHAR"]') AS keys,
                from_json(new_row, '["VARCHAR"]') AS fields
            FROM settled
        )
        SELECT "at" AS _at, until AS _until, present AS _present, first AS _first, {_cast(keys, "keys")},
            {_cast(columns, "fields")}
        FROM parsed"""


def apply_changes_sql(table: Replica) -> list[str]:
    """Statements that apply one table's typed changes to its replica."""
    source = table.source()
    target, changes = qualified(table.name), f'"changes_{table.name}"'
    match = " AND ".join(f't."{name}" = c.key_{i}' for i, name in enumerate(source.key, 1))
    names = _list(name for name, _ in source.columns)
    if not table.history:
        return [
            f"DELETE FROM {target} AS t USING {changes} AS c WHERE c._first AND {match}",
            f"INSERT INTO {target} SELECT {names} FROM {changes} WHERE _present AND _until IS NULL",
        ]
    return [
        f"UPDATE {target} AS t SET _record_is_active = FALSE, _record_delete_time = c._at FROM {changes} AS c "
        f"WHERE c._first AND t._record_is_active AND {match}",
        f"INSERT INTO {target} SELECT {names}, _until IS NULL, _at, _until FROM {changes} WHERE _present",
    ]


def stage_load(working: duckdb.DuckDBPyConnection, source: SourceTable, batches: Iterable[Array]) -> None:
    """Give a whole table's rows, JSON arrays, the types of its columns, as a temporary table."""
    columns = source.replica_columns()
    working.execute(f'CREATE OR REPLACE TEMP TABLE "load_{source.name}" ({_ddl(columns)})')
    for rows in batches:
        working.register("incoming", {"new_row": rows})
        working.execute(
            f'INSERT INTO "load_{source.name}" SELECT {_cast(columns, "fields")} '
            "FROM (SELECT from_json(new_row, '[\"VARCHAR\"]') AS fields FROM incoming)"
        )
        working.unregister("incoming")


def apply_load(working: duckdb.DuckDBPyConnection, source: SourceTable, history: bool, moment: datetime) -> None:
    """Replace a table's rows by the staged ones; in history mode keep the versions it had, and end those gone."""
    name, target = source.name, qualified(source.name)
    columns = source.replica_columns()
    staged = f'"load_{name}"'
    if not history:
        working.execute(f"CREATE OR REPLACE TABLE {target} AS FROM {staged}")
        working.execute(f"DROP TABLE {staged}")
        return
    versions = f'"versions_{name}"'
    working.execute(f"CREATE OR REPLACE TEMP TABLE {versions} ({_ddl(columns)}, {_ddl(HISTORY_COLUMNS)})")
    existing = dict(
        working.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = $schema AND table_name = $table",
            {"schema": DATABASE, "table": name},
        ).fetchall()
    )
    if "_record_is_active" in existing:
        old = ", ".join(f'TRY_CAST("{c}" AS {t})' if c in existing else "NULL" for c, t in columns)
        working.execute(f"INSERT INTO {versions} SELECT {old}, {_list(c for c, _ in HISTORY_COLUMNS)} FROM {target}")
    same = " AND ".join(f'v."{column}" IS NOT DISTINCT FROM s."{column}"' for column, _ in columns)
    working.execute(
        f"UPDATE {versions} AS v SET _record_is_active = FALSE, _record_delete_time = $at "
        f"WHERE v._record_is_active AND NOT EXISTS (FROM {staged} s WHERE {same})",
        {"at": moment},
    )
    working.execute(
        f"INSERT INTO {versions} SELECT s.*, TRUE, CAST($at AS TIMESTAMP), NULL FROM {staged} s "
        f"WHERE NOT EXISTS (FROM {versions} v WHERE v._record_is_active AND {same})",
        {"at": moment},
    )
    working.execute(f"CREATE OR REPLACE TABLE {target} AS FROM {versions}")
    working.execute(f"DROP TABLE {staged}; DROP TABLE {versions}")


def qualified(name: str) -> str:
    """A replica's name with its schema."""
    return f'{DATABASE}."{name}"'


def _list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _ddl(columns: Columns) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in columns)


def _cast(columns: Columns, fields: str) -> str:
    """Columns out of a list of texts, in order."""
    return ", ".join(f'CAST({fields}[{i}] AS {kind}) AS "{name}"' for i, (name, kind) in enumerate(columns, 1))
