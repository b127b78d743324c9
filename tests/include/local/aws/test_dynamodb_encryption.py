from __future__ import annotations

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at


@pytest.fixture(scope="module")
def dynamodb():
    with trial_aws() as url:
        yield clients_at(url).dynamodb


def test_a_tables_encryption_can_be_switched_on_and_off(dynamodb):
    dynamodb.create_table(
        TableName="plain",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert "SSEDescription" not in dynamodb.describe_table(TableName="plain")["Table"]
    dynamodb.update_table(TableName="plain", SSESpecification={"Enabled": True, "SSEType": "KMS"})
    found = dynamodb.describe_table(TableName="plain")["Table"]["SSEDescription"]
    assert (found["Status"], found["SSEType"]) == ("ENABLED", "KMS")
    assert found["KMSMasterKeyArn"].startswith("arn:aws:kms:")
    key = "arn:aws:kms:us-east-1:123456789012:key/own"
    dynamodb.update_table(TableName="plain", SSESpecification={"Enabled": True, "KMSMasterKeyId": key})
    assert dynamodb.describe_table(TableName="plain")["Table"]["SSEDescription"]["KMSMasterKeyArn"] == key
    dynamodb.update_table(TableName="plain", SSESpecification={"Enabled": False})
    assert "SSEDescription" not in dynamodb.describe_table(TableName="plain")["Table"]
