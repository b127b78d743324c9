"""The ingestion's DAGs end to end on the local platform: real queue, real doorbell, real engine."""

from __future__ import annotations

import pytest

from include.local.demo.ingestion import INGEST, Aws, run_ingestion
from include.platform.airflow_api import AirflowApiError

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def told(platform):
    """What the demo's part has shown: it counts everything twice, and fails where that differs."""
    return run_ingestion(platform.runs, platform.layout)


@pytest.fixture(scope="module")
def aws(platform, told):
    return Aws(platform.state.ports["aws"])


def test_every_source_comes_in_and_nothing_is_lost(told):
    assert set(told["sources"]) == {"aws_alb", "aws_network_firewall", "suricata", "windows_sysmon"}
    for source, counts in told["sources"].items():
        assert counts["written"] > 0, source
        assert counts["set_aside"] > 0, source
        assert counts["read"] == counts["written"] + counts["set_aside"], source
    assert sum(told["custom_sources"].values()) == told["written"]


def test_notices_that_come_twice_change_nothing(told):
    assert told["sent_again"] == {"notices": told["objects"], "known": told["objects"], "new": 0}


def test_dead_letters_come_back_and_are_none_fewer(told):
    assert told["replayed"]["records"] == told["replayed"]["written"] + told["replayed"]["set_aside"]
    assert told["replayed"]["set_aside"] > 0


def test_each_custom_source_that_was_written_to_is_an_asset_event_and_a_table_with_its_partitions(platform, told, aws):
    events = platform.api.request("GET", "/assets/events", params={"source_dag_id": INGEST, "limit": 100})[
        "asset_events"
    ]
    rows = {}
    for event in events:
        if event["uri"].startswith("x-security-lake://"):
            name = event["uri"].removeprefix("x-security-lake://")
            rows[name] = rows.get(name, 0) + event["extra"]["rows"]
    assert rows == told["custom_sources"]
    for name in rows:
        table = f"amazon_security_lake_table_us_east_1_ext_{name}".replace("-", "_")
        partitions = aws.glue.get_partitions(DatabaseName="amazon_security_lake_glue_db_us_east_1", TableName=table)[
            "Partitions"
        ]
        assert partitions, name


def test_a_day_of_the_raw_buckets_listed_again_is_known(platform, told, aws):
    [first, *_] = aws.s3.list_objects_v2(Bucket="data-platform-raw")["Contents"]
    run = platform.runs.run(INGEST, {"day": first["LastModified"].date().isoformat(), "source": "suricata"})
    path = f"/dags/{INGEST}/dagRuns/{run.run_id}/taskInstances/receive_objects/xcomEntries/return_value"
    assert '"new": 0' in str(platform.api.request("GET", path)["value"]).replace("'", '"')
    with pytest.raises(AirflowApiError):  # nothing to do: no summary
        platform.api.request("GET", path.replace("receive_objects", "summarise"))


def test_small_objects_are_compacted_without_a_row_lost(platform, aws):
    before, objects = aws.events(), len(aws.objects(aws_bucket(), "ext/"))
    platform.runs.run("compact_security_lake", {"grace_hours": 0, "oldest_day": "2000-01-01", "source": "suricata"})
    assert aws.events() == before
    assert len(aws.objects(aws_bucket(), "ext/")) <= objects


def aws_bucket():
    from include.local.aws.ingestion_names import LAKE_BUCKET

    return LAKE_BUCKET
