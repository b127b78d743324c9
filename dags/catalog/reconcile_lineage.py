"""### Reconcile lineage

Proves that the catalog has every lineage event, and sends what it lacks: spooled = accepted + rejected + pending.

**Starts** every 15 minutes, and by hand for a window of hours (*Since*, *Until*, by the events' own time) or to send rejected events
once more.

**Inputs** the lineage spool and the names of `[openlineage] transport`; the Amazon DataZone domain `data_platform.catalog_domain_id`,
through the connection `aws_default`. Without a domain both tasks are skipped.

**Outputs** the events that were missing, under the token they were first sent with, so that none is there twice; a ledger of each hour
beside the spool (`ledger/<hour>.json`); the sums in the XCom of `reconcile_events`.

#### Triage
No data is wrong and no build waits: only the catalog's lineage graph is behind. The spool has every event.
- `reconcile_events` fails with *the catalog … silent since*: DataZone doesn't answer, throttles, or lacks a permission
  (`datazone:PostLineageEvent`, `ListLineageEvents`, `GetLineageEvent`); the message has its words. Mend that and clear the task.
- `reconcile_events` fails with *expected … spooled = accepted + rejected + pending*: a mistake in the program; report it with that
  hour's ledger.
- `reconcile_events` fails with *[openlineage] transport*: the option is missing or names another domain than the setting.
- `prove_delivery` fails: events were rejected; it lists job, run and reason, once each. *too large*: the job has too many inputs and
  outputs for one event, split it. *refused* or *failed to process it*: look at the event in the spool, mend what emits it. *unreadable
  file*: the file is no run event, remove it. Once mended, run again with *Retry rejected* and a *Since* before the event.
- Events stay pending for hours: the log of `reconcile_events` counts them by reason.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from include.catalog.reconcile_operators import ProveDeliveryOperator, ReconcileLineageOperator
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    doc_md=__doc__,
    params={
        "since": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Since",
            description="Look at the events from this moment on, whatever earlier runs have found. Empty: what is not done with yet.",
        ),
        "until": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Until",
            description="Look at the events before this moment only.",
        ),
        "max_events": Param(
            2000,
            type="integer",
            minimum=1,
            maximum=20_000,
            title="Most events to send",
            description="The rest is left for the next run.",
        ),
        "retry_rejected": Param(
            False,
            type="boolean",
            title="Retry rejected",
            description="Send rejected events of these hours once more, after what was wrong with them is mended.",
        ),
    },
    **dag_defaults(
        owner="platform",
        tags=[Tag.PLATFORM, Tag.LINEAGE],
        deadline=timedelta(minutes=30),
        task_timeout=timedelta(minutes=20),
    ),
)
def reconcile_lineage() -> None:
    reconcile_events = ReconcileLineageOperator(task_id="reconcile_events")
    prove_delivery = ProveDeliveryOperator(task_id="prove_delivery")

    reconcile_events >> prove_delivery


reconcile_lineage()
