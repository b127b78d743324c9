"""What the Airflow connection of the warehouse says, validated once.

``duckdb``: ``host`` is the build file; ``extra.published_dir`` the folder of published files; ``extra.attach`` maps a database name to
the replicated snapshot that is attached under it; ``extra.stands_for`` (``host``, ``port``, ``database``) the Redshift warehouse under
whose name lineage and scores go to the catalog. ``redshift``: ``host``, ``port``, ``schema`` (the database),
``extra.serverless_work_group`` or ``extra.cluster_identifier``, ``login`` and ``password`` or ``extra.iam``; ``extra.secret_arn`` for
the Data API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.platform import connections
from include.warehouse.exceptions import WarehouseConnectionInvalid

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_BUILD_SCHEMA = "build"
REDSHIFT_PORT = 5439


@dataclass(frozen=True)
class StandsFor:
    """The Redshift warehouse in whose place a DuckDB file stands: its relations have that warehouse's names in the catalog."""

    host: str
    port: int
    database: str


@dataclass(frozen=True)
class DuckDbConnection:
    """A warehouse in files on this machine.

    Attributes:
        path: the build file; one process may have it open.
        published_dir: where published files are, for anyone to read.
        attach: database name → snapshot file, attached read-only.
        build_schema: prefix of the schemas that dbt builds in.
        stands_for: None if it stands for itself.
    """

    path: Path
    published_dir: Path
    attach: dict[str, Path]
    build_schema: str = DEFAULT_BUILD_SCHEMA
    stands_for: StandsFor | None = None


@dataclass(frozen=True)
class RedshiftConnection:
    """Amazon Redshift, Serverless (``workgroup``) or provisioned (``cluster``).

    Attributes:
        iam: log in with the worker's role instead of a password.
        secret_arn: Secrets Manager secret for the Data API; else temporary credentials are used.
        aws_conn_id: Airflow connection that calls the Data API.
        build_schema: prefix of the schemas that dbt builds in.
    """

    host: str
    port: int
    database: str
    user: str | None
    password: str | None = field(repr=False)
    iam: bool
    workgroup: str | None
    cluster: str | None
    region: str | None
    secret_arn: str | None
    aws_conn_id: str
    build_schema: str = DEFAULT_BUILD_SCHEMA


WarehouseConnection = DuckDbConnection | RedshiftConnection


def warehouse_connection(connection: Connection) -> WarehouseConnection:
    """Read ``connection``.

    Raises:
        WarehouseConnectionInvalid: of another type, or lacking what its type needs.
    """
    extra: dict[str, Any] = connection.extra_dejson
    build_schema = extra.get("build_schema") or DEFAULT_BUILD_SCHEMA
    if connection.conn_type == "duckdb":
        host, published_dir = (
            _needed(connection, "host", connection.host),
            _needed(connection, "extra.published_dir", extra.get("published_dir")),
        )
        attach = {name: Path(file) for name, file in (extra.get("attach") or {}).items()}
        stands_for = _stands_for(connection.conn_id, extra.get("stands_for"))
        return DuckDbConnection(Path(host), Path(published_dir), attach, build_schema, stands_for)
    if connection.conn_type == "redshift":
        workgroup, cluster = extra.get("serverless_work_group"), extra.get("cluster_identifier")
        _needed(connection, "extra.serverless_work_group or extra.cluster_identifier", workgroup or cluster)
        return RedshiftConnection(
            host=_needed(connection, "host", connection.host),
            port=connection.port or REDSHIFT_PORT,
            database=_needed(connection, "schema (the database)", connection.schema),
            user=connection.login,
            password=connection.password,
            iam=bool(extra.get("iam")),
            workgroup=workgroup,
            cluster=None if workgroup else cluster,
            region=extra.get("region"),
            secret_arn=extra.get("secret_arn"),
            aws_conn_id=extra.get("aws_conn_id") or connections.AWS,
            build_schema=build_schema,
        )
    raise WarehouseConnectionInvalid(
        f"connection {connection.conn_id}: expected type duckdb or redshift, found {connection.conn_type!r}"
    )


def _stands_for(conn_id: str, given: Any) -> StandsFor | None:
    if given is None:
        return None
    kinds = {"host": str, "port": int, "database": str}
    entry = {"port": REDSHIFT_PORT, **given} if isinstance(given, dict) else {}
    wrong = sorted(name for name in {*entry, *kinds} if not entry.get(name) or type(entry[name]) is not kinds.get(name))
    if wrong:
        raise WarehouseConnectionInvalid(
            f"connection {conn_id} (duckdb): extra.stands_for: expected host and database as text and, if it is not {REDSHIFT_PORT}, port "
            f"as a number, found {given!r} (wrong: {', '.join(wrong)}); mend it, or leave it out to keep the file's own name in the catalog"
        )
    return StandsFor(entry["host"], entry["port"], entry["database"])


def _needed(connection: Connection, name: str, value: str | None) -> str:
    if not value:
        raise WarehouseConnectionInvalid(
            f"connection {connection.conn_id} ({connection.conn_type}): expected {name}, found none; add it in the secrets backend"
        )
    return value
