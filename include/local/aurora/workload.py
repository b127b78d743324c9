"""Writes to the local Aurora at a steady rate: sales are made, corrected and cancelled, listings change.

Every new sale has a ``salesid`` of its own above `FIRST_ID`, so each write can be traced to where it becomes visible.
"""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    import threading
    from collections.abc import Iterator

    from include.local.aurora.source import Aurora

FIRST_ID: Final = 1_000_000_000
_SALES: Final = "salesid, listid, sellerid, buyerid, eventid, dateid, qtysold, pricepaid, commission, saletime"


class NothingToWriteToError(RuntimeError):
    """The source has no listings to sell from."""


@dataclass
class Written:
    """What was written.

    Attributes:
        committed: new sales, by id, with the time of their commit (seconds since the epoch).
        inserts, updates, deletes: how many of each.
        transactions: how many commits.
        seconds: how long it took.
    """

    committed: dict[int, float] = field(default_factory=dict)
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    transactions: int = 0
    seconds: float = 0.0

    @property
    def writes(self) -> int:
        """Rows written."""
        return self.inserts + self.updates + self.deletes


class Workload:
    """Writes with a random stream of its own; ``seed`` also separates the ids of workloads that run at once.

    Of ten writes six insert a sale, three update a sale or a listing, one deletes a sale; two to eight writes make a
    transaction.
    """

    def __init__(self, aurora: Aurora, *, seed: int = 0) -> None:
        self._aurora = aurora
        self._random = random.Random(seed)
        aurora.create_tickit()
        with closing(aurora.connect()) as connection:
            low = FIRST_ID + seed % 1_000 * 1_000_000
            (last,) = connection.execute(
                "SELECT max(salesid) FROM sales WHERE salesid >= ? AND salesid < ?", (low, low + 1_000_000)
            ).fetchone()
            self._listings = connection.execute(
                "SELECT listid, sellerid, eventid, dateid, priceperticket FROM listing WHERE priceperticket IS NOT NULL "
                "LIMIT 5000"
            ).fetchall()
            (self._users,) = connection.execute("SELECT max(userid) FROM users").fetchone()
        if not self._listings or not self._users:
            raise NothingToWriteToError(
                f"{aurora.path}: expected listings and users, found none; seed the database first"
            )
        self._next_id = (last or low) + 1
        self._own: list[int] = []

    def run(self, writes_per_second: float, seconds: float, stop: threading.Event | None = None) -> Written:
        """Write at the rate asked for; a moment that was too slow is caught up.

        Args:
            writes_per_second: rows, not transactions.
            seconds: for how long.
            stop: ends it early.

        Returns:
            What was written.
        """
        written, started = Written(), time.monotonic()
        with closing(self._aurora.connect()) as connection:
            while (elapsed := time.monotonic() - started) < seconds and not (stop and stop.is_set()):
                due = int(elapsed * writes_per_second) - written.writes
                if due <= 0:
                    time.sleep(min(0.02, 1 / writes_per_second))
                    continue
                self.write(connection, min(due, self._random.randint(2, 8)), written)
        written.seconds = time.monotonic() - started
        return written

    def write(self, connection: sqlite3.Connection, count: int, written: Written) -> None:
        """Write ``count`` rows in one transaction."""
        fresh = []
        with self._aurora.transaction(connection):
            for choice in self._choices(count):
                if choice == "insert":
                    fresh.append(self._insert(connection))
                    written.inserts += 1
                elif choice == "update":
                    self._update(connection)
                    written.updates += 1
                else:
                    self._delete(connection)
                    written.deletes += 1
        moment = time.time()
        written.committed |= dict.fromkeys(fresh, moment)
        written.transactions += 1
        self._own += fresh

    def _choices(self, count: int) -> Iterator[str]:
        for _ in range(count):
            choice = self._random.choices(("insert", "update", "delete"), (6, 3, 1))[0]
            yield choice if self._own else "insert"

    def _insert(self, connection: sqlite3.Connection) -> int:
        listing, seller, event, day, price = self._random.choice(self._listings)
        number, quantity = self._next_id, self._random.randint(1, 4)
        self._next_id += 1
        cents = round(price * 100) * quantity
        moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        buyer = self._random.randint(1, self._users)
        values = (
            number,
            listing,
            seller,
            buyer,
            event,
            day,
            quantity,
            cents / 100,
            (cents * 15 + 50) // 100 / 100,
            moment,
        )
        connection.execute(f"INSERT INTO sales ({_SALES}) VALUES ({', '.join('?' * len(values))})", values)
        return number

    def _update(self, connection: sqlite3.Connection) -> None:
        if self._random.random() < 0.5:
            connection.execute(
                "UPDATE sales SET qtysold = qtysold % 8 + 1 WHERE salesid = ?", (self._random.choice(self._own),)
            )
        else:
            listing = self._random.choice(self._listings)[0]
            connection.execute("UPDATE listing SET numtickets = numtickets % 30 + 1 WHERE listid = ?", (listing,))

    def _delete(self, connection: sqlite3.Connection) -> None:
        """Cancel an older sale of its own, so that the newest stay to be traced."""
        index = self._random.randrange(max(1, len(self._own) // 2))
        connection.execute("DELETE FROM sales WHERE salesid = ?", (self._own.pop(index),))
