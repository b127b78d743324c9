"""What a DAG knows of a data product at parse time: its relations, its models and the source tables, from the committed manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.platform.paths import DBT_MANIFEST
from include.warehouse.manifest import ManifestError, load_models

if TYPE_CHECKING:
    from pathlib import Path

    from include.warehouse.connection import WarehouseConnection


@dataclass(frozen=True)
class Product:
    """What is published together.

    Attributes:
        name: the mart's area; names the published file or schema.
        relations: the names that readers use, in alphabetical order.
    """

    name: str
    relations: tuple[str, ...]

    def audit_schema(self, connection: WarehouseConnection) -> str:
        """Where dbt builds the relations and the quality gate looks at them (``macros/generate_schema_name.sql``)."""
        return f"{connection.build_schema}_{self.name}_audit"


def published_product(name: str, manifest: Path = DBT_MANIFEST) -> Product:
    """The published models of the mart area ``name``."""
    return Product(
        name, tuple(sorted(model.name for model in load_models(manifest) if model.published and model.layer == name))
    )


def source_tables(source: str, manifest: Path = DBT_MANIFEST) -> tuple[str, ...]:
    """Names of the tables of a dbt source, in alphabetical order.

    Raises:
        ManifestError: the manifest has no such source.
    """
    sources = json.loads(manifest.read_text(encoding="utf-8"))["sources"].values()
    tables = tuple(sorted(table["name"] for table in sources if table["source_name"] == source))
    if not tables:
        raise ManifestError(
            f"expected tables of the dbt source {source} in {manifest}, found none; run `make manifest`"
        )
    return tables
