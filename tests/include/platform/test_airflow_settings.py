from __future__ import annotations

import pytest

from include.platform.airflow_settings import AirflowSettingsError, load_airflow_settings, parse_airflow_settings


def test_the_committed_file_is_read_whole(project_root):
    settings = load_airflow_settings(project_root / "airflow_settings.yaml")
    assert {c.conn_id for c in settings.connections} >= {
        "aws_default",
        "warehouse_build",
        "zero_etl_tickit",
        "airflow_api",
    }
    assert [(p.name, p.slots) for p in settings.pools] == [
        ("warehouse_build", 1),
        ("spark_submissions", 3),
        ("tenant_copies", 4),
        ("security_lake", 1),
        ("ingest_aws_alb", 2),
        ("ingest_aws_network_firewall", 2),
        ("ingest_suricata", 2),
        ("ingest_windows_sysmon", 2),
    ]


def test_the_committed_file_holds_no_password_but_the_stand_ins(project_root):
    settings = load_airflow_settings(project_root / "airflow_settings.yaml")
    assert {c.password for c in settings.connections} <= {None, "not-a-secret"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("airflow: [", "expected YAML"),
        ("connections: []", "with the key 'airflow'"),
        ("airflow: {connections: [{conn_type: aws}]}", "connection 1: expected conn_id, found none"),
        ("airflow: {pools: [{pool_name: a, pool_slot: 1}, {pool_name: b}]}", "pool 2: expected pool_slot, found none"),
    ],
)
def test_a_malformed_file_is_refused_with_the_entry(text, message):
    with pytest.raises(AirflowSettingsError, match=message):
        parse_airflow_settings(text)


def test_a_password_is_not_shown_by_repr():
    text = "airflow: {connections: [{conn_id: a, conn_type: http, conn_password: hunter2}]}"
    assert "hunter2" not in repr(parse_airflow_settings(text))
