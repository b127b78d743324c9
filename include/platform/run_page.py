"""The note on a run's page in the Airflow UI.

A task can write it through Airflow's API only; without the connection ``airflow_api`` what it has to say stays in the log and in XCom.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseHook

from include.platform import connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

log = logging.getLogger(__name__)

NOTE_CHARACTERS = 1000
"""Airflow's limit for a note."""


def write_note(context: Context, text: Callable[[int], str]) -> None:
    """Write the note of the task's run, behind the task's name and try. A failure to do so is only logged.

    Args:
        context: of the task.
        text: gives Markdown of at most so many characters.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.platform.airflow_api import airflow_api_from

    ti: Any = context["ti"]
    head = f"[{ti.task_id}, try {ti.try_number}]({ti.log_url}): "
    note = head + text(NOTE_CHARACTERS - len(head))
    try:
        api = airflow_api_from(BaseHook.get_connection(connections.AIRFLOW_API))
        path = f"/dags/{ti.dag_id}/dagRuns/{quote(ti.run_id, safe='')}"
        api.request("PATCH", path, {"note": note}, {"update_mask": "note"})
    except AirflowNotFoundException:
        log.info("no connection %s: the run's page has no note", connections.AIRFLOW_API)
    except Exception as error:  # what the task itself has to say is what counts
        log.warning("the run's page has no note: %s", error)
