"""Publishing by file: readers see the version before or the new one, whatever happens to the publisher."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from include.warehouse.connection import DuckDbConnection
from include.warehouse.exceptions import PublishFailed, ReleaseRefused
from include.warehouse.products import Product
from include.warehouse.publication import Publication
from include.warehouse.publish import current_version, discard, hold, publish, release

PRODUCT = Product("finance", ("rpt_a", "rpt_b"))
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def warehouse(tmp_path):
    return DuckDbConnection(tmp_path / "work.duckdb", tmp_path / "published", {})


def build(warehouse, number, rows=3):
    """Both relations hold the same number, so that a reader can tell a mix."""
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("create schema if not exists build_finance_audit")
        for relation in ("rpt_a", "rpt_b", "unpublished"):
            connection.execute(
                f"create or replace table build_finance_audit.{relation} as select {number} as number, md5(i::varchar) as filler "
                f"from range({rows}) r(i)"
            )


def read(warehouse):
    """What one reader sees at one time."""
    with duckdb.connect(str(warehouse.published_dir / "finance_products.duckdb"), read_only=True) as connection:
        return connection.execute(
            "select (select max(number) from finance.rpt_a), (select min(number) from finance.rpt_b), source_checkpoint "
            "from finance._publication"
        ).fetchone()


def test_only_the_published_relations_are_published_with_their_publication(warehouse):
    build(warehouse, 1)
    publication = Publication.now("run one", "checkpoint 'seven'", 97.5)

    publish(warehouse, PRODUCT, publication)

    with duckdb.connect(str(warehouse.published_dir / "finance_products.duckdb"), read_only=True) as connection:
        relations = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables order by 1"
        ).fetchall()
        told = connection.execute("select * from finance._publication").fetchall()
    assert relations == [("finance._publication",), ("finance.rpt_a",), ("finance.rpt_b",)]
    moment = publication.published_at.replace(tzinfo=None)
    assert told == [(publication.version, "run one", "checkpoint 'seven'", moment, 97.5, None, None)]


def test_readers_see_one_version_while_others_are_published(warehouse):
    build(warehouse, 0)
    publish(warehouse, PRODUCT, Publication.now("run", "0"))
    seen, errors, stop = set(), [], threading.Event()
    reader = (
        "import sys, duckdb\n"
        "for _ in sys.stdin:\n"
        "    with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
        "        print(*c.execute('select (select max(number) from finance.rpt_a), (select min(number) from finance.rpt_b), "
        "source_checkpoint from finance._publication').fetchone(), flush=True)\n"
    )

    def keep_reading():  # another process: within one, DuckDB would hand out the file it has open
        process = subprocess.Popen(
            [sys.executable, "-c", reader, str(warehouse.published_dir / "finance_products.duckdb")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while not stop.is_set():
            process.stdin.write("\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            (seen.add if len(set(answer)) == 1 else errors.append)(tuple(answer))
        process.stdin.close()
        process.wait()

    threads = [threading.Thread(target=keep_reading) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 16):
            build(warehouse, number)
            publish(warehouse, PRODUCT, Publication.now("run", str(number)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert errors == []
    assert len(seen) > 3


def test_publishing_twice_is_harmless(warehouse):
    build(warehouse, 1)
    publication = Publication.now("run", "1")

    publish(warehouse, PRODUCT, publication)
    publish(warehouse, PRODUCT, publication)

    assert read(warehouse) == (1, 1, "1")
    assert [file.name for file in warehouse.published_dir.iterdir()] == ["finance_products.duckdb"]


def test_a_relation_that_was_never_built_leaves_the_version_before(warehouse):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))

    with pytest.raises(PublishFailed, match=r"(?s)rpt_new.*Readers still see the version before"):
        publish(warehouse, Product("finance", ("rpt_a", "rpt_new")), Publication.now("run", "2"))

    assert read(warehouse) == (1, 1, "1")
    assert [file.name for file in warehouse.published_dir.iterdir()] == ["finance_products.duckdb"]


def test_a_product_without_relations_is_refused(warehouse):
    with pytest.raises(PublishFailed, match="found none in the manifest"):
        publish(warehouse, Product("finance", ()), Publication.now("run", "1"))


PUBLISHER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from pathlib import Path
import duckdb
from include.warehouse import publish as module, published_file
from include.warehouse.connection import DuckDbConnection
from include.warehouse.products import Product
from include.warehouse.publication import Publication

home, line = Path(sys.argv[2]), 0
warehouse = DuckDbConnection(home / "work.duckdb", home / "published", {})

def publish(number, die_at, act=None):
    act, count = act or new_version, 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename not in (module.__file__, published_file.__file__):
            return None
        if event == "line":
            count += 1
            if count == die_at:
                os._exit(9)
        return trace

    sys.settrace(trace)
    act(Product("finance", ("rpt_a", "rpt_b")), number)
    os._exit(0)

def new_version(product, number):
    module.publish(warehouse, product, Publication.now("run", number))

def held_version(product, version):
    moment = datetime.now(UTC)
    module.release(warehouse, product, Publication(version, "run", "2", moment, 50.0).released("admin", "it is right"))

def read():
    with duckdb.connect(str(home / "published" / "finance_products.duckdb"), read_only=True) as connection:
        print(*connection.execute(
            "select (select max(number) from finance.rpt_a), (select min(number) from finance.rpt_b), source_checkpoint "
            "from finance._publication").fetchone(), flush=True)
    os._exit(0)

def in_child(action, *arguments):
    child = os.fork()
    if child == 0:
        try:
            action(*arguments)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
KILL_AT_EVERY_LINE = """
while True:
    line += 1
    ended = in_child(publish, {what})
    in_child(read)
    if ended != 9:
        break
print("lines", line)
"""


def run_publisher(home, then, **options):
    arguments = [sys.executable, "-c", PUBLISHER + then, str(ROOT), str(home)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


def test_a_publisher_killed_at_any_line_leaves_the_version_before_or_the_new_one(warehouse, tmp_path):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))
    build(warehouse, 2)

    *seen, lines = run_publisher(tmp_path, KILL_AT_EVERY_LINE.format(what="'2', line")).stdout.splitlines()

    assert int(lines.removeprefix("lines ")) == len(seen) > 30
    assert seen == sorted(seen)
    assert set(seen) == {"1 1 1", "2 2 2"}
    assert [file.name for file in warehouse.published_dir.iterdir()] == ["finance_products.duckdb"]


def test_a_full_disk_leaves_the_version_before_and_says_what_to_do(warehouse, tmp_path):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))
    build(warehouse, 2, rows=200_000)

    limit = (2_000_000, 2_000_000)
    limited = run_publisher(
        tmp_path, "in_child(publish, '2', 0)", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )

    assert "PublishFailed" in limited.stderr
    assert "If the disk is full, free some space" in limited.stderr
    assert read(warehouse) == (1, 1, "1")
    assert [file.name for file in warehouse.published_dir.iterdir()] == ["finance_products.duckdb"]


def held_versions(warehouse):
    return sorted(str(file.relative_to(warehouse.published_dir)) for file in warehouse.published_dir.rglob("*.*"))


def test_a_held_version_is_kept_where_no_reader_looks(warehouse):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))
    build(warehouse, 2)

    hold(warehouse, PRODUCT, Publication.now("run", "2", 50.0))

    assert read(warehouse) == (1, 1, "1")
    assert held_versions(warehouse) == ["finance_products.duckdb", "held/finance_products.duckdb"]
    with duckdb.connect(str(warehouse.published_dir / "held" / "finance_products.duckdb"), read_only=True) as held:
        assert held.execute("select distinct number from finance.rpt_b").fetchall() == [(2,)]


def test_a_released_version_is_the_one_that_was_held_whatever_was_built_since(warehouse):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))
    build(warehouse, 2)
    publication = Publication.now("run two", "2", 50.0)
    hold(warehouse, PRODUCT, publication)
    build(warehouse, 3)

    for _ in range(2):  # a retry
        release(warehouse, PRODUCT, publication.released("admin", "Known: the venue is new"))

    assert read(warehouse) == (2, 2, "2")
    with duckdb.connect(str(warehouse.published_dir / "finance_products.duckdb"), read_only=True) as published:
        told = published.execute(
            "select version, run_id, quality_score, released_by, release_reason, published_at > $made from finance._publication",
            {"made": publication.published_at.replace(tzinfo=None)},
        ).fetchall()
    assert told == [(publication.version, "run two", 50.0, "admin", "Known: the venue is new", True)]
    assert held_versions(warehouse) == ["finance_products.duckdb"]


def test_a_version_that_readers_have_something_newer_than_is_not_released(warehouse):
    build(warehouse, 1)
    held = Publication.now("run", "1")
    hold(warehouse, PRODUCT, held)
    build(warehouse, 2)
    publish(warehouse, PRODUCT, Publication.now("run", "2"))

    with pytest.raises(ReleaseRefused, match="readers have the newer"):
        release(warehouse, PRODUCT, held.released("admin", "I want it"))

    assert read(warehouse) == (2, 2, "2")


def test_a_file_that_is_damaged_is_not_taken_for_none(warehouse):
    build(warehouse, 1)
    held = Publication.now("run", "1")
    hold(warehouse, PRODUCT, held)
    (warehouse.published_dir / "finance_products.duckdb").write_bytes(b"damaged" * 1000)

    with pytest.raises(PublishFailed, match="if the file is damaged, remove it: the next build"):
        release(warehouse, PRODUCT, held.released("admin", "it is right"))


def test_only_the_version_that_is_held_is_released(warehouse):
    build(warehouse, 1)
    first, second = Publication.now("run", "1"), Publication.now("run", "2")
    hold(warehouse, PRODUCT, first)
    hold(warehouse, PRODUCT, second)

    with pytest.raises(ReleaseRefused, match=f"expected {first.version} to be held, found {second.version}"):
        release(warehouse, PRODUCT, first.released("admin", "I want it"))

    assert current_version(warehouse, PRODUCT) is None
    discard(warehouse, PRODUCT, first.version)
    assert held_versions(warehouse) == ["held/finance_products.duckdb"]  # the second
    discard(warehouse, PRODUCT, second.version)
    assert held_versions(warehouse) == []


def test_a_release_killed_at_any_line_leaves_the_version_before_or_the_held_one(warehouse, tmp_path):
    build(warehouse, 1)
    publish(warehouse, PRODUCT, Publication.now("run", "1"))
    build(warehouse, 2)
    held = Publication.now("run", "2")
    hold(warehouse, PRODUCT, held)

    what = f"'{held.version}', line, held_version"
    *seen, lines = run_publisher(tmp_path, KILL_AT_EVERY_LINE.format(what=what)).stdout.splitlines()

    assert int(lines.removeprefix("lines ")) == len(seen) > 30
    assert seen == sorted(seen)
    assert set(seen) == {"1 1 1", "2 2 2"}
    assert held_versions(warehouse) == ["finance_products.duckdb"]
