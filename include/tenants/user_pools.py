"""Cognito's user pools as a migration needs them: pools, app clients and users, found by name and made once.

Two habits of Cognito shape this: names are not unique, so everything is looked for before it is made; and an update resets what it does not
name, so each update sends back all that was there (`changed_pool`, `changed_client`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants.saas import TENANT_CLAIM
from include.tenants.user_migration import LEGACY_SUB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from include.tenants.portability import Portability

PAGE: Final = 60
"""What Cognito gives at most at once."""
TYPED_LOGIN: Final = "ALLOW_USER_PASSWORD_AUTH"
"""The only flow in which Cognito sees a typed password, and so the only one in which it asks for users that it doesn't know."""
OWN_CLAIMS: Final = (TENANT_CLAIM, LEGACY_SUB)
"""What a user must not write: whose user it is, and who."""
_BUSY: Final = frozenset({"TooManyRequestsException", "ThrottlingException", "LimitExceededException"})
_PATIENCE_SECONDS: Final = 120.0
_OF_ONE_POOL: Final = frozenset(
    {"PoolName", "Schema", "LambdaConfig", "UserPoolTags", "MfaConfiguration", "DeletionProtection"}
)
_OF_ONE_CLIENT: Final = frozenset(
    {"UserPoolId", "ClientName", "GenerateSecret", "ClientSecret", "SupportedIdentityProviders"}
)


@dataclass(frozen=True)
class User:
    """A user of a pool.

    Attributes:
        name: never changes.
        status: as Cognito names it.
        enabled: whether it may log in.
        attributes: all of them.
    """

    name: str
    status: str
    enabled: bool
    attributes: Mapping[str, str]

    @property
    def origin(self) -> str:
        """The id that the application knows the user by: that of its first pool."""
        return self.attributes.get(LEGACY_SUB) or self.attributes["sub"]

    @property
    def waits(self) -> bool:
        """Whether it has no password of its own here yet."""
        return self.status != "CONFIRMED"


def patiently(p: Portability, call: Callable[..., Any], **arguments: Any) -> Any:
    """Call Cognito, and again later while it has too many requests: its quotas are per account, and logins use them too."""
    from botocore.exceptions import ClientError

    end, pause = p.clock() + _PATIENCE_SECONDS, 0.2
    while True:
        try:
            return call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _BUSY or p.clock() + pause > end:
                raise
        p.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret; spreads those who wait
        pause = min(pause * 2, 5.0)


def users(p: Portability, pool_id: str, tenant_id: str) -> Iterator[User]:
    """A tenant's users of a pool, by their claim.

    Cognito can't search by it, so the whole pool is read, 60 users at a time. A group or the application's mapping would be faster, but a
    user who is missing there would be left behind.
    """
    for user in everybody(p, pool_id):
        if user.attributes.get(TENANT_CLAIM) == tenant_id:
            yield user


def everybody(p: Portability, pool_id: str) -> Iterator[User]:
    """All users of a pool."""
    for row in _pages(p, p.clients.cognito.list_users, "Users", "PaginationToken", UserPoolId=pool_id, Limit=PAGE):
        yield _user(row, row["Attributes"])


def user(p: Portability, pool_id: str, name: str) -> User | None:
    """One user of a pool."""
    cognito = p.clients.cognito
    try:
        found = patiently(p, cognito.admin_get_user, UserPoolId=pool_id, Username=name)
    except cognito.exceptions.UserNotFoundException:
        return None
    return _user(found, found["UserAttributes"])


def members(p: Portability, pool_id: str, group: str) -> set[str]:
    """The names of a group's users; none if there is no such group."""
    cognito = p.clients.cognito
    try:
        return {
            row["Username"]
            for row in _pages(
                p, cognito.list_users_in_group, "Users", "NextToken", UserPoolId=pool_id, GroupName=group, Limit=PAGE
            )
        }
    except cognito.exceptions.ResourceNotFoundException:
        return set()


def pools(p: Portability) -> list[dict[str, Any]]:
    """All pools of the region, in short."""
    return list(_pages(p, p.clients.cognito.list_user_pools, "UserPools", "NextToken", MaxResults=PAGE))


def described(p: Portability, pool_id: str) -> dict[str, Any]:
    """All that is known of a pool."""
    pool: dict[str, Any] = patiently(p, p.clients.cognito.describe_user_pool, UserPoolId=pool_id)["UserPool"]
    return pool


def described_client(p: Portability, pool_id: str, client_id: str) -> dict[str, Any]:
    """All that is known of an app client."""
    client: dict[str, Any] = patiently(
        p, p.clients.cognito.describe_user_pool_client, UserPoolId=pool_id, ClientId=client_id
    )["UserPoolClient"]
    return client


def make_pool_like(p: Portability, name: str, like: str, tags: Mapping[str, str]) -> str:
    """A pool with the settings of another: its sign-in rules, password policy, second factors and attributes; gives its id.

    The tenant's claim can be set when a user is made and never again. Triggers are not taken over.
    """
    cognito, source = p.clients.cognito, described(p, like)
    pool_id: str = patiently(
        p,
        cognito.create_user_pool,
        **_taken_over(p, "CreateUserPool", source, _OF_ONE_POOL),
        PoolName=name,
        Schema=_schema(source),
        UserPoolTags=dict(tags),
        DeletionProtection="ACTIVE",
    )["UserPool"]["Id"]
    mirror_second_factors(p, like, pool_id)
    return pool_id


def mirror_second_factors(p: Portability, source: str, target: str) -> None:
    """Ask for the second factors in a pool that another asks for."""
    cognito = p.clients.cognito
    wanted = patiently(p, cognito.get_user_pool_mfa_config, UserPoolId=source)
    if wanted.get("MfaConfiguration", "OFF") != "OFF":
        settings = _members(p, "SetUserPoolMfaConfig", wanted)
        patiently(p, cognito.set_user_pool_mfa_config, **{**settings, "UserPoolId": target})


def changed_pool(p: Portability, pool_id: str, **changes: Any) -> None:
    """Change settings of a pool and leave the others as they are."""
    settings = _taken_over(p, "UpdateUserPool", described(p, pool_id), frozenset({"PoolName"}))
    patiently(p, p.clients.cognito.update_user_pool, **{**settings, **changes, "UserPoolId": pool_id})


def changed_client(p: Portability, pool_id: str, client_id: str, **changes: Any) -> None:
    """Change settings of an app client and leave the others as they are."""
    settings = _members(p, "UpdateUserPoolClient", described_client(p, pool_id, client_id))
    patiently(p, p.clients.cognito.update_user_pool_client, **{**settings, **changes})


def ensure_attributes(p: Portability, source: str, target: str) -> None:
    """Let a pool have the custom attributes of another, and the id that users had in their first pool."""
    cognito = p.clients.cognito
    while missing := _missing(p, source, target):
        try:
            patiently(p, cognito.add_custom_attributes, UserPoolId=target, CustomAttributes=missing)
        except cognito.exceptions.InvalidParameterException:
            if _missing(p, source, target) == missing:
                raise
            continue  # another tenant's migration to the same pool was faster
        return


def _missing(p: Portability, source: str, target: str) -> list[dict[str, Any]]:
    there = {each["Name"] for each in described(p, target)["SchemaAttributes"]}
    return [each for each in _custom(described(p, source)) if f"custom:{each['Name']}" not in there]


def client_named(p: Portability, pool_id: str, name: str) -> str | None:
    """The id of a pool's app client."""
    for client in _pages(
        p, p.clients.cognito.list_user_pool_clients, "UserPoolClients", "NextToken", UserPoolId=pool_id, MaxResults=PAGE
    ):
        if client["ClientName"] == name:
            return str(client["ClientId"])
    return None


def make_client_like(p: Portability, pool_id: str, name: str, like: Mapping[str, Any]) -> str:
    """An app client with the settings of another, that users can't write their own claims by; gives its id."""
    found = client_named(p, pool_id, name)
    if found:
        return found
    settings = _taken_over(p, "CreateUserPoolClient", like, _OF_ONE_CLIENT)
    settings["ExplicitAuthFlows"] = sorted(
        {flow for flow in settings.get("ExplicitAuthFlows", []) if flow.startswith("ALLOW_")}
        | {TYPED_LOGIN, "ALLOW_REFRESH_TOKEN_AUTH"}
    )
    if "COGNITO" in like.get("SupportedIdentityProviders", []):
        settings["SupportedIdentityProviders"] = ["COGNITO"]  # another provider would have to be there first
    settings["ReadAttributes"] = sorted({*_readable(p, pool_id, like), *OWN_CLAIMS})
    writable = [each for each in settings.pop("WriteAttributes", []) if each not in OWN_CLAIMS]
    return str(
        patiently(
            p,
            p.clients.cognito.create_user_pool_client,
            **{
                **settings,
                **({"WriteAttributes": writable} if writable else {}),  # without: the standard ones
                "UserPoolId": pool_id,
                "ClientName": name,
                "GenerateSecret": "ClientSecret" in like,
                "PreventUserExistenceErrors": "ENABLED",
            },
        )["UserPoolClient"]["ClientId"]
    )


def show_claims(p: Portability, pool_id: str, client_id: str) -> None:
    """Let an app client's tokens tell whose its users are, and who."""
    client = described_client(p, pool_id, client_id)
    if not set(OWN_CLAIMS) <= set(client.get("ReadAttributes", [])):
        shown = sorted({*_readable(p, pool_id, client), *OWN_CLAIMS})
        changed_client(p, pool_id, client_id, ReadAttributes=shown)


def writable_claims(client: Mapping[str, Any]) -> list[str]:
    """Which of their own claims users could write by an app client; without a list it writes the standard attributes only."""
    return [claim for claim in OWN_CLAIMS if claim in client.get("WriteAttributes", [])]


def delete_pool(p: Portability, pool_id: str) -> None:
    """Delete a pool; one that is gone stays so."""
    cognito = p.clients.cognito
    try:
        if described(p, pool_id).get("DeletionProtection") == "ACTIVE":
            changed_pool(p, pool_id, DeletionProtection="INACTIVE")
        patiently(p, cognito.delete_user_pool, UserPoolId=pool_id)
    except cognito.exceptions.ResourceNotFoundException:
        return


def _readable(p: Portability, pool_id: str, client: Mapping[str, Any]) -> list[str]:
    """What an app client's tokens tell: what it was made for, or else the pool's standard attributes."""
    standard = [
        each["Name"]
        for each in described(p, pool_id)["SchemaAttributes"]
        if not each["Name"].startswith(("custom:", "dev:")) and each["Name"] not in {"sub", "identities"}
    ]
    return client.get("ReadAttributes") or standard


def _user(row: Mapping[str, Any], attributes: list[dict[str, str]]) -> User:
    values = {each["Name"]: each.get("Value", "") for each in attributes}
    return User(row["Username"], row["UserStatus"], bool(row.get("Enabled", True)), values)


def _pages(
    p: Portability, call: Callable[..., Any], entries: str, token: str, **arguments: Any
) -> Iterator[dict[str, Any]]:
    while True:
        page = patiently(p, call, **arguments)
        yield from page[entries]
        if not page.get(token):
            return
        arguments[token] = page[token]


def _members(p: Portability, operation: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """What of a description an operation takes."""
    shape = p.clients.cognito.meta.service_model.operation_model(operation).input_shape
    return {name: described[name] for name in shape.members if described.get(name) is not None}


def _taken_over(p: Portability, operation: str, described: Mapping[str, Any], but: frozenset[str]) -> dict[str, Any]:
    settings = {name: value for name, value in _members(p, operation, described).items() if name not in but}
    if (
        "AdminCreateUserConfig" in settings
    ):  # Cognito shows what it no longer takes beside the password policy's own days
        settings["AdminCreateUserConfig"] = {
            name: value
            for name, value in settings["AdminCreateUserConfig"].items()
            if name != "UnusedAccountValidityDays"
        }
    return settings


def _schema(pool: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = [
        _attribute(each, each["Name"])
        for each in pool["SchemaAttributes"]
        if each.get("Required") and not each["Name"].startswith(("custom:", "dev:")) and each["Name"] != "sub"
    ]
    return [*required, *_custom(pool)]


def _custom(pool: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A pool's custom attributes as they are defined, with those that moving users need."""
    found = {
        each["Name"]: _attribute(each, each["Name"].removeprefix("custom:"))
        for each in pool["SchemaAttributes"]
        if each["Name"].startswith("custom:")
    }
    for claim in OWN_CLAIMS:
        found.setdefault(claim, {"Name": claim.removeprefix("custom:"), "AttributeDataType": "String"})
        found[claim]["Mutable"] = False
    return list(found.values())


def _attribute(described: Mapping[str, Any], name: str) -> dict[str, Any]:
    kept = ("AttributeDataType", "Mutable", "NumberAttributeConstraints", "StringAttributeConstraints")
    attribute = {"Name": name, **{key: described[key] for key in kept if described.get(key) not in (None, {})}}
    return attribute if name.startswith("custom:") or not described.get("Required") else {**attribute, "Required": True}
