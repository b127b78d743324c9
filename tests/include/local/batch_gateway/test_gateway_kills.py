"""The gateway keeps nothing and the operator keeps all in the clusters' state: a kill at any moment harms no job."""

from __future__ import annotations

import threading

import pytest
import requests

from include.local.batch_gateway.trial import trial_gateway
from tests.include.local.batch_gateway.conftest import Client, wait_for


@pytest.fixture(scope="module")
def killable():
    """Not the one of the other tests, which a test that fails here would leave dead."""
    with trial_gateway(status_cache_millis=0) as started:
        yield started


@pytest.fixture
def gateway(killable):
    killable.reset()
    return killable


def test_a_job_runs_on_while_the_gateway_is_away(gateway):
    client = Client(gateway)
    submission_id = client.submit({"seconds": 0.3}, applicationName="survivor")
    gateway.gateway.kill()
    with pytest.raises(requests.ConnectionError):
        client.listed()

    gateway.gateway.restart()

    gateway.wait_state(submission_id, "COMPLETED")
    assert client.status(submission_id)["applicationState"] == "COMPLETED"
    assert len(gateway.applications("survivor")) == 1


def test_what_was_asked_for_and_accepted_is_known_after_a_kill(gateway):
    client = Client(gateway)
    client.submit({"seconds": 600}, applicationName="a")
    gateway.fault("submit", status=500)
    gateway.gateway.restart()

    assert client.post(applicationName="a").ok, "faults are over"
    assert gateway.asked("submit") == 2
    assert len(gateway.applications("a")) == 2


def test_a_gateway_that_is_killed_before_it_accepts_has_no_job(gateway):
    client = Client(gateway)
    gateway.fault("submit", delay_seconds=600)
    lost = []

    def post():
        try:
            client.post()
        except requests.ConnectionError as error:
            lost.append(error)

    thread = threading.Thread(target=post)
    thread.start()
    gateway.wait_until_asked("submit", 1)
    gateway.gateway.restart()
    thread.join()

    assert lost
    assert gateway.applications() == []


def test_jobs_wait_for_an_operator_and_go_on_where_they_were(gateway):
    client = Client(gateway)
    running = client.submit({"seconds": 3, "log_lines": 20})
    gateway.wait_state(running, "RUNNING")
    gateway.operator.kill()
    unseen = client.submit({"seconds": 0})
    assert client.status(unseen)["applicationState"] == "UNKNOWN"
    assert client.status(running)["applicationState"] == "RUNNING"

    gateway.operator.restart()

    gateway.wait_state(unseen, "COMPLETED")
    done = gateway.wait_state(running, "COMPLETED")
    assert (done["executions"], done["tries"]) == (1, 1)
    log = client.ask("GET", "/log", params={"subId": running}).text
    assert log.splitlines()[:-1] == [f"line {number} of {running}" for number in range(1, 21)]


def test_many_kills_lose_and_double_nothing(gateway):
    client = Client(gateway)
    ids = []
    for number in range(12):
        ids.append(client.submit({"seconds": 0.2}))
        (gateway.operator if number % 2 else gateway.gateway).restart()

    wait_for(lambda: {one["state"] for one in gateway.applications()} == {"COMPLETED"}, timeout=60)

    assert [(one["id"], one["executions"]) for one in gateway.applications()] == [(one, 1) for one in ids]
