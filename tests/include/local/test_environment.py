from __future__ import annotations

import json
import os
import stat

from include.local.environment import airflow_environment, connection_variables, load_secrets, without_foreign
from include.local.layout import Layout
from include.platform.airflow_settings import load_airflow_settings

PORTS = {"aws": 14566, "zero-etl": 14567, "catalog": 14568, "batch-gateway": 14569, "saas": 14570, "api-server": 18080}


def test_connections_are_rendered_for_this_machine(project_root, tmp_path):
    settings = load_airflow_settings(project_root / "airflow_settings.yaml")
    variables = connection_variables(settings, PORTS, {"admin": "pw"}, Layout(tmp_path))
    aws = json.loads(variables["AIRFLOW_CONN_AWS_DEFAULT"])
    assert aws["extra"]["endpoint_url"] == "http://127.0.0.1:14566"
    assert aws["extra"]["service_config"]["rds"]["endpoint_url"] == "http://127.0.0.1:14567"
    warehouse = json.loads(variables["AIRFLOW_CONN_WAREHOUSE_BUILD"])
    assert warehouse["host"] == str(tmp_path / "warehouse" / "work.duckdb")
    api = json.loads(variables["AIRFLOW_CONN_AIRFLOW_API"])
    assert (api["host"], api["port"], api["password"]) == ("http://127.0.0.1", 18080, "pw")
    assert "platform:" not in str(variables)
    assert "/usr/local/airflow" not in str(variables)


def test_generated_secrets_are_private_and_kept(tmp_path):
    layout = Layout(tmp_path)
    first = load_secrets(layout)
    assert stat.S_IMODE(layout.secrets_file.stat().st_mode) == 0o600
    assert load_secrets(layout) == first
    assert load_secrets(Layout(tmp_path / "other")) != first


def test_airflow_listens_on_loopback_only_and_asks_for_a_login_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV", raising=False)
    variables = airflow_environment(Layout(tmp_path), PORTS)
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert (
        airflow_environment(Layout(tmp_path), PORTS, no_login=True)["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"]
        == "True"
    )


def test_an_option_the_caller_sets_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__DBT_EXECUTION", "watcher")
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "2")
    variables = airflow_environment(Layout(tmp_path), PORTS)
    assert variables["AIRFLOW__CORE__PARALLELISM"] == "2"
    assert variables["AIRFLOW__DATA_PLATFORM__DBT_EXECUTION"] == "watcher"


def test_another_deployments_database_connections_and_credentials_never_reach_the_platform(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_FAILURES", "http://pager")
    monkeypatch.setenv("AWS_PROFILE", "production")
    variables = without_foreign(os.environ) | airflow_environment(Layout(tmp_path), PORTS)
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite:")
    assert not {"AIRFLOW_CONN_ALERTS_FAILURES", "AWS_PROFILE"} & set(variables)
