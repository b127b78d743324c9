from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.tenants.configuration import (
    attach,
    configure,
    detach,
    find_plan,
    key_name,
    plan_name,
    source_api_key,
    stage_of,
    stages_of,
    target_route,
    usage_plan,
)
from include.tenants.exceptions import ProvisioningFailed
from include.tenants.saas import TENANTS, Route, Tier
from tests.include.tenants.histories import planned, seeded


@pytest.fixture
def p(portability):
    seeded(portability.clients, ("conf-a", "Basic"), ("conf-s", "Platinum"))
    return portability


@pytest.fixture
def nothing_there(p):
    """API Gateway without plans and keys."""
    client = p.clients.apigateway
    for plan in client.get_usage_plans(limit=500)["items"]:
        for key in client.get_usage_plan_keys(usagePlanId=plan["id"])["items"]:
            client.delete_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"])
        client.delete_usage_plan(usagePlanId=plan["id"])
    for key in client.get_api_keys(limit=500)["items"]:
        client.delete_api_key(apiKey=key["id"])
    return p


@pytest.mark.parametrize("tier", list(Tier))
def test_the_tiers_plan_and_key_are_found(p, tier):
    found = usage_plan(p, "conf-a", tier)
    plan = p.clients.apigateway.get_usage_plan(usagePlanId=found.plan_id)
    assert plan["name"] == plan_name(tier)
    key = p.clients.apigateway.get_api_key(apiKey=found.api_key_id, includeValue=True)
    assert (key["name"], key["value"]) == (key_name(tier), found.api_key)
    if tier is Tier.BASIC:
        assert found.api_key == p.tenant("conf-a").route.api_key


@pytest.mark.parametrize(
    ("tier", "rate", "burst", "quota"),
    [("Basic", 50, 50, 1000), ("Standard", 75, 100, 3000), ("Premium", 100, 200, 5000), ("Platinum", 300, 300, 10000)],
)
def test_what_is_missing_is_made_with_the_tiers_limits(nothing_there, tier, rate, burst, quota):
    p = nothing_there
    found = usage_plan(p, "conf-a", Tier(tier))
    plan = p.clients.apigateway.get_usage_plan(usagePlanId=found.plan_id)
    assert (plan["throttle"], plan["quota"]["limit"], plan["quota"]["period"]) == (
        {"rateLimit": rate, "burstLimit": burst},
        quota,
        "DAY",
    )
    assert [key["id"] for key in p.clients.apigateway.get_usage_plan_keys(usagePlanId=found.plan_id)["items"]] == [
        found.api_key_id
    ]
    assert usage_plan(p, "conf-a", Tier(tier)) == found


def test_many_at_once_make_one_plan_and_one_key(nothing_there):
    p = nothing_there
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: usage_plan(p, f"conf-{number}", Tier.PREMIUM), range(4)))
    assert len(set(found)) == 1
    assert len(p.clients.apigateway.get_usage_plans(limit=500)["items"]) == 1
    assert len(p.clients.apigateway.get_api_keys(limit=500)["items"]) == 1


def test_a_killed_try_is_gone_on_with(nothing_there, monkeypatch):
    p = nothing_there

    class Killed(BaseException):
        pass

    def killed(**kwargs):
        raise Killed

    for step in ("create_api_key", "create_usage_plan_key"):
        with monkeypatch.context() as patch:
            patch.setattr(p.clients.apigateway, step, killed)
            with pytest.raises(Killed):
                usage_plan(p, "conf-a", Tier.BASIC)
    usage_plan(p, "conf-a", Tier.BASIC)
    assert len(p.clients.apigateway.get_usage_plans(limit=500)["items"]) == 1
    assert len(p.clients.apigateway.get_api_keys(limit=500)["items"]) == 1


def test_a_plan_is_found_on_any_page(nothing_there):
    p = nothing_there
    for number in range(30):
        p.clients.apigateway.create_usage_plan(name=f"other-{number}")
        p.clients.apigateway.create_api_key(name=f"{key_name(Tier.BASIC)}-{number}")
    first = usage_plan(p, "conf-a", Tier.BASIC)
    assert usage_plan(p, "conf-a", Tier.BASIC) == first
    assert p.clients.apigateway.get_api_key(apiKey=first.api_key_id)["name"] == key_name(Tier.BASIC)


def test_a_disabled_key_is_refused(nothing_there):
    p = nothing_there
    found = usage_plan(p, "conf-a", Tier.BASIC)
    p.clients.apigateway.update_api_key(
        apiKey=found.api_key_id, patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}]
    )
    try:
        with pytest.raises(ProvisioningFailed, match="expected it to be enabled"):
            usage_plan(p, "conf-a", Tier.BASIC)
    finally:
        p.clients.apigateway.delete_api_key(apiKey=found.api_key_id)  # the stand-in outlives the test


def test_a_stage_is_in_a_plan_once_and_can_be_taken_out(p):
    plan = find_plan(p, Tier.PREMIUM)
    stage = stage_of(p, "stack-conf-s")
    assert stage[1] == "prod"
    for expected in (True, False):
        assert attach(p, plan["id"], stage) is expected
    assert (
        p.clients.apigateway.get_usage_plan(usagePlanId=plan["id"])["apiStages"].count(
            {"apiId": stage[0], "stage": "prod"}
        )
        == 1
    )
    for expected in (True, False):
        assert detach(p, plan["id"], stage) is expected
    assert stage not in stages_of(find_plan(p, Tier.PREMIUM))


def test_the_api_of_a_stack_is_told_by_its_resources(p):
    """As SAM makes it; its stack has no output of ours."""
    p.clients.cloudformation.create_stack(
        StackName="stack-conf-sam",
        TemplateBody=json.dumps(
            {
                "Resources": {
                    "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "sam"}},
                    "Method": {
                        "Type": "AWS::ApiGateway::Method",
                        "Properties": {
                            "RestApiId": {"Ref": "Api"},
                            "ResourceId": {"Fn::GetAtt": ["Api", "RootResourceId"]},
                            "HttpMethod": "GET",
                            "AuthorizationType": "NONE",
                            "Integration": {
                                "Type": "HTTP",
                                "IntegrationHttpMethod": "GET",
                                "Uri": "https://silo.example.com",
                            },
                        },
                    },
                    "Deployment": {
                        "Type": "AWS::ApiGateway::Deployment",
                        "DependsOn": "Method",
                        "Properties": {"RestApiId": {"Ref": "Api"}, "StageName": "live"},
                    },
                }
            }
        ),
    )
    try:
        api_id, stage = stage_of(p, "stack-conf-sam")
        assert p.clients.apigateway.get_rest_api(restApiId=api_id)["name"] == "sam"
        assert stage == "live"
    finally:
        p.clients.cloudformation.delete_stack(StackName="stack-conf-sam")


def test_the_api_of_a_stack_is_told_by_its_url(p):
    api_id = stage_of(p, "stack-pooled")[0]
    url = f"https://{api_id}.execute-api.us-east-1.amazonaws.com/prod"
    p.clients.cloudformation.create_stack(
        StackName="stack-conf-url",
        TemplateBody=json.dumps({"Resources": {}, "Outputs": {"ApiGatewayUrl": {"Value": url}}}),
    )
    try:
        assert stage_of(p, "stack-conf-url") == (api_id, "prod")
    finally:
        p.clients.cloudformation.delete_stack(StackName="stack-conf-url")


def test_a_stack_without_an_api_is_named(p):
    with pytest.raises(ProvisioningFailed, match="stack-nobody"):
        stage_of(p, "stack-nobody")
    p.clients.cloudformation.create_stack(StackName="stack-conf-no", TemplateBody=json.dumps({"Resources": {}}))
    try:
        with pytest.raises(ProvisioningFailed, match="expected a REST API among its resources"):
            stage_of(p, "stack-conf-no")
    finally:
        p.clients.cloudformation.delete_stack(StackName="stack-conf-no")


def test_the_key_is_nowhere_in_what_is_noted_or_shown(p):
    migration = planned(p, "conf-a", "Basic", "Premium")
    noted = configure(p, migration)
    found = usage_plan(p, "conf-a", Tier.PREMIUM)
    for key in (found.api_key, p.tenant("conf-a").route.api_key):
        assert key not in json.dumps(noted)
        assert key not in repr(found)
    assert noted["api_key_id"] == found.api_key_id
    assert noted["limits"] == {"rate": 100, "burst": 200, "quota": 5000}
    assert noted["api_key_sha256"] != noted["source"]["api_key_sha256"]
    assert (noted["api_id"], noted["stage"]) in stages_of(find_plan(p, Tier.PREMIUM))


def test_between_pooled_tiers_only_tier_and_key_change(p):
    migration = planned(p, "conf-a", "Basic", "Premium")
    p.store.note("m-1", {"configuration": configure(p, migration)})
    route = target_route(p, p.store.load("m-1"))
    assert route == Route(
        Tier.PREMIUM,
        "us-east-1_source",
        "client",
        "https://source.example.com",
        usage_plan(p, "conf-a", Tier.PREMIUM).api_key,
    )


def test_a_silos_route_is_what_the_steps_made(p):
    migration = planned(p, "conf-s", "Basic", "Platinum")
    notes = {
        "configuration": configure(p, migration),
        "resources": {"api_url": "https://silo.example.com"},
        "identity": {"user_pool_id": "us-east-1_silo", "app_client_id": "silo-client"},
    }
    for missing in notes:
        p.store.note("m-1", {missing: notes[missing]})
        if missing != "identity":
            with pytest.raises(ProvisioningFailed, match="found none of"):
                target_route(p, p.store.load("m-1"))
    key = usage_plan(p, "conf-s", Tier.PLATINUM).api_key
    assert target_route(p, p.store.load("m-1")) == Route(
        Tier.PLATINUM, "us-east-1_silo", "silo-client", "https://silo.example.com", key
    )
    assert stage_of(p, "stack-conf-s") in stages_of(find_plan(p, Tier.PLATINUM))


def test_the_way_back_gives_a_tenant_its_own_key(p):
    own = p.clients.apigateway.create_api_key(name="of conf-a alone", enabled=True, value="conf-a-has-a-key-of-its-own")
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": "conf-a"}},
        UpdateExpression="SET apiKey = :key",
        ExpressionAttributeValues={":key": {"S": own["value"]}},
    )
    migration = planned(p, "conf-a", "Basic", "Premium")
    p.store.note("m-1", {"configuration": configure(p, migration)})
    after = usage_plan(p, "conf-a", Tier.PREMIUM).api_key
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": "conf-a"}},
        UpdateExpression="SET apiKey = :key",
        ExpressionAttributeValues={":key": {"S": after}},
    )
    # done once more after the switch, it is still what was there before
    p.store.note("m-1", {"configuration": configure(p, p.store.load("m-1"))})
    assert source_api_key(p, p.store.load("m-1")) == own["value"]


def test_without_a_key_of_its_own_the_way_back_gives_the_tiers(p):
    migration = planned(p, "conf-a", "Basic", "Premium")
    assert source_api_key(p, migration) == usage_plan(p, "conf-a", Tier.BASIC).api_key
