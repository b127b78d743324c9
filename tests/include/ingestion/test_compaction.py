"""Compaction, all but the merge itself: what is taken, what is seen meanwhile, what is left after a death at any call."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.ingestion.compaction import (
    CompactionConflict,
    CompactionLimits,
    Compactor,
    MergeFailed,
    MergeProcess,
    MergeRequest,
    MergeResult,
    StoredObject,
    group_id,
    plan_groups,
)
from include.ingestion.exceptions import CountsDiffer, LeaseLost, LeaseTaken
from include.ingestion.security_lake import LakePartition, lake_key, parse_lake_key

SOURCE, REGION = "aws-alb-4002", "us-east-1"
PARTITION = LakePartition(SOURCE, REGION, "external", "20260101")
LATER = 4_000_000_000.0
ROWS = Counter({"a": 1, "b": 1, "c": 1, "d": 1})


class Lines:
    """Merges files of lines."""

    def __init__(self):
        self.during = lambda: None
        self.spoil = lambda result: result
        self.requests = []

    def run(self, request):
        self.requests.append(request)
        lines = [path.read_bytes().splitlines() for path in request.inputs]
        merged = sorted(line for some in lines for line in some)
        request.output.write_bytes(b"".join(line + b"\n" for line in merged))
        self.during()
        size = request.output.stat().st_size
        return self.spoil(MergeResult(tuple(len(some) for some in lines), len(merged), size, 0, 1, 0.1))


@pytest.fixture
def make(world):
    """Makes compactors of the world's lake."""

    def make(owner="one", **more):
        limits = {"target_bytes": 1000, "threads": 1, "lease_seconds": 100.0, **more.pop("limits", {})}
        named = {"clock": lambda: LATER, "sleep": lambda _: None, **more}
        return Compactor(
            *(world.s3, world.dynamodb, world.lake, world.table, Lines(), owner, world.work / owner),
            **{"limits": CompactionLimits(**limits), **named},
        )

    return make


def put(world, key, *lines, bucket=None):
    body = b"".join(line.encode() + b"\n" for line in lines)
    world.s3.put_object(Bucket=bucket or world.lake, Key=key, Body=body)
    return key


def key_of(batch, day="20260101", part=0, account=None, source=SOURCE):
    return lake_key(source, REGION, account, day, batch, part)


def fill(world):
    return [put(world, key_of("one"), "a", "b"), put(world, key_of("two"), "c"), put(world, key_of("two", part=1), "d")]


def journals(world):
    return [row for row in world.rows("compaction#") if "journal" in row]


def keys_of(world):
    return sorted(world.objects(world.lake))


# What is taken


def stored(batch, size, modified=0.0, **more):
    return StoredObject(key_of(batch, **more), f"etag-{batch}", size, modified)


LIMITS = CompactionLimits(target_bytes=1000, near=0.75, quiet_hours=1)


def sizes(groups):
    return [sorted(each.size for each in group) for group in groups]


def test_objects_are_grouped_to_about_the_target():
    objects = [stored(f"b{n}", size) for n, size in enumerate((400, 300, 200, 500, 100, 450, 600))]
    groups = plan_groups(objects, LIMITS, LATER)
    assert sizes(groups) == [[100, 200, 300, 400], [450, 500]]
    assert all(sum(each.size for each in group) <= 1000 for group in groups)


def test_objects_near_the_target_stay():
    assert plan_groups([stored("a", 750), stored("b", 900), stored("c", 10)], LIMITS, LATER) == []
    assert sizes(plan_groups([stored("a", 749), stored("c", 10)], LIMITS, LATER)) == [[10, 749]]


def test_one_object_alone_is_not_merged_with_itself():
    assert plan_groups([stored("a", 1)], LIMITS, LATER) == []
    assert plan_groups([], LIMITS, LATER) == []


def test_a_group_has_at_most_so_many_inputs():
    objects = [stored(f"b{n:03d}", 1) for n in range(7)]
    limits = CompactionLimits(target_bytes=1000, most_inputs=3)
    assert sizes(plan_groups(objects, limits, LATER)) == [[1, 1, 1], [1, 1, 1]]


def test_objects_that_came_lately_or_are_not_settled_stay():
    now = 10_000.0
    objects = [stored("old", 1, 6400.0), stored("new", 2, 6401.0), stored("open", 3, 0.0), stored("also", 4, 0.0)]
    groups = plan_groups(objects, LIMITS, now, settled=lambda key: key.batch_id != "open")
    assert sizes(groups) == [[1, 4]]


def test_merged_objects_need_nobody_who_knows_their_batch():
    objects = [stored("compacted-00", 1), stored("b", 1), stored("c", 1)]
    groups = plan_groups(objects, LIMITS, LATER, settled=lambda key: key.batch_id == "b")
    assert [parse_lake_key(each.key).batch_id for each in groups[0]] == ["b", "compacted-00"]


def test_keys_of_others_stay():
    strange = [
        StoredObject(f"{PARTITION.prefix}{name}", "e", 1) for name in ("x.parquet", "y-00000.zstd.parquet.tmp", "z")
    ]
    assert plan_groups([*strange, stored("a", 1)], LIMITS, LATER) == []


def test_a_groups_name_is_its_keys_and_etags():
    one, two = stored("a", 1), stored("b", 1)
    assert group_id([one, two]) == group_id([two, one])
    assert group_id([one, two]) != group_id([one, StoredObject(two.key, "other", 1)])
    assert parse_lake_key(key_of(group_id([one, two])))


# What is done


def test_small_objects_become_one(world, make):
    inputs = fill(world)
    report = make().compact(PARTITION)

    [merged] = keys_of(world)
    assert parse_lake_key(merged).batch_id.startswith("compacted-")
    assert world.in_lake() == ROWS
    assert (report.merged, report.inputs, report.rows, report.resumed) == (1, len(inputs), 4, 0)
    assert report.bytes_before == report.bytes_after == 8
    assert world.rows("compaction#") == []
    assert not world.uploads()
    assert not list((world.work / "one").iterdir())


def test_a_second_run_has_nothing_to_do(world, make):
    fill(world)
    make().compact(PARTITION)
    before = keys_of(world)
    report = make().compact(PARTITION)
    assert report.merged == 0
    assert keys_of(world) == before


def test_what_comes_late_is_merged_with_what_is_there(world, make):
    fill(world)
    make().compact(PARTITION)
    put(world, key_of("late"), "e")
    assert make().compact(PARTITION).inputs == 2
    assert world.in_lake() == ROWS + Counter("e")
    assert len(keys_of(world)) == 1


def test_other_partitions_and_keys_are_not_touched(world, make):
    fill(world)
    others = [
        put(world, key_of("x", day="20260102"), "x"),
        put(world, key_of("x", account="123456789012"), "x"),
        put(world, f"{PARTITION.prefix}theirs.parquet", "x"),
        put(world, f"{PARTITION.prefix}big-00000.zstd.parquet", "x" * 750),
    ]
    make().compact(PARTITION)
    assert set(others) < set(keys_of(world))
    assert len(keys_of(world)) == len(others) + 1


def test_a_day_that_is_not_long_over_is_not_compacted(world, make):
    fill(world)
    end = datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    limits = {"quiet_hours": -1e6, "grace_hours": 24.0}
    early = make(clock=lambda: end + 86_399, limits=limits)
    assert early.compact(PARTITION).merged == 0
    assert early.find([SOURCE], "20250101") == []
    assert make(clock=lambda: end + 86_400, limits=limits).compact(PARTITION).merged == 1


def test_several_groups_of_a_day_are_merged(world, make):
    for n in range(7):
        put(world, key_of(f"b{n}"), f"r{n}")
    assert make(limits={"most_inputs": 3}).compact(PARTITION).merged == 2
    assert world.in_lake() == Counter(f"r{n}" for n in range(7))
    assert len(keys_of(world)) == 3


def test_many_threads_do_the_same(world, make):
    for n in range(30):
        put(world, key_of(f"b{n}"), f"r{n:02d}")
    assert make(limits={"threads": 8}).compact(PARTITION).inputs == 30
    assert world.in_lake() == Counter(f"r{n:02d}" for n in range(30))


def test_in_a_versioned_bucket_the_inputs_can_be_had_back(world, make):
    world.s3.put_bucket_versioning(Bucket=world.lake, VersioningConfiguration={"Status": "Enabled"})
    inputs = fill(world)
    make().compact(PARTITION)
    assert world.in_lake() == ROWS
    versions = world.s3.list_object_versions(Bucket=world.lake)
    assert set(inputs) <= {each["Key"] for each in versions["Versions"]}


# What is found


def test_finds_partitions_with_something_to_merge(world, make):
    fill(world)
    for day in ("20251231", "20260103"):
        for account in (None, "123456789012"):
            put(world, key_of("one", day=day, account=account), "x")
            put(world, key_of("two", day=day, account=account), "y")
    put(world, key_of("alone", day="20260104"), "x")
    put(world, key_of("one", source="other-4001"), "x")
    put(world, key_of("two", source="other-4001"), "x")

    found = make().find([SOURCE], "20260101")
    assert found == sorted(
        [
            PARTITION,
            LakePartition(SOURCE, REGION, "external", "20260103"),
            LakePartition(SOURCE, REGION, "123456789012", "20260103"),
        ]
    )
    assert {each.custom_source for each in make().find([SOURCE, "other-4001"], "20260101")} == {SOURCE, "other-4001"}


def test_finds_what_was_begun_first_and_however_old(world, make, killed):
    put(world, key_of("one"), "x")
    put(world, key_of("two"), "y")
    put(world, key_of("one", account="a"), "x")
    put(world, key_of("two", account="a"), "y")
    begun = LakePartition(SOURCE, REGION, "external_a", "20260101")
    compactor = make()
    compactor._delete = lambda _: (_ for _ in ()).throw(killed())
    with pytest.raises(killed):
        compactor.compact(begun)
    assert make().find([SOURCE], "20260101") == [begun, PARTITION]
    assert make().find([SOURCE], "20270101") == [begun]
    assert make().find(["other-4001"], "20260101") == []


# Dying


def test_killed_at_any_call_no_row_is_missing_and_none_stays_twice(make_world, killed):
    deaths = 0
    for when in ("before", "after"):
        call = 0
        while True:
            call += 1
            world = make_world()
            fill(world)
            compactor = compactor_of(world)
            try:
                with world.killed_at(call, when) as made:
                    compactor.compact(PARTITION)
            except killed:
                deaths += 1
            else:
                break
            seen = world.in_lake()
            assert set(seen) == set(ROWS), (call, when, made.calls[-1])
            assert max(seen.values()) <= 2
            if seen != ROWS:  # doubled: whoever looks what was begun finds it
                assert compactor_of(world).find([SOURCE], "20270101") == [PARTITION]
            compactor_of(world).compact(PARTITION)
            assert world.in_lake() == ROWS, (call, when, made.calls[-1])
            assert len(keys_of(world)) == 1
            assert not world.rows("compaction#")
            assert len(world.uploads()) <= 1  # one that nobody could note; the bucket's rule removes it
    assert deaths > 25


def compactor_of(world, owner="one", clock=lambda: LATER, **limits):
    return Compactor(
        *(world.s3, world.dynamodb, world.lake, world.table, Lines(), owner, world.work / owner),
        limits=CompactionLimits(**{"target_bytes": 1000, "threads": 1, "lease_seconds": 100.0, **limits}),
        clock=clock,
        sleep=lambda _: None,
    )


@pytest.mark.parametrize("when", ["before-send", "after-call"])
def test_whoever_wakes_up_after_its_lease_does_no_harm(make_world, when):
    """At each call of one compactor, another one takes over and finishes; then the first goes on."""
    lost = calls = 0
    for late in range(1, 100):
        world = make_world()
        fill(world)
        made = []
        now = [LATER]

        def take_over(world=world, made=made, now=now, late=late, **_):
            made.append(1)
            if len(made) == late:
                now[0] += 1000
                compactor_of(world, "two", lambda: now[0]).compact(PARTITION)

        for client in world.clients:
            client.meta.events.register_first(when, take_over)
        try:
            compactor_of(world, "one", lambda now=now: now[0]).compact(PARTITION)
        except LeaseLost:
            lost += 1
        finally:
            for client in world.clients:
                client.meta.events.unregister(when, take_over)
        assert world.in_lake() == ROWS, late
        if len(made) < late:
            break
        calls += 1
        compactor_of(world, "three", lambda now=now: now[0] + 1000).compact(PARTITION)
        assert world.in_lake() == ROWS, late
        assert len(keys_of(world)) == 1
        assert not journals(world)
    assert calls > 12
    assert lost > 5


def test_two_at_once_do_not_collide(world, make):
    fill(world)
    first = make("one")
    refused = []

    def second():
        with pytest.raises(LeaseTaken, match="found somebody else compacting it"):
            make("two").compact(PARTITION)
        refused.append(1)

    first.merger.during = second
    first.compact(PARTITION)
    assert refused == [1]
    assert world.in_lake() == ROWS


@pytest.mark.parametrize("owner", ["two", "one"])
def test_whoever_has_lost_its_lease_writes_no_journal(world, make, killed, owner):
    """Also to a retry of the same task, which has the same owner."""
    fill(world)
    now = [LATER]
    first, second = make("one", clock=lambda: now[0]), make(owner, clock=lambda: now[0])
    second._merge = lambda *_: (_ for _ in ()).throw(killed())  # has the lease still, and nothing done
    second.work = world.work / "second"

    def take_over():
        now[0] += 101
        with pytest.raises(killed):
            second.compact(PARTITION)

    first.merger.during = take_over
    with pytest.raises(LeaseLost, match="who goes on from here"):
        first.compact(PARTITION)
    assert not journals(world)
    assert not world.uploads()
    assert world.in_lake() == ROWS
    assert len(keys_of(world)) == 3


def test_an_upload_whose_journal_is_refused_is_aborted(world, make, killed):
    fill(world)
    now = [LATER]
    first, second = make("one", clock=lambda: now[0]), make("two", clock=lambda: now[0] + 101)
    second._merge = lambda *_: (_ for _ in ()).throw(killed())
    real = world.s3.upload_part

    def late(**request):
        world.s3.upload_part = real
        with pytest.raises(killed):
            second.compact(PARTITION)
        return real(**request)

    world.s3.upload_part = late
    with pytest.raises(LeaseLost):
        first.compact(PARTITION)
    assert not world.uploads()
    assert not journals(world)


def test_a_lease_is_given_back_when_something_fails(world, make):
    fill(world)
    first = make("one")
    first.merger.during = lambda: (_ for _ in ()).throw(MergeFailed("no"))
    with pytest.raises(MergeFailed):
        first.compact(PARTITION)
    assert make("two").compact(PARTITION).merged == 1


def test_a_long_merge_that_nobody_took_over_goes_on(world, make):
    fill(world)
    now = [LATER]
    compactor = make(clock=lambda: now[0])
    compactor.merger.during = lambda: now.__setitem__(0, now[0] + 1000)
    assert compactor.compact(PARTITION).merged == 1


# Inputs that change


def test_an_input_that_is_replaced_while_it_is_merged_is_left_for_the_next_run(world, make):
    fill(world)
    compactor = make()
    compactor.merger.during = lambda: put(world, key_of("two"), "c", "new")
    assert compactor.compact(PARTITION).merged == 0
    assert world.in_lake() == ROWS + Counter(["new"])
    assert not world.uploads()
    assert not world.rows("compaction#")
    assert make().compact(PARTITION).merged == 1
    assert world.in_lake() == ROWS + Counter(["new"])


def test_an_input_that_was_deleted_meanwhile_does_not_come_back(world, make):
    fill(world)
    compactor = make()
    compactor.merger.during = lambda: world.s3.delete_object(Bucket=world.lake, Key=key_of("two"))
    assert compactor.compact(PARTITION).merged == 0
    make().compact(PARTITION)
    assert world.in_lake() == ROWS - Counter("c")


def test_an_input_that_is_gone_before_it_is_fetched_is_left_out(world, make):
    fill(world)
    compactor = make()
    real = compactor._fetch

    def late(stored, path):
        world.s3.delete_object(Bucket=world.lake, Key=key_of("two"))
        return real(stored, path)

    compactor._fetch = late
    assert compactor.compact(PARTITION).merged == 0
    assert world.in_lake() == ROWS - Counter("c")


def test_an_input_that_is_replaced_after_its_rows_were_merged_is_not_deleted_but_told(world, make):
    fill(world)
    compactor = make()
    real = compactor._delete

    def late(stored):
        if stored.key == key_of("two"):
            put(world, key_of("two"), "new")
        return real(stored)

    compactor._delete = late
    with pytest.raises(CompactionConflict, match=r"found 1 replaced: .*two-00000.*the attribute journal of the item"):
        compactor.compact(PARTITION)
    assert world.in_lake() == ROWS + Counter(["new"])
    with pytest.raises(CompactionConflict):
        make("two").compact(PARTITION)


def test_an_upload_that_was_aborted_is_made_anew(world, make, killed):
    fill(world)
    compactor = make()
    real = world.s3.complete_multipart_upload
    world.s3.complete_multipart_upload = lambda **_: (_ for _ in ()).throw(killed())
    try:
        with pytest.raises(killed):
            compactor.compact(PARTITION)
    finally:
        world.s3.complete_multipart_upload = real
    assert len(journals(world)) == 1
    [upload] = world.uploads()
    world.s3.abort_multipart_upload(Bucket=world.lake, Key=upload["Key"], UploadId=upload["UploadId"])
    report = make().compact(PARTITION)
    assert (report.merged, report.resumed) == (1, 0)
    assert world.in_lake() == ROWS


def test_what_was_begun_is_finished_without_another_merge(world, make, killed):
    fill(world)
    compactor = make()
    compactor._delete = lambda _: (_ for _ in ()).throw(killed())
    with pytest.raises(killed):
        compactor.compact(PARTITION)
    assert max(world.in_lake().values()) == 2
    again = make()
    report = again.compact(PARTITION)
    assert (report.merged, report.resumed, report.rows) == (1, 1, 4)
    assert again.merger.requests == []
    assert world.in_lake() == ROWS


def test_a_delete_that_meets_another_is_tried_again(world, make):
    fill(world)
    with world.failing(world.s3, "DeleteObject", 3, "ConditionalRequestConflict", 409) as left:
        assert make().compact(PARTITION).merged == 1
    assert left == [0]
    assert world.in_lake() == ROWS


# Counts


@pytest.mark.parametrize(
    "spoil",
    [
        lambda result: MergeResult(result.input_rows, result.rows - 1, result.bytes, 0, 1, 0.1),
        lambda result: MergeResult(result.input_rows[:-1], result.rows, result.bytes, 0, 1, 0.1),
        lambda result: MergeResult((0, 0, 0), 0, result.bytes, 0, 1, 0.1),
        lambda result: MergeResult(result.input_rows, result.rows, result.bytes + 1, 0, 1, 0.1),
    ],
)
def test_a_merge_that_does_not_add_up_is_not_uploaded(world, make, spoil):
    inputs = fill(world)
    compactor = make()
    compactor.merger.spoil = spoil
    with pytest.raises(CountsDiffer, match="Nothing was uploaded"):
        compactor.compact(PARTITION)
    assert keys_of(world) == sorted(inputs)
    assert not world.uploads()


# The process


def test_objects_are_merged_in_a_process(world, make):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for n in range(3):
        path = world.work / "in.parquet"
        pq.write_table(pa.table({"time": pa.array([n + 10, n], pa.int64()), "v": [str(n)] * 2}), path)
        world.s3.put_object(Bucket=world.lake, Key=key_of(f"b{n}"), Body=path.read_bytes())
    compactor = make(limits={"target_bytes": 1 << 20})
    compactor.merger = MergeProcess(python=Path(sys.executable))
    report = compactor.compact(PARTITION)
    assert (report.inputs, report.rows) == (3, 6)
    [body] = world.objects(world.lake).values()
    found = pq.read_table(pa.BufferReader(body))
    assert found["time"].to_pylist() == [0, 1, 2, 10, 11, 12]
    assert found["v"].to_pylist() == ["0", "1", "2"] * 2


def test_the_processs_last_words_are_told(tmp_path):
    (tmp_path / "in").write_bytes(b"no parquet")
    request = MergeRequest((tmp_path / "in",), tmp_path / "out", tmp_path)
    with pytest.raises(MergeFailed, match=r"(?s)exit code 1\..*Parquet"):
        MergeProcess(python=Path(sys.executable)).run(request)


def test_without_the_environment_it_says_what_to_build(tmp_path):
    request = MergeRequest((), tmp_path / "out", tmp_path)
    with pytest.raises(MergeFailed, match="make setup"):
        MergeProcess(python=tmp_path / "python").run(request)


def test_a_process_that_takes_too_long_is_stopped(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    request = MergeRequest((), tmp_path / "out", tmp_path)
    with pytest.raises(MergeFailed, match="within 0 s"):
        MergeProcess(timeout_seconds=0.2, python=script).run(request)
