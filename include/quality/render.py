"""A gate's report as text for the log, as Markdown for a run's note or an approval, and as JSON for the task's page and the record.

Values of rows that fail are somebody's input: in Markdown they are escaped, so that none becomes a link, a picture or a tag.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.contracts.checks import Check, Severity
from include.quality.exceptions import EvidenceUnreadable
from include.quality.report import CheckResult, GateReport, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION = 1
"""Of the JSON form. What is added later is optional; another meaning is another version."""
SAMPLES_TOLD = 5

_MOST_TOLD = 20
"""Results that Markdown tells at most; the log and the JSON form have all."""
_CELL_CHARACTERS = 60
_MARKED = re.compile(r"([\\`*\[\]()|~#!@:$^{}]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""A line below between letters marks nothing, and names are easier to read without."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_GLYPHS = {Outcome.PASSED: "ok", Outcome.FAILED: "failed", Outcome.ERRORED: "errored"}


def to_text(report: GateReport) -> str:
    """For the log: a block a relation; what failed with its rule, its value and some of its rows, what passed as a number."""
    return "\n".join([_headline(report), *(line for name in report.relations for line in _relation(report, name))])


def _headline(report: GateReport) -> str:
    counts = ", ".join(f"{_count(report.results, outcome)} {_GLYPHS[outcome]}" for outcome in Outcome)
    return (
        f"quality gate {report.verdict.value}: {len(report.results)} checks ({counts}), score {report.score():.2f} %, "
        f"{report.seconds:.1f} s, at {report.scanned_at.isoformat(timespec='seconds')}"
    )


def _count(results: Iterable[CheckResult], outcome: Outcome) -> int:
    return sum(result.outcome is outcome for result in results)


def _relation(report: GateReport, relation: str) -> Iterator[str]:
    results = report.of(relation)
    yield f"{relation}: score {report.score(relation):.2f} %, {_count(results, Outcome.PASSED)} of {len(results)} checks passed"
    for result in _worst_first(results):
        rows = "" if result.failed_rows is None else f", {result.failed_rows} rows"
        yield f"  {_GLYPHS[result.outcome]:8} {result.check.severity.value:8} {result.check.key}{rows}"
        yield f"           {_one_line(result.check.description)}"
        yield f"           {_one_line(result.message)}"
        yield from (f"           {line}" for line in _table(result.samples[:SAMPLES_TOLD]))


def _worst_first(results: Iterable[CheckResult]) -> list[CheckResult]:
    """What did not pass: errored, then what blocks, then the rest, in the order of the checks."""
    told = [result for result in results if result.outcome is not Outcome.PASSED]
    return sorted(
        told, key=lambda result: (result.outcome is not Outcome.ERRORED, result.check.severity is not Severity.ERROR)
    )


def _table(rows: tuple[dict[str, Any], ...]) -> Iterator[str]:
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[position]) for line in cells) for position in range(len(names))]
    for line in cells:
        yield " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    text = "null" if value is None else _one_line(str(value))
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def _one_line(text: str) -> str:
    """Without line breaks and other characters that move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_markdown(report: GateReport, *, limit: int | None = None, samples: bool = True) -> str:
    """For people who decide: the verdict, a row a relation, then what did not pass, the worst first.

    Args:
        report: what the gate found.
        limit: characters; what does not fit is left out from the end, and counted.
        samples: whether to show rows that fail.
    """
    lines = [f"**{_headline(report)}**", "", "| Relation | Score | Failed | Errored |", "|---|---|---|---|"]
    for relation in report.relations:
        results = report.of(relation)
        lines.append(
            f"| {escaped(relation)} | {report.score(relation):.2f} % | {_count(results, Outcome.FAILED)} "
            f"| {_count(results, Outcome.ERRORED)} |"
        )
    head = "\n".join(lines)
    told = _worst_first(report.results)
    blocks = [_block(result, samples=samples) for result in told[:_MOST_TOLD]]
    return _fitted(head, blocks, len(told), limit)


def to_xcom(report: GateReport) -> dict[str, Any]:
    """For the task's page: the verdict, each relation's score, and what did not pass, the worst first, with some of its rows."""
    told = _worst_first(report.results)
    return {
        "verdict": report.verdict.value,
        "score": report.score(),
        "checks": len(report.results),
        "relations": {relation: report.score(relation) for relation in report.relations},
        "not_passed": [
            {
                "check": result.check.key,
                "severity": result.check.severity.value,
                "outcome": result.outcome.value,
                "rule": _cut(result.check.description, 200),
                "found": _cut(result.message, 300),
                "measured": result.measured,
                "rows": result.failed_rows,
                "some_rows": [dict(row) for row in result.samples[:SAMPLES_TOLD]],
            }
            for result in told[:_MOST_TOLD]
        ],
        "more_in_the_log": max(0, len(told) - _MOST_TOLD),
    }


def to_note(report: GateReport, limit: int) -> str:
    """For the run's page, in so many characters; without rows."""
    told = _worst_first(report.results)
    blocks = [f"\n- {_rule(result)}" for result in told]
    return _fitted(f"**{_headline(report)}**\n", blocks, len(told), limit)


def _fitted(head: str, blocks: list[str], count: int, limit: int | None) -> str:
    """``head`` and as many ``blocks`` as fit, then how many of ``count`` are left out."""
    most = len(blocks)
    while True:
        left = count - most
        text = head + "".join(blocks[:most]) + (f"\n\n…and {left} more, see the task's log" if left else "")
        if limit is None or len(text) <= limit:
            return text
        if most == 0:
            return text[: limit - 1] + "…"
        most -= 1


def _rule(result: CheckResult) -> str:
    check = result.check
    return (
        f"{_GLYPHS[result.outcome]} ({check.severity.value}) {escaped(check.key)}: {escaped(_cut(check.description, 200))} "
        f"{escaped(_cut(result.message, 300))}"
    )


def _block(result: CheckResult, *, samples: bool) -> str:
    rows = result.samples[:SAMPLES_TOLD] if samples else ()
    if not rows:
        return f"\n\n{_rule(result)}"
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    lines = [
        "| " + " | ".join(cells if position == 1 else [escaped(cell) for cell in cells]) + " |"
        for position, cells in enumerate(table)
    ]
    return "\n\n".join(["", _rule(result), "\n".join(lines)])


def _cut(text: str, most: int) -> str:
    line = _one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def escaped(text: str) -> str:
    """``text`` that Markdown and HTML show as it is: no tag, no link, none that is recognised by its look (``www.``, ``@``) either."""
    plain = _MARKED.sub(r"\\\1", _one_line(text))
    for character, entity in _ENTITIES.items():
        plain = plain.replace(character, entity)
    return re.sub(r"www\.", r"www\\.", plain, flags=re.IGNORECASE)


def to_json(report: GateReport) -> bytes:
    """The whole report, for the record."""
    document = {
        "version": VERSION,
        "scanned_at": report.scanned_at.isoformat(),
        "seconds": report.seconds,
        "build": report.build,
        "verdict": report.verdict.value,
        "score": report.score(),
        "relations": {relation: report.score(relation) for relation in report.relations},
        "results": [asdict(result) for result in report.results],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def from_json(body: bytes) -> GateReport:
    """Read `to_json`'s form.

    Raises:
        EvidenceUnreadable: not that form.
    """
    try:
        document = json.loads(body)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}")
        return GateReport(
            datetime.fromisoformat(document["scanned_at"]),
            document["seconds"],
            tuple(_result(entry) for entry in document["results"]),
            document.get("build", ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvidenceUnreadable(
            f"expected a gate's report of version {VERSION}, found {body[:80]!r}… ({error}); run the gate again to replace it"
        ) from error


def _result(entry: dict[str, Any]) -> CheckResult:
    check = entry["check"]
    return CheckResult(
        Check(
            **check
            | {
                "columns": tuple(check["columns"]),
                "sample_columns": tuple(check["sample_columns"]),
                "severity": Severity(check["severity"]),
            }
        ),
        Outcome(entry["outcome"]),
        entry["measured"],
        entry["message"],
        tuple(entry["samples"]),
        entry["failed_rows"],
    )
