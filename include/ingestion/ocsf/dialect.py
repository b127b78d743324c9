"""What the compiler asks of a SQL engine, and how DuckDB says it. ``spark_dialect`` says the same for Spark.

Each method takes and returns SQL text. Two engines must give equal rows, so nothing here leans on what an engine happens to do: a number is
cast only where a pattern says it is one, a time is taken apart and put together by arithmetic, an empty match of a pattern is no value.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.ocsf.language import MappingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.ingestion.ocsf.language import Step

INTEGER: Final = r"\s*[+-]?[0-9]{1,19}(\.0+)?\s*"
FINITE: Final = r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
HEXADECIMAL: Final = r"\s*(0[xX])?[0-9A-Fa-f]{1,15}\s*"
_CLOCK: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
NOT_HEXADECIMAL: Final = "not hexadecimal: "
ISO_TIME: Final = _CLOCK + r"(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?"
UTC_TIME: Final = _CLOCK + r"(\.[0-9]{1,6})?(Z|[+-]00:?00)?"
"""What of `ISO_TIME` a plain cast reads right."""
EPOCH: Final = r"[+-]?[0-9]{1,19}(\.[0-9]{1,9})?"

_STRPTIME: Final = {
    "Y": r"([0-9]{4})",
    "m": r"([0-9]{2})",
    "d": r"([0-9]{2})",
    "H": r"([01][0-9]|2[0-3])",
    "M": r"([0-9]{2})",
    "S": r"([0-9]{2})",
    "f": r"([0-9]{1,9})",
    "z": r"(Z|[+-][0-9]{2}:?[0-9]{2})",
}


def strptime_pattern(text: str) -> tuple[str, str]:
    r"""A ``strptime`` format as a regular expression, and the ISO 8601 text that its groups (``\1``) make.

    Raises:
        MappingError: a directive that is not one of ``%Y %m %d %H %M %S %f %z``, or one of the first six is not there.
    """
    pattern = ""
    groups: dict[str, int] = {}
    for directive, plain in re.findall(r"%(.)|([^%]+)", text):
        if plain:
            pattern += re.sub(r"([^A-Za-z0-9 _:,/-])", r"\\\1", plain)
        elif directive == "%":
            pattern += "%"
        elif directive in _STRPTIME and directive not in groups:
            groups[directive] = len(groups) + 1
            pattern += _STRPTIME[directive]
        else:
            raise MappingError(
                f"time format {text!r}: expected each of %Y %m %d %H %M %S %f %z once at most, found %{directive}"
            )
    missing = [directive for directive in "YmdHMS" if directive not in groups]
    if missing:
        raise MappingError(
            f"time format {text!r}: expected %Y %m %d %H %M %S, found no {' '.join('%' + one for one in missing)}"
        )
    group = {directive: f"\\{number}" for directive, number in groups.items()}
    iso = "{Y}-{m}-{d}T{H}:{M}:{S}".format(**group)
    return pattern, iso + (f".{group['f']}" if "f" in group else "") + group.get("z", "")


class DuckDb:
    """DuckDB 2."""

    name: Final = "duckdb"
    types: Final = {
        "text": "VARCHAR",
        "json": "VARCHAR",
        "int32": "INTEGER",
        "int64": "BIGINT",
        "ms": "BIGINT",
        "bool": "BOOLEAN",
        "double": "DOUBLE",
    }
    record: Final = "raw"
    """The record as its fields are read from."""
    carried: Final[tuple[str, ...]] = ()
    """Columns of ``chunk`` that the steps after the first need, too."""

    # --- words -------------------------------------------------------------------------------------------------------------------

    def text(self, value: str) -> str:
        """A text literal."""
        # A NUL can't stand in a literal; chr(0) can.
        parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\0")]
        return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"

    def name_of(self, value: str) -> str:
        """A quoted identifier."""
        return '"' + value.replace('"', '""') + '"'

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
        return f"CAST({sql} AS VARCHAR)"

    def one_of(self, sql: str, values: Iterable[str]) -> str:
        """Whether a text is one of these."""
        return f"{sql} IN ({', '.join(self.text(value) for value in values)})"

    # --- types -------------------------------------------------------------------------------------------------------------------

    def list_type(self, item: str) -> str:
        """The type of a list."""
        return f"{item}[]"

    def struct_type(self, fields: Sequence[tuple[str, str]]) -> str:
        """The type of a struct."""
        return f"STRUCT({', '.join(f'{self.name_of(name)} {kind}' for name, kind in fields)})"

    # --- JSON --------------------------------------------------------------------------------------------------------------------

    def path(self, steps: Sequence[Step]) -> str:
        """A JSON path, as a literal."""
        return self.text(
            "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{_escape(step)}"' for step in steps)
        )

    def fields(self, document: str, tree: dict[str, Any]) -> str:
        """A struct of the texts at the leaves of ``tree`` (leaf: none), parsed in one pass."""

        def shape(node: dict[str, Any]) -> dict[str, Any]:
            return {key: "VARCHAR" if below is None else shape(below) for key, below in node.items()}

        return f"json_transform({document}, {self.text(json.dumps(shape(tree), ensure_ascii=False))})"

    def field(self, struct: str, steps: Sequence[str]) -> str:
        """A leaf of `fields`."""
        return struct + "".join(f".{self.name_of(step)}" for step in steps)

    def text_at(self, document: str, steps: Sequence[Step]) -> str:
        """The text at a path: of a scalar itself, of an object or array compact JSON."""
        # A number is printed as in `fields`, which json_extract_string does not do.
        return f"json_transform(json_extract({document}, {self.path(steps)}), '\"VARCHAR\"')"

    def keys(self, document: str, levels: Sequence[Sequence[Step]]) -> str:
        """For each level the list of its keys as they stand; none where it is missing, empty where it is no object."""
        return f"json_keys({document}, [{', '.join(self.path(level) for level in levels)}])"

    def level(self, keys: str, index: int) -> str:
        """One level (from 0) of `keys`."""
        return f"{keys}[{index + 1}]"

    def is_object(self, text: str) -> str:
        """Whether a text is one JSON object."""
        return f"(json_valid({text}) AND json_type({text}) = 'OBJECT' AND {self._strict(text)})"

    def document(self, text: str, _steps: Sequence[str]) -> str:
        """The text at a path of the record, if it is one JSON object."""
        return f"CASE WHEN {self.is_object(text)} THEN {text} END"

    def object(self, text: str, steps: Sequence[str]) -> str:
        """The text at a path of the record, if what is there is an object; a text is none, whatever it holds."""
        return f"CASE WHEN json_type({self.record}, {self.path(steps)}) = 'OBJECT' THEN {text} END"

    def lines_document(self, text: str, _steps: Sequence[str]) -> str:
        """The text at a path of the record as a JSON object, whether it is one or has ``Key: value`` lines."""
        return (
            f"CASE WHEN {text} IS NULL THEN NULL WHEN {self.is_object(text)} THEN {text} ELSE {self._lines(text)} END"
        )

    def is_record(self, text: str) -> str:
        """Whether a record is JSON as the standard has it: DuckDB's parser also takes NaN, Infinity and trailing commas."""
        return f"(json_valid({text}) AND {self._strict(text)})"

    def _strict(self, text: str) -> str:
        # Only a text that looks loose is looked at again, with its strings taken out.
        bare = f"regexp_replace({text}, {self.text(_STRING)}, '\"\"', 'g')"
        return f"CASE WHEN {self._loose(text)} THEN NOT {self._loose(bare)} ELSE true END"

    def _loose(self, text: str) -> str:
        # Three patterns that each begin with one character are several times as fast as one that begins with any of them.
        return "(" + " OR ".join(f"regexp_matches({text}, {self.text(pattern)})" for pattern in _LOOSE) + ")"

    def _lines(self, text: str) -> str:
        lines = f"string_split_regex({text}, '\\r?\\n')"
        colon = "position(': ' IN line)"
        key = f"trim(CASE WHEN {colon} > 0 THEN left(line, {colon} - 1) ELSE left(line, length(line) - 1) END, chr(9) || ' ')"
        value = f"CASE WHEN {colon} > 0 THEN substr(line, {colon} + 2) ELSE '' END"
        member = (
            f"CASE WHEN {colon} > 0 OR ends_with(line, ':') THEN {{'key': {key}, 'value': {value}}} "
            "WHEN trim(line) <> '' THEN {'key': 'Line' || place, 'value': line} END"
        )
        members = f"list_filter(list_transform({lines}, lambda line, place: {member}), lambda one: one IS NOT NULL)"
        keys = f"list_transform({members}, lambda one: one.key)"
        first = f"list_filter({members}, lambda one, place: list_position({keys}, one.key) = place)"
        texts = f"list_transform({first}, lambda one: to_json(one.key) || ':' || to_json(one.value))"
        return f"('{{' || array_to_string({texts}, ',') || '}}')"

    def members(self, document: str, steps: Sequence[Step]) -> str:
        """The members of the object at a path: a list of structs ``key``, ``value`` (its text, see `text_at`), JSON nulls left out."""
        at = f"json_extract({document}, {self.path(steps)})" if steps else document
        entries = f"map_entries(json_transform({at}, '\"MAP(VARCHAR, VARCHAR)\"'))"
        return f"list_filter({entries}, lambda e: e.value IS NOT NULL)"

    # --- texts -------------------------------------------------------------------------------------------------------------------

    def extract(self, text: str, pattern: str, group: int) -> str:
        """What a pattern finds; an empty match is no value."""
        return f"nullif(regexp_extract({text}, {self.text(pattern)}, {group}), '')"

    def matches(self, text: str, pattern: str) -> str:
        """Whether a pattern is found."""
        return f"regexp_matches({text}, {self.text(pattern)})"

    def is_all(self, text: str, pattern: str) -> str:
        """Whether a pattern matches all of a text."""
        return f"regexp_full_match({text}, {self.text(pattern)})"

    def split(self, text: str, separator: str) -> str:
        """Parts of a text, blank ones left out."""
        return f"list_filter(string_split({text}, {self.text(separator)}), lambda e: trim(e) <> '')"

    def length(self, text: str) -> str:
        """Characters (code points)."""
        return f"length({text})"

    def size(self, text: str) -> str:
        """Bytes."""
        return f"strlen({text})"

    def hexadecimal(self, text: str) -> str:
        """Decimal text of a hexadecimal one; of any other text one that is no number of any kind."""
        digits = f"regexp_extract({text}, '([0-9A-Fa-f]+)\\s*$', 1)"
        decimal = f"CAST(try_cast('0x' || {digits} AS BIGINT) AS VARCHAR)"
        return (
            f"CASE WHEN {self.is_all(text, HEXADECIMAL)} THEN {decimal} ELSE {self.text(NOT_HEXADECIMAL)} || {text} END"
        )

    def left(self, text: str, length: int) -> str:
        """The first characters."""
        return f"left({text}, {length})"

    # --- typed -------------------------------------------------------------------------------------------------------------------

    def typed(self, text: str, scalar: str) -> str:
        """A text as a scalar type; none where it isn't one."""
        if scalar in ("text", "json"):
            return text
        if scalar in ("int32", "int64"):
            whole = f"regexp_replace(trim({text}), '\\.0+$', '')"
            plain = f"try_cast({text} AS {self.types[scalar]})"
            return (
                f"CASE WHEN {self.is_all(text, '-?[0-9]{1,19}')} THEN {plain} "
                f"WHEN {self.is_all(text, INTEGER)} THEN try_cast({whole} AS {self.types[scalar]}) END"
            )
        if scalar == "bool":
            return f"CASE lower({text}) WHEN 'true' THEN true WHEN '1' THEN true WHEN 'false' THEN false WHEN '0' THEN false END"
        if scalar == "double":
            number = f"try_cast({text} AS DOUBLE)"
            return f"CASE WHEN {self.is_all(text, FINITE)} AND isfinite({number}) THEN {number} END"
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
            if unit not in _PER_SECOND:
                raise MappingError(f"time format: expected epoch_s, epoch_ms, epoch_us or epoch_ns, found {wanted!r}")
            return f"CASE WHEN {self.is_all(text, EPOCH)} THEN {self._epoch(text, unit)} END"
        pattern, iso = strptime_pattern(wanted)
        if iso == r"\1-\2-\3T\4:\5:\6.\7" and pattern.startswith(_ISO_DATE):  # what is ISO already needs no rewriting
            return f"CASE WHEN {self.is_all(text, pattern)} THEN {self._iso(text)} END"
        rewritten = f"regexp_replace({text}, {self.text(f'^(?:{pattern})$')}, {self.text(iso)})"
        return f"CASE WHEN {self.is_all(text, pattern)} THEN {self._iso(rewritten)} END"

    def _when_iso(self, text: str) -> str:
        return (
            f"WHEN {self.is_all(text, UTC_TIME)} THEN epoch_us(try_cast({text} AS TIMESTAMP)) // 1000 "
            f"WHEN {self.is_all(text, ISO_TIME)} THEN {self._iso(text)}"
        )

    def _iso(self, text: str) -> str:
        seconds = f"epoch_ms(try_cast(left({text}, 19) AS TIMESTAMP))"
        fraction = f"CAST(left(regexp_extract({text}, '\\.([0-9]+)', 1) || '000', 3) AS BIGINT)"
        zone = f"right(replace({text}, ':', ''), 5)"
        # Past the date, whose hyphens are no sign.
        offset = (
            f"CASE WHEN regexp_matches(substr({text}, 20), '[+-]') THEN (CASE left({zone}, 1) WHEN '-' THEN -60000 ELSE 60000 END) * "
            f"(CAST(substr({zone}, 2, 2) AS BIGINT) * 60 + CAST(substr({zone}, 4, 2) AS BIGINT)) ELSE 0 END"
        )
        return f"({seconds} + {fraction} - {offset})"

    def _epoch(self, text: str, unit: str | None) -> str:
        whole = f"try_cast(regexp_extract({text}, '^[+-]?[0-9]+') AS BIGINT)"
        part = f"CAST(left(regexp_extract({text}, '\\.([0-9]+)$', 1) || '000', 3) AS BIGINT)"
        seconds = f"try_cast({whole}::HUGEINT * 1000 + (CASE WHEN starts_with({text}, '-') THEN -1 ELSE 1 END) * {part} AS BIGINT)"
        scaled = {"s": seconds, "ms": whole, "us": f"({whole} // 1000)", "ns": f"({whole} // 1000000)"}
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
        return (
            f"CASE WHEN starts_with({text}, '[') AND json_valid({text}) THEN "
            f"list_filter(json_extract_string({text}, '$[*]'), lambda e: e IS NOT NULL) WHEN {text} IS NOT NULL THEN [{text}] END"
        )

    def list_of(self, items: Sequence[str], item_type: str) -> str:
        """A list of what has a value; none where nothing has."""
        kept = f"list_filter(CAST([{', '.join(items)}] AS {self.list_type(item_type)}), lambda e: e IS NOT NULL)"
        return self.none_if_empty(kept)

    def none_if_empty(self, items: str) -> str:
        """A list, or none where it is empty."""
        return f"CASE WHEN len({items}) > 0 THEN {items} END"

    def count(self, items: str) -> str:
        """How many items a list has; none where there is no list."""
        return f"len({items})"

    def with_value(self, items: str) -> str:
        """The items that have a value."""
        return f"list_filter({items}, lambda e: e IS NOT NULL)"

    def each(self, items: str, of: Any) -> str:
        """``of(item)`` for each item."""
        return f"list_transform({items}, lambda e: {of('e')})"

    def any_item(self, items: str, of: Any) -> str:
        """Whether ``of(item)`` is true of an item."""
        return f"len(list_filter({items}, lambda e: {of('e')})) > 0"

    def struct(self, fields: Sequence[tuple[str, str]]) -> str:
        """A struct."""
        return "{" + ", ".join(f"{self.text(name)}: {sql}" for name, sql in fields) + "}"

    def entries(self, pairs: Sequence[tuple[str, str]]) -> str:
        """A list of structs ``key``, ``value`` of what has a value."""
        if not pairs:
            return "CAST([] AS STRUCT(key VARCHAR, value VARCHAR)[])"
        items = ", ".join(f"{{'key': {self.text(key)}, 'value': {sql}}}" for key, sql in pairs)
        return f"list_filter([{items}], lambda e: e.value IS NOT NULL)"

    def keep(self, entries: str, of: Any) -> str:
        """Entries of which ``of(key)`` is true."""
        return f"list_filter({entries}, lambda e: {of('e.key')})"

    def rename(self, entries: str, prefix: str) -> str:
        """Entries with a prefix before each key."""
        return (
            f"list_transform({entries}, lambda e: {{'key': {self.text(prefix)} || e.key, 'value': e.value}})"
            if prefix
            else entries
        )

    def join(self, parts: Sequence[str]) -> str:
        """Lists of entries, one after the other; none counts as empty."""
        empty = self.entries(())
        found = f"coalesce({parts[0]}, {empty})"
        for part in parts[1:]:
            found = f"list_concat({found}, coalesce({part}, {empty}))"
        return found

    def map_of(self, entries: str) -> str:
        """A map; none where there is no entry. The second of a key gets ``#2``, the third ``#3``, so that no value is lost."""
        earlier = f"len(list_filter({entries}, lambda o, j: j < i AND o.key = e.key))"
        unique = (
            f"list_transform({entries}, lambda e, i: {{'key': CASE WHEN {earlier} = 0 THEN e.key "
            f"ELSE e.key || '#' || ({earlier} + 1) END, 'value': e.value}})"
        )
        return (
            f"CASE WHEN len({entries}) = 0 THEN NULL WHEN list_unique(list_transform({entries}, lambda e: e.key)) = len({entries}) "
            f"THEN map_from_entries({entries}) ELSE map_from_entries({unique}) END"
        )


_LOOSE_NUMBER: Final = r"[-+]?([nN][aA][nN]|[iI][nN][fF])"
_LOOSE: Final = (rf",\s*([}}\]]|{_LOOSE_NUMBER})", rf":\s*{_LOOSE_NUMBER}", rf"\[\s*{_LOOSE_NUMBER}")
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_ISO_DATE: Final = "([0-9]{4})-([0-9]{2})-([0-9]{2})"
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _escape(key: str) -> str:
    return key.replace("\\", "\\\\").replace('"', '\\"')
