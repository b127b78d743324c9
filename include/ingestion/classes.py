"""The classes that a source's mapping makes, with their columns: ``classes.json`` in the source's folder.

``{"<class>": [["<column>", "<Glue type>"], …]}``; it is generated from the mapping and the OCSF schema.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.security_lake import PARTITION_KEYS, custom_source_name
from include.ingestion.sources import SourceInvalid, load_source, source_names

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

CLASSES_FILE: Final = "classes.json"


@dataclass(frozen=True)
class WantedTable:
    """A table of the lake.

    Attributes:
        source: whose events.
        class_name: of OCSF.
        custom_source: its name in the lake.
        columns: name and Glue type of each, but for the partition keys.
    """

    source: str
    class_name: str
    custom_source: str
    columns: tuple[tuple[str, str], ...]


def wanted_tables(source: str | None = None) -> list[WantedTable]:
    """The tables of a source, or of all; a source without the file has none.

    Raises:
        SourceInvalid: a file is malformed.
        SourceUnknown: there is no such source.
    """
    tables = []
    for name in source_names() if source is None else [source]:
        file = load_source(name).folder / CLASSES_FILE
        if not file.exists():
            log.warning("expected %s/%s, found none; its events get no table. Generate it", name, CLASSES_FILE)
            continue
        for class_name, columns in sorted(load_classes(file).items()):
            try:
                custom_source = custom_source_name(name, class_name)
            except ValueError as error:
                raise SourceInvalid(f"{name}/{CLASSES_FILE}: {error}") from error
            tables.append(WantedTable(name, class_name, custom_source, columns))
    return tables


def load_classes(file: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Columns by class.

    Raises:
        SourceInvalid: the file is malformed; the message names the class.
    """
    where = f"{file.parent.name}/{file.name}"
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceInvalid(f"{where}: expected JSON, found {error}; generate it anew") from error
    if not isinstance(content, dict):
        raise SourceInvalid(f"{where}: expected an object of classes, found {type(content).__name__}")
    return {name: _columns(f"{where}, {name}", columns) for name, columns in content.items()}


def _columns(where: str, columns: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(columns, list) or not columns:
        raise SourceInvalid(f"{where}: expected a list of columns, found {columns!r:.80}")
    found = []
    for column in columns:
        if not (isinstance(column, list) and len(column) == 2 and all(isinstance(part, str) for part in column)):
            raise SourceInvalid(f"{where}: expected columns as [name, type], found {column!r:.80}")
        if column[0] not in PARTITION_KEYS:  # of the path, not of the file
            found.append((column[0], column[1]))
    return tuple(found)
