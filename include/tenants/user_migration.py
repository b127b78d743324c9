"""The function that Cognito calls when somebody signs in, or has forgotten the password, whom the pool does not know.

It is deployed as a Lambda function, of this one file: it imports nothing of the project. One function serves every pool and every tenant
that is moving: where a pool's users may come from is written down in DynamoDB (`sources`), by `include.tenants.identity`. There is one row
per tenant on its way to the pool, in the table of the migrations::

    migrationId = pool#{target pool}   row = identity#{tenant id}   sourcePool, sourceClient, deadline (ms)

What it decides:

- Only a user whose tenant claim in the source pool is exactly that tenant's comes in; the claim is copied from there. Before that is known
  no password is tried, so the function tells nothing about other tenants' users.
- The password is tried at the source pool. If it is right, the user is confirmed with it.
- A user who has a second factor, a temporary password or none comes in without a password and has to set one by a code sent to a verified
  address: Cognito moves no second factor, and a password alone must not be enough for somebody who had one.
- After the deadline, and for disabled users, nobody comes in.

**Groups.** The user does not exist yet while the function runs, so it can't be put into a group here; `include.tenants.identity` does that
afterwards (`reconcile_groups`). The reference application decides by the tenant claim and uses groups only to list users. A trigger after
each sign-in could be faster, but would make every login of every tenant of a shared pool depend on this function.

Nothing is logged, and no error carries a password.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TENANT_CLAIM: Final = "custom:tenantId"
LEGACY_SUB: Final = "custom:legacySub"
"""The id that a user had in the first pool: Cognito gives a new ``sub`` in each."""
POOL_ROWS: Final = "pool#"
IDENTITY_ROWS: Final = "identity#"
_MIGRATIONS: Final = os.environ.get("MIGRATIONS_TABLE", "ServerlessSaaS-TenantMigrations")
_TENANT_USERS: Final = os.environ.get("TENANT_USERS_TABLE", "ServerlessSaaS-TenantUserMapping")
_NOT_COPIED: Final = frozenset({"sub", "identities"})
_RIGHT_BUT_NOT_ENOUGH: Final = frozenset(
    {"NEW_PASSWORD_REQUIRED", "SMS_MFA", "SOFTWARE_TOKEN_MFA", "EMAIL_OTP", "SMS_OTP", "MFA_SETUP", "SELECT_MFA_TYPE"}
)
"""Challenges that Cognito gives only after a right password."""


class NotMigrated(Exception):
    """This user does not come in; Cognito answers as if there were no such user."""


@dataclass(frozen=True)
class Source:
    """Where a tenant's users come from.

    Attributes:
        tenant_id: whose users.
        user_pool_id: their pool until now.
        client_id: app client there by which passwords are tried.
        deadline: until when, in milliseconds since the epoch.
    """

    tenant_id: str
    user_pool_id: str
    client_id: str
    deadline: int


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """What Lambda calls."""
    cognito, dynamodb = clients()
    return migrate(event, cognito, lambda pool_id, user_name: sources(dynamodb, pool_id, user_name))


@cache
def clients() -> tuple[Any, Any]:
    """Of Cognito and DynamoDB; made once per environment of the function.

    Cognito waits 5 seconds for the function and calls it again itself, so a call is tried once and not for long.
    """
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1})
    return boto3.client("cognito-idp", config=config), boto3.client("dynamodb", config=config)


def sources(dynamodb: Any, pool_id: str, user_name: str) -> list[Source]:
    """Where a user of this name may come from, on the way to a pool.

    On the way to a shared pool many tenants are under way at once: then the application's own mapping of user names to tenants says whose
    it may be.
    """
    pages = dynamodb.get_paginator("query").paginate(
        TableName=_MIGRATIONS,
        ConsistentRead=True,
        KeyConditionExpression="migrationId = :pool AND begins_with(#row, :identity)",
        ExpressionAttributeNames={"#row": "row"},
        ExpressionAttributeValues={":pool": {"S": POOL_ROWS + pool_id}, ":identity": {"S": IDENTITY_ROWS}},
    )
    found = [_source(row) for page in pages for row in page["Items"]]
    if len(found) <= 1:
        return found
    mapped = dynamodb.get_paginator("query").paginate(
        TableName=_TENANT_USERS,
        IndexName="UserName",
        KeyConditionExpression="userName = :name",
        ExpressionAttributeValues={":name": {"S": user_name}},
    )
    tenants = {row["tenantId"]["S"] for page in mapped for row in page["Items"]}
    return [source for source in found if source.tenant_id in tenants]


def migrate(
    event: dict[str, Any],
    cognito: Any,
    lookup: Callable[[str, str], Sequence[Source]],
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Answer Cognito's event with the user that it is to make.

    Args:
        event: of the trigger *Migrate user*.
        cognito: a boto3 client.
        lookup: gives the sources for a pool and a user name.
        clock: seconds since the epoch.

    Raises:
        NotMigrated: nobody comes in.
    """
    trigger, user_name = event["triggerSource"], event["userName"]
    if trigger not in {"UserMigration_Authentication", "UserMigration_ForgotPassword"}:
        raise NotMigrated(f"expected a user who is to be migrated, found the event {trigger}")
    source, user = _only_one(cognito, lookup(event["userPoolId"], user_name), user_name)
    if source.deadline <= clock() * 1000:
        raise NotMigrated(f"tenant {source.tenant_id}: users came along until the deadline, and it is over")
    if not user.get("Enabled", True):
        raise NotMigrated("the user is disabled")
    attributes = moved_attributes(user["UserAttributes"])
    keeps_password = trigger == "UserMigration_Authentication" and _is_right(cognito, source, event, user)
    if not keeps_password and not has_verified_address(attributes):
        raise NotMigrated(
            "the user has no verified address that a code could be sent to; an administrator has to set a password"
        )
    event["response"] = {
        **(event.get("response") or {}),
        "userAttributes": attributes,
        "finalUserStatus": "CONFIRMED" if keeps_password else "RESET_REQUIRED",
        "messageAction": "SUPPRESS",
    }
    return event


def moved_attributes(attributes: Sequence[dict[str, str]]) -> dict[str, str]:
    """The attributes that a user has in the next pool: the same, and the id that it had in the first."""
    values = {each["Name"]: each["Value"] for each in attributes}
    moved = {name: value for name, value in values.items() if name not in _NOT_COPIED}
    moved.setdefault(LEGACY_SUB, values["sub"])
    return moved


def has_verified_address(attributes: dict[str, str]) -> bool:
    """Whether Cognito can send a code to the user."""
    return any(
        attributes.get(name) and attributes.get(f"{name}_verified") == "true" for name in ("email", "phone_number")
    )


def _only_one(cognito: Any, candidates: Sequence[Source], user_name: str) -> tuple[Source, dict[str, Any]]:
    """The one source that has the user, and the user there."""
    found = []
    for source in candidates:
        try:
            user = cognito.admin_get_user(UserPoolId=source.user_pool_id, Username=user_name)
        except cognito.exceptions.UserNotFoundException:
            continue
        claims = [each["Value"] for each in user["UserAttributes"] if each["Name"] == TENANT_CLAIM]
        # by an e-mail address too a pool may find a user, but the user's name must not change
        if claims == [source.tenant_id] and user["Username"].casefold() == user_name.casefold():
            found.append((source, user))
    if len(found) != 1:
        raise NotMigrated(f"expected one user of this name on the way to the pool, found {len(found)}")
    return found[0]


def _is_right(cognito: Any, source: Source, event: dict[str, Any], user: dict[str, Any]) -> bool:
    """Whether the typed password is the user's and all that a login asks for.

    Raises:
        NotMigrated: it is wrong.
    """
    try:
        answer = cognito.admin_initiate_auth(
            UserPoolId=source.user_pool_id,
            ClientId=source.client_id,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": user["Username"], "PASSWORD": event["request"]["password"]},
        )
    except cognito.exceptions.PasswordResetRequiredException:
        return False  # there is no password that could be right
    except Exception as error:
        # without its cause: botocore's complaints about a parameter show its value
        raise NotMigrated(f"the source pool has refused the login: {type(error).__name__}") from None
    challenge = answer.get("ChallengeName")
    if challenge and challenge not in _RIGHT_BUT_NOT_ENOUGH:
        raise NotMigrated(
            f"expected the source pool to know the password as right or wrong, found the challenge {challenge}"
        )
    return not challenge and not user.get("UserMFASettingList")


def _source(row: dict[str, Any]) -> Source:
    return Source(
        row["row"]["S"].removeprefix(IDENTITY_ROWS),
        row["sourcePool"]["S"],
        row["sourceClient"]["S"],
        int(row["deadline"]["N"]),
    )
