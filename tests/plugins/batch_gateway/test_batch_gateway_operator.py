"""The task: one job, whatever happens to requests, answers, tries and people's clicks."""

import contextlib
import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import requests
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.attempts import Attempt, AttemptStore, Outcome
from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    CancelImpossible,
    GatewayAccessDenied,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
    SpecRefused,
    SubmissionRefused,
    SubmitUndecided,
)
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.operators import BatchGatewayCancelOperator
from data_platform.batch_gateway.sensors import BatchGatewayJobSensor
from data_platform.batch_gateway.spec import JobSpec
from tests.plugins.batch_gateway.task_harness import CONN_ID, TaskInstance, defer, job, operator, run_to_end


def attempt_of(ti):
    return AttemptStore(ti.store).load()


def accepted(gateway):
    return gateway.applications()


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_job_that_completes_tells_what_and_where_it_was(gateway, ti, deferrable):
    task = operator(job(seconds=0.3, log_lines=3), deferrable=deferrable)
    result = run_to_end(task, ti) if deferrable else task.execute(ti.context)
    (application,) = accepted(gateway)
    assert result["submission_id"] == application["id"]
    assert result["cluster"] == application["id"].partition("-")[0]
    assert result["application_name"].startswith("spark_jobs.submit_job")
    assert result["application_id"]
    assert result["state"] == "COMPLETED"
    assert ti.xcom["submission_id"] == application["id"]
    assert ti.xcom["cluster"] == result["cluster"]
    assert ti.xcom["application_id"] == result["application_id"]
    assert attempt_of(ti).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_job_that_fails_tells_why(gateway, ti, deferrable):
    task = operator(
        job(seconds=0.3, outcome="FAILED", error="table orders is not there", log_lines=30), deferrable=deferrable
    )
    with pytest.raises(JobFailed, match="table orders is not there") as raised:
        run_to_end(task, ti) if deferrable else task.execute(ti.context)
    told = str(raised.value)
    assert accepted(gateway)[0]["id"] in told
    assert "Events:" in told
    assert "Driver log:" in told
    assert attempt_of(ti).outcome is Outcome.FAILED


def test_a_spec_that_is_refused_sends_nothing(gateway, ti):
    task = operator(job())
    task.job = task.job | {"driver": {"memory": "2048"}}
    with pytest.raises(SpecRefused, match=r"driver\.memory"):
        task.execute(ti.context)
    assert gateway.asked("submit") == gateway.asked("list") == 0
    assert attempt_of(ti) is None


def test_what_the_gateway_refuses_is_not_tried_again(gateway, ti):
    with pytest.raises(SubmissionRefused, match="Spark version not supported"):
        operator(job() | {"sparkVersion": "9.9"}).execute(ti.context)
    assert gateway.asked("submit") == 1
    assert attempt_of(ti).outcome is Outcome.REFUSED


def test_a_login_that_is_denied_is_not_tried_again(gateway, ti):
    gateway.fault("list", status=401)
    with pytest.raises(GatewayAccessDenied, match="User-Account"):
        operator().execute(ti.context)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_spec_may_be_a_file_with_templates(gateway, ti, tmp_path, suffix):
    spec = job(seconds=0.2) | {
        "arguments": ["{{ params.day }}"],
        "driver": {"cores": "{{ params.cores }}", "memory": "1g"},
    }
    (tmp_path / f"job{suffix}").write_text(json.dumps(spec))  # JSON is YAML too
    with DAG("spark_jobs", schedule=None, template_searchpath=str(tmp_path)) as dag:
        task = operator(f"job{suffix}")
    task.resolve_template_files()
    task.render_template_fields({**ti.context, "params": {"day": "2026-11-26", "cores": 2}, "dag": dag})
    result = task.execute(ti.context)
    sent = task.hook.client.run(protocol.spec(result["submission_id"]))
    assert sent["arguments"] == ["2026-11-26"]
    assert sent["driver"]["cores"] == 2


def test_a_spec_may_be_typed_and_its_token_stays_out_of_the_ui(gateway, ti):
    from airflow.serialization.helpers import serialize_template_field

    task = operator(JobSpec.read(job(seconds=0.2) | {"queueToken": "token-of-dev"}))
    assert "token-of-dev" not in str(serialize_template_field(task.job, "job"))
    assert task.execute(ti.context)["state"] == "COMPLETED"


def test_a_spec_with_a_fault_is_refused_when_the_dag_file_is_parsed():
    with pytest.raises(SpecRefused, match=r"executor\.memory"):
        operator(job() | {"executor": {"memory": "1.5g"}})


# Ambiguous submissions


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
        {"delay_seconds": 7.0, "done": True},
    ],
    ids=lambda fault: " ".join(f"{key}={value}" for key, value in fault.items()),
)
def test_a_submission_whose_answer_is_lost_makes_one_job(gateway, ti, fault):
    gateway.fault("submit", times=1, **fault)
    result = operator().execute(ti.context)
    assert [one["id"] for one in accepted(gateway)] == [result["submission_id"]]


def test_a_job_that_appears_late_is_found(gateway, ti, connect_to):
    connect_to(gateway, settle_seconds=6.0, read_timeout_seconds=1.0)
    gateway.fault("submit", delay_seconds=3.0, times=1)  # accepted 2 s after the client has given up
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
        operator(patience_seconds=2.0).execute(ti.context)
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
    connect_to(gateway, settle_seconds=0.2, read_timeout_seconds=0.5)
    gateway.fault("submit", delay_seconds=3.0, times=1)
    result = operator(job(seconds=4.0), poll_seconds=0.5).execute(ti.context)
    kept, late = sorted(accepted(gateway), key=lambda one: one["id"] != result["submission_id"])
    assert kept["state"] == "COMPLETED"
    assert late["deleted"] or late["state"] == "COMPLETED"


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
    gateway.fault("list", status=503, after=1, times=5)
    with pytest.raises(SubmitUndecided):
        operator(job(seconds=60), patience_seconds=2.0).execute(ti.context)
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


def test_a_killed_task_saves_what_is_known_and_cancels_its_job(gateway, ti, capsys):
    task = operator(job(seconds=20, log_lines=40))

    def kill():
        gateway.wait_state(gateway.wait_accepted()[0]["id"], "RUNNING")
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
    assert "(no answer in" in capsys.readouterr().out


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


def test_every_state_on_the_way_is_waited_on_and_a_new_one_is_told(gateway, ti, capsys):
    states = "SUBMITTED,RUNNING,SUSPENDING,SUSPENDED,RESUMING,PENDING_RERUN,INVALIDATING,REINCARNATING,UNKNOWN,FAILING,SUCCEEDING,COMPLETED"
    assert operator(job(states=states, seconds=6.0)).execute(ti.context)["state"] == "COMPLETED"
    assert "REINCARNATING, a state that this client does not know" in capsys.readouterr().out


def test_a_driver_that_can_not_be_started_is_given_time_then_the_job_is_cancelled(gateway, ti):
    retries = {"type": "OnFailure", "onSubmissionFailureRetries": 3, "onSubmissionFailureRetryInterval": 60}
    spec = job(outcome="SUBMISSION_FAILED", error="quota exceeded") | {"restartPolicy": retries}
    with pytest.raises(JobFailed, match=r"ended SUBMISSION_FAILED: .*quota exceeded"):
        operator(spec, submission_retry_seconds=0.5).execute(ti.context)
    assert accepted(gateway)[0]["deleted"]


def test_a_driver_that_starts_at_the_second_attempt_is_a_success(gateway, ti):
    spec = job(outcome="SUBMISSION_FAILED,COMPLETED") | {
        "restartPolicy": {"type": "OnFailure", "onSubmissionFailureRetries": 2}
    }
    assert operator(spec).execute(ti.context)["state"] == "COMPLETED"


def test_outages_and_throttling_while_it_is_watched_are_waited_out(gateway, ti):
    gateway.fault("status", status=503, times=6)
    gateway.fault("status", status=429, times=3, after=6)
    gateway.fault("status", drop="request", times=2, after=9)
    assert operator(job(seconds=0.5)).execute(ti.context)["state"] == "COMPLETED"
    assert len(accepted(gateway)) == 1


def test_a_password_that_changes_while_it_is_watched_is_read_again(gateway, ti, connect_to):
    gateway.fault("status", status=401, times=2, after=1)
    assert operator(job(seconds=1.0)).execute(ti.context)["state"] == "COMPLETED"


# Beside


def test_links_are_there_before_the_job_has_ended(gateway, ti):
    deferred = defer(operator(job(seconds=5), deferrable=True), ti)
    job_id = deferred.trigger.submission_id
    assert ti.xcom["_link_DriverLogLink"] == f"{gateway.url}/log?subId={job_id}"
    assert ti.xcom["_link_GatewayRecordLink"] == f"{gateway.url}/spark/{job_id}/describe"


def test_the_connections_queue_is_used_where_the_job_names_none(gateway, ti, connect_to):
    connect_to(gateway, queue="dev")
    operator({key: value for key, value in job(seconds=0.2).items() if key != "queue"}).execute(ti.context)
    listed = requests.get(f"{gateway.url}/spark/mySubmissions", auth=("airflow", "x"), timeout=10).json()["submissions"]
    assert [one["queue"].rpartition(".")[2] for one in listed] == ["dev"]


def test_a_sensor_waits_for_anothers_job_and_leaves_it_alone(gateway, ti):
    job_id = defer(operator(job(seconds=1.0), deferrable=True), ti).trigger.submission_id
    sensor = BatchGatewayJobSensor(
        task_id="wait", submission_id=job_id, batch_gateway_conn_id=CONN_ID, deferrable=False, poke_interval=0.2
    )
    assert sensor.poke({}) is False
    gateway.wait_state(job_id, "COMPLETED")
    assert sensor.poke({}) is True
    gateway.remove(job_id)
    time.sleep(0.1)  # the gateway keeps a status for a moment
    with pytest.raises(JobLost):
        sensor.poke({})


def test_a_sensor_sees_a_failure(gateway, ti):
    job_id = defer(operator(job(outcome="FAILED", error="no such table"), deferrable=True), ti).trigger.submission_id
    gateway.wait_state(job_id, "FAILED")
    sensor = BatchGatewayJobSensor(
        task_id="wait", submission_id=job_id, batch_gateway_conn_id=CONN_ID, deferrable=False
    )
    with pytest.raises(JobFailed, match="no such table"):
        sensor.poke({})


def test_a_job_can_be_cancelled_and_cancelling_again_is_no_error(gateway, ti):
    job_id = defer(operator(job(seconds=30), deferrable=True), ti).trigger.submission_id
    cancel = BatchGatewayCancelOperator(task_id="cancel", submission_id=job_id, batch_gateway_conn_id=CONN_ID)
    assert cancel.execute({}) is True
    assert accepted(gateway)[0]["deleted"]
    time.sleep(0.1)  # the gateway keeps a status for a moment
    assert cancel.execute({}) is False


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED"])
def test_no_secret_is_in_a_message_or_a_log(gateway, ti, caplog, capsys, connect_to, outcome):
    caplog.set_level("DEBUG")
    connect_to(gateway, queue="dev", queue_token="token-of-dev")
    gateway.fault("submit", times=1, drop="answer")
    spec = {key: value for key, value in job(seconds=0.2, log_lines=3, outcome=outcome).items() if key != "queue"}
    with contextlib.suppress(JobFailed):
        operator(spec).execute(ti.context)
    told = caplog.text + capsys.readouterr().out
    assert "submitted job" in told or "found job" in told
    assert outcome in told
    assert "pass-word" not in told
    assert "token-of-dev" not in told


def test_the_connections_token_goes_with_its_queue_and_no_other(gateway, ti, connect_to):
    connect_to(gateway, queue="dev", queue_token="token-of-dev")
    task, attempt = operator(), Attempt(1, "a", 0)
    assert task._request(attempt, ti.context)["queueToken"] == "token-of-dev"
    task.job = task.job | {"queue": "other"}
    assert "queueToken" not in task._request(attempt, ti.context)


def test_clusters_with_a_dash_are_watched_by_listing_and_can_not_be_cancelled(connect_to, ti, caplog):
    from include.local.batch_gateway.trial import trial_gateway

    with trial_gateway(clusters=("spark-cluster-a",)) as dashed:
        connect_to(dashed)
        assert operator(job(seconds=0.5)).execute(ti.context)["cluster"] == "spark-cluster-a"
        assert dashed.asked("status") == 0
        assert "can't be cancelled" in caplog.text
        ti.clear()
        defer(operator(job(seconds=30), deferrable=True), ti)
        ti.clear()
        with pytest.raises(CancelImpossible, match="kubectl"):
            operator(job(seconds=0.2)).execute(ti.context)


def test_the_end_of_a_long_log_is_what_is_kept(gateway, ti):
    job_id = operator(job(seconds=0.3, log_lines=500)).execute(ti.context)["submission_id"]
    log = BatchGatewayHook(CONN_ID).driver_log(job_id, max_bytes=2000)
    assert len(log) <= 2000
    assert f"line 500 of {job_id}" in log
    assert "line 1 of" not in log
