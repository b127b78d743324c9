"""The committed contracts, held to what dbt really builds, and to the standard's own schema."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass

import duckdb
import jsonschema
import pytest
import sqlglot
import yaml
from open_data_contract_standard.model import OpenDataContractStandard
from sqlglot import exp

from include.contracts.compile import compile_checks
from include.contracts.load import load_products
from include.contracts.products import Classification
from include.contracts.warehouse_types import Dialect
from include.local.tickit.generate import generate
from tests.dbt.harness import build
from tests.include.contracts.contracts_harness import soda_scans

SCHEMA = "build_finance_audit"
TOTALS = f"{SCHEMA}.rpt_finance_qtr_total_sales_by_event"
TOP = f"{SCHEMA}.rpt_finance_qtr_top_event_by_sales"
EVENTS = f"{SCHEMA}.rpt_finance_best_selling_events"
SELLERS = f"{SCHEMA}.rpt_finance_seller_success"
VENUES = f"{SCHEMA}.rpt_finance_best_selling_venues"
FINANCE = load_products("finance")
BY_NAME = {product.name: product for product in FINANCE}
OLD_DATA = {
    "qtr_total_sales_by_event/last_changed_at-fresh",
    "qtr_top_event_by_sales/last_changed_at-fresh",
}
"""The generated rows were replicated at a fixed time in the past."""


@dataclass(frozen=True)
class Defect:
    name: str
    sql: str
    fails: frozenset[str]


DEFECTS = [
    Defect(
        "a quarter that is none",
        f"update {TOTALS} set quarter = 5 where year = (select max(year) from {TOTALS}) and quarter = 4",
        frozenset(
            {
                "qtr_total_sales_by_event/quarter-range",
                "qtr_top_event_by_sales/agrees-with-totals",
                "qtr_top_event_by_sales/every-quarter-has-a-winner",
                "qtr_top_event_by_sales/is-one-of-the-totals",
            }
        ),
    ),
    Defect(
        "a key twice",
        f"insert into {TOTALS} select * from {TOTALS} limit 1",
        frozenset({"qtr_total_sales_by_event/key"}),
    ),
    Defect(
        "a commission above its revenue",
        f"update {EVENTS} set staff_commission = sales_revenue + 1 where revenue_rank = 1",
        frozenset({"best_selling_events/commission-within-revenue"}),
    ),
    Defect(
        "a rank that is none",
        f"update {TOP} set row_num = 4 where row_num = 3",
        frozenset({"qtr_top_event_by_sales/row_num-range", "qtr_top_event_by_sales/ranks-follow-revenue"}),
    ),
    Defect(
        "a winner of another revenue",
        f"update {TOP} set sales_revenue = sales_revenue + 1 where row_num = 1",
        frozenset({"qtr_top_event_by_sales/is-one-of-the-totals", "qtr_top_event_by_sales/agrees-with-totals"}),
    ),
    Defect(
        "a quarter without winner",
        f"delete from {TOP} where quarter = 1",
        frozenset({"qtr_top_event_by_sales/every-quarter-has-a-winner"}),
    ),
    Defect(
        "a rate above one",
        f"update {SELLERS} set ticket_success_rate = 1.01 where sellerid = (select min(sellerid) from {SELLERS})",
        frozenset({"seller_success/ticket_success_rate-range"}),
    ),
    Defect(
        "two venues without id",
        f"insert into {VENUES} select * replace (null as venueid) from {VENUES} limit 2",
        frozenset({"best_selling_venues/key"}),
    ),
]


def short(key: str) -> str:
    product, _, slug = key.split("/")
    return f"{product}/{slug}"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """What Soda finds in the products as dbt builds them (``good``), and with each defect."""
    folder = tmp_path_factory.mktemp("built")
    database = build(folder, generate("small")).warehouse.database
    checks = [check for product in FINANCE for check in compile_checks(product, "duckdb", SCHEMA)]
    jobs = [("good", database)]
    for number, one in enumerate(DEFECTS):
        bad = folder / f"{number}.duckdb"
        shutil.copy(database, bad)
        with duckdb.connect(str(bad)) as connection:
            assert connection.execute(one.sql).fetchone()[0] > 0
        jobs.append((one.name, bad))
    results = soda_scans(folder, [(path, SCHEMA, checks) for _, path in jobs])
    return dict(zip([name for name, _ in jobs], results, strict=True))


@pytest.mark.warehouse
def test_what_dbt_builds_keeps_every_promise(scans):
    assert {short(key) for key, result in scans["good"].items() if result.outcome != "pass"} == OLD_DATA
    assert len(scans["good"]) > 100


@pytest.mark.warehouse
@pytest.mark.parametrize("one", DEFECTS, ids=lambda one: one.name)
def test_a_defect_is_found(scans, one):
    failed = {short(key) for key, result in scans[one.name].items() if result.outcome != "pass"}
    assert failed - OLD_DATA == one.fails


@pytest.mark.warehouse
def test_no_personal_value_of_a_seller_is_ever_shown(scans):
    for scan in scans.values():
        sellers = {key: result for key, result in scan.items() if key.startswith("seller_success/")}
        assert sellers
        for key, result in sellers.items():
            assert not {"sellerid", "username", "city", "state"} & set(result.columns), key
    failed = next(
        result for key, result in scans["a rate above one"].items() if key.endswith("ticket_success_rate-range")
    )
    assert (failed.columns, failed.rows) == (["ticket_success_rate"], [["1.0100"]])


@pytest.mark.parametrize("product", FINANCE, ids=lambda product: product.name)
def test_a_contract_is_valid_by_the_standards_own_schema(product):
    validator = jsonschema.Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))
    document = yaml.safe_load(product.path.read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize("product", FINANCE, ids=lambda product: product.name)
def test_a_contract_names_no_account_and_no_real_person(product):
    text = product.path.read_text(encoding="utf-8")
    assert not re.search(r"\b\d{12}\b", text)
    assert "@example.com" in text
    assert re.findall(r"@(?!example\.com)\w+", text) == []
    assert [server.account for server in product.document.servers] == [None, None]


def test_data_of_sellers_is_personal():
    (relation,) = BY_NAME["seller_success"].relations
    personal = {column.name for column in relation.columns if column.classification is Classification.PERSONAL}
    assert personal == {"sellerid", "username", "city", "state"}


def test_every_contract_has_an_id_of_its_own():
    assert len({product.document.id for product in FINANCE}) == len(FINANCE)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("product", FINANCE, ids=lambda product: product.name)
def test_every_query_parses_and_reads_promised_relations_only(product, dialect):
    promised = {(SCHEMA, relation.name) for one in FINANCE for relation in one.relations}
    catalogs = {("", "svv_columns"), ("information_schema", "columns")}
    checks = compile_checks(product, dialect, SCHEMA)
    assert checks
    for check in checks:
        for key, query in next(iter(check.sodacl.values())).items():
            if key.endswith("query"):
                (tree,) = sqlglot.parse(query, dialect=dialect)
                ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
                read = {(table.db, table.name) for table in tree.find_all(exp.Table)} - {("", name) for name in ctes}
                assert read <= promised | catalogs, check.key
