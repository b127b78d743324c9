"""### Clean up tenant source

Deletes what a tenant left behind when it moved: its items, users, resources in the tier that it came from, or in the target of a migration
that was rolled back. Then the tenant is free for another migration.

**Starts** by hand, with the tenant, days or weeks after the move.

**Inputs** the migration's record and its signed evidence, which is verified before a person is asked and again before anything is deleted.

**Outputs** nothing of the tenant in its old tier; what was deleted, by whom and why, in the migration's record and report.

#### Triage
Only items of exactly this tenant are deleted, only where it is not served from, only after a person has agreed.
- `plan_deletion` fails with *in none*: the tenant was never moved, or all is cleaned up.
- `plan_deletion` fails with *to be archived*: the migration goes on, or its `archive` failed: clear that in the run of `migrate_tenant` or
  `rollback_tenant_migration`. Nothing was deleted.
- `plan_deletion` or `clean_up` fails with *its evidence*, *manifest*, *locked*, *tampered with* or *audit trail*: the archive or the record
  is missing, altered or not locked. Find out why before anything else; nothing was deleted, unless the report says CLEANED.
- `approve_deletion` waits: answer it under *Required actions*; a reason is needed. Silence for a day refuses.
- `clean_up` is skipped: it was refused; start this again at any time.
- `plan_deletion` or `clean_up` fails with *found the way still open*: users may still bring passwords along from the old user pool. Nothing
  was deleted. Run `finish_tenant_identity` with this tenant, which ends that, or wait for the deadline; then clear the task.
- `clean_up` fails in the middle: clear it, it goes on where it was. Also when the report says CLEANED: then it signs what was deleted.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import TriggerRule, dag

from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.tenants.operators import AskDeletionOperator, CleanUpOperator, PlanDeletionOperator, ReportOperator
from include.tenants.params import tenant_param

ANSWER_WITHIN = timedelta(hours=24)


@dag(
    schedule=None,
    doc_md=__doc__,
    params={"tenant_id": tenant_param()},
    **dag_defaults(
        owner="tenants",
        tags=[Tag.TENANTS, Tag.MIGRATION],
        deadline=timedelta(hours=4),
        task_timeout=timedelta(hours=6),
        run_timeout=ANSWER_WITHIN + timedelta(hours=8),
        max_active_runs=16,
    ),
)
def clean_up_tenant_source() -> None:
    plan_deletion = PlanDeletionOperator(task_id="plan_deletion")
    migration = plan_deletion.output
    approve_deletion = AskDeletionOperator(
        task_id="approve_deletion", plan_task_id="plan_deletion", answer_within=ANSWER_WITHIN
    )
    clean_up = CleanUpOperator(task_id="clean_up", ask_task_id="approve_deletion", migration=migration)
    report = ReportOperator(task_id="report", migration=migration, trigger_rule=TriggerRule.NONE_FAILED)

    plan_deletion >> approve_deletion >> clean_up >> report


clean_up_tenant_source()
