"""The dbt graph as lineage tells it: models, the sources' tables and the tests, from the committed manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from include.platform.paths import DBT_MANIFEST
from include.warehouse.manifest import Column, ManifestError, load_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from include.warehouse.manifest import Model

BY_REPLICATION = "_record_"
"""Columns that begin so are added by the replication in history mode; the source has none of them."""


@dataclass(frozen=True)
class SourceTable:
    """A table of a dbt source.

    Attributes:
        unique_id: dbt's id.
        database: that it is in, such as that of the zero-ETL integration.
        schema: the source's own database.
        name: of the table.
        description: of the table.
        columns: as documented.
    """

    unique_id: str
    database: str
    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class DataTest:
    """A dbt data test.

    Attributes:
        name: dbt's.
        kind: ``unique``, ``not_null`` …, or the name of the project's own.
        about: unique id of what it tests.
        column: that it tests; empty if it tests the whole.
        severity: ``error`` or ``warn``.
    """

    name: str
    kind: str
    about: str
    column: str
    severity: str


@dataclass(frozen=True)
class DbtGraph:
    """Models, source tables and tests by unique id."""

    models: Mapping[str, Model]
    sources: Mapping[str, SourceTable]
    tests: Mapping[str, DataTest]

    def parents(self, model: Model) -> Iterator[Model | SourceTable]:
        """What ``model`` reads."""
        for unique_id in model.depends_on:
            node = self.node(unique_id)
            if node is not None:
                yield node

    def node(self, unique_id: str) -> Model | SourceTable | None:
        """A model or a source's table; None if it is neither."""
        return self.models.get(unique_id) or self.sources.get(unique_id)

    def model_named(self, name: str) -> Model | None:
        """The model of that name."""
        return next((model for model in self.models.values() if model.name == name), None)


def kind_of(node: Model | SourceTable) -> Literal["view", "table"]:
    """What its relation is in the schema that dbt builds in."""
    return "table" if isinstance(node, SourceTable) or node.materialized != "view" else "view"


@cache
def load_graph(path: Path = DBT_MANIFEST) -> DbtGraph:
    """Read a manifest, once a process.

    Raises:
        ManifestError: the file is missing, is no JSON or no dbt manifest.
    """
    models = {model.unique_id: model for model in load_models(path)}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        sources = {unique_id: _source(node) for unique_id, node in manifest["sources"].items()}
        tests = {key: _test(node) for key, node in manifest["nodes"].items() if node["resource_type"] == "test"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"expected sources and tests in {path}, found {type(error).__name__}: {error}; write it with `make manifest`"
        ) from error
    return DbtGraph(models, sources, tests)


def _source(node: Mapping[str, Any]) -> SourceTable:
    columns = tuple(
        Column(column["name"], column.get("data_type") or "", column.get("description") or "")
        for column in node["columns"].values()
    )
    return SourceTable(
        node["unique_id"], node["database"], node["schema"], node["identifier"], node["description"], columns
    )


def _test(node: Mapping[str, Any]) -> DataTest:
    about = node.get("attached_node") or next(iter(node["depends_on"]["nodes"]), "")
    kind = (node.get("test_metadata") or {}).get("name") or node["name"]
    severity = "warn" if str(node["config"].get("severity")).lower() == "warn" else "error"
    return DataTest(node["name"], kind, about, node.get("column_name") or "", severity)
