"""The loader: layouts, separators, nulls, orphans, and that no row is ever lost between read, loaded and rejected."""

from __future__ import annotations

import json
from contextlib import closing

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from include.local.aurora.source import Aurora
from include.local.tickit.__main__ import main
from include.local.tickit.generate import generate
from include.local.tickit.load import LoadError, read_tables
from include.local.tickit.rows import to_rows, write_files
from include.local.tickit.schema import TABLES

VENUE = "1|Toyota Park|Bridgeview|IL|0\n"


def load(directory, files):
    """Load files given as name → text or bytes; return (tables, report, rejects)."""
    source = directory / "files"
    for name, content in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rejects = directory / "rejects.jsonl"
    tables, report = read_tables(str(source), rejects)
    return tables, report, [json.loads(line) for line in rejects.read_text().splitlines()]


def one_row(directory, table, line):
    """The only row of a one-line file."""
    tables, _, rejects = load(directory, {f"{table}.txt": line})
    assert rejects == []
    (row,) = to_rows(table, tables[table])
    return row


def reason(directory, table, line):
    """Why a one-line file's only line is rejected."""
    _, report, (reject,) = load(directory, {f"{table}.txt": line})
    assert (report.tables[0].read, report.tables[0].loaded, report.tables[0].rejected) == (1, 0, 1)
    assert (reject["table"], reject["line"]) == (table, 1)
    return reject["reason"]


def test_what_was_generated_loads_as_it_was(tmp_path):
    tables = generate("small", seed=5)
    write_files(tables, tmp_path / "out")
    loaded, report = read_tables(str(tmp_path / "out"), tmp_path / "rejects.jsonl")
    for name in TABLES:
        assert list(to_rows(name, loaded[name])) == list(to_rows(name, tables[name]))
    assert report.orphans == ()


@pytest.mark.parametrize(
    "name", ["venue.txt", "venue_pipe.txt", "VENUE.csv", "venue/part-0000", "venue/a.txt", "allvenue.tsv"]
)
def test_a_table_is_a_file_or_a_folder(tmp_path, name):
    tables, report, _ = load(tmp_path, {name: VENUE})
    assert tables["venue"]["venuename"].tolist() == ["Toyota Park"]
    assert report.tables[0].files == (name,)


def test_the_public_names_are_known(tmp_path):
    listing = "1|36861|7872|1850|10|182.00|1820.00|2008-01-24 06:43:29\n"
    sale = "1\t1\t36861\t21191\t7872\t1875\t4\t728.00\t109.20\t2/18/2008 02:36:48\n"
    tables, _, _ = load(tmp_path, {"listings_pipe.txt": listing, "sales_tab.txt": sale})
    assert list(to_rows("sales", tables["sales"])) == [
        (1, 1, 36861, 21191, 7872, 1875, 4, 728.0, 109.2, "2008-02-18 02:36:48")
    ]


def test_all_files_of_a_folder_are_read(tmp_path):
    _, report, rejects = load(tmp_path, {"venue/a": VENUE, "venue/b": VENUE.replace("1|", "2|", 1), "venue/c": VENUE})
    assert (report.tables[0].read, report.tables[0].loaded) == (3, 2)
    assert rejects[0]["reason"] == "venueid 1 was read before, at venue/a:1"


def test_other_files_are_ignored_and_named(tmp_path):
    _, report, _ = load(tmp_path, {"venue.txt": VENUE, "readme.md": "x", ".hidden": "x", "venue/_SUCCESS": ""})
    assert report.ignored == ("readme.md",)


def test_nulls_and_empty_fields(tmp_path):
    assert one_row(tmp_path, "venue", "1|\\N||\\N|\\N\n") == (1, None, "", None, None)


def test_last_line_without_newline_windows_newlines_and_a_byte_order_mark(tmp_path):
    text = "\ufeff1|A|B|IL|5\r\n2|C|D|IL|\r\n3|Café|E|QC|7"
    tables, _, rejects = load(tmp_path, {"venue.txt": text})
    assert rejects == []
    assert list(to_rows("venue", tables["venue"]))[1:] == [(2, "C", "D", "IL", None), (3, "Café", "E", "QC", 7)]


@pytest.mark.parametrize(
    ("table", "line", "expected"),
    [
        ("venue", "1|A|B|IL\n", "expected 5 fields, found 4"),
        ("venue", "1|A|B|IL|5|x\n", "expected 5 fields, found 6"),
        ("venue", "one|A|B|IL|5\n", "venueid: can not read 'one' as integer"),
        ("venue", "9999999999|A|B|IL|5\n", "venueid: 9999999999 is out of range of integer"),
        ("venue", "\\N|A|B|IL|5\n", "venueid: null where a value is required"),
        ("venue", "1|A|B|ILL|5\n", "venuestate: 3 characters, longer than 2"),
        ("venue", "1|A|B|IL|٣\n", "venueseats: can not read '٣' as integer"),
        ("venue", "\n", "empty line"),
        ("venue", b"1|\xff|B|IL|5\n", "not UTF-8 at byte 2"),
        ("date", "1|2008-02-30|MO|1|FEB|1|2008|TRUE\n", "caldate: can not read '2008-02-30' as date"),
        ("date", "1|2008-02-03|MO|1|FEB|1|2008|yes\n", "holiday: can not read 'yes' as boolean"),
        ("event", "1|1|1|1827|X|2008-13-01 10:00:00\n", "starttime: can not read '2008-13-01 10:00:00' as timestamp"),
        ("sales", "1|1|1|1|1|1|40000|1.00|0.15|2008-01-01 00:00:00\n", "qtysold: 40000 is out of range of smallint"),
        ("sales", "1|1|1|1|1|1|1|1.005|0.15|2008-01-01 00:00:00\n", "pricepaid: can not read '1.005' as decimal(8,2)"),
        ("sales", "1|1|1|1|1|1|1|NaN|0.15|2008-01-01 00:00:00\n", "pricepaid: can not read 'NaN' as decimal(8,2)"),
    ],
)
def test_a_row_that_cannot_be_read_is_rejected_with_its_reason(tmp_path, table, line, expected):
    assert reason(tmp_path, table, line) == expected


def test_an_empty_place_says_what_was_expected(tmp_path):
    with pytest.raises(LoadError, match="expected a folder or a file for one of users, venue"):
        read_tables(str(tmp_path), tmp_path / "rejects.jsonl")


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\n\r|"), max_size=12)
LINE = st.one_of(
    st.builds("{}|{}|{}|{}|{}".format, st.integers(-5, 30), FIELD, FIELD, FIELD, st.integers(-5, 10**10)),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.binary(max_size=30),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, max_size=30))
def test_loaded_and_rejected_are_what_was_read(tmp_path, lines):
    content = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    tables, report, rejects = load(tmp_path, {"venue.txt": content})
    (table,) = report.tables
    assert table.read == content.count(b"\n") + bool(content and not content.endswith(b"\n"))
    assert table.loaded == len(tables["venue"]["venueid"])
    assert table.rejected == len(rejects)
    assert table.loaded + table.rejected == table.read
    assert len({reject["line"] for reject in rejects}) == len(rejects)


def test_an_s3_prefix_loads_like_a_directory(tmp_path):
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        for key in ("data/tickit/venue/part-1", "data/tickit/venue/part-2", "data/tickitother/venue/part-3"):
            client.put_object(Bucket="bucket", Key=key, Body=VENUE.replace("1|", f"{key[-1]}|", 1).encode())
        tables, _ = read_tables("s3://bucket/data/tickit/", tmp_path / "rejects.jsonl")
        assert tables["venue"]["venueid"].tolist() == [1, 2]
        with pytest.raises(LoadError, match=r"s3://bucket/none: expected a folder"):
            read_tables("s3://bucket/none", tmp_path / "rejects.jsonl")


def test_loading_twice_changes_nothing(tmp_path, capsys):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "venue.txt").write_text(VENUE)
    arguments = ["load", "--from", str(tmp_path / "files"), "--home", str(tmp_path / "home"), "--size", "small"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert "venue: read 1, loaded 1, rejected 0" in capsys.readouterr().out
    with closing(Aurora(tmp_path / "home").connect()) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}
    assert counts["venue"] == 1
    assert counts["sales"] == 1_800


def test_the_public_files_load_as_they_are(tmp_path, shared_data):
    tables, report = read_tables(str(shared_data / "tickit"), tmp_path / "rejects.jsonl")
    read = {table.table: (table.read, table.loaded, table.rejected) for table in report.tables}
    assert read == {
        "venue": (202, 202, 0), "category": (11, 11, 0), "date": (365, 365, 0), "event": (8798, 8798, 0),
    }  # fmt: skip
    assert tables["venue"]["venueseats"].tolist().count(None) == 15
    (orphans,) = report.orphans
    assert (orphans.table, orphans.column, orphans.count) == ("event", "venueid", 139)
    assert orphans.missing == {12: 47, 51: 36, 64: 56}


def test_tables_missing_from_the_public_files_are_generated_to_fit(tmp_path, shared_data):
    given_tables, _ = read_tables(str(shared_data / "tickit"), tmp_path / "rejects.jsonl")
    tables = generate("full", given=given_tables)
    assert len(tables["sales"]["salesid"]) == 172_456
    assert set(tables["sales"]["eventid"].tolist()) <= set(tables["event"]["eventid"].tolist())
