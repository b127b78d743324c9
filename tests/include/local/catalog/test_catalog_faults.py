"""The stand-in misbehaves on request, as a service does."""

import json
import threading
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from include.local.catalog.faults import PROCESSING
from tests.include.local.catalog.conftest import Caller, run_event


def ask(catalog, method, path, document=None):
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(catalog.url + path, data=body, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (403, "AccessDeniedException"),
        (400, "ValidationException"),
    ],
)
def test_an_error_is_answered_as_often_as_asked_for_and_nothing_is_done(client, post, catalog, status, code):
    ask(
        catalog, "POST", "/_local/faults", {"operation": "PostLineageEvent", "status": status, "code": code, "times": 2}
    )
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            post()
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert catalog.events == []
    post()
    assert len(catalog.events) == 1


def test_a_fault_is_of_its_operation_only_and_a_star_of_all(client, post, catalog):
    catalog.fault("GetAsset", status=500)
    post()
    catalog.fault("*", status=500)
    with pytest.raises(client.exceptions.InternalServerException):
        post()
    assert ask(catalog, "GET", "/health") == {"status": "ok"}
    ask(catalog, "DELETE", "/_local/faults")
    post()


def test_requests_before_the_fault_are_let_through(client, post, catalog):
    catalog.fault("PostLineageEvent", status=500, after=2)
    post()
    post()
    with pytest.raises(client.exceptions.InternalServerException):
        post()


def test_a_service_that_is_away_closes_the_connection_and_does_nothing(client, post, catalog):
    catalog.fault("PostLineageEvent", drop="request")
    with pytest.raises(ConnectionClosedError):
        post()
    assert catalog.events == []


def test_an_answer_that_is_lost_was_done_and_is_the_same_the_next_time(client, post, catalog):
    catalog.fault("PostLineageEvent", drop="answer", times=1)
    event = run_event()
    with pytest.raises(ConnectionClosedError):
        post(event, "t")
    assert post(event, "t") == catalog.events[0]["id"]
    assert len(catalog.events) == 1


def test_a_slow_service_answers_too_late_for_an_impatient_client(catalog):
    catalog.fault("ListLineageEvents", delay_seconds=30, times=1)
    client = Caller(catalog.client(read_timeout=1), catalog.domain_id)
    with pytest.raises(ReadTimeoutError):
        client.list_lineage_events()
    assert client.list_lineage_events()["items"] == [], "others are not held up"


def test_ending_the_faults_ends_a_wait(client, catalog):
    catalog.fault("ListLineageEvents", delay_seconds=600)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.list_lineage_events()))
    thread.start()
    catalog.wait_until_asked("ListLineageEvents", 1)
    catalog.clear()
    thread.join(60)
    assert answers == [{"items": []}]


def test_processing_can_fail_later(client, post, catalog):
    catalog.fault(PROCESSING, outcome="FAILED", times=1)
    first, second = post(outputs=["a"]), post(outputs=["b"])
    assert client.get_lineage_event(identifier=first)["processingStatus"] == "FAILED"
    assert client.get_lineage_event(identifier=second)["processingStatus"] == "SUCCESS"


def test_processing_can_hang_until_the_fault_is_ended(client, post, catalog):
    catalog.fault(PROCESSING, outcome="PROCESSING")
    event_id = post()
    assert client.get_lineage_event(identifier=event_id)["processingStatus"] == "PROCESSING"
    catalog.clear()
    assert client.get_lineage_event(identifier=event_id)["processingStatus"] == "SUCCESS"


def test_the_state_counts_requests_and_events(client, post, catalog):
    catalog.fault("GetDomain", status=500)
    post()
    state = ask(catalog, "GET", "/_local/state")
    assert (state["events"], state["requests"]["PostLineageEvent"]) == ({"SUCCESS": 1}, 1)
    assert [fault["operation"] for fault in state["faults"]] == ["GetDomain"]


@pytest.mark.parametrize(
    "wrong", [{"op": "GetAsset"}, {"times": "2"}, {"times": True}, {"drop": "all"}, {"outcome": "SUCCESS"}]
)
def test_a_fault_that_is_misspelt_is_refused(catalog, wrong):
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        ask(catalog, "POST", "/_local/faults", wrong)
    assert "expected" in json.load(caught.value)["error"]
