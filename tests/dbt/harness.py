"""Runs the dbt project for real, in the warehouse environment, on snapshots of generated or real TICKIT tables."""

from __future__ import annotations

import atexit
import csv
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from include.local.aurora.snapshot import build_snapshot
from include.local.aurora.source import Aurora
from include.local.tickit.generate import Columns, Tables
from include.local.tickit.rows import to_columns, to_rows
from include.local.tickit.schema import TABLES
from include.platform.paths import DBT_PROJECT_DIR
from include.platform.settings import load_settings

LOADED_AT = datetime(2026, 1, 1, 12, 0)
"""When the first snapshots' rows were replicated, UTC."""
UNKNOWN_VENUES = (12, 51, 64)
UNKNOWN_EVENT = 7
"""An event that sales and listings refer to and the event table lacks."""
REAL_FILES = {
    "venue": "venue_pipe.txt",
    "category": "category_pipe.txt",
    "date": "date2008_pipe.txt",
    "event": "allevents_pipe.txt",
}


_SERVER = """
import json, os, sys
import dbt.adapters.duckdb, dbt.adapters.redshift
from dbt.cli.main import cli
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        os.environ.update(request["environment"])
        cli(request["arguments"], prog_name="dbt")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class _DbtServer:
    """Runs each dbt command in its own process, forked from one that has imported dbt already: that takes two seconds."""

    def __init__(self) -> None:
        python = load_settings().dbt_executable.with_name("python")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        self._process = subprocess.Popen(
            [str(python), "-c", _SERVER], env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._process.communicate)  # closes its input, which ends it

    def ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def _dbt_server() -> _DbtServer:
    return _DbtServer()


@dataclass(frozen=True)
class Run:
    """One dbt process: its exit code, its output and what it says of each node."""

    exit_code: int
    output: str
    target: Path

    def artifact(self, name: str) -> dict[str, Any]:
        artifact: dict[str, Any] = json.loads((self.target / name).read_text(encoding="utf-8"))
        return artifact

    def results(self) -> dict[str, tuple[str, int | None]]:
        """Status and number of failures by node name."""
        return {
            r["unique_id"].split(".")[2]: (r["status"], r["failures"])
            for r in self.artifact("run_results.json")["results"]
        }

    def sql(self, model: str, folder: str = "compiled") -> str:
        return next((self.target / folder).rglob(f"{model}.sql")).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Warehouse:
    """A local warehouse of a test and the snapshot it reads."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.home / "work.duckdb"

    @property
    def snapshot(self) -> Path:
        return self.home / "aurora_zeroetl_integration.duckdb"

    def dbt(
        self, *arguments: str, variables: dict[str, Any] | None = None, target: str = "target", succeed: bool = True
    ) -> Run:
        environment = {
            "DBT_DUCKDB_PATH": str(self.database),
            "DBT_SOURCE_DUCKDB_PATH": str(self.snapshot),
            "DBT_PROJECT_DIR": str(DBT_PROJECT_DIR),
            "DBT_PROFILES_DIR": str(DBT_PROJECT_DIR),
            "DBT_TARGET_PATH": str(self.home / target),
            "DBT_LOG_PATH": str(self.home / "logs"),
        }
        command = ["--no-use-colors", *arguments, *(["--vars", json.dumps(variables)] if variables else [])]
        parsed, output = self.home / "target" / "partial_parse.msgpack", self.home / f"{target}.log"
        if parsed.exists() and target != "target":
            (self.home / target).mkdir(exist_ok=True)
            shutil.copy(parsed, self.home / target)  # dbt checks whether it still holds
        request = {"arguments": command, "environment": environment | self.environment, "output": str(output)}
        run = Run(_dbt_server().ask(request), output.read_text(encoding="utf-8"), self.home / target)
        assert not succeed or run.exit_code == 0, run.output
        return run

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Both databases, read-only, under the names that dbt's SQL uses."""
        connection = duckdb.connect()
        connection.execute(f"attach '{self.snapshot}' as aurora_zeroetl_integration (read_only)")
        connection.execute(f"attach '{self.database}' as work (read_only)")
        return connection

    def rows(self, relation: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(f"select * from work.{relation} order by all").fetchall()


@dataclass(frozen=True)
class Built:
    """A warehouse built in full, the run that built it, and the files its source rows came from."""

    warehouse: Warehouse
    run: Run
    files: Path


def write_files(tables: Tables, folder: Path) -> Path:
    """The raw files: one per table, pipe separated, no header."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        with (folder / f"{name}.txt").open("w", encoding="utf-8", newline="") as file:
            rows = (["\\N" if value is None else value for value in row] for row in to_rows(name, columns))
            csv.writer(file, delimiter="|", quoting=csv.QUOTE_NONE).writerows(rows)
    return folder


def read_real(folder: Path) -> dict[str, Any]:
    """The real tables, as far as there are files."""
    tables = {}
    for name, file in REAL_FILES.items():
        with (folder / "tickit" / file).open(encoding="utf-8", newline="") as lines:
            read = list(csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE))
        kinds = TABLES[name].columns
        rows = [[_value(text, kind.mysql.base) for text, kind in zip(row, kinds, strict=True)] for row in read]
        tables[name] = to_columns(name, rows)
    return tables


def _value(text: str, base: str) -> object:
    if text == "\\N":
        return None
    if base in {"INTEGER", "SMALLINT"}:
        return int(text)
    return {"TRUE": 1, "FALSE": 0}[text.upper()] if base == "TINYINT" else text


def awkward(tables: Tables) -> dict[str, Any]:
    """Generated tables with what real ones have: unknown venues, events and prices, commissions that don't divide, free tickets."""
    tables = dict(tables)
    venues = tables["venue"]
    known = ~np.isin(venues["venueid"], UNKNOWN_VENUES)
    tables["venue"] = {name: values[known] for name, values in venues.items()}
    events = {name: values.copy() for name, values in tables["event"].items()}
    events["venueid"][:9] = np.resize(UNKNOWN_VENUES, 9)
    kept = events["eventid"] != UNKNOWN_EVENT
    tables["event"] = {name: values[kept] for name, values in events.items()}
    sales = {name: values.copy() for name, values in tables["sales"].items()}
    sales["eventid"][:5] = UNKNOWN_EVENT
    odd = np.random.default_rng(3).integers(0, 1_000, len(sales["salesid"])) / 100
    sales["commission"] = np.minimum(sales["commission"] + odd, sales["pricepaid"]).round(2)
    free = sales["eventid"] == sales["eventid"][10]
    sales["pricepaid"][free], sales["commission"][free] = 0.0, 0.0
    priceless = sales["eventid"] == _event_of_a_name_of_its_own(tables, sales)
    for column in ("pricepaid", "commission"):
        sales[column] = np.where(priceless, None, sales[column].astype(object))
    return tables | {"sales": sales}


def _event_of_a_name_of_its_own(tables: Tables, sales: Columns) -> int:
    _, first, count = np.unique(tables["event"]["eventname"].astype(str), return_index=True, return_counts=True)
    alone = tables["event"]["eventid"][first[count == 1]]
    return int(alone[np.isin(alone, sales["eventid"])][-1])


VARIABLES = {"known_orphan_eventids": [UNKNOWN_EVENT]}
"""What the business knows of the awkward tables."""


def build(home: Path, tables: Tables, *arguments: str) -> Built:
    warehouse = Warehouse(home)
    files = write_files(tables, home / "files")
    build_snapshot(tables, warehouse.snapshot, as_of=LOADED_AT)
    return Built(warehouse, warehouse.dbt("build", *arguments, variables=VARIABLES), files)


OFFLINE = ("--no-introspect", "--no-populate-cache")
FACTS = {
    "int_listings_latest": ("listing", "listid", "numtickets"),
    "int_sales_latest": ("sales", "salesid", "qtysold"),
}
"""The incremental models: their source table, its key, and a number in it."""
FACTS_ONLY = ("--select", *(f"+{name}" for name in FACTS))


def compile_offline(warehouse: Warehouse, target: str, *, increment: bool) -> Run:
    """Compile every model, or the incremental branch of the incremental ones, with nothing to look anything up in."""
    offline = Warehouse(warehouse.home, {"DBT_REDSHIFT_HOST": "offline.invalid", "DBT_TARGET": target})
    selection = ("--select", *FACTS) if increment else ()
    variables = VARIABLES | {"compile_incremental_branch": increment}
    folder = f"{target}_{'increment' if increment else 'full'}"
    return offline.dbt("compile", *OFFLINE, *selection, variables=variables, target=folder)


@dataclass(frozen=True)
class Increments:
    """A warehouse after a full build and two increments, with dbt's SQL of the first two runs."""

    warehouse: Warehouse
    aurora: Aurora
    full: dict[str, str]
    increment: dict[str, str]
    apply: dict[str, str]
