"""Publishing by view on the Redshift Data API's stand-in, which runs Redshift SQL; and what real Redshift would be sent."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import sqlglot
from botocore.config import Config

from include.local.aurora.replicator import Replicator
from include.local.aurora.server import Server
from include.local.aurora.source import Aurora
from include.warehouse.build import count_rows
from include.warehouse.connection import RedshiftConnection
from include.warehouse.dbt_run import NodeResult
from include.warehouse.exceptions import IdentifierRefused, PublishFailed, ReleaseRefused, StatementFailed
from include.warehouse.gateway import RedshiftWarehouse
from include.warehouse.products import Product
from include.warehouse.publication import Publication
from include.warehouse.published_views import (
    MAX_RELATIONS,
    discard_views,
    hold_views,
    prepare_statements,
    publish_views,
    release_views,
    repoint_statements,
    retire_versions,
    was_published,
)

PRODUCT = Product("finance", ("rpt_a", "rpt_b"))
CONNECTION = RedshiftConnection(
    host="unused",
    port=5439,
    database="dev",
    user=None,
    password=None,
    iam=True,
    workgroup="analytics",
    cluster=None,
    region="us-east-1",
    secret_arn=None,
    aws_conn_id="aws_default",
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    home = tmp_path_factory.mktemp("redshift")
    aurora = Aurora(home / "aurora")
    aurora.create_tickit()
    replicator = Replicator(aurora, home / "zero_etl")
    server = Server(replicator)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.close()
    thread.join()
    replicator.close()


@pytest.fixture
def redshift(endpoint):
    warehouse = RedshiftWarehouse(CONNECTION, boto3.client("redshift-data", endpoint_url=endpoint))
    for schema in ("finance", "finance_versions", "build_finance_audit"):
        warehouse.query(f"drop schema if exists {schema} cascade")
    warehouse.query("create schema build_finance_audit")
    return warehouse


def build(warehouse, number):
    statements = []
    for relation in ("rpt_a", "rpt_b"):
        statements += [
            f"drop table if exists build_finance_audit.{relation}",
            f"create table build_finance_audit.{relation} as select {number} as number",
        ]
    warehouse.transaction(statements)


def publish_number(warehouse, number, at=None):
    build(warehouse, number)
    publication = Publication.now("run", str(number))
    if at is not None:
        publication = replace(publication, version=at.strftime("v%Y%m%d%H%M%S%f"), published_at=at)
    publish_views(warehouse, PRODUCT, publication, "build_finance_audit")
    return publication


def read(warehouse):
    (row,) = warehouse.query(
        "select (select max(number) from finance.rpt_a), (select min(number) from finance.rpt_b), source_checkpoint "
        "from finance._publication"
    )
    return row


def tables(warehouse):
    return [
        name
        for (name,) in warehouse.query(
            "select table_name from information_schema.tables where table_schema = 'finance_versions' order by 1"
        )
    ]


def test_the_consumer_views_show_the_version_that_was_published_last(redshift):
    publish_number(redshift, 1)
    build(redshift, 2)
    assert read(redshift) == (1, 1, "1")  # building alone changes nothing for readers

    second = publish_number(redshift, 2)

    assert read(redshift) == (2, 2, "2")
    assert redshift.query("select version, run_id from finance._publication") == [(second.version, "run")]


def test_readers_see_one_version_while_others_are_published(redshift):
    publish_number(redshift, 0)
    seen, errors, stop = [], [], threading.Event()

    def keep_reading():
        try:
            while not stop.is_set():
                seen.append(read(redshift))
        except Exception as error:  # no reader may ever meet one
            errors.append(error)

    thread = threading.Thread(target=keep_reading)
    thread.start()
    try:
        for number in range(1, 6):
            publish_number(redshift, number)
    finally:
        stop.set()
        thread.join()

    assert errors == []
    assert len({row[0] for row in seen}) > 1
    assert [row for row in seen if len({str(value) for value in row}) != 1] == []


class StopsAt:
    """A warehouse whose connection breaks at the n-th call, or that refuses one statement of the last transaction."""

    def __init__(self, warehouse, call=None, statement=None):
        self._warehouse, self._left, self._statement = warehouse, call, statement

    def _count(self):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise StatementFailed("connection lost")

    def query(self, sql, parameters=None):
        self._count()
        return self._warehouse.query(sql, parameters)

    def transaction(self, statements, parameters=None):
        self._count()
        if self._statement is not None and statements[0].startswith("insert"):
            statements = [*statements[: self._statement], "select no_such_column from finance_versions._publications"]
            parameters = parameters if self._statement > 0 else None
        self._warehouse.transaction(statements, parameters)


@pytest.mark.parametrize("broken", [{"call": n} for n in range(5)] + [{"statement": n} for n in range(5)], ids=str)
def test_a_publisher_that_stops_anywhere_leaves_the_version_before(redshift, broken):
    publish_number(redshift, 1)
    build(redshift, 2)

    with pytest.raises(PublishFailed, match="Readers still see the version before"):
        publish_views(StopsAt(redshift, **broken), PRODUCT, Publication.now("run", "2"), "build_finance_audit")

    assert read(redshift) == (1, 1, "1")
    publish_number(redshift, 3)
    assert read(redshift) == (3, 3, "3")


def test_a_relation_that_leaves_the_product_loses_its_view(redshift):
    publish_number(redshift, 1)

    publish_views(redshift, Product("finance", ("rpt_a",)), Publication.now("run", "2"), "build_finance_audit")

    views = redshift.query("select table_name from information_schema.tables where table_schema = 'finance' order by 1")
    assert views == [("_publication",), ("rpt_a",)]


def test_old_versions_go_after_the_grace_time_and_the_one_in_use_never(redshift):
    now = datetime.now(UTC)
    old, left_lately, current = (
        publish_number(redshift, number, now - timedelta(hours=hours)) for number, hours in ((1, 9), (2, 8), (3, 0.5))
    )
    # of a publisher that was killed nine hours ago, and of one that is at work
    killed, at_work = ((now - timedelta(hours=hours)).strftime("v%Y%m%d%H%M%S%f") for hours in (9.5, 0.1))
    for version in (killed, at_work):
        redshift.query(f"create table finance_versions.rpt_a__{version} as select 1 as number")

    dropped = retire_versions(redshift, PRODUCT, grace_seconds=3600, now=now)

    # the second was superseded half an hour ago, however old it is
    assert dropped == sorted([f"rpt_a__{killed}", f"rpt_a__{old.version}", f"rpt_b__{old.version}"])
    kept = [f"{relation}__{version.version}" for relation in ("rpt_a", "rpt_b") for version in (left_lately, current)]
    assert tables(redshift) == sorted(["_publications", f"rpt_a__{at_work}", *kept])
    assert read(redshift) == (3, 3, "3")
    assert retire_versions(redshift, PRODUCT, grace_seconds=3600, now=now) == []
    # what is newer than the version in use stays, however long its publisher takes
    assert retire_versions(redshift, PRODUCT, grace_seconds=60, now=now + timedelta(days=9)) == [
        f"rpt_a__{left_lately.version}",
        f"rpt_b__{left_lately.version}",
    ]
    assert read(redshift) == (3, 3, "3")


def test_the_version_in_use_stays_when_a_clock_ran_ahead_before(redshift):
    now = datetime.now(UTC)
    publish_number(redshift, 1, now + timedelta(hours=2))  # by a worker whose clock was wrong
    publish_number(redshift, 2, now)
    before = tables(redshift)

    assert retire_versions(redshift, PRODUCT, grace_seconds=60, now=now + timedelta(days=9)) == []

    assert tables(redshift) == before
    assert read(redshift) == (2, 2, "2")


def test_nothing_is_retired_while_the_version_in_use_cannot_be_read(redshift, caplog):
    publish_number(redshift, 1, datetime.now(UTC) - timedelta(hours=9))
    publish_number(redshift, 2, datetime.now(UTC) - timedelta(hours=8))
    redshift.query("drop view finance._publication")
    before = tables(redshift)

    assert retire_versions(redshift, PRODUCT, grace_seconds=60) == []

    assert tables(redshift) == before
    assert 'expected "finance"."_publication" to name the version in use' in caplog.text
    assert "Nothing was dropped" in caplog.text


def test_a_colleagues_view_in_the_schema_stays(redshift):
    publish_number(redshift, 1)
    redshift.query("create view finance.my_own as select 1 as number")

    publish_number(redshift, 2)

    assert redshift.query("select number from finance.my_own") == [(1,)]


def hold_number(warehouse, number):
    build(warehouse, number)
    publication = Publication.now("run", str(number), 50.0)
    hold_views(warehouse, PRODUCT, publication, "build_finance_audit")
    return publication


def test_a_held_version_is_kept_where_no_reader_looks_and_never_retires_while_it_is_the_newest(redshift):
    published = publish_number(redshift, 1)

    held = hold_number(redshift, 2)

    assert read(redshift) == (1, 1, "1")
    both = [f"{relation}__{version.version}" for relation in ("rpt_a", "rpt_b") for version in (published, held)]
    assert tables(redshift) == sorted(["_publications", *both])
    assert retire_versions(redshift, PRODUCT, grace_seconds=60, now=datetime.now(UTC) + timedelta(days=9)) == []


def test_a_released_version_is_the_one_that_was_held_whatever_was_built_since(redshift):
    publish_number(redshift, 1)
    held = hold_number(redshift, 2)
    build(redshift, 3)
    reason = "Known: the venue's name is new; 'quoted'"

    for _ in range(2):  # a retry
        release_views(redshift, PRODUCT, held.released("admin", reason))

    assert read(redshift) == (2, 2, "2")
    told = redshift.query("select version, quality_score, released_by, release_reason from finance._publication")
    assert told == [(held.version, 50.0, "admin", reason)]


def test_the_version_before_a_released_one_stays_for_the_grace_time_of_its_readers(redshift):
    now = datetime.now(UTC)
    first = publish_number(redshift, 1, now - timedelta(hours=9))
    build(redshift, 2)
    made = now - timedelta(hours=5)
    held = replace(Publication.now("run", "2"), version=made.strftime("v%Y%m%d%H%M%S%f"), published_at=made)
    hold_views(redshift, PRODUCT, held, "build_finance_audit")

    release_views(redshift, PRODUCT, held.released("admin", "it is right"))  # five hours after it was made

    assert retire_versions(redshift, PRODUCT, grace_seconds=3600, now=now + timedelta(minutes=59)) == []
    dropped = retire_versions(redshift, PRODUCT, grace_seconds=3600, now=now + timedelta(minutes=61))
    assert dropped == [f"rpt_a__{first.version}", f"rpt_b__{first.version}"]


def test_a_version_that_is_not_held_any_more_is_not_released(redshift):
    publish_number(redshift, 1)
    held = hold_number(redshift, 2)
    assert discard_views(redshift, PRODUCT, held.version) == [f"rpt_a__{held.version}", f"rpt_b__{held.version}"]

    with pytest.raises(ReleaseRefused, match=f"expected {held.version} to be held"):
        release_views(redshift, PRODUCT, held.released("admin", "it is right"))

    assert read(redshift) == (1, 1, "1")


def test_what_readers_ever_saw_is_told_from_what_was_only_held(redshift):
    first, held = publish_number(redshift, 1), hold_number(redshift, 2)
    publish_number(redshift, 3)

    assert was_published(redshift, PRODUCT, first.version)
    assert not was_published(redshift, PRODUCT, held.version)


@pytest.mark.parametrize("call", range(6))
def test_holding_that_stops_anywhere_changes_nothing_for_readers_and_can_be_done_again(redshift, call):
    publish_number(redshift, 1)
    build(redshift, 2)
    held = Publication.now("run", "2")
    try:
        hold_views(StopsAt(redshift, call=call), PRODUCT, held, "build_finance_audit")
    except PublishFailed as error:
        assert "Readers still see the version before" in str(error)  # noqa: PT017
    assert read(redshift) == (1, 1, "1")

    hold_views(redshift, PRODUCT, held, "build_finance_audit")
    release_views(redshift, PRODUCT, held.released("admin", "it is right"))

    assert read(redshift) == (2, 2, "2")


def test_an_environment_that_is_older_than_the_gate_gets_the_new_columns(redshift):
    redshift.query("create schema finance_versions")
    redshift.query(
        "create table finance_versions._publications (version varchar(32) not null, run_id varchar(250) not null, "
        "source_checkpoint varchar(250) not null, published_at timestamp not null)"
    )

    publish_number(redshift, 1)
    publish_number(redshift, 2)

    assert redshift.query("select quality_score, released_by from finance._publication") == [(None, None)]


def test_a_silent_api_is_told_with_the_operation_and_only_costs_the_row_counts(caplog):
    config = Config(connect_timeout=0.2, retries={"total_max_attempts": 1})
    client = boto3.client("redshift-data", endpoint_url="http://127.0.0.1:9", config=config)  # closed
    warehouse = RedshiftWarehouse(CONNECTION, client)

    with pytest.raises(
        StatementFailed, match="Data API, execute_statement: expected an answer, found: Could not connect"
    ):
        warehouse.query("select 1")
    with pytest.raises(StatementFailed, match="Data API, batch_execute_statement: expected an answer"):
        warehouse.transaction(["select 1"])
    node = NodeResult("model.p.first", "model", "first", "table", ("build_finance_audit", "first"), "success", 0.5, 1)
    assert count_rows(lambda: warehouse, [node]) == {}
    assert "rows were not counted: Redshift Data API, execute_statement" in caplog.text


def test_a_refusal_of_the_api_is_told_with_the_operation(redshift):
    with pytest.raises(StatementFailed, match=r"Data API, describe_statement: .*Exception"):
        redshift._wait("00000000-0000-0000-0000-000000000000", ["select 1"])


def test_values_are_bound_and_cannot_become_sql(redshift):
    nasty = "'; drop schema finance cascade; --"
    build(redshift, 1)

    publish_views(redshift, PRODUCT, replace(Publication.now("run", nasty), run_id=nasty), "build_finance_audit")

    assert redshift.query("select run_id, source_checkpoint from finance._publication") == [(nasty, nasty)]


def test_a_name_that_is_no_identifier_is_refused():
    with pytest.raises(IdentifierRefused, match="rename it at its source"):
        prepare_statements(
            Product("finance", ('rpt"; drop schema finance',)), Publication.now("run", "1"), "build_finance_audit"
        )


def test_more_relations_than_one_transaction_holds_are_refused():
    product = Product("finance", tuple(f"rpt_{n}" for n in range(MAX_RELATIONS + 1)))

    with pytest.raises(PublishFailed, match="split the product"):
        prepare_statements(product, Publication.now("run", "1"), "build_finance_audit")


def test_every_statement_is_redshifts_and_the_views_bind_late():
    publication = Publication.now("run", "1")
    statements = [
        *prepare_statements(PRODUCT, publication, "build_finance_audit"),
        *prepare_statements(PRODUCT, publication, "build_finance_audit", ["version", "run_id"]),
        *repoint_statements(
            PRODUCT, publication, {"rpt_a": ["number"], "rpt_b": ["number", "name"]}, ["rpt_gone", "rpt_a"]
        ),
    ]

    for statement in statements:
        (parsed,) = sqlglot.parse(statement, read="redshift")
        assert not isinstance(parsed, sqlglot.exp.Command), statement
    views = [statement for statement in statements if statement.startswith("create or replace view")]
    assert len(views) == 3
    assert all(view.endswith("with no schema binding") for view in views)
    assert statements[-1] == 'drop view "finance"."rpt_gone"'
