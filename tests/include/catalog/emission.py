"""What the tests of emitting lineage share: a task's context, and OpenLineage configured as a deployment does."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from data_platform.lineage.config import JOB_NAMESPACE, transport_config

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "zero-etl-destination.123456789012.us-east-1.redshift-serverless.amazonaws.com"
SOURCE_ARN = "arn:aws:rds:us-east-1:123456789012:cluster:aurora-zeroetl-integration"
NAMES = {"account_id": "123456789012", "region": "us-east-1"}
RUN_ID = "asset_triggered__2026-01-31T08:00:00+00:00"
BEGAN = datetime(2026, 1, 31, 8, tzinfo=UTC)


class _TaskInstance(SimpleNamespace):
    def get_template_context(self) -> dict[str, Any]:
        return {"dag_run": self.dag_run}


def context(task_id: str = "build_models", *, attempt: int = 1, run_id: str = RUN_ID) -> dict[str, Any]:
    """As far as lineage looks: a run that an asset's event started, which has no logical date."""
    dag_run = SimpleNamespace(logical_date=None, run_after=BEGAN, conf={}, clear_number=0)
    ti = _TaskInstance(
        dag_id="build_finance_products",
        task_id=task_id,
        run_id=run_id,
        try_number=attempt,
        map_index=-1,
        dag_run=dag_run,
    )
    return {"ti": ti, "dag_run": dag_run}


@contextmanager
def openlineage(spool: str, **options: Any) -> Iterator[None]:
    """Airflow with OpenLineage switched on: `transport_config` with these options."""
    with airflow_option(json.dumps(transport_config(spool=spool, **NAMES, **options))):
        yield


@contextmanager
def airflow_option(transport: str) -> Iterator[None]:
    """Airflow with OpenLineage switched on and this option. The provider makes its client once a process, so it gets another."""
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    adapter = get_openlineage_listener().adapter

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__OPENLINEAGE__DISABLED", "False")
        patch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", JOB_NAMESPACE)
        patch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", transport)
        patch.setattr(adapter, "_client", None)
        yield
