"""Replicates the local Aurora into the read-only analytic database that zero-ETL would maintain in Redshift.

A cycle reads the change log in one read transaction of the source, so it sees whole transactions only; applies it to
a working DuckDB file in one transaction, together with the log position reached; then copies that file and renames
the copy over the published one. So a kill at any moment leaves the position and the data in agreement and the
published file whole; the next start applies what is missing and publishes again.

History mode as Redshift documents it (Management Guide, zero-etl-history-mode): an insert adds an active version, an
update ends the active version and adds another, a delete ends it; ``_record_create_time`` and ``_record_delete_time``
are the commit times (UTC) between which a version was the source's current one. Several changes of one row in one
transaction are one version, for only the last was ever committed. The rows of a first load, which may be of any age,
are created at the load. Commit times are made strictly increasing, so a clock that is set back shifts no change
behind an earlier one.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np

from include.local.aurora.integration import (
    READABLE,
    Integration,
    Publication,
    TableReport,
    TableState,
    checkpoint_name,
    now_text,
)
from include.local.aurora.replica import (
    Replica,
    apply_changes_sql,
    apply_load,
    qualified,
    shape_of,
    stage_load,
    typed_changes_sql,
)
from include.local.aurora.snapshot import new_file, replace_durably
from include.local.aurora.source import (
    CHANGE_LOG,
    COMMIT_MARK,
    Aurora,
    SourceTable,
    capture,
    describe_tables,
    end_capture,
    position,
    row_as_json,
)
from include.local.tickit.schema import DATABASE, HISTORY_TABLES

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from include.local.tickit.generate import Array

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.1
PUBLISH_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 5.0
LOAD_ROWS: Final = 50_000
BLOCK_BYTES: Final = 262_144
"""DuckDB's unit of storage."""
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1)  # replica timestamps have no zone; they are UTC

_DDL: Final = f"""
CREATE SCHEMA IF NOT EXISTS {DATABASE};
CREATE SCHEMA IF NOT EXISTS _replication;
CREATE TABLE IF NOT EXISTS _replication.position (source_id VARCHAR, lsn BIGINT, committed_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS _replication.tables (
  name VARCHAR, shape VARCHAR, state VARCHAR, reason VARCHAR, history BOOLEAN);
"""


class ReplicatorLockedError(RuntimeError):
    """Another replicator works in the same directory."""


@dataclass(frozen=True)
class Position:
    """How far the working file has come: the log position, and the commit time of its last transaction (UTC)."""

    source_id: str
    lsn: int
    committed_at: datetime


@dataclass(frozen=True)
class Changes:
    """What one cycle found in the log, resolved to transactions.

    Attributes:
        columns: arrays ``lsn``, ``table_name``, ``operation``, ``old_key``, ``new_key``, ``new_row``, ``txn``, ``at``.
        committed_at: commit time of the last transaction.
        oldest: commit time, as the source wrote it, of the first.
    """

    columns: dict[str, Array]
    committed_at: datetime
    oldest: datetime | None

    def tables(self) -> set[str]:
        """Names of the tables that changed."""
        return {str(name) for name in set(self.columns["table_name"].tolist())}


class Replicator:
    """Replicates ``aurora`` into ``directory``; one at a time per directory.

    Args:
        aurora: the source.
        directory: where the published database, the working file and the integration's report are.
        history_tables: tables replicated in history mode.
        publish_seconds: least time between two publications.
    """

    def __init__(
        self,
        aurora: Aurora,
        directory: Path,
        *,
        history_tables: Collection[str] = HISTORY_TABLES,
        publish_seconds: float = PUBLISH_SECONDS,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.aurora = aurora
        self.directory = directory
        self.integration = Integration(directory)
        self.history_tables = frozenset(history_tables)
        self.publish_seconds = publish_seconds
        self.error: str | None = None
        """Why the last cycle failed; None while all is well."""
        self._lock = threading.RLock()
        self._lock_file = (directory / "replicator.lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock_file.close()
            raise ReplicatorLockedError(
                f"{directory}: expected to replicate alone, found another replicator at work; stop it first"
            ) from error
        self._source = aurora.connect()
        self._working = self._open_working()
        self._catalog: tuple[int, list[SourceTable]] | None = None
        self._published_at = 0.0
        self._pruned_at = 0.0
        self._refresh: set[str] = set()

    # -- what the AWS interfaces ask for ----------------------------------------------------------------------------

    @property
    def published_path(self) -> Path | None:
        """The published database, if one was made from the integration."""
        name = self.integration.summary()["target_database"]
        return self.directory / f"{name}.duckdb" if name else None

    def connect_database(self, name: str) -> None:
        """``CREATE DATABASE name FROM INTEGRATION``: from now on the integration replicates into it."""
        with self._lock:
            self.integration.connect_database(name)

    def drop_database(self) -> None:
        """``DROP DATABASE``: forget the replica; the integration waits for another database."""
        with self._lock:
            path = self.published_path
            self.integration.connect_database(None)
            self._reset_working()
            with self.aurora.transaction() as connection:
                end_capture(connection)
            self._catalog = None
            if path:
                path.unlink(missing_ok=True)

    def refresh_tables(self, names: Collection[str]) -> None:
        """``ALTER DATABASE … INTEGRATION REFRESH TABLES``: reload these tables, or all if none is named."""
        with self._lock:
            self._refresh |= set(names) or {table.name for table in self._replicas().values()}

    def lag_ms(self) -> int | None:
        """Milliseconds the published database is behind: age of the oldest commit it lacks, else its last lag."""
        summary = self.integration.summary()
        if summary["published_lsn"] is None:
            return None
        with closing(self.aurora.connect()) as connection:
            row = connection.execute(
                f"SELECT written_at FROM {CHANGE_LOG} WHERE lsn > ? ORDER BY lsn LIMIT 1", (summary["published_lsn"],)
            ).fetchone()
        if row is None:
            return int(summary["lag_ms"])
        return _milliseconds_since(datetime.fromisoformat(row[0]))

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Replicate until ``stop`` is set; a cycle that fails is told and tried again."""
        while not stop.wait(POLL_SECONDS):
            try:
                if self._is_due():
                    self.cycle()
                self.error = None
            except (duckdb.Error, sqlite3.Error, OSError) as error:
                self.error = f"{type(error).__name__}: {error}"
                log.error(
                    "replication stopped at the last published snapshot, which stays readable: %s. Free disk space or "
                    "repair what the message names; trying again in %.0f s",
                    self.error,
                    RETRY_SECONDS,
                )
                stop.wait(RETRY_SECONDS)

    def close(self) -> None:
        """Close the files; nothing is left to flush."""
        with self._lock:
            self._working.close()
            self._source.close()
            self._lock_file.close()

    def _is_due(self) -> bool:
        """Whether there is something to publish, and it is time to."""
        if time.monotonic() - self._published_at < self.publish_seconds:
            return False
        with self._lock:
            if self.integration.summary()["target_database"] is None:
                return False
            waiting = any(table.state is TableState.RESYNC_REQUIRED for table in self._replicas().values())
            return (
                not self._same_catalog()
                or waiting
                or bool(self._refresh)
                or position(self._source) != self._applied_to()
            )

    def _applied_to(self) -> tuple[str, int]:
        published, current = self.integration.summary()["published_lsn"], self._position()
        return current.source_id, -1 if published is None else min(current.lsn, published)

    # -- one cycle --------------------------------------------------------------------------------------------------

    def cycle(self) -> bool:
        """Apply what the source has committed and publish it.

        Returns:
            Whether a snapshot was published.
        """
        with self._lock:
            if self.integration.summary()["target_database"] is None:
                return False
            started_at, began = now_text(), time.monotonic()
            catalog = self._read_catalog()
            decided = self._decide(catalog)
            loads = self._begin_capture(catalog, decided)
            self._announce(decided)
            before = self._position()
            self._source.execute("BEGIN")
            try:
                if not self._same_catalog():
                    return False  # altered since it was read; the next cycle looks again
                source_id, lsn = position(self._source)
                changes = self._read_changes(before)
                self._stage_changes(changes)
                decided |= self._type_changes(changes, decided) | self._stage_loads(loads, decided)
                loads = [table for table in loads if decided[table.name].state is TableState.RESYNC_INITIATED]
            finally:
                self._source.execute("ROLLBACK")
            moved = lsn != before.lsn or bool(loads) or decided != self._replicas()
            after = Position(source_id, lsn, changes.committed_at)
            if loads:
                after = replace(after, committed_at=max(_now(), after.committed_at + _MICROSECOND))
            if not moved and self._is_published(lsn):
                return False  # the source's catalog changed in nothing that is replicated
            touched = self._apply(changes, decided, loads, after) if moved else set()
            self._refresh.clear()  # not before: a cycle that ends early leaves the request to the next
            self._publish(after, touched, "snapshot" if loads else "cdc", changes.oldest, started_at)
            self._published_at = began
            self._prune()
            return True

    def _is_published(self, lsn: int) -> bool:
        """Whether the published file and the report have everything up to ``lsn``; not so after an untimely end."""
        path, reported = self.published_path, {row["table_name"]: row["state"] for row in self.integration.tables()}
        states = {name: str(table.state) for name, table in self._replicas().items()}
        published = self.integration.summary()["published_lsn"]
        return published == lsn and reported == states and path is not None and path.exists()

    def _read_catalog(self) -> list[SourceTable]:
        self._source.execute("BEGIN")
        try:
            if self._catalog is None or not self._same_catalog():
                self._catalog = self._described()
            source_id, lsn = position(self._source)
        finally:
            self._source.execute("ROLLBACK")
        current = self._position()
        if current.source_id != source_id or current.lsn > lsn:
            if current.source_id:
                log.warning("the source was replaced or lost its last commits; loading every table again")
            self._reset_working()
            self._working.execute("INSERT INTO _replication.position VALUES (?, ?, ?)", (source_id, lsn, _EPOCH))
        return self._catalog[1]

    def _same_catalog(self) -> bool:
        return self._catalog is not None and self._catalog[0] == self._schema_version()

    def _schema_version(self) -> int:
        (version,) = self._source.execute("PRAGMA schema_version").fetchone()
        return int(version)

    def _described(self) -> tuple[int, list[SourceTable]]:
        return self._schema_version(), describe_tables(self._source)

    def _decide(self, catalog: list[SourceTable]) -> dict[str, Replica]:
        """Every table's next state, from what the source has now."""
        known = self._replicas()
        decided = dict(known)
        for table in catalog:
            decided[table.name] = self._decide_table(table, known.get(table.name))
        for name in set(known) - {table.name for table in catalog}:
            replica = known[name]
            kept = replica.history and replica.state is not TableState.DELETED
            decided[name] = replace(
                replica,
                state=TableState.DROPPED_SOURCE if kept else TableState.DELETED,
                reason="The table was dropped at the source.",
            )
        return decided

    def _decide_table(self, table: SourceTable, known: Replica | None) -> Replica:
        shape, history = shape_of(table), table.name in self.history_tables
        new = Replica(table.name, shape, TableState.RESYNC_INITIATED, "", history)
        if reason := table.unreplicable():
            return replace(new, state=TableState.FAILED, reason=reason)
        if known is None or known.state is TableState.DELETED:
            return new
        if known.state in (TableState.RESYNC_REQUIRED, TableState.RESYNC_INITIATED):
            return new
        if table.name in self._refresh:
            return replace(known, state=TableState.RESYNC_REQUIRED, reason="A refresh of the table was requested.")
        if known.state is TableState.SYNCED and known.shape != shape:
            return replace(known, state=TableState.RESYNC_REQUIRED, reason="The table was altered at the source.")
        if known.state is TableState.SYNCED and known.history != history:
            return replace(known, state=TableState.RESYNC_REQUIRED, reason="History mode was switched.")
        if known.state is TableState.SYNCED and not table.captured:
            return replace(known, state=TableState.RESYNC_REQUIRED, reason="The table was replaced at the source.")
        return known

    def _begin_capture(self, catalog: list[SourceTable], decided: dict[str, Replica]) -> list[SourceTable]:
        """Capture the changes of tables about to be loaded; from then on the log has what the load misses."""
        loads = [table for table in catalog if decided[table.name].state is TableState.RESYNC_INITIATED]
        if missing := [table for table in loads if not table.captured]:
            with self.aurora.transaction(self._source):
                if not self._same_catalog():
                    self._catalog = None  # altered since it was read; the next cycle looks again
                    return []
                for table in missing:
                    capture(self._source, table)
                self._catalog = self._described()
        return loads

    def _announce(self, decided: dict[str, Replica]) -> None:
        """Report table states that precede a load, for that may take a while."""
        reports = [_report(table) for table in decided.values() if table.state is TableState.RESYNC_INITIATED]
        if reports:
            self.integration.record(reports)

    def _read_changes(self, before: Position) -> Changes:
        """The log behind ``before``, each change with the number and the commit time of its transaction."""
        fields = ("lsn", "table_name", "operation", "old_key", "new_key", "new_row", "written_at")
        rows = self._source.execute(
            f"SELECT {', '.join(fields)} FROM {CHANGE_LOG} WHERE lsn > ? ORDER BY lsn", (before.lsn,)
        ).fetchall()
        columns: dict[str, Array] = {
            name: np.array(values, dtype=np.int64 if name == "lsn" else object)
            for name, values in zip(fields, zip(*rows, strict=True) if rows else [()] * len(fields), strict=True)
        }
        lsn, written = columns["lsn"], columns.pop("written_at").astype("datetime64[us]").astype(np.int64)
        is_mark = columns["operation"] == COMMIT_MARK
        marks, starts = lsn[is_mark], columns["old_key"][is_mark].astype(np.int64)
        # A change belongs to the next mark if that transaction began at or before it; else it is its own.
        owner = np.searchsorted(marks, lsn)
        starts = np.append(starts, np.iinfo(np.int64).max)
        covered = starts[owner] <= lsn
        at = np.where(covered, np.append(written[is_mark], 0)[owner], written)
        identity = np.where(covered, np.append(marks, 0)[owner], -lsn)
        txn = np.cumsum(np.diff(identity, prepend=0) != 0)
        oldest = _EPOCH + timedelta(microseconds=int(at[0])) if len(at) else None
        # Strictly increasing from one transaction to the next, whatever the source's clock did.
        floor = int((before.committed_at - _EPOCH) / _MICROSECOND)
        at = np.maximum(np.maximum.accumulate(at - txn), floor) + txn if len(at) else at
        columns |= {"txn": txn, "at": at.astype("datetime64[us]")}
        last = _EPOCH + timedelta(microseconds=int(at[-1])) if len(at) else before.committed_at
        changed = {name: values[~is_mark] for name, values in columns.items()}
        return Changes(changed, last, oldest)

    def _stage_changes(self, changes: Changes) -> None:
        self._working.register("incoming", changes.columns)
        self._working.execute("CREATE OR REPLACE TEMP TABLE log AS SELECT * FROM incoming")
        self._working.unregister("incoming")

    def _type_changes(self, changes: Changes, decided: dict[str, Replica]) -> dict[str, Replica]:
        """Give each table's changes the types of its columns, as temporary tables.

        Returns:
            The tables whose values do not fit, as Failed.
        """
        failed = {}
        for name in changes.tables():
            table = decided.get(name)
            if table is None or table.state is not TableState.SYNCED:
                continue
            try:
                self._working.execute(typed_changes_sql(table), {"table": name})
            except duckdb.ConversionException as error:
                failed[name] = table.fail(error)
        return failed

    def _stage_loads(self, loads: list[SourceTable], decided: dict[str, Replica]) -> dict[str, Replica]:
        """Read the tables to be loaded; return those whose values do not fit, as Failed."""
        failed = {}
        for table in loads:
            try:
                self._stage_load(table)
            except duckdb.ConversionException as error:
                failed[table.name] = decided[table.name].fail(error)
        return failed

    def _stage_load(self, table: SourceTable) -> None:
        """Read a whole table into a temporary one. The caller holds the read transaction."""
        key = ", ".join(f'"{name}"' for name in table.key)
        row = row_as_json(name for name, _ in table.columns)
        cursor = self._source.execute(f'SELECT {row} FROM "{table.name}" ORDER BY {key}')
        batches = iter(lambda: cursor.fetchmany(LOAD_ROWS), [])
        stage_load(self._working, table, (np.array([row for (row,) in rows], dtype=object) for rows in batches))

    def _apply(
        self, changes: Changes, decided: dict[str, Replica], loads: list[SourceTable], after: Position
    ) -> set[str]:
        """Change the working file to the position ``after``, in one transaction; return the tables it touched."""
        working, touched = self._working, set()
        working.execute("BEGIN")
        try:
            for name in changes.tables():
                table = decided.get(name)
                if table is not None and table.state is TableState.SYNCED:
                    for statement in apply_changes_sql(table):
                        working.execute(statement)
                    touched.add(name)
            for source in loads:
                table = decided[source.name]
                apply_load(working, source, table.history, after.committed_at)
                decided[source.name] = replace(table, state=TableState.SYNCED, reason="")
                touched.add(source.name)
            for table in decided.values():
                if table.state is TableState.DELETED:
                    working.execute(f"DROP TABLE IF EXISTS {qualified(table.name)}")
            working.execute("DELETE FROM _replication.tables")
            for t in decided.values():
                row = [t.name, t.shape, str(t.state), t.reason, t.history]
                working.execute("INSERT INTO _replication.tables VALUES (?, ?, ?, ?, ?)", row)
            working.execute(
                "UPDATE _replication.position SET source_id = ?, lsn = ?, committed_at = ?",
                (after.source_id, after.lsn, after.committed_at),
            )
            working.execute("COMMIT")
        except BaseException:
            working.execute("ROLLBACK")
            raise
        return touched

    def _publish(self, after: Position, touched: set[str], kind: str, oldest: datetime | None, started_at: str) -> None:
        """Make the working file's state the published one."""
        path = self.published_path
        assert path is not None  # a cycle runs only when a database was made
        replicas = self._replicas()
        self._working.execute("CHECKPOINT")
        building = new_file(path)
        try:
            shutil.copyfile(self.directory / "replica.duckdb", building)
            with duckdb.connect(str(building)) as copy:
                copy.execute("DROP SCHEMA _replication CASCADE")
                for table in replicas.values():
                    if table.state not in READABLE:
                        copy.execute(f"DROP TABLE IF EXISTS {qualified(table.name)}")
                copy.execute("CHECKPOINT")
                sizes = {name: _size(copy, name) for name in touched}
            replace_durably(building, path)
        except BaseException:
            building.unlink(missing_ok=True)
            raise
        checkpoint = checkpoint_name(after.lsn, int((after.committed_at - _EPOCH) / timedelta(milliseconds=1)))
        lag = _milliseconds_since(oldest) if oldest else 0
        self.integration.record(
            [
                _report(table, checkpoint=checkpoint, lag_ms=lag, **sizes[table.name])
                if table.name in touched
                else _report(table)
                for table in replicas.values()
            ],
            Publication(
                lsn=after.lsn,
                checkpoint=checkpoint,
                kind=kind,
                bytes=path.stat().st_size,
                committed_at=after.committed_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
                tables=tuple(sorted(touched)),
                started_at=started_at,
                finished_at=now_text(),
                lag_ms=lag,
            ),
        )

    def _prune(self) -> None:
        """Forget the log that is applied and published."""
        if time.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._source.execute(f"DELETE FROM {CHANGE_LOG} WHERE lsn <= ?", (self._position().lsn,))
        self._pruned_at = time.monotonic()

    # -- the working file -------------------------------------------------------------------------------------------

    def _open_working(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(str(self.directory / "replica.duckdb"))
        connection.execute(_DDL)
        return connection

    def _reset_working(self) -> None:
        self._working.close()
        for name in ("replica.duckdb", "replica.duckdb.wal"):
            (self.directory / name).unlink(missing_ok=True)
        self._working = self._open_working()

    def _position(self) -> Position:
        rows = self._working.execute("SELECT * FROM _replication.position").fetchall()
        return Position(*rows[0]) if rows else Position("", 0, _EPOCH)

    def _replicas(self) -> dict[str, Replica]:
        rows = self._working.execute("SELECT * FROM _replication.tables ORDER BY name").fetchall()
        return {
            name: Replica(name, shape, TableState(state), reason, history)
            for name, shape, state, reason, history in rows
        }


def _report(table: Replica, **progress: Any) -> TableReport:
    return TableReport(table.name, table.state, table.reason, history=table.history, **progress)


def _size(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    """Rows and size (MB) of a published table."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {qualified(name)}").fetchall()
    ((blocks,),) = connection.execute(
        f"SELECT count(DISTINCT block_id) FROM pragma_storage_info('{qualified(name)}') WHERE block_id >= 0"
    ).fetchall()
    return {"rows": rows, "size_mb": -(-blocks * BLOCK_BYTES // 1_000_000)}


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _milliseconds_since(moment: datetime) -> int:
    """Age of ``moment``; 0 for one in the future, as after the clock was set back."""
    return max(0, round((_now() - moment) / timedelta(milliseconds=1)))
