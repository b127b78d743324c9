"""The engine over whole objects: what is written where and how, what is set aside and why, and that the counts prove it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench.mapping.generate import write
from include.ingestion.ocsf import engine as engines
from include.ingestion.ocsf import parquet
from include.ingestion.ocsf.engine import Engine
from include.ingestion.ocsf.run import RequestRefused, main, run_request
from include.ingestion.sources import load_source, mapping_digest
from include.platform.paths import PROJECT_ROOT
from tests.include.ingestion.ocsf.engine_runs import Became, raw_of, rows_of, run_file, run_records

KEY = "AWSLogs/111122223333/network-firewall/flow/eu-west-1/edge/2024/05/01/10/a.log.gz"


def flow(**event: Any) -> bytes:
    """A Network Firewall flow."""
    whole = {
        "firewall_name": "edge",
        "availability_zone": "eu-west-1a",
        "event_timestamp": "1714557600",
        "event": {
            "timestamp": "2024-05-01T10:00:00.123456+0000",
            "flow_id": 7,
            "event_type": "netflow",
            "src_ip": "10.0.0.1",
            "src_port": 4711,
            "dest_ip": "192.0.2.1",
            "dest_port": 443,
            "proto": "TCP",
            "netflow": {"pkts": 1, "bytes": 60, "start": "2024-05-01T10:00:00Z", "end": "2024-05-01T10:00:00Z"},
            **event,
        },
    }
    return json.dumps(whole, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def firewall() -> Engine:
    return Engine(load_source("aws_network_firewall"))


@pytest.fixture(scope="module")
def sysmon() -> Engine:
    return Engine(load_source("windows_sysmon"))


def test_values_have_the_types_of_ocsf(firewall: Engine, tmp_path: Path):
    [row] = run_records(firewall, [flow(src_port="4711", netflow={"bytes": "60", "pkts": 1.0})], tmp_path).rows
    assert row["src_endpoint"] == {"ip": "10.0.0.1", "port": 4711}
    assert row["traffic"] == {"bytes": 60, "packets": 1}
    assert row["time"] == 1_714_557_600_123
    assert row["type_uid"] == 400_106


@pytest.mark.parametrize(
    ("event", "code", "said"),
    [
        ({"src_port": "http"}, "bad_value", "src_endpoint.port: expected port_t, found http"),
        ({"src_port": 70_000}, "invalid", "src_endpoint.port: expected 0 to 65535"),
        ({"src_ip": "10.0.0.256"}, "invalid", "src_endpoint.ip: expected ip_t"),
        ({"src_ip": None, "src_port": None}, "invalid", "src_endpoint: required by network_activity"),
        ({"timestamp": "yesterday"}, "bad_value", "time: expected timestamp_t, found yesterday"),
        ({"timestamp": "1601-01-01T00:00:00Z"}, "time_out_of_range", "from 2000-01-01 to before 2100-01-01"),
        ({"timestamp": "2262-04-12T00:00:00Z"}, "time_out_of_range", "found 2262-04-12"),
        ({"event_type": "stats"}, "unmapped_kind", "found stats"),
        ({"event_type": None}, "no_kind", "matched_field"),
    ],
)
def test_what_is_wrong_is_said(firewall: Engine, tmp_path: Path, event: dict[str, Any], code: str, said: str):
    raw = flow(**event)
    became = run_records(firewall, [flow(), raw, flow()], tmp_path)
    assert became.aside[2][0] == code
    assert said in became.aside[2][1]
    [letter] = became.letters
    assert raw_of(letter) == raw
    assert (letter["bucket"], letter["source"], letter["batch"]) == ("raw", "aws_network_firewall", "batch")
    assert became.counts.written == 2


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"event":{"event_type":"netflow"}', "not_json"),
        (flow().replace(b"4711", b"NaN"), "not_json"),
        (flow().replace(b"4711", b"-Infinity"), "not_json"),
        (flow()[:-1] + b",}", "not_json"),
        (b"[1,2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (flow().replace(b'"proto":"TCP"', b'"proto":"TCP","proto":"UDP"'), "duplicate_key"),
        (flow().replace(b"TCP", b"T\xffP"), "bad_encoding"),
    ],
)
def test_what_is_no_json_of_the_standard_is_set_aside(firewall: Engine, tmp_path: Path, raw: bytes, code: str):
    became = run_records(firewall, [raw, flow()], tmp_path)
    assert became.aside[1][0] == code
    assert raw_of(became.letters[0]) == raw
    assert became.counts.written == 1


def test_a_text_that_looks_like_loose_json_is_none(firewall: Engine, tmp_path: Path):
    raw = flow(app_proto='odd, ] : NaN , "nan" }')
    [row] = run_records(firewall, [raw], tmp_path).rows
    assert 'odd, ] : NaN , "nan" }' in row["unmapped"].values()


def test_what_the_mapping_does_not_read_is_kept(firewall: Engine, tmp_path: Path):
    raw = flow(
        **{"vlan": [1, 2], "new": {"deep": {"er": 1}}, "odd'; DROP TABLE parsed--": "x", "": "empty", "gone": None},
        netflow={"bytes": 1, "pkts": 1, "fresh": "y"},
    )
    other = flow(tcp="no object")
    first, second = run_records(firewall, [raw, other], tmp_path).rows
    kept = first["unmapped"]
    assert kept["event.vlan"] == "[1,2]"
    assert kept["event.new"] == '{"deep":{"er":1}}'
    assert kept["event.odd'; DROP TABLE parsed--"] == "x"
    assert kept["event."] == "empty"
    assert kept["event.netflow.fresh"] == "y"
    assert "event.gone" not in kept
    assert second["unmapped"]["event.tcp"] == "no object"


def test_deep_nesting_is_kept(firewall: Engine, tmp_path: Path):
    deep = "[" * 500 + "]" * 500
    raw = flow()[:-2] + b',"deep":' + deep.encode() + b"}}"
    [row] = run_records(firewall, [raw], tmp_path).rows
    assert row["unmapped"]["event.deep"] == deep


def test_keys_that_fall_on_one_name_are_numbered(firewall: Engine, tmp_path: Path):
    raw = flow(**{"netflow.fresh": "flat"}, netflow={"bytes": 1, "pkts": 1, "fresh": "deep"})
    [row] = run_records(firewall, [raw], tmp_path).rows
    assert {row["unmapped"]["event.netflow.fresh"], row["unmapped"]["event.netflow.fresh#2"]} == {"flat", "deep"}


def test_ipv6_and_zones(firewall: Engine, tmp_path: Path):
    raw = flow(src_ip="2001:db8::1", timestamp="2024-05-01T15:30:00.5+05:30")
    [row] = run_records(firewall, [raw], tmp_path).rows
    assert row["src_endpoint"]["ip"] == "2001:db8::1"
    assert row["time"] == 1_714_557_600_500


def test_the_day_is_the_utc_one_of_the_event(firewall: Engine, tmp_path: Path):
    times = ["2024-05-01T23:59:59.999Z", "2024-05-02T00:00:00Z", "2024-05-02T01:00:00+02:00", "2024-04-01T12:00:00Z"]
    became = run_records(firewall, [flow(timestamp=one) for one in times], tmp_path)
    assert {output.partition.event_day: output.rows for output in became.outputs} == {
        "20240401": 1,
        "20240501": 2,
        "20240502": 1,
    }
    for output in became.outputs:
        for row in rows_of(output.path):
            assert f"{datetime.fromtimestamp(row['time'] / 1000, UTC):%Y%m%d}" == output.partition.event_day


def test_one_class_an_object(sysmon: Engine, tmp_path: Path):
    became = run_file(sysmon, sysmon.source.folder / "samples" / "flat.jsonl", tmp_path / "out")
    assert len(became.counts.classes) > 4
    assert sum(became.counts.classes.values()) == became.counts.written == became.counts.read
    for output in became.outputs:
        assert {row["class_name"] for row in rows_of(output.path)} == {
            row["class_name"] for row in rows_of(output.path)[:1]
        }


def test_objects_are_as_security_lake_wants_them(firewall: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "CHUNK_RECORDS", 4_000)
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 4 << 20)
    path = tmp_path / "flows.log.gz"
    write(path, 20_000, seed=3)
    became = run_file(firewall, path, tmp_path / "out")
    assert became.counts.written == became.counts.read == 20_000
    assert not became.aside
    for output in became.outputs:
        file = pq.ParquetFile(output.path)
        times = file.read(["time"]).column("time").to_pylist()
        assert times == sorted(times)
        assert (times[0], times[-1], len(times)) == (output.time_min, output.time_max, output.rows)
        assert file.num_row_groups > 1
        for group in range(file.num_row_groups):
            for column in range(file.metadata.num_columns):
                assert file.metadata.row_group(group).column(column).compression == "ZSTD"


def test_the_window_bounds_an_object(firewall: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "CHUNK_RECORDS", 1_000)
    monkeypatch.setattr(parquet.PartitionedWriter, "__init__", _small_window(parquet.PartitionedWriter.__init__))
    path = tmp_path / "flows.log.gz"
    write(path, 8_000, seed=4)
    became = run_file(firewall, path, tmp_path / "out")
    assert len(became.outputs) > 3
    assert sum(output.rows for output in became.outputs) == 8_000


def _small_window(init: Any) -> Any:
    def small(self: parquet.PartitionedWriter, folder: Path, prefix: str) -> None:
        init(self, folder, prefix, window_bytes=1 << 20, total_bytes=2 << 20)

    return small


def test_chunks_change_nothing(sysmon: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = sysmon.source.folder / "samples" / "flat.jsonl"
    whole = run_file(sysmon, path, tmp_path / "whole")
    monkeypatch.setattr(engines, "CHUNK_RECORDS", 7)
    parts = run_file(sysmon, path, tmp_path / "parts")
    assert _texts(parts) == _texts(whole)
    assert parts.counts.read == whole.counts.read


def _texts(became: Became) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for row in became.rows)


def test_account_and_region_come_from_the_key_or_are_the_default(firewall: Engine, tmp_path: Path):
    known = run_records(firewall, [flow()], tmp_path / "a", key_account="111122223333")
    assert known.outputs[0].partition.account_id == "111122223333"
    default = run_records(firewall, [flow()], tmp_path / "b")
    assert (default.outputs[0].partition.account_id, default.outputs[0].partition.region) == (
        "external",
        "eu-central-1",
    )
    hostile = run_records(firewall, [flow()], tmp_path / "c", key_account="../../etc", account=None)
    assert hostile.aside[1][0] == "no_account"
    assert not hostile.outputs


def test_a_truncated_object_gives_what_is_whole(firewall: Engine, tmp_path: Path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"\n".join([flow()] * 50))[:-40])
    became = run_file(firewall, path, tmp_path / "out")
    assert became.counts.read == became.counts.written + 1
    assert list(became.counts.reasons) == ["truncated"]


def test_an_empty_object_is_no_fault(firewall: Engine, tmp_path: Path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    became = run_file(firewall, path, tmp_path / "out")
    assert (became.counts.read, became.outputs, became.letters) == (0, [], [])


def test_a_huge_line_is_kept_in_pieces(firewall: Engine, tmp_path: Path):
    huge = b'{"x":"' + b"a" * (20 << 20) + b'"}'
    became = run_records(firewall, [flow(), huge, flow()], tmp_path)
    assert became.counts.reasons == Counter(record_too_long=1)
    assert (became.counts.read, became.counts.written) == (3, 2)
    assert b"".join(raw_of(letter) for letter in became.letters) == huge
    assert [letter["piece"] for letter in became.letters] == list(range(1, len(became.letters) + 1))
    assert became.letters[-1]["pieces"] == len(became.letters)


def test_replayed_records_are_read_as_they_are(tmp_path: Path):
    balancer = Engine(load_source("aws_alb"))
    sample = (balancer.source.folder / "samples" / "requests.log").read_bytes()
    path = tmp_path / "replay"
    path.write_bytes(sample)
    assert run_file(balancer, path, tmp_path / "out", replayed=True).counts.written > 3


# --- the command ---------------------------------------------------------------------------------------------------------------------


def request(tmp_path: Path, count: int, **more: Any) -> dict[str, Any]:
    objects = []
    for place in range(count):
        path = tmp_path / f"{place}.gz"
        write(path, 300 + 50 * place, seed=place)
        objects.append(
            {
                "path": str(path),
                "bucket": "raw",
                "key": KEY,
                "version_id": f"v{place}",
                "etag": "e",
                "size": path.stat().st_size,
            }
        )
    return {"source": "aws_network_firewall", "batch": "b", "objects": objects, "out": str(tmp_path / "out"), **more}


def test_lanes_change_nothing_but_the_files(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = run_request(request(tmp_path / "one", 5, threads=1))
    two = run_request(request(tmp_path / "two", 5, threads=2))
    for key in ("read", "written", "set_aside", "classes", "reasons", "objects"):
        assert one[key] == two[key]
    assert {output["account_id"] for output in two["outputs"]} == {"111122223333"}
    assert {output["region"] for output in two["outputs"]} == {"eu-west-1"}
    assert [output["part"] for output in two["outputs"]] == list(range(len(two["outputs"])))
    texts = [
        Counter(
            json.dumps(row, sort_keys=True) for output in result["outputs"] for row in rows_of(Path(output["path"]))
        )
        for result in (one, two)
    ]
    assert texts[0] == texts[1]


def test_the_same_request_writes_the_same_files(tmp_path: Path):
    asked = request(tmp_path, 3)
    first = [Path(output["path"]).read_bytes() for output in run_request(asked)["outputs"]]
    second = [Path(output["path"]).read_bytes() for output in run_request(asked)["outputs"]]
    assert first == second


def test_a_mapping_that_changed_is_refused(tmp_path: Path):
    with pytest.raises(RequestRefused, match="changed on the way"):
        run_request(request(tmp_path, 1, mapping_digest="another"))
    assert not (tmp_path / "out" / "result.json").exists()
    digest = mapping_digest(load_source("aws_network_firewall"))
    assert run_request(request(tmp_path, 1, mapping_digest=digest))["mapping_digest"] == digest


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request(tmp_path, 1, source="windows_sysmonn")))
    assert main([str(file)]) == 1
    assert "windows_sysmon" in capsys.readouterr().err
    assert main([]) == 2


def test_the_command_tells_a_full_disk(tmp_path: Path):
    file = tmp_path / "request.json"
    asked = request(tmp_path, 1)
    file.write_text(json.dumps(asked))
    # A file size limit is the nearest that a process can do to a disk that is full: the write fails midway.
    limited = (
        "import errno, runpy, sys, pyarrow.parquet as pq\n"
        "def full(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "pq.write_table = full\n"
        f"sys.argv = ['run', {str(file)!r}]\n"
        "runpy.run_module('include.ingestion.ocsf.run', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 28
    assert "No space left on device" in done.stderr
    assert not (tmp_path / "out" / "result.json").exists()


def test_counts_that_do_not_add_up_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, firewall: Engine):
    monkeypatch.setattr(engines, "split", lambda *_: iter(()))
    with pytest.raises(RuntimeError, match=r"expected read = written \+ set aside"):
        run_records(firewall, [flow()], tmp_path)


# --- the AWS library's own format ------------------------------------------------------------------------------------------------------


def aws_source(folder: Path, schema_mapping: dict[str, Any]) -> Engine:
    """A source whose mapping has nothing but what the AWS library knows."""
    home = folder / "sources" / "plain_flows"
    home.mkdir(parents=True)
    (home / "source.yaml").write_text(
        'name: plain_flows\ntitle: Flows\nowner: team\nocsf_version: "1.1.0"\nobjects: [{key: ".*"}]\nformat: json_lines\n'
    )
    events = {
        "source_name": "plain-flows",
        "matched_field": "$.kind",
        "timestamp": {"field": "$.at", "format": "%d/%m/%Y %H:%M:%S"},
        "ocsf_mapping": {"flow": {"schema": "network_activity", "schema_mapping": schema_mapping}},
    }
    (home / "mapping.json").write_text(json.dumps({"custom_source_events": events}))
    return Engine(load_source("plain_flows", folder / "sources"))


AWS_MAPPING: dict[str, Any] = {
    "metadata": {"profiles": "cloud,host", "version": "v1.1.0", "product": {"name": "P", "vendor_name": "V"}},
    "cloud": {"provider": "AWS"},
    "severity": "Informational",
    "severity_id": 1,
    "category_uid": 4,
    "class_uid": 4001,
    "type_uid": 400106,
    "activity_id": {"enum": {"evaluate": "$.verb", "values": {"open": 1, "close": "2"}, "other": 99}},
    "time": "$.at",
    "src_endpoint": {"ip": "$.from.ip", "port": "$.from.port"},
    "dst_endpoint": {"ip": "$.to.ip", "instance_uid": "$.UserDefined.host"},
    "unmapped": {"nested": {"verb": "$.verb"}},
}


def test_a_mapping_of_the_aws_library_loads_unchanged(tmp_path: Path):
    engine = aws_source(tmp_path, AWS_MAPPING)
    event = {
        "kind": "flow",
        "verb": "close",
        "at": "01/05/2024 10:00:00",
        "from": {"ip": "10.0.0.1", "port": "80"},
        "to": {"ip": "10.0.0.2"},
        "host": "i-1",
        "more": True,
    }
    [row] = run_records(engine, [json.dumps(event).encode()], tmp_path).rows
    assert row["metadata"] == {
        "profiles": ["cloud", "host"],
        "version": "1.1.0",
        "product": {"name": "P", "vendor_name": "V"},
    }
    assert row["time"] == 1_714_557_600_000
    assert row["activity_id"] == 2
    assert row["src_endpoint"] == {"ip": "10.0.0.1", "port": 80}
    assert row["dst_endpoint"] == {"ip": "10.0.0.2", "instance_uid": "i-1"}
    assert row["unmapped"] == {"nested.verb": "close", "more": "true"}


def test_what_stays_invalid_in_it_is_set_aside_with_its_reason(tmp_path: Path):
    engine = aws_source(tmp_path, {**AWS_MAPPING, "app": "x"})
    assert engine.plan.kinds["flow"].broken == ("app: not an attribute of network_activity in OCSF 1.1.0",)
    became = run_records(engine, [b'{"kind":"flow","at":"01/05/2024 10:00:00"}'], tmp_path)
    assert became.aside[1] == ("invalid", "app: not an attribute of network_activity in OCSF 1.1.0")
