"""The large facts: any sequence of increments gives what a full refresh gives.

The SQL of both is dbt's own, taken from a real full build and a real increment on top of it (``target/compiled``, ``target/run``); the
property test runs it on many generated histories.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from include.local.aurora.snapshot import build_snapshot
from include.local.tickit.generate import generate
from include.local.tickit.schema import HISTORY_TABLES
from include.warehouse.manifest import load_models
from tests.dbt.harness import FACTS, FACTS_ONLY, Built, Increments, Warehouse, awkward

pytestmark = pytest.mark.warehouse

LOOKBACK = 600
"""Seconds; ``history_lookback_seconds`` of the project."""


# -- real increments, from a real source through the replicator --------------------------------------------------------


@pytest.mark.parametrize("name", FACTS)
def test_real_increments_equal_a_full_refresh(name: str, increments: Increments) -> None:
    with increments.warehouse.connect() as connection:
        stored = connection.execute(f"select * from work.build_intermediate.{name} order by all").fetchall()
        refreshed = connection.execute(f"select * from ({increments.full[name]}) order by all").fetchall()
        deleted = connection.execute(f"select count(*) from work.build_intermediate.{name} where is_deleted").fetchone()
    assert stored == refreshed
    assert deleted is not None
    assert deleted[0] > 0


@pytest.mark.parametrize("name", FACTS)
def test_live_rows_are_those_of_the_source(name: str, increments: Increments) -> None:
    """Held against the OLTP database itself, past the replicator and dbt."""
    table, key, quantity = FACTS[name]
    with increments.aurora.connect() as source:
        expected = source.execute(f"SELECT {key}, eventid, {quantity} FROM {table} ORDER BY {key}").fetchall()
    with increments.warehouse.connect() as connection:
        live = connection.execute(
            f"select {key}, eventid, {quantity} from work.build_intermediate.{name} where not is_deleted order by {key}"
        ).fetchall()
    assert live == expected


def test_resurrected_key_is_live_again(increments: Increments) -> None:
    with increments.warehouse.connect() as connection:
        row = connection.execute(
            "select qtysold, is_deleted from work.build_intermediate.int_sales_latest where salesid = 202"
        ).fetchone()
    assert row == (7, False)


def test_change_that_came_later_than_the_look_back_fails_the_build(increments: Increments, tmp_path: Path) -> None:
    stale = Warehouse(tmp_path)
    shutil.copy(increments.warehouse.database, stale.database)
    shutil.copy(increments.warehouse.snapshot, stale.snapshot)
    with duckdb.connect(str(stale.snapshot)) as snapshot:
        long_ago = f"_record_create_time - interval {10 * LOOKBACK} second"
        snapshot.execute(
            f"insert into demodb.sales select * replace (999999 as salesid, {long_ago} as _record_create_time) from demodb.sales "
            "where salesid = 1 and _record_is_active"
        )
    test = "int_sales_latest_reconciles_with_history"
    run = stale.dbt(
        "build", "--select", "int_sales_latest", test, "--exclude-resource-type", "unit_test", succeed=False
    )
    assert run.exit_code == 1
    assert run.results()[test] == ("fail", 1)


# -- the property --------------------------------------------------------------------------------------------------


@dataclass
class History:
    """A source table's versions as history mode keeps them, and the rows that are truly there."""

    start: datetime = datetime(2026, 1, 1)
    versions: list[list[object]] = field(default_factory=list)
    live: dict[int, int] = field(default_factory=dict)
    changed: dict[int, datetime] = field(default_factory=dict)
    newest: datetime = datetime(2026, 1, 1)

    def change(self, key: int, value: int | None, seconds: int) -> None:
        """Put a value under ``key``, or delete it (None), ``seconds`` after the newest change; before it, if negative.

        Times of one key never run backwards, but may stand still: one transaction can change a row often.
        """
        at = max(self.newest + timedelta(seconds=seconds), self.changed.get(key, self.start))
        if key in self.live:
            active = next(version for version in self.versions if version[0] == key and version[2])
            active[2], active[4] = False, at
            del self.live[key]
            self.changed[key] = at
        if value is not None:
            self.versions.append([key, value, True, at, None])
            self.live[key] = value
            self.changed[key] = at

    def arrive(self) -> None:
        """What has changed so far becomes visible; later changes may be dated up to the look-back before the newest of it."""
        self.newest = max([self.newest, *self.changed.values()])


class Engine:
    """dbt's SQL for one fact on an in-memory DuckDB with the databases' real names."""

    def __init__(self, increments: Increments, name: str) -> None:
        self.full, self.increment, self.name = increments.full[name], increments.increment[name], name
        self.apply = increments.apply[name]
        found = re.search(rf'"({name}__dbt_tmp\w*)"', self.apply)
        assert found, self.apply
        self.temporary = found.group(1)
        self.relation = f"work.build_intermediate.{name}"
        table, self.key, self.quantity = FACTS[name]
        self.source = f"aurora_zeroetl_integration.demodb.{table}"
        self.connection = duckdb.connect()
        with increments.warehouse.connect() as built:
            columns = built.execute(f"describe {self.source}").fetchall()
        staging = next(
            (increments.warehouse.home / "target" / "compiled").rglob(f"stg_tickit__{name.split('_')[1]}.sql")
        )
        self.connection.execute("attach ':memory:' as work; attach ':memory:' as aurora_zeroetl_integration")
        self.connection.execute("create schema work.build_staging; create schema work.build_intermediate")
        self.connection.execute("create schema aurora_zeroetl_integration.demodb")
        self.connection.execute(
            f"create table {self.source} ({', '.join(f'{column[0]} {column[1]}' for column in columns)})"
        )
        self.connection.execute(
            f"create view work.build_staging.{staging.stem} as {staging.read_text(encoding='utf-8')}"
        )

    def load(self, history: History) -> None:
        self.connection.execute(f"truncate {self.source}")
        names = f"{self.key}, {self.quantity}, _record_is_active, _record_create_time, _record_delete_time"
        if history.versions:
            self.connection.executemany(f"insert into {self.source} ({names}) values (?, ?, ?, ?, ?)", history.versions)

    def refresh(self) -> None:
        self.connection.execute(f"create or replace table {self.relation} as {self.full}")

    def add(self) -> int:
        """One increment as dbt runs it: temporary table, delete, insert. Returns the number of rows written."""
        self.connection.execute(f'create or replace temporary table "{self.temporary}" as {self.increment}')
        self.connection.execute(self.apply)
        written = self.connection.execute(f'select count(*) from "{self.temporary}"').fetchone()
        assert written is not None
        return int(written[0])

    def stored(self) -> list[tuple[object, ...]]:
        return self.connection.execute(f"select * from {self.relation} order by all").fetchall()

    def refreshed(self) -> list[tuple[object, ...]]:
        return self.connection.execute(f"select * from ({self.full}) order by all").fetchall()

    def live(self) -> dict[int, int]:
        rows = self.connection.execute(
            f"select {self.key}, {self.quantity} from {self.relation} where not is_deleted"
        ).fetchall()
        return dict(rows)


@pytest.fixture(scope="module", params=FACTS)
def engine(request: pytest.FixtureRequest, increments: Increments) -> Iterator[Engine]:
    engine = Engine(increments, request.param)
    yield engine
    engine.connection.close()


# Dense in what is hard: few keys, times that stand still, lie at or just inside the look-back, or leap ahead.
_SECONDS = st.one_of(
    st.just(0), st.sampled_from([-LOOKBACK, 1 - LOOKBACK, LOOKBACK, LOOKBACK + 1]), st.integers(-LOOKBACK, 3 * LOOKBACK)
)
_CHANGES = st.tuples(st.integers(1, 4), st.one_of(st.none(), st.integers(1, 9)), _SECONDS)
_BATCHES = st.lists(st.lists(_CHANGES, max_size=5), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_BATCHES)
@example(batches=[[(1, 1, 0)], [(1, 2, 0), (1, 3, 0)], [(1, None, 0)]])  # changes that share the time already built
@example(batches=[[(1, 1, 0)], [(1, None, 0)], [(1, 5, 0)]])  # deleted and resurrected in one instant
@example(batches=[[(1, 1, 0), (2, 2, 3 * LOOKBACK)], [(1, 9, -LOOKBACK)]])  # late, exactly at the look-back
@example(batches=[[(1, 1, 0), (2, 2, 3 * LOOKBACK)], [(3, 4, -LOOKBACK), (1, None, 1 - LOOKBACK)]])
def test_any_sequence_of_increments_equals_a_full_refresh(
    engine: Engine, batches: list[list[tuple[int, int | None, int]]]
) -> None:
    history = History()
    engine.load(history)
    engine.refresh()
    for batch in batches:
        for key, value, seconds in batch:
            history.change(key, value, seconds)
        history.arrive()
        engine.load(history)
        engine.add()
        assert engine.stored() == engine.refreshed()
        assert engine.live() == history.live
        assert engine.add() == 0, "an increment without a change rewrites rows"


# -- without history mode --------------------------------------------------------------------------------------------


def test_without_history_mode_the_facts_rebuild_in_full_and_history_can_be_turned_on_again(
    built: Built, tmp_path: Path
) -> None:
    """The source then has no ``_record_*`` columns; what is deleted there is gone here after the next build."""
    warehouse, tables = Warehouse(tmp_path), awkward(generate("small"))
    shutil.copy(built.warehouse.database, warehouse.database)
    tables["sales"] = {name: values[3:] for name, values in tables["sales"].items()}
    expected = [(key,) for key in sorted(tables["sales"]["salesid"].tolist())]
    for mode, history in ((False, ()), (True, HISTORY_TABLES)):
        build_snapshot(tables, warehouse.snapshot, history_tables=history)
        warehouse.dbt("run", *FACTS_ONLY, variables={"history_mode": mode})
        rows = warehouse.rows("build_intermediate.int_sales_latest")
        assert [row[:1] for row in rows] == expected
        assert {row[11] is not None for row in rows} == {mode}  # changed_at


def test_the_property_covers_every_incremental_model() -> None:
    incremental = sorted(model.name for model in load_models() if model.materialized == "incremental")
    assert incremental == sorted(FACTS)
