"""A driver's log is told from its beginning at each call, and on until its pod ends."""

from __future__ import annotations

import threading

from tests.include.local.batch_gateway.conftest import wait_for


def read(client, submission_id):
    return client.ask("GET", "/log", params={"subId": submission_id}, timeout=60).text


def test_a_call_stays_until_the_pod_ends(gateway, client):
    submission_id = client.submit({"seconds": 600, "log_lines": 0})
    gateway.wait_state(submission_id, "RUNNING")
    told = []
    thread = threading.Thread(target=lambda: told.append(read(client, submission_id)))
    thread.start()
    gateway.wait_until_asked("log", 1)
    with (gateway.home / "drivers" / submission_id / "driver.log").open("a") as log:
        log.write("written while somebody reads\n")
    assert told == []

    gateway.set_state(submission_id, "COMPLETED")
    thread.join(60)

    assert told == ["written while somebody reads\n\n"]


def test_each_call_begins_at_the_beginning(gateway, client):
    submission_id = client.submit({"seconds": 0.3, "log_lines": 3})
    gateway.wait_state(submission_id, "RUNNING")

    followed, again = read(client, submission_id), read(client, submission_id)

    assert followed == again
    assert followed == "".join(f"line {number} of {submission_id}\n" for number in (1, 2, 3)) + "\n"


def test_a_log_ends_when_its_job_is_deleted(gateway, client):
    submission_id = client.submit({"seconds": 600})
    gateway.wait_state(submission_id, "RUNNING")
    told = []
    thread = threading.Thread(target=lambda: told.append(read(client, submission_id)))
    thread.start()
    gateway.wait_until_asked("log", 1)

    client.ask("DELETE", f"/spark/{submission_id}")
    thread.join(60)

    assert len(told) == 1
    assert wait_for(lambda: read(client, submission_id).startswith("Cannot find matched log files"))


def test_a_driver_that_runs_again_has_a_new_log(gateway, client):
    policy = {"type": "OnFailure", "onFailureRetries": 1, "onFailureRetryInterval": 0}
    submission_id = client.submit({"outcome": "FAILED,COMPLETED", "log_lines": 2}, restartPolicy=policy)

    assert gateway.wait_state(submission_id, "COMPLETED")["executions"] == 2

    assert read(client, submission_id).count("line 1 of") == 1
