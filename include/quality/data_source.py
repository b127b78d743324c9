"""The warehouse as Soda Core is told of it: the data source's properties, and a login.

soda-core-redshift takes a user and a password; by itself it can get temporary ones of a provisioned cluster only
(``soda/data_sources/redshift_data_source.py``, version 3.5.6). So the task asks AWS, and hands Soda what it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.quality.exceptions import LoginRefused
from include.warehouse.connection import DuckDbConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.warehouse.connection import RedshiftConnection, WarehouseConnection

AWS_ACTIONS = (
    "redshift-serverless:GetCredentials",
    "redshift:GetClusterCredentials",
    "redshift:GetClusterCredentialsWithIAM",
)
"""What the task's role needs, by kind of login: a workgroup, a cluster with a named user, a cluster with the role as user."""

CONNECT_SECONDS = 30
"""A Redshift Serverless workgroup that sleeps takes some seconds to wake."""
LOGIN_SECONDS = 900
"""How long temporary credentials serve to log in; a session outlives them. The least that both APIs allow:
https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_GetCredentials.html."""


@dataclass(frozen=True)
class Login:
    """A user of the warehouse."""

    user: str
    password: str = field(repr=False)


def soda_data_source(warehouse: WarehouseConnection, schema: str, login: Login | None) -> dict[str, Any]:
    """The properties of Soda's data source; they may hold a password.

    Args:
        warehouse: where to scan. A DuckDB file is opened read-only: the gate has nothing to write.
        schema: where the relations are.
        login: of `redshift_login`; None for DuckDB.

    Raises:
        LoginRefused: Redshift without a login.
    """
    if isinstance(warehouse, DuckDbConnection):
        return {"type": "duckdb", "path": str(warehouse.path), "read_only": True, "schema": schema}
    if login is None:
        raise LoginRefused(f"expected a login to {warehouse.host}, found none; get one with redshift_login")
    return {
        "type": "redshift",
        "host": warehouse.host,
        "port": warehouse.port,
        "database": warehouse.database,
        "schema": schema,
        "username": login.user,
        "password": login.password,
        "connection_timeout_sec": CONNECT_SECONDS,
    }


def redshift_login(warehouse: RedshiftConnection, client: Callable[[str], Any] | None = None) -> Login:
    """The connection's user and password, or temporary ones of the task's own role.

    Args:
        warehouse: whose.
        client: gives boto3's client of a service; as the warehouse's AWS connection says if None.

    Raises:
        LoginRefused: the connection has neither, or AWS refuses.
    """
    if not warehouse.iam:
        if warehouse.user and warehouse.password:
            return Login(warehouse.user, warehouse.password)
        raise LoginRefused(
            f"the warehouse's connection ({warehouse.host}): expected login and password, or extra.iam, found neither; Soda logs in as "
            "dbt does, add one in the secrets backend"
        )
    service, operation, arguments, user, password = _request(warehouse)
    make = client or (lambda name: _client(warehouse, name))
    try:
        answer = getattr(make(service), operation)(**arguments)
    except Exception as error:  # of botocore, or of Airflow's connection
        raise LoginRefused(
            f"expected temporary credentials of {warehouse.workgroup or warehouse.cluster} from {service} {operation}, found: {error}; "
            f"the task's role needs one of {', '.join(AWS_ACTIONS)}"
        ) from error
    return Login(answer[user], answer[password])


def _request(warehouse: RedshiftConnection) -> tuple[str, str, dict[str, Any], str, str]:
    """Service, operation, arguments, and where in the answer user and password are."""
    if warehouse.workgroup:
        arguments: dict[str, Any] = {"workgroupName": warehouse.workgroup, "dbName": warehouse.database}
        return (
            "redshift-serverless",
            "get_credentials",
            arguments | {"durationSeconds": LOGIN_SECONDS},
            "dbUser",
            "dbPassword",
        )
    arguments = {
        "ClusterIdentifier": warehouse.cluster,
        "DbName": warehouse.database,
        "DurationSeconds": LOGIN_SECONDS,
    }
    if warehouse.user:
        arguments |= {"DbUser": warehouse.user, "AutoCreate": False}
        return "redshift", "get_cluster_credentials", arguments, "DbUser", "DbPassword"
    return "redshift", "get_cluster_credentials_with_iam", arguments, "DbUser", "DbPassword"


def _client(warehouse: RedshiftConnection, service: str) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook: AwsGenericHook[Any] = AwsGenericHook(
        aws_conn_id=warehouse.aws_conn_id, client_type=service, region_name=warehouse.region
    )
    return hook.get_conn()
