"""`gate`: what the quality gate takes for a hundred checks, of which ten fail and show rows.

One Soda process and one scan for all of them, on a DuckDB file of its own. Baseline, taken in turn on the same machine: a process for each
check. That is run for some of the checks only and multiplied, as each process does the same; the result says how many were run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import duckdb

from bench._result import write_result
from include.contracts.checks import Check, Severity
from include.quality.gate import run_gate
from include.quality.report import Outcome
from include.warehouse.connection import DuckDbConnection

RUNS = 5
CHECKS = 100
FAILING = 10
ALONE = 5
ROWS = 172_456
"""As many as TICKIT's sales."""
RELATIONS = 5
SCHEMA = "build_finance_audit"


def build(path: Path) -> DuckDbConnection:
    """Relations without a fault."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create schema {SCHEMA}")
        for number in range(RELATIONS):
            connection.execute(
                f"create table {SCHEMA}.rpt_{number} as select range as id, range % 97 as kind, range * 1.5 as price from range({ROWS})"
            )
    return DuckDbConnection(path, path.parent, {})


def checks() -> list[Check]:
    """In the form of compiled contracts: a count that should be 0, and a query for rows."""
    made = []
    for number in range(CHECKS):
        relation = f"rpt_{number % RELATIONS}"
        condition = f"kind = {number}" if number < FAILING else f"price < -{number}"
        source = f"from {SCHEMA}.{relation} where {condition}"
        entry = {"measured query": f"select count(*) {source}", "failed rows query": f"select id {source} limit 20"}
        made.append(
            Check(
                key=f"bench/{relation}/{number}",
                product="bench",
                contract_version="1.0.0",
                relation=relation,
                columns=("kind",),
                dimension="accuracy",
                severity=Severity.ERROR,
                description=f"No row with {condition}.",
                sodacl={"measured = 0": entry},
                sample_columns=("id",),
            )
        )
    return made


def timed(subjects: list[Check], warehouse: DuckDbConnection) -> float:
    """Seconds of one gate; it must have judged as expected."""
    began = time.perf_counter()
    report = run_gate(subjects, warehouse, SCHEMA)
    seconds = time.perf_counter() - began
    expected = [Outcome.FAILED if int(c.key.rpartition("/")[2]) < FAILING else Outcome.PASSED for c in subjects]
    assert [result.outcome for result in report.results] == expected, "the gate did not judge as expected"
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        warehouse, subjects = build(Path(folder) / "build.duckdb"), checks()
        timed(subjects[:1], warehouse)  # both read the same files from the disk's cache
        together, alone, one = [], [], []
        for _ in range(RUNS):
            processes = [timed([subject], warehouse) for subject in subjects[:: CHECKS // ALONE]]
            one += processes
            alone.append(sum(processes) * CHECKS / ALONE)
            together.append(timed(subjects, warehouse))
    write_result(
        "gate",
        what=f"{CHECKS} checks in one scan, from the job to the report",
        baseline=f"one Soda process a check, {ALONE} run and multiplied",
        unit="s",
        samples=together,
        baseline_samples=alone,
        checks=CHECKS,
        failing=FAILING,
        rows_per_relation=ROWS,
        baseline_checks_run=ALONE,
        one_check_s=sorted(one)[len(one) // 2],
        seconds_per_check=sorted(together)[len(together) // 2] / CHECKS,
    )


if __name__ == "__main__":
    main()
