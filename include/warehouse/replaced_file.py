"""Open a DuckDB file that others replace by a rename."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import duckdb


def open_published(file: Path) -> duckdb.DuckDBPyConnection:
    """A connection that reads ``file`` as it is now, however often it is replaced.

    Raises:
        duckdb.IOException: there is no such file, or it is damaged.
    """
    import duckdb

    return opened_whole(file, lambda: duckdb.connect(str(file), read_only=True), lambda opened: opened.close())


def opened_whole[Opened](file: Path, opening: Callable[[], Opened], closing: Callable[[Opened], object]) -> Opened:
    """Open ``file``, again if it was replaced meanwhile.

    DuckDB opens a file by its name more than once; one that is replaced in between is read as the head of one version and the rest of
    another ("No more data remaining in MetadataReader"). Once it is open, it stays the version that it was.

    Args:
        file: what others replace.
        opening: opens it.
        closing: closes what was opened, if that may be of two versions.
    """
    import duckdb

    while True:
        before = _identity(file)
        try:
            opened = opening()
        except duckdb.Error:
            if _identity(file) == before:
                raise
            continue
        if _identity(file) == before:
            return opened
        closing(opened)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        told = file.stat()
    except FileNotFoundError:
        return None
    return told.st_ino, told.st_mtime_ns  # a new file may get the number of one that is gone
