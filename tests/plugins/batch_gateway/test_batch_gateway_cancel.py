"""A task that is over leaves no job behind, and what was known of it is in the log."""

import threading
import time
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from data_platform.batch_gateway.exceptions import (
    JobCancelled,
    JobTimedOut,
)
from data_platform.batch_gateway.hook import BatchGatewayHook, follow_log, gather_evidence
from data_platform.batch_gateway.operators import BatchGatewayCancelOperator
from tests.plugins.batch_gateway.task_harness import CONN_ID, TaskInstance, accepted, defer, job, operator, run_to_end


def test_a_killed_task_saves_what_is_known_and_cancels_its_job(gateway, ti, capsys, monkeypatch):
    # what is known, not how fast: the test below is of the limit
    monkeypatch.setattr("data_platform.batch_gateway.operators.KILL_EVIDENCE_SECONDS", 10.0)
    task = operator(job(seconds=20, log_lines=40))

    def kill():
        gateway.wait_log(gateway.wait_accepted()[0]["id"])
        task.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(JobCancelled, match="was cancelled"):
        task.execute(ti.context)
    killer.join()
    (application,) = accepted(gateway)
    assert application["deleted"]
    told = capsys.readouterr().out
    assert "--- Spark Spec ---" in told
    assert "line 1 of" in told


def test_a_gateway_that_can_not_tell_of_a_job_does_not_keep_a_kill_from_cancelling_it(gateway, ti, capsys):
    """Airflow ends a killed process by force after 5 s."""
    task = operator(job(seconds=300), deferrable=True)
    defer(task, ti)
    gateway.fault("describe", delay_seconds=3600)
    gateway.fault("log", delay_seconds=3600)
    task.on_kill()
    assert accepted(gateway)[0]["deleted"]
    assert "(not told: " in capsys.readouterr().out  # by whichever limit passed first: the request's or the evidence's


def test_what_was_read_of_a_log_is_told_where_its_reader_does_not_end_in_time(gateway, ti, monkeypatch):
    ended = threading.Event()

    def read_on(*args, **limits):
        follow_log(*args, **limits)
        ended.wait(30)

    monkeypatch.setattr("data_platform.batch_gateway.hook.follow_log", read_on)
    job_id = defer(operator(job(seconds=60, log_lines=600), deferrable=True), ti).trigger.submission_id
    gateway.wait_log(job_id)
    evidence = gather_evidence(BatchGatewayHook(CONN_ID).config, job_id, seconds=4.0)
    ended.set()
    assert f"line 1 of {job_id}" in evidence.log_tail


def test_a_job_that_has_completed_is_not_deleted_by_a_late_kill(gateway, ti):
    task = operator()
    task.execute(ti.context)
    task.on_kill()
    assert gateway.asked("delete") == 0


def test_a_task_killed_while_its_submission_is_unanswered_cancels_the_job(gateway, ti):
    gateway.fault("submit", delay_seconds=2.0, done=True, times=1)
    task = operator(job(seconds=30))

    def kill():
        gateway.wait_accepted()
        task.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(JobCancelled):
        task.execute(ti.context)
    killer.join()
    assert [bool(one["deleted"]) for one in accepted(gateway)] == [True]


def test_a_task_that_ran_into_its_time_limit_cancels_its_job_on_the_way_back(gateway, ti):
    limit = timedelta(seconds=1)
    with pytest.raises(JobTimedOut, match="0:00:01"):
        run_to_end(operator(job(seconds=30), deferrable=True, execution_timeout=limit), ti)
    assert accepted(gateway)[0]["deleted"]


@pytest.mark.parametrize(
    ("reason", "error"), [("Trigger timeout", TaskDeferralTimeout), ("Trigger failure", TaskDeferralError)]
)
def test_a_deferral_that_airflow_ends_cancels_the_job_on_the_last_try(gateway, reason, error):
    ti = TaskInstance(retries=0)
    task = operator(job(seconds=30), deferrable=True, execution_timeout=timedelta(seconds=60))
    defer(task, ti)
    with pytest.raises((error, JobTimedOut)):
        task.resume_execution("__fail__", {"error": reason}, ti.context)
    assert accepted(gateway)[0]["deleted"]


def test_a_trigger_that_failed_leaves_the_job_to_the_next_try(gateway, ti):
    task = operator(job(seconds=2), deferrable=True)
    deferred = defer(task, ti)
    with pytest.raises(TaskDeferralError):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, ti.context)
    ti.try_again()
    assert operator(job(seconds=2)).execute(ti.context)["submission_id"] == deferred.trigger.submission_id


# States


def test_a_job_can_be_cancelled_and_cancelling_again_is_no_error(gateway, ti):
    job_id = defer(operator(job(seconds=30), deferrable=True), ti).trigger.submission_id
    cancel = BatchGatewayCancelOperator(task_id="cancel", submission_id=job_id, batch_gateway_conn_id=CONN_ID)
    assert cancel.execute({}) is True
    assert accepted(gateway)[0]["deleted"]
    time.sleep(0.1)  # the gateway keeps a status for a moment
    assert cancel.execute({}) is False
