"""Tenants with users, and migrations of them, for the tests of identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt

from include.local.aws.cognito import USER_MIGRATION, function_arn
from include.local.saas.stacks import make_user_pool
from include.tenants.identity import IMPORT_ROLE, POOLED_CLIENT, POOLED_POOL
from include.tenants.saas import SETTINGS, TENANT_USERS, TENANTS, Route, Tier
from include.tenants.transactions import typed
from include.tenants.user_ways import FUNCTION

if TYPE_CHECKING:
    from include.tenants.portability import Portability
    from include.tenants.store import Migration

PASSWORD = "Right-Horse-1"


class People:
    """An application with its pooled user pool, and whatever tenants a test adds."""

    def __init__(self, p: Portability) -> None:
        self.p = p
        self.cognito = p.clients.cognito
        self.pooled = make_user_pool(p.clients, "PooledTenant-ServerlessSaaSUserPool")
        for name, value in {
            POOLED_POOL: self.pooled[0],
            POOLED_CLIENT: self.pooled[1],
            FUNCTION: function_arn(USER_MIGRATION),
            IMPORT_ROLE: "arn:aws:iam::123456789012:role/user-import",
        }.items():
            p.clients.dynamodb.put_item(TableName=SETTINGS, Item=typed({"settingName": name, "settingValue": value}))

    def add_tenant(self, tenant_id: str, tier: Tier, *names: str) -> tuple[str, str]:
        """A tenant with users; gives its pool and client."""
        pool = make_user_pool(self.p.clients, f"{tenant_id}-ServerlessSaaSUserPool") if tier.silo else self.pooled
        self.route(tenant_id, tier, pool)
        self.cognito.create_group(UserPoolId=pool[0], GroupName=tenant_id)
        for name in names:
            self.add_user(tenant_id, pool[0], name)
        return pool

    def route(self, tenant_id: str, tier: Tier, pool: tuple[str, str]) -> None:
        """Send a tenant's logins to a pool, as the switch does."""
        item = {
            "tenantId": tenant_id,
            "tenantName": tenant_id,
            "isActive": True,
            **Route(tier, *pool, f"http://127.0.0.1/{tenant_id}", "key").to_item(),
        }
        self.p.clients.dynamodb.put_item(TableName=TENANTS, Item=typed(item))

    def add_user(
        self, tenant_id: str, pool_id: str, name: str, /, *, password: str = PASSWORD, **attributes: str
    ) -> None:
        """A user, as the application's user management makes one."""
        values = {
            "email": f"{name}@example.org",
            "email_verified": "true",
            "custom:tenantId": tenant_id,
            "custom:userRole": "TenantUser",
            **attributes,
        }
        self.cognito.admin_create_user(
            UserPoolId=pool_id,
            Username=name,
            MessageAction="SUPPRESS",
            UserAttributes=[{"Name": each, "Value": value} for each, value in values.items()],
        )
        if password:
            self.cognito.admin_set_user_password(UserPoolId=pool_id, Username=name, Password=password, Permanent=True)
        self.cognito.admin_add_user_to_group(UserPoolId=pool_id, Username=name, GroupName=tenant_id)
        self.p.clients.dynamodb.put_item(TableName=TENANT_USERS, Item=typed({"tenantId": tenant_id, "userName": name}))

    def plan(self, tenant_id: str, target: Tier, *, identity_days: float = 30) -> Migration:
        """A migration of the tenant from where it is."""
        route = self.p.tenant(tenant_id).route
        source = {
            "tier": route.tier.value,
            "user_pool_id": route.user_pool_id,
            "app_client_id": route.app_client_id,
        }
        request = {"tenant_id": tenant_id, "target_tier": target.value, "identity_days": identity_days}
        return self.p.store.plan(f"move-{tenant_id}", tenant_id, request, {"source": source}, by="test")

    def noted(self, migration: Migration, identity: dict) -> Migration:
        """The migration, with what `port_identity` has found out, as its step notes it."""
        self.p.store.note(migration.migration_id, {"identity": identity})
        return self.p.store.load(migration.migration_id)

    def attributes(self, pool_id: str, name: str) -> dict[str, str]:
        """Of a user."""
        found = self.cognito.admin_get_user(UserPoolId=pool_id, Username=name)
        return {each["Name"]: each["Value"] for each in found["UserAttributes"]}

    def log_in(self, client_id: str, name: str, password: str = PASSWORD) -> dict:
        """The answer to a login by password."""
        return self.cognito.initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": password},
        )["AuthenticationResult"]

    def claims(self, client_id: str, name: str, password: str = PASSWORD) -> dict:
        """What a user's id token says after a login."""
        return jwt.decode(self.log_in(client_id, name, password)["IdToken"], options={"verify_signature": False})

    def names(self, pool_id: str) -> list[str]:
        """All user names of a pool."""
        pages = self.cognito.get_paginator("list_users").paginate(UserPoolId=pool_id)
        return sorted(user["Username"] for page in pages for user in page["Users"])

    def remove_pools(self) -> None:
        """Leave no pool behind."""
        for page in self.cognito.get_paginator("list_user_pools").paginate(MaxResults=60):
            for pool in page["UserPools"]:
                self.cognito.update_user_pool(UserPoolId=pool["Id"], DeletionProtection="INACTIVE")
                self.cognito.delete_user_pool(UserPoolId=pool["Id"])
