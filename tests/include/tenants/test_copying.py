"""Copying a partition: whole, once, resumed where it was, and no faster than allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from include.local.aws.controls import Controls
from include.tenants import copying
from include.tenants.copying import CopyFigures, Unit, copied, copy_unit, units
from include.tenants.exceptions import TargetBusy, TurnLost, TurnTaken
from include.tenants.items import digest
from include.tenants.keys import MARKER
from include.tenants.saas import ORDERS, PRODUCTS
from tests.include.tenants.moving import AWKWARD, begin, everything, fill, product, put

UNIT = Unit(PRODUCTS, "acme-1")


class Killed(BaseException):
    """As sudden as a kill."""


class Between:
    """A client whose calls of some operations are done by functions that get the real ones."""

    def __init__(self, client, **operations):
        self._client = client
        self._operations = operations

    def __getattr__(self, name):
        real = getattr(self._client, name)
        if name not in self._operations:
            return real
        return lambda **arguments: self._operations[name](real, **arguments)


class Replaced:
    def __init__(self, clients, **given):
        self._clients = clients
        self._given = given

    def __getattr__(self, name):
        return self._given.get(name) or getattr(self._clients, name)


def between(p, **operations):
    dynamodb = Between(p.clients.dynamodb, **operations)
    return replace(p, clients=Replaced(p.clients, dynamodb=dynamodb), sleep=lambda seconds: None)


def copy(p, migration, unit=UNIT, *, owner="task", say=lambda text: None, units_per_second=10_000.0):
    return copy_unit(
        p,
        migration,
        unit,
        f"{unit.table.prefix}-pooled",
        f"{unit.table.prefix}-acme",
        owner=owner,
        units_per_second=units_per_second,
        say=say,
    )


@pytest.fixture
def controls(aws):
    controls = Controls(aws)
    yield controls
    controls.reset()


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(copying, "_PAGE_ITEMS", 7)


def test_a_tenant_is_copied_in_one_piece_per_table_and_partition():
    pieces = units("acme")

    assert len(pieces) == len({piece.name for piece in pieces}) == 20
    assert pieces[0].name == "copy#Product#acme-1"
    assert pieces[-1].name == "copy#Order#acme-10"


def test_items_arrive_as_they_are_however_awkward(portability):
    migration = begin(portability)
    put(portability, "Product-pooled", *(product("acme-1", name, **each) for name, each in AWKWARD.items()))

    figures = copy(portability, migration)

    source, target = everything(portability, "Product-pooled"), everything(portability, "Product-acme")
    assert {key: digest(item) for key, item in target.items()} == {key: digest(item) for key, item in source.items()}
    assert figures.items == len(AWKWARD)
    assert figures.bytes > 400_000
    assert figures.read_units > 40
    assert not figures.resumed


def test_only_the_partition_is_copied_also_when_tenant_ids_are_prefixes_of_each_other(portability):
    migration = begin(portability)
    mine = product("acme-2", "mine")
    others = [product(shard_id, "other") for shard_id in ("acme-2-2", "acme-2-1-2", "acme-22", "zacme-2", "acme-1")]
    put(portability, "Product-pooled", mine, *others)

    copy(portability, migration, Unit(PRODUCTS, "acme-2"))

    assert list(everything(portability, "Product-acme").values()) == [mine]


def test_a_partition_without_items_is_copied(portability):
    migration = begin(portability)

    figures = copy(portability, migration, Unit(ORDERS, "acme-10"))

    assert (figures.items, figures.pages) == (0, 1)
    assert "copy#Order#acme-10" not in copied(portability, migration)[1]


@pytest.mark.usefixtures("small_pages")
def test_markers_are_never_copied(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 6)
    put(portability, "Product-pooled", product("acme-1", f"{MARKER}m-1#forward#7"))

    assert copy(portability, migration).items == 6
    assert len(everything(portability, "Product-acme")) == 6


@pytest.mark.usefixtures("small_pages")
def test_a_copy_that_is_killed_after_any_page_goes_on_there(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 50)
    put_keys = []

    def seen(real, **arguments):
        put_keys.extend(
            request["PutRequest"]["Item"]["productId"]["S"] for request in arguments["RequestItems"]["Product-acme"]
        )
        return real(**arguments)

    def killed(text):
        raise Killed

    watched = between(portability, batch_write_item=seen)
    kills = 0
    while True:
        try:
            figures = copy(watched, migration, say=killed)
        except Killed:
            kills += 1
        else:
            break

    assert kills == 8
    assert (figures.items, figures.pages, figures.resumed) == (50, 8, True)
    assert sorted(put_keys) == [f"{number:06}" for number in range(50)]  # nothing twice
    assert everything(portability, "Product-acme") == everything(portability, "Product-pooled")


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("before", [True, False], ids=["before its checkpoint", "during its writes"])
def test_a_copy_that_is_killed_within_any_page_does_that_page_again(portability, before):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 50)
    calls = 0

    def deadly(real, **arguments):
        nonlocal calls
        if before and "SET checkpoint" not in arguments["UpdateExpression"]:
            return real(**arguments)
        calls += 1
        if calls % 2:
            raise Killed
        return real(**arguments)

    p = between(portability, **{"update_item" if before else "batch_write_item": deadly})
    for _ in range(20):
        try:
            figures = copy(p, migration)
        except Killed:
            continue
        break

    assert figures.items == 50
    assert everything(portability, "Product-acme") == everything(portability, "Product-pooled")


def test_what_is_copied_is_not_copied_again(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 5)
    first = copy(portability, migration)
    put(portability, "Product-acme", product("acme-1", "000001", note={"S": "newer, by the replay"}))

    again = copy(portability, migration, owner="another task")

    assert again == replace(first, resumed=True)
    assert everything(portability, "Product-acme")["acme-1", "000001"]["note"] == {"S": "newer, by the replay"}


def test_two_tasks_do_not_copy_one_partition(portability):
    migration = begin(portability)
    portability.turns.take(migration.migration_id, UNIT.name, "another task")

    with pytest.raises(TurnTaken, match="another task"):
        copy(portability, migration)


@pytest.mark.usefixtures("small_pages")
def test_a_copy_that_has_lost_its_turn_writes_no_other_page(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 50)

    def lose(text):
        portability.turns.take(migration.migration_id, UNIT.name, "another task", always=True)

    with pytest.raises(TurnLost):
        copy(portability, migration, say=lose)

    assert len(everything(portability, "Product-acme")) == 14  # the page before, and the one that it noticed with


@pytest.mark.usefixtures("small_pages")
def test_a_copy_that_was_away_for_long_looks_before_it_writes(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 50)
    away = 0.0

    def lose(text):
        nonlocal away
        away = 60.0
        portability.turns.take(migration.migration_id, UNIT.name, "another task", always=True)

    p = replace(portability, clock=lambda: portability.clock() + away)
    with pytest.raises(TurnLost):
        copy(p, migration, say=lose)

    assert len(everything(portability, "Product-acme")) == 7


def test_a_copy_that_is_frozen_between_its_look_and_its_request_writes_nothing(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 3)
    away = 0.0

    def freeze(real, **arguments):
        nonlocal away
        away += 60.0
        portability.turns.take(migration.migration_id, UNIT.name, "another task", always=True)
        return real(**arguments)

    p = replace(between(portability, batch_write_item=freeze), clock=lambda: portability.clock() + away)
    with pytest.raises(TurnLost):
        copy(p, migration)

    assert everything(portability, "Product-acme") == {}


def test_a_request_that_botocore_makes_again_is_not_sent_without_a_look_either(portability, controls):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 3)
    controls.fault("BatchWriteItem", drop="request", times=1)
    events, again = portability.clients.dynamodb.meta.events, "needs-retry.dynamodb.BatchWriteItem"
    away = 0.0

    def freeze(**_):
        nonlocal away
        if not away:
            away = 60.0
            portability.turns.take(migration.migration_id, UNIT.name, "another task", always=True)

    events.register_first(again, freeze)
    try:
        with pytest.raises(TurnLost):
            copy(replace(portability, clock=lambda: portability.clock() + away), migration)
    finally:
        events.unregister(again, freeze)

    assert everything(portability, "Product-acme") == {}


def waits(p, migration):
    """How many seconds a cutover waits for late writes of the copy."""
    return copying.quiet_at(replace(p, clock=lambda: 0.0), migration)


@pytest.mark.usefixtures("small_pages")
def test_a_copy_that_got_an_answer_to_each_request_is_not_waited_for(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 20)

    copy(portability, migration)

    assert waits(portability, migration) == 0


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ReadTimeoutError(endpoint_url="https://dynamodb"), copying.LATE_SECONDS),
        (ClientError({"Error": {"Code": "InternalServerError"}}, "BatchWriteItem"), copying.LATE_SECONDS),
        # refused: nothing was taken
        (ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "BatchWriteItem"), 0),
    ],
    ids=["none", "nobody knows", "refused"],
)
def test_a_request_without_an_answer_is_waited_for_though_the_next_one_has_done_its_work(portability, error, seconds):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 20)  # the first page of three
    errors = [error]

    def cut(real, **arguments):
        if errors:
            raise errors.pop()
        return real(**arguments)

    assert copy(between(portability, batch_write_item=cut), migration).items == 20

    assert waits(portability, migration) == seconds


def test_a_request_that_botocore_has_made_again_is_waited_for_too(portability, controls):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 3)
    controls.fault("BatchWriteItem", drop="answer", times=1)

    copy(portability, migration)

    assert waits(portability, migration) == copying.LATE_SECONDS


def test_a_copy_that_had_to_begin_again_is_waited_for(portability):
    migration = begin(portability)
    portability.turns.take(migration.migration_id, UNIT.name, "task")
    assert waits(portability, migration) == copying.LATE_SECONDS

    copy(portability, migration)

    assert waits(portability, migration) == copying.LATE_SECONDS


def test_items_that_the_target_leaves_unprocessed_are_sent_again(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 60)
    calls = 0

    def partly(real, **arguments):
        nonlocal calls
        calls += 1
        ((table, requests),) = arguments["RequestItems"].items()
        if calls == 1:
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "BatchWriteItem")
        if calls == 2:
            real(RequestItems={table: requests})
            raise ReadTimeoutError(endpoint_url="https://dynamodb")  # done, but the answer is lost
        if calls == 3:
            return real(RequestItems={table: requests[:4]}) | {"UnprocessedItems": {table: requests[4:]}}
        return real(**arguments)

    figures = copy(between(portability, batch_write_item=partly), migration)

    assert everything(portability, "Product-acme") == everything(portability, "Product-pooled")
    assert figures.items == 60
    assert figures.retried > 25


def test_a_target_that_takes_nothing_is_given_up_and_said_so(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 3)
    slept = []

    def full(real, **arguments):
        return {"UnprocessedItems": arguments["RequestItems"]}

    p = between(portability, batch_write_item=full)
    p = replace(p, clock=lambda: portability.clock() + sum(slept), sleep=slept.append)
    with pytest.raises(TargetBusy, match=r"Product-acme: expected it to take items.*retry this task"):
        copy(p, migration)

    assert 30 < sum(slept) <= 60


def test_the_source_is_read_no_faster_than_allowed(portability, monkeypatch):
    monkeypatch.setattr(copying, "_PAGE_ITEMS", 1)
    migration = begin(portability)
    large = {"note": {"S": "x" * 80_000}}  # nearly 10 units each, eventually consistent
    put(portability, "Product-pooled", *(product("acme-1", f"{number}", **large) for number in range(10)))
    slept = []
    p = replace(portability, clock=lambda: 5000.0 + sum(slept), sleep=slept.append)

    figures = copy(p, migration, units_per_second=10.0)

    assert figures.read_units > 95
    assert sum(slept) == pytest.approx(figures.read_units / 10, rel=0.3)


def test_a_source_that_throttles_is_read_slower_and_to_the_end(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 5)
    refusals = [1, 2, 3]

    def throttled(real, **arguments):
        if refusals:
            refusals.pop()
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "Query")
        return real(**arguments)

    figures = copy(between(portability, query=throttled), migration)

    assert (figures.items, figures.retried) == (5, 3)


def test_requests_keep_to_dynamodb_s_limits(portability):
    migration = begin(portability)
    large = {"note": {"S": "\u0001" * 350_000}}  # six bytes each on the wire
    put(portability, "Product-pooled", *(product("acme-1", f"{number}", **large) for number in range(20)))
    fill(portability, "Product-pooled", "acme-1", 60)
    bodies = []

    def measured(real, **arguments):
        bodies.append(sum(len(str(request)) * 2 for request in arguments["RequestItems"]["Product-acme"]))
        assert len(arguments["RequestItems"]["Product-acme"]) <= 25
        return real(**arguments)

    figures = copy(between(portability, batch_write_item=measured), migration)

    assert figures.items == 80
    assert max(bodies) < 16 * 1024 * 1024


@pytest.mark.usefixtures("small_pages")
def test_the_figures_of_all_pieces_add_up_and_those_that_are_not_done_are_named(portability):
    migration = begin(portability)
    fill(portability, "Product-pooled", "acme-1", 10)
    fill(portability, "Order-pooled", "acme-3", 4, ORDERS)
    assert copied(portability, migration)[0] == CopyFigures()
    copy(portability, migration)
    copy(portability, migration, Unit(ORDERS, "acme-3"))

    total, missing = copied(portability, migration)

    assert (total.items, total.pages) == (14, 3)
    assert len(missing) == 18
    assert not {"copy#Product#acme-1", "copy#Order#acme-3"} & set(missing)
