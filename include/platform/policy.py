"""What every DAG has: owner, retries with back-off, time limits, a deadline alert, a failure notifier, no catch-up.

`dag_defaults` returns the keyword arguments; ``tests/dags/test_policy.py`` holds every DAG to them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert

from data_platform.alerts.deadlines import DagRunCreatedDeadline
from data_platform.alerts.notifier import AlertNotifier
from include.platform import connections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.platform.tags import Tag

RETRIES = 2
RETRY_DELAY = timedelta(seconds=20)
MAX_RETRY_DELAY = timedelta(minutes=10)


def dag_defaults(
    *,
    owner: str,
    tags: Iterable[Tag],
    deadline: timedelta,
    task_timeout: timedelta = timedelta(hours=1),
    run_timeout: timedelta | None = None,
    max_active_runs: int = 1,
) -> dict[str, Any]:
    """Keyword arguments for ``@dag`` that make a DAG meet the platform's policy.

    Args:
        owner: the team that is called when the DAG fails.
        tags: what the DAG is about; at least one.
        deadline: a run that has not finished this long after it was made is told to the owner; the run goes on.
        task_timeout: a task that runs longer is killed, then retried.
        run_timeout: a run that takes longer is failed; default twice the deadline.
        max_active_runs: how many runs may go on at once.
    """
    names = [tag.value for tag in tags]
    if not names:
        raise ValueError("a DAG needs at least one tag from include.platform.tags.Tag; found none")
    return {
        "tags": names,
        "catchup": False,
        "max_active_runs": max_active_runs,
        "dagrun_timeout": run_timeout or 2 * deadline,
        "deadline": DeadlineAlert(
            name="late run",
            reference=DagRunCreatedDeadline(),
            interval=deadline,
            callback=AsyncCallback(
                AlertNotifier,
                kwargs={"conn_id": connections.ALERTS_FAILURES, "owner": owner, "event": "deadline_missed"},
            ),
        ),
        "default_args": {
            "owner": owner,
            "depends_on_past": False,
            "retries": RETRIES,
            "retry_delay": RETRY_DELAY,
            "retry_exponential_backoff": 2,
            "max_retry_delay": MAX_RETRY_DELAY,
            "execution_timeout": task_timeout,
            "on_failure_callback": AlertNotifier(conn_id=connections.ALERTS_FAILURES, owner=owner, event="task_failed"),
        },
    }
