"""The mapping language: what a ``mapping.json`` says, checked and turned into a tree of expressions.

The file has the format of AWS's transformation library (``custom_source_events``: ``source_name``, ``matched_field``, ``timestamp``,
``ocsf_mapping``; ``$.a.b`` paths and ``enum`` tables), so its files load as they are. Keywords that begin with ``$`` are this project's
additions; ``docs/ingestion.md`` has the whole language. Nothing here knows of OCSF's types or of an engine.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path as FilePath


class MappingError(ValueError):
    """A mapping file says something that it can't; the message says where, what was expected and what was found."""


RECORD: Final = ""
"""Name of the document that every path without another one is of: the record itself."""

Step = str | int
"""A key of an object, or an index of an array."""


@dataclass(frozen=True)
class Path:
    """A place in the raw record: ``$.event.src_ip``, ``$data.Image``.

    Attributes:
        document: `RECORD` or the name of a document.
        steps: keys and indexes; none for the whole record.
    """

    document: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"${self.document}" + "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" if _PLAIN.fullmatch(step) else f"['{step}']"
            for step in self.steps
        )


@dataclass(frozen=True)
class Literal:
    """A value that the mapping file gives."""

    value: Any


@dataclass(frozen=True)
class Enum:
    """The AWS library's table: the text of ``evaluate`` looked up."""

    evaluate: Expression
    values: tuple[tuple[str, Any], ...]
    other: Expression | None


@dataclass(frozen=True)
class First:
    """The first that has a value."""

    options: tuple[Expression, ...]


@dataclass(frozen=True)
class Change:
    """One step of a ``$of`` chain.

    Attributes:
        of: what is changed.
        how: ``pattern``, ``case``, ``split``, ``base``, ``time`` or ``default``.
        by: the keyword's own value.
    """

    of: Expression
    how: str
    by: Any


@dataclass(frozen=True)
class Condition:
    """What `If` asks.

    Attributes:
        how: ``in``, ``matches``, ``exists``; ``all``, ``any``, ``not``.
        of: the value asked about, for the first three.
        by: texts, a regular expression, a boolean.
        parts: conditions, for the last three.
    """

    how: str
    of: Expression | None = None
    by: Any = None
    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class If:
    """One of two values."""

    condition: Condition
    then: Expression | None
    otherwise: Expression | None


@dataclass(frozen=True)
class Concat:
    """Texts joined; no value if one of them has none."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class ListOf:
    """A list of fixed length; items without a value are left out."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class ObjectOf:
    """An OCSF object."""

    attributes: tuple[tuple[str, Expression], ...]


Expression = Path | Literal | Enum | First | Change | If | Concat | ListOf | ObjectOf


@dataclass(frozen=True)
class Document:
    """A part of the record that has its own name: the first of ``candidates`` that is an object with the field ``having``."""

    name: str
    candidates: tuple[Path, ...]
    having: str


@dataclass(frozen=True)
class Kind:
    """How the events of one matched value are mapped.

    Attributes:
        value: text of the matched field; ``*`` for any that has no kind of its own.
        class_name: OCSF class.
        version: OCSF version, where it is not the source's.
        root: the event.
        note: why it is mapped so.
    """

    value: str
    class_name: str
    root: ObjectOf
    version: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class MappingFile:
    """One ``mapping.json``.

    Attributes:
        time_path: where AWS's ``timestamp.field`` points; its texts have ``time_format``.
    """

    source_name: str
    matched: Expression
    kinds: tuple[Kind, ...]
    documents: tuple[Document, ...] = ()
    missing: tuple[str, ...] = ("",)
    time_path: Path | None = None
    time_format: str | None = None
    kinds_by_value: dict[str, Kind] = field(default_factory=dict, compare=False, repr=False)


_PLAIN = re.compile(r"[A-Za-z_@][\w@-]*")
_PATH = re.compile(r"\$(?P<document>[A-Za-z_]\w*)?(?P<rest>(?:\.[^.\[\]]+|\[\d+\]|\['[^']*'\])*)")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\['(?P<quoted>[^']*)'\]")
_CHAIN: Final = ("pattern", "case", "split", "base", "time", "default")
_CONDITIONS: Final = ("in", "matches", "exists")


def parse_path(text: str, where: str = "path") -> Path:
    """``$.a.b[0]['x.y']`` or ``$document.field``.

    Raises:
        MappingError: not a path.
    """
    found = _PATH.fullmatch(text)
    if found is None:
        raise MappingError(f"{where}: expected a path like $.a.b, $.a[0] or $.a['x.y'], found {text!r}")
    steps: list[Step] = []
    for step in _STEP.finditer(found["rest"] or ""):
        index = step["index"]
        steps.append(int(index) if index is not None else step["key"] if step["key"] is not None else step["quoted"])
    document = found["document"] or RECORD
    if document and not steps:
        raise MappingError(
            f"{where}: expected a field of the document ${document}, found {text!r}; write ${document}.field"
        )
    if document == RECORD and len(steps) > 1 and steps[0] == "UserDefined":  # the AWS library's word for a flat key
        steps = steps[1:]
    return Path(document, tuple(steps))


def load_mapping(path: FilePath) -> MappingFile:
    """Read and check one mapping file.

    Raises:
        MappingError: not JSON, or not a mapping; says where in the file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise MappingError(f"{path.parent.name}/{path.name}: expected JSON; {error}") from error
    return parse_mapping(document, f"{path.parent.name}/{path.name}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"the key {', '.join(twice)} stands twice in one object; one of them would be lost")
    return found


def parse_mapping(document: Any, where: str = "mapping") -> MappingFile:
    """Check a mapping that is already parsed as JSON. See `load_mapping`."""
    events = _member(document, "custom_source_events", dict, where)
    where = f"{where}: custom_source_events"
    allowed = {"source_name", "matched_field", "timestamp", "ocsf_mapping", "$fragments", "$documents", "$missing"}
    _refuse_others(events, allowed, where)
    reader = _Reader(_optional(events, "$fragments", dict, where) or {})
    entries = _member(events, "ocsf_mapping", dict, where)
    if not entries:
        raise MappingError(f"{where}.ocsf_mapping: expected a mapping for at least one value, found none")
    kinds = tuple(reader.kind(str(value), entry, f"{where}.ocsf_mapping.{value}") for value, entry in entries.items())
    stamp = _optional(events, "timestamp", dict, where) or {}
    documents = tuple(
        _document(name, entry, f"{where}.$documents.{name}")
        for name, entry in (_optional(events, "$documents", dict, where) or {}).items()
    )
    missing = _optional(events, "$missing", list, where)
    if missing is not None and not all(isinstance(text, str) for text in missing):
        raise MappingError(f"{where}.$missing: expected texts, found {missing!r}")
    matched = reader.value(_member(events, "matched_field", (str, dict), where), f"{where}.matched_field")
    if is_constant(matched):
        raise MappingError(
            f"{where}.matched_field: expected a path like $.event_type, found {events['matched_field']!r}"
        )
    mapping = MappingFile(
        _member(events, "source_name", str, where),
        matched,
        kinds,
        documents,
        ("",) if missing is None else tuple(missing),
        parse_path(_member(stamp, "field", str, f"{where}.timestamp"), f"{where}.timestamp.field") if stamp else None,
        _member(stamp, "format", str, f"{where}.timestamp") if stamp else None,
        {kind.value: kind for kind in kinds},
    )
    named = {document.name for document in documents}
    for path in _paths_of(mapping):
        if path.document and path.document not in named:
            raise MappingError(f"{where}: expected a document of $documents ({', '.join(sorted(named))}), found {path}")
    return mapping


def _document(name: str, entry: Any, where: str) -> Document:
    texts = _member(entry, "in", list, where)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise MappingError(f"{where}.in: expected paths, found {texts!r}")
    return Document(
        name, tuple(parse_path(text, f"{where}.in") for text in texts), _member(entry, "having", str, where)
    )


def _paths_of(mapping: MappingFile) -> Iterator[Path]:
    yield from paths(mapping.matched)
    for kind in mapping.kinds:
        yield from paths(kind.root)


def paths(expression: Expression | Condition | None) -> Iterator[Path]:
    """Every path that an expression reads."""
    match expression:
        case Path():
            yield expression
        case Enum():
            yield from paths(expression.evaluate)
            yield from paths(expression.other)
        case First(options=parts) | Concat(parts=parts) | ListOf(items=parts):
            for part in parts:
                yield from paths(part)
        case Change():
            yield from paths(expression.of)
        case If():
            yield from paths(expression.condition)
            yield from paths(expression.then)
            yield from paths(expression.otherwise)
        case Condition():
            yield from paths(expression.of)
            for condition in expression.parts:
                yield from paths(condition)
        case ObjectOf():
            for _, value in expression.attributes:
                yield from paths(value)


def is_constant(expression: Expression | None) -> bool:
    """Whether an expression is made of literals only."""
    match expression:
        case None | Literal():
            return True
        case ListOf(items=parts):
            return all(is_constant(part) for part in parts)
        case ObjectOf():
            return all(is_constant(value) for _, value in expression.attributes)
    return False


class _Reader:
    def __init__(self, fragments: Mapping[str, Any]) -> None:
        self._fragments = fragments

    def kind(self, value: str, entry: Any, where: str) -> Kind:
        if not isinstance(entry, dict):
            raise MappingError(f"{where}: expected an object with schema and schema_mapping, found {_kind_of(entry)}")
        _refuse_others(entry, {"schema", "schema_mapping", "note", "$version"}, where)
        template = self._include(_member(entry, "schema_mapping", dict, where), f"{where}.schema_mapping", ())
        root = self.value(template, f"{where}.schema_mapping")
        if not isinstance(root, ObjectOf):
            raise MappingError(f"{where}.schema_mapping: expected attributes of an event, found a keyword")
        return Kind(
            value,
            _member(entry, "schema", str, where),
            root,
            _optional(entry, "$version", str, where),
            _optional(entry, "note", str, where),
        )

    def _include(self, template: Any, where: str, under: tuple[str, ...]) -> Any:
        """The template with its ``$include`` carried out, deep; its own keys win."""
        if not isinstance(template, dict):
            return template
        own = {
            key: self._include(value, f"{where}.{key}", under) for key, value in template.items() if key != "$include"
        }
        merged: dict[str, Any] = {}
        for name in _optional(template, "$include", list, where) or []:
            if name in under:
                raise MappingError(f"{where}.$include: {' → '.join((*under, name))} includes itself")
            if not isinstance(name, str) or not isinstance(self._fragments.get(name), dict):
                raise MappingError(
                    f"{where}.$include: expected a name of an object of $fragments ({', '.join(sorted(self._fragments))}), found {name!r}"
                )
            merged = _merge(merged, self._include(self._fragments[name], f"$fragments.{name}", (*under, name)))
        return _merge(merged, own)

    def value(self, raw: Any, where: str) -> Expression:
        if isinstance(raw, str):
            if raw.startswith("$$"):
                return Literal(raw[1:])
            return parse_path(raw, where) if raw.startswith("$") else Literal(raw)
        if isinstance(raw, list):
            return ListOf(tuple(self.value(item, f"{where}[{place}]") for place, item in enumerate(raw)))
        if not isinstance(raw, dict):
            return Literal(raw)
        if set(raw) == {"enum"} and isinstance(raw["enum"], dict) and "evaluate" in raw["enum"]:
            return self._enum(raw["enum"], f"{where}.enum")
        keywords = [key for key in raw if key.startswith("$")]
        if not keywords:
            return ObjectOf(tuple((key, self.value(value, f"{where}.{key}")) for key, value in raw.items()))
        if "$of" in raw:
            return self._chain(raw, where)
        if "$if" in raw:
            _refuse_others(raw, {"$if", "$then", "$else"}, where)
            then, otherwise = (
                self.value(raw[key], f"{where}.{key}") if raw.get(key) is not None else None
                for key in ("$then", "$else")
            )
            return If(self._condition(raw["$if"], f"{where}.$if"), then, otherwise)
        for key, kind in (("$first", First), ("$concat", Concat)):
            if key in raw:
                _refuse_others(raw, {key}, where)
                parts = tuple(
                    self.value(part, f"{where}.{key}[{place}]")
                    for place, part in enumerate(_member(raw, key, list, where))
                )
                if not parts:
                    raise MappingError(f"{where}.{key}: expected at least one value, found none")
                return kind(parts)
        raise MappingError(f"{where}: expected $of, $if, $first or $concat, found {', '.join(keywords)}")

    def _enum(self, raw: dict[str, Any], where: str) -> Enum:
        _refuse_others(raw, {"evaluate", "values", "other"}, where)
        values = _member(raw, "values", dict, where)
        other = raw.get("other")
        wrong = [key for key, value in values.items() if isinstance(value, dict | list)]
        if wrong:
            raise MappingError(f"{where}.values.{wrong[0]}: expected a literal, found {_kind_of(values[wrong[0]])}")
        return Enum(
            self.value(raw["evaluate"], f"{where}.evaluate"),
            tuple((str(key), value) for key, value in values.items()),
            None if other is None else self.value(other, f"{where}.other"),
        )

    def _chain(self, raw: dict[str, Any], where: str) -> Expression:
        _refuse_others(raw, {"$of", *(f"${how}" for how in _CHAIN)}, where)
        found = self.value(raw["$of"], f"{where}.$of")
        for how in _CHAIN:
            by = raw.get(f"${how}")
            if by is None:
                continue
            at = f"{where}.${how}"
            if how == "pattern":
                _regex(by, at)
            elif how == "case" and by not in ("lower", "upper"):
                raise MappingError(f"{at}: expected lower or upper, found {by!r}")
            elif how == "split" and (not isinstance(by, str) or not by):
                raise MappingError(f"{at}: expected a separator, found {by!r}")
            elif how == "base" and by != 16:
                raise MappingError(f"{at}: expected 16, the only base, found {by!r}")
            elif how == "time":
                if not isinstance(by, list) or not by or not all(isinstance(one, str) for one in by):
                    raise MappingError(f"{at}: expected a list of formats, found {by!r}")
                by = tuple(by)
            elif how == "default" and isinstance(by, dict | list):
                raise MappingError(f"{at}: expected a literal, found {_kind_of(by)}")
            found = Change(found, how, by)
        return found

    def _condition(self, raw: Any, where: str) -> Condition:
        if not isinstance(raw, dict):
            raise MappingError(f"{where}: expected a condition, found {_kind_of(raw)}")
        for key in ("$all", "$any"):
            if key in raw:
                _refuse_others(raw, {key}, where)
                parts = tuple(self._condition(part, f"{where}.{key}") for part in _member(raw, key, list, where))
                return Condition(key[1:], parts=parts)
        if "$not" in raw:
            _refuse_others(raw, {"$not"}, where)
            return Condition("not", parts=(self._condition(raw["$not"], f"{where}.$not"),))
        asked = [how for how in _CONDITIONS if f"${how}" in raw]
        if "$of" not in raw or len(asked) != 1:
            raise MappingError(
                f"{where}: expected $of with one of $in, $matches, $exists (or $all, $any, $not), found {', '.join(raw)}"
            )
        _refuse_others(raw, {"$of", f"${asked[0]}"}, where)
        by = raw[f"${asked[0]}"]
        if asked[0] == "matches":
            _regex(by, f"{where}.$matches")
        elif asked[0] == "exists" and not isinstance(by, bool):
            raise MappingError(f"{where}.$exists: expected true or false, found {by!r}")
        elif asked[0] == "in":
            by = tuple(str(text) for text in (by if isinstance(by, list) else [by]))
        return Condition(asked[0], self.value(raw["$of"], f"{where}.$of"), by)


def _regex(text: Any, where: str) -> None:
    try:
        re.compile(text if isinstance(text, str) else "(")
    except re.error as error:
        raise MappingError(f"{where}: expected a regular expression, found {text!r}: {error}") from error
    # RE2 runs in linear time and Java's engine does not; what both mean alike is what neither needs to look around for.
    if re.search(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]|[*+?}]\+", text):
        raise MappingError(f"{where}: expected no look-around, back reference or possessive repeat, found {text!r}")


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if (
            isinstance(value, dict)
            and isinstance(merged.get(key), dict)
            and not _is_keyword(value)
            and not _is_keyword(merged[key])
        ):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _is_keyword(value: dict[str, Any]) -> bool:
    return "enum" in value or any(key.startswith("$") for key in value)


def _kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def _optional(holder: Any, key: str, kind: Any, where: str) -> Any:
    if not isinstance(holder, dict):
        raise MappingError(f"{where}: expected an object, found {_kind_of(holder)}")
    value = holder.get(key)
    if value is not None and not isinstance(value, kind):
        raise MappingError(f"{where}.{key}: expected {_names(kind)}, found {_kind_of(value)}")
    return value


def _member(holder: Any, key: str, kind: Any, where: str) -> Any:
    value = _optional(holder, key, kind, where)
    if value is None:
        raise MappingError(f"{where}: expected {key}, found none")
    return value


def _names(kind: Any) -> str:
    words = {dict: "an object", list: "a list", str: "a text"}
    return " or ".join(words[one] for one in (kind if isinstance(kind, tuple) else (kind,)))


def _refuse_others(holder: dict[str, Any], allowed: set[str], where: str) -> None:
    others = sorted(set(holder) - allowed)
    if others:
        raise MappingError(f"{where}: expected only {', '.join(sorted(allowed))}, found {', '.join(others)}")
