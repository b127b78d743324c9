"""kill -9 at every point of a cycle, and at random under load: nothing is lost, nothing is duplicated, history stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from include.local.aurora.replicator import Replicator
from include.local.aurora.workload import Workload
from tests.include.local.aurora.aurora_harness import read_published

ROOT = Path(__file__).resolve().parents[4]

DIE_AT = """
import os, signal, sys
from pathlib import Path
from include.local.aurora import replicator as module
from include.local.aurora.integration import Integration
from include.local.aurora.source import Aurora

aurora, directory, owner, name, moment = Aurora(Path(sys.argv[1])), Path(sys.argv[2]), *sys.argv[3:]
place = {"module": module, "Replicator": module.Replicator, "Integration": Integration, "shutil": module.shutil}[owner]
original = getattr(place, name)

def dying(*arguments, **keywords):
    if moment == "after":
        original(*arguments, **keywords)
    elif moment == "midway":  # half of the file is copied
        content = Path(arguments[0]).read_bytes()
        Path(arguments[1]).write_bytes(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

setattr(place, name, dying)
replicator = module.Replicator(aurora, directory, publish_seconds=0.0)
while True:
    replicator.cycle()
"""

POINTS = [
    ("Replicator", "_begin_capture", "after"),
    ("Replicator", "_stage_load", "after"),
    ("module", "apply_load", "after"),
    ("Replicator", "_apply", "before"),
    ("module", "apply_changes_sql", "before"),
    ("Replicator", "_apply", "after"),
    ("shutil", "copyfile", "midway"),
    ("module", "replace_durably", "before"),
    ("module", "replace_durably", "after"),
    ("Integration", "record", "before"),
    ("Replicator", "_prune", "before"),
]
LOADING = {"_begin_capture", "_stage_load", "apply_load"}


def die(aurora, directory, point):
    arguments = [sys.executable, "-c", DIE_AT, str(aurora.path.parent), str(directory), *point]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def write_some(aurora, seed):
    with closing(aurora.connect()) as connection, aurora.transaction(connection):
        connection.execute("UPDATE sales SET qtysold = ? WHERE salesid <= 10", (seed,))
        connection.execute("DELETE FROM sales WHERE salesid = ?", (20 + seed,))
        connection.execute(
            "INSERT INTO sales SELECT ?, listid, sellerid, buyerid, eventid, dateid, 1, 1, 1, NULL FROM sales LIMIT 1",
            (1_000 + seed,),
        )


def assert_replica_is_source(aurora, directory):
    columns = "salesid, listid, sellerid, buyerid, eventid, dateid, qtysold"
    with closing(aurora.connect()) as connection:
        expected = connection.execute(f"SELECT {columns} FROM sales ORDER BY 1").fetchall()
        venues = connection.execute("SELECT venueid, venueseats FROM venue ORDER BY 1").fetchall()
    found = read_published(directory, f"SELECT {columns} FROM demodb.sales WHERE _record_is_active ORDER BY 1")
    assert found == expected
    assert read_published(directory, "SELECT venueid, venueseats FROM demodb.venue ORDER BY 1") == venues


@pytest.mark.parametrize("point", POINTS, ids=["-".join(point[1:]) for point in POINTS])
def test_a_kill_in_a_cycle_loses_and_duplicates_nothing(aurora, replicator, tmp_path, point):
    directory = tmp_path / "zero_etl"
    if point[1] not in LOADING:  # else the kill is in the first load
        replicator.cycle()
    write_some(aurora, 3)
    replicator.close()
    before = list(directory.glob("aurora_*.duckdb"))
    old = read_published(directory, "SELECT count(*), max(salesid) FROM demodb.sales") if before else None
    die(aurora, directory, point)
    if old and point[:2] != ("Integration", "record") and point not in POINTS[8:]:
        assert read_published(directory, "SELECT count(*), max(salesid) FROM demodb.sales") == old
    write_some(aurora, 4)
    with closing(Replicator(aurora, directory, publish_seconds=0.0)) as restarted:
        assert restarted._is_due()
        restarted.cycle()
        assert not list(directory.glob("*.new*"))
        assert_replica_is_source(aurora, directory)
        assert restarted.integration.summary()["published_lsn"] == restarted._position().lsn
    versions = "SELECT count(*), count(DISTINCT _record_create_time) FROM demodb.sales WHERE salesid = 1"
    if point[1] not in LOADING:
        assert read_published(directory, versions) == [(3, 3)]
        ended = "SELECT salesid FROM demodb.sales WHERE salesid IN (23, 24) AND NOT _record_is_active ORDER BY 1"
        assert read_published(directory, ended) == [(23,), (24,)]


def test_what_a_killed_publication_left_behind_is_no_obstacle(replicator):
    replicator.cycle()
    for suffix in (".new", ".new.wal"):
        replicator.published_path.with_name(replicator.published_path.name + suffix).write_bytes(b"left behind" * 1000)
    write_some(replicator.aurora, 3)
    replicator.cycle()
    assert_replica_is_source(replicator.aurora, replicator.directory)
    assert not list(replicator.directory.glob("*.new*"))


def test_kills_at_random_under_load_lose_and_duplicate_nothing(aurora, replicator, tmp_path):
    """A served replicator is killed three times while two writers go on; every sale they made has exactly one story."""
    directory, stop, results = tmp_path / "zero_etl", threading.Event(), []
    replicator.cycle()
    replicator.close()

    def write(seed):
        results.append(Workload(aurora, seed=seed).run(100, 30, stop))

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    choice = random.Random(5)
    for _ in range(3):
        serve = ["-m", "include.local.aurora", "--port", "0", "--publish-seconds", "0.05"]
        process = subprocess.Popen(
            [sys.executable, *serve, "--home", str(tmp_path / "aurora"), "--zero-etl", str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert any("ready on" in line for line in process.stdout)
        time.sleep(choice.uniform(0.1, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    stop.set()
    for writer in writers:
        writer.join()
    with closing(Replicator(aurora, directory, publish_seconds=0.0)) as restarted:
        restarted.cycle()
    assert_replica_is_source(aurora, directory)
    made = {number for result in results for number in result.committed}
    assert made  # a writer that raised wrote nothing, and nothing can be lost of that
    first_versions = "SELECT salesid FROM demodb.sales WHERE salesid >= 1000000000"
    assert {number for (number,) in read_published(directory, first_versions)} == made
    broken = """
        SELECT salesid FROM (
            SELECT salesid, _record_delete_time AS ended, _record_is_active AS active,
                lead(_record_create_time) OVER (PARTITION BY salesid ORDER BY _record_create_time) AS following
            FROM demodb.sales)
        WHERE following IS DISTINCT FROM ended AND NOT (following IS NULL AND NOT active)"""
    assert read_published(directory, broken) == []
