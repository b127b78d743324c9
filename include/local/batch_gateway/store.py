"""What the Kubernetes clusters keep: the applications' resources, their drivers' pods and events, in one SQLite file.

The gateway and the Spark operator both work on it, in processes of their own, and neither keeps anything elsewhere: each can be killed at
any moment. A deleted application stays in the file, unseen by the gateway's clients, so that a test can count all that were ever accepted.
Moments are milliseconds since 1970.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from include.local.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

TERMINAL: Final = frozenset({"COMPLETED", "FAILED"})

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS applications (
    id TEXT PRIMARY KEY, cluster TEXT NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL, labels TEXT NOT NULL, spec TEXT NOT NULL,
    created INTEGER NOT NULL, state TEXT, app_id TEXT, executions INTEGER NOT NULL DEFAULT 0, submissions INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, terminated INTEGER, error TEXT, pod TEXT NOT NULL DEFAULT '', pod_started INTEGER, ui_port INTEGER,
    entered INTEGER NOT NULL, due INTEGER, held INTEGER NOT NULL DEFAULT 0, deleted INTEGER, purged INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS applications_seen ON applications (cluster, name) WHERE deleted IS NULL;
CREATE INDEX IF NOT EXISTS applications_due ON applications (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS applications_name ON applications (name);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, object TEXT NOT NULL, moment INTEGER NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_object ON events (object, seq);
CREATE TABLE IF NOT EXISTS requests (operation TEXT PRIMARY KEY, times INTEGER NOT NULL);
"""
_TABLES: Final = ("applications", "events", "requests")


def now() -> int:
    """This moment."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Application:
    """One application's resource, with its status as the operator keeps it.

    Attributes:
        id: name of the resource: the submission id.
        name: label with the application's name.
        state: None before the operator has seen it.
        executions: how often its driver was started.
        submissions: how often the operator tried to submit it, since it last ran.
        tries: how often it tried at all.
        pod: phase of the driver's pod; empty where there is none.
        ui_port: where the running driver's UI is.
        entered: when it came into this state.
        due: when the operator is to look at it next; None where nothing is left to do.
        held: the operator leaves it as it is.
        deleted: when its resource was removed.
        purged: a test wants to know nothing of it any more.
    """

    id: str
    cluster: str
    name: str
    user: str
    labels: str
    spec: str
    created: int
    state: str | None
    app_id: str | None
    executions: int
    submissions: int
    tries: int
    terminated: int | None
    error: str | None
    pod: str
    pod_started: int | None
    ui_port: int | None
    entered: int
    due: int | None
    held: int
    deleted: int | None
    purged: int

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Application:
        """Of a row of the table."""
        return cls(**dict(row))

    @cached_property
    def document(self) -> dict[str, Any]:
        """The specification that the gateway made of the request."""
        made: dict[str, Any] = json.loads(self.spec)
        return made

    @cached_property
    def label(self) -> dict[str, str]:
        """The resource's labels."""
        made: dict[str, str] = json.loads(self.labels)
        return made

    @property
    def spark_conf(self) -> dict[str, str]:
        """The Spark properties."""
        return dict(self.document.get("sparkConf") or {})

    @property
    def driver(self) -> str:
        """Name of the driver's pod."""
        return f"{self.id}-driver"

    def summary(self) -> dict[str, Any]:
        """What a test may want to know."""
        left_out = ("labels", "spec", "due", "entered", "purged")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}


class Store(Database):
    """The clusters' state.

    Args:
        home: folder that holds it, and the drivers' folders.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home / "clusters.sqlite", _SCHEMA, _TABLES)
        self.home = home

    def folder(self, application_id: str) -> Path:
        """What a driver's container would hold: its log, its files."""
        return self.home / "drivers" / application_id

    def log_path(self, application_id: str) -> Path:
        """The driver's log."""
        return self.folder(application_id) / "driver.log"

    def create(self, application_id: str, cluster: str, labels: dict[str, str], spec: dict[str, Any]) -> None:
        """Make an application's resource."""
        moment = now()
        name, user = labels.get("applicationName", ""), labels.get("proxyUser", "")
        self.run(
            "INSERT INTO applications (id, cluster, name, user, labels, spec, created, entered, due)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(application_id, cluster, name, user, json.dumps(labels), json.dumps(spec), moment, moment, moment),
        )

    def get(self, application_id: str) -> Application | None:
        """An application that is not deleted."""
        row = self.one("SELECT * FROM applications WHERE id = ? AND deleted IS NULL", application_id)
        return Application.from_row(row) if row else None

    def find(self, application_id: str) -> Application | None:
        """An application, deleted or not."""
        row = self.one("SELECT * FROM applications WHERE id = ?", application_id)
        return Application.from_row(row) if row else None

    def with_app_id(self, app_id: str) -> Application | None:
        """The application that Spark calls so."""
        row = self.one("SELECT * FROM applications WHERE app_id = ? AND deleted IS NULL", app_id)
        return Application.from_row(row) if row else None

    def listed(self, cluster: str, *, name: str | None = None, user: str | None = None) -> list[Application]:
        """A cluster's applications that are not deleted, in the order of their ids."""
        rows = self.all(
            "SELECT * FROM applications WHERE cluster = ? AND deleted IS NULL AND name = coalesce(?, name)"
            " AND user = coalesce(?, user) ORDER BY id",
            *(cluster, name, user),
        )
        return [Application.from_row(row) for row in rows]

    def accepted(self, name: str | None = None) -> list[Application]:
        """All applications that were ever accepted, the deleted too, in the order in which they came."""
        rows = self.all("SELECT * FROM applications WHERE purged = 0 AND name = coalesce(?, name) ORDER BY rowid", name)
        return [Application.from_row(row) for row in rows]

    def due(self, moment: int) -> list[Application]:
        """Those that the operator is to look at."""
        rows = self.all("SELECT * FROM applications WHERE due <= ? ORDER BY due, rowid", moment)
        return [Application.from_row(row) for row in rows]

    def running(self) -> int:
        """How many drivers run."""
        row = self.one("SELECT count(*) AS n FROM applications WHERE pod = 'Running'")
        return int(row["n"]) if row else 0

    def next_due(self) -> int | None:
        """When the operator is to look at one."""
        row = self.one("SELECT min(due) AS due FROM applications WHERE due IS NOT NULL")
        return row["due"] if row else None

    def update(self, application_id: str, **values: Any) -> None:
        """Set columns of an application."""
        names = ", ".join(f"{name} = ?" for name in values)
        self.run(f"UPDATE applications SET {names} WHERE id = ?", *values.values(), application_id)

    def advance(self, seen: Application, **values: Any) -> bool:
        """Set columns of an application unless somebody else has changed it since it was seen; whether they were set."""
        names = ", ".join(f"{name} = ?" for name in values)
        done = self.run(
            f"UPDATE applications SET {names} WHERE id = ? AND entered = ? AND state IS ? AND held = ? AND deleted IS ? AND purged = ?",
            *(*values.values(), seen.id, seen.entered, seen.state, seen.held, seen.deleted, seen.purged),
        )
        return done.rowcount > 0

    def delete(self, application_id: str) -> None:
        """Remove an application's resource; the operator ends its driver."""
        moment = now()
        self.run(
            "UPDATE applications SET deleted = ?, due = ?, held = 0 WHERE id = ? AND deleted IS NULL",
            *(moment, moment, application_id),
        )

    def purge(self) -> None:
        """Forget all applications and requests; the operator ends the drivers and removes what is left."""
        moment = now()
        with self.transaction(immediate=True):
            self.run(
                "UPDATE applications SET purged = 1, held = 0, due = ?, deleted = coalesce(deleted, ?) WHERE purged = 0",
                *(moment, moment),
            )
            self.run("DELETE FROM requests")

    def erase(self, application_id: str) -> None:
        """Keep nothing of an application."""
        with self.transaction(immediate=True):
            self.run("DELETE FROM applications WHERE id = ?", application_id)
            self.run("DELETE FROM events WHERE object IN (?, ?)", application_id, f"{application_id}-driver")

    def tell(self, name: str, reason: str, message: str) -> None:
        """Record an event of an application or of its driver."""
        self.run(
            "INSERT INTO events (object, moment, reason, message) VALUES (?, ?, ?, ?)", name, now(), reason, message
        )

    def events(self, name: str) -> list[tuple[int, str, str]]:
        """Moment, reason and message of an object's events."""
        rows = self.all("SELECT moment, reason, message FROM events WHERE object = ? ORDER BY seq", name)
        return [(row["moment"], row["reason"], row["message"]) for row in rows]

    def count_request(self, operation: str) -> None:
        """One more request."""
        self.run(
            "INSERT INTO requests VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET times = times + 1", operation
        )

    def requests(self) -> dict[str, int]:
        """How often each operation was asked for, since the state was made or purged."""
        rows = self.all("SELECT operation, times FROM requests ORDER BY operation")
        return {row["operation"]: row["times"] for row in rows}

    def states(self) -> dict[str, dict[str, int]]:
        """How many applications each cluster has in each state."""
        told: dict[str, dict[str, int]] = {}
        rows: Iterable[sqlite3.Row] = self.all(
            "SELECT cluster, coalesce(state, '') AS state, count(*) AS n FROM applications WHERE deleted IS NULL GROUP BY 1, 2"
        )
        for row in rows:
            told.setdefault(row["cluster"], {})[row["state"]] = row["n"]
        return told
