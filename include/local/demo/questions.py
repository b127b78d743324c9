"""Answers a question of Airflow's UI as a person does: it looks at it first."""

from __future__ import annotations

import time
from datetime import UTC, datetime
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
    """Wait for a question, read it, answer it; gives the question."""
    question = asked(api, dag_id, run_id, task_id, timeout)
    since = (datetime.now(UTC) - datetime.fromisoformat(question["created_at"])).total_seconds()
    time.sleep(max(0.0, READING_SECONDS - since))
    body = {"chosen_options": [choice], "params_input": {"reason": reason}}
    api.request("PATCH", question_path(dag_id, run_id, task_id), body)
    return question
