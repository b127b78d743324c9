"""Reads TICKIT files as AWS publishes them: a folder or a file per table, pipe or tab separated, without header.

A row that can't be read goes to the reject file (JSON lines: table, file, line, reason, raw text); for every table
loaded + rejected = read. Rows that refer to a parent that isn't there are loaded and counted, as the source database
has no foreign keys: the public sample has 139 events of three venues that its venue file lacks.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from include.local.tickit.rows import to_columns
from include.local.tickit.schema import REFERENCES, TABLES, Column, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

    from include.local.tickit.generate import Columns, Tables

_NULL: Final = "\\N"
_BOOLEANS: Final = {"true": 1, "t": 1, "1": 1, "false": 0, "f": 0, "0": 0}
_US_TIMESTAMP: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{2}:\d{2}:\d{2})")
"""The public sales file writes ``2/18/2008 02:36:48``."""


class LoadError(Exception):
    """Nothing could be loaded; the message says what was expected and found."""


class _RejectedError(Exception):
    """A row, or one of its values, can't be read; the message is the reason."""


@dataclass(frozen=True)
class TableReport:
    """What became of one table's rows."""

    table: str
    files: tuple[str, ...]
    read: int
    loaded: int
    rejected: int


@dataclass(frozen=True)
class Orphans:
    """Rows of a table that refer to parents that are not there: ``count`` rows, by missing key."""

    table: str
    column: str
    parent: str
    missing: Mapping[int, int]

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(self.missing.values())


@dataclass(frozen=True)
class LoadReport:
    """What became of everything read.

    Attributes:
        tables: one report per table that had files.
        orphans: references without a parent; empty where all hold.
        ignored: files that are no table's.
        rejects: the reject file.
    """

    tables: tuple[TableReport, ...]
    orphans: tuple[Orphans, ...]
    ignored: tuple[str, ...]
    rejects: Path

    def lines(self) -> Iterator[str]:
        """The report in words."""
        for table in self.tables:
            yield f"{table.table}: read {table.read}, loaded {table.loaded}, rejected {table.rejected}"
        for orphans in self.orphans:
            missing = ", ".join(f"{key} ({count})" for key, count in sorted(orphans.missing.items())[:10])
            yield (
                f"{orphans.table}.{orphans.column}: {orphans.count} rows kept that refer to {len(orphans.missing)} "
                f"missing rows of {orphans.parent}: {missing}"
            )
        for name in self.ignored:
            yield f"ignored {name}: no table of that name"
        if any(table.rejected for table in self.tables):
            yield f"rejected rows and reasons: {self.rejects}"


@dataclass
class _Reader:
    """Reads the files of one table."""

    table: Table
    rejects: TextIO
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    read: int = 0
    rejected: int = 0
    _first_lines: dict[Any, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._converters = [_converter(column) for column in self.table.columns]

    def read_file(self, path: Path, name: str) -> None:
        """Read one file; ``name`` is how messages call it."""
        delimiter = None
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                self.read += 1
                try:
                    text = _decode(raw)
                    delimiter = delimiter or _detect_delimiter(text, len(self._converters))
                    self._accept(text.split(delimiter), f"{name}:{number}")
                except _RejectedError as error:
                    self.rejected += 1
                    shown = raw.rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")
                    reject = {
                        "table": self.table.name,
                        "file": name,
                        "line": number,
                        "reason": str(error),
                        "raw": shown,
                    }
                    self.rejects.write(json.dumps(reject) + "\n")

    def _accept(self, fields: list[str], where: str) -> None:
        expected = len(self._converters)
        if len(fields) == expected + 1 and not fields[-1]:
            fields.pop()  # a delimiter that ends the line, as some exports write
        if len(fields) != expected:
            raise _RejectedError(f"expected {expected} fields, found {len(fields)}")
        row = tuple(convert(text) for convert, text in zip(self._converters, fields, strict=True))
        if (first := self._first_lines.setdefault(row[0], where)) is not where:
            raise _RejectedError(f"{self.table.key} {row[0]} was read before, at {first}")
        self.rows.append(row)


def read_tables(
    source: str, rejects: Path, *, endpoint_url: str | None = None
) -> tuple[dict[str, Columns], LoadReport]:
    """Read all tables found at ``source``.

    Args:
        source: a directory, or ``s3://bucket/prefix``.
        rejects: the reject file; replaced.
        endpoint_url: of S3; default as boto3 finds it (``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_S3``).

    Returns:
        The tables found, and what became of their rows.

    Raises:
        LoadError: nothing there is a table's.
    """
    if not source.startswith("s3://"):
        return _read_directory(Path(source), rejects)
    with tempfile.TemporaryDirectory(prefix="tickit-") as directory:
        _download(source, Path(directory), endpoint_url)
        return _read_directory(Path(directory), rejects, called=source)


def count_orphans(tables: Tables) -> tuple[Orphans, ...]:
    """References between ``tables`` that have no parent."""
    found = []
    for child, column, parent in REFERENCES:
        if child in tables and parent in tables:
            known = set(tables[parent][TABLES[parent].key].tolist())
            missing = Counter(value for value in tables[child][column].tolist() if value not in known)
            if missing:
                found.append(Orphans(child, column, parent, missing))
    return tuple(found)


def _read_directory(directory: Path, rejects: Path, called: str | None = None) -> tuple[dict[str, Columns], LoadReport]:
    files, ignored = _find_files(directory)
    if not files:
        raise LoadError(
            f"{called or directory}: expected a folder or a file for one of {', '.join(TABLES)}, found "
            f"{', '.join(ignored) or 'nothing'}; give the folder that holds them"
        )
    tables, reports = {}, []
    rejects.parent.mkdir(parents=True, exist_ok=True)
    with rejects.open("w", encoding="utf-8") as reject_file:
        for name, paths in files.items():
            reader = _Reader(TABLES[name], reject_file)
            for path in paths:
                reader.read_file(path, str(path.relative_to(directory)))
            tables[name] = to_columns(name, reader.rows)
            names = tuple(str(path.relative_to(directory)) for path in paths)
            reports.append(TableReport(name, names, reader.read, len(reader.rows), reader.rejected))
            if reader.read != len(reader.rows) + reader.rejected:
                raise AssertionError(f"{name}: loaded + rejected is not read: {reports[-1]}")
    return tables, LoadReport(tuple(reports), count_orphans(tables), ignored, rejects)


def _find_files(directory: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Files per table, in the order of the schema, and names of files that are no table's."""
    tables = {alias: table.name for table in TABLES.values() for alias in table.file_names}
    found: dict[str, list[Path]] = {name: [] for name in TABLES}
    ignored = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if not path.is_file() or any(part.startswith((".", "_")) for part in relative.parts):
            continue
        folder = relative.parts[0] if len(relative.parts) > 1 else None
        name = tables.get((folder or path.stem).lower())
        if name:
            found[name].append(path)
        else:
            ignored.append(str(relative))
    return {name: paths for name, paths in found.items() if paths}, tuple(ignored)


def _download(source: str, directory: Path, endpoint_url: str | None) -> None:
    import boto3

    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    client = boto3.client("s3", endpoint_url=endpoint_url)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            target = (directory / entry["Key"].removeprefix(prefix)).resolve()
            if entry["Key"].endswith("/") or not target.is_relative_to(directory.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, entry["Key"], str(target))


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").lstrip("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _RejectedError(f"not UTF-8 at byte {error.start}") from error
    if not text:
        raise _RejectedError("empty line")
    if "\0" in text:
        raise _RejectedError("a NUL character")
    return text


def _detect_delimiter(line: str, fields: int) -> str:
    """Tab or pipe: the one that gives the table's number of fields, else the more frequent."""
    for delimiter in "|\t":
        if line.count(delimiter) in (fields - 1, fields):
            return delimiter
    return max("|\t", key=line.count)


def _converter(column: Column) -> Callable[[str], Any]:
    """How a field of ``column`` becomes the value that the source database takes."""
    kind = column.mysql
    if kind.base in {"CHAR", "VARCHAR"}:
        convert: Callable[[str], Any] = _text(kind.arguments[0])
    elif column.boolean:
        convert = _boolean
    elif kind.integer_limit is not None:
        convert = _integer(kind.integer_limit, kind.base.lower())
    elif kind.base == "DECIMAL":
        convert = _decimal(*kind.arguments)
    elif kind.base == "DATE":
        convert = _date
    else:
        convert = _timestamp
    empty_is_null = kind.base not in {"CHAR", "VARCHAR"}

    def checked(text: str) -> Any:
        if text == _NULL or (empty_is_null and not text):
            if column.nullable:
                return None
            raise _RejectedError(f"{column.name}: null where a value is required")
        try:
            return convert(text)
        except ValueError as error:
            raise _RejectedError(f"{column.name}: {error or f'can not read {text!r} as {column.type}'}") from error

    return checked


def _text(length: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if len(text) > length:
            raise ValueError(f"{len(text)} characters, longer than {length}")
        return text

    return convert


def _boolean(text: str) -> int:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(f"can not read {text!r} as boolean") from None


def _integer(limit: int, name: str) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.removeprefix("-").isdecimal()):
            raise ValueError(f"can not read {text!r} as {name}")
        value = int(text)
        if not -limit <= value < limit:
            raise ValueError(f"{value} is out of range of {name}")
        return value

    return convert


def _decimal(precision: int, scale: int) -> Callable[[str], float]:
    pattern = re.compile(rf"-?\d{{1,{precision - scale}}}(\.\d{{0,{scale}}}0*)?", re.ASCII)

    def convert(text: str) -> float:
        if not pattern.fullmatch(text):
            raise ValueError(f"can not read {text!r} as decimal({precision},{scale})")
        return float(text)

    return convert


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"can not read {text!r} as date") from None


def _timestamp(text: str) -> str:
    iso = text
    if match := _US_TIMESTAMP.fullmatch(text):
        month, day, year, clock = match.groups()
        iso = f"{year}-{month:0>2}-{day:0>2} {clock}"
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise ValueError(f"can not read {text!r} as timestamp") from None
