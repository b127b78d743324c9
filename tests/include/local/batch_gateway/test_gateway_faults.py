"""The local gateway misbehaves on request, as a gateway and what is before and behind it do."""

from __future__ import annotations

import threading

import pytest
import requests

from tests.include.local.batch_gateway.conftest import wait_for


def test_an_answer_that_is_lost_was_a_job_that_was_accepted(gateway, client):
    gateway.fault("submit", drop="answer", times=1)

    with pytest.raises(requests.ConnectionError):
        client.post(applicationName="lost")

    assert len(gateway.applications("lost")) == 1


def test_a_request_that_is_lost_was_no_job(gateway, client):
    gateway.fault("submit", drop="request", times=1)

    with pytest.raises(requests.ConnectionError):
        client.post()

    assert gateway.applications() == []
    assert gateway.asked("submit") == 1


@pytest.mark.parametrize(("done", "jobs"), [(False, 0), (True, 1)])
def test_an_error_may_be_told_of_a_job_that_was_accepted(gateway, client, done, jobs):
    gateway.fault("submit", status=503, done=done, times=1)

    answer = client.post()

    assert (answer.status_code, answer.json()["code"]) == (503, 503)
    assert "a fault was asked for" in answer.json()["message"]
    assert len(gateway.applications()) == jobs


def test_an_error_may_be_a_proxys_page(gateway, client):
    gateway.fault("list", status=502, body="<html>Bad Gateway</html>")

    answer = client.ask("GET", "/admin/submissions")

    assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")


def test_a_slow_gateway_accepts_a_job_after_its_client_has_gone(gateway, client):
    """The client has no answer and no job, and later there is one."""
    gateway.fault("submit", delay_seconds=600, times=1)
    with pytest.raises(requests.ReadTimeout):
        client.ask("POST", "/spark", json={"sparkVersion": "3.5.0", "queue": "dev"}, timeout=0.3)
    assert gateway.applications() == []

    gateway.clear()

    assert len(gateway.wait_accepted()) == 1


def test_a_slow_answer_is_of_a_job_that_is_there(gateway, client):
    gateway.fault("submit", delay_seconds=600, done=True, times=1)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.submit()))
    thread.start()

    [accepted] = gateway.wait_accepted()
    assert answers == []
    gateway.clear()
    thread.join()

    assert answers == [accepted["id"]]


def test_a_listing_ends_at_the_cluster_that_does_not_answer(gateway, client):
    first, second = client.submit(clusterId="sparkclustera"), client.submit(clusterId="sparkclusterb")
    assert [first in line or second in line for line in client.listed()] == [True, True]
    gateway.fault("list", cut_at="sparkclusterb", times=2)
    [line] = client.listed()
    assert first in line
    gateway.clear()

    gateway.fault("list", cut_at="sparkclustera", times=1)

    assert client.listed() == []
    assert len(client.listed()) == 2


def test_a_stream_can_break_off(gateway, client):
    gateway.wait_state(submission_id := client.submit({"log_lines": 100}), "COMPLETED")
    gateway.fault("log", cut_after=50)

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.ask("GET", "/log", params={"subId": submission_id})

    answer = client.ask("GET", "/log", params={"subId": submission_id}, stream=True)
    assert answer.raw.read(50) == f"line 1 of {submission_id}\nline 2 of ".encode()[:50]
    answer.close()


def test_a_fault_is_of_its_operation_only_and_a_star_of_all(gateway, client):
    gateway.fault("describe", status=500)
    submission_id = client.submit()
    gateway.fault("*", status=429)

    assert client.ask("GET", f"/spark/{submission_id}/describe").status_code == 500
    assert client.post().status_code == 429
    assert requests.get(f"{gateway.server}/health", timeout=30).json() == {"status": "ok"}


def test_requests_before_and_after_a_fault_are_let_through(gateway, client):
    gateway.fault("status", status=500, after=1, times=1)
    submission_id = client.submit({"seconds": 600})

    assert [client.status(submission_id) == 500 for _ in range(3)] == [False, True, False]


def test_a_removed_job_was_there(gateway, client):
    submission_id = client.submit({"seconds": 600})

    gateway.remove(submission_id)

    assert client.status(submission_id) == 404
    assert gateway.application(submission_id)["deleted"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"opration": "submit"}, "expected only operation"),
        ({"times": "2"}, "times: expected a value like"),
        ({"done": 1}, "done: expected a value like False"),
        ({"drop": "both"}, "drop: expected request or answer, found 'both'"),
        ({"kubernetes": "away"}, "kubernetes: expected throttled, found 'away'"),
        ([], "expected a JSON object"),
    ],
)
def test_a_fault_that_there_is_not_is_refused(gateway, fault, told):
    answer = requests.post(f"{gateway.server}/_local/faults", json=fault, timeout=30)

    assert answer.status_code == 400
    assert told in answer.json()["error"]


@pytest.mark.parametrize("wanted", [{"status": "FAILED"}, {"held": "yes"}, {"state": 3}])
def test_a_state_that_can_not_be_set_is_refused(gateway, client, wanted):
    answer = requests.post(f"{gateway.server}/_local/applications/{client.submit()}", json=wanted, timeout=30)

    assert answer.status_code == 400
    assert "expected state or error as a text, held as true or false" in answer.json()["error"]


def test_what_was_asked_for_is_counted_and_a_reset_forgets_it(gateway, client):
    client.submit()
    client.listed()
    client.listed()
    gateway.wait_until_asked("list", 2)
    assert (gateway.asked("submit"), gateway.asked("list"), gateway.asked("status")) == (1, 2, 0)

    gateway.reset()

    assert gateway.asked("list") == 0
    assert gateway.applications() == []
    assert wait_for(lambda: gateway.state()["applications"] == {})
