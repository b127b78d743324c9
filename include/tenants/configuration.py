"""The usage plan and API key of a tier, and the route that a tenant gets.

Plans and keys are of tiers, not of tenants, as in the reference solution; a silo's own API is a stage of the tier's plan. A key is a
secret: its value is in the tenant's row and nowhere else. What is noted is its id and the beginning of its hash, by which two can be told
apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from include.tenants.exceptions import ProvisioningFailed, TurnTaken
from include.tenants.plan import moves_data, source_tier, target_tier
from include.tenants.saas import URL_OUTPUT, USAGE_PLANS, Route, Tier, stack_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

    type Stage = tuple[str, str]
    """Id of an API and the name of its stage."""

_LOCK: Final = "usage-plans"
"""Names of plans and keys are not unique in API Gateway; so whoever makes one does it alone, by a turn of this name."""
_LOCK_SECONDS: Final = 60.0
_DAY: Final = "DAY"
_KEY: Final = "API_KEY"
_GATEWAY: Final = ".execute-api."


@dataclass(frozen=True)
class PlanKey:
    """A tier's usage plan and key.

    Attributes:
        plan_id: of the usage plan.
        api_key_id: of the key.
        api_key: its value, which is a secret.
    """

    plan_id: str
    api_key_id: str
    api_key: str = field(repr=False)


def plan_name(tier: Tier) -> str:
    """The name of a tier's usage plan."""
    return f"Plan_{tier.value}_Tier"


def key_name(tier: Tier) -> str:
    """The name of a tier's API key."""
    return f"Serverless-SaaS-{tier.value}Tier-ApiKey"


def usage_plan(p: Portability, tenant_id: str, tier: Tier) -> PlanKey:
    """The usage plan and key that a tenant of a tier has; they are made if they are not there.

    A plan that is there stays as it is: it is every tenant's of the tier. `include.tenants.compliance` tells if its limits are others.

    Raises:
        ProvisioningFailed: the key is disabled, or somebody else makes plans all the time.
    """
    plan, key = find_plan(p, tier), _find_key(p, tier)
    if plan is None or key is None or not _in_plan(p, plan["id"], key["id"]):
        plan, key = _make(p, tenant_id, tier)
    if not key.get("enabled", True):
        raise ProvisioningFailed(
            f"API key {key_name(tier)}: expected it to be enabled, found it disabled; enable it, or every tenant of {tier} is shut out"
        )
    return PlanKey(plan["id"], key["id"], _value(p, key["id"]))


def attach(p: Portability, plan_id: str, stage: Stage) -> bool:
    """Let an API's stage be called under a plan.

    Returns:
        Whether it could not before.
    """
    client = p.clients.apigateway
    api_id, name = stage
    if stage in stages_of(client.get_usage_plan(usagePlanId=plan_id)):
        return False
    try:
        client.update_usage_plan(
            usagePlanId=plan_id, patchOperations=[{"op": "add", "path": "/apiStages", "value": f"{api_id}:{name}"}]
        )
    except client.exceptions.ConflictException:
        return False  # somebody was faster
    return True


def detach(p: Portability, plan_id: str, stage: Stage) -> bool:
    """Undo `attach`: API Gateway deletes no stage that a plan has.

    Returns:
        Whether there was something to undo.
    """
    client = p.clients.apigateway
    api_id, name = stage
    if stage not in stages_of(client.get_usage_plan(usagePlanId=plan_id)):
        return False
    client.update_usage_plan(
        usagePlanId=plan_id, patchOperations=[{"op": "remove", "path": "/apiStages", "value": f"{api_id}:{name}"}]
    )
    return True


def configure(p: Portability, migration: Migration) -> dict[str, Any]:
    """Make sure of the target tier's plan and key, and that the target's API may be called under them.

    Returns:
        What was found, for the migration's notes; without a secret.

    Raises:
        ProvisioningFailed: the target's API can't be told.
    """
    tier = target_tier(migration)
    found = usage_plan(p, migration.tenant_id, tier)
    stage = stage_of(p, stack_name(migration.tenant_id, tier))
    attach(p, found.plan_id, stage)
    limits = USAGE_PLANS[tier]
    before = p.tenant(migration.tenant_id).route.api_key
    source = migration.notes.get("configuration", {}).get("source") or {
        "tier": source_tier(migration).value,
        "api_key_id": _id_of(p, before),
        "api_key_sha256": _told(before),
    }
    return {
        "tier": tier.value,
        "plan": plan_name(tier),
        "plan_id": found.plan_id,
        "limits": {"rate": limits.rate, "burst": limits.burst, "quota": limits.quota},
        "api_key_id": found.api_key_id,
        "api_key_sha256": _told(found.api_key),
        "api_id": stage[0],
        "stage": stage[1],
        "source": source,
    }


def target_route(p: Portability, migration: Migration) -> Route:
    """The route of the target, as the steps have made it; the key is read again by its id.

    Raises:
        ProvisioningFailed: a step's notes are missing.
    """
    wanted = {"configuration", *(("resources", "identity") if moves_data(migration) else ())}
    missing = sorted(wanted - migration.notes.keys())
    if missing:
        raise ProvisioningFailed(
            f"migration {migration.migration_id}: expected notes of {', '.join(sorted(wanted))}, found none of {', '.join(missing)}"
        )
    tier = target_tier(migration)
    key = _value(p, migration.notes["configuration"]["api_key_id"])
    if not moves_data(migration):
        source = migration.notes["source"]
        return Route(tier, source["user_pool_id"], source["app_client_id"], source["api_url"], key)
    identity = migration.notes["identity"]
    return Route(
        tier, identity["user_pool_id"], identity["app_client_id"], migration.notes["resources"]["api_url"], key
    )


def source_api_key(p: Portability, migration: Migration) -> str:
    """The key that the tenant had before, for the way back: its own if it had one, else the tier's."""
    key_id = migration.notes.get("configuration", {}).get("source", {}).get("api_key_id")
    return _value(p, key_id) if key_id else usage_plan(p, migration.tenant_id, source_tier(migration)).api_key


def stage_of(p: Portability, stack: str) -> Stage:
    """The API of a stack: by its resources, or its outputs, or its URL.

    Raises:
        ProvisioningFailed: it can't be told.
    """
    from botocore.exceptions import ClientError

    try:
        api_id, stage = _by_resources(p, stack)
        described = p.clients.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        raise ProvisioningFailed(f"expected a stack {stack}, found: {error}") from error
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    url = urlsplit(outputs.get(URL_OUTPUT, ""))
    if not api_id:
        api_id = outputs.get("ApiGatewayId", "")
    if not api_id and _GATEWAY in url.netloc:
        api_id = (url.hostname or "").partition(_GATEWAY)[0]
    if not api_id:
        raise ProvisioningFailed(
            f"stack {stack}: expected a REST API among its resources, or its id in the output ApiGatewayId, found "
            f"{sorted(outputs)}; usage plans need it"
        )
    names = [each["stageName"] for each in p.clients.apigateway.get_stages(restApiId=api_id)["item"]]
    named = stage or url.path.strip("/").partition("/")[0]
    if named in names:
        return api_id, named
    if len(names) != 1:
        raise ProvisioningFailed(f"API {api_id} of stack {stack}: expected one stage, found {names}")
    return api_id, names[0]


def find_plan(p: Portability, tier: Tier) -> dict[str, Any] | None:
    """A tier's usage plan as it is; None if there is none."""
    named = [plan for plan in _pages(p, "get_usage_plans") if plan["name"] == plan_name(tier)]
    return min(named, key=lambda plan: str(plan["id"]), default=None)


def stages_of(plan: dict[str, Any]) -> set[Stage]:
    """The stages of a plan."""
    return {(each["apiId"], each["stage"]) for each in plan.get("apiStages", [])}


def _by_resources(p: Portability, stack: str) -> Stage:
    found = {"AWS::ApiGateway::RestApi": "", "AWS::ApiGateway::Stage": ""}
    for page in p.clients.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for each in page["StackResourceSummaries"]:
            if each["ResourceType"] in found:
                found[each["ResourceType"]] = each.get("PhysicalResourceId", "")
    return found["AWS::ApiGateway::RestApi"], found["AWS::ApiGateway::Stage"]


def _make(p: Portability, tenant_id: str, tier: Tier) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make what is missing of a tier's plan and key, alone."""
    client = p.clients.apigateway
    end = p.clock() + 2 * _LOCK_SECONDS
    while True:
        try:
            turn = p.turns.take(_LOCK, tier.value, tenant_id, seconds=_LOCK_SECONDS)
            break
        except TurnTaken as error:
            if p.clock() > end:
                raise ProvisioningFailed(f"usage plan of {tier}: expected to make it, found: {error}") from error
            p.sleep(1)
    try:
        limits = USAGE_PLANS[tier]
        plan = find_plan(p, tier) or client.create_usage_plan(
            name=plan_name(tier),
            description=f"Usage plan for {tier.value.lower()} tier tenants",
            throttle={"rateLimit": float(limits.rate), "burstLimit": limits.burst},
            quota={"limit": limits.quota, "period": _DAY},
        )
        key = _find_key(p, tier) or client.create_api_key(name=key_name(tier), enabled=True)
        if not _in_plan(p, plan["id"], key["id"]):
            client.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType=_KEY)
    finally:
        p.turns.give_back(turn)
    return plan, key


def _find_key(p: Portability, tier: Tier) -> dict[str, Any] | None:
    named = [key for key in _pages(p, "get_api_keys", nameQuery=key_name(tier)) if key["name"] == key_name(tier)]
    return min(named, key=lambda key: str(key["id"]), default=None)


def _in_plan(p: Portability, plan_id: str, key_id: str) -> bool:
    return any(key["id"] == key_id for key in _pages(p, "get_usage_plan_keys", usagePlanId=plan_id))


def _id_of(p: Portability, value: str) -> str | None:
    """The id of the key with a value; None if API Gateway has none such."""
    return next((key["id"] for key in _pages(p, "get_api_keys", includeValues=True) if key.get("value") == value), None)


def _value(p: Portability, key_id: str) -> str:
    return str(p.clients.apigateway.get_api_key(apiKey=key_id, includeValue=True)["value"])


def _told(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def _pages(p: Portability, operation: str, **given: Any) -> Iterator[dict[str, Any]]:
    for page in p.clients.apigateway.get_paginator(operation).paginate(**given):
        yield from page["items"]
