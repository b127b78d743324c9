"""A tenant's requests reach its own items and nobody else's: the session policy that its requests run under, and the proof of it.

The reference solution allows ``dynamodb:LeadingKeys`` like ``{tenantId}-*``. That is too much: ``acme-*`` also matches ``acme-2-1``, a
partition of the tenant ``acme-2``. And ``ForAllValues`` is true of a request without any leading key. So the policy here
names the ten partitions exactly, and asks that there are leading keys at all.

An application with a policy of its own puts it into the setting `POLICY_SETTING`, with ``{tenantId}`` where the tenant's id belongs and
``{owner}`` where a table's name ends in the tenant's id or ``pooled``; then that one is examined. If the setting `ROLE_SETTING` names the
role that its requests run under, the role's policies are examined with it, as IAM combines them.
"""

from __future__ import annotations

import json
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from include.tenants.exceptions import IsolationBroken, ProvisioningFailed
from include.tenants.keys import shard_ids
from include.tenants.plan import target_tier
from include.tenants.policies import VERSION, PolicyUnclear, evaluate, likeness, wanted_values
from include.tenants.saas import DATA_TABLES, FENCES, POOLED, SETTINGS, TENANTS, Tier
from include.tenants.store import hashed
from include.tenants.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

POLICY_SETTING: Final = "tenantPolicyTemplate"
ROLE_SETTING: Final = "applicationRoleName"
ITEM_ACTIONS: Final = tuple(f"dynamodb:{name}Item" for name in ("Get", "Put", "Update", "Delete"))
"""What the application does with items of a known key; a transaction is authorized by the action of each of its elements."""
DATA_ACTIONS: Final = (*ITEM_ACTIONS, "dynamodb:Query")
FENCE_ACTIONS: Final = ("dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:UpdateItem")
"""What `include.tenants.fence.write_check` and `include.tenants.fence.break_fence` need."""
NEVER: Final = ("dynamodb:Scan", "dynamodb:PartiQLSelect", "dynamodb:DeleteTable", "dynamodb:BatchWriteItem")
"""What the application never does: reads of a whole table, and writes that can't carry the fence's check."""
_LEADING_KEYS: Final = "dynamodb:LeadingKeys"
_MOST_NAMED: Final = 5


def tenant_policy(tenant_id: str, tables: Sequence[str], fences: str) -> dict[str, Any]:
    """The session policy of a tenant's requests. It fits into the 2,048 characters that IAM allows for one.

    Args:
        tenant_id: whose.
        tables: ARNs of the data tables that hold its items.
        fences: ARN of the fences' table.
    """
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": "Own",
                "Effect": "Allow",
                "Action": sorted({*DATA_ACTIONS, *FENCE_ACTIONS}),
                "Resource": [*tables, fences],
                "Condition": {
                    "ForAllValues:StringEquals": {_LEADING_KEYS: list(shard_ids(tenant_id))},
                    "Null": {_LEADING_KEYS: "false"},
                },
            },
            # apart, because the ten partitions fit only once
            {"Sid": "Fences", "Effect": "Deny", "NotAction": list(FENCE_ACTIONS), "Resource": [fences]},
        ],
    }


def check_isolation(p: Portability, migration: Migration) -> dict[str, Any]:
    """Examine what the tenant's requests may do once it is on the target.

    Its own partitions must be allowed for all that the application does. Every other tenant's, and those of made-up neighbours whose ids
    look like its own, must be denied; so must requests that mix its own with others', that name no partition, or that read a whole table.

    Returns:
        How much was examined, and hashes of the policies; for the migration's notes.

    Raises:
        IsolationBroken: something is allowed that must not be, or the other way round, or a policy is not understood.
        ProvisioningFailed: a table or the role is missing.
    """
    tenant_id, tier = migration.tenant_id, target_tier(migration)
    try:
        return _examine(p, tenant_id, tier)
    except PolicyUnclear as error:
        raise IsolationBroken(f"tenant {tenant_id}: expected policies that can be evaluated, found: {error}") from error


def _examine(p: Portability, tenant_id: str, tier: Tier) -> dict[str, Any]:
    settings = _settings(p)
    arns = {name: _table_arn(p, name) for name in (*(table.name(tenant_id, tier) for table in DATA_TABLES), FENCES)}
    session = _session_policy(tenant_id, tier, arns, settings)
    role = settings.get(ROLE_SETTING)
    # without a role to look at, the session policy must hold alone
    identity = _role_policies(p, role) if role else [session]
    others = _others(p, tenant_id)
    broken: dict[tuple[bool, str], list[str]] = {}
    allowed = denied = 0
    # thousands of tenants have partitions that no policy tells apart: each kind is decided once
    wanted = wanted_values([*identity, session], _LEADING_KEYS)
    kind_of = cache(partial(likeness, wanted))
    decided: dict[tuple[str, str, tuple[Any, ...]], bool] = {}
    for what, action, resource, keys, expected in _requests(tenant_id, arns, others):
        kind = action, resource, tuple(kind_of(key) for key in keys)
        if kind not in decided:
            decided[kind] = evaluate(identity, action, resource, {_LEADING_KEYS: keys}, session).allowed
        found = decided[kind]
        if found is not expected:
            broken.setdefault((expected, what), []).append(f"{action} on {resource.rpartition('/')[2]}")
        allowed, denied = allowed + found, denied + (not found)
    if broken:
        # what is open comes first
        lines = [
            f"{what}: expected {', '.join(requests)} to be {_word(expected)}, found it {_word(not expected)}"
            for (expected, what), requests in sorted(broken.items(), key=lambda each: each[0][0])
        ]
        more = f"; and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
        raise IsolationBroken(f"tenant {tenant_id} on {tier}: {'; '.join(lines[:_MOST_NAMED])}{more}; mend the policy")
    return {
        "allowed": allowed,
        "denied": denied,
        "other_tenants": len(others),
        "session_policy": hashed(session),
        "session_policy_of": POLICY_SETTING if POLICY_SETTING in settings else "include.tenants.isolation",
        "role": role,
        "role_policies": [hashed(policy) for policy in identity] if role else [],
    }


def _requests(
    tenant_id: str, arns: Mapping[str, str], others: Mapping[str, Tier]
) -> Iterator[tuple[str, str, str, list[str], bool]]:
    """What is tried: a name, action, resource, leading keys, whether it has to be allowed."""
    own = list(shard_ids(tenant_id))
    tables = [arn for name, arn in arns.items() if name != FENCES]
    fences = arns[FENCES]
    yield from _own_requests(own, tables, fences)
    neighbours = [each for each in _neighbours(tenant_id) if each not in others]
    for other in (*others, *neighbours):
        yield from _foreign_requests(other, own, tables, fences)
        # a silo's tables are another's even where a partition's key would be the tenant's own
        for name in {table.name(other, others.get(other, Tier.PLATINUM)) for table in DATA_TABLES} - arns.keys():
            arn = f"{fences.rpartition('/')[0]}/{name}"
            for action in DATA_ACTIONS:
                yield f"table of {other}", action, arn, [own[0]], False
    for action in ("dynamodb:PutItem", "dynamodb:DeleteItem"):
        yield "own fence", action, fences, [own[0]], False
    for arn in (*tables, fences):
        for action in (*DATA_ACTIONS, *NEVER):
            yield "no partition named", action, arn, [], False
        for action in NEVER:
            yield "own partition", action, arn, [own[0]], False


def _own_requests(own: list[str], tables: list[str], fences: str) -> Iterator[tuple[str, str, str, list[str], bool]]:
    for shard_id in own:
        for arn in tables:
            for action in DATA_ACTIONS:
                yield f"own partition {shard_id}", action, arn, [shard_id], True
        for action in FENCE_ACTIONS:
            yield f"own fence {shard_id}", action, fences, [shard_id], True


def _foreign_requests(
    other: str, own: list[str], tables: list[str], fences: str
) -> Iterator[tuple[str, str, str, list[str], bool]]:
    foreign = [each for each in shard_ids(other) if each not in own]
    for shard_id in foreign:
        for arn in tables:
            for action in DATA_ACTIONS:
                yield f"partition {shard_id} of {other}", action, arn, [shard_id], False
        for action in FENCE_ACTIONS:
            yield f"fence {shard_id} of {other}", action, fences, [shard_id], False
    for arn in tables:
        for action in DATA_ACTIONS:
            yield f"own partition together with one of {other}", action, arn, [own[0], foreign[-1]], False


def _neighbours(tenant_id: str) -> list[str]:
    """Ids that a careless pattern takes for the tenant's."""
    made_up = [
        *(f"{tenant_id}{end}" for end in ("-1", "-2", "-10", "-x", "x", "0")),
        *(f"{begin}{tenant_id}" for begin in ("x", "x-", "1-")),
        tenant_id[:-1],
        tenant_id.swapcase(),
        tenant_id.rpartition("-")[0],
        "*",
        POOLED,
    ]
    return list(dict.fromkeys(each for each in made_up if each and each != tenant_id))


def _others(p: Portability, tenant_id: str) -> dict[str, Tier]:
    """All other tenants and where they are."""
    pages = p.clients.dynamodb.get_paginator("scan").paginate(
        TableName=TENANTS, ConsistentRead=True, ProjectionExpression="tenantId, tenantTier"
    )
    rows = [row for page in pages for row in page["Items"]]
    found = {row["tenantId"]["S"]: _tier(row) for row in rows if "tenantTier" in row}
    return {each: found[each] for each in sorted(found) if each != tenant_id}


def _tier(row: Mapping[str, Any]) -> Tier:
    try:
        return Tier(row["tenantTier"]["S"])
    except ValueError as error:
        raise ProvisioningFailed(
            f"{TENANTS}: expected each tenant in one of {', '.join(Tier)}, found {row['tenantId']['S']} in {row['tenantTier']['S']!r}: its "
            "items can't be looked for; mend its row"
        ) from error


def _settings(p: Portability) -> dict[str, str]:
    found = {}
    for name in (POLICY_SETTING, ROLE_SETTING):
        row = p.clients.dynamodb.get_item(
            TableName=SETTINGS, Key={"settingName": {"S": name}}, ConsistentRead=True
        ).get("Item")
        if row:
            found[name] = str(plain(row)["settingValue"])
    return found


def _session_policy(tenant_id: str, tier: Tier, arns: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, Any]:
    template = settings.get(POLICY_SETTING)
    if template is None:
        return tenant_policy(tenant_id, [arn for name, arn in arns.items() if name != FENCES], arns[FENCES])
    text = template.replace("{tenantId}", tenant_id).replace("{owner}", tenant_id if tier.silo else POOLED)
    try:
        policy: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise IsolationBroken(f"setting {POLICY_SETTING}: expected a policy in JSON, found {error}; mend it") from error
    return policy


def _table_arn(p: Portability, name: str) -> str:
    dynamodb = p.clients.dynamodb
    try:
        return str(dynamodb.describe_table(TableName=name)["Table"]["TableArn"])
    except dynamodb.exceptions.ResourceNotFoundException as error:
        raise ProvisioningFailed(f"expected the table {name}, found none; its policy can't be examined") from error


def _role_policies(p: Portability, role: str) -> list[dict[str, Any]]:
    """All policies of a role, those in it and those attached to it."""
    iam = p.clients.iam
    found = []
    try:
        for page in iam.get_paginator("list_role_policies").paginate(RoleName=role):
            for name in page["PolicyNames"]:
                found.append(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
            for attached in page["AttachedPolicies"]:
                arn = attached["PolicyArn"]
                version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
                found.append(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])
    except iam.exceptions.NoSuchEntityException as error:
        raise ProvisioningFailed(
            f"setting {ROLE_SETTING}: expected a role {role} with its policies, found none"
        ) from error
    return [json.loads(unquote(each)) if isinstance(each, str) else each for each in found]


def _word(allowed: bool) -> str:
    return "allowed" if allowed else "denied"
