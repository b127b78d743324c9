"""SQL that contracts carry, and values that are pasted into SQL.

A contract's SQL is code of this repository, reviewed like it; what is held here is that it is *one query* that reads, so that a slip can't
change the warehouse, and that Soda, which resolves Jinja in every query, finds none.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import TYPE_CHECKING

from include.contracts.warehouse_types import Dialect
from include.warehouse.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.contracts.products import Scalar

PLACEHOLDERS = {"object": "relation", "table": "relation", "property": "column", "column": "column", "schema": "schema"}
"""What ``${object}`` and so on (or ``{object}``) stand for. ``object`` and ``property`` are the standard's words of today."""

_PLACEHOLDER = re.compile(r"\$?\{(\w+)\}")
_JINJA = ("${", "{{", "{%", "{#")
_STRING = re.compile(r"'(?:[^']|'')*'")
_NAME = re.compile(r'"[^"]*"')
# fmt: off
_CHANGES = frozenset({
    "alter", "analyze", "attach", "begin", "call", "checkpoint", "comment", "commit", "copy", "create", "delete",
    "detach", "drop", "execute", "export", "grant", "import", "insert", "install", "into", "load", "lock",
    "merge", "pragma", "refresh", "revoke", "rollback", "set", "show", "truncate", "unload", "update", "use",
    "vacuum",
})
# fmt: on
_WORDS = re.compile(r"[a-z_]+")
_ROWS_THAT_FAIL = re.compile(
    r"select\s+count\(\*\)\s+from\s+\$?\{(?:object|table)\}\s+where\s+(?P<condition>.+)", re.IGNORECASE | re.DOTALL
)
_NOT_PORTABLE = re.compile(r"\\|\(\?|[*+?}]\?")


def why_not_a_query(sql: str, *, has_column: bool) -> tuple[str, str] | None:
    """What was expected of ``sql`` and what was found instead; None if it is one query that reads."""
    bare = _NAME.sub('"', _STRING.sub("'", sql)).lower()
    words = _WORDS.findall(_PLACEHOLDER.sub("", bare))
    unknown = [name for name in _PLACEHOLDER.findall(sql) if name not in PLACEHOLDERS]
    changes = [word for word in words if word in _CHANGES]
    refusals = (
        (
            not words or words[0] not in ("select", "with"),
            "one query that starts with select or with",
            words[0] if words else "nothing",
        ),
        (";" in bare, "one query", "a semicolon"),
        ("--" in bare or "/*" in bare, "a query without comments", "a comment"),
        (
            bare.count("'") != len(_STRING.findall(sql)) or sql.count('"') % 2,
            "closed quotes",
            "a quote that never closes",
        ),
        ("\\" in sql, "a query without backslashes, which the warehouses read differently", "a backslash"),
        ("$$" in sql, "strings in single quotes", "$$"),
        (bool(changes), "a query that only reads (quote a column of that name)", changes[0] if changes else ""),
        (bool(unknown), f"placeholders of {', '.join(PLACEHOLDERS)}", f"${{{unknown[0]}}}" if unknown else ""),
        (
            not has_column and any(PLACEHOLDERS.get(name) == "column" for name in _PLACEHOLDER.findall(sql)),
            "a column's placeholder in a column's rule",
            "one in a rule of the relation",
        ),
        (
            not any(PLACEHOLDERS.get(name) in ("relation", "schema") for name in _PLACEHOLDER.findall(sql)),
            "the relation as ${object}",
            "no relation",
        ),
        (has_jinja(_PLACEHOLDER.sub("", sql)), "SQL without Jinja", "Jinja"),
    )
    return next(((expected, found) for refused, expected, found in refusals if refused), None)


def filled_in(sql: str, *, schema: str, relation: str, column: str | None) -> str:
    """The query with its placeholders replaced by quoted names."""
    names = {"schema": quoted(schema), "relation": quoted(schema, relation), "column": quoted(column) if column else ""}
    return _PLACEHOLDER.sub(lambda match: names[PLACEHOLDERS[match[1]]], sql).strip()


def rows_that_fail(sql: str) -> str | None:
    """The condition of ``select count(*) from ${object} where <condition>``; None if the query is of another form."""
    match = _ROWS_THAT_FAIL.fullmatch(sql.strip())
    bare = _STRING.sub("'", match["condition"]).lower() if match else ""
    # what follows a condition, or a second query, would end up in the middle of the query for samples
    if not match or re.search(
        r"\b(group|having|order|limit|union|except|intersect|qualify|window|offset|fetch)\b", bare
    ):
        return None
    return match["condition"].strip()


def has_jinja(text: str) -> bool:
    """Whether Soda would take part of ``text`` for a template."""
    return any(mark in text for mark in _JINJA)


def why_not_a_pattern(pattern: str) -> str | None:
    """What DuckDB's RE2 and Redshift's POSIX expressions don't have in common; None if both read ``pattern``.

    https://docs.aws.amazon.com/redshift/latest/dg/pattern-matching-conditions-posix.html, https://github.com/google/re2/wiki/Syntax
    """
    if has_jinja(pattern):
        return "what Soda takes for a template"
    if _NOT_PORTABLE.search(pattern):
        return "a backslash, a (?…) group or a lazy quantifier"
    try:
        re.compile(re.sub(r"\[:\w+:\]", "a", pattern))
    except re.error as error:
        return str(error)
    return None


def literal(value: Scalar | Decimal, logical: str, dialect: Dialect) -> str:
    """``value`` as SQL writes a value of the logical type.

    Raises:
        ValueError: not a value of that type; the message says what is.
    """
    if logical == "boolean":
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return str(value).lower()
    if logical in ("integer", "number"):
        if isinstance(value, bool | str) or not Decimal(str(value)).is_finite():
            raise ValueError("a number")
        if logical == "integer" and Decimal(str(value)) % 1:
            raise ValueError("a whole number")
        return f"{Decimal(str(value)):f}"
    if not isinstance(value, str) or has_jinja(value) or not value.isprintable():
        raise ValueError("a string of printable characters without ${, {{, {% and {#")
    if logical == "date":
        return f"date '{datetime.date.fromisoformat(value).isoformat()}'"
    if logical == "timestamp":
        moment = datetime.datetime.fromisoformat(value)
        if moment.tzinfo:
            raise ValueError("a time in UTC without offset")
        return f"timestamp '{moment.isoformat(sep=' ')}'"
    # Redshift reads a backslash as the start of an escape: https://docs.aws.amazon.com/redshift/latest/dg/r_Character_types.html
    text = value.replace("\\", "\\\\") if dialect is Dialect.REDSHIFT else value
    return "'" + text.replace("'", "''") + "'"


def columns_sql(names: Iterable[str]) -> str:
    """Quoted names, as a select list."""
    return ", ".join(quoted(name) for name in names)
