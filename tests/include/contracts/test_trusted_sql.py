"""A value that is pasted into SQL comes out of it as it went in."""

from __future__ import annotations

import duckdb
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from include.contracts.trusted_sql import literal, rows_that_fail, why_not_a_query
from include.contracts.warehouse_types import Dialect, parse_type

PRINTABLE = st.text(max_size=30).filter(
    lambda text: text.isprintable() and not any(m in text for m in ("${", "{{", "{%", "{#"))
)


@given(PRINTABLE | st.sampled_from(["'", "\\", "\\'", "'; drop table x; --", "''", "%s", "$1"]))
def test_a_string_survives_both_warehouses(text):
    with duckdb.connect() as connection:
        assert connection.execute(f"select {literal(text, 'string', Dialect.DUCKDB)}").fetchone() == (text,)
    (tree,) = sqlglot.parse(f"select {literal(text, 'string', Dialect.REDSHIFT)}", dialect="redshift")
    (found,) = tree.expressions
    assert isinstance(found, exp.Literal)
    assert found.this == text


@given(st.integers(-(2**60), 2**60) | st.floats(-1e15, 1e15, allow_nan=False))
def test_a_number_is_written_without_exponent(number):
    text = literal(number, "number", Dialect.DUCKDB)
    assert "e" not in text.lower()
    assert float(text) == float(number)


@pytest.mark.parametrize(
    ("value", "logical"),
    [
        (True, "number"),
        ("1", "integer"),
        (1.5, "integer"),
        (float("nan"), "number"),
        (1, "boolean"),
        (1, "string"),
        ("a\nb", "string"),
        ("${x}", "string"),
        ("2020-13-01", "date"),
        ("2020-01-01T00:00:00+01:00", "timestamp"),
    ],
)
def test_a_value_of_another_type_is_refused(value, logical):
    with pytest.raises(ValueError, match=r".+"):
        literal(value, logical, Dialect.DUCKDB)


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) from ${object} where note = 'drop table x; -- insert'",
        'select count("comment") from ${object}',
        "with a as (select 1 as n from {table}) select n from a",
        "select count(*) from ${schema}.rpt_updated_at",
    ],
)
def test_words_in_strings_and_names_are_no_statements(query):
    assert why_not_a_query(query, has_column=False) is None


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("select count(*) from ${object} where a > 1 and b = 'order by'", "a > 1 and b = 'order by'"),
        ("SELECT COUNT(*) FROM {table}\nWHERE a\nis null", "a\nis null"),
        ("select count(*) from ${object} where a > 1 group by b", None),
        ("select count(*) from ${object} where a in (select x from y union select 1)", None),
        ("select count(*) from ${object} as o where a > 1", None),
        ("select sum(a) from ${object} where a > 1", None),
    ],
)
def test_rows_that_fail_are_known_of_plain_counts_only(query, condition):
    assert rows_that_fail(query) == condition


@pytest.mark.parametrize(
    ("text", "duckdb_name", "redshift_name"),
    [
        ("DECIMAL(18, 2)", "decimal(18,2)", "numeric(18,2)"),
        ("numeric(8,2)", "decimal(8,2)", "numeric(8,2)"),
        ("varchar(200)", "varchar", "character varying(200)"),
        ("Character Varying(5)", "varchar", "character varying(5)"),
        ("int8", "bigint", "bigint"),
        ("timestamp", "timestamp", "timestamp without time zone"),
        ("timestamptz", "timestamp with time zone", "timestamp with time zone"),
        ("bool", "boolean", "boolean"),
        ("double precision", "double", "double precision"),
        ("real", "float", "real"),
        ("char(2)", "varchar", "character(2)"),
        ("date", "date", "date"),
        ("int2", "smallint", "smallint"),
    ],
)
def test_a_type_is_named_as_each_catalog_names_it(text, duckdb_name, redshift_name):
    parsed = parse_type(text)
    assert (parsed.in_catalog(Dialect.DUCKDB), parsed.in_catalog(Dialect.REDSHIFT)) == (duckdb_name, redshift_name)
    with duckdb.connect() as connection:
        connection.execute(f"create table t (c {text})")
        found = connection.execute("select lower(data_type) from information_schema.columns").fetchone()
    assert found == (duckdb_name,)


@pytest.mark.parametrize(
    "text", ["", "varchar", "decimal", "decimal(18)", "integer(4)", "text", "super", "varchar(max)"]
)
def test_a_type_that_can_not_be_compared_is_refused(text):
    with pytest.raises(ValueError, match=r"a type such as|one of"):
        parse_type(text)
