"""The committed column lineage as tasks read it."""

import pytest

from include.catalog.column_lineage import (
    ColumnLineageError,
    ColumnOrigins,
    ColumnRef,
    Kind,
    ModelLineage,
    ProjectLineage,
    load_column_lineage,
    render,
)
from include.catalog.dbt_graph import load_graph
from include.platform.paths import DBT_COLUMN_LINEAGE

PRICE = ColumnRef("source.p.ops.sales", "price")
MODEL = ModelLineage(
    {
        "revenue": ColumnOrigins({PRICE: frozenset({Kind.AGGREGATION, Kind.CONDITIONAL})}),
        "shop": ColumnOrigins({}, "constant"),
    },
    {PRICE: frozenset({Kind.FILTER})},
)
PLAIN = ModelLineage({"revenue": ColumnOrigins({}, "counts rows")})
LINEAGE = ProjectLineage({"model.p.a": MODEL, "model.p.b": PLAIN}, {"model.p.b": MODEL})


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "column_lineage.json"
    path.write_text(render(LINEAGE))
    assert load_column_lineage(path) == LINEAGE
    assert render(load_column_lineage(path)) == path.read_text()


def test_without_history_mode_only_the_models_that_differ_are_others():
    assert LINEAGE.of("model.p.a", history_mode=False) == MODEL
    assert LINEAGE.of("model.p.b", history_mode=False) == MODEL
    assert LINEAGE.of("model.p.b", history_mode=True) == PLAIN
    assert LINEAGE.of("model.p.newer_than_the_file", history_mode=True) == ModelLineage()


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"models": {}}',
        '{"models": {"m": {}}, "without_history": {}}',
        '{"models": {"m": {"columns": {"c": {"s.x": "MAGIC"}}, "rows": {}}}, "without_history": {}}',
    ],
)
def test_an_unreadable_file_says_where_it_is_and_how_to_write_it(content, tmp_path):
    path = tmp_path / "column_lineage.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ColumnLineageError, match=r"expected column lineage at .*make manifest"):
        load_column_lineage(path)


@pytest.mark.parametrize("history_mode", [True, False])
def test_the_committed_file_knows_every_documented_column_and_only_parents_columns(history_mode):
    lineage, graph = load_column_lineage(), load_graph()
    for unique_id, model in graph.models.items():
        found = lineage.of(unique_id, history_mode=history_mode)
        assert list(found.columns) == [column.name for column in model.columns], unique_id
        refs = {ref for origin in found.columns.values() for ref in origin.inputs} | set(found.rows)
        assert {ref.node for ref in refs} == set(model.depends_on), unique_id
        for ref in refs:
            assert ref.column in [column.name for column in graph.node(ref.node).columns], ref
        assert all(bool(origin.inputs) != bool(origin.reason) for origin in found.columns.values()), unique_id


def test_the_committed_file_has_constants_only_without_history_mode():
    lineage = load_column_lineage()
    constants = {
        (section, unique_id.rpartition(".")[2], name)
        for section in ("models", "without_history")
        for unique_id, model in getattr(lineage, section).items()
        for name, origin in model.columns.items()
        if origin.reason
    }
    added = ("_record_is_active", "_record_create_time", "_record_delete_time")
    assert constants == {
        ("without_history", f"stg_tickit__{table}", name) for table in ("listings", "sales") for name in added
    }


def test_the_committed_file_is_small_and_has_one_input_a_line():
    text = DBT_COLUMN_LINEAGE.read_text()
    assert len(text) < 100_000
    assert max(len(line) for line in text.splitlines()) < 140
