"""### Connect a zero-ETL integration

First-time set-up on Redshift, once per integration: makes the integration's database (`CREATE DATABASE … FROM INTEGRATION`) and waits
until Redshift applies the source's changes. Running it again is harmless: an existing database is checked, not made anew.

**Inputs** an Airflow connection (parameter *Connection*, type `aws`) that names the integration, the warehouse and the target database;
its database user must be a superuser. The integration itself is made beforehand in RDS, with the warehouse's
`enable_case_sensitive_identifier` turned on.

**Outputs** the read-only database, whose tables are read as `<target database>.<source database>.<table>`.

#### Triage
- `create_database` fails with *expected integration … found no row*: the integration isn't active yet, the connection names another
  warehouse, or its user is no superuser.
- `create_database` fails with *is fed by integration …* or *no integration feeds*: the name is taken. Nothing was changed; choose
  another `target_database` in the connection, or drop the old database.
- `create_database` fails with *feeds the database … already*: set `target_database` of the connection to that one.
- `create_database` warns about `enable_case_sensitive_identifier`: tables with capitals in their names can't be read until it is on.
- `wait_until_replicating` fails with a table's state and reason: it says which statement or change at the source mends it. Clear that
  task afterwards; `create_database` need not run again.
- `wait_until_replicating` misses its deadline: the first load of a large source takes hours; run again with a longer wait.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from data_platform.zero_etl.operators import ConnectZeroEtlOperator, ZeroEtlHealthOperator
from include.platform import connections
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=None,
    doc_md=__doc__,
    render_template_as_native_obj=True,  # tables stay a list, the wait a number
    params={
        "zero_etl_conn_id": Param(
            connections.ZERO_ETL_TICKIT,
            type="string",
            pattern=r"^[A-Za-z0-9_.-]{1,250}$",
            title="Connection",
            description="The Airflow connection of the integration.",
        ),
        "required_tables": Param(
            [],
            type="array",
            items={"type": "string", "pattern": r"^[^.\s]+(\.[^.\s]+)?$"},
            uniqueItems=True,
            title="Required tables",
            description="Tables (table or schema.table) that must be synced before the run succeeds; none: replication as such.",
        ),
        "timeout_minutes": Param(
            60,
            type="integer",
            minimum=1,
            maximum=2880,
            title="Longest wait",
            description="Minutes to wait for the first load; then the run fails. The load itself goes on.",
        ),
    },
    **dag_defaults(
        owner="platform",
        tags=[Tag.PLATFORM, Tag.ZERO_ETL],
        deadline=timedelta(hours=2),
        run_timeout=timedelta(hours=50),  # beyond the longest wait that the parameter allows
    ),
)
def connect_zero_etl() -> None:
    create_database = ConnectZeroEtlOperator(
        task_id="create_database",
        zero_etl_conn_id="{{ params.zero_etl_conn_id }}",
    )
    wait_until_replicating = ZeroEtlHealthOperator(
        task_id="wait_until_replicating",
        zero_etl_conn_id="{{ params.zero_etl_conn_id }}",
        required_tables="{{ params.required_tables }}",
        timeout_seconds="{{ params.timeout_minutes * 60 }}",
    )
    create_database >> wait_until_replicating


connect_zero_etl()
