"""The compiled plan gives, event for event, what a per-event mapper and the official JSON schema give.

That is what allows the engine to validate inside its plan: on every sample, every real event and `MUTANTS` mutated ones an outside
validator (``jsonschema-rs`` with the official schema) has the same opinion. ``OCSF_MUTATED_EVENTS=25000`` a source makes it a hundred
thousand.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.mapping.per_event import PerEventMapper, SetAside
from include.ingestion.ocsf.engine import Engine
from include.ingestion.sources import load_source, source_names
from tests.include.ingestion.ocsf.engine_runs import only_general, run_records, without_nulls
from tests.include.ingestion.ocsf.mutate import mutants

if TYPE_CHECKING:
    from collections.abc import Sequence

MUTANTS = int(os.environ.get("OCSF_MUTATED_EVENTS", "1500"))
"""Of each source."""
SHARED = os.environ.get("DATA_PLATFORM_SHARED_DATA")
JSON_SOURCES = [name for name in source_names() if load_source(name).csv is None]


@cache
def engine(source: str) -> Engine:
    return Engine(load_source(source))


@cache
def mapper(source: str) -> PerEventMapper:
    return PerEventMapper(load_source(source).folder, numbers="double")


def samples(source: str, *, bad: bool) -> list[bytes]:
    files = sorted((load_source(source).folder / "samples").glob("*"))
    return [
        line
        for path in files
        if bad or not path.name.startswith("bad")
        for line in path.read_bytes().splitlines()
        if line.strip()
    ]


def text(row: dict[str, Any]) -> str:
    return json.dumps(without_nulls(row), sort_keys=True)


def compare(source: str, records: Sequence[bytes], folder: Path) -> Counter[str]:
    """Hold the engine to the oracle; how many records had which fate."""
    became = run_records(engine(source), records, folder)
    wanted: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    wrong = []
    for number, raw in enumerate(records, start=1):
        found = mapper(source).map_validated(raw, None, None)
        if isinstance(found, SetAside):
            fates[found.code] += 1
            told = became.aside.get(number, ("written", ""))
            if told[0] != found.code:
                wrong.append(f"{number}: expected {found.code} ({found.detail}), found {told}: {raw[:300]!r}")
            continue
        fates["written"] += 1
        if number in became.aside:
            wrong.append(f"{number}: expected it written, found {became.aside[number]}: {raw[:300]!r}")
        wanted[text({**found.record, "unmapped": found.unmapped or None})] += 1
    got = Counter(text(row) for row in became.rows)
    wrong += [f"only per event: {row}" for row in list(wanted - got)[:3]]
    wrong += [f"only in the plan: {row}" for row in list(got - wanted)[:3]]
    assert not wrong, "\n".join(wrong[:12])
    assert became.counts.read == len(records) == sum(fates.values())
    assert became.counts.written == fates["written"]
    return fates


def test_the_sources_are_there():
    assert {"windows_sysmon", "aws_network_firewall", "suricata"} <= set(JSON_SOURCES)


@pytest.mark.parametrize("source", source_names())
def test_every_sample_agrees(source: str, tmp_path: Path):
    fates = compare(source, samples(source, bad=True), tmp_path)
    assert fates["written"]
    assert len(fates) > 3, "the bad samples should show several reasons"


@pytest.mark.parametrize("source", source_names())
def test_every_sample_agrees_where_the_general_sql_collects_the_rest(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    only_general(monkeypatch)
    assert compare(source, samples(source, bad=True), tmp_path)["written"]


@pytest.mark.parametrize("source", JSON_SOURCES)
def test_mutated_events_agree(source: str, tmp_path: Path):
    made = list(dict.fromkeys(mutants(samples(source, bad=False), MUTANTS, seed=23)))
    # Blank lines are no records, and a line's end within a record makes two of it.
    records = [raw for raw in made if raw.strip() and b"\n" not in raw and b"\r" not in raw]
    fates = compare(source, records, tmp_path)
    assert fates["written"] > len(records) / 3
    assert {"not_json", "duplicate_key", "bad_value", "invalid", "no_time", "bad_encoding"} <= set(fates)


@pytest.mark.skipif(SHARED is None, reason="DATA_PLATFORM_SHARED_DATA names no folder with real events")
@pytest.mark.parametrize(
    ("source", "folder"),
    [("windows_sysmon", "sysmon"), ("suricata", "suricata"), ("aws_network_firewall", "network_firewall")],
)
def test_real_events_agree(source: str, folder: str, tmp_path: Path):
    files = sorted((Path(SHARED or "") / folder).glob("*.jsonl"))
    records = [line for path in files for line in path.read_bytes().splitlines() if line.strip()]
    assert records
    assert compare(source, records, tmp_path)["written"] == len(records)
