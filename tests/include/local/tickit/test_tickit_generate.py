"""The generator: sizes, determinism, references, and what the data has to be like."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.local.aurora.snapshot import build_snapshot
from include.local.tickit.generate import Size, generate
from include.local.tickit.load import count_orphans
from include.local.tickit.rows import to_columns, to_rows
from include.local.tickit.schema import TABLES, MySqlType, UnsupportedTypeError


@pytest.fixture(scope="module")
def full():
    return generate("full", seed=1)


def rows(tables):
    return {name: len(columns[TABLES[name].key]) for name, columns in tables.items()}


def test_full_size_is_that_of_the_public_sample(full):
    assert rows(full) == {
        "users": 49_990,
        "venue": 202,
        "category": 11,
        "date": 365,
        "event": 8_798,
        "listing": 192_497,
        "sales": 172_456,
    }


def test_full_size_is_referentially_sound(full):
    assert count_orphans(full) == ()


def test_same_seed_gives_same_data_and_another_seed_gives_other():
    first, second, other = generate("small", seed=3), generate("small", seed=3), generate("small", seed=4)
    for name in TABLES:
        assert list(to_rows(name, first[name])) == list(to_rows(name, second[name]))
    assert list(to_rows("sales", first["sales"])) != list(to_rows("sales", other["sales"]))


def test_calendar_is_2008_without_its_leap_day(full):
    calendar = list(to_rows("date", full["date"]))
    assert calendar[0] == (1827, "2008-01-01", "WE", 1, "JAN", "1", 2008, 1)
    assert calendar[58:60] == [
        (1885, "2008-02-28", "FR", 9, "FEB", "1", 2008, 0),
        (1886, "2008-03-01", "SA", 10, "MAR", "1", 2008, 0),
    ]
    assert calendar[-1] == (2191, "2008-12-31", "WE", 53, "DEC", "4", 2008, 0)
    assert sum(day[-1] for day in calendar) == 7


def test_sales_agree_with_their_listings(full):
    sales, listings = full["sales"], full["listing"]
    at = sales["listid"] - 1
    for column in ("sellerid", "eventid"):
        assert (sales[column] == listings[column][at]).all()
    sold = np.bincount(at, weights=sales["qtysold"], minlength=len(listings["listid"]))
    assert (sold <= listings["numtickets"]).all()
    assert (sales["pricepaid"] == np.round(listings["priceperticket"][at] * sales["qtysold"], 2)).all()
    assert np.allclose(sales["commission"], sales["pricepaid"] * 0.15, atol=0.005)
    assert (sales["saletime"] >= listings["listtime"][at]).all()
    assert not (sales["buyerid"] == sales["sellerid"]).any()


def test_dates_agree_with_times(full):
    days = dict(zip(full["date"]["dateid"].tolist(), full["date"]["caldate"].tolist(), strict=True))
    for table, time in (("event", "starttime"), ("listing", "listtime"), ("sales", "saletime")):
        by_id = np.array([days[i] for i in full[table]["dateid"].tolist()], dtype="datetime64[D]")
        assert (by_id == full[table][time].astype("datetime64[D]")).all(), table


def test_activity_is_skewed_and_seasonal(full):
    per_seller = np.sort(np.bincount(full["sales"]["sellerid"]))[::-1]
    assert per_seller[: len(per_seller) // 10].sum() > 0.4 * per_seller.sum()
    per_month = np.bincount(full["sales"]["saletime"].astype("datetime64[M]").astype(int) % 12)
    assert per_month.min() > 0
    assert per_month.max() > 2 * per_month.min()


@settings(max_examples=20, deadline=None)
@given(
    size=st.builds(
        Size, users=st.integers(1, 30), events=st.integers(1, 30), listings=st.integers(1, 60), sales=st.just(1)
    ),
    seed=st.integers(0, 2**32),
)
def test_any_size_is_sound_and_fits_the_source_schema(size, seed):
    tables = generate(size, seed=seed)
    assert count_orphans(tables) == ()
    with closing(sqlite3.connect(":memory:")) as connection:
        for name, table in TABLES.items():
            connection.execute(table.source_ddl())
            places = ", ".join("?" * len(table.columns))
            connection.executemany(f"INSERT INTO {name} VALUES ({places})", to_rows(name, tables[name]))


def test_given_tables_are_kept_and_the_missing_ones_refer_to_them():
    events = generate(Size(users=5, events=7, listings=5, sales=5), seed=9)["event"]
    shifted = {**events, "eventid": events["eventid"] + 5_000}
    tables = generate("small", given={"event": shifted})
    assert tables["event"] is shifted
    assert tables["listing"]["eventid"].min() > 5_000
    assert count_orphans(tables) == ()


def test_missing_parents_have_every_row_that_given_children_refer_to():
    sales = generate(Size(users=900, events=300, listings=5_000, sales=50), seed=9)["sales"]
    tables = generate("small", given={"sales": sales})
    assert not [orphans for orphans in count_orphans(tables) if orphans.table == "sales"]


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"size: expected one of \['full', 'small'\], found 'huge'"):
        generate("huge")


def test_rows_and_columns_are_two_shapes_of_the_same(full):
    for name in TABLES:
        some = list(to_rows(name, full[name]))[:200]
        assert list(to_rows(name, to_columns(name, some))) == some


@pytest.mark.parametrize(
    ("declared", "redshift"),
    [
        ("boolean", "SMALLINT"),
        ("tinyint(1)", "SMALLINT"),
        ("int", "INTEGER"),
        ("INTEGER", "INTEGER"),
        ("char(8)", "VARCHAR(8)"),
        ("character(3)", "VARCHAR(3)"),
        ("decimal(8,2)", "DECIMAL(8,2)"),
        ("numeric(5)", "DECIMAL(5,0)"),
        ("datetime", "TIMESTAMP"),
        ("timestamp", "TIMESTAMP"),
        ("double precision", "DOUBLE PRECISION"),
        ("text", "VARCHAR(65535)"),
    ],
)
def test_types_map_as_aws_documents(declared, redshift):
    assert MySqlType.parse(declared).redshift == redshift


def test_an_unsupported_type_is_named():
    with pytest.raises(UnsupportedTypeError, match="unsupported data type 'geometry'"):
        MySqlType.parse("geometry")


@pytest.mark.parametrize(
    "change",
    ["numtickets = 40000", "numtickets = 'many'", "priceperticket = 1000000", "numtickets = NULL", "sellerid = 1.5"],
)
def test_the_source_refuses_what_mysql_refuses(change):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(TABLES["listing"].source_ddl())
        connection.execute("INSERT INTO listing VALUES (1, 1, 1, 1827, 1, 10, 10, '2008-01-01 00:00:00')")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"UPDATE listing SET {change}")


def test_a_snapshot_has_the_types_and_history_columns_of_zero_etl(tmp_path):
    path = build_snapshot(generate("small"), tmp_path / "aurora_zeroetl_integration.duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        sales = connection.execute("DESCRIBE demodb.sales").fetchall()
        assert [(name, kind) for name, kind, *_ in sales][-4:] == [
            ("saletime", "TIMESTAMP"),
            ("_record_is_active", "BOOLEAN"),
            ("_record_create_time", "TIMESTAMP"),
            ("_record_delete_time", "TIMESTAMP"),
        ]
        assert [kind for _, kind, *_ in connection.execute("DESCRIBE demodb.date").fetchall()][-1] == "SMALLINT"
        active = "SELECT count(*), bool_and(_record_is_active AND _record_delete_time IS NULL) FROM demodb.listing"
        assert connection.execute(active).fetchall() == [(2_000, True)]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
