"""What the application's stacks hold beside their tables, as its own deployment makes it.

CloudFormation in the stand-in makes tables, but says CREATE_COMPLETE of user pools, usage plans, metric filters and alarms without making
them; so all is made by API, and the stack itself holds only its output.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from include.local.saas.tables import make_data_tables
from include.tenants.saas import STACKS, TENANT_CLAIM, USAGE_PLANS, Tier
from include.tenants.transactions import typed

if TYPE_CHECKING:
    from include.tenants.clients import Clients

STACK_ROLE: Final = "arn:aws:iam::123456789012:role/serverless-saas-stacks"
"""The service role that stacks are made with, and deleted with."""
STAGE: Final = "prod"
POOLED_USERS: Final = "PooledTenant-ServerlessSaaSUserPool"
NAMESPACE: Final = "ServerlessSaaS"
_RETENTION_DAYS: Final = 30
_FILTERS: Final = (
    ("4xx", "{ $.status = 4* }", "1"),
    ("5xx", "{ $.status = 5* }", "1"),
    ("latency", "{ $.responseLatency >= 0 }", "$.responseLatency"),
)
_ALARMS: Final = (
    ("5xx", {"Statistic": "Sum", "Threshold": 5.0, "EvaluationPeriods": 1}),
    ("latency", {"ExtendedStatistic": "p99", "Threshold": 1000.0, "EvaluationPeriods": 3}),
)


def log_groups(stack: str) -> list[str]:
    """The stack's log groups; the first is that of its API's accesses."""
    return [f"/aws/api-gateway/{stack}-access", f"/aws/lambda/{stack}-products", f"/aws/lambda/{stack}-orders"]


def make_stack(clients: Clients, owner: str, api_url: str) -> str:
    """A tenant's stack, or that of all pooled tenants; gives the id of its API.

    Args:
        clients: of AWS.
        owner: tenant's id, or ``pooled``.
        api_url: where its API answers.
    """
    stack = f"stack-{owner}"
    make_data_tables(clients.dynamodb, owner)
    clients.dynamodb.put_item(
        TableName=STACKS,
        Item=typed({"tenantId": owner, "stackName": stack, "waveNumber": "1", "codeCommitId": ""}),
    )
    api_id = make_api(clients, stack)
    watch(clients, stack)
    template = {
        "Resources": {},
        "Outputs": {"ApiGatewayUrl": {"Value": api_url}, "ApiGatewayId": {"Value": api_id}},
    }
    if not _stack_there(clients, stack):
        clients.cloudformation.create_stack(
            StackName=stack,
            TemplateBody=json.dumps(template),
            RoleARN=STACK_ROLE,
            Tags=[{"Key": "application", "Value": "serverless-saas"}, {"Key": "TenantId", "Value": owner}],
        )
    return api_id


def make_api(clients: Clients, stack: str) -> str:
    """The REST API of a stack, deployed; gives its id."""
    gateway = clients.apigateway
    for page in gateway.get_paginator("get_rest_apis").paginate():
        for api in page["items"]:
            if api["name"] == f"{stack}-api":
                return str(api["id"])
    api_id = str(
        gateway.create_rest_api(
            name=f"{stack}-api", apiKeySource="AUTHORIZER", tags={"application": "serverless-saas"}
        )["id"]
    )
    (root,) = gateway.get_resources(restApiId=api_id)["items"]
    for path in ("products", "orders"):
        resource = gateway.create_resource(restApiId=api_id, parentId=root["id"], pathPart=path)["id"]
        where = {"restApiId": api_id, "resourceId": resource, "httpMethod": "ANY"}
        gateway.put_method(**where, authorizationType="NONE", apiKeyRequired=True)
        gateway.put_integration(**where, type="MOCK")
    gateway.create_deployment(restApiId=api_id, stageName=STAGE)
    return api_id


def watch(clients: Clients, stack: str) -> None:
    """The log groups, metric filters and alarms of a stack."""
    access, *_ = log_groups(stack)
    for name in log_groups(stack):
        try:
            clients.logs.create_log_group(logGroupName=name, tags={"application": "serverless-saas"})
        except clients.logs.exceptions.ResourceAlreadyExistsException:
            continue
        clients.logs.put_retention_policy(logGroupName=name, retentionInDays=_RETENTION_DAYS)
    found = clients.logs.get_paginator("describe_metric_filters").paginate(logGroupName=access)
    there = {each["filterName"] for page in found for each in page["metricFilters"]}
    for name, pattern, value in _FILTERS:
        if f"{stack}-{name}" in there:
            continue
        clients.logs.put_metric_filter(
            logGroupName=access,
            filterName=f"{stack}-{name}",
            filterPattern=pattern,
            metricTransformations=[
                {"metricName": f"{stack}-{name}", "metricNamespace": NAMESPACE, "metricValue": value}
            ],
        )
    for name, how in _ALARMS:
        clients.cloudwatch.put_metric_alarm(
            AlarmName=f"{stack}-{name}",
            AlarmDescription=f"{name} of the API of {stack}",
            Namespace=NAMESPACE,
            MetricName=f"{stack}-{name}",
            Period=60,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
            **how,
        )


def make_user_pool(clients: Clients, name: str) -> tuple[str, str]:
    """A user pool with its app client; gives the ids of both. Clients can't write the tenant's claim."""
    cognito = clients.cognito
    for page in cognito.get_paginator("list_user_pools").paginate(MaxResults=60):
        for pool in page["UserPools"]:
            if pool["Name"] == name:
                (client, *_) = cognito.list_user_pool_clients(UserPoolId=pool["Id"], MaxResults=1)["UserPoolClients"]
                return str(pool["Id"]), str(client["ClientId"])
    pool_id = cognito.create_user_pool(
        PoolName=name,
        AutoVerifiedAttributes=["email"],
        AdminCreateUserConfig={"AllowAdminCreateUserOnly": True},
        Schema=[
            {"Name": "email", "AttributeDataType": "String", "Required": True, "Mutable": True},
            *(
                {
                    "Name": name.removeprefix("custom:"),
                    "AttributeDataType": "String",
                    "Mutable": True,
                    "StringAttributeConstraints": {"MinLength": "1", "MaxLength": "256"},
                }
                for name in (TENANT_CLAIM, "custom:userRole")
            ),
        ],
        UserPoolTags={"application": "serverless-saas"},
    )["UserPool"]["Id"]
    client_id = cognito.create_user_pool_client(
        UserPoolId=pool_id,
        ClientName="ServerlessSaaSClient",
        GenerateSecret=False,
        ExplicitAuthFlows=[
            "ALLOW_USER_PASSWORD_AUTH",
            "ALLOW_ADMIN_USER_PASSWORD_AUTH",
            "ALLOW_USER_SRP_AUTH",
            "ALLOW_REFRESH_TOKEN_AUTH",
        ],
        ReadAttributes=["email", TENANT_CLAIM, "custom:userRole"],
        WriteAttributes=["email"],
        PreventUserExistenceErrors="ENABLED",
    )["UserPoolClient"]["ClientId"]
    return str(pool_id), str(client_id)


def make_usage_plans(clients: Clients, pooled_api: str) -> dict[Tier, str]:
    """The usage plans and API keys of all tiers, at the pooled API where it is theirs; gives each tier's key."""
    gateway = clients.apigateway
    plans = {plan["name"] for page in gateway.get_paginator("get_usage_plans").paginate() for plan in page["items"]}
    keys = {}
    for tier, limits in USAGE_PLANS.items():
        name = f"Serverless-SaaS-{tier}Tier-ApiKey"
        there = gateway.get_api_keys(nameQuery=name, includeValues=True)["items"]
        key = there[0] if there else gateway.create_api_key(name=name, enabled=True)
        keys[tier] = str(key["value"])
        if f"Plan_{tier}_Tier" in plans:
            continue
        plan = gateway.create_usage_plan(
            name=f"Plan_{tier}_Tier",
            description=f"Usage plan for {tier.lower()} tier tenants",
            apiStages=[] if tier.silo else [{"apiId": pooled_api, "stage": STAGE}],
            throttle={"rateLimit": float(limits.rate), "burstLimit": limits.burst},
            quota={"limit": limits.quota, "period": "DAY"},
        )
        gateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    return keys


def add_to_plan(clients: Clients, tier: Tier, api_id: str) -> None:
    """Let a stack's own API be used under the tier's plan."""
    gateway = clients.apigateway
    for page in gateway.get_paginator("get_usage_plans").paginate():
        for plan in page["items"]:
            stages = {stage["apiId"] for stage in plan.get("apiStages", [])}
            if plan["name"] == f"Plan_{tier}_Tier" and api_id not in stages:
                gateway.update_usage_plan(
                    usagePlanId=plan["id"],
                    patchOperations=[{"op": "add", "path": "/apiStages", "value": f"{api_id}:{STAGE}"}],
                )


def _stack_there(clients: Clients, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        clients.cloudformation.describe_stacks(StackName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return False
    return True
