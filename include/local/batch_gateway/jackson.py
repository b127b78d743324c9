"""Reads values as the real gateway's JSON library does: strict about names where a class says nothing, half and half about types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

JACKSON: Final = "com.fasterxml.jackson"
MISMATCH: Final = f"{JACKSON}.databind.exc.MismatchedInputException"
_UNKNOWN: Final = f"{JACKSON}.databind.exc.UnrecognizedPropertyException"
_FORMAT: Final = f"{JACKSON}.databind.exc.InvalidFormatException"
_RANGE: Final = f"{JACKSON}.databind.JsonMappingException"

Reader = Callable[[Any, str], Any]
"""Makes a field's value of what was sent; the second is the field's name, for a message."""


class Unreadable(Exception):
    """What the JSON library throws; the message names its class."""


def kind(value: Any) -> str:
    """What a value is called in messages."""
    names = {dict: "Object", list: "Array", str: "String", bool: "Boolean", int: "Integer", float: "Floating-point"}
    return f"{names.get(type(value), 'null')} value"


def _mismatch(value: Any, name: str, wanted: str) -> Unreadable:
    return Unreadable(f"{MISMATCH}: Cannot deserialize value of type {wanted} from {kind(value)} ({name})")


def text(value: Any, name: str) -> str:
    """Any scalar becomes a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _mismatch(value, name, "java.lang.String")


def _whole(java_class: str, bits: int) -> Reader:
    """A fraction loses what is behind the point; a text has to be a whole number."""
    most = 2 ** (bits - 1) - 1

    def read(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _mismatch(value, name, java_class)
        if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+\s*", value):
            raise Unreadable(f'{_FORMAT}: Cannot deserialize value of type {java_class} from String "{value}" ({name})')
        found = int(value) if isinstance(value, str) else value
        if not -most - 1 <= found <= most:
            thrown, word = _FORMAT if isinstance(value, str) else _RANGE, {32: "int", 64: "long"}[bits]
            raise Unreadable(
                f"{thrown}: Numeric value ({value}) out of range of {word} ({-most - 1} - {most}) ({name})"
            )
        return int(found)

    return read


integer: Final = _whole("java.lang.Integer", 32)
long: Final = _whole("java.lang.Long", 64)
"""Of whole numbers."""


def number(value: Any, name: str) -> float:
    """A text may be one too."""
    try:
        if not isinstance(value, (bool, dict, list)):
            return float(value)
    except ValueError:
        pass
    raise _mismatch(value, name, "java.lang.Double")


def boolean(value: Any, name: str) -> bool:
    """The words and the whole numbers too."""
    known = {True: True, False: False, "true": True, "false": False, "True": True, "False": False, "": False}
    if isinstance(value, (bool, str)) and value in known:
        return known[value]
    if isinstance(value, int):
        return value != 0
    raise _mismatch(value, name, "boolean")


def properties(value: Any, name: str) -> dict[str, str]:
    """Texts by their names."""
    if not isinstance(value, dict):
        raise _mismatch(value, name, "java.util.LinkedHashMap<java.lang.String,java.lang.String>")
    return {text(key, name): text(one, f"{name}.{key}") for key, one in value.items() if one is not None}


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mismatch(value, name, "Object")
    return dict(value)


def of(known: dict[str, Reader]) -> Reader:
    """An object below the top: what it does not know, it ignores."""

    def read(value: Any, name: str) -> dict[str, Any]:
        given = _object(value, name)
        return {
            key: known[key](one, f"{name}.{key}".lstrip("."))
            for key, one in given.items()
            if key in known and one is not None
        }

    return read


def strictly_of(java_class: str, known: dict[str, Reader]) -> Reader:
    """An object of a class that does not say what to do with names it does not know: they are refused."""
    lenient = of(known)

    def read(value: Any, name: str) -> dict[str, Any]:
        for key in _object(value, name):
            if key not in known:
                raise Unreadable(
                    f'{_UNKNOWN}: Unrecognized field "{key}" (class {java_class}), '
                    f"not marked as ignorable ({len(known)} known properties) ({name or 'the request'})"
                )
        found: dict[str, Any] = lenient(value, name)
        return found

    return read


def many(one: Reader) -> Reader:
    """A list of them."""

    def read(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise _mismatch(value, name, "java.util.ArrayList")
        return [one(each, f"{name}[{at}]") for at, each in enumerate(value)]

    return read
