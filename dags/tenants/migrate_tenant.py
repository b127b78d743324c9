"""### Migrate tenant

Moves a tenant of the serverless SaaS application to another tier while it is being used: its items, users, configuration and resources. No
write that the application has acknowledged is lost. Between two pooled tiers only plan and key change.

**Starts** by hand, with the form: which tenant, where to, why. *Dry run* says what would be done, in the log of `plan_migration`, and
changes nothing.

**Inputs** the tenant's row, tables, user pool and stack; the connection `aws_tenants`. The application's writes must check the fence row
of their partition (`include/tenants/fence.py`); `docs/tenant-portability.md` says how.

**Outputs** the tenant in its new tier; a live report (*Migration report*, a link of every task but the question, and *Browse* → *Tenant
migrations*); signed evidence in the locked bucket, also of a migration that failed. What the tenant left behind stays until
`clean_up_tenant_source`.

**What a person does** `approve_cutover` asks under *Required actions*; a reason is needed. During the soak `rollback_tenant_migration`
undoes everything, with what was written since.

#### Triage
Until `cut_over` has switched, the tenant is where it was, whatever is red; afterwards it is on the target. Writes are kept out in the fence
only, for *Budget* seconds at most. The report says where it is, and what to do next.

A task that fails tries again by itself, twice within minutes, unless no retry can help. After the last try of any task up to `cut_over`
the run ends the migration: `abort`, `archive`, `discard_target` remove what it had made. Clearing tasks can't revive it: mend what the
message names and start another run.
- `plan_migration` fails with *in no migration*: another run moves this tenant, or has not cleaned up; the message names it.
- `preflight` fails: the message names all that stands against it, each with what to do. Nothing was made.
- `provision_target` or `port_identity` fails: the message names the resource or the check.
- `copy_items` is slow: the source is throttled, or *Read units* is low. It waits: other migrations have the slots of the pool
  `tenant_copies` (*Admin* → *Pools*). A killed one goes on at its last page.
- `replicate_forward` fails with *the stream would forget*: more is written than is replayed. The cutover will not come near and the run
  ends itself; try at a quieter time. If the tenant has moved all the same, clear it: it ends at once.
- `verify` fails with *missing*, *different*, *extra* or *foreign*: somebody writes to the target, or to the source without the
  application. The message names one of the keys. With *the target's model*: it names the attributes.
- `approve_cutover` waits: answer it. Silence refuses. An answer within five seconds of the question is lost; it is asked again.
- `cut_over` fails with *within the budget*, *found it broken* or *a lag of at most*: nothing was switched, writes go on. Start another run
  at a quieter time or with a larger *Budget*; with *at most half of budget_seconds* only a larger one helps.
- `cut_over` fails with *equal in the fence*: likewise; somebody writes to the tables without the application.
- `cut_over` was killed: writes were let in again at once, or at the latest when the fence's time was over. It tries again by itself.
- `cut_over` is red and the report says SWITCHED: it was killed right after the switch. Clear it: it is green at once, the soak begins.
- `replicate_reverse` fails: the tenant is on the target and served. Clear it. A rollback first replays what is missing, so it loses nothing
  and takes longer. With *would forget* or *not complete any more* there is no way back: mark it as success and clear `complete`.
- `complete` fails: the tenant is on the target and served. Clear it.
- `abort` fails: writes go on at the latest when the fence's time is over. Clear it.
- `archive` fails: nothing is deleted without it. Clear it when bucket or key are mended; the tenant can't be moved again before. With
  *audit trail*: somebody has changed the migrations' table. Find out who before anything else.
- `discard_target` fails: the tenant is where it was and served, but can't be moved again. Clear it.
- `report` is red: it only says how the migration ended.
- The run timed out: before the switch `rollback_tenant_migration` ends it; in the soak clear `replicate_reverse`, which goes on. Only to
  move the tenant back run `rollback_tenant_migration` there.
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
