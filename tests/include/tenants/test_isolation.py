from __future__ import annotations

import json

import pytest

from include.local.saas.tables import make_data_tables
from include.tenants.exceptions import IsolationBroken, ProvisioningFailed
from include.tenants.isolation import DATA_ACTIONS, POLICY_SETTING, ROLE_SETTING, check_isolation, tenant_policy
from include.tenants.keys import shard_ids
from include.tenants.policies import evaluate
from include.tenants.saas import SETTINGS, TENANTS
from include.tenants.states import State
from include.tenants.store import Migration

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/"
TABLES = [f"{ARN}Product-pooled", f"{ARN}Order-pooled"]
FENCE = f"{ARN}ServerlessSaaS-TenantFences"
KEYS = "dynamodb:LeadingKeys"


def reference_policy(tenant_id, keys="ForAllValues:StringLike"):
    """As the reference solution's authorizer makes it."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [*DATA_ACTIONS, "dynamodb:ConditionCheckItem"],
                "Resource": ["arn:aws:dynamodb:*:*:table/*"],
                "Condition": {keys: {KEYS: [f"{tenant_id}-*"]}},
            }
        ],
    }


def may(policy, action, *keys, resource=TABLES[0]):
    return evaluate([policy], action, resource, {KEYS: list(keys)}).allowed


def migration(tenant_id="acme", target="Platinum"):
    return Migration("m-1", tenant_id, State.PREFLIGHT, 1, {"tenant_id": tenant_id, "target_tier": target})


@pytest.fixture
def tenants(saas):
    for tenant_id, tier in {
        "acme": "Basic",
        "acme-2": "Standard",
        "acme-2-1": "Premium",
        "silo": "Platinum",
        "Acme": "Basic",
    }.items():
        saas.dynamodb.put_item(
            TableName=TENANTS, Item={"tenantId": {"S": tenant_id}, "tenantTier": {"S": tier}, "tenantName": {"S": "x"}}
        )
    make_data_tables(saas.dynamodb, "acme")
    return saas


def put_setting(clients, name, value):
    clients.dynamodb.put_item(TableName=SETTINGS, Item={"settingName": {"S": name}, "settingValue": {"S": value}})


def test_the_references_pattern_lets_a_tenant_into_a_neighbours_partition():
    pattern, ours = reference_policy("acme"), tenant_policy("acme", TABLES, FENCE)
    assert "acme-2-1" in shard_ids("acme-2")
    assert may(pattern, "dynamodb:GetItem", "acme-2-1")
    assert not may(ours, "dynamodb:GetItem", "acme-2-1")
    assert may(ours, "dynamodb:GetItem", "acme-2")


def test_for_all_values_alone_lets_a_request_through_that_names_no_partition():
    pattern, ours = reference_policy("acme"), tenant_policy("acme", TABLES, FENCE)
    assert may(pattern, "dynamodb:Query")
    assert not may(ours, "dynamodb:Query")
    del ours["Statement"][0]["Condition"]["Null"]
    assert may(ours, "dynamodb:Query")


def test_the_fence_can_be_checked_and_broken_but_not_put_or_deleted():
    ours = tenant_policy("acme", TABLES, FENCE)
    for action in ("ConditionCheckItem", "GetItem", "UpdateItem"):
        assert may(ours, f"dynamodb:{action}", "acme-10", resource=FENCE)
        assert not may(ours, f"dynamodb:{action}", "acme-11", resource=FENCE)
    for action in ("PutItem", "DeleteItem"):
        assert not may(ours, f"dynamodb:{action}", "acme-10", resource=FENCE)
        assert may(ours, f"dynamodb:{action}", "acme-10")


def test_the_session_policy_fits_into_what_iam_allows():
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: 2,048 characters."""
    longest = "a" * 63
    arn = "arn:aws:dynamodb:ap-southeast-2:123456789012:table/"
    policy = tenant_policy(
        longest, [f"{arn}Product-{longest}", f"{arn}Order-{longest}"], f"{arn}ServerlessSaaS-TenantFences"
    )
    assert len(json.dumps(policy, separators=(",", ":"))) <= 2048


@pytest.mark.parametrize("tenant_id", ["acme", "acme-2", "acme-2-1"])
@pytest.mark.parametrize("target", ["Premium", "Platinum"])
def test_every_tenant_is_kept_to_itself(portability, tenants, tenant_id, target):
    make_data_tables(tenants.dynamodb, tenant_id)
    found = check_isolation(portability, migration(tenant_id, target))
    assert found["allowed"] == 10 * (2 * len(DATA_ACTIONS) + 3)
    assert found["other_tenants"] == 4
    assert found["denied"] > 4 * 10 * 2 * len(DATA_ACTIONS)
    assert found["role"] is None


def test_the_references_pattern_is_found_out_as_the_applications_own_policy(portability, tenants):
    put_setting(tenants, POLICY_SETTING, json.dumps(reference_policy("{tenantId}")))
    with pytest.raises(
        IsolationBroken,
        match=r"partition acme-2-1 of acme-2: expected dynamodb:GetItem.* to be denied",
    ):
        check_isolation(portability, migration(target="Standard"))


def test_the_applications_own_policy_is_taken_if_it_is_good(portability, tenants):
    own = tenant_policy("{tenantId}", [f"{ARN}Product-{{owner}}", f"{ARN}Order-{{owner}}"], FENCE)
    put_setting(tenants, POLICY_SETTING, json.dumps(own))
    for target in ("Standard", "Platinum"):
        found = check_isolation(portability, migration(target=target))
        assert found["session_policy_of"] == POLICY_SETTING


def test_a_policy_that_forbids_the_tenant_its_own_items_is_found_out(portability, tenants):
    own = tenant_policy("{tenantId}", [f"{ARN}Product-{{owner}}"], FENCE)
    put_setting(tenants, POLICY_SETTING, json.dumps(own))
    with pytest.raises(
        IsolationBroken, match=r"own partition acme-1: expected dynamodb:GetItem on Order-acme, .* allowed"
    ):
        check_isolation(portability, migration())


@pytest.mark.parametrize("text", ["no JSON", '{"Version": "2008-10-17", "Statement": []}'])
def test_a_policy_that_is_not_understood_counts_as_broken(portability, tenants, text):
    put_setting(tenants, POLICY_SETTING, text)
    with pytest.raises(IsolationBroken):
        check_isolation(portability, migration())


def test_a_table_that_is_not_there_is_named(portability, tenants):
    with pytest.raises(ProvisioningFailed, match="Product-acme-2"):
        check_isolation(portability, migration("acme-2"))


def test_a_tenant_in_a_tier_that_nobody_knows_is_named(portability, tenants):
    """Its items could not be looked for."""
    key = {"tenantId": {"S": "odd"}}
    tenants.dynamodb.put_item(TableName=TENANTS, Item={**key, "tenantTier": {"S": "Gold"}})
    with pytest.raises(ProvisioningFailed, match="Basic, Standard, Premium, Platinum, found odd in 'Gold'"):
        check_isolation(portability, migration())


@pytest.fixture
def role(tenants):
    """A role with a policy in it and one attached."""
    iam = tenants.iam
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    iam.create_role(RoleName="isolation-test", AssumeRolePolicyDocument=json.dumps(trust))
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}]}
    arn = iam.create_policy(PolicyName="isolation-test", PolicyDocument=json.dumps(everything))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="isolation-test", PolicyArn=arn)
    put_setting(tenants, ROLE_SETTING, "isolation-test")
    yield iam
    for name in iam.list_role_policies(RoleName="isolation-test")["PolicyNames"]:
        iam.delete_role_policy(RoleName="isolation-test", PolicyName=name)
    iam.detach_role_policy(RoleName="isolation-test", PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)
    iam.delete_role(RoleName="isolation-test")


def test_the_roles_policies_are_looked_at_too(portability, role):
    found = check_isolation(portability, migration())
    assert (found["role"], len(found["role_policies"])) == ("isolation-test", 1)
    denied = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "dynamodb:Query", "Resource": f"{ARN}Order-*"}],
    }
    role.put_role_policy(RoleName="isolation-test", PolicyName="more", PolicyDocument=json.dumps(denied))
    with pytest.raises(
        IsolationBroken, match=r"own partition acme-1: expected dynamodb:Query on Order-acme to be allowed"
    ):
        check_isolation(portability, migration())


def test_a_role_that_is_not_there_is_named(portability, tenants):
    put_setting(tenants, ROLE_SETTING, "nobody")
    with pytest.raises(ProvisioningFailed, match="nobody"):
        check_isolation(portability, migration())
