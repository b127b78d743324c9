"""The same code against the local platform's zero-ETL stand-in: connect, load, follow a commit, and every state over the wire."""

import asyncio
import json
import threading
import urllib.request

import pytest
from airflow.sdk.exceptions import TaskDeferred

from data_platform.zero_etl.exceptions import ZeroEtlConnectRefused, ZeroEtlError, ZeroEtlUnhealthy
from data_platform.zero_etl.health import STATE_RULES, STATUS_RULES, TABLE_RULES, Outcome, evaluate
from data_platform.zero_etl.hook import ZeroEtlHook
from data_platform.zero_etl.operators import ConnectZeroEtlOperator, ZeroEtlHealthOperator
from data_platform.zero_etl.triggers import ZeroEtlCheckpointTrigger
from include.local.aurora.replicator import Replicator
from include.local.aurora.server import Server
from include.local.aurora.source import Aurora
from tests.plugins.zero_etl.fake_aws import CONN_ID, TARGET, connection_env

TABLES = ["users", "venue", "category", "date", "event", "listing", "sales"]


class StandIn:
    """A local Aurora with TICKIT's empty tables, its replicator and its endpoints."""

    def __init__(self, home):
        self.aurora = Aurora(home / "aurora")
        self.aurora.create_tickit()
        self.replicator = Replicator(self.aurora, home / "zero_etl", publish_seconds=0.1)
        self.server = Server(self.replicator)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.arn = self.replicator.integration.arn
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self.server.serve_forever, daemon=True),
            threading.Thread(target=self.replicator.run, args=(self._stop,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def override(self, **values):
        body = json.dumps(values).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_local/overrides", body, method="POST")).close()

    def commit(self, number):
        with self.aurora.transaction() as connection:
            self.aurora.upsert(connection, "category", [(number, "Shows", f"new {number}", "a new kind of show")])

    def close(self):
        self._stop.set()
        self.server.close()
        for thread in self._threads:
            thread.join()
        self.replicator.close()


def use(monkeypatch, stand_in, **extra):
    for name, value in connection_env(stand_in.url, integration_arn=stand_in.arn, **extra).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No database has been made from the integration yet."""
    stand_in = StandIn(tmp_path)
    use(monkeypatch, stand_in)
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def replicating(tmp_path_factory):
    """Connected, and the empty tables are loaded; tests only override what is reported."""
    stand_in = StandIn(tmp_path_factory.mktemp("replicating"))
    with pytest.MonkeyPatch.context() as patch:
        use(patch, stand_in)
        connect()
        health(deferrable=False, timeout_seconds=30)
    yield stand_in
    stand_in.close()


@pytest.fixture
def reported(replicating, monkeypatch):
    use(monkeypatch, replicating)
    yield replicating
    replicating.override()


def connect():
    return ConnectZeroEtlOperator(task_id="create_database", zero_etl_conn_id=CONN_ID).execute({})


def health(**changes):
    arguments = {"required_tables": TABLES, "history_tables": ["listing", "sales"], "poll_seconds": 0.2, **changes}
    operator = ZeroEtlHealthOperator(task_id="check_replication", zero_etl_conn_id=CONN_ID, **arguments)
    return operator.execute({})


def test_first_time_set_up_loads_the_tables_and_a_second_run_changes_nothing(fresh):
    with pytest.raises(TaskDeferred):  # PendingDbConnectState
        health()
    assert connect() == {"database": TARGET, "created": True}
    result = health(deferrable=False, timeout_seconds=30)
    assert result["tables"] == {f"demodb.{name}": "Synced" for name in TABLES}
    assert connect() == {"database": TARGET, "created": False}
    assert health()["checkpoint"] == result["checkpoint"]


def test_commit_in_the_source_becomes_one_event_and_the_next_commit_another(fresh):
    connect()
    health(deferrable=False, timeout_seconds=30)

    async def scenario():
        trigger = ZeroEtlCheckpointTrigger(zero_etl_conn_id=CONN_ID, poll_seconds=0.1, min_interval_seconds=0.2)
        stream = trigger.run()
        events = [(await asyncio.wait_for(anext(stream), 60)).payload]
        for number in (101, 102):
            fresh.commit(number)
            events.append((await asyncio.wait_for(anext(stream), 60)).payload)
        await stream.aclose()
        return events

    first, second, third = asyncio.run(scenario())
    assert first["previous_checkpoint"] is None
    assert second["previous_checkpoint"] == first["checkpoint"]
    assert third["previous_checkpoint"] == second["checkpoint"]
    assert len({event["checkpoint"] for event in (first, second, third)}) == 3
    assert third["lag_ms"] >= 0


def test_integration_that_feeds_the_database_is_not_connected_to_another(reported, monkeypatch):
    use(monkeypatch, reported, target_database="other_database")
    with pytest.raises(ZeroEtlConnectRefused, match=f"feeds the database {TARGET} already"):
        connect()


def test_another_integration_is_not_known(reported, monkeypatch):
    use(monkeypatch, reported)
    for name, value in connection_env(reported.url).items():  # the ARN of fake_aws, not of the stand-in
        monkeypatch.setenv(name, value)
    with pytest.raises(ZeroEtlUnhealthy, match="not found"):
        health()


def test_ordinary_database_of_that_name_is_refused(fresh, monkeypatch):
    use(monkeypatch, fresh, target_database="dev")
    with pytest.raises(ZeroEtlConnectRefused, match="that no integration feeds"):
        connect()


def test_every_documented_state_has_the_same_verdict_over_the_wire(reported):
    hook = ZeroEtlHook(CONN_ID)
    cases = [
        *(({"status": value}, rule[0]) for value, rule in STATUS_RULES.items()),
        *(({"state": value}, rule[0]) for value, rule in STATE_RULES.items()),
        *(
            ({"tables": {"sales": {"state": value, "reason": "why"}}, "status": "active", "errors": []}, rule[0])
            for value, rule in TABLE_RULES.items()
        ),
        ({"tables": {"sales": {"state": None}}}, Outcome.FAIL),
        ({"missing": True}, Outcome.FAIL),
        ({"lag_ms": 5_001}, Outcome.WAIT),
        ({"lag_ms": 4_999}, Outcome.PASS),
        (
            {
                "errors": [{"ErrorCode": "E1", "ErrorMessage": "demodb.sales: no primary key"}],
                "status": "needs_attention",
            },
            Outcome.FAIL,
        ),
        ({"status": "hibernating"}, Outcome.WAIT),
    ]
    seen = []
    for overrides, _ in cases:
        reported.override(**overrides)
        seen.append(evaluate(hook.snapshot(), ["demodb.sales"], lag_limit_ms=5_000).outcome)
    assert seen == [outcome for _, outcome in cases]


def test_table_without_a_primary_key_fails_the_check_only_for_those_who_read_it(fresh):
    with fresh.aurora.transaction() as connection:
        connection.execute("CREATE TABLE keyless (id INTEGER, name VARCHAR(10))")
    connect()
    assert health(deferrable=False, timeout_seconds=30)["warnings"]
    with pytest.raises(ZeroEtlError, match=r"(?s)keyless is Failed.*primary key.*REFRESH TABLE"):
        health(required_tables=["keyless"], history_tables=[])
