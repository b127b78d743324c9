"""Run a contract's checks with Soda Core, in the warehouse environment, and say what each found.

One process and one scan for all checks: Soda takes longer to start than to run a hundred of them.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.contracts.compile import SAMPLE_ROWS
from include.platform.settings import load_settings
from include.quality.data_source import redshift_login, soda_data_source
from include.quality.exceptions import (
    KeysRepeat,
    NothingToCheck,
    ScanInterrupted,
    ScanTooSlow,
    SodaCouldNotRun,
    SodaMissing,
)
from include.quality.report import CheckResult, GateReport, Outcome
from include.quality.words import measured, threshold
from include.warehouse.child_process import ChildProcess
from include.warehouse.connection import DuckDbConnection
from include.warehouse.gateway import open_warehouse
from include.warehouse.profile import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.contracts.checks import Check
    from include.quality.data_source import Login
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.gateway import Warehouse

log = logging.getLogger(__name__)

RUNNER = Path(__file__).with_name("soda_runner.py")
SCAN_SECONDS = 900.0
"""A scan that takes longer is stopped."""
SAMPLE_CHARACTERS = 200
"""A sample's values are cut there."""
SKEW_SECONDS = 60.0
"""A worker's clock that is further off than this gets a warning."""

_INTERRUPTED = 130
"""The runner's exit code when it is told to stop."""
_LAST_WORDS = 5
_OUTCOMES = {"pass": Outcome.PASSED, "fail": Outcome.FAILED, "warn": Outcome.FAILED, None: Outcome.ERRORED}
"""Soda's ``warn`` is a threshold that was not met, too: what that means is the contract's severity to say."""


def run_gate(
    checks: Sequence[Check],
    warehouse: WarehouseConnection,
    schema: str,
    *,
    process: ChildProcess | None = None,
    executable: Path | None = None,
    timeout_seconds: float = SCAN_SECONDS,
    login: Callable[[], Login | None] | None = None,
    worker_clock: Callable[[], float] = time.time,
) -> GateReport:
    """Run ``checks`` on the relations in ``schema``.

    Args:
        checks: of any number of contracts.
        warehouse: where.
        schema: where dbt built what is to be published.
        process: what runs Soda; for a caller that may have to terminate it.
        executable: Python of the warehouse environment; the settings' if None.
        timeout_seconds: for the scan.
        login: gives a login to Redshift; as the connection says if None.
        worker_clock: seconds since the epoch, by this machine's clock.

    Raises:
        NothingToCheck: no checks.
        KeysRepeat: two checks with one key.
        SodaMissing: no warehouse environment, or no Soda in it.
        LoginRefused: no login to Redshift.
        StatementFailed: the warehouse did not tell the time; it can't be reached, or another process writes to the DuckDB file.
        ScanTooSlow: it took longer than ``timeout_seconds``.
        ScanInterrupted: Soda was stopped.
        SodaCouldNotRun: Soda ended without a result of every check.
    """
    _refuse_senseless(checks, schema)
    python = executable or load_settings().warehouse_venv / "bin" / "python"
    scanned_at = warehouse_time(open_warehouse(warehouse, read_only=True), warehouse, worker_clock)
    if isinstance(warehouse, DuckDbConnection):
        source = soda_data_source(warehouse, schema, None)
    else:
        source = soda_data_source(warehouse, schema, login() if login else redshift_login(warehouse))
    scan = _Scan(checks, process or ChildProcess(), timeout_seconds)
    began = time.monotonic()
    records = scan.run(python, source, scanned_at)
    results = tuple(_result(check, records[check.key]) for check in checks)
    return GateReport(scanned_at, round(time.monotonic() - began, 3), results)


def _refuse_senseless(checks: Sequence[Check], schema: str) -> None:
    if not checks:
        raise NothingToCheck(
            f"expected checks for the relations in {schema}, found none; a gate without checks would let anything pass: "
            "is there a contract for what is published?"
        )
    keys = [check.key for check in checks]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise KeysRepeat(f"expected checks with keys of their own, found {repeated} more than once; rename the rules")


def warehouse_time(
    warehouse: Warehouse, connection: WarehouseConnection, worker_clock: Callable[[], float]
) -> datetime:
    """Now, by the warehouse's clock, which is the one that stamped the rows. Says so if the worker's clock differs.

    Raises:
        StatementFailed: the warehouse does not answer.
    """
    # getdate() is UTC: https://docs.aws.amazon.com/redshift/latest/dg/r_GETDATE.html
    sql = "select epoch(now())" if isinstance(connection, DuckDbConnection) else "select extract(epoch from getdate())"
    before = worker_clock()
    moment = float(warehouse.query(sql)[0][0])
    worker = (before + worker_clock()) / 2
    now = datetime.fromtimestamp(moment, UTC)
    if abs(moment - worker) > SKEW_SECONDS:
        log.warning(
            "the warehouse's clock says %s, this worker's %s: %.0f s apart, expected at most %.0f. Ages are measured by the warehouse's; "
            "set the worker's clock (NTP), for signed requests to AWS fail when it is minutes off",
            now.isoformat(timespec="seconds"),
            datetime.fromtimestamp(worker, UTC).isoformat(timespec="seconds"),
            abs(moment - worker),
            SKEW_SECONDS,
        )
    return now


def soda_environment() -> dict[str, str]:
    """What Soda gets of the task's environment: nothing of AWS, for it logs in with what it is handed."""
    return {name: value for name, value in inherited_environment().items() if not name.startswith("AWS_")} | {
        "PYTHON_DOTENV_DISABLED": "1",  # Soda would load any .env above its own folder, over this environment
        "PGSSLMODE": "require",  # soda-core-redshift says nothing, and libpq would fall back to plain text
    }


@dataclass
class _Scan:
    """One process of Soda.

    Attributes:
        checks: what it runs.
        process: the process.
        timeout_seconds: for all of it.
    """

    checks: Sequence[Check]
    process: ChildProcess
    timeout_seconds: float
    _records: dict[str, dict[str, Any]] = field(default_factory=dict)
    _crash: dict[str, Any] | None = None
    _ended: bool = False
    _words: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_WORDS))

    def run(self, python: Path, source: Mapping[str, Any], now: datetime) -> dict[str, dict[str, Any]]:
        """Run it to its end; one record a check."""
        mark = secrets.token_hex(16)
        job = {
            "mark": mark,
            "data_source": source,
            "now": now.isoformat(),
            "timeout_seconds": self.timeout_seconds,
            "most_rows": SAMPLE_ROWS,
            "most_characters": SAMPLE_CHARACTERS,
            "checks": [_entry(check) for check in self.checks],
        }
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.process.terminate()

        timer = threading.Timer(self.timeout_seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            self._start(python, json.dumps(job).encode())
            for line in self.process.lines():
                self._read(line, mark)
            code = self.process.wait()
        except BaseException:  # a time-out of the task, for one
            self.process.terminate()
            raise
        finally:
            timer.cancel()
        self._refuse_incomplete(code, expired=expired.is_set())
        return self._records

    def _start(self, python: Path, job: bytes) -> None:
        # -I: this project's modules beside the runner must not stand in for others of the same name
        try:
            self.process.start([str(python), "-I", str(RUNNER)], environment=soda_environment(), stdin=job)
        except OSError as error:
            raise SodaMissing(
                f"expected Python of the warehouse environment at {python}, found: {error}; build the warehouse environment from "
                "locks/warehouse.txt (make setup; on MWAA the startup script does) and name it in data_platform.warehouse_venv"
            ) from error

    def _read(self, line: str, mark: str) -> None:
        """Take one line: a record if it begins with the mark, which no data can know."""
        if not line.startswith(mark):
            if line.strip():
                self._words.append(line.rstrip()[:500])
                log.warning("soda: %s", line.rstrip()[:500])
            return
        try:
            record = json.loads(line.removeprefix(mark))
            if record["kind"] == "result":
                self._records[record["key"]] = record
            elif record["kind"] == "end":
                self._ended = True
            elif record["kind"] == "crash":
                self._crash = {"type": str(record["type"]), "error": str(record["error"])}
            else:
                log.info("soda: %s", record["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise SodaCouldNotRun(
                f"expected a record of include/quality/soda_runner.py, found {line.removeprefix(mark)[:200]!r} ({error!r}); the two files "
                "are not of one version, deploy them together"
            ) from error

    def _refuse_incomplete(self, code: int, *, expired: bool) -> None:
        wanted = [check.key for check in self.checks]
        missing = [key for key in wanted if key not in self._records]
        if self._ended and not missing:
            return
        if expired:
            raise ScanTooSlow(
                f"expected {len(wanted)} checks to end within {self.timeout_seconds:.0f} s, stopped Soda after that; nothing is known "
                "of the data. Find the slow query in the warehouse's history and make its rule cheaper, or raise the gate's time limit"
            )
        if self._crash and self._crash["type"] in {"ModuleNotFoundError", "ImportError"}:
            raise SodaMissing(
                f"expected Soda Core in the warehouse environment, found: {self._crash['error']}; build that environment anew from "
                "locks/warehouse.txt (make setup; on MWAA the startup script does)"
            )
        if code < 0 or code == _INTERRUPTED:
            raise ScanInterrupted(
                f"expected Soda to run {len(wanted)} checks, found it stopped (exit code {code}); nothing was written and nothing is known "
                "of the data. A retry scans again; if it was killed for want of memory, give the worker more"
            )
        told = self._crash["error"] if self._crash else "; ".join(self._words) or "nothing"
        raise SodaCouldNotRun(
            f"expected Soda to give a result of all {len(wanted)} checks, found {len(wanted) - len(missing)} and exit code {code}; its "
            f"last words: {told}. Nothing is known of the data; mend what it says, then clear this task"
        )


def _entry(check: Check) -> dict[str, Any]:
    """A check as the runner wants it. Its name is its key, whatever else the entry says: by it results are told apart."""
    [(line, configuration)] = check.sodacl.items()
    return {
        "key": check.key,
        "relation": check.relation,
        "sodacl": {line: {**(configuration or {}), "name": check.key}},
        "sample_columns": list(check.sample_columns),
    }


def _result(check: Check, record: Mapping[str, Any]) -> CheckResult:
    """What the runner's record says of ``check``.

    Raises:
        SodaCouldNotRun: it has another form.
    """
    try:
        outcome = _OUTCOMES[record["outcome"]]
        if outcome is Outcome.ERRORED:
            return CheckResult(check, outcome, None, f"could not be evaluated: {record['error']}")
        shown = frozenset(check.sample_columns)
        # the runner has left out what may not be shown; this is the second lock on that door
        kept = [{name: value for name, value in row.items() if name in shown} for row in record["samples"]]
        result = CheckResult(
            check,
            outcome,
            record["measured"],
            "",
            tuple(row for row in kept if row) if outcome is Outcome.FAILED else (),
            record["failed_rows"],
        )
        rows = f"; some of its rows could not be fetched: {record['sample_error']}" if record["sample_error"] else ""
    except (KeyError, TypeError, AttributeError) as error:
        raise SodaCouldNotRun(
            f"expected a result of {check.key}, found {str(dict(record))[:200]} ({error!r}); include/quality/soda_runner.py is of another "
            "version than the gate, deploy them together"
        ) from error
    message = f"expected {threshold(check) or 'the rule to hold'}, found {measured(result)}{rows}"
    return CheckResult(check, outcome, result.measured, message, result.samples, result.failed_rows)
