from __future__ import annotations

import dataclasses
import itertools

import pytest

from include.tenants.compliance import run_checks
from include.tenants.configuration import configure, find_plan
from include.tenants.identity import port_identity
from include.tenants.isolation import POLICY_SETTING
from include.tenants.resources import mirror_observability, provision
from include.tenants.saas import SETTINGS, Tier
from tests.include.tenants.histories import planned_as_it_is, seeded, silent

_NUMBER = itertools.count()


def made(p, tenant, tier, target):
    """A migration whose target was made by the steps."""
    seeded(p.clients, (tenant, tier), users=True)
    planned_as_it_is(p, tenant, target)
    for name, step in (
        ("resources", lambda migration: provision(p, migration, silent)),
        ("observability", lambda migration: mirror_observability(p, migration)),
        ("identity", lambda migration: port_identity(p, migration, silent)),
        ("configuration", lambda migration: configure(p, migration)),
    ):
        if Tier(tier).silo or Tier(target).silo or name == "configuration":
            p.store.note("m-1", {name: step(p.store.load("m-1"))})
    return p.store.load("m-1")


@pytest.fixture
def tenant():
    return f"comp-{next(_NUMBER)}"


@pytest.fixture
def silo(portability, tenant):
    return made(portability, tenant, "Basic", "Platinum")


def bad(p, migration):
    return {check.name: check for check in run_checks(p, migration) if not check.ok}


def test_a_silo_that_the_steps_made_holds_every_check(portability, silo, tenant):
    checks = run_checks(portability, silo)
    assert [check for check in checks if not check.ok] == []
    names = [check.name for check in checks]
    assert names == sorted(set(names))
    pool = silo.notes["identity"]["user_pool_id"]
    expected = {
        "evidence bucket data-platform-evidence",
        "signing key alias/tenant-migrations",
        "isolation",
        "usage plan of Platinum",
        "usage plan of Platinum: APIs",
        *(f"{kind}s of stack-{tenant}" for kind in ("alarm", "log group", "metric filter")),
        *(
            f"table {prefix}-{tenant}: {what}"
            for prefix in ("Product", "Order")
            for what in (
                "keys",
                "encryption at rest",
                "point-in-time recovery",
                "tags",
                "deletion protection",
                "capacity by request",
            )
        ),
        *(
            f"user pool {pool}: {what}"
            for what in (
                "passwords",
                "second factor",
                "claims that users can write",
                "users",
                "deletion protection",
            )
        ),
    }
    assert set(names) == expected


@pytest.mark.parametrize(("tier", "target"), [("Platinum", "Premium"), ("Basic", "Premium")])
def test_the_pooled_stack_holds_every_check(portability, tenant, tier, target):
    assert bad(portability, made(portability, tenant, tier, target)) == {}


def _tags(p, tenant, migration):
    arn = p.clients.dynamodb.describe_table(TableName=f"Order-{tenant}")["Table"]["TableArn"]
    p.clients.dynamodb.untag_resource(ResourceArn=arn, TagKeys=["application"])
    return f"table Order-{tenant}: tags"


def _protection(p, tenant, migration):
    p.clients.dynamodb.update_table(TableName=f"Order-{tenant}", DeletionProtectionEnabled=False)
    return f"table Order-{tenant}: deletion protection"


def _encryption(p, tenant, migration):
    p.clients.dynamodb.update_table(TableName=f"Product-{tenant}", SSESpecification={"Enabled": False})
    return f"table Product-{tenant}: encryption at rest"


def _recovery(p, tenant, migration):
    p.clients.dynamodb.update_continuous_backups(
        TableName=f"Product-{tenant}", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
    )
    return f"table Product-{tenant}: point-in-time recovery"


def _alarm(p, tenant, migration):
    p.clients.cloudwatch.delete_alarms(AlarmNames=[f"stack-{tenant}-5xx"])
    return f"alarms of stack-{tenant}"


def _retention(p, tenant, migration):
    p.clients.logs.put_retention_policy(logGroupName=f"/aws/lambda/stack-{tenant}-orders", retentionInDays=1)
    return f"log groups of stack-{tenant}"


def _filter(p, tenant, migration):
    group = f"/aws/api-gateway/stack-{tenant}-access"
    p.clients.logs.delete_metric_filter(logGroupName=group, filterName=f"stack-{tenant}-5xx")
    return f"metric filters of stack-{tenant}"


def _passwords(p, tenant, migration):
    source = migration.notes["source"]["user_pool_id"]
    strict = {"MinimumLength": 20, "RequireSymbols": True}
    before = p.clients.cognito.describe_user_pool(UserPoolId=source)["UserPool"].get("Policies")
    p.clients.cognito.update_user_pool(UserPoolId=source, Policies={"PasswordPolicy": strict})
    return (
        f"user pool {migration.notes['identity']['user_pool_id']}: passwords",
        lambda: p.clients.cognito.update_user_pool(UserPoolId=source, **({"Policies": before} if before else {})),
    )


def _claim(p, tenant, migration):
    identity = migration.notes["identity"]
    p.clients.cognito.update_user_pool_client(
        UserPoolId=identity["user_pool_id"],
        ClientId=identity["app_client_id"],
        ReadAttributes=["email", "custom:tenantId", "custom:legacySub"],
        WriteAttributes=["email", "custom:tenantId"],
    )
    # told twice: as a setting of the client, and as what it means for the users
    return {f"user pool {identity['user_pool_id']}: {what}" for what in ("claims that users can write", "users")}


def _limits(p, tenant, migration):
    plan = find_plan(p, Tier.PLATINUM)["id"]

    def rate(value):
        p.clients.apigateway.update_usage_plan(
            usagePlanId=plan, patchOperations=[{"op": "replace", "path": "/throttle/rateLimit", "value": value}]
        )

    rate("9999")
    return "usage plan of Platinum", lambda: rate("300")


def _stage(p, tenant, migration):
    noted = migration.notes["configuration"]
    p.clients.apigateway.update_usage_plan(
        usagePlanId=noted["plan_id"],
        patchOperations=[{"op": "remove", "path": "/apiStages", "value": f"{noted['api_id']}:{noted['stage']}"}],
    )
    return "usage plan of Platinum: APIs"


def _policy(p, tenant, migration):
    p.clients.dynamodb.put_item(
        TableName=SETTINGS,
        Item={
            "settingName": {"S": POLICY_SETTING},
            "settingValue": {"S": '{"Version": "2012-10-17", "Statement": []}'},
        },
    )
    return "isolation"


@pytest.mark.parametrize(
    "spoil",
    [
        *(_tags, _protection, _encryption, _recovery, _alarm, _retention, _filter),
        *(_passwords, _claim, _limits, _stage, _policy),
    ],
)
def test_what_is_not_as_it_has_to_be_is_told(portability, silo, tenant, spoil):
    answer = spoil(portability, tenant, silo)
    names, mend = answer if isinstance(answer, tuple) else (answer, lambda: None)
    names = {names} if isinstance(names, str) else names
    try:
        found = bad(portability, silo)
    finally:
        mend()
    assert found.keys() == names
    assert all(check.found != check.expected for check in found.values())


def test_a_bucket_and_a_key_that_do_not_do_are_told(portability, silo):
    config = dataclasses.replace(portability.config, evidence_bucket="data-platform", signing_key="alias/nobody")
    found = bad(dataclasses.replace(portability, config=config), silo)
    assert sorted(found) == ["evidence bucket data-platform", "signing key alias/nobody"]
    assert found["evidence bucket data-platform"].expected == "object lock"


def test_one_look_names_all_that_is_wrong(portability, silo, tenant):
    spoilt = {spoil(portability, tenant, silo) for spoil in (_tags, _recovery, _alarm, _stage)}
    assert bad(portability, silo).keys() == spoilt


def test_what_the_pooled_stack_lacks_is_told_but_not_what_it_has_otherwise(portability, tenant):
    migration = made(portability, tenant, "Platinum", "Standard")
    cloudwatch = portability.clients.cloudwatch
    [alarm] = cloudwatch.describe_alarms(AlarmNames=[f"stack-{tenant}-5xx"])["MetricAlarms"]
    how = {"Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum", "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(
        AlarmName=alarm["AlarmName"], Namespace="x", MetricName="x", Threshold=alarm["Threshold"] + 1, **how
    )
    assert bad(portability, migration) == {}
    cloudwatch.put_metric_alarm(AlarmName=f"stack-{tenant}-new", Namespace="x", MetricName="x", Threshold=1, **how)
    assert list(bad(portability, migration)) == ["alarms of stack-pooled"]
