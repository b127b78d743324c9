"""Damages sample events in all the ways that logs are damaged, the same ones for the same seed.

A mutated event is bytes without a line's end. Most are still JSON: what matters is that two ways of mapping agree on each.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class _Token(str):
    """Text that stands in the event as it is, whether it is JSON or not."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """An object that may repeat a key."""


NUMBERS: Final = (
    *(
        "0",
        "-0",
        "-1",
        "1.0",
        "1.50",
        "443.0",
        "443.7",
        "1e3",
        "1E400",
        "-1e-7",
        "65535",
        "65536",
        "2147483647",
        "2147483648",
    ),
    *("-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "12345678901234567890123"),
    *(
        "1714557605",
        "1714557605.5",
        "1714557605123",
        "1714557605123456",
        "1714557605123456789",
        "99999999999",
        "100000000000",
    ),
)
NOT_JSON: Final = (
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "+1",
    "01",
    ".5",
    "1.",
    "0x1F",
    "True",
    "None",
    "undefined",
    "'text'",
    "",
)
TIMES: Final = (
    *("1601-01-01T00:00:00Z", "1601-01-01 00:00:00.000", "1969-12-31T23:59:59.999Z", "1999-12-31T23:59:59.999Z"),
    *("2000-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2100-01-01T00:00:00Z", "2262-04-11T23:47:16.854775807Z"),
    *(
        "2262-04-12T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2024-02-29T12:00:00Z",
        "2023-02-29T12:00:00Z",
    ),
    *(
        "2024-05-01T10:00:00",
        "2024-05-01 10:00:00",
        "2024-05-01T10:00:00.123456789Z",
        "2024-05-01T10:00:00.1234567891Z",
    ),
    *(
        "2024-05-01T10:00:00.9Z",
        "2024-05-01T10:00:00.9999+0200",
        "2024-05-01T10:00:00-06:00",
        "2024-05-01T23:30:00-0130",
    ),
    *(
        "2024-05-01T24:00:00Z",
        "2024-05-01T10:60:00Z",
        "2024-05-01T10:00:60Z",
        "2024-13-01T10:00:00Z",
        "2024-05-01T10:00:00+25:00",
    ),
    *(
        "2024-05-01",
        "2024-05-01T10:00Z",
        "20240501T100000Z",
        "2024-05-01T10:00:00z",
        "2024-05-01t10:00:00Z",
        "May 1 2024",
        "now",
    ),
    *(
        " 2024-05-01T10:00:00Z",
        "2024-05-01T10:00:00Z ",
        "2024-05-01T10:00:00.Z",
        "2024-05-01T10:00:00+02",
        "2024-05-01T10:00:00 Z",
    ),
)
ADDRESSES: Final = (
    *(
        "::1",
        "::",
        "fe80::1%eth0",
        "0:0:0:0:0:0:0:1",
        "2001:db8::192.0.2.1",
        "::ffff:10.0.0.1",
        "2001:db8:::1",
        "2001:DB8::1",
    ),
    *(
        "10.0.0.1",
        "010.0.0.1",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1/24",
        "10a0b0c1",
        " 10.0.0.1 ",
        "10.0.0.1:80",
        "not-an-ip",
        "localhost",
    ),
    *("ws_07", "ws-07", "-ws", "ws.", ".", "a..b", "xn--bcher-kva.example", "bücher.example", "a" * 300 + ".example"),
)
TEXTS: Final = (
    *(
        "",
        "-",
        " ",
        "0",
        "00",
        "1",
        "true",
        "TRUE",
        "False",
        "null",
        "None",
        "yes",
        " 443 ",
        "+5",
        "4_4",
        "0x1f",
        "0X1F",
        "1f",
        "zz",
    ),
    *(
        "443.0",
        "443.00",
        "443.7",
        "1e3",
        "-1",
        "65536",
        "2147483648",
        "99999999999999999999",
        "a,b",
        "cloud, firewall",
        "$.a",
        "$$",
    ),
    *(
        "Grüße, 世界 🙂",
        "e\u0301",
        "\u202eabc",
        "tab\tline\nend",
        'quote"back\\slash/',
        "\u0000",
        "\u007f\u0085",
        "\ufeffBOM",
        "x" * 70000,
    ),
    *(
        '{"a":1}',
        '{"a":1,"a":2}',
        "{",
        "[1,2]",
        "UtcTime: 2024-05-01 10:00:00.000",
        "Key: a\r\nKey: b\r\nEnd:",
        "a: b: c\nnothing\n: empty",
    ),
    *(
        "0xFFFFFFFF",
        "0x7FFFFFFF",
        "0xFFFFFFFFFFFFFFFF",
        "0xFFFFFFFFFFFFFFFFFF",
        "MD5=00",
        "EXAMPLE\\ada",
        "ada",
        "C:\\",
        "\\",
        "a\\b",
    ),
)
KEYS: Final = (
    *(
        "extra",
        "a.b",
        "event.x",
        "a b",
        "a'b",
        'a"b',
        "a]b",
        "$",
        "$.a",
        "$if",
        "",
        " ",
        "@x",
        "0",
        "unmapped",
        "__proto__",
        "schlüssel",
    ),
    *("\u0000", "line\nend", "back\\slash", "k" * 500, "tcp.syn", "netflow.age", "Line1"),
)


def mutants(samples: Sequence[bytes], count: int, *, seed: int, csv: bool = False) -> Iterator[bytes]:
    """Mutated events.

    Args:
        samples: sound events, each a record.
        count: of mutated events.
        seed: of all that is drawn.
        csv: whether the samples are rows of text and not JSON.
    """
    random = Random(seed)
    kinds = _kinds(samples) if not csv else []
    for _ in range(count):
        sample = random.choice(samples)
        raw = _row(random, sample) if csv else _event(random, sample, kinds)
        yield raw.replace(b"\n", b" ").replace(b"\r", b" ")


def _kinds(samples: Sequence[bytes]) -> list[Any]:
    """The values that the samples' kinds are told by."""
    found: dict[str, Any] = {}
    for sample in samples:
        for key, value in _pairs(json.loads(sample, object_pairs_hook=_Object)):
            if key in ("EventID", "event_id", "EventId", "event_type", "type") and not isinstance(value, list):
                found[repr(value)] = value
    return list(found.values())


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, _Object):
        for key, value in node:
            yield key, value
            yield from _pairs(value)
    elif isinstance(node, list):
        for item in node:
            yield from _pairs(item)


def _event(random: Random, sample: bytes, kinds: Sequence[Any]) -> bytes:
    root = json.loads(sample, object_pairs_hook=_Object, parse_float=_Token)
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 2, 3))):
        _mutate(random, root, kinds)
    raw = _written(random, root).encode(errors="surrogatepass")
    return _damaged(random, raw) if random.random() < 0.08 else raw


def _objects(node: Any) -> Iterator[_Object]:
    if isinstance(node, _Object):
        yield node
        for _, value in node:
            yield from _objects(value)
    elif isinstance(node, list):
        for item in node:
            yield from _objects(item)


def _mutate(random: Random, root: _Object, kinds: Sequence[Any]) -> None:
    place = random.choice(list(_objects(root)))
    if not place or random.random() < 0.15:
        place.insert(random.randrange(len(place) + 1), (random.choice(KEYS), _value(random)))
        return
    index = random.randrange(len(place))
    key, value = place[index]
    change = random.choice(_CHANGES)
    if change is _kind and kinds:
        _kind(random, root, kinds)
        return
    change(random, place, index, key, value)


def _drop(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    del place[index]


def _repeat(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    place.insert(random.randrange(len(place) + 1), (key, value if random.random() < 0.3 else _value(random)))


def _replace(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    place[index] = (key, _value(random))


def _fitting(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    """Another value of the sort that the field has."""
    name = key.lower()
    if "time" in name or name in ("start", "end", "notbefore", "notafter"):
        place[index] = (key, random.choice(TIMES) if random.random() < 0.8 else _Token(random.choice(NUMBERS)))
    elif "ip" in name or "host" in name or "sni" in name or "name" in name:
        place[index] = (key, random.choice(ADDRESSES))
    elif isinstance(value, (int, _Token)) or (isinstance(value, str) and value[:1].isdigit()):
        number = random.choice(NUMBERS)
        place[index] = (key, number if isinstance(value, str) and random.random() < 0.5 else _Token(number))
    else:
        place[index] = (key, random.choice(TEXTS))


def _case(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    changed = random.choice((key.upper(), key.lower(), key.title(), key.swapcase()))
    if random.random() < 0.5:
        place[index] = (changed, value)
    else:
        place.append((changed, value))


def _as_text(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    """A number as text, a text as a number, an object as its JSON."""
    if isinstance(value, str) and not isinstance(value, _Token) and value.isascii() and value.isdigit():
        place[index] = (key, _Token(value.lstrip("0") or "0"))
    elif isinstance(value, (_Object, list)):
        place[index] = (key, _written(Random(0), value))
    else:
        place[index] = (key, str(value))


def _wrap(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    place[index] = (
        key,
        random.choice(([value], [value, value], [None, value], _Object([("value", value)]), [[value]])),
    )


def _swap(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    other = random.randrange(len(place))
    place[index], place[other] = (key, place[other][1]), (place[other][0], value)


def _edit(random: Random, place: _Object, index: int, key: str, value: Any) -> None:
    """A text with something taken out of it, put into it or repeated."""
    if not isinstance(value, str) or isinstance(value, _Token) or not value:
        _replace(random, place, index, key, value)
        return
    at, until = sorted((random.randrange(len(value)), random.randrange(len(value) + 1)))
    part = (
        value[at:until]
        if random.random() < 0.4
        else random.choice(("", " ", "\n", "\r\n", ": ", '"', "}", "\\", "é", "-"))
    )
    place[index] = (key, value[:at] + part + value[until if random.random() < 0.5 else at :])


def _kind(random: Random, root: _Object, kinds: Sequence[Any]) -> None:
    """Another kind of event with the fields of this one."""
    for place in _objects(root):
        for index, (key, _) in enumerate(place):
            if key in ("EventID", "event_id", "EventId", "event_type", "type"):
                value = random.choice(kinds)
                place[index] = (key, str(value) if random.random() < 0.2 else value)
                return


_CHANGES: Final[tuple[Callable[..., None], ...]] = (
    *(_drop, _drop, _drop, _repeat, _replace, _replace, _replace, _fitting, _fitting, _fitting, _fitting),
    *(_case, _as_text, _as_text, _wrap, _swap, _edit, _edit, _kind),
)


def _value(random: Random) -> Any:
    draw = random.random()
    if draw < 0.12:
        return None
    if draw < 0.2:
        return random.choice(("-", ""))
    if draw < 0.4:
        return random.choice(TEXTS)
    if draw < 0.55:
        return _Token(random.choice(NUMBERS))
    if draw < 0.65:
        return random.choice((True, False))
    if draw < 0.75:
        return random.choice(TIMES + ADDRESSES)
    if draw < 0.8:
        return _Token(
            random.choice(
                (*NOT_JSON, '"\\ud800"', '"\\u0041"', '"\\/"', '"\\x41"', "[1,]", '{"a":1,}', '{"a":1,"a":2}')
            )
        )
    if draw < 0.9:
        return random.choice(
            (_Object(), [], [None], ["", "-"], [1, "a", None], [_Object([("a", 1)])], _Object([("", _Object())]))
        )
    return _nest(random, random.choice((1, 2, 5, 20, 100)))


def _nest(random: Random, depth: int) -> Any:
    value: Any = random.choice(TEXTS[:20])
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else _Object([(random.choice(KEYS[:8]), value)])
    return value


def _written(random: Random, node: Any) -> str:
    """A value as JSON text, with or without blanks, and with characters escaped or not."""
    comma, colon = random.choice(((",", ":"), (",", ":"), (", ", ": "), (" , ", " :\t")))
    ascii_only = random.random() < 0.3

    def write(value: Any) -> str:
        if isinstance(value, _Token):
            return str(value)
        if isinstance(value, _Object):
            return (
                "{"
                + comma.join(f"{json.dumps(key, ensure_ascii=ascii_only)}{colon}{write(item)}" for key, item in value)
                + "}"
            )
        if isinstance(value, list):
            return "[" + comma.join(write(item) for item in value) + "]"
        return json.dumps(value, ensure_ascii=ascii_only)

    return write(node)


def _damaged(random: Random, raw: bytes) -> bytes:
    """The event's bytes with something wrong that no field can have."""
    at = random.randrange(len(raw) + 1)
    return random.choice(
        (
            raw[:at],
            raw[:-1] + b",}",
            raw + b"}",
            raw + b"," + raw,
            b"[" + raw + b"]",
            b"\xef\xbb\xbf" + raw,
            b"  \t" + raw + b"  ",
            raw[:at] + b"\xff\xfe" + raw[at:],
            raw[:at] + b"\x00" + raw[at:],
            raw.replace(b":", b"=", 1),
            raw.replace(b'"', b"'", 2),
            raw + b" // comment",
            b"null",
            b'"text"',
            b"{}",
            b"x",
        )
    )


def _row(random: Random, sample: bytes) -> bytes:
    """A row of text with some of its fields changed."""
    fields = sample.decode().split(" ")
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        index = random.randrange(len(fields))
        draw = random.random()
        if draw < 0.15:
            del fields[index]
            fields = fields or [""]
        elif draw < 0.25:
            fields.insert(index, random.choice(("-", "extra", '"two words"', "")))
        elif draw < 0.35:
            fields[index] = random.choice(('"', '""', 'a"b', '"a', '"a"b', "-", "''"))
        else:
            fields[index] = random.choice((*NUMBERS, *TIMES, *ADDRESSES, *(text for text in TEXTS if len(text) < 99)))
    raw = " ".join(fields).encode()
    return raw[: random.randrange(len(raw) + 1)] if random.random() < 0.05 else raw
