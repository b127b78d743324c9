"""The gate with a real Soda and a real DuckDB file. A scan takes a second, so one scan serves all that can share it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import duckdb
import pytest

from include.contracts.checks import Severity
from include.quality import gate
from include.quality.exceptions import (
    KeysRepeat,
    NothingToCheck,
    ScanInterrupted,
    ScanTooSlow,
    SodaCouldNotRun,
    SodaMissing,
)
from include.quality.gate import run_gate, soda_environment, warehouse_time
from include.quality.report import Outcome, Verdict
from include.warehouse.child_process import ChildProcess
from include.warehouse.exceptions import StatementFailed
from include.warehouse.gateway import open_warehouse
from tests.include.quality.conftest import SCHEMA, TABLE, check, counting, write
from tests.include.quality.test_data_source import redshift
from tests.include.warehouse.test_child_process import alive, gone

ROOT = Path(__file__).resolve().parents[3]
SECRET_ADDRESS = "buyer1@example.com"

CHECKS = [
    counting("ids", "id < 0"),
    counting("never_asked", "id < -5", columns="nope"),
    counting("addresses", "email is null"),
    counting("late", "id >= 500"),
    counting("warned", "id = 7", severity=Severity.WARNING),
    counting("no_column", "nope is null"),
    counting("twin", "email is null", columns="id, 1 as one", sample_columns=("id", "one")),
    counting("rows_broken", "email is null and id > 0", columns="nope"),
    check("cast", "measured = 0", {"measured query": f"select sum(cast(email as int)) from {TABLE}"}),
    check("no_number", "measured = 0", {"measured query": "select null"}),
    check("typo", "missing_kount(email)  0"),
    check("built_in", "missing_count(email) = 0", sample_columns=("id",)),
    check("share", "measured <= 5", {"measured query": f"select 100.0 * 12.345 / 100 from {TABLE} limit 1"}),
    check("rows", "row_count between 1 and 2000"),
    check("future", "freshness(changed_at) < 1d"),
    check("shape", "schema", {"fail": {"when required column missing": ["id", "salary"]}}),
    check("soda_warns", "row_count", {"warn": "when > 5"}),
    check("of_none", "missing_count(id) = 0", relation="rpt_missing"),
]


@pytest.fixture(scope="module")
def scanned(soda_python, warehouse, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    environment = soda_environment()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "soda_environment", lambda: environment | {"HOME": str(home)})
        report = run_gate(CHECKS, warehouse, SCHEMA)
    return report, home


@pytest.fixture(scope="module")
def ended(scanned):
    return {result.check.key.rpartition("/")[2]: result for result in scanned[0].results}


def test_each_check_has_one_result_in_the_order_of_the_checks(scanned):
    assert [result.check for result in scanned[0].results] == CHECKS


def test_what_holds_passes_with_its_value(ended):
    assert ended["ids"].outcome is Outcome.PASSED
    assert ended["ids"].measured == 0
    assert ended["ids"].message == "expected = 0, found 0"
    assert ended["ids"].samples == ()
    assert (ended["rows"].outcome, ended["rows"].measured) == (Outcome.PASSED, 1000)


def test_no_rows_are_asked_for_of_what_passes(ended):
    """Its query for rows is broken, which would be told."""
    assert ended["never_asked"].message == "expected = 0, found 0"


def test_what_does_not_hold_fails_with_its_value_and_some_rows(ended):
    found = ended["addresses"]

    assert found.outcome is Outcome.FAILED
    assert (found.measured, found.failed_rows) == (100, 100)
    assert found.message == "expected = 0, found 100"
    assert len(ended["late"].samples) == 20
    assert ended["late"].samples[0] == {"id": 500}
    assert (ended["built_in"].outcome, ended["built_in"].failed_rows) == (Outcome.FAILED, 100)
    assert ended["built_in"].samples[0] == {"id": 0}  # Soda itself selects every column


def test_a_value_that_counts_no_rows_is_told_alone(ended):
    assert ended["share"].outcome is Outcome.FAILED
    assert ended["share"].measured == pytest.approx(12.345)
    assert ended["share"].failed_rows is None
    assert ended["share"].message == "expected <= 5, found 12.345"


@pytest.mark.parametrize(
    ("slug", "told"),
    [
        ("no_column", 'Referenced column "nope" not found'),
        ("no_number", "its query gave no number"),
        ("typo", 'Invalid check "missing_kount(email)  0"'),
        ("of_none", "rpt_missing"),
    ],
)
def test_what_could_not_be_evaluated_is_told_apart_with_sodas_words(ended, slug, told):
    assert ended[slug].outcome is Outcome.ERRORED
    assert ended[slug].message.startswith("could not be evaluated: ")
    assert told in ended[slug].message
    assert ended[slug].measured is None


def test_an_error_that_quotes_a_value_is_told_without_it(ended):
    assert ended["cast"].outcome is Outcome.ERRORED
    assert "Could not convert string" in ended["cast"].message
    assert SECRET_ADDRESS not in ended["cast"].message
    assert "@" not in ended["cast"].message


def test_checks_that_measure_the_same_are_both_judged(ended):
    """Soda measures once for both; rows are told only of the one that asked for them."""
    assert (ended["twin"].outcome, ended["twin"].measured) == (Outcome.FAILED, 100)
    assert [set(row) for slug in ("addresses", "twin") for row in ended[slug].samples[:1]] in (
        [{"id"}],
        [{"id", "one"}],
    )


def test_rows_that_cannot_be_fetched_do_not_hide_the_value(ended):
    found = ended["rows_broken"]

    assert (found.outcome, found.measured, found.samples) == (Outcome.FAILED, 99, ())
    assert "some of its rows could not be fetched: Binder Error" in found.message


def test_a_time_in_the_future_is_no_error(ended):
    assert ended["future"].outcome is Outcome.PASSED
    assert ended["future"].measured.startswith("-")


def test_a_schema_that_differs_says_how(ended):
    assert ended["shape"].outcome is Outcome.FAILED
    assert ended["shape"].measured == "missing_column_names: ['salary']"


def test_a_warning_of_sodas_own_is_a_failure_for_the_contract_to_judge(ended):
    assert ended["soda_warns"].outcome is Outcome.FAILED


def test_an_error_makes_the_gate_errored(scanned):
    assert scanned[0].verdict is Verdict.ERRORED


def test_soda_leaves_no_file_in_the_home_folder(scanned):
    assert list(scanned[1].iterdir()) == []


# -- what is refused


def test_a_gate_without_checks_is_refused(warehouse):
    with pytest.raises(NothingToCheck, match="is there a contract for what is published"):
        run_gate([], warehouse, SCHEMA)


def test_two_checks_with_one_key_are_refused(warehouse):
    with pytest.raises(KeysRepeat, match="rename the rules"):
        run_gate([counting("same", "id = 1"), counting("same", "id = 2")], warehouse, SCHEMA)


def test_without_a_warehouse_environment_it_says_to_build_one(warehouse, tmp_path):
    with pytest.raises(SodaMissing, match=r"build the warehouse environment from locks/warehouse\.txt"):
        run_gate([counting("a", "id = 1")], warehouse, SCHEMA, executable=tmp_path / "bin" / "python")


def test_without_soda_in_it_it_says_to_build_it_anew(warehouse):
    with pytest.raises(SodaMissing, match=r"found: No module named 'soda'; build that environment anew"):
        run_gate([counting("a", "id = 1")], warehouse, SCHEMA, executable=Path(sys.executable))


def test_a_file_that_another_process_writes_is_told(warehouse, tmp_path):
    other = write(tmp_path / "other.duckdb")
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(other.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(StatementFailed, match="lock"):
            run_gate([counting("a", "id = 1")], other, SCHEMA)
        writer.stdin.close()


# -- what an engine may do wrong; it is a script here


@pytest.fixture
def engine(tmp_path):
    """An executable in the place of the warehouse environment's Python: ``body`` has the job, and ``tell`` that writes a record."""

    def make(body: str) -> Path:
        script = tmp_path / "python"
        script.write_text(
            f"#!{sys.executable}\nimport json, os, sys, time\njob = json.load(sys.stdin)\n"
            "def tell(**record): print(job['mark'], json.dumps(record), flush=True)\n"
            "def good(key, **more): tell(**dict(kind='result', key=key, outcome='fail', measured=1, failed_rows=1, samples=[], "
            "sample_error='') | more)\n" + textwrap.dedent(body)
        )
        script.chmod(0o755)
        return script

    return make


ONE = counting("one", "id = 1")


def test_a_column_that_may_not_be_shown_is_dropped_though_the_engine_tells_it(warehouse, engine):
    rogue = engine(
        f"good('{ONE.key}', samples=[dict(id=1, email='{SECRET_ADDRESS}'), dict(email='x')])\ntell(kind='end', results=1)"
    )

    report = run_gate([ONE], warehouse, SCHEMA, executable=rogue)

    assert report.results[0].samples == ({"id": 1},)
    assert report.verdict is Verdict.FAILED


def test_a_column_that_may_not_be_shown_does_not_leave_sodas_process(warehouse, soda_python, tmp_path):
    seen, tap = tmp_path / "seen", tmp_path / "python"
    tap.write_text(f'#!/bin/sh\n{soda_python} "$@" | tee {seen}\n')
    tap.chmod(0o755)

    run_gate([counting("five", "id between 1 and 5")], warehouse, SCHEMA, executable=tap)

    assert '"samples": [{"id": 1}, {"id": 2}' in seen.read_text()
    assert SECRET_ADDRESS not in seen.read_text()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "print(job['mark'], '{not json')",
            r"expected a record of include/quality/soda_runner\.py.*deploy them together",
        ),
        ("tell(kind='result')", r"found .*KeyError.*deploy them together"),
        (
            f"tell(kind='result', key='{ONE.key}', outcome='maybe')\ntell(kind='end')",
            "expected a result of .*deploy them together",
        ),
        ("tell(kind='end', results=0)", "expected Soda to give a result of all 1 checks, found 0 and exit code 0"),
        (
            f"good('{ONE.key}')\nprint('out of memory')\nsys.exit(9)",
            "found 1 and exit code 9; its last words: out of memory",
        ),
        ("tell(kind='crash', type='ValueError', error='no such thing')", "last words: no such thing.*clear this task"),
    ],
)
def test_a_result_that_is_no_result_is_refused(warehouse, engine, body, told):
    with pytest.raises(SodaCouldNotRun, match=told):
        run_gate([ONE], warehouse, SCHEMA, executable=engine(body))


def test_a_line_without_the_mark_is_no_record_whatever_it_says(warehouse, engine, caplog):
    forged = engine(
        f"print(json.dumps(dict(kind='result', key='{ONE.key}', outcome='pass')))\n"
        f"good('{ONE.key}')\ntell(kind='end', results=1)"
    )

    report = run_gate([ONE], warehouse, SCHEMA, executable=forged)

    assert report.results[0].outcome is Outcome.FAILED
    assert '"outcome": "pass"' in caplog.text  # told as chatter


def test_a_scan_that_takes_too_long_is_stopped_and_says_what_to_do(warehouse, engine):
    with pytest.raises(ScanTooSlow, match="make its rule cheaper, or raise the gate's time limit"):
        run_gate([ONE], warehouse, SCHEMA, executable=engine("time.sleep(300)"), timeout_seconds=0.3)


def test_the_job_is_in_no_argument_and_no_variable(warehouse, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-worker")
    seen = tmp_path / "seen"
    spy = engine(
        f"open('{seen}', 'w').write(repr((sys.argv, dict(os.environ))))\ngood('{ONE.key}')\ntell(kind='end', results=1)"
    )

    run_gate([ONE], warehouse, SCHEMA, executable=spy)

    told = seen.read_text()
    assert str(warehouse.path) not in told
    assert "of-the-worker" not in told
    assert "'PGSSLMODE': 'require'" in told
    assert "'PYTHON_DOTENV_DISABLED': '1'" in told


# -- clocks


def test_a_clock_that_is_off_is_told_with_both_times(warehouse, caplog):
    ahead = time.time() + 120

    now = warehouse_time(open_warehouse(warehouse, read_only=True), warehouse, lambda: ahead)

    assert abs(now.timestamp() - time.time()) < 60  # the warehouse's, not the worker's
    assert "120 s apart, expected at most 60" in caplog.text
    assert now.isoformat(timespec="seconds") in caplog.text
    assert "set the worker's clock (NTP)" in caplog.text


def test_redshifts_clock_is_asked_in_its_own_words():
    asked = []

    class Redshift:
        def query(self, sql, parameters=None):
            asked.append(sql)
            return [(1772366400.25,)]

    now = warehouse_time(Redshift(), redshift(), lambda: 1772366400.0)

    assert now.isoformat() == "2026-03-01T12:00:00.250000+00:00"
    assert asked == ["select extract(epoch from getdate())"]


def test_a_clock_that_agrees_is_not_told(warehouse, caplog):
    warehouse_time(open_warehouse(warehouse, read_only=True), warehouse, time.time)

    assert "clock" not in caplog.text


# -- kills

SLOW = check(
    "slow", "measured = 0", {"measured query": "select count(*) from range(1000000000000) where range % 7 = 8"}
)


def writable(path: Path) -> bool:
    """Whether another process holds no lock on the file."""
    with duckdb.connect(str(path)) as connection:
        return connection.execute(f"select count(*) from {TABLE}").fetchone() == (1000,)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no death signal")
def test_a_worker_that_is_killed_takes_soda_along_and_the_next_scan_finds_the_same(soda_python, tmp_path):
    own = write(tmp_path / "build.duckdb")
    program = (
        "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout, format='%(message)s')\n"
        "from pathlib import Path\n"
        "from include.quality.gate import run_gate\n"
        "from include.warehouse.connection import DuckDbConnection\n"
        "from tests.include.quality.test_gate import SCHEMA, SLOW\n"
        "run_gate([SLOW], DuckDbConnection(Path(sys.argv[1]), Path('.'), {}), SCHEMA, executable=Path(sys.argv[2]))\n"
    )
    before = run_gate([ONE], own, SCHEMA)
    command = [sys.executable, "-c", program, str(own.path), str(soda_python)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as worker:
        assert any("connected; 1 checks to run" in line for line in worker.stdout)
        [soda] = [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
        assert alive(soda)
        os.kill(worker.pid, signal.SIGKILL)

    assert gone(soda)
    assert writable(own.path)
    assert run_gate([ONE], own, SCHEMA).results == before.results


def test_a_task_that_is_terminated_stops_soda_in_the_middle_of_a_query(soda_python, tmp_path, caplog):
    own, process, raised = write(tmp_path / "build.duckdb"), ChildProcess(), []
    caplog.set_level(logging.INFO)
    connected = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: connected.set() if "connected" in record.getMessage() else None
    logging.getLogger("include.quality.gate").addHandler(handler)

    def scan():
        with pytest.raises(ScanInterrupted) as caught:
            run_gate([SLOW], own, SCHEMA, process=process)
        raised.append(str(caught.value))

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        assert connected.wait(30)
        process.terminate()
        thread.join(60)
    finally:
        logging.getLogger("include.quality.gate").removeHandler(handler)

    assert not thread.is_alive()
    assert "exit code 130" in raised[0]  # it ended by itself, it was not killed
    assert "A retry scans again" in raised[0]
    assert writable(own.path)
