"""The stack that holds a tenant's resources: a silo's own, made by the application's pipeline, or the pooled one, which is there.

A silo is provisioned as the application does it: a row in the stack mapping, then its pipeline. The pipeline is started once: under the
same token, AWS gives the execution that is there; and its id is noted, so that a retry waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from include.tenants import observability
from include.tenants.configuration import detach, find_plan, stage_of
from include.tenants.exceptions import MigrationConflict, ProvisioningFailed
from include.tenants.plan import source_tier, target_tier
from include.tenants.saas import DATA_TABLES, PIPELINE, SETTINGS, STACKS, URL_OUTPUT, Tier, stack_name
from include.tenants.states import State
from include.tenants.store import hashed
from include.tenants.tables import expected_keys, facts, harden, unprotect
from include.tenants.transactions import plain, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from include.tenants.portability import Portability
    from include.tenants.store import Migration
    from include.tenants.tables import TableFacts

POOLED_URL_SETTING: Final = "apiGatewayUrl-Pooled"
EXECUTION_NOTE: Final = "pipeline_execution"
STACK_NOTE: Final = "stack"
"""Note: the silo's stack, and whether the migration has made it."""
_COMPLETE: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"})
_GIVEN_UP: Final = frozenset({"Failed", "Stopped", "Cancelled"})
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0


def provision(p: Portability, migration: Migration, say: Callable[[str], None]) -> dict[str, Any]:
    """Make sure of the target's stack, and that its tables are as they have to be.

    Returns:
        What is there, for the migration's notes.

    Raises:
        ProvisioningFailed: it could not be made in time, or is not as it has to be.
    """
    tier, tenant_id = target_tier(migration), migration.tenant_id
    stack = stack_name(tenant_id, tier)
    if tier.silo:
        _note_what_is_there(p, migration, stack)
        _put_mapping(p, tenant_id, stack)
        found = _finished(p, stack)
        if found is None:
            found = _by_pipeline(p, migration, stack, say)
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        url = outputs.get(URL_OUTPUT)
        where = f"the output {URL_OUTPUT} of stack {stack}"
    else:
        found = _finished(p, stack)
        row = p.clients.dynamodb.get_item(
            TableName=SETTINGS, Key={"settingName": {"S": POOLED_URL_SETTING}}, ConsistentRead=True
        ).get("Item")
        url = str(plain(row)["settingValue"]) if row else None
        where = f"the setting {POOLED_URL_SETTING}"
    if found is None:
        raise ProvisioningFailed(f"expected the stack {stack}, found none; deploy the application's pooled stack")
    if not url:
        raise ProvisioningFailed(f"expected the URL of the target's API in {where}, found none")
    api_id, stage = stage_of(p, stack)
    tables = _tables(p, migration, tier)
    say(f"stack {stack} is {found['StackStatus']}: {', '.join(table.name for table in tables)}, {url}")
    return {
        "stack": stack,
        "status": found["StackStatus"],
        "api_url": url,
        "api_id": api_id,
        "stage": stage,
        "tables": [
            {
                "name": table.name,
                "encryption": table.encryption,
                "recoverable": table.recoverable,
                "protected": table.protected,
                "on_demand": table.on_demand,
                "tags": dict(table.tags),
            }
            for table in tables
        ],
    }


def mirror_observability(p: Portability, migration: Migration) -> dict[str, Any]:
    """Watch the target's stack as the source's; see `include.tenants.observability`."""
    source = stack_name(migration.tenant_id, source_tier(migration))
    target = stack_name(migration.tenant_id, target_tier(migration))
    return observability.mirror(p, source, target)


def deprovision(
    p: Portability,
    migration: Migration,
    tier: Tier,
    say: Callable[[str], None],
    *,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Remove the silo that a tenant has left, or has never come to. Called again, it goes on where it was.

    A stack that was there before the migration stays after an abort or a rollback: somebody else has made it.

    Args:
        p: what to work with.
        migration: archived.
        tier: the silo's.
        say: told what happens.
        before: called right before anything is deleted, and while it is waited for; it raises if nothing may be.

    Returns:
        What was removed.

    Raises:
        MigrationConflict: the migration isn't archived, the tenant is routed there, or a table still holds items. Nothing was removed.
        ProvisioningFailed: the stack can't be deleted.
    """
    tenant_id = migration.tenant_id
    if not tier.silo:
        raise MigrationConflict(f"expected a silo's stack to remove, found that of {tier}, which is everybody's")
    stack = stack_name(tenant_id, tier)
    names = [table.name(tenant_id, tier) for table in DATA_TABLES]
    now = _refuse_unless_over(p, migration, names)
    if now.outcome is not State.COMPLETE and not now.notes.get(STACK_NOTE, {}).get("made"):
        say(f"stack {stack} was not made by this migration: it stays")
        return {"stack": stack, "deleted": False, "mapping_row": False}
    before()
    row = _delete_mapping(p, tenant_id, stack)
    _let_end(p, migration, before)
    there = described(p, stack)
    if there is not None:
        _detach_plan(p, stack, tier)
        for name in names:
            unprotect(p, name)
        # up to here nothing is lost; it may have been a while since the first look
        before()
        _refuse_unless_over(p, migration, names)
        _delete_stack(p, stack, before)
    before()
    unwatched = observability.unwatch(p, stack)
    say(f"stack {stack} is gone, with {', '.join(names)}")
    return {"stack": stack, "deleted": there is not None, "mapping_row": row, **unwatched}


def _note_what_is_there(p: Portability, migration: Migration, stack: str) -> None:
    """Note whether the migration is going to make the stack, before it does; what was noted first stays."""
    if STACK_NOTE not in p.store.load(migration.migration_id).notes:
        made = described(p, stack) is None
        p.store.note(migration.migration_id, {STACK_NOTE: {"name": stack, "made": made}})


def _put_mapping(p: Portability, tenant_id: str, stack: str) -> None:
    dynamodb = p.clients.dynamodb
    try:
        dynamodb.put_item(
            TableName=STACKS,
            Item=typed({"tenantId": tenant_id, "stackName": stack, "waveNumber": "1", "codeCommitId": ""}),
            ConditionExpression="attribute_not_exists(tenantId)",
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        row = dynamodb.get_item(TableName=STACKS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True).get("Item")
        found = row["stackName"]["S"] if row else None
        if found != stack:
            raise ProvisioningFailed(
                f"stack mapping of tenant {tenant_id}: expected none or {stack}, found {found}; somebody else has put it there"
            ) from None


def _delete_mapping(p: Portability, tenant_id: str, stack: str) -> bool:
    """Delete the row, so that no later execution makes the stack again; a row of another stack stays."""
    dynamodb = p.clients.dynamodb
    try:
        answer = dynamodb.delete_item(
            TableName=STACKS,
            Key={"tenantId": {"S": tenant_id}},
            ConditionExpression="attribute_not_exists(tenantId) OR stackName = :stack",
            ExpressionAttributeValues={":stack": {"S": stack}},
            ReturnValues="ALL_OLD",
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return "Attributes" in answer


def _let_end(p: Portability, migration: Migration, before: Callable[[], None]) -> None:
    """Wait for the migration's execution of the pipeline: it may have read the row before that was deleted."""
    execution = p.store.load(migration.migration_id).notes.get(EXECUTION_NOTE)
    end = p.clock() + p.config.provisioning_minutes * 60
    pause = _FIRST_PAUSE
    while execution is not None and _status(p, execution)[0] in {"InProgress", "Stopping"}:
        if p.clock() > end:
            raise ProvisioningFailed(
                f"{PIPELINE}: expected execution {execution} to end before its stack is removed, found it still under way; stop it, and "
                "clear this task"
            )
        p.sleep(pause)
        before()
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _by_pipeline(p: Portability, migration: Migration, stack: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Let the pipeline make the stack, and wait for it."""
    codepipeline = p.clients.codepipeline
    execution = p.store.load(migration.migration_id).notes.get(EXECUTION_NOTE)
    if execution is None or _in_vain(p, execution, stack):
        # at most 128 letters, digits and dashes; another one after a failure, which would else be given again
        token = hashed([migration.tenant_id, migration.migration_id, execution])
        execution = codepipeline.start_pipeline_execution(name=PIPELINE, clientRequestToken=token)[
            "pipelineExecutionId"
        ]
        p.store.note(migration.migration_id, {EXECUTION_NOTE: execution})
        say(f"{PIPELINE} makes {stack}: execution {execution}")
    end = p.clock() + p.config.provisioning_minutes * 60
    pause = _FIRST_PAUSE
    while True:
        status, summary = _status(p, execution)
        # the stack first: an execution may be superseded by one that makes it too
        found = _finished(p, stack)
        if found is not None and status != "InProgress":
            return found
        if status in _GIVEN_UP or (status == "Succeeded" and _in_vain(p, execution, stack)):
            raise ProvisioningFailed(
                f"{PIPELINE}: expected execution {execution} to make {stack}, found it {status}: {summary or 'see its log'}; mend it "
                "before the next try, which starts another, or start another migration"
            )
        if p.clock() > end:
            raise ProvisioningFailed(
                f"{PIPELINE}: expected {stack} within {p.config.provisioning_minutes:g} minutes, found execution {execution} {status} and "
                f"{'the stack unfinished' if found is None else 'the stack there'}; the next try waits on"
            )
        p.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _in_vain(p: Portability, execution: str, stack: str) -> bool:
    """Whether an execution is over and has made nothing."""
    status = _status(p, execution)[0]
    return status in _GIVEN_UP or (status == "Succeeded" and described(p, stack) is None)


def _status(p: Portability, execution: str) -> tuple[str, str]:
    codepipeline = p.clients.codepipeline
    try:
        found = codepipeline.get_pipeline_execution(pipelineName=PIPELINE, pipelineExecutionId=execution)
    except codepipeline.exceptions.PipelineExecutionNotFoundException:
        return "Failed", "the execution is not known any more"
    return found["pipelineExecution"]["status"], found["pipelineExecution"].get("statusSummary", "")


def described(p: Portability, stack: str) -> dict[str, Any] | None:
    """What CloudFormation tells of a stack; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        found: dict[str, Any] = p.clients.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return None  # that is how CloudFormation says that there is none
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def _finished(p: Portability, stack: str) -> dict[str, Any] | None:
    """The stack, if it is complete; None if it isn't there or isn't yet.

    Raises:
        ProvisioningFailed: it will never be.
    """
    found = described(p, stack)
    if found is None or found["StackStatus"] in _COMPLETE:
        return found
    if found["StackStatus"].endswith("_IN_PROGRESS") and not found["StackStatus"].startswith(("ROLLBACK", "DELETE")):
        return None
    raise ProvisioningFailed(
        f"stack {stack}: expected it to be complete, found {found['StackStatus']}: {found.get('StackStatusReason', 'see its events')}; "
        "delete it before the next try, or start another migration"
    )


def _tables(p: Portability, migration: Migration, tier: Tier) -> list[TableFacts]:
    tables = []
    for table in DATA_TABLES:
        name = table.name(migration.tenant_id, tier)
        if tier.silo:
            source = facts(p, table.name(migration.tenant_id, source_tier(migration)))
            found = harden(p, table, name, migration.tenant_id, source)
        else:
            found = facts(p, name)
        if found.keys != expected_keys(table):
            raise ProvisioningFailed(f"table {name}: expected the keys {expected_keys(table)}, found {found.keys}")
        tables.append(found)
    return tables


def _refuse_unless_over(p: Portability, migration: Migration, names: Iterable[str]) -> Migration:
    """The migration as it is now, if nobody needs its silo any more."""
    now = p.store.load(migration.migration_id)
    if now.state is not State.ARCHIVED:
        raise MigrationConflict(
            f"migration {now.migration_id}: expected it to be {State.ARCHIVED} before the silo is removed, found it {now.state}"
        )
    _refuse_if_routed(p, now.tenant_id)
    for name in names:
        _refuse_unless_empty(p, name)
    return now


def _refuse_if_routed(p: Portability, tenant_id: str) -> None:
    tenant = p.tenant(tenant_id)
    if tenant.route.tier.silo or tenant.fenced_by:
        raise MigrationConflict(
            f"tenant {tenant_id}: expected it to be on the pooled stack before its silo is removed, found it on {tenant.route.tier}"
            + (f" and fenced by {tenant.fenced_by}" if tenant.fenced_by else "")
        )


def _refuse_unless_empty(p: Portability, name: str) -> None:
    dynamodb = p.clients.dynamodb
    try:
        found = dynamodb.scan(TableName=name, Limit=1, ConsistentRead=True)["Count"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return
    if found:
        raise MigrationConflict(
            f"table {name}: expected it to be empty before it is deleted, found items; remove the tenant's first. Others' must not be there"
        )


def _detach_plan(p: Portability, stack: str, tier: Tier) -> None:
    plan = find_plan(p, tier)
    try:
        stage = stage_of(p, stack)
    except ProvisioningFailed:
        return  # a stack that was never finished has no API
    if plan is not None:
        detach(p, plan["id"], stage)


def _delete_stack(p: Portability, stack: str, before: Callable[[], None]) -> None:
    p.clients.cloudformation.delete_stack(StackName=stack)
    end = p.clock() + p.config.provisioning_minutes * 60
    pause = _FIRST_PAUSE
    while True:
        found = described(p, stack)
        if found is None:
            return
        if found["StackStatus"] == "DELETE_FAILED" or p.clock() > end:
            raise ProvisioningFailed(
                f"stack {stack}: expected it to be deleted, found {found['StackStatus']}: "
                f"{found.get('StackStatusReason', 'see its events')}; mend it and clear this task"
            )
        p.sleep(pause)
        before()
        pause = min(pause * 1.5, _LONGEST_PAUSE)
