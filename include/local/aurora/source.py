"""The local Aurora: the OLTP database ``demodb`` on SQLite in WAL mode, with a change log as its binary log.

Triggers write every insert, update and delete to the log, in commit order (SQLite has one writer at a time, so log
order is commit order) and with the row's key before and after. A reader of the log within one read transaction sees
whole source transactions only.

SQLite has no commit trigger, so the moment of a commit is written by `Aurora.transaction`, as a marker behind the
transaction's last change. A client that writes without it (the ``sqlite3`` shell, say) is replicated just as well;
each of its changes then counts as a commit of its own at the time it was made.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.local.tickit.schema import DATABASE, TABLES, MySqlType, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

CHANGE_LOG: Final = "_zero_etl_log"
COMMIT_MARK: Final = "C"
BUSY_TIMEOUT_SECONDS: Final = 30.0
NOW: Final = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
"""UTC to the millisecond, as the log keeps it."""

_LOG_DDL: Final = f"""
CREATE TABLE IF NOT EXISTS {CHANGE_LOG} (
  lsn INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, even after the log was pruned
  table_name TEXT NOT NULL,
  operation TEXT NOT NULL,  -- I, U, D; C marks a commit
  old_key TEXT,             -- JSON array; of a commit: the transaction's first lsn
  new_key TEXT,
  new_row TEXT,             -- JSON array, in the order of the table's columns
  written_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS _zero_etl_source (id TEXT NOT NULL);
"""


@dataclass(frozen=True)
class SourceTable:
    """A table as the source's catalog describes it.

    Attributes:
        name: its name.
        columns: (name, declared type) in order.
        key: names of the primary key's columns; empty if it has none.
        captured: whether the change log gets its changes, in this shape.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    captured: bool

    def unreplicable(self) -> str | None:
        """Why zero-ETL can't replicate the table, in words for `reason`; None if it can."""
        if not self.key:
            return "Table has no primary key. Add one at the source, then refresh the table."
        for name, declared in self.columns:
            try:
                MySqlType.parse(declared)
            except UnsupportedTypeError as error:
                return f"Column {name}: {error}."
        return None

    def replica_columns(self) -> tuple[tuple[str, str], ...]:
        """(name, Redshift type) in order."""
        return tuple((name, MySqlType.parse(declared).redshift) for name, declared in self.columns)


class Aurora:
    """The database in ``home``; made when first opened.

    Safe to use from many threads and processes: each takes its own connection, and a writer that finds another at
    work waits.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / f"{DATABASE}.sqlite"
        with closing(self.connect()) as connection:
            connection.executescript(_LOG_DDL)
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT 1 FROM _zero_etl_source").fetchone():
                connection.execute("INSERT INTO _zero_etl_source VALUES (?)", (str(uuid.uuid4()),))
            connection.execute("COMMIT")

    def connect(self) -> sqlite3.Connection:
        """Open a connection in autocommit mode; the caller closes it."""
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextmanager
    def transaction(self, connection: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        """One source transaction: committed with its commit time when the block ends, rolled back if it raises."""
        own = connection is None
        connection = connection or self.connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                first = _last_lsn(connection) + 1
                yield connection
                if _last_lsn(connection) >= first:
                    connection.execute(
                        f"INSERT INTO {CHANGE_LOG} (table_name, operation, old_key, written_at) "
                        f"VALUES ('', '{COMMIT_MARK}', ?, {NOW})",
                        (first,),
                    )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            if own:
                connection.close()

    def create_tickit(self) -> None:
        """Make the seven tables that are not there yet."""
        with self.transaction() as connection:
            existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            for table in TABLES.values():
                if table.name not in existing:
                    connection.execute(table.source_ddl())

    def upsert(self, connection: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]]) -> int:
        """Insert TICKIT rows, replacing those whose key is there, so that loading the same file twice is harmless.

        Returns:
            How many rows were written.
        """
        names = TABLES[table].column_names
        changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        cursor = connection.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT ({names[0]}) DO UPDATE SET {changes}",
            rows,
        )
        return cursor.rowcount

    def is_empty(self) -> bool:
        """Whether no TICKIT table has a row."""
        with closing(self.connect()) as connection:
            names = {table.name for table in describe_tables(connection)} & set(TABLES)
            return not any(connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in names)

    def alter_column(self, table: str, column: str, declared: str) -> None:
        """Rebuild a table with another column type, in one transaction: ``MODIFY COLUMN``, which SQLite lacks."""
        with self.transaction() as connection:
            described = next(found for found in describe_tables(connection) if found.name == table)
            kinds = {name: declared if name == column else kind for name, kind in described.columns}
            columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            connection.execute(f"CREATE TABLE _rebuilt ({columns}, PRIMARY KEY ({', '.join(described.key)}))")
            connection.execute(f"INSERT INTO _rebuilt SELECT * FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE _rebuilt RENAME TO {table}")


def _last_lsn(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (CHANGE_LOG,)).fetchone()
    return row[0] if row else 0


def position(connection: sqlite3.Connection) -> tuple[str, int]:
    """The source's identity and the last position of its change log."""
    (identity,) = connection.execute("SELECT id FROM _zero_etl_source").fetchone()
    return identity, _last_lsn(connection)


def describe_tables(connection: sqlite3.Connection) -> list[SourceTable]:
    """The source's own tables: not SQLite's, not those of the change log."""
    triggers = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
    names = connection.execute(
        r"SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' "
        r"AND name NOT LIKE '\_zero\_etl\_%' ESCAPE '\' ORDER BY name"
    )
    found = []
    for (name,) in names.fetchall():
        info = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
        columns = tuple((column, declared) for _, column, declared, *_ in info)
        key = tuple(column for _, column in sorted((order, column) for _, column, _, _, _, order in info if order))
        wanted = _triggers(name, columns, key) if key else {}
        captured = bool(wanted) and all(triggers.get(trigger) == sql for trigger, sql in wanted.items())
        found.append(SourceTable(name, columns, key, captured))
    return found


def capture(connection: sqlite3.Connection, table: SourceTable) -> None:
    """Make the change log receive the table's changes from now on. Run within a write transaction."""
    for name, sql in _triggers(table.name, table.columns, table.key).items():
        connection.execute(f'DROP TRIGGER IF EXISTS "{name}"')
        connection.execute(sql)


def end_capture(connection: sqlite3.Connection) -> None:
    """Take the triggers off and empty the log. Run within a write transaction."""
    triggers = connection.execute(
        r"SELECT name FROM sqlite_schema WHERE name LIKE '\_zero\_etl\_%' ESCAPE '\' AND type = 'trigger'"
    )
    for (name,) in triggers.fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute(f"DELETE FROM {CHANGE_LOG}")


def row_as_json(columns: Iterable[str], alias: str = "") -> str:
    """The SQL expression that makes a row, or a key, a JSON array."""
    prefix = f"{alias}." if alias else ""
    return "json_array(" + ", ".join(f'{prefix}"{column}"' for column in columns) + ")"


def _triggers(table: str, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> dict[str, str]:
    names = [name for name, _ in columns]
    new_row, new_key, old_key = row_as_json(names, "NEW"), row_as_json(key, "NEW"), row_as_json(key, "OLD")
    # MySQL's row log has no entry for an update that changes nothing.
    changed = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in names)
    events = {
        "I": ("INSERT", "", f"NULL, {new_key}, {new_row}"),
        "U": ("UPDATE", f"WHEN {changed} ", f"{old_key}, {new_key}, {new_row}"),
        "D": ("DELETE", "", f"{old_key}, NULL, NULL"),
    }
    return {
        f"_zero_etl_{table}_{letter}": (
            f'CREATE TRIGGER "_zero_etl_{table}_{letter}" AFTER {event} ON "{table}" {condition}BEGIN '
            f"INSERT INTO {CHANGE_LOG} (table_name, operation, old_key, new_key, new_row, written_at) "
            f"VALUES ('{table}', '{letter}', {values}, {NOW}); END"
        )
        for letter, (event, condition, values) in events.items()
    }
