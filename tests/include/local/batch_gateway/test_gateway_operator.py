"""What the clusters' operator makes of applications, with drivers that are simulated."""

from __future__ import annotations

import pytest

from include.local.batch_gateway.config import Cluster
from include.local.batch_gateway.trial import trial_gateway
from tests.include.local.batch_gateway.conftest import Client, wait_for

ON_FAILURE = {"type": "OnFailure", "onFailureRetries": 1, "onFailureRetryInterval": 0}
RESUBMIT = {"type": "OnFailure", "onSubmissionFailureRetries": 1, "onSubmissionFailureRetryInterval": 0}


def test_an_application_completes_and_its_events_tell_how(gateway, client, states):
    submission_id = client.submit({"seconds": 0.1})

    done = gateway.wait_state(submission_id, "COMPLETED")

    assert (done["executions"], done["pod"], done["error"]) == (1, "Succeeded", None)
    assert states(submission_id) == [
        "SparkApplicationAdded",
        "SparkApplicationSubmitted",
        "SparkDriverRunning",
        "SparkDriverCompleted",
        "SparkApplicationCompleted",
    ]


def test_a_job_that_fails_is_not_run_again_unless_it_says_so(gateway, client):
    submission_id = client.submit({"outcome": "FAILED,COMPLETED"})

    assert gateway.wait_state(submission_id, "FAILED", "COMPLETED")["state"] == "FAILED"
    assert client.status(submission_id)["applicationErrorMessage"].endswith("ExitCode: 1, Reason: Error")


def test_a_job_that_may_be_run_again_is_pending_and_comes_to_another_end(gateway, client, states):
    submission_id = client.submit({"outcome": "FAILED,COMPLETED"}, restartPolicy=ON_FAILURE)

    done = gateway.wait_state(submission_id, "COMPLETED", "FAILED")

    assert (done["state"], done["executions"]) == ("COMPLETED", 2)
    assert client.status(submission_id)["executionAttempts"] == 2
    assert "SparkApplicationPendingRerun" in states(submission_id)


def test_retries_end(gateway, client):
    submission_id = client.submit({"outcome": "FAILED"}, restartPolicy=ON_FAILURE)

    assert gateway.wait_state(submission_id, "FAILED")["executions"] == 2


def test_a_failed_submission_becomes_a_failure_where_nobody_retries(gateway, client, states):
    submission_id = client.submit({"outcome": "SUBMISSION_FAILED", "error": "no room"})

    done = gateway.wait_state(submission_id, "FAILED")

    assert (done["executions"], done["pod"]) == (0, "")
    assert "no room" in done["error"]
    assert states(submission_id)[1] == "SparkApplicationSubmissionFailed"


def test_a_failed_submission_is_tried_again_where_the_policy_says_so(gateway, client):
    submission_id = client.submit({"outcome": "SUBMISSION_FAILED,COMPLETED"}, restartPolicy=RESUBMIT)

    done = gateway.wait_state(submission_id, "COMPLETED", "FAILED")

    assert (done["state"], done["executions"], done["tries"]) == ("COMPLETED", 1, 2)


def test_a_failed_submission_waits_for_its_next_try_in_a_state_of_its_own(gateway, client):
    policy = RESUBMIT | {"onSubmissionFailureRetryInterval": 600}
    submission_id = client.submit({"outcome": "SUBMISSION_FAILED,COMPLETED"}, restartPolicy=policy)

    gateway.wait_state(submission_id, "SUBMISSION_FAILED")

    assert client.status(submission_id)["applicationState"] == "SUBMISSION_FAILED"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"submissionIdSuffix": "ten-digits"}, "must be no more than 63 characters"),
        ({"driver": {"labels": {"team": "a b"}}}, 'Invalid value: "a b" of team'),
        ({"mainApplicationFile": None}, "Missing application resource"),
    ],
)
def test_what_the_gateway_takes_and_kubernetes_does_not_fails_at_submission(gateway, client, more, told):
    submission_id = client.submit(**more)

    assert told in gateway.wait_state(submission_id, "FAILED")["error"]


def test_the_longest_suffix_that_works(gateway, client):
    gateway.wait_state(client.submit(submissionIdSuffix="ninechars"), "COMPLETED")


def test_a_job_that_runs_too_long_loses_its_driver(gateway, client):
    submission_id = client.submit({"bpg.maxRunningMillis": 1, "seconds": 600})

    gateway.wait_state(submission_id, "FAILED")

    told = client.status(submission_id)["applicationErrorMessage"]
    assert told == "driver pod not found (application might be killed because of running too long)"


def test_a_finished_job_expires_and_is_then_unknown():
    with trial_gateway(clusters=[Cluster("c", ttl_seconds=0)], status_cache_millis=0) as gateway:
        client = Client(gateway)
        submission_id = client.submit({"seconds": 0})

        expired = wait_for(lambda: [one for one in gateway.applications() if one["deleted"]])

        assert [one["state"] for one in expired] == ["COMPLETED"]
        assert client.status(submission_id) == 404
        assert client.listed() == []


def test_a_script_is_followed_whatever_its_states_are(gateway, client):
    submission_id = client.submit({"states": "SUBMITTED,RUNNING,MIGRATING", "seconds": 0.1})

    gateway.wait_state(submission_id, "MIGRATING")

    assert client.status(submission_id)["applicationState"] == "MIGRATING"


def test_a_script_ends_with_its_last_state(gateway, client):
    submission_id = client.submit({"states": "SUBMITTED,RUNNING,SUSPENDED,RESUMING,RUNNING,FAILED", "seconds": 0.1})

    assert gateway.wait_state(submission_id, "FAILED")["terminated"]


def test_an_application_that_is_held_stays_where_it_is_until_it_is_released(gateway, client):
    submission_id = client.submit({"seconds": 600})
    gateway.wait_state(submission_id, "RUNNING")
    gateway.set_state(submission_id, "SUCCEEDING", held=True)
    other = client.submit({"seconds": 0})
    gateway.wait_state(other, "COMPLETED")  # the operator has been round
    assert gateway.application(submission_id)["state"] == "SUCCEEDING"

    gateway.release(submission_id)

    gateway.wait_state(submission_id, "COMPLETED")


def test_a_state_can_be_forced_with_its_reason(gateway, client):
    submission_id = client.submit({"seconds": 600})
    gateway.set_state(submission_id, "FAILED", error="node lost")

    status = client.status(submission_id)

    assert (status["applicationState"], status["applicationErrorMessage"]) == ("FAILED", "node lost")
    assert status["terminationTime"]


def test_a_deleted_job_ends_and_is_still_counted(gateway, client):
    submission_id = client.submit({"seconds": 600}, applicationName="counted")
    gateway.wait_state(submission_id, "RUNNING")

    assert client.ask("DELETE", f"/spark/{submission_id}").json() == {}

    assert client.status(submission_id) == 404
    assert client.listed("counted") == []
    wait_for(lambda: gateway.application(submission_id)["pod"] == "")
    assert [one["id"] for one in gateway.applications("counted")] == [submission_id]


def test_hundreds_of_jobs_run_at_once(gateway, client):
    ids = {client.submit({"seconds": 1}) for _ in range(200)}

    wait_for(lambda: {one["state"] for one in gateway.applications()} == {"COMPLETED"}, timeout=60)

    assert {one["id"] for one in gateway.applications()} == ids
    running = [one["terminated"] - one["pod_started"] for one in gateway.applications()]
    assert min(running) >= 1000, "none is ended early"
