"""The demo's ingestion part: samples and generated logs become OCSF events; then the same notices again, and the dead letters.

Everything is counted twice: by the ledger, as the DAG's summary tells it, and by looking: lines that were put into the raw bucket, rows of
the lake's Parquet files, lines of the dead letters.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from include.ingestion import dead_letters
from include.ingestion.ledger import day_of
from include.ingestion.sources import all_sources
from include.local.aws.ingestion_names import LAKE_BUCKET, OWN_BUCKET, RAW_BUCKET, queue_url
from include.local.demo.runs import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.local.demo.runs import Run, Runs
    from include.local.layout import Layout

INGEST: Final = "ingest_security_logs"
STREAM: Final = "ingest_security_stream"
REGISTER: Final = "register_security_lake_sources"
REPLAY: Final = "replay_dead_letters"
RELEASE: Final = "release_refused_batch"
GENERATED_FILES: Final = 3
GENERATED_EVENTS: Final = 1000
"""Of each generated file."""
REPLAYED: Final = "aws_network_firewall"
_KEYS: Final = {
    "aws_alb": "AWSLogs/123456789012/elasticloadbalancing/us-east-1/2026/11/27/123456789012_elasticloadbalancing_us-east-1_{}.log",
    "aws_network_firewall": "AWSLogs/123456789012/network-firewall/alert/us-east-1/fw/2026/11/27/10/{}.log.gz",
    "suricata": "suricata/account=123456789012/region=us-east-1/{}.jsonl",
    "windows_sysmon": "windows-sysmon/{}.jsonl.gz",
}


@dataclass(frozen=True)
class RawObject:
    """What is put into the raw bucket.

    Attributes:
        key: where.
        body: its bytes.
        records: its lines.
    """

    key: str
    body: bytes
    records: int


def raw_objects() -> Iterator[RawObject]:
    """The shipped samples, the bad ones too, beside so many good ones that their share stays below the sources' limits; generated logs."""
    for source in all_sources():
        samples = {path.stem: path.read_bytes() for path in sorted((source.folder / "samples").glob("*"))}
        good = {name: body for name, body in samples.items() if not name.startswith(("bad", "odd"))}
        aside = sum(_lines(body) for name, body in samples.items() if name not in good)
        copies = 1 + int(1.2 * aside / (source.limits.dead_letter_share * sum(_lines(body) for body in good.values())))
        for name, body in samples.items():
            for copy in range(copies if name in good else 1):
                yield _raw(_KEYS[source.name].format(f"{name}-{copy:02}"), body)
    for number in range(GENERATED_FILES):
        yield _raw(_KEYS["aws_network_firewall"].format(f"generated-{number:02}"), b"".join(_generated(number)))


def _generated(number: int) -> Iterator[bytes]:
    """Flows of a firewall, a few a second."""
    folder = next(source.folder for source in all_sources() if source.name == "aws_network_firewall")
    template = json.loads((folder / "samples" / "netflow.jsonl").read_text(encoding="utf-8").splitlines()[0])
    for place in range(GENERATED_EVENTS):
        event = json.loads(json.dumps(template))
        moment = f"{10 + number:02}:{place // 60 % 60:02}:{place % 60:02}"
        event["event"]["timestamp"] = f"2026-11-27T{moment}.{place % 1000:03}000+0000"
        event["event"]["src_ip"] = f"10.{number}.{place // 250}.{place % 250 + 1}"
        event["event"]["src_port"] = 1024 + place
        event["event"]["flow_id"] = number * 1_000_000 + place
        yield json.dumps(event).encode() + b"\n"


def _lines(body: bytes) -> int:
    return sum(bool(line.strip()) for line in body.splitlines())


def _raw(key: str, body: bytes) -> RawObject:
    return RawObject(key, gzip.compress(body, mtime=0) if key.endswith(".gz") else body, _lines(body))


class Aws:
    """The stand-in as infrastructure and people see it: no intake code."""

    def __init__(self, port: int) -> None:
        import boto3
        from botocore.config import Config

        self.url = f"http://127.0.0.1:{port}"
        config = Config(retries={"mode": "standard", "total_max_attempts": 5})
        credentials = {"aws_access_key_id": "demo", "aws_secret_access_key": "not-a-secret"}

        def client(service: str) -> Any:
            return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", config=config, **credentials)

        self.s3, self.sqs, self.kinesis, self.glue = client("s3"), client("sqs"), client("kinesis"), client("glue")

    def objects(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def events(self) -> Counter[str]:
        """Rows of the lake by custom source, counted in the files."""
        import duckdb

        found: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="demo-") as folder, duckdb.connect() as connection:
            file = Path(folder) / "object.parquet"
            for key in self.objects(LAKE_BUCKET, "ext/"):
                self.s3.download_file(LAKE_BUCKET, key, str(file))
                query = "SELECT count(*) FROM read_parquet(?, hive_partitioning = false)"
                [(rows,)] = connection.execute(query, [str(file)]).fetchall()
                found[key.split("/")[1]] += rows
        return found

    def letters(self) -> list[dead_letters.DeadLetter]:
        """The dead letters of published batches, a long one once."""
        found = []
        for key in self.objects(OWN_BUCKET, f"{dead_letters.PREFIX}/source="):
            body = self.s3.get_object(Bucket=OWN_BUCKET, Key=key)["Body"]
            found += [letter for letter in dead_letters.read(body, key) if letter.last]
        return found

    def put(self, raw: RawObject) -> dict[str, Any]:
        """Put a raw object; gives the record of a notice about it."""
        answer = self.s3.put_object(Bucket=RAW_BUCKET, Key=raw.key, Body=raw.body)
        item = {
            "key": quote_plus(raw.key),
            "size": len(raw.body),
            "eTag": answer["ETag"].strip('"'),
            "versionId": answer["VersionId"],
        }
        return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": RAW_BUCKET}, "object": item}}

    def notify(self, records: list[dict[str, Any]]) -> None:
        """Send the same notices once more, several in a message, the last first."""
        again = records[::-1]
        for place in range(0, len(again), 7):
            body = json.dumps({"Records": again[place : place + 7]})
            self.sqs.send_message(QueueUrl=queue_url(self.url), MessageBody=body)


def run_ingestion(runs: Runs, layout: Layout) -> dict[str, Any]:
    """Ingest, show, send again, replay.

    Raises:
        DemoError: the counts differ, or something came twice.
    """
    del layout
    aws = Aws(runs.ports["aws"])
    runs.run(REGISTER, {"days": 1})
    before, events_before, letters_before = _known(runs), aws.events(), len(aws.letters())
    records = [(raw, aws.put(raw)) for raw in raw_objects()]
    streamed = _stream(aws)
    put = sum(raw.records for raw, _ in records) + streamed

    runs.run(STREAM)
    rung = runs.next_run(INGEST, before)  # the queue's doorbell has started it
    summary = _summaries(runs, [rung, runs.run(INGEST, {"flush": True})], before)
    total = summary["total"]
    events, letters = aws.events() - events_before, len(aws.letters()) - letters_before
    _expect("records read", put, total["read"])
    _expect("rows in the lake", total["written"], events.total())
    _expect("dead letters", total["set_aside"], letters)
    _expect("records written and set aside", total["read"], total["written"] + total["set_aside"])
    _show(summary, len(records), streamed)

    lake = aws.objects(LAKE_BUCKET)
    known = _known(runs)
    aws.notify([record for _, record in records])
    again = runs.next_run(INGEST, known)
    received = _xcom(runs, again, "receive_objects")
    _expect("objects in the lake", lake, aws.objects(LAKE_BUCKET))
    _expect("versions that are new to the ledger", 0, received["new"])
    print(
        f"\n{len(records)} notices sent again: {received['known']} known, {received['new']} new; the lake is as it was"
    )

    replayed = _replay(runs, aws)
    return {
        "objects": len(records),
        "streamed_records": streamed,
        **{name: total[name] for name in ("read", "written", "set_aside", "classes", "reasons")},
        "sources": summary["sources"],
        "custom_sources": dict(sorted(events.items())),
        "sent_again": {"notices": len(records), "known": received["known"], "new": received["new"]},
        "replayed": replayed,
    }


def _stream(aws: Aws) -> int:
    """Put a sample into each source's stream, a record a line; gives how many."""
    count = 0
    for source in all_sources():
        if source.stream.name is None:
            continue
        sample = next(path for path in sorted((source.folder / "samples").glob("*")) if path.stem == "kinesis_agent")
        for line in sample.read_bytes().splitlines():
            aws.kinesis.put_record(StreamName=source.stream.name, Data=line, PartitionKey=uuid.uuid4().hex)
            count += 1
    return count


def _replay(runs: Runs, aws: Aws) -> dict[str, Any]:
    """Let dead letters in again that nobody has mended: refused as a batch; accepted, they are dead letters again, and none is lost."""
    before = Counter(letter.raw for letter in aws.letters())
    known = _known(runs)
    replay = runs.run(REPLAY, {"source": REPLAYED, "day": _iso_day()})
    told = _xcom(runs, replay, "replay")
    refused = runs.next_run(INGEST, known, wanted={"failed"})
    [batch] = _xcom(runs, refused, f"plan_{REPLAYED}")
    known = _known(runs)
    why = "The demo: nothing was mended, they are to be dead letters again"
    runs.run(RELEASE, {"batch": batch, "action": "accept", "why": why})
    accepted = _summaries(runs, [runs.next_run(INGEST, known)], known)["total"]
    _expect("records read again", told["records"], accepted["read"])
    after = Counter(letter.raw for letter in aws.letters())
    _expect("records that are dead letters again", told["records"] - accepted["written"], (after - before).total())
    print(
        f"{told['records']} dead letters of {REPLAYED} replayed without a fix: the batch is refused; accepted, "
        f"{accepted['set_aside']} are dead letters again, {accepted['written']} are written"
    )
    return {**told, "written": accepted["written"], "set_aside": accepted["set_aside"]}


def _iso_day() -> str:
    import time

    day = day_of(time.time())
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _known(runs: Runs) -> set[str]:
    """Runs of the ingestion that there are, once none goes on."""
    runs.wait_until(f"{INGEST} to be idle", lambda: set(runs.states(INGEST).values()) <= {"success", "failed"}, 120)
    return runs.known(INGEST)


def _summaries(runs: Runs, told: list[Run], before: set[str]) -> dict[str, Any]:
    """What runs have ingested, and those that were started meanwhile: the doorbell may ring between two."""
    total: dict[str, Any] = {}
    sources: dict[str, Any] = {}
    ended = {run.run_id for run in told}
    for run_id in sorted((_known(runs) - before) | ended):
        summary = _value(runs, run_id, "summarise")
        if summary is None:
            continue
        for name, each in [*summary["sources"].items(), ("", summary["total"])]:
            into = total if not name else sources.setdefault(name, {})
            for key, value in each.items():
                if isinstance(value, dict):
                    counts = Counter(into.get(key, {}))
                    counts.update(value)
                    into[key] = dict(counts)
                else:
                    into[key] = into.get(key, 0) + value
    return {"sources": dict(sorted(sources.items())), "total": total}


def _xcom(runs: Runs, run: Run, task_id: str) -> Any:
    return _value(runs, run.run_id, task_id)


def _value(runs: Runs, run_id: str, task_id: str) -> Any:
    from include.platform.airflow_api import AirflowApiError

    path = f"/dags/{{}}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/return_value"
    try:
        value = runs.api.request("GET", path.format(REPLAY if task_id == "replay" else INGEST))["value"]
    except AirflowApiError as error:
        if error.status == 404:
            return None
        raise
    return json.loads(value) if isinstance(value, str) else value


def _expect(what: str, wanted: Any, found: Any) -> None:
    if wanted != found:
        raise DemoError(f"{what}: expected {wanted!r:.500}, found {found!r:.500}")


def _show(summary: dict[str, Any], objects: int, streamed: int) -> None:
    total = summary["total"]
    print(f"\nSecurity logs, {objects} objects and {streamed} records of a stream, as OCSF events")
    for source, told in summary["sources"].items():
        print(f"  {source:24} {told['read']:6} read = {told['written']} written + {told['set_aside']} set aside")
        for name, n in sorted(told["classes"].items()):
            print(f"    {name:40} {n:6}")
        reasons = ", ".join(f"{name} {n}" for name, n in sorted(told["reasons"].items()))
        print(f"    set aside: {reasons or 'none'}")
    print(f"  {'all':24} {total['read']:6} read = {total['written']} written + {total['set_aside']} set aside")
