"""A batch for a cluster: its request, its submission, and what is fetched of its job."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_platform.batch_gateway.spec import JobSpec
from include.ingestion.processing import EngineFailed, InputObject, ProcessRequest, ResultInvalid
from include.ingestion.spark_processing import SparkBatch, collect, job_spec, prepare
from include.spark.placement import PlacedJob

PLACE = SparkBatch("aws_network_firewall", "batch-1", "platform")
OUT = "ingestion/spark/source=aws_network_firewall/batch-1/out"


class Missing(Exception):
    response: ClassVar = {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}


class Store(dict[str, bytes]):
    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> None:
        self[f"{Bucket}/{Key}"] = Body

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if f"{Bucket}/{Key}" not in self:
            raise Missing
        return {"Body": io.BytesIO(self[f"{Bucket}/{Key}"])}


def request(out: Path, **more: Any) -> ProcessRequest:
    item = InputObject(Path("/nowhere"), "logs", "a.log", "v1", "e", 10)
    return ProcessRequest("aws_network_firewall", "batch-1", [item], out, **more)


@pytest.mark.skipif(importlib.util.find_spec("ocsf_json_schema") is None, reason="no OCSF schemas in this environment")
def test_the_request_has_all_that_a_cluster_needs(tmp_path):
    store = Store()
    prepare(request(tmp_path / "out"), PLACE, store, region="eu-central-1", python=Path(sys.executable))
    asked = json.loads(store[f"platform/{PLACE.request_key}"])
    assert asked["out"] == f"s3://platform/{OUT}"
    [item] = asked["objects"]
    assert (item["path"], item["bucket"], item["key"], item["version_id"]) == (None, "logs", "a.log", "v1")
    assert {kind["value"] for kind in asked["plan"]["kinds"]} >= {"alert", "netflow"}
    assert "'eu-central-1'" in json.dumps(asked["plan"]["parsed"])


@pytest.mark.skipif(importlib.util.find_spec("ocsf_json_schema") is None, reason="no OCSF schemas in this environment")
def test_another_mapping_than_planned_is_refused(tmp_path):
    store = Store()
    with pytest.raises(EngineFailed, match="RequestRefused: expected the mapping old"):
        prepare(
            request(tmp_path / "out", mapping_digest="old"),
            PLACE,
            store,
            region="us-east-1",
            python=Path(sys.executable),
        )
    assert not store


def test_the_gateway_takes_the_job():
    placed = PlacedJob(
        "map_ocsf", "d", "s3://platform/spark/jobs/map_ocsf/d/map_ocsf.py", ("s3://platform/modules.zip",)
    )
    spec = job_spec(PLACE, placed, stored_bytes=6 << 30)
    JobSpec.read(spec)
    assert spec["arguments"] == ["--request", f"s3://platform/{PLACE.prefix}/request.json"]
    assert spec["executor"]["instances"] == 12


def result(**more: Any) -> dict[str, Any]:
    output = {
        "path": f"s3://platform/{OUT}/events-00000.parquet",
        "class": "network_activity",
        "region": "eu-central-1",
        "account_id": "external",
        "event_day": "20240501",
        "part": 0,
        "rows": 2,
        "bytes": 6,
        "time_min": 1,
        "time_max": 2,
    }
    return {
        "read": 3,
        "written": 2,
        "set_aside": 1,
        "reasons": {"not_json": 1},
        "classes": {"network_activity": 2},
        "bytes_read": 10,
        "seconds": 1.5,
        "mapping_digest": "d",
        "outputs": [output],
        "dead_letters": [{"path": f"s3://platform/{OUT}/dead-letters-00000.jsonl.gz", "records": 1}],
        "objects": [{"key": "a.log", "version_id": "v1", "read": 3, "written": 2, "set_aside": 1}],
        **more,
    }


def store_with(told: dict[str, Any]) -> Store:
    names = {
        "events-00000.parquet": b"events",
        "dead-letters-00000.jsonl.gz": b"letters",
        "result.json": json.dumps(told).encode(),
    }
    return Store({f"platform/{OUT}/{name}": content for name, content in names.items()})


def test_what_the_job_wrote_is_fetched(tmp_path):
    found = collect(request(tmp_path), PLACE, store_with(result()))
    assert (found.read, found.written, found.set_aside) == (3, 2, 1)
    assert found.outputs[0].path.read_bytes() == b"events"
    assert found.dead_letters[0].path.read_bytes() == b"letters"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (result(read=4), "read is 4, written \\+ set_aside is 3"),
        (result(outputs=[result()["outputs"][0] | {"path": "s3://other/a.parquet"}]), "expected files below"),
        (result(outputs=[result()["outputs"][0] | {"bytes": 5}]), "has 6 bytes, not 5"),
    ],
)
def test_a_result_that_does_not_add_up_is_refused(tmp_path, told, message):
    with pytest.raises(ResultInvalid, match=message):
        collect(request(tmp_path), PLACE, store_with(told))


def test_a_job_without_a_result_is_refused(tmp_path):
    with pytest.raises(ResultInvalid, match="its driver's log says why"):
        collect(request(tmp_path), PLACE, Store())
