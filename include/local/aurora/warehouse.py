"""Runs Redshift SQL: parsed as Redshift by sqlglot, transpiled to DuckDB, run on the scratch database ``dev``.

Beside ``dev`` (a file, so it survives restarts) a statement sees the published integration database, read-only and
by three-part names, and Redshift's views of the integration. It sees the snapshot that is published when it starts.
Not reproduced: users and privileges (GRANT and REVOKE do nothing), query queues, result caching; statements run one
at a time.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from include.local.aurora.reporting import VIEWS, Report
from include.local.tickit.schema import DATABASE
from include.warehouse.replaced_file import opened_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from include.local.aurora.replicator import Replicator

SCRATCH_DATABASE: Final = "dev"
_DEFAULT_SETTINGS: Final = {"enable_case_sensitive_identifier": "on"}
"""A warehouse that zero-ETL targets must have case sensitivity on (Management Guide, zero-etl.reqs-lims)."""

_NAME: Final = r'"?(?P<name>[\w$]+)"?'
_CREATE: Final = re.compile(
    rf"create\s+database\s+{_NAME}\s+from\s+integration\s+'(?P<id>[^']*)'(?:\s+database\s+\S+)?(?:\s+set\b.*)?",
    re.I | re.S,
)
_REFRESH: Final = re.compile(
    rf"alter\s+database\s+{_NAME}\s+integration\s+refresh\s+"
    r"(?:(?P<all>all|inerror)\s+tables(?:\s+in\s+schema\s+.+)?|tables?\s+(?P<tables>.+))",
    re.I | re.S,
)
_DROP: Final = re.compile(rf"drop\s+database\s+(?P<exists>if\s+exists\s+)?{_NAME}", re.I)
_SET: Final = re.compile(r"set\s+(?P<name>\w+)\s+(?:to|=)\s*'?(?P<value>[\w.]+)'?", re.I)
_SHOW: Final = re.compile(r"show\s+(?P<name>\w+)", re.I)
_TYPES: Final = {
    "SMALLINT": "int2",
    "INTEGER": "int4",
    "BIGINT": "int8",
    "HUGEINT": "numeric",
    "FLOAT": "float4",
    "DOUBLE": "float8",
    "BOOLEAN": "bool",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "DECIMAL": "numeric",
}


class StatementError(Exception):
    """A statement failed; the message is Redshift's, as DescribeStatement gives it."""


@dataclass(frozen=True)
class Result:
    """What a statement returned. ``columns`` are (name, Redshift type name, precision, scale); None means no result."""

    columns: tuple[tuple[str, str, int, int], ...] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass
class Session:
    """A session's settings."""

    settings: dict[str, str] = field(default_factory=lambda: dict(_DEFAULT_SETTINGS))


class Warehouse:
    """The stand-in for the Redshift warehouse. Not thread-safe but for `interrupt`: one statement at a time."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator
        self._connection = duckdb.connect(str(replicator.directory / f"{SCRATCH_DATABASE}.duckdb"))
        self._connection.execute("CREATE SCHEMA IF NOT EXISTS public")
        self._guard = threading.Lock()
        self._cancelled = False
        self._interruptible = False

    def close(self) -> None:
        """Close the scratch database."""
        self._connection.close()

    def expect_statement(self) -> None:
        """From here on `interrupt` means the statement that is executed next."""
        with self._guard:
            self._cancelled = False

    def interrupt(self) -> None:
        """Stop the statement that is running, or about to; from any thread. Returns when it has left DuckDB.

        What surrounds it (attaching, detaching, rolling back) is never interrupted, or all later statements would suffer.
        """
        with self._guard:
            self._cancelled = True
        while self._interruptible:  # DuckDB forgets an interrupt that comes between two of its calls
            self._connection.interrupt()
            time.sleep(0.005)

    @contextmanager
    def _may_be_interrupted(self) -> Iterator[None]:
        with self._guard:
            if self._cancelled:
                raise StatementError("ERROR: Query cancelled on user's request")
            self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def execute(self, sql: str, parameters: Mapping[str, str], session: Session, database: str) -> Result:
        """Run one statement in autocommit.

        Raises:
            StatementError: it failed.
        """
        for pattern, run in self._integration_statements().items():
            if match := pattern.fullmatch(sql.strip().rstrip("; ")):
                return run(match)
        with _Database(self._connection, self._replicator, database):
            return self._run(sql, parameters, session)

    def execute_in_transaction(
        self,
        statements: Sequence[str],
        parameters: Mapping[str, str],
        session: Session,
        database: str,
        observe: Callable[[int, Result | StatementError], None],
    ) -> None:
        """Run statements in one transaction; all take effect together, or none does.

        Raises:
            StatementError: one failed.
        """
        with _Database(self._connection, self._replicator, database):
            self._connection.execute("BEGIN")
            try:
                for number, sql in enumerate(statements):
                    try:
                        self._refuse_in_transaction(sql)
                        observe(number, self._run(sql, parameters, session))
                    except StatementError as error:
                        observe(number, error)
                        raise StatementError(f"Query #{number + 1} failed with {error}") from error
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    # -- statements about the integration ----------------------------------------------------------------------------

    def _integration_statements(self) -> dict[re.Pattern[str], Callable[[re.Match[str]], Result]]:
        return {_CREATE: self._create_database, _REFRESH: self._refresh_tables, _DROP: self._drop_database}

    def _refuse_in_transaction(self, sql: str) -> None:
        names = {_CREATE: "CREATE DATABASE", _REFRESH: "ALTER DATABASE INTEGRATION REFRESH", _DROP: "DROP DATABASE"}
        for pattern, name in names.items():
            if pattern.fullmatch(sql.strip().rstrip("; ")):
                raise StatementError(f"ERROR: {name} cannot run inside a transaction block")

    def _create_database(self, match: re.Match[str]) -> Result:
        integration = self._replicator.integration
        existing = integration.summary()["target_database"]
        if match["name"] in (existing, SCRATCH_DATABASE):
            raise StatementError(f'ERROR: database "{match["name"]}" already exists')
        if match["id"] != integration.id or Report(self._replicator).missing:
            raise StatementError(f"ERROR: Integration {match['id']} does not exist.")
        if existing:
            raise StatementError(f"ERROR: Integration {match['id']} already has the database {existing}.")
        self._replicator.connect_database(match["name"])
        return Result()

    def _refresh_tables(self, match: re.Match[str]) -> Result:
        self._require_target(match["name"])
        named = re.findall(r'(?:"?\w+"?\.)?"?([\w$]+)"?', match["tables"] or "")
        known = {row["table_name"]: row["state"] for row in self._replicator.integration.tables()}
        if unknown := sorted(set(named) - set(known)):
            raise StatementError(f'ERROR: table "{DATABASE}.{unknown[0]}" does not exist in database "{match["name"]}"')
        if match["all"] and match["all"].lower() == "inerror":
            named = [name for name, state in known.items() if state == "Failed"]
        self._replicator.refresh_tables(named)
        return Result()

    def _drop_database(self, match: re.Match[str]) -> Result:
        if match["exists"] and match["name"] != self._replicator.integration.summary()["target_database"]:
            return Result()
        self._require_target(match["name"])
        self._replicator.drop_database()
        return Result()

    def _require_target(self, name: str) -> None:
        if name != self._replicator.integration.summary()["target_database"]:
            raise StatementError(f'ERROR: database "{name}" does not exist')

    # -- all other statements ---------------------------------------------------------------------------------------

    def _run(self, sql: str, parameters: Mapping[str, str], session: Session) -> Result:
        text = sql.strip().rstrip("; ")
        if match := _SET.fullmatch(text):
            value = {"true": "on", "false": "off"}.get(match["value"].lower(), match["value"])
            session.settings[match["name"].lower()] = value
            return Result()
        if match := _SHOW.fullmatch(text):
            name = match["name"].lower()
            if name not in session.settings:
                raise StatementError(f'ERROR: unrecognized configuration parameter "{name}"')
            return Result(((name, "varchar", 0, 0),), [(session.settings[name],)])
        statement = _parse(text)
        if isinstance(statement, exp.Grant | exp.Revoke):
            return Result()
        self._provide_views(statement)
        return self._run_on_duckdb(_transpile(statement, parameters, session))

    def _provide_views(self, statement: exp.Expr) -> None:
        report = Report(self._replicator)
        for table in statement.find_all(exp.Table):
            name = table.name.lower()
            if name in VIEWS and table.db in ("", "pg_catalog"):
                table.set("db", None)
                rows = report.rows(name)
                self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({VIEWS[name]})")
                for row in rows:
                    self._connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)

    def _run_on_duckdb(self, sql: str) -> Result:
        try:
            with self._may_be_interrupted():
                cursor = self._connection.execute(sql)
                returns = bool(cursor.description) and _is_query(sql)
                columns = tuple(_column(name, str(kind)) for name, kind, *_ in cursor.description or ())
                rows = cursor.fetchall()
        except duckdb.Error as error:
            raise StatementError(_as_redshift(error)) from error
        return Result(columns, rows) if returns else Result()


class _Database:
    """The statement's surroundings: the integration database attached, names resolved in the chosen database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, replicator: Replicator, database: str) -> None:
        self._connection, self._database = connection, database
        path = replicator.published_path
        self._path = path if path and path.exists() else None

    def __enter__(self) -> None:
        if self._path:
            attach = f"ATTACH '{self._path}' AS \"{self._path.stem}\" (READ_ONLY)"
            opened_whole(self._path, lambda: self._connection.execute(attach), lambda _: self._detach())
        known = {SCRATCH_DATABASE: "public"} | ({self._path.stem: DATABASE} if self._path else {})
        if self._database not in known:
            self.__exit__()
            raise StatementError(f'FATAL: database "{self._database}" does not exist')
        self._connection.execute(f'USE "{self._database}"."{known[self._database]}"')

    def __exit__(self, *_: object) -> None:
        self._connection.execute(f"USE {SCRATCH_DATABASE}.public")
        self._detach()

    def _detach(self) -> None:
        if self._path:
            self._connection.execute(f'DETACH "{self._path.stem}"')


def _parse(sql: str) -> exp.Expr:
    try:
        statements = sqlglot.parse(sql, read="redshift")
    except SqlglotError as error:
        near = re.search(r"\x1b\[4m(.*?)\x1b\[0m", str(error))
        raise StatementError(f'ERROR: syntax error at or near "{near[1] if near else sql[:20]}"') from error
    if len(statements) != 1 or statements[0] is None:
        raise StatementError("ERROR: cannot insert multiple commands into a prepared statement")
    return statements[0]


def _transpile(statement: exp.Expr, parameters: Mapping[str, str], session: Session) -> str:
    if isinstance(statement, exp.Create):
        statement.set("no_schema_binding", False)  # DuckDB binds a view again whenever it is read
    for placeholder in list(statement.find_all(exp.Placeholder)):
        # Redshift infers a parameter's type from its surroundings, as it does an untyped literal's.
        placeholder.replace(exp.Literal.string(parameters[placeholder.name]))
    # Redshift folds names to lower case: quoted ones too, unless the session keeps their case.
    folding = "lowercase" if session.settings["enable_case_sensitive_identifier"] == "on" else "case_insensitive"
    folded = normalize_identifiers(statement, dialect=f"redshift, normalization_strategy={folding}")
    return folded.sql(
        dialect="duckdb", comments=False, unsupported_level=ErrorLevel.IGNORE
    )  # such as distribution and sort keys


def parameter_names(sql: str) -> set[str]:
    """Names of the ``:name`` parameters of a statement; none if it can't be parsed (it then fails when it runs)."""
    try:
        return {
            found.name
            for tree in sqlglot.parse(sql, read="redshift")
            if tree
            for found in tree.find_all(exp.Placeholder)
        }
    except SqlglotError:
        return set()


def _is_query(sql: str) -> bool:
    return sql.lstrip("( ").split(None, 1)[0].upper() in {"SELECT", "WITH", "SHOW", "VALUES", "DESCRIBE", "EXPLAIN"}


def _column(name: str, kind: str) -> tuple[str, str, int, int]:
    base, _, arguments = kind.partition("(")
    precision, _, scale = arguments.rstrip(")").partition(",")
    return name, _TYPES.get(base, "varchar"), int(precision or 0), int(scale or 0)


def _as_redshift(error: duckdb.Error) -> str:
    message = str(error).splitlines()[0]
    if missing := re.search(r"(Table|View|Schema|Catalog) with name \"?([\w.]+)\"? does not exist", message):
        kind = {"Table": "relation", "View": "relation", "Schema": "schema", "Catalog": "database"}[missing[1]]
        return f'ERROR: {kind} "{missing[2]}" does not exist'
    if column := re.search(r'Referenced column "(\w+)" not found', message):
        return f'ERROR: column "{column[1]}" does not exist'
    if existing := re.search(r"(Table|View|Schema) with name \"?([\w.]+)\"? already exists", message):
        kind = {"Table": "Relation", "View": "Relation", "Schema": "Schema"}[existing[1]]
        return f'ERROR: {kind} "{existing[2]}" already exists'
    return f"ERROR: {message.partition(': ')[2] or message}"
