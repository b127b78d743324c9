"""SIGKILL of any process at any step of submit → run → finish: one job, and the right end."""

import pytest

from bench.lifecycle.trial import (
    SUBMIT_OPERATOR,
    Life,
    Strike,
    task_processes,
)
from include.local.batch_gateway.trial import simulated_job
from tests.plugins.batch_gateway.task_harness import beside

HELD_BEFORE = {"operation": "submit", "times": 1, "delay_seconds": 1.2}
HELD_AFTER = HELD_BEFORE | {"done": True}


@pytest.fixture(scope="module")
def zygote():
    with task_processes() as processes:
        yield processes


@pytest.fixture
def live(gateway, zygote, tmp_path):
    """Run a task instance at the gateway through strikes and faults."""
    lives = []

    def run(strikes, *faults, retries=8, seconds=1.0, job=None, make=SUBMIT_OPERATOR, **arguments):
        for fault in faults:
            gateway.fault(**fault)
        given = {"job": simulated_job(seconds=seconds, log_lines=5, **(job or {})), "poll_seconds": 0.2, **arguments}
        home = tmp_path / f"life-{len(lives)}"
        life = Life(zygote, gateway, home, {"patience_seconds": 30.0, **given}, retries=retries, make=make)
        lives.append(life)
        outcome = life.run(strikes)
        print(*outcome.history, life.log(), sep="\n")  # pytest shows it if the test fails
        return outcome

    yield run
    for life in lives:
        life.close()


@pytest.fixture
def another_completes(gateway):
    """The second job of a task whose first would run on and on."""

    def complete():
        gateway.set_state(gateway.wait_accepted(2)[-1]["id"], "COMPLETED")

    with beside(complete):
        yield


def held(outcome, strikes, **expected):
    """Every strike met somebody, and nothing came of it."""
    assert outcome.landed == tuple(strikes)
    assert outcome.problems(**expected) == []


@pytest.mark.parametrize(
    ("strike", "faults"),
    [
        (Strike("worker", at="before intent"), []),
        (Strike("worker", at="after post"), []),
        (Strike("worker", when="submit"), [HELD_BEFORE]),
        (Strike("worker", when="accepted"), [HELD_AFTER]),
        (Strike("worker", at="before id"), []),
        (Strike("worker", at="after id"), []),
        (Strike("worker", at="before outcome"), []),
        (Strike("worker", at="after outcome"), []),
    ],
    ids=lambda value: f"{value.at or value.when}" if isinstance(value, Strike) else "held" if value else "",
)
def test_a_killed_worker_makes_no_second_job(live, strike, faults):
    held(live([strike], *faults, seconds=0.3), [strike])


def test_a_killed_worker_that_waits_by_itself_makes_no_second_job(live):
    strikes = [Strike("worker", when="RUNNING"), Strike("worker", at="before outcome")]
    outcome = live(strikes, deferrable=False)
    held(outcome, strikes)
    assert outcome.tries == 3


@pytest.mark.parametrize(
    "strike",
    [
        Strike("triggerer", when="RUNNING"),
        Strike("triggerer", at="before event"),
        Strike("triggerer", at="after event"),
    ],
    ids=lambda strike: strike.at or strike.when,
)
def test_a_killed_triggerer_loses_no_job(live, strike):
    outcome = live([strike])
    held(outcome, [strike])
    assert outcome.tries == 1  # Airflow starts the trigger again; the task has lost nothing


@pytest.mark.parametrize("step", ["after post", "RUNNING", "before outcome"])
def test_a_killed_scheduler_loses_nothing(live, step):
    strike = Strike("scheduler", when=step)
    held(live([strike]), [strike])


@pytest.mark.parametrize(
    ("step", "faults"),
    [("submit", [HELD_BEFORE]), ("accepted", [HELD_AFTER]), ("RUNNING", []), ("before outcome", [])],
    ids=["before it has accepted", "before it has answered", "while the job runs", "while the task finishes"],
)
def test_a_killed_gateway_neither_loses_nor_doubles_a_job(live, step, faults):
    strike = Strike("gateway", when=step)
    held(live([strike], *faults), [strike])


def test_a_killed_spark_operator_is_waited_for(live):
    strikes = [Strike("operator", when="accepted"), Strike("operator", when="RUNNING")]
    held(live(strikes), strikes)


def test_everything_killed_one_after_the_other_still_makes_one_job(live):
    strikes = [
        Strike("worker", when="accepted"),
        Strike("scheduler", when="before id"),
        Strike("gateway", when="deferred"),
        Strike("triggerer", when="RUNNING"),
        Strike("operator", when="before event"),
        Strike("worker", at="before outcome"),
    ]
    held(live(strikes, HELD_AFTER, seconds=2.0), strikes)


def test_a_failed_job_is_found_out_by_the_try_after_a_killed_one_and_replaced(live):
    strike = Strike("worker", at="before outcome")
    outcome = live([strike], retries=1, job={"outcome": "FAILED", "error": "table orders is not there"}, seconds=0.2)
    held(outcome, [strike], jobs=2, state="failed")
    assert "table orders is not there" in outcome.error


@pytest.mark.usefixtures("another_completes")
def test_a_task_that_is_cleared_while_deferred_has_its_job_cancelled_and_another_run(live):
    strike = Strike("clear", when="deferred")
    outcome = live([strike], seconds=600)
    held(outcome, [strike], jobs=2)
    assert outcome.applications[0].deleted


@pytest.mark.usefixtures("another_completes")
def test_a_clear_while_no_triggerer_is_there_is_made_good_by_the_next_try(live):
    strikes = [Strike("triggerer", when="deferred"), Strike("clear")]
    outcome = live(strikes, seconds=600)
    held(outcome, strikes, jobs=2)
    assert outcome.applications[0].deleted


@pytest.mark.usefixtures("another_completes")
def test_a_task_that_is_cleared_while_its_worker_waits_has_its_job_cancelled_and_another_run(live):
    strike = Strike("clear", when="RUNNING")
    outcome = live([strike], seconds=600, deferrable=False)
    held(outcome, [strike], jobs=2)
    assert outcome.applications[0].deleted


def test_a_client_without_look_up_makes_a_second_job(live):
    """That these tests can fail."""
    strike = Strike("worker", when="accepted")
    outcome = live([strike], HELD_AFTER, make="bench.lifecycle.naive:naive_operator")
    assert len(outcome.applications) == 2
    assert outcome.problems()
