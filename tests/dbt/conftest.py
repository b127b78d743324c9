"""Each build once per session, for all of its workers; the tests only read it."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from include.local.aurora.replicator import Replicator
from include.local.aurora.source import Aurora
from include.local.tickit.generate import generate
from include.local.tickit.rows import to_rows
from tests.dbt.harness import FACTS, FACTS_ONLY, VARIABLES, Built, Increments, Warehouse, awkward, build, read_real


def once[Made](
    factory: pytest.TempPathFactory,
    name: str,
    make: Callable[[Path], Made],
    moved: Callable[[Made, Path], Made],
) -> Made:
    """What ``make`` makes in a folder: the first worker that needs it makes it, the others wait and take a copy.

    Not the same files for all: a dbt process that has a database open locks every other process out.
    """
    home = factory.mktemp(name, numbered=False)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make(home)
    shared = factory.getbasetemp().parent / name
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared.with_suffix(".pickle")
        if kept.exists():
            shutil.copytree(shared, home, dirs_exist_ok=True)
            return moved(pickle.loads(kept.read_bytes()), home)
        made = make(home)
        shutil.copytree(home, shared, dirs_exist_ok=True)
        kept.write_bytes(pickle.dumps(made))
        return made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small, awkward TICKIT, built by one ``dbt build``. Read it only."""
    return once(
        tmp_path_factory,
        "built",
        lambda home: build(home, awkward(generate("small"))),
        lambda made, home: Built(Warehouse(home), replace(made.run, target=home / "target"), home / "files"),
    )


@pytest.fixture(scope="session")
def built_real(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Built:
    """TICKIT in full size around the real events, venues, categories and dates. Read it only."""
    tables = generate("full", given=read_real(shared_data))
    return build(tmp_path_factory.mktemp("built_real"), tables, "--exclude-resource-type", "unit_test")


_FIRST_CHANGES = """
UPDATE sales SET qtysold = qtysold + 1 WHERE salesid % 97 = 0;
DELETE FROM sales WHERE salesid % 101 = 0;
UPDATE listing SET priceperticket = 11.5 WHERE listid % 89 = 0;
INSERT INTO sales SELECT salesid + 100000, listid, sellerid, buyerid, eventid, dateid, 1, 9.99, 1.50, saletime FROM sales LIMIT 20;
"""
_SECOND_CHANGES = """
INSERT INTO sales SELECT salesid + 101, listid, sellerid, buyerid, eventid, dateid, 2, 3.33, 0.5, saletime FROM sales
  WHERE salesid % 101 = 1 AND salesid + 101 NOT IN (SELECT salesid FROM sales);
INSERT INTO sales SELECT 202, listid, sellerid, buyerid, eventid, dateid, 7, 7.77, 1.17, saletime FROM sales WHERE salesid = 1;
UPDATE sales SET pricepaid = pricepaid + 1 WHERE salesid % 97 = 0;
DELETE FROM sales WHERE salesid > 100010;
DELETE FROM listing WHERE listid IN (SELECT listid FROM listing WHERE listid NOT IN (SELECT listid FROM sales) LIMIT 5);
"""


@pytest.fixture(scope="session")
def increments(tmp_path_factory: pytest.TempPathFactory) -> Increments:
    """A full build and two increments of the facts, from the local Aurora through the replicator. Read it only."""
    return once(
        tmp_path_factory,
        "increments",
        _increments,
        lambda made, home: replace(made, warehouse=Warehouse(home), aurora=Aurora(home / "aurora")),
    )


def _increments(home: Path) -> Increments:
    aurora, warehouse = Aurora(home / "aurora"), Warehouse(home)
    replicator = Replicator(aurora, home)
    replicator.connect_database("aurora_zeroetl_integration")
    runs = []
    try:
        aurora.create_tickit()
        with aurora.transaction() as connection:
            for name, columns in awkward(generate("small")).items():
                aurora.upsert(connection, name, to_rows(name, columns))
        for changes in ("", _FIRST_CHANGES, _SECOND_CHANGES):
            with aurora.transaction() as connection:
                for statement in changes.split(";"):
                    connection.execute(statement)
            replicator.cycle()
            runs.append(
                warehouse.dbt(
                    "run", *FACTS_ONLY, variables=VARIABLES, target=("target", "increment", "last")[len(runs)]
                )
            )
    finally:
        replicator.close()
    full, increment = ({name: run.sql(name) for name in FACTS} for run in runs[:2])
    return Increments(warehouse, aurora, full, increment, {name: runs[1].sql(name, "run") for name in FACTS})
