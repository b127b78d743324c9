"""report_tenant_migrations: its shape."""

from __future__ import annotations

import subprocess
import sys

import pytest

from include.tenants.operators import ReportAllOperator

TENANT_DAGS = (
    "clean_up_tenant_source",
    "finish_tenant_identity",
    "migrate_tenant",
    "report_tenant_migrations",
    "rollback_tenant_migration",
)


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["report_tenant_migrations"]


def test_one_task_looks_at_all_every_hour(dag):
    [task] = dag.tasks
    assert (task.task_id, type(task)) == ("report_all", ReportAllOperator)
    assert dag.schedule == "@hourly"
    assert not dag.params


def test_it_tells_triage(dag):
    assert "`report_all`" in dag.doc_md.partition("#### Triage")[2]


def test_the_folder_holds_these_dags_and_they_call_one_team(dag_bag, project_root):
    assert {path.stem for path in (project_root / "dags/tenants").glob("*.py")} == set(TENANT_DAGS)
    for name in TENANT_DAGS:
        assert dag_bag.dags[name].default_args["owner"] == "tenants"
        assert "tenants" in dag_bag.dags[name].tags


def test_parsing_the_tenant_dags_imports_nothing_heavy(project_root):
    """A DAG file is parsed again and again; what only tasks need is imported when they run."""
    code = (
        "import runpy, sys, airflow.sdk, airflow.providers.standard.operators.hitl\n"
        "before = set(sys.modules)\n"
        f"for name in {TENANT_DAGS!r}:\n"
        "    runpy.run_path(f'dags/tenants/{name}.py')\n"
        "print(*sorted({module.partition('.')[0] for module in set(sys.modules) - before}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project_root,
        env={"PYTHONPATH": f"{project_root}:{project_root / 'plugins'}", "PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    imported = set(done.stdout.split())
    assert {"data_platform", "include"} <= imported
    assert not imported & {"boto3", "botocore", "fastapi", "cryptography", "moto", "duckdb", "pandas"}
