"""A report in its three forms. What rows hold is somebody's input."""

from __future__ import annotations

import json
import re

import pytest

from include.contracts.checks import Severity
from include.quality.exceptions import EvidenceUnreadable
from include.quality.render import escaped, from_json, to_json, to_markdown, to_note, to_text
from include.quality.report import Outcome
from tests.include.quality.conftest import check, counting, report, result

HOSTILE = "[pay](https://evil.example) <img src=x onerror=alert(1)> | *b* `c` www.evil.example a@b.example\n# title"
FAILED = result(
    counting("addresses", "email is null", description="Every sale has a buyer's address."),
    Outcome.FAILED,
    measured=7,
    message="expected = 0, found 7",
    failed_rows=7,
    samples=tuple({"id": number, "note": HOSTILE if number == 1 else None} for number in range(7)),
)
WARNED = result(
    counting("late", "id = 7", severity=Severity.WARNING), Outcome.FAILED, measured=1, message="expected = 0, found 1"
)
ERRORED = result(
    check("typo", "missing_kount(email) = 0", relation="rpt_other"),
    Outcome.ERRORED,
    measured=None,
    message="could not be evaluated: no such column",
)
PASSED = result(counting("ids", "id < 0"))
REPORT = report(PASSED, WARNED, FAILED, ERRORED)


def test_the_log_tells_each_relation_with_its_score_and_what_did_not_pass():
    lines = to_text(REPORT).splitlines()

    assert lines[0] == (
        "quality gate errored: 4 checks (1 ok, 2 failed, 1 errored), score 25.00 %, 1.5 s, at 2026-03-01T12:00:00+00:00"
    )
    assert "rpt_sales: score 33.33 %, 1 of 3 checks passed" in lines
    assert "rpt_other: score 0.00 %, 0 of 1 checks passed" in lines
    blocking, warning = (next(n for n, line in enumerate(lines) if slug in line) for slug in ("addresses", "late"))
    assert blocking < warning  # the worse one first
    assert lines[blocking] == "  failed   error    sales/rpt_sales/addresses, 7 rows"
    assert lines[blocking + 1].strip() == "Every sale has a buyer's address."
    assert lines[blocking + 2].strip() == "expected = 0, found 7"
    assert lines[blocking + 3].split() == ["id", "|", "note"]
    assert [line.split()[0] for line in lines[blocking + 4 : blocking + 9]] == ["0", "1", "2", "3", "4"]
    assert lines[blocking + 9].split()[0] == "failed"  # five rows, not seven
    assert "sales/rpt_sales/ids" not in "\n".join(lines)


def test_a_value_cannot_forge_a_line_of_the_log():
    forged = result(FAILED.check, Outcome.FAILED, samples=({"id": "x\nquality gate passed\r\x1b[2Jdone"},))

    text = to_text(report(forged))

    assert "\nquality gate passed" not in text
    assert "\x1b" not in text


def test_markdown_shows_values_as_they_are_and_makes_nothing_of_them():
    text = to_markdown(REPORT)

    assert "| rpt_sales | 33.33 % | 2 | 0 |" in text
    assert "<img" not in text
    assert "[pay](" not in text
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert row.count(" | ") == 1  # the value's own bar is no cell's
    assert "\\[pay\\]\\(https\\://evil" in row


@pytest.mark.parametrize(
    "hostile",
    [
        "https://evil.example",
        "www.evil.example",
        "WWW.evil.example",
        "a@b.example",
        "<b>",
        "_x_",
        "a_ _b",
        "&lt;",
        "![x](y)",
        "$x$",
    ],
)
def test_no_text_is_recognised_as_a_link_or_a_tag(hostile):
    shown = escaped(hostile)

    assert "://" not in shown.replace("\\://", "")
    assert "www." not in shown.lower()
    assert "@" not in shown.replace("\\@", "")
    assert "<" not in shown
    assert shown != "&lt;"
    assert "](" not in shown
    assert not re.search(r"(?<![\\\w])_", shown)


def test_markdown_can_leave_rows_out():
    assert "| id |" in to_markdown(REPORT)
    assert "| id |" not in to_markdown(REPORT, samples=False)


def test_a_note_fits_and_says_how_much_is_left_out():
    many = report(*(result(counting(f"rule_{n}", "id = 1"), Outcome.FAILED, message="x" * 500) for n in range(200)))

    note = to_note(many, 700)

    assert len(note) <= 700
    assert "**quality gate failed: 200 checks" in note
    told = note.count("\n- ")
    assert told >= 1
    assert f"…and {200 - told} more, see the task's log" in note


def test_a_limit_that_fits_nothing_is_kept():
    assert len(to_markdown(REPORT, limit=50)) == 50


def test_a_note_of_what_passed_is_its_headline():
    assert (
        to_note(report(PASSED), 700)
        .strip()
        .startswith("**quality gate passed: 1 checks (1 ok, 0 failed, 0 errored), score 100.00 %")
    )


def test_json_is_read_back_as_it_was():
    assert from_json(to_json(REPORT)) == REPORT
    assert to_json(REPORT) == to_json(from_json(to_json(REPORT)))


def test_json_says_its_version_and_the_verdict_for_readers_that_know_no_more():
    document = json.loads(to_json(REPORT))

    assert (document["version"], document["verdict"], document["score"]) == (1, "errored", 25.0)
    assert document["relations"] == {"rpt_other": 0.0, "rpt_sales": 33.33}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"version": 2}', to_json(REPORT).replace(b'"outcome":"errored"', b'"outcome":"odd"')]
)
def test_another_form_is_refused(body):
    with pytest.raises(EvidenceUnreadable, match="run the gate again"):
        from_json(body)
