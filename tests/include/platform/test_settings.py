from __future__ import annotations

from pathlib import Path

import pytest

from include.platform.settings import DbtExecution, Settings, SettingsError, load_settings


def test_nothing_set_gives_the_documented_defaults():
    assert load_settings({}) == Settings()


def test_options_are_read_from_airflows_configuration_variables():
    settings = load_settings(
        {
            "AIRFLOW__DATA_PLATFORM__BUCKET": "acme-data",
            "AIRFLOW__DATA_PLATFORM__DBT_EXECUTION": "watcher",
            "AIRFLOW__DATA_PLATFORM__DBT_THREADS": "8",
            "AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV": "/opt/warehouse",
        }
    )
    assert settings.bucket == "acme-data"
    assert settings.dbt_execution is DbtExecution.WATCHER
    assert settings.dbt_threads == 8
    assert settings.dbt_executable == Path("/opt/warehouse/bin/dbt")


def test_a_switch_is_read_as_airflow_spells_it():
    assert load_settings({"AIRFLOW__DATA_PLATFORM__ZERO_ETL_HISTORY_MODE": "False"}).zero_etl_history_mode is False
    assert load_settings({"AIRFLOW__DATA_PLATFORM__ZERO_ETL_HISTORY_MODE": "t"}).zero_etl_history_mode is True


def test_an_empty_option_counts_as_not_set():
    assert load_settings({"AIRFLOW__DATA_PLATFORM__BUCKET": ""}).bucket == Settings().bucket


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("DBT_EXECUTION", "celery", r"dbt_execution: expected one of \['graph', 'watcher', 'local'\], found 'celery'"),
        ("DBT_THREADS", "many", "dbt_threads: expected a value of type int, found 'many'"),
        ("ZERO_ETL_HISTORY_MODE", "perhaps", "zero_etl_history_mode: expected true or false, found 'perhaps'"),
        ("DBT_THREADS", "0", "dbt_threads: expected a number above 0, found 0"),
        ("ZERO_ETL_POLL_SECONDS", "-1", "zero_etl_poll_seconds: expected a number above 0"),
    ],
)
def test_a_bad_option_is_refused_with_its_name_and_value(option, value, message):
    with pytest.raises(SettingsError, match=message):
        load_settings({f"AIRFLOW__DATA_PLATFORM__{option}": value})
