"""### Configure the platform

Creates or updates the pools and variables that `airflow_settings.yaml` names, and on request creates its missing connections.
Run it once after a deployment and again after the file has changed; a run that finds nothing to do changes nothing.

**Inputs** the file `airflow_settings.yaml` beside the DAGs; connection `airflow_api` (type `http` with a login, or type `aws` with
`extra.environment_name` on MWAA, where the execution role needs `airflow:InvokeRestApi`).

**Outputs** pools, variables and connections; the log lists each with *created*, *updated*, *unchanged* or *served by a secrets backend*.

#### Triage
- `create_pools` fails with 401 or 403: the login of `airflow_api` is wrong or may not write pools.
- Tasks of other DAGs stay *scheduled*, and the scheduler logs "non-existent pool": run this DAG.
- A pool you resized in the UI is set back: change its size in the file.
- A connection you changed in the UI is not changed back: connections that exist are never touched.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag, task

from include.platform import connections
from include.platform.policy import dag_defaults
from include.platform.tags import Tag

if TYPE_CHECKING:
    from include.platform.airflow_api import AirflowApi
    from include.platform.airflow_settings import AirflowSettings


def _open() -> tuple[AirflowApi, AirflowSettings]:
    from data_platform.connections import find_connection
    from include.platform.airflow_api import airflow_api_from
    from include.platform.airflow_settings import load_airflow_settings
    from include.platform.paths import PROJECT_ROOT

    settings = load_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
    return airflow_api_from(find_connection(connections.AIRFLOW_API)), settings


@dag(
    schedule=None,
    doc_md=__doc__,
    params={
        "create_connections": Param(
            False,
            type="boolean",
            title="Create connections",
            description="Also create the file's connections that no secrets backend serves. Leave off where Secrets Manager holds them.",
        )
    },
    **dag_defaults(owner="platform", tags=[Tag.PLATFORM, Tag.CONFIGURATION], deadline=timedelta(minutes=5)),
)
def configure_platform() -> None:
    @task
    def create_pools() -> dict[str, str]:
        from include.platform.configuration import ensure_pools

        return ensure_pools(*_open())

    @task
    def create_variables() -> dict[str, str]:
        from include.platform.configuration import ensure_variables

        return ensure_variables(*_open())

    @task
    def create_connections(params: dict[str, bool] | None = None) -> dict[str, str]:
        from airflow.sdk import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

        from include.platform.configuration import ensure_connections

        if not (params or {}).get("create_connections"):
            raise AirflowSkipException("param create_connections is off")

        def is_served(conn_id: str) -> bool:
            try:
                Connection.get(conn_id)
            except AirflowNotFoundException:
                return False
            return True

        return ensure_connections(*_open(), is_served)

    create_pools()
    create_variables()
    create_connections()


configure_platform()
