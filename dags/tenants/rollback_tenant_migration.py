"""### Roll back tenant migration

Undoes the migration that a tenant is in: aborts it before the switch; after it, moves the tenant back to the tier that it came from, with
everything that was written since.

**Starts** by hand, with tenant and reason. It asks nobody: it is for the moment when something is wrong.

**Inputs** the migration's record; the source's tables, kept up to date by `replicate_reverse` of `migrate_tenant`.

**Outputs** the tenant where it was; signed evidence. What the migration had made is removed by `clean_up_tenant_source`, after a person
has agreed; after an abort by this DAG.

#### Triage
The tenant is on the target until `roll_back` is green, and served there.
- `roll_back` fails with *in none*: the migration is cleaned up, there is nothing to undo. Start `migrate_tenant` in the other direction.
- `roll_back` fails with *the replay to the source has ended*: the soak is over; likewise.
- `roll_back` fails with *over budget*: writes go on, on the target. It tries again by itself; else clear it at a quieter time.
- `roll_back` fails with *to be equal in the fence*: somebody wrote to the source's tables directly. Compare the keys that the report
  names, mend them there, clear it.
- `archive` is skipped: `roll_back` has not ended it. It fails: bucket or key are not as `deploy/tenants/stack.json` makes them; clear it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import TriggerRule, dag

from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.tenants.operators import ArchiveOperator, DiscardTargetOperator, ReportOperator, RollBackOperator
from include.tenants.params import tenant_param, why_param


@dag(
    schedule=None,
    doc_md=__doc__,
    params={
        "tenant_id": tenant_param(),
        "why": why_param("Why it is undone. Part of the signed evidence."),
    },
    **dag_defaults(
        owner="tenants",
        tags=[Tag.TENANTS, Tag.MIGRATION],
        deadline=timedelta(hours=1),
        max_active_runs=16,
    ),
)
def rollback_tenant_migration() -> None:
    roll_back = RollBackOperator(task_id="roll_back")
    migration = roll_back.output
    archive = ArchiveOperator(task_id="archive", migration=migration)
    discard_target = DiscardTargetOperator(task_id="discard_target", migration=migration)
    report = ReportOperator(task_id="report", migration=migration, trigger_rule=TriggerRule.ALL_DONE)

    roll_back >> archive >> discard_target >> report


rollback_tenant_migration()
