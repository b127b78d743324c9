"""The trigger: one event for every end, a kill that cancels, a shutdown that doesn't, the driver's log on the way."""

import asyncio
import time

import pytest
from airflow.sdk.execution_time import task_runner

from data_platform.batch_gateway import watch
from data_platform.batch_gateway.triggers import POSITION_KEY, BatchGatewayJobTrigger
from data_platform.batch_gateway.watch import End, Ending
from include.local.batch_gateway.trial import trial_gateway
from tests.plugins.batch_gateway.task_harness import CONN_ID, defer, job, operator, trigger_of
from tests.plugins.batch_gateway.trigger_harness import Comms, event_of, lines_shown, stop, submit, trigger


@pytest.fixture
def triggerer(ti, monkeypatch):
    """A triggerer's process: XComs are kept in the task instance, and the driver's log is read at a brisk pace."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(ti), raising=False)
    monkeypatch.setattr(watch, "LOG_PAUSES", (0.05, 0.1))
    return ti


# How it ends


@pytest.mark.parametrize(
    ("conf", "ending", "state"),
    [
        ({"seconds": 0.3}, Ending.COMPLETED, "COMPLETED"),
        ({"seconds": 0.3, "outcome": "FAILED", "error": "no such table"}, Ending.FAILED, "FAILED"),
        ({"states": "SUBMITTED,FAILED"}, Ending.FAILED, "FAILED"),
        (
            {"states": "SUBMISSION_FAILED,SUBMISSION_FAILED", "seconds": 60},
            Ending.SUBMISSION_FAILED,
            "SUBMISSION_FAILED",
        ),
    ],
    ids=["completed", "failed", "failed before it ran", "not started"],
)
def test_the_event_says_how_the_job_ended(gateway, conf, ending, state):
    job_id = submit(**conf)
    end = End.from_json(asyncio.run(event_of(trigger(job_id, submission_retry_seconds=0.3))))
    assert end.ending is ending
    assert end.status.state == state
    assert end.status.submission_id == job_id
    if "error" in conf:
        assert "no such table" in end.status.error


def test_a_job_that_is_gone_is_lost(gateway):
    job_id = submit(seconds=60)

    async def vanish():
        event = asyncio.create_task(event_of(trigger(job_id)))
        await asyncio.to_thread(gateway.wait_until_asked, "status", 2)
        gateway.remove(job_id)
        return await event

    end = End.from_json(asyncio.run(vanish()))
    assert end.ending is Ending.LOST
    assert end.status.state in ("", "SUBMITTED", "RUNNING")


def test_the_deadline_ends_the_watch_and_leaves_the_job_to_the_task(gateway):
    job_id = submit(seconds=60)
    end = End.from_json(asyncio.run(event_of(trigger(job_id, deadline=time.time() + 0.5))))
    assert end.ending is Ending.TIMED_OUT
    assert gateway.asked("delete") == 0


def test_a_login_that_is_refused_for_good_ends_the_watch(gateway):
    job_id = submit(seconds=60)
    gateway.fault("status", status=401)
    end = End.from_json(asyncio.run(event_of(trigger(job_id, poll_seconds=0.02))))
    assert end.ending is Ending.UNWATCHABLE
    assert "User-Account" in end.message
    assert gateway.application(job_id)["deleted"] is None


def test_a_login_that_is_refused_while_it_is_changed_is_read_anew(connect_to):
    with trial_gateway(allowed_users=("airflow", "renamed")) as strict:
        connect_to(strict)
        job_id = submit(seconds=1.0)

        async def change():
            event = asyncio.create_task(event_of(trigger(job_id)))
            await asyncio.to_thread(strict.wait_until_asked, "status", 1)
            strict.fault("status", status=401, times=2)
            connect_to(strict, user_account="renamed")
            return await event

        assert asyncio.run(change())["ending"] == Ending.COMPLETED


def test_an_outage_is_waited_out(gateway):
    job_id = submit(seconds=0.5)
    gateway.fault("status", status=503, times=4)
    gateway.fault("status", drop="request", times=4)
    assert asyncio.run(event_of(trigger(job_id)))["ending"] == Ending.COMPLETED


# How it is stopped


async def _running(gateway, one):
    task = asyncio.create_task(event_of(one))
    await asyncio.to_thread(gateway.wait_until_asked, "status", 2)
    return task


def test_a_kill_saves_what_is_known_and_cancels_the_job(gateway, capsys):
    job_id = submit(seconds=30, log_lines=300)
    gateway.wait_state(job_id, "RUNNING")
    one = trigger(job_id)

    async def kill():
        await stop(await _running(gateway, one))
        await one.on_kill()

    asyncio.run(kill())
    assert gateway.application(job_id)["deleted"]
    assert gateway.asked("delete") == 1
    told = capsys.readouterr().out
    assert "--- Spark Spec ---" in told
    assert "--- Driver log, last" in told


def test_many_kills_that_airflow_repeats_each_cancel_their_job_and_say_what_it_was(gateway, capsys):
    """Airflow cancels a trigger again at every look, about once a second, until it has ended; here far more often."""
    job_ids = [submit(f"job-{number}", seconds=300) for number in range(20)]

    async def kill_all():
        killed = [asyncio.create_task(trigger(job_id).on_kill()) for job_id in job_ids]
        await asyncio.sleep(0)
        while not all(one.done() for one in killed):
            for one in killed:
                one.cancel()
            await asyncio.sleep(0.05)

    asyncio.run(kill_all())
    assert all(one["deleted"] for one in gateway.applications())
    told = capsys.readouterr().out
    assert told.count("--- Spark Spec ---") == told.count("is cancelled") == 20


def test_a_kill_while_the_gateway_is_away_says_that_the_job_may_still_run(gateway, capsys):
    job_id = submit(seconds=30)
    gateway.fault("delete", status=503)
    asyncio.run(trigger(job_id).on_kill())
    assert f"job {job_id} may still run" in capsys.readouterr().out
    assert gateway.application(job_id)["deleted"] is None


def test_a_kill_of_a_sensor_leaves_the_job_alone(gateway):
    job_id = submit(seconds=30)
    asyncio.run(trigger(job_id, cancel_on_kill=False).on_kill())
    assert gateway.asked("delete") == gateway.asked("describe") == 0
    assert gateway.application(job_id)["deleted"] is None


def test_a_triggerer_that_stops_leaves_the_job_running_and_another_goes_on(gateway):
    job_id = submit(seconds=2.0)

    async def move():
        first = trigger(job_id)
        await stop(await _running(gateway, first))
        await first.cleanup()
        assert gateway.asked("delete") == 0
        return await event_of(trigger(job_id))

    assert asyncio.run(move())["ending"] == Ending.COMPLETED


def test_it_starts_again_elsewhere_as_it_was():
    arguments = {
        "batch_gateway_conn_id": CONN_ID,
        "submission_id": "sparkclustera-" + "0" * 32,
        "poll_seconds": 3.5,
        "deadline": 1800000000.5,
        "log_max_bytes": 7,
        "submission_retry_seconds": 8.5,
        "cancel_on_kill": False,
    }
    path, told = BatchGatewayJobTrigger(**arguments).serialize()
    assert told == arguments
    assert path == f"{BatchGatewayJobTrigger.__module__}.{BatchGatewayJobTrigger.__name__}"


# Many, and how they are looked up


def test_many_jobs_cost_one_listing_a_poll(gateway):
    job_ids = [submit(f"job-{number}", seconds=300) for number in range(60)]

    async def some_polls():
        watched = [asyncio.create_task(event_of(trigger(job_id, log_max_bytes=0))) for job_id in job_ids]
        await asyncio.to_thread(gateway.wait_until_asked, "my_submissions", 2)
        before = gateway.asked("status")
        await asyncio.to_thread(gateway.wait_until_asked, "my_submissions", 7)
        asked = gateway.asked("status") - before
        for task in watched:
            assert not task.done()
            await stop(task)
        return asked

    assert asyncio.run(some_polls()) <= 3  # each by itself: 300


def test_a_truncated_listing_loses_no_job(gateway, connect_to):
    connect_to(gateway, user_account="airflow_system_account", proxied_user="finance")
    clusters = ("sparkclustera", "sparkclusterb")
    job_ids = [submit(f"job-{at}", {"clusterId": clusters[at % 2]}, seconds=1.5) for at in range(8)]
    gateway.fault("list", times=3, cut_at="sparkclusterb")
    gateway.fault("list", times=3, cut_at="sparkclustera")
    gateway.fault("list", times=3, cut_after=150)

    async def all_events():
        return await asyncio.gather(*(event_of(trigger(job_id, log_max_bytes=0)) for job_id in job_ids))

    events = asyncio.run(all_events())
    assert {event["ending"] for event in events} == {Ending.COMPLETED}
    assert gateway.asked("list") > 3


@pytest.fixture(scope="module")
def dashed_gateway():
    clusters = ("spark-cluster-a", "spark-cluster-b")
    with trial_gateway(clusters=clusters, status_cache_millis=20, rate_limit=1000) as dashed:
        yield dashed


@pytest.fixture
def dashed(dashed_gateway, connect_to):
    dashed_gateway.reset()
    connect_to(dashed_gateway, user_account="airflow_system_account", proxied_user="finance")
    return dashed_gateway


def test_a_job_with_a_dashed_id_is_watched_in_listings_alone(dashed):
    job_id = submit(seconds=0.5, log_lines=2)
    assert asyncio.run(event_of(trigger(job_id)))["ending"] == Ending.COMPLETED
    assert dashed.asked("status") == 0


def test_a_job_with_a_dashed_id_that_listings_lack_for_a_while_is_not_lost(dashed):
    job_id = submit("job", {"clusterId": "spark-cluster-b"}, seconds=1.0)
    submit("other", {"clusterId": "spark-cluster-a"}, seconds=60)
    dashed.fault("list", times=8, cut_at="spark-cluster-b", after=1)
    assert asyncio.run(event_of(trigger(job_id)))["ending"] == Ending.COMPLETED
    assert dashed.asked("list") > 9


def test_a_job_with_a_dashed_id_is_lost_once_complete_listings_show_only_its_neighbours(dashed):
    job_id = submit("job", {"clusterId": "spark-cluster-b"}, seconds=60)
    submit("other", {"clusterId": "spark-cluster-b"}, seconds=60)

    async def vanish():
        event = asyncio.create_task(event_of(trigger(job_id)))
        await asyncio.to_thread(dashed.wait_until_asked, "list", 2)
        dashed.remove(job_id)
        return await event

    assert asyncio.run(vanish())["ending"] == Ending.LOST


# The driver's log


def test_the_drivers_log_is_shown_in_order_and_once_by_two_triggers_and_the_task(gateway, triggerer, capsys):
    task = operator(job(seconds=3.0, log_lines=60), deferrable=True)
    deferred = defer(task, triggerer)
    shown = ""

    async def watched():
        nonlocal shown
        first = trigger_of(deferred)
        first.task_instance = triggerer
        running = asyncio.create_task(event_of(first))
        while len(lines_shown(shown)) < 10:
            await asyncio.sleep(0.05)
            shown += capsys.readouterr().out
        await stop(running)
        second = trigger_of(deferred)
        second.task_instance = triggerer
        return await event_of(second)

    event = asyncio.run(watched())
    shown += capsys.readouterr().out
    assert len(lines_shown(shown)) > 10  # live: before the task is back
    task.resume_execution("resume", {"event": event}, triggerer.context)
    shown += capsys.readouterr().out
    assert lines_shown(shown) == list(range(1, 61))


def test_the_position_in_the_log_is_kept_while_the_job_runs(gateway, triggerer, monkeypatch):
    monkeypatch.setattr("data_platform.batch_gateway.triggers.POSITION_SECONDS", 0.05)
    job_id = submit(seconds=1.5, log_lines=10)
    positions = []

    async def watched():
        event = asyncio.create_task(event_of(trigger(job_id, triggerer)))
        while not event.done():
            await asyncio.sleep(0.05)
            positions.append(triggerer.xcom.get(POSITION_KEY))
        return await event

    asyncio.run(watched())
    kept = [position for position in positions if position]
    assert kept
    assert {kept_id for kept_id, _ in kept} == {job_id}
    assert len({at for _, at in kept}) > 1


def test_the_position_of_an_earlier_job_does_not_count(gateway, triggerer, capsys):
    job_id = submit(seconds=0.5, log_lines=3)
    triggerer.xcom_push(POSITION_KEY, ["sparkclustera-" + "0" * 32, 100_000])
    asyncio.run(event_of(trigger(job_id, triggerer)))
    assert lines_shown(capsys.readouterr().out)[:1] == [1]


def test_the_drivers_log_is_bounded_and_that_is_said_once(gateway, triggerer, capsys):
    task = operator(job(seconds=1.0, log_lines=200), deferrable=True, driver_log_max_bytes=1000)
    one = trigger_of(defer(task, triggerer))
    one.task_instance = triggerer
    event = asyncio.run(event_of(one))
    task.resume_execution("resume", {"event": event}, triggerer.context)
    shown = capsys.readouterr().out
    numbers = lines_shown(shown)
    assert numbers == list(range(1, len(numbers) + 1))
    assert 10 <= len(numbers) <= 1000 // len("line 1 of sparkclustera-" + "0" * 32)
    assert shown.count("more than 1,000 bytes") == 1


def test_no_driver_log_is_read_where_none_is_wanted(gateway, triggerer):
    asyncio.run(event_of(trigger(submit(seconds=0.5, log_lines=5), triggerer, log_max_bytes=0)))
    assert gateway.asked("log") == 0


def test_what_the_gateway_says_in_place_of_a_log_is_not_shown(gateway, triggerer, capsys):
    job_id = submit(states="RUNNING,RUNNING,COMPLETED", seconds=1.0)  # no driver, so no log

    async def watched():
        return await event_of(trigger(job_id, triggerer))

    gateway.fault("log", status=200, body="Cannot find matched log files. Please try again in 5 minutes")
    assert asyncio.run(watched())["ending"] == Ending.COMPLETED
    assert gateway.asked("log") > 0
    assert "Cannot find" not in capsys.readouterr().out


def test_a_log_that_stalls_holds_up_nothing(gateway, triggerer, capsys):
    gateway.fault("log", delay_seconds=60)
    job_id = submit(seconds=0.5, log_lines=5)
    assert asyncio.run(event_of(trigger(job_id, triggerer)))["ending"] == Ending.COMPLETED
    assert lines_shown(capsys.readouterr().out) == []  # it had not come yet


def test_the_link_to_sparks_ui_is_there_while_the_job_runs(connect_to, triggerer):
    from include.local.batch_gateway.config import Cluster

    with trial_gateway(clusters=(Cluster("sparkclustera", ui_url="http://ui.example.internal"),)) as shown:
        connect_to(shown)
        asyncio.run(event_of(trigger(submit(seconds=2.0), triggerer)))
    assert triggerer.xcom["_link_SparkUiLink"].startswith("http://ui.example.internal/")


def test_outside_a_triggerer_it_still_watches(gateway):
    assert asyncio.run(event_of(trigger(submit(seconds=0.3, log_lines=2))))["ending"] == Ending.COMPLETED
