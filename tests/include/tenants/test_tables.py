from __future__ import annotations

import pytest

from include.local.saas.tables import make_data_tables
from include.tenants.exceptions import ProvisioningFailed
from include.tenants.saas import ORDERS, PRODUCTS
from include.tenants.tables import expected_keys, facts, harden, unprotect, wanted_tags


@pytest.fixture
def silo(portability):
    make_data_tables(portability.clients.dynamodb, "acme")
    return portability


def test_a_table_is_told_as_it_is(silo):
    found = facts(silo, "Order-pooled")
    assert found.keys == expected_keys(ORDERS) == (("shardId", "S"), ("orderId", "S"))
    assert (found.on_demand, found.encryption, found.recoverable, found.protected) == (True, "KMS", True, False)
    assert found.kms_key.startswith("arn:aws:kms:")
    assert found.tags == {"application": "serverless-saas"}
    with pytest.raises(ProvisioningFailed, match="expected the table Order-nobody, found none"):
        facts(silo, "Order-nobody")


def test_a_silos_table_is_protected_and_says_whose_it_is(silo):
    source = facts(silo, "Product-pooled")
    found = harden(silo, PRODUCTS, "Product-acme", "acme", source)
    assert found.protected
    assert found.tags == wanted_tags(source, "acme") == {"application": "serverless-saas", "TenantId": "acme"}
    with pytest.raises(silo.clients.dynamodb.exceptions.ClientError, match="DeletionProtectionEnabled"):
        silo.clients.dynamodb.delete_table(TableName="Product-acme")
    assert harden(silo, PRODUCTS, "Product-acme", "acme", source) == found


def test_the_sources_own_key_is_taken_over(silo):
    dynamodb = silo.clients.dynamodb
    key = silo.clients.kms.create_key()["KeyMetadata"]["Arn"]
    dynamodb.update_table(TableName="Product-pooled", SSESpecification={"Enabled": True, "KMSMasterKeyId": key})
    dynamodb.update_table(TableName="Product-acme", SSESpecification={"Enabled": False})
    assert harden(silo, PRODUCTS, "Product-acme", "acme", facts(silo, "Product-pooled")).kms_key == key


def test_a_tables_protection_can_be_lifted(silo):
    harden(silo, PRODUCTS, "Product-acme", "acme", facts(silo, "Product-pooled"))
    for _ in range(2):
        unprotect(silo, "Product-acme")
        assert not facts(silo, "Product-acme").protected
    unprotect(silo, "Product-nobody")


def test_a_table_of_other_keys_is_no_silos(silo):
    with pytest.raises(ProvisioningFailed, match="expected the keys"):
        harden(silo, ORDERS, "Product-acme", "acme", facts(silo, "Order-pooled"))
