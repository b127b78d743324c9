"""The replica equals the source after any sequence of writes, cycles and restarts, and history mode keeps every version."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing
from itertools import count, pairwise

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.local.aurora.replicator import Replicator, ReplicatorLockedError
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aurora.source import CHANGE_LOG, Aurora
from include.local.aurora.workload import Workload
from include.local.tickit.rows import to_rows
from include.local.tickit.schema import TABLES
from tests.include.local.aurora.aurora_harness import read_published, running, wait_until

HISTORY = "_record_is_active, _record_create_time, _record_delete_time"


def source_rows(aurora, sql):
    with closing(aurora.connect()) as connection:
        return connection.execute(sql).fetchall()


def states(replicator):
    return {row["table_name"]: row["state"] for row in replicator.integration.tables()}


def reason(replicator, table):
    return next(row["reason"] for row in replicator.integration.tables() if row["table_name"] == table)


# -- first load --------------------------------------------------------------------------------------------------------


def test_the_first_snapshot_is_the_source(replicator, tiny):
    assert replicator.cycle()
    for name, columns in tiny.items():
        table = TABLES[name]
        expected = [tuple(str(value) for value in row) for row in to_rows(name, columns)]
        casts = ", ".join(
            f'CAST("{c.name}" AS DOUBLE)' if c.mysql.base == "DECIMAL" else f'"{c.name}"' for c in table.columns
        )
        found = read_published(replicator.directory, f"SELECT {casts} FROM demodb.{name} ORDER BY {table.key}")
        assert [tuple(str(value) for value in row) for row in found] == expected
    assert set(states(replicator).values()) == {"Synced"}


def test_the_published_file_holds_the_tables_and_nothing_else(replicator):
    replicator.cycle()
    tables = read_published(replicator.directory, "SELECT schema_name, table_name FROM duckdb_tables()")
    assert sorted(tables) == sorted(("demodb", name) for name in TABLES)
    columns = read_published(
        replicator.directory,
        "SELECT column_name FROM duckdb_columns() WHERE table_name = 'users' ORDER BY column_index",
    )
    assert tuple(name for (name,) in columns) == TABLES["users"].column_names


def test_the_integration_goes_from_discovery_to_change_data_capture(replicator):
    assert replicator.integration.summary()["state"] == "SchemaDiscoveryState"
    replicator.cycle()
    assert replicator.integration.summary()["state"] == "CdcRefreshState"


# -- any sequence of writes --------------------------------------------------------------------------------------------

KEYS = st.integers(0, 4)
CHANGE = st.one_of(
    st.tuples(st.just("put"), KEYS, st.sampled_from("abc")),
    st.tuples(st.just("set"), KEYS, st.sampled_from("abc")),
    st.tuples(st.just("move"), KEYS, KEYS),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("clear"), st.none(), st.none()),
)
STEP = st.one_of(
    st.tuples(st.just("transaction"), st.lists(CHANGE, min_size=1, max_size=5)),
    st.tuples(st.just("statement"), CHANGE),
    st.tuples(st.just("rolled back"), st.lists(CHANGE, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["cycle", "restart"]), st.none()),
)
PLACES = {"plain": ("a = ? AND b", "(a, b, v)"), "kept": ("k", "(k, v)")}


class Lab:
    """A source with a plain table (two-part key) and one in history mode, and a replicator that can be restarted."""

    def __init__(self, directory):
        self.aurora = Aurora(directory / "aurora")
        with self.aurora.transaction() as connection:
            connection.execute("CREATE TABLE plain (a integer, b integer, v varchar(5), PRIMARY KEY (b, a))")
            connection.execute("CREATE TABLE kept (k integer PRIMARY KEY, v varchar(5))")
        self.directory = directory / "zero_etl"
        self.replicator = None
        self.start()
        self.replicator.connect_database(TARGET_DATABASE)
        self.replicator.cycle()

    def start(self):
        if self.replicator:
            self.replicator.close()
        self.replicator = Replicator(self.aurora, self.directory, history_tables={"kept"}, publish_seconds=0.0)

    def change(self, connection, example, change):
        """Make one change to both tables; its keys are those of ``example`` only."""
        kind, first, second = change
        key = None if first is None else example * 10 + first
        if kind == "put":
            connection.execute("INSERT OR REPLACE INTO plain VALUES (?, ?, ?)", (example, key, second))
            connection.execute("INSERT INTO kept VALUES (?, ?) ON CONFLICT DO UPDATE SET v = excluded.v", (key, second))
        elif kind == "set":
            connection.execute("UPDATE plain SET v = ? WHERE b = ?", (second, key))
            connection.execute("UPDATE kept SET v = ? WHERE k = ?", (second, key))
        elif kind == "move":
            to = example * 10 + second
            connection.execute("UPDATE OR IGNORE plain SET b = ? WHERE b = ?", (to, key))
            connection.execute("UPDATE OR IGNORE kept SET k = ? WHERE k = ?", (to, key))
        elif kind == "delete":
            connection.execute("DELETE FROM plain WHERE b = ?", (key,))
            connection.execute("DELETE FROM kept WHERE k = ?", (key,))
        else:
            connection.execute("DELETE FROM plain WHERE a = ?", (example,))
            connection.execute("DELETE FROM kept WHERE k / 10 = ?", (example,))


class Ledger:
    """An independent account of history: every committed version of every key, told by looking, not by the log."""

    def __init__(self):
        self.versions = {}

    def observe(self, rows):
        """Note what ``rows`` (key → value) differ in from before."""
        for key, versions in self.versions.items():
            if versions[-1][1] and rows.get(key) != versions[-1][0]:
                versions[-1] = (versions[-1][0], False)
        for key, value in rows.items():
            if not (versions := self.versions.setdefault(key, [])) or not versions[-1][1]:
                versions.append((value, True))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.replicator.close()


EXAMPLES = count(1)


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(STEP, max_size=14))
def test_replica_equals_source_and_history_has_every_committed_version(lab, steps):
    example, ledger = next(EXAMPLES), Ledger()
    kept = f"SELECT k, v FROM kept WHERE k / 10 = {example}"
    with closing(lab.aurora.connect()) as connection:
        for kind, what in steps:
            if kind == "cycle":
                lab.replicator.cycle()
            elif kind == "restart":
                lab.start()
            elif kind == "statement":
                # Each of its two statements is a commit of its own.
                lab.change(connection, example, what)
            else:
                try:
                    with lab.aurora.transaction(connection):
                        for change in what:
                            lab.change(connection, example, change)
                        if kind == "rolled back":
                            raise RuntimeError("roll back")
                except RuntimeError:
                    pass
            ledger.observe(dict(connection.execute(kept).fetchall()))
    lab.replicator.cycle()
    plain = f"SELECT a, b, v FROM plain WHERE a = {example} ORDER BY a, b"
    assert read_published(lab.directory, plain.replace("plain", "demodb.plain")) == source_rows(lab.aurora, plain)
    versions = read_published(
        lab.directory,
        f"SELECT k, v, {HISTORY} FROM demodb.kept WHERE k // 10 = {example} ORDER BY k, _record_create_time",
    )
    by_key = {}
    for key, value, active, created, ended in versions:
        assert active is (ended is None)
        assert ended is None or created < ended
        found = by_key.setdefault(key, [])
        if found and (found[-1][0], found[-1][3]) == (value, created):
            found.pop()  # a transaction that changed the row and changed it back: logged, but the same to see
        found.append((value, active, created, ended))
    assert {key: [(value, active) for value, active, _, _ in found] for key, found in by_key.items()} == ledger.versions
    for found in by_key.values():
        assert all(before[3] <= after[2] for before, after in pairwise(found))


def test_a_transaction_is_one_moment_and_moments_increase(replicator):
    replicator.cycle()
    for number in range(3):
        with replicator.aurora.transaction() as connection:
            connection.execute("UPDATE sales SET qtysold = ?", (number + 3,))
    replicator.cycle()
    moments = read_published(
        replicator.directory,
        "SELECT _record_create_time, count(*) FROM demodb.sales WHERE qtysold >= 3 GROUP BY 1 ORDER BY 1",
    )
    assert [rows for _, rows in moments][-3:] == [50, 50, 50]


def test_only_the_last_of_several_changes_in_a_transaction_is_a_version(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE sales SET qtysold = 5 WHERE salesid = 1")
        connection.execute("UPDATE sales SET qtysold = 6 WHERE salesid = 1")
        connection.execute(
            "INSERT INTO listing SELECT 9999, sellerid, eventid, dateid, 1, 1, 1, NULL FROM listing LIMIT 1"
        )
        connection.execute("DELETE FROM listing WHERE listid = 9999")
    replicator.cycle()
    assert read_published(
        replicator.directory, "SELECT qtysold FROM demodb.sales WHERE salesid = 1 AND _record_is_active"
    ) == [(6,)]
    assert read_published(replicator.directory, "SELECT count(*) FROM demodb.sales WHERE salesid = 1") == [(2,)]
    assert read_published(replicator.directory, "SELECT count(*) FROM demodb.listing WHERE listid = 9999") == [(0,)]


# -- publishing --------------------------------------------------------------------------------------------------------


def test_it_publishes_only_on_change(replicator):
    replicator.cycle()
    assert not replicator._is_due()
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE venue SET venueseats = 1")
    assert replicator._is_due()
    replicator.cycle()
    assert not replicator._is_due()
    assert len(replicator.integration.activity()) == 2


def test_a_change_of_the_source_that_is_not_replicated_publishes_nothing(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("CREATE INDEX by_event ON sales (eventid)")
    assert not replicator.cycle()
    assert not replicator._is_due()


def test_a_lost_published_file_is_published_again(replicator):
    replicator.cycle()
    replicator.published_path.unlink()
    replicator.close()
    with closing(Replicator(replicator.aurora, replicator.directory, publish_seconds=0.0)) as restarted:
        assert restarted._is_due()
        assert restarted.cycle()
    assert read_published(replicator.directory, "SELECT count(*) FROM demodb.venue") == [(5,)]


def test_it_publishes_no_oftener_than_told(aurora, tmp_path):
    with closing(Replicator(aurora, tmp_path / "zero_etl", publish_seconds=60.0)) as replicator:
        replicator.connect_database(TARGET_DATABASE)
        replicator._published_at = -1e9
        assert replicator._is_due()
        replicator.cycle()
        with aurora.transaction() as connection:
            connection.execute("UPDATE venue SET venueseats = 1")
        assert not replicator._is_due()


def test_lag_and_checkpoints_are_recorded_durably(replicator):
    replicator.cycle()
    first = replicator.integration.summary()
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE venue SET venueseats = 1")
    assert replicator.lag_ms() >= 0
    replicator.cycle()
    summary = replicator.integration.summary()
    assert summary["published_lsn"] > first["published_lsn"]
    tables = {row["table_name"]: row for row in replicator.integration.tables()}
    assert tables["venue"]["checkpoint"] == summary["checkpoint"] != tables["users"]["checkpoint"]
    assert 0 <= tables["venue"]["lag_ms"] < 10_000


def test_the_log_is_pruned_and_replication_goes_on(replicator):
    replicator.cycle()
    for number in range(2):
        replicator._pruned_at = -1e9
        with replicator.aurora.transaction() as connection:
            connection.execute("UPDATE venue SET venueseats = ?", (number,))
        replicator.cycle()
        assert source_rows(replicator.aurora, f"SELECT count(*) FROM {CHANGE_LOG}") == [(0,)]
    assert read_published(replicator.directory, "SELECT DISTINCT venueseats FROM demodb.venue") == [(1,)]


def test_a_full_disk_leaves_the_old_snapshot_and_is_told(aurora, tmp_path):
    directory = tmp_path / "zero_etl"
    with closing(Replicator(aurora, directory, publish_seconds=0.0)) as replicator:
        replicator.connect_database(TARGET_DATABASE)
        replicator.cycle()
        (directory / f"{TARGET_DATABASE}.duckdb.new").symlink_to("/dev/full")
        with aurora.transaction() as connection:
            connection.execute("UPDATE venue SET venueseats = 77")
        with pytest.raises(OSError, match="No space left on device"):
            replicator.cycle()
        assert read_published(directory, "SELECT count(*) FROM demodb.venue WHERE venueseats = 77") == [(0,)]
        assert replicator._is_due()
        replicator.cycle()
        assert read_published(directory, "SELECT count(*) FROM demodb.venue WHERE venueseats = 77") == [(5,)]


def test_a_failing_cycle_is_told_and_tried_again(replicator, monkeypatch, caplog):
    monkeypatch.setattr("include.local.aurora.replicator.RETRY_SECONDS", 0.05)
    with running(replicator) as server:
        wait_until(lambda: replicator.integration.summary()["published_lsn"] is not None)
        with monkeypatch.context() as full_disk:  # of its own: the short retry stays when the disk has room again
            full_disk.setattr(
                replicator, "_publish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            with replicator.aurora.transaction() as connection:
                connection.execute("UPDATE venue SET venueseats = 78")
            wait_until(lambda: replicator.error)
            assert server.replicator.error == "OSError: [Errno 28] No space left on device"
            wait_until(lambda: "Free disk space" in caplog.text)  # logged just after the error is set
        wait_until(lambda: replicator.error is None)
        rows = "SELECT count(*) FROM demodb.venue WHERE venueseats = 78"
        wait_until(lambda: read_published(replicator.directory, rows) == [(5,)])


def test_two_replicators_cannot_share_a_directory(replicator):
    with pytest.raises(ReplicatorLockedError, match="found another replicator at work"):
        Replicator(replicator.aurora, replicator.directory)


# -- changes of the source's schema ------------------------------------------------------------------------------------


def test_a_dropped_history_table_stays_readable_as_dropped_source(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("DROP TABLE sales")
        connection.execute("DROP TABLE venue")
    replicator.cycle()
    assert (states(replicator)["sales"], states(replicator)["venue"]) == ("DroppedSource", "Deleted")
    assert reason(replicator, "sales") == "The table was dropped at the source."
    assert read_published(replicator.directory, "SELECT count(*) FROM demodb.sales") == [(50,)]
    with pytest.raises(duckdb.CatalogException):
        read_published(replicator.directory, "SELECT count(*) FROM demodb.venue")


def test_a_retyped_table_is_unreadable_until_it_was_reloaded(replicator):
    replicator.cycle()
    replicator.aurora.alter_column("event", "eventname", "varchar(300)")
    replicator.aurora.alter_column("event", "catid", "bigint")
    replicator.cycle()
    assert states(replicator)["event"] == "ResyncRequired"
    with pytest.raises(duckdb.CatalogException):
        read_published(replicator.directory, "SELECT count(*) FROM demodb.event")
    assert replicator._is_due()
    replicator.cycle()
    assert states(replicator)["event"] == "Synced"
    kinds = read_published(
        replicator.directory,
        "SELECT data_type FROM duckdb_columns() WHERE table_name = 'event' AND column_name = 'catid'",
    )
    assert kinds == [("BIGINT",)]
    assert read_published(replicator.directory, "SELECT count(*) FROM demodb.event") == [(20,)]
    changes = [row["new_state"] for row in replicator.integration.state_changes() if row["table_name"] == "event"]
    assert changes[:3] == ["Synced", "ResyncInitiated", "ResyncRequired"]


def test_a_reload_in_history_mode_keeps_old_versions_and_ends_what_is_gone(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE sales SET qtysold = 8 WHERE salesid = 1")
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("ALTER TABLE sales ADD COLUMN note varchar(10)")
        connection.execute("UPDATE sales SET note = 'new' WHERE salesid = 2")
        connection.execute("DELETE FROM sales WHERE salesid = 3")
    replicator.cycle()
    replicator.cycle()
    rows = read_published(
        replicator.directory,
        "SELECT salesid, note, _record_is_active FROM demodb.sales WHERE salesid <= 4 ORDER BY 1, _record_create_time",
    )
    assert rows == [
        (1, None, False),
        (1, None, True),
        (2, None, False),
        (2, "new", True),
        (3, None, False),
        (4, None, True),
    ]


def test_switching_history_mode_on_reloads_the_table(replicator):
    replicator.cycle()
    replicator.close()
    with closing(
        Replicator(replicator.aurora, replicator.directory, history_tables={"venue"}, publish_seconds=0.0)
    ) as switched:
        switched.cycle()
        assert (states(switched)["venue"], states(switched)["sales"]) == ("ResyncRequired", "ResyncRequired")
        switched.cycle()
        with switched.aurora.transaction() as connection:
            connection.execute("DELETE FROM venue WHERE venueid = 1")
        switched.cycle()
    active = "SELECT count(*), count(*) FILTER (_record_is_active) FROM demodb.venue"
    assert read_published(replicator.directory, active) == [(5, 4)]
    with pytest.raises(duckdb.BinderException):
        read_published(replicator.directory, active.replace("venue", "sales"))


def test_a_table_replaced_by_one_of_the_same_shape_is_reloaded(replicator):
    replicator.cycle()
    ddl = TABLES["venue"].source_ddl()
    with replicator.aurora.transaction() as connection:
        connection.execute("DROP TABLE venue")
        connection.execute(ddl)
        connection.execute("INSERT INTO venue VALUES (900, 'New', 'City', 'ST', 1)")
    replicator.cycle()
    assert states(replicator)["venue"] == "ResyncRequired"
    replicator.cycle()
    assert read_published(replicator.directory, "SELECT venueid FROM demodb.venue") == [(900,)]


def test_a_new_table_is_discovered(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("CREATE TABLE refund (id integer PRIMARY KEY, amount decimal(8,2))")
        connection.execute("INSERT INTO refund VALUES (1, 2.5)")
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("INSERT INTO refund VALUES (2, 3.25)")
    replicator.cycle()
    assert states(replicator)["refund"] == "Synced"
    assert read_published(replicator.directory, "SELECT sum(amount)::VARCHAR FROM demodb.refund") == [("5.75",)]


@pytest.mark.parametrize(
    ("ddl", "expected"),
    [
        ("CREATE TABLE odd (i integer)", "Table has no primary key. Add one at the source, then refresh the table."),
        ("CREATE TABLE odd (i integer PRIMARY KEY, g geometry)", "Column g: unsupported data type 'geometry'."),
    ],
)
def test_a_table_that_cannot_be_replicated_fails_with_its_reason(replicator, ddl, expected):
    with replicator.aurora.transaction() as connection:
        connection.execute(ddl)
        connection.execute("INSERT INTO odd (i) VALUES (1)")
    replicator.cycle()
    assert states(replicator)["odd"] == "Failed"
    assert reason(replicator, "odd") == expected
    assert states(replicator)["sales"] == "Synced"


def test_a_value_that_does_not_fit_fails_its_table_and_no_other(replicator):
    with replicator.aurora.transaction() as connection:
        connection.execute("CREATE TABLE odd (i integer PRIMARY KEY, day date)")
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("INSERT INTO odd VALUES (1, 'tomorrow')")
        connection.execute("UPDATE venue SET venueseats = 5")
    replicator.cycle()
    assert states(replicator)["odd"] == "Failed"
    assert "tomorrow" in reason(replicator, "odd")
    assert read_published(replicator.directory, "SELECT DISTINCT venueseats FROM demodb.venue") == [(5,)]
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE odd SET day = '2008-01-01'")
    replicator.refresh_tables(["odd"])
    replicator.cycle()
    replicator.cycle()
    assert states(replicator)["odd"] == "Synced"


def test_a_value_that_does_not_fit_at_the_first_load_fails_its_table_and_no_other(replicator):
    with replicator.aurora.transaction() as connection:
        connection.execute("CREATE TABLE odd (i integer PRIMARY KEY, day date)")
        connection.execute("INSERT INTO odd VALUES (1, 'tomorrow')")
    replicator.cycle()
    assert states(replicator)["odd"] == "Failed"
    assert states(replicator)["sales"] == "Synced"


def test_a_replaced_source_is_loaded_anew(replicator, tmp_path, tiny):
    replicator.cycle()
    replicator.close()
    for file in (tmp_path / "aurora").iterdir():
        file.unlink()
    fresh = Aurora(tmp_path / "aurora")
    fresh.create_tickit()
    with closing(Replicator(fresh, replicator.directory, publish_seconds=0.0)) as restarted:
        assert restarted._is_due()
        restarted.cycle()
        assert read_published(restarted.directory, "SELECT count(*) FROM demodb.venue") == [(0,)]


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_set_back_shifts_no_change_behind_an_earlier_one(replicator):
    replicator.cycle()
    for quantity in (3, 4, 5):
        with replicator.aurora.transaction() as connection:
            connection.execute("UPDATE sales SET qtysold = ? WHERE salesid = 1", (quantity,))
        if quantity == 4:
            with closing(replicator.aurora.connect()) as connection:
                connection.execute(
                    f"UPDATE {CHANGE_LOG} SET written_at = '2001-01-01 00:00:00.000' WHERE operation = 'C'"
                )
        replicator.cycle()
    versions = read_published(
        replicator.directory,
        f"SELECT qtysold, {HISTORY} FROM demodb.sales WHERE salesid = 1 ORDER BY _record_create_time",
    )
    assert [quantity for quantity, *_ in versions][1:] == [3, 4, 5]
    assert [active for _, active, *_ in versions] == [False, False, False, True]
    assert all(before[3] == after[2] for before, after in pairwise(versions))
    checkpoints = [row["last_commit_timestamp"] for row in replicator.integration.activity()]
    assert checkpoints == sorted(checkpoints, reverse=True)


def test_a_clock_in_the_future_gives_no_negative_lag(replicator):
    replicator.cycle()
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE venue SET venueseats = 1")
    with closing(replicator.aurora.connect()) as connection:
        connection.execute(f"UPDATE {CHANGE_LOG} SET written_at = '2999-01-01 00:00:00.000'")
    assert replicator.lag_ms() == 0
    replicator.cycle()
    assert replicator.lag_ms() == 0


# -- concurrency -------------------------------------------------------------------------------------------------------


def test_writers_wait_for_each_other_and_readers_see_whole_transactions_only(replicator):
    """Three writers move tickets between venues; the sum is the same in every snapshot that a reader ever opens."""
    with replicator.aurora.transaction() as connection:
        connection.execute("UPDATE venue SET venueseats = 1000")
    stop, errors, sums = threading.Event(), [], set()

    def move(seed):
        choice = random.Random(seed)
        try:
            with closing(replicator.aurora.connect()) as connection:
                while not stop.is_set():
                    source, target = choice.sample(range(1, 6), 2)
                    with replicator.aurora.transaction(connection):
                        connection.execute("UPDATE venue SET venueseats = venueseats - 1 WHERE venueid = ?", (source,))
                        connection.execute("UPDATE venue SET venueseats = venueseats + 1 WHERE venueid = ?", (target,))
        except sqlite3.Error as error:
            errors.append(error)

    replicator.cycle()
    with running(replicator):
        writers = [threading.Thread(target=move, args=(seed,)) for seed in range(3)]
        for writer in writers:
            writer.start()
        seen = set()
        try:
            while len(replicator.integration.activity()) < 12:
                rows = read_published(replicator.directory, "SELECT venueid, venueseats FROM demodb.venue ORDER BY 1")
                seen.add(tuple(rows))
                sums.add(sum(seats for _, seats in rows))
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        expected = source_rows(replicator.aurora, "SELECT venueid, venueseats FROM venue ORDER BY 1")
        published = "SELECT venueid, venueseats FROM demodb.venue ORDER BY 1"
        wait_until(lambda: read_published(replicator.directory, published) == expected)
    assert errors == []
    assert sums == {5000}
    assert len(seen) > 1


def test_concurrent_workloads_arrive_complete_and_traceable(replicator):
    replicator.cycle()
    with running(replicator):
        results = []
        workers = [
            threading.Thread(
                target=lambda seed=seed: results.append(Workload(replicator.aurora, seed=seed).run(200, 1.0))
            )
            for seed in (1, 2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 2  # a writer that raised has none
        assert all(result.inserts and result.updates and result.deletes for result in results)
        ids = {number for result in results for number in result.committed}
        assert len(ids) == sum(result.inserts for result in results)
        everything = "SELECT salesid FROM demodb.sales WHERE salesid >= 1000000000 GROUP BY 1"
        wait_until(lambda: {number for (number,) in read_published(replicator.directory, everything)} == ids)
        active = "SELECT salesid, qtysold FROM {} ORDER BY 1"
        found = read_published(replicator.directory, active.format("demodb.sales WHERE _record_is_active"))
        assert found == source_rows(replicator.aurora, active.format("sales"))
