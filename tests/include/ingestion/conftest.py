"""A world of buckets, a queue, a stream and a ledger on an AWS stand-in, an engine of a few lines, and a way to die at any call of AWS."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from include.ingestion import dead_letters
from include.ingestion.batches import (
    BatchLimits,
    DeadLetterFile,
    Ingestion,
    ObjectResult,
    Output,
    ProcessResult,
    plan,
)
from include.ingestion.kinesis import StreamIntake, StreamLimits
from include.ingestion.ledger import Ledger, VersionState, ledger_table
from include.ingestion.receive import ReceiveLimits, receive_queue
from include.local.aws.clock import CLOCK
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "trial"


class Killed(BaseException):
    """Stands for SIGKILL: no ``except Exception`` sees it."""


class Lines:
    """An engine: a line is an event, one that begins with ``bad`` is a dead letter. Gzip is recognised."""

    def __init__(self):
        self.digest = "m1"
        self.calls = 0
        self.requests = []
        self.before = lambda request: None
        self.spoil = lambda result: result
        self.fixed = False

    def process(self, request):
        self.calls += 1
        self.requests.append(request)
        self.before(request)
        written, letters, objects = [], [], []
        for each in request.objects:
            assert Path(each.path).resolve().is_relative_to(Path(request.out).resolve().parent)
            content = Path(each.path).read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            good = bad = 0
            for number, line in enumerate(content.splitlines(), start=1):
                if line.startswith(b"bad") and not (self.fixed and not line.startswith(b"bad-for-ever")):
                    letters.append(self._letter(request, each, number, line))
                    bad += 1
                else:
                    written.append(line)
                    good += 1
            objects.append(ObjectResult(each.key, each.version_id, good + bad, good, bad))
        outputs, files = [], []
        for day, some in (("20260101", written[::2]), ("20260102", written[1::2])):
            if some:
                path = request.out / f"{day}.out"
                path.write_bytes(b"".join(line + b"\n" for line in some))
                size = path.stat().st_size
                outputs.append(Output(path, "event", "us-east-1", "1", day, 0, len(some), size, 0, 1))
        if letters:
            path = request.out / "dead.gz"
            files.append(DeadLetterFile(path, dead_letters.write(path, letters)))
        reasons = dict(Counter(letter.reason for letter in letters))
        read = len(written) + len(letters)
        classes = {"event": len(written)} if written else {}
        return self.spoil(
            ProcessResult(read, len(written), len(letters), reasons, classes, self.digest, outputs, files, objects)
        )

    def _letter(self, request, each, number, line):
        reason = line.split()[0].decode(errors="replace")
        return dead_letters.DeadLetter(
            *(request.source, each.bucket, each.key, each.version_id, each.etag, number, None, reason, ""),
            *(line, 0, request.batch, self.digest),
        )


class World:
    """Everything that an intake works with, fresh."""

    def __init__(self, clients, work):
        self.sqs, self.s3, self.dynamodb, self.kinesis = clients.sqs, clients.s3, clients.dynamodb, clients.kinesis
        name = uuid4().hex[:10]
        self.raw, self.versioned, self.lake, self.dead = (f"{kind}-{name}" for kind in ("raw", "ver", "lake", "dead"))
        for bucket in (self.raw, self.versioned, self.lake, self.dead):
            self.s3.create_bucket(Bucket=bucket)
        self.s3.put_bucket_versioning(Bucket=self.versioned, VersioningConfiguration={"Status": "Enabled"})
        self.queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.table = f"ledger-{name}"
        self.dynamodb.create_table(**ledger_table(self.table))
        self.now = 1_767_225_600.0  # 2026-01-01
        self.ledger = Ledger(self.dynamodb, self.table, lambda: self.now)
        self.engine = Lines()
        self.work = work
        self.share = 1.0
        self.mapping = None
        self.clients = (self.sqs, self.s3, self.dynamodb, self.kinesis)

    def close(self):
        for bucket in (self.raw, self.versioned, self.lake, self.dead):
            for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    with suppress(ClientError):  # moto lists a key with a line break otherwise than it was put
                        self.s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        self.dynamodb.delete_table(TableName=self.table)
        self.sqs.delete_queue(QueueUrl=self.queue)

    # The outside

    def put(self, key, lines, bucket=None):
        """Put an object; gives the record of S3's notice."""
        bucket = bucket or self.raw
        body = b"".join(line.encode() + b"\n" for line in lines)
        answer = self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        return self.record(bucket, key, len(body), answer["ETag"].strip('"'), answer.get("VersionId"))

    @staticmethod
    def record(bucket, key, size, etag, version=None, event="ObjectCreated:Put"):
        item = {"key": quote_plus(key), "size": size, "eTag": etag, "sequencer": "00AA"}
        if version:
            item["versionId"] = version
        return {
            "eventSource": "aws:s3",
            "eventName": event,
            "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": bucket}, "object": item},
        }

    def send(self, *records):
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps({"Records": list(records)}))

    def in_queue(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(answer[name]) for name in names)

    # The intake

    def route(self, version):
        return None if version.key.startswith("nobody") else SOURCE

    def receive(self, **limits):
        # a message that wasn't deleted is there again at once
        limits = ReceiveLimits(**{"wait_seconds": 0, "visibility_seconds": 0, **limits})
        return receive_queue(
            self.sqs, self.s3, self.ledger, self.queue, self.route, dead_letter_bucket=self.dead, limits=limits
        )

    def plan(self, flush=True, **limits):
        return plan(SOURCE, self.ledger, BatchLimits(**limits), self.now, flush=flush)

    def ingestion(self, work="work", engine=None):
        return Ingestion(
            self.s3,
            self.ledger,
            engine or self.engine,
            self.lake,
            lambda source, output, batch: (
                f"ext/{source}-{output.class_name}/eventDay={output.event_day}/{batch}-{output.part}.out"
            ),
            self.dead,
            lambda _: self.share,
            self.work / work,
            transfers=1,
            mapping_digest=lambda _: self.mapping,
            sleep=lambda _: None,
        )

    def ingest(self, batch_id, **named):
        return self.ingestion(**named).ingest(batch_id)

    def all_at_once(self, **limits):
        """Receive, plan and ingest all there is."""
        self.receive()
        return [self.ingest(batch_id) for batch_id in self.plan(**limits).batches]

    # What came of it

    def objects(self, bucket, prefix=""):
        found = {}
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                found[item["Key"]] = self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        return found

    def in_lake(self):
        """How often each line is in the lake."""
        return Counter(line.decode() for body in self.objects(self.lake).values() for line in body.splitlines())

    def letters(self, prefix="dead-letters/source="):
        """The published dead letters."""
        found = []
        for body in self.objects(self.dead, prefix).values():
            path = self.work / "letters.gz"
            path.write_bytes(body)
            with path.open("rb") as file:
                found += dead_letters.read(file)
        return found

    def arrived(self):
        """How often each line is in the lake or among the dead letters."""
        return self.in_lake() + Counter(letter.raw.decode() for letter in self.letters())

    def rows(self, prefix=""):
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table)
        return [row for page in pages for row in page["Items"] if row["pk"]["S"].startswith(prefix)]

    def states(self):
        return Counter(VersionState(row["state"]["S"]) for row in self.rows("version#"))

    def uploads(self):
        """Multipart uploads that were begun and neither completed nor aborted."""
        return [
            each
            for bucket in (self.lake, self.dead)
            for each in self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        ]

    # Dying

    @contextmanager
    def killed_at(self, call, when="before"):
        """Die at the n-th call of AWS: before it is made, or after it was done and before its answer is read; tells the calls made."""
        made = SimpleNamespace(calls=[])

        def before(request, event_name, **_):
            made.calls.append(event_name)
            if len(made.calls) == call and when == "before":
                raise Killed

        def after(**_):
            if len(made.calls) == call and when == "after":
                raise Killed

        for client in self.clients:
            client.meta.events.register_first("before-send", before)
            client.meta.events.register_first("after-call", after)
        try:
            yield made
        finally:
            for client in self.clients:
                client.meta.events.unregister("before-send", before)
                client.meta.events.unregister("after-call", after)

    @contextmanager
    def failing_put(self, error, *, after=False):
        """The next object to be put isn't, or is, and whoever does it dies."""
        real = self.s3.put_object

        def dies(**request):
            self.s3.put_object = real
            if after:
                real(**request)
            raise error

        self.s3.put_object = dies
        try:
            yield
        finally:
            self.s3.put_object = real

    @contextmanager
    def failing(self, client, operation, times, code, status=503):
        """Some calls of an operation are refused."""
        left = [times]

        def refuse(**_):
            if not left[0]:
                return None
            left[0] -= 1
            return SimpleNamespace(status_code=status), {
                "Error": {"Code": code, "Message": "m"},
                "ResponseMetadata": {},
            }

        name = f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}"
        client.meta.events.register_first(name, refuse)
        try:
            yield left
        finally:
            client.meta.events.unregister(name, refuse)


@pytest.fixture(scope="module")
def aws_clients():
    with trial_aws_in_process() as url:
        make = clients_at(url).make
        config = Config(retries={"mode": "standard", "total_max_attempts": 1})
        yield SimpleNamespace(**{name: make(name, config) for name in ("sqs", "s3", "dynamodb", "kinesis")})


@pytest.fixture
def make_world(aws_clients, tmp_path) -> Iterator:
    """Makes worlds; what they hold is gone afterwards."""
    made = []

    def make():
        if made:
            made.pop().close()
        work = tmp_path / uuid4().hex
        work.mkdir()
        made.append(World(aws_clients, work))
        return made[-1]

    yield make
    if made:
        made.pop().close()
    CLOCK.reset()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
def stream(world):
    """Makes the intake of a stream of the world's, which is made with so many shards."""
    name = hashlib.sha256(world.table.encode()).hexdigest()[:10]

    def make(owner="a", **limits):
        limits = StreamLimits(**{"seconds": 1000, **limits})
        return StreamIntake(
            *(world.kinesis, world.s3, world.ledger, name, SOURCE, world.raw, owner, limits),
            clock=CLOCK,
            sleep=lambda _: None,
        )

    world.stream = name
    world.kinesis.create_stream(StreamName=name, ShardCount=1)
    yield make
    world.kinesis.delete_stream(StreamName=name)


@pytest.fixture
def killed():
    """What is raised where something dies."""
    return Killed
