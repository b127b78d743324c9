"""A stand-in's state in one SQLite database."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_SECONDS: Final = 30
"""How long another process's write is waited for."""


class Database:
    """One connection, used by one thread at a time; other processes may have the same file open.

    Args:
        path: where the database is; None keeps it in memory.
        schema: statements that make the tables where there are none.
        tables: their names.
    """

    def __init__(self, path: Path | None, schema: str, tables: tuple[str, ...]) -> None:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._tables = tables
        self._lock = threading.RLock()
        place = str(path) if path else ":memory:"
        self._connection = sqlite3.connect(place, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._write_ahead()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(schema)

    def _write_ahead(self) -> None:
        """SQLite refuses at once, whatever the time-out, while another process does the same to a new database."""
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    @contextmanager
    def transaction(self, *, immediate: bool = False) -> Iterator[None]:
        """All or nothing of what is written; no other thread reads or writes meanwhile.

        Args:
            immediate: no other process writes either, from the first statement on: what was read is still so when it is written.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement."""
        with self._lock:
            return self._connection.execute(sql, values)

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        with self._lock:
            row: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
            return row

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            for table in self._tables:
                self.run(f"DELETE FROM {table}")

    def close(self) -> None:
        """Close the database; what was answered is in it."""
        with self._lock:
            self._connection.close()
