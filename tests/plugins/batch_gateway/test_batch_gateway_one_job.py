"""One task, one job: whatever happens to requests, answers, tries and people's clicks."""

import threading
import time
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from data_platform.batch_gateway.attempts import AttemptStore, Outcome
from data_platform.batch_gateway.client import Patience
from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    JobFailed,
    JobLost,
    SubmitUndecided,
)
from tests.plugins.batch_gateway.task_harness import (
    TaskInstance,
    accepted,
    attempt_of,
    beside,
    defer,
    job,
    operator,
    run_to_end,
)


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": "answer"},
        {"drop": "request"},
        {"status": 500, "done": True},
        {"status": 500},
        {"status": 503, "body": "<html>no upstream</html>"},
        {"status": 429},
        {"status": 200, "body": '{"submissionId', "done": True},
        {"delay_seconds": 3600, "done": True},
    ],
    ids=lambda fault: " ".join(f"{key}={value}" for key, value in fault.items()),
)
def test_a_submission_whose_answer_is_lost_makes_one_job(gateway, ti, fault, connect_to):
    if "delay_seconds" in fault:
        connect_to(gateway, read_timeout_seconds=1.0)
    gateway.fault("submit", times=1, **fault)
    result = operator().execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]


def test_a_job_that_appears_late_is_found(gateway, ti, connect_to):
    connect_to(gateway, settle_seconds=5.0, read_timeout_seconds=1.0)
    gateway.fault("submit", delay_seconds=3600, times=1)

    def accept():
        gateway.wait_until_asked("list", 3)  # before it, and twice after the client has given up
        gateway.clear()

    with beside(accept):
        result = operator().execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]
    assert gateway.asked("submit") == 1


def test_a_truncated_listing_does_not_make_a_second_job(gateway, ti):
    gateway.fault("submit", times=1, drop="answer")
    gateway.fault("list", times=2, cut_at="sparkclustera")
    gateway.fault("list", times=1, cut_after=10, after=1)
    result = operator(job(seconds=0.3) | {"clusterId": "sparkclustera"}).execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]


def test_a_gateway_that_stays_away_is_told_and_a_retry_makes_one_job(gateway, ti):
    gateway.fault("submit", status=503, done=True, times=1)
    gateway.fault("list", status=503, after=1)
    with pytest.raises(SubmitUndecided, match="A retry looks the job up"):
        operator(patience_seconds=0.1).execute(ti.context)
    gateway.clear()
    ti.try_again()
    result = operator().execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]


def test_two_jobs_of_one_attempt_become_one(gateway, ti):
    """What the settle time can't prevent: a submission that the gateway carries out after the task has given it up."""
    task = operator(job(seconds=30), deferrable=True)
    defer(task, ti)
    known = ti.store.get("batch_gateway_attempt")
    task.hook.submit(task._request(AttemptStore(ti.store).load(), ti.context))
    del known["submission_id"]
    ti.store.set("batch_gateway_attempt", known | {"posted_at": time.time()})
    ti.try_again()
    kept = defer(operator(job(seconds=30), deferrable=True), ti).trigger.submission_id
    assert [one["id"] for one in accepted(gateway) if not one["deleted"]] == [
        kept
    ]  # which one: Kubernetes keeps seconds only
    assert len(accepted(gateway)) == 2


def test_a_gateway_that_answers_every_submission_with_an_error_is_given_up(gateway, ti, connect_to):
    connect_to(gateway, settle_seconds=0.2)
    gateway.fault("submit", status=500, message="admission webhook denied the request")
    with pytest.raises(SubmitUndecided, match=r"3 submissions .* admission webhook denied"):
        operator().execute(ti.context)
    assert gateway.asked("submit") == 3
    assert accepted(gateway) == []


def test_a_job_of_this_try_that_failed_at_once_is_not_submitted_again_in_the_same_try(gateway, ti):
    gateway.fault("submit", status=504, done=True)
    with pytest.raises(JobFailed):
        operator(job(seconds=0, outcome="FAILED")).execute(ti.context)
    assert len(accepted(gateway)) == 1


def test_a_submission_that_is_carried_out_much_later_is_cancelled_when_the_task_ends(gateway, ti, connect_to):
    connect_to(gateway, settle_seconds=0.2, read_timeout_seconds=1.0)
    gateway.fault("submit", delay_seconds=3600, times=1)

    def carry_out():
        (first,) = gateway.wait_accepted()
        gateway.clear()
        gateway.wait_accepted(2)
        gateway.set_state(first["id"], "COMPLETED")

    with beside(carry_out):
        result = operator(job(seconds=600)).execute(ti.context)
    kept, late = sorted(accepted(gateway), key=lambda one: one["id"] != result["submission_id"])
    assert kept["state"] == "COMPLETED"
    assert late["deleted"]


def test_an_error_that_airflow_would_not_try_again_is_one_it_does_while_a_job_may_run(gateway, ti):
    gateway.fault("submit", status=503, done=True, times=1)
    gateway.fault("list", status=401, after=1)
    with pytest.raises(BatchGatewayError, match="the next try goes on with it") as raised:
        operator(job(seconds=1.0)).execute(ti.context)
    assert not isinstance(raised.value, AirflowFailException)
    gateway.clear()
    ti.try_again()
    assert [operator(job(seconds=1.0)).execute(ti.context)["submission_id"]] == [one["id"] for one in accepted(gateway)]


def test_a_last_try_that_fails_leaves_no_job(gateway):
    ti = TaskInstance(retries=0)
    gateway.fault("submit", status=503, done=True, times=1)
    gateway.fault("list", status=503, after=1, times=Patience().attempts)
    with pytest.raises(SubmitUndecided):
        operator(job(seconds=60), patience_seconds=0.1).execute(ti.context)
    assert [bool(one["deleted"]) for one in accepted(gateway)] == [True]


def test_two_jobs_of_one_task_can_not_be_asked_for():
    with pytest.raises(ValueError, match="durable=True"):
        operator(durable=False)


# Tries


def test_a_retry_goes_on_with_the_job_that_runs(gateway, ti):
    first = operator(job(seconds=1.5), deferrable=True)
    defer(first, ti)
    ti.try_again()  # the worker, or the triggerer, died
    result = run_to_end(operator(job(seconds=1.5), deferrable=True), ti)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]
    assert ti.xcom["submission_id"] == result["submission_id"]


def test_a_retry_finds_a_job_whose_id_was_never_kept(gateway, ti):
    defer(operator(job(seconds=1.5), deferrable=True), ti)
    ti.store.delete("batch_gateway_submission_id")
    known = ti.store.get("batch_gateway_attempt")
    del known["submission_id"]
    ti.store.set("batch_gateway_attempt", known | {"posted_at": time.time()})  # killed while the answer was on its way
    ti.try_again()
    result = operator(job(seconds=1.5)).execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]


def test_a_job_that_completed_while_nobody_watched_is_the_tasks_result(gateway, ti):
    deferred = defer(operator(job(seconds=0.2), deferrable=True), ti)
    gateway.wait_state(deferred.trigger.submission_id, "COMPLETED")
    ti.try_again()
    assert operator(job(seconds=0.2)).execute(ti.context)["submission_id"] == deferred.trigger.submission_id
    assert len(accepted(gateway)) == 1


def test_a_task_that_died_after_its_success_was_found_out_has_that_result(gateway, ti):
    first = operator().execute(ti.context)
    gateway.remove(first["submission_id"])
    ti.try_again()
    assert operator().execute(ti.context) == first
    assert len(accepted(gateway)) == 1


def test_a_retry_after_a_failed_job_submits_another(gateway, ti):
    with pytest.raises(JobFailed):
        operator(job(seconds=0.2, outcome="FAILED")).execute(ti.context)
    ti.try_again()
    result = operator(job(seconds=0.2)).execute(ti.context)
    ids = [one["id"] for one in accepted(gateway)]
    assert len(ids) == 2
    assert result["submission_id"] == ids[-1]
    assert len({one["name"] for one in accepted(gateway)}) == 2


def test_a_job_that_failed_while_nobody_watched_is_not_taken_by_the_retry(gateway, ti):
    deferred = defer(operator(job(seconds=0.2, outcome="FAILED"), deferrable=True), ti)
    gateway.wait_state(deferred.trigger.submission_id, "FAILED")
    ti.try_again()
    result = operator(job(seconds=0.2)).execute(ti.context)
    assert result["submission_id"] != deferred.trigger.submission_id


def test_a_job_that_is_gone_when_the_retry_comes_is_replaced(gateway, ti):
    deferred = defer(operator(job(seconds=30), deferrable=True), ti)
    gateway.remove(deferred.trigger.submission_id)
    ti.try_again()
    result = operator(job(seconds=0.2)).execute(ti.context)
    assert result["submission_id"] != deferred.trigger.submission_id


def test_a_job_that_vanishes_while_it_is_watched_is_lost_and_no_success(gateway, ti):
    task = operator(job(seconds=30))
    threading.Thread(target=lambda: gateway.remove(gateway.wait_accepted()[0]["id"])).start()
    with pytest.raises(JobLost, match="is gone from its cluster"):
        task.execute(ti.context)
    assert attempt_of(ti).outcome is Outcome.LOST


def test_each_mapped_task_has_a_job_of_its_own(gateway):
    names = set()
    for index in range(3):
        result = operator().execute(TaskInstance(map_index=index).context)
        names.add(result["application_name"])
    assert len(names) == len(accepted(gateway)) == 3


def test_a_run_that_was_deleted_and_made_again_runs_its_jobs_again(gateway, ti):
    first = operator().execute(ti.context)
    again = TaskInstance()  # the same names, another store
    assert operator().execute(again.context)["submission_id"] != first["submission_id"]


# Clicks


def test_a_cleared_task_that_had_succeeded_runs_another_job(gateway, ti):
    first = operator().execute(ti.context)
    ti.clear()
    second = operator().execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [first["submission_id"], second["submission_id"]]


def test_a_cleared_task_runs_another_job_even_if_its_store_was_emptied(gateway, ti):
    """As Airflow does after a success, with ``[state_store] clear_on_success``."""
    first = operator().execute(ti.context)
    ti.store.values.clear()
    ti.clear()
    assert operator().execute(ti.context)["submission_id"] != first["submission_id"]


def test_a_retry_finds_its_job_even_if_the_store_was_lost(gateway, ti):
    deferred = defer(operator(job(seconds=1.0), deferrable=True), ti)
    ti.store.values.clear()
    ti.try_again()
    assert operator(job(seconds=1.0)).execute(ti.context)["submission_id"] == deferred.trigger.submission_id
    assert len(accepted(gateway)) == 1


def test_a_clear_after_the_retries_were_lowered_is_noticed(gateway, ti):
    """It leaves max_tries as it was; the run's count of clears tells."""
    first = operator().execute({**ti.context, "dag_run": SimpleNamespace(clear_number=0)})
    ti.try_again()
    second = operator().execute({**ti.context, "dag_run": SimpleNamespace(clear_number=1)})
    assert second["submission_id"] != first["submission_id"]


def test_a_task_that_is_cleared_while_its_job_runs_cancels_it_first(gateway, ti):
    deferred = defer(operator(job(seconds=30), deferrable=True), ti)
    ti.clear()  # no triggerer was there to cancel it
    result = operator(job(seconds=0.2)).execute(ti.context)
    old, new = accepted(gateway)
    assert (old["id"], new["id"]) == (deferred.trigger.submission_id, result["submission_id"])
    assert old["deleted"]
    assert not new["deleted"]


def test_a_task_that_is_cleared_while_its_submission_is_unanswered_cancels_what_came_of_it(gateway, ti):
    defer(operator(job(seconds=30), deferrable=True), ti)
    known = ti.store.get("batch_gateway_attempt")
    del known["submission_id"]
    ti.store.set("batch_gateway_attempt", known | {"posted_at": time.time()})
    ti.clear()
    operator(job(seconds=0.2)).execute(ti.context)
    assert [bool(one["deleted"]) for one in accepted(gateway)] == [True, False]
