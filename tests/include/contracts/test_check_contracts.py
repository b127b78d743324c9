"""``make check-contracts``: a table if all is well, places and exit status 1 if not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.contracts.__main__ import main
from include.contracts.dbt_models import differences
from include.contracts.load import load_products
from include.platform.paths import DBT_MANIFEST
from include.warehouse.manifest import load_models
from include.warehouse.products import published_product

FINANCE = load_products("finance")
MODELS = load_models()


def test_there_are_products():
    assert {"qtr_total_sales_by_event", "qtr_top_event_by_sales"} <= {product.name for product in FINANCE}


@pytest.mark.parametrize("product", FINANCE, ids=lambda product: product.name)
def test_a_contract_and_its_dbt_models_tell_one_story(product):
    assert differences(product, MODELS) == ()


def test_every_published_relation_has_one_contract_named_like_it():
    named = {relation.name: product.name for product in FINANCE for relation in product.relations}
    published = published_product("finance").relations
    assert published
    assert named == {relation: relation.removeprefix("rpt_finance_") for relation in published}


def test_a_table_tells_how_many_checks_each_product_has(capsys):
    assert main([]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["product", "version", "status", "relations", "columns", "checks", "blocking", "warning"]
    assert [row.split()[0] for row in rows] == [product.name for product in FINANCE]
    for row in rows:
        _, _, status, _, _, checks, blocking, warning = row.split()
        assert status == "active"
        assert int(checks) == int(blocking) + int(warning) > 10


def test_one_product_can_be_asked_for(capsys):
    assert main(["--only", "seller_success"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_unknown_product_is_refused(capsys):
    assert main(["--only", "seller_succes"]) == 1
    assert "did you mean 'seller_success'?" in capsys.readouterr().err


def test_a_malformed_contract_is_told_with_its_place(capsys, contracts):
    path = contracts.write("a: 1\nb: {\n")
    assert main(["--area", "shop", "--root", str(contracts.root)]) == 1
    assert f"{path}:3:1: expected well-formed YAML" in capsys.readouterr().err


def changed_manifest(tmp_path, change):
    manifest = json.loads(DBT_MANIFEST.read_text(encoding="utf-8"))
    change(manifest["nodes"]["model.data_platform.rpt_finance_qtr_total_sales_by_event"])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return str(path)


def set_type(node):
    node["columns"]["sales_made"]["data_type"] = "integer"


def set_meaning(node):
    node["columns"]["sales_made"]["description"] = "Sales."


def set_description(node):
    node["description"] = "Another."


def add_column(node):
    node["columns"]["tax"] = {"name": "tax", "data_type": "integer", "description": "Tax."}


def drop_column(node):
    del node["columns"]["sales_made"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_type, "expected the model's sales_made integer, found bigint"),
        (set_meaning, "expected the model's description of sales_made 'Sales.', found another"),
        (set_description, "expected the model's description 'Another.', found another"),
        (add_column, "expected all columns of the model rpt_finance_qtr_total_sales_by_event, found no 'tax'"),
        (drop_column, "expected a column of the model rpt_finance_qtr_total_sales_by_event, found 'sales_made'"),
    ],
)
def test_a_model_that_changed_without_its_contract_is_told(capsys, tmp_path, change, says):
    assert main(["--manifest", changed_manifest(tmp_path, change)]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert "include/data_products/finance/qtr_total_sales_by_event/contract.odcs.yaml:" in told
    assert "(and run `make manifest`)" in told
    assert len(told.splitlines()) == 1


def test_a_model_that_is_no_longer_published_is_told(capsys, tmp_path):
    assert main(["--manifest", changed_manifest(tmp_path, lambda node: node.update(tags=["finance"]))]) == 1
    assert "expected contracts for published relations only, found rpt_finance_qtr_total" in capsys.readouterr().err


def test_a_published_model_without_contract_is_told(capsys, tmp_path):
    def publish_another(manifest_node):
        manifest_node["name"] = "rpt_finance_extra"

    assert main(["--manifest", changed_manifest(tmp_path, publish_another)]) == 1
    assert (
        "expected a contract for every published relation, found none for rpt_finance_extra" in capsys.readouterr().err
    )


def test_a_difference_stands_at_the_line_of_the_contract():
    product = FINANCE[0]
    relation = product.relations[0]
    model = next(model for model in MODELS if model.name == relation.name)
    altered = replace(model, columns=(replace(model.columns[0], description="Another."), *model.columns[1:]))
    (problem,) = differences(product, [altered])
    line = product.path.read_text(encoding="utf-8").splitlines()[problem.line - 1]
    assert line.strip().startswith("description:")
