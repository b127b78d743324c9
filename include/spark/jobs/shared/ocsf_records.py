"""What has to be known of a record before SQL maps it: whether it is JSON, its keys, the documents in it. Plain Python, for the executors.

Spark's own JSON functions take what is no JSON, print numbers in Java's way and can't tell an object from a text that looks like one; the
other engine of this project, DuckDB, does otherwise. Both are to give the same rows, so it is told here, record by record.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Document = tuple[bool, str | None]
    Facts = tuple[str | None, str | None, str | None, str | None, list[list[str] | None] | None, list[Document] | None]

MARK_BEGIN = "\ufdd0"
MARK_BETWEEN = "\ufdd2"
MARK_END = "\ufdd1"
"""Around the two texts of a number that Spark would print otherwise: as a field, and within an object or array. No characters, says
Unicode."""

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"

_DETAILS = {
    NOT_JSON: "expected one JSON value as RFC 8259 has it, found something else",
    NOT_AN_OBJECT: "expected a JSON object, found another JSON value",
}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONG_INTEGER = re.compile(r"[0-9]{400}")
_BEYOND = re.compile(r"[\U00010000-\U0010ffff]|\\u[dD]")
"""A character that Spark would write as two halves."""
_LINE_END = re.compile(r"\r?\n")
_SIGNIFICANT = 15
"""Digits up to which Java's text of a number is the shortest there is."""


class _NotJson(ValueError):
    pass


class _Repeated(dict):  # type: ignore[type-arg]
    """An object in which a key stands twice."""

    pairs: list[tuple[str, Any]]


class RecordReader:
    """Tells of a source's records what its SQL needs.

    Args:
        levels: steps to each object of a record whose keys are wanted.
        documents: steps to each place that may hold a document, and how: ``object``, ``json`` (a text may hold one, too) or ``lines``.
        items: steps to each field of an array's item.
    """

    def __init__(
        self,
        levels: Sequence[Sequence[str]],
        documents: Sequence[tuple[Sequence[str], str]],
        items: Sequence[Sequence[str | int]] = (),
    ) -> None:
        if hasattr(
            sys, "set_int_max_str_digits"
        ):  # a record's size is limited already, and its numbers are not computed with
            sys.set_int_max_str_digits(0)
        self._items = [tuple(steps) for steps in items]
        self._levels = [tuple(steps) for steps in levels]
        self._documents = [(tuple(steps), how) for steps, how in documents]
        self._marks = self._repeated = False
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._number, parse_constant=_refuse
        )

    def read(self, text: str) -> Facts:
        """One record.

        Returns:
            why it can't be mapped, if it can't; its text with numbers marked, if any has to be; the same without what repeats a key of a
            level, and without what repeats one of an item either, each if anything does; keys of each level (none where it is missing,
            empty where it is no object); each document: whether it is an object as it stands, else its text if it has one.
        """
        self._repeated = False
        try:
            value, marked = self._parse(text)
        except (ValueError, RecursionError):
            return (NOT_JSON, *_NOTHING)
        if not isinstance(value, dict) or not text.lstrip(" \t\n\r").startswith("{"):
            return (NOT_AN_OBJECT, *_NOTHING)
        repeated, documents = self._repeated, []
        for steps, how in self._documents:
            document, inner = self._document(_walk(value, steps), how)
            documents.append(document)
            if inner and marked is None:
                marked = text
        levels = [_walk(value, steps) for steps in self._levels]
        first = within = None
        if repeated:
            items = (_walk(value, steps[:at]) for steps in self._items for at in range(len(steps)))
            cleared = [one for one in levels if isinstance(one, _Repeated)]
            first = _text(value, cleared)
            within = _text(value, cleared + [one for one in items if isinstance(one, _Repeated)])
        return None, marked, first, within, [_keys(level) for level in levels], documents

    def _parse(self, text: str) -> tuple[Any, str | None]:
        """The value, and the text with its numbers marked if one has to be."""
        self._marks = False
        value = self._decoder.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair can't be
        if self._marks or _BEYOND.search(text) or (len(text) > 400 and _LONG_INTEGER.search(text)):
            return value, _TOKEN.sub(_marked, text)
        return value, None

    def _document(self, found: Any, how: str) -> tuple[Document, bool]:
        """The document at a place, and whether a number of it is marked."""
        if isinstance(found, dict):
            return (True, None), False
        if found is None or found is _MISSING or how == "object":
            return (False, None), False
        if isinstance(found, str):
            try:
                value, marked = self._parse(found)
            except (ValueError, RecursionError):
                value, marked = None, None
            if isinstance(value, dict):
                return (False, found if marked is None else marked), marked is not None
        if how == "json":
            return (False, None), False
        return (False, lines_document(found if isinstance(found, str) else _compact(found))), False

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self._repeated = True
        repeated = _Repeated()
        for key, value in pairs:
            repeated.setdefault(key, value)
        repeated.pairs = pairs
        return repeated

    def _number(self, token: str) -> float:
        value = float(token)
        self._marks = self._marks or _differs(value)
        return value


def detail_of(reason: str) -> str:
    """What was expected of a record that is refused, and found."""
    return _DETAILS[reason]


def lines_document(text: str) -> str:
    """``Key: value`` lines as the text of a JSON object. The first of a repeated key wins; a line without a separator is ``Line<n>``."""
    members: dict[str, str] = {}
    for number, line in enumerate(_LINE_END.split(text), 1):
        key, separator, value = line.partition(": ")
        if separator:
            key = key.strip("\t ")
        elif line.endswith(":"):
            key, value = line[:-1].strip("\t "), ""
        elif line.strip(" "):
            key, value = f"Line{number}", line
        else:
            continue
        members.setdefault(key, value)
    return json.dumps(members, ensure_ascii=False)


_MISSING: Any = object()
_NOTHING = (None, None, None, None, None)


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return _MISSING
        elif not isinstance(value, dict) or step not in value:
            return _MISSING
        value = value[step]
    return value


def _keys(value: Any) -> list[str] | None:
    if value is _MISSING:
        return None
    if isinstance(value, _Repeated):
        return [key for key, _ in value.pairs]
    return list(value) if isinstance(value, dict) else []


def _text(value: Any, cleared: list[_Repeated]) -> str | None:
    """JSON in which some objects have the first of a repeated key only; none if there are none."""

    def text(node: Any) -> str:
        if isinstance(node, dict):
            pairs = (
                node.pairs if isinstance(node, _Repeated) and all(node is not one for one in cleared) else node.items()
            )
            return "{" + ",".join(f"{text(key)}:{text(inner)}" for key, inner in pairs) + "}"
        if isinstance(node, list):
            return "[" + ",".join(map(text, node)) + "]"
        if isinstance(node, (int, float)) and not isinstance(node, bool):
            return _TOKEN.sub(_marked, repr(node) if abs(node) != float("inf") else f"{'-' if node < 0 else ''}1e999")
        return json.dumps(node, ensure_ascii=False)

    return text(value) if cleared else None


def _refuse(token: str) -> Any:
    raise _NotJson(token)


def _differs(value: float) -> bool:
    """Whether Java prints a number otherwise than DuckDB."""
    size = abs(value)
    if size == 0:
        return False
    if not 1e-3 <= size < 1e7:
        return True
    return len(repr(size).replace(".", "").strip("0")) > _SIGNIFICANT


def _marked(found: re.Match[str]) -> str:
    token = found.group()
    if token.startswith('"'):
        return token
    if "." in token or "e" in token or "E" in token:
        value = float(token)
        if not _differs(value):
            return token
        field, inner = (token, token) if abs(value) == float("inf") else (repr(value), within_json(value))
    elif len(token) >= 400:
        field = inner = token
    else:
        return token
    return f'"{MARK_BEGIN}{field}{MARK_BETWEEN}{inner}{MARK_END}"'


def within_json(value: float) -> str:
    """A number as DuckDB prints it within JSON: as JavaScript does, but always with a point or an exponent."""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).rstrip("0")
    point = len(whole) + int(power or 0)
    stripped = digits.lstrip("0") or "0"
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0") or "0"
    if -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    elif 0 < point <= 21:
        text = f"{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"
    else:
        text = f"{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e{point - 1}"
    return "-" + text if value < 0 else text


def _compact(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


__all__ = ["RecordReader", "detail_of", "lines_document", "within_json"]
