"""The dbt graph as one Airflow task per model, built by Cosmos. Imported only where the setting asks for it: Cosmos takes most of a second.

Every task runs the warehouse environment's dbt as a subprocess, with the same profile and the same pinned source as the one-process build.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode

from data_platform.connections import find_connection
from include.platform import connections, pools
from include.platform.paths import DBT_MANIFEST, DBT_PROJECT_DIR
from include.platform.settings import DbtExecution, load_settings
from include.warehouse.connection import warehouse_connection
from include.warehouse.profile import TARGET, dbt_variables, inherited_environment, profile_environment

if TYPE_CHECKING:
    from airflow.sdk import Context

_MODES = {DbtExecution.WATCHER: ExecutionMode.WATCHER, DbtExecution.LOCAL: ExecutionMode.LOCAL}


def model_tasks(group_id: str, execution: DbtExecution) -> DbtTaskGroup:
    """One task per model, tests with their model, from the committed manifest.

    Args:
        group_id: the task group's name.
        execution: ``WATCHER`` (one dbt process, tasks that watch it) or ``LOCAL`` (one dbt process a task).
    """
    settings = load_settings()
    variables: dict[str, Any] = dict(dbt_variables(settings))
    return DbtTaskGroup(
        group_id=group_id,
        project_config=ProjectConfig(
            dbt_project_path=DBT_PROJECT_DIR,
            manifest_path=DBT_MANIFEST,
            install_dbt_deps=False,
            dbt_vars=variables or None,
        ),
        # Cosmos wants a target at parse time; the task takes the connection's
        profile_config=ProfileConfig(
            profile_name="warehouse", target_name="local", profiles_yml_filepath=DBT_PROJECT_DIR / "profiles.yml"
        ),
        execution_config=ExecutionConfig(
            execution_mode=_MODES[execution],
            invocation_mode=InvocationMode.SUBPROCESS,
            dbt_executable_path=settings.dbt_executable,
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            emit_datasets=False,
            exclude=["resource_type:exposure"],
            # a test of two models waits for both, instead of failing beside the first
            should_detach_multiple_parents_tests=True,
        ),
        operator_args={
            "interceptors": [use_warehouse_connection],
            "full_refresh": "{{ params.full_refresh }}",
            "install_deps": False,
            "pool": pools.WAREHOUSE_BUILD,
            "emit_datasets": False,
            # storing it would show the task's fields again after it ran, and dbt's environment is one of them
            "should_store_compiled_sql": False,
        },
    )


def use_warehouse_connection(context: Context, operator: Any) -> None:
    """Give dbt its target and profile at run time, so that no connection is read at parse time and no secret is rendered."""
    settings = load_settings()
    warehouse = warehouse_connection(find_connection(connections.WAREHOUSE_BUILD))
    ti = context["ti"]
    profile = profile_environment(
        warehouse, threads=settings.dbt_threads, scratch=settings.scratch_dir, run_key=f"{ti.dag_id}/{ti.run_id}"
    )
    operator.append_env = False
    operator.env = {**inherited_environment(), **profile}
    operator.profile_config = replace(operator.profile_config, target_name=profile[TARGET])
