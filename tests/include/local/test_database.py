"""The stand-ins' database, which two processes of a stand-in open at the same moment when the platform starts."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait

from include.local.database import Database


def test_one_who_opens_a_new_database_waits_while_another_does(tmp_path):
    path = tmp_path / "new.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(Database, path, "CREATE TABLE t (n INTEGER)", ("t",))
        wait([opened], timeout=0.3)
        other.execute("COMMIT")
        database = opened.result()
    assert database.all("PRAGMA journal_mode")[0][0] == "wal"
    database.close()
