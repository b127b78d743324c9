"""Every kind of check, run by Soda on good and bad rows; and what is generated for Redshift, parsed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from include.contracts.checks import Severity
from include.contracts.compile import SAMPLE_ROWS, compile_checks
from include.contracts.exceptions import ContractError
from include.contracts.load import load_products
from include.contracts.warehouse_types import Dialect
from tests.include.contracts.contracts_harness import SCHEMA, TRIAL, Contracts, soda_scans

pytestmark = pytest.mark.warehouse

GOOD = f"""
create schema {SCHEMA};
create table {SCHEMA}.rpt_customers (customer integer);
insert into {SCHEMA}.rpt_customers values (1), (2);
create table {SCHEMA}.rpt_orders (
    -- not in the contract's order
    changed_at timestamp, day date, number bigint, code varchar, kind varchar, customer integer, email varchar,
    amount decimal(18,2), fee decimal(18,2), note varchar, paid boolean);
insert into {SCHEMA}.rpt_orders
    (day, number, code, kind, customer, email, amount, fee, note, paid, changed_at) values
    ('2024-01-01', 1, 'ab', 'new', 1, 'a@example.com', 10, 1, 'x', true, null),
    ('2024-01-01', null, null, 'it''s', 2, 'b@example.com', 1000.5, 0, '', true, null),
    ('2024-01-02', 1, 'cd', 'a\\b', 2, 'c@example.com', 0, 0, 'n/a', false, (now() - interval 47 hour)::timestamp),
    ('2024-01-02', 2, null, null, null, 'd@example.com', null, null, 'y', null, null);
"""
ORDERS = f"{SCHEMA}.rpt_orders"


@dataclass(frozen=True)
class Defect:
    """A change of the good rows and the slugs of what fails then."""

    name: str
    sql: str
    fails: frozenset[str]


def defect(name: str, sql: str, *fails: str) -> Defect:
    return Defect(name, sql, frozenset(fails))


DEFECTS = [
    defect("missing column", f"alter table {ORDERS} rename column paid to payed", "columns"),
    defect("unexpected column", f"alter table {ORDERS} add column secret varchar", "columns"),
    defect("wrong precision", f"alter table {ORDERS} alter column amount type decimal(18,4)", "types"),
    defect("wrong type", f"alter table {ORDERS} alter column number type integer", "types"),
    defect("no day", f"update {ORDERS} set day = null where number = 2", "day-required"),
    defect("null", f"update {ORDERS} set email = null where number = 2", "email-required"),
    defect(
        "key repeats",
        f"insert into {ORDERS} select * replace (null as code, 5 as amount) from {ORDERS} where number = 2",
        "key",
    ),
    defect(
        "key with a null repeats",
        f"insert into {ORDERS} select * replace ('x' as note) from {ORDERS} where number is null",
        "key",
    ),
    defect("value repeats", f"update {ORDERS} set code = 'ab' where code = 'cd'", "code-unique"),
    defect(
        "below minimum", f"update {ORDERS} set amount = -0.01 where amount = 0", "amount-range", "fee-within-amount"
    ),
    defect("above maximum", f"update {ORDERS} set amount = 1000.51 where amount = 10", "amount-range"),
    defect("day at the bound", f"update {ORDERS} set day = '2030-01-01' where number = 2", "day-range"),
    defect("too short", f"update {ORDERS} set code = 'a' where code = 'ab'", "code-length"),
    defect("too short and personal", f"update {ORDERS} set email = 'ab' where number = 2", "email-length"),
    defect("too long", f"update {ORDERS} set code = 'abcdefg' where code = 'ab'", "code-length"),
    defect("pattern", f"update {ORDERS} set code = 'a1' where code = 'ab'", "code-pattern"),
    defect("unknown value", f"update {ORDERS} set kind = 'old' where kind = 'new'", "kind-known"),
    defect(
        "share of a pattern",
        f"update {ORDERS} set kind = 'k1' where kind is null or kind = 'new'",
        "kind-known",
        "kind-no-digits",
    ),
    defect("no parent", f"update {ORDERS} set customer = 3 where number = 2", "customer-exists"),
    defect("too few rows", f"delete from {ORDERS} where number is null or number = 2", "enough"),
    defect("sql", f"update {ORDERS} set fee = 11 where amount = 10", "fee-within-amount"),
    defect("sql between", f"update {ORDERS} set amount = 0, fee = 0", "amounts-add-up"),
    defect("sql of another relation", f"delete from {SCHEMA}.rpt_customers", "customers-exist", "customer-exists"),
    defect("sql of a column", f"update {ORDERS} set fee = -9", "fee-average"),
    defect("share of nulls", f"update {ORDERS} set amount = null where amount = 0", "amount-known"),
    defect("missing values", f"update {ORDERS} set note = null where note = 'x'", "note-said"),
    defect("not that number", f"update {ORDERS} set paid = false where number is not null", "paid-all"),
    defect(
        "duplicates", f"update {ORDERS} set email = 'a@example.com' where number is null or number = 2", "email-repeats"
    ),
    defect("composite duplicates", f"update {ORDERS} set code = null, kind = 'new'", "code-and-kind"),
    defect("stale", f"update {ORDERS} set changed_at = (now() - interval 49 hour)::timestamp", "changed_at-fresh"),
    defect("age not known", f"update {ORDERS} set changed_at = null", "changed_at-fresh"),
    defect("empty", f"delete from {ORDERS}", "enough", "changed_at-fresh", "amounts-add-up"),
]
SHAPE = {"columns", "types"}
"""What can still be scanned of a relation that lacks a column."""


def slug(key: str) -> str:
    return key.rpartition("/")[2]


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    contracts = Contracts(tmp_path_factory.mktemp("contracts"))
    contracts.write()
    return load_products("shop", contracts.root)[0]


@pytest.fixture(scope="module")
def checks(product):
    return compile_checks(product, "duckdb", SCHEMA)


@pytest.fixture(scope="module")
def scans(checks, tmp_path_factory):
    """Results by defect's name; ``good`` has none."""
    folder = tmp_path_factory.mktemp("scans")
    good = folder / "good.duckdb"
    with duckdb.connect(str(good)) as connection:
        connection.execute(GOOD)
    jobs = [("good", good, list(checks))]
    for number, one in enumerate(DEFECTS):
        bad = folder / f"{number}.duckdb"
        shutil.copy(good, bad)
        with duckdb.connect(str(bad)) as connection:
            connection.execute(one.sql)
        scanned = [check for check in checks if one.name != "missing column" or slug(check.key) in SHAPE]
        jobs.append((one.name, bad, scanned))
    results = soda_scans(folder, [(path, SCHEMA, scanned) for _, path, scanned in jobs])
    return dict(zip([name for name, _, _ in jobs], results, strict=True))


def test_good_rows_pass_every_check(scans, checks):
    assert {key: result.outcome for key, result in scans["good"].items()} == {check.key: "pass" for check in checks}


@pytest.mark.parametrize("one", DEFECTS, ids=lambda one: one.name)
def test_a_defect_fails_its_checks_and_no_others(scans, one):
    failed = {slug(key) for key, result in scans[one.name].items() if result.outcome != "pass"}
    assert failed == one.fails


def test_every_kind_of_check_was_seen_to_fail(checks):
    seen = frozenset().union(*(one.fails for one in DEFECTS))
    # a reference of a key to itself can't be broken: it is there to be seen with several columns
    assert {slug(check.key) for check in checks} - seen == {"day-is-known"}


def found(scans, name, wanted):
    return next(result for key, result in scans[name].items() if slug(key) == wanted and "rpt_orders" in key)


def test_a_missing_and_an_unexpected_column_are_both_named(scans):
    result = found(scans, "missing column", "columns")
    assert result.columns == ["column_name", "expected", "found"]
    assert sorted(result.rows) == [["paid", "a column", "none"], ["payed", "none", "boolean"]]


def test_a_wrong_type_is_told_with_both_names(scans):
    assert found(scans, "wrong precision", "types").rows == [["amount", "decimal(18,2)", "decimal(18,4)"]]
    assert found(scans, "wrong type", "types").rows == [["number", "bigint", "integer"]]


def test_rows_that_fail_are_shown_by_their_key(scans):
    assert found(scans, "too short", "code-length").columns == ["day", "number", "code"]
    assert found(scans, "too short", "code-length").rows == [["2024-01-01", "1", "a"]]


def test_a_key_that_repeats_is_shown_with_its_count(scans):
    result = found(scans, "key with a null repeats", "key")
    assert (result.value, result.columns) == (1, ["day", "number", "occurrences"])
    assert result.rows == [["2024-01-01", "None", "2"]]


@pytest.mark.parametrize("name", [one.name for one in DEFECTS])
def test_personal_and_confidential_values_never_leave_the_warehouse(scans, name):
    orders = {key: result for key, result in scans[name].items() if "/rpt_orders/" in key}
    assert orders
    for key, result in orders.items():
        assert not {"email", "customer", "fee"} & set(result.columns), key
        assert "example.com" not in str(result.rows), key


@pytest.mark.parametrize("dialect", Dialect)
def test_samples_select_the_sample_columns_and_nothing_else(product, dialect):
    sampled = 0
    for check in compile_checks(product, dialect, SCHEMA):
        (entry,) = check.sodacl.values()
        query = entry.get("failed rows query")
        if query is None:
            assert check.sample_columns == ()
            continue
        sampled += 1
        tree = sqlglot.parse_one(query, dialect=dialect)
        assert tuple(tree.named_selects) == check.sample_columns
        assert not list(tree.find_all(exp.Star)) or "occurrences" in check.sample_columns
        assert f"limit {SAMPLE_ROWS}" in query or check.sample_columns == ("column_name", "expected", "found")
    assert sampled > 15


def test_what_cannot_be_shown_is_counted_only(checks):
    by_slug = {slug(check.key): check for check in checks}
    assert by_slug["customer-exists"].sample_columns == ()
    assert by_slug["email-repeats"].sample_columns == ("occurrences",)
    assert by_slug["email-required"].sample_columns == ("day", "number")


def test_severity_dimension_columns_and_version_come_from_the_contract(checks):
    check = next(check for check in checks if slug(check.key) == "kind-no-digits")
    assert check.key == "orders/rpt_orders/kind-no-digits"
    assert (check.product, check.contract_version, check.relation) == ("orders", "2.3.4", "rpt_orders")
    assert (check.severity, check.dimension, check.columns) == (Severity.WARNING, "accuracy", ("kind",))
    assert check.description == "Few kinds have digits."
    assert next(iter(check.sodacl.values()))["name"] == check.key


def test_keys_are_the_same_on_both_warehouses(product):
    keys = [[check.key for check in compile_checks(product, dialect, SCHEMA)] for dialect in Dialect]
    assert keys[0] == keys[1]


def test_two_promises_with_one_key_are_refused(contracts):
    contracts.write(TRIAL.replace("id: enough", "id: email-required"))
    (product,) = load_products("shop", contracts.root)
    with pytest.raises(ContractError, match=r"orders/rpt_orders/email-required.* twice; rename the rule's id"):
        compile_checks(product, "duckdb", SCHEMA)


def redshift(product):
    return {slug(check.key): next(iter(check.sodacl.values())) for check in compile_checks(product, "redshift", SCHEMA)}


def test_everything_for_redshift_is_one_select_that_parses(product):
    for entry in redshift(product).values():
        for text in [value for key, value in entry.items() if key.endswith("query")]:
            (tree,) = sqlglot.parse(text, dialect="redshift")
            assert isinstance(tree, exp.Select)


def test_redshift_types_compare_with_precision_and_length(product):
    (query,) = [value for key, value in redshift(product)["types"].items() if key.endswith("_types query")]
    assert "'character varying(6)' as data_type" in query
    assert "'numeric(18,2)' as data_type" in query
    assert "'timestamp without time zone' as data_type" in query
    assert "from svv_columns" in query


def test_redshift_reads_a_backslash_as_an_escape_so_it_is_doubled(product):
    assert r"'a\\b'" in redshift(product)["kind-known"]["measured_kind_known query"]
    assert "not (\"code\" ~ '^[a-z]+$')" in redshift(product)["code-pattern"]["measured_code_pattern query"]
