"""The tasks of ``reconcile_lineage``. Nothing heavy is imported before a task runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.platform.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from data_platform.lineage.config import LineageTransport
    from data_platform.lineage.naming import Naming
    from include.catalog.spool import Spool

log = logging.getLogger(__name__)

TOLD = 20
"""Rejects that the message of a failed task lists; the log has all."""


class ReconcileLineageOperator(BaseOperator):
    """Compares spool and catalog, sends what is missing; see `include.catalog.reconcile`. The XCom has the sums.

    Reads the run's params ``since``, ``until``, ``max_events`` and ``retry_rejected``.

    Raises:
        CatalogUnreachable: the catalog has not answered for too long.
        LedgerDoesNotAddUp: an event is counted twice or not at all.
        AirflowSkipException: there is no catalog.
        AirflowFailException: the configuration contradicts itself; a retry would not help.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Reconcile."""
        from include.catalog.reconcile import Options, Reconciler
        from include.catalog.reconcile_catalog import open_catalog

        transport = lineage_transport()
        params = context["params"]
        options = Options(
            since=_moment(params.get("since")),
            until=_moment(params.get("until")),
            max_events=int(params.get("max_events") or Options.max_events),
            retry_rejected=bool(params.get("retry_rejected")),
        )
        names = catalog_names(transport)
        report = Reconciler(_spool(transport), open_catalog(transport.domain_id), names, options).run()
        return report.summary()


class ProveDeliveryOperator(BaseOperator):
    """Fails when events were rejected that nobody was told of yet, and lists them; each is told by one run.

    Raises:
        AirflowFailException: there are some.
        AirflowSkipException: there is no catalog.
    """

    def execute(self, context: Context) -> None:
        """Look for new rejects."""
        from airflow.sdk.exceptions import AirflowFailException

        spool, run_id = _spool(lineage_transport()), context["run_id"]
        rejects = spool.new_rejects(run_id)
        if not rejects:
            return
        lines = [
            f"{found.job or 'file ' + found.token} run {found.run_id or '?'} {found.event_type} of {found.hour}: {found.reason}"
            for found in rejects
        ]
        for line in lines:
            log.error("lineage: rejected: %s", line)
        spool.mark_told(rejects, run_id)
        more = f" … and {len(lines) - TOLD} more, see the log" if len(lines) > TOLD else ""
        raise AirflowFailException(
            f"expected every spooled lineage event to be in the catalog, found {len(lines)} new ones that never will be: "
            f"{'; '.join(lines[:TOLD])}{more}. This page's Triage says what to do; they are told once."
        )


def lineage_transport() -> LineageTransport:
    """The transport's configuration.

    Raises:
        AirflowSkipException: there is no catalog.
        AirflowFailException: the transport is not ours, or is of another catalog.
    """
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from data_platform.lineage.config import read_transport_config
    from data_platform.lineage.exceptions import LineageConfigInvalid

    domain_id = load_settings().catalog_domain_id
    if not domain_id:
        raise AirflowSkipException(
            "there is no catalog: data_platform.catalog_domain_id is empty. Lineage stays in the spool; set it to deliver it."
        )
    try:
        transport = read_transport_config()
    except LineageConfigInvalid as error:
        raise AirflowFailException(str(error)) from error
    if transport.domain_id != domain_id:
        raise AirflowFailException(
            f"expected [openlineage] transport to send to the domain of data_platform.catalog_domain_id, {domain_id}, "
            f"found {transport.domain_id or 'no catalog'}; make the option anew with data_platform.lineage.config.transport_config"
        )
    return transport


def catalog_names(transport: LineageTransport) -> Naming:
    """How the transport's names become the catalog's.

    Raises:
        AirflowFailException: they are malformed; a retry would not help.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from data_platform.lineage.exceptions import LineageConfigInvalid
    from data_platform.lineage.naming import Naming

    try:
        return Naming.from_properties(transport.names or {})
    except LineageConfigInvalid as error:
        raise AirflowFailException(
            f"[openlineage] transport: {error}; make the option anew with data_platform.lineage.config.transport_config"
        ) from error


def _spool(transport: LineageTransport) -> Spool:
    from data_platform.lineage.store import open_store
    from include.catalog.spool import Spool
    from include.warehouse.object_store import s3_client

    return Spool(open_store(transport.spool, make_client=s3_client))


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
