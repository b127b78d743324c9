"""What clients were told: one line of JSON for each answer, written before the client goes on.

A process that is killed may leave its last line unfinished; that one is not read.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Told(StrEnum):
    """What happened, as far as the client knows."""

    WRITTEN = "written"
    DELETED = "deleted"
    WRITE_UNCLEAR = "write unclear"
    """No answer came: it is there, or it isn't."""
    DELETE_UNCLEAR = "delete unclear"
    MISSING = "missing"
    """An acknowledged item was not there when it was to be written again."""
    READ_FAILED = "read failed"
    READ_STALE = "read stale"
    """An acknowledged write was not seen, though the read went by the same route or a later one."""
    READ_BEHIND = "read behind"
    """An acknowledged write was not seen, by a route that was cached before the tenant was moved."""
    READ_FOREIGN = "read foreign"
    """Another tenant's item was seen."""


@dataclass(frozen=True)
class Entry:
    """One answer.

    Attributes:
        at: when, in seconds since the epoch.
        told: what it was.
        tenant: whose.
        table: prefix of the data table.
        key: of the item, as clients know it.
        value: that was written; None: deleted, or nothing known.
        hot: whether the key is written again and again, with growing values; any other is written once and may be deleted once.
        epoch: of the route; -1: not known.
        why: of what went wrong.
    """

    at: float
    told: Told
    tenant: str
    table: str
    key: str
    value: int | None = None
    hot: bool = False
    epoch: int = -1
    why: str = ""


class Journal:
    """Appends entries. Used by many threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, entry: Entry) -> None:
        """Write it down; it is in the file's buffers of the operating system when this returns."""
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def entries(path: Path) -> Iterator[Entry]:
    """What is in a journal, the oldest first."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.endswith("\n"):
                fields = json.loads(line)
                yield Entry(**fields | {"told": Told(fields["told"])})
