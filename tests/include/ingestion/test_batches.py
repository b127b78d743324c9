"""Batches: planned once, ingested whole and once, with counts that add up."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from include.ingestion.batches import BatchLimits, ProcessRequest
from include.ingestion.exceptions import (
    BatchConflict,
    BatchRefused,
    CountsDiffer,
    DiskFull,
    FetchFailed,
    MappingChanged,
    OutputLost,
)
from include.ingestion.ledger import BatchState, VersionState
from include.ingestion.notices import MOST_KEY_BYTES

SOURCE = "trial"


def put(world, *names, lines=2):
    for name in names:
        world.send(world.put(name, [f"{name}-{n}" for n in range(lines)]))


def planned(world, *names, **limits):
    put(world, *names)
    world.receive()
    (batch_id,) = world.plan(**limits).batches
    return batch_id


def test_a_batch_goes_from_notice_to_lake(world):
    put(world, "a", "b")
    world.send(world.put("c", ["bad x", "good"]))
    (batch,) = world.all_at_once()
    assert (batch.state, batch.objects) == (BatchState.PUBLISHED, 3)
    assert (batch.counts.read, batch.counts.written, batch.counts.set_aside) == (6, 5, 1)
    assert (batch.counts.reasons, batch.counts.classes) == ({"bad": 1}, {"event": 5})
    assert batch.mapping_digest == "m1"
    assert world.in_lake() == dict.fromkeys(["a-0", "a-1", "b-0", "b-1", "good"], 1)
    assert [(letter.raw, letter.key, letter.record) for letter in world.letters()] == [(b"bad x", "c", 1)]
    assert world.states() == {VersionState.INGESTED: 3}
    found = {
        each.version.key: (each.read, each.written, each.set_aside) for each in world.ledger.versions_of(batch.batch_id)
    }
    assert found == {"a": (2, 2, 0), "b": (2, 2, 0), "c": (2, 1, 1)}
    assert not list((world.work / "work").iterdir())
    assert world.ledger.open_batches(SOURCE) == []
    assert [each.batch_id for each in world.ledger.batches(SOURCE, batch.day)] == [batch.batch_id]


def test_a_published_batch_is_not_ingested_again(world):
    batch_id = planned(world, "a")
    world.ingest(batch_id)
    world.ingest(batch_id)
    assert world.engine.calls == 1


def test_groups_are_bounded_by_number_and_size_the_oldest_first(world):
    for number in range(5):
        world.now += 1
        put(world, f"k{number}")
        world.receive()
    plan = world.plan(objects=2, flush=False, wait_seconds=100)
    assert len(plan.new) == 2  # the fifth waits for more
    keys = [{member.version.key for member in world.ledger.members(batch_id)} for batch_id in plan.batches]
    assert sorted(map(sorted, keys)) == [["k0", "k1"], ["k2", "k3"]]
    assert world.ledger.wait_of(SOURCE).objects == 1
    world.now += 100
    assert len(world.plan(objects=2, flush=False, wait_seconds=100).new) == 1
    put(world, "x", "y", "z")  # 8 bytes each
    world.receive()
    sizes = [world.ledger.batch(batch_id).bytes for batch_id in world.plan(bytes=16).new]
    assert sorted(sizes) == [8, 16]


def test_nothing_more_is_planned_while_too_many_are_open(world):
    put(world, *"abcde")
    world.receive()
    plan = world.plan(objects=1, open_batches=2)
    assert (len(plan.new), plan.full) == (2, True)
    again = world.plan(objects=1, open_batches=2)
    assert (again.new, again.batches, again.full) == ((), plan.batches, True)
    world.ingest(plan.batches[0])
    assert len(world.plan(objects=1, open_batches=2).new) == 1


def test_limits_below_one_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        BatchLimits(objects=0)


def test_a_batch_has_the_same_id_whatever_the_order(make_world):
    ids = set()
    for names in ("abc", "cab"):
        world = make_world()
        world.raw = "same-bucket"
        world.s3.create_bucket(Bucket="same-bucket")
        ids.add(planned(world, *names))
    assert len(ids) == 1


def test_500_members_with_the_longest_keys(world):
    version = world.put("a", ["x"])
    for start in range(0, 500, 50):
        world.send(
            *(
                world.record(world.raw, f"{n:04}" + "k" * (MOST_KEY_BYTES - 4), 2, version["s3"]["object"]["eTag"])
                for n in range(start, start + 50)
            )
        )
    world.receive()
    (batch_id,) = world.plan().batches
    members = world.ledger.members(batch_id)
    assert len({member.version.key for member in members}) == world.ledger.batch(batch_id).objects == 500
    assert world.ledger.batch(batch_id).bytes == 1000
    done = world.ingest(batch_id)
    assert done.counts.gone == 500
    assert world.states() == {VersionState.GONE: 500}


def test_two_objects_of_one_name_do_not_meet_in_a_batch(world):
    world.s3.put_object(Bucket=world.lake, Key="a", Body=b"other\n")
    put(world, "a")
    etag = world.s3.head_object(Bucket=world.lake, Key="a")["ETag"].strip('"')
    world.send(world.record(world.lake, "a", 6, etag))
    world.receive()
    assert len(world.plan().new) == 2


@pytest.mark.parametrize("bucket", ["raw", "versioned"])
def test_an_object_deleted_before_it_is_read_is_gone(world, bucket):
    name = getattr(world, bucket)
    record = world.put("a", ["lost"], name)
    world.send(record, world.put("b", ["kept"], name))
    version = record["s3"]["object"].get("versionId")
    world.s3.delete_object(Bucket=name, Key="a", **({"VersionId": version} if version else {}))
    (batch,) = world.all_at_once()
    assert world.in_lake() == {"kept": 1}
    assert batch.counts.gone == 1
    gone = {each.version.key: (each.state, each.reason) for each in world.ledger.versions_of(batch.batch_id)}
    assert gone == {"a": (VersionState.GONE, "deleted"), "b": (VersionState.INGESTED, "")}


def test_an_object_replaced_before_it_is_read_comes_by_its_own_notice(world):
    world.send(world.put("a", ["old"]))
    newer = world.put("a", ["new"])
    (first,) = world.all_at_once()
    assert first.counts == replace(first.counts, read=0, gone=1)
    assert world.engine.calls == 0
    world.send(newer)
    world.all_at_once()
    assert world.in_lake() == {"new": 1}


def test_with_versions_each_version_is_read_as_it_was(world):
    world.send(world.put("a", ["old"], world.versioned))
    world.send(world.put("a", ["new"], world.versioned))
    world.s3.delete_object(Bucket=world.versioned, Key="a")  # a marker: the versions stay
    world.all_at_once()
    assert world.in_lake() == {"old": 1, "new": 1}


def test_an_empty_object_is_ingested(world):
    world.send(world.put("a", []))
    (batch,) = world.all_at_once()
    assert (batch.counts.read, batch.counts.gone) == (0, 0)
    assert world.states() == {VersionState.INGESTED: 1}


def test_throttling_is_waited_out(world):
    batch_id = planned(world, "a")
    with world.failing(world.s3, "GetObject", 3, "SlowDown") as left:
        world.ingest(batch_id)
        assert left == [0]
    assert sum(world.in_lake().values()) == 2


def test_throttling_without_end_fails_and_the_retry_goes_on(world):
    batch_id = planned(world, "a")
    with world.failing(world.s3, "GetObject", 99, "SlowDown"), pytest.raises(FetchFailed, match="SlowDown"):
        world.ingest(batch_id)
    assert world.ledger.batch(batch_id).state == BatchState.PLANNED
    world.ingest(batch_id)
    assert sum(world.in_lake().values()) == 2


def test_no_room_for_what_the_engine_writes(world):
    batch_id = planned(world, "a")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    world.engine.before = full
    with pytest.raises(DiskFull, match="expected room"):
        world.ingest(batch_id)
    assert world.ledger.batch(batch_id).state == BatchState.PLANNED
    assert not list((world.work / "work").iterdir())
    world.engine.before = lambda _: None
    world.ingest(batch_id)
    assert sum(world.in_lake().values()) == 2


def test_no_room_for_what_is_fetched(world, monkeypatch):
    batch_id = planned(world, "a")
    from pathlib import Path

    real = Path.open

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *a, **k: Full() if self.name.startswith("object-") and a == ("wb",) else real(self, *a, **k),
    )
    with pytest.raises(DiskFull, match="found none"):
        world.ingest(batch_id)
    monkeypatch.undo()
    world.ingest(batch_id)
    assert sum(world.in_lake().values()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"read": 9},
        {"written": 9, "read": 10},
        {"set_aside": 2, "read": 4},
        {"reasons": {}},
        {"classes": {"event": 7}},
        {"dead_letters": ()},
        {"objects": ()},
    ],
)
def test_counts_that_do_not_add_up_publish_nothing(world, change):
    world.send(world.put("a", ["x", "y", "bad z"]))
    world.receive()
    (batch_id,) = world.plan().batches
    world.engine.spoil = lambda result: replace(result, **change)
    with pytest.raises(CountsDiffer, match="counts that add up"):
        world.ingest(batch_id)
    assert world.objects(world.lake) == world.objects(world.dead) == {}
    assert world.uploads() == []
    world.engine.spoil = lambda result: result
    assert world.ingest(batch_id).counts.read == 3


def test_two_outputs_under_one_key_publish_nothing(world):
    batch_id = planned(world, "a")
    world.engine.spoil = lambda result: replace(
        result, outputs=[replace(o, event_day="20260101") for o in result.outputs]
    )
    with pytest.raises(CountsDiffer, match="twice"):
        world.ingest(batch_id)
    assert world.objects(world.lake) == {}


def test_too_many_dead_letters_refuse_the_batch_before_it_is_published(world):
    world.share = 0.25
    world.send(world.put("a", ["x", "y", "bad z"]))
    world.receive()
    (batch_id,) = world.plan().batches
    with pytest.raises(BatchRefused, match=r"at most 25\.00%.*found 1 of 3 \(33\.33%\): bad 1"):
        world.ingest(batch_id)
    assert world.objects(world.lake) == {}
    assert world.letters() == []
    assert [letter.raw for letter in world.letters("refused/")] == [b"bad z"]
    assert [each.batch_id for each in world.ledger.refused_batches(SOURCE)] == [batch_id]
    assert world.plan().batches == ()
    with pytest.raises(BatchRefused, match="was refused"):
        world.ingest(batch_id)
    assert world.engine.calls == 1


def test_a_refused_batch_is_retried_after_a_fix(world):
    world.share = 0.25
    world.send(world.put("a", ["x", "y", "bad z"]))
    world.receive()
    (batch_id,) = world.plan().batches
    with pytest.raises(BatchRefused):
        world.ingest(batch_id)
    world.engine.fixed = True
    world.ingestion().retry_refused(batch_id)
    assert world.plan().batches == (batch_id,)
    batch = world.ingest(batch_id)
    assert (batch.counts.written, batch.reason) == (3, "")
    assert world.ledger.refused_batches(SOURCE) == []
    with pytest.raises(BatchConflict, match="expected it to be refused, found it published"):
        world.ingestion().retry_refused(batch_id)


def test_a_refused_batch_is_accepted_as_it_is(world):
    world.share = 0.0
    world.send(world.put("a", ["x", "bad z"]))
    world.receive()
    (batch_id,) = world.plan().batches
    with pytest.raises(BatchRefused):
        world.ingest(batch_id)
    world.ingestion().retry_refused(batch_id, accept=True)
    assert world.ingest(batch_id).counts.set_aside == 1
    assert [letter.raw for letter in world.letters()] == [b"bad z"]


def test_a_batch_is_not_processed_again_after_its_commit_whatever_the_mapping_is_then(world):
    batch_id = planned(world, "a")
    with world.failing(world.s3, "CompleteMultipartUpload", 1, "InternalError", 500), pytest.raises(ClientError):
        world.ingest(batch_id)
    assert world.ledger.batch(batch_id).state == BatchState.COMMITTED
    assert world.in_lake() == {}
    world.engine.digest = "m2"
    batch = world.ingest(batch_id)
    assert (batch.mapping_digest, world.engine.calls) == ("m1", 1)
    assert sum(world.in_lake().values()) == 2


def test_another_mapping_than_was_asked_for_publishes_nothing(world):
    batch_id = planned(world, "a")
    world.mapping = "m0"
    with pytest.raises(MappingChanged, match="expected mapping m0, found that m1 was used"):
        world.ingest(batch_id)
    world.mapping = "m1"
    assert world.ingest(batch_id).mapping_digest == "m1"


def test_of_two_workers_one_commits_and_the_other_gives_its_uploads_up(world):
    batch_id = planned(world, "a")
    faster = type(world.engine)()
    faster.digest = "fast"

    def overtaken(_):
        world.engine.before = lambda _: None
        world.ingest(batch_id, engine=faster)

    world.engine.before = overtaken
    batch = world.ingest(batch_id)
    assert (batch.mapping_digest, batch.attempts, batch.commit) == ("fast", 2, 2)
    assert world.in_lake() == {"a-0": 1, "a-1": 1}
    assert world.uploads() == []
    assert world.ledger.attempts_kept(batch_id) == {2}


def test_a_worker_that_was_overtaken_after_its_uploads_gives_them_up(world):
    batch_id = planned(world, "a")
    faster = type(world.engine)()
    slow = world.ingestion()
    real = world.ledger.record_findings
    uploads = []

    def overtaken(*args):
        world.ledger.record_findings = real
        uploads.append(len(world.uploads()))
        world.ingest(batch_id, engine=faster)
        real(*args)

    world.ledger.record_findings = overtaken
    batch = slow.ingest(batch_id)
    assert uploads == [2]
    assert batch.commit == 2
    assert world.in_lake() == {"a-0": 1, "a-1": 1}
    assert world.uploads() == []


def test_all_outputs_are_uploaded_before_the_first_is_seen(world):
    batch_id = planned(world, "a")
    seen = []
    real = world.s3.complete_multipart_upload
    try:

        def watched(**request):
            seen.append((len(world.uploads()), len(world.objects(world.lake)), world.ledger.batch(batch_id).state))
            return real(**request)

        world.s3.complete_multipart_upload = watched
        world.ingest(batch_id)
    finally:
        world.s3.complete_multipart_upload = real
    assert seen == [(2, 0, BatchState.COMMITTED), (1, 1, BatchState.COMMITTED)]


def test_an_upload_that_somebody_aborted_is_told_and_the_batch_can_be_opened_again(world, killed):
    batch_id = planned(world, "a")
    real = world.s3.complete_multipart_upload
    calls = []

    def once(**request):
        if calls:
            raise killed
        calls.append(real(**request))

    try:
        world.s3.complete_multipart_upload = once
        with pytest.raises(killed):
            world.ingest(batch_id)
    finally:
        world.s3.complete_multipart_upload = real
    for each in world.uploads():
        world.s3.abort_multipart_upload(Bucket=world.lake, Key=each["Key"], UploadId=each["UploadId"])
    with pytest.raises(OutputLost, match="Reopen"):
        world.ingest(batch_id)
    assert len(world.objects(world.lake)) == 1
    world.ingestion().reopen(batch_id)
    assert world.objects(world.lake) == {}
    assert world.ingest(batch_id).counts.written == 2
    assert world.in_lake() == {"a-0": 1, "a-1": 1}


def test_what_killed_workers_left_on_the_disk_is_removed_and_what_others_use_is_not(world):
    left = world.work / "work" / "old-1"
    left.mkdir(parents=True)
    (world.work / "work" / "old-1.lock").touch()
    batch_id = planned(world, "a")
    others = []

    def look(request):
        others.append(request.out.parent)
        if len(others) == 1:
            assert not left.exists()
            world.ingest(batch_id)
            assert others[0].is_dir()
            assert not others[1].exists()

    world.engine.before = look
    world.ingest(batch_id)
    assert len(others) == 2


HOSTILE = [
    "../../etc/passwd",
    "a\rb",
    "a=b/c;d'--",
    'x"; DROP TABLE y',
    "ü/日本/😀",
    "+ %2B &",
    "k" * 1024,
    "/",
    ".",
    "a\\b\u2028",
]


def test_hostile_names_are_only_data(world):
    world.send(*(world.put(key, [f"line {n}"]) for n, key in enumerate(HOSTILE)))
    (batch,) = world.all_at_once()
    assert world.in_lake() == {f"line {n}": 1 for n in range(len(HOSTILE))}
    assert {each.version.key for each in world.ledger.versions_of(batch.batch_id)} == set(HOSTILE)
    (request,) = world.engine.requests
    assert {each.path.name for each in request.objects} == {f"object-{n:06}" for n in range(1, len(HOSTILE) + 1)}


def test_the_request_is_what_the_engine_reads(world):
    planned(world, "a")
    world.ingest(world.plan().batches[0])
    (request,) = world.engine.requests
    assert isinstance(request, ProcessRequest)
    document = request.to_json()
    (item,) = document.pop("objects")
    assert sorted(document) == ["batch", "mapping_digest", "out", "source", "threads"]
    assert sorted(item) == ["bucket", "etag", "key", "path", "size", "version_id"]
