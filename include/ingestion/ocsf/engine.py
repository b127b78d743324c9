"""Runs a compiled source over the objects of a batch in DuckDB: chunk by chunk, so that memory is the same for any size.

A chunk's records go through two SQL steps (see `compile`); Python sees columns, never an event. What is wrong with a record sends it to the
dead letters with its reason; every record that was read is written or set aside, and the counts prove it.
"""

from __future__ import annotations

import gzip
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.ingestion.dead_letters import DeadLetter, line_of
from include.ingestion.ocsf.compile import KindPlan, Plan, SourceRules, compile_source
from include.ingestion.ocsf.dialect import DuckDb
from include.ingestion.ocsf.language import load_mapping
from include.ingestion.ocsf.parquet import DAY_MS, Output, PartitionedWriter, assemble, split
from include.ingestion.ocsf.shapes import Found, look, rest_columns
from include.ingestion.places import ACCOUNT, REGION
from include.ingestion.reading import Format, ReadSpec, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

    from include.ingestion.reading import Rejected
    from include.ingestion.sources import Source

CHUNK_RECORDS: Final = 120_000
"""What DuckDB keeps together as a row group; a chunk has no more."""
CHUNK_BYTES: Final = 128 << 20
MEMORY_LIMIT: Final = "2GB"
"""DuckDB's own bound; beyond it a step spills to the work folder."""
RAW_BYTES: Final = 1 << 20
"""Raw bytes in one dead letter; a longer record takes several, its pieces."""


@dataclass(frozen=True)
class InputObject:
    """One object of the batch, fetched.

    Attributes:
        path: local file.
        bucket: where it came from.
        key: likewise.
        version_id: likewise; none in a bucket without versions.
        etag: likewise.
        account: told by its key; none where the event tells.
        region: likewise.
        replayed: whether it holds raw records of dead letters, one after the other, whatever the source's objects are like.
    """

    path: Path
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    account: str | None
    region: str | None
    replayed: bool = False


@dataclass
class Counts:
    """What became of the records.

    Attributes:
        read: records met.
        written: events in the outputs.
        reasons: records set aside, by code.
        classes: events written, by OCSF class.
        by_object: read, written, set aside of each object, in its order.
    """

    read: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    by_object: list[list[int]] = field(default_factory=list)

    @property
    def set_aside(self) -> int:
        """Records in the dead letters."""
        return sum(self.reasons.values())


def rules_of(source: Source) -> SourceRules:
    """What the compiler needs of a source."""

    def milliseconds(day: date) -> int:
        return (day.toordinal() - 719_163) * DAY_MS

    return SourceRules(
        version=source.ocsf_version,
        nested=source.nested,
        account=source.account_id.path,
        region=source.region.path,
        keep_unmapped=source.keep_unmapped,
        earliest=milliseconds(source.limits.earliest),
        latest=milliseconds(source.limits.latest),
    )


class DeadLetterFile:
    """The records of a batch that were set aside; the file is there once there is one."""

    def __init__(self, path: Path, source: str, batch: str, digest: str) -> None:
        self.path = path
        self.records = 0
        self._told = (source, batch, digest)
        self._file: gzip.GzipFile | None = None

    def add(self, item: InputObject, number: int, offset: int | None, code: str, detail: str, raw: bytes) -> None:
        """Write one, in pieces if it is long."""
        pieces = [raw[start : start + RAW_BYTES] for start in range(0, len(raw), RAW_BYTES)] or [b""]
        for place, part in enumerate(pieces, start=1):
            self.add_piece(item, number, offset, code, detail, part, place, len(pieces))

    def add_piece(
        self,
        item: InputObject,
        number: int,
        offset: int | None,
        code: str,
        detail: str,
        raw: bytes,
        piece: int,
        pieces: int,
    ) -> None:
        """Write one piece of one; ``pieces`` may be 0 in all but the last."""
        if self._file is None:
            # No time and no name in it: the same batch gives the same bytes.
            self._file = gzip.GzipFile(filename="", fileobj=self.path.open("wb"), mode="wb", compresslevel=6, mtime=0)
        source, batch, digest = self._told
        letter = DeadLetter(
            source,
            item.bucket,
            item.key,
            item.version_id,
            item.etag or "",
            number,
            offset,
            code,
            detail,
            raw,
            0,
            batch,
            digest,
            piece,
            pieces,
        )
        self._file.write(line_of(letter))
        self.records += letter.last

    def close(self) -> list[dict[str, Any]]:
        """The file that was written, if any."""
        if self._file is None:
            return []
        raw = self._file.fileobj
        self._file.close()
        raw.close()  # type: ignore[union-attr]
        return [{"path": str(self.path), "records": self.records}]


class Engine:
    """One source's plan and the DuckDB that runs it."""

    def __init__(self, source: Source, *, threads: int = 1, work: Path | None = None) -> None:
        self.source = source
        self.sql = DuckDb()
        self.plan: Plan = compile_source(load_mapping(source.mapping_file), rules_of(source), self.sql)
        self.connection = duckdb.connect(config={"threads": threads, "memory_limit": MEMORY_LIMIT})
        # Steps are nested selects so that a text is worked out once; merging them again would undo that.
        self.connection.execute("SET disabled_optimizers = 'projection_pullup,common_subexpressions'")
        self.connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        if work is not None:
            self.connection.execute(f"SET temp_directory = {self.sql.text(str(work / 'duckdb'))}")
        self.connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    def run(
        self,
        objects: Sequence[InputObject],
        out: Path,
        *,
        batch: str,
        digest: str,
        region: str | None,
        account: str | None,
        prefix: str = "events",
    ) -> tuple[Counts, list[Output], list[dict[str, Any]]]:
        """Map every record of the objects into ``out``.

        Args:
            objects: of one batch.
            out: folder for Parquet files and dead letters.
            batch: for the dead letters.
            digest: of the mapping, for the dead letters.
            region: where nothing else tells the event's; none sets such an event aside.
            account: likewise.
            prefix: of file names.

        Returns:
            counts, outputs, dead-letter files.

        Raises:
            RuntimeError: the counts don't add up; nothing of ``out`` may be used.
        """
        run = _Run(
            self,
            objects,
            PartitionedWriter(out, prefix),
            DeadLetterFile(out / f"{prefix}-dead-letters.jsonl.gz", self.source.name, batch, digest),
            Counts(by_object=[[0, 0, 0] for _ in objects]),
            region,
            account,
        )
        for place, item in enumerate(objects):
            run.read(place, item)
        run.flush()
        outputs, letters = run.writer.close(), run.letters.close()
        counts = run.counts
        rows = sum(output.rows for output in outputs)
        if not counts.read == rows + counts.set_aside == rows + run.letters.records or rows != counts.written:
            raise RuntimeError(
                f"batch {batch}: expected read = written + set aside, found {counts.read} read, {rows} written "
                f"({counts.written} counted), {counts.set_aside} set aside ({run.letters.records} in dead letters); "
                "nothing of it is used; this is a fault of the engine, report it with the batch's objects"
            )
        return counts, outputs, letters


@dataclass
class _Run:
    engine: Engine
    objects: Sequence[InputObject]
    writer: PartitionedWriter
    letters: DeadLetterFile
    counts: Counts
    region: str | None
    account: str | None
    _records: list[bytes] = field(default_factory=list)
    _raws: list[bytes] = field(default_factory=list)
    _offsets: list[int | None] = field(default_factory=list)
    _numbers: list[Any] = field(default_factory=list)
    _places: list[tuple[int, int]] = field(default_factory=list)
    _bytes: int = 0
    with_raw: bool = False

    def read(self, place: int, item: InputObject) -> None:
        """Collect the records of one object; small objects share a chunk."""
        spec = self.engine.source.read_spec
        for chunk in read_records(
            item.path,
            replayed_spec(spec) if item.replayed else spec,
            chunk_records=CHUNK_RECORDS,
            chunk_bytes=CHUNK_BYTES,
        ):
            for rejected in chunk.rejected:
                self._reject(place, item, rejected)
            records = len(chunk.records)
            if not records:
                continue
            size = sum(map(len, chunk.records))
            if self._records and (len(self._records) + records > CHUNK_RECORDS or self._bytes + size > CHUNK_BYTES):
                self.flush()
            self._records += chunk.records
            self._raws += chunk.raws if chunk.raws is not None else chunk.records
            self._offsets += chunk.offsets if chunk.offsets is not None else [None] * records
            self._numbers.append(np.asarray(chunk.numbers, dtype=np.int64))
            self._places.append((place, records))
            self._bytes += size
            self.counts.read += records
            self.counts.by_object[place][0] += records

    def _reject(self, place: int, item: InputObject, rejected: Rejected) -> None:
        self.letters.add_piece(
            item,
            rejected.number,
            rejected.offset,
            rejected.reason,
            rejected.detail,
            rejected.raw,
            rejected.piece,
            rejected.pieces,
        )
        if rejected.last:
            self.counts.read += 1
            self.counts.by_object[place][0] += 1
            self._count_aside(place, rejected.reason)

    def _count_aside(self, place: int, code: str) -> None:
        self.counts.reasons[code] += 1
        self.counts.by_object[place][2] += 1

    def flush(self) -> None:
        """Map what was collected."""
        if not self._records:
            return
        places = np.repeat([place for place, _ in self._places], [count for _, count in self._places]).astype(np.int32)
        numbers = np.concatenate(self._numbers)
        chunk = _Chunk(self, self._records, self._raws, self._offsets, numbers, places)
        self._records, self._raws, self._offsets, self._numbers, self._places, self._bytes = [], [], [], [], [], 0
        chunk.map()


class _Chunk:
    def __init__(
        self,
        run: _Run,
        records: list[bytes],
        raws: list[bytes],
        offsets: list[int | None],
        numbers: np.ndarray[Any, Any],
        places: np.ndarray[Any, Any],
    ) -> None:
        self.run = run
        self.engine = run.engine
        self.raws = raws
        self.offsets = offsets
        self.numbers = numbers
        self.places = places
        used = sorted(set(np.unique(places).tolist()))
        index = np.searchsorted(used, places).astype(np.int32)
        self.table = pa.table(
            {
                "n": pa.array(np.arange(len(records), dtype=np.int32)),
                "raw": pa.array(records, pa.string()),
                "account": _told([_fit(run.objects[place].account, ACCOUNT) for place in used], index),
                "region": _told([_fit(run.objects[place].region, REGION) for place in used], index),
            }
        )

    def map(self) -> None:
        """Write or set aside every record of the chunk."""
        connection, plan, sql = self.engine.connection, self.engine.plan, self.engine.sql
        connection.register("incoming", self.table)
        record = sql.is_record("raw")
        # What is valid JSON and begins with a brace is an object.
        wrong = connection.execute(
            f"SELECT n, {record} FROM incoming "
            f"WHERE NOT ({record} AND starts_with(ltrim(raw, ' ' || chr(9) || chr(10) || chr(13)), '{{'))"
        ).fetchall()
        if wrong:
            self.set_aside(
                (n, "not_an_object", "expected a JSON object, found another JSON value")
                if valid
                else (n, "not_json", "expected one JSON value as RFC 8259 has it, found something else")
                for n, valid in wrong
            )
            good = np.ones(self.table.num_rows, dtype=bool)
            good[[n for n, _ in wrong]] = False
            connection.register("chunk", self.table.filter(pa.array(good)))
        else:
            connection.register("chunk", self.table)
        run = self.run
        defaults = ", ".join(
            f"coalesce({name}, {sql.text(default) if default else 'NULL'}) AS {name}"
            for name, default in (("account", run.account), ("region", run.region))
        )
        self.parsed = f"REPLACE ({defaults}) FROM ({plan.parsed}) s"
        self._parse()
        columns = ("kind", *plan.shape_columns)
        shapes = [dict(zip(columns, row, strict=True)) for row in connection.execute(plan.shapes).fetchall()]
        by_plan: dict[str, list[dict[str, Any]]] = {}
        for shape in shapes:
            kind = plan.kind_of(shape["kind"])
            by_plan.setdefault(kind.value if kind else "", []).append(shape)
        for value in sorted(by_plan):
            if value:
                self._map_kind(plan.kinds[value], by_plan[value])
            else:
                self._without_kind()
        connection.unregister("incoming")
        connection.unregister("chunk")

    def _parse(self) -> None:
        # The records themselves are half of a chunk's bytes, and in most logs the mapping leaves nothing over.
        without = "" if self.engine.plan.needs_raw or self.run.with_raw else "EXCLUDE (raw)"
        self.engine.connection.execute(f"CREATE OR REPLACE TEMP TABLE parsed AS SELECT * {without} {self.parsed}")

    def _with_raw(self) -> None:
        """Put the records into ``parsed`` after all; in the chunks to come they are there at once."""
        if self.run.with_raw or self.engine.plan.needs_raw:
            return
        self.run.with_raw = True
        self.engine.connection.execute(
            "CREATE OR REPLACE TEMP TABLE parsed AS SELECT parsed.*, chunk.raw FROM parsed POSITIONAL JOIN chunk"
        )

    def _without_kind(self) -> None:
        known = [self.engine.sql.text(value) for value in self.engine.plan.kinds]
        unknown = f" OR kind NOT IN ({', '.join(known)})" if "*" not in self.engine.plan.kinds else ""
        rows = self.engine.connection.execute(
            f"SELECT n, left(kind, 80) FROM parsed WHERE kind IS NULL{unknown}"
        ).fetchall()
        self.set_aside(
            (n, "no_kind", "expected a value in the mapping's matched_field, found none")
            if kind is None
            else (n, "unmapped_kind", f"expected a kind of event that the mapping has, found {kind}")
            for n, kind in rows
        )

    def _map_kind(self, kind: KindPlan, shapes: list[dict[str, Any]]) -> None:
        sql, plan, connection = self.engine.sql, self.engine.plan, self.engine.connection
        known = [sql.text(value) for value in plan.kinds if value != "*"]
        if kind.value != "*":
            where = f"kind = {sql.text(kind.value)}"
        else:
            where = f"kind IS NOT NULL AND kind NOT IN ({', '.join(known)})" if known else "kind IS NOT NULL"
        found = [(shape, look(plan, kind, shape)) for shape in shapes]
        query, extra = self._select(kind, found, f"FROM parsed WHERE {where}")
        with (
            warnings.catch_warnings()
        ):  # the copy it warns of costs less than planning the query twice, as connection.sql does
            warnings.simplefilter("ignore", UserWarning)
            table: Any = connection.execute(query).to_arrow_table()
        if any(one.repeated for _, one in found):
            table = self._without_repeats(kind, where, table)
        problems = table.column("problem")
        if problems.null_count < table.num_rows:
            bad = table.filter(problems.is_valid())
            self.set_aside(
                (n, *said.split("|", 1))
                for n, said in zip(bad.column("n").to_pylist(), bad.column("problem").to_pylist(), strict=True)
            )
            table = table.filter(problems.is_null())
        if not table.num_rows:
            return
        run = self.run
        run.counts.written += table.num_rows
        run.counts.classes[kind.class_name] += table.num_rows
        written = np.bincount(self.places[table.column("n").to_numpy()], minlength=len(run.objects))
        for place in np.flatnonzero(written):
            run.counts.by_object[place][1] += int(written[place])
        regions = table.column("region")
        events = assemble(plan.layouts[kind.class_name], kind, table, extra)
        for partition, part in split(kind.class_name, events, table.column("account"), regions):
            run.writer.add(partition, part)

    def _select(self, kind: KindPlan, found: list[tuple[dict[str, Any], Found]], chosen: str) -> tuple[str, list[str]]:
        """The SQL for records of one kind, and the keys of ``unmapped`` that its columns after those of the plan have."""
        keep = self.engine.source.keep_unmapped
        if not keep or not any(one.left for _, one in found):
            return kind.sql.replace("FROM chosen", chosen), []
        self._with_raw()
        columns = rest_columns(kind, found, self.engine.sql)
        if columns is None:
            return kind.sql_rest.replace("FROM chosen", chosen), []
        told = "".join(f"{value} AS x{place}, " for place, (_, value) in enumerate(columns[0]))
        sql = kind.sql[: kind.rest_at] + told + kind.sql[kind.rest_at :]
        structs = ", ".join(columns[1])
        return sql.replace("FROM chosen", f"FROM (SELECT *, {structs} {chosen}) s"), [key for key, _ in columns[0]]

    def _without_repeats(self, kind: KindPlan, where: str, table: pa.Table) -> pa.Table:
        """Set aside the records in which a key stands twice."""
        plan = self.engine.plan
        columns = ("kind", *plan.shape_columns)
        rows = self.engine.connection.execute(f"SELECT n, {', '.join(columns)} FROM parsed WHERE {where}").fetchall()
        twice = [row[0] for row in rows if look(plan, kind, dict(zip(columns, row[1:], strict=True))).repeated]
        self.set_aside(
            (n, "duplicate_key", "expected every key once, found one twice in an object that the mapping reads")
            for n in twice
        )
        return table.filter(pc.invert(pc.is_in(table.column("n"), pa.array(twice, pa.int32()))))

    def set_aside(self, records: Iterable[tuple[int, str, str]]) -> None:
        """Send records of the chunk to the dead letters."""
        run = self.run
        for n, code, detail in records:
            place = int(self.places[n])
            run.letters.add(run.objects[place], int(self.numbers[n]), self.offsets[n], code, detail, self.raws[n])
            run._count_aside(place, code)


def _told(values: list[str | None], index: np.ndarray[Any, Any]) -> pa.Array:
    """A text for each record, by the object it is of."""
    return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(values, pa.string())).dictionary_decode()


def _fit(value: str | None, pattern: str) -> str | None:
    """An account or region that may stand in a path of the lake; empty if it may not, which sets its events aside."""
    return value if value is None or re.fullmatch(pattern, value) else ""


def replayed_spec(spec: ReadSpec) -> ReadSpec:
    """How an object of raw records is read: the records themselves, without what stood around them."""
    if spec.format in (Format.JSON, Format.PARQUET):
        return replace(spec, format=Format.JSON, records_at=None)
    return replace(spec, csv=replace(spec.csv, header=False)) if spec.csv is not None and spec.csv.columns else spec
