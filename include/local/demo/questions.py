"""Answers a question of Airflow's UI as a person does: it looks at it first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from include.local.demo.runs import DemoError

if TYPE_CHECKING:
    from include.platform.airflow_api import AirflowApi

READING_SECONDS: Final = 5.0
"""As long as a person reads, at least. Airflow takes a task that is resumed before the scheduler has heard of its pause for one whose
worker has died, and asks again."""


def question_path(dag_id: str, run_id: str, task_id: str) -> str:
    """Of a question in Airflow's API."""
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/-1/hitlDetails"


def asked(api: AirflowApi, dag_id: str, run_id: str, task_id: str, timeout: float = 300) -> dict[str, Any]:
    """Wait for a question, and read it.

    Raises:
        DemoError: the run ended without asking, or did not ask in time.
    """
    from include.platform.airflow_api import AirflowApiError

    deadline = time.monotonic() + timeout
    while True:
        try:
            found: dict[str, Any] = api.request("GET", question_path(dag_id, run_id, task_id))
        except AirflowApiError as error:
            if error.status != 404:
                raise
        else:
            return found
        state = api.request("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"]
        if state in ("failed", "success") or time.monotonic() > deadline:
            raise DemoError(f"{dag_id} {run_id} is {state} and {task_id} has asked nothing")
        time.sleep(0.5)


def answer(
    api: AirflowApi, dag_id: str, run_id: str, task_id: str, choice: str, reason: str, timeout: float = 300
) -> dict[str, Any]:
    """Wait for a question, read it, answer it, and again if it is asked again; gives the question.

    Raises:
        DemoError: it was not asked, or no answer was taken, in time.
    """
    deadline = time.monotonic() + timeout
    question = asked(api, dag_id, run_id, task_id, timeout)
    while time.monotonic() < deadline:
        time.sleep(READING_SECONDS)
        give(api, dag_id, run_id, task_id, choice, reason)
        if _taken(api, dag_id, run_id, task_id, deadline):
            return question
    raise DemoError(f"{dag_id} {run_id}: expected the answer to {task_id} to be taken, found it asked again and again")


def give(api: AirflowApi, dag_id: str, run_id: str, task_id: str, choice: str, reason: str) -> None:
    """Answer a question, once."""
    body = {"chosen_options": [choice], "params_input": {"reason": reason}}
    api.request("PATCH", question_path(dag_id, run_id, task_id), body)


def asked_again(api: AirflowApi, dag_id: str, run_id: str, task_id: str) -> bool:
    """Whether a question waits for an answer, although it may have been given one."""
    path = question_path(dag_id, run_id, task_id)
    waits = api.request("GET", path.removesuffix("/-1/hitlDetails"))["state"] == "awaiting_input"
    return waits and not api.request("GET", path)["response_received"]


def _taken(api: AirflowApi, dag_id: str, run_id: str, task_id: str, deadline: float) -> bool:
    """Wait until the task has ended with its answer; False if it asks again."""
    path = question_path(dag_id, run_id, task_id).removesuffix("/-1/hitlDetails")
    while time.monotonic() < deadline:
        if api.request("GET", path)["state"] == "success":
            return True
        if asked_again(api, dag_id, run_id, task_id):
            return False
        time.sleep(0.5)
    return False
