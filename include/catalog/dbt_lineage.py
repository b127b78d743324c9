"""Emit the lineage of a build: what dbt built, what the gate found, what was published.

For the tasks that did it. Whatever goes wrong here is a line in the task's log and never fails the task. How long it can take is bounded
by the transports' budgets (`data_platform.lineage`): to a spool on a disk some milliseconds an event, with spool and catalog both down
some seconds for all of them together. Sending again, as a retry does, makes events that are recognised as the same (`run_events`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from airflow.sdk import Context
    from openlineage.client.event_v2 import RunEvent

    from include.catalog.run_events import TaskRun
    from include.quality.report import GateReport
    from include.warehouse.build import BuildReport
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmissionSummary:
    """What became of an emission.

    Attributes:
        events: how many were handed to the transports; whether they arrived is `reconcile_lineage`'s to prove.
        seconds: what it took.
        reason: why it is not all that should have been; empty if it is.
    """

    events: int = 0
    seconds: float = 0.0
    reason: str = ""


def warm_up() -> None:
    """Do beforehand what the first emission of a process would have to: imports, clients, the committed files.

    For the seconds in which a task waits for dbt to start. Fails no task: what goes wrong here is told when it is needed.
    """
    try:
        from airflow.providers.openlineage.conf import is_disabled

        if not is_disabled():
            from include.catalog import run_events  # noqa: F401 - its imports are what takes time
            from include.catalog.column_lineage import load_column_lineage
            from include.catalog.dbt_graph import load_graph

            load_graph(), load_column_lineage()
            _make_clients(_client().transport)
    except Exception as error:
        log.debug("lineage: not prepared: %s", error)


def _make_clients(transport: Any) -> None:
    """The clients of AWS that our transports make when they are first needed."""
    from data_platform.lineage.spool import SpoolTransport
    from data_platform.lineage.store import S3Store
    from data_platform.lineage.transport import DataZoneTransport

    if isinstance(transport, DataZoneTransport):
        transport.client()
    elif isinstance(transport, SpoolTransport) and isinstance(transport.store, S3Store):
        _ = transport.store.client
    for inner in (*getattr(transport, "transports", ()), getattr(transport, "transport", None)):
        if inner is not None:
            _make_clients(inner)


def emit_build(
    context: Context, report: BuildReport, connection: WarehouseConnection, *, health: Mapping[str, Any] | None = None
) -> EmissionSummary:
    """Emit what a build did, a failed one too: an event for each model, and one for the data tests.

    Nodes that an earlier try ran are told again, in case that try was killed before it told them.

    Args:
        context: of the task that built.
        report: of the build.
        connection: the warehouse.
        health: the result of the replication's check (`ZeroEtlHealthOperator`); with its ``source_arn`` the replication is told, too.
    """

    def events(task: TaskRun) -> Iterator[RunEvent]:
        from include.catalog.column_lineage import load_column_lineage
        from include.catalog.dbt_graph import load_graph
        from include.catalog.run_events import BuildFacts, build_events
        from include.platform.settings import load_settings

        settings = load_settings()
        facts = BuildFacts(
            task=task,
            connection=connection,
            graph=load_graph(),
            lineage=load_column_lineage(),
            history_mode=settings.zero_etl_history_mode,
            dbt_version=dbt_version(settings.warehouse_venv),
        )
        _warn_of_unknown(report, facts.graph.models.keys())
        yield from build_events(facts, report.state.nodes, report.rows, (health or {}).get("source_arn"))

    return _emit(context, events)


def emit_gate(
    context: Context, report: GateReport, connection: WarehouseConnection, product: Product
) -> EmissionSummary:
    """Emit what the gate found, whatever that is: an event for each relation.

    Args:
        context: of the task that is the gate.
        report: what it found.
        connection: the warehouse.
        product: what it looked at.
    """

    def events(task: TaskRun) -> Iterator[RunEvent]:
        from include.catalog.run_events import gate_events

        yield from gate_events(task, report, connection, product)

    return _emit(context, events)


def emit_publication(
    context: Context,
    product: Product,
    publication: Publication,
    connection: WarehouseConnection,
    gate_report: GateReport | None,
) -> EmissionSummary:
    """Emit what was published: an event for each relation.

    Args:
        context: of the task that published.
        product: what it published.
        publication: the version.
        connection: the warehouse.
        gate_report: what the gate had found of the version; None if unknown.
    """

    def events(task: TaskRun) -> Iterator[RunEvent]:
        from include.catalog.dbt_graph import load_graph
        from include.catalog.run_events import publication_events

        yield from publication_events(task, product, publication, connection, load_graph(), gate_report)

    return _emit(context, events)


def emit_events(context: Context, make: Callable[[TaskRun], Iterator[RunEvent]]) -> EmissionSummary:
    """Emit what another room has to tell of the running task.

    Args:
        context: of the task.
        make: gives the events.
    """
    return _emit(context, make)


def _emit(context: Context, make: Any) -> EmissionSummary:
    began, events = time.monotonic(), 0

    def ended(reason: str = "") -> EmissionSummary:
        return EmissionSummary(events, round(time.monotonic() - began, 3), reason)

    try:
        from airflow.providers.openlineage.conf import is_disabled

        if is_disabled():
            log.info("lineage: OpenLineage is switched off ([openlineage] disabled, or no transport): nothing is told")
            return ended("OpenLineage is switched off")
        client = _client()
        for event in make(task_run(context)):
            client.emit(event)
            events += 1
    except Exception as error:
        log.warning(
            "lineage: expected to tell what this task did, ended after %d events: %s: %s. The task itself is not concerned",
            events,
            type(error).__name__,
            error,
            exc_info=log.isEnabledFor(logging.DEBUG),
        )
        return ended(f"{type(error).__name__}: {error}")
    summary = ended()
    log.info("lineage: told %d events in %.2f s", summary.events, summary.seconds)
    return summary


def _client() -> Any:
    """The client that Airflow's own events go through.

    Not by way of `airflow.providers.openlineage.api.emit`: that looks for secrets in every text of every event, three quarters of the time
    that these take, and here there is none but names and documentation of the project, of which a mask would make other names.
    """
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    return get_openlineage_listener().adapter.get_or_create_openlineage_client()


def task_run(context: Context) -> TaskRun:
    """What OpenLineage's provider calls the running task and the DAG's run, so that our events join its own."""
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
    from airflow.providers.openlineage.plugins.macros import (
        lineage_job_name,
        lineage_job_namespace,
        lineage_root_job_name,
        lineage_root_job_namespace,
        lineage_root_run_id,
    )

    from include.catalog.run_events import TaskRun

    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    moment: datetime = dag_run.logical_date or dag_run.run_after  # as the provider does

    def run_id(attempt: int) -> str:
        made: str = OpenLineageAdapter.build_task_instance_run_id(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            try_number=attempt,
            logical_date=moment,
            map_index=ti.map_index,
        )
        return made

    return TaskRun(
        namespace=lineage_job_namespace(),
        job=lineage_job_name(ti),
        dag_run=ti.run_id,
        moment=moment,
        run_id=run_id,
        attempt=ti.try_number,
        root=(lineage_root_job_namespace(ti), lineage_root_job_name(ti), lineage_root_run_id(ti)),
    )


def dbt_version(warehouse_venv: Path) -> str:
    """The version of dbt in the warehouse environment, as its installation says it; empty if it says none."""
    found = sorted(warehouse_venv.glob("lib/python3*/site-packages/dbt_core-*.dist-info"))
    return found[-1].name.removeprefix("dbt_core-").removesuffix(".dist-info") if found else ""


def _warn_of_unknown(report: BuildReport, known: Any) -> None:
    unknown = sorted(node.unique_id for node in report.built_models if node.unique_id not in known)
    if unknown:
        log.warning(
            "lineage: %s not in the committed manifest, nothing is told of it; run make manifest", ", ".join(unknown)
        )
