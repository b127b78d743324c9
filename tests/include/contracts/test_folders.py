"""One folder a product, one contract a folder, one relation a contract: each slip has its own refusal."""

from __future__ import annotations

import pytest

from include.contracts.exceptions import (
    ContractInvalid,
    ContractMissing,
    ProductFolderEmpty,
    RelationClaimedTwice,
    RelationNotPublished,
    UnknownArea,
    UnknownProduct,
)
from include.contracts.load import find_product, hold_published, load_products
from tests.include.contracts.contracts_harness import TRIAL

RETURNS = (
    TRIAL.replace("dataProduct: orders", "dataProduct: returns")
    .replace("rpt_customers", "rpt_returners")
    .replace("rpt_orders", "rpt_returns")
)


def test_products_are_loaded_by_name_with_what_they_promise(contracts):
    contracts.write(RETURNS, "returns")
    contracts.write()
    orders, returns = load_products("shop", contracts.root)
    assert (orders.name, orders.version, orders.area) == ("orders", "2.3.4", "shop")
    assert [relation.name for relation in returns.relations] == ["rpt_returners", "rpt_returns"]
    assert orders.relations[1].key == ("day", "number")
    assert "email" not in orders.relations[1].shown
    assert orders.document.team.name == "Shop data"


def test_an_unknown_product_is_told_with_what_there_is_and_the_nearest(contracts):
    contracts.write(RETURNS, "returns")
    contracts.write()
    with pytest.raises(
        UnknownProduct, match=r"orders, returns, found 'order', did you mean 'orders'\?; correct the name, or add"
    ):
        find_product("shop", "order", contracts.root)


def test_a_product_is_found(contracts):
    contracts.write()
    assert find_product("shop", "orders", contracts.root).name == "orders"


def test_an_unknown_area_is_told_with_what_there_is(contracts):
    contracts.write()
    with pytest.raises(UnknownArea, match=r"expected an area of .*: shop, found 'shopp', did you mean 'shop'\?"):
        load_products("shopp", contracts.root)


def test_an_area_without_products_is_told(contracts):
    (contracts.root / "shop" / "__pycache__").mkdir(parents=True)
    with pytest.raises(UnknownArea, match=r"expected products in .*shop, found none"):
        load_products("shop", contracts.root)


def test_a_folder_without_contract_is_told(contracts):
    contracts.write()
    (contracts.root / "shop" / "returns").mkdir()
    with pytest.raises(
        ProductFolderEmpty, match=r"returns/contract\.odcs\.yaml, found an empty folder; write it, or remove"
    ):
        load_products("shop", contracts.root)


def test_a_contract_of_another_name_is_told(contracts):
    path = contracts.write()
    path.rename(path.with_name("contract.odcs.yml"))
    with pytest.raises(ProductFolderEmpty, match=r"found contract\.odcs\.yml; rename contract\.odcs\.yml"):
        load_products("shop", contracts.root)


def test_a_relation_of_two_contracts_is_told_with_both(contracts):
    contracts.write()
    contracts.write(RETURNS.replace("rpt_returners", "rpt_customers"), "returns")
    with pytest.raises(
        RelationClaimedTwice, match=r"one contract for rpt_customers, found .*orders.* and .*returns.*; remove it"
    ):
        load_products("shop", contracts.root)


def test_problems_of_all_contracts_are_told_together(contracts):
    contracts.write(TRIAL.replace("status: active", "status: on"))
    contracts.write(RETURNS.replace("kind: DataContract", "kind: Data"), "returns")
    with pytest.raises(ContractInvalid) as refused:
        load_products("shop", contracts.root)
    assert len({problem.path for problem in refused.value.problems}) == 2


def test_a_reference_leads_to_another_contract_by_its_ids(contracts):
    to = "../orders/contract.odcs.yaml#/schema/orders/properties/number"
    contracts.write(TRIAL.replace("name: number\n", "name: number\n        id: number\n"))
    contracts.write(RETURNS.replace("to: customers.customer_id", f"to: {to}"), "returns")
    _, returns = load_products("shop", contracts.root)
    reference = next(one for one in returns.relations[1].references if one.slug == "customer-exists")
    assert (reference.to_relation, reference.to_columns) == ("rpt_orders", ("number",))


def test_a_reference_to_what_the_other_contract_lacks_is_told(contracts):
    contracts.write()
    to = "../orders/contract.odcs.yaml#/schema/orders/properties/nummer"
    contracts.write(RETURNS.replace("to: customers.customer_id", f"to: {to}"), "returns")
    with pytest.raises(
        ContractInvalid, match=r"returns/contract\.odcs\.yaml:\d+:\d+: .*found \.\./orders/.*/nummer; correct `to`"
    ):
        load_products("shop", contracts.root)


def test_a_published_relation_without_contract_is_told(contracts):
    contracts.write()
    with pytest.raises(ContractMissing, match="found none for rpt_extra; add include/data_products"):
        hold_published(load_products("shop", contracts.root), ["rpt_customers", "rpt_orders", "rpt_extra"])


def test_a_contract_for_a_relation_that_is_not_published_is_told(contracts):
    contracts.write()
    with pytest.raises(
        RelationNotPublished, match=r"found rpt_orders \(.*orders/contract\.odcs\.yaml\); tag the dbt model"
    ):
        hold_published(load_products("shop", contracts.root), ["rpt_customers"])


def test_exactly_what_is_published_is_promised(contracts):
    contracts.write()
    hold_published(load_products("shop", contracts.root), ["rpt_customers", "rpt_orders"])
