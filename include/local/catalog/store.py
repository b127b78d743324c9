"""The stand-in's state: one SQLite database, which outlives the process when it has a folder."""

from __future__ import annotations

import json
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from include.local.catalog.protocol import ApiError
from include.local.database import Database

if TYPE_CHECKING:
    from pathlib import Path

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID: Final = string.ascii_lowercase + string.digits
PAGE: Final = 50

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, summary TEXT NOT NULL,
    moment INTEGER NOT NULL, status TEXT NOT NULL, created INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS events_moment ON events (moment, seq);
CREATE INDEX IF NOT EXISTS events_open ON events (seq) WHERE status IN ('REQUESTED', 'PROCESSING');
CREATE TABLE IF NOT EXISTS nodes (
    id TEXT PRIMARY KEY, source TEXT NOT NULL UNIQUE, type TEXT NOT NULL, name TEXT NOT NULL, job TEXT NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS versions (node TEXT NOT NULL, moment INTEGER NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (node, moment));
CREATE TABLE IF NOT EXISTS edges (
    upstream TEXT NOT NULL, downstream TEXT NOT NULL, moment INTEGER NOT NULL, PRIMARY KEY (upstream, downstream)
);
CREATE INDEX IF NOT EXISTS edges_downstream ON edges (downstream);
CREATE TABLE IF NOT EXISTS forms (
    node TEXT NOT NULL, name TEXT NOT NULL, moment INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (node, name, moment)
);
CREATE TABLE IF NOT EXISTS entities (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, external TEXT, source TEXT,
    document TEXT NOT NULL, UNIQUE (kind, id, revision)
);
CREATE INDEX IF NOT EXISTS entities_source ON entities (source);
CREATE TABLE IF NOT EXISTS points (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, entity TEXT NOT NULL, form TEXT NOT NULL, moment INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS points_entity ON points (entity, form, moment);
CREATE TABLE IF NOT EXISTS tokens (
    operation TEXT NOT NULL, token TEXT NOT NULL, digest TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (operation, token)
);
"""
"""Moments are microseconds since 1970."""
_TABLES: Final = ("events", "nodes", "versions", "edges", "forms", "entities", "points", "tokens")


class Store(Database):
    """What the catalog knows.

    Args:
        folder: where the database is; None keeps it in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder and folder / "catalog.sqlite", _SCHEMA, _TABLES)


def new_id() -> str:
    """An id like Amazon's: 14 lower-case letters and digits."""
    return "".join(_ID[byte % len(_ID)] for byte in secrets.token_bytes(14))


def as_micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def as_moment(micros: int) -> datetime:
    """The moment of `as_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


class Page:
    """The part of a list that a request asks for by ``maxResults`` and ``nextToken``.

    Attributes:
        size: entries at most.
        at: entries before it.

    Raises:
        ApiError: the token is none of ours.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        self.size: int = said.get("maxResults") or PAGE
        token = said.get("nextToken")
        try:
            self.at = int(json.loads(bytes.fromhex(token))["at"]) if token else 0
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError("ValidationException", f"nextToken: expected one of an answer, found {token!r}") from error

    @property
    def limits(self) -> tuple[int, int]:
        """``LIMIT`` and ``OFFSET`` of a query: one row more tells that there is a next page."""
        return self.size + 1, self.at

    def cut[T](self, rows: list[T]) -> tuple[list[T], dict[str, str]]:
        """The page's entries of what `limits` gave, and what leads to the next page."""
        if len(rows) <= self.size:
            return rows, {}
        return rows[: self.size], {"nextToken": json.dumps({"at": self.at + self.size}).encode().hex()}
