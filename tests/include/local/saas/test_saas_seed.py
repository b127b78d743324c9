"""Seeds: what a tenant begins with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.account import EVIDENCE_BUCKET, SIGNING_KEY
from include.local.saas.api import Application, key_of
from include.local.saas.clients import clients_at
from include.local.saas.items import seeded_items, told_owner
from include.local.saas.logins import LOGINS, login_of, user_names
from include.local.saas.placing import place_by_batches
from include.local.saas.seed import SEEDS, SeedTenant, seed
from include.local.saas.stacks import log_groups
from include.tenants.items import size
from include.tenants.keys import owner_of, shard_ids
from include.tenants.saas import (
    DATA_TABLES,
    ORDERS,
    PRODUCTS,
    SETTINGS,
    STACKS,
    TENANT_CLAIM,
    TENANT_USERS,
    TENANTS,
    USAGE_PLANS,
    Tenant,
    Tier,
)
from include.tenants.transactions import plain

MOST = 120
"""Items that have every awkward trait at least once."""


def row(clients, table, **key):
    return plain(
        clients.dynamodb.get_item(TableName=table, Key={name: {"S": value} for name, value in key.items()})["Item"]
    )


def all_of(clients, tenant_id, tier):
    items = {}
    for table in DATA_TABLES:
        for shard_id in shard_ids(tenant_id):
            for page in clients.dynamodb.get_paginator("query").paginate(
                TableName=table.name(tenant_id, tier),
                KeyConditionExpression="shardId = :shard",
                ExpressionAttributeValues={":shard": {"S": shard_id}},
            ):
                items |= {
                    (table.prefix, item["shardId"]["S"], item[table.sort_key]["S"]): item for item in page["Items"]
                }
    return items


def test_five_tenants_are_in_all_tiers_and_their_ids_begin_each_other():
    assert {tenant.tier for tenant in SEEDS} == set(Tier)
    ids = [tenant.tenant_id for tenant in SEEDS]
    assert len(ids) == 5
    assert ids[1].startswith(f"{ids[0]}-")
    assert ids[2].startswith(f"{ids[1]}-")
    assert owner_of(ids[2]) == ids[1]  # a tenant's id that is another one's partition
    partitions = [shard_id for tenant_id in ids for shard_id in shard_ids(tenant_id)]
    assert len(partitions) == len(set(partitions))


def test_the_same_seed_gives_the_same_items_and_another_gives_others():
    first = [item for _, item in seeded_items("acme", 30)]
    assert first == [item for _, item in seeded_items("acme", 30)]
    assert first != [item for _, item in seeded_items("acme", 30, seed=1)]
    assert all(told_owner(plain(item)) == "acme" for item in first)


def test_two_of_three_items_are_products_and_all_are_the_tenants():
    items = list(seeded_items("acme-2", 90))
    assert [table for table, _ in items].count(PRODUCTS) == 60
    assert {owner_of(item["shardId"]["S"]) for _, item in items} == {"acme-2"}


def test_awkward_items_have_every_type_that_the_model_allows_and_no_other():
    used = {table.prefix: {} for table in DATA_TABLES}
    for table, item in seeded_items("curio", MOST, awkward=True):
        for name in set(item) - {"shardId", table.sort_key}:
            (kind,) = item[name]
            used[table.prefix].setdefault(name, set()).add(kind)
    for table in DATA_TABLES:
        assert used[table.prefix] == {name: set(kinds) for name, kinds in table.attributes.items()}


def test_awkward_items_have_large_sparse_and_strange_ones():
    items = [item for _, item in seeded_items("curio", MOST, awkward=True)]
    assert sum(size(item) > 300_000 for item in items) == 3
    assert max(size(item) for item in items) > 400_000
    keys = [item[table.sort_key]["S"] for table, item in seeded_items("curio", MOST, awkward=True)]
    assert max(len(key.encode()) for key in keys) <= 1024
    assert any(":" in key for key in keys)
    assert any(not key.isascii() for key in keys)
    assert not any(0xD800 <= ord(letter) <= 0xDFFF for key in keys for letter in key)
    orders = [item for table, item in seeded_items("curio", MOST, awkward=True) if table is ORDERS]
    assert any("orderProducts" not in item for item in orders)


def test_a_seeded_tenant_is_registered_with_its_route_users_and_group(clients, new_tenant):
    tenant_id = new_tenant(Tier.STANDARD, users=True)
    settings = {
        name: row(clients, SETTINGS, settingName=name)["settingValue"]
        for name in ("userPoolId-pooled", "appClientId-pooled", "apiGatewayUrl-Pooled")
    }
    tenant = Tenant.from_item(row(clients, TENANTS, tenantId=tenant_id))
    assert tenant.route.tier is Tier.STANDARD
    assert [tenant.route.user_pool_id, tenant.route.app_client_id, tenant.route.api_url] == list(settings.values())
    for name in user_names(tenant_id):
        assert row(clients, TENANT_USERS, tenantId=tenant_id, userName=name)
        user = clients.cognito.admin_get_user(UserPoolId=tenant.route.user_pool_id, Username=name)
        claims = {each["Name"]: each["Value"] for each in user["UserAttributes"]}
        assert claims[TENANT_CLAIM] == tenant_id
        assert user["UserStatus"] == "CONFIRMED"
    members = clients.cognito.list_users_in_group(UserPoolId=tenant.route.user_pool_id, GroupName=tenant_id)["Users"]
    assert sorted(user["Username"] for user in members) == sorted(user_names(tenant_id))


def test_a_user_signs_in_with_the_password_that_seeding_told(clients):
    made = seed(clients, items_per_tenant=0, api_url="http://x", tenants=[SeedTenant("signs-in", Tier.BASIC)])
    client_id = row(clients, SETTINGS, settingName="appClientId-pooled")["settingValue"]
    for name, password in made.passwords.items():
        answer = clients.cognito.initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": password},
        )
        assert answer["AuthenticationResult"]["IdToken"]
    assert len(made.passwords) == 3
    again = seed(clients, items_per_tenant=0, api_url="http://x", tenants=[SeedTenant("signs-in", Tier.BASIC)])
    assert again.passwords == {}


def test_clients_of_the_user_pools_may_not_write_the_tenants_claim(clients, new_tenant):
    silo = Tenant.from_item(row(clients, TENANTS, tenantId=new_tenant(Tier.PLATINUM))).route
    pooled = Tenant.from_item(row(clients, TENANTS, tenantId=new_tenant())).route
    assert silo.user_pool_id != pooled.user_pool_id
    for route in (silo, pooled):
        client = clients.cognito.describe_user_pool_client(UserPoolId=route.user_pool_id, ClientId=route.app_client_id)
        assert TENANT_CLAIM in client["UserPoolClient"]["ReadAttributes"]
        assert TENANT_CLAIM not in client["UserPoolClient"]["WriteAttributes"]


@pytest.mark.parametrize("tier", [Tier.BASIC, Tier.PLATINUM])
def test_a_tenants_stack_has_tables_an_api_logs_filters_and_alarms(clients, new_tenant, tier):
    tenant_id = new_tenant(tier)
    owner = tenant_id if tier.silo else "pooled"
    stack = f"stack-{owner}"
    assert row(clients, STACKS, tenantId=owner)["stackName"] == stack
    outputs = {
        each["OutputKey"]: each["OutputValue"]
        for each in clients.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    }
    assert outputs["ApiGatewayUrl"].endswith(f"/{owner}")
    stages = clients.apigateway.get_stages(restApiId=outputs["ApiGatewayId"])["item"]
    assert [stage["stageName"] for stage in stages] == ["prod"]
    plans = {plan["name"]: plan for plan in clients.apigateway.get_usage_plans(limit=500)["items"]}
    assert outputs["ApiGatewayId"] in {stage["apiId"] for stage in plans[f"Plan_{tier}_Tier"]["apiStages"]}
    groups = clients.logs.describe_log_groups()["logGroups"]
    assert set(log_groups(stack)) <= {group["logGroupName"] for group in groups}
    filters = clients.logs.describe_metric_filters(filterNamePrefix=f"{stack}-", logGroupName=log_groups(stack)[0])
    assert len(filters["metricFilters"]) == 3
    alarms = clients.cloudwatch.describe_alarms(AlarmNamePrefix=f"{stack}-")["MetricAlarms"]
    assert {alarm["AlarmName"] for alarm in alarms} == {f"{stack}-5xx", f"{stack}-latency"}


def test_each_tier_has_its_plan_and_its_key(clients):
    plans = {plan["name"]: plan for plan in clients.apigateway.get_usage_plans(limit=500)["items"]}
    for tier, limits in USAGE_PLANS.items():
        plan = plans[f"Plan_{tier}_Tier"]
        assert (plan["throttle"]["rateLimit"], plan["throttle"]["burstLimit"]) == (limits.rate, limits.burst)
        assert (plan["quota"]["limit"], plan["quota"]["period"]) == (limits.quota, "DAY")
        (key,) = clients.apigateway.get_usage_plan_keys(usagePlanId=plan["id"])["items"]
        assert key["name"] == f"Serverless-SaaS-{tier}Tier-ApiKey"


def test_evidence_has_a_locked_bucket_and_a_signing_key(clients):
    locked = clients.s3.get_object_lock_configuration(Bucket=EVIDENCE_BUCKET)["ObjectLockConfiguration"]
    assert locked["ObjectLockEnabled"] == "Enabled"
    key = clients.kms.describe_key(KeyId=SIGNING_KEY)["KeyMetadata"]
    assert (key["KeyState"], key["KeyUsage"], key["KeySpec"]) == ("Enabled", "SIGN_VERIFY", "ECC_NIST_P256")


def test_seeding_again_changes_nothing(clients, new_tenant):
    tenant_id = new_tenant(Tier.PLATINUM, items=9, users=True)
    plans = clients.apigateway.get_usage_plans(limit=500)["items"]
    before = row(clients, TENANTS, tenantId=tenant_id), all_of(clients, tenant_id, Tier.PLATINUM)
    seed(clients, items_per_tenant=9, api_url="http://127.0.0.1:4570", tenants=[SeedTenant(tenant_id, Tier.PLATINUM)])
    assert (row(clients, TENANTS, tenantId=tenant_id), all_of(clients, tenant_id, Tier.PLATINUM)) == before
    assert clients.apigateway.get_usage_plans(limit=500)["items"] == plans


def test_the_application_shows_every_awkward_item(clients, new_tenant):
    tenant_id = new_tenant(Tier.PLATINUM, items=MOST, awkward=True)
    application = Application(clients)
    for table in DATA_TABLES:
        page = application.list(tenant_id, table.prefix, limit=MOST)
        for item in page.items:
            assert application.get(tenant_id, table.prefix, key_of(table, item)).item == item
        assert len(page.items) == (80 if table is PRODUCTS else 40)


_PLACE = """
import json, sys, threading
from include.local.aws.server import make_aws_server
from include.local.saas.clients import clients_at
from include.local.saas.logins import LOGINS, login_of, user_names
from include.local.saas.placing import place_by_batches, place_directly
from include.local.saas.seed import SeedTenant, seed
from include.tenants.saas import DATA_TABLES, Tier
server = make_aws_server()
threading.Thread(target=server.serve_forever, daemon=True).start()
clients = clients_at(f"http://127.0.0.1:{server.server_port}")
seen = []
for place in (place_directly, place_by_batches):
    seed(clients, items_per_tenant=int(sys.argv[1]), api_url="http://x", place=place, users=False,
         tenants=[SeedTenant("curio", Tier.PLATINUM, awkward=True)])
    items = []
    for table in DATA_TABLES:
        name = table.name("curio", Tier.PLATINUM)
        for page in clients.dynamodb.get_paginator("scan").paginate(TableName=name):
            items += page["Items"]
        clients.dynamodb.delete_table(TableName=name)
    seen.append(sorted(map(repr, items)))
server.shutdown()
print(len(seen[0]), seen[0] == seen[1])
"""


def test_items_placed_directly_are_those_placed_by_batches(project_root):
    done = subprocess.run(
        [sys.executable, "-c", _PLACE, str(MOST)], capture_output=True, text=True, cwd=project_root, check=True
    )
    assert done.stdout.split() == [str(MOST), "True"]


def test_what_a_batch_leaves_unprocessed_is_written(clients, new_tenant):
    tenant_id = new_tenant()

    class Reluctant:
        """Processes one write of each request, as a throttled table may."""

        def batch_write_item(self, RequestItems):
            (name, *others) = RequestItems
            done, *left = RequestItems[name]
            answer = clients.dynamodb.batch_write_item(RequestItems={name: [done]})
            unprocessed = {each: RequestItems[each] for each in others} | ({name: left} if left else {})
            return answer | {"UnprocessedItems": unprocessed}

    pairs = [(table.name(tenant_id, Tier.BASIC), item) for table, item in seeded_items(tenant_id, 30)]
    assert place_by_batches(Reluctant(), pairs) == 30
    assert len(all_of(clients, tenant_id, Tier.BASIC)) == 30


def test_a_stand_in_that_is_ready_has_the_tenants_in_it_and_their_passwords_beside_it(tmp_path):
    with trial_aws(saas_items=30, home=tmp_path) as url:
        clients = clients_at(url)
        for tenant in SEEDS:
            assert len(all_of(clients, tenant.tenant_id, tenant.tier)) == 30
            login = login_of(tmp_path / LOGINS, tenant.tenant_id)
            route = Tenant.from_item(row(clients, TENANTS, tenantId=tenant.tenant_id)).route
            assert clients.cognito.initiate_auth(
                ClientId=route.app_client_id,
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": login.user, "PASSWORD": login.password},
            )["AuthenticationResult"]
        assert clients.s3.get_object_lock_configuration(Bucket=EVIDENCE_BUCKET)["ObjectLockConfiguration"]
        again = seed(clients, items_per_tenant=30, api_url="http://127.0.0.1:4570")
        assert again.passwords == {}
        assert len(all_of(clients, "curio", Tier.BASIC)) == 30
