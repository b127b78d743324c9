"""Names that have to stand in several places, because those can't import each other: here they are held to be the same."""

from __future__ import annotations

import json
import re

import yaml

from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aws.ingestion_names import queue_url
from include.local.environment import ASTRO_STATE, airflow_environment, lineage_transport
from include.local.layout import DEFAULT_PORTS, Layout
from include.local.mwaa.wheels import airflow_lock
from include.local.tickit.schema import DATABASE
from include.platform.airflow_settings import load_airflow_settings
from include.platform.assets import TICKIT_CHECKPOINT
from include.platform.settings import Settings


def test_the_integrations_database_and_schema(project_root):
    models = project_root / "dbt_project" / "models" / "staging" / "tickit"
    [source] = yaml.safe_load((models / "_tickit__sources.yml").read_text())["sources"]
    settings = load_airflow_settings(project_root / "airflow_settings.yaml")
    extra = {connection.conn_id: connection.extra for connection in settings.connections}
    profile = (project_root / "dbt_project" / "profiles.yml").read_text()

    assert TICKIT_CHECKPOINT.uri == f"x-zero-etl://{TARGET_DATABASE}/{DATABASE}"
    assert (source["database"], source["schema"]) == (TARGET_DATABASE, DATABASE)
    assert extra["zero_etl_tickit"]["target_database"] == TARGET_DATABASE
    assert extra["zero_etl_tickit"]["source_database"] == DATABASE
    assert list(extra["warehouse_build"]["attach"]) == [TARGET_DATABASE]
    assert re.findall(r"alias: (\w+)", profile) == [TARGET_DATABASE]


def test_the_version_whose_constraints_the_lock_is_compiled_within(project_root):
    version = airflow_lock(project_root).pins["apache-airflow"]
    lock = (project_root / "include" / "local" / "lock.sh").read_text()
    assert re.findall(r"MWAA_CONSTRAINTS:-\S+/constraints-([\d.]+)/constraints-3\.12\.txt}", lock) == [version]


def test_the_bucket_that_is_written_and_read_by_default():
    from data_platform.pages import DEFAULT_BUCKET

    assert Settings().bucket == DEFAULT_BUCKET


def test_the_image_and_the_laptop_set_the_same(project_root, tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV")
    monkeypatch.delenv("AIRFLOW__DATA_PLATFORM__SCRATCH_DIR")
    laptop = airflow_environment(Layout(tmp_path), DEFAULT_PORTS)
    image = dict(re.findall(r"(AIRFLOW__\w+)=(\S+)", (project_root / "Dockerfile").read_text()))
    queue = "AIRFLOW__DATA_PLATFORM__INGESTION_QUEUE_URL"
    own = {"AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV", "AIRFLOW__OPENLINEAGE__TRANSPORT", queue}
    assert image[queue] == queue_url(f"http://platform:{DEFAULT_PORTS['aws']}")
    assert len(image) > len(own)
    assert {name: laptop[name] for name in image if name not in own} == {
        name: value for name, value in image.items() if name not in own
    }


def test_the_data_lakes_bucket():
    from include.local.aws.ingestion_names import LAKE_BUCKET
    from include.local.aws.security_lake import backend

    assert backend().bucket == LAKE_BUCKET


def test_the_images_lineage_goes_where_the_platform_service_listens(project_root):
    """As the laptop's, but for folder and host, which are Astro's."""
    [transport] = re.findall(r"AIRFLOW__OPENLINEAGE__TRANSPORT='(.+)'", (project_root / "Dockerfile").read_text())
    wanted = lineage_transport(f"file://{ASTRO_STATE}/lineage", f"http://platform:{DEFAULT_PORTS['catalog']}")
    assert json.loads(transport) == wanted
