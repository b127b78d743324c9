"""Map a large batch of raw logs to OCSF: the same rows as the engine on a worker gives, on a cluster.

A request (see `include.ingestion.spark_processing`) names the objects and has the source's compiled SQL. Four steps, each of which writes
what
the next one reads:

1. **records**: each object's records, with what the reader tells of them, by the kind of event that they are.
2. **mapped**: per OCSF class, the attributes of each event and what is wrong with it.
3. **events**: those with nothing wrong, a file for each class, region, account and UTC day, or several of about the wanted size;
   ordered by time.
4. **dead letters**: the records that were set aside.

All that ``result.json`` counts is counted in files that tasks have committed, never by accumulators: a task that ran twice counts once.
Anything that doesn't add up ends the job, and there is no result.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.spark.jobs.shared.files import Files
from include.spark.jobs.shared.ocsf_records import RecordReader, detail_of
from include.spark.jobs.shared.output import print_line
from include.spark.jobs.shared.session import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

IN_IMAGE = ("boto3",)
"""Imported only for objects in S3. Objects that are zstd or Parquet need ``zstandard`` or ``pyarrow`` in the image, too."""

RESULT = "result.json"
STAGE = "_stage"
FILE_BYTES = 128 << 20
"""Of a file of events, about."""
RAW_BYTES = 1 << 20
"""Of raw bytes in one line of a dead letter; a longer record takes several."""
LETTERS_OF_FILE = 200_000
KINDS_AT_ONCE = 4
DAY_MS = 86_400_000
FILE = "ocsf_file"
"""Column that says in which file a row goes; no attribute of OCSF has its name."""

NO_KIND, UNMAPPED_KIND, REJECTED, REPEATED = -1, -2, -3, -4
"""In place of a kind."""

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.caseSensitive": "true",
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.legacy.sizeOfNull": "false",
    "spark.sql.json.enablePartialResults": "true",
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "true",
    "spark.sql.sources.partitionOverwriteMode": "static",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.maxPlanStringLength": "1000",
    "spark.sql.debug.maxToStringFields": "10",
}
"""What the plan's SQL and the counts rely on."""
PARQUET = {
    "compression": "zstd",
    "parquet.page.size": str(512 << 10),
    "parquet.dictionary.page.size": str(512 << 10),
    "parquet.page.size.row.check.min": "16",
    "parquet.page.size.row.check.max": "256",
    "parquet.block.size": str(128 << 20),
}
"""As Security Lake wants it: pages of 1 MiB uncompressed at most, and row groups of 256 MB compressed."""

RECORD = """
    n STRUCT<object: INT, number: BIGINT, offset: BIGINT, piece: INT, pieces: INT, original: BINARY, reason: STRING, detail: STRING>,
    raw STRING, account STRING, region STRING,
    read_text STRING, read_first STRING, read_items STRING, read_keys ARRAY<ARRAY<STRING>>,
    read_documents ARRAY<STRUCT<is_object: BOOLEAN, text: STRING>>
"""
"""What the reader gives of a record. ``original`` are its bytes where they are not those of ``raw``: it was rejected, or another
encoding."""


class JobFailed(RuntimeError):
    """The batch is not mapped; there is no result."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a malformed one ends the job with status 2."""
    parser = argparse.ArgumentParser(prog="map_ocsf", description="Raw logs to OCSF", allow_abbrev=False)
    parser.add_argument("--request", required=True, help="URL of the request, JSON")
    return parser.parse_args(arguments)


# --- on the executors ----------------------------------------------------------------------------------------------------------------


def read_object(
    place: int, item: dict[str, Any], spec: dict[str, Any], reader: RecordReader
) -> Iterator[tuple[Any, ...]]:
    """The records of one object, as rows of ``RECORD``."""
    from include.ingestion.reading import CsvSpec, Format, ReadSpec, read_records

    csv = spec["csv"]
    options = dict(
        spec, format=Format(spec["format"]), csv=CsvSpec(**dict(csv, columns=_tuple(csv["columns"]))) if csv else None
    )
    where = (item.get("account"), item.get("region"))
    unread = (None,) * 8
    with tempfile.TemporaryDirectory(prefix="map-ocsf-") as folder:
        path = Path(item["path"]) if item.get("path") else _download(item, Path(folder) / "object")
        for chunk in read_records(path, ReadSpec(**options), chunk_records=10_000, chunk_bytes=16 << 20):
            for one in chunk.rejected:
                rejected = (
                    place,
                    one.number,
                    one.offset,
                    one.piece,
                    one.pieces,
                    bytes(one.raw),
                    one.reason,
                    one.detail,
                )
                yield rejected, *unread
            raws = chunk.raws if chunk.raws is not None else chunk.records
            offsets = chunk.offsets if chunk.offsets is not None else repeat(None)
            for number, offset, record, raw in zip(chunk.numbers, offsets, chunk.records, raws):  # noqa: B905 - Python 3.9
                text = record.decode()
                reason, *facts = reader.read(text)
                if reason:
                    yield (place, number, offset, 1, 1, bytes(raw), reason, detail_of(reason)), *unread
                    continue
                original = None if raw == record else bytes(raw)
                yield (place, number, offset, 1, 1, original, None, None), text, *where, *facts


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)


def _download(item: dict[str, Any], path: Path) -> Path:
    """The object version from S3; the role of the executors reads it."""
    import boto3

    version = {"VersionId": item["version_id"]} if item.get("version_id") else {}
    known = {"IfMatch": item["etag"]} if item.get("etag") else {}
    answer = boto3.client("s3").get_object(Bucket=item["bucket"], Key=item["key"], **version, **known)
    with path.open("wb") as file:
        for block in answer["Body"].iter_chunks(4 << 20):
            file.write(block)
    if path.stat().st_size != answer["ContentLength"]:
        raise JobFailed(
            f"s3://{item['bucket']}/{item['key']}: expected {answer['ContentLength']} bytes, found {path.stat().st_size}; a retry may help"
        )
    return path


# --- on the driver -------------------------------------------------------------------------------------------------------------------


class Job:
    """One request."""

    def __init__(self, session: SparkSession, request: dict[str, Any]) -> None:
        self.session = session
        self.request = request
        self.plan: dict[str, Any] = request["plan"]
        self.objects: list[dict[str, Any]] = request["objects"]
        self.out = str(request["out"]).rstrip("/")
        self.stage = f"{self.out}/{STAGE}"
        self.files = Files(session)
        for name, value in SETTINGS.items():
            session.conf.set(name, value)

    def run(self) -> dict[str, Any]:
        """Carry it out; ``result.json``, which is written last, has what is returned.

        Raises:
            JobFailed: the counts don't add up.
        """
        started = time.monotonic()
        self.files.remove(self.out)
        self._read()
        classes = self._map()
        outputs = self._write_events(classes)
        letters, aside = self._write_letters(classes)
        result = self._result(classes, outputs, letters, aside)
        result["seconds"] = round(time.monotonic() - started, 3)
        self.files.write(f"{self.out}/{RESULT}", json.dumps(result, indent=1))
        self.files.remove(self.stage)
        return result

    # --- records

    def _read(self) -> None:
        session, plan = self.session, self.plan
        spec, replayed = self.request["read"], self.request["read_replayed"]
        levels, documents, items = plan["levels"], plan["documents"], plan["items"]

        def read(numbered: Any) -> Any:
            reader = RecordReader(levels, documents, items)
            for place, item in numbered:
                yield from read_object(place, item, replayed if item.get("replayed") else spec, reader)

        slots = session.sparkContext.defaultParallelism
        slices = max(1, min(len(self.objects), 4 * slots))
        by_size = sorted(enumerate(self.objects), key=lambda one: (-int(one[1]["size"]), one[0]))
        dealt = [one for start in range(slices) for one in by_size[start::slices]]
        rows = session.sparkContext.parallelize(dealt, slices).mapPartitions(read)
        chunk = session.createDataFrame(rows, RECORD, verifySchema=False)
        cases = " ".join(
            f"WHEN kind = {_text(kind['value'])} THEN {at}"
            for at, kind in enumerate(plan["kinds"])
            if kind["value"] != "*"
        )
        other = next((at for at, kind in enumerate(plan["kinds"]) if kind["value"] == "*"), UNMAPPED_KIND)
        kind_at = (
            f"CASE WHEN n.reason IS NOT NULL THEN {REJECTED} WHEN kind IS NULL THEN {NO_KIND} {cases} ELSE {other} END"
        )
        reads = " ".join(
            f"WHEN {at} THEN array({', '.join(map(str, kind['reads']))})" for at, kind in enumerate(plan["kinds"])
        )
        repeated = f"size(twice) > 0 AND coalesce(arrays_overlap(twice, CASE known {reads} END), false)"
        steps = [
            *plan["parsed"],
            ["*", f"{plan['repeated']} AS twice", f"{kind_at} AS known"],
            ["*", f"CASE WHEN {repeated} THEN {REPEATED} ELSE known END AS kind_at"],
        ]
        found = _select(chunk, steps).drop("twice", "known")
        found.write.partitionBy("kind_at").parquet(f"{self.stage}/records", compression="zstd")

    def _records(self) -> DataFrame:
        return self.session.read.parquet(f"{self.stage}/records")

    # --- mapped

    def _map(self) -> list[str]:
        """Writes each class; gives those that there are."""
        records = self._records()
        there = {row.kind_at for row in records.select("kind_at").distinct().collect()}
        with ThreadPoolExecutor(KINDS_AT_ONCE) as pool:
            # Each kind is a query of its own: one of all kinds takes Spark minutes to plan.
            done = [pool.submit(self._map_kind, records, at) for at in sorted(there) if at >= 0]
            for one in done:
                one.result()
        return sorted({self.plan["kinds"][at]["class"] for at in there if at >= 0})

    def _map_kind(self, records: DataFrame, at: int) -> None:
        from pyspark.sql import functions as f

        kind = self.plan["kinds"][at]
        n = "named_struct('object', n.object, 'number', n.number, 'offset', n.offset, 'original', n.original, 'raw', raw)"
        chosen = records.where(f"kind_at = {at}").drop("kind_at").withColumn("n", f.expr(n))
        last = [
            "n.object",
            "n.number",
            "n.offset",
            "substring_index(problem, '|', 1) AS reason",
            "substr(problem, locate('|', problem) + 1) AS detail",
            "CASE WHEN problem IS NOT NULL THEN n.raw END AS raw",
            "CASE WHEN problem IS NOT NULL THEN n.original END AS original",
            "account",
            "region",
            "CASE WHEN problem IS NULL THEN event END AS event",
        ]
        mapped = _select(chosen, [*kind["mapped"], last])
        mapped.write.parquet(f"{self.stage}/mapped/{kind['class']}/{at}", compression="zstd")

    def _class(self, name: str) -> DataFrame:
        kinds = sorted(
            {
                url.rsplit("/", 1)[0]
                for url, _ in self.files.below(f"{self.stage}/mapped/{name}")
                if url.endswith(".parquet")
            }
        )
        return self.session.read.parquet(*kinds)

    # --- events

    def _write_events(self, classes: list[str]) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = []
        for name in classes:
            outputs += self._write_class(name, len(outputs))
        return outputs

    def _write_class(self, name: str, first: int) -> list[dict[str, Any]]:
        from pyspark.sql import functions as f

        events = self._class(name).where("reason IS NULL").withColumn("day", f.expr(f"event.time div {DAY_MS}"))
        keys = ["region", "account", "day"]
        found = sorted(tuple(row) for row in events.groupBy(*keys).count().collect())
        if not found:
            return []
        size = sum(size for url, size in self.files.below(f"{self.stage}/mapped/{name}") if url.endswith(".parquet"))
        rows = sum(count for *_, count in found)
        most = max(1, int(rows * self.request.get("file_bytes", FILE_BYTES) / max(1, size)))
        plans, number = [], first
        for region, account, day, count in found:
            parts = math.ceil(count / most)
            plans.append((region, account, day, number, parts))
            number += parts
        table = self.session.createDataFrame(plans, "region STRING, account STRING, day BIGINT, first INT, parts INT")
        # A record's place decides, so that a second run deals the same: no sample, no order of arrival.
        dealt = f.expr("CAST(first + pmod(xxhash64(object, number), parts) AS INT)")
        events = events.join(f.broadcast(table), keys).withColumn(FILE, dealt)
        folder = f"{self.stage}/events/{name}"
        columns = [f.col(f"event.`{column}`") for column in events.schema["event"].dataType.names]
        (
            events.select(FILE, "object", "number", *columns)
            .repartition(max(1, min(number - first, 4 * self.session.sparkContext.defaultParallelism)), FILE)
            .sortWithinPartitions(FILE, "time", "object", "number")
            .drop("object", "number")
            .write.options(**PARQUET)
            .partitionBy(FILE)
            .parquet(folder)
        )
        read = self.session.read.parquet(folder)
        counted = {
            row[FILE]: row
            for row in read.groupBy(FILE)
            .agg(f.count(f.lit(1)).alias("rows"), f.min("time").alias("first"), f.max("time").alias("last"))
            .collect()
        }
        return self._moved(name, folder, plans, counted)

    def _moved(
        self, name: str, folder: str, plans: list[tuple[Any, ...]], counted: dict[int, Any]
    ) -> list[dict[str, Any]]:
        """Give each file the name that its number makes."""
        by_number: dict[int, list[tuple[str, int]]] = {}
        for url, size in self.files.below(folder):
            if url.endswith(".parquet"):
                number = int(url.rsplit(f"/{FILE}=", 1)[1].split("/")[0])
                by_number.setdefault(number, []).append((url, size))
        if any(len(files) != 1 for files in by_number.values()) or set(by_number) != set(counted):
            raise JobFailed(
                f"{name}: expected one file for each part of a day, found {sorted(by_number.items())[:5]}; report it"
            )
        outputs = []
        for region, account, day, first, parts in plans:
            for number in range(first, first + parts):
                if number not in by_number:  # no record's hash fell on it
                    continue
                [(url, size)] = by_number[number]
                path = f"{self.out}/events-{number:05d}.parquet"
                self.files.move(url, path)
                row = counted[number]
                outputs.append(
                    {
                        "path": path,
                        "class": name,
                        "region": region,
                        "account_id": account,
                        "event_day": time.strftime("%Y%m%d", time.gmtime(day * 86_400)),
                        "part": number,
                        "rows": row.rows,
                        "bytes": size,
                        "time_min": row.first,
                        "time_max": row.last,
                    }
                )
        return outputs

    # --- dead letters

    def _letters(self, classes: list[str]) -> DataFrame:
        """Every record that was set aside: ``object``, ``number``, ``offset``, ``reason``, ``detail``, ``piece``, ``pieces``, ``bytes``."""
        from pyspark.sql import functions as f

        columns = ["object", "number", "offset", "reason", "detail", "piece", "pieces", "raw", "original"]
        records = self._records().where(f.col("kind_at") < 0).select("n.*", "raw", "kind", "kind_at")
        codes = {NO_KIND: "no_kind", UNMAPPED_KIND: "unmapped_kind", REPEATED: "duplicate_key"}
        said = {
            NO_KIND: f.lit("expected a value in the mapping's matched_field, found none"),
            UNMAPPED_KIND: f.expr("concat('expected a kind of event that the mapping has, found ', left(kind, 80))"),
            REPEATED: f.lit("expected every key once, found one twice in an object that the mapping reads"),
        }
        reason, detail = f.col("reason"), f.col("detail")
        for at, code in codes.items():
            reason = f.when(f.col("kind_at") == at, f.lit(code)).otherwise(reason)
            detail = f.when(f.col("kind_at") == at, said[at]).otherwise(detail)
        found = records.withColumn("detail", detail).withColumn("reason", reason).select(*columns)
        for name in classes:
            wrong = self._class(name).where("reason IS NOT NULL")
            found = found.unionByName(
                wrong.withColumn("piece", f.lit(1)).withColumn("pieces", f.lit(1)).select(*columns)
            )
        found = found.withColumn("bytes", f.expr("coalesce(original, encode(raw, 'UTF-8'), X'')"))
        # What the reader rejected is in pieces already; another record is cut here.
        cut = f"CASE WHEN piece = 1 AND pieces = 1 THEN greatest(CAST(ceil(octet_length(bytes) / {RAW_BYTES}) AS INT), 1) ELSE 0 END"
        found = found.withColumn("cuts", f.expr(cut)).withColumn(
            "at", f.expr("explode(sequence(0, greatest(cuts - 1, 0)))")
        )
        return found.select(
            "object",
            "number",
            "offset",
            "reason",
            "detail",
            (f.col("piece") + f.col("at")).alias("piece"),
            f.expr("CASE WHEN cuts > 0 THEN cuts ELSE pieces END").alias("pieces"),
            f.expr(f"CASE WHEN cuts > 1 THEN substr(bytes, at * {RAW_BYTES} + 1, {RAW_BYTES}) ELSE bytes END").alias(
                "bytes"
            ),
        )

    def _write_letters(self, classes: list[str]) -> tuple[list[dict[str, Any]], list[Any]]:
        """The files, and how many records were set aside of each object for each reason."""
        from pyspark.sql import functions as f

        letters = self._letters(classes)
        count = letters.count()
        if not count:
            return [], []
        files = math.ceil(count / LETTERS_OF_FILE)
        request, objects = self.request, self.objects
        places = self.session.createDataFrame(
            [
                (at, item["bucket"], item["key"], item.get("version_id"), item.get("etag") or "")
                for at, item in enumerate(objects)
            ],
            "object INT, bucket STRING, key STRING, version_id STRING, etag STRING",
        )
        raw = f.regexp_replace(f.base64("bytes"), "[\r\n]", "")
        letters = letters.join(f.broadcast(places), "object").withColumn(
            FILE, f.expr(f"CAST(pmod(xxhash64(object, number), {files}) AS INT)")
        )
        line = f.to_json(
            f.struct(
                f.lit(request["source"]).alias("source"),
                "bucket",
                "key",
                "version_id",
                "etag",
                f.col("number").alias("record"),
                "offset",
                "reason",
                "detail",
                raw.alias("raw"),
                f.lit(0).alias("raw_truncated_bytes"),
                f.lit(request["batch"]).alias("batch"),
                f.lit(request["mapping_digest"]).alias("mapping_digest"),
                "piece",
                "pieces",
            ),
            {"ignoreNullFields": "false"},
        )
        folder = f"{self.stage}/letters"
        (
            letters.select(FILE, "object", "number", "piece", line.alias("value"))
            .repartition(min(files, 4 * self.session.sparkContext.defaultParallelism), FILE)
            .sortWithinPartitions(FILE, "object", "number", "piece")
            .select(FILE, "value")
            .write.partitionBy(FILE)
            .text(folder, compression="gzip")
        )
        schema = "key STRING, version_id STRING, reason STRING, piece INT, pieces INT"
        read = (
            self.session.read.schema(f"{schema}, {FILE} INT")
            .option("mode", "FAILFAST")
            .json(folder)
            .where("piece = pieces")
        )
        counted = read.groupBy(FILE, "key", "version_id", "reason").count().collect()
        outputs = []
        for number, (url, _) in enumerate(sorted(one for one in self.files.below(folder) if one[0].endswith(".gz"))):
            path = f"{self.out}/dead-letters-{number:05d}.jsonl.gz"
            file = int(url.rsplit(f"/{FILE}=", 1)[1].split("/")[0])
            self.files.move(url, path)
            outputs.append({"path": path, "records": sum(row["count"] for row in counted if row[FILE] == file)})
        return outputs, counted

    # --- result

    def _result(
        self, classes: list[str], outputs: list[dict[str, Any]], letters: list[dict[str, Any]], aside: list[Any]
    ) -> dict[str, Any]:
        read = {
            row.object: row["count"]
            for row in self._records().where("n.piece = n.pieces").groupBy("n.object").count().collect()
        }
        written: dict[int, int] = {}
        by_class: dict[str, int] = {}
        for name in classes:
            for row in self._class(name).where("reason IS NULL").groupBy("object").count().collect():
                written[row.object] = written.get(row.object, 0) + row["count"]
        for output in outputs:
            by_class[output["class"]] = by_class.get(output["class"], 0) + output["rows"]
        reasons: dict[str, int] = {}
        of_object: dict[tuple[str, Any], int] = {}
        for row in aside:
            reasons[row.reason] = reasons.get(row.reason, 0) + row["count"]
            place = (row.key, row.version_id)
            of_object[place] = of_object.get(place, 0) + row["count"]
        objects = [
            {
                "key": item["key"],
                "version_id": item.get("version_id"),
                "read": read.get(at, 0),
                "written": written.get(at, 0),
                "set_aside": of_object.get((item["key"], item.get("version_id")), 0),
            }
            for at, item in enumerate(self.objects)
        ]
        rows = sum(output["rows"] for output in outputs)
        total, set_aside = sum(read.values()), sum(reasons.values())
        uneven = [one["key"] for one in objects if one["read"] != one["written"] + one["set_aside"]]
        if total != rows + set_aside or rows != sum(written.values()) or uneven:
            raise JobFailed(
                f"batch {self.request['batch']}: expected read = written + set aside, of each object too, found {total} "
                f"read, {rows} in files of "
                f"events ({sum(written.values())} mapped), {set_aside} in dead letters; uneven: {uneven[:5]}; nothing of it is used"
            )
        return {
            "read": total,
            "written": rows,
            "set_aside": set_aside,
            "reasons": dict(sorted(reasons.items())),
            "classes": dict(sorted(by_class.items())),
            "bytes_read": sum(int(item.get("size", 0)) for item in self.objects),
            "mapping_digest": self.request["mapping_digest"],
            "outputs": outputs,
            "dead_letters": letters,
            "objects": objects,
        }


def _select(frame: DataFrame, steps: list[list[str]]) -> DataFrame:
    """Selects, each of the one before. Spark resolves them one by one; as one nested query they take it minutes."""
    for expressions in steps:
        frame = frame.selectExpr(*expressions)
    return frame


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\u0000")
    return f"'{escaped}'"


def main(arguments: Sequence[str]) -> int:
    """Run the job; the last line in the driver's log says what became of the records."""
    options = parse_arguments(arguments)
    from pyspark.sql import SparkSession

    session = SparkSession.builder.getOrCreate()
    try:
        print_line(describe(session))
        result = Job(session, json.loads(Files(session).read(options.request))).run()
        print_line(
            f"{result['read']} read, {result['written']} written, {result['set_aside']} set aside in {result['seconds']} s"
        )
    finally:
        session.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
