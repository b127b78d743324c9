"""Replaying: the target becomes what the source is, whatever is killed, repeated, split or refused, and nobody else's items come along."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from botocore.exceptions import ConnectionClosedError

from include.local.aws.controls import Controls
from include.tenants import changes
from include.tenants.changes import Direction, Replayer, ReplayFigures, arm, replay, replay_turn, tables
from include.tenants.exceptions import MigrationConflict, StreamTrimmed, TurnLost, TurnTaken
from include.tenants.items import digest
from include.tenants.keys import MARKER, shard_ids
from include.tenants.saas import DATA_TABLES
from tests.include.tenants.moving import AWKWARD, begin, everything, product, put

SOURCE, TARGET = "Product-pooled", "Product-acme"


class Killed(BaseException):
    """As sudden as a kill."""


@pytest.fixture
def controls(aws):
    controls = Controls(aws)
    yield controls
    controls.reset()


@pytest.fixture
def p(portability):
    return portability


@pytest.fixture
def migration(p):
    """Of acme, to a silo, with its streams armed."""
    return armed(p, begin(p))


def armed(p, migration, note="armed"):
    side = "source" if note == "armed" else "target"
    positions = {each[side]: arm(p, each[side]).to_json() for each in migration.notes["tables"]}
    p.store.note(migration.migration_id, {note: positions})
    return p.store.load(migration.migration_id)


def run(p, migration, direction=Direction.FORWARD, *, owner="task", seconds=60.0, **given):
    return replay(p, migration, direction, owner=owner, seconds=seconds, say=lambda text: None, **given)


def checkpoint(p, migration, direction=Direction.FORWARD):
    return p.turns.read(migration.migration_id, replay_turn(direction)).checkpoint


def of_tenant(p, table_name, tenant_id="acme"):
    return {key: digest(item) for key, item in everything(p, table_name).items() if key[0] in shard_ids(tenant_id)}


def change_at_random(p, seed, count=60, table=SOURCE):
    """Puts and deletes of a few items, so that many are changed often."""
    chance = random.Random(seed)
    for number in range(count):
        item = product(f"acme-{chance.randint(1, 4)}", f"{chance.randint(1, 5)}", name={"S": f"{seed} {number}"})
        if chance.random() < 0.3:
            key = {name: item[name] for name in ("shardId", "productId")}
            p.clients.dynamodb.delete_item(TableName=table, Key=key)
        else:
            put(p, table, item)


def test_both_directions_name_the_tables(p):
    migration = begin(p)

    assert [names[1:] for names in tables(migration, Direction.FORWARD)] == [
        (SOURCE, TARGET),
        ("Order-pooled", "Order-acme"),
    ]
    assert [names[1:] for names in tables(migration, Direction.REVERSE)] == [
        (TARGET, SOURCE),
        ("Order-acme", "Order-pooled"),
    ]


def test_puts_updates_and_deletes_of_both_tables_arrive(p, migration):
    put(p, TARGET, product("acme-1", "gone"), product("acme-1", "old", name={"S": "old"}))  # as the copy left them
    put(p, SOURCE, product("acme-1", "old", name={"S": "new"}), product("acme-1", "gone"))
    put(p, "Order-pooled", {"shardId": {"S": "acme-9"}, "orderId": {"S": "one"}, "paid": {"BOOL": True}})
    p.clients.dynamodb.delete_item(TableName=SOURCE, Key=product("acme-1", "gone"))

    figures = run(p, migration)

    assert everything(p, TARGET) == {("acme-1", "old"): product("acme-1", "old", name={"S": "new"})}
    assert everything(p, "Order-acme") == everything(p, "Order-pooled")
    assert (figures.applied, figures.at_tip, figures.lag_seconds) == (4, True, 0.0)


def test_awkward_items_arrive_as_they_are(p, migration):
    put(p, SOURCE, *(product("acme-1", name, **each) for name, each in AWKWARD.items()))

    run(p, migration)

    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)


def test_more_bytes_than_a_transaction_takes_arrive(p, migration):
    put(p, SOURCE, *(product("acme-1", f"{number}", note={"S": "x" * 400_000}) for number in range(12)))

    run(p, migration)

    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)
    assert len(everything(p, TARGET)) == 12


@pytest.mark.parametrize("after", ["gone", "small"])
def test_items_that_were_too_big_for_a_transaction_together_arrive_as_they_are_now(p, after):
    """DynamoDB counts what is deleted or replaced too, and a stream that the application has made need not tell that."""
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    p.clients.dynamodb.update_table(TableName=SOURCE, StreamSpecification=specification)
    migration = armed(p, begin(p))
    many = [product("acme-1", f"{number}", note={"S": "x" * 400_000}) for number in range(12)]
    put(p, SOURCE, *many)
    run(p, migration)
    for item in many:
        key = {name: item[name] for name in ("shardId", "productId")}
        if after == "gone":
            p.clients.dynamodb.delete_item(TableName=SOURCE, Key=key)
        else:
            put(p, SOURCE, key)

    assert run(p, migration).applied == 12
    assert everything(p, TARGET) == everything(p, SOURCE)


def test_more_items_than_a_transaction_takes_arrive(p, migration):
    for number in range(250):
        put(p, SOURCE, product(f"acme-{number % 10 + 1}", f"{number}"))

    assert run(p, migration).applied == 250
    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)


def test_only_the_tenant_s_changes_are_replayed_also_when_ids_are_prefixes_of_each_other(p, saas):
    migration = armed(p, begin(p, "acme-2"))
    mine = product("acme-2-1", "mine")
    put(p, SOURCE, mine)
    for shard_id in ("acme-2", "acme-1", "acme-2-1-1", "acme-22-1", "acme-2-11", "acme-2-0"):
        put(p, SOURCE, product(shard_id, "another's"))
    said = []

    figures = replay(p, migration, Direction.FORWARD, owner="task", seconds=60, say=said.append)

    assert list(everything(p, "Product-acme-2").values()) == [mine]
    assert (figures.applied, figures.foreign) == (1, 6)
    assert "another's" not in str(said) + str(checkpoint(p, migration))


def test_markers_are_not_replayed(p, migration):
    put(p, SOURCE, product("acme-1", f"{MARKER}another#forward#3"), product("acme-1", f"{MARKER}m-1#forward#3"))

    figures = run(p, migration)

    assert everything(p, TARGET) == {}
    assert figures.skipped == 2
    assert list(checkpoint(p, migration)["markers"]) == [f"{MARKER}m-1#forward#3"]


def test_a_replay_without_an_armed_stream_is_refused(p):
    with pytest.raises(MigrationConflict, match="expected the stream of Product-pooled to be armed"):
        run(p, begin(p))


def test_the_next_burst_goes_on_and_the_totals_add_up(p, migration):
    put(p, SOURCE, product("acme-1", "1"))
    assert run(p, migration).applied == 1
    put(p, SOURCE, product("acme-1", "2"))
    second = run(p, migration, owner="another task")

    assert second.applied == 1
    assert second.repeated == 0
    kept = checkpoint(p, migration)
    assert kept["totals"] == {"applied": 2, "skipped": 0, "foreign": 0, "repeated": 0}
    assert (kept["lag"], kept["at_tip"]) == (0.0, True)


def test_a_stream_that_was_armed_again_begins_anew(p, migration):
    put(p, SOURCE, product("acme-1", "1"))
    run(p, migration)
    again = armed(p, migration)
    p.clients.dynamodb.delete_item(TableName=TARGET, Key=product("acme-1", "1"))

    run(p, again)  # the minutes before are replayed too

    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)


@pytest.mark.parametrize("operation", ["transact_write_items", "update_item", "get_records"])
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
def test_a_replay_that_is_killed_at_every_call_ends_right(p, migration, controls, operation, after):
    controls.stream(SOURCE, records_per_page=4)
    change_at_random(p, 7, count=40)
    kills = 0

    class Deadly:
        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            real = getattr(self._client, name)
            if name != operation:
                return real
            return lambda **arguments: self._kill(real, arguments)

        def _kill(self, real, arguments):
            nonlocal kills
            if self.calls:
                if after:
                    real(**arguments)
                kills += 1
                raise Killed
            self.calls += 1
            return real(**arguments)

        calls = 0

    class Clients:
        dynamodb = streams = None

    for _ in range(80):
        clients = Clients()
        clients.dynamodb, clients.streams = Deadly(p.clients.dynamodb), Deadly(p.clients.streams)
        if operation == "get_records":
            clients.streams.calls = -1 if kills % 3 else -6  # some tries come far enough to keep a position
        try:
            run(replace(p, clients=clients), migration)
        except Killed:
            continue
        break
    run(p, migration)

    assert kills > 3
    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)


@pytest.mark.parametrize("seed", range(3))
def test_many_changes_across_splits_repeats_and_faults_end_right(p, migration, controls, seed):
    chance = random.Random(seed)
    controls.stream(SOURCE, empty_every=3, records_per_page=7)
    for number in range(6):
        change_at_random(p, seed * 100 + number, count=25)
        if number in (1, 3, 4):
            controls.split(SOURCE, children=chance.choice((1, 2)))
        controls.repeat(SOURCE, 5)
        controls.fault("GetRecords", code="LimitExceededException", times=1, after=chance.randint(0, 3))
        controls.fault("TransactWriteItems", drop="answer", times=1)
        controls.fault("TransactWriteItems", code="TransactionConflict", times=2)
        run(p, migration, seconds=chance.choice((0.01, 30)))
    run(p, migration)

    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)
    assert of_tenant(p, TARGET)


def test_a_change_that_comes_again_does_not_bring_an_old_state_back(p, migration, controls):
    for value in ("one", "two", "three"):
        put(p, SOURCE, product("acme-1", "1", name={"S": value}))
    run(p, migration)
    controls.repeat(SOURCE, 3)
    put(p, SOURCE, product("acme-1", "2"))

    figures = run(p, migration)

    assert everything(p, TARGET)["acme-1", "1"]["name"] == {"S": "three"}
    assert figures.repeated == 2


def with_busy_others(p):
    """Where another tenant changes an item of each pooled table before each look at a stream, so that no page is empty."""

    class Streams:
        def __getattr__(self, name):
            return getattr(p.clients.streams, name)

        def get_records(self, **arguments):
            for table in DATA_TABLES:
                key = {"shardId": {"S": "other-1"}, table.sort_key: {"S": "hot"}}
                put(p, f"{table.prefix}-pooled", {**key, "note": {"S": f"{p.clock()}"}})
            return p.clients.streams.get_records(**arguments)

    class Clients:
        dynamodb, streams = p.clients.dynamodb, Streams()

    return replace(p, clients=Clients())


def test_a_burst_ends_near_the_tip_of_a_table_that_others_write_to_all_the_time(p, migration):
    put(p, SOURCE, product("acme-1", "1"))

    figures = run(with_busy_others(p), migration)

    assert (figures.applied, figures.at_tip) == (1, True)
    assert figures.foreign > 3
    assert checkpoint(p, migration)["at_tip"] is True
    assert run(p, migration).repeated == 0  # the position is of what was read


def test_others_changes_of_long_ago_are_not_near_the_tip(p, migration):
    put(p, SOURCE, *(product("other-1", f"{number}") for number in range(10)), product("acme-1", "1"))
    hours_later = replace(p, clock=lambda: p.clock() + 3600)
    replayer = taken(hours_later, migration)
    foreign = [replayer.streams[SOURCE].read(1) for _ in range(10)]

    assert len(foreign) == 10
    replayer._idle = dict.fromkeys(replayer.streams, 1000)
    assert not replayer.near_tip


def test_where_the_tenant_writes_all_the_time_too_there_is_no_tip(p, migration):
    replayer = taken(with_busy_others(p), migration)

    for number in range(6):
        put(p, SOURCE, product("acme-1", f"{number}"))
        replayer.step()
        assert not replayer.near_tip
    assert replayer.figures().applied == 6


def taken(p, migration, owner="task"):
    turn = p.turns.take(migration.migration_id, replay_turn(Direction.FORWARD), owner, always=True)
    return Replayer(p, migration, Direction.FORWARD, turn)


def test_an_overtaken_change_of_an_item_is_left_out_and_one_of_equal_number_is_not(p, migration):
    for value in ("one", "two"):
        put(p, SOURCE, product("acme-1", "1", name={"S": value}))
    replayer = taken(p, migration)
    one, two = replayer.streams[SOURCE].read()
    other = replace(two, new_image=product("acme-1", "1", name={"S": "another change of the same number"}))

    replayer._take([two], SOURCE, TARGET)
    replayer._take([one], SOURCE, TARGET)
    assert everything(p, TARGET)["acme-1", "1"]["name"] == {"S": "two"}
    replayer._take([other], SOURCE, TARGET)

    assert everything(p, TARGET)["acme-1", "1"]["name"] == other.new_image["name"]
    assert replayer.figures().repeated == 1


def test_who_has_lost_the_turn_writes_nothing_more(p, migration):
    put(p, SOURCE, product("acme-1", "1"))
    late = taken(p, migration, "a task that was away")
    run(p, migration, always=True)
    p.clients.dynamodb.delete_item(TableName=TARGET, Key=product("acme-1", "1"))

    with pytest.raises(TurnLost, match="has written nothing since"):
        late.step()

    assert everything(p, TARGET) == {}


def test_a_write_that_arrives_after_its_next_try_does_not_bring_an_old_state_back(p, migration):
    late = []

    class Dynamodb:
        def __getattr__(self, name):
            return getattr(p.clients.dynamodb, name)

        def transact_write_items(self, **arguments):
            if not late:
                late.append(arguments)
                raise ConnectionClosedError(endpoint_url="https://dynamodb")  # the request is still on its way
            return p.clients.dynamodb.transact_write_items(**arguments)

    class Clients:
        dynamodb, streams = Dynamodb(), p.clients.streams

    replayer = taken(replace(p, clients=Clients()), migration)
    for value in ("one", "two"):
        put(p, SOURCE, product("acme-1", "1", name={"S": value}))
        replayer.step()
    p.clients.dynamodb.transact_write_items(**late[0])

    assert everything(p, TARGET)["acme-1", "1"]["name"] == {"S": "two"}


def test_a_turn_that_somebody_has_is_left_to_them(p, migration):
    taken(p, migration, "another task")

    with pytest.raises(TurnTaken, match="another task"):
        run(p, migration)


def test_what_cannot_be_written_is_not_taken_for_written(p, migration, controls):
    put(p, SOURCE, product("acme-1", "1"))
    controls.fault("TransactWriteItems", code="AccessDeniedException", times=1)

    with pytest.raises(Exception, match="AccessDenied"):
        run(p, migration)
    run(p, migration)

    assert of_tenant(p, TARGET) == of_tenant(p, SOURCE)


def test_the_reverse_replay_begins_where_the_switch_was(p, migration):
    migration = armed(p, migration, "reverse_from")
    put(p, TARGET, product("acme-3", "after the switch"))

    figures = run(p, migration, Direction.REVERSE)

    assert everything(p, SOURCE) == everything(p, TARGET)
    assert figures.applied == 1


def test_both_replays_one_after_the_other_do_not_loop(p, migration):
    put(p, SOURCE, product("acme-3", "before", name={"S": "1"}))
    run(p, migration)
    migration = armed(p, migration, "reverse_from")
    put(p, TARGET, product("acme-3", "before", name={"S": "2"}))
    run(p, migration, Direction.REVERSE)
    run(p, migration, Direction.REVERSE)

    assert everything(p, SOURCE) == everything(p, TARGET)
    assert everything(p, TARGET)["acme-3", "before"]["name"] == {"S": "2"}


def test_a_burst_ends_when_its_time_is_over(p, migration, controls):
    controls.stream(SOURCE, records_per_page=1)
    put(p, SOURCE, *(product("acme-1", f"{number}") for number in range(30)))

    figures = run(p, migration, seconds=0)

    assert figures.applied == 1
    assert not figures.at_tip
    assert checkpoint(p, migration)["at_tip"] is False
    assert run(p, migration).applied == 29


def test_a_burst_ends_when_all_before_a_moment_is_there_though_the_tenant_writes_on(p, migration, controls):
    controls.stream(SOURCE, records_per_page=1)
    put(p, SOURCE, *(product("acme-1", f"before {number}") for number in range(5)))
    moment = p.clock()
    controls.advance(5)
    put(p, SOURCE, *(product("acme-1", f"later {number}") for number in range(25)))

    figures = run(p, migration, past=moment)

    assert 5 < figures.applied < 30
    assert not figures.at_tip
    assert {("acme-1", f"before {number}") for number in range(5)} < set(everything(p, TARGET))


def test_changes_that_are_gone_end_the_replay(p, migration):
    put(p, SOURCE, product("acme-1", "1"))
    later = replace(p, clock=lambda: p.clock() + 24 * 3600)

    with pytest.raises(StreamTrimmed):
        run(later, migration)

    assert everything(p, TARGET) == {}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (ReplayFigures(at_tip=True), 0.0),
        (ReplayFigures(lag_seconds=3600), None),
        (ReplayFigures(lag_seconds=3600, speed=11.0), 360.0),
        (ReplayFigures(lag_seconds=3600, speed=1.0), math.inf),
        (ReplayFigures(lag_seconds=3600, speed=0.2), math.inf),
    ],
)
def test_the_time_to_catch_up_is_told(figures, expected):
    assert figures.catch_up_seconds == expected


def test_a_position_is_kept_at_least_every_second_also_when_nothing_is_the_tenant_s(p, migration, monkeypatch):
    monkeypatch.setattr(changes, "_SAVE_SECONDS", 0.0)
    put(p, SOURCE, product("other-1", "1"))
    replayer = taken(p, migration)

    replayer.step()

    assert checkpoint(p, migration)["totals"]["foreign"] == 1
