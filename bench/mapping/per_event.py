"""Maps logs to OCSF one event at a time, in plain Python: what the benchmark compares with, and the tests' oracle.

It reads a source's folder (`source.yaml`, `mapping.json`) on its own and shares no code with the engine. A kind of event is
compiled once to closures; an event then costs their calls. Nothing is validated on the way: `PerEventMapper.validate` does
that with the official JSON schema.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from json.encoder import encode_basestring as _quoted
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import jsonschema_rs
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

type Levels = list[dict[str, Any]]
"""The objects of an event that the mapping enters; the first is the event itself."""
type Read = Callable[[Levels], Any]
"""Gives a value of an event; None is no value."""
type Steps = tuple[str | int, ...]
"""The keys and the places in arrays on the way to a value."""

_EMPTY: Final[dict[str, Any]] = {}
_INT32: Final = (-(2**31), 2**31 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)
_ROWS: Final = 20_000
"""Of a chunk that is written to Parquet."""


@dataclass(frozen=True)
class Mapped:
    """An event as OCSF has it.

    Attributes:
        class_name: of OCSF, such as ``network_activity``.
        version: of OCSF.
        record: the attributes, typed, without ``unmapped``.
        unmapped: what the record has no attribute for, as text, by dotted path.
        account: of the event; None when the source leaves it open.
        region: likewise; None is the lake's own.
        event_day: ``YYYYMMDD`` in UTC.
    """

    class_name: str
    version: str
    record: dict[str, Any]
    unmapped: dict[str, str]
    account: str | None
    region: str | None
    event_day: str


@dataclass(frozen=True)
class SetAside:
    """An event that can't be mapped, and why."""

    code: str
    detail: str


class MappingFault(ValueError):
    """The mapping or the source's file is not of the language."""


class _Number(str):
    """A JSON number that Python's own would print in another way, as the source wrote it."""

    __slots__ = ()


class _Double(_Number):
    """A JSON number as DuckDB writes a double on its own, which is as Python does."""

    __slots__ = ()


class _Millis(int):
    """Milliseconds since 1970: a time that needs no reading any more."""


class _Repeated(dict[str, Any]):
    """A JSON object with a repeated key, of which the first counts; `pairs` has all of them."""

    pairs: list[tuple[str, Any]]


class _Refused(Exception):
    """Ends the mapping of an event."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.aside = SetAside(code, detail)


# ---- JSON ----


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = _Repeated(reversed(pairs))
    repeated.pairs = pairs
    return repeated


def _integer(text: str) -> int | _Number:
    return int(text) if len(text) < 19 and text != "-0" else _Number(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _double(text: str) -> _Number:
    number = float(text)
    return _Number(text) if abs(number) == float("inf") else _Double(repr(number))


def _whole_number(text: str) -> int | _Number:
    return int(text) if len(text) < 19 else _Number(text)


def _decoder(number: Callable[[str], Any], integer: Callable[[str], Any]) -> Callable[[str], Any]:
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_float=number, parse_int=integer, parse_constant=_constant
    ).decode


_DECODERS: Final = {"source": _decoder(_Number, _integer), "double": _decoder(_double, _whole_number)}
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _parse(text: str, numbers: str) -> Any:
    """The value of a JSON text; a `ValueError` says why it is none."""
    try:
        value = _DECODERS[numbers](text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if "\\u" in text and _LONE_SURROGATE.search(compact(value)):
        raise ValueError("it has half of a surrogate pair")
    return value


def compact(value: Any) -> str:
    """A value as compact JSON text, with the keys in their order and the numbers as the source wrote them."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if isinstance(value, dict):
        pairs = value.pairs if isinstance(value, _Repeated) else value.items()
        return "{" + ",".join([f"{_quoted(key)}:{compact(item)}" for key, item in pairs]) + "}"
    if kind is list:
        return "[" + ",".join([compact(item) for item in value]) + "]"
    if value is None:
        return "null"
    return _inner_double(value) if kind is _Double else text_of(value)


def _inner_double(text: str) -> str:
    """A double as DuckDB writes it inside of a JSON text: with an exponent only below 1e-6 and from 1e21 on."""
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return str(text)
    size = int(exponent)
    if not -7 < size < 21:
        return f"{mantissa}e{size}"
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    whole, _, fraction = digits.partition(".")
    if size < 0:
        return f"{sign}0.{'0' * (-size - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(size, '0')}.0"


def text_of(value: Any) -> str:
    """A value that is there as text: of an object or an array its JSON."""
    kind = type(value)
    if kind is str:
        return cast("str", value)
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return compact(value)
    return str(value)


def _lines(_numbers: str, text: str) -> dict[str, Any]:
    """The fields of a text of ``Key: value`` lines."""
    found: dict[str, Any] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        key, separator, value = line.partition(": ")
        if separator:
            found.setdefault(key.strip(), value)
        elif line.endswith(":"):
            found.setdefault(line[:-1].strip(), "")
        elif line:
            found.setdefault(f"Line{number}", line)
    return found


def _nested_json(numbers: str, text: str) -> dict[str, Any]:
    try:
        value = _parse(text, numbers)
    except ValueError:
        return _EMPTY
    return value if isinstance(value, dict) else _EMPTY


_NESTED: Final[dict[str, Callable[[str, str], dict[str, Any]]]] = {"json": _nested_json, "lines": _lines}


# ---- Times ----

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_PLAIN: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_SHIFTS: Final = {"epoch": 3, "epoch_s": 3, "epoch_ms": 0, "epoch_us": -3, "epoch_ns": -6}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


@lru_cache(4096)
def _day_start(day: str) -> int:
    if day.startswith("0000"):  # 1 BC is a leap year, as AD 4 is, and 1461 days before it
        return (date.fromisoformat(f"0004{day[4:]}").toordinal() - 1461 - _EPOCH_DAY) * 86_400_000
    return (date.fromisoformat(day).toordinal() - _EPOCH_DAY) * 86_400_000


def _iso(value: Any) -> int | None:
    found = _ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    millis: int
    if hour > "23" or minute > "59" or second > "59":
        return None
    try:
        millis = _day_start(day) + (int(hour) * 60 + int(minute)) * 60_000 + int(second) * 1000
    except ValueError:
        return None
    if fraction:
        millis += int(fraction[:3].ljust(3, "0"))
    if sign:
        if hours > "23" or minutes > "59":
            return None
        offset = (int(hours) * 60 + int(minutes)) * 60_000
        millis += offset if sign == "-" else -offset
    return millis


def _epoch(value: Any, shift: int) -> int | None:
    """Milliseconds of a number whose unit is 10^(shift - 3) seconds."""
    if type(value) is int and shift >= 0:
        return int(value) * int(10**shift)
    text = str(value) if type(value) is not bool else ""
    if not _PLAIN.fullmatch(text):
        return None
    return int(Decimal(text).scaleb(shift).__floor__())


def _strptime(value: Any, form: str) -> int | None:
    try:
        time = datetime.strptime(text_of(value), form)
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _in_format(value: Any, form: str) -> int | None:
    if form == "iso":
        return _iso(value)
    if form in _SHIFTS:
        return _epoch(value, _SHIFTS[form])
    return _strptime(value, form)


def _any_time(value: Any) -> int | None:
    """Milliseconds of a text or a number whose unit its size says."""
    if type(value) is _Millis:
        return int(value)
    millis = _iso(value)
    if millis is not None or type(value) is bool:
        return millis
    text = str(value)
    if not _PLAIN.fullmatch(text):
        return None
    size = abs(Decimal(text))
    if size >= 2**63:
        return None
    return _epoch(value, 3 if size < 10**11 else 0 if size < 10**14 else -3 if size < 10**17 else -6)


# ---- Types ----

_WHOLE: Final = re.compile(r"\s*([+-]?\d{1,30})(?:\.0+)?\s*", re.ASCII)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class _Attribute:
    """What the schema says of an attribute; `known` is false when the class or object lacks it."""

    path: str
    type: str
    base: str
    array: bool = False
    required: bool = False
    object_type: str | None = None
    known: bool = True


def _whole(value: Any, name: _Attribute, low: int, high: int) -> int:
    if type(value) is int:
        number = value
    else:
        found = _WHOLE.fullmatch(text_of(value)) if type(value) is not bool else None
        if found is None:
            raise _bad(name, value)
        number = int(found[1])
    if not low <= number <= high:
        raise _bad(name, value)
    return int(number)


def _bad(name: _Attribute, value: Any) -> _Refused:
    return _Refused("bad_value", f"{name.path}: expected {name.type}, found {text_of(value)[:80]}")


def _boolean(name: _Attribute) -> Callable[[Any], bool]:
    def boolean(value: Any) -> bool:
        found = _BOOLEANS.get(text_of(value).lower())
        if found is None:
            raise _bad(name, value)
        return found

    return boolean


def _floating(name: _Attribute) -> Callable[[Any], float]:
    def floating(value: Any) -> float:
        text = text_of(value).strip() if type(value) is not bool else ""
        number = float(text) if _DECIMAL.fullmatch(text) else float("inf")
        if abs(number) == float("inf"):
            raise _bad(name, value)
        return number

    return floating


def _converter(name: _Attribute) -> Callable[[Any], Any]:
    """Gives a scalar attribute's type to a value that is there."""
    base = name.base
    if base == "integer_t":
        return lambda value: (
            value if type(value) is int and -2147483648 <= value <= 2147483647 else _whole(value, name, *_INT32)
        )
    if base == "timestamp_t":

        def time(value: Any) -> int:
            millis = _any_time(value)
            if millis is None or not _INT64[0] <= millis <= _INT64[1]:
                raise _bad(name, value)
            return millis

        return time
    if base == "long_t":
        return lambda value: _whole(value, name, *_INT64)
    if base == "boolean_t":
        return _boolean(name)
    if base == "float_t":
        return _floating(name)
    if name.path == "metadata.version":
        return lambda value: text_of(value).removeprefix("v")
    return lambda value: value if type(value) is str else str(text_of(value))


class _Schema:
    """OCSF of one version."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.schema = get_ocsf_schema(version)
        self.types = self.schema["types"]

    def class_of(self, name: str) -> dict[str, Any]:
        found = self.schema["classes"].get(name)
        if found is None:
            raise MappingFault(f"OCSF {self.version} has no class {name}")
        return cast("dict[str, Any]", found)

    def attribute(self, owner: Mapping[str, Any], name: str, path: str) -> _Attribute:
        """An attribute of a class or an object."""
        found = owner["attributes"].get(name)
        if found is None:
            return _Attribute(path, "string_t", "string_t", known=False)
        kind = str(found["type"])
        base = kind
        while base != "timestamp_t" and "type" in self.types.get(base, {}):
            base = self.types[base]["type"]
        return _Attribute(
            path,
            kind,
            base,
            bool(found.get("is_array")),
            found.get("requirement") == "required",
            found.get("object_type") if kind == "object_t" else None,
        )

    def owner(self, attribute: _Attribute) -> Mapping[str, Any]:
        """The object that an attribute holds."""
        found = self.schema["objects"].get(attribute.object_type or "")
        return cast("Mapping[str, Any]", found if found is not None else {"attributes": {}})


@lru_cache
def _schema(version: str) -> _Schema:
    return _Schema(version)


@lru_cache(256)
def _validator(version: str, class_name: str, profiles: tuple[str, ...]) -> Any:
    schema = OcsfJsonSchemaEmbedded(_schema(version).schema).get_class_schema(class_name, list(profiles))
    return jsonschema_rs.Draft202012Validator(schema)


# ---- The mapping's text ----

_STEP: Final = re.compile(r"""\.([^.\[]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")
_PATH: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)?((?:\.[^.\[]+|\[\d+\]|\['[^']*'\]|\[\"[^\"]*\"\])*)")


def _path(text: str) -> tuple[str | None, Steps]:
    """The document and the steps of a path."""
    found = _PATH.fullmatch(text)
    if found is None:
        raise MappingFault(f"{text} is not a path")
    steps: list[str | int] = [
        int(index) if index else (plain or single or double) for plain, index, single, double in _STEP.findall(found[2])
    ]
    if found[1] is None and len(steps) > 1 and steps[0] == "UserDefined":
        steps = steps[1:]
    return found[1], tuple(steps)


def _is_path(node: Any) -> bool:
    return isinstance(node, str) and node.startswith("$") and not node.startswith("$$")


def _is_plain_object(node: Any) -> bool:
    """Whether it is a nested OCSF object, neither a keyword nor AWS's enum."""
    if not isinstance(node, dict):
        return False
    if set(node) == {"enum"} and isinstance(node["enum"], dict) and "evaluate" in node["enum"]:
        return False
    return not any(key.startswith("$") and key != "$include" for key in node)


def _is_literal(node: Any) -> bool:
    if isinstance(node, list):
        return all(_is_literal(item) for item in node)
    if isinstance(node, dict):
        return _is_plain_object(node) and all(_is_literal(item) for item in node.values())
    return not _is_path(node)


def _merged(first: Any, second: Any) -> Any:
    if not (_is_plain_object(first) and _is_plain_object(second)):
        return second
    return {
        **first,
        **{key: _merged(first[key], value) if key in first else value for key, value in second.items()},
    }


def _included(node: Any, fragments: Mapping[str, Any]) -> Any:
    """A part of a mapping with its fragments in place; of two fragments the later wins, and own keys win over both."""
    if isinstance(node, list):
        return [_included(item, fragments) for item in node]
    if not isinstance(node, dict):
        return node
    own = {key: _included(value, fragments) for key, value in node.items() if key != "$include"}
    whole: dict[str, Any] = {}
    for name in node.get("$include", ()):
        if name not in fragments:
            raise MappingFault(f"there is no fragment {name}")
        whole = _merged(whole, _included(fragments[name], fragments))
    return _merged(whole, own) if whole else own


def _regex(text: str) -> re.Pattern[str]:
    """A pattern that means what RE2 takes it for: ASCII classes, and ``$`` only at the very end."""
    parts = re.findall(r"\\.|\[(?:\\.|[^\]\\])+\]|.", text, re.DOTALL)
    return re.compile("".join(r"\Z" if part == "$" else part for part in parts), re.ASCII)


# ---- Levels and kinds ----


@dataclass
class _Place:
    """An object of the event, or a value in it.

    Attributes:
        level: of the object, once something in it is read.
        read: whether it is read as a whole.
        children: what is read in it, by key.
    """

    level: int | None = None
    read: bool = False
    children: dict[str, _Place] = field(default_factory=dict)


class _Compiler:
    """Compiles values to closures, and finds out what they read."""

    def __init__(self, mapper: PerEventMapper, choice: tuple[Steps | None, ...]) -> None:
        self.missing = mapper.missing
        self.nested = mapper.nested
        self.documents = dict(zip(mapper.documents, choice, strict=True))
        self.root = _Place(level=0)
        self.places: dict[Steps, _Place] = {(): self.root}
        self.loads: list[tuple[int, str | int, Callable[[str], dict[str, Any]] | None]] = []
        self.levels: dict[Steps, int] = {(): 0}

    # -- paths --

    def level(self, steps: Steps) -> int:
        """The level of the object at a path, entered from now on."""
        if steps in self.levels:
            return self.levels[steps]
        if isinstance(steps[-1], str):
            self.loads.append((self.level(steps[:-1]), steps[-1], self.nested.get(steps)))
        else:
            self.loads.append((self._array(steps[:-1]), steps[-1], _item))
        self.levels[steps] = len(self.loads)
        if all(isinstance(step, str) for step in steps):
            self._place(steps).level = self.levels[steps]
        return self.levels[steps]

    def _array(self, steps: Steps) -> int:
        """The level that stands for an array: its items by their place as text."""
        marked = (*steps, "[]")
        if marked not in self.levels:
            parent = self.level(steps[:-1]) if isinstance(steps[-1], str) else self._array(steps[:-1])
            self.loads.append((parent, steps[-1], _items))
            self.levels[marked] = len(self.loads)
        return self.levels[marked]

    def _place(self, steps: Steps) -> _Place:
        place = self.root
        for step in steps:
            place = place.children.setdefault(cast("str", step), _Place())
        return place

    def steps(self, text: str) -> Steps | None:
        """A path's steps from the event on; None when its document is not there."""
        document, steps = _path(text)
        if document is None:
            return steps
        if document not in self.documents:
            raise MappingFault(f"{text}: there is no document {document}")
        start = self.documents[document]
        return None if start is None else (*start, *steps)

    def path(self, text: str) -> Read:
        steps = self.steps(text)
        if steps is None:
            return lambda levels: None
        if not steps:
            return lambda levels: levels[-1][""]
        last: Any = steps[-1]
        index = self.level(steps[:-1]) if isinstance(last, str) else self._array(steps[:-1])
        if all(isinstance(step, str) for step in steps):
            self._place(steps).read = True
        missing = self.missing
        if missing == ("",):

            def read(levels: Levels) -> Any:
                value = levels[index].get(last)
                return None if value == "" else value
        else:

            def read(levels: Levels) -> Any:
                value = levels[index].get(last)
                return None if value in missing else value

        return read

    # -- values --

    def value(self, node: Any, where: str) -> Read:
        """A value as the event has it, before it is typed."""
        if isinstance(node, str):
            if _is_path(node):
                return self.path(node)
            text = node.removeprefix("$") if node.startswith("$$") else node
            return lambda levels: text
        if isinstance(node, list):
            return self._list(node, where)
        if not isinstance(node, dict):
            return lambda levels: node
        if _is_plain_object(node):
            return self._untyped_object(node, where)
        for keyword, compile_ in (
            ("enum", self._enum),
            ("$first", self._first),
            ("$if", self._if),
            ("$concat", self._concat),
            ("$of", self._of),
        ):
            if keyword in node:
                return compile_(node, where)
        raise MappingFault(f"{where}: {sorted(node)} is no keyword")

    def _untyped_object(self, node: dict[str, Any], where: str) -> Read:
        reads = {key: self.value(item, f"{where}.{key}") for key, item in node.items()}

        def read(levels: Levels) -> Any:
            found = {key: value for key, item in reads.items() if (value := item(levels)) is not None}
            return found or None

        return read

    def _list(self, node: list[Any], where: str) -> Read:
        reads = [self.value(item, where) for item in node]

        def read(levels: Levels) -> Any:
            return [value for item in reads if (value := item(levels)) is not None] or None

        return read

    def _enum(self, node: dict[str, Any], where: str) -> Read:
        body = node["enum"]
        evaluated = self.value(body["evaluate"], where)
        values = {key: _unescaped(value) for key, value in body["values"].items()}
        other = self.value(body.get("other"), where)

        def read(levels: Levels) -> Any:
            value = evaluated(levels)
            if value is not None:
                key = value if type(value) is str else text_of(value)
                if key in values:
                    return values[key]
            return other(levels)

        return read

    def _first(self, node: dict[str, Any], where: str) -> Read:
        reads = [self.value(item, where) for item in node["$first"]]

        def read(levels: Levels) -> Any:
            for item in reads:
                value = item(levels)
                if value is not None:
                    return value
            return None

        return read

    def _if(self, node: dict[str, Any], where: str) -> Read:
        test = self.condition(node["$if"], where)
        then, otherwise = self.value(node.get("$then"), where), self.value(node.get("$else"), where)
        return lambda levels: then(levels) if test(levels) else otherwise(levels)

    def _concat(self, node: dict[str, Any], where: str) -> Read:
        reads = [self.value(item, where) for item in node["$concat"]]

        def read(levels: Levels) -> Any:
            texts: list[str] = []
            for item in reads:
                value = item(levels)
                if value is None:
                    return None
                texts.append(text_of(value))
            return "".join(texts)

        return read

    def _of(self, node: dict[str, Any], where: str) -> Read:
        source = self.value(node["$of"], where)
        steps: list[Callable[[Any], Any]] = []
        if "$pattern" in node:
            steps.append(_pattern(_regex(node["$pattern"])))
        if "$case" in node:
            upper = node["$case"] == "upper"
            steps.append(lambda value: text_of(value).upper() if upper else text_of(value).lower())
        if "$split" in node:
            separator = node["$split"]
            steps.append(lambda value: [part for part in text_of(value).split(separator) if part.strip()] or None)
        if "$base" in node:
            steps.append(_based(node["$base"], where))
        if "$time" in node:
            steps.append(_timed(node["$time"], where))
        default = _unescaped(node.get("$default"))

        def read(levels: Levels) -> Any:
            value = source(levels)
            for step in steps:
                if value is None:
                    break
                value = step(value)
            return default if value is None else value

        return read

    def condition(self, node: dict[str, Any], where: str) -> Callable[[Levels], bool]:
        if "$all" in node:
            tests = [self.condition(item, where) for item in node["$all"]]
            return lambda levels: all(test(levels) for test in tests)
        if "$any" in node:
            tests = [self.condition(item, where) for item in node["$any"]]
            return lambda levels: any(test(levels) for test in tests)
        if "$not" in node:
            test = self.condition(node["$not"], where)
            return lambda levels: not test(levels)
        source = self.value(node["$of"], where)
        if "$in" in node:
            texts = frozenset(node["$in"])
            return lambda levels: (value := source(levels)) is not None and text_of(value) in texts
        if "$matches" in node:
            search = _regex(node["$matches"]).search
            return lambda levels: (value := source(levels)) is not None and search(text_of(value)) is not None
        if "$exists" in node:
            wanted = bool(node["$exists"])
            return lambda levels: (source(levels) is not None) is wanted
        raise MappingFault(f"{where}: {sorted(node)} is no condition")

    # -- attributes --

    def attribute(self, node: Any, attribute: _Attribute, schema: _Schema, timed: tuple[str, str] | None) -> Read:
        """An attribute's value with its type."""
        if _is_plain_object(node) and (attribute.object_type or not attribute.known):
            read = self.nested_object(node, attribute, schema, timed).read
            return (lambda levels: _listed(read(levels))) if attribute.array else read
        if attribute.array:
            return self._array_of(node, attribute, schema, timed)
        if "$if" in node if isinstance(node, dict) else False:
            test = self.condition(node["$if"], attribute.path)
            then = self.attribute(node.get("$then"), attribute, schema, timed)
            otherwise = self.attribute(node.get("$else"), attribute, schema, timed)
            return lambda levels: then(levels) if test(levels) else otherwise(levels)
        if isinstance(node, dict) and "$first" in node:
            reads = [self.attribute(item, attribute, schema, None) for item in node["$first"]]

            def first(levels: Levels) -> Any:
                for item in reads:
                    value = item(levels)
                    if value is not None:
                        return value
                return None

            return first
        if timed and attribute.base == "timestamp_t" and node == timed[0]:
            node = {"$of": node, "$time": [timed[1]]}
        source = self.value(node, attribute.path)
        if attribute.object_type and attribute.object_type != "object":
            name = _converter(schema.attribute(schema.owner(attribute), "name", f"{attribute.path}.name"))
            return lambda levels: None if (value := source(levels)) is None else {"name": name(value)}
        convert = _converter(attribute)
        if _is_literal(node):
            if node is None:
                return lambda levels: None
            fixed = convert(source([]))
            return lambda levels: fixed
        return lambda levels: None if (value := source(levels)) is None else convert(value)

    def _array_of(self, node: Any, attribute: _Attribute, schema: _Schema, timed: tuple[str, str] | None) -> Read:
        item = _Attribute(attribute.path, attribute.type, attribute.base, object_type=attribute.object_type)
        if isinstance(node, list):
            reads = [self.attribute(part, item, schema, timed) for part in node]
            return lambda levels: [value for read in reads if (value := read(levels)) is not None] or None
        if isinstance(node, dict) and "$if" in node:
            test = self.condition(node["$if"], attribute.path)
            then = self.attribute(node.get("$then"), attribute, schema, timed)
            otherwise = self.attribute(node.get("$else"), attribute, schema, timed)
            return lambda levels: then(levels) if test(levels) else otherwise(levels)
        if isinstance(node, str) and not _is_path(node) and not attribute.object_type:
            convert = _converter(item)
            fixed = [convert(part.strip()) for part in node.split(",") if part.strip()]
            return lambda levels: fixed
        source = self.value(node, attribute.path)
        missing = self.missing
        if item.object_type:
            named = _converter(schema.attribute(schema.owner(item), "name", f"{attribute.path}.name"))
            typed: Callable[[Any], Any] = lambda value: {"name": named(value)}  # noqa: E731 - one of two forms
        else:
            typed = _converter(item)

        def read(levels: Levels) -> Any:
            value = source(levels)
            if value is None:
                return None
            if type(value) is not list:
                return [typed(value)]
            return [typed(part) for part in value if part is not None and part not in missing] or None

        return read

    def nested_object(
        self,
        node: dict[str, Any],
        attribute: _Attribute,
        schema: _Schema,
        timed: tuple[str, str] | None,
    ) -> _Object:
        return self.object(node, schema.owner(attribute), f"{attribute.path}.", schema, timed)

    def object(
        self,
        node: dict[str, Any],
        owner: Mapping[str, Any],
        prefix: str,
        schema: _Schema,
        timed: tuple[str, str] | None,
    ) -> _Object:
        """An OCSF object."""
        fixed: dict[str, Any] = {}
        parts: list[tuple[str, Read]] = []
        kept: dict[str, dict[str, Any]] = {}
        for name, value in node.items():
            if value is None:
                continue
            attribute = schema.attribute(owner, name, f"{prefix}{name}")
            if _is_literal(value):
                found = self.attribute(value, attribute, schema, timed)([])
                if found is not None:
                    fixed[name] = found
                continue
            if attribute.required and attribute.object_type and _is_plain_object(value) and not attribute.array:
                inner = self.nested_object(value, attribute, schema, timed)
                if inner.fixed_form:
                    kept[name] = inner.fixed_form
                parts.append((name, inner.read))
            else:
                parts.append((name, self.attribute(value, attribute, schema, timed)))
        return _Object(fixed, parts, kept)


class _Object:
    """An OCSF object whose leaves are compiled.

    Attributes:
        fixed_form: what is left of it when no leaf that depends on the event has a value.
    """

    def __init__(self, fixed: dict[str, Any], parts: list[tuple[str, Read]], kept: dict[str, dict[str, Any]]) -> None:
        self.fixed_form = {**fixed, **kept}
        if not parts:
            self.read: Read = lambda levels: fixed
            return
        start = self.fixed_form

        def read(levels: Levels) -> Any:
            found = start.copy()
            some = False
            for name, part in parts:
                value = part(levels)
                if value is not None:
                    found[name] = value
                    some = True
            return found if some else None

        self.read = read


def _items(value: Any) -> dict[Any, Any]:
    return dict(enumerate(value)) if isinstance(value, list) else {}


def _item(_value: Any) -> dict[str, Any]:
    """An object in an array is no level: the array is kept whole, so a repeated key in it is no harm."""
    return _EMPTY


def _listed(value: Any) -> Any:
    return None if value is None else [value]


def _unescaped(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value.startswith("$$") else value


def _pattern(regex: re.Pattern[str]) -> Callable[[Any], Any]:
    search, group = regex.search, 1 if regex.groups else 0

    def read(value: Any) -> Any:
        found = search(value if type(value) is str else text_of(value))
        return (found[group] or None) if found else None

    return read


def _based(base: int, where: str) -> Callable[[Any], Any]:
    name = _Attribute(where, f"integer of base {base}", "")

    def read(value: Any) -> Any:
        text = text_of(value).strip()
        bare = re.sub(r"^0[xX]", "", text)
        if not re.fullmatch(r"[0-9A-Fa-f]{1,15}", bare):  # no sign: it is the text of a bit pattern
            raise _bad(name, value)
        number = int(bare, base)
        return str(number)

    return read


def _timed(formats: Sequence[str], where: str) -> Callable[[Any], Any]:
    name = _Attribute(where, f"time of the format {' or '.join(formats)}", "")

    def read(value: Any) -> Any:
        for form in formats:
            millis = _in_format(value, form)
            if millis is not None:
                return _Millis(millis)
        raise _bad(name, value)

    return read


@dataclass(frozen=True)
class _Keep:
    """What of a level is kept: a level's number, its path, the keys that are no rest, and the entered ones not read whole."""

    level: int
    prefix: str
    handled: frozenset[str]
    entered: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Kind:
    """A kind of event, compiled for one choice of documents."""

    class_name: str
    version: str
    loads: tuple[tuple[int, str | int, Callable[[str], dict[str, Any]] | None], ...]
    record: Read
    time: Read
    type_uid_base: int | None
    explicit: tuple[tuple[str, Read], ...]
    keeps: tuple[_Keep, ...]
    account: Read | None
    region: Read | None


def _load(
    root: dict[str, Any],
    text: str,
    loads: Iterable[tuple[int, str | int, Callable[[str], dict[str, Any]] | None]],
    parsed: dict[int, dict[str, Any]],
    *,
    strict: bool = True,
) -> Levels:
    """The levels of an event. A repeated key in one of them refuses it when it is taken strictly."""
    if strict and type(root) is _Repeated:
        raise _repeated(root)
    levels: Levels = [root]
    value: Any
    for parent, key, parse in loads:
        value = levels[parent].get(key)  # type: ignore[arg-type]  # an array's items have numbers for keys
        kind = type(value)
        if kind is dict:
            levels.append(value)
        elif kind is _Repeated:
            if strict and parse is not _item:
                raise _repeated(value)
            levels.append(value)
        elif parse is _items:
            levels.append(parse(value))
        elif parse is not None and kind is str:
            found = parsed.get(id(value))
            if found is None:
                found = parsed[id(value)] = parse(value)
            if strict and type(found) is _Repeated:
                raise _repeated(found)
            levels.append(found)
        else:
            levels.append(_EMPTY)
    levels.append({"": text})
    return levels


def _repeated(found: _Repeated) -> _Refused:
    counts = Counter(key for key, _ in found.pairs)
    return _Refused("duplicate_key", f"the key {next(key for key, count in counts.items() if count > 1)} is repeated")


class PerEventMapper:
    """Maps the events of one source.

    Args:
        folder: of the source, with its `source.yaml` and `mapping.json`.
        numbers: how a number with a fraction or an exponent becomes text: as the source wrote it, or as DuckDB does, as a double.

    Raises:
        MappingFault: the mapping is not of the language.
    """

    def __init__(self, folder: Path, numbers: Literal["source", "double"] = "source") -> None:
        self.source: dict[str, Any] = yaml.safe_load((folder / "source.yaml").read_text())
        self.mapping: dict[str, Any] = json.loads((folder / "mapping.json").read_text())["custom_source_events"]
        self.missing: tuple[str, ...] = tuple(self.mapping.get("$missing", [""]))
        self._numbers = numbers
        self.nested: dict[Steps, Callable[[str], dict[str, Any]]] = {
            _path(path)[1]: partial(_NESTED[how], numbers) for path, how in (self.source.get("nested") or {}).items()
        }
        self.documents: dict[str, Any] = self.mapping.get("$documents", {})
        self._candidates = [
            ([_path(path)[1] for path in document["in"]], document["having"]) for document in self.documents.values()
        ]
        self._objects = [re.compile(item["key"]) for item in self.source.get("objects", [])]
        limits = self.source.get("limits") or {}
        self._longest = int(limits.get("max_record_bytes", 16 * 2**20))
        self._earliest = _midnight(limits.get("earliest", "2000-01-01"))
        self._latest = _midnight(limits.get("latest", "2100-01-01"))
        self._csv = self.source.get("csv") if self.source["format"] == "csv" else None
        self._encoding = self.source.get("encoding", "utf-8")
        self._heads: dict[tuple[Steps | None, ...], tuple[Any, Read]] = {}
        self._kinds: dict[tuple[str, tuple[Steps | None, ...]], _Kind] = {}

    def account_and_region(self, key: str) -> tuple[str | None, str | None]:
        """What an object's key says of account and region."""
        for pattern in self._objects:
            found = pattern.fullmatch(key)
            if found:
                groups = found.groupdict()
                return groups.get("account"), groups.get("region")
        return None, None

    def map(self, raw: bytes, account: str | None = None, region: str | None = None) -> Mapped | SetAside:
        """Map one event.

        Args:
            raw: its record: a line, or an item of a document.
            account: that the object's key gives.
            region: likewise.
        """
        try:
            return self._map(raw, account, region)
        except _Refused as refused:
            return refused.aside
        except RecursionError:
            return SetAside("not_json", "it is nested too deep")

    def map_validated(self, raw: bytes, account: str | None = None, region: str | None = None) -> Mapped | SetAside:
        """Map one event and set it aside when the official schema refuses it."""
        mapped = self.map(raw, account, region)
        if isinstance(mapped, Mapped):
            errors = self.validate(mapped)
            if errors:
                return SetAside("invalid", errors[0])
        return mapped

    @staticmethod
    def validate(mapped: Mapped) -> list[str]:
        """What the official JSON schema of the event's class, version and profiles says against it."""
        profiles = mapped.record.get("metadata", {}).get("profiles") or []
        validator = _validator(mapped.version, mapped.class_name, tuple(sorted(set(profiles))))
        record = {**mapped.record, "unmapped": mapped.unmapped} if mapped.unmapped else mapped.record
        if validator.is_valid(record):
            return []
        return [
            f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(record)
        ]

    def _map(self, raw: bytes, account: str | None, region: str | None) -> Mapped:
        root, text = self._record(raw)
        parsed: dict[int, dict[str, Any]] = {}
        choice = self._choice(root, parsed) if self._candidates else ()
        loads, matched = self._heads.get(choice) or self._head(choice)
        value = matched(_load(root, text, loads, parsed, strict=False))
        if value is None:
            raise _Refused("no_kind", f"{json.dumps(self.mapping['matched_field'])} has no value")
        kind = self._kind(text_of(value), choice)
        levels = _load(root, text, kind.loads, parsed)
        try:
            record = kind.record(levels)
        except _Refused as refused:
            self._check_time(kind, levels, refused)
            raise
        if kind.type_uid_base is not None and "activity_id" in record:
            record["type_uid"] = kind.type_uid_base + record["activity_id"]
        time = record.get("time")
        self._check(time)
        unmapped: dict[str, str] = {}
        for name, read in kind.explicit:
            found = read(levels)
            if found is not None:
                _put(unmapped, name, text_of(found))
        for name, kept in _kept(kind.keeps, levels):
            _put(unmapped, name, kept)
        return Mapped(
            kind.class_name,
            kind.version,
            record,
            unmapped,
            self._given("account_id", account, kind.account, levels),
            self._given("region", region, kind.region, levels),
            _day(time // 86_400_000),
        )

    def _check(self, time: int | None) -> None:
        if time is None:
            raise _Refused("no_time", "time has no value")
        if not self._earliest <= time < self._latest:
            raise _Refused("time_out_of_range", f"time: {time} ms is not within the source's limits")

    def _check_time(self, kind: _Kind, levels: Levels, refused: _Refused) -> None:
        """What is wrong with an event's time is told before what is wrong with another attribute."""
        try:
            time = kind.time(levels)
        except _Refused:
            raise refused from None
        self._check(time)

    def _given(self, name: str, key: str | None, path: Read | None, levels: Levels) -> str | None:
        rule = self.source.get(name) or {}
        if key is not None and rule.get("key", True):
            return key
        if path is not None:
            value = path(levels)
            if value is not None:
                return text_of(value)
        default = rule.get("default")
        if default is None and name == "account_id":
            raise _Refused("no_account", "neither the object's key nor the event nor the source gives an account")
        return default

    def _record(self, raw: bytes) -> tuple[dict[str, Any], str]:
        if len(raw) > self._longest:
            raise _Refused("record_too_long", f"{len(raw)} bytes are more than {self._longest}")
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise _Refused("bad_encoding", str(error)) from None
        if self._csv:
            return _columns(text, self._csv), text
        try:
            root = _parse(text, self._numbers)
        except ValueError as error:
            raise _Refused("not_json", str(error)) from None
        if not isinstance(root, dict):
            raise _Refused("not_an_object", f"expected an object, found {text[:80]}")
        return root, text

    def _choice(self, root: dict[str, Any], parsed: dict[int, dict[str, Any]]) -> tuple[Steps | None, ...]:
        return tuple(
            next((steps for steps in paths if self._has(root, steps, having, parsed)), None)
            for paths, having in self._candidates
        )

    def _has(self, root: dict[str, Any], steps: Steps, having: str, parsed: dict[int, dict[str, Any]]) -> bool:
        value: Any = root
        for place, step in enumerate(steps, 1):
            value = value.get(step)
            parse = self.nested.get(steps[:place])
            if parse is not None and type(value) is str:
                found = parsed.get(id(value))
                if found is None:
                    found = parsed[id(value)] = parse(value)
                value = found
            if not isinstance(value, dict):
                return False
        found = value.get(having)
        return found is not None and found not in self.missing

    def _head(self, choice: tuple[Steps | None, ...]) -> tuple[Any, Read]:
        compiler = _Compiler(self, choice)
        matched = compiler.value(self.mapping["matched_field"], "matched_field")
        self._heads[choice] = (tuple(compiler.loads), matched)
        return self._heads[choice]

    def _kind(self, value: str, choice: tuple[Steps | None, ...]) -> _Kind:
        found = self._kinds.get((value, choice))
        if found is not None:
            return found
        entries = self.mapping["ocsf_mapping"]
        if value != "*" and value in entries:
            found = self._compiled(value, choice)
        elif "*" in entries:
            found = self._kinds.get(("*", choice)) or self._compiled("*", choice)
            value = "*"
        else:
            raise _Refused("unmapped_kind", f"the mapping has no entry for {value[:80]}")
        self._kinds[value, choice] = found
        return found

    def _compiled(self, value: str, choice: tuple[Steps | None, ...]) -> _Kind:
        entry = self.mapping["ocsf_mapping"][value]
        version = str(entry.get("$version", self.source["ocsf_version"]))
        schema = _schema(version)
        class_ = schema.class_of(entry["schema"])
        tree = _included(entry["schema_mapping"], self.mapping.get("$fragments", {}))
        unmapped = tree.pop("unmapped", None) or {}
        tree = _filled(tree, class_, version)
        compiler = _Compiler(self, choice)
        compiler.value(self.mapping["matched_field"], "matched_field")
        stamp = self.mapping.get("timestamp")
        if stamp:
            compiler.value(stamp["field"], "timestamp")
        account, region = (self._event_path(compiler, name) for name in ("account_id", "region"))
        timed = (stamp["field"], stamp["format"]) if stamp and stamp.get("format") else None
        read = compiler.object(tree, class_, "", schema, timed)
        explicit = tuple(
            (name, compiler.value(node, f"unmapped.{name}")) for name, node in _flat(unmapped) if node is not None
        )
        record = read.read
        fixed = read.fixed_form
        keeps = tuple(_keeps(compiler)) if self.source.get("keep_unmapped", True) else ()
        return _Kind(
            entry["schema"],
            version,
            tuple(compiler.loads),
            lambda levels: found.copy() if (found := record(levels)) is not None else fixed.copy(),
            compiler.attribute(tree.get("time"), schema.attribute(class_, "time", "time"), schema, timed),
            class_["uid"] * 100 if "type_uid" not in tree else None,
            explicit,
            keeps,
            account,
            region,
        )

    def _event_path(self, compiler: _Compiler, name: str) -> Read | None:
        path = (self.source.get(name) or {}).get("path")
        return compiler.path(path) if path else None

    # -- files --

    def records(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The records of a source of lines; blank lines are none."""
        for line in lines:
            record = line.rstrip(b"\r\n")
            if record.strip():
                yield record

    def map_file(self, path: Path, out: Path, key: str = "") -> Counter[str]:
        """Map a file of lines, gzip or plain, to one zstd Parquet file per class.

        Args:
            path: of the file.
            out: a folder that is there.
            key: that the object has in S3, for account and region.

        Returns:
            How many events were read, written and, by reason, set aside.
        """
        account, region = self.account_and_region(key)
        counts: Counter[str] = Counter()
        writers: dict[str, _Writer] = {}
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for raw in self.records(file):
                counts["read"] += 1
                mapped = self.map(raw, account, region)
                if isinstance(mapped, SetAside):
                    counts[mapped.code] += 1
                    continue
                writer = writers.get(mapped.class_name)
                if writer is None:
                    writer = writers[mapped.class_name] = _Writer(out, mapped.class_name, self.arrow(mapped.class_name))
                writer.add(mapped)
                counts["written"] += 1
        for writer in writers.values():
            writer.close()
        return counts

    def arrow(self, class_name: str) -> pa.Schema:
        """The columns that the source's mapping gives a class."""
        merged: dict[str, Any] = {}
        version = self.source["ocsf_version"]
        for entry in self.mapping["ocsf_mapping"].values():
            if entry["schema"] != class_name:
                continue
            version = str(entry.get("$version", version))
            tree = _included(entry["schema_mapping"], self.mapping.get("$fragments", {}))
            tree.pop("unmapped", None)
            tree = _filled(tree, _schema(version).class_of(class_name), version)
            merged = _shape(merged, {"type_uid": 0, **tree})
        schema = _schema(version)
        fields = _fields(merged, schema.class_of(class_name), schema)
        return pa.schema([*fields, pa.field("unmapped", pa.map_(pa.string(), pa.string()))])


def _filled(tree: dict[str, Any], class_: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A mapping with what its class says of itself."""
    tree = {
        "category_uid": class_["category_uid"],
        "category_name": class_["category_name"],
        "class_uid": class_["uid"],
        "class_name": class_["caption"],
        **tree,
    }
    metadata = tree.get("metadata", {})
    if _is_plain_object(metadata):
        tree["metadata"] = {"version": version, **metadata}
    return tree


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if _is_plain_object(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _keeps(compiler: _Compiler) -> Iterator[_Keep]:
    def walk(place: _Place, prefix: str) -> Iterator[_Keep]:
        entered = {key: child for key, child in place.children.items() if child.level is not None}
        yield _Keep(
            cast("int", place.level),
            prefix,
            frozenset(place.children),
            tuple((key, cast("int", child.level)) for key, child in entered.items() if not child.read),
        )
        for key, child in entered.items():
            yield from walk(child, f"{prefix}{key}.")

    return walk(compiler.root, "")


def _put(unmapped: dict[str, str], name: str, text: str) -> None:
    """Add a text; the second of a name gets ``#2``, the third ``#3``."""
    if name in unmapped:
        place = 2
        while f"{name}#{place}" in unmapped:
            place += 1
        name = f"{name}#{place}"
    unmapped[name] = text


def _kept(keeps: Iterable[_Keep], levels: Levels) -> Iterator[tuple[str, str]]:
    """The rest of an event, as text by dotted path."""
    for keep in keeps:
        level = levels[keep.level]
        if not level:
            continue
        handled, prefix = keep.handled, keep.prefix
        for key in level:
            if key not in handled:
                value = level[key]
                if value is not None:
                    yield prefix + key, value if type(value) is str else text_of(value)
        for key, inner in keep.entered:
            if not levels[inner]:
                value = level.get(key)
                if value is not None:
                    yield prefix + key, value if type(value) is str else text_of(value)


def _columns(text: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    """A row of text by column. An empty field is left out."""
    try:
        rows = list(
            csv.reader(
                io.StringIO(text, newline=""),
                delimiter=rules.get("delimiter", ","),
                quotechar=rules.get("quote", '"'),
                strict=True,
            )
        )
    except csv.Error as error:
        raise _Refused("bad_row", str(error)) from None
    names = rules["columns"]
    if len(rows) != 1 or len(rows[0]) > len(names):
        raise _Refused("bad_row", f"expected one row of at most {len(names)} columns")
    return {name: value for name, value in zip(names, rows[0], strict=False) if value}


def _midnight(value: object) -> int:
    return _day_start(str(value))


@lru_cache(4096)
def _day(number: int) -> str:
    return date.fromordinal(number + _EPOCH_DAY).strftime("%Y%m%d")


# ---- Parquet ----

_ARROW: Final = {
    "integer_t": pa.int32(),
    "long_t": pa.int64(),
    "timestamp_t": pa.int64(),
    "boolean_t": pa.bool_(),
    "float_t": pa.float64(),
}


def _shape(first: Any, second: Any) -> Any:
    """The attributes of two mappings together; an object counts more than what is none."""
    if isinstance(first, dict) and isinstance(second, dict) and _is_plain_object(first) and _is_plain_object(second):
        return {**first, **{key: _shape(first[key], value) if key in first else value for key, value in second.items()}}
    return first if _objects(first) and not _objects(second) else second


def _objects(node: Any) -> list[dict[str, Any]]:
    """The nested objects that a value may be."""
    if _is_plain_object(node):
        return [node]
    if isinstance(node, list):
        return [found for item in node for found in _objects(item)]
    if isinstance(node, dict):
        return [found for key in ("$then", "$else", "$first") for found in _objects(node.get(key))]
    return []


def _fields(tree: Mapping[str, Any], owner: Mapping[str, Any], schema: _Schema) -> list[pa.Field]:
    fields = []
    for name, node in tree.items():
        if node is None:
            continue
        attribute = schema.attribute(owner, name, name)
        kind: pa.DataType = _ARROW.get(attribute.base, pa.string())
        if attribute.object_type:
            merged: Any = {}
            for item in _objects(node):
                merged = _shape(merged, item)
            kind = pa.struct(_fields(merged or {"name": ""}, schema.owner(attribute), schema))
        fields.append(pa.field(name, pa.list_(kind) if attribute.array else kind))
    return fields


class _Writer:
    """A Parquet file of one class, written in chunks."""

    def __init__(self, out: Path, class_name: str, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        path = out / f"{class_name.replace('/', '_')}.zstd.parquet"
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, mapped: Mapped) -> None:
        row = mapped.record
        row["unmapped"] = list(mapped.unmapped.items()) or None
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._file.close()
