"""### Roll back tenant migration

Undoes the migration that a tenant is in: aborts it before the switch; after it, moves the tenant back to the tier that it came from, with
everything that was written since.

**Starts** by hand, with tenant and reason. It asks nobody: it is for the moment when something is wrong.

**Inputs** the migration's record; the source's tables, kept up to date by `replicate_reverse` of `migrate_tenant`.

**Outputs** the tenant where it was; signed evidence. What the migration had made is removed by `clean_up_tenant_source`, after a person
has agreed; after an abort by this DAG.

#### Triage
After the switch the tenant is on the target and served there until `roll_back` is green; before the switch it never left. Whatever fails,
nothing is lost. `roll_back` tries again by itself, twice within minutes.
- `roll_back` fails with *in none*: the migration is cleaned up, there is nothing to undo. Start `migrate_tenant` in the other direction.
- `roll_back` fails with *the replay to the source has ended*: the migration is over. The *Migration report* says where the tenant is. To
  move it back, run `clean_up_tenant_source`, then `migrate_tenant` in the other direction.
- `roll_back` fails with *within the budget* or *a lag of at most*: writes go on, on the target. Clear it at a quieter time.
- `roll_back` fails with *to be equal in the fence*: somebody wrote to the source's tables directly. The message names one of the keys.
  Mend the items there, clear it.
- `roll_back` fails with *would forget* or *not complete any more*: there is no way back. The tenant stays on the target: in the run of
  `migrate_tenant` mark `replicate_reverse` as success and clear `complete`; then as after the soak.
- `roll_back` fails with *without another's fence*: a cutover or another rollback is at it. Look at *Browse* → *Tenant migrations*.
- `archive` fails: the tenant is back, but can't be moved again. Bucket or key are not as `deploy/tenants/stack.json` makes them; clear it.
- `discard_target` fails after an abort: clear it. It is skipped after a rollback: run `clean_up_tenant_source` for what is on the target.
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
