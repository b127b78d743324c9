"""From when a run's deadline counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk.definitions.deadline import BaseDeadlineReference


class DagRunCreatedDeadline(BaseDeadlineReference):
    """From the moment that the run was made, which is when Airflow asks.

    Airflow 3.3's own ``DAGRUN_QUEUED_AT`` says the same of a new run, but no task of such a run can be cleared before its deadline has
    passed: the request ends in a 500, because Airflow reads the interval as a number where it has kept a serialised timedelta
    (apache/airflow#70368). That one would move with a clear; this one stays: a run that is cleared late has its deadline behind it.
    """

    def _evaluate_with(self, *, session: Any, **_: Any) -> datetime:
        del session
        return datetime.now(UTC)
