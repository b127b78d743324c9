"""One relation has one name: in the lineage's events, after their renaming for the catalog, and as the asset's identifier."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from airflow.sdk import Connection

from data_platform.lineage.naming import Naming, rename_datasets, split_name
from include.catalog.datasets import dataset_name, relation_identifier
from include.warehouse.connection import DuckDbConnection, RedshiftConnection, StandsFor, warehouse_connection
from include.warehouse.exceptions import WarehouseConnectionInvalid

HOST = "zero-etl-destination.123456789012.us-east-1.redshift-serverless.amazonaws.com"
ARN = "arn:aws:redshift-serverless:us-east-1:123456789012"
NAMING = Naming.from_properties({"account_id": "123456789012", "region": "us-east-1", "view_schemas": ["finance"]})
FILE = DuckDbConnection(Path("/data/work.duckdb"), Path("/data/published"), {})
LAPTOP = replace(FILE, stands_for=StandsFor(HOST, 5439, "dev"))


def redshift(host=HOST) -> RedshiftConnection:
    extra = '{"serverless_work_group": "zero-etl-destination", "iam": true}'
    return warehouse_connection(Connection(conn_id="w", conn_type="redshift", host=host, schema="dev", extra=extra))


def duckdb(stands_for) -> DuckDbConnection:
    extra = json.dumps({"published_dir": "/p", "stands_for": stands_for})
    return warehouse_connection(Connection(conn_id="w", conn_type="duckdb", host="/w.duckdb", extra=extra))


@pytest.mark.parametrize("connection", [redshift(), redshift(HOST.upper()), LAPTOP], ids=["redshift", "case", "laptop"])
def test_a_laptop_that_stands_for_redshift_has_redshifts_names(connection):
    assert dataset_name(connection, "finance", "rpt_x") == (f"redshift://{HOST}:5439", "dev.finance.rpt_x")
    assert (
        relation_identifier(connection, NAMING, "finance", "rpt_x")
        == f"{ARN}:view/zero-etl-destination/dev/finance/rpt_x"
    )


def test_a_table_of_another_database_keeps_that_databases_name():
    source = dataset_name(LAPTOP, "demodb", "sales", database="aurora_zeroetl_integration")
    assert source == (f"redshift://{HOST}:5439", "aurora_zeroetl_integration.demodb.sales")


def test_a_file_that_stands_for_nothing_has_a_name_that_is_the_same_on_every_machine():
    moved = replace(FILE, path=Path("/elsewhere/work.duckdb"))
    assert dataset_name(FILE, "finance", "rpt_x") == dataset_name(moved, "finance", "rpt_x")
    assert relation_identifier(FILE, NAMING, "finance", "rpt_x") == "duckdb://work.duckdb/work.finance.rpt_x"


@pytest.mark.parametrize("connection", [redshift(), LAPTOP, FILE], ids=["redshift", "laptop", "file"])
@pytest.mark.parametrize(
    ("schema", "kind"), [("finance", "view"), ("build_staging", "view"), ("build_intermediate", "table")]
)
def test_the_identifier_is_that_of_the_datasets_node_in_the_catalog(connection, schema, kind):
    namespace, name = dataset_name(connection, schema, "x")
    facets = {"datasetType": {"datasetType": kind.upper()}}
    event = {"outputs": [{"namespace": namespace, "name": name, "facets": facets}]}
    rename_datasets(event, NAMING)

    [node] = event["outputs"]
    assert f"{node['namespace']}/{node['name']}" == relation_identifier(connection, NAMING, schema, "x", kind)


def test_a_dot_in_a_name_separates_nothing():
    assert split_name(dataset_name(LAPTOP, "odd.schema", 'a "b"').name) == ["dev", "odd.schema", 'a "b"']


def test_stands_for_is_read_and_its_port_may_be_left_out():
    assert duckdb({"host": HOST, "database": "dev"}).stands_for == StandsFor(HOST, 5439, "dev")
    assert duckdb({"host": HOST, "database": "dev", "port": 5440}).stands_for == StandsFor(HOST, 5440, "dev")
    assert duckdb(None).stands_for is None


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"host": HOST}, "database"),
        ({"host": "", "database": "dev"}, "host"),
        ({"host": HOST, "database": "dev", "port": "5439"}, "port"),
        ({"host": HOST, "database": "dev", "port": True}, "port"),
        ({"host": HOST, "database": "dev", "region": "us-east-1"}, "region"),
        ("redshift", "database, host, port"),
        ({}, "database, host"),
    ],
)
def test_a_malformed_stands_for_is_refused_with_what_is_wrong(given, wrong):
    with pytest.raises(WarehouseConnectionInvalid, match=rf"extra\.stands_for: expected .* \(wrong: {wrong}\)"):
        duckdb(given)
