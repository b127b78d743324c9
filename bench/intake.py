"""`intake` and `intake-losses`: objects from their notices to the lake, what an object costs, and whether anything is lost or twice.

Both use the AWS stand-in in their own process. It answers a call in about a millisecond of the same processor's time, without a network:
**it dominates all times here**, ours and the baseline's. So an object costs about as much as the calls that are made for it; on AWS a
call costs its latency instead, and several are under way at a time.

`intake`: many small objects (a few Network Firewall events each, gzip) in a versioned bucket, received from SQS, planned and ingested
through the ledger, with a processor that only copies lines. Baseline, taken in turn with other objects of the same kind: what the AWS
sample code does. For each notice it gets the object, copies its lines into an output of its own and deletes the message; it keeps no
ledger. Its outputs are as many as its objects; ours are one a batch. The stand-in's queue needs time in proportion to what is in it, so it
is filled bit by bit, outside of the time that is measured. Besides: the real engine on the same objects in batches of the same size, as a
process of the warehouse environment, without the intake; it stops after `ENGINE_SECONDS`.

`intake-losses`: seeded runs. Notices are doubled, reordered, late and delivered again; objects are replaced or deleted before or after
they are read; calls are throttled or their answers are lost, workers are killed at any call, and another worker does its work in the midst
of one's. Then all goes well until nothing is left to do, and each event is looked for. Lost is an event that is neither in the lake nor
in the dead letters, unless its object version was destroyed and the ledger tells that it is gone. Baseline: the same outside with the
sample code's way. It gets a fair chance: it reads each record of a message, and keeps what is no event.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, unquote_plus
from uuid import UUID

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from bench._result import write_result
from bench.mapping.generate import events
from include.ingestion import dead_letters
from include.ingestion.batches import (
    BatchLimits,
    DeadLetterFile,
    FetchedObject,
    Ingestion,
    ObjectResult,
    Output,
    ProcessRequest,
    ProcessResult,
    plan,
)
from include.ingestion.exceptions import VersionUnknown
from include.ingestion.ledger import BatchState, Ledger, VersionState, ledger_table
from include.ingestion.notices import object_version
from include.ingestion.receive import ReceiveLimits, receive_queue
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from include.ingestion.ledger import Batch

SOURCE: Final = "aws_network_firewall"
KEY: Final = "AWSLogs/111122223333/network-firewall/flow/eu-central-1/edge/2024/05/01/10/{}.log.gz"
SERVICES: Final = ("s3", "sqs", "dynamodb")
FIRST_MOMENT: Final = 1_767_225_600.0

OBJECTS: Final = int(os.environ.get("INTAKE_OBJECTS", "10000"))
BATCH_OBJECTS: Final = min(int(os.environ.get("INTAKE_BATCH_OBJECTS", "500")), OBJECTS)
SMALL_OBJECTS: Final = max(BATCH_OBJECTS // 10, 1)
SMALL_BATCHES: Final = 5
BASELINE_OBJECTS: Final = max(BATCH_OBJECTS // 5, 1)
"""In turn with each batch."""
EVENTS_AN_OBJECT: Final = 5
QUEUED: Final = 50
"""Notices that are in the queue at a time."""
ENGINE_SECONDS: Final = float(os.environ.get("INTAKE_ENGINE_SECONDS", "60"))

RUNS: Final = int(os.environ.get("INTAKE_LOSSES_RUNS", "100"))
FIRST_SEED: Final = int(os.environ.get("INTAKE_LOSSES_SEED", "1"))
PROCESSES: Final = int(os.environ.get("INTAKE_LOSSES_PROCESSES", "2"))
"""Each with an AWS stand-in of its own."""
STEPS: Final = 10
MOST_RESTS: Final = 12
"""Rounds without mishaps after which nothing may be left to do."""


class Copy:
    """A processor: a line is an event and is copied; one that begins with ``bad`` is a dead letter."""

    def process(self, request: ProcessRequest) -> ProcessResult:
        letters: list[dead_letters.DeadLetter] = []
        objects: list[ObjectResult] = []
        output = request.out / "part.out"
        written = 0
        with output.open("wb") as file:
            for each in request.objects:
                lines = gzip.decompress(each.path.read_bytes()).splitlines(keepends=True)
                bad = {number: line for number, line in enumerate(lines, start=1) if line.startswith(b"bad")}
                file.writelines(line for line in lines if not line.startswith(b"bad"))
                letters += [_letter(request, each, number, line) for number, line in bad.items()]
                objects.append(ObjectResult(each.key, each.version_id, len(lines), len(lines) - len(bad), len(bad)))
                written += len(lines) - len(bad)
        size = output.stat().st_size
        outputs = [Output(output, "event", "us-east-1", "1", "20260101", 0, written, size, 0, 1)] if written else []
        files = []
        if letters:
            path = request.out / "dead.gz"
            files.append(DeadLetterFile(path, dead_letters.write(path, letters)))
        reasons = {"bad": len(letters)} if letters else {}
        classes = {"event": written} if written else {}
        read = written + len(letters)
        return ProcessResult(read, written, len(letters), reasons, classes, "m1", outputs, files, objects)


def _letter(request: ProcessRequest, each: FetchedObject, number: int, line: bytes) -> dead_letters.DeadLetter:
    return dead_letters.DeadLetter(
        *(request.source, each.bucket, each.key, each.version_id, each.etag, number, None, "bad", ""),
        *(line.rstrip(b"\n"), 0, request.batch, "m1"),
    )


def clients(url: str) -> SimpleNamespace:
    """Clients that don't try again by themselves: who is refused fails, and is called again as a task is."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    made = clients_at(url)
    return SimpleNamespace(**{service: made.make(service, config) for service in SERVICES})


class World:
    """Buckets, a queue and a ledger, all new."""

    def __init__(self, aws: SimpleNamespace, work: Path, name: str) -> None:
        self.s3, self.sqs = aws.s3, aws.sqs
        self.plain, self.versioned, self.lake, self.dead = (
            f"{kind}-{name}" for kind in ("plain", "versioned", "lake", "dead")
        )
        for bucket in (self.plain, self.versioned, self.lake, self.dead):
            self.s3.create_bucket(Bucket=bucket)
        self.s3.put_bucket_versioning(Bucket=self.versioned, VersioningConfiguration={"Status": "Enabled"})
        self.queue = self.sqs.create_queue(QueueName=f"notices-{name}")["QueueUrl"]
        table = f"ledger-{name}"
        aws.dynamodb.create_table(**ledger_table(table))
        self.now = FIRST_MOMENT
        self.ledger = Ledger(aws.dynamodb, table, lambda: self.now)
        self.work = work

    def put(self, bucket: str, key: str, body: bytes) -> dict[str, Any]:
        """Put an object; gives the record of S3's notice."""
        answer = self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        item = {"key": quote_plus(key), "size": len(body), "eTag": answer["ETag"].strip('"')}
        if version := answer.get("VersionId"):
            item["versionId"] = version
        return {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": bucket}, "object": item},
        }

    def send(self, messages: Sequence[Sequence[dict[str, Any]]]) -> None:
        """Send messages, each of some records."""
        for some in batched(messages, 10):
            entries = [
                {"Id": str(place), "MessageBody": json.dumps({"Records": list(records)})}
                for place, records in enumerate(some)
            ]
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    def receive(self) -> None:
        limits = ReceiveLimits(wait_seconds=0, visibility_seconds=300)
        receive_queue(
            *(self.sqs, self.s3, self.ledger, self.queue, lambda _: SOURCE),
            dead_letter_bucket=self.dead,
            limits=limits,
        )

    def plan(self, objects: int) -> tuple[str, ...]:
        return plan(SOURCE, self.ledger, BatchLimits(objects=objects), self.now, flush=True).batches

    def ingest(self, batch_id: str) -> Batch:
        ingestion = Ingestion(
            self.s3,
            self.ledger,
            Copy(),
            self.lake,
            lambda source, output, batch: f"ext/{source}/eventDay={output.event_day}/{batch}-{output.part}.out",
            self.dead,
            lambda _: 1.0,
            self.work,
            transfers=1,
            sleep=lambda _: None,
        )
        return ingestion.ingest(batch_id)

    def sample_code(self, name: Callable[[], str]) -> int:
        """What the AWS sample code does, until the queue is empty.

        Args:
            name: gives the key of an output; that code makes it of the time.

        Returns:
            How many objects were read.
        """
        done = 0
        while messages := self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=300
        ).get("Messages"):
            for message in messages:
                for record in json.loads(message["Body"])["Records"]:
                    bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
                    try:
                        content = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                    except ClientError as error:
                        if error.response["Error"]["Code"] != "NoSuchKey":
                            raise
                        continue  # there is none any more
                    self.s3.put_object(Bucket=self.lake, Key=name(), Body=gzip.decompress(content))
                    done += 1
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return done

    def bodies(self, bucket: str, prefix: str = "") -> Iterator[bytes]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()

    def all_batches(self) -> list[Batch]:
        rows = self.ledger.dynamodb.get_paginator("scan").paginate(TableName=self.ledger.table)
        ids = [
            row["pk"]["S"].removeprefix("batch#")
            for page in rows
            for row in page["Items"]
            if row["pk"]["S"].startswith("batch#") and row["sk"]["S"] == "batch"
        ]
        return [self.ledger.batch(each) for each in ids]


# intake


@dataclass
class Spent:
    """What some objects took.

    Attributes:
        objects: how many.
        seconds: wall clock, by step.
        cpu_seconds: of this process, which is the stand-in too, by step.
        calls: of AWS, by operation.
    """

    objects: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    cpu_seconds: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def ms_an_object(self) -> float:
        return self.seconds.total() * 1000 / self.objects


class Meter:
    """Takes the times and counts the calls."""

    def __init__(self, aws: SimpleNamespace) -> None:
        self.spent: Spent | None = None

        def count(event_name: str, **_: Any) -> None:
            if self.spent is not None:
                self.spent.calls[event_name.rpartition(".")[2]] += 1

        for service in SERVICES:
            getattr(aws, service).meta.events.register_first("before-send", count)

    @contextlib.contextmanager
    def __call__(self, spent: Spent, step: str) -> Iterator[None]:
        self.spent = spent
        began, began_cpu = time.perf_counter(), time.process_time()
        yield
        spent.seconds[step] += time.perf_counter() - began
        spent.cpu_seconds[step] += time.process_time() - began_cpu
        self.spent = None


def small_objects(count: int) -> Iterator[bytes]:
    """Small objects; together they are a firewall's log."""
    lines = (line for chunk in events(count * EVENTS_AN_OBJECT) for line in chunk.splitlines(keepends=True))
    for some in batched(lines, EVENTS_AN_OBJECT):
        yield gzip.compress(b"".join(some), 6, mtime=0)


class Sizes:
    """Puts objects and their notices, outside of what is measured, and sees each batch through."""

    def __init__(self, world: World, meter: Meter) -> None:
        self.world, self.meter = world, meter
        self.number = 0

    def ours(self, bodies: Sequence[bytes]) -> Spent:
        """One batch: receive, plan, ingest."""
        spent = Spent(len(bodies))
        for _ in self._fed(bodies):
            with self.meter(spent, "receive"):
                self.world.receive()
        with self.meter(spent, "plan"):
            batches = self.world.plan(len(bodies))
        with self.meter(spent, "ingest"):
            (batch,) = [self.world.ingest(each) for each in batches]
        read = len(bodies) * EVENTS_AN_OBJECT
        told = (batch.state, batch.objects, batch.counts.read, batch.counts.written)
        if told != (BatchState.PUBLISHED, len(bodies), read, read):
            raise SystemExit(f"intake: expected {len(bodies)} objects with {read} events to be published, found {told}")
        return spent

    def theirs(self, bodies: Sequence[bytes]) -> Spent:
        spent = Spent(len(bodies))
        done = 0
        for _ in self._fed(bodies):
            with self.meter(spent, "all"):
                done += self.world.sample_code(lambda: f"sample/{time.time_ns()}")
        assert done == len(bodies), done
        return spent

    def _fed(self, bodies: Sequence[bytes]) -> Iterator[None]:
        for some in batched(bodies, QUEUED):
            records = []
            for body in some:
                self.number += 1
                records.append([self.world.put(self.world.versioned, KEY.format(self.number), body)])
            self.world.send(records)
            yield


def engine(bodies: Sequence[bytes], folder: Path) -> dict[str, Any]:
    """The real engine on the same objects, in batches; as many as there is time for."""
    from include.ingestion.processing import OcsfProcessor
    from include.ingestion.processors import EngineProcessor
    from include.platform.settings import load_settings

    if not (load_settings().warehouse_venv / "bin" / "python").exists():
        print(
            "intake: without the engine: AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV names no environment", file=sys.stderr
        )
        return {}
    processor = EngineProcessor("us-east-1", OcsfProcessor())
    taken: list[float] = []
    done = read = 0
    for number, some in enumerate(batched(bodies, BATCH_OBJECTS)):
        if sum(taken) + max(taken, default=0.0) > ENGINE_SECONDS:
            break
        home = folder / f"engine-{number}"
        (home / "in").mkdir(parents=True)
        objects = []
        for place, body in enumerate(some):
            path = home / "in" / str(place)
            path.write_bytes(body)
            objects.append(FetchedObject(path, "raw", KEY.format(place), str(place), "e", len(body)))
        began = time.perf_counter()
        result = processor.process(ProcessRequest(SOURCE, f"{number:032}", objects, home / "out"))
        taken.append(time.perf_counter() - began)
        done, read = done + len(some), read + result.read
        if (result.read, result.set_aside) != (len(some) * EVENTS_AN_OBJECT, 0):
            raise SystemExit(f"intake: expected the engine to write each event, found {result.set_aside} set aside")
        shutil.rmtree(home)
    return {
        "engine_objects": done,
        "engine_events": read,
        "engine_seconds": sum(taken),
        "engine_objects_per_second": done / sum(taken),
        "engine_batch_seconds": statistics.median(taken),
    }


def total(all_spent: Sequence[Spent]) -> Spent:
    return Spent(
        sum(each.objects for each in all_spent),
        sum((each.seconds for each in all_spent), Counter()),
        sum((each.cpu_seconds for each in all_spent), Counter()),
        sum((each.calls for each in all_spent), Counter()),
    )


def intake() -> None:
    began = time.monotonic()
    bodies = list(small_objects(OBJECTS))
    ours: list[Spent] = []
    theirs: list[Spent] = []
    small: list[Spent] = []
    with trial_aws_in_process() as url, tempfile.TemporaryDirectory(prefix="intake-") as folder:
        aws = clients(url)
        meter = Meter(aws)
        mine, other = (
            Sizes(World(aws, Path(folder) / "work", name), meter) for name in ("intake-bench", "sample-bench")
        )
        mine.ours(bodies[:SMALL_OBJECTS])  # what is only done once is done
        other.theirs(bodies[:SMALL_OBJECTS])
        batches = list(batched(bodies, BATCH_OBJECTS))
        for number, some in enumerate(batches):
            if number % max(len(batches) // SMALL_BATCHES, 1) == 0:
                small.append(mine.ours(some[:SMALL_OBJECTS]))
            ours.append(mine.ours(some))
            theirs.append(other.theirs(some[:BASELINE_OBJECTS]))
            print(f"batch {number + 1}/{len(batches)}: {ours[-1].ms_an_object:.1f} ms an object", flush=True)
        with_engine = engine(bodies, Path(folder))
    mine_all, theirs_all = total(ours), total(theirs)

    def batch_cost(clock: str) -> tuple[float, float, float]:
        """Seconds to plan and ingest a small batch, a large one, and what the small one takes beside its objects.

        On a busy machine the wall clock's difference of two medians says little; the processor's time says it better.
        """
        medians = [
            statistics.median(sum(getattr(each, clock)[step] for step in ("plan", "ingest")) for each in found)
            for found in (small, ours)
        ]
        marginal = (medians[1] - medians[0]) / max(BATCH_OBJECTS - SMALL_OBJECTS, 1)
        return medians[0], medians[1], medians[0] - SMALL_OBJECTS * marginal

    few, many, overhead = batch_cost("seconds")
    few_cpu, many_cpu, overhead_cpu = batch_cost("cpu_seconds")
    seconds = mine_all.seconds.total()
    write_result(
        "intake",
        what=f"{OBJECTS:,} small objects from notice to lake through the ledger, in batches of {BATCH_OBJECTS}; in-process stand-in",
        baseline="the AWS sample code's way: get, copy, put, delete for each notice, no ledger; same stand-in",
        unit="ms/object",
        samples=[each.ms_an_object for each in ours],
        baseline_samples=[each.ms_an_object for each in theirs],
        objects=mine_all.objects,
        events=mine_all.objects * EVENTS_AN_OBJECT,
        wall_seconds=seconds,
        objects_per_second=mine_all.objects / seconds,
        seconds_by_step=dict(mine_all.seconds),
        cpu_ms_per_object=mine_all.cpu_seconds.total() * 1000 / mine_all.objects,
        calls_per_object=mine_all.calls.total() / mine_all.objects,
        calls_by_operation=dict(mine_all.calls.most_common()),
        batch_objects=[SMALL_OBJECTS, BATCH_OBJECTS],
        batch_seconds=[few, many],
        batch_overhead_seconds=overhead,
        batch_cpu_seconds=[few_cpu, many_cpu],
        batch_overhead_cpu_seconds=overhead_cpu,
        small_batch_calls=total(small).calls.total() / len(small),
        large_batch_calls=mine_all.calls.total() / len(ours),
        baseline_objects=theirs_all.objects,
        baseline_objects_per_second=theirs_all.objects / theirs_all.seconds.total(),
        baseline_cpu_ms_per_object=theirs_all.cpu_seconds.total() * 1000 / theirs_all.objects,
        baseline_calls_per_object=theirs_all.calls.total() / theirs_all.objects,
        baseline_calls_by_operation=dict(theirs_all.calls.most_common()),
        **with_engine,
        seconds=time.monotonic() - began,
    )


# intake-losses


class Killed(BaseException):
    """Stands for SIGKILL: no ``except Exception`` sees it."""


@dataclass
class Put:
    """An object version that was put.

    Attributes:
        record: of its notice.
        lines: its events.
        destroyed: it can't be read any more, whatever is asked for.
    """

    record: dict[str, Any]
    lines: list[str]
    destroyed: bool = False


class Outside:
    """What puts, replaces and deletes objects, and S3's notices of it; the same for the same seed, whoever takes them in."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = Random(f"outside {seed}")
        self.puts: list[Put] = []
        self.late: list[dict[str, Any]] = []
        self.lines = 0
        self.counts: Counter[str] = Counter()

    def act(self) -> None:
        """Some of all that."""
        for _ in range(self.random.randint(0, 4)):
            self._put()
        for _ in range(self.random.choice([0, 0, 1])):
            self._delete()
        self.random.shuffle(self.late)
        self.deliver(self.random.randint(0, len(self.late)))

    def deliver(self, count: int) -> None:
        """Send so many of the notices that weren't sent yet."""
        messages = []
        for _ in range(count):
            records = [self.late.pop()]
            if self.random.random() < 0.3 and self.late:
                records.append(self.late[-1])  # which comes again by itself
                self.counts["doubled"] += 1
            messages.append(records)
        self.world.send(messages)

    def _put(self) -> None:
        world, random = self.world, self.random
        lines = []
        for _ in range(random.randint(1, 3)):
            self.lines += 1
            lines.append(f"{'bad ' if random.random() < 0.15 else ''}event {self.lines}")
        bucket = random.choice([world.plain, world.versioned])
        key = f"logs/{random.randint(0, 5)} +%.log.gz"
        here = [each for each in self.puts if each.record["s3"]["bucket"]["name"] == bucket and _key(each) == key]
        self.counts["replaced"] += bool(here)
        if bucket == world.plain:
            for each in here:
                each.destroyed = True
        body = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
        self.puts.append(Put(world.put(bucket, key, body), lines))
        times = random.choice([1, 1, 2, 3])
        self.counts["doubled"] += times - 1
        self.late += [self.puts[-1].record] * times

    def _delete(self) -> None:
        """One that was put lately is gone, or, in a versioned bucket, perhaps only behind a marker."""
        left = [each for each in self.puts[-6:] if not each.destroyed]
        if not left:
            return
        gone = self.random.choice(left)
        bucket, version = gone.record["s3"]["bucket"]["name"], gone.record["s3"]["object"].get("versionId")
        marker = version is not None and self.random.random() < 0.3
        which = {} if version is None or marker else {"VersionId": version}
        self.world.s3.delete_object(Bucket=bucket, Key=_key(gone), **which)
        gone.destroyed = not marker
        self.counts["deleted"] += 1


def _key(put: Put) -> str:
    return unquote_plus(put.record["s3"]["object"]["key"])


class Mishaps:
    """What goes wrong with calls of AWS, while it is let."""

    def __init__(self, aws: SimpleNamespace, random: Random) -> None:
        self.random = random
        self.counts: Counter[str] = Counter()
        self._armed = False
        self._left = 0
        self._when = "before"
        self._midst: Callable[[], None] | None = None
        self._midst_at = 0
        self._share = 0.0
        self._hooks: list[tuple[Any, str, Any]] = []
        for service in SERVICES:
            hooks = {"before-call": self._throttle, "before-send": self._before, "after-call": self._after}
            for event, hook in hooks.items():
                emitter = getattr(aws, service).meta.events
                emitter.register_first(event, hook)
                self._hooks.append((emitter, event, hook))

    def close(self) -> None:
        for emitter, event, hook in self._hooks:
            emitter.unregister(event, hook)

    def during(self, step: Callable[[], None], midst: Callable[[], None]) -> None:
        """Make a step in which something may go wrong.

        Args:
            step: what a worker does.
            midst: what another one does meanwhile, perhaps, between two calls of the first.
        """
        kill = self.random.random() < 0.6
        self._left = self.random.randint(1, 60) if kill else -1
        self._when = self.random.choice(["before", "after"])
        self._share = self.random.choice([0.0, 0.0, 0.02, 0.1])
        self._midst, self._midst_at = (midst, self.random.randint(1, 40)) if self.random.random() < 0.3 else (None, 0)
        self._armed = True
        try:
            step()
        except Killed:
            self.counts["kills"] += 1
        except Exception as error:  # a task that fails; the next one goes on
            self.counts[f"failed: {_name(error)}"] += 1
        finally:
            self._armed = False

    def _throttle(self, event_name: str, **_: Any) -> Any:
        if not self._armed or self.random.random() >= self._share / 2:
            return None
        self.counts["throttled"] += 1
        code = {"s3": "SlowDown", "sqs": "RequestThrottled"}.get(event_name.split(".")[1], "ThrottlingException")
        answer = {"Error": {"Code": code, "Message": "Slow down."}, "ResponseMetadata": {}}
        return SimpleNamespace(status_code=503 if code == "SlowDown" else 400), answer

    def _before(self, **_: Any) -> None:
        if not self._armed:
            return
        self._left -= 1
        self._midst_at -= 1
        if self._midst is not None and self._midst_at == 0:
            self._armed = False
            self.counts["other workers"] += 1
            try:
                self._midst()
            except Exception as error:  # the other worker's task fails
                self.counts[f"other failed: {_name(error)}"] += 1
            self._armed = True
        if self._left == 0 and self._when == "before":
            raise Killed

    def _after(self, **_: Any) -> None:
        if not self._armed:
            return
        if self._left == 0 and self._when == "after":
            raise Killed
        if self.random.random() < self._share / 2:
            self.counts["answers lost"] += 1
            raise ConnectionClosedError(endpoint_url="stand-in")


def _name(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__


@dataclass
class Verdict:
    """What came of runs; each attribute adds up."""

    events: int = 0
    objects: int = 0
    told_gone: int = 0
    lost: int = 0
    twice: int = 0
    wrong_counts: int = 0
    unfinished: int = 0
    batches: int = 0
    dead_letters: int = 0
    baseline_lost: int = 0
    baseline_twice: int = 0
    baseline_kills: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def expire(world: World, counts: Counter[str]) -> None:
    """The visibility time-out of each message that was received is over."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.sqs.models import sqs_backends

    queue = sqs_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].queues[world.queue.rpartition("/")[2]]
    for message in queue._messages:
        counts["delivered again"] += not message.visible
        message.change_visibility(0)


def in_queue(world: World) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = world.sqs.get_queue_attributes(QueueUrl=world.queue, AttributeNames=names)["Attributes"]
    return any(int(answer[name]) for name in names)


def run_ours(aws: SimpleNamespace, work: Path, seed: int) -> Verdict:
    """One run through the ledger."""
    world = World(aws, work, f"ours-{seed}")
    outside, random = Outside(world, seed), Random(f"mishaps {seed}")
    mishaps = Mishaps(aws, random)

    def ingest() -> None:
        for batch_id in world.plan(random.choice([2, 5])):
            world.ingest(batch_id)

    def whole() -> None:
        world.receive()
        ingest()

    def another() -> None:
        if random.random() < 0.5:
            expire(world, mishaps.counts)
        random.choice([whole, world.receive, ingest])()

    def only_plan() -> None:
        world.plan(2)

    for _ in range(STEPS):
        outside.act()
        world.now += random.choice([0, 0.001, 30])
        if random.random() < 0.5:
            expire(world, mishaps.counts)
        mishaps.during(random.choice([whole, whole, world.receive, only_plan, ingest]), another)
    outside.deliver(len(outside.late))
    mishaps.close()
    rests = 0
    while rests < MOST_RESTS and (in_queue(world) or world.plan(5)):
        rests += 1
        expire(world, mishaps.counts)
        whole()
    verdict = judged(world, outside)
    verdict.unfinished += rests == MOST_RESTS
    verdict.happened = mishaps.counts + outside.counts
    verdict.examples = [f"seed {seed}: {each}" for each in verdict.examples]
    return verdict


def judged(world: World, outside: Outside) -> Verdict:
    """Look for each event."""
    lake = Counter(line.decode() for body in world.bodies(world.lake) for line in body.splitlines())
    dead: Counter[str] = Counter()
    for body in world.bodies(world.dead, dead_letters.PREFIX + "/source="):
        path = world.work / "letters.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        with path.open("rb") as file:
            dead.update(letter.raw.decode() for letter in dead_letters.read(file))
    arrived = lake + dead
    verdict = Verdict(events=outside.lines, objects=len(outside.puts), dead_letters=dead.total())
    read = written = 0
    for put in outside.puts:
        bucket, item = put.record["s3"]["bucket"]["name"], put.record["s3"]["object"]
        identity = object_version(bucket, _key(put), item.get("versionId"), item["eTag"], item["size"]).identity
        try:
            known = world.ledger.version(identity)
        except VersionUnknown:
            verdict.lost += len(put.lines)
            verdict.examples.append(f"{put} was never received")
            continue
        gone = put.destroyed and known.state == VersionState.GONE
        verdict.told_gone += gone
        read, written = read + known.read, written + known.written
        missing = [line for line in put.lines if not arrived[line]]
        if missing and not gone:
            verdict.lost += len(missing)
            verdict.examples.append(f"{missing} of {known} lost, destroyed: {put.destroyed}")
        if gone and len(missing) < len(put.lines):
            verdict.wrong_counts += 1
            verdict.examples.append(f"{known} is told gone and is there")
    strange = {line for line in arrived if line not in {each for put in outside.puts for each in put.lines}}
    twice = {line: n for line, n in arrived.items() if n > 1}
    verdict.twice = sum(n - 1 for n in twice.values()) + len(strange)
    verdict.examples += [f"{line!r} {n} times" for line, n in twice.items()]
    batches = world.all_batches()
    verdict.batches = len(batches)
    for batch in batches:
        verdict.unfinished += batch.state != BatchState.PUBLISHED
        verdict.wrong_counts += not adds_up(world, batch)
    totals = [sum(getattr(each.counts, name) for each in batches) for name in ("read", "written", "set_aside")]
    verdict.wrong_counts += totals != [arrived.total(), lake.total(), dead.total()] or totals[:2] != [read, written]
    return verdict


def adds_up(world: World, batch: Batch) -> bool:
    """Whether a batch's counts are those of its versions and of its outputs."""
    counts = batch.counts
    versions = world.ledger.versions_of(batch.batch_id)
    uploads = world.ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, [])
    rows = Counter({kind: sum(each.rows for each in uploads if each.kind == kind) for kind in ("lake", "dead_letters")})
    return (
        counts.read == counts.written + counts.set_aside == sum(each.read for each in versions)
        and counts.written == rows["lake"] == sum(each.written for each in versions)
        and counts.set_aside == rows["dead_letters"] == sum(each.set_aside for each in versions)
        and counts.gone == sum(each.state == VersionState.GONE for each in versions)
        and batch.objects == len(versions)
        and all(each.batch == batch.batch_id for each in versions)
    )


def run_baseline(aws: SimpleNamespace, work: Path, seed: int) -> Verdict:
    """The same outside, and the sample code's way; what it may lose is what was destroyed."""
    world = World(aws, work, f"sample-{seed}")
    outside, random = Outside(world, seed), Random(f"mishaps {seed}")
    mishaps = Mishaps(aws, random)

    def whole() -> None:
        world.sample_code(lambda: str(UUID(int=random.getrandbits(128))))

    for _ in range(STEPS):
        outside.act()
        if random.random() < 0.5:
            expire(world, mishaps.counts)
        mishaps.during(whole, whole)
    outside.deliver(len(outside.late))
    mishaps.close()
    expire(world, mishaps.counts)
    whole()
    arrived = Counter(line.decode() for body in world.bodies(world.lake) for line in body.splitlines())
    return Verdict(
        baseline_lost=sum(not arrived[line] for put in outside.puts if not put.destroyed for line in put.lines),
        baseline_twice=sum(n - 1 for n in arrived.values()),
        baseline_kills=mishaps.counts["kills"],
    )


def runs(seeds: Sequence[int]) -> Verdict:
    """Some runs, in a stand-in of their own."""
    import logging

    from moto.moto_api._internal.models import moto_api_backend

    logging.getLogger("include.ingestion").setLevel(logging.ERROR)
    verdict = Verdict()
    with trial_aws_in_process() as url, tempfile.TemporaryDirectory(prefix="intake-losses-") as folder:
        aws = clients(url)
        for place, seed in enumerate(seeds, start=1):
            for one in (run_ours, run_baseline):
                verdict += one(aws, Path(folder) / f"{one.__name__}-{seed}", seed)
                moto_api_backend.reset()
            if place % 10 == 0:
                print(f"{place} of {len(seeds)} runs: {verdict.lost} lost, {verdict.twice} twice", flush=True)
    return verdict


def losses() -> None:
    began = time.monotonic()
    seeds = range(FIRST_SEED, FIRST_SEED + RUNS)
    shares = [share for number in range(PROCESSES) if (share := list(seeds[number::PROCESSES]))]
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        verdict = sum(pool.map(runs, shares), Verdict())
    write_result(
        "intake-losses",
        what=f"events lost or twice per run, over {RUNS} seeded runs with kills, doubled and late notices, and objects that go away",
        baseline="the same outside through the AWS sample code's way, without a ledger",
        unit="events",
        samples=[(verdict.lost + verdict.twice) / RUNS],
        baseline_samples=[(verdict.baseline_lost + verdict.baseline_twice) / RUNS],
        seeds=[seeds[0], seeds[-1]],
        **vars(verdict),
        limits={"lost": 0, "twice": 0, "wrong_counts": 0, "unfinished": 0},
        seconds=time.monotonic() - began,
    )
    if not (verdict.baseline_lost and verdict.baseline_twice):
        raise SystemExit(
            "intake-losses: expected the way without a ledger to lose and to double, found that it doesn't: this would see neither"
        )


def main(argv: list[str]) -> None:
    if "intake-losses" in argv:
        losses()
    else:
        intake()


if __name__ == "__main__":
    main(sys.argv[1:])
