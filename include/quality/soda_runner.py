"""Run checks with Soda Core in the warehouse environment: one scan, one result a check.

`include.quality.gate` starts this file by its path, with the warehouse environment's Python, which has neither Airflow nor this project's
other modules. It reads one job (JSON) from stdin, so that the password is in no argument, environment or file, and writes one record (JSON)
a line to stdout, each behind the job's mark: anything else there is a library's chatter.

Soda 3.5 needs some care (https://github.com/sodadata/soda-core, all of it seen in version 3.5.6):

- it writes ``~/.soda/config.yml`` and sends usage statistics unless told not to, and loads any ``.env`` file above its own folder, which
  the caller's ``PYTHON_DOTENV_DISABLED`` prevents;
- after a query that failed it rolls back, which DuckDB refuses outside a transaction, and that ends the whole scan;
- it runs the query for sample rows of checks that pass, too;
- it takes an interrupt for the failure of one query and goes on;
- its log repeats the database's words, which may quote values.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
import time
import warnings
from numbers import Number
from typing import Any

NAME = "warehouse"
MOST_RECORD_CHARACTERS = 500_000
MOST_WORDS = 1_000
"""Characters of an error that are told."""
PROGRESS_SECONDS = 10.0

_HARMLESS = frozenset({"ProgrammingError", "OperationalError", "DataSourceConnectionError"})
"""Kinds of database errors (https://peps.python.org/pep-0249/#exceptions) that speak of statements and connections, not of values."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_COUNTING = re.compile(r"\s*select\s+count\s*\(", re.IGNORECASE)
_COUNTING_METRICS = frozenset({"missing_count", "invalid_count", "duplicate_count"})


class Records:
    """Writes records, each behind the mark."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._out = sys.stdout

    def write(self, **record: Any) -> None:
        """Write one record."""
        self._out.write(f"{self._mark} {json.dumps(record)}\n")
        self._out.flush()


def main() -> int:
    """Run the job on stdin."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Soda takes KeyboardInterrupt for one failed query
    job = json.loads(sys.stdin.buffer.read())
    records = Records(job["mark"])
    secret = job["data_source"].get("password") or ""
    try:
        scan_all(job, records)
    except Exception as error:
        records.write(kind="crash", type=type(error).__name__, error=words(error, secret))
        return 1
    return 0


def scan_all(job: dict[str, Any], records: Records) -> None:
    """One scan for all checks."""
    began = time.monotonic()
    quiet()
    scan = new_scan(job)
    secret = job["data_source"].get("password") or ""
    source = scan._data_source_manager.get_data_source(NAME)
    parsed: list[int] = []  # how many errors there were before each check was parsed, and after the last
    if source is not None:
        prepare(source, job)
        records.write(kind="progress", message=f"connected; {len(job['checks'])} checks to run with Soda Core")
        sample_failed_only()
        scan._queries = Told(records)
        for number, check in enumerate(job["checks"]):
            parsed.append(len(scan.get_error_logs()))
            # a text of its own for each, so that one that can't be parsed is alone in that
            entry = {f"checks for {check['relation']}": [check["sodacl"]]}
            scan.add_sodacl_yaml_str(json.dumps(entry), file_name=f"check_{number}")
        parsed.append(len(scan.get_error_logs()))
        scan.execute()
    logs = scan.get_error_logs()
    found = {check.name: check for check in scan._checks}
    for number, check in enumerate(job["checks"]):
        own = logs[slice(*parsed[number : number + 2])] if parsed else []
        own += [log for log in logs if log.location is not None and log.location.file_path == f"check_{number}.yml"]
        of_none = [log for log in logs[parsed[-1] if parsed else 0 :] if log.location is None]
        errors = told(own, secret) or told(of_none, secret)
        bounded(records, result(check, found.get(check["key"]), errors, secret))
    records.write(kind="end", results=len(job["checks"]), seconds=round(time.monotonic() - began, 3))


def quiet() -> None:
    """Soda writes to Python's log and to nowhere else: what is to be told is told in records."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("soda").propagate = False
    logging.getLogger("soda").addHandler(logging.NullHandler())
    logging.lastResort = None

    from soda.common.config_helper import ConfigHelper  # type: ignore[import-not-found]

    def load_config(_: Any) -> dict[str, Any]:
        return {"send_anonymous_usage_stats": False, "user_cookie_id": ""}

    ConfigHelper.load_config = load_config  # Soda reads it when soda.scan is imported


def new_scan(job: dict[str, Any]) -> Any:
    """A scan that knows the data source and the time, and no Soda Cloud."""
    from soda.sampler.sample_ref import SampleRef  # type: ignore[import-not-found]
    from soda.sampler.sampler import Sampler  # type: ignore[import-not-found]
    from soda.scan import Scan  # type: ignore[import-not-found]

    class KeptRows(SampleRef):  # type: ignore[misc]
        """Where Soda keeps what became of a sample; this one has the rows."""

        rows: list[dict[str, Any]]
        query: str

    class MemorySampler(Sampler):  # type: ignore[misc]
        """Keeps the first rows of each sample, values cut."""

        def store_sample(self, sample_context: Any) -> KeptRows:
            """Called by Soda for each query of failed rows."""
            sample = sample_context.sample
            fetched = sample.get_rows()[: job["most_rows"]]
            columns = [column[0] for column in sample.cursor.description]
            kept = KeptRows(sample_context.sample_name, None, sample.get_rows_count(), len(fetched), "memory")
            kept.rows = [
                dict(zip(columns, (plain(v, job["most_characters"]) for v in row), strict=True)) for row in fetched
            ]
            kept.query = sample_context.query
            return kept

    scan = Scan()
    scan.disable_telemetry()
    scan.set_data_source_name(NAME)
    scan.sampler = MemorySampler()
    scan.add_variables({"NOW": job["now"]})
    # not as YAML: Soda would resolve "${" in a password as a template
    scan._configuration.data_source_properties_by_name[NAME] = dict(job["data_source"])
    return scan


def prepare(source: Any, job: dict[str, Any]) -> None:
    """Make the connection fit for a scan in which a query may fail."""
    if job["data_source"]["type"] == "duckdb":
        source.rollback = lambda: None
        return
    # a query must not outlive its scan for long: https://docs.aws.amazon.com/redshift/latest/dg/r_statement_timeout.html
    with source.connection.cursor() as cursor:
        cursor.execute(f"set statement_timeout to {int(job['timeout_seconds'] * 1000)}")
    source.connection.commit()


def sample_failed_only() -> None:
    """Ask for rows only where the measured value fails."""
    from soda.execution.metric.user_defined_numeric_metric import (  # type: ignore[import-not-found]
        UserDefinedNumericMetric,
    )

    create = UserDefinedNumericMetric.create_failed_rows_sample_query

    def create_if_failed(metric: Any) -> Any:
        for check in metric.checks:
            config = check.check_cfg
            config.resolve_thresholds(metric.data_source_scan.scan.jinja_resolve)
            thresholds = (config.fail_threshold_cfg, config.warn_threshold_cfg)
            # a query that failed leaves Soda's own mark of nothing there
            if isinstance(metric.value, Number) and any(limit and limit.is_bad(metric.value) for limit in thresholds):
                return create(metric)
        return None

    UserDefinedNumericMetric.create_failed_rows_sample_query = create_if_failed


class Told(list[Any]):
    """The list in which Soda notes each query it begins: from time to time that is told."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._records = records
        self._next = time.monotonic() + PROGRESS_SECONDS

    def append(self, query: Any) -> None:
        """Called by Soda."""
        super().append(query)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._records.write(kind="progress", message=f"query {len(self)} has begun")


def result(check: dict[str, Any], ended: Any, errors: list[str], secret: str) -> dict[str, Any]:
    """What became of one check, with those columns of its rows that may be shown."""
    record: dict[str, Any] = {"kind": "result", "key": check["key"], "outcome": None, "measured": None}
    if ended is None:
        return record | {"error": "; ".join(errors) or "Soda did not take it for a check"}
    failed_queries = [
        query.exception for metric in ended.metrics.values() for query in metric.queries if query.exception is not None
    ]
    if ended.outcome is None:
        own = [words(error, secret) for error in failed_queries] or errors
        return record | {"error": "; ".join(dict.fromkeys(own)) or "its query gave no number"}
    kept = getattr(ended, "failed_rows_sample_ref", None)
    wanted = getattr(ended.check_cfg, "failed_rows_query", None)
    if wanted is not None and getattr(kept, "query", None) != wanted:
        kept = None  # checks that measure the same share what Soda measured, and the rows that one of them asked for
    shown = set(check["sample_columns"])
    rows = [{name: row[name] for name in row if name in shown} for row in getattr(kept, "rows", [])]
    return record | {
        "outcome": ended.outcome.value,
        "measured": measured(ended),
        "failed_rows": failed_rows(ended),
        "samples": [row for row in rows if row] if ended.outcome.value != "pass" else [],
        # the number was measured, only the rows could not be fetched
        "sample_error": words(failed_queries[0], secret) if failed_queries else "",
    }


def measured(check: Any) -> int | float | str | None:
    """The number; for a check of freshness the age, for one of a schema what differs."""
    value = getattr(check, "check_value", None)
    if isinstance(value, bool) or value is None:
        age = (getattr(check, "freshness_values", None) or {}).get("freshness")
        if age is not None:
            return f"{age.total_seconds() / 3600:.2f} h"
        differences = getattr(check, "fail_result", None) or getattr(check, "warn_result", None)
        if differences is not None:
            return "; ".join(f"{name}: {value}" for name, value in vars(differences).items() if value)[:MOST_WORDS]
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return str(number)
    return int(number) if number.is_integer() else number


def failed_rows(check: Any) -> int | None:
    """The measured value where it is known to count the rows that fail."""
    value = measured(check)
    if not isinstance(value, int):
        return None
    config = check.check_cfg
    counts = (
        getattr(config, "metric_name", None) in _COUNTING_METRICS
        or type(check).__name__
        in {"UserDefinedFailedRowsCheck", "UserDefinedFailedRowsExpressionCheck", "ReferenceCheck"}
        or (
            getattr(config, "failed_rows_query", None) is not None
            and _COUNTING.match(getattr(config, "metric_query", None) or "") is not None
        )
    )
    return value if counts else None


def plain(value: Any, most_characters: int) -> Any:
    """A value as JSON has it, short."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = str(value)
    return text if len(text) <= most_characters else text[:most_characters] + "…"


def words(error: BaseException, secret: str) -> str:
    """The error's own words, without values where it may quote some, and without the password."""
    text = (
        " ".join(str(error).partition("\nLINE ")[0].split()) or type(error).__name__
    )  # the rest repeats the statement
    kinds = {kind.__name__ for kind in type(error).__mro__}
    from_database = "DatabaseError" in kinds
    invalid = any("InvalidInput" in kind for kind in kinds)  # DuckDB counts these as programming errors
    if from_database and (invalid or not kinds & _HARMLESS):
        text = _QUOTED.sub("'…'", (str(error).strip() or text).splitlines()[0])
    if secret:
        text = text.replace(secret, "…")
    return text[:MOST_WORDS]


def told(logs: list[Any], secret: str) -> list[str]:
    """What Soda logged as errors, but for what a check's own query tells."""
    errors = []
    for log in logs:
        if log.message.startswith(("Query execution error", "Metrics '")):
            continue
        text = log.message if log.exception is None else f"{log.message.split(':')[0]}: {words(log.exception, secret)}"
        errors.append((text.replace(secret, "…") if secret else text)[:MOST_WORDS])
    return list(dict.fromkeys(errors))


def bounded(records: Records, record: dict[str, Any]) -> None:
    """Write a result, with fewer rows if it is long."""
    while len(json.dumps(record)) > MOST_RECORD_CHARACTERS and record.get("samples"):
        record["samples"] = record["samples"][: len(record["samples"]) // 2]
    records.write(**record)


if __name__ == "__main__":
    raise SystemExit(main())
