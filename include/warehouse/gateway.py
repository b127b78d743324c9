"""The one SQL gateway for what is not dbt: a few statements, one transaction, bound values.

Statements are in the SQL that both engines understand; values are bound as ``:name`` (as the Redshift Data API does, which sends text: cast
where a type matters), names go through `include.warehouse.identifiers`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from include.warehouse.connection import DuckDbConnection, RedshiftConnection
from include.warehouse.exceptions import StatementFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from include.warehouse.connection import WarehouseConnection

Row = tuple[Any, ...]

MAX_BATCH = 40
"""Statements in one Data API batch: https://docs.aws.amazon.com/redshift-data/latest/APIReference/API_BatchExecuteStatement.html."""
STATEMENT_SECONDS = 3600.0
WAIT_SECONDS = 20
"""How long one look at a statement waits for its end; below botocore's read time-out."""
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")


class Warehouse(Protocol):
    """A warehouse that runs SQL."""

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Raises:
            StatementFailed: the warehouse refused it.
        """

    def transaction(self, statements: Sequence[str], parameters: Mapping[str, str] | None = None) -> None:
        """Run all statements in one transaction: all of them happen, or none.

        Raises:
            StatementFailed: the warehouse refused one; nothing of the others remains.
        """


def open_warehouse(connection: WarehouseConnection, *, read_only: bool = False) -> Warehouse:
    """The warehouse that ``connection`` describes. On DuckDB the file is open only during each call.

    Args:
        connection: which.
        read_only: open a DuckDB file without taking its write lock.
    """
    if isinstance(connection, DuckDbConnection):
        return DuckDbWarehouse(connection.path, read_only=read_only)
    return RedshiftWarehouse(connection, _data_api_client(connection))


@dataclass(frozen=True)
class DuckDbWarehouse:
    """A DuckDB file, opened and closed in each call, because an open one keeps every other process out."""

    path: Path
    read_only: bool = False

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> list[Row]:
        """See `Warehouse.query`."""
        import duckdb

        try:
            with duckdb.connect(str(self.path), read_only=self.read_only) as connection:
                return list(connection.execute(*_bound(sql, parameters or {})).fetchall())
        except duckdb.Error as error:
            raise StatementFailed(f"{self.path.name}: {error}; statement: {sql[:500]}") from error

    def transaction(self, statements: Sequence[str], parameters: Mapping[str, str] | None = None) -> None:
        """See `Warehouse.transaction`."""
        import duckdb

        current = ""
        try:
            with duckdb.connect(str(self.path), read_only=self.read_only) as connection:
                connection.begin()
                for current in statements:
                    connection.execute(*_bound(current, parameters or {}))
                connection.commit()
        except duckdb.Error as error:  # closing rolls back
            raise StatementFailed(f"{self.path.name}: {error}; statement: {current[:500]}") from error


def _bound(sql: str, parameters: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    used = {name: parameters[name] for name in _PARAMETER.findall(sql)}
    return _PARAMETER.sub(r"$\1", sql), used


@dataclass(frozen=True)
class RedshiftWarehouse:
    """Redshift through its Data API: no driver, no open connection, IAM or a secret for the login."""

    connection: RedshiftConnection
    client: Any
    timeout_seconds: float = STATEMENT_SECONDS

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> list[Row]:
        """See `Warehouse.query`."""
        statement = self._call("execute_statement", Sql=sql, **_data_api_parameters(parameters), **self._target())
        if not self._wait(statement["Id"], [sql]).get("HasResultSet"):
            return []
        page = self._call("get_statement_result", Id=statement["Id"])
        records = list(page["Records"])
        while token := page.get("NextToken"):
            page = self._call("get_statement_result", Id=statement["Id"], NextToken=token)
            records += page["Records"]
        return [tuple(_value(cell) for cell in record) for record in records]

    def transaction(self, statements: Sequence[str], parameters: Mapping[str, str] | None = None) -> None:
        """See `Warehouse.transaction`."""
        if len(statements) > MAX_BATCH:
            raise StatementFailed(
                f"expected at most {MAX_BATCH} statements in one transaction of the Redshift Data API, found {len(statements)}; "
                "split the product"
            )
        batch = self._call(
            "batch_execute_statement", Sqls=list(statements), **_data_api_parameters(parameters), **self._target()
        )
        self._wait(batch["Id"], statements)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call of the Data API.

        Raises:
            StatementFailed: the API refused it or did not answer; a statement that was sent may yet run.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise StatementFailed(f"Redshift Data API, {operation}: expected an answer, found: {error}") from error
        return answer

    def _target(self) -> dict[str, str]:
        where = (
            {"WorkgroupName": self.connection.workgroup}
            if self.connection.workgroup
            else {"ClusterIdentifier": self.connection.cluster}
        )
        login = {"SecretArn": self.connection.secret_arn}
        if self.connection.cluster and not self.connection.secret_arn and not self.connection.iam:
            login = {"DbUser": self.connection.user}
        target = {"Database": self.connection.database, **where, **login}
        return {name: value for name, value in target.items() if value}

    def _wait(self, statement_id: str, statements: Sequence[str]) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            description = self._call("describe_statement", Id=statement_id, WaitTimeSeconds=WAIT_SECONDS)
            status = description["Status"]
            if status == "FINISHED":
                return description
            if status in {"FAILED", "ABORTED"}:
                detail = description.get("Error") or "no reason given"
                raise StatementFailed(
                    f"Redshift {status.lower()} statement {statement_id}: {detail}; SQL: {'; '.join(statements)[:500]}"
                )
            if time.monotonic() > deadline:
                self._call("cancel_statement", Id=statement_id)
                raise StatementFailed(
                    f"Redshift statement {statement_id}: expected an end within {self.timeout_seconds:.0f} s, cancelled it; "
                    f"SQL: {'; '.join(statements)[:500]}"
                )
            time.sleep(0.2)


def _data_api_parameters(parameters: Mapping[str, str] | None) -> dict[str, Any]:
    return {"Parameters": [{"name": name, "value": value} for name, value in parameters.items()]} if parameters else {}


def _value(cell: dict[str, Any]) -> Any:
    return None if cell.get("isNull") else next(iter(cell.values()))


def _data_api_client(connection: RedshiftConnection) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook: AwsGenericHook[Any] = AwsGenericHook(
        aws_conn_id=connection.aws_conn_id, client_type="redshift-data", region_name=connection.region
    )
    return hook.get_conn()
