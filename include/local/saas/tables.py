"""The application's DynamoDB tables, as its stacks make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from include.tenants.saas import (
    DATA_TABLES,
    FENCES,
    MIGRATIONS,
    PARTITION_KEY,
    SETTINGS,
    STACKS,
    TENANT_USERS,
    TENANTS,
)
from include.tenants.store import PARTITION, SORT

if TYPE_CHECKING:
    from collections.abc import Sequence

_TENANT_CONFIG: Final = {
    "IndexName": "ServerlessSaas-TenantConfig",
    "KeySchema": [{"AttributeName": "tenantName", "KeyType": "HASH"}],
    "Projection": {
        "ProjectionType": "INCLUDE",
        "NonKeyAttributes": ["userPoolId", "appClientId", "apiGatewayUrl"],
    },
}
_USER_NAME: Final = {
    "IndexName": "UserName",
    "KeySchema": [{"AttributeName": "userName", "KeyType": "HASH"}, {"AttributeName": "tenantId", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "ALL"},
}


def make_shared_tables(dynamodb: Any) -> None:
    """What all tenants share, and the two tables of the migrations; those that are there stay as they are."""
    make_table(dynamodb, SETTINGS, ["settingName"])
    make_table(dynamodb, STACKS, ["tenantId"])
    make_table(dynamodb, TENANTS, ["tenantId"], index=_TENANT_CONFIG)
    make_table(dynamodb, TENANT_USERS, ["tenantId", "userName"], index=_USER_NAME)
    make_table(dynamodb, FENCES, [PARTITION_KEY])
    make_table(dynamodb, MIGRATIONS, [PARTITION, SORT])


def make_data_tables(dynamodb: Any, owner: str) -> list[str]:
    """The data tables of a tenant, or of ``pooled``; gives their names."""
    names = []
    for table in DATA_TABLES:
        name = f"{table.prefix}-{owner}"
        make_table(dynamodb, name, [PARTITION_KEY, table.sort_key])
        names.append(name)
    return names


def make_table(dynamodb: Any, name: str, keys: Sequence[str], *, index: dict[str, Any] | None = None) -> None:
    """A table with these keys, all strings; one that is there stays as it is."""
    named = dict.fromkeys([*keys, *(part["AttributeName"] for part in index["KeySchema"])] if index else keys)
    schema = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)]
    try:
        dynamodb.create_table(
            TableName=name,
            KeySchema=schema,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in named],
            BillingMode="PAY_PER_REQUEST",
            SSESpecification={"Enabled": True, "SSEType": "KMS"},
            Tags=[{"Key": "application", "Value": "serverless-saas"}],
            **({"GlobalSecondaryIndexes": [index]} if index else {}),
        )
    except dynamodb.exceptions.ResourceInUseException:
        return
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
