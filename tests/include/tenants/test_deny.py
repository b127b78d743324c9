from __future__ import annotations

import dataclasses

import pytest
from botocore.exceptions import ClientError

from include.local.saas.account import ROLE
from include.local.saas.tables import make_data_tables
from include.tenants.deny import STEADY_SECONDS, WRITES, deny_policy, put_deny, remove_deny, wait_until_denied
from include.tenants.exceptions import CutoverFailed, ProvisioningFailed
from include.tenants.isolation import ROLE_SETTING, tenant_policy
from include.tenants.keys import shard_ids
from include.tenants.policies import evaluate
from include.tenants.saas import SETTINGS
from tests.include.tenants.histories import planned, seeded, silent

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/"
TABLES = [f"{ARN}{name}" for name in ("Product-pooled", "Product-acme", "Order-pooled", "Order-acme")]
KEYS = "dynamodb:LeadingKeys"


@pytest.fixture
def p(portability):
    seeded(portability.clients, ("acme", "Basic"), ("acme-2", "Standard"))
    make_data_tables(portability.clients.dynamodb, "acme")
    return portability


def policies(p):
    iam = p.clients.iam
    return [
        iam.get_role_policy(RoleName=ROLE, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=ROLE)["PolicyNames"]
    ]


class Application:
    """DynamoDB as it answers the application's role: moto enforces no policy, so the evaluator does, some looks late as IAM is."""

    def __init__(self, p, late=0):
        self.p, self.late, self.looks = p, late, 0

    def delete_item(self, **request):
        self.looks += 1
        [shard_id] = [value["S"] for key, value in request["Key"].items() if key == "shardId"]
        arn = f"{ARN}{request['TableName']}"
        if self.looks > self.late and not evaluate(policies(self.p), "dynamodb:DeleteItem", arn, {KEYS: [shard_id]}):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "denied"}}, "DeleteItem")
        return self.p.clients.dynamodb.delete_item(**request)


@pytest.fixture
def running(p, monkeypatch):
    """With a clock that sleeping moves, in few and long steps: each round looks at forty places."""
    monkeypatch.setattr("include.tenants.deny._PAUSE_SECONDS", 2.5)
    now = [1000.0]

    def sleep(seconds):
        now[0] += seconds

    return dataclasses.replace(p, clock=lambda: now[0], sleep=sleep)


def test_writes_of_the_tenant_are_denied_and_all_else_is_as_before(p):
    migration = planned(p, "acme")
    session = tenant_policy("acme", TABLES, f"{ARN}ServerlessSaaS-TenantFences")
    other = tenant_policy("acme-2", TABLES, f"{ARN}ServerlessSaaS-TenantFences")
    put_deny(p, migration)
    for arn in TABLES:
        for shard_id in shard_ids("acme"):
            for action in ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"):
                assert evaluate(policies(p), action, arn, {KEYS: [shard_id]}, session).explicit
            for action in ("dynamodb:GetItem", "dynamodb:Query"):
                assert evaluate(policies(p), action, arn, {KEYS: [shard_id]}, session)
        for shard_id in shard_ids("acme-2"):
            assert evaluate(policies(p), "dynamodb:PutItem", arn, {KEYS: [shard_id]}, other)
    assert remove_deny(p, migration)
    assert evaluate(policies(p), "dynamodb:PutItem", TABLES[0], {KEYS: ["acme-1"]}, session)


@pytest.mark.parametrize("action", WRITES)
def test_a_batch_with_one_of_its_partitions_is_denied(action):
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    both = [everything, deny_policy("acme", TABLES)]
    assert evaluate(both, action, TABLES[0], {KEYS: ["acme-2-1", "acme-10"]}).explicit
    assert evaluate(both, action, TABLES[0], {KEYS: ["acme-2-1", "acme-11"]})


def test_putting_and_removing_can_be_done_again(p):
    migration = planned(p, "acme")
    before = len(policies(p))
    assert put_deny(p, migration) == put_deny(p, migration)
    assert len(policies(p)) == before + 1
    assert p.store.load(migration.migration_id).notes["deny"]
    assert [remove_deny(p, migration), remove_deny(p, migration)] == [True, False]
    assert len(policies(p)) == before
    assert p.store.load(migration.migration_id).notes["deny"] == ""


def test_it_counts_when_nothing_got_through_for_a_while(running):
    migration = planned(running, "acme")
    put_deny(running, migration)
    application = Application(running, late=100)
    seconds = wait_until_denied(running, migration, application, deadline=running.clock() + 60, say=silent)
    remove_deny(running, migration)
    assert seconds >= STEADY_SECONDS
    assert application.looks > 100


def test_a_deny_that_does_not_count_in_time_is_told(running):
    migration = planned(running, "acme")
    with pytest.raises(CutoverFailed, match="40 of 40 partitions still open"):
        wait_until_denied(running, migration, Application(running), deadline=running.clock() + 5, say=silent)


def test_trying_deletes_nothing(running):
    migration = planned(running, "acme")
    key = {"shardId": {"S": "acme-1"}, "productId": {"S": "__migration__#deny"}}
    running.clients.dynamodb.put_item(TableName="Product-pooled", Item=key)
    with pytest.raises(CutoverFailed):
        wait_until_denied(running, migration, Application(running), deadline=running.clock(), say=silent)
    assert "Item" in running.clients.dynamodb.get_item(TableName="Product-pooled", Key=key)


def test_without_a_role_it_is_not_known_whom_to_deny(p):
    p.clients.dynamodb.delete_item(TableName=SETTINGS, Key={"settingName": {"S": ROLE_SETTING}})
    with pytest.raises(ProvisioningFailed, match=ROLE_SETTING):
        put_deny(p, planned(p, "acme"))
