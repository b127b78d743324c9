"""Who sees the plugin's page under the auth managers of MWAA (FAB) and of a laptop (Simple; see tests/plugins/dbt_docs)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("_fab_probe.py")
NO_S3 = {
    "conn_type": "aws",
    "login": "user",
    "password": "secret",
    "extra": {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"},
}
"""Whoever is let in is told that S3 does not answer: 503."""


@pytest.fixture(scope="module")
def under_fab(project_root, tmp_path_factory):
    """Status of the page by role, asked of the whole api-server in a process of its own."""
    home = tmp_path_factory.mktemp("fab")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project_root / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-for-this-test-that-is-long-enough-for-hs512-signatures-0123456789",
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(NO_S3),
        "PYTHONPATH": os.pathsep.join([str(project_root / "plugins"), str(project_root)]),
    }
    done = subprocess.run([sys.executable, str(PROBE)], env=environ, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_without_a_valid_token_nobody_gets_in(under_fab):
    assert (under_fab["nobody"], under_fab["forged"]) == (401, 403)


def test_on_mwaa_the_page_is_for_op_and_admin(under_fab):
    assert {role for role, status in under_fab.items() if status == 503} == {"Op", "Admin"}
    assert {under_fab[role] for role in ("Public", "Viewer", "User")} == {403}


def test_the_documentation_says_so(project_root, under_fab):
    text = " ".join((project_root / "docs" / "deploy.md").read_text().split())
    allowed = re.search(r"Under FAB the page dbt docs is for the roles `(\w+)` and `(\w+)`", text).groups()
    assert set(allowed) == {role for role, status in under_fab.items() if status == 503}
