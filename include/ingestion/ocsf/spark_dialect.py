r"""What the compiler asks of a SQL engine, as Spark SQL 3.5 says it; and a source's plan as the text that a Spark job needs.

Spark reads JSON with another parser than DuckDB, and three things of it would show in the rows:

- It prints numbers anew, as Java does: ``1.7e9`` becomes ``1.7E9`` where DuckDB has ``1700000000.0``. The job's reader marks each
  such number (see `include.spark.jobs.shared.ocsf_records`): it travels as a text between two characters that stand for nothing else, and
  loses them here.
- It takes what is no JSON (single quotes, what follows the end), and its functions don't tell an object from a text that looks like one. So
  the reader says which records, and which of their documents, are objects, and what their keys are.
- It takes the last of a repeated key, DuckDB the first. Most such records are set aside, but as the kind that the first says.

Patterns are RE2's; Java's dialect differs in what ``$``, ``.``, ``\s`` and a bracket within brackets mean (`java_pattern`).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.ocsf.compile import KindPlan, Layout, Plan, compile_source, type_of
from include.ingestion.ocsf.dialect import (
    EPOCH,
    FINITE,
    HEXADECIMAL,
    INTEGER,
    ISO_TIME,
    NOT_HEXADECIMAL,
    UTC_TIME,
    strptime_pattern,
)
from include.ingestion.ocsf.language import MappingError
from include.spark.jobs.shared.ocsf_records import MARK_BEGIN, MARK_BETWEEN, MARK_END

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from include.ingestion.ocsf.compile import SourceRules
    from include.ingestion.ocsf.language import MappingFile, Step

RECORD: Final = "raw"
TEXT: Final = "read_text"
"""The record with numbers marked; none where no number needs it."""
FIRST: Final = "read_first"
"""The same without what repeats a key, if anything does in an object that the mapping reads: Spark would take the last."""
ITEMS: Final = "read_items"
"""The same without what repeats a key of an array's item, too, if anything does."""
KEYS: Final = "read_keys"
"""Keys of each object that the mapping reads; see `DuckDb.keys`."""
DOCUMENTS: Final = "read_documents"
"""Of each text that may hold a document: whether it is an object as it stands, else the document in it."""

_ENTRIES: Final = "ARRAY<STRUCT<key: STRING, value: STRING>>"


class Spark:
    """Spark SQL 3.5. An instance belongs to one source: it learns which documents its mapping reads."""

    name: Final = "spark"
    types: Final = {
        "text": "STRING",
        "json": "STRING",
        "int32": "INT",
        "int64": "BIGINT",
        "ms": "BIGINT",
        "bool": "BOOLEAN",
        "double": "DOUBLE",
    }
    carried: Final[tuple[str, ...]] = (TEXT, DOCUMENTS)
    record: Final = f"coalesce({TEXT}, {RECORD})"

    def __init__(self) -> None:
        self.documents: list[tuple[tuple[str, ...], str]] = []
        """Steps, and ``json`` or ``lines``, of each text that may hold a document; the reader tells of them in this order."""
        self.items_read: list[tuple[Step, ...]] = []
        """Steps to each field of an array's item."""
        self.levels: dict[str, Sequence[Sequence[Step]]] = {}
        """Of the record and its documents: the objects whose keys are read."""

    # --- words -------------------------------------------------------------------------------------------------------------------

    def text(self, value: str) -> str:
        """A text literal."""
        escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\u0000")
        return f"'{escaped}'"

    def name_of(self, value: str) -> str:
        """A quoted identifier."""
        return "`" + value.replace("`", "``") + "`"

    def literal(self, value: Any, scalar: str) -> str:
        """A constant of a scalar type."""
        if scalar in ("text", "json"):
            return self.text(str(value))
        return f"CAST({str(value).lower() if isinstance(value, bool) else value} AS {self.types[scalar]})"

    def null(self, sql_type: str) -> str:
        """No value of a type."""
        return f"CAST(NULL AS {sql_type})"

    def as_text(self, sql: str) -> str:
        """A value of any type as a text, for a message."""
        return f"CAST({sql} AS STRING)"

    def one_of(self, sql: str, values: Iterable[str]) -> str:
        """Whether a text is one of these."""
        return f"{sql} IN ({', '.join(self.text(value) for value in values)})"

    # --- types -------------------------------------------------------------------------------------------------------------------

    def list_type(self, item: str) -> str:
        """The type of a list."""
        return f"ARRAY<{item}>"

    def struct_type(self, fields: Sequence[tuple[str, str]]) -> str:
        """The type of a struct."""
        return f"STRUCT<{', '.join(f'{self.name_of(name)}: {kind}' for name, kind in fields)}>"

    # --- JSON --------------------------------------------------------------------------------------------------------------------

    def fields(self, document: str, tree: dict[str, Any]) -> str:
        """A struct of the texts at the leaves of ``tree`` (leaf: none), parsed in one pass."""

        def shape(node: dict[str, Any]) -> str:
            return self.struct_type([(key, "STRING" if below is None else shape(below)) for key, below in node.items()])

        kind = shape(tree)
        text = f"coalesce({FIRST}, {self.record})" if document == RECORD else document
        texts = self._from_json(text, kind)
        # Numbers lose their marks in all fields at once: within an object or array, whose text stands in a field with quotes escaped, and
        # alone.
        inner = self._replace(
            f"to_json({texts})", rf'\\"{MARK_BEGIN}[^{MARK_BETWEEN}]*{MARK_BETWEEN}([^{MARK_END}]*){MARK_END}\\"', "$1"
        )
        plain = self._replace(
            inner, f'"{MARK_BEGIN}([^{MARK_BETWEEN}]*){MARK_BETWEEN}[^{MARK_END}]*{MARK_END}"', '"$1"'
        )
        return f"CASE WHEN {TEXT} IS NULL THEN {texts} ELSE {self._from_json(self._whole_characters(plain), kind)} END"

    def field(self, struct: str, steps: Sequence[str]) -> str:
        """A leaf of `fields`."""
        return struct + "".join(f".{self.name_of(step)}" for step in steps)

    def text_at(self, document: str, steps: Sequence[Step]) -> str:
        """The text at a path: of a scalar itself, of an object or array compact JSON."""
        text = self._at(document, steps)
        return f"CASE WHEN {TEXT} IS NULL THEN {text} ELSE {self._plain(text)} END"

    def keys(self, document: str, levels: Sequence[Sequence[Step]]) -> str:
        """For each level the list of its keys as they stand; none where it is missing, empty where it is no object."""
        self.levels[document] = levels
        if document == RECORD:
            return KEYS
        if any(levels):
            raise MappingError(f"{document}: expected fields of a document, found a path into one of them")
        return f"array({', '.join(f'json_object_keys({document})' for _ in levels)})"

    def level(self, keys: str, index: int) -> str:
        """One level (from 0) of `keys`."""
        return f"{keys}[{index}]"

    def document(self, text: str, steps: Sequence[str]) -> str:
        """The text at a path of the record, if it is one JSON object."""
        return self._document(text, steps, "json")

    def object(self, text: str, steps: Sequence[str]) -> str:
        """The text at a path of the record, if what is there is an object; a text is none, whatever it holds."""
        return self._document(text, steps, "object")

    def lines_document(self, text: str, steps: Sequence[str]) -> str:
        """The text at a path of the record as a JSON object, whether it is one or has ``Key: value`` lines."""
        return self._document(text, steps, "lines")

    def members(self, document: str, steps: Sequence[Step]) -> str:
        """The members of the object at a path: a list of structs ``key``, ``value`` (its text, see `text_at`), JSON nulls left out."""
        at = self._at(document, steps) if steps else self._text_of(document)
        entries = f"map_entries({self._from_json(at, 'MAP<STRING, STRING>')})"
        there = f"filter({entries}, e -> e.value IS NOT NULL)"
        plain = f"transform({there}, e -> named_struct('key', e.key, 'value', {self._plain('e.value')}))"
        found = f"CASE WHEN {TEXT} IS NULL THEN {there} ELSE {plain} END"
        if document != RECORD:
            return found
        place = [tuple(level) for level in self.levels[document]].index(tuple(steps))
        return f"CASE WHEN size({self.level(f'{document}_keys', place)}) > 0 THEN {found} END"

    def _text_of(self, document: str) -> str:
        return self.record if document == RECORD else document

    def _from_json(self, text: str, kind: str) -> str:
        return f"from_json({text}, {self.text(kind)}, map('mode', 'PERMISSIVE'))"

    def _at(self, document: str, steps: Sequence[Step]) -> str:
        """The text at a path, numbers still marked."""
        if isinstance(steps[0], int):
            return self.null("STRING")
        text = self._text_of(document)
        if document == RECORD and any(isinstance(step, int) for step in steps):
            self.items_read.append(tuple(steps))
            text = f"coalesce({ITEMS}, {text})"
        kind, access = "STRING", ""
        for step in reversed(steps):
            if isinstance(step, int):
                kind, access = self.list_type(kind), f"[{step}]{access}"
            else:
                kind, access = self.struct_type([(step, kind)]), f".{self.name_of(step)}{access}"
        return f"{self._from_json(text, kind)}{access}"

    def _document(self, text: str, steps: Sequence[str], how: str) -> str:
        wanted = (tuple(steps), how)
        if wanted not in self.documents:
            self.documents.append(wanted)
        told = f"{DOCUMENTS}[{self.documents.index(wanted)}]"
        whole = f"CASE WHEN {TEXT} IS NULL THEN {text} ELSE {self._at(RECORD, steps)} END"
        return f"CASE WHEN {told}.is_object THEN {whole} ELSE {told}.text END"

    def _plain(self, text: str) -> str:
        """A text without marks; a number that is all of it as DuckDB prints a field."""
        return self._within(self._replace(text, f"\\A{MARK_BEGIN}([^{MARK_BETWEEN}]*){MARK_BETWEEN}.*", "$1"))

    def _within(self, text: str) -> str:
        """A text without marks; numbers as DuckDB prints them within JSON."""
        plain = self._replace(text, f'"?{MARK_BEGIN}[^{MARK_BETWEEN}]*{MARK_BETWEEN}([^{MARK_END}]*){MARK_END}"?', "$1")
        return (
            f"{self._from_json(self._whole_characters(f"to_json(named_struct('text', {plain}))"), 'text STRING')}.text"
        )

    def _whole_characters(self, json: str) -> str:
        # Within an object or array Spark writes a character beyond U+FFFF as two escaped halves, and here that text is itself in JSON.
        halves = (rf"\\\\u(D{half}[0-9A-F]{{2}})" for half in ("[89AB]", "[C-F]"))
        return self._replace(json, "".join(halves), r"\\u$1\\u$2")

    def _replace(self, text: str, pattern: str, by: str) -> str:
        return f"regexp_replace({text}, {self.text(pattern)}, {self.text(by)})"

    # --- texts -------------------------------------------------------------------------------------------------------------------

    def extract(self, text: str, pattern: str, group: int) -> str:
        """What a pattern finds; an empty match is no value."""
        return f"nullif(regexp_extract({text}, {self.text(java_pattern(pattern))}, {group}), '')"

    def matches(self, text: str, pattern: str) -> str:
        """Whether a pattern is found."""
        return f"({text} RLIKE {self.text(java_pattern(pattern))})"

    def is_all(self, text: str, pattern: str) -> str:
        """Whether a pattern matches all of a text."""
        return self.matches(text, rf"\A(?:{pattern})\z")

    def split(self, text: str, separator: str) -> str:
        """Parts of a text, blank ones left out."""
        quoted = re.sub(r"([^A-Za-z0-9 ])", r"\\\1", separator)
        return f"filter(split({text}, {self.text(quoted)}, -1), e -> trim(e) <> '')"

    def length(self, text: str) -> str:
        """Characters (code points)."""
        return f"length({text})"

    def size(self, text: str) -> str:
        """Bytes."""
        return f"octet_length({text})"

    def hexadecimal(self, text: str) -> str:
        """Decimal text of a hexadecimal one; of any other text one that is no number of any kind."""
        digits = f"regexp_extract({text}, {self.text(java_pattern('([0-9A-Fa-f]+)[[:space:]]*$'))}, 1)"
        decimal = f"conv({digits}, 16, 10)"
        return f"CASE WHEN {self.is_all(text, HEXADECIMAL)} THEN {decimal} ELSE concat({self.text(NOT_HEXADECIMAL)}, {text}) END"

    def left(self, text: str, length: int) -> str:
        """The first characters."""
        return f"left({text}, {length})"

    # --- typed -------------------------------------------------------------------------------------------------------------------

    def typed(self, text: str, scalar: str) -> str:
        """A text as a scalar type; none where it isn't one."""
        if scalar in ("text", "json"):
            return text
        if scalar in ("int32", "int64"):
            whole = f"regexp_extract({text}, '[+-]?[0-9]+', 0)"
            return f"CASE WHEN {self.is_all(text, INTEGER)} THEN try_cast({whole} AS {self.types[scalar]}) END"
        if scalar == "bool":
            return f"CASE lower({text}) WHEN 'true' THEN true WHEN '1' THEN true WHEN 'false' THEN false WHEN '0' THEN false END"
        if scalar == "double":
            number = f"try_cast({text} AS DOUBLE)"
            return f"CASE WHEN {self.is_all(text, FINITE)} AND abs({number}) < double('Infinity') THEN {number} END"
        return self.milliseconds(text, ())

    def milliseconds(self, text: str, formats: Sequence[str]) -> str:
        """Epoch milliseconds of a text; none where no format fits. No format: ISO 8601, or an epoch whose unit its size tells."""
        if not formats:
            return f"CASE {self._when_iso(text)} WHEN {self.is_all(text, EPOCH)} THEN {self._epoch(text, None)} END"
        branches = [self._format(text, one) for one in formats]
        return branches[0] if len(branches) == 1 else f"coalesce({', '.join(branches)})"

    def _format(self, text: str, wanted: str) -> str:
        if wanted == "iso":
            return f"CASE {self._when_iso(text)} END"
        if wanted == "epoch" or wanted.startswith("epoch_"):
            unit = wanted.partition("_")[2] or "s"
            if unit not in ("s", "ms", "us", "ns"):
                raise MappingError(f"time format: expected epoch_s, epoch_ms, epoch_us or epoch_ns, found {wanted!r}")
            return f"CASE WHEN {self.is_all(text, EPOCH)} THEN {self._epoch(text, unit)} END"
        pattern, iso = strptime_pattern(wanted)
        groups = re.sub(r"\\([0-9])", r"$\1", iso)
        rewritten = f"regexp_replace({text}, {self.text(java_pattern(rf'\A(?:{pattern})\z'))}, {self.text(groups)})"
        return f"CASE WHEN {self.is_all(text, pattern)} THEN {self._iso(rewritten)} END"

    def _when_iso(self, text: str) -> str:
        micros = f"CAST(left(concat(regexp_extract({text}, '[.]([0-9]+)', 1), '000000'), 6) AS BIGINT)"
        return (
            f"WHEN {self.is_all(text, UTC_TIME)} THEN ({self._seconds(text)} * 1000000 + {micros}) div 1000 "
            f"WHEN {self.is_all(text, ISO_TIME)} THEN {self._iso(text)}"
        )

    def _seconds(self, text: str) -> str:
        return f"unix_seconds(try_cast(left({text}, 19) AS TIMESTAMP))"

    def _iso(self, text: str) -> str:
        fraction = f"CAST(left(concat(regexp_extract({text}, '[.]([0-9]+)', 1), '000'), 3) AS BIGINT)"
        zone = f"right(replace({text}, ':', ''), 5)"
        # Past the date, whose hyphens are no sign.
        offset = (
            f"CASE WHEN substr({text}, 20) RLIKE '[+-]' THEN (CASE left({zone}, 1) WHEN '-' THEN -60000 ELSE 60000 END) * "
            f"(CAST(substr({zone}, 2, 2) AS BIGINT) * 60 + CAST(substr({zone}, 4, 2) AS BIGINT)) ELSE 0 END"
        )
        return f"({self._seconds(text)} * 1000 + {fraction} - {offset})"

    def _epoch(self, text: str, unit: str | None) -> str:
        whole = f"try_cast(regexp_extract({text}, '^[+-]?[0-9]+', 0) AS BIGINT)"
        part = f"CAST(left(concat(regexp_extract({text}, '[.]([0-9]+)', 1), '000'), 3) AS INT)"
        sign = f"(CASE WHEN startswith({text}, '-') THEN -1 ELSE 1 END)"
        seconds = f"try_cast(CAST({whole} AS DECIMAL(20, 0)) * 1000 + {sign} * {part} AS BIGINT)"
        scaled = {"s": seconds, "ms": whole, "us": f"({whole} div 1000)", "ns": f"({whole} div 1000000)"}
        if unit:
            return scaled[unit]
        digits = f"length(regexp_extract({text}, '^[+-]?0*([0-9]+)', 1))"
        return (
            f"CASE WHEN {digits} <= 11 THEN {seconds} WHEN {digits} <= 14 THEN {whole} "
            f"WHEN {digits} <= 17 THEN {scaled['us']} ELSE {scaled['ns']} END"
        )

    # --- lists and structs ---------------------------------------------------------------------------------------------------------

    def items(self, text: str) -> str:
        """The texts of a JSON array's items; a text that isn't an array is the one item."""
        parsed = self._from_json(text, "ARRAY<STRING>")
        # Two keys, for a text that closes what it stands in would still be read.
        wrapped = f"concat('{{\"ocsf_items\":', {text}, ',\"ocsf_end\":0}}')"
        whole = f"json_object_keys({wrapped}) = array('ocsf_items', 'ocsf_end')"
        return (
            f"CASE WHEN startswith({text}, '[') AND coalesce({whole}, false) THEN {self.with_value(parsed)} "
            f"WHEN {text} IS NOT NULL THEN array({text}) END"
        )

    def list_of(self, items: Sequence[str], item_type: str) -> str:
        """A list of what has a value; none where nothing has."""
        return self.none_if_empty(self.with_value(f"CAST(array({', '.join(items)}) AS {self.list_type(item_type)})"))

    def none_if_empty(self, items: str) -> str:
        """A list, or none where it is empty."""
        return f"CASE WHEN size({items}) > 0 THEN {items} END"

    def count(self, items: str) -> str:
        """How many items a list has; none where there is no list."""
        return f"CASE WHEN {items} IS NOT NULL THEN size({items}) END"

    def with_value(self, items: str) -> str:
        """The items that have a value."""
        return f"filter({items}, e -> e IS NOT NULL)"

    def each(self, items: str, of: Callable[[str], str]) -> str:
        """``of(item)`` for each item."""
        return f"transform({items}, e -> {of('e')})"

    def any_item(self, items: str, of: Callable[[str], str]) -> str:
        """Whether ``of(item)`` is true of an item."""
        return f"exists({items}, e -> {of('e')})"

    def struct(self, fields: Sequence[tuple[str, str]]) -> str:
        """A struct."""
        return "named_struct(" + ", ".join(f"{self.text(name)}, {sql}" for name, sql in fields) + ")"

    def entries(self, pairs: Sequence[tuple[str, str]]) -> str:
        """A list of structs ``key``, ``value`` of what has a value."""
        if not pairs:
            return f"CAST(array() AS {_ENTRIES})"
        items = ", ".join(f"named_struct('key', {self.text(key)}, 'value', {sql})" for key, sql in pairs)
        return f"filter(array({items}), e -> e.value IS NOT NULL)"

    def keep(self, entries: str, of: Callable[[str], str]) -> str:
        """Entries of which ``of(key)`` is true."""
        return f"filter({entries}, e -> {of('e.key')})"

    def rename(self, entries: str, prefix: str) -> str:
        """Entries with a prefix before each key."""
        if not prefix:
            return entries
        return f"transform({entries}, e -> named_struct('key', concat({self.text(prefix)}, e.key), 'value', e.value))"

    def join(self, parts: Sequence[str]) -> str:
        """Lists of entries, one after the other; none counts as empty."""
        empty = self.entries(())
        return f"concat({', '.join(f'coalesce({part}, {empty})' for part in parts)})"

    def map_of(self, entries: str) -> str:
        """A map; none where there is no entry. The second of a key gets ``#2``, the third ``#3``, so that no value is lost."""
        keys = f"transform({entries}, o -> o.key)"
        earlier = f"size(filter({entries}, (o, j) -> j < i AND o.key = e.key))"
        unique = (
            f"transform({entries}, (e, i) -> named_struct('key', CASE WHEN {earlier} = 0 THEN e.key "
            f"ELSE concat(e.key, '#', {earlier} + 1) END, 'value', e.value))"
        )
        return (
            f"CASE WHEN size({entries}) = 0 THEN NULL WHEN size(array_distinct({keys})) = size({entries}) "
            f"THEN map_from_entries({entries}) ELSE map_from_entries({unique}) END"
        )


def java_pattern(pattern: str) -> str:
    r"""A pattern of RE2 for Java's engine.

    ``$`` is the end of the text, not also a line end before it; ``.`` is anything but ``\n``; ``\s`` lacks the vertical tab; within
    brackets
    neither ``[`` nor ``&&`` means anything.
    """
    found, place, inside = "", 0, False
    while place < len(pattern):
        part = _PART.match(pattern, place)
        if part is None:
            raise MappingError(
                f"expected a regular expression, found {pattern!r}; it can't be read from {pattern[place:]!r} on"
            )
        one, place = part.group(), part.end()
        if one == r"\s":
            one = _SPACE if inside else f"[{_SPACE}]"
        elif one == r"\S" and not inside:
            one = f"[^{_SPACE}]"
        elif inside and one.startswith("[:"):
            one = rf"\{'P' if one[2] == '^' else 'p'}{{{_POSIX[one.strip('[:^]')]}}}"
        elif inside and one[0] in "[&":
            one, place = "\\" + one[0], part.start() + 1
        elif inside:
            inside = one != "]"
        elif one.startswith("["):
            inside, one = True, one.replace("]", r"\]")
        elif one == "$":
            one = r"\z"
        found += one
    return f"(?d){found}"


_PART: Final = re.compile(r"\\.|\[:\^?[a-z]+:\]|\[\^?\]?|.", re.DOTALL)
_SPACE: Final = r"\t\n\f\r "
_POSIX: Final = {
    "alnum": "Alnum",
    "alpha": "Alpha",
    "ascii": "ASCII",
    "blank": "Blank",
    "cntrl": "Cntrl",
    "digit": "Digit",
    "graph": "Graph",
    "lower": "Lower",
    "print": "Print",
    "punct": "Punct",
    "space": "Space",
    "upper": "Upper",
    "xdigit": "XDigit",
}


def spark_plan(mapping: MappingFile, rules: SourceRules) -> dict[str, Any]:
    """A compiled source as plain data: all that a Spark job has to know of it.

    Returns:
        ``levels``, ``documents`` and ``items`` for the reader. ``parsed``, whose first step reads ``chunk``, and ``repeated``: of a row
        of it, the numbers of the objects in which a key stands twice. ``kinds`` in order, each with its matched ``value``, its ``class``,
        the numbers of the objects that it ``reads``, and ``mapped``: its first step reads a part of ``parsed``, its last one gives ``n``,
        ``problem``, ``account``, ``region`` and ``event``, a struct of the class's attributes, the same for each of its kinds.
    """
    sql = Spark()
    plan = compile_source(mapping, rules, sql)
    objects: dict[str, int] = {}
    kinds = [
        {
            "value": kind.value,
            "class": kind.class_name,
            "reads": sorted(objects.setdefault(keys, len(objects)) for keys in _read_keys(plan, kind)),
            "mapped": _steps(_mapped(plan.layouts[kind.class_name], kind, sql, rest=rules.keep_unmapped), "chosen"),
        }
        for kind in plan.kinds.values()
    ]
    twice = [
        f"CASE WHEN size(array_distinct({keys})) < size({keys}) THEN {place} END" for keys, place in objects.items()
    ]
    return {
        "levels": [[str(step) for step in steps] for steps in sql.levels.get(RECORD, ())],
        "documents": [[list(steps), how] for steps, how in sql.documents],
        "items": [list(steps) for steps in dict.fromkeys(sql.items_read)],
        "parsed": _steps(plan.parsed, "chunk"),
        "repeated": f"array_compact(array({', '.join(twice)}))",
        "kinds": kinds,
    }


def _steps(sql: str, table: str) -> list[list[str]]:
    """Nested selects as a list, each as its expressions: the first of ``table``, each other one of the one before.

    Spark resolves a query again and again from its tables up, a level of nesting each time: of twenty levels it takes minutes.
    """
    found: list[list[str]] = []
    while True:
        commas, opened, begin = [], [], 0
        for part in _QUOTED_OR_SIGN.finditer(sql):
            sign = part.group()
            if sign in "([{":
                opened.append(part.start())
            elif sign in ")]}":
                begin = opened.pop()
            elif sign == "," and not opened:
                commas.append(part.start())
        nested = sql.endswith(") s")
        end = begin if nested else sql.rindex(f" FROM {table}")
        head = sql[:end].removesuffix(" FROM ")
        places = [len("SELECT ") - 1, *(place for place in commas if place < end), len(head)]
        found.append([head[start + 1 : stop].strip() for start, stop in pairwise(places)])
        if not nested:
            return found[::-1]
        sql = sql[begin + 1 : -len(") s")]


_QUOTED_OR_SIGN: Final = re.compile(r"'(?:[^'\\]|\\.)*'|`[^`]*`|[()\[\]{},]", re.DOTALL)


def _read_keys(plan: Plan, kind: KindPlan) -> set[str]:
    """SQL of the keys of each object in which the kind wants every key once; as `include.ingestion.ocsf.shapes` has it."""
    found = {f"{level.text}_keys[{level.index}]" for level in kind.levels if not level.lines}
    for pick in kind.picks:
        places = [
            str(place) for place, steps in enumerate(plan.candidates[pick.text]) if steps and steps not in plan.lines
        ]
        if places:
            found.add(f"CASE WHEN {pick.text}_pick IN ({', '.join(places)}) THEN {pick.text}_keys[0] END")
    return found


def _mapped(layout: Layout, kind: KindPlan, sql: Spark, *, rest: bool) -> str:
    """The kind's select with its flat columns put together to an event of its class."""
    columns = {leaf.path: leaf.column for leaf in kind.leaves}

    def below(path: tuple[str, ...]) -> list[str]:
        return [column for at, column in columns.items() if at[: len(path)] == path]

    def build(shape: Any, path: tuple[str, ...]) -> str:
        if path in columns:
            return columns[path]
        if not isinstance(shape, dict) or not below(path):
            return sql.null(type_of(shape, sql))
        fields = [(name, build(inner, (*path, name))) for name, inner in shape.items()]
        there = " OR ".join(f"{column} IS NOT NULL" for column in below(path))
        return f"CASE WHEN {there} THEN {sql.struct(fields)} END"

    if rest:
        inner, unmapped = kind.sql_rest, "unmapped"
    else:
        pairs = [(key, f"u{place}") for place, key in enumerate(kind.explicit)]
        inner, unmapped = f"SELECT *, {sql.entries(pairs)} AS entries FROM ({kind.sql}) s", sql.map_of("entries")
    attributes = [(name, build(shape, (name,))) for name, shape in layout.items()]
    return f"SELECT n, problem, account, region, {sql.struct([*attributes, ('unmapped', unmapped)])} AS event FROM ({inner}) s"
