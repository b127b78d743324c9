"""The task: what it takes, sends, waits for and gives."""

import contextlib
import json

import pytest
import requests
from airflow.sdk import DAG

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.attempts import Attempt, Outcome
from data_platform.batch_gateway.exceptions import (
    CancelImpossible,
    GatewayAccessDenied,
    JobFailed,
    SpecRefused,
    SubmissionRefused,
)
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.spec import JobSpec
from tests.plugins.batch_gateway.task_harness import (
    CONN_ID,
    accepted,
    attempt_of,
    beside,
    defer,
    job,
    operator,
    run_to_end,
)


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


def test_every_state_on_the_way_is_waited_on_and_a_new_one_is_told(gateway, ti, capsys):
    states = "SUBMITTED,RUNNING,SUSPENDING,SUSPENDED,RESUMING,PENDING_RERUN,INVALIDATING,REINCARNATING,UNKNOWN,FAILING,SUCCEEDING"

    def go_through():
        (one,) = gateway.wait_accepted()
        for state in states.split(","):
            gateway.set_state(one["id"], state, held=True)
            gateway.wait_until_asked("status", gateway.asked("status") + 2)  # the first may have been on its way
        gateway.set_state(one["id"], "COMPLETED")

    with beside(go_through):
        assert operator(job(seconds=600), poll_seconds=0.05).execute(ti.context)["state"] == "COMPLETED"
    assert "REINCARNATING, a state that this client does not know" in capsys.readouterr().out


def test_a_driver_that_can_not_be_started_is_given_time_then_the_job_is_cancelled(gateway, ti):
    retries = {"type": "OnFailure", "onSubmissionFailureRetries": 3, "onSubmissionFailureRetryInterval": 60}
    spec = job(outcome="SUBMISSION_FAILED", error="quota exceeded") | {"restartPolicy": retries}
    with pytest.raises(JobFailed, match=r"ended SUBMISSION_FAILED: .*quota exceeded"):
        operator(spec, submission_retry_seconds=0.5).execute(ti.context)
    assert accepted(gateway)[0]["deleted"]


def test_a_driver_that_starts_at_the_second_attempt_is_a_success(gateway, ti):
    spec = job(outcome="SUBMISSION_FAILED,COMPLETED") | {
        "restartPolicy": {
            "type": "OnFailure",
            "onSubmissionFailureRetries": 2,
            "onSubmissionFailureRetryInterval": 1,
        }
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
