"""Runs the engine over a few records and tells what became of each."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from include.ingestion.ocsf import engine as engines
from include.ingestion.ocsf.engine import Engine, InputObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from include.ingestion.ocsf.engine import Counts
    from include.ingestion.ocsf.parquet import Output


@dataclass
class Became:
    """What became of the records.

    Attributes:
        rows: events written, without nulls, ``unmapped`` as a dict.
        aside: code and detail by record number.
        letters: the dead letters as they stand.
    """

    counts: Counts
    outputs: list[Output]
    rows: list[dict[str, Any]]
    aside: dict[int, tuple[str, str]]
    letters: list[dict[str, Any]]


def without_nulls(value: Any) -> Any:
    """A row as JSON has it: what is missing is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Events of one Parquet file."""
    rows = pq.ParquetFile(path).read().to_pylist()
    for row in rows:
        row["unmapped"] = dict(row["unmapped"]) if row["unmapped"] is not None else None
    return [without_nulls(row) for row in rows]


def run_file(engine: Engine, path: Path, out: Path, *, account: str | None = "external", **more: Any) -> Became:
    """Map one local file."""
    out.mkdir(parents=True, exist_ok=True)
    item = InputObject(path, "raw", path.name, None, "etag", more.pop("key_account", None), None, **more)
    counts, outputs, files = engine.run(
        [item], out, batch="batch", digest="digest", region="eu-central-1", account=account
    )
    letters = []
    for file in files:
        with gzip.open(str(file["path"]), "rt", encoding="utf-8") as lines:
            letters += [json.loads(line) for line in lines]
    return Became(
        counts,
        outputs,
        [row for output in outputs for row in rows_of(output.path)],
        {letter["record"]: (letter["reason"], letter["detail"]) for letter in letters},
        letters,
    )


def run_records(engine: Engine, records: Sequence[bytes], folder: Path, **more: Any) -> Became:
    """Map records, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "records.jsonl"
    path.write_bytes(b"\n".join(records) + b"\n")
    return run_file(engine, path, folder / "out", **more)


def raw_of(letter: dict[str, Any]) -> bytes:
    """The bytes that a dead letter keeps."""
    return base64.b64decode(letter["raw"])


def only_general(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over is then collected by the general SQL."""
    monkeypatch.setattr(engines, "rest_columns", lambda *_: None)
