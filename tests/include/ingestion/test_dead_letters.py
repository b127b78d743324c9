"""Dead letters: written and read back whole, and replayed once."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from dataclasses import replace

import pytest

from include.ingestion.dead_letters import DeadLetter, read, replay, write
from include.ingestion.exceptions import BatchConflict, BatchRefused, DeadLettersUnreadable
from include.ingestion.ledger import BatchState, VersionState

SOURCE = "trial"
DAY = "20260101"
LETTER = DeadLetter("trial", "b", "k", None, "e", 7, 123, "not_json", "expected…", b"\x00\xff\n raw", 0, "batch", "m1")


def test_what_is_written_is_read(tmp_path):
    letters = [LETTER, replace(LETTER, record=8, piece=1, pieces=0), replace(LETTER, record=8, piece=2, pieces=2)]
    path = tmp_path / "x.gz"
    assert write(path, letters) == 2
    with path.open("rb") as file:
        assert list(read(file)) == letters
    first = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])
    assert "piece" not in first
    assert first["raw"] == "AP8KIHJhdw=="
    again = tmp_path / "y.gz"
    write(again, letters)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"x\n"), gzip.compress(b'{"raw": "%"}\n'), b""]
)
def test_what_is_none_is_refused(content):
    if not content:
        assert list(read(io.BytesIO(content))) == []
        return
    with pytest.raises(DeadLettersUnreadable, match="gzip of JSON lines"):
        list(read(io.BytesIO(content)))


def test_a_file_that_was_cut_is_refused(tmp_path):
    write(tmp_path / "x.gz", [replace(LETTER, record=n) for n in range(5000)])
    with pytest.raises(DeadLettersUnreadable):
        list(read(io.BytesIO((tmp_path / "x.gz").read_bytes()[:-9])))


def published(world, **objects):
    world.send(*(world.put(key, lines) for key, lines in objects.items()))
    (batch,) = world.all_at_once()
    return batch


def again(world, **named):
    named = {"day": DAY} if not named.keys() & {"day", "batch_id"} and not named else named
    return replay(world.s3, world.ledger, SOURCE, landing_bucket=world.raw, work=world.work, **named)


def test_a_replay_brings_dead_letters_back_once(world):
    batch = published(world, a=["x", "bad 1", "bad 2"], b=["bad 3"])
    done = again(world)
    assert (done.records, done.objects, done.reasons) == (3, 2, {"bad": 3})
    assert again(world) == replace(done, records=0, objects=0, reasons={})
    world.engine.fixed = True
    (second,) = world.all_at_once()
    assert second.counts.written == 3
    assert world.in_lake() == dict.fromkeys(["x", "bad 1", "bad 2", "bad 3"], 1)
    assert again(world, batch_id=batch.batch_id).records == 0
    assert again(world, batch_id=second.batch_id).records == 0


def test_a_replayed_object_says_which_object_it_is_of(world):
    published(world, a=["bad 1"])
    again(world)
    world.all_at_once()
    (item,) = world.engine.requests[-1].objects
    assert item.key.startswith("replays/source=trial/day=20260101/")
    assert (item.replay_of.bucket, item.replay_of.key) == (world.raw, "a")
    assert item.to_json()["replay_of"]["key"] == "a"
    again(world)  # those that failed again
    world.all_at_once()
    assert world.engine.requests[-1].objects[0].replay_of.key == "a"


def test_those_that_fail_again_come_back_as_dead_letters(world):
    published(world, a=["bad 1", "bad-for-ever 2"])
    again(world)
    world.engine.fixed = True
    (second,) = world.all_at_once()
    assert (second.counts.written, second.counts.set_aside) == (1, 1)
    assert Counter(letter.raw for letter in world.letters()) == {b"bad 1": 1, b"bad-for-ever 2": 2}
    assert again(world).records == 1  # that of the second batch; those of the first were replayed
    assert world.states() == {VersionState.INGESTED: 2, VersionState.RECEIVED: 1}


def test_a_replay_of_one_reason_leaves_the_others(world):
    published(world, a=["bad 1", "badly 2", "bad 3"])
    assert again(world, day=DAY, reasons=["bad"]).records == 2
    assert again(world, day=DAY, reasons=["bad"]).records == 0
    assert again(world).reasons == {"badly": 1}
    assert again(world, day=DAY, reasons=["badly"]).records == 0


def test_two_replays_at_the_same_time_take_each_letter_once(world):
    published(world, a=["bad 1", "badly 2"], b=["bad 3"])
    real = world.ledger.receive_replay
    other = []

    def overtaken(*args):
        if not other:
            other.append(None)
            other[0] = again(world, day=DAY, reasons=["bad"])
        return real(*args)

    world.ledger.receive_replay = overtaken
    mine = again(world)
    assert other[0].records == 2
    assert (mine.records, mine.reasons) == (1, {"badly": 1})
    world.engine.fixed = True
    world.all_at_once()
    assert world.in_lake() == {"bad 1": 1, "badly 2": 1, "bad 3": 1}


def test_a_long_record_is_joined_again(world, monkeypatch):
    real = write

    def in_pieces(path, letters):
        parts = []
        for letter in letters:
            raws = [letter.raw[at : at + 3] for at in range(0, len(letter.raw), 3)]
            parts += [
                replace(letter, raw=raw, piece=n, pieces=len(raws) if n == len(raws) else 0)
                for n, raw in enumerate(raws, start=1)
            ]
        return real(path, parts)

    monkeypatch.setattr("include.ingestion.dead_letters.write", in_pieces)
    batch = published(world, a=["bad long record", "bad", "good"])
    assert batch.counts.set_aside == 2
    assert again(world).records == 2
    world.engine.fixed = True
    world.all_at_once()
    assert world.in_lake() == {"bad long record": 1, "bad": 1, "good": 1}


def test_a_day_or_a_batch_is_wanted(world):
    with pytest.raises(ValueError, match="expected a day or a batch"):
        replay(world.s3, world.ledger, SOURCE, landing_bucket=world.raw)


def test_a_refused_batch_is_retried_not_replayed(world):
    world.share = 0.0
    world.send(world.put("a", ["bad 1"]))
    world.receive()
    (batch_id,) = world.plan().batches
    with pytest.raises(BatchRefused):
        world.ingest(batch_id)
    with pytest.raises(BatchConflict, match="that is refused"):
        again(world, batch_id=batch_id)
    assert again(world).records == 0
    assert world.ledger.batch(batch_id).state == BatchState.REFUSED


def test_dead_letters_that_are_gone_are_told(world):
    published(world, a=["bad 1"])
    for key in world.objects(world.dead):
        world.s3.delete_object(Bucket=world.dead, Key=key)
    with pytest.raises(DeadLettersUnreadable, match="found that they are gone"):
        again(world)
    assert world.ledger.wait_of(SOURCE).objects == 0
