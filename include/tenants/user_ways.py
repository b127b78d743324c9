"""The way over: what lets a tenant's users into the target's pool at their first login.

It has three parts: a row that tells the function where the users come from (see `include.tenants.user_migration`), an app client of the
source pool by which only that function tries passwords, and the pool's trigger. Many tenants may be on their way to one pool at once; each
has a row, and the trigger stays as long as there is one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from include.tenants import user_pools
from include.tenants.exceptions import IdentityIncomplete
from include.tenants.saas import MIGRATIONS, SETTINGS
from include.tenants.store import PARTITION, SORT
from include.tenants.user_migration import IDENTITY_ROWS, POOL_ROWS
from include.tenants.user_pools import patiently

if TYPE_CHECKING:
    from include.tenants.portability import Portability
    from include.tenants.store import Migration

FUNCTION: Final = "userMigrationFunction"
"""Setting: ARN of the function. Its resource policy lets Cognito call it for any pool of the account."""
MADE_BY: Final = "tenant-migration"
"""Tag of a pool, and beginning of an app client's name: made by a migration."""
_DAY_MS: Final = 24 * 3600 * 1000


def setting(p: Portability, name: str) -> str:
    """A setting of the application.

    Raises:
        IdentityIncomplete: there is none.
    """
    row = p.clients.dynamodb.get_item(TableName=SETTINGS, Key={"settingName": {"S": name}}, ConsistentRead=True).get(
        "Item"
    )
    if row is None:
        raise IdentityIncomplete(f"expected the setting {name} in {SETTINGS}, found none; see deploy/tenants")
    return str(row["settingValue"]["S"])


def _verifier_name(tenant_id: str) -> str:
    return f"{MADE_BY}-{tenant_id}"


def make_verifier(p: Portability, pool_id: str, tenant_id: str) -> str:
    """An app client of the source pool by which only the function tries passwords: the application's own is left alone."""
    name = _verifier_name(tenant_id)
    found = user_pools.client_named(p, pool_id, name)
    if found:
        return found
    return str(
        patiently(
            p,
            p.clients.cognito.create_user_pool_client,
            UserPoolId=pool_id,
            ClientName=name,
            GenerateSecret=False,
            ExplicitAuthFlows=["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
            # the tokens of a tried password go nowhere; let them not live long
            RefreshTokenValidity=60,
            AccessTokenValidity=5,
            IdTokenValidity=5,
            TokenValidityUnits={"RefreshToken": "minutes", "AccessToken": "minutes", "IdToken": "minutes"},
            WriteAttributes=["nickname"],  # none would mean all the standard ones
        )["UserPoolClient"]["ClientId"]
    )


def ways(p: Portability, pool_id: str) -> dict[str, dict[str, Any]]:
    """The rows that let users into a pool, by tenant."""
    pages = p.clients.dynamodb.get_paginator("query").paginate(
        TableName=MIGRATIONS,
        ConsistentRead=True,
        KeyConditionExpression=f"{PARTITION} = :pool AND begins_with(#row, :identity)",
        ExpressionAttributeNames={"#row": SORT},
        ExpressionAttributeValues={":pool": {"S": POOL_ROWS + pool_id}, ":identity": {"S": IDENTITY_ROWS}},
    )
    return {row[SORT]["S"].removeprefix(IDENTITY_ROWS): row for page in pages for row in page["Items"]}


def _way_key(pool_id: str, tenant_id: str) -> dict[str, Any]:
    return {PARTITION: {"S": POOL_ROWS + pool_id}, SORT: {"S": IDENTITY_ROWS + tenant_id}}


def way(p: Portability, pool_id: str, tenant_id: str) -> dict[str, Any] | None:
    """A tenant's row; None if its way is closed."""
    row: dict[str, Any] | None = p.clients.dynamodb.get_item(
        TableName=MIGRATIONS, Key=_way_key(pool_id, tenant_id), ConsistentRead=True
    ).get("Item")
    return row


def open_way(p: Portability, migration: Migration, source_pool: str, verifier: str, pool_id: str) -> int:
    """Let the function know where the pool's users come from; gives the deadline, which a retry doesn't move."""
    there = way(p, pool_id, migration.tenant_id)
    if there and there["holder"]["S"] == migration.migration_id:
        deadline = int(there["deadline"]["N"])
    else:
        deadline = int(p.clock() * 1000 + migration.request["identity_days"] * _DAY_MS)
    p.clients.dynamodb.put_item(
        TableName=MIGRATIONS,
        Item={
            **_way_key(pool_id, migration.tenant_id),
            "holder": {"S": migration.migration_id},
            "sourcePool": {"S": source_pool},
            "sourceClient": {"S": verifier},
            "deadline": {"N": str(deadline)},
        },
    )
    return deadline


def attach(p: Portability, pool_id: str, function: str) -> None:
    """Let Cognito call the function for a pool."""
    triggers = user_pools.described(p, pool_id).get("LambdaConfig") or {}
    there = triggers.get("UserMigration")
    if there not in (None, function):
        raise IdentityIncomplete(
            f"expected {function} or nothing as the trigger UserMigration of {pool_id}, found {there}; it serves somebody else"
        )
    if there is None:
        user_pools.changed_pool(p, pool_id, LambdaConfig={**triggers, "UserMigration": function})


def close_way(p: Portability, migration: Migration, source_pool: str, pool_id: str) -> None:
    """Let nobody else in by the tenant's row; the last one takes the trigger off.

    Cognito has no conditional update: a migration may attach the trigger while this one takes it off, or somebody may have died who
    has taken it off. The rows tell, so they are looked at again afterwards.
    """
    p.clients.dynamodb.delete_item(TableName=MIGRATIONS, Key=_way_key(pool_id, migration.tenant_id))
    cognito, function = p.clients.cognito, setting(p, FUNCTION)
    gone = contextlib.suppress(cognito.exceptions.ResourceNotFoundException)  # an earlier try has removed the pool
    with gone:
        triggers = user_pools.described(p, pool_id).get("LambdaConfig") or {}
        if triggers.get("UserMigration") == function and not ways(p, pool_id):
            rest = {name: value for name, value in triggers.items() if name != "UserMigration"}
            user_pools.changed_pool(p, pool_id, LambdaConfig=rest)
        if ways(p, pool_id):
            attach(p, pool_id, function)
    with gone:
        verifier = user_pools.client_named(p, source_pool, _verifier_name(migration.tenant_id))
        if verifier:
            patiently(p, cognito.delete_user_pool_client, UserPoolId=source_pool, ClientId=verifier)
