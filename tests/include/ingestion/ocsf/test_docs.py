"""What `docs/ingestion.md` lists is what the code has: reasons, keywords, keys of ``source.yaml``, Sysmon's classes, tests of faults."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, get_args

import pytest
from pydantic import BaseModel

from include.ingestion import reading
from include.ingestion.ocsf import compile as compiler
from include.ingestion.ocsf import engine, language
from include.ingestion.ocsf.engine import Engine
from include.ingestion.ocsf.language import load_mapping
from include.ingestion.sources import Source, load_source
from tests.include.ingestion.ocsf.engine_runs import run_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def document(project_root: Path) -> str:
    return (project_root / "docs" / "ingestion.md").read_text(encoding="utf-8")


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading; a pipe within a cell is none."""
    part = document.split(f"# {heading}\n", 1)[1]
    lines: list[str] = []
    for line in part.splitlines():
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            break
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert found
    return found


def first(document: str, heading: str) -> list[str]:
    """What the first column of a table names, in its order."""
    return [row[0].strip("`") for row in rows(document, heading)]


def codes() -> set[str]:
    """Every reason that a record may be set aside for."""
    read = {
        value for name, value in vars(reading).items() if name.isupper() and isinstance(value, str) and value.islower()
    }
    in_engine = set(re.findall(r'\(n, "([a-z_]+)"', inspect.getsource(engine)))
    in_plan = set(re.findall(r"""["']([a-z_]+)\|""", inspect.getsource(compiler)))
    assert "truncated" in read
    assert "unmapped_kind" in in_engine
    assert "no_time" in in_plan
    return (read - {reading._KEEP}) | in_engine | in_plan


def test_every_reason_is_explained(document: str):
    told = first(document, "Reasons")
    assert len(told) == len(set(told))
    assert set(told) == codes()


def test_every_keyword_is_explained_and_has_an_example(document: str):
    known = set(re.findall(r'"(\$[a-z]+)"', inspect.getsource(language)))
    known |= {f"${word}" for word in (*language._CHAIN, *language._CONDITIONS)}
    table = rows(document, "Keywords")
    told = [row[0].strip("`") for row in table]
    assert len(told) == len(set(told))
    assert set(told) == known
    assert all(f"${row[0].strip('`$')}" in row[1] or row[1].startswith("see") for row in table)


def test_the_order_of_a_chain_is_the_languages(document: str):
    order = document.split("In one `$of` they apply in this order", 1)[1].partition("For another")[0]
    assert re.findall(r"`\$([a-z]+)`", order) == list(language._CHAIN)


def test_the_example_maps_an_event(document: str, tmp_path: Path):
    [example] = re.findall(r"```json\n(.*?)```", document, re.DOTALL)
    folder = tmp_path / "sources" / "example"
    folder.mkdir(parents=True)
    (folder / "mapping.json").write_text(example)
    (folder / "source.yaml").write_text(
        "{name: example, title: An example, owner: nobody, ocsf_version: 1.1.0, format: json_lines, objects: [{key: .*}]}"
    )
    event = {
        "type": "flow",
        "at": "2024-05-01T10:00:05.25+0200",
        "action": "close",
        "src": "10.0.0.1",
        "dst": "2001:db8::1",
    }
    became = run_records(
        Engine(load_source("example", tmp_path / "sources")), [json.dumps({"event": event}).encode()], tmp_path / "out"
    )
    assert became.aside == {}
    [row] = became.rows
    assert (row["time"], row["type_uid"]) == (1714550405250, 400102)
    assert row["metadata"]["profiles"] == ["cloud", "firewall"]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Keys of ``source.yaml``, with those of its parts behind them."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and not get_args(kind) and issubclass(kind, BaseModel):
                yield from keys(kind, f"{prefix}{name}.")


def test_every_key_of_a_source_is_explained(document: str):
    assert first(document, "source.yaml") == list(keys(Source))


def test_sysmons_classes_are_the_mappings(document: str):
    mapping = load_mapping(load_source("windows_sysmon").mapping_file)
    told = {
        event: (row[1].strip("`"), row[2] or None) for row in rows(document, "Sysmon") for event in row[0].split(", ")
    }
    assert told == {kind.value: (kind.class_name, kind.note) for kind in mapping.kinds}


def test_every_test_that_a_fault_names_is_there(document: str, project_root: Path):
    named = {name for row in rows(document, "Faults") for name in re.findall(r"`(test_\w+)`", row[2])}
    assert len(named) > 20
    assert all("`test_" in row[2] for row in rows(document, "Faults"))
    there = {
        name
        for path in (project_root / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= there
