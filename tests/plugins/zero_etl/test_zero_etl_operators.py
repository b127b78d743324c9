"""The tasks: pass, defer, resume, poll, be killed, miss the deadline."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from data_platform.zero_etl.exceptions import (
    ZeroEtlAccessDenied,
    ZeroEtlConnectionInvalid,
    ZeroEtlConnectRefused,
    ZeroEtlNotReady,
    ZeroEtlUnhealthy,
    ZeroEtlWaitStopped,
)
from data_platform.zero_etl.hook import ZeroEtlHook
from data_platform.zero_etl.operators import ConnectZeroEtlOperator, ZeroEtlHealthOperator
from data_platform.zero_etl.triggers import ZeroEtlHealthTrigger
from tests.plugins.zero_etl.fake_aws import CHECKPOINT, CONN_ID, SOURCE_ARN, TARGET, table_row


def health_operator(**changes):
    arguments = {"required_tables": ["sales"], "poll_seconds": 0.1, **changes}
    return ZeroEtlHealthOperator(task_id="check_source", zero_etl_conn_id=CONN_ID, **arguments)


def deferral_of(operator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({})
    return deferred.value


def resume(operator, deferral):
    """What the triggerer and the scheduler do: make the trigger again, run it, hand its event to the task as JSON."""
    path, arguments = deferral.trigger.serialize()
    assert path.endswith(".ZeroEtlHealthTrigger")
    trigger = ZeroEtlHealthTrigger(**json.loads(json.dumps(arguments)))

    async def first():
        return await anext(trigger.run())

    event = json.loads(json.dumps(asyncio.run(first()).payload))
    return getattr(operator, deferral.method_name)({}, event=event)


@contextmanager
def once(condition, act, seconds=30.0):
    """Act beside the task as soon as the condition holds; a fixed delay would come too early on a busy machine."""
    over = threading.Event()
    held = []

    def watch():
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            if over.wait(0.01):
                return
        held.append(bool(condition()))
        act()  # also when time is up: the task ends and the test fails, rather than hangs

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert held == [True], "the task did not wait for what was to happen beside it"


def test_healthy_source_passes_at_once_without_deferring(aws):
    result = health_operator(history_tables=["listing"]).execute({})
    assert result["outcome"] == "pass"
    assert result["tables"] == {"demodb.sales": "Synced", "demodb.listing": "Synced"}
    assert (result["checkpoint"], result["lag_ms"]) == (CHECKPOINT, 1200)
    assert result["source_arn"] == SOURCE_ARN
    assert len(json.dumps(result)) < 1000


def test_log_shows_the_required_tables(aws, capsys):
    with pytest.raises(ZeroEtlUnhealthy):
        health_operator(required_tables=["sales", "venue"]).execute({})
    log = capsys.readouterr().out
    assert "demodb.sales  Synced" in log
    assert "demodb.venue  missing" in log


def test_source_that_is_being_loaded_defers_and_resumes_with_the_result(aws):
    aws.tables[1]["table_state"] = "ResyncInitiated"
    operator = health_operator()
    deferral = deferral_of(operator)
    aws.tables[1]["table_state"] = "Synced"
    assert resume(operator, deferral)["tables"] == {"demodb.sales": "Synced"}


def test_airflow_ends_the_wait_a_little_after_the_deadline_should_the_triggerer_be_down(aws):
    aws.integration()["current_lag"] = None
    deferral = deferral_of(health_operator(timeout_seconds=600))
    assert timedelta(seconds=600) < deferral.timeout <= timedelta(seconds=1200)


def test_failed_table_fails_the_task_for_good_with_table_state_reason_and_remedy(aws):
    aws.tables[1] = table_row("sales", "Failed", reason="no primary key")
    with pytest.raises(
        ZeroEtlUnhealthy, match=r"(?s)demodb\.sales is Failed.*no primary key.*REFRESH TABLE"
    ) as failure:
        health_operator().execute({})
    assert isinstance(failure.value, AirflowFailException)  # a retry can't mend it


def test_table_that_fails_while_the_task_is_deferred_fails_the_task(aws):
    aws.integration()["state"] = "SchemaDiscoveryState"
    operator = health_operator()
    deferral = deferral_of(operator)
    aws.integration()["state"] = "ErrorState"
    with pytest.raises(ZeroEtlUnhealthy, match="ErrorState"):
        resume(operator, deferral)


def test_deadline_fails_the_deferred_task_and_says_what_was_in_the_way(aws):
    aws.tables[1]["table_state"] = "ResyncRequired"
    operator = health_operator(timeout_seconds=600)  # so that a slow first look defers too
    deferral = deferral_of(operator)
    for name in ("started", "deadline"):  # as if most of the wait were over
        moment = datetime.fromisoformat(getattr(deferral.trigger, name)) - timedelta(seconds=599.7)
        setattr(deferral.trigger, name, moment.isoformat())
    with pytest.raises(ZeroEtlNotReady, match=r"(?s) 600 s, which is the deadline.*ResyncRequired"):
        resume(operator, deferral)


def test_lag_over_the_limit_is_waited_for(aws):
    aws.integration()["current_lag"] = 5_000
    assert health_operator(lag_limit_seconds=5).execute({})["lag_ms"] == 5_000
    deferral_of(health_operator(lag_limit_seconds=4.9))


def test_unreachable_api_is_waited_for(aws):
    aws.statement_error = "ERROR: cluster is resuming"
    operator = health_operator()
    deferral = deferral_of(operator)
    aws.statement_error = None
    assert resume(operator, deferral)["outcome"] == "pass"


def test_denied_access_fails_at_once_and_also_after_deferral(aws):
    aws.faults.append((400, "AccessDeniedException"))
    with pytest.raises(ZeroEtlAccessDenied):
        health_operator().execute({})
    aws.integration()["current_lag"] = None
    operator = health_operator()
    deferral = deferral_of(operator)
    aws.faults.append((400, "AccessDeniedException"))
    with pytest.raises(ZeroEtlAccessDenied, match="aws_under_test"):
        resume(operator, deferral)


def test_without_deferral_the_task_polls_until_healthy(aws):
    aws.tables[1]["table_state"] = "ResyncInitiated"
    with once(lambda: len(aws.calls("DescribeIntegrations")) >= 2, lambda: aws.tables[1].update(table_state="Synced")):
        result = health_operator(deferrable=False).execute({})
    assert result["outcome"] == "pass"
    assert len(aws.calls("DescribeIntegrations")) >= 2


def test_without_deferral_the_deadline_holds(aws):
    aws.tables[1]["table_state"] = "ResyncInitiated"
    with pytest.raises(ZeroEtlNotReady, match="ResyncInitiated"):
        health_operator(deferrable=False, timeout_seconds=0.4).execute({})


def test_kill_ends_a_polling_task_soon(aws, monkeypatch):
    aws.tables[1]["table_state"] = "ResyncInitiated"
    operator = health_operator(deferrable=False, poll_seconds=60)
    pause = ZeroEtlHook.pause
    pauses = []

    def killed_while_it_sleeps(hook, seconds):
        pauses.append((time.monotonic(), seconds))
        threading.Timer(0.2, operator.on_kill).start()  # not at once: then it would not begin to sleep
        pause(hook, seconds)

    monkeypatch.setattr(ZeroEtlHook, "pause", killed_while_it_sleeps)
    with pytest.raises(ZeroEtlWaitStopped):
        operator.execute({})
    ((began, seconds),) = pauses
    assert seconds == 60
    assert time.monotonic() - began < 5


def test_kill_cancels_the_statement_that_is_under_way(aws):
    aws.never_finishes = True
    operator = ConnectZeroEtlOperator(task_id="create_database", zero_etl_conn_id=CONN_ID)
    with once(lambda: aws.calls("DescribeStatement"), operator.on_kill), pytest.raises(ZeroEtlWaitStopped):
        operator.execute({})
    assert len(aws.calls("CancelStatement")) == 1


def test_kill_before_anything_has_begun_is_harmless():
    health_operator().on_kill()


@pytest.mark.parametrize("name", ["lag_limit_seconds", "timeout_seconds"])
@pytest.mark.parametrize("value", [0, -1, "soon"])
def test_bad_number_is_refused_when_the_task_runs(aws, name, value):
    with pytest.raises(
        ZeroEtlConnectionInvalid, match=f"{name}: expected a number of seconds above 0, found {value!r}"
    ):
        health_operator(**{name: value}).execute({})


def test_list_that_stayed_a_text_is_refused_with_a_hint(aws):
    with pytest.raises(ZeroEtlConnectionInvalid, match="render_template_as_native_obj"):
        health_operator(required_tables="['sales']").execute({})


def test_connecting_makes_the_database_once(aws):
    aws.integration().update(target_database=None, state="PendingDbConnectState")
    operator = ConnectZeroEtlOperator(task_id="create_database", zero_etl_conn_id=CONN_ID)
    assert operator.execute({}) == {"database": TARGET, "created": True}
    assert operator.execute({}) == {"database": TARGET, "created": False}
    assert aws.databases == {TARGET}


def test_connecting_warns_when_readers_would_lose_the_case_of_names(aws, capsys):
    aws.case_sensitive = "off"
    ConnectZeroEtlOperator(task_id="create_database", zero_etl_conn_id=CONN_ID).execute({})
    assert "enable_case_sensitive_identifier is off" in capsys.readouterr().out


def test_refused_connection_is_not_retried(aws):
    aws.integrations.clear()
    with pytest.raises(ZeroEtlConnectRefused) as refusal:
        ConnectZeroEtlOperator(task_id="create_database", zero_etl_conn_id=CONN_ID).execute({})
    assert isinstance(refusal.value, AirflowFailException)
