"""PostLineageEvent and what can be asked of events, through boto3's client."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from tests.include.local.catalog.conftest import run_event

MOMENT = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)


def code_of(caught):
    return caught.value.response["Error"]["Code"]


@pytest.fixture
def clock(catalog):
    """Processing takes a minute of a clock that a test moves."""
    time = {"now": 1_000_000.0}
    catalog.service.lineage.seconds = 60.0
    before, catalog.service.lineage.now = catalog.service.lineage.now, lambda: time["now"]
    yield time
    catalog.service.lineage.now = before


def statuses(client):
    items = client.list_lineage_events(sortOrder="ASCENDING")["items"]
    return [item["processingStatus"] for item in items]


def test_an_event_is_requested_then_processing_then_success(client, post, clock):
    event_id = post()
    for seconds, status in ((29, "REQUESTED"), (30, "PROCESSING"), (59, "PROCESSING"), (60, "SUCCESS")):
        clock["now"] = 1_000_000.0 + seconds
        assert client.get_lineage_event(identifier=event_id)["processingStatus"] == status
        assert statuses(client) == [status]


def test_events_are_processed_in_the_order_in_which_they_were_taken(client, post, clock, catalog):
    post(outputs=["a"], time="2026-01-31T09:00:00Z")
    clock["now"] += 30
    post(outputs=["b"], time="2026-01-31T08:00:00Z")
    clock["now"] += 30
    assert statuses(client) == ["PROCESSING", "SUCCESS"], "listed by the event's time, processed as they came"
    clock["now"] += 30
    assert statuses(client) == ["SUCCESS", "SUCCESS"]


def test_nothing_is_in_the_graph_before_the_event_is_processed(client, post, clock):
    post(outputs=["a"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_lineage_node(identifier="ns/a")
    clock["now"] += 60
    assert client.get_lineage_node(identifier="ns/a")["sourceIdentifier"] == "ns/a"


def test_an_event_comes_back_byte_for_byte_with_its_headers(client, post):
    body = json.dumps(run_event(job="ü"), ensure_ascii=False, indent=3).encode()
    event_id = post(body)
    told = client.get_lineage_event(identifier=event_id)
    assert told.pop("event").read() == body
    assert (told["id"], told["eventTime"], told["processingStatus"]) == (event_id, MOMENT, "SUCCESS")
    assert set(told) == {"id", "domainId", "eventTime", "processingStatus", "createdAt", "createdBy"}


def test_the_list_says_what_an_event_is_about(client, post):
    event = run_event(inputs=["a"], outputs=["b"])
    post(event)
    (item,) = client.list_lineage_events()["items"]
    assert item["eventSummary"]["openLineageRunEventSummary"] == {
        "eventType": "COMPLETE",
        "runId": event["run"]["runId"],
        "job": {"namespace": "jobs", "name": "job"},
        "inputs": [{"namespace": "ns", "name": "a"}],
        "outputs": [{"namespace": "ns", "name": "b"}],
    }


def test_the_time_of_an_event_is_told_to_the_millisecond(client, post):
    post(time="2026-01-31T08:30:00.123999Z")
    assert client.list_lineage_events()["items"][0]["eventTime"] == MOMENT + timedelta(milliseconds=123)


def test_the_largest_event_is_taken_and_one_byte_more_is_refused(client, post):
    body = json.dumps(run_event()).encode()
    post(body + b" " * (300_000 - len(body)))
    with pytest.raises(client.exceptions.ValidationException, match="at most 300000, found 300001"):
        post(body + b" " * (300_001 - len(body)))


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        run_event() | {"eventType": "DONE"},
        run_event() | {"eventTime": "yesterday"},
        run_event() | {"eventTime": None},
        run_event() | {"run": {}},
        run_event() | {"run": None},
        run_event() | {"job": {"namespace": "jobs"}},
        run_event() | {"job": {"namespace": "jobs", "name": 7}},
        {"eventTime": "2026-01-31T08:30:00Z", "job": {"namespace": "a", "name": "b"}},
    ],
)
def test_what_is_no_run_event_is_refused_at_once(client, post, event):
    with pytest.raises(client.exceptions.ValidationException):
        post(event)
    assert client.list_lineage_events()["items"] == []


FACETS = {"namespace": "ns", "name": "a"}


@pytest.mark.parametrize(
    ("datasets", "reason"),
    [
        ("all", "outputs: expected a list"),
        (["a"], "outputs: a dataset: expected a dict"),
        ([{"namespace": "ns"}], "a dataset's name: expected a str, found 'None'"),
        ([FACETS | {"facets": []}], None),
        ([FACETS | {"facets": ["x"]}], "facets of a"),
        ([FACETS | {"facets": {"own": 7}}], "facet own of a"),
        ([FACETS | {"facets": {"schema": {"fields": {}}}}], None),
        ([FACETS | {"facets": {"schema": {"fields": {"a": 1}}}}], "facet schema.fields of a: expected a list"),
        ([FACETS | {"facets": {"columnLineage": {}}}], "facet columnLineage of a: fields"),
        ([FACETS | {"facets": {"columnLineage": {"fields": {"c": {}}}}}], "c.inputFields"),
        ([FACETS | {"facets": {"columnLineage": {"fields": {"c": {"inputFields": [{"name": "x"}]}}}}}], "namespace"),
    ],
)
def test_an_event_that_can_not_be_processed_fails_later_and_the_next_one_does_not(
    client, post, catalog, datasets, reason
):
    event_id = post(run_event() | {"outputs": datasets})
    post(outputs=["b"])
    assert client.get_lineage_event(identifier=event_id)["processingStatus"] == ("FAILED" if reason else "SUCCESS")
    assert (reason or "") in catalog.events[0]["reason"]
    assert client.get_lineage_node(identifier="ns/b")


def test_the_same_token_is_the_same_event(client, post, catalog):
    event = run_event()
    assert post(event, "t") == post(event, "t")
    assert len(catalog.events) == 1
    assert post(event, "u") != post(event, "t")


def test_another_event_under_the_same_token_is_a_conflict(client, post, catalog):
    post(token="t")
    with pytest.raises(client.exceptions.ConflictException, match="t was used for another request"):
        post(token="t")
    assert len(catalog.events) == 1


def every(client, **arguments):
    """All pages."""
    found, token = [], {}
    while True:
        page = client.list_lineage_events(**arguments, **token)
        found.append(page["items"])
        if "nextToken" not in page:
            return found
        token = {"nextToken": page["nextToken"]}


def test_every_event_is_on_exactly_one_page(client, post):
    ids = [post(time=(MOMENT + timedelta(seconds=number)).isoformat()) for number in range(101)]
    pages = every(client, sortOrder="ASCENDING")
    assert [len(page) for page in pages] == [50, 50, 1]
    assert [item["id"] for page in pages for item in page] == ids
    assert [item["id"] for page in every(client, maxResults=7) for item in page] == ids[::-1], "the newest first"


def test_a_page_that_is_just_full_is_the_last(client, post):
    for _ in range(4):
        post()
    assert [len(page) for page in every(client, maxResults=2)] == [2, 2]


def test_events_are_found_by_time_and_status(client, post, catalog):
    times = [MOMENT + timedelta(hours=number) for number in range(4)]
    ids = [post(time=time.isoformat()) for time in times]
    assert catalog.service.state()["events"] == {"SUCCESS": 4}
    catalog.fault("ProcessLineageEvent", outcome="FAILED", times=1)
    failed = post(time=times[3].isoformat())
    between = client.list_lineage_events(timestampAfter=times[1], timestampBefore=times[2], sortOrder="ASCENDING")
    assert [item["id"] for item in between["items"]] == ids[1:3]
    assert [item["id"] for item in client.list_lineage_events(processingStatus="FAILED")["items"]] == [failed]


@pytest.mark.parametrize(
    "arguments",
    [
        {"maxResults": 51},
        {"sortOrder": "UPWARDS"},
        {"processingStatus": "DONE"},
        {"nextToken": "no token"},
        {"nextToken": "00"},
        {"nextToken": "7b7d"},
    ],
)
def test_a_list_that_the_model_does_not_allow_is_refused(client, arguments):
    with pytest.raises(client.exceptions.ValidationException, match=next(iter(arguments))):
        client.list_lineage_events(**arguments)


@pytest.mark.parametrize(
    ("identifier", "code"), [("a" * 14, "ResourceNotFoundException"), ("A", "ValidationException")]
)
def test_an_event_that_is_not_there(client, identifier, code):
    with pytest.raises(ClientError) as caught:
        client.get_lineage_event(identifier=identifier)
    assert code_of(caught) == code


def test_another_domain_is_not_there(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="dzd_local0platform"):
        client.post_lineage_event(domainIdentifier="dzd_other", event=json.dumps(run_event()))


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_times_at_the_ends_of_the_calendar_are_kept(client, post, time):
    post(time=time, outputs=["a"])
    year = int(time[:4])
    assert client.list_lineage_events()["items"][0]["eventTime"].astimezone(UTC).year == year
    assert client.get_lineage_node(identifier="ns/a")["eventTimestamp"].astimezone(UTC).year == year
