from __future__ import annotations

import dataclasses
import itertools
import time

import pytest

from include.local.aws.pipeline import behave
from include.local.saas.tables import make_data_tables, make_table
from include.tenants import resources
from include.tenants.configuration import attach, find_plan, stage_of, stages_of
from include.tenants.exceptions import MigrationConflict, ProvisioningFailed
from include.tenants.resources import _status, deprovision, mirror_observability, provision
from include.tenants.saas import PIPELINE, STACKS, Tier
from include.tenants.states import State
from include.tenants.tables import facts
from tests.include.tenants.histories import SAAS, archived, planned, seeded, silent

_NUMBER = itertools.count()


@pytest.fixture
def tenant():
    """An id of its own: stacks of the stand-in outlive a test."""
    return f"res-{next(_NUMBER)}"


@pytest.fixture
def p(portability, tenant):
    seeded(portability.clients, (tenant, "Basic"))
    return portability


def executions(p):
    return len(p.clients.codepipeline.list_pipeline_executions(pipelineName=PIPELINE)["pipelineExecutionSummaries"])


def mapping(p, tenant):
    return p.clients.dynamodb.get_item(TableName=STACKS, Key={"tenantId": {"S": tenant}}).get("Item")


def test_a_silo_is_provisioned_as_the_application_does_it(p, tenant):
    said = []
    found = provision(p, planned(p, tenant), said.append)
    assert mapping(p, tenant) == {
        "tenantId": {"S": tenant},
        "stackName": {"S": f"stack-{tenant}"},
        "waveNumber": {"S": "1"},
        "codeCommitId": {"S": ""},
    }
    assert (found["stack"], found["status"]) == (f"stack-{tenant}", "CREATE_COMPLETE")
    assert found["api_url"] == f"{SAAS}/{tenant}"
    assert (found["api_id"], found["stage"]) == stage_of(p, f"stack-{tenant}")
    assert [table["name"] for table in found["tables"]] == [f"Product-{tenant}", f"Order-{tenant}"]
    for table in found["tables"]:
        assert (table["encryption"], table["recoverable"], table["protected"], table["on_demand"]) == (
            "KMS",
            True,
            True,
            True,
        )
        assert table["tags"] == {"application": "serverless-saas", "TenantId": tenant}
    assert f"{PIPELINE} makes stack-{tenant}" in said[0]


def test_done_again_it_starts_no_second_pipeline(p, tenant):
    migration = planned(p, tenant)
    first = provision(p, migration, silent)
    before = executions(p)
    assert provision(p, p.store.load("m-1"), silent) == first
    assert executions(p) == before


def ending_what_runs(p):
    """The same; what runs in the pipeline is still running when it is first waited for, and ends then."""

    def sleep(seconds):
        behave(p.clients, seconds="0")
        p.sleep(seconds)

    return dataclasses.replace(p, sleep=sleep)


def test_a_retry_waits_for_the_pipeline_that_runs(p, tenant, monkeypatch):
    behave(p.clients, seconds="600")
    migration = planned(p, tenant)

    class Killed(BaseException):
        pass

    def killed(seconds):
        raise Killed

    with pytest.raises(Killed):
        provision(dataclasses.replace(p, sleep=killed), migration, silent)
    before = executions(p)
    noted = p.store.load("m-1").notes["pipeline_execution"]
    provision(ending_what_runs(p), migration, silent)
    assert executions(p) == before
    assert p.store.load("m-1").notes["pipeline_execution"] == noted


def test_a_failed_pipeline_is_told_and_started_again_by_the_next_try(p, tenant):
    behave(p.clients, fails="true")
    migration = planned(p, tenant)
    with pytest.raises(
        ProvisioningFailed, match=rf"to make stack-{tenant}, found it Failed: the pipeline was told to fail"
    ):
        provision(p, migration, silent)
    first = p.store.load("m-1").notes["pipeline_execution"]
    behave(p.clients, fails="false")
    provision(p, migration, silent)
    assert p.store.load("m-1").notes["pipeline_execution"] != first


def test_a_pipeline_that_made_nothing_is_told_and_started_again_by_the_next_try(p, tenant):
    migration = planned(p, tenant)
    # one that ran before the tenant's row was there
    before = p.clients.codepipeline.start_pipeline_execution(name=PIPELINE)["pipelineExecutionId"]
    while _status(p, before)[0] == "InProgress":
        time.sleep(0.05)
    p.store.note("m-1", {"pipeline_execution": before})
    provision(p, migration, silent)
    assert p.store.load("m-1").notes["pipeline_execution"] != before


def test_a_pipeline_that_takes_too_long_is_given_up(p, tenant):
    behave(p.clients, seconds="30")
    times = itertools.count(0, 60)
    hurried = dataclasses.replace(p, clock=lambda: float(next(times)), sleep=lambda seconds: None)
    with pytest.raises(
        ProvisioningFailed, match=rf"expected stack-{tenant} within 30 minutes, found execution .* InProgress"
    ):
        provision(hurried, planned(p, tenant), silent)


def test_a_mapping_row_of_something_else_is_not_overwritten(p, tenant):
    row = {"tenantId": {"S": tenant}, "stackName": {"S": "stack-elsewhere"}}
    p.clients.dynamodb.put_item(TableName=STACKS, Item=row)
    with pytest.raises(ProvisioningFailed, match=f"expected none or stack-{tenant}, found stack-elsewhere"):
        provision(p, planned(p, tenant), silent)
    assert mapping(p, tenant) == row


def test_a_table_with_other_keys_is_refused(p, tenant):
    make_table(p.clients.dynamodb, f"Order-{tenant}", ["shardId", "productId"])
    with pytest.raises(
        ProvisioningFailed, match=rf"table Order-{tenant}: expected the keys .*orderId.*, found .*productId"
    ):
        provision(p, planned(p, tenant), silent)


def test_a_table_that_is_less_protected_is_mended(p, tenant):
    """As the reference solution's template makes it: provisioned, without recovery."""
    for prefix, key in (("Product", "productId"), ("Order", "orderId")):
        p.clients.dynamodb.create_table(
            TableName=f"{prefix}-{tenant}",
            KeySchema=[{"AttributeName": "shardId", "KeyType": "HASH"}, {"AttributeName": key, "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in ("shardId", key)],
            ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
        )
    assert facts(p, f"Product-{tenant}").encryption == "AWS_OWNED"
    provision(p, planned(p, tenant), silent)
    found = facts(p, f"Product-{tenant}")
    assert (found.encryption, found.recoverable, found.protected, found.on_demand) == ("KMS", True, True, True)


def test_the_pooled_stack_is_looked_at_and_left_alone(p, tenant):
    make_data_tables(p.clients.dynamodb, tenant)
    before = facts(p, "Product-pooled")
    found = provision(p, planned(p, tenant, "Platinum", "Standard"), silent)
    assert (found["stack"], found["api_url"]) == ("stack-pooled", f"{SAAS}/pooled")
    assert facts(p, "Product-pooled") == before
    assert mapping(p, tenant) is None


def test_without_its_setting_the_pooled_api_is_not_known(p, tenant):
    p.clients.dynamodb.delete_item(
        TableName="ServerlessSaaS-Settings", Key={"settingName": {"S": "apiGatewayUrl-Pooled"}}
    )
    with pytest.raises(ProvisioningFailed, match="the setting apiGatewayUrl-Pooled, found none"):
        provision(p, planned(p, tenant, "Platinum", "Standard"), silent)


def test_the_silo_is_watched_as_the_pooled_stack_is(p, tenant):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    found = mirror_observability(p, migration)
    assert (found["log_groups"], found["metric_filters"], found["alarms"], found["differences"]) == (3, 3, 2, [])


def test_a_silo_that_was_left_is_removed(p, tenant):
    migration = planned(p, tenant)
    found = provision(p, migration, silent)
    mirror_observability(p, migration)
    stage = (found["api_id"], found["stage"])
    plan = find_plan(p, Tier.PLATINUM)
    attach(p, plan["id"], stage)
    migration = archived(p, migration, State.ABORTED)
    removed = deprovision(p, migration, Tier.PLATINUM, silent)
    assert (removed["stack"], removed["deleted"], removed["mapping_row"]) == (f"stack-{tenant}", True, True)
    assert removed["alarms"] == 2
    assert mapping(p, tenant) is None
    assert f"Product-{tenant}" not in p.clients.dynamodb.list_tables()["TableNames"]
    assert stage not in stages_of(find_plan(p, Tier.PLATINUM))
    assert p.clients.cloudwatch.describe_alarms(AlarmNamePrefix=f"stack-{tenant}")["MetricAlarms"] == []
    again = deprovision(p, migration, Tier.PLATINUM, silent)
    assert (again["deleted"], again["mapping_row"], again["alarms"]) == (False, False, 0)


@pytest.mark.parametrize("at", ["delete_stack", "_detach_plan", "unprotect"])
def test_killed_while_it_removes_it_goes_on(p, tenant, monkeypatch, at):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    migration = archived(p, migration, State.ABORTED)

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(p.clients.cloudformation if at == "delete_stack" else resources, at, killed)
        with pytest.raises(Killed):
            deprovision(p, migration, Tier.PLATINUM, silent)
    assert deprovision(p, migration, Tier.PLATINUM, silent)["deleted"]
    assert f"Order-{tenant}" not in p.clients.dynamodb.list_tables()["TableNames"]


def test_a_silo_is_not_removed_while_the_tenant_is_there(p, tenant):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    migration = archived(p, migration, State.ABORTED)
    p.clients.dynamodb.update_item(
        TableName="ServerlessSaaS-TenantDetails",
        Key={"tenantId": {"S": tenant}},
        UpdateExpression="SET tenantTier = :tier",
        ExpressionAttributeValues={":tier": {"S": "Platinum"}},
    )
    with pytest.raises(MigrationConflict, match="found it on Platinum"):
        deprovision(p, migration, Tier.PLATINUM, silent)
    assert mapping(p, tenant)


def test_a_silo_is_not_removed_while_it_holds_items(p, tenant):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    migration = archived(p, migration, State.ABORTED)
    item = {"shardId": {"S": f"{tenant}-10"}, "orderId": {"S": "last"}}
    p.clients.dynamodb.put_item(TableName=f"Order-{tenant}", Item=item)
    with pytest.raises(MigrationConflict, match=f"table Order-{tenant}: expected it to be empty"):
        deprovision(p, migration, Tier.PLATINUM, silent)
    assert facts(p, f"Order-{tenant}").protected
    assert mapping(p, tenant)


def test_a_stack_that_is_being_made_is_waited_for_and_removed(p, tenant):
    behave(p.clients, seconds="600")
    migration = planned(p, tenant)

    class Killed(BaseException):
        pass

    def killed(seconds):
        raise Killed

    with pytest.raises(Killed):
        provision(dataclasses.replace(p, sleep=killed), migration, silent)
    migration = archived(p, migration, State.ABORTED)
    assert deprovision(ending_what_runs(p), migration, Tier.PLATINUM, silent)["deleted"]
    execution = p.store.load("m-1").notes["pipeline_execution"]
    found = p.clients.codepipeline.get_pipeline_execution(pipelineName=PIPELINE, pipelineExecutionId=execution)
    assert found["pipelineExecution"]["status"] == "Succeeded"
    assert f"Product-{tenant}" not in p.clients.dynamodb.list_tables()["TableNames"]


def test_a_mapping_row_of_another_stack_stays(p, tenant):
    row = {"tenantId": {"S": tenant}, "stackName": {"S": "stack-elsewhere"}}
    p.clients.dynamodb.put_item(TableName=STACKS, Item=row)
    migration = archived(p, planned(p, tenant, "Platinum", "Basic"), State.COMPLETE)
    assert not deprovision(p, migration, Tier.PLATINUM, silent)["mapping_row"]
    assert mapping(p, tenant) == row


def test_the_pooled_stack_is_never_removed(p, tenant):
    with pytest.raises(MigrationConflict, match="which is everybody's"):
        deprovision(p, planned(p, tenant), Tier.PREMIUM, silent)


def test_a_silo_is_not_removed_before_the_evidence_is_there(p, tenant):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    with pytest.raises(
        MigrationConflict, match="expected it to be ARCHIVED before the silo is removed, found it PLANNED"
    ):
        deprovision(p, migration, Tier.PLATINUM, silent)
    assert mapping(p, tenant)


def test_items_that_come_while_the_stack_is_about_to_go_keep_it(p, tenant, monkeypatch):
    migration = planned(p, tenant)
    provision(p, migration, silent)
    migration = archived(p, migration, State.ABORTED)
    item = {"shardId": {"S": f"{tenant}-1"}, "orderId": {"S": "late"}}

    def written(p, stack, tier):
        p.clients.dynamodb.put_item(TableName=f"Order-{tenant}", Item=item)

    monkeypatch.setattr(resources, "_detach_plan", written)
    with pytest.raises(MigrationConflict, match=f"table Order-{tenant}: expected it to be empty"):
        deprovision(p, migration, Tier.PLATINUM, silent)
    assert p.clients.dynamodb.get_item(TableName=f"Order-{tenant}", Key=item)["Item"] == item


@pytest.mark.parametrize("outcome", [State.ABORTED, State.ROLLED_BACK])
def test_a_stack_that_somebody_else_had_made_stays_after_an_abort(p, tenant, outcome):
    first = planned(p, tenant, migration_id="m-0")
    provision(p, first, silent)
    p.store.transition(archived(p, first, State.ABORTED), State.CLEANED, by="test")
    migration = planned(p, tenant)
    provision(p, migration, silent)
    said = []
    removed = deprovision(p, archived(p, migration, outcome), Tier.PLATINUM, said.append)
    assert removed == {"stack": f"stack-{tenant}", "deleted": False, "mapping_row": False}
    assert said == [f"stack stack-{tenant} was not made by this migration: it stays"]
    assert facts(p, f"Order-{tenant}").protected
    assert mapping(p, tenant)


def test_a_stack_that_a_killed_try_has_made_is_the_migrations(p, tenant, monkeypatch):
    """The try died before it could note the pipeline's execution."""
    migration = planned(p, tenant)
    note = p.store.note

    class Killed(BaseException):
        pass

    def killed(migration_id, notes):
        if resources.EXECUTION_NOTE in notes:
            raise Killed
        note(migration_id, notes)

    with monkeypatch.context() as patch:
        patch.setattr(p.store, "note", killed)
        with pytest.raises(Killed):
            provision(p, migration, silent)
    while resources.described(p, f"stack-{tenant}") is None:
        time.sleep(0.05)
    provision(p, p.store.load("m-1"), silent)
    assert resources.EXECUTION_NOTE not in p.store.load("m-1").notes
    assert deprovision(p, archived(p, migration, State.ABORTED), Tier.PLATINUM, silent)["deleted"]
