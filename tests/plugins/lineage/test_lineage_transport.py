"""The way to the catalog from inside a task: exact names and tokens when it works, never a failure or a wait when it doesn't."""

import json
import logging
import os
import socket
import threading

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Dataset, DatasetEvent, Job, JobEvent

from data_platform.lineage import losses
from data_platform.lineage.config import LineageTransport, read_transport_config, transport_config
from data_platform.lineage.events import client_token, parse_event
from data_platform.lineage.exceptions import LineageConfigInvalid
from data_platform.lineage.naming import Naming, rename_datasets
from data_platform.lineage.size import MAX_BYTES, TRIMMED
from data_platform.lineage.transport import DataZoneConfig, DataZoneTransport
from include.local.catalog.identity import DOMAIN_ID
from tests.plugins.lineage.events import NAMES, as_json, run_event

PLACE = {"region": "us-east-1", "account_id": "123456789012"}


@pytest.fixture(autouse=True)
def nothing_lost():
    losses._not_spooled.clear()


def transport_to(url: str, **options) -> DataZoneTransport:
    return DataZoneTransport(
        DataZoneConfig.from_dict({"domainId": DOMAIN_ID, "region": "us-east-1", "endpointOverride": url, **options})
    )


def sent(catalog, event) -> dict:
    """The event as the catalog got it under its token."""
    bodies = [body for token, body in catalog.posted if token == client_token(event)]
    assert bodies, "the catalog did not get it"
    return parse_event(bodies[-1])


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_one_emit_spools_the_event_and_sends_it_under_the_catalogs_names(catalog, tmp_path):
    option = transport_config(
        spool=tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url, **PLACE
    )
    client = OpenLineageClient(config={"transport": json.loads(json.dumps(option))})
    event = run_event()
    client.emit(event)
    (file,) = tmp_path.rglob("*.json")
    assert b"redshift://zero-etl-destination" in file.read_bytes()
    output = sent(catalog, event)["outputs"][0]
    assert f"{output['namespace']}/{output['name']}" == (
        "arn:aws:redshift-serverless:us-east-1:123456789012:view/zero-etl-destination/dev/finance/rpt_top"
    )


def test_the_same_event_is_sent_under_the_same_token(catalog):
    transport, event = transport_to(catalog.url), run_event()
    transport.emit(event)
    transport.emit(event)
    assert transport.counts == {"sent": 2}
    assert [token for token, _ in catalog.posted].count(client_token(event)) == 2


def test_a_large_event_is_sent_without_what_the_graph_does_not_need(catalog):
    event = run_event(sql="ü" * MAX_BYTES)
    transport_to(catalog.url).emit(event)
    assert sent(catalog, event)["run"]["facets"][TRIMMED]["trimmed"] == ["job: source code and SQL"]


def test_an_event_that_can_not_fit_is_not_sent_and_told(catalog, caplog):
    event = run_event(job="j" * MAX_BYTES)
    transport = transport_to(catalog.url)
    transport.emit(event)
    assert transport.counts == {"too_large": 1}
    assert "split the job" in warnings(caplog)[0]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (403, "AccessDeniedException"),
        (400, "ValidationException"),
    ],
)
def test_whatever_the_catalog_answers_the_task_goes_on_and_is_told_once(catalog, caplog, status, code):
    catalog.fault("PostLineageEvent", status=status, code=code)
    transport = transport_to(catalog.url, budgetSeconds=20)
    for _ in range(2):
        transport.emit(run_event())
    assert transport.counts == {"failed": 2}
    (told,) = warnings(caplog)
    assert code in told
    assert "stays in the spool" in told


def test_a_catalog_that_is_down_is_not_asked_again_and_again(closed_port, caplog):
    transport = transport_to(f"http://127.0.0.1:{closed_port}", budgetSeconds=60)
    for _ in range(20):
        transport.emit(run_event())
    assert transport.counts == {"failed": 3, "skipped": 17}
    assert [("EndpointConnectionError" in told or "in a row failed" in told) for told in warnings(caplog)] == [
        True,
        True,
    ]


def test_a_catalog_that_never_answers_costs_no_more_than_the_budget(caplog):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        transport = transport_to(f"http://127.0.0.1:{silent.getsockname()[1]}", budgetSeconds=0.8)
        transport.client()  # what it takes to import boto3 is not the catalog's fault
        for _ in range(20):
            transport.emit(run_event())
    assert transport.counts["failed"] in {1, 2}
    assert sum(transport.counts.values()) == 20
    assert transport.budget._spent <= 0.8 + 0.2


def test_an_answer_that_is_lost_does_not_fail_the_task(catalog):
    catalog.fault("PostLineageEvent", drop="answer", times=1)
    transport, event = transport_to(catalog.url), run_event()
    transport.emit(event)
    assert transport.counts == {"failed": 1}
    assert sent(catalog, event)


@pytest.mark.parametrize(
    "event",
    [
        JobEvent(eventTime="2026-01-31T08:30:00Z", job=Job("data-platform", "a")),
        DatasetEvent(eventTime="2026-01-31T08:30:00Z", dataset=Dataset("s3://a", "b")),
    ],
)
def test_what_is_no_run_event_is_ignored_without_a_word(catalog, event, caplog):
    transport = transport_to(catalog.url)
    transport.emit(event)
    assert transport.counts == {"ignored": 1}
    assert not warnings(caplog)


def test_an_event_that_nothing_took_is_in_the_log_fit_to_be_sent(closed_port, tmp_path, caplog):
    (tmp_path / "events").write_text("a file where a folder should be")
    option = transport_config(
        spool=tmp_path.as_uri(),
        domain_id="dzd_data0platform",
        catalog_endpoint=f"http://127.0.0.1:{closed_port}",
        **PLACE,
    )
    event = run_event()
    OpenLineageClient(config={"transport": option}).emit(event)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "neither the spool nor the catalog" in told
    logged = parse_event(told[told.index(": {") + 2 :].encode())
    assert client_token(logged) == client_token(event)
    before = json.dumps(logged)
    assert rename_datasets(logged, Naming.from_properties(NAMES)) == []
    assert json.dumps(logged) == before, "it has the catalog's names already"
    assert "redshift://" not in before


def test_an_event_that_only_the_catalog_took_is_not_called_lost(catalog, tmp_path, caplog):
    (tmp_path / "events").write_text("a file where a folder should be")
    option = transport_config(
        spool=tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url, **PLACE
    )
    event = run_event()
    OpenLineageClient(config={"transport": option}).emit(event)
    assert sent(catalog, event)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


def test_a_forked_process_makes_its_own_connections(catalog):
    transport = transport_to(catalog.url)
    mine = transport.client()
    child = os.fork()
    if not child:
        os._exit(0 if transport.client() is not mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert transport.client() is mine


def test_nothing_is_asked_of_aws_nor_imported_before_the_first_event(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    transport = transport_to("http://127.0.0.1:1")
    assert transport.datazone is None
    assert transport.close()


def test_without_credentials_the_task_goes_on(monkeypatch, catalog, caplog, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    transport = transport_to(catalog.url)
    transport.emit(run_event())
    assert transport.counts == {"failed": 1}
    assert "NoCredentialsError" in warnings(caplog)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected domainId"),
        ({"domainId": "dzd_a", "domain": "x"}, "found domain"),
        ({"domainId": "dzd_a", "budgetSeconds": 0}, "budgetSeconds above 0"),
    ],
)
def test_a_mistake_in_the_transports_options_is_named(options, message):
    with pytest.raises(LineageConfigInvalid, match=message):
        DataZoneConfig.from_dict(options)


class TestOption:
    def test_without_a_domain_events_are_spooled_only(self):
        option = transport_config(spool="s3://bucket/lineage", **PLACE)
        assert list(option["transports"]) == ["spool"]
        assert option["transports"]["spool"]["last"] is True

    def test_the_spool_comes_first_whatever_the_order(self, tmp_path):
        option = transport_config(spool=tmp_path.as_uri(), domain_id="dzd_a", **PLACE)
        option["transports"] = dict(reversed(option["transports"].items()))
        client = OpenLineageClient(config={"transport": option})
        assert [part.name for part in client.transport.transports] == ["spool", "catalog"]

    def test_it_is_read_back_from_airflows_configuration(self, monkeypatch):
        option = transport_config(
            spool="s3://bucket/lineage",
            domain_id="dzd_a",
            redshift={"dwh.example.org": {"cluster": "analytics"}},
            **PLACE,
        )
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(option))
        read = read_transport_config()
        assert read == LineageTransport(
            "s3://bucket/lineage", "dzd_a", option["transports"]["catalog"]["transformer_properties"], "us-east-1"
        )

    def test_another_transport_is_refused_with_what_makes_ours(self):
        with pytest.raises(LineageConfigInvalid, match=r"found http; make the option with .*transport_config"):
            LineageTransport.from_option({"type": "http", "url": "http://marquez"})

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"spool": "/var/spool"}, "expected file:///<folder>"),
            ({"account_id": "1"}, "12 digits"),
            ({"domain_id": "domain"}, "a DataZone domain id"),
            ({"redshift": {"a": {"workgroup": "a", "acount": "1"}}}, "found acount"),
        ],
    )
    def test_a_malformed_argument_is_refused(self, wrong, message):
        with pytest.raises(LineageConfigInvalid, match=message):
            transport_config(**({"spool": "s3://bucket/lineage", **PLACE} | wrong))


def test_events_from_several_threads_are_all_sent(catalog):
    transport = transport_to(catalog.url, budgetSeconds=60)
    events = [run_event() for _ in range(8)]
    threads = [threading.Thread(target=transport.emit, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {client_token(event) for event in events} <= {token for token, _ in catalog.posted}


def test_what_is_sent_is_renamed_and_the_event_itself_is_not(tmp_path, catalog):
    option = transport_config(
        spool=tmp_path.as_uri(), domain_id=catalog.domain_id, catalog_endpoint=catalog.url, **PLACE
    )
    event = run_event()
    before = as_json(event)
    OpenLineageClient(config={"transport": option}).emit(event)

    body = dict(catalog.posted)[client_token(event)]
    assert b"redshift://" not in body
    [spooled] = tmp_path.rglob("*.json")
    for side in ("inputs", "outputs"):
        assert json.loads(spooled.read_bytes())[side] == as_json(event)[side] == before[side]
