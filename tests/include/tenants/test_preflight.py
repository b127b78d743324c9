"""What the preflight says of what only the clean-up would stumble over."""

from __future__ import annotations

import json

import pytest

from include.local.saas.stacks import STACK_ROLE
from include.tenants.exceptions import PreflightFailed
from include.tenants.plan import begin, make_plan
from include.tenants.preflight import preflight
from include.tenants.request import MigrationRequest
from include.tenants.saas import SETTINGS, TENANTS, Tier
from tests.include.tenants.histories import seeded, silent


@pytest.fixture
def p(portability):
    return portability


def leaving(p, tenant):
    """A migration of a silo's tenant to the pooled tiers."""
    request = MigrationRequest(tenant, Tier.BASIC, why="a test")
    return begin(p, f"m-{tenant}", request, make_plan(p, request), by="test")


def test_a_silo_whose_stack_has_a_service_role_may_go(p):
    seeded(p.clients, ("pre-0", "Platinum"), items=20, users=True)
    found = preflight(p, leaving(p, "pre-0"), silent)["findings"]
    [role] = [each for each in found if each["name"] == "service role of stack-pre-0"]
    assert (role["ok"], role["found"]) == (True, STACK_ROLE)


def test_a_silo_whose_stack_could_not_be_deleted_must_not_begin(p):
    bare = json.dumps({"Resources": {}, "Outputs": {}})
    p.clients.cloudformation.create_stack(StackName="stack-pre-1", TemplateBody=bare)
    seeded(p.clients, ("pre-1", "Platinum"), items=20, users=True)
    with pytest.raises(PreflightFailed) as caught:
        preflight(p, leaving(p, "pre-1"), silent)
    assert "service role of stack-pre-1: expected one, which may delete all that is in the stack, found none" in str(
        caught.value
    )
    assert "aws cloudformation update-stack --stack-name stack-pre-1 --use-previous-template --role-arn" in str(
        caught.value
    )


def test_a_silo_whose_users_are_in_the_pooled_pool_must_not_begin(p):
    seeded(p.clients, ("pre-2", "Platinum"), items=20, users=True)
    pooled = p.clients.dynamodb.get_item(TableName=SETTINGS, Key={"settingName": {"S": "userPoolId-pooled"}})["Item"]
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": "pre-2"}},
        UpdateExpression="SET userPoolId = :pool",
        ExpressionAttributeValues={":pool": pooled["settingValue"]},
    )
    with pytest.raises(PreflightFailed, match="already, although the tenant is a silo's"):
        preflight(p, leaving(p, "pre-2"), silent)


def test_a_tenant_whose_user_pool_is_gone_is_told_among_all_else(p):
    """One try names all there is to mend."""
    seeded(p.clients, ("pre-3", "Platinum"), items=20, users=True)
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": "pre-3"}},
        UpdateExpression="SET userPoolId = :pool",
        ExpressionAttributeValues={":pool": {"S": "eu-west-1_gone"}},
    )
    told = []
    with pytest.raises(
        PreflightFailed, match=r"users: expected nothing that keeps them from moving, found .*eu-west-1_gone"
    ):
        preflight(p, leaving(p, "pre-3"), told.append)
    assert any(line.startswith("ok  signing key") for line in told)


def test_a_quota_that_is_used_up_is_told_before_anything_is_made(p, monkeypatch):
    monkeypatch.setattr("include.tenants.preflight.TABLES_PER_REGION", 3)
    monkeypatch.setattr("include.tenants.identity.identity_quota", lambda p: (1000, 1000))
    seeded(p.clients, ("pre-4", "Basic"), items=20, users=True)
    request = MigrationRequest("pre-4", Tier.PLATINUM, why="a test")
    migration = begin(p, "m-pre-4", request, make_plan(p, request), by="test")
    with pytest.raises(PreflightFailed) as caught:
        preflight(p, migration, silent)
    assert "tables in the region: expected room for 2 more below 3, found" in str(caught.value)
    assert "user pools: expected room for one more below 1000, found 1000; ask AWS for a higher quota" in str(
        caught.value
    )
