"""What the data tables are like, and what a silo's are made like: encrypted, recoverable, protected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import ProvisioningFailed
from include.tenants.saas import PARTITION_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.tenants.portability import Portability
    from include.tenants.saas import DataTable

OWNER_TAG: Final = "TenantId"
"""Whose a table is; ``pooled`` for what all pooled tenants share."""
_AWS: Final = "aws:"
_READY_SECONDS: Final = 300.0
_ON_DEMAND: Final = "PAY_PER_REQUEST"


@dataclass(frozen=True)
class TableFacts:
    """A table as it is.

    Attributes:
        name: its name.
        arn: its ARN.
        keys: names of the partition key and the sort key, each with its type.
        on_demand: whether capacity is paid by request.
        encryption: ``KMS``, or ``AWS_OWNED`` where DynamoDB's own key encrypts.
        kms_key: ARN of the KMS key; empty for ``AWS_OWNED``.
        recoverable: whether there is point-in-time recovery.
        protected: whether it can't be deleted by mistake.
        tags: but for those that AWS itself makes.
    """

    name: str
    arn: str
    keys: tuple[tuple[str, str], ...]
    on_demand: bool
    encryption: str
    kms_key: str
    recoverable: bool
    protected: bool
    tags: Mapping[str, str] = field(hash=False)


def facts(p: Portability, name: str) -> TableFacts:
    """Look at a table.

    Raises:
        ProvisioningFailed: there is none.
    """
    dynamodb = p.clients.dynamodb
    try:
        table = dynamodb.describe_table(TableName=name)["Table"]
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    except (dynamodb.exceptions.ResourceNotFoundException, dynamodb.exceptions.TableNotFoundException) as error:
        raise ProvisioningFailed(f"expected the table {name}, found none") from error
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = sorted(table["KeySchema"], key=lambda part: str(part["KeyType"]))  # HASH, RANGE
    encryption = table.get("SSEDescription", {})
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    encrypted = encryption.get("Status") in {"ENABLED", "UPDATING"}
    return TableFacts(
        name=name,
        arn=table["TableArn"],
        keys=tuple((part["AttributeName"], types[part["AttributeName"]]) for part in keys),
        on_demand=table.get("BillingModeSummary", {}).get("BillingMode") == _ON_DEMAND,
        encryption="KMS" if encrypted else "AWS_OWNED",
        kms_key=encryption.get("KMSMasterKeyArn", "") if encrypted else "",
        recoverable=recovery == "ENABLED",
        protected=bool(table.get("DeletionProtectionEnabled", False)),
        tags=_tags(dynamodb, table["TableArn"]),
    )


def expected_keys(table: DataTable) -> tuple[tuple[str, str], ...]:
    """The keys that a data table must have."""
    return ((PARTITION_KEY, "S"), (table.sort_key, "S"))


def wanted_tags(source: TableFacts, owner: str) -> dict[str, str]:
    """The source's tags, but for whose it is."""
    return {**source.tags, OWNER_TAG: owner}


def harden(p: Portability, table: DataTable, name: str, owner: str, source: TableFacts) -> TableFacts:
    """Make a silo's table what it has to be; what is right already stays.

    DynamoDB changes one thing of a table at a time, so each change is waited for.

    Args:
        p: what to work with.
        table: which of the data tables.
        name: of the silo's.
        owner: its tenant's id.
        source: the table that the tenant's items come from: its tags and its KMS key are taken over.

    Raises:
        ProvisioningFailed: its keys are others, or it does not become ready.
    """
    dynamodb = p.clients.dynamodb
    found = facts(p, name)
    if found.keys != expected_keys(table):
        raise ProvisioningFailed(
            f"table {name}: expected the keys {expected_keys(table)}, found {found.keys}; delete it"
        )
    if not found.on_demand:
        _change(p, name, BillingMode=_ON_DEMAND)
    if found.encryption != "KMS":
        # DynamoDB wants its own managed key left unnamed
        key = {"KMSMasterKeyId": source.kms_key} if _is_customers(p, source.kms_key) else {}
        _change(p, name, SSESpecification={"Enabled": True, "SSEType": "KMS", **key})
    if not found.recoverable:
        _when_ready(p, name)
        dynamodb.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
    if not found.protected:
        _change(p, name, DeletionProtectionEnabled=True)
    tags = wanted_tags(source, owner)
    if any(found.tags.get(key) != value for key, value in tags.items()):
        dynamodb.tag_resource(
            ResourceArn=found.arn, Tags=[{"Key": key, "Value": value} for key, value in sorted(tags.items())]
        )
    return facts(p, name)


def unprotect(p: Portability, name: str) -> None:
    """Let a table be deleted; one that is gone already is as good."""
    dynamodb = p.clients.dynamodb
    try:
        if dynamodb.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled", False):
            _change(p, name, DeletionProtectionEnabled=False)
    except dynamodb.exceptions.ResourceNotFoundException:
        return


def _is_customers(p: Portability, key: str) -> bool:
    return bool(key) and p.clients.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyManager"] == "CUSTOMER"


def _change(p: Portability, name: str, **change: Any) -> None:
    _when_ready(p, name)
    p.clients.dynamodb.update_table(TableName=name, **change)
    _when_ready(p, name)


def _when_ready(p: Portability, name: str) -> None:
    end = p.clock() + _READY_SECONDS
    while True:
        status = p.clients.dynamodb.describe_table(TableName=name)["Table"]["TableStatus"]
        if status == "ACTIVE":
            return
        if p.clock() > end:
            raise ProvisioningFailed(
                f"table {name}: expected it to be ACTIVE after {_READY_SECONDS:.0f} s, found {status}"
            )
        p.sleep(1)


def _tags(dynamodb: Any, arn: str) -> dict[str, str]:
    pages = dynamodb.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
    found = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    return {key: value for key, value in sorted(found.items()) if not key.startswith(_AWS)}
