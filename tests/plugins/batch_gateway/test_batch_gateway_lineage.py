"""What the job's conf says of the task above it, and what it must not say."""

from types import SimpleNamespace

import pytest

from data_platform.batch_gateway.lineage import with_lineage, without_secrets
from data_platform.lineage.config import transport_config

SECRETS = [
    "spark.openlineage.transport.auth.apiKey",
    "spark.openlineage.transport.auth.type",
    "spark.openlineage.transport.transports.catalog.auth.apiKey",
    "spark.openlineage.transport.headers.Authorization",
    "spark.openlineage.transport.transports.catalog.headers.X-Api-Key",
]


@pytest.fixture
def context(monkeypatch):
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.utils import spark

    monkeypatch.setattr(conf, "is_disabled", lambda: False)
    for name in ("lineage_job_name", "lineage_run_id", "lineage_root_run_id", "lineage_root_job_name"):
        monkeypatch.setattr(spark, name, lambda ti, name=name: f"{name} of {ti.task_id}")
    return {"ti": SimpleNamespace(task_id="submit")}


@pytest.fixture
def transport(monkeypatch):
    import json

    def use(option):
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))

    return use


def test_parent_and_root_parent_are_told(context):
    conf = with_lineage({"a": "b"}, context, parent=True, transport=False)
    assert conf["a"] == "b"
    assert conf["spark.openlineage.parentRunId"] == "lineage_run_id of submit"
    assert conf["spark.openlineage.parentJobName"] == "lineage_job_name of submit"
    assert conf["spark.openlineage.rootParentRunId"] == "lineage_root_run_id of submit"
    assert conf["spark.openlineage.rootParentJobName"] == "lineage_root_job_name of submit"
    assert not [key for key in conf if "transport" in key]


def test_the_job_tells_the_catalog_of_this_deployment(context, transport, tmp_path):
    transport(
        transport_config(spool=f"file://{tmp_path}", region="us-east-1", account_id="123456789012", domain_id="dzd_abc")
    )
    assert with_lineage({}, context, parent=False, transport=True) == {
        "spark.openlineage.transport.type": "amazon_datazone_api",
        "spark.openlineage.transport.domainId": "dzd_abc",
    }


def test_without_a_catalog_there_is_no_transport(context, transport, tmp_path):
    transport(transport_config(spool=f"file://{tmp_path}", region="us-east-1", account_id="123456789012"))
    assert with_lineage({}, context, parent=False, transport=True) == {}


def test_what_the_conf_says_itself_is_kept(context, transport, tmp_path):
    transport(
        transport_config(spool=f"file://{tmp_path}", region="us-east-1", account_id="123456789012", domain_id="dzd_abc")
    )
    own = {"spark.openlineage.transport.type": "console", "spark.openlineage.parentRunId": "own"}
    assert with_lineage(own, context, parent=True, transport=True) == own


def test_facts_that_can_not_be_found_do_not_stop_the_job(context, monkeypatch, caplog):
    from airflow.providers.openlineage.utils import spark

    def fail(ti):
        raise ValueError("no run id")

    monkeypatch.setattr(spark, "lineage_run_id", fail)
    assert with_lineage({"a": "b"}, context, parent=True, transport=False) == {"a": "b"}
    assert "no run id" in caplog.text


def test_nothing_is_told_where_openlineage_is_off():
    assert with_lineage({"a": "b"}, {}, parent=True, transport=True) == {"a": "b"}


def test_no_credential_goes_where_everybody_can_read_it(caplog):
    kept = {"spark.openlineage.transport.type": "http", "spark.openlineage.transport.url": "https://lineage"}
    told = without_secrets(kept | dict.fromkeys(SECRETS, "very-secret"))
    assert told == kept
    assert "OPENLINEAGE_CONFIG" in caplog.text
    assert SECRETS[-1] in caplog.text
    assert "very-secret" not in caplog.text
