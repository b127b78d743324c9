"""What an item is, whatever way it is written down: its digest, the digest of a whole partition, its size.

Items are DynamoDB's JSON, as boto3's client gives them. Two items are equal when DynamoDB can't tell them apart: neither the order of
attributes nor that of a set's members matters, and a number is its value (``1``, ``1.0`` and ``1E0`` are one).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULUS: Final = 2**256
_SETS: Final = {"SS": "S", "NS": "N", "BS": "B"}


def digest(item: Mapping[str, Any]) -> bytes:
    """SHA-256 of an item: 32 bytes that are the same for equal items only."""
    return hashlib.sha256(_map(item)).digest()


@dataclass(frozen=True)
class PartitionDigest:
    """How many items there are, and what they are: the sum of their digests, so that their order doesn't matter.

    Attributes:
        count: how many.
        total: sum of the digests modulo 2**256. Not an exclusive or: that would not see an item twice.
    """

    count: int = 0
    total: int = 0

    def add(self, item: bytes) -> PartitionDigest:
        """With one more item, of this digest."""
        return PartitionDigest(self.count + 1, (self.total + int.from_bytes(item)) % _MODULUS)

    def remove(self, item: bytes) -> PartitionDigest:
        """Without an item that it was made with."""
        return PartitionDigest(self.count - 1, (self.total - int.from_bytes(item)) % _MODULUS)

    def merge(self, other: PartitionDigest) -> PartitionDigest:
        """With all items of another one."""
        return PartitionDigest(self.count + other.count, (self.total + other.total) % _MODULUS)

    @property
    def hex(self) -> str:
        """The sum in 64 hexadecimal digits."""
        return f"{self.total:064x}"


def size(item: Mapping[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them; of numbers, which DynamoDB documents only roughly, not less."""
    total = 0
    for name, value in item.items():
        total += len(name) if name.isascii() else len(_utf8(name))
        for kind, content in value.items():
            if kind == "S" and content.isascii():  # the usual case, at once: each item of a copy is measured
                total += len(content)
            else:
                total += _value_size(kind, content)
    return total


def _map(values: Mapping[str, Any]) -> bytes:
    # sorted by code point, so the same on every machine
    return b"".join(_framed(b"a", _utf8(name)) + _value(values[name]) for name in sorted(values))


def _value(value: Mapping[str, Any]) -> bytes:
    ((kind, content),) = value.items()
    if kind in _SETS:
        members = sorted(_scalar(_SETS[kind], member) for member in content)
        return _framed(kind.encode(), b"".join(_framed(b"m", member) for member in members))
    if kind == "L":
        return _framed(b"L", b"".join(_value(each) for each in content))
    if kind == "M":
        return _framed(b"M", _map(content))
    return _framed(kind.encode(), _scalar(kind, content))


def _scalar(kind: str, content: Any) -> bytes:
    if kind == "S":
        return _utf8(content)
    if kind == "N":
        return _number(content)
    if kind == "B":
        return bytes(content)
    if kind == "BOOL":
        return b"1" if content else b"0"
    if kind == "NULL":
        return b""
    raise ValueError(f"expected one of DynamoDB's types, found {kind!r}")


def _framed(tag: bytes, content: bytes) -> bytes:
    """With its length in front, so that no two values run into each other."""
    return b"%s%d:%s" % (tag, len(content), content)


def _number(text: str) -> bytes:
    """The digits without zeros at either end, and the exponent; exact, where ``Decimal.normalize`` would round to 28 digits."""
    if text.isdecimal() and text.isascii() and len(text) < _SHORT:  # the usual case, without Decimal: half the time
        digits = text.lstrip("0")
        kept = digits.rstrip("0")
        return b"%sE%d" % (kept.encode(), len(digits) - len(kept)) if kept else b"0"
    sign, parts, exponent = Decimal(text).as_tuple()
    digits = "".join(map(str, parts)).lstrip("0")
    kept = digits.rstrip("0")
    if not kept or not isinstance(exponent, int):
        return b"0"
    return b"%s%sE%d" % (b"-" if sign else b"", kept.encode(), exponent + len(digits) - len(kept))


_SHORT: Final = 130


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # half a pair is no text, but is no reason to stop here either


def _value_size(kind: str, content: Any) -> int:
    if kind == "N":
        return _number_size(content)
    if kind == "S":
        return _text_size(content)
    if kind == "M":
        return 3 + len(content) + size(content)
    if kind == "L":
        return 3 + len(content) + sum(_value_size(*inner) for each in content for inner in each.items())
    if kind in _SETS:
        return sum(_value_size(_SETS[kind], each) for each in content)
    return len(content) if kind == "B" else 1


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(_utf8(text))


def _number_size(text: str) -> int:
    """A byte for two digits, one for the exponent, one for the sign; an odd exponent splits a pair."""
    if text.isdecimal() and text.isascii():
        return len(text.strip("0")) // 2 + 2
    digits = _number(text).partition(b"E")[0].lstrip(b"-")
    return len(digits) // 2 + 2 + text.startswith("-")
