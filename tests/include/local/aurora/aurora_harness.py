"""What the tests of the local Aurora share besides fixtures: filling it, running it, reading what it published."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from include.local.aurora.server import Server
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.tickit.generate import Size
from include.local.tickit.rows import to_rows
from include.warehouse.replaced_file import open_published

TINY = Size(users=40, events=20, listings=60, sales=50, venues=5)


def read_published(directory, sql, name=TARGET_DATABASE):
    """Rows of a query on the published database, as a consumer reads it: open, query, close."""
    with open_published(directory / f"{name}.duckdb") as connection:
        return connection.execute(sql).fetchall()


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)
    return found


@contextmanager
def running(replicator):
    """The replicator at work in a thread, and its HTTP server."""
    stop = threading.Event()
    server = Server(replicator)
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True),
        threading.Thread(target=replicator.run, args=(stop,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        stop.set()
        threads[1].join(60)
        server.close()


def fill(aurora, tables):
    aurora.create_tickit()
    with aurora.transaction() as connection:
        for name, columns in tables.items():
            aurora.upsert(connection, name, to_rows(name, columns))
