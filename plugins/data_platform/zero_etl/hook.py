"""Asks RDS and Redshift about one zero-ETL integration, and connects it to a database.

Redshift is asked through its Data API, so no driver, no open port and no session is needed. The connection (type ``aws``) says which
integration and which warehouse; the credentials and endpoints are those of the AWS connection it names::

    {"conn_type": "aws", "extra": {
        "integration_arn": "arn:aws:rds:us-east-1:123456789012:integration:6f0f...",
        "workgroup_name": "analytics",            # or "cluster_identifier"
        "database": "dev",                        # any database that can be connected to; the integration's own can't
        "secret_arn": "...",                      # or, with a cluster, "db_user"; else the caller's IAM identity
        "target_database": "aurora_zeroetl_integration",
        "source_database": "demodb",
        "aws_conn_id": "aws_default",
        "region_name": "us-east-1"}}              # default: the AWS connection's

The database user must be a superuser: SVV_INTEGRATION shows no rows to others.

Every call of AWS is retried by botocore's *standard* mode (throttling, time-outs, connection errors and 5xx; exponential back-off with
jitter); ``config_kwargs`` of the AWS connection override its limits. What is left after that is raised as one of `exceptions`.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook

from data_platform.connections import find_connection
from data_platform.zero_etl.exceptions import (
    ZeroEtlAccessDenied,
    ZeroEtlConnectionInvalid,
    ZeroEtlConnectRefused,
    ZeroEtlStatementFailed,
    ZeroEtlUnavailable,
    ZeroEtlWaitStopped,
)
from data_platform.zero_etl.health import IntegrationError, Snapshot, TableState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STATEMENT_TIMEOUT_SECONDS: Final = 60.0
CONNECT_TIMEOUT_SECONDS: Final = 300.0
SESSION_KEEP_ALIVE_SECONDS: Final = 60
_CLIENT_CONFIG: Final = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}
_DENIED_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_ARN: Final = re.compile(r"arn:[\w-]+:rds:[\w-]*:\d{12}:integration:(?P<id>[\w-]+)")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,126}")
"""Redshift's standard identifiers: a letter or underscore first, 1 to 127 bytes (Database Developer Guide, Names and identifiers)."""

_INTEGRATION_SQL: Final = """\
select integration_id, target_database, state, current_lag, last_replicated_checkpoint
from svv_integration
where integration_id = :integration_id"""
_TABLES_SQL: Final = """\
select schema_name, table_name, table_state, reason, is_history_mode
from svv_integration_table_state
where integration_id = :integration_id and target_database = :target_database
order by schema_name, table_name"""
_OWNER_SQL: Final = """\
select integration_id, target_database
from svv_integration
where target_database = :target_database"""

type Row = dict[str, Any]


@dataclass(frozen=True)
class IntegrationConfig:
    """The connection's extra, checked."""

    integration_arn: str
    target_database: str
    source_database: str
    database: str
    workgroup_name: str | None = None
    cluster_identifier: str | None = None
    secret_arn: str | None = None
    db_user: str | None = None
    aws_conn_id: str = "aws_default"
    region_name: str | None = None

    @classmethod
    def from_extra(cls, conn_id: str, extra: dict[str, Any]) -> IntegrationConfig:
        """Read the connection's extra; keys that are not known are refused, for they are mostly typing mistakes.

        Raises:
            ZeroEtlConnectionInvalid: something is missing, unknown or contradictory.
        """
        where = f"connection {conn_id}"
        names = cls.__dataclass_fields__
        if unknown := sorted(set(extra) - set(names)):
            raise ZeroEtlConnectionInvalid(
                f"{where}: expected only {', '.join(names)} in extra, found {', '.join(unknown)}"
            )
        missing = [
            name
            for name in ("integration_arn", "target_database", "source_database", "database")
            if not extra.get(name)
        ]
        if missing:
            raise ZeroEtlConnectionInvalid(f"{where}: extra lacks {', '.join(missing)}")
        config = cls(**{key: value for key, value in extra.items() if value})
        if bool(config.workgroup_name) == bool(config.cluster_identifier):
            raise ZeroEtlConnectionInvalid(f"{where}: expected one of workgroup_name and cluster_identifier in extra")
        if config.db_user and not config.cluster_identifier:
            raise ZeroEtlConnectionInvalid(
                f"{where}: db_user goes with cluster_identifier; a workgroup takes secret_arn or IAM"
            )
        if not _ARN.fullmatch(config.integration_arn):
            raise ZeroEtlConnectionInvalid(
                f"{where}: expected integration_arn like arn:aws:rds:<region>:<account>:integration:<id>, "
                f"found {config.integration_arn!r}"
            )
        return config

    @property
    def integration_id(self) -> str:
        """The integration's UUID, by which Redshift knows it."""
        return self.integration_arn.rsplit(":", 1)[-1]

    def qualify(self, tables: Iterable[str]) -> list[str]:
        """Names as ``schema.table``; a bare name is of the source database."""
        return [name if "." in name else f"{self.source_database}.{name}" for name in tables]

    def warehouse(self) -> dict[str, str]:
        """The Data API's arguments that say where a statement runs and as whom."""
        arguments = {
            "WorkgroupName": self.workgroup_name,
            "ClusterIdentifier": self.cluster_identifier,
            "Database": self.database,
            "SecretArn": self.secret_arn,
            "DbUser": self.db_user,
        }
        return {name: value for name, value in arguments.items() if value}


@dataclass(frozen=True)
class Checkpoint:
    """How far replication has come: an opaque coordinate of the source's log, and the lag in milliseconds."""

    value: str | None
    lag_ms: int | None


class ZeroEtlHook(BaseHook):
    """One zero-ETL integration.

    The methods block; the coroutines run them on a thread, because even making a botocore client reads megabytes of service models
    and would hold up the triggerer's event loop.
    """

    conn_name_attr = "zero_etl_conn_id"
    default_conn_name = "zero_etl_default"

    def __init__(self, zero_etl_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.zero_etl_conn_id = zero_etl_conn_id
        self._stopped = False

    @cached_property
    def config(self) -> IntegrationConfig:
        """The connection's settings."""
        connection = find_connection(self.zero_etl_conn_id)
        return IntegrationConfig.from_extra(self.zero_etl_conn_id, connection.extra_dejson)

    def snapshot(self) -> Snapshot:
        """Ask RDS for the integration, and Redshift for its state and its tables.

        Raises:
            ZeroEtlUnavailable: something could not be reached or did not answer in time.
            ZeroEtlStatementFailed: Redshift refused a query.
            ZeroEtlAccessDenied: credentials or grants are missing.
            ZeroEtlConnectionInvalid: the connection is incomplete.
        """
        config = self.config
        integration = self._describe_integration()
        rows = self._query(_INTEGRATION_SQL, integration_id=config.integration_id)
        row = self._row_of_target(rows)
        tables = self._tables() if row and row["target_database"] else ()
        return Snapshot(
            integration_id=config.integration_id,
            target_database=config.target_database,
            status=integration["Status"] if integration else None,
            errors=tuple(
                IntegrationError(error["ErrorCode"], error.get("ErrorMessage", ""))
                for error in (integration or {}).get("Errors", ())
            ),
            state=row["state"] if row else None,
            connected_to=next((other["target_database"] for other in rows if other["target_database"]), ""),
            lag_ms=_integer(row["current_lag"]) if row else None,
            checkpoint=(row["last_replicated_checkpoint"] or None) if row else None,
            tables=tables,
            source_arn=integration.get("SourceArn") if integration else None,
        )

    def checkpoint(self) -> Checkpoint:
        """Ask Redshift how far it has come: one small query, no call of RDS. Raises as `snapshot` does."""
        row = self._row_of_target(self._query(_INTEGRATION_SQL, integration_id=self.config.integration_id))
        if row is None:
            return Checkpoint(None, None)
        return Checkpoint(row["last_replicated_checkpoint"] or None, _integer(row["current_lag"]))

    def connect_database(self) -> bool:
        """Make the target database from the integration, unless it is there.

        Zero-ETL keeps the case of the source's names, so the statement runs in a Data API session in which
        ``enable_case_sensitive_identifier`` is on whatever the user's default is. ``CREATE DATABASE`` can't run in a transaction
        block, so it is a statement by itself, never part of a batch.

        Returns:
            Whether the database was made now; ``False`` when it was there and fed by this integration.

        Raises:
            ZeroEtlConnectRefused: the integration is not listed, feeds another database, or the name is taken.
            ZeroEtlConnectionInvalid: the target database's name is no plain identifier.
            ZeroEtlStatementFailed: Redshift refused to make it. And as `snapshot` does.
        """
        config = self.config
        identifier = quote_identifier(config.target_database)
        if self._is_connected():
            return False
        session = self._run("set enable_case_sensitive_identifier to true", keep_session=True)
        try:
            self._run(
                f"create database {identifier} from integration '{config.integration_id}'",
                session_id=session["SessionId"],
                timeout=CONNECT_TIMEOUT_SECONDS,
            )
        except ZeroEtlStatementFailed as error:
            if "already exists" not in str(error):
                raise
            if not self._is_connected():  # else another run was faster
                raise ZeroEtlConnectRefused(
                    f"the warehouse has a database {config.target_database} that no integration feeds. "
                    "Drop or rename it, or choose another target_database."
                ) from error
            return False
        return True

    def is_case_sensitive(self) -> bool:
        """Whether sessions of this user keep the case of quoted names by default, as readers of zero-ETL data need."""
        rows = self._query("show enable_case_sensitive_identifier")
        return bool(rows) and str(next(iter(rows[0].values()))).lower() in ("on", "true")

    async def asnapshot(self) -> Snapshot:
        """`snapshot` without blocking the event loop."""
        return await self._on_thread(self.snapshot)

    async def acheckpoint(self) -> Checkpoint:
        """`checkpoint` without blocking the event loop."""
        return await self._on_thread(self.checkpoint)

    def stop(self) -> None:
        """Make a call that is under way on another thread, or before a signal, end soon with `ZeroEtlWaitStopped`."""
        self._stopped = True

    def pause(self, seconds: float) -> None:
        """Sleep, but wake within half a second of `stop`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped:
            time.sleep(min(left, 0.5))
        if self._stopped:
            raise ZeroEtlWaitStopped("stopped while waiting for the zero-ETL integration")

    async def _on_thread[T](self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(function)
        except asyncio.CancelledError:
            self.stop()  # the thread can't be cancelled; it must not outlive its trigger by long
            raise

    def _row_of_target(self, rows: list[Row]) -> Row | None:
        """The integration's row for the target database, or the one that has no database yet."""
        wanted = (self.config.target_database, "")
        return next((row for name in wanted for row in rows if row["target_database"] == name), None)

    def _tables(self) -> tuple[TableState, ...]:
        config = self.config
        rows = self._query(_TABLES_SQL, integration_id=config.integration_id, target_database=config.target_database)
        return tuple(
            TableState(
                schema=row["schema_name"],
                table=row["table_name"],
                state=row["table_state"],
                reason=row["reason"],
                is_history_mode=_boolean(row["is_history_mode"]),
            )
            for row in rows
        )

    def _is_connected(self) -> bool:
        """Whether this integration feeds the target database.

        Raises:
            ZeroEtlConnectRefused: the two can't be brought together.
        """
        config = self.config
        rows = self._query(_INTEGRATION_SQL, integration_id=config.integration_id)
        if not rows:
            raise ZeroEtlConnectRefused(
                f"expected integration {config.integration_id} in SVV_INTEGRATION, found no row. Check that it is active in RDS, that "
                "the connection names its warehouse, and that the database user is a superuser."
            )
        fed = [row["target_database"] for row in rows if row["target_database"]]
        if config.target_database in fed:
            return True
        if fed:
            raise ZeroEtlConnectRefused(
                f"integration {config.integration_id} feeds the database {fed[0]} already, not {config.target_database}. "
                "Set target_database to that, or drop that database first."
            )
        for row in self._query(_OWNER_SQL, target_database=config.target_database):
            raise ZeroEtlConnectRefused(
                f"the database {config.target_database} is fed by integration {row['integration_id']}, not by "
                f"{config.integration_id}. Choose another target_database, or drop that database first."
            )
        return False

    def _describe_integration(self) -> dict[str, Any] | None:
        """RDS's record of the integration, or ``None`` if there is none."""
        from botocore.exceptions import ClientError

        try:
            found = self._call(self._rds.describe_integrations, IntegrationIdentifier=self.config.integration_arn)
        except ZeroEtlUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "IntegrationNotFoundFault":
                return None
            raise
        matching = (one for one in found["Integrations"] if one["IntegrationArn"] == self.config.integration_arn)
        return next(matching, None)

    def _query(self, sql: str, **parameters: str) -> list[Row]:
        """Run one query and fetch all its rows; texts lose the padding of Redshift's ``character(128)``, null texts become empty."""
        statement = self._run(sql, parameters)
        rows: list[Row] = []
        for page in self._pages(statement["Id"]):
            names = [column["name"] for column in page["ColumnMetadata"]]
            rows.extend(dict(zip(names, map(_value, record), strict=True)) for record in page["Records"])
        return rows

    def _pages(self, statement_id: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._call(self._data_api.get_statement_result, Id=statement_id, **token)
            yield page
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _run(
        self,
        sql: str,
        parameters: dict[str, str] | None = None,
        *,
        session_id: str | None = None,
        keep_session: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Submit one statement and wait until it has finished; a statement that is given up is cancelled.

        Returns:
            The Data API's answer to the submission: ``Id`` and, if a session was kept, ``SessionId``.
        """
        arguments: dict[str, Any] = {"SessionId": session_id} if session_id else self.config.warehouse()
        if keep_session:
            arguments["SessionKeepAliveSeconds"] = SESSION_KEEP_ALIVE_SECONDS
        if parameters:
            arguments["Parameters"] = [{"name": name, "value": value} for name, value in parameters.items()]
        # botocore gives each call a ClientToken, so that its own retries don't run the statement twice
        statement = self._call(self._data_api.execute_statement, Sql=sql, **arguments)
        try:
            self._wait_for(statement["Id"], sql, timeout or STATEMENT_TIMEOUT_SECONDS)
        except (ZeroEtlUnavailable, ZeroEtlWaitStopped):
            self._cancel(statement["Id"])
            raise
        return statement

    def _wait_for(self, statement_id: str, sql: str, timeout: float) -> None:
        """Poll until the statement has finished, first after 0.05 s, later every second."""
        until = time.monotonic() + timeout
        delay = 0.05
        while True:
            status = self._call(self._data_api.describe_statement, Id=statement_id)
            if status["Status"] == "FINISHED":
                return
            if status["Status"] in ("FAILED", "ABORTED"):
                text = status.get("Error") or "no error was given"
                message = f"statement {statement_id} {status['Status'].lower()}: {text} (statement: {sql})"
                if "permission denied" in text.lower():
                    raise ZeroEtlAccessDenied(f"{message}. Grant the connection's database user what it lacks.")
                raise ZeroEtlStatementFailed(message)
            if time.monotonic() > until:
                raise ZeroEtlUnavailable(
                    f"statement {statement_id} was still {status['Status']} after {timeout:g} s and was cancelled; "
                    f"the warehouse may be busy (statement: {sql})"
                )
            self.pause(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            delay = min(delay * 1.6, 1.0)

    def _cancel(self, statement_id: str) -> None:
        """Best effort: a statement that nobody waits for should not queue in the warehouse."""
        try:
            self._call(self._data_api.cancel_statement, Id=statement_id)
        except (ZeroEtlUnavailable, ZeroEtlAccessDenied) as error:
            self.log.warning("statement %s could not be cancelled: %s", statement_id, error)

    def _call(self, function: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
        """Call AWS (with botocore's retries) and give its errors one of this package's types."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return function(**arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _DENIED_CODES:
                raise ZeroEtlAccessDenied(
                    f"{error}. Check the AWS connection {self.config.aws_conn_id} and its role's policy."
                ) from error
            raise ZeroEtlUnavailable(str(error)) from error
        except NoCredentialsError as error:
            raise ZeroEtlAccessDenied(f"{error}. Check the AWS connection {self.config.aws_conn_id}.") from error
        except BotoCoreError as error:
            raise ZeroEtlUnavailable(str(error)) from error

    @cached_property
    def _rds(self) -> Any:
        return self._client("rds")

    @cached_property
    def _data_api(self) -> Any:
        return self._client("redshift-data")

    def _client(self, service: str) -> Any:
        """A boto3 client by way of the AWS connection, which knows credentials, region and ``service_config`` endpoints."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.config import Config

        aws: Any = AwsGenericHook(
            aws_conn_id=self.config.aws_conn_id, region_name=self.config.region_name, client_type=service
        )
        return aws.get_client_type(region_name=aws.region_name, config=Config(**_CLIENT_CONFIG).merge(aws.config))


def quote_identifier(name: str) -> str:
    """Double-quote a name for Redshift.

    Raises:
        ZeroEtlConnectionInvalid: it is no plain identifier, so quoting would only hide a mistake.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ZeroEtlConnectionInvalid(
            f"target_database: expected a letter or underscore, then letters, digits, _ or $, at most 127; found {name!r}"
        )
    return f'"{name}"'


def _value(field: dict[str, Any]) -> Any:
    """One field of a Data API record: the only member of a union."""
    if field.get("isNull"):
        return ""
    value = next(iter(field.values()))
    return value.rstrip() if isinstance(value, str) else value


def _integer(value: Any) -> int | None:
    return None if value == "" else int(value)


def _boolean(value: Any) -> bool:
    """Redshift's booleans, which some system views give as text."""
    return value if isinstance(value, bool) else str(value).lower() in ("t", "true", "1")
