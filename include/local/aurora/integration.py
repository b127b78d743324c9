"""What the integration reports about itself, kept durably: states, checkpoints, lag, activity.

The replicator writes it, the AWS interfaces read it. Truth about the data itself (which change was applied last, in
what shape a table is) lives with the data, in the replicator's own file.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from include.local.tickit.schema import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

INTEGRATION_ID: Final = "7f6c1f0e-6f5b-4e58-9d3a-2b8c5a4e1d90"
INTEGRATION_NAME: Final = "tickit"
REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"
KEPT_RECORDS: Final = 1_000
"""Activity and state changes kept, newest; as on Redshift, whose SYS views keep seven days."""

_DDL: Final = """
CREATE TABLE IF NOT EXISTS integration (
  integration_id TEXT PRIMARY KEY, target_database TEXT, state TEXT NOT NULL, creation_time TEXT NOT NULL,
  published_lsn INTEGER, checkpoint TEXT, lag_ms INTEGER
);
CREATE TABLE IF NOT EXISTS table_state (
  table_name TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL, checkpoint TEXT, updated_at TEXT NOT NULL,
  table_rows INTEGER, table_size INTEGER, is_history_mode INTEGER NOT NULL, lag_ms INTEGER
);
CREATE TABLE IF NOT EXISTS activity (
  checkpoint_name TEXT, checkpoint_type TEXT, checkpoint_bytes INTEGER, last_commit_timestamp TEXT,
  modified_tables TEXT, integration_start_time TEXT, integration_end_time TEXT
);
CREATE TABLE IF NOT EXISTS state_change (
  table_name TEXT, new_state TEXT, checkpoint TEXT, reason TEXT, record_time TEXT
);
"""


class IntegrationState(StrEnum):
    """Values of SVV_INTEGRATION.state."""

    PENDING = "PendingDbConnectState"
    DISCOVERY = "SchemaDiscoveryState"
    CDC = "CdcRefreshState"
    ERROR = "ErrorState"


class TableState(StrEnum):
    """Values of SVV_INTEGRATION_TABLE_STATE.table_state."""

    SYNCED = "Synced"
    FAILED = "Failed"
    DELETED = "Deleted"
    RESYNC_REQUIRED = "ResyncRequired"
    RESYNC_INITIATED = "ResyncInitiated"
    DROPPED_SOURCE = "DroppedSource"


READABLE: Final = frozenset({TableState.SYNCED, TableState.DROPPED_SOURCE})
"""Tables in these states can be queried. Redshift lets Synced tables be queried by default (QUERY_ALL_STATES), and a
history-mode table whose source was dropped (Management Guide, zero-etl-history-mode)."""


def now_text() -> str:
    """Now in UTC, as Redshift writes timestamps."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def checkpoint_name(lsn: int, transaction: int) -> str:
    """A log coordinate in Redshift's form."""
    return json.dumps({"txn_seq": lsn, "txn_id": transaction}, separators=(",", ":"))


@dataclass(frozen=True)
class TableReport:
    """One table as the integration reports it; ``lag_ms`` from commit to readable, at its last change."""

    name: str
    state: TableState
    reason: str = ""
    checkpoint: str | None = None
    rows: int | None = None
    size_mb: int | None = None
    history: bool = False
    lag_ms: int | None = None


@dataclass(frozen=True)
class Publication:
    """One publication: which log position it shows, of when, and what it took."""

    lsn: int
    checkpoint: str
    kind: str
    bytes: int
    committed_at: str
    tables: tuple[str, ...]
    started_at: str
    finished_at: str
    lag_ms: int


@dataclass
class Overrides:
    """Reported values forced by a test, in memory only; the data goes on being replicated.

    Attributes:
        status: of RDS and Redshift (``active``, ``failed``, …).
        errors: ``{"ErrorCode", "ErrorMessage"}`` of RDS.
        state: of SVV_INTEGRATION.
        lag_ms: of SVV_INTEGRATION.
        tables: table name to ``{"state", "reason"}``; state ``None`` hides the table.
        missing: whether the integration is reported as not found.
    """

    status: str | None = None
    errors: list[dict[str, str]] | None = None
    state: str | None = None
    lag_ms: int | None = None
    tables: dict[str, dict[str, str | None]] = field(default_factory=dict)
    missing: bool = False


class Integration:
    """The integration's durable report. Safe to use from any thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "integration.sqlite"
        self.id = INTEGRATION_ID
        self.overrides = Overrides()
        with closing(self._connect()) as connection:
            connection.executescript(_DDL)
            connection.execute(
                "INSERT OR IGNORE INTO integration (integration_id, state, creation_time) VALUES (?, ?, ?)",
                (self.id, IntegrationState.PENDING, now_text()),
            )

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:rds:{REGION}:{ACCOUNT}:integration:{self.id}"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with closing(self._connect()) as connection:
            return [dict(row) for row in connection.execute(sql, parameters)]

    def summary(self) -> dict[str, Any]:
        """The integration's own record, as stored."""
        return self._rows("SELECT * FROM integration WHERE integration_id = ?", self.id)[0]

    def tables(self) -> list[dict[str, Any]]:
        """Every table's record, as stored."""
        return self._rows("SELECT * FROM table_state ORDER BY table_name")

    def activity(self) -> list[dict[str, Any]]:
        """Publications, newest first."""
        return self._rows("SELECT * FROM activity ORDER BY rowid DESC")

    def state_changes(self) -> list[dict[str, Any]]:
        """Changes of table states, newest first."""
        return self._rows("SELECT * FROM state_change ORDER BY rowid DESC")

    def connect_database(self, name: str | None) -> None:
        """Set the database made from the integration, or (None) that there is none, and start over."""
        state = IntegrationState.DISCOVERY if name else IntegrationState.PENDING
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "UPDATE integration SET target_database = ?, state = ?, published_lsn = NULL, checkpoint = NULL, "
                "lag_ms = NULL",
                (name, state),
            )
            connection.execute("DELETE FROM table_state")
            connection.execute("COMMIT")

    def record(self, tables: Iterable[TableReport], publication: Publication | None = None) -> None:
        """Record table states, and a publication if there was one, in one transaction.

        A table that is not among ``tables`` keeps its record; a changed state is noted in the state changes.
        """
        moment = now_text()
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            known = {row["table_name"]: row["state"] for row in connection.execute("SELECT * FROM table_state")}
            for table in tables:
                connection.execute(
                    "INSERT INTO table_state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "state = excluded.state, reason = excluded.reason, updated_at = excluded.updated_at, "
                    "checkpoint = coalesce(excluded.checkpoint, checkpoint), lag_ms = coalesce(excluded.lag_ms, lag_ms), "
                    "table_rows = coalesce(excluded.table_rows, table_rows), "
                    "table_size = coalesce(excluded.table_size, table_size), is_history_mode = excluded.is_history_mode",
                    (
                        table.name,
                        table.state,
                        table.reason,
                        table.checkpoint,
                        moment,
                        table.rows,
                        table.size_mb,
                        table.history,
                        table.lag_ms,
                    ),
                )
                if known.get(table.name) != table.state:
                    connection.execute(
                        "INSERT INTO state_change VALUES (?, ?, ?, ?, ?)",
                        (table.name, table.state, table.checkpoint, table.reason, moment),
                    )
            if publication:
                self._record_publication(connection, publication)
            connection.execute("COMMIT")

    def _record_publication(self, connection: sqlite3.Connection, publication: Publication) -> None:
        connection.execute(
            "UPDATE integration SET published_lsn = ?, checkpoint = ?, lag_ms = ?, state = ? WHERE integration_id = ?",
            (publication.lsn, publication.checkpoint, publication.lag_ms, IntegrationState.CDC, self.id),
        )
        connection.execute(
            "INSERT INTO activity VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                publication.checkpoint,
                publication.kind,
                publication.bytes,
                publication.committed_at,
                ",".join(f"{DATABASE}.{name}" for name in publication.tables),
                publication.started_at,
                publication.finished_at,
            ),
        )
        for table in ("activity", "state_change"):
            connection.execute(f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) FROM {table}) - {KEPT_RECORDS}")
