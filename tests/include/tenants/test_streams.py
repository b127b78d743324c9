"""Reading a table's changes: all of them, each once, in order per item, across splits, pauses and faults."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.local.aws.controls import Controls
from include.tenants.exceptions import ProvisioningFailed, StreamTrimmed
from include.tenants.streams import MOST_LAG_SECONDS, Position, Stream, arm
from tests.include.tenants.moving import product, put

TABLE = "Product-pooled"


@pytest.fixture
def controls(aws):
    controls = Controls(aws)
    yield controls
    controls.reset()


@pytest.fixture
def p(portability):
    return portability


class Hours:
    """A clock that is moved."""

    def __init__(self, p, controls):
        self.ahead = 0.0
        self._controls = controls
        self.p = replace(p, clock=lambda: p.clock() + self.ahead)

    def pass_(self, hours):
        self.ahead += hours * 3600
        self._controls.advance(hours * 3600)


def write(p, *numbers, shard_ids=("acme-1",), value="first"):
    for number in numbers:
        for shard_id in shard_ids:
            put(p, TABLE, product(shard_id, f"{number:03}", name={"S": value}))


def drained(stream):
    records = []
    while not stream.at_tip:
        records += stream.read()
    return records


def told(records):
    return [(record.kind, record.shard_id, record.sort) for record in records]


def kept(position):
    """As it is after it was written down."""
    return Position.from_json(json.loads(json.dumps(position.to_json())))


def test_a_stream_is_made_where_there_is_none_and_tells_every_change_from_then_on(p):
    write(p, 1)
    position = arm(p, TABLE)
    write(p, 2)
    write(p, 2, value="second")
    p.clients.dynamodb.delete_item(TableName=TABLE, Key=product("acme-1", "001"))
    stream = Stream(p, TABLE, kept(position))

    records = drained(stream)

    assert told(records) == [("INSERT", "acme-1", "002"), ("MODIFY", "acme-1", "002"), ("REMOVE", "acme-1", "001")]
    assert records[1].new_image["name"] == {"S": "second"}
    assert records[2].new_image is None
    assert stream.lag_seconds == 0


def test_a_stream_that_is_there_is_used(p):
    first = arm(p, TABLE)

    assert arm(p, TABLE).stream == first.stream


def test_a_stream_that_is_being_enabled_is_waited_for(p, controls):
    controls.stream(TABLE, enabling_seconds=0.5)
    position = arm(p, TABLE)
    write(p, 1)

    assert len(drained(Stream(p, TABLE, position))) == 1


def test_a_stream_that_never_gets_ready_is_given_up(p, controls):
    controls.stream(TABLE, enabling_seconds=10_000)
    slept = []
    waiting = replace(p, clock=lambda: p.clock() + 30 * len(slept), sleep=slept.append)

    with pytest.raises(
        ProvisioningFailed, match="Product-pooled: expected its stream to be ENABLED within 300 s, found it ENABLING"
    ):
        arm(waiting, TABLE)


def test_a_stream_without_items_is_refused_and_said_what_to_do(p):
    p.clients.dynamodb.update_table(
        TableName=TABLE, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    )

    with pytest.raises(
        ProvisioningFailed, match=r"expected a stream of the view type NEW_AND_OLD_IMAGES.*KEYS_ONLY.*Switch it off"
    ):
        arm(p, TABLE)


def test_changes_of_long_before_are_left_out_and_those_of_just_before_are_not(p, controls):
    arm(p, TABLE)
    write(p, 1)
    hours = Hours(p, controls)
    hours.pass_(1)
    write(p, 2)
    position = replace(arm(hours.p, TABLE), since=hours.p.clock() - 600)  # the stand-in's Date header can't be moved
    write(p, 3)
    stream = Stream(hours.p, TABLE, position)

    assert [record.sort for record in drained(stream)] == ["002", "003"]
    assert stream.older == 1


def test_a_clock_that_is_wrong_leaves_no_change_out(p):
    arm(p, TABLE)
    for error in (-7200, 7200):
        wrong = replace(p, clock=lambda error=error: p.clock() + error)
        position = arm(wrong, TABLE)
        write(p, 1, value=str(error))

        assert drained(Stream(wrong, TABLE, position))[-1].new_image["name"] == {"S": str(error)}


def test_reading_goes_on_after_what_was_read(p):
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, *range(10))
    first = stream.read(4)
    again = Stream(p, TABLE, kept(stream.position))
    write(p, 10)

    rest = drained(again)

    assert [record.sort for record in first + rest] == [f"{number:03}" for number in range(11)]
    assert again.repeated == 0


def test_an_item_s_changes_come_in_order_across_splits_wherever_reading_was_interrupted(p, controls):
    position = arm(p, TABLE)
    shard_ids = [f"acme-{number}" for number in range(1, 6)]
    for generation in range(4):
        write(p, 1, 2, shard_ids=shard_ids, value=f"{generation}")
        controls.split(TABLE, children=1 if generation == 2 else 2)
    write(p, 1, 2, shard_ids=shard_ids, value="4")

    values = {}
    done = False
    while not done:  # a reader that dies after each three records
        stream = Stream(p, TABLE, kept(position))
        while not (records := stream.read(3)) and not stream.at_tip:
            pass
        done = not records
        for record in records:
            values.setdefault((record.shard_id, record.sort), []).append(record.new_image["name"]["S"])
        position = stream.position

    assert set(values) == {(shard_id, f"{number:03}") for shard_id in shard_ids for number in (1, 2)}
    assert all(seen == ["0", "1", "2", "3", "4"] for seen in values.values())


def test_no_shard_is_read_before_its_parent_s_end(p, controls):
    controls.stream(TABLE, records_per_page=2)
    position = arm(p, TABLE)
    shard_ids = [f"acme-{number}" for number in range(1, 6)]
    for generation in range(4):
        write(p, 1, 2, shard_ids=shard_ids, value=f"{generation}")
        controls.split(TABLE)

    values = {}
    for record in drained(Stream(p, TABLE, position)):
        values.setdefault((record.shard_id, record.sort), []).append(record.new_image["name"]["S"])

    assert len(values) == 10
    assert all(seen == ["0", "1", "2", "3"] for seen in values.values())


def test_splits_are_found_while_reading(p, controls):
    stream = Stream(p, TABLE, arm(p, TABLE))
    seen = []
    for number in range(6):
        write(p, number, shard_ids=("acme-1", "acme-2", "acme-3"))
        if number % 2:
            controls.split(TABLE)
        seen += stream.read(2)
    seen += drained(stream)

    assert len(seen) == len(set(told(seen))) == 18


def test_a_shard_that_is_closed_and_whose_children_are_not_listed_yet_is_waited_for(p, controls):
    controls.stream(TABLE, shards_per_page=1)
    position = arm(p, TABLE)
    write(p, 1)
    controls.split(TABLE)
    write(p, 2, shard_ids=("acme-1", "acme-2", "acme-3"))
    controls.split(TABLE)
    write(p, 3, shard_ids=("acme-1", "acme-2", "acme-3"))

    assert len(drained(Stream(p, TABLE, position))) == 7  # however many pages a listing has


def test_a_child_that_a_first_listing_did_not_show_is_read_later(p, controls):
    position = arm(p, TABLE)
    controls.split(TABLE)
    whole = arm(p, TABLE)
    assert len(whole.shards) == 3
    seen_first = next(shard_id for shard_id, shard in whole.shards.items() if shard.ended is None)
    partly = replace(
        whole, shards={key: shard for key, shard in whole.shards.items() if key in position.shards or key == seen_first}
    )
    write(p, 1, shard_ids=[f"acme-{number}" for number in range(1, 10)])

    assert len(drained(Stream(p, TABLE, partly))) == 9


def test_an_empty_page_is_not_taken_for_the_end(p, controls):
    controls.stream(TABLE, empty_every=2, records_per_page=1)
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, *range(8))

    assert len(drained(stream)) == 8


def test_records_that_come_again_are_left_out(p, controls):
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, *range(5))
    first = drained(stream)
    controls.repeat(TABLE, 4)
    stream.forget_tip()
    write(p, 5)
    rest = drained(stream)

    # the last one has the very number of the position, and might be another change
    assert [record.sort for record in rest] == ["004", "005"]
    assert stream.repeated == 3
    assert len(first) == 5


def test_an_iterator_that_has_expired_is_replaced(p, controls):
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, 1)
    assert len(drained(stream)) == 1
    controls.advance(1000)
    write(p, 2)
    stream.forget_tip()

    assert [record.sort for record in drained(stream)] == ["002"]


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "GetRecords", "code": "LimitExceededException"},
        {"operation": "GetRecords", "code": "ProvisionedThroughputExceededException"},
        {"operation": "GetRecords", "drop": "answer"},
        {"operation": "GetRecords", "drop": "request"},
        {"operation": "GetShardIterator", "code": "InternalServerError"},
        {"operation": "DescribeStream", "code": "LimitExceededException"},
    ],
    ids=lambda fault: " ".join(fault.values()),
)
def test_a_fault_that_passes_is_sat_out(p, controls, fault):
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, *range(3))
    controls.fault(**fault, times=5)

    assert len(drained(stream)) == 3


def test_lag_is_the_age_of_what_was_not_read_and_nothing_at_the_tip(p):
    position = arm(p, TABLE)
    write(p, 1, 2)
    later = replace(p, clock=lambda: p.clock() + 500)
    stream = Stream(later, TABLE, position)

    assert stream.lag_seconds == pytest.approx(500, abs=60)
    stream.read(1)
    assert stream.lag_seconds > 400
    drained(stream)
    assert stream.lag_seconds == 0


def test_changes_that_are_gone_are_noticed(p, controls):
    hours = Hours(p, controls)
    stream = Stream(hours.p, TABLE, arm(hours.p, TABLE))
    write(p, 1)
    drained(stream)
    write(p, 2)
    hours.pass_(25)
    write(p, 3)

    with pytest.raises(
        StreamTrimmed, match=r"stream of Product-pooled: expected it to be read until less than 23.5 hours ago"
    ):
        Stream(hours.p, TABLE, kept(stream.position)).read()


def test_a_position_whose_record_is_gone_is_good_while_no_change_after_it_can_be(p, controls):
    hours = Hours(p, controls)
    stream = Stream(hours.p, TABLE, arm(hours.p, TABLE))
    write(p, 1)
    drained(stream)
    hours.pass_(23)
    stream.forget_tip()
    assert drained(stream) == []
    hours.pass_(2)  # by now the record of the position is gone
    write(p, 2)

    assert [record.sort for record in drained(Stream(hours.p, TABLE, kept(stream.position)))] == ["002"]


def test_a_reader_whose_place_is_trimmed_under_it_goes_on_while_no_change_can_be_gone(p, controls):
    stream = Stream(p, TABLE, arm(p, TABLE))
    write(p, 1, 2)
    drained(stream)
    controls.fault("GetRecords", code="TrimmedDataAccessException", times=1)
    write(p, 3)
    stream.forget_tip()

    assert [record.sort for record in drained(stream)][-1] == "003"
    assert stream.repeated == 1  # read from the oldest on


def test_a_reader_that_slept_too_long_between_two_reads_is_refused(p, controls):
    hours = Hours(p, controls)
    stream = Stream(hours.p, TABLE, arm(hours.p, TABLE))
    write(p, 1)
    stream.read()
    hours.pass_(MOST_LAG_SECONDS / 3600 + 0.1)

    with pytest.raises(StreamTrimmed):
        stream.read()


def test_a_stream_that_somebody_has_switched_off_is_refused(p):
    position = arm(p, TABLE)
    p.clients.dynamodb.update_table(TableName=TABLE, StreamSpecification={"StreamEnabled": False})

    with pytest.raises(StreamTrimmed, match="somebody has switched it off"):
        Stream(p, TABLE, position).read()


def test_a_stream_of_a_table_that_is_gone_is_refused(p):
    position = arm(p, TABLE)
    p.clients.dynamodb.delete_table(TableName=TABLE)

    with pytest.raises(StreamTrimmed, match=r"gone|switched it off"):
        Stream(p, TABLE, position).read()
