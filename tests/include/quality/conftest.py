"""Checks written by hand, and a warehouse with rows that are at fault."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from include.contracts.checks import Check, Severity
from include.platform.settings import load_settings
from include.quality.report import CheckResult, GateReport, Outcome
from include.warehouse.connection import DuckDbConnection

SCHEMA = "build_finance_audit"
TABLE = f"{SCHEMA}.rpt_sales"
SCANNED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def check(slug: str, entry: str, configuration: dict | None = None, **changes) -> Check:
    """A check of ``rpt_sales``."""
    plain = Check(
        key=f"sales/rpt_sales/{slug}",
        product="sales",
        contract_version="1.0.0",
        relation="rpt_sales",
        columns=(),
        dimension="completeness",
        severity=Severity.ERROR,
        description=f"The rule {slug} holds.",
        sodacl={entry: configuration or {}},
    )
    return dataclasses.replace(plain, **changes)


def counting(slug: str, condition: str, *, columns: str = "id, email", **changes) -> Check:
    """A check that no row meets ``condition``, with rows that do, in the form of compiled contracts."""
    query = f"select count(*) from {TABLE} where {condition}"
    rows = f"select {columns} from {TABLE} where {condition} order by id limit 20"
    changes = {"sample_columns": ("id",)} | changes
    return check(slug, "measured = 0", {"measured query": query, "failed rows query": rows}, **changes)


def result(subject: Check, outcome: Outcome = Outcome.PASSED, **changes) -> CheckResult:
    """How ``subject`` ended."""
    plain = CheckResult(subject, outcome, 0, "expected = 0, found 0")
    return dataclasses.replace(plain, **changes)


def report(*results: CheckResult) -> GateReport:
    """A gate that found ``results``."""
    return GateReport(SCANNED_AT, 1.5, results)


def write(path: Path) -> DuckDbConnection:
    """A thousand sales; every tenth lacks its buyer's address."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create schema {SCHEMA}")
        connection.execute(
            f"create table {TABLE} as select range as id, case when range % 10 = 0 then null else 'buyer' || range || '@example.com' end "
            "as email, now()::timestamp + interval 1 hour as changed_at from range(1000)"
        )
    return DuckDbConnection(path, path.parent / "published", {})


@pytest.fixture(scope="session")
def soda_python() -> Path:
    python = load_settings().warehouse_venv / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the warehouse environment has not been built: no {python}; run make setup")
    return python


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> DuckDbConnection:
    return write(tmp_path_factory.mktemp("warehouse") / "build.duckdb")
