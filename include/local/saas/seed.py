"""Fills the stand-ins with tenants: everything that the application's own deployment and registration would have made.

What is there already stays, so more tenants can be added to a SaaS that runs.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from include.local.aws.pipeline import make_pipeline
from include.local.saas.account import make_account
from include.local.saas.items import seeded_items
from include.local.saas.logins import user_names
from include.local.saas.placing import place_by_batches
from include.local.saas.stacks import (
    POOLED_USERS,
    add_to_plan,
    make_stack,
    make_usage_plans,
    make_user_pool,
)
from include.local.saas.tables import make_shared_tables
from include.tenants.saas import POOLED, SETTINGS, TENANT_CLAIM, TENANT_USERS, TENANTS, Route, Tier
from include.tenants.transactions import typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.local.saas.placing import Place
    from include.tenants.clients import Clients

ITEMS_PER_TENANT: Final = 10_000


@dataclass(frozen=True)
class SeedTenant:
    """A tenant to make.

    Attributes:
        tenant_id: its id.
        tier: where it begins.
        awkward: whether its items have all that DynamoDB allows.
    """

    tenant_id: str
    tier: Tier
    awkward: bool = False


SEEDS: Final = (
    # each id begins the next one's, and `acme-2-1` is also a partition of `acme-2`
    SeedTenant("acme", Tier.BASIC),
    SeedTenant("acme-2", Tier.STANDARD),
    SeedTenant("acme-2-1", Tier.PREMIUM),
    SeedTenant("globex", Tier.PLATINUM),
    SeedTenant("curio", Tier.BASIC, awkward=True),
)


@dataclass(frozen=True)
class Seeded:
    """What was made.

    Attributes:
        items: how many.
        passwords: of the users, by name; only of those made now.
    """

    items: int
    passwords: Mapping[str, str] = field(repr=False)


def seed(
    clients: Clients,
    *,
    items_per_tenant: int = ITEMS_PER_TENANT,
    api_url: str,
    tenants: Sequence[SeedTenant] = SEEDS,
    place: Place = place_by_batches,
    random_seed: int = 0,
    users: bool = True,
) -> Seeded:
    """Make the SaaS and these tenants.

    Args:
        clients: of the AWS stand-in.
        items_per_tenant: how many.
        api_url: where the application answers, without a path.
        tenants: which.
        place: puts the items into their tables.
        random_seed: of the items.
        users: whether the tenants have any.
    """
    make_shared_tables(clients.dynamodb)
    account = make_account(clients)
    make_pipeline(clients, api_url)
    pooled_api = make_stack(clients, POOLED, f"{api_url}/{POOLED}")
    keys = make_usage_plans(clients, pooled_api)
    pool_id, client_id = make_user_pool(clients, POOLED_USERS)
    for name, value in {
        "userPoolId-pooled": pool_id,
        "appClientId-pooled": client_id,
        "apiGatewayUrl-Pooled": f"{api_url}/{POOLED}",
        **account,
    }.items():
        clients.dynamodb.put_item(TableName=SETTINGS, Item=typed({"settingName": name, "settingValue": value}))
    count = 0
    passwords: dict[str, str] = {}
    for tenant in tenants:
        route = Route(tenant.tier, pool_id, client_id, f"{api_url}/{POOLED}", keys[tenant.tier])
        if tenant.tier.silo:
            route = _make_silo(clients, tenant, f"{api_url}/{tenant.tenant_id}", keys[tenant.tier])
        _register(clients, tenant, route)
        if users:
            passwords |= _make_users(clients, tenant, route.user_pool_id)
        count += place(
            clients.dynamodb,
            (
                (table.name(tenant.tenant_id, tenant.tier), item)
                for table, item in seeded_items(
                    tenant.tenant_id, items_per_tenant, awkward=tenant.awkward, seed=random_seed
                )
            ),
        )
    return Seeded(count, passwords)


def _make_silo(clients: Clients, tenant: SeedTenant, url: str, key: str) -> Route:
    api_id = make_stack(clients, tenant.tenant_id, url)
    add_to_plan(clients, tenant.tier, api_id)
    pool_id, client_id = make_user_pool(clients, f"{tenant.tenant_id}-ServerlessSaaSUserPool")
    return Route(tenant.tier, pool_id, client_id, url, key)


def _register(clients: Clients, tenant: SeedTenant, route: Route) -> None:
    name = tenant.tenant_id
    clients.dynamodb.put_item(
        TableName=TENANTS,
        Item=typed(
            {
                "tenantId": name,
                "tenantName": name.title(),
                "tenantAddress": f"1 {name.title()} Street",
                "tenantEmail": f"admin@{name}.example",
                "tenantPhone": "555-0100",
                "isActive": True,
                **route.to_item(),
            }
        ),
    )


def _make_users(clients: Clients, tenant: SeedTenant, pool_id: str) -> dict[str, str]:
    cognito = clients.cognito
    with suppress(cognito.exceptions.GroupExistsException):
        cognito.create_group(
            GroupName=tenant.tenant_id, UserPoolId=pool_id, Description=f"users of tenant {tenant.tenant_id}"
        )
    passwords = {}
    admin, *_ = names = user_names(tenant.tenant_id)
    for name in names:
        attributes = {
            "email": f"{name}@{tenant.tenant_id}.example",
            "email_verified": "true",
            TENANT_CLAIM: tenant.tenant_id,
            "custom:userRole": "TenantAdmin" if name == admin else "TenantUser",
        }
        with suppress(cognito.exceptions.UsernameExistsException):
            cognito.admin_create_user(
                UserPoolId=pool_id,
                Username=name,
                UserAttributes=[{"Name": each, "Value": value} for each, value in attributes.items()],
                MessageAction="SUPPRESS",
            )
            passwords[name] = f"{secrets.token_urlsafe(12)}-Aa1"
            cognito.admin_set_user_password(UserPoolId=pool_id, Username=name, Password=passwords[name], Permanent=True)
        cognito.admin_add_user_to_group(UserPoolId=pool_id, Username=name, GroupName=tenant.tenant_id)
        clients.dynamodb.put_item(TableName=TENANT_USERS, Item=typed({"tenantId": tenant.tenant_id, "userName": name}))
    return passwords
