"""What identifies an event."""

import pytest

from data_platform.lineage.events import client_token, event_key, parse_event, to_bytes
from data_platform.lineage.exceptions import NotARunEvent
from tests.plugins.lineage.events import RunState, as_json, run_event

RUN = "019c0000-0000-7000-8000-000000000001"


def test_a_token_is_the_same_for_the_event_and_for_what_the_spool_has_of_it():
    event = run_event(run_id=RUN)
    assert client_token(event) == client_token(parse_event(to_bytes(as_json(event))))
    assert len(client_token(event)) == 64


@pytest.mark.parametrize(
    "spelling",
    [
        "2026-01-31T08:30:00Z",
        "2026-01-31T08:30:00",
        "2026-01-31T08:30:00.000000+00:00",
        "2026-01-31T09:30:00.000+01:00",
        "2026-01-31t08:30:00.000000000z",
    ],
)
def test_a_token_does_not_depend_on_how_the_time_is_spelt(spelling):
    assert client_token(run_event(spelling, run_id=RUN)) == client_token(run_event("2026-01-31T08:30:00Z", run_id=RUN))


@pytest.mark.parametrize(
    "other",
    [
        {"run_id": "019c0000-0000-7000-8000-000000000002"},
        {"state": RunState.FAIL},
        {"moment": "2026-01-31T08:30:00.000001Z"},
    ],
)
def test_another_run_type_or_microsecond_is_another_token(other):
    given = {"moment": "2026-01-31T08:30:00Z", "run_id": RUN, "state": RunState.COMPLETE}
    assert client_token(run_event(**given)) != client_token(run_event(**{**given, **other}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff",
        b'{"eventType": "COMPL',
        b"[]",
        b"{}",
        b'{"run": {"runId": "a"}, "eventType": "DONE", "eventTime": "2026-01-31T08:30:00Z"}',
        b'{"run": {"runId": "a"}, "eventType": "START", "eventTime": "yesterday"}',
        b'{"run": {"runId": "a"}, "eventType": "START", "eventTime": "2026-01-31T08:30:00Z"}',
    ],
)
def test_what_is_no_run_event_is_refused(body):
    with pytest.raises(NotARunEvent, match="expected"):
        parse_event(body)


def test_a_run_event_of_the_older_client_classes_has_the_same_key():
    from openlineage.client.run import Job, Run, RunEvent
    from openlineage.client.run import RunState as OldState

    old = RunEvent(
        eventType=OldState.COMPLETE,
        eventTime="2026-01-31T08:30:00Z",
        run=Run(runId=RUN),
        job=Job(namespace="data-platform", name="a"),
        producer="https://example.org",
    )
    assert event_key(old) == event_key(run_event("2026-01-31T08:30:00Z", run_id=RUN))
