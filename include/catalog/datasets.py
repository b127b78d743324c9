"""What a relation is called: in OpenLineage, and in the catalog, where lineage and quality scores must meet on one name.

A relation of Redshift is ``redshift://<host>:<port>`` and ``<database>.<schema>.<relation>``
(https://openlineage.io/docs/spec/naming); a DuckDB file that stands for a Redshift warehouse (`StandsFor`) has that warehouse's
names, so that a laptop sends to its catalog what production sends to its own. A file that stands for nothing is ``duckdb://<file>``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from include.warehouse.connection import DuckDbConnection

if TYPE_CHECKING:
    from typing import Literal

    from data_platform.lineage.naming import Naming
    from include.warehouse.connection import StandsFor, WarehouseConnection


class DatasetName(NamedTuple):
    """A dataset's name in OpenLineage."""

    namespace: str
    name: str


def dataset_name(
    connection: WarehouseConnection, schema: str, relation: str, *, database: str | None = None
) -> DatasetName:
    """The name of a relation.

    Args:
        connection: the warehouse.
        schema: that the relation is in.
        relation: without its schema.
        database: that the schema is in; default: the one that the warehouse's connection names.
    """
    namespace, own = _warehouse_name(connection)
    return DatasetName(namespace, ".".join(_part(part) for part in (database or own, schema, relation)))


def _warehouse_name(connection: WarehouseConnection | StandsFor) -> tuple[str, str]:
    """Namespace and database."""
    if not isinstance(connection, DuckDbConnection):
        return f"redshift://{connection.host.lower()}:{connection.port}", connection.database
    if connection.stands_for is not None:
        return _warehouse_name(connection.stands_for)
    return f"duckdb://{connection.path.name}", connection.path.stem


def _part(name: str) -> str:
    """Quoted where the name has a dot of its own, as `data_platform.lineage.naming.split_name` reads it."""
    return '"' + name.replace('"', '""') + '"' if {".", '"'} & set(name) else name


def relation_identifier(
    connection: WarehouseConnection,
    naming: Naming,
    schema: str,
    relation: str,
    kind: Literal["view", "table"] = "view",
) -> str:
    """What the catalog knows a relation by: its ARN, or, if it has none, namespace, slash and name.

    Equal to the ``sourceIdentifier`` of the relation's node in the lineage, and of its asset.

    Args:
        connection: the warehouse.
        naming: the catalog's names; `data_platform.lineage.config.LineageTransport.names` has its properties.
        schema: that the relation is in.
        relation: without its schema.
        kind: a published relation is a view on Redshift, and called so wherever it is.
    """
    namespace, name = dataset_name(connection, schema, relation)
    return naming.arn(namespace, name, kind.upper()) or f"{namespace}/{name}"
