"""The project as a whole: its documentation, its checks on the data, and the manifest that DAGs read."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from include.platform.paths import DBT_MANIFEST
from include.platform.settings import load_settings
from include.warehouse.manifest import ManifestError, load_models, parse_project, render, slim
from tests.dbt.harness import DBT_PROJECT_DIR, UNKNOWN_EVENT, UNKNOWN_VENUES, VARIABLES, Built, Run

MODELS = {model.name: model for model in load_models()}
POST_COLUMNS = ["year", "quarter", "eventname", "sales_made", "sales_revenue", "staff_commission", "commission_pcnt"]


# -- the committed manifest, without dbt ---------------------------------------------------------------------------


def test_manifest_knows_the_models_their_layers_and_the_published_ones() -> None:
    assert {model.layer for model in MODELS.values()} == {"staging", "intermediate", "finance"}
    assert sum(name.startswith("stg_tickit__") for name in MODELS) == 7
    published = {name for name, model in MODELS.items() if model.published}
    assert published == {name for name in MODELS if name.startswith("rpt_finance_")}
    assert all(MODELS[name].materialized == "table" for name in published), (
        "a published version must not change under its readers"
    )


def test_reports_have_the_columns_of_the_post_and_how_fresh_they_are() -> None:
    total, top = MODELS["rpt_finance_qtr_total_sales_by_event"], MODELS["rpt_finance_qtr_top_event_by_sales"]
    assert [column.name for column in total.columns] == [*POST_COLUMNS, "last_changed_at"]
    assert [column.name for column in top.columns] == [*POST_COLUMNS, "row_num", "last_changed_at"]


def test_every_node_is_documented_and_every_model_has_its_own_yaml() -> None:
    manifest = json.loads(DBT_MANIFEST.read_text(encoding="utf-8"))
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    for node in [*models, *manifest["sources"].values(), *manifest["exposures"].values()]:
        assert len(node["description"].split()) >= 3, node["unique_id"]
    for node in models:
        yaml = (DBT_PROJECT_DIR / node["original_file_path"]).with_suffix(".yml").read_text(encoding="utf-8")
        assert re.findall(r"^  - name: (rpt_\w+|fct_\w+|int_\w+|stg_\w+)$", yaml, re.MULTILINE) == [node["name"]]
        assert all(column.get("data_type") and column["description"] for column in node["columns"].values()), node[
            "name"
        ]


def test_every_published_relation_has_an_exposure_a_key_test_and_adds_up() -> None:
    manifest = json.loads(DBT_MANIFEST.read_text(encoding="utf-8"))
    for model in MODELS.values():
        if model.published:
            children = manifest["child_map"][model.unique_id]
            tests = [child.split(".")[2] for child in children if child.startswith("test.")]
            if model.name != "rpt_finance_qtr_top_event_by_sales":  # a selection; it adds up to nothing
                assert f"{model.name}_adds_up" in tests
            assert any(test.startswith("unique_") or test.endswith("_key_is_unique") for test in tests), model.name
            assert any(child.startswith("exposure.") for child in children), model.name


def test_manifest_tells_nothing_of_where_or_when_it_was_made() -> None:
    text = DBT_MANIFEST.read_text(encoding="utf-8")
    for telltale in (
        "generated_at",
        "invocation_id",
        "created_at",
        "checksum",
        "root_path",
        "compiled_code",
        "raw_code",
        str(Path.home()),
        str(DBT_PROJECT_DIR.parent),
    ):
        assert telltale not in text


def test_manifest_is_read_in_milliseconds() -> None:
    start = time.process_time()  # its own work: a busy machine is not a slow reader
    load_models()
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"nodes": 1}'])
def test_unreadable_manifest_says_where_it_is_and_how_to_write_it(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ManifestError, match=r"expected a dbt manifest at .*make manifest"):
        load_models(path)


def test_missing_dbt_is_named() -> None:
    with pytest.raises(ManifestError, match="expected dbt at /nowhere/dbt"):
        parse_project(Path("/nowhere/dbt"))


# -- with dbt ------------------------------------------------------------------------------------------------------


@pytest.mark.warehouse
def test_committed_manifest_is_fresh() -> None:
    fresh = render(slim(parse_project(load_settings().dbt_executable)))
    assert fresh == DBT_MANIFEST.read_text(encoding="utf-8"), "stale: run `make manifest` and commit"


@pytest.mark.warehouse
def test_documented_columns_and_types_are_those_of_the_relations(built: Built) -> None:
    with built.warehouse.connect() as connection:
        for model in MODELS.values():
            found = connection.execute(f"describe work.build_{model.schema_suffix}.{model.name}").fetchall()
            documented = [
                (column.name, re.sub(r"varchar\(\d+\)", "varchar", column.data_type)) for column in model.columns
            ]
            assert documented == [(name, kind.lower()) for name, kind, *_ in found], model.name


@pytest.mark.warehouse
def test_build_warns_of_known_orphans_and_unknown_prices_with_their_count_and_of_nothing_else(built: Built) -> None:
    unusual = {
        name: result for name, result in built.run.results().items() if result[0] not in {"success", "pass", "no-op"}
    }
    expected = {
        "stg_tickit__events_known_orphans": f"build_staging.stg_tickit__events where venueid in {UNKNOWN_VENUES}",
        "fct_sales_known_orphans": f"build_intermediate.int_sales_latest where eventid = {UNKNOWN_EVENT}",
        "fct_sales_amounts_are_known": "build_intermediate.int_sales_latest where pricepaid is null",
    }
    assert unusual == {name: ("warn", len(built.warehouse.rows(rows))) for name, rows in expected.items()}


@pytest.mark.warehouse
def test_orphan_that_nobody_knows_of_fails(built: Built) -> None:
    tests = ("stg_tickit__events_has_no_new_orphans", "fct_sales_has_no_new_orphans")
    run = built.warehouse.dbt(
        "test", "--select", *tests, variables={"known_orphan_venueids": [12, 51]}, target="orphans", succeed=False
    )
    assert run.exit_code == 1
    assert run.results() == dict.fromkeys(tests, ("fail", 1))


@pytest.mark.warehouse
def test_source_freshness_is_measured_on_the_replicated_history(built: Built) -> None:
    run = built.warehouse.dbt("source", "freshness", variables=VARIABLES, target="freshness")
    results = {r["unique_id"].split(".")[-1]: r for r in run.artifact("sources.json")["results"]}
    assert set(results) == {"listing", "sales"}
    assert all(result["max_loaded_at"].startswith("2026-01-01T12:00:00") for result in results.values())
    assert all(result["status"] == "warn" for result in results.values())


@pytest.fixture(scope="module")
def documentation(built: Built) -> Run:
    return built.warehouse.dbt("docs", "generate", "--static", variables=VARIABLES, target="docs")


@pytest.mark.warehouse
def test_docs_are_one_page_that_needs_no_other_file(documentation: Run) -> None:
    page = (documentation.target / "static_index.html").read_text(encoding="utf-8")
    assert "rpt_finance_seller_success" in page
    assert MODELS["rpt_finance_seller_success"].description in page
