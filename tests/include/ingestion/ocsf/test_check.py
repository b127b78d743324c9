"""``make check-sources`` names whatever is wrong with a source, and has nothing to say about those that ship."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.ingestion.ocsf import check
from include.ingestion.ocsf.check import CLASSES_FILE, check_source, main
from include.ingestion.sources import SOURCES_DIR, check_sources, load_source, source_names

NAME = "aws_network_firewall"
Events = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped source, to break."""
    return Path(shutil.copytree(SOURCES_DIR / NAME, tmp_path / NAME))


def problems(folder: Path, **more: Any) -> list[str]:
    return check_source(load_source(NAME, folder.parent), **more)


def change(folder: Path, how: Callable[[Events], Any]) -> None:
    """Change the mapping in place."""
    file = folder / "mapping.json"
    document = json.loads(file.read_text())
    how(document["custom_source_events"])
    file.write_text(json.dumps(document))


def own(events: Events, **attributes: Any) -> None:
    """More attributes of the flows."""
    events["ocsf_mapping"]["netflow"]["schema_mapping"].update(attributes)


def sample(folder: Path, name: str, number: int) -> str:
    return (folder / "samples" / name).read_text().splitlines()[number]


def add(folder: Path, name: str, line: str) -> None:
    with (folder / "samples" / name).open("a") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize("name", source_names())
def test_a_shipped_source_has_no_problem(name: str):
    assert check_source(load_source(name)) == []


def test_shipped_sources_do_not_claim_each_others_keys():
    sources = [load_source(name) for name in source_names()]
    assert all(len(pattern.examples) >= 2 for source in sources for pattern in source.objects)
    assert check_sources(sources) == []


def test_a_copy_has_no_problem_either(folder: Path):
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"colour": "red"}, "colour: not an attribute of network_activity in OCSF 1.1.0"),
        (
            {"src_endpoint": {"iq": "$.event.src_ip"}},
            "src_endpoint.iq: not an attribute of network_endpoint in OCSF 1.1.0",
        ),
        ({"severity_id": 7}, "severity_id: "),
        ({"traffic": 5}, "traffic: expected the object network_traffic, found a single value"),
        (
            {"status": {"a": "$.event.src_ip"}},
            "status: expected a single value of the type string_t, found an object",
        ),
    ],
)
def test_what_the_class_refuses_is_named(folder: Path, attributes: dict[str, Any], told: str):
    change(folder, lambda events: own(events, **attributes))
    found = problems(folder)
    assert any(problem.startswith(f"{NAME}/mapping.json: netflow: {told}") for problem in found), found
    # Such an event is set aside, so its samples say so too.
    assert any(
        f"{NAME}/samples/netflow.jsonl: expected every record to map, found 5 set aside" in problem for problem in found
    )


def test_a_required_attribute_that_is_missing_is_named(folder: Path):
    change(folder, lambda events: events["$fragments"]["flow"].pop("severity_id"))
    [problem] = [
        problem for problem in problems(folder) if CLASSES_FILE not in problem
    ]  # its columns are in another order
    assert problem.startswith(
        f"{NAME}/samples/netflow.jsonl: expected every record to map, found 5 set aside: 1: invalid: "
    )
    assert "severity_id: required by network_activity in OCSF 1.1.0, found none" in problem


def test_a_path_that_has_no_value_is_named(folder: Path):
    change(folder, lambda events: own(events, message="$.event.netflow.packets"))
    found = problems(folder)
    assert (
        f"{NAME}/mapping.json: $.event.netflow.packets has a value in no sample; correct the path or add a sample that has it"
        in found
    )
    assert [problem for problem in found if "netflow.packets" not in problem and CLASSES_FILE not in problem] == []


def test_a_path_that_only_a_bad_sample_has_is_named(folder: Path):
    change(folder, lambda events: own(events, message="$.event.odd"))
    add(folder, "bad.jsonl", sample(folder, "bad.jsonl", 5).replace('"src_port":1,', '"odd":"x","src_port":1,', 1))
    assert any("$.event.odd has a value in no sample" in problem for problem in problems(folder))


def test_a_kind_without_a_sample_is_named(folder: Path):
    def dns(events: Events) -> None:
        events["ocsf_mapping"]["dns"] = events["ocsf_mapping"]["netflow"]

    change(folder, dns)
    assert problems(folder) == [f"{NAME}/samples: expected a record of the kind dns, found none"]


def test_any_other_kind_needs_a_sample_of_its_own(folder: Path):
    def others(events: Events) -> None:
        events["ocsf_mapping"]["*"] = events["ocsf_mapping"]["netflow"]

    change(folder, others)
    assert f"{NAME}/samples: expected a record of the kind *, found none" in problems(folder)


def test_a_good_sample_that_is_set_aside_is_named(folder: Path):
    add(folder, "alert.jsonl", sample(folder, "alert.jsonl", 0).replace("10.1.4.20", "10.1.4.256"))
    [problem] = problems(folder)
    assert problem.startswith(
        f"{NAME}/samples/alert.jsonl: expected every record to map, found 1 set aside: 4: invalid: "
    )
    assert "src_endpoint.ip: expected ip_t" in problem


def test_a_bad_sample_that_maps_is_named(folder: Path):
    add(folder, "bad.jsonl", sample(folder, "netflow.jsonl", 0))
    assert problems(folder) == [f"{NAME}/samples/bad.jsonl: expected only records that are set aside, found 1 that map"]


def test_a_source_without_samples_is_named(folder: Path):
    for path in (folder / "samples").iterdir():
        if not path.name.startswith("bad"):
            path.unlink()
    assert problems(folder) == [f"{NAME}/samples: expected at least one file, found none"]


@pytest.mark.parametrize("stale", ['{"network_activity": []}\n', None])
def test_classes_that_are_not_the_mappings_are_named_and_written(folder: Path, stale: str | None):
    file = folder / CLASSES_FILE
    shipped = file.read_text()
    file.unlink() if stale is None else file.write_text(stale)
    [problem] = problems(folder)
    assert problem == f"{NAME}/{CLASSES_FILE}: expected what the mapping compiles to; run make check-sources WRITE=1"
    assert problems(folder, write=True) == []
    assert file.read_text() == shipped


def test_a_new_attribute_makes_the_classes_stale(folder: Path):
    change(folder, lambda events: own(events, message="$.event.app_proto", count=1))
    assert [problem for problem in problems(folder) if CLASSES_FILE in problem]


def test_a_class_that_the_lake_has_no_name_for_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def no_name(source: str, class_name: str) -> str:
        raise ValueError(f"expected another class, found {class_name} of {source}")

    monkeypatch.setattr(check, "custom_source_name", no_name)
    assert problems(folder) == [f"{NAME}/mapping.json: expected another class, found network_activity of {NAME}"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda events: events.pop("matched_field"), "expected matched_field, found none"),
        (lambda events: own(events, message="$nothing.x"), "expected a document of $documents"),
        (lambda events: events["ocsf_mapping"]["tls"].update(schema="network"), "found 'network'"),
        (lambda events: events["ocsf_mapping"]["tls"].update({"$version": "9.9.9"}), "found '9.9.9'"),
    ],
)
def test_a_mapping_that_does_not_compile_is_told_once(folder: Path, how: Callable[[Events], Any], told: str):
    change(folder, how)
    [problem] = problems(folder)
    assert problem.startswith(f"{NAME}: ")
    assert told in problem


def test_the_command_says_what_it_checked(capsys: pytest.CaptureFixture[str]):
    assert main(["--only", NAME]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 sources, 3 kinds of events: all samples map and are valid")
    assert said.err == ""


def test_the_command_fails_with_what_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (folder / CLASSES_FILE).unlink()
    monkeypatch.setattr(check, "load_source", lambda name: load_source(name, folder.parent))
    assert main(["--only", NAME]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        f"{NAME}/{CLASSES_FILE}: expected what the mapping compiles to; run make check-sources WRITE=1\n",
    )
    assert main(["--only", NAME, "--write"]) == 0


def test_the_command_refuses_a_source_that_is_not_there(capsys: pytest.CaptureFixture[str]):
    assert main(["--only", "aws_alp"]) == 1
    assert "did you mean aws_alb?" in capsys.readouterr().err
