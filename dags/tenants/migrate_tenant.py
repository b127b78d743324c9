"""### Migrate tenant

Moves a tenant of the serverless SaaS application to another tier while it is being used: its items, users, configuration and resources. No
write that the application has acknowledged is lost. Between two pooled tiers only plan and key change.

**Starts** by hand, with the form: which tenant, where to, why. *Dry run* says what would be done and changes nothing.

**Inputs** the tenant's row, tables, user pool and stack; the connection `aws_tenants`. The application's writes must check the fence row
of their partition (`include/tenants/fence.py`); `docs/tenant-portability.md` says how.

**Outputs** the tenant in its new tier; a live report (*Migration report*, a link of every task); signed evidence in the locked bucket,
also of a migration that failed. What the tenant left behind stays until `clean_up_tenant_source`.

**What a person does** `approve_cutover` asks under *Required actions*; a reason is needed. During the soak `rollback_tenant_migration`
undoes everything, with what was written since.

#### Triage
Until `cut_over` is green the tenant is where it was, whatever is red; afterwards it is on the target. The report says which, and what to
do next.
- `plan_migration` fails with *in no migration*: another run moves this tenant, or has not cleaned up; the message names it.
- `preflight` fails: the message names all that stands against it, each with what to do. Nothing was changed.
- `provision_target` or `port_identity` fails: the message names the resource or the check. Clear it when it is mended.
- `copy_items` is slow: the source is throttled, or `read_units` is low. Clearing a killed one goes on at its last page.
- `replicate_forward` fails with *the stream would forget*: more is written than is replayed. The run ends itself; try at a quieter time.
- `verify` fails with *missing*, *different* or *extra*: somebody writes to the target, or to the source without the application. Keys are
  in the report.
- `approve_cutover` waits: answer it. Silence refuses. An answer within five seconds of the question is lost; it is asked again.
- `cut_over` fails with *over budget* or *found it broken*: nothing was switched, writes go on. It tries again by itself, twice; then the
  run aborts.
- `cut_over` was killed: writes were let in again at once, or at the latest when the fence's time was over. Clear it.
- `replicate_reverse` fails: the tenant is on the target and served. Clear it; while it is red a rollback would lose what it has not
  replayed.
- `abort` fails: the fence is open (its time was over) or opened by clearing it.
- `archive` fails: nothing is deleted without it. Clear it when bucket or key are mended.
- The run timed out: the tenant is where the report says; finish it with `rollback_tenant_migration`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import TriggerRule, dag

from include.platform import pools
from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.tenants.operators import (
    AbortOperator,
    ArchiveOperator,
    ArmStreamsOperator,
    AskCutoverOperator,
    CompleteOperator,
    CopyItemsOperator,
    CutOverOperator,
    DiscardTargetOperator,
    FinishCopyOperator,
    PlanMigrationOperator,
    PortIdentityOperator,
    PreflightOperator,
    ProvisionTargetOperator,
    RecordApprovalOperator,
    ReplicateOperator,
    ReportOperator,
    VerifyOperator,
)
from include.tenants.params import migration_params

COPY_TASKS = 4
"""Tasks that share the twenty pieces of a copy."""
LONGEST = timedelta(hours=36)
"""A copy of half a day, an approval of half a day, a soak of half a day."""


@dag(
    schedule=None,
    doc_md=__doc__,
    params=migration_params(),
    **dag_defaults(
        owner="tenants",
        tags=[Tag.TENANTS, Tag.MIGRATION],
        deadline=timedelta(hours=24),
        task_timeout=timedelta(hours=13),
        run_timeout=LONGEST,
        max_active_runs=16,
    ),
)
def migrate_tenant() -> None:
    plan_migration = PlanMigrationOperator(task_id="plan_migration")
    preflight = PreflightOperator(task_id="preflight")
    provision_target = ProvisionTargetOperator(task_id="provision_target")
    port_identity = PortIdentityOperator(task_id="port_identity")
    arm_streams = ArmStreamsOperator(task_id="arm_streams", tasks=COPY_TASKS)
    copy_items = CopyItemsOperator.partial(task_id="copy_items", tasks=COPY_TASKS, pool=pools.TENANT_COPIES).expand(
        pieces=arm_streams.output
    )
    finish_copy = FinishCopyOperator(task_id="finish_copy")
    replicate_forward = ReplicateOperator(task_id="replicate_forward", direction="forward")
    verify = VerifyOperator(task_id="verify")
    approve_cutover = AskCutoverOperator(
        task_id="approve_cutover", verify_task_id="verify", answer_within=timedelta(hours=4)
    )
    record_approval = RecordApprovalOperator(task_id="record_approval", ask_task_id="approve_cutover")
    cut_over = CutOverOperator(task_id="cut_over", execution_timeout=timedelta(minutes=30))
    replicate_reverse = ReplicateOperator(task_id="replicate_reverse", direction="reverse")
    complete = CompleteOperator(task_id="complete")
    abort = AbortOperator(task_id="abort", trigger_rule=TriggerRule.ALL_DONE)
    archive = ArchiveOperator(task_id="archive", trigger_rule=TriggerRule.ALL_DONE)
    discard_target = DiscardTargetOperator(task_id="discard_target")
    report = ReportOperator(task_id="report", trigger_rule=TriggerRule.ALL_DONE)

    plan_migration >> preflight >> provision_target >> port_identity >> arm_streams >> copy_items >> finish_copy
    finish_copy >> replicate_forward
    finish_copy >> verify >> approve_cutover >> record_approval >> cut_over >> replicate_reverse >> complete
    cut_over >> abort
    [complete, abort] >> archive >> discard_target >> report


migrate_tenant()
