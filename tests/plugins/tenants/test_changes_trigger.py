"""What waits in the triggerer for a tenant's next change, against the AWS stand-in and a network that fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from datetime import UTC, datetime, timedelta

import botocore.loaders
import botocore.session
import pytest

from data_platform.tenants.triggers import ChangesTrigger
from include.local.aws.controls import Controls
from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.proxy import Proxy
from include.local.saas.tables import make_data_tables, make_shared_tables
from include.tenants.keys import shard_ids
from include.tenants.saas import MIGRATIONS, PARTITION_KEY, POOLED
from include.tenants.states import State
from include.tenants.store import PARTITION, SORT, MigrationStore

CONN_ID = "aws_tenants"
TABLE = f"Product-{POOLED}"
OTHER = f"Order-{POOLED}"
CHANGES = "there are changes to replay"
_NUMBER = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def service_models_read_once():
    """Every hook makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture(scope="module")
def url():
    with trial_aws() as url:
        yield url


@pytest.fixture(scope="module")
def clients(url):
    """The application's tables, with streams."""
    clients = clients_at(url)
    make_shared_tables(clients.dynamodb)
    for name in make_data_tables(clients.dynamodb, POOLED):
        stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        clients.dynamodb.update_table(TableName=name, StreamSpecification=stream)
    return clients


@pytest.fixture
def controls(url):
    controls = Controls(url)
    yield controls
    controls.reset()


@pytest.fixture
def proxy(url):
    """The network between the triggerer and AWS."""
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def tenant(clients, proxy, monkeypatch):
    """An id that begins other ids, in a migration; the connection goes through the proxy."""
    extra = {"region_name": "us-east-1", "endpoint_url": proxy.url}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "aws", "extra": extra}))
    tenant_id = f"t{next(_NUMBER)}x"
    MigrationStore(clients.dynamodb).plan(f"m-{tenant_id}", tenant_id, {}, {}, by="a test")
    return tenant_id


def put(clients, shard_id, sort="1", table=TABLE):
    key = "productId" if table == TABLE else "orderId"
    clients.dynamodb.put_item(TableName=table, Item={"shardId": {"S": shard_id}, key: {"S": sort}})


def shards(clients, *tables, after=None):
    """The open shards of the tables' streams."""
    found = []
    for table in tables or (TABLE, OTHER):
        arn = clients.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        described = clients.streams.describe_stream(StreamArn=arn)["StreamDescription"]
        found += [
            {"stream": arn, "shard": shard["ShardId"], "after": after}
            for shard in described["Shards"]
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
    assert found
    return found


def trigger(tenant_id, shards, *, seconds=60.0, value=State.PLANNED.value):
    """As a triggerer makes it: of what was serialised."""
    row = {
        "table": MIGRATIONS,
        "key": {PARTITION: f"m-{tenant_id}", SORT: "migration"},
        "attribute": "state",
        "value": value,
    }
    made = ChangesTrigger(
        aws_conn_id=CONN_ID,
        shards=shards,
        partition_key=PARTITION_KEY,
        partitions=list(shard_ids(tenant_id)),
        row=row,
        poll_seconds=0.05,
        until=datetime.now(UTC) + timedelta(seconds=seconds),
    )
    return ChangesTrigger(**json.loads(json.dumps(made.serialize()[1])))


def reason(one, meanwhile=None):
    """Why the trigger ends, while something else happens; it tells once."""

    async def scenario():
        events = []

        async def drive():
            events.extend([event.payload async for event in one.run()])

        driving = asyncio.create_task(drive())
        try:
            if meanwhile is not None:
                await meanwhile(events)
            await driving
        finally:
            driving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await driving
        [event] = json.loads(json.dumps(events))
        assert event.keys() == {"reason"}
        return event["reason"]

    return asyncio.run(asyncio.wait_for(scenario(), 90))


async def asked(proxy, operation, more):
    """Wait until AWS was asked so many times more."""
    await asyncio.to_thread(proxy.wait_until_asked, operation, proxy.rules.requests.get(operation, 0) + more)


def test_it_is_the_same_after_it_was_stored(tenant, clients):
    made = trigger(tenant, shards(clients, after="000000000000000000001"))
    path, arguments = made.serialize()
    module, _, name = path.rpartition(".")
    assert (module, name) == (type(made).__module__, type(made).__name__)
    again = ChangesTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == made.serialize()
    assert again.until == made.until
    assert again.until.tzinfo is not None


def test_only_the_tenants_own_partitions_wake_it(tenant, clients, proxy):
    """Its id begins its neighbours', and theirs begins it."""
    neighbours = [
        tenant,
        tenant[:-1],
        f"{tenant}-11",
        f"{tenant}-1-1",
        f"{tenant}0-1",
        f"x{tenant}-1",
        f"{tenant[:-1]}-1",
    ]

    async def meanwhile(events):
        for neighbour in neighbours:
            put(clients, neighbour)
        await asked(proxy, "GetRecords", 6)
        assert events == []
        put(clients, f"{tenant}-10")

    assert reason(trigger(tenant, shards(clients)), meanwhile) == CHANGES


@pytest.mark.parametrize("table", [TABLE, OTHER])
def test_a_change_in_any_table_wakes_it(tenant, clients, proxy, table):
    async def meanwhile(events):
        await asked(proxy, "GetRecords", 4)
        put(clients, f"{tenant}-1", table=table)

    assert reason(trigger(tenant, shards(clients)), meanwhile) == CHANGES


def test_it_reads_on_behind_what_was_replayed(tenant, clients, proxy):
    """The change that the worker has done with does not wake it again."""
    put(clients, f"{tenant}-1")
    waiting = trigger(tenant, shards(clients, TABLE, after=last_number(clients)))

    async def meanwhile(events):
        await asked(proxy, "GetRecords", 3)
        assert events == []
        put(clients, f"{tenant}-1", "2")

    assert reason(waiting, meanwhile) == CHANGES


def last_number(clients):
    """Of the newest record."""
    numbers = []
    for shard in shards(clients, TABLE):
        iterator = clients.streams.get_shard_iterator(
            StreamArn=shard["stream"], ShardId=shard["shard"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = clients.streams.get_records(ShardIterator=iterator)["Records"]
        numbers += [record["dynamodb"]["SequenceNumber"] for record in records]
    return max(numbers)


def test_the_migrations_next_state_wakes_it(tenant, clients, proxy):
    store = MigrationStore(clients.dynamodb)

    async def meanwhile(events):
        await asked(proxy, "GetItem", 2)
        assert events == []
        store.transition(store.load(f"m-{tenant}"), State.PREFLIGHT, by="a test")

    assert reason(trigger(tenant, shards(clients)), meanwhile) == "state is PREFLIGHT"


def test_a_migration_that_is_in_another_state_already_or_gone_is_not_waited_for(tenant, clients):
    assert reason(trigger(tenant, shards(clients), value="CATCHING_UP")) == "state is PLANNED"
    assert reason(trigger("nobody", shards(clients))) == "state is None"


def test_it_is_back_in_time_also_without_changes(tenant, clients):
    assert reason(trigger(tenant, shards(clients), seconds=0.5)) == "it was long enough"


def test_past_its_time_it_asks_nobody(tenant, clients, proxy):
    proxy.cut()
    waiting = trigger(tenant, shards(clients), seconds=-1)
    assert reason(waiting) == "it was long enough"
    assert proxy.rules.requests == {}


def test_a_shard_that_ended_has_to_be_followed_by_the_worker(tenant, clients, proxy, controls):
    async def meanwhile(events):
        await asked(proxy, "GetRecords", 2)
        assert events == []
        controls.split(OTHER)

    assert reason(trigger(tenant, shards(clients)), meanwhile) == "a shard of the stream has ended"


def test_an_iterator_that_has_expired_is_made_anew_and_no_change_is_overlooked(
    tenant, clients, proxy, controls, capsys
):
    async def meanwhile(events):
        await asked(proxy, "GetRecords", 2)
        made = proxy.rules.requests["GetShardIterator"]
        controls.advance(16 * 60)
        put(clients, f"{tenant}-1")
        await asyncio.to_thread(proxy.wait_until_asked, "GetShardIterator", made + 1)

    assert reason(trigger(tenant, shards(clients, TABLE)), meanwhile) == CHANGES
    assert "can't be asked" not in capsys.readouterr().out


def test_a_stream_that_has_forgotten_where_it_was_is_left_to_the_worker(tenant, clients, controls):
    put(clients, "of-somebody-1")
    where = shards(clients, TABLE, after=last_number(clients))
    put(clients, "of-somebody-1", "2")
    controls.advance(25 * 3600)
    assert "does not go on from here (TrimmedDataAccessException)" in reason(trigger(tenant, where))
    where[0]["shard"] = "shardId-00000000000000000000-00000000"
    assert "does not go on from here (ResourceNotFoundException)" in reason(trigger(tenant, where[:1]))


def test_a_network_that_is_cut_is_waited_out(tenant, clients, proxy, capsys):
    async def meanwhile(events):
        await asked(proxy, "GetRecords", 1)
        proxy.cut()
        told = ""
        while "AWS can't be asked, trying again" not in told:
            await asyncio.sleep(0.05)
            told += capsys.readouterr().out
        assert events == []
        put(clients, f"{tenant}-1")
        proxy.heal()

    assert reason(trigger(tenant, shards(clients, TABLE)), meanwhile) == CHANGES


def test_a_service_that_is_throttled_is_waited_out(tenant, clients, proxy, controls):
    controls.fault("GetRecords", code="LimitExceededException", times=6)
    put(clients, f"{tenant}-1")
    assert reason(trigger(tenant, shards(clients, TABLE))) == CHANGES
    assert controls.faults() == []


def test_a_network_that_stalls_does_not_stop_the_triggerers_other_triggers(tenant, clients, proxy, capsys):
    """One that waited on the loop would not let the network heal before its own time-out, which it would tell."""

    async def meanwhile(events):
        proxy.stall()
        await asked(proxy, "GetItem", 1)
        put(clients, f"{tenant}-1")
        proxy.heal()

    assert reason(trigger(tenant, shards(clients, TABLE)), meanwhile) == CHANGES
    assert "can't be asked" not in capsys.readouterr().out
