"""The ledger: one batch for each version, whatever is retried, doubled or at the same time."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from include.ingestion.exceptions import BatchConflict, BatchUnknown, VersionUnknown
from include.ingestion.ledger import (
    ASIDE,
    Arrival,
    BatchState,
    Counts,
    Ledger,
    ObjectFinding,
    ObjectRef,
    Received,
    Upload,
    VersionState,
    batch_id_of,
)
from include.ingestion.notices import ObjectVersion

SOURCE = "trial"


def arrival(name, source=SOURCE, **named):
    return Arrival(ObjectVersion("bucket", name, None, name, 10), source, "notice", **named)


@pytest.fixture
def ledger(world):
    return world.ledger


def received(ledger, *names):
    ledger.receive(arrival(name) for name in names)
    return {each.version.key: each for each in ledger.waiting(SOURCE)}


def test_a_version_is_new_once(ledger):
    assert ledger.receive([arrival("a"), arrival("b"), arrival("a")]) == Received(2, 0)
    assert ledger.receive([arrival("b"), arrival("c")]) == Received(1, 1)
    assert ledger.receive([arrival("b"), arrival("d")], mostly_known=True) == Received(1, 1)
    assert sorted(each.version.key for each in ledger.waiting(SOURCE)) == ["a", "b", "c", "d"]


def test_more_than_a_transaction_and_a_page_hold(ledger):
    names = [f"{n:04}" + "k" * 1020 for n in range(800)]
    assert ledger.receive(arrival(name) for name in names) == Received(800, 0)
    assert ledger.receive((arrival(name) for name in names), mostly_known=True) == Received(0, 800)
    assert len(list(ledger.waiting(SOURCE))) == 800
    wait = ledger.wait_of(SOURCE)  # of more than one page: each item has some 1,400 bytes
    assert (wait.objects, wait.bytes, wait.since[:10]) == (800, 8000, "2026-01-01")


def test_what_waits_is_in_the_order_of_its_receipt(world, ledger):
    for name in "cab":
        world.now += 1
        ledger.receive([arrival(name)])
    assert [each.version.key for each in ledger.waiting(SOURCE)] == ["c", "a", "b"]


def test_nothing_waits(ledger):
    assert (ledger.wait_of(SOURCE).objects, ledger.wait_of(SOURCE).since) == (0, "")


def test_a_version_no_source_takes_is_set_aside_until_one_does(ledger):
    ledger.receive([arrival("a", None)])
    (aside,) = ledger.waiting(ASIDE)
    assert (aside.state, aside.reason) == (VersionState.SET_ASIDE, "no_source")
    assert ledger.receive([arrival("a", None)]) == Received(0, 1)
    assert ledger.receive([arrival("a")], mostly_known=True) == Received(1, 0)
    assert [each.state for each in ledger.waiting(SOURCE)] == [VersionState.RECEIVED]
    assert list(ledger.waiting(ASIDE)) == []


def test_an_operator_sets_a_version_aside_and_admits_it(ledger):
    (version,) = received(ledger, "a").values()
    identity = version.version.identity
    ledger.set_aside(identity, "too strange")
    assert [each.reason for each in ledger.waiting(ASIDE)] == ["too strange"]
    with pytest.raises(BatchConflict, match="found it set_aside"):
        ledger.set_aside(identity, "again")
    ledger.admit(identity, "other")
    assert [each.version.key for each in ledger.waiting("other")] == ["a"]
    with pytest.raises(VersionUnknown, match="never received"):
        ledger.admit("0" * 64, "other")


def test_a_version_gets_one_batch_of_two_that_want_it(ledger):
    there = received(ledger, "a", "b", "c")
    first = ledger.form(SOURCE, [there["a"], there["b"]])
    second = ledger.form(SOURCE, [there["b"], there["c"]])
    assert [member.version.key for member in ledger.members(first)] != []
    assert {member.version.key for member in ledger.members(second)} == {"c"}
    assert (ledger.batch(first).objects, ledger.batch(second).objects, ledger.batch(second).bytes) == (2, 1, 10)
    assert ledger.form(SOURCE, list(there.values())) is None
    assert len(ledger.open_batches(SOURCE)) == 2


def test_the_same_batch_formed_twice_is_one(ledger):
    there = list(received(ledger, "a", "b").values())
    batch_id = ledger.form(SOURCE, there)
    assert batch_id == batch_id_of(SOURCE, [each.version.identity for each in there])
    assert ledger.form(SOURCE, there) is None
    assert [each.batch_id for each in ledger.open_batches(SOURCE)] == [batch_id]


def test_a_batch_that_was_sealed_takes_no_more_versions(ledger):
    there = list(received(ledger, *(f"{n:03}" for n in range(120))).values())
    real = ledger._claim
    claims = []

    def sealed_between(batch_id, versions):
        claims.append(len(versions))
        if len(claims) == 2:
            Ledger(ledger.dynamodb, ledger.table).seal(batch_id)
        return real(batch_id, versions)

    ledger._claim = sealed_between
    batch_id = ledger.form(SOURCE, there)
    assert claims == [49, 49]
    assert ledger.batch(batch_id).objects == len(ledger.members(batch_id)) == 49
    assert len(list(ledger.waiting(SOURCE))) == 71


def test_planners_at_the_same_time_give_each_version_one_batch(world, ledger):
    there = list(received(ledger, *(f"{n:03}" for n in range(60))).values())
    errors = []

    def work(start):
        try:
            mine = Ledger(world.dynamodb, world.table, ledger.clock)
            for at in range(start, 60, 7):
                mine.form(SOURCE, there[at : at + 10])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    members = [
        member.version.identity for batch in ledger.open_batches(SOURCE) for member in ledger.members(batch.batch_id)
    ]
    assert len(members) == len(set(members)) == 60
    assert all(len(ledger.members(each.batch_id)) == each.objects for each in ledger.open_batches(SOURCE))
    assert {each.state for each in ledger.open_batches(SOURCE)} == {BatchState.PLANNED}


UPLOAD = Upload("lake", "lake", "k", "u", ({"PartNumber": 1, "ETag": "e"},), 3, 9, {"class": "x"})
COUNTS = Counts(5, 3, 2, {"bad": 2}, {"x": 3}, 1)


def planned(ledger, *names):
    return ledger.form(SOURCE, list(received(ledger, *names).values()))


def test_of_two_attempts_one_is_committed(ledger):
    batch_id = planned(ledger, "a")
    first, second = ledger.begin_attempt(batch_id), ledger.begin_attempt(batch_id)
    ledger.record_upload(batch_id, first, 1, UPLOAD)
    ledger.record_upload(batch_id, second, 1, replace(UPLOAD, upload_id="v"))
    assert ledger.commit(batch_id, second, COUNTS, "m")
    assert not ledger.commit(batch_id, first, COUNTS, "n")
    assert ledger.commit(batch_id, second, COUNTS, "m")  # a retry whose answer was lost
    batch = ledger.batch(batch_id)
    assert (batch.state, batch.commit, batch.counts, batch.mapping_digest) == (
        BatchState.COMMITTED,
        second,
        COUNTS,
        "m",
    )
    assert ledger.begin_attempt(batch_id) is None
    assert not ledger.refuse(batch_id, "late", COUNTS, "m")
    assert ledger.uploads(batch_id, second) == {second: [replace(UPLOAD, upload_id="v")]}
    ledger.forget_attempt(batch_id, first)
    assert ledger.attempts_kept(batch_id) == {second}


def test_a_published_batch_has_told_its_versions(ledger):
    batch_id = planned(ledger, *(f"{n:04}" for n in range(230)))
    attempt = ledger.begin_attempt(batch_id)
    found = [
        ObjectFinding(member.version.identity, 1, 1, 0, *((VersionState.GONE, "deleted") if n == 229 else ()))
        for n, member in enumerate(ledger.members(batch_id))
    ]
    ledger.record_findings(batch_id, attempt, found)
    ledger.commit(batch_id, attempt, COUNTS, "m")
    assert ledger.publish(batch_id).state == BatchState.PUBLISHED
    assert ledger.publish(batch_id).state == BatchState.PUBLISHED
    versions = ledger.versions_of(batch_id)
    assert [each.state for each in versions].count(VersionState.INGESTED) == 229
    assert (versions[-1].state, versions[-1].reason) == (VersionState.GONE, "deleted")
    assert ledger.open_batches(SOURCE) == []
    assert ledger.receive([arrival("0000")]) == Received(0, 1)


def test_what_is_not_there_or_not_so_is_told(ledger):
    with pytest.raises(BatchUnknown, match="expected a batch"):
        ledger.batch("x")
    batch_id = planned(ledger, "a")
    with pytest.raises(BatchConflict, match="expected it to be committed, found it planned"):
        ledger.publish(batch_id)
    with pytest.raises(BatchConflict, match="expected it to be refused, found it planned"):
        ledger.release(batch_id)
    with pytest.raises(BatchConflict, match="found it batched in batch"):
        ledger.set_aside(ledger.members(batch_id)[0].version.identity, "x")


def test_a_thousand_findings_and_more(ledger):
    batch_id = planned(ledger, "a")
    found = [ObjectFinding(f"{n:064}", n, n, 0) for n in range(2100)]
    ledger.record_findings(batch_id, 1, found)
    assert ledger.findings(batch_id, 1) == found


def test_a_replay_and_its_marks_are_recorded_together_once(ledger):
    batch_id = planned(ledger, "a")
    ref = ObjectRef("bucket", "a", None, "a")
    assert ledger.receive_replay(arrival("r", replay_of=ref), batch_id, ["1#a", "1#b"])
    assert not ledger.receive_replay(arrival("s", replay_of=ref), batch_id, ["1#b", "1#c"])
    assert ledger.replayed(batch_id) == {"1#a", "1#b"}
    assert [(each.version.key, each.replay_of) for each in ledger.waiting(SOURCE)] == [("r", ref)]


def test_batches_are_found_by_source_and_day(world, ledger):
    first = planned(ledger, "a")
    world.now += 86_400
    second = planned(ledger, "b")
    assert [each.batch_id for each in ledger.batches(SOURCE, "20260101")] == [first]
    assert [each.batch_id for each in ledger.batches(SOURCE, "20260102")] == [second]
    assert ledger.batches("other", "20260101") == []
