"""What dbt is given: the pinned snapshot, and no secret where it could be seen."""

from __future__ import annotations

import errno
import os

import pytest

from include.platform.settings import Settings
from include.warehouse.connection import DuckDbConnection, RedshiftConnection
from include.warehouse.dbt_run import DbtProcess
from include.warehouse.exceptions import WarehouseConnectionInvalid
from include.warehouse.profile import dbt_variables, inherited_environment, pin_snapshot, profile_environment
from include.warehouse.run_state import project_fingerprint


@pytest.fixture
def snapshot(tmp_path):
    file = tmp_path / "source.duckdb"
    file.write_text("one")
    return file


def publish(snapshot, text):
    """As the replicator does: by rename."""
    new = snapshot.with_suffix(".new")
    new.write_text(text)
    new.replace(snapshot)


def test_a_run_reads_one_snapshot_and_the_next_run_the_next(snapshot, tmp_path):
    pin = tmp_path / "scratch" / "pins" / "source.duckdb"

    assert pin_snapshot(snapshot, pin, "dag/run 1").read_text() == "one"
    publish(snapshot, "two")
    assert pin_snapshot(snapshot, pin, "dag/run 1").read_text() == "one"  # a retry
    assert pin_snapshot(snapshot, pin, "dag/run 1", anew=True).read_text() == "two"  # it builds everything again
    publish(snapshot, "three")
    assert pin_snapshot(snapshot, pin, "dag/run 2").read_text() == "three"
    assert sorted(file.name for file in pin.parent.iterdir()) == ["source.duckdb", "source.run"]


def test_a_disk_without_hard_links_gets_a_copy(snapshot, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    pin = tmp_path / "pins" / "source.duckdb"

    assert pin_snapshot(snapshot, pin, "run").read_text() == "one"
    assert pin.stat().st_ino != snapshot.stat().st_ino


def test_a_missing_snapshot_says_where_it_was_expected(tmp_path):
    with pytest.raises(WarehouseConnectionInvalid, match=r"nowhere\.duckdb, found none; is the replicator running"):
        pin_snapshot(tmp_path / "nowhere.duckdb", tmp_path / "pins" / "x.duckdb", "run")


def test_more_than_one_attached_database_is_refused(tmp_path):
    warehouse = DuckDbConnection(tmp_path / "w" / "work.duckdb", tmp_path, {"a": tmp_path, "b": tmp_path})

    with pytest.raises(WarehouseConnectionInvalid, match="at most one database"):
        profile_environment(warehouse, threads=2, scratch=tmp_path, run_key="run")


def redshift(**kwargs):
    values = {
        "user": "dbt",
        "password": "tell-nobody",
        "iam": False,
        "workgroup": "analytics",
        "cluster": None,
        **kwargs,
    }
    return RedshiftConnection(
        host="h", port=5439, database="dev", region="eu-west-1", secret_arn=None, aws_conn_id="aws_default", **values
    )


@pytest.mark.parametrize(
    ("connection", "method"),
    [(redshift(), "database"), (redshift(iam=True), "iam"), (redshift(iam=True, user=None), "iam_role")],
)
def test_the_password_travels_only_in_the_variable_that_dbt_masks(connection, method, tmp_path):
    environment = profile_environment(connection, threads=8, scratch=tmp_path, run_key="run")

    assert environment["DBT_TARGET"] == "redshift"
    assert environment["DBT_REDSHIFT_METHOD"] == method
    holders = [name for name, value in environment.items() if value == "tell-nobody"]
    assert holders == ([] if connection.iam else ["DBT_ENV_SECRET_REDSHIFT_PASSWORD"])


def test_dbt_inherits_what_it_needs_and_no_secret():
    needed = {
        "PATH": "/bin",
        "HOME": "/home/airflow",
        "LC_ALL": "C.UTF-8",
        "AWS_REGION": "eu-west-1",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials",
        "SSL_CERT_FILE": "/ca.pem",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "127.0.0.1",
        "DATA_PLATFORM_RUN_ID": "by which the local supervisor finds dbt",
    }
    others = {
        "AIRFLOW_CONN_OTHER": "secret",
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "MWAA__DB__CREDENTIALS": "secret",
        "CELERY_BROKER_PASSWORD": "secret",
        "PYTHONPATH": "/airflow",
        "VIRTUAL_ENV": "/airflow",
        "DBT_FULL_REFRESH": "1",
    }

    assert inherited_environment({**needed, **others}) == needed


@pytest.mark.parametrize(("history_mode", "told"), [(True, []), (False, ["--vars", '{"history_mode": false}'])])
def test_every_dbt_command_is_told_when_history_mode_is_off(history_mode, told, tmp_path):
    variables = dbt_variables(Settings(zero_etl_history_mode=history_mode))
    dbt_that_keeps_its_arguments = tmp_path / "dbt"
    dbt_that_keeps_its_arguments.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    dbt_that_keeps_its_arguments.chmod(0o755)
    dbt = DbtProcess(
        dbt_that_keeps_its_arguments, tmp_path, tmp_path / "target", {"PATH": os.environ["PATH"]}, variables
    )

    for command in (lambda: dbt.run(["build"]), lambda: dbt.list_fqns([])):
        command()
        arguments = (tmp_path / "target" / "arguments").read_text().splitlines()
        at = arguments.index("--vars") if "--vars" in arguments else len(arguments)
        assert arguments[at : at + 2] == told


def test_a_try_does_not_resume_from_one_with_another_history_mode(tmp_path):
    assert project_fingerprint(tmp_path, {}) != project_fingerprint(tmp_path, {"history_mode": False})
