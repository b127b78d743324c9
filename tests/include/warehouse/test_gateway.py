"""The SQL gateway on DuckDB; its Redshift half is in test_publish_redshift.py."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from include.warehouse.connection import DuckDbConnection, RedshiftConnection, warehouse_connection
from include.warehouse.exceptions import IdentifierRefused, StatementFailed, WarehouseConnectionInvalid
from include.warehouse.gateway import DuckDbWarehouse, open_warehouse
from include.warehouse.identifiers import quoted


@pytest.fixture
def warehouse(tmp_path):
    return DuckDbWarehouse(tmp_path / "work.duckdb")


def connection(conn_type, extra=None, **kwargs):
    return Connection(conn_id="warehouse_build", conn_type=conn_type, extra=json.dumps(extra or {}), **kwargs)


def test_values_are_bound_by_name_and_casts_are_left_alone(warehouse):
    assert warehouse.query("select :name, :number::int + 1", {"name": "O'Hara", "number": "41"}) == [("O'Hara", 42)]


def test_a_transaction_happens_as_a_whole_or_not_at_all(warehouse):
    warehouse.query("create table t (n int)")

    with pytest.raises(
        StatementFailed, match=r"(?s)work\.duckdb: .*no_such_table.*statement: insert into no_such_table"
    ):
        warehouse.transaction(["insert into t values (1)", "insert into no_such_table values (1)"])
    assert warehouse.query("select count(*) from t") == [(0,)]

    warehouse.transaction(["insert into t values (:n::int)", "insert into t values (2)"], {"n": "1"})
    assert warehouse.query("select sum(n) from t") == [(3,)]


def test_a_read_only_warehouse_refuses_to_write(warehouse):
    warehouse.query("create table t (n int)")

    with pytest.raises(StatementFailed, match="read-only"):
        DuckDbWarehouse(warehouse.path, read_only=True).query("insert into t values (1)")


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "1a", "a;b", "a.b", "ä", "x" * 128])
def test_only_plain_names_become_identifiers(name):
    with pytest.raises(IdentifierRefused, match="letters, digits and underscores"):
        quoted("finance", name)


def test_the_connection_type_chooses_the_engine(tmp_path):
    duckdb = warehouse_connection(
        connection(
            "duckdb",
            {"published_dir": str(tmp_path), "attach": {"source": "/x.duckdb"}},
            host=str(tmp_path / "w.duckdb"),
        )
    )
    redshift = warehouse_connection(
        connection(
            "redshift",
            {"iam": True, "serverless_work_group": "analytics", "build_schema": "ci"},
            host="h",
            schema="dev",
            password="never shown",
        )
    )

    assert isinstance(duckdb, DuckDbConnection)
    assert isinstance(open_warehouse(duckdb), DuckDbWarehouse)
    assert isinstance(redshift, RedshiftConnection)
    assert (redshift.workgroup, redshift.cluster, redshift.port, redshift.build_schema) == (
        "analytics",
        None,
        5439,
        "ci",
    )
    assert "never shown" not in repr(redshift)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("postgres", {}), "expected type duckdb or redshift, found 'postgres'"),
        (("duckdb", {}), "expected host"),
        (("duckdb", {}, "w.duckdb"), "expected extra.published_dir"),
        (("redshift", {}, "h"), "extra.serverless_work_group or extra.cluster_identifier"),
        (("redshift", {"cluster_identifier": "c"}, "h"), r"schema \(the database\)"),
    ],
)
def test_a_connection_that_lacks_something_is_refused_by_name(given, told):
    conn_type, extra, *host = given

    with pytest.raises(WarehouseConnectionInvalid, match=told):
        warehouse_connection(connection(conn_type, extra, host=host[0] if host else None))
