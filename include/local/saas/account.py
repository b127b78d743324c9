"""What the migrations' own stack makes in the account, and the role of the application."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from include.local.aws.cognito import USER_MIGRATION, function_arn
from include.tenants.isolation import DATA_ACTIONS, FENCE_ACTIONS, ROLE_SETTING
from include.tenants.policies import VERSION
from include.tenants.saas import DATA_TABLES, FENCES

if TYPE_CHECKING:
    from include.tenants.clients import Clients

EVIDENCE_BUCKET: Final = "data-platform-evidence"
SIGNING_KEY: Final = "alias/tenant-migrations"
ROLE: Final = "authorizer-access-role"
"""The role that the authorizer assumes for a tenant, with the tenant's session policy."""
IMPORT_ROLE: Final = "cognito-user-import-role"
"""The role by which Cognito logs imports of users."""


def make_account(clients: Clients) -> dict[str, str]:
    """Make all that isn't there; gives the settings of the application that name it."""
    s3, kms, iam = clients.s3, clients.kms, clients.iam
    if EVIDENCE_BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=EVIDENCE_BUCKET, ObjectLockEnabledForBucket=True)
    aliases = {alias["AliasName"] for page in kms.get_paginator("list_aliases").paginate() for alias in page["Aliases"]}
    if SIGNING_KEY not in aliases:
        key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Description="signs tenants' evidence")
        kms.create_alias(AliasName=SIGNING_KEY, TargetKeyId=key["KeyMetadata"]["KeyId"])
    tables = clients.dynamodb.describe_table(TableName=FENCES)["Table"]["TableArn"].rpartition("/")[0]
    _make_role(iam, ROLE, "lambda.amazonaws.com")
    iam.put_role_policy(RoleName=ROLE, PolicyName="tables", PolicyDocument=json.dumps(_tables_policy(tables)))
    return {
        ROLE_SETTING: ROLE,
        "userImportRole": _make_role(iam, IMPORT_ROLE, "cognito-idp.amazonaws.com"),
        "userMigrationFunction": function_arn(USER_MIGRATION),
    }


def _tables_policy(tables: str) -> dict[str, Any]:
    """What the application does with its tables, of any tenant: the session policy narrows it down to one."""
    actions = (*DATA_ACTIONS, *FENCE_ACTIONS)
    names = (*(f"{table.prefix}-*" for table in DATA_TABLES), FENCES)
    return {
        "Version": VERSION,
        "Statement": [
            {"Effect": "Allow", "Action": sorted(set(actions)), "Resource": [f"{tables}/{name}" for name in names]}
        ],
    }


def _make_role(iam: Any, name: str, service: str) -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])
