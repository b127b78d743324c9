"""Publish a product: readers see the version before or the new one, never a mix.

On DuckDB a version is a file of its own, ``<published_dir>/<product>_products.duckdb``, that takes its place by one atomic rename;
whoever has the old file open keeps reading it. On Redshift a version is a set of tables in the schema ``<product>_versions``; each
relation has one stable consumer view in the schema ``<product>``, and one transaction repoints all of them. Either way the relation
``_publication`` says, in one row, which version is read.
"""

# ruff: noqa: S608 - every name in a statement is quoted by `identifiers`, every value bound

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched, pairwise
from typing import TYPE_CHECKING

from include.warehouse.connection import DuckDbConnection
from include.warehouse.exceptions import PublishFailed, StatementFailed
from include.warehouse.gateway import MAX_BATCH, open_warehouse
from include.warehouse.identifiers import MAX_LENGTH, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.gateway import Warehouse
    from include.warehouse.products import Product

log = logging.getLogger(__name__)

PUBLICATION = "_publication"
PUBLICATIONS = "_publications"
MAX_RELATIONS = MAX_BATCH - 3
"""Beside the relations, preparing needs two schemas and the table of publications."""
_VERSION_FORMAT = "v%Y%m%d%H%M%S%f"
_VERSIONED = re.compile(r"(?P<relation>\w+)__(?P<version>v\d{20})")
_VERSION_SUFFIX_LENGTH = len("__v") + 20


@dataclass(frozen=True)
class Publication:
    """One published version.

    Attributes:
        version: ``v`` and the UTC time it was made, to the microsecond; sorts by time.
        run_id: the Airflow run that made it.
        source_checkpoint: how far the source had been replicated, as the integration says; empty if unknown.
        published_at: UTC.
    """

    version: str
    run_id: str
    source_checkpoint: str
    published_at: datetime

    @classmethod
    def now(cls, run_id: str, source_checkpoint: str) -> Publication:
        """A new version."""
        moment = datetime.now(UTC)
        return cls(moment.strftime(_VERSION_FORMAT), run_id, source_checkpoint, moment)


def publish(connection: WarehouseConnection, product: Product, publication: Publication) -> None:
    """Make ``publication`` what readers of ``product`` see. Publishing again is harmless.

    Raises:
        PublishFailed: readers still see the version before; the message says why.
    """
    if not product.relations:
        raise PublishFailed(
            f"product {product.name}: expected models with the tag 'published', found none in the manifest"
        )
    if isinstance(connection, DuckDbConnection):
        publish_file(connection, product, publication)
    else:
        publish_views(open_warehouse(connection), product, publication, product.audit_schema(connection))
    log.info("published %s of %s: %s", publication.version, product.name, ", ".join(product.relations))


# DuckDB


def published_file(connection: DuckDbConnection, product: Product) -> Path:
    """Where readers find the product; not named as its schema, or DuckDB could not tell ``finance.x`` apart."""
    return connection.published_dir / f"{product.name}_products.duckdb"


def publish_file(connection: DuckDbConnection, product: Product, publication: Publication) -> Path:
    """Write the version's file beside the published one, then rename it over.

    Must run while no other process has the build file open for writing.

    Raises:
        PublishFailed: see `publish`.
    """
    import duckdb

    connection.published_dir.mkdir(parents=True, exist_ok=True)
    published = published_file(connection, product)
    new = published.with_suffix(".duckdb.new")
    leftovers = (new, new.with_name(f"{new.name}.wal"))
    for leftover in leftovers:  # of a publisher that was killed
        leftover.unlink(missing_ok=True)
    try:
        _write_version(connection, new, product, publication)
        _make_durable(new)
        new.replace(published)
        _make_durable(published.parent)
    except (duckdb.Error, OSError) as error:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        raise PublishFailed(
            f"product {product.name}: expected to write {new}, found: {error}. Readers still see the version before. "
            "If the disk is full, free some space; if a relation is missing, build everything once; then clear this task."
        ) from error
    return published


def _write_version(connection: DuckDbConnection, new: Path, product: Product, publication: Publication) -> None:
    import duckdb

    schema, built_in = quoted(product.name), product.audit_schema(connection)
    with duckdb.connect(":memory:") as database:
        database.execute(f"attach '{_literal(connection.path)}' as work (read_only)")
        database.execute(f"attach '{_literal(new)}' as version")
        database.execute(f"create schema version.{schema}")
        for relation in product.relations:
            source = quoted("work", built_in, relation)
            database.execute(f"create table version.{schema}.{quoted(relation)} as from {source}")
        database.execute(
            f"create table version.{schema}.{quoted(PUBLICATION)} as select $version as version, $run_id as run_id, "
            "$source_checkpoint as source_checkpoint, $published_at::timestamp as published_at",
            {**publication.__dict__, "published_at": publication.published_at.replace(tzinfo=None)},
        )
        database.execute("checkpoint version")
        database.execute("detach version")


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def _make_durable(path: Path) -> None:
    """Without it a power cut after the rename could leave the new name with none of its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Redshift


def publish_views(warehouse: Warehouse, product: Product, publication: Publication, built_in: str) -> None:
    """Copy each relation into the version's table, then repoint all consumer views in one transaction.

    Args:
        warehouse: where.
        product: what.
        publication: the version.
        built_in: schema that dbt built the relations in.

    Raises:
        PublishFailed: see `publish`.
    """
    try:
        warehouse.transaction(prepare_statements(product, publication, built_in))
        warehouse.transaction(
            repoint_statements(
                product, publication, _columns(warehouse, product, built_in), _own_views(warehouse, product)
            ),
            {"run_id": publication.run_id, "source_checkpoint": publication.source_checkpoint or "unknown"},
        )
    except StatementFailed as error:
        raise PublishFailed(
            f"product {product.name}: expected version {publication.version} to be published, found: {error}. Readers still see the "
            "version before. Clear this task once the cause is mended; what is left of the failed version goes after the grace time."
        ) from error


def versions_schema(product: Product) -> str:
    """The schema of all versions' tables; consumers have no business there."""
    return f"{product.name}_versions"


def prepare_statements(product: Product, publication: Publication, built_in: str) -> list[str]:
    """Make the version's tables; readers don't see them yet.

    Raises:
        PublishFailed: the product can't be published by one transaction, or a name is too long for a versioned one.
    """
    if len(product.relations) > MAX_RELATIONS:
        raise PublishFailed(
            f"product {product.name}: expected at most {MAX_RELATIONS} relations, which one transaction of the Redshift Data API "
            f"can hold, found {len(product.relations)}; split the product"
        )
    long = [name for name in product.relations if len(name) > MAX_LENGTH - _VERSION_SUFFIX_LENGTH]
    if long:
        raise PublishFailed(
            f"expected names of at most {MAX_LENGTH - _VERSION_SUFFIX_LENGTH} characters, found {long}; shorten them"
        )
    versions = versions_schema(product)
    return [
        f"create schema if not exists {quoted(versions)}",
        f"create schema if not exists {quoted(product.name)}",
        f"create table if not exists {quoted(versions, PUBLICATIONS)} (version varchar(32) not null, run_id varchar(250) not null, "
        "source_checkpoint varchar(250) not null, published_at timestamp not null)",
        *(
            f"create table {quoted(versions, versioned(relation, publication))} as select * from {quoted(built_in, relation)}"
            for relation in product.relations
        ),
    ]


def repoint_statements(
    product: Product, publication: Publication, columns: dict[str, Sequence[str]], existing: Iterable[str]
) -> list[str]:
    """The one transaction: record the version, repoint every consumer view, drop those that left the product.

    Args:
        product: what.
        publication: the version.
        columns: of each relation, in order.
        existing: consumer views that earlier publications made; nobody else's, for those not in the product are dropped.

    The views are late-binding, so that a version's tables can be dropped, and a view's columns can change, without CASCADE:
    https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_VIEW.html. ``create or replace`` keeps the view's grants.
    """
    versions = versions_schema(product)
    moment = publication.published_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    views = {
        relation: f"select {', '.join(quoted(column) for column in columns[relation])} "
        f"from {quoted(versions, versioned(relation, publication))}"
        for relation in product.relations
    }
    views[PUBLICATION] = (
        "select version, run_id, source_checkpoint, published_at "
        f"from {quoted(versions, PUBLICATIONS)} where version = '{publication.version}'"
    )
    gone = sorted(set(existing) - set(views))
    return [
        f"insert into {quoted(versions, PUBLICATIONS)} values "
        f"('{publication.version}', :run_id, :source_checkpoint, cast('{moment}' as timestamp))",
        *(
            f"create or replace view {quoted(product.name, name)} as {body} with no schema binding"
            for name, body in views.items()
        ),
        *(f"drop view {quoted(product.name, name)}" for name in gone),
    ]


def versioned(relation: str, publication: Publication) -> str:
    """The version's table of ``relation``."""
    return f"{relation}__{publication.version}"


def _columns(warehouse: Warehouse, product: Product, built_in: str) -> dict[str, Sequence[str]]:
    rows = warehouse.query(
        "select table_name, column_name from information_schema.columns where table_schema = :schema order by table_name, ordinal_position",
        {"schema": built_in},
    )
    columns: dict[str, list[str]] = {relation: [] for relation in product.relations}
    for relation, column in rows:
        columns.get(relation, []).append(column)
    missing = sorted(relation for relation, names in columns.items() if not names)
    if missing:
        raise StatementFailed(f"expected the relations {missing} in schema {built_in}, found none of their columns")
    return dict(columns)


def _own_views(warehouse: Warehouse, product: Product) -> list[str]:
    """Consumer views that earlier publications made: those with a version's table. A colleague's view in the schema has none."""
    versions = versions_schema(product)
    rows = warehouse.query(
        "select table_schema, table_name from information_schema.tables "
        "where table_schema = :versions or (table_schema = :schema and table_type = 'VIEW')",
        {"schema": product.name, "versions": versions},
    )
    views = {str(name) for schema, name in rows if schema == product.name}
    tables = [_VERSIONED.fullmatch(str(name)) for schema, name in rows if schema == versions]
    return sorted(views & {table["relation"] for table in tables if table})


def _version_in_use(warehouse: Warehouse, product: Product) -> str | None:
    publication = quoted(product.name, PUBLICATION)
    try:
        found: object = [str(version) for (version,) in warehouse.query(f"select version from {publication}")]
    except StatementFailed as error:
        found = error
    if isinstance(found, list) and len(found) == 1:
        return str(found[0])
    log.warning("expected %s to name the version in use, found: %s. Nothing was dropped", publication, found)
    return None


def retire_versions(
    warehouse: Warehouse, product: Product, grace_seconds: float, now: datetime | None = None
) -> list[str]:
    """Drop the tables of versions that readers left at least ``grace_seconds`` ago.

    The grace time starts when a version was superseded, or, if it never was published, when it was made. The version in use, as readers'
    own ``_publication`` names it, never goes, nor does one that a clock says is newer; if it can't be read, none does.

    Returns:
        The tables that were dropped.

    Raises:
        StatementFailed: a table couldn't be dropped; the task may be run again.
    """
    limit = (now or datetime.now(UTC)) - timedelta(seconds=grace_seconds)
    versions = versions_schema(product)
    in_use = _version_in_use(warehouse, product)
    if in_use is None:
        return []
    published = sorted(
        str(version) for (version,) in warehouse.query(f"select version from {quoted(versions, PUBLICATIONS)}")
    )
    superseded_by = dict(pairwise(published))

    def is_old(version: str) -> bool:
        if version >= in_use:
            return False
        left = superseded_by.get(version, version)
        return datetime.strptime(left, _VERSION_FORMAT).replace(tzinfo=UTC) < limit

    rows = warehouse.query(
        "select table_name from information_schema.tables where table_schema = :schema", {"schema": versions}
    )
    tables = sorted(str(table) for (table,) in rows)
    old = [table for table in tables if (found := _VERSIONED.fullmatch(table)) and is_old(found["version"])]
    for batch in batched(old, MAX_BATCH):
        warehouse.transaction([f"drop table if exists {quoted(versions, table)}" for table in batch])
    if forgotten := [version for version in published if is_old(version)]:
        warehouse.query(
            f"delete from {quoted(versions, PUBLICATIONS)} where version <= :version", {"version": forgotten[-1]}
        )
    return old
