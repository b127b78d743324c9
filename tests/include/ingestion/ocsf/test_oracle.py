"""The shipped mappings as the per-event mapper has them: what they map, to which class, and that nothing gets lost.

The real events are read from the folder that `DATA_PLATFORM_SHARED_DATA` names.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq
import pytest

from bench.mapping.generate import events, write
from bench.mapping.per_event import Mapped, MappingFault, PerEventMapper, SetAside
from include.platform.paths import PROJECT_ROOT
from tests.include.ingestion.ocsf.mutate import mutants

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = PROJECT_ROOT / "include" / "ingestion" / "sources"
SHIPPED = ("aws_alb", "aws_network_firewall", "suricata", "windows_sysmon")

SYSMON_CLASSES = {
    **{str(event): "process_activity" for event in (1, 5, 8, 10, 25)},
    **{str(event): "file_activity" for event in (2, 9, 11, 12, 13, 14, 15, 17, 18, 23, 24, 26, 27, 28, 29)},
    **{str(event): "application_lifecycle" for event in (4, 16, 255)},
    **{str(event): "entity_management" for event in (19, 20, 21)},
    "3": "network_activity",
    "6": "kernel_extension",
    "7": "module_activity",
    "22": "dns_activity",
}
POST_CLASSES = {
    **{str(event): "process_activity" for event in (1, 4, 5, 7, 10, 16, 19, 20, 21, 25, 255)},
    **{str(event): "file_activity" for event in (2, 11, 12, 13, 14, 15, 17, 18, 23, 24, 26, 27, 28, 29)},
    "3": "network_activity",
    "6": "kernel_activity",
    "8": "network_activity",
    "9": "memory_activity",
    "22": "dns_activity",
}
"""Table 1 of the post."""
SAMPLE_CLASSES = {
    ("aws_alb", "requests.log"): ["http_activity"] * 9,
    ("aws_network_firewall", "alert.jsonl"): ["network_activity"] * 3,
    ("aws_network_firewall", "netflow.jsonl"): ["network_activity"] * 5,
    ("aws_network_firewall", "tls.jsonl"): ["network_activity"] * 3,
    ("suricata", "eve.jsonl"): [
        *["network_activity"] * 6,
        *["dns_activity"] * 4,
        *["http_activity"] * 2,
        *["network_activity"] * 2,
        *("network_file_activity", "ssh_activity", "smb_activity", "network_activity"),
        *("dns_activity", "network_file_activity", "ssh_activity", "smb_activity", "smb_activity"),
    ],
    ("suricata", "protocols.jsonl"): [*["network_activity"] * 7, "http_activity", *["network_activity"] * 12],
}
"""By source and file, in the order of the events; Sysmon's are known by their event id."""
BAD_CODES = {
    "aws_alb": ["bad_value", "invalid", "invalid", "no_time", "bad_value", "bad_row"],
    "aws_network_firewall": [
        *(
            "not_json",
            "bad_value",
            "invalid",
            "no_time",
            "time_out_of_range",
            "duplicate_key",
            "unmapped_kind",
            "no_kind",
        ),
        *("not_json", "not_an_object"),
    ],
    "suricata": ["unmapped_kind", "invalid", "bad_value", "invalid", "time_out_of_range", "duplicate_key", "no_kind"],
    "windows_sysmon": [
        *(
            "unmapped_kind",
            "invalid",
            "bad_value",
            "bad_value",
            "no_time",
            "time_out_of_range",
            "no_kind",
            "duplicate_key",
        ),
    ],
}
REAL = {
    "aws_network_firewall": (("network_firewall/aws_mapping_doc_netflow.jsonl", 1),),
    "suricata": (("suricata/honeypot-2018.alerts.jsonl", 44), ("suricata/wrccdc-2017.alerts.jsonl", 161)),
    "windows_sysmon": (
        ("sysmon/covenant_lolbin_wuauclt_createremotethread_2020-10-12183248.sysmon.jsonl", 761),
        ("sysmon/sampler_by_event_id.sysmon.jsonl", 986),
    ),
}
TOLERATED: dict[str, dict[str, int]] = {"aws_network_firewall": {}, "suricata": {}, "windows_sysmon": {}}
"""How many of the real events are set aside, by reason: none, so none needs a justification."""
TRANSLATED = {
    "aws_alb": {
        "client_port",  # an address and a port
        "request",  # a method, a URL and a version
        "request_creation_time",  # to the millisecond, as the class has it
    },
    "aws_network_firewall": {
        "tcp_flags",  # hexadecimal; decimal in connection_info.tcp_flags
        "event_timestamp",  # seconds; metadata.logged_time
        "start",  # to the millisecond, as the class has it
        "end",  # likewise
        "proto",  # lower case
    },
    "suricata": {
        *("start", "end", "notbefore", "notafter", "proto"),  # as above
        "severity",  # severity and its id
        "protocol",  # HTTP/1.1: http_request.version has the number
        "disposition",  # FILE_OPEN: activity_id and activity_name
        "type",  # of DNS: activity_id; of the event: metadata.event_code
    },
    "windows_sysmon": {
        "User",  # a domain and a name
        *("SourceUser", "TargetUser", "ParentUser"),
        *("Hashes", "Hash"),  # a list of fingerprints
        "Initiated",  # the connection's direction
        *("CreationUtcTime", "@timestamp", "TimeGenerated"),  # times
        "GrantedAccess",  # hexadecimal; decimal in actual_permissions
    },
}
"""Fields whose text is not in the record as it was, because an attribute has another form for it."""


@cache
def mapper(source: str) -> PerEventMapper:
    return PerEventMapper(SOURCES / source)


def records(source: str, path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(mapper(source).records(file))


def samples(source: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted((SOURCES / source / "samples").iterdir()):
        if not path.name.startswith("bad."):
            for raw in records(source, path):
                yield path.name, raw


def mapped(source: str, raw: bytes) -> Mapped:
    found = mapper(source).map_validated(raw)
    assert isinstance(found, Mapped), (found, raw[:2000])
    return found


def real(source: str) -> Iterator[tuple[str, int, list[bytes]]]:
    folder = os.environ.get("DATA_PLATFORM_SHARED_DATA")
    if not folder:
        pytest.skip("DATA_PLATFORM_SHARED_DATA does not name the folder of the real events")
    for name, count in REAL[source]:
        yield name, count, records(source, Path(folder) / name)


def event_id(raw: bytes) -> str:
    event = json.loads(raw)
    return str(next(event[name] for name in ("EventID", "event_id", "EventId") if name in event))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The scalars of an event that are there, by the last key on the way."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, name)
    elif value is not None:
        yield name, json.dumps(value) if isinstance(value, bool) else str(value)


def texts(value: Any) -> Iterator[str]:
    for _, text in leaves(value):
        yield text
        if text.startswith(("{", "[")):
            yield from _inner(text)


def _inner(text: str) -> Iterator[str]:
    try:
        yield from texts(json.loads(text))
    except ValueError:
        return


def event_of(source: str, raw: bytes) -> dict[str, Any]:
    """An event with the texts that hold a document of their own taken apart."""
    if source == "aws_alb":
        columns = mapper(source).source["csv"]["columns"]
        fields = re.findall(r'"[^"]*"|\S+', raw.decode())
        return {name: field.strip('"') for name, field in zip(columns, fields, strict=False)}
    event: dict[str, Any] = json.loads(raw, parse_float=str)
    if source == "windows_sysmon":
        if isinstance(event.get("EventData"), str):
            event["EventData"] = json.loads(event["EventData"])
        if "\nUtcTime: " in event.get("Description", ""):
            lines = re.split(r"\r?\n", event["Description"])
            event["Description"] = dict(line.split(": ", 1) for line in lines if ": " in line)
    return event


def lost(source: str, raw: bytes, found: Mapped) -> list[tuple[str, str]]:
    """What of an event is neither in its record nor in what is unmapped. The message tells all of a Sysmon event, so it doesn't count."""
    record = dict(found.record)
    message = record.pop("message", "") if source == "windows_sysmon" else ""
    there = {*texts(record), *texts(found.unmapped), message}
    missing = mapper(source).missing
    return [
        (name, text)
        for name, text in leaves(event_of(source, raw))
        if text not in there and text not in missing and name not in TRANSLATED[source]
    ]


def test_every_sample_has_its_class():
    for source in SHIPPED:
        by_file: dict[str, list[str]] = {}
        for name, raw in samples(source):
            found = mapped(source, raw)
            if source == "windows_sysmon":
                assert found.class_name == SYSMON_CLASSES[event_id(raw)]
            else:
                by_file.setdefault(name, []).append(found.class_name)
        assert {(source, name): classes for name, classes in by_file.items()} == {
            key: classes for key, classes in SAMPLE_CLASSES.items() if key[0] == source
        }


@pytest.mark.parametrize("source", SHIPPED)
def test_bad_samples_are_set_aside_with_their_reason(source: str):
    (path,) = (SOURCES / source / "samples").glob("bad.*")
    found = [mapper(source).map_validated(raw) for raw in records(source, path)]
    assert [aside.code for aside in found if isinstance(aside, SetAside)] == BAD_CODES[source]
    assert len(found) == len(BAD_CODES[source])


@pytest.mark.parametrize("source", SHIPPED)
def test_every_kind_has_a_sample(source: str):
    kinds = set(mapper(source).mapping["ocsf_mapping"])
    if source == "windows_sysmon":
        seen = {event_id(raw) for _, raw in samples(source)}
    elif source == "aws_alb":
        seen = {"*" for _ in samples(source)}
    else:
        seen = {mapped(source, raw).record["metadata"]["event_code"] for _, raw in samples(source)}
    assert kinds == seen


def test_every_event_id_of_the_post_is_mapped_in_every_shape():
    kinds = mapper("windows_sysmon").mapping["ocsf_mapping"]
    assert {event: entry["schema"] for event, entry in kinds.items()} == SYSMON_CLASSES
    assert set(POST_CLASSES) == set(SYSMON_CLASSES) == {*map(str, range(1, 30)), "255"}
    for event, entry in kinds.items():
        assert entry["schema"] == POST_CLASSES[event] or entry["note"], event
    shapes = {
        name: {event_id(raw) for file, raw in samples("windows_sysmon") if file == name}
        for name in ("flat.jsonl", "kinesis_agent.jsonl")
    }
    assert shapes["flat.jsonl"] == shapes["kinesis_agent.jsonl"] == set(SYSMON_CLASSES)


@pytest.mark.parametrize("event", sorted(SYSMON_CLASSES, key=int))
def test_a_sysmon_event_means_the_same_in_every_shape(event: str):
    """All that a shape has of its own is the envelope: host, record number, times of collection, the text of the message."""
    found = []
    for name, raw in samples("windows_sysmon"):
        if event_id(raw) != event or name == "odd.jsonl":
            continue
        record = dict(mapped("windows_sysmon", raw).record)
        for envelope in ("device", "message", "metadata"):
            record.pop(envelope, None)
        if event == "22":
            record["src_endpoint"] = None
        found.append(record)
    assert len(found) >= 2
    if (
        event == "4"
    ):  # the flat shape has the version of the event's layout in the place of Sysmon's, so it is read from the message
        assert all(record["app"]["version"] == "15.14" for record in found)
    assert all(record == found[0] for record in found)


@pytest.mark.parametrize("source", SHIPPED)
def test_nothing_of_a_sample_is_lost(source: str):
    found = [(raw, mapped(source, raw)) for _, raw in samples(source)]
    assert found
    assert [(raw, rest) for raw, record in found if (rest := lost(source, raw, record))] == []


@pytest.mark.parametrize("source", sorted(REAL))
def test_real_events_are_valid(source: str):
    for name, count, raws in real(source):
        found = [mapper(source).map_validated(raw) for raw in raws]
        aside = Counter(item.code for item in found if isinstance(item, SetAside))
        assert (name, len(raws), aside) == (name, count, Counter(TOLERATED[source]))


@pytest.mark.parametrize("source", sorted(REAL))
def test_nothing_of_a_real_event_is_lost(source: str):
    for _, _, raws in real(source):
        for raw in raws:
            assert (lost(source, raw, mapped(source, raw)), raw) == ([], raw)


def test_real_sysmon_events_have_the_class_of_their_id():
    for _, _, raws in real("windows_sysmon"):
        assert {event_id(raw) for raw in raws} <= set(SYSMON_CLASSES)
        assert all(mapped("windows_sysmon", raw).class_name == SYSMON_CLASSES[event_id(raw)] for raw in raws)


def test_an_alert_says_its_severity_once():
    pairs = {
        (found.record["severity_id"], found.record["severity"])
        for source in ("aws_network_firewall", "suricata")
        for _, raw in samples(source)
        if b'"event_type":"alert"' in raw
        for found in [mapped(source, raw)]
    }
    assert pairs == {(4, "High"), (2, "Low"), (99, "7")}


def test_account_and_region_come_from_the_key():
    firewall, sysmon = mapper("aws_network_firewall"), mapper("windows_sysmon")
    key = "AWSLogs/111122223333/network-firewall/flow/eu-central-1/egress/2024/05/01/10/111122223333_network-firewall_flow_x.log.gz"
    assert (
        firewall.account_and_region(key)
        == firewall.account_and_region(f"some/prefix/{key}")
        == ("111122223333", "eu-central-1")
    )
    alb = "AWSLogs/111122223333/elasticloadbalancing/eu-central-1/2024/05/01/"
    assert mapper("aws_alb").account_and_region(
        f"{alb}111122223333_elasticloadbalancing_eu-central-1_app.a_x.log.gz"
    ) == (
        "111122223333",
        "eu-central-1",
    )
    assert mapper("aws_alb").account_and_region(f"{alb}conn_log.111122223333_elasticloadbalancing_x.log.gz") == (
        None,
        None,
    )
    assert sysmon.account_and_region("windows-sysmon/account=111122223333/2024/05/01.jsonl.gz") == (
        "111122223333",
        None,
    )
    assert sysmon.account_and_region("windows-sysmon/2024/05/01.jsonl") == (None, None)
    _, raw = next(samples("aws_network_firewall"))
    given = firewall.map(raw, "111122223333", "eu-central-1")
    assert isinstance(given, Mapped)
    assert (given.account, given.region, given.event_day) == ("111122223333", "eu-central-1", "20240501")
    left_open = firewall.map(raw)
    assert isinstance(left_open, Mapped)
    assert (left_open.account, left_open.region) == ("external", None)


def test_the_same_seed_gives_the_same_mutants():
    sound = [raw for _, raw in samples("aws_network_firewall")]
    first, again, other = (list(mutants(sound, 500, seed=seed)) for seed in (3, 3, 4))
    assert first == again != other
    assert not any(b"\n" in raw or b"\r" in raw for raw in first)


@pytest.mark.parametrize("source", SHIPPED)
def test_every_mutant_is_mapped_or_set_aside(source: str):
    sound = [raw for _, raw in samples(source)]
    codes: Counter[str] = Counter()
    for raw in mutants(sound, 2000, seed=11, csv=source == "aws_alb"):
        found = mapper(source).map_validated(raw)
        codes[found.code if isinstance(found, SetAside) else "mapped"] += 1
        if isinstance(found, Mapped):
            assert json.dumps([found.record, found.unmapped], ensure_ascii=False).encode()
    assert codes["mapped"] > 1000
    assert {"bad_value", "invalid", "no_time"} <= set(codes)
    assert source == "aws_alb" or {"not_json", "not_an_object", "duplicate_key", "bad_encoding"} <= set(codes)


def test_a_file_of_generated_events_becomes_parquet(tmp_path: Path):
    assert list(events(3000, seed=5)) == list(events(3000, seed=5))
    path = tmp_path / "events.jsonl.gz"
    write(path, 3000, seed=5)
    key = "AWSLogs/111122223333/network-firewall/flow/eu-central-1/egress/x.log.gz"
    counts = mapper("aws_network_firewall").map_file(path, tmp_path, key)
    assert counts == {"read": 3000, "written": 3000}
    rows = pq.read_table(tmp_path / "network_activity.zstd.parquet").to_pylist()
    raws = b"".join(events(3000, seed=5)).splitlines()
    assert len(rows) == 3000
    for index in (0, 1, 1499, 2999):
        found = mapped("aws_network_firewall", raws[index])
        assert without_nulls(rows[index]) == {
            **found.record,
            **({"unmapped": found.unmapped} if found.unmapped else {}),
        }


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("unmapped") is not None:
        row["unmapped"] = dict(row["unmapped"])
    return {
        name: without_nulls(value) if isinstance(value, dict) else value
        for name, value in row.items()
        if value is not None
    }


# ---- The language, in small ----


def one(
    tmp_path: Path,
    mapping: dict[str, Any],
    *,
    source: str = "",
    numbers: Literal["source", "double"] = "source",
    **more: Any,
) -> PerEventMapper:
    """A mapper of a source of one kind of event, which is a file activity."""
    (tmp_path / "source.yaml").write_text(
        f'name: x\nocsf_version: "1.1.0"\nformat: json_lines\naccount_id: {{default: external}}\n{source}'
    )
    base = {
        "time": "$.t",
        "activity_id": 1,
        "severity_id": 1,
        "metadata": {"product": {"name": "x", "vendor_name": "x"}},
        "actor": {"user": {"name": "x"}},
        "device": {"name": "x", "type_id": 0},
        "file": {"name": "x", "type_id": 1},
    }
    events = {
        "source_name": "x",
        "matched_field": "$.kind",
        "ocsf_mapping": {"*": {"schema": "file_activity", "schema_mapping": {**base, **mapping}}},
        **more,
    }
    (tmp_path / "mapping.json").write_text(json.dumps({"custom_source_events": events}))
    return PerEventMapper(tmp_path, numbers)


def got(mapper: PerEventMapper, **event: Any) -> Any:
    found = mapper.map(json.dumps({"kind": "k", "t": 1714557605, **event}).encode())
    return found if isinstance(found, SetAside) else (found.record, found.unmapped)


@pytest.mark.parametrize(
    ("value", "millis"),
    [
        (1714557605, 1714557605000),
        (1714557605.5, 1714557605500),
        ("1714557605", 1714557605000),
        (99999999999, 99999999999000),
        (1714557605123, 1714557605123),
        (1714557605123456, 1714557605123),
        (1714557605123456789, 1714557605123),
        ("2024-05-01T10:00:05.9999+0200", 1714550405999),
        ("2024-05-01 10:00:05", 1714557605000),
    ],
)
def test_a_time_is_milliseconds(tmp_path: Path, value: Any, millis: int):
    mapper = one(tmp_path, {}, source='limits: {latest: "9000-01-01"}\n')
    assert got(mapper, t=value)[0]["time"] == millis


@pytest.mark.parametrize(
    "value", ["2023-02-29T12:00:00Z", "2024-05-01", "now", True, "2024-05-01T24:00:00Z", [1], {"a": 1}]
)
def test_what_is_no_time_is_a_bad_value(tmp_path: Path, value: Any):
    assert got(one(tmp_path, {}), t=value).code == "bad_value"


def test_an_object_without_values_is_left_out(tmp_path: Path):
    mapper = one(tmp_path, {"file_result": {"name": "$.new", "type_id": 1}, "file": {"name": "$.old", "type_id": 1}})
    assert "file_result" not in got(mapper, old="a")[0]
    assert got(mapper)[0]["file"] == {"type_id": 1}


def test_the_rest_is_kept_by_its_path(tmp_path: Path):
    mapper = one(tmp_path, {"message": "$.a.b"}, source="nested: {'$.d': json}\n")
    _, rest = got(mapper, a={"b": "x", "c": [1, {"é": 1.50}], "n": None}, d='{"x":1}', e={}, f=True)
    assert rest == {"a.c": '[1,{"é":1.5}]', "d": '{"x":1}', "e": "{}", "f": "true"}
    assert got(mapper, a="text")[1] == {"a": "text"}
    assert got(mapper, a={})[1] == {"a": "{}"}


def test_a_document_is_the_first_that_has_its_field(tmp_path: Path):
    mapper = one(
        tmp_path,
        {"message": "$data.m"},
        source="nested: {'$.d': json, '$.l': lines}\n",
        **{"$documents": {"data": {"in": ["$.d", "$", "$.l"], "having": "h"}}},
    )
    assert got(mapper, d='{"h":1,"m":"in d","r":2}', m="outside") == (
        {**got(mapper, h=1, m="in d")[0]},
        {"d.h": "1", "d.r": "2", "m": "outside"},
    )
    record, rest = got(mapper, l="title:\r\nh: 1\r\nm: in l\r\nm: again\r\nplain")
    assert record["message"] == "in l"
    assert rest == {"l.title": "", "l.h": "1", "l.Line5": "plain"}
    assert "message" not in got(mapper, m="x")[0]


def test_values_are_typed_or_refused(tmp_path: Path):
    mapper = one(
        tmp_path, {"file": {"name": "$.n", "type_id": 1, "size": "$.s", "is_system": "$.b", "attributes": "$.a"}}
    )
    record, _ = got(mapper, n=1.5, s=" 443.00 ", b="TRUE", a="+5")
    assert record["file"] == {"name": "1.5", "type_id": 1, "size": 443, "is_system": True, "attributes": 5}
    for bad in ({"s": "443.7"}, {"s": True}, {"b": "yes"}, {"a": 2**31}, {"s": 2**63}, {"a": "4_4"}):
        assert got(mapper, n="x", **bad).code == "bad_value", bad
    assert got(mapper, n="x", a=2**31).detail == "file.attributes: expected integer_t, found 2147483648"


def test_keywords_apply_in_their_order(tmp_path: Path):
    mapper = one(
        tmp_path,
        {
            "message": {"$of": "$.m", "$pattern": "^([a-z]+)$", "$case": "upper", "$default": "none"},
            "status": {"$concat": ["$.m", "/", "$.x"]},
            "component": {"$if": {"$of": "$.x", "$in": ["1"]}, "$then": "one", "$else": {"$first": ["$.none", "$$.x"]}},
            "metadata": {
                "product": {"name": "x", "vendor_name": "x"},
                "version": "v1.1.0",
                "labels": {"$of": "$.l", "$split": ";"},
                "profiles": "host, cloud",
            },
            "access_mask": {"$of": "$.h", "$base": 16},
        },
    )
    record, _ = got(mapper, m="abc", x=1, l="a;; ;b", h="0x1F")
    assert (record["message"], record["status"], record["component"], record["access_mask"]) == (
        "ABC",
        "abc/1",
        "one",
        31,
    )
    assert record["metadata"]["labels"] == ["a", "b"]
    assert record["metadata"]["profiles"] == ["host", "cloud"]
    assert record["metadata"]["version"] == "1.1.0"
    record, _ = got(mapper, m="ABC")
    assert (record["message"], record["component"], "status" in record, "access_mask" in record) == (
        "none",
        "$.x",
        False,
        False,
    )
    assert got(mapper, h="zz").code == "bad_value"


def test_a_mapping_that_is_not_of_the_language_is_refused(tmp_path: Path):
    for bad in ({"message": {"$nope": 1}}, {"message": "$nothing.x"}, {"$include": ["nothing"]}):
        with pytest.raises(MappingFault):
            got(one(tmp_path, bad))


def test_numbers_are_as_the_source_or_as_duckdb_writes_them(tmp_path: Path):
    raw = b'{"kind":"k","t":1714557605,"m":1.50,"a":[1.50,-0,1e5,1e20,1e21,0.00001,1e-7,1E400,12345678901234567890123],"b":1e20}'
    for numbers, message, array, alone in (
        ("source", "1.50", "[1.50,-0,1e5,1e20,1e21,0.00001,1e-7,1E400,12345678901234567890123]", "1e20"),
        (
            "double",
            "1.5",
            "[1.5,0,100000.0,100000000000000000000.0,1e21,0.00001,1e-7,1E400,12345678901234567890123]",
            "1e+20",
        ),
    ):
        found = one(tmp_path, {"message": "$.m"}, numbers=numbers).map(raw)
        assert isinstance(found, Mapped)
        assert (found.record["message"], found.unmapped) == (message, {"a": array, "b": alone})


def test_of_a_repeated_key_a_level_is_refused_and_what_is_kept_whole_is_not(tmp_path: Path):
    mapper = one(tmp_path, {"message": "$.a.b"})
    for raw, code in (
        (b'{"kind":"k","kind":"l","t":1}', "duplicate_key"),
        (b'{"kind":"k","t":1,"a":{"b":1,"c":2,"c":3}}', "duplicate_key"),
        (b'{"t":1,"t":2}', "no_kind"),
    ):
        aside = mapper.map(raw)
        assert isinstance(aside, SetAside)
        assert aside.code == code
    kept = mapper.map(b'{"kind":"k","t":1714557605,"x":{"y":1,"y":[{"z":1,"z":2}]}}')
    assert isinstance(kept, Mapped)
    assert kept.unmapped == {"x": '{"y":1,"y":[{"z":1,"z":2}]}'}
