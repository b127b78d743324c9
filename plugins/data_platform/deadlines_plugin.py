"""Tells Airflow of the deadline reference that every DAG uses.

A module of its own, since Airflow executes a plugin's module under another name, and the reference must be found under its real one.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from data_platform.alerts.deadlines import DagRunCreatedDeadline


class DeadlinesPlugin(AirflowPlugin):
    """Registers `DagRunCreatedDeadline`."""

    name = "data_platform_deadlines"
    deadline_references = [DagRunCreatedDeadline]  # noqa: RUF012 - Airflow's own attribute
