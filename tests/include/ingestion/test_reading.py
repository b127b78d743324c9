"""How objects are read: every record is delivered or rejected, whatever the object is like."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from include.ingestion.reading import (
    Chunk,
    CsvSpec,
    Format,
    ReadSpec,
    ReadSpecInvalid,
    Rejected,
    read_records,
    record_path,
)

if TYPE_CHECKING:
    from pathlib import Path

LINES = ReadSpec(Format.JSON_LINES)
JSON = ReadSpec(Format.JSON)
RECORDS = ReadSpec(Format.JSON, records_at="$.Records")
MIB = 1 << 20
on_disk = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)


class Read:
    """All chunks of an object."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks
        self.records = [record for chunk in chunks for record in chunk.records]
        self.numbers = [number for chunk in chunks for number in chunk.numbers]
        self.offsets = [offset for chunk in chunks for offset in chunk.offsets or ()]
        self.raws = [raw for chunk in chunks for raw in (chunk.records if chunk.raws is None else chunk.raws)]
        self.rejected = [rejected for chunk in chunks for rejected in chunk.rejected]
        self.reasons = [rejected.reason for rejected in self.rejected if rejected.last]
        self.count = sum(chunk.count for chunk in chunks)


def read(path: Path, content: bytes, spec: ReadSpec = LINES, **limits: int) -> Read:
    path = path / "object"
    path.write_bytes(content)
    return Read(list(read_records(path, spec, **limits)))


def whole(rejected: list[Rejected]) -> dict[int, bytes]:
    """The raw bytes of each rejected record."""
    joined: dict[int, bytes] = {}
    for piece in rejected:
        joined[piece.number] = joined.get(piece.number, b"") + piece.raw
    return joined


# Lines


def test_lines_are_delivered_with_their_numbers_and_offsets(tmp_path):
    found = read(tmp_path, b'{"a":1}\n{"b":22}\n{"c":3}')

    assert found.records == [b'{"a":1}', b'{"b":22}', b'{"c":3}']
    assert found.chunks[0].numbers == range(1, 4)
    assert found.offsets == [0, 8, 17]
    assert found.chunks[0].raws is None
    assert found.rejected == []


def test_blank_lines_are_left_out_and_counted_as_lines(tmp_path):
    content = b'\n{"a":1}\r\n  \r\n\t\n{"b":2}\n\r\n {"c":3}'

    found = read(tmp_path, content)

    assert found.records == [b'{"a":1}', b'{"b":2}', b' {"c":3}']
    assert found.numbers == [2, 5, 7]
    assert [content[at:][:2].strip()[:1] for at in found.offsets] == [b"{", b"{", b"{"]


def test_a_carriage_return_that_ends_a_line_is_no_part_of_it(tmp_path):
    found = read(tmp_path, b'{"a":"x\r"}\r\n{}\r\n')

    assert found.records == [b'{"a":"x\r"}', b"{}"]
    assert found.offsets == [0, 12]


def test_a_byte_order_mark_is_dropped(tmp_path):
    found = read(tmp_path, b"\xef\xbb\xbf{}\n{}\n", block_bytes=1)

    assert found.records == [b"{}", b"{}"]
    assert found.offsets == [3, 6]


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0), b"\n", b"\xef\xbb\xbf", b" \r\n\n"])
@pytest.mark.parametrize("spec", [LINES, JSON, RECORDS, ReadSpec(Format.CSV, csv=CsvSpec(columns=("a",)))])
def test_an_object_without_records_gives_no_chunk(tmp_path, content, spec):
    assert read(tmp_path, content, spec).chunks == []


def test_nul_bytes_are_delivered(tmp_path):
    assert read(tmp_path, b'{"a":"\0"}\n\0\n{}\n').records == [b'{"a":"\0"}', b"\0", b"{}"]


def test_a_line_that_is_not_utf8_is_rejected_and_no_other(tmp_path):
    bad = b'{"a":"\xff"}'

    found = read(tmp_path, b'{"a":1}\n' + bad + b'\r\n{"\xc3\xa9":3}\n')

    assert found.records == [b'{"a":1}', '{"é":3}'.encode()]
    assert found.numbers == [1, 3]
    assert found.offsets == [0, 19]
    rejected = found.rejected[0]
    assert (rejected.number, rejected.offset, rejected.reason, rejected.raw) == (2, 8, "bad_encoding", bad)
    assert "byte 6" in rejected.detail


@pytest.mark.parametrize("block", [1000, 4 * MIB])
def test_a_long_line_is_rejected_in_pieces_and_no_other(tmp_path, block):
    spec = ReadSpec(Format.JSON_LINES, max_record_bytes=2 * MIB)
    long, longest = b"x" * (2 * MIB + 1), b"y" * (2 * MIB)

    found = read(tmp_path, b"{}\n" + long + b"\r\n" + longest + b"\r\n{}\n" + long, spec, block_bytes=block)

    assert found.records == [b"{}", longest, b"{}"]
    assert found.numbers == [1, 3, 4]
    assert [(r.number, len(r.raw), r.piece, r.pieces) for r in found.rejected] == [
        (2, MIB, 1, 0),
        (2, MIB, 2, 0),
        (2, 1, 3, 3),
        (5, MIB, 1, 0),
        (5, MIB, 2, 0),
        (5, 1, 3, 3),
    ]
    assert whole(found.rejected) == {2: long, 5: long}
    assert found.rejected[0].offset == 3
    assert found.offsets == [0, 3 + len(long) + 2, 3 + len(long) + 2 + len(longest) + 2]
    assert found.reasons == ["record_too_long"] * 2
    assert found.count == 5


def test_a_line_of_100_mb_takes_no_such_memory(tmp_path):
    path = tmp_path / "object"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"{}\n")
        for _ in range(100):
            file.write(b"0123456789" * 100_000)
        file.write(b"\n{}\n")
    read_bytes, records, last = 0, [], None
    tracemalloc.start()
    try:
        for chunk in read_records(path, LINES, chunk_bytes=8 * MIB):
            read_bytes += sum(len(rejected.raw) for rejected in chunk.rejected)
            records += chunk.records
            last = chunk.rejected[-1] if chunk.rejected else last
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert read_bytes == 100_000_000
    assert records == [b"{}", b"{}"]
    assert last
    assert last.piece == last.pieces == 96
    assert peak < 100 * 1e6 * 0.8


def test_memory_does_not_grow_with_the_object(tmp_path):
    def peak(lines: int) -> int:
        path = tmp_path / "object"
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(lines // 1000):
                file.write((b'{"a":"' + b"x" * 400 + b'"}\n') * 1000)
        tracemalloc.start()
        try:
            count = sum(chunk.count for chunk in read_records(path, LINES, chunk_records=5000, block_bytes=MIB))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert count == lines

    assert peak(160_000) < peak(40_000) * 1.2


def test_chunks_are_bounded_both_ways(tmp_path):
    content = b"".join(b'{"n":%d}\n' % number for number in range(1000)) + b'"' + b"x" * 500 + b'"\n{}\n'

    by_count = read(tmp_path, content, chunk_records=7)
    by_bytes = read(tmp_path, content, chunk_bytes=100)

    for found in (by_count, by_bytes):
        assert b"".join(record + b"\n" for record in found.records) == content
        assert found.numbers == list(range(1, 1003))
    assert max(len(chunk.records) for chunk in by_count.chunks) == 7
    sizes = [sum(map(len, chunk.records)) for chunk in by_bytes.chunks]
    assert max(sizes) == 502
    assert sorted(sizes)[-2] <= 100


@on_disk
@given(
    lines=st.lists(
        st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")) | st.just(b'{"a":1}'), max_size=40
    ),
    ended=st.booleans(),
    compressed=st.booleans(),
    block=st.integers(1, 200),
    chunk=st.integers(1, 10),
    size=st.integers(1, 100),
    limit=st.integers(1, 40),
)
def test_every_line_is_delivered_or_rejected(tmp_path, lines, ended, compressed, block, chunk, size, limit):
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    spec = ReadSpec(Format.JSON_LINES, max_record_bytes=limit)
    stored = gzip.compress(content) if compressed else content
    if not compressed and content.startswith((b"\x1f\x8b", b"\xef\xbb\xbf")):
        return
    if content.startswith(b"\xef\xbb\xbf"):
        return

    found = read(tmp_path, stored, spec, block_bytes=block, chunk_records=chunk, chunk_bytes=size)

    def bare(line: bytes) -> bytes:
        return line.removesuffix(b"\r")

    def utf8(line: bytes) -> bool:
        return line.decode(errors="replace").encode() == line

    # a line that is too long, or not UTF-8, is told even if it is blank
    wanted = {n: bare(line) for n, line in enumerate(content.split(b"\n"), 1)}
    wanted = {n: line for n, line in wanted.items() if line.strip() or len(line) > limit}
    rejected = whole(found.rejected)
    assert dict(zip(found.numbers, found.records, strict=True)) | rejected == wanted
    assert sorted(rejected) == [n for n, line in wanted.items() if len(line) > limit or not utf8(line)]
    assert found.count == len(wanted)
    assert [content[at : at + len(r)] for at, r in zip(found.offsets, found.records, strict=True)] == found.records
    for piece in found.rejected:
        assert content[piece.offset :].startswith(rejected[piece.number])
    assert all(len(c.records) + len(c.rejected) <= chunk for c in found.chunks)


# Compression

EVENTS = b"".join(b'{"number":%d,"text":"%s"}\n' % (n, bytes([97 + n % 26]) * (n % 7)) for n in range(60))


@pytest.mark.parametrize("name", ["object.gz", "object.json", "object.zst"])
def test_compression_is_told_by_content(tmp_path, name):
    path = tmp_path / name
    for content in (EVENTS, gzip.compress(EVENTS)):
        path.write_bytes(content)
        assert b"\n".join(Read(list(read_records(path, LINES))).records) + b"\n" == EVENTS


@pytest.mark.parametrize("block", [1, 7, 1000, 4 * MIB])
def test_gzip_may_have_many_members_and_zeros_between_and_after_them(tmp_path, block):
    half = EVENTS[:777]
    content = gzip.compress(half) + gzip.compress(b"") + b"\0" * 5 + gzip.compress(EVENTS[777:]) + b"\0" * 70_000

    found = read(tmp_path, content, block_bytes=block)

    assert b"\n".join(found.records) + b"\n" == EVENTS
    assert found.rejected == []


def test_thousands_of_small_members(tmp_path):
    content = b"".join(gzip.compress(line, 1) for line in EVENTS.splitlines(keepends=True)) * 100

    assert len(read(tmp_path, content).records) == 6000


def test_much_that_is_compressed_to_little_is_not_decompressed_at_once(tmp_path):
    path = tmp_path / "object"
    path.write_bytes(gzip.compress((b" " * 99 + b"\n") * 4 * MIB))
    tracemalloc.start()
    try:
        assert list(read_records(path, LINES)) == []
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def assert_read_as_far_as_it_goes(found: Read, content: bytes, decompressed: bytes) -> None:
    complete, _, tail = decompressed.rpartition(b"\n")
    assert found.records == (complete.split(b"\n") if complete else [])
    assert found.reasons == ["truncated"]
    rejected = found.rejected[0]
    assert rejected.raw == tail
    assert rejected.number == len(found.records) + 1
    assert rejected.offset == len(decompressed) - len(tail)
    assert found.count == len(found.records) + 1


def test_gzip_that_is_cut_anywhere_is_read_as_far_as_it_goes(tmp_path):
    stored = gzip.compress(EVENTS)
    for end in range(1, len(stored)):
        decompressed = zlib.decompressobj(31).decompress(stored[:end])
        for block in (3, 4 * MIB):
            found = read(tmp_path, stored[:end], block_bytes=block)
            assert_read_as_far_as_it_goes(found, stored, decompressed)
            assert f"byte {end}" in found.rejected[0].detail


def test_gzip_with_a_wrong_checksum_delivers_its_lines_and_says_so(tmp_path):
    stored = bytearray(gzip.compress(EVENTS))
    stored[-6] ^= 1

    found = read(tmp_path, bytes(stored))

    assert b"\n".join(found.records) + b"\n" == EVENTS
    assert found.reasons == ["truncated"]
    assert "incorrect data check" in found.rejected[0].detail


def test_what_follows_gzip_and_is_none_is_told(tmp_path):
    found = read(tmp_path, gzip.compress(EVENTS) + b"something else")

    assert len(found.records) == 60
    assert found.reasons == ["truncated"]
    assert f"byte {len(gzip.compress(EVENTS)) + 1}: " in found.rejected[0].detail


def byte_by_byte(stored: bytes) -> bytes:
    """What zlib gives of damaged gzip, however little it is given at a time."""
    inflate, out = zlib.decompressobj(31), b""
    for byte in stored:
        data = bytes([byte])
        while True:
            try:
                part = inflate.decompress(data, 1)
            except zlib.error:
                return out
            out += part
            data = inflate.unconsumed_tail
            if not part and not data:
                break
    return out


@pytest.mark.parametrize("times", [1, 40])
def test_gzip_with_any_byte_damaged_loses_nothing_before_it(tmp_path, times):
    stored = gzip.compress(EVENTS * times)
    for at in range(10, len(stored), times):
        damaged = bytearray(stored)
        damaged[at] ^= 0xA5
        wanted = dict(enumerate(byte_by_byte(bytes(damaged)).split(b"\n"), 1))

        found = read(tmp_path, bytes(damaged))

        assert found.reasons[-1] == "truncated"
        lines = dict(zip(found.numbers, found.records, strict=True)) | whole(found.rejected)
        assert {n: line.rstrip(b"\r") for n, line in lines.items() if line.strip()} == {
            n: line.rstrip(b"\r") for n, line in wanted.items() if line.strip()
        }


@pytest.fixture(scope="module")
def zstd():
    return pytest.importorskip("zstandard")


class TestZstd:
    """As gzip."""

    def test_frames_follow_each_other(self, zstd, tmp_path):
        skipped = b"\x53\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
        frames = [
            zstd.ZstdCompressor(write_checksum=True).compress(EVENTS[:777]),
            skipped,
            zstd.ZstdCompressor(write_content_size=False).compress(EVENTS[777:]),
            zstd.ZstdCompressor().compress(b""),
        ]
        for content in (b"".join(frames), skipped + b"".join(frames)):
            for block in (1, 1000, 4 * MIB):
                found = read(tmp_path, content, block_bytes=block)
                assert b"\n".join(found.records) + b"\n" == EVENTS
                assert found.rejected == []

    def test_all_kinds_of_blocks_and_headers(self, zstd, tmp_path):
        import random

        noise = base64.b64encode(random.Random(1).randbytes(300_000)).replace(b"/", b"\n")
        content = b"x" * 400_000 + b"\n" + noise + b"\n"
        for level in (1, 19):
            for size in (True, False):
                stored = zstd.ZstdCompressor(level=level, write_content_size=size).compress(content)
                found = read(tmp_path, stored)
                assert b"\n".join(found.records) == b"\n".join(line for line in content.split(b"\n") if line)

    def test_one_that_is_cut_anywhere_is_read_as_far_as_it_goes(self, zstd, tmp_path):
        content = EVENTS * 5
        stored = b"".join(
            zstd.ZstdCompressor(write_checksum=True).compress(content[at : at + 900])
            for at in range(0, len(content), 900)
        )
        for end in range(2, len(stored)):
            found = read(tmp_path, stored[:end])
            got = b"".join(record + b"\n" for record in found.records)
            if found.rejected:
                assert found.reasons == ["truncated"]
                got += found.rejected[0].raw
            elif found.records and not content.startswith(got):
                got = got[:-1]
            assert content.startswith(got)
            assert len(got) >= len(content) * (end - 900) / len(stored) - 900

    def test_one_that_is_damaged_says_where(self, zstd, tmp_path):
        first = zstd.ZstdCompressor(write_checksum=True).compress(EVENTS)
        damaged = bytearray(first + first)
        damaged[-1] ^= 1

        found = read(tmp_path, bytes(damaged))

        assert len(found.records) == 120
        assert found.reasons == ["truncated"]
        assert "byte" in found.rejected[0].detail

    def test_much_that_is_compressed_to_little_is_not_decompressed_at_once(self, zstd, tmp_path):
        path = tmp_path / "object"
        path.write_bytes(zstd.ZstdCompressor().compress((b" " * 99 + b"\n") * 4 * MIB))
        tracemalloc.start()
        try:
            assert list(read_records(path, LINES)) == []
            assert tracemalloc.get_traced_memory()[1] < 64 * MIB
        finally:
            tracemalloc.stop()


# Encodings


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("latin-1", "latin-1"),
        ("cp1252", "cp1252"),
        ("shift_jis", "shift_jis"),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 4 * MIB])
def test_other_encodings_are_read_as_utf8(tmp_path, encoding, written, block):
    word = "表示" if encoding == "shift_jis" else "Ünïcode"
    lines = [f'{{"a":"{word}"}}', "", f'{{"b":"{word * 3}"}}']

    found = read(tmp_path, "\r\n".join(lines).encode(written), ReadSpec(Format.JSON_LINES, encoding), block_bytes=block)

    assert [record.decode() for record in found.records] == [lines[0], lines[2]]
    assert found.numbers == [1, 3]
    codec = "utf-16-le" if written == "utf-16" else written
    assert found.raws == [lines[0].encode(codec), lines[2].encode(codec)]
    assert found.chunks[0].offsets is None


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_of_utf16_is_dropped(tmp_path, codec):
    content = ("\ufeff" + '{"a":"੊Ā"}\n{}').encode(codec)

    for encoding in ("utf-16", codec):
        found = read(tmp_path, content, ReadSpec(Format.JSON_LINES, encoding))
        assert [record.decode() for record in found.records] == ['{"a":"੊Ā"}', "{}"]
        assert found.raws[1] == "{}".encode(codec)


def test_what_is_no_utf16_is_rejected_with_its_bytes_and_no_other_line(tmp_path):
    bad = '{"a":"'.encode("utf-16-le") + b"\x00\xd8" + '"}'.encode("utf-16-le")
    content = "{}\n".encode("utf-16-le") + bad + '\n{"b":1}\n'.encode("utf-16-le") + b"x"

    found = read(tmp_path, content, ReadSpec(Format.JSON_LINES, "utf-16-le"))

    assert found.records == [b"{}", b'{"b":1}']
    assert whole(found.rejected) == {2: bad, 4: b"x"}
    assert found.reasons == ["bad_encoding"] * 2
    assert found.rejected[0].offset is None


def test_what_a_code_page_lacks_is_rejected_with_its_bytes(tmp_path):
    found = read(tmp_path, b'{"a":"\x80"}\n{"a":"\x81"}\n', ReadSpec(Format.JSON_LINES, "cp1252"))

    assert found.records == ['{"a":"€"}'.encode()]
    assert whole(found.rejected) == {2: b'{"a":"\x81"}'}


@on_disk
@given(
    content=st.binary(max_size=80), codec=st.sampled_from(["utf-16-le", "utf-16-be", "cp1252"]), block=st.integers(1, 9)
)
@example(content=b"\n\x00", codec="utf-16-be", block=1)
def test_no_byte_of_another_encoding_is_lost(tmp_path, content, codec, block):
    if content.startswith((b"\x1f", b"(", b"\xff\xfe", b"\xfe\xff")) or content[1:4] == b"\x2a\x4d\x18":
        return
    found = read(tmp_path, content, ReadSpec(Format.JSON_LINES, codec), block_bytes=block)

    text = dict(zip(found.numbers, found.raws, strict=True)) | whole(found.rejected)
    width = 2 if codec.startswith("utf-16") else 1
    ends = "\n".encode(codec)
    lines, start = [], 0
    for at in range(0, len(content), width):
        if content[at : at + width] == ends:
            lines.append(content[start:at])
            start = at + width
    lines.append(content[start:])
    blank = [" ", "\t", "\r", "\x0b", "\x0c"]
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r".encode(codec)) if len(line) % width == 0 else line
        units = [line[at : at + width] for at in range(0, len(line), width)]
        if all(unit in [b.encode(codec) for b in blank] for unit in units):
            assert text.get(number, b"") == b""
        else:
            assert text[number] == line


@pytest.mark.parametrize("encoding", ["utf-7", "cp037", "base64", "none such", "utf-32", "idna", "unicode_escape"])
def test_an_encoding_without_ascii_is_refused(encoding):
    with pytest.raises(ReadSpecInvalid, match="cp1252"):
        ReadSpec(Format.JSON_LINES, encoding)


# JSON documents

OBJECT = b'{"a":{"b":[{"c":"}]\\"{"},{}]},"d":"\\\\"}'
DEEP = b'{"a":' * 40 + b"[1]" + b"}" * 40


@pytest.mark.parametrize("block", [1, 2, 3, 5, 8, 50, 4 * MIB])
@pytest.mark.parametrize(
    ("spec", "content"),
    [
        (JSON, b"[%s,%s]"),
        (JSON, b" \n [ %s , \r\n %s ] \n"),
        (JSON, b"%s%s"),
        (JSON, b"\xef\xbb\xbf%s\n%s\n"),
        (JSON, b"[%s]\n[%s]"),
        (JSON, b"[%s] %s"),
        (RECORDS, b'{"Records":[%s,%s]}'),
        (RECORDS, b'{"x":{"Records":[1]},"y":"Records","Rec\\u006frds" : [ %s ,%s ], "z":[{}], "n": -1.5e3 }'),
        (RECORDS, b'{"Records":[%s]}{"Records":[]} {"Records":[%s]}'),
        (
            ReadSpec(Format.JSON, records_at="$.detail.items"),
            b'{"detail":{},"detail":{"x":1,"items":[%s,%s],"y":2},"z":3}',
        ),
        (ReadSpec(Format.JSON, records_at="$['a.b'].items"), b'{"a.b":{"x":{"items":[3]},"items":[%s,%s]}}'),
    ],
)
def test_the_elements_of_a_document_are_its_records(tmp_path, spec, content, block):
    for first, second in ((OBJECT, DEEP), (DEEP, b"{}"), (b'{\n "a": 1\n}', OBJECT)):
        document = content % (first, second)

        found = read(tmp_path, document, spec, block_bytes=block)

        assert found.records == [first, second]
        assert found.numbers == [1, 2]
        assert [document[at:][: len(r)] for at, r in zip(found.offsets, found.records, strict=True)] == found.records
        assert found.rejected == []


@pytest.mark.parametrize("block", [1, 4, 4 * MIB])
def test_elements_that_are_no_objects_are_delivered(tmp_path, block):
    elements = [b"1", b"null", b'"a,]\\""', b"[1,[2,{}]]", b"-1.5e3", b"{}", b"[]", b"true"]

    found = read(tmp_path, b"[" + b" , ".join(elements) + b"]", JSON, block_bytes=block)

    assert found.records == elements
    assert found.rejected == []


@pytest.mark.parametrize("block", [1, 4, 4 * MIB])
@pytest.mark.parametrize(
    ("spec", "content", "records", "raw"),
    [
        (JSON, b'[{"a":1},{"b":2', [b'{"a":1}'], b'{"b":2'),
        (JSON, b'[{"a":1},{"b":"\\', [b'{"a":1}'], b'{"b":"\\'),
        (JSON, b'{"a":1}{"b":"', [b'{"a":1}'], b'{"b":"'),
        (JSON, b'[{"a":1}', [b'{"a":1}'], b""),
        (JSON, b'[{"a":1},', [b'{"a":1}'], b""),
        (JSON, b'[{"a":1},]', [b'{"a":1}'], b"]"),
        (JSON, b'[{"a":1} {"b":2}]', [b'{"a":1}'], b'{"b":2}]'),
        (JSON, b'[{"a":1}, ,{}]', [b'{"a":1}'], b",{}]"),
        (JSON, b'{"a":1} garbage', [b'{"a":1}'], b"garbage"),
        (JSON, b"\x00\x01", [], b"\x00\x01"),
        (JSON, b"null", [], b"null"),
        (RECORDS, b"[{}]", [], b"[{}]"),
        (RECORDS, b' {"a":1}', [], b'{"a":1}'),
        (RECORDS, b'{"Records":null,"a":1} ', [], b'{"Records":null,"a":1}'),
        (RECORDS, b'{"Records":{"a":[1]}}', [], b'{"Records":{"a":[1]}}'),
        (RECORDS, b'{"Records":[{}', [b"{}"], b""),
        (RECORDS, b'{"a":1,"Records":[{},{"b"', [b"{}"], b'{"b"'),
        (RECORDS, b'{"Records":[{}],"a":x y}', [b"{}"], b"y}"),
        (RECORDS, b'{"a" 1,"Records":[{}]}', [], b'{"a" 1,"Records":[{}]}'),
        (RECORDS, b'{"a":1 "Records":[{}]}', [], b'{"a":1 "Records":[{}]}'),
        (RECORDS, b'{a:1,"Records":[{}]}', [], b'{a:1,"Records":[{}]}'),
        (RECORDS, b'{"a":"', [], b'{"a":"'),
        (RECORDS, b'{"a', [], b'{"a'),
        (RECORDS, b'{"a":}', [], b'{"a":}'),
    ],
)
def test_a_broken_document_is_delivered_as_far_as_it_goes(tmp_path, spec, content, records, raw, block):
    found = read(tmp_path, content, spec, block_bytes=block)

    assert found.records == records
    assert found.reasons == ["not_json"]
    assert whole(found.rejected) == {len(records) + 1: raw}


def test_documents_behind_one_without_an_array_are_read(tmp_path):
    found = read(tmp_path, b'{"Records":[{}]}{"other":1}{"Records":[[]]}', RECORDS)

    assert found.records == [b"{}", b"[]"]
    assert found.numbers == [1, 3]
    assert whole(found.rejected) == {2: b'{"other":1}'}


@pytest.mark.parametrize("spec", [JSON, RECORDS])
def test_a_compressed_document_that_is_cut_is_delivered_as_far_as_it_goes(tmp_path, spec):
    records = EVENTS.splitlines()
    content = b"[" + b",".join(records) + b"]"
    stored = gzip.compress(b'{"Records":' + content + b"}" if spec is RECORDS else content)
    for end in range(2, len(stored)):
        found = read(tmp_path, stored[:end], spec)
        assert found.records == records[: len(found.records)]
        assert found.reasons == ["truncated"]
        assert f"byte {end}" in found.rejected[0].detail
        assert records[len(found.records) :][:1] or b"]}".endswith(found.rejected[0].raw)


@pytest.mark.parametrize("block", [1000, 4 * MIB])
def test_a_long_element_is_rejected_in_pieces_and_no_other(tmp_path, block):
    spec = ReadSpec(Format.JSON, max_record_bytes=2 * MIB)
    long = b'{"a":"' + b"\\n" * MIB + b'"}'

    found = read(tmp_path, b"[{},%s,{},%s]" % (long, long), spec, block_bytes=block)

    assert found.records == [b"{}", b"{}"]
    assert found.numbers == [1, 3]
    assert whole(found.rejected) == {2: long, 4: long}
    assert max(len(rejected.raw) for rejected in found.rejected) == MIB
    assert found.reasons == ["record_too_long"] * 2


def test_an_element_that_is_not_utf8_is_rejected_and_no_other(tmp_path):
    found = read(tmp_path, b'[{"a":1},{"a":"\xff"},{"a":3}]', JSON)

    assert found.numbers == [1, 3]
    assert whole(found.rejected) == {2: b'{"a":"\xff"}'}
    assert found.reasons == ["bad_encoding"]


def test_a_document_in_utf16(tmp_path):
    text = '[{"é":1},{"b":"'.encode("utf-16") + b"\x00\xdc" + '"},{"c":3}]'.encode("utf-16-le")

    found = read(tmp_path, text, ReadSpec(Format.JSON, "utf-16"))

    assert found.records == ['{"é":1}'.encode(), b'{"c":3}']
    assert found.raws[0] == '{"é":1}'.encode("utf-16-le")
    assert whole(found.rejected) == {2: '{"b":"'.encode("utf-16-le") + b"\x00\xdc" + '"}'.encode("utf-16-le")}


def test_a_long_array_takes_no_more_memory_than_a_short_one(tmp_path):
    def peak(elements: int) -> int:
        path = tmp_path / "object"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b'{"before":"x","Records":[')
            for _ in range(elements // 1000):
                file.write((b'{"a":{"b":"' + b"x" * 400 + b'"}},\n') * 1000)
            file.write(b"{}]}")
        tracemalloc.start()
        try:
            count = sum(chunk.count for chunk in read_records(path, RECORDS, chunk_records=5000, block_bytes=MIB))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert count == elements + 1

    assert peak(160_000) < peak(40_000) * 1.2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@on_disk
@given(
    elements=st.lists(values, max_size=8),
    indent=st.sampled_from([None, 1]),
    layout=st.sampled_from(["array", "records", "objects"]),
    block=st.integers(1, 60),
    chunk=st.integers(1, 5),
    limit=st.sampled_from([30, 1000]),
)
def test_every_element_is_delivered_or_rejected(tmp_path, elements, indent, layout, block, chunk, limit):
    if layout == "objects":
        elements = [element if isinstance(element, dict) else {"a": element} for element in elements]
        content = "".join(json.dumps(element, indent=indent, ensure_ascii=False) for element in elements)
    else:
        document = elements if layout == "array" else {"x": elements, "Records": elements, "y": {"Records": [1]}}
        content = json.dumps(document, indent=indent, ensure_ascii=False)
    spec = ReadSpec(Format.JSON, records_at="$.Records" if layout == "records" else None, max_record_bytes=limit)

    found = read(tmp_path, content.encode(), spec, block_bytes=block, chunk_records=chunk)

    texts = dict(zip(found.numbers, found.records, strict=True)) | whole(found.rejected)
    assert [json.loads(texts[number]) for number in sorted(texts)] == elements
    assert sorted(texts) == list(range(1, len(elements) + 1))
    assert set(found.reasons) <= {"record_too_long"}
    assert found.count == len(elements)


@on_disk
@given(content=st.text('[]{}",:\\ a1\n', max_size=60).map(str.encode), spec=st.sampled_from([JSON, RECORDS]))
def test_any_text_is_read_alike_in_blocks_of_any_size(tmp_path, content, spec):
    if content.startswith(b"("):
        return
    whole_block = read(tmp_path, content, spec)
    for block in (1, 3, 7):
        found = read(tmp_path, content, spec, block_bytes=block)
        assert (found.records, found.numbers, found.offsets) == (
            whole_block.records,
            whole_block.numbers,
            whole_block.offsets,
        )
        assert found.rejected == whole_block.rejected


@pytest.mark.parametrize("path", ["Records", "$", "$.", "$.a[0]", "$.a..b", "", "$a"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ReadSpecInvalid, match="records_at"):
        record_path(path)


# Rows of text


def rows(path: Path, content: bytes, *columns: str, **how: object) -> Read:
    spec = ReadSpec(Format.CSV, csv=CsvSpec(columns=columns or None, **how))
    return read(path, content, spec)


def test_a_row_becomes_an_object_of_texts(tmp_path):
    found = rows(tmp_path, b'1,"two, and ""more""",,"",5\r\n"x"\n', "a", "b", "c", "d", "e")

    assert [json.loads(record) for record in found.records] == [
        {"a": "1", "b": 'two, and "more"', "d": "", "e": "5"},
        {"a": "x"},
    ]
    assert found.raws == [b'1,"two, and ""more""",,"",5', b'"x"']
    assert found.numbers == [1, 2]
    assert found.offsets == [0, 29]


def test_rows_of_a_load_balancer(tmp_path):
    line = (
        b"https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 200 "
        b'"GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" - "Root=1-58337281" "-" ""\n'
    )
    columns = [
        "type",
        "time",
        "elb",
        "client",
        "target",
        "processing",
        "status",
        "request",
        "agent",
        "tls",
        "trace",
        "sni",
        "arn",
    ]

    found = rows(tmp_path, line, *columns, delimiter=" ")

    record = json.loads(found.records[0])
    assert record["request"] == "GET https://www.example.com:443/ HTTP/1.1"
    assert (record["tls"], record["sni"], record["arn"]) == ("-", "-", "")


def test_the_header_names_the_columns(tmp_path):
    found = rows(tmp_path, b"\xef\xbb\xbfa;b\n\n1;2\n;4\n", header=True, delimiter=";")

    assert [json.loads(record) for record in found.records] == [{"a": "1", "b": "2"}, {"b": "4"}]
    assert found.numbers == [3, 4]


def test_given_columns_stand_for_the_header(tmp_path):
    assert rows(tmp_path, b"a,b\n1,2\n", "x", "y", header=True).records == [b'{"x":"1","y":"2"}']


@pytest.mark.parametrize("header", [b"a,a", b"a,", b'"a'])
def test_rows_under_a_header_that_names_nothing_are_rejected(tmp_path, header):
    found = rows(tmp_path, header + b"\n1,2\n", header=True)

    assert found.reasons == ["bad_row"] * 2
    assert whole(found.rejected) == {1: header, 2: b"1,2"}


def test_a_row_with_too_many_columns_is_rejected(tmp_path):
    found = rows(tmp_path, b"1,2\n1,2,3\n1,2,,\n", "a", "b")

    assert found.numbers == [1, 3]
    assert whole(found.rejected) == {2: b"1,2,3"}
    assert "at most 2 columns, found 3" in found.rejected[0].detail


@pytest.mark.parametrize("block", [1, 5, 4 * MIB])
def test_a_quoted_field_may_span_lines(tmp_path, block):
    content = b'1,"two\nlines\r\n\n"\r\n2,x\n'
    spec = ReadSpec(Format.CSV, csv=CsvSpec(columns=("a", "b")))

    found = read(tmp_path, content, spec, block_bytes=block)

    assert [json.loads(record) for record in found.records] == [
        {"a": "1", "b": "two\nlines\r\n\n"},
        {"a": "2", "b": "x"},
    ]
    assert found.numbers == [1, 5]
    assert found.raws == [b'1,"two\nlines\r\n\n"', b"2,x"]


@pytest.mark.parametrize("block", [1, 5, 4 * MIB])
@pytest.mark.parametrize(
    ("content", "bad", "good"),
    [
        (b'1,"stray\n2,x\n3,y', [1], [2, 3]),
        (b'1,"stray\n2,"x"\n3,y\n', [1], [2, 3]),
        (b'1,"a"b\n2,x\n', [1], [2]),
        (b'1,x\n2,"', [2], [1]),
        (b'1,"\xff\n2,x\n', [1], [2]),
        (b'1,"a\n\xff\n2,x\n', [1, 2], [3]),
    ],
)
def test_a_stray_quote_costs_one_line(tmp_path, content, bad, good, block):
    spec = ReadSpec(Format.CSV, csv=CsvSpec(columns=("a", "b")))

    found = read(tmp_path, content, spec, block_bytes=block)

    lines = content.split(b"\n")
    assert whole(found.rejected) == {number: lines[number - 1] for number in bad}
    assert dict(zip(found.numbers, found.raws, strict=True)) == {number: lines[number - 1] for number in good}
    assert found.count == len(bad) + len(good)


def test_a_quote_within_a_field_is_the_fields(tmp_path):
    assert json.loads(rows(tmp_path, b'5" disk,b\n', "a", "b").records[0]) == {"a": '5" disk', "b": "b"}


def test_without_quotes_a_quote_is_a_character(tmp_path):
    assert json.loads(rows(tmp_path, b'"a\tb"\n', "x", "y", delimiter="\t", quote=None).records[0]) == {
        "x": '"a',
        "y": 'b"',
    }


def test_rows_in_another_encoding_keep_their_bytes(tmp_path):
    spec = ReadSpec(Format.CSV, "cp1252", csv=CsvSpec(columns=("a", "b")))

    found = read(tmp_path, b"1,\x80\n\x81\n", spec)

    assert found.records == ['{"a":"1","b":"€"}'.encode()]
    assert found.raws == [b"1,\x80"]
    assert whole(found.rejected) == {2: b"\x81"}


cells = st.text('a", \n\r;é', max_size=6)


@on_disk
@given(
    table=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=8),
    delimiter=st.sampled_from([",", " ", "|"]),
    block=st.integers(1, 60),
)
def test_what_is_written_as_csv_is_read(tmp_path, table, delimiter, block):
    content = "".join(
        delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in table
    ).encode()
    spec = ReadSpec(Format.CSV, csv=CsvSpec(columns=("a", "b", "c", "d"), delimiter=delimiter))

    found = read(tmp_path, content, spec, block_bytes=block)

    assert [list(json.loads(record).values()) for record in found.records] == table
    assert b"\r\n".join(found.raws) + b"\r\n" * bool(table) == content


@on_disk
@given(content=st.text('a",\n\r', max_size=60).map(str.encode), block=st.integers(1, 40))
def test_every_line_of_csv_is_in_a_row_or_rejected(tmp_path, content, block):
    spec = ReadSpec(Format.CSV, csv=CsvSpec(columns=("a", "b")))

    found = read(tmp_path, content, spec, block_bytes=block)

    parts = dict(zip(found.numbers, found.raws, strict=True)) | whole(found.rejected)
    lines = {}
    for number, raw in parts.items():
        *before, last = raw.split(b"\n")
        lines |= {number + at: line.removesuffix(b"\r") for at, line in enumerate(before)} | {
            number + len(before): last
        }
    wanted = {n: line.removesuffix(b"\r") for n, line in enumerate(content.split(b"\n"), 1)}
    assert {n: line for n, line in lines.items() if line.strip()} == {
        n: line for n, line in wanted.items() if line.strip()
    }
    assert found.records == read(tmp_path, content, spec).records


@pytest.mark.parametrize(
    "how",
    [
        {"delimiter": ";;", "columns": ("a",)},
        {"delimiter": "é", "columns": ("a",)},
        {"delimiter": "\n", "columns": ("a",)},
        {"quote": ",", "columns": ("a",)},
        {"columns": ("a", "a")},
        {"columns": ()},
        {},
    ],
)
def test_csv_that_makes_no_sense_is_refused(how):
    with pytest.raises(ReadSpecInvalid, match="csv"):
        CsvSpec(**how)


# Parquet

PARQUET = ReadSpec(Format.PARQUET)


@pytest.fixture(scope="module")
def pa():
    pytest.importorskip("pyarrow.parquet")
    import pyarrow

    return pyarrow


class TestParquet:
    """Rows."""

    def stored(self, pa, table, **options) -> bytes:
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        return buffer.getvalue()

    def test_a_row_becomes_an_object(self, pa, tmp_path):
        moment = datetime(2024, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
        table = pa.table(
            {
                "text": ["é", None],
                "whole": pa.array([2**63 - 1, None], pa.int64()),
                "number": [1.5, float("nan")],
                "flag": [True, None],
                "bytes": [b"\0\xff", None],
                "decimal": [Decimal("1.50"), None],
                "date": [moment.date(), None],
                "ns": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
                "us": pa.array([moment, None], pa.timestamp("us", tz="Europe/Paris")),
                "s": pa.array([-1, None], pa.timestamp("s")),
                "far": pa.array([2**50, None], pa.timestamp("s")),
                "lasts": pa.array([timedelta(seconds=2), None], pa.duration("ms")),
                "list": pa.array([[b"\1", None], None], pa.list_(pa.binary())),
                "struct": pa.array(
                    [{"at": moment, "no": None}, None],
                    pa.struct([("at", pa.timestamp("ms", tz="UTC")), ("no", pa.int8())]),
                ),
                "map": pa.array([[("k", moment)], None], pa.map_(pa.string(), pa.timestamp("s"))),
                "dictionary": pa.array(["x", None]).dictionary_encode(),
            }
        )

        found = read(tmp_path, self.stored(pa, table), PARQUET)

        assert json.loads(found.records[0]) == {
            "text": "é",
            "whole": 2**63 - 1,
            "number": 1.5,
            "flag": True,
            "bytes": "AP8=",
            "decimal": "1.50",
            "date": "2024-02-03",
            "ns": "2023-11-14T22:13:20.123456789Z",
            "us": "2024-02-03T04:05:06.000789Z",
            "s": "1969-12-31T23:59:59.000Z",
            "far": f"{2**50 * 1000} ms since 1970",
            "lasts": 2000,
            "list": ["AQ==", None],
            "struct": {"at": "2024-02-03T04:05:06.000Z"},
            "map": {"k": "2024-02-03T04:05:06.000Z"},
            "dictionary": "x",
        }
        assert json.loads(found.records[1]) == {"number": "NaN"}
        assert found.numbers == [1, 2]
        assert found.chunks[0].offsets is None

    def test_row_groups_follow_each_other(self, pa, tmp_path):
        found = read(
            tmp_path, self.stored(pa, pa.table({"n": range(1000)}), row_group_size=70), PARQUET, chunk_records=99
        )

        assert [json.loads(record)["n"] for record in found.records] == list(range(1000))
        assert found.numbers == list(range(1, 1001))
        assert max(chunk.count for chunk in found.chunks) <= 99

    def test_no_rows_give_no_chunk(self, pa, tmp_path):
        assert read(tmp_path, self.stored(pa, pa.table({"n": pa.array([], pa.int64())})), PARQUET).chunks == []
        assert read(tmp_path, b"", PARQUET).chunks == []

    @pytest.mark.parametrize("damage", ["cut", "other"])
    def test_a_file_that_is_none_is_rejected_with_its_bytes(self, pa, tmp_path, damage):
        content = self.stored(pa, pa.table({"n": range(1000)}))[:-5] if damage == "cut" else b"PAR1 no" * MIB

        found = read(tmp_path, content, PARQUET)

        assert found.records == []
        assert found.reasons == ["not_parquet"]
        assert whole(found.rejected) == {1: content}
        assert max(len(rejected.raw) for rejected in found.rejected) <= MIB

    def test_a_damaged_row_group_is_rejected_and_no_other(self, pa, tmp_path):
        import pyarrow.parquet as pq

        options = {"row_group_size": 100, "compression": "zstd", "use_dictionary": False}
        content = bytearray(self.stored(pa, pa.table({"t": [f"text {n}" for n in range(300)]}), **options))
        column = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(0)
        start, size = column.data_page_offset, column.total_compressed_size
        content[start + size // 2 : start + size] = b"\xff" * (size - size // 2)

        found = read(tmp_path, bytes(content), PARQUET)

        assert found.numbers == [*range(1, 101), *range(201, 301)]
        assert found.reasons == ["not_parquet"]
        assert whole(found.rejected) == {101: bytes(content[start : start + size])}
        assert "rows 101 to 200" in found.rejected[0].detail

    def test_a_long_row_is_rejected_in_pieces(self, pa, tmp_path):
        table = pa.table({"t": ["a", "b" * 3 * MIB, "c"]})

        found = read(tmp_path, self.stored(pa, table), ReadSpec(Format.PARQUET, max_record_bytes=2 * MIB))

        assert found.numbers == [1, 3]
        assert json.loads(whole(found.rejected)[2])["t"] == "b" * 3 * MIB

    def test_columns_of_one_name_are_rejected(self, pa, tmp_path):
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])

        assert read(tmp_path, self.stored(pa, table), PARQUET).reasons == ["not_parquet"]
