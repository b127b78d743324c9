"""What a source's folder says, and whose an object is."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from include.ingestion import sources
from include.ingestion.reading import Format
from include.ingestion.sources import (
    KeyAmbiguous,
    SourceInvalid,
    SourceUnknown,
    all_sources,
    check_sources,
    load_source,
    mapping_digest,
    match_object,
)

if TYPE_CHECKING:
    from pathlib import Path

FIREWALL = r"AWSLogs/(?P<account>\d{12})/network-firewall/[^/]+/(?P<region>[a-z0-9-]+)/.*\.log(\.gz)?"
CONTENT = {
    "name": "firewall",
    "title": "Firewall",
    "owner": "security_lake_team",
    "ocsf_version": "1.1.0",
    "objects": [{"key": FIREWALL}],
    "format": "json_lines",
}


def write(root: Path, name: str = "firewall", **changes: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    content = {**CONTENT, "name": name, **changes}
    (folder / "source.yaml").write_text(
        yaml.safe_dump({k: v for k, v in content.items() if v is not ...}, sort_keys=False)
    )
    (folder / "mapping.json").write_text('{"custom_source_events": {"source_name": "x"}}')
    return folder


def test_what_is_left_out_has_a_default(tmp_path):
    folder = write(tmp_path)

    source = load_source("firewall", tmp_path)

    assert source.folder == folder
    assert source.mapping_file == folder / "mapping.json"
    assert (source.limits.dead_letter_share, source.limits.earliest) == (0.05, date(2000, 1, 1))
    assert source.account_id.default == "external"
    assert source.batches.max_objects == 500
    assert source.keep_unmapped
    assert source.read_spec.format is Format.JSON_LINES
    assert source.read_spec.max_record_bytes == 16 << 20


def test_everything_can_be_said(tmp_path):
    write(
        tmp_path,
        format="csv",
        csv={"delimiter": " ", "quote": '"', "columns": ["type", "time"], "header": False},
        encoding="utf-16",
        nested={"$.EventData": "json", "$.Message": "lines"},
        account_id={"key": False, "path": "$.account", "default": None},
        region={"key": True, "path": None, "default": "eu-west-1"},
        limits={"dead_letter_share": 0, "max_record_bytes": 1000, "earliest": "2001-01-01", "latest": date(2050, 1, 1)},
        batches={"max_objects": 1, "max_mib": 1, "wait_seconds": 0, "spark_mib": 1, "pool_slots": 1},
        stream={"name": "events"},
    )

    source = load_source("firewall", tmp_path)

    assert source.read_spec.csv
    assert source.read_spec.csv.columns == ("type", "time")
    assert source.read_spec.max_record_bytes == 1000
    assert source.nested["$.Message"] == "lines"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"title": ...}, "title: Field required"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"name": "other"}, "name: expected 'firewall'"),
        ({"name": "Fire-Wall"}, "name: "),
        ({"format": "xml"}, "format: "),
        ({"objects": []}, "expected objects or stream.name"),
        ({"objects": [{"key": "("}]}, "objects.0.key: expected a regular expression"),
        ({"objects": [{"key": "(?P<colour>x)"}]}, "objects.0.key: expected the named groups"),
        ({"objects": [{"key": "x", "examples": ["y"]}]}, "objects.0: expected examples that match"),
        ({"records_at": "$.Records"}, "records_at with the format json only"),
        ({"format": "json", "records_at": "Records"}, "records_at: expected a path"),
        ({"format": "csv"}, "csv with the format csv"),
        ({"csv": {"columns": ["a"]}}, "csv with the format csv"),
        ({"format": "csv", "csv": {"delimiter": ";;", "columns": ["a"]}}, "csv: csv.delimiter"),
        ({"encoding": "utf-7"}, "encoding: encoding: expected utf-8"),
        ({"nested": {"$.a": "xml"}}, "nested.$.a: "),
        ({"nested": {"a": "json"}}, "expected a path such as"),
        ({"limits": {"dead_letter_share": 5}}, "limits.dead_letter_share: "),
        ({"limits": {"earliest": "2100-01-01"}}, "limits: expected earliest before latest"),
        ({"batches": {"max_objects": 0}}, "batches.max_objects: "),
        ({"ocsf_version": 1.1}, "ocsf_version: "),
    ],
)
def test_what_is_wrong_is_told_with_its_file_and_field(tmp_path, changes, told):
    folder = write(tmp_path)
    write(tmp_path, **{**changes, "name": changes.get("name", "firewall")}) if "name" not in changes else (
        folder / "source.yaml"
    ).write_text(yaml.safe_dump(CONTENT | changes))

    with pytest.raises(SourceInvalid) as raised:
        load_source("firewall", tmp_path)

    assert "firewall/source.yaml" in str(raised.value)
    assert told in str(raised.value)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    folder = write(tmp_path)
    with (folder / "source.yaml").open("a") as file:
        file.write("format: json\n")

    with pytest.raises(SourceInvalid, match="'format' again"):
        load_source("firewall", tmp_path)


@pytest.mark.parametrize("content", ["[", "- a", "", "\0"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    (write(tmp_path) / "source.yaml").write_text(content)

    with pytest.raises(SourceInvalid, match=r"firewall/source\.yaml"):
        load_source("firewall", tmp_path)


def test_a_folder_without_the_file_is_refused(tmp_path):
    (tmp_path / "firewall").mkdir()

    with pytest.raises(SourceInvalid, match="expected the file, found none"):
        all_sources(tmp_path)


def test_an_unknown_source_is_refused_with_what_there_is(tmp_path):
    write(tmp_path)

    with pytest.raises(SourceUnknown, match="did you mean firewall"):
        load_source("firewal", tmp_path)
    with pytest.raises(SourceUnknown, match="none"):
        load_source("../x", tmp_path / "nowhere")


def test_all_sources_are_in_order_and_hidden_folders_are_none(tmp_path):
    for name in ("b", "a", "c"):
        write(tmp_path, name)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "README.md").touch()

    assert [source.name for source in all_sources(tmp_path)] == ["a", "b", "c"]


def test_the_key_tells_source_account_and_region(tmp_path):
    write(tmp_path)
    write(tmp_path, "other", objects=[{"key": "a"}, {"key": "(?P<region>[a-z]+)/other/.*"}])
    known = all_sources(tmp_path)

    found = match_object("AWSLogs/123456789012/network-firewall/alert/eu-west-1/2024/a.log.gz", known)
    assert found
    assert (found.source.name, found.account, found.region) == ("firewall", "123456789012", "eu-west-1")
    found = match_object("here/other/x", known)
    assert found
    assert (found.source.name, found.account, found.region) == ("other", None, "here")
    assert match_object("here/other/x\n", known) is None
    assert match_object("x/AWSLogs/123456789012/network-firewall/alert/eu-west-1/a.log", known) is None


def test_a_key_of_two_sources_is_refused(tmp_path):
    write(tmp_path, "a", objects=[{"key": "x/.*"}])
    write(tmp_path, "b", objects=[{"key": ".*/y"}])

    with pytest.raises(KeyAmbiguous, match="a and b"):
        match_object("x/y", all_sources(tmp_path))


def test_the_check_finds_what_two_sources_claim(tmp_path):
    write(tmp_path, "a", objects=[{"key": "x/.*", "examples": ["x/y"]}], stream={"name": "s"})
    write(tmp_path, "b", objects=[{"key": ".*/y"}, {"key": "z"}])
    write(tmp_path, "c", objects=[{"key": "z"}], stream={"name": "s"})

    problems = check_sources(all_sources(tmp_path))

    assert [problem.partition(":")[0] for problem in problems] == [
        "a/source.yaml, objects.0.examples",
        "c/source.yaml, objects.0.key",
        "c/source.yaml, stream.name",
    ]


def test_the_digest_tells_what_decides_events_and_no_layout(tmp_path):
    folder = write(tmp_path)
    source = load_source("firewall", tmp_path)
    first = mapping_digest(source)

    content = (folder / "source.yaml").read_text()
    (folder / "source.yaml").write_text("# a note\n" + content)
    (folder / "mapping.json").write_text(json.dumps(json.loads((folder / "mapping.json").read_text()), indent=4))
    assert mapping_digest(source) == first
    (folder / "source.yaml").write_text(content + "keep_unmapped: false\n")
    assert mapping_digest(source) != first
    (folder / "source.yaml").write_text(content)
    (folder / "mapping.json").write_text("{}")
    assert mapping_digest(source) != first
    (folder / "mapping.json").write_text("{")
    with pytest.raises(SourceInvalid, match=r"mapping\.json"):
        mapping_digest(source)


def test_the_shipped_sources_are_sound():
    shipped = all_sources()

    assert shipped
    assert [source.name for source in shipped] == sources.source_names()
    assert check_sources() == []
    assert all(len(mapping_digest(source)) == 64 for source in shipped)
