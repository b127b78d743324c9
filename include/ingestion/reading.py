r"""Read an object's records, whatever it is compressed with, encoded in and laid out as, in bounded memory.

Every record is either delivered, as UTF-8 JSON text, or rejected, with its raw bytes and a reason: nothing is lost silently.

- Compression is told by content: gzip (of several members, too), zstd (of several frames, too), none. What is damaged is read as far as it
  goes; what follows the last complete record is rejected as ``truncated``.
- Text in other encodings than UTF-8 is read as UTF-8; raw bytes are the original ones.
- ``json_lines``: a record a line. Lines end with ``\n`` or ``\r\n``, which are no part of the record; blank ones are left out.
- ``json``: an array of records, or records one after the other, or objects with an array of records inside at ``records_at``; the fields
  around that array are dropped. A record is the exact text of an element, line ends included. What isn't an object is delivered, too.
- ``csv``: a row becomes an object of texts. An empty field without quotes is left out. A row that isn't quoted properly is rejected, and
  reading goes on at the next line, so a stray quote costs one line.
- ``parquet``: a row becomes an object. Nulls are left out; timestamps and times are ISO 8601 (UTC), binary is base64, decimals and numbers
  that JSON doesn't have (NaN) are texts, durations are integers of their unit.

The standard library does it all, but for zstandard and pyarrow, which are imported when they are needed. Spark's executors run
this, too, so it keeps to Python 3.9: no ``strict`` in ``zip``, no ``StrEnum``.
"""

from __future__ import annotations

import base64
import codecs
import importlib
import json
import math
import operator
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from itertools import accumulate, chain, compress
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from io import BufferedReader
    from pathlib import Path

BLOCK_BYTES: Final = 1 << 20
"""What is decompressed at a time."""
PIECE_BYTES: Final = 1 << 20
"""A long record is rejected in pieces of at most this."""
FEED_BYTES: Final = 1 << 16
"""What is given to zlib at a time: what follows the end of a member is copied."""
MAX_RECORD_BYTES: Final = 16 << 20
DETAIL_CHARACTERS: Final = 300

TRUNCATED: Final = "truncated"
NOT_JSON: Final = "not_json"
BAD_ENCODING: Final = "bad_encoding"
RECORD_TOO_LONG: Final = "record_too_long"
BAD_ROW: Final = "bad_row"
NOT_PARQUET: Final = "not_parquet"

_UTF8_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_KEEP = "ingestion_keep"
"""Name of the error handler that keeps bytes which can't be decoded."""


class ReadSpecInvalid(ValueError):
    """How objects are to be read can't be."""


class ReaderMissing(RuntimeError):
    """A package that the object needs is not installed."""


class Format(str, Enum):  # noqa: UP042
    """How an object is laid out."""

    __str__ = str.__str__

    JSON_LINES = "json_lines"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True)
class CsvSpec:
    r"""How rows of text are read.

    Attributes:
        delimiter: one ASCII character.
        quote: one ASCII character, doubled where it stands for itself; None if nothing is quoted.
        columns: their names; a row may have fewer. None: the header's.
        header: whether the first row is one. It is left out, whatever it says, if there are ``columns``.

    Raises:
        ReadSpecInvalid: it makes no sense.
    """

    delimiter: str = ","
    quote: str | None = '"'
    columns: tuple[str, ...] | None = None
    header: bool = False

    def __post_init__(self) -> None:
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                raise ReadSpecInvalid(f"csv.{name}: expected one ASCII character, found {value!r}")
        if self.delimiter == self.quote:
            raise ReadSpecInvalid(f"csv.quote: expected another character than the delimiter, found {self.quote!r}")
        if self.columns is None and not self.header:
            raise ReadSpecInvalid("csv: expected columns or header: true, found neither")
        if self.columns is not None and (not self.columns or len(set(self.columns)) < len(self.columns)):
            raise ReadSpecInvalid(f"csv.columns: expected names, each once, found {list(self.columns)}")


@dataclass(frozen=True)
class ReadSpec:
    """How objects are read.

    Attributes:
        format: how they are laid out.
        encoding: of text, by its Python name: utf-8, utf-16 (-le, -be), or one in which ASCII bytes mean ASCII. Parquet has its own.
        records_at: of ``json``: where the array of records is, such as ``$.Records``.
        csv: of ``csv``.
        max_record_bytes: a longer record (of UTF-8) is rejected.

    Raises:
        ReadSpecInvalid: it makes no sense.
    """

    format: Format
    encoding: str = "utf-8"
    records_at: str | None = None
    csv: CsvSpec | None = None
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if self.records_at is not None:
            record_path(self.records_at)
        if (self.csv is None) is (self.format == Format.CSV):
            raise ReadSpecInvalid(f"expected csv with the format csv, and only then, found the format {self.format}")
        if self.max_record_bytes < 1:
            raise ReadSpecInvalid(f"max_record_bytes: expected 1 or more, found {self.max_record_bytes}")


@dataclass(frozen=True)
class Rejected:
    """A record that can't be delivered, or a piece of it.

    Attributes:
        number: as that of a record.
        offset: of the record's first byte, as that of a record.
        reason: a code: ``truncated``, ``not_json``, ``bad_encoding``, ``record_too_long``, ``bad_row``, ``not_parquet``.
        detail: what was expected and found.
        raw: the bytes of the piece; of a damaged object those that could be decompressed, perhaps none.
        piece: from 1.
        pieces: how many there are, with the last; 0 with the others, for it is not known before.
    """

    number: int
    offset: int | None
    reason: str
    detail: str
    raw: bytes
    piece: int = 1
    pieces: int = 1

    @property
    def last(self) -> bool:
        """Whether it is the record's last piece, or only one: that is how records are counted."""
        return self.piece == self.pieces


@dataclass(frozen=True)
class Chunk:
    """Some records, in order.

    Attributes:
        records: their texts: UTF-8, meant to be JSON.
        numbers: from 1: the line's (of a row, its first line's), the element's, the Parquet row's. Rejected ones and blank lines count.
        offsets: of each record's first byte in the decompressed object; None where there are none: other encodings, Parquet.
        raws: the original bytes of each record; None if they are the records.
        rejected: between them, in order.
    """

    records: list[bytes]
    numbers: Sequence[int]
    offsets: Sequence[int] | None
    raws: Sequence[bytes] | None
    rejected: list[Rejected]

    @property
    def count(self) -> int:
        """How many records it accounts for: delivered, and rejected by the last of their pieces."""
        return len(self.records) + sum(rejected.last for rejected in self.rejected)


def read_records(
    path: Path,
    spec: ReadSpec,
    *,
    chunk_records: int = 100_000,
    chunk_bytes: int = 64 << 20,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Chunk]:
    """The records of the object at ``path``; no chunk if it has none.

    Args:
        path: a local file.
        spec: how it is read.
        chunk_records: records and pieces of rejected ones in a chunk, at most.
        chunk_bytes: their bytes, at most; one record may be longer.
        block_bytes: what is decompressed at a time.

    Raises:
        ReaderMissing: zstandard or pyarrow is needed, and not installed.
        OSError: the file can't be read.
    """
    if min(chunk_records, chunk_bytes, block_bytes) < 1:
        raise ValueError(f"expected limits of 1 or more, found {chunk_records}, {chunk_bytes} and {block_bytes}")
    if spec.format == Format.PARQUET:
        yield from _read_parquet(path, spec, _Chunks(chunk_records, chunk_bytes))
        return
    with path.open("rb") as file:
        text = _Text(file, spec.encoding, block_bytes)
        chunks = _Chunks(chunk_records, chunk_bytes, text.restore if text.transcoded else None)
        if spec.format == Format.JSON_LINES:
            yield from _read_lines(text, spec, chunks)
        elif spec.format == Format.JSON:
            yield from _read_json(path, text, spec, chunks, block_bytes)
        else:
            yield from _Rows(text, spec, chunks).read()
        yield from chunks.finish()


def check_encoding(name: str) -> None:
    """Refuse an encoding in which lines and JSON can't be told apart by ASCII bytes.

    Raises:
        ReadSpecInvalid: it is one, or there is none of this name.
    """
    try:
        if codecs.lookup(name).name in {"idna", "unicode-escape", "raw-unicode-escape"}:
            raise UnicodeError(name)
        ascii_is_ascii = bytes(range(128)).decode(name) == "".join(map(chr, range(128)))
    except (LookupError, UnicodeError):
        ascii_is_ascii = False
    if not ascii_is_ascii and not _wide(name):
        raise ReadSpecInvalid(
            f"encoding: expected utf-8, utf-16, utf-16-le, utf-16-be, or one that has ASCII as it is, such as cp1252, found {name!r}"
        )


def record_path(text: str) -> tuple[str, ...]:
    """The keys of a path such as ``$.detail.Records`` or ``$['a.b']``.

    Raises:
        ReadSpecInvalid: it isn't one.
    """
    keys = _PATH_KEY.findall(text, 1)
    if not text.startswith("$") or not keys or "$" + "".join(key for key, _, _ in keys) != text:
        raise ReadSpecInvalid(f"records_at: expected a path of keys such as $.Records, found {text!r}")
    return tuple(plain or quoted for _, plain, quoted in keys)


_PATH_KEY = re.compile(r"(\.([^.\[\]'\s]+)|\['([^']+)'\])")


# Chunks


class _Chunks:
    """Collects records until there are enough."""

    def __init__(self, most_records: int, most_bytes: int, restore: Callable[[bytes], bytes] | None = None) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._restore = restore
        self._begin()

    def _begin(self) -> None:
        self._records: list[bytes] = []
        self._numbers: list[Sequence[int]] = []
        self._offsets: list[int] = []
        self._raws: list[bytes] = []
        self._rejected: list[Rejected] = []
        self._bytes = 0

    def add(
        self,
        records: list[bytes],
        numbers: Sequence[int],
        offsets: Sequence[int] = (),
        raws: Sequence[bytes] = (),
        *,
        size: int | None = None,
    ) -> Iterator[Chunk]:
        """Take records; ``size`` is no less than all their bytes, if it is known."""
        if size is None:
            size = sum(map(len, records)) + sum(map(len, raws))
        if not self._fits(len(records), size):
            yield from self.finish()
        if self._fits(len(records), size):
            self._take(records, numbers, offsets, raws, size)
            return
        start = 0
        while start < len(records):
            stop, size = self._stop(records, raws, start)
            part = slice(start, stop)
            self._take(records[part], numbers[part], offsets[part], raws[part], size)
            if stop < len(records):
                yield from self.finish()
            start = stop

    def reject(self, rejected: Rejected) -> Iterator[Chunk]:
        """Take what can't be delivered."""
        if self._restore:
            rejected = replace(rejected, offset=None, raw=self._restore(rejected.raw))
        if not self._fits(1, len(rejected.raw)):
            yield from self.finish()
        self._rejected.append(rejected)
        self._bytes += len(rejected.raw)

    def finish(self) -> Iterator[Chunk]:
        """What there is."""
        if not self._records and not self._rejected:
            return
        raws: Sequence[bytes] | None = self._raws or None
        if self._restore and self._records:
            raws = _Restored(raws or self._records, self._restore)
        yield Chunk(self._records, _joined(self._numbers), self._offsets or None, raws, self._rejected)
        self._begin()

    def _fits(self, count: int, size: int) -> bool:
        held = len(self._records) + len(self._rejected)
        return held + count <= self._most_records and self._bytes + size <= self._most_bytes

    def _stop(self, records: list[bytes], raws: Sequence[bytes], start: int) -> tuple[int, int]:
        size = 0
        for at in range(start, min(len(records), start + self._most_records)):
            more = len(records[at]) + (len(raws[at]) if raws else 0)
            if at > start and size + more > self._most_bytes:
                return at, size
            size += more
        return min(len(records), start + self._most_records), size

    def _take(
        self, records: list[bytes], numbers: Sequence[int], offsets: Sequence[int], raws: Sequence[bytes], size: int
    ) -> None:
        if not records:
            return
        self._records += records
        self._numbers.append(numbers)
        if not self._restore:
            self._offsets += offsets
        self._raws += raws
        self._bytes += size


class _Restored(Sequence[bytes]):
    """The original bytes of texts, made when they are asked for."""

    def __init__(self, texts: Sequence[bytes], restore: Callable[[bytes], bytes]) -> None:
        self._texts = texts
        self._restore = restore

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return _Restored(self._texts[index], self._restore)
        return self._restore(self._texts[index])


def _joined(numbers: list[Sequence[int]]) -> Sequence[int]:
    if not numbers:
        return range(0)
    start, count = numbers[0][0], sum(map(len, numbers))
    if numbers[-1][-1] - start + 1 == count:  # they rise, so there is no gap
        return range(start, start + count)
    return list(chain.from_iterable(numbers))


class _Pieces:
    """Rejects one record in pieces, while it is being read."""

    def __init__(self, number: int, offset: int, reason: str, detail: str, most: int) -> None:
        self._first = Rejected(number, offset, reason, detail, b"")
        self._most = most
        self._held = b""
        self._piece = 0

    def feed(self, data: bytes) -> Iterator[Rejected]:
        """Take more of the record; the last bytes are held back, for the last piece has to say so."""
        data = self._held + data
        start = 0
        while len(data) - start > self._most + 1:
            stop = _boundary(data, start, start + self._most)
            yield self._next(data[start:stop])
            start = stop
        self._held = data[start:]

    def finish(self, data: bytes = b"", note: str = "", *, line: bool = False) -> Iterator[Rejected]:
        """Take the end of the record; of a ``line``, the carriage return that may end it is no part of it."""
        yield from self.feed(data)
        data = self._held.removesuffix(b"\r") if line else self._held
        stop = _boundary(data, 0, self._most)
        if stop < len(data):
            yield self._next(data[:stop])
            data = data[stop:]
        last = self._next(data)
        detail = f"{last.detail}; {note}" if note else last.detail
        yield replace(last, pieces=last.piece, detail=detail)

    def _next(self, raw: bytes) -> Rejected:
        self._piece += 1
        return replace(self._first, raw=raw, piece=self._piece, pieces=0)


def _boundary(data: bytes, start: int, stop: int) -> int:
    """Where to cut: at ``stop``, or before, so that no character is cut in two."""
    if stop >= len(data):
        return len(data)
    for at in range(stop, max(stop - 4, start), -1):
        if data[at] & 0xC0 != 0x80:
            return at
    return stop


# Decompressed, decoded text


class _Damaged(Exception):
    """Nothing more can be decompressed; the message says where and why."""


class _Text:
    """An object's text as UTF-8, block by block.

    Attributes:
        damage: why there is no more, if that isn't the object's end; known after the last block.
        offset: of the first block's first byte: a byte order mark is left out.
        transcoded: whether the object is not in UTF-8.
        piece_bytes: of a rejected piece; original bytes may be twice as many.
    """

    def __init__(self, file: BufferedReader, encoding: str, block_bytes: int) -> None:
        self.damage: str | None = None
        self.offset = 0
        self.transcoded = codecs.lookup(encoding).name not in {"utf-8", "ascii", "utf-8-sig"}
        self.piece_bytes = PIECE_BYTES // 2 if _wide(encoding) else PIECE_BYTES
        self._codec = encoding
        blocks = _gathered(_decompressed(file, block_bytes), block_bytes)
        blocks = _gathered(blocks, 3, first_only=True)  # enough of it to see a byte order mark
        self._blocks = self._decoded(blocks) if self.transcoded else self._bare(blocks)

    def next(self) -> bytes | None:
        """The next block, which is not empty, or None."""
        try:
            return next(self._blocks, None)
        except _Damaged as damaged:
            self.damage = str(damaged)
            return None

    def restore(self, text: bytes) -> bytes:
        """The original bytes of a text."""
        decoded = text.decode("utf-8", "surrogatepass")
        try:
            return decoded.encode(self._codec)
        except UnicodeEncodeError:
            parts = _KEPT.split(decoded)  # every other one is bytes that were kept
            return b"".join(
                bytes(ord(c) - 0xDC00 for c in part) if at % 2 else part.encode(self._codec)
                for at, part in enumerate(parts)
            )

    def _bare(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if block.startswith(_UTF8_BOM):
                self.offset = len(_UTF8_BOM)
                block = block[len(_UTF8_BOM) :]
            if block:
                yield block
            break
        yield from blocks

    def _decoded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        damaged: _Damaged | None = None
        decoder: codecs.IncrementalDecoder | None = None
        begun = False
        while True:
            try:
                block = next(blocks, b"")
            except _Damaged as error:
                damaged, block = error, b""
            if decoder is None:
                if codecs.lookup(self._codec).name == "utf-16":
                    self._codec = "utf-16-be" if block.startswith(codecs.BOM_UTF16_BE) else "utf-16-le"
                decoder = codecs.getincrementaldecoder(self._codec)(_KEEP)
            decoded = decoder.decode(block, final=not block)
            if decoded and not begun:
                begun, decoded = True, decoded.removeprefix("\ufeff")
            if decoded:
                yield decoded.encode("utf-8", "surrogatepass")
            if not block:
                break
        if damaged:
            raise damaged


_KEPT = re.compile("([\udc00-\udcff]+)")


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    """What can't be decoded becomes lone surrogates, one a byte: no valid UTF-8, so it is rejected later; `_Text.restore` knows them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_KEEP, _keep_bytes)


def _wide(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name in {"utf-16", "utf-16-le", "utf-16-be"}
    except LookupError:
        return False


def _gathered(pieces: Iterator[bytes], least: int, *, first_only: bool = False) -> Iterator[bytes]:
    """The same bytes in blocks of ``least`` or more, but for the last."""
    held: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= least:
                yield b"".join(held)
                held, size = [], 0
                if first_only:
                    break
        if first_only:
            yield from pieces
    except _Damaged:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


# Compression


def _decompressed(file: BufferedReader, most: int) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in pieces of about ``most`` bytes at most.

    Raises:
        _Damaged: after all that could be decompressed.
    """
    head = file.peek(4)[:4]
    if head.startswith(_GZIP) or head == _GZIP[:1]:
        yield from _gunzipped(file, most)
    elif _is_zstd(head) or head in {_ZSTD[:2], _ZSTD[:3]}:
        yield from _unzstd(file)
    else:
        while block := file.read(most):
            yield block


def _gunzipped(file: BufferedReader, most: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj(31)
    data = b""
    at = 0  # of the file: where data ends
    full = False  # zlib may have more to give, though it has all its input
    while True:
        if not data and not full:
            data = file.read(FEED_BYTES)
            at += len(data)
            if not data:
                break
        if inflate.eof:  # another member, or zeros that fill a block of a tape
            data = data.lstrip(b"\0")
            if not data:
                continue
            inflate = zlib.decompressobj(31)
        before = inflate.copy()
        try:
            block = inflate.decompress(data, most)
        except zlib.error as error:
            good = yield from _salvaged(before, data)
            raise _Damaged(f"expected gzip, found damage at its byte {at - len(data) + good}: {error}") from error
        if block:
            yield block
        full = len(block) >= most and not inflate.eof
        data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if not inflate.eof and at:
        raise _Damaged(f"expected gzip to end with a checksum, found its end at byte {at}")


def _salvaged(state: zlib._Decompress, data: bytes) -> Generator[bytes, None, int]:
    """What can be decompressed of damaged data: zlib gives nothing of a piece that is. Returns how many bytes are good."""
    start, size = 0, len(data)
    while True:
        size = max(1, size // 16)
        while True:
            trial = state.copy()
            try:
                block = trial.decompress(data[start : start + size])
            except zlib.error:
                break
            yield block
            state, start = trial, start + size
        if size == 1:
            break
    rest = data[start : start + 1]  # one byte may still give many
    while True:
        try:
            block = state.decompress(rest, 1)
        except zlib.error:
            return start
        if not block:
            return start
        yield block
        rest = state.unconsumed_tail


def _is_zstd(head: bytes) -> bool:
    return head == _ZSTD or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50)


def _unzstd(file: BufferedReader) -> Iterator[bytes]:
    """Frame by frame, and within one block by block, which hold 128 KiB at most: so output is bounded, and damage costs one block.

    https://www.rfc-editor.org/rfc/rfc8878#name-zstandard-frames
    """
    zstandard = _package("zstandard")
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        data = file.read(count)
        at += len(data)
        if len(data) < count:
            raise _Damaged(f"expected zstd to go on, found its end at byte {at}")
        return data

    while file.peek(1):
        magic = take(4)
        if not _is_zstd(magic):
            raise _Damaged(f"expected a zstd frame at byte {at - 4}, found {magic.hex()}")
        if magic != _ZSTD:
            size = int.from_bytes(take(4), "little")
            while size:
                size -= len(take(min(size, BLOCK_BYTES)))
            continue
        frame = zstandard.ZstdDecompressor().decompressobj()
        begun = at
        try:
            descriptor = take(1)
            yield from _given(frame.decompress(magic + descriptor + take(_zstd_header_bytes(descriptor[0]))))
            last = False
            while not last:
                begun = at
                header = take(3)
                word = int.from_bytes(header, "little")
                last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
                yield from _given(frame.decompress(header + take(1 if kind == 1 else size)))
            if descriptor[0] & 4:
                yield from _given(frame.decompress(take(4)))
        except zstandard.ZstdError as error:
            raise _Damaged(f"expected zstd, found damage at its byte {begun} or after: {error}") from error
        if not frame.eof:
            raise _Damaged(f"expected a zstd frame to end at byte {at}, found that it doesn't")


def _zstd_header_bytes(descriptor: int) -> int:
    """How long a frame's header is, without the descriptor that says so: window, dictionary, content size."""
    single = bool(descriptor & 0x20)
    return (not single) + (0, 1, 2, 4)[descriptor & 3] + (int(single), 2, 4, 8)[descriptor >> 6]


def _given(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def _package(name: str) -> Any:
    """A package that only some objects need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ReaderMissing(
            f"expected {name} to read this object, found none ({error}); build the warehouse environment anew from its locks"
        ) from error


# Lines


@dataclass(frozen=True)
class _Region:
    """Whole lines of valid UTF-8, none of them too long.

    Attributes:
        number: of the first line, from 1.
        offset: of its first byte.
        data: the lines, without the last one's end.
        lines: the same, split; each may end with a carriage return.
    """

    number: int
    offset: int
    data: bytes
    lines: list[bytes]


def _line_regions(text: _Text, limit: int) -> Iterator[_Region | Rejected]:
    """An object's lines, and what isn't a line to be had."""
    number, offset, tail = 1, 0, b""
    long: _Pieces | None = None
    begun = False
    while (block := text.next()) is not None:
        if not begun:
            begun, offset = True, text.offset
        if long:
            end = block.find(b"\n")
            offset += len(block) if end < 0 else end + 1
            if end < 0:
                yield from long.feed(block)
                continue
            yield from long.finish(block[:end], line=True)
            number, long, block = number + 1, None, block[end + 1 :]
        data = tail + block
        end = data.rfind(b"\n", len(tail))
        tail = data[end + 1 :]
        if end >= 0:
            lines = data[:end]
            region = _Region(number, offset, lines, lines.split(b"\n"))
            yield from _sound(region, limit, text.piece_bytes)
            number, offset = number + len(region.lines), offset + end + 1
        if len(tail) > limit + 1:  # one may be a carriage return
            long = _too_long(number, offset, limit, text.piece_bytes)
            yield from long.feed(tail)
            offset, tail = offset + len(tail), b""
    if long:
        yield from long.finish(note=text.damage or "", line=not text.damage)
    elif text.damage:
        yield Rejected(number, offset if begun else text.offset, TRUNCATED, text.damage, tail)
    elif tail:
        yield from _sound(_Region(number, offset, tail, [tail]), limit, text.piece_bytes)


def _sound(region: _Region, limit: int, piece_bytes: int) -> Iterator[_Region | Rejected]:
    """The lines of a region that can be had, and those that can't."""
    lines = region.lines
    if max(map(len, lines)) <= limit and _is_utf8(region.data):
        yield region
        return
    start, begun, at = 0, region.offset, region.offset
    for index, line in enumerate(lines):
        long = len(line) - line.endswith(b"\r") > limit
        if long or not _is_utf8(line):
            if start < index:
                yield _Region(region.number + start, begun, b"\n".join(lines[start:index]), lines[start:index])
            start, begun = index + 1, at + len(line) + 1
            if long:
                yield from _too_long(region.number + index, at, limit, piece_bytes).finish(line, line=True)
            else:
                yield _badly_encoded(region.number + index, at, line.removesuffix(b"\r"))
        at += len(line) + 1
    if start < len(lines):
        yield _Region(region.number + start, begun, b"\n".join(lines[start:]), lines[start:])


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _too_long(number: int, offset: int, limit: int, piece_bytes: int) -> _Pieces:
    return _Pieces(
        number, offset, RECORD_TOO_LONG, f"expected a record of at most {limit} bytes, found a longer one", piece_bytes
    )


def _badly_encoded(number: int, offset: int, raw: bytes) -> Rejected:
    try:
        raw.decode()
        detail = "expected text in the source's encoding"
    except UnicodeDecodeError as error:
        detail = f"expected text in the source's encoding, found other bytes at the record's byte {error.start}"
    return Rejected(number, offset, BAD_ENCODING, detail, raw)


def _read_lines(text: _Text, spec: ReadSpec, chunks: _Chunks) -> Iterator[Chunk]:
    for region in _line_regions(text, spec.max_record_bytes):
        if isinstance(region, Rejected):
            yield from chunks.reject(region)
            continue
        lines = records = region.lines
        numbers: Sequence[int] = range(region.number, region.number + len(lines))
        offsets: Sequence[int] = _line_offsets(region)
        if b"\r" in region.data:
            records = region.data.replace(b"\r\n", b"\n").removesuffix(b"\r").split(b"\n")
        if not min(records)[:1] > b" ":  # the least of them tells whether any is empty or begins with a blank
            kept = [bool(record.strip()) for record in records]
            records, numbers, offsets = _picked(records, numbers, offsets, kept)
        yield from chunks.add(records, numbers, offsets, size=len(region.data))


def _picked(
    records: list[bytes], numbers: Sequence[int], offsets: Sequence[int], which: list[bool]
) -> tuple[list[bytes], list[int], list[int]]:
    return list(compress(records, which)), list(compress(numbers, which)), list(compress(offsets, which))


def _line_offsets(region: _Region) -> list[int]:
    lengths = accumulate(map(len, region.lines), initial=region.offset)
    return list(map(operator.add, lengths, range(len(region.lines))))


# JSON documents

_POSSESSIVE = sys.version_info >= (3, 11)
"""Whether patterns can be possessive. Where they can't, `_Scan` finds every object, which takes longer."""
_BLANK = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:"|(?:\\.[^"\\]*+)++")'


def _object_pattern(depth: int) -> bytes:
    inner = b"|" + _object_pattern(depth - 1) if depth else b""
    return rb'\{[^"{}]*+(?:(?:' + _STRING + inner + rb')[^"{}]*+)*+\}'


_OBJECT = _object_pattern(6)
"""An object, by its braces outside of strings. Deeper ones are found by `_Scan`."""
_ITEM = re.compile(_BLANK + b"(" + _OBJECT + b")" + _BLANK + b"," if _POSSESSIVE else b"(?!)", re.DOTALL)
_STANDING = re.compile(_BLANK + b"(" + _OBJECT + b")" if _POSSESSIVE else b"(?!)", re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_STRING_REST = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\r\n,:\[\]{}"]*')
_TOKENS = {b"{": re.compile(rb'["{}]'), b"[": re.compile(rb'["\[\]]'), b'"': re.compile(b'"')}
_MAX_KEY_BYTES = 1 << 16


class _Scan:
    """Finds where a value ends, however many blocks it spans: an object by its braces, an array by its brackets."""

    def __init__(self, opener: bytes) -> None:
        self._opener = opener
        self._token = _TOKENS.get(opener)
        self._depth = 0
        self._in_string = False

    def step(self, data: bytes, at: int) -> tuple[int, bool]:
        """Go on at ``at``; returns how far it came and whether the value ends there."""
        if self._token is None:
            end = _scalar_end(data, at)
            return end, end < len(data)
        while True:
            if self._in_string:
                at = _STRING_REST.match(data, at).end()  # type: ignore[union-attr]  # it matches nothing, too
                if data[at : at + 1] != b'"':
                    return at, False  # before a backslash that is the last byte, or at the end
                at += 1
                self._in_string = False
                if self._opener == b'"':
                    return at, True
            elif found := self._token.search(data, at):
                at = found.end()
                if self._takes(found[0]):
                    return at, True
            else:
                return len(data), False

    def _takes(self, token: bytes) -> bool:
        if token == b'"':
            self._in_string = True
        elif token == self._opener:
            self._depth += 1
        else:
            self._depth -= 1
            return self._depth == 0
        return False


def _scalar_end(data: bytes, at: int) -> int:
    found = _SCALAR.match(data, at)
    return found.end() if found else at


class _Cursor:
    """A place in a text.

    Attributes:
        data: what is held of it.
        at: the place, in ``data``.
        base: offset of ``data`` in the text.
    """

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.data = b""
        self.at = 0
        self.base = 0
        self._begun = False

    @property
    def offset(self) -> int:
        """The place, in the text."""
        return self.base + self.at

    def more(self) -> bool:
        """Hold one more block, and nothing before the place; False at the end."""
        block = self.text.next()
        if not self._begun:
            self._begun, self.base = True, self.text.offset
        if block is None:
            return False
        self.base += self.at
        self.data = self.data[self.at :] + block
        self.at = 0
        return True

    def peek(self) -> bytes:
        """The next byte that isn't blank, of which the place will be; nothing at the end."""
        while not (found := _NOT_BLANK.search(self.data, self.at)):
            self.at = len(self.data)
            if not self.more():
                return b""
        self.at = found.start()
        return found[0]

    def rest(self) -> Iterator[bytes]:
        """All that follows, block by block."""
        while True:
            block = self.data[self.at :]
            self.at = len(self.data)
            yield block
            if not self.more():
                return


class _BrokenError(Exception):
    """The document is none from the cursor's place on, and nothing can be read behind it.

    Attributes:
        ended: whether that is because the text ends.
    """

    def __init__(self, wanted: str, found: bytes) -> None:
        shown = repr(found[:40].decode(errors="replace")) if found else "the end of the object"
        super().__init__(f"expected {wanted}, found {shown}")
        self.ended = not found


class _CutError(Exception):
    """The text ended within a record, which was told."""


if TYPE_CHECKING:
    _Element = tuple[int, bytes] | Rejected
"""Offset and text, or what can't be delivered."""


class _Documents:
    """The records of JSON documents."""

    def __init__(self, path: Path, text: _Text, spec: ReadSpec, block_bytes: int) -> None:
        self._spec = spec
        self._block_bytes = block_bytes
        self._path = path
        self._cursor = _Cursor(text)
        self._text = text
        self._limit = spec.max_record_bytes
        self._keys = record_path(spec.records_at) if spec.records_at else ()
        self.number = 1
        """Of the element that is next."""

    def elements(self) -> Iterator[_Element]:
        """All of them."""
        cursor = self._cursor
        document, before = 0, 1
        try:
            while char := cursor.peek():
                document, before = cursor.offset, self.number
                if self._keys and char == b"{":
                    yield from self._object_around()
                elif not self._keys and char == b"[":
                    yield from self._array()
                elif not self._keys and char == b"{":
                    yield from self._objects()
                else:
                    wanted = "an object" if self._keys else "an array or an object"
                    raise _BrokenError(wanted, char)
            if self._text.damage:
                yield Rejected(self.number, cursor.offset, TRUNCATED, self._text.damage, b"")
        except _CutError:
            return
        except _BrokenError as broken:
            reason, detail = NOT_JSON, f"{broken} at byte {cursor.offset}"
            if self._text.damage and broken.ended:
                reason, detail = TRUNCATED, self._text.damage
            whole = self._keys and self.number == before  # nothing of the document was delivered
            rest = self._raw(document, None) if whole else cursor.rest()
            yield from self._pieces(document if whole else cursor.offset, reason, detail, rest)

    def _objects(self) -> Iterator[_Element]:
        cursor = self._cursor
        while found := _STANDING.match(cursor.data, cursor.at):
            offset, cursor.at = cursor.base + found.start(1), found.end()
            yield from self._element(offset, found[1])
        if cursor.at < len(cursor.data) and cursor.peek() == b"{":
            yield from self._value()

    def _array(self) -> Iterator[_Element]:
        cursor = self._cursor
        cursor.at += 1
        if cursor.peek() == b"]":
            cursor.at += 1
            return
        while True:
            while found := _ITEM.match(cursor.data, cursor.at):
                offset, cursor.at = cursor.base + found.start(1), found.end()
                yield from self._element(offset, found[1])
            yield from self._value()
            char = cursor.peek()
            if char == b"]":
                cursor.at += 1
                return
            if char != b",":
                raise _BrokenError("a comma or the end of the array", char)
            cursor.at += 1

    def _element(self, offset: int, raw: bytes) -> Iterator[_Element]:
        if len(raw) <= self._limit:
            yield offset, raw
        else:
            yield from _too_long(self.number, offset, self._limit, self._text.piece_bytes).finish(raw)
        self.number += 1

    def _value(self) -> Iterator[_Element]:
        """The value at the cursor, which may span blocks."""
        cursor = self._cursor
        char = cursor.peek()
        if not char or char in b",:]}":
            raise _BrokenError("a value", char)
        offset, at = cursor.offset, cursor.at
        scan = _Scan(char)
        pieces: _Pieces | None = None
        while True:
            at, ended = scan.step(cursor.data, at)
            if ended:
                break
            if not pieces and at - cursor.at > self._limit:
                pieces = _too_long(self.number, offset, self._limit, self._text.piece_bytes)
            if pieces:
                yield from pieces.feed(cursor.data[cursor.at : at])
                cursor.at = at
            at -= cursor.at
            if not cursor.more():
                yield from self._cut(offset, pieces)
        raw, cursor.at = cursor.data[cursor.at : at], at
        if pieces:
            yield from pieces.finish(raw)
            self.number += 1
        else:
            yield from self._element(offset, raw)

    def _cut(self, offset: int, pieces: _Pieces | None) -> Iterator[_Element]:
        """The text ends within a value."""
        cursor = self._cursor
        note = self._text.damage or "expected the value to end, found the end of the object"
        raw, cursor.at = cursor.data[cursor.at :], len(cursor.data)
        if pieces:
            yield from pieces.finish(raw, note)
        else:
            yield Rejected(self.number, offset, TRUNCATED if self._text.damage else NOT_JSON, note, raw)
        self.number += 1
        raise _CutError

    def _object_around(self) -> Iterator[_Element]:
        """A document with the array somewhere inside."""
        cursor, keys = self._cursor, self._keys
        document, depth, found = cursor.offset, 0, False
        cursor.at += 1
        closed = cursor.peek() == b"}"
        while not closed:
            key, char = self._key()
            if key != keys[depth]:
                self._skip()
            elif depth < len(keys) - 1 and char == b"{":
                cursor.at += 1
                if cursor.peek() != b"}":
                    depth += 1
                    continue
                cursor.at += 1
            elif depth == len(keys) - 1 and char == b"[":
                found = True
                yield from self._array()
            else:
                self._skip()
            depth, closed = self._after_value(depth)
        cursor.at += 1
        if not found:
            detail = f"expected an array at $.{'.'.join(keys)}, found none in the document"
            yield from self._pieces(document, NOT_JSON, detail, self._raw(document, cursor.offset))

    def _after_value(self, depth: int) -> tuple[int, bool]:
        """To the next key, out of objects that end; returns how deep that is and whether the document ends, at the cursor."""
        cursor = self._cursor
        while True:
            char = cursor.peek()
            if char == b",":
                cursor.at += 1
                return depth, False
            if char != b"}":
                raise _BrokenError("a comma or the end of an object", char)
            if depth == 0:
                return depth, True
            cursor.at += 1
            depth -= 1

    def _key(self) -> tuple[str, bytes]:
        """The key at the cursor, which moves to its value, and the value's first byte."""
        cursor = self._cursor
        if (char := cursor.peek()) != b'"':
            raise _BrokenError("a key", char)
        scan, at, ended = _Scan(b'"'), cursor.at, False
        while not ended:
            at, ended = scan.step(cursor.data, at)
            at -= cursor.at
            if at > _MAX_KEY_BYTES or (not ended and not cursor.more()):
                raise _BrokenError("a key to end", b"")
            at += cursor.at
        try:
            key = str(json.loads(cursor.data[cursor.at : at]))
        except ValueError as error:
            raise _BrokenError("a key", cursor.data[cursor.at : at]) from error
        cursor.at = at
        if (char := cursor.peek()) != b":":
            raise _BrokenError("a colon", char)
        cursor.at += 1
        return key, cursor.peek()

    def _skip(self) -> None:
        """Pass over a value."""
        cursor = self._cursor
        char = cursor.peek()
        if not char or char in b",:]}":
            raise _BrokenError("a value", char)
        scan, ended = _Scan(char), False
        while not ended:
            cursor.at, ended = scan.step(cursor.data, cursor.at)
            if not ended and not cursor.more():
                raise _BrokenError("a value to end", b"")

    def _pieces(self, offset: int, reason: str, detail: str, raw: Iterator[bytes]) -> Iterator[Rejected]:
        pieces = _Pieces(self.number, offset, reason, detail, self._text.piece_bytes)
        for part in raw:
            yield from pieces.feed(part)
        yield from pieces.finish()
        self.number += 1

    def _raw(self, start: int, stop: int | None) -> Iterator[bytes]:
        """Part of the text, read again: what is passed over is not kept."""
        with self._path.open("rb") as file:
            cursor = _Cursor(_Text(file, self._spec.encoding, self._block_bytes))
            for block in cursor.rest():
                begun = cursor.offset - len(block)
                if stop is not None and begun >= stop:
                    return
                yield block[max(0, start - begun) : None if stop is None else stop - begun]


def _read_json(path: Path, text: _Text, spec: ReadSpec, chunks: _Chunks, block_bytes: int) -> Iterator[Chunk]:
    documents = _Documents(path, text, spec, block_bytes)
    batch: list[tuple[int, bytes]] = []
    first, size = 1, 0
    for element in documents.elements():
        if isinstance(element, Rejected):
            yield from _add_elements(batch, first, chunks)
            batch, size = [], 0
            first = element.number + 1
            yield from chunks.reject(element)
            continue
        batch.append(element)
        size += len(element[1])
        if size >= BLOCK_BYTES:
            yield from _add_elements(batch, first, chunks)
            first, batch, size = first + len(batch), [], 0
    yield from _add_elements(batch, first, chunks)


def _add_elements(batch: list[tuple[int, bytes]], first: int, chunks: _Chunks) -> Iterator[Chunk]:
    if not batch:
        return
    offsets: Sequence[int] = [offset for offset, _ in batch]
    records = [record for _, record in batch]
    numbers: Sequence[int] = range(first, first + len(batch))
    if not _is_utf8(b"\n".join(records)):
        sound = [_is_utf8(record) for record in records]
        for index, good in enumerate(sound):
            if not good:
                yield from chunks.reject(_badly_encoded(first + index, offsets[index], records[index]))
        records, numbers, offsets = _picked(records, numbers, offsets, sound)
    yield from chunks.add(records, numbers, offsets)


# Rows of text


class _Rows:
    """The rows of an object."""

    def __init__(self, text: _Text, spec: ReadSpec, chunks: _Chunks) -> None:
        assert spec.csv  # noqa: S101 - ReadSpec holds it
        self._text = text
        self._chunks = chunks
        self._limit = spec.max_record_bytes
        self._delimiter = spec.csv.delimiter
        self._quote = spec.csv.quote
        self._header = spec.csv.header
        self._unusable = ""
        self._prefixes: list[str] = []
        if spec.csv.columns:
            self._name(spec.csv.columns)
        quote, delimiter = re.escape(spec.csv.quote or ""), re.escape(spec.csv.delimiter)
        inner = rf"((?:[^{quote}]++|{quote}{quote})*+)" if _POSSESSIVE else rf"(?=((?:[^{quote}]+|{quote}{quote})*))\1"
        self._field = re.compile(rf"{quote}{inner}{quote}(?={delimiter}|\Z)") if quote else None

    def read(self) -> Iterator[Chunk]:
        """All of them."""
        held = _Region(1, 0, b"", [])
        for region in _line_regions(self._text, self._limit):
            if isinstance(region, Rejected):
                yield from self._rows(held, final=True)
                held = _Region(1, 0, b"", [])
                yield from self._chunks.reject(region)
                continue
            if held.lines:
                region = replace(held, lines=held.lines + region.lines)
            held = yield from self._rows(region, final=False)
        yield from self._rows(held, final=True)

    def _rows(self, region: _Region, *, final: bool) -> Generator[Chunk, None, _Region]:
        """The rows of a region. Returns the lines at its end that a quoted field begins in and does not end, unless it is ``final``."""
        lines, at = region.lines, 0
        offsets = _line_offsets(region)
        records: list[bytes] = []
        numbers: list[int] = []
        starts: list[int] = []
        raws: list[bytes] = []
        held = _Region(1, 0, b"", [])
        while at < len(lines):
            fields, stop, raw = self._row(lines, at, final=final)
            if stop > len(lines):
                held = _Region(region.number + at, offsets[at], b"", lines[at:])
                break
            record = self._record(fields, raw)
            if isinstance(record, bytes):
                records.append(record)
                numbers.append(region.number + at)
                starts.append(offsets[at])
                raws.append(raw)
            elif record:
                yield from self._chunks.reject(Rejected(region.number + at, offsets[at], BAD_ROW, record, raw))
            at = stop
        yield from self._chunks.add(records, numbers, starts, raws)
        return held

    def _row(self, lines: list[bytes], at: int, *, final: bool) -> tuple[list[str | None] | None, int, bytes]:
        """The fields of the row that begins at a line, the line after it, and its raw bytes.

        There are no fields if it isn't quoted properly: the row is the line then. The line after it is past the end if more is wanted.
        """
        line = lines[at].removesuffix(b"\r")
        if (fields := self._split(line.decode())) is not None:
            return fields, at + 1, line
        quote = (self._quote or "").encode()
        count, size = line.count(quote), len(line)
        for stop in range(at + 1, len(lines)):
            if count % 2 == 0 or size > self._limit:
                break
            count += lines[stop].count(quote)
            size += len(lines[stop]) + 1
            if count % 2 == 0:
                raw = b"\n".join(lines[at : stop + 1]).removesuffix(b"\r")
                if len(raw) <= self._limit and (fields := self._split(raw.decode())) is not None:
                    return fields, stop + 1, raw
        if count % 2 and size <= self._limit and not final:
            return None, len(lines) + 1, line
        return None, at + 1, line

    def _split(self, row: str) -> list[str | None] | None:
        """The fields of a row; None if it isn't quoted properly."""
        quote, delimiter = self._quote, self._delimiter
        if quote is None or quote not in row:
            return None if "\n" in row else [field or None for field in row.split(delimiter)]
        parts = row.split(quote)
        if len(parts) % 2 == 0 or "" in parts[2:-1:2]:
            return self._split_carefully(row)
        fields: list[str | None] = []
        last = len(parts) - 1
        for index, part in enumerate(parts):
            if index % 2:
                fields.append(part)
                continue
            start, stop = int(index > 0), len(part) - (index < last)
            if start <= stop and part:
                if (start and part[0] != delimiter) or (index < last and part[-1] != delimiter) or "\n" in part:
                    return self._split_carefully(row)
                fields += [field or None for field in part[start:stop].split(delimiter)]
            elif part and part != delimiter:
                return self._split_carefully(row)
        return fields

    def _split_carefully(self, row: str) -> list[str | None] | None:
        fields: list[str | None] = []
        at = 0
        quote = self._quote or ""
        while True:
            if found := self._field.match(row, at) if self._field else None:
                fields.append(found[1].replace(quote * 2, quote))
                end = found.end()
            else:
                end = row.find(self._delimiter, at)
                end = len(row) if end < 0 else end
                field = row[at:end]
                if "\n" in field or field.startswith(quote):
                    return None
                fields.append(field or None)
            if end == len(row):
                return fields
            at = end + 1

    def _record(self, fields: list[str | None] | None, raw: bytes) -> bytes | str:
        """A row as JSON; or else why it isn't, which is nothing if there is nothing in it."""
        if not raw.strip():
            return ""
        if fields is None:
            if self._header and not self._prefixes:
                self._header, self._unusable = (
                    False,
                    "expected a header before the rows, found one that isn't quoted properly",
                )
            return f"expected fields separated by {self._delimiter!r}, found a quote {self._quote} that doesn't stand around a whole field"
        if self._header:
            self._header = False
            if not self._prefixes:
                self._name([field or "" for field in fields])
                return self._unusable
            return ""
        if self._unusable:
            return self._unusable
        prefixes = self._prefixes
        if len(fields) > len(prefixes):
            while fields and fields[-1] is None:
                fields.pop()
            if len(fields) > len(prefixes):
                return f"expected at most {len(prefixes)} columns, found {len(fields)}"
        pairs = [
            prefix + encode_basestring(field)
            for prefix, field in zip(prefixes, fields)  # noqa: B905
            if field is not None
        ]
        return f"{{{','.join(pairs)}}}".encode()

    def _name(self, columns: Sequence[str]) -> None:
        if not all(columns) or len(set(columns)) < len(columns):
            found = ", ".join(columns)[:DETAIL_CHARACTERS]
            self._unusable = f"expected a header with a name for each column, each once, found {found}"
        self._prefixes = [f"{encode_basestring(column)}:" for column in columns]


# Parquet

_ROWS, _ROWS_BYTES = 10_000, 4 << 20
"""At a time, at most; bytes by what the file says of them."""


def _read_parquet(path: Path, spec: ReadSpec, chunks: _Chunks) -> Iterator[Chunk]:
    pa, pq = _package("pyarrow"), _package("pyarrow.parquet")
    size = path.stat().st_size
    if not size:
        return
    number = 1
    try:
        file = pq.ParquetFile(path, buffer_size=PIECE_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield from _lost(path, (0, size), number, f"expected a Parquet file, found: {error}", chunks)
        yield from chunks.finish()
        return
    with file:
        if len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
            detail = f"expected columns of different names, found {', '.join(file.schema_arrow.names)}"
            yield from _lost(path, (0, size), number, detail, chunks)
            yield from chunks.finish()
            return
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            rows = max(1, min(_ROWS, _ROWS_BYTES * group.num_rows // max(1, group.total_byte_size)))
            begun = number
            try:
                for batch in file.iter_batches(rows, row_groups=[index], use_threads=False):
                    texts = [_dumps(row) for row in _rows_of(batch)]
                    yield from _add_rows(texts, number, spec, chunks)
                    number += len(texts)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                yield from _lost(
                    path,
                    _group_bytes(group),
                    number,
                    f"expected rows {number} to {begun + group.num_rows - 1} in row group {index}, found: {error}",
                    chunks,
                )
                number = begun + group.num_rows
    yield from chunks.finish()


def _add_rows(texts: list[bytes], number: int, spec: ReadSpec, chunks: _Chunks) -> Iterator[Chunk]:
    if max(map(len, texts), default=0) <= spec.max_record_bytes:
        yield from chunks.add(texts, range(number, number + len(texts)))
        return
    for at, text in enumerate(texts, number):
        if len(text) <= spec.max_record_bytes:
            yield from chunks.add([text], [at])
            continue
        for piece in _too_long(at, 0, spec.max_record_bytes, PIECE_BYTES).finish(text):
            yield from chunks.reject(replace(piece, offset=None))


def _lost(path: Path, part: tuple[int, int], number: int, detail: str, chunks: _Chunks) -> Iterator[Chunk]:
    """Reject a part of the file: first byte and end."""
    start, stop = part
    pieces = _Pieces(number, start, NOT_PARQUET, detail[:DETAIL_CHARACTERS], PIECE_BYTES)
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (block := file.read(min(BLOCK_BYTES, stop - start))):
            start += len(block)
            for piece in pieces.feed(block):
                yield from chunks.reject(replace(piece, offset=None))
    for piece in pieces.finish():
        yield from chunks.reject(replace(piece, offset=None))


def _group_bytes(group: Any) -> tuple[int, int]:
    """Where the columns of a row group are in the file."""
    columns = [group.column(index) for index in range(group.num_columns)]
    starts = [
        min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
        for column in columns
    ]
    ends = [start + column.total_compressed_size for start, column in zip(starts, columns)]  # noqa: B905
    return min(starts, default=0), max(ends, default=0)


def _rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [_plain(column) for column in batch.columns]
    for values in zip(*columns):  # noqa: B905
        yield {name: value for name, value in zip(names, values) if value is not None}  # noqa: B905


def _plain(column: Any) -> list[Any]:
    """An Arrow array's values as JSON has them."""
    pa = _package("pyarrow")
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_struct(kind):
        return _structs(column)
    if pa.types.is_map(kind):
        return _nested(
            column,
            lambda part: dict(zip(map(_key_text, _plain(part.field(0))), _plain(part.field(1)))),  # noqa: B905
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _nested(column, _plain)
    if pa.types.is_timestamp(kind):
        return [_timestamp(value, kind.unit) for value in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_time(kind) or pa.types.is_decimal(kind):
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_duration(kind):
        return list(column.cast(pa.int64()).to_pylist())
    return [_scalar(value) for value in column.to_pylist()]


def _nested(column: Any, convert: Callable[[Any], Any]) -> list[Any]:
    return [convert(value.values) if value.is_valid else None for value in column]


def _structs(column: Any) -> list[Any]:
    names = [field.name for field in column.type]
    parts = [_plain(part) for part in column.flatten()]  # which knows of an offset, and of nulls
    rows: list[Any] = [
        {name: value for name, value in zip(names, values) if value is not None}  # noqa: B905
        for values in (zip(*parts) if parts else [()] * len(column))  # noqa: B905
    ]
    return [row if valid else None for row, valid in zip(rows, column.is_valid().to_pylist())]  # noqa: B905


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _timestamp(value: int | None, unit: str) -> str | None:
    if value is None:
        return None
    per_second = _PER_SECOND[unit]
    seconds, rest = divmod(value, per_second)
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)  # noqa: UP017
    except OverflowError:
        return f"{value} {unit} since 1970"
    fraction = f".{rest:0{len(str(per_second)) - 1}}" if per_second > 1 else ""
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, date):
        return value.isoformat()
    return value


def _key_text(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)


def _dumps(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str).encode()
