"""Which columns each dbt model's columns come from: read from the committed ``dbt_project/column_lineage.json``.

The file is made of the SQL that dbt compiles (``make manifest`` does so); a task only reads it. Of each model it has the columns' inputs
and what decides which *rows* there are, with the kinds of OpenLineage's column lineage facet
(https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet). Models that come from something else without the source's
history mode are there a second time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from include.platform.paths import DBT_COLUMN_LINEAGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class ColumnLineageError(RuntimeError):
    """The column lineage can't be read, or can't be told from a model's SQL."""


class Kind(StrEnum):
    """How an input has its part in an output; the first three give it its value (DIRECT), the others decide (INDIRECT)."""

    IDENTITY = "IDENTITY"
    TRANSFORMATION = "TRANSFORMATION"
    AGGREGATION = "AGGREGATION"
    JOIN = "JOIN"
    FILTER = "FILTER"
    GROUP_BY = "GROUP_BY"
    SORT = "SORT"
    WINDOW = "WINDOW"
    CONDITIONAL = "CONDITIONAL"

    @property
    def direct(self) -> bool:
        """Whether the output's value is made of the input's."""
        return self in _DIRECT


_DIRECT = (Kind.IDENTITY, Kind.TRANSFORMATION, Kind.AGGREGATION)


@dataclass(frozen=True, order=True)
class ColumnRef:
    """A column of a dbt node.

    Attributes:
        node: dbt's unique id of a model or a source's table.
        column: its name.
    """

    node: str
    column: str


type Origins = Mapping[ColumnRef, frozenset[Kind]]
"""Inputs, and how each has its part."""


@dataclass(frozen=True)
class ColumnOrigins:
    """Where one column comes from.

    Attributes:
        inputs: columns of the model's parents.
        reason: why there is no input; empty if there is one.
    """

    inputs: Origins
    reason: str = ""


@dataclass(frozen=True)
class ModelLineage:
    """Where a model's columns come from.

    Attributes:
        columns: by name, in the relation's order.
        rows: what decides which rows there are: joins, filters, groups.
    """

    columns: Mapping[str, ColumnOrigins] = field(default_factory=dict)
    rows: Origins = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectLineage:
    """The column lineage of the dbt project.

    Attributes:
        models: by unique id.
        without_history: of those that differ without the source's history mode.
    """

    models: Mapping[str, ModelLineage]
    without_history: Mapping[str, ModelLineage] = field(default_factory=dict)

    def of(self, unique_id: str, *, history_mode: bool) -> ModelLineage:
        """A model's lineage; an empty one if the file is older than the model."""
        model = None if history_mode else self.without_history.get(unique_id)
        return model or self.models.get(unique_id) or ModelLineage()


@cache
def load_column_lineage(path: Path = DBT_COLUMN_LINEAGE) -> ProjectLineage:
    """Read the committed file.

    Raises:
        ColumnLineageError: it is missing, or not of this form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return ProjectLineage(*({k: _model(v) for k, v in document[key].items()} for key in _SECTIONS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColumnLineageError(
            f"expected column lineage at {path}, found {type(error).__name__}: {error}; write it with `make manifest`"
        ) from error


def render(lineage: ProjectLineage) -> str:
    """The file's text: one input a line, always in the same order."""
    document = {
        key: {unique_id: _as_json(model) for unique_id, model in sorted(getattr(lineage, key).items())}
        for key in _SECTIONS
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_SECTIONS = ("models", "without_history")


def _as_json(model: ModelLineage) -> dict[str, Any]:
    columns = {name: origin.reason or _origins_as_json(origin.inputs) for name, origin in model.columns.items()}
    return {"columns": columns, "rows": _origins_as_json(model.rows)}


def _origins_as_json(origins: Origins) -> dict[str, str]:
    return {f"{ref.node}.{ref.column}": " ".join(sorted(kinds)) for ref, kinds in sorted(origins.items())}


def _model(document: Mapping[str, Any]) -> ModelLineage:
    columns = {
        name: ColumnOrigins({}, origin) if isinstance(origin, str) else ColumnOrigins(_origins(origin))
        for name, origin in document["columns"].items()
    }
    return ModelLineage(columns, _origins(document["rows"]))


def _origins(document: Mapping[str, str]) -> Origins:
    found = {}
    for name, kinds in document.items():
        node, _, column = name.rpartition(".")
        found[ColumnRef(node, column)] = frozenset(map(Kind, kinds.split()))
    return found
