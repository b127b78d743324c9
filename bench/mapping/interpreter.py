"""A mapper that works as the AWS library does: for each event it walks the mapping file, and appends a dict. The baseline of `ocsf`.

It reads the same mapping and types its values; it does not validate, sort or split by day, and keeps nothing that the mapping doesn't read.
How fast a per-event mapper gets with the mapping turned into Python closures once is `per_event`'s to say; the result has both.
"""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.ingestion.ocsf.compile import compile_source
from include.ingestion.ocsf.dialect import DuckDb
from include.ingestion.ocsf.engine import rules_of
from include.ingestion.ocsf.language import load_mapping
from include.ingestion.ocsf.parquet import class_schema
from include.ingestion.sources import load_source

if TYPE_CHECKING:
    import pathlib

ROWS = 20_000
"""Written at a time."""


class Interpreter:
    """One source's mapping, interpreted anew for each event."""

    def __init__(self, source: str) -> None:
        loaded = load_source(source)
        events = json.loads(loaded.mapping_file.read_text(encoding="utf-8"))["custom_source_events"]
        self.fragments = events.get("$fragments", {})
        self.matched = events["matched_field"]
        self.kinds = {
            value: (entry["schema"], self.included(entry["schema_mapping"]))
            for value, entry in events["ocsf_mapping"].items()
        }
        self.missing = events.get("$missing", [""])
        self.documents = events.get("$documents", {})
        self.nested = loaded.nested
        self.layouts = compile_source(load_mapping(loaded.mapping_file), rules_of(loaded), DuckDb()).layouts
        self.schemas = {name: class_schema(layout) for name, layout in self.layouts.items()}

    def included(self, node: Any) -> Any:
        """A part of the mapping with its fragments put in, which the AWS library's format lacks."""
        if not isinstance(node, dict):
            return node
        merged: dict[str, Any] = {}
        for name in node.get("$include", ()):
            merged = _merged(merged, self.included(self.fragments[name]))
        return _merged(merged, {key: self.included(value) for key, value in node.items() if key != "$include"})

    def map_file(self, path: pathlib.Path, out: pathlib.Path) -> int:
        """Map a gzip file of JSON lines into one Parquet file a class; the number of events written."""
        rows: dict[str, list[dict[str, Any]]] = {}
        writers: dict[str, pq.ParquetWriter] = {}
        written = 0

        def flush(name: str) -> None:
            if name not in writers:
                writers[name] = pq.ParquetWriter(out / f"{name}.parquet", self.schemas[name], compression="zstd")
            writers[name].write_table(pa.Table.from_pylist(rows.pop(name), self.schemas[name]))

        with gzip.open(path, "rb") as lines:
            for line in lines:
                event = json.loads(line)
                kind = self.text(self.matched, event)
                if kind not in self.kinds:
                    continue
                name, mapping = self.kinds[kind]
                held = rows.setdefault(name, [])
                held.append(self.object(mapping, event, self.layouts[name]))
                written += 1
                if len(held) >= ROWS:
                    flush(name)
        for name in list(rows):
            flush(name)
        for writer in writers.values():
            writer.close()
        return written

    def object(self, mapping: dict[str, Any], event: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
        """An OCSF object of one event."""
        found: dict[str, Any] = {}
        for name, value in mapping.items():
            if name == "unmapped":
                found[name] = [(key, text) for key, text in self.flat(value, event, "") if text is not None]
            elif name not in layout:
                continue
            elif isinstance(value, dict) and isinstance(layout[name], dict) and not _is_keyword(value):
                found[name] = self.object(value, event, layout[name])
            else:
                found[name] = self.typed(value, event, layout[name])
        return found

    def flat(self, node: Any, event: dict[str, Any], prefix: str) -> list[tuple[str, str | None]]:
        """Leaves of ``unmapped``."""
        if isinstance(node, dict) and not _is_keyword(node):
            return [pair for name, value in node.items() for pair in self.flat(value, event, f"{prefix}{name}.")]
        return [(prefix[:-1], self.text(node, event))]

    def typed(self, node: Any, event: dict[str, Any], kind: Any) -> Any:
        """A value of the type that OCSF says."""
        if isinstance(kind, list):
            items = node if isinstance(node, list) else [node]
            if isinstance(kind[0], dict):
                return [self.object(item, event, kind[0]) for item in items if isinstance(item, dict)]
            return [item for one in items if (item := self.typed(one, event, kind[0])) is not None]
        text = self.text(node, event) if not isinstance(kind, dict) else None
        if text is None or kind in ("text", "json"):
            return text
        if kind == "ms":
            return _milliseconds(text)
        if kind == "bool":
            return text == "true"
        return float(text) if kind == "double" else int(text)

    def text(self, node: Any, event: dict[str, Any]) -> str | None:
        """The text of a value."""
        if isinstance(node, str) and node.startswith("$"):
            return self.path(node, event)
        if not isinstance(node, dict):
            return None if node is None else str(node)
        if "enum" in node:
            table = node["enum"]
            asked = self.text(table["evaluate"], event)
            return self.text(table["values"][asked] if asked in table["values"] else table.get("other"), event)
        if "$first" in node:
            return next((found for option in node["$first"] if (found := self.text(option, event)) is not None), None)
        if "$concat" in node:
            parts = [self.text(part, event) for part in node["$concat"]]
            return None if None in parts else "".join(part or "" for part in parts)
        if "$if" in node:
            return self.text(node.get("$then" if self.holds(node["$if"], event) else "$else"), event)
        return self.changed(node, event)

    def changed(self, node: dict[str, Any], event: dict[str, Any]) -> str | None:
        """The text that a ``$of`` chain gives."""
        text = self.text(node["$of"], event)
        if text is not None and "$pattern" in node:
            match = re.search(node["$pattern"], text)
            text = (match[1] if match.re.groups else match[0]) or None if match else None
        if text is not None and "$case" in node:
            text = text.lower() if node["$case"] == "lower" else text.upper()
        if text is not None and "$base" in node:
            text = str(int(text, 16))
        return text if text is not None else node.get("$default")

    def holds(self, condition: dict[str, Any], event: dict[str, Any]) -> bool:
        """Whether a condition is true of an event."""
        if "$all" in condition:
            return all(self.holds(part, event) for part in condition["$all"])
        if "$any" in condition:
            return any(self.holds(part, event) for part in condition["$any"])
        if "$not" in condition:
            return not self.holds(condition["$not"], event)
        text = self.text(condition["$of"], event)
        if "$exists" in condition:
            return (text is not None) is condition["$exists"]
        if "$in" in condition:
            return text is not None and text in condition["$in"]
        return text is not None and bool(re.search(condition["$matches"], text))

    def path(self, path: str, event: dict[str, Any]) -> str | None:
        """The text at a path."""
        root, _, rest = path.partition(".")
        found: Any = event
        if root != "$":
            document = self.documents[root[1:]]
            for candidate in document["in"]:
                found = self.walk(candidate, event)
                if isinstance(found, dict) and found.get(document["having"]) is not None:
                    break
        found = self.walk(f"$.{rest}" if rest else "$", found)
        if found is None:
            return None
        if isinstance(found, dict | list):
            return json.dumps(found, separators=(",", ":"))
        text = str(found).lower() if isinstance(found, bool) else str(found)
        return None if text in self.missing else text

    def walk(self, path: str, found: Any) -> Any:
        """What is at a path."""
        walked = "$"
        for step in path.split(".")[1:]:
            walked = f"{walked}.{step}"
            key, _, index = step.partition("[")
            found = found.get(key) if isinstance(found, dict) else None
            if index and isinstance(found, list):
                place = int(index[:-1])
                found = found[place] if place < len(found) else None
            if isinstance(found, str) and walked in self.nested:
                found = _parsed(found, self.nested[walked])
        return found


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = (
            _merged(merged[key], value) if both and not _is_keyword(value) and not _is_keyword(merged[key]) else value
        )
    return merged


def _is_keyword(node: dict[str, Any]) -> bool:
    return "enum" in node or any(key.startswith("$") for key in node)


def _parsed(text: str, how: str) -> Any:
    if how == "json" or text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def _milliseconds(text: str) -> int:
    if text[4:5] != "-":
        number = float(text)
        return int(number * 1000 if number < 1e11 else number)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
