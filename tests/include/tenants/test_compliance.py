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
from tests.include.tenants.conftest import application
from tests.include.tenants.histories import planned_as_it_is, seeded, silent

_NUMBER = itertools.count()
SILO = "comp-silo"


@pytest.fixture(scope="module")
def portability(clients):
    """One application for all tests: what one of them spoils it mends."""
    with application(clients) as p:
        yield p


def made(p, tenant, tier, target):
    """A migration whose target was made by the steps."""
    name = f"m-{tenant}"
    seeded(p.clients, (tenant, tier), users=True)
    planned_as_it_is(p, tenant, target, migration_id=name)
    for note, step in (
        ("resources", lambda migration: provision(p, migration, silent)),
        ("observability", lambda migration: mirror_observability(p, migration)),
        ("identity", lambda migration: port_identity(p, migration, silent)),
        ("configuration", lambda migration: configure(p, migration)),
    ):
        if Tier(tier).silo or Tier(target).silo or note == "configuration":
            p.store.note(name, {note: step(p.store.load(name))})
    return p.store.load(name)


@pytest.fixture
def tenant():
    return f"comp-{next(_NUMBER)}"


@pytest.fixture(scope="module")
def silo(portability):
    migration = made(portability, SILO, "Basic", "Platinum")
    yield migration
    assert bad(portability, migration) == {}, "a test has not mended what it had spoilt"


def bad(p, migration):
    return {check.name: check for check in run_checks(p, migration) if not check.ok}


def test_a_silo_that_the_steps_made_holds_every_check(portability, silo):
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
        *(f"{kind}s of stack-{SILO}" for kind in ("alarm", "log group", "metric filter")),
        *(
            f"table {prefix}-{SILO}: {what}"
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


def _tags(p, migration):
    dynamodb = p.clients.dynamodb
    arn = dynamodb.describe_table(TableName=f"Order-{SILO}")["Table"]["TableArn"]
    before = dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["application"])
    return f"table Order-{SILO}: tags", lambda: dynamodb.tag_resource(ResourceArn=arn, Tags=before)


def _protection(p, migration):
    def protect(value):
        p.clients.dynamodb.update_table(TableName=f"Order-{SILO}", DeletionProtectionEnabled=value)

    protect(False)
    return f"table Order-{SILO}: deletion protection", lambda: protect(True)


def _encryption(p, migration):
    def encrypt(**how):
        p.clients.dynamodb.update_table(TableName=f"Product-{SILO}", SSESpecification=how)

    encrypt(Enabled=False)
    return f"table Product-{SILO}: encryption at rest", lambda: encrypt(Enabled=True, SSEType="KMS")


def _recovery(p, migration):
    def recover(value):
        how = {"PointInTimeRecoveryEnabled": value}
        p.clients.dynamodb.update_continuous_backups(TableName=f"Product-{SILO}", PointInTimeRecoverySpecification=how)

    recover(False)
    return f"table Product-{SILO}: point-in-time recovery", lambda: recover(True)


def _alarm(p, migration):
    p.clients.cloudwatch.delete_alarms(AlarmNames=[f"stack-{SILO}-5xx"])
    return f"alarms of stack-{SILO}", lambda: mirror_observability(p, migration)


def _retention(p, migration):
    p.clients.logs.put_retention_policy(logGroupName=f"/aws/lambda/stack-{SILO}-orders", retentionInDays=1)
    return f"log groups of stack-{SILO}", lambda: mirror_observability(p, migration)


def _filter(p, migration):
    group = f"/aws/api-gateway/stack-{SILO}-access"
    p.clients.logs.delete_metric_filter(logGroupName=group, filterName=f"stack-{SILO}-5xx")
    return f"metric filters of stack-{SILO}", lambda: mirror_observability(p, migration)


def _passwords(p, migration):
    source = migration.notes["source"]["user_pool_id"]
    strict = {"MinimumLength": 20, "RequireSymbols": True}
    before = p.clients.cognito.describe_user_pool(UserPoolId=source)["UserPool"].get("Policies")
    p.clients.cognito.update_user_pool(UserPoolId=source, Policies={"PasswordPolicy": strict})
    return (
        f"user pool {migration.notes['identity']['user_pool_id']}: passwords",
        lambda: p.clients.cognito.update_user_pool(UserPoolId=source, **({"Policies": before} if before else {})),
    )


def _claim(p, migration):
    identity = migration.notes["identity"]
    which = {"UserPoolId": identity["user_pool_id"], "ClientId": identity["app_client_id"]}
    before = p.clients.cognito.describe_user_pool_client(**which)["UserPoolClient"]
    kept = {name: before[name] for name in ("ReadAttributes", "WriteAttributes")}
    p.clients.cognito.update_user_pool_client(
        **which,
        ReadAttributes=["email", "custom:tenantId", "custom:legacySub"],
        WriteAttributes=["email", "custom:tenantId"],
    )
    # told twice: as a setting of the client, and as what it means for the users
    names = {f"user pool {identity['user_pool_id']}: {what}" for what in ("claims that users can write", "users")}
    return names, lambda: p.clients.cognito.update_user_pool_client(**which, **kept)


def _limits(p, migration):
    plan = find_plan(p, Tier.PLATINUM)["id"]

    def rate(value):
        p.clients.apigateway.update_usage_plan(
            usagePlanId=plan, patchOperations=[{"op": "replace", "path": "/throttle/rateLimit", "value": value}]
        )

    rate("9999")
    return "usage plan of Platinum", lambda: rate("300")


def _stage(p, migration):
    noted = migration.notes["configuration"]

    def stage(op):
        patch = {"op": op, "path": "/apiStages", "value": f"{noted['api_id']}:{noted['stage']}"}
        p.clients.apigateway.update_usage_plan(usagePlanId=noted["plan_id"], patchOperations=[patch])

    stage("remove")
    return "usage plan of Platinum: APIs", lambda: stage("add")


def _policy(p, migration):
    key = {"settingName": {"S": POLICY_SETTING}}
    nothing = {"S": '{"Version": "2012-10-17", "Statement": []}'}
    p.clients.dynamodb.put_item(TableName=SETTINGS, Item=key | {"settingValue": nothing})
    return "isolation", lambda: p.clients.dynamodb.delete_item(TableName=SETTINGS, Key=key)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_tags, _protection, _encryption, _recovery, _alarm, _retention, _filter),
        *(_passwords, _claim, _limits, _stage, _policy),
    ],
)
def test_what_is_not_as_it_has_to_be_is_told(portability, silo, spoil):
    names, mend = spoil(portability, silo)
    try:
        found = bad(portability, silo)
    finally:
        mend()
    assert found.keys() == ({names} if isinstance(names, str) else names)
    assert all(check.found != check.expected for check in found.values())


def test_a_bucket_and_a_key_that_do_not_do_are_told(portability, silo):
    config = dataclasses.replace(portability.config, evidence_bucket="data-platform", signing_key="alias/nobody")
    found = bad(dataclasses.replace(portability, config=config), silo)
    assert sorted(found) == ["evidence bucket data-platform", "signing key alias/nobody"]
    assert found["evidence bucket data-platform"].expected == "object lock"


def test_one_look_names_all_that_is_wrong(portability, silo):
    spoilt = [spoil(portability, silo) for spoil in (_tags, _recovery, _alarm, _stage)]
    try:
        assert bad(portability, silo).keys() == {name for name, _ in spoilt}
    finally:
        for _, mend in spoilt:
            mend()


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
