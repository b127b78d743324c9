"""A reader of a file that others replace reads one version of it."""

from __future__ import annotations

import duckdb
import pytest

from include.warehouse.replaced_file import open_published, opened_whole


@pytest.fixture
def versions(tmp_path):
    """The published file, and another version beside it."""
    for name, number in (("published", 1), ("next", 2)):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb")) as connection:
            connection.execute(f"CREATE TABLE version AS SELECT {number} AS number")
    return tmp_path / "published.duckdb", tmp_path / "next.duckdb"


@pytest.mark.parametrize("fails", [True, False], ids=["the mixture is no database", "the mixture looks well"])
def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(versions, fails):
    published, following = versions
    closed = []

    def opening():
        if following.exists():
            following.rename(published)
            if fails:
                raise duckdb.IOException("No more data remaining in MetadataReader")
            return "head of one, rest of another"
        return "whole"

    assert opened_whole(published, opening, closed.append) == "whole"
    assert closed == ([] if fails else ["head of one, rest of another"])


def test_what_is_not_replaced_is_opened_once(versions):
    published, _ = versions
    with open_published(published) as connection:
        assert connection.execute("SELECT number FROM version").fetchall() == [(1,)]


def test_a_damaged_or_missing_file_is_told(versions, tmp_path):
    published, _ = versions
    published.write_bytes(b"no database")
    with pytest.raises(duckdb.IOException):
        open_published(published)
    with pytest.raises(duckdb.IOException):
        open_published(tmp_path / "none.duckdb")
