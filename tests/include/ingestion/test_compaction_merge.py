"""The merge: an external sort of Parquet files, compared with a sort in memory. Needs pyarrow, and nothing of AWS."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.ingestion import compaction
from include.ingestion.compaction import MergeFailed, MergeRequest, SchemasDiffer, main, merge
from include.ingestion.exceptions import CountsDiffer

ROOT = Path(__file__).resolve().parents[3]
START = 1_767_225_600_000
KIND = pa.schema(
    [
        ("time", pa.int64()),
        ("uid", pa.string()),
        ("src", pa.struct([("ip", pa.string()), ("port", pa.int32()), ("tags", pa.list_(pa.string()))])),
        ("observables", pa.list_(pa.struct([("name", pa.string()), ("type_id", pa.int32())]))),
        ("unmapped", pa.map_(pa.string(), pa.string())),
        ("score", pa.float64()),
    ]
)


def event(rnd, time, uid):
    def maybe(make):
        return make() if rnd.random() < 0.7 else None

    return {
        "time": time,
        "uid": uid,
        "src": maybe(
            lambda: {
                "ip": maybe(lambda: f"10.0.0.{rnd.randrange(9)}"),
                "port": maybe(lambda: rnd.randrange(65536)),
                "tags": maybe(lambda: [maybe(lambda: "t") for _ in range(rnd.randrange(3))]),
            }
        ),
        "observables": maybe(
            lambda: [maybe(lambda: {"name": maybe(lambda: "n"), "type_id": 1}) for _ in range(rnd.randrange(4))]
        ),
        "unmapped": maybe(lambda: [(f"k{n}", maybe(lambda: "v")) for n in range(rnd.randrange(3))]),
        "score": maybe(rnd.random),
    }


@pytest.fixture
def write(tmp_path):
    """Writes a file of events."""
    made = []

    def write(events, schema=KIND, **options):
        path = tmp_path / f"in-{len(made):03d}.parquet"
        pq.write_table(pa.Table.from_pylist(events, schema=schema), path, store_schema=False, **options)
        made.append(path)
        return path

    return write


@pytest.fixture
def merged(tmp_path):
    """Merges files; gives the events of the output and the result."""

    def merged(*inputs, memory_mib=256):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        request = MergeRequest(tuple(inputs), tmp_path / "merged.parquet", work, memory_mib)
        result = merge(request)
        with pq.ParquetFile(request.output) as file:
            return file.read().to_pylist(), result

    return merged


def files(write, rnd, number, rows, ordered=True):
    paths, events = [], []
    for n in range(number):
        some = [event(rnd, START + rnd.randrange(200), f"{n}-{row}") for row in range(rnd.randrange(20, rows))]
        some.sort(key=lambda one: one["time"] if ordered else one["uid"])
        paths.append(write(some, row_group_size=rnd.choice([1, 7, 1000])))
        events += some
    return paths, events


def by_uid(events):
    return sorted(events, key=lambda one: one["uid"])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spill", [False, True])
def test_all_events_are_there_once_in_the_order_of_time(write, merged, monkeypatch, seed, spill):
    rnd = random.Random(seed)
    paths, events = files(write, rnd, rnd.randrange(3, 12), 300, ordered=seed % 2 == 0)
    spilled = []
    if spill:
        monkeypatch.setattr(compaction, "CHUNK_BYTES", 500)
        real = compaction._Merging._spill
        monkeypatch.setattr(
            compaction._Merging, "_spill", lambda self, *given: spilled.append(given[1]) or real(self, *given)
        )
        monkeypatch.setattr(compaction._Merging, "_batch_rows", lambda *_: 10)
        original = compaction._Merging.__init__

        def small(self, request):
            original(self, request)
            self._budget = 5_000

        monkeypatch.setattr(compaction._Merging, "__init__", small)
    found, result = merged(*paths)

    assert (len(spilled) > 2) == spill
    assert [one["time"] for one in found] == sorted(one["time"] for one in events)
    assert by_uid(found) == by_uid(events)
    assert result.rows == len(events) == sum(result.input_rows)
    assert (result.time_min, result.time_max) == (found[0]["time"], found[-1]["time"])


def test_events_of_one_time_stay_in_the_order_of_their_files(write, merged):
    paths = [write([event(random.Random(1), START - row % 2, f"{n}-{row}") for row in range(50)]) for n in range(3)]
    found, _ = merged(*paths)
    order = [(n, row) for odd in (1, 0) for n in range(3) for row in range(50) if row % 2 == odd]
    assert [one["uid"] for one in found] == [f"{n}-{row}" for n, row in order]


def test_the_same_files_give_the_same_bytes(write, merged, tmp_path):
    paths, _ = files(write, random.Random(3), 5, 50)
    merged(*paths)
    first = (tmp_path / "merged.parquet").read_bytes()
    merged(*paths)
    assert (tmp_path / "merged.parquet").read_bytes() == first


# Schemas


def test_columns_and_fields_that_a_file_lacks_are_null_in_its_events(write, merged):
    one = pa.schema([("time", pa.int64()), ("s", pa.struct([("a", pa.int32())])), ("old", pa.string())])
    two = pa.schema(
        [
            ("new", pa.list_(pa.struct([("y", pa.string())]))),
            ("time", pa.int64()),
            ("s", pa.struct([("b", pa.struct([("c", pa.string())])), ("a", pa.int64())])),
        ]
    )
    three = pa.schema([("time", pa.int64()), ("new", pa.list_(pa.struct([("x", pa.string()), ("y", pa.string())])))])
    found, _ = merged(
        write([{"time": 3, "s": {"a": 1}, "old": "o"}], one),
        write([{"time": 1, "s": {"a": 2**40, "b": {"c": "c"}}, "new": [{"y": "y"}]}], two),
        write([{"time": 2, "new": [{"x": "x"}]}], three),
    )
    assert found == [
        {"time": 1, "s": {"a": 2**40, "b": {"c": "c"}}, "old": None, "new": [{"y": "y", "x": None}]},
        {"time": 2, "s": None, "old": None, "new": [{"y": None, "x": "x"}]},
        {"time": 3, "s": {"a": 1, "b": None}, "old": "o", "new": None},
    ]


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        (pa.int64(), pa.string(), "column v: .*found int64 and string"),
        (pa.struct([("a", pa.int32())]), pa.string(), "column v: "),
        (pa.struct([("a", pa.int32())]), pa.struct([("a", pa.bool_())]), r"column v\.a: .*int32 and bool"),
        (pa.list_(pa.int32()), pa.list_(pa.string()), r"column v\[\]: "),
        (pa.int64(), pa.float64(), "column v: "),
    ],
)
def test_types_that_do_not_fit_together_are_refused(write, merged, one, two, told):
    paths = [write([{"time": 1}], pa.schema([("time", pa.int64()), ("v", kind)])) for kind in (one, two)]
    with pytest.raises(SchemasDiffer, match=told):
        merged(*paths)


def test_the_engines_own_files_keep_their_types(tmp_path, merged):
    from include.ingestion.ocsf import parquet

    layout = {"time": "ms", "ports": ["int32"], "src": {"ip": "text", "up": "bool"}}
    schema = parquet.class_schema(layout)
    paths = []
    for n in range(2):
        table = pa.Table.from_pylist(
            [{"time": START + n, "ports": [n], "src": {"ip": "1", "up": True}, "unmapped": [("k", "v")]}], schema=schema
        )
        paths.append(tmp_path / f"e{n}.parquet")
        parquet.write_events(table, paths[-1])
    merged(*paths)
    kinds = [pq.read_schema(path) for path in (paths[0], tmp_path / "merged.parquet")]
    assert kinds[0] == kinds[1]


# What Security Lake wants


def test_pages_are_small_and_compressed_with_zstd(write, tmp_path, merged):
    schema = pa.schema([("time", pa.int64()), ("raw", pa.string())])
    rnd = random.Random(5)
    paths = [
        write([{"time": n, "raw": rnd.randbytes(500).hex()} for n in range(4000)], schema, data_page_size=1 << 26)
        for _ in range(2)
    ]
    merged(*paths)
    with pq.ParquetFile(tmp_path / "merged.parquet") as file:
        column = file.metadata.row_group(0).column(1)
        assert column.compression == "ZSTD"
        assert column.path_in_schema == "raw"
    assert max(page_sizes(tmp_path / "merged.parquet")) <= 1 << 20
    assert max(page_sizes(paths[0])) > 1 << 20  # else the measure would be blind


def page_sizes(path):
    """Uncompressed bytes of every page of a file, by reading the page headers one after the other."""
    data = path.read_bytes()
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        chunks = [group.column(n) for group in groups for n in range(group.num_columns)]
    sizes = []
    for chunk in chunks:
        at = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        end = at + chunk.total_compressed_size
        while at < end:
            header, at = structure(data, at)
            sizes.append(header[2])
            at += header[3]
        assert at == end
    return sizes


def structure(data, at):
    """The numbers in a structure of Thrift's compact protocol, by their fields, and where it ends."""
    fields, number = {}, 0
    while data[at]:
        delta, kind = data[at] >> 4, data[at] & 15
        at += 1
        if not delta:
            delta, at = varint(data, at)
        number += delta
        if kind in (4, 5, 6):
            value, at = varint(data, at)
            fields[number] = (value >> 1) ^ -(value & 1)
        elif kind == 8:
            length, at = varint(data, at)
            at += length
        elif kind == 12:
            _, at = structure(data, at)
        else:
            at += {1: 0, 2: 0, 3: 1, 7: 8}[kind]
    return fields, at + 1


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def test_large_results_have_row_groups_of_a_bounded_size(write, tmp_path, merged, monkeypatch):
    from include.ingestion.ocsf import parquet

    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 50_000)
    schema = pa.schema([("time", pa.int64()), ("raw", pa.string())])
    paths = [write([{"time": n, "raw": "x" * 100} for n in range(3000)], schema) for _ in range(2)]
    merged(*paths)
    with pq.ParquetFile(tmp_path / "merged.parquet") as file:
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert len(sizes) > 10
    assert max(sizes) < 600


def test_a_row_group_that_is_too_large_is_refused(write, merged, monkeypatch):
    monkeypatch.setattr(compaction, "ROW_GROUP_LIMIT", 10)
    with pytest.raises(CountsDiffer, match="row groups of at most 10 bytes"):
        merged(write([{"time": 1}]), write([{"time": 2}]))


MEASURED = """
import resource, sys
from pathlib import Path
from include.ingestion.compaction import MergeRequest, merge
import pyarrow, pyarrow.parquet, numpy, include.ingestion.ocsf.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
result = merge(MergeRequest(tuple(sorted(folder.glob("in-*"))), folder / "out", folder, int(sys.argv[2])))
print(result.rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_is_bounded_however_much_there_is(write, tmp_path):
    schema = pa.schema([("time", pa.int64()), ("raw", pa.string()), ("kind", pa.string())])
    for n in range(6):
        # a text that repeats is small in the file and large in memory: 50 MiB each
        write([{"time": row * 6 + n, "raw": f"{row % 50}" * 500, "kind": "k"} for row in range(50_000)], schema)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), "16"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows, mib = map(int, done.stdout.split())
    assert rows == 300_000
    assert mib < 450  # the events are 300 MiB and more; a row group of the output is up to 128 MiB, twice


# What can't be merged


def test_an_event_without_time_is_refused(write, merged):
    with pytest.raises(MergeFailed, match=r"found 1 without in in-001"):
        merged(write([{"time": 1}]), write([{"time": 1}, {"time": None}]))


@pytest.mark.parametrize("kind", [pa.string(), pa.int32(), pa.timestamp("ms")])
def test_a_time_of_another_type_is_refused(write, merged, kind):
    with pytest.raises(MergeFailed, match="a column time of type int64, found"):
        merged(write([{"x": 1}], pa.schema([("x", pa.int32())])), write([{"time": None}], pa.schema([("time", kind)])))


def test_what_is_no_parquet_is_refused(tmp_path, write, merged):
    (tmp_path / "no").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(MergeFailed, match="expected Parquet files"):
        merged(write([{"time": 1}]), tmp_path / "no")


def test_files_without_events_are_refused(write, merged):
    with pytest.raises(MergeFailed, match="expected events in 2 inputs, found none"):
        merged(write([]), write([]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.slice(1), "the same rows"),
        (lambda table: table.set_column(0, "time", pa.array([1, 3], pa.int64())), "the same sum of the times"),
        (lambda table: table.set_column(1, "uid", pa.array(["a", None], pa.string())), "the same values of a column"),
        (lambda table: table.take(pa.array([1, 0])), "in the order of their time"),
    ],
)
def test_an_output_that_is_not_its_inputs_is_refused(write, merged, monkeypatch, change, told):
    real = compaction._Merging._write
    monkeypatch.setattr(
        compaction._Merging,
        "_write",
        lambda self, schema, tables: real(self, schema, [change(table) for table in tables]),
    )
    with pytest.raises(CountsDiffer, match=told):
        merged(write([{"time": 1, "uid": "a"}]), write([{"time": 2, "uid": "b"}]))


# The process


def test_the_process_writes_its_result(write, tmp_path):
    request = MergeRequest((write([{"time": 2}]), write([{"time": 1}])), tmp_path / "out", tmp_path)
    (tmp_path / "request.json").write_text(request.to_json())
    assert MergeRequest.from_json(request.to_json()) == request
    assert main([str(tmp_path / "request.json")]) == 0
    said = json.loads((tmp_path / "result.json").read_text())
    assert (said["rows"], said["input_rows"], said["time_min"], said["time_max"]) == (2, [1, 1], 1, 2)
    assert said["bytes"] == (tmp_path / "out").stat().st_size


def test_the_process_says_why_it_failed(write, tmp_path, capsys):
    request = MergeRequest((write([]),), tmp_path / "out", tmp_path)
    (tmp_path / "request.json").write_text(request.to_json())
    assert main([str(tmp_path / "request.json")]) == 1
    assert capsys.readouterr().err.startswith("MergeFailed: expected events in 1 inputs")
    assert not (tmp_path / "result.json").exists()
