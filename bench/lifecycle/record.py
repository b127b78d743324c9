"""What Airflow's server keeps of a task instance: its state and tries, its state store and XComs, in one SQLite file.

Every change is one transaction that holds only from the state it was made for, as in Airflow: of two that do the same, one does it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import psutil

from include.local.database import Database
from include.local.processes import is_alive

if TYPE_CHECKING:
    from pathlib import Path

ENDED: Final = frozenset({"success", "failed"})
_PACE_SECONDS: Final = 0.01

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS task (
    id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL, try_number INTEGER NOT NULL, max_tries INTEGER NOT NULL,
    retries INTEGER NOT NULL, next_method TEXT, next_kwargs TEXT, trigger_path TEXT, trigger_kwargs TEXT,
    trigger_number INTEGER NOT NULL DEFAULT 0, worker TEXT, triggerer TEXT, result TEXT, error TEXT
);
CREATE TABLE IF NOT EXISTS kept (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE IF NOT EXISTS strikes (point TEXT NOT NULL, what TEXT NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (point, what));
CREATE TABLE IF NOT EXISTS history (seq INTEGER PRIMARY KEY, moment REAL NOT NULL, told TEXT NOT NULL);
"""
_TABLES: Final = ("task", "kept", "strikes", "history")


@dataclass(frozen=True)
class Identity:
    """A process, told from a later one of the same id."""

    pid: int
    created: float

    @classmethod
    def mine(cls) -> Identity:
        """This process."""
        return cls(os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, text: str | None) -> Identity | None:
        """Of a column."""
        return cls(*json.loads(text)) if text else None

    def written(self) -> str:
        """For a column."""
        return json.dumps([self.pid, self.created])

    @classmethod
    def of(cls, pid: int) -> Identity:
        """A process that was just started; one that has ended already was born never."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return is_alive(self.pid, self.created)


@dataclass(frozen=True)
class Task:
    """The task instance.

    Attributes:
        state: scheduled, queued, running, restarting, deferred, success or failed.
        retries: of the task; `max_tries` grows by a clear.
        next_method: how a deferred task goes on; None begins a try.
        trigger_number: of the present trigger; an event of an earlier one does not count.
    """

    id: int
    state: str
    try_number: int
    max_tries: int
    retries: int
    next_method: str | None
    next_kwargs: str | None
    trigger_path: str | None
    trigger_kwargs: str | None
    trigger_number: int
    worker: str | None
    triggerer: str | None
    result: str | None
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether Airflow does no more with it."""
        return self.state in ENDED

    @property
    def may_retry(self) -> bool:
        """Airflow's rule."""
        return self.max_tries != 0 and self.try_number <= self.max_tries


class Record(Database):
    """The record of one task instance.

    Args:
        home: folder that holds it.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home / "task.sqlite", _SCHEMA, _TABLES)

    def create(self, retries: int) -> None:
        """A task instance that is to run."""
        self.run(
            "INSERT INTO task (id, state, try_number, max_tries, retries) VALUES (1, 'scheduled', 1, ?, ?)",
            retries,
            retries,
        )

    def task(self) -> Task:
        """As it is now."""
        row = self.one("SELECT * FROM task")
        if row is None:
            raise LookupError("expected a task instance, found none; create it first")
        return Task(**dict(row))

    def queue(self) -> bool:
        """The scheduler gives it to a worker; False if somebody else did."""
        return self._move("state = 'scheduled'", state="queued")

    def requeue(self) -> bool:
        """What an earlier scheduler gave to a worker may have got lost with it."""
        return self._move("state = 'queued'", state="scheduled")

    def start(self, worker: Identity) -> Task | None:
        """A worker begins; None if it is not its turn."""
        moved = self._move("state = 'queued'", state="running", worker=worker.written())
        return self.task() if moved else None

    def defer(self, try_number: int, path: str, arguments: dict[str, Any], next_method: str) -> bool:
        """The worker hands over to the triggerer."""
        with self.transaction(immediate=True):
            number = self.task().trigger_number + 1
            return self._move(
                "state = 'running' AND try_number = ?",
                try_number,
                state="deferred",
                trigger_path=path,
                trigger_kwargs=json.dumps(arguments),
                trigger_number=number,
                next_method=next_method,
                triggerer=None,
            )

    def claim(self, triggerer: Identity) -> Task | None:
        """A triggerer takes the trigger; None if there is none, or another has it."""
        with self.transaction(immediate=True):
            task = self.task()
            holder = Identity.read(task.triggerer)
            if task.state != "deferred" or (holder and holder.alive):
                return None
            self._move("state = 'deferred'", triggerer=triggerer.written())
            return task

    def fire(self, number: int, event: Any) -> bool:
        """The trigger has an event: the task goes on in a worker."""
        return self._move(
            "state = 'deferred' AND trigger_number = ?",
            number,
            state="scheduled",
            next_kwargs=json.dumps({"event": event}),
        )

    def succeed(self, try_number: int, result: Any) -> bool:
        """The worker is done."""
        return self._move(
            "state = 'running' AND try_number = ?", try_number, state="success", result=json.dumps(result), error=None
        )

    def fail(self, try_number: int, error: str, *, state: str = "running", retry: bool = True) -> bool:
        """A try has failed, or its worker is gone; False if the task is no longer in this state."""
        with self.transaction(immediate=True):
            task = self.task()
            if (task.try_number, task.state) != (try_number, state):
                return False
            if retry and task.may_retry:
                return self._begin_try(error=error)
            return self._move("TRUE", state="failed", error=error)

    def clear_task(self) -> None:
        """A person clears it (airflow.models.taskinstance.clear_task_instances)."""
        with self.transaction(immediate=True):
            task = self.task()
            if task.state == "running":
                self._move("TRUE", state="restarting")
            else:
                self._begin_try(max_tries=task.try_number + task.retries, result=None, error=None)

    def restart(self) -> bool:
        """The worker of a task that was cleared while it ran has ended."""
        with self.transaction(immediate=True):
            return self.task().state == "restarting" and self._begin_try()

    def mark(self, state: Literal["success", "failed"]) -> None:
        """A person ends it."""
        self._move("TRUE", state=state, trigger_path=None, trigger_kwargs=None, next_method=None, next_kwargs=None)

    def get(self, kind: str, key: str) -> Any:
        """A value of the state store or an XCom; None if there is none."""
        row = self.one("SELECT value FROM kept WHERE kind = ? AND key = ?", kind, key)
        return json.loads(row["value"]) if row else None

    def keep(self, kind: str, key: str, value: Any) -> None:
        """Keep a value."""
        self.run("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", kind, key, json.dumps(value))

    def forget(self, kind: str, key: str | None = None) -> None:
        """Forget a value, or all of a kind."""
        self.run("DELETE FROM kept WHERE kind = ? AND key = coalesce(?, key)", kind, key)

    def kill_at(self, point: str) -> None:
        """The first process that comes to this point is killed there."""
        self._arm(point, "kill")

    def hold_at(self, point: str) -> None:
        """The first process that comes to this point waits there until it is let go, or is killed."""
        self._arm(point, "hold")

    def let_go(self, point: str) -> None:
        """Whoever waits there goes on."""
        self.run("DELETE FROM strikes WHERE point = ? AND what = 'held'", point)

    def held_at(self, point: str) -> bool:
        """Whether a process has come there, and waits."""
        return self.one("SELECT 1 FROM strikes WHERE point = ? AND what = 'held'", point) is not None

    def reach(self, point: str) -> None:
        """This process has come to a point, where it may have to wait, or to end."""
        if self._take(point, "hold"):
            self.tell(f"waits {point}")
            self.run("INSERT INTO strikes VALUES (?, 'held', 1)", point)
            while self.held_at(point):
                time.sleep(_PACE_SECONDS)
        if self._take(point, "kill"):
            self.tell(f"SIGKILL {point}")
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, told: str) -> None:
        """A line of the history."""
        self.run("INSERT INTO history (moment, told) VALUES (?, ?)", time.time(), told)

    def history(self) -> list[str]:
        """What happened, with seconds since the first."""
        rows = self.all("SELECT moment, told FROM history ORDER BY seq")
        return [f"{row['moment'] - rows[0]['moment']:7.3f} {row['told']}" for row in rows]

    def _arm(self, point: str, what: str) -> None:
        self.run("INSERT INTO strikes VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1", point, what)

    def _take(self, point: str, what: str) -> bool:
        sql = "UPDATE strikes SET times = times - 1 WHERE point = ? AND what = ? AND times > 0"
        return self.run(sql, point, what).rowcount > 0

    def _begin_try(self, **columns: Any) -> bool:
        task = self.task()
        nothing = dict.fromkeys(("next_method", "next_kwargs", "trigger_path", "trigger_kwargs"))
        return self._move("TRUE", state="scheduled", try_number=task.try_number + 1, **nothing, **columns)

    def _move(self, condition: str, *values: Any, **columns: Any) -> bool:
        names = ", ".join(f"{name} = ?" for name in columns)
        with self.transaction(immediate=True):
            done = self.run(f"UPDATE task SET {names} WHERE {condition}", *columns.values(), *values).rowcount > 0
            if done and "state" in columns:
                self.tell(f"{columns['state']}, try {self.task().try_number} {columns.get('error') or ''}".strip())
        return done
