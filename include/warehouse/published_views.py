"""A product's versions on Redshift: a version is a set of tables, which readers see through one stable consumer view a relation.

::

    <product>.<relation>                        the consumer view, late-binding
    <product>_versions.<relation>__<version>    a version's table: published, left by its readers, or held
    <product>_versions._publications            one row for each published version
"""

# ruff: noqa: S608 - every name in a statement is quoted by `identifiers`, every value bound

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from itertools import batched, pairwise
from typing import TYPE_CHECKING

from include.warehouse.exceptions import PublishFailed, ReleaseRefused, StatementFailed
from include.warehouse.gateway import MAX_BATCH
from include.warehouse.identifiers import MAX_LENGTH, quoted
from include.warehouse.publication import COLUMNS, PUBLICATION, version_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.warehouse.gateway import Warehouse
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication

log = logging.getLogger(__name__)

PUBLICATIONS = "_publications"
_ADDED = ("quality_score", "released_by", "release_reason")
"""Columns that the table of an environment that is older than they are lacks."""
MAX_RELATIONS = MAX_BATCH - 3 - len(_ADDED)
"""Beside the relations, preparing needs two schemas, the table of publications and, once, its added columns."""
_VERSIONED = re.compile(r"(?P<relation>\w+)__(?P<version>v\d{20})")
_VERSION_SUFFIX_LENGTH = len("__v") + 20


def publish_views(warehouse: Warehouse, product: Product, publication: Publication, built_in: str) -> None:
    """Copy each relation into the version's table, then repoint all consumer views in one transaction.

    Args:
        warehouse: where.
        product: what.
        publication: the version.
        built_in: schema that dbt built the relations in.

    Raises:
        PublishFailed: readers still see the version before.
    """
    try:
        _prepare(warehouse, product, publication, built_in)
        columns = _columns(warehouse, product, built_in)
        _repoint(warehouse, product, publication, columns)
    except StatementFailed as error:
        raise PublishFailed(
            f"product {product.name}: expected version {publication.version} to be published, found: {error}. Readers still see the "
            "version before. Clear this task once the cause is mended; what is left of the failed version goes after the grace time."
        ) from error


def hold_views(warehouse: Warehouse, product: Product, publication: Publication, built_in: str) -> None:
    """Copy each relation into the version's table, and leave the consumer views as they are. Held again, it is copied again.

    Raises:
        PublishFailed: nothing is held that was not before.
    """
    try:
        discard_views(warehouse, product, publication.version)
        _prepare(warehouse, product, publication, built_in)
    except StatementFailed as error:
        raise PublishFailed(
            f"product {product.name}: expected version {publication.version} to be held, found: {error}. Readers still see the version "
            "before; clear this task once the cause is mended"
        ) from error


def release_views(warehouse: Warehouse, product: Product, publication: Publication) -> None:
    """Repoint all consumer views to the held version in one transaction. Released again, it is published already: that is harmless.

    Raises:
        ReleaseRefused: its tables are not there.
        PublishFailed: readers still see the version before.
    """
    try:
        if version_in_use(warehouse, product) == publication.version:
            return
        columns = _columns(warehouse, product, versions_schema(product), publication)
    except StatementFailed as error:
        raise ReleaseRefused(
            f"product {product.name}: expected {publication.version} to be held, found: {error}; nothing was published"
        ) from error
    try:
        _repoint(warehouse, product, publication, columns)
    except StatementFailed as error:
        raise PublishFailed(
            f"product {product.name}: expected the held version {publication.version} to be published, found: {error}. Readers still see "
            "the version before. Clear this task once the cause is mended"
        ) from error


def discard_views(warehouse: Warehouse, product: Product, version: str) -> list[str]:
    """Drop the tables of a version that was never published; returns their names.

    Raises:
        StatementFailed: one couldn't be dropped; it may be called again.
    """
    tables = [table for table in _version_tables(warehouse, product) if table.endswith(f"__{version}")]
    _drop(warehouse, product, tables)
    return tables


def versions_schema(product: Product) -> str:
    """The schema of all versions' tables; consumers have no business there."""
    return f"{product.name}_versions"


def _prepare(warehouse: Warehouse, product: Product, publication: Publication, built_in: str) -> None:
    rows = warehouse.query(
        "select column_name from information_schema.columns where table_schema = :schema and table_name = :table",
        {"schema": versions_schema(product), "table": PUBLICATIONS},
    )
    existing = [str(name) for (name,) in rows]
    warehouse.transaction(prepare_statements(product, publication, built_in, existing))


def prepare_statements(
    product: Product, publication: Publication, built_in: str, existing: Sequence[str] = ()
) -> list[str]:
    """Make the version's tables; readers don't see them yet.

    Args:
        product: what.
        publication: the version.
        built_in: schema that dbt built the relations in.
        existing: columns of the table of publications; none if it isn't there yet.

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
    columns = ", ".join(f"{name} {kind}{'' if name in _ADDED else ' not null'}" for name, kind in COLUMNS.items())
    lacking = [name for name in _ADDED if existing and name not in existing]
    return [
        f"create schema if not exists {quoted(versions)}",
        f"create schema if not exists {quoted(product.name)}",
        f"create table if not exists {quoted(versions, PUBLICATIONS)} ({columns})",
        *(f"alter table {quoted(versions, PUBLICATIONS)} add column {name} {COLUMNS[name]}" for name in lacking),
        *(
            f"create table {quoted(versions, versioned(relation, publication))} as select * from {quoted(built_in, relation)}"
            for relation in product.relations
        ),
    ]


def _repoint(
    warehouse: Warehouse, product: Product, publication: Publication, columns: dict[str, Sequence[str]]
) -> None:
    statements = repoint_statements(product, publication, columns, _own_views(warehouse, product))
    texts = {
        "run_id": publication.run_id,
        "source_checkpoint": publication.source_checkpoint or "unknown",  # the Data API binds no empty text
        "released_by": publication.released_by,
        "release_reason": publication.release_reason,
    }
    warehouse.transaction(statements, {name: text for name, text in texts.items() if text})


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
    views = {
        relation: f"select {', '.join(quoted(column) for column in columns[relation])} "
        f"from {quoted(versions, versioned(relation, publication))}"
        for relation in product.relations
    }
    views[PUBLICATION] = (
        f"select {', '.join(COLUMNS)} from {quoted(versions, PUBLICATIONS)} where version = '{publication.version}'"
    )
    gone = sorted(set(existing) - set(views))
    return [
        f"insert into {quoted(versions, PUBLICATIONS)} ({', '.join(COLUMNS)}) values ({_row(publication)})",
        *(
            f"create or replace view {quoted(product.name, name)} as {body} with no schema binding"
            for name, body in views.items()
        ),
        *(f"drop view {quoted(product.name, name)}" for name in gone),
    ]


def _row(publication: Publication) -> str:
    """The values of `COLUMNS`; what is somebody's text is bound."""
    moment = publication.published_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    score = publication.quality_score
    return ", ".join(
        (
            f"'{publication.version}'",
            ":run_id",
            ":source_checkpoint",
            f"cast('{moment}' as timestamp)",
            "null" if score is None else f"{score:.2f}",
            ":released_by" if publication.released_by else "null",
            ":release_reason" if publication.release_reason else "null",
        )
    )


def versioned(relation: str, publication: Publication) -> str:
    """The version's table of ``relation``."""
    return f"{relation}__{publication.version}"


def _columns(
    warehouse: Warehouse, product: Product, schema: str, publication: Publication | None = None
) -> dict[str, Sequence[str]]:
    """Columns of each relation, in order, as they are in ``schema``: under the relation's name, or as the table of a version."""
    rows = warehouse.query(
        "select table_name, column_name from information_schema.columns where table_schema = :schema order by table_name, ordinal_position",
        {"schema": schema},
    )
    tables = {versioned(name, publication) if publication else name: name for name in product.relations}
    columns: dict[str, list[str]] = {relation: [] for relation in product.relations}
    for table, column in rows:
        if table in tables:
            columns[tables[table]].append(column)
    missing = sorted(relation for relation, names in columns.items() if not names)
    if missing:
        raise StatementFailed(f"expected the relations {missing} in schema {schema}, found none of their columns")
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


def version_in_use(warehouse: Warehouse, product: Product) -> str | None:
    """The version that readers see, as their own ``_publication`` names it; None if there is none.

    Raises:
        StatementFailed: it can't be read, or names no single version.
    """
    there = warehouse.query(
        "select table_name from information_schema.tables where table_schema = :schema and table_name = :table",
        {"schema": product.name, "table": PUBLICATION},
    )
    if not there:
        return None
    publication = quoted(product.name, PUBLICATION)
    found = [str(version) for (version,) in warehouse.query(f"select version from {publication}")]
    if len(found) != 1:
        raise StatementFailed(f"expected {publication} to name one version, found {found}")
    return found[0]


def was_published(warehouse: Warehouse, product: Product, version: str) -> bool:
    """Whether readers ever saw a version.

    Raises:
        StatementFailed: Redshift does not say.
    """
    versions = versions_schema(product)
    if PUBLICATIONS not in _version_tables(warehouse, product):
        return False
    rows = warehouse.query(
        f"select version from {quoted(versions, PUBLICATIONS)} where version = :version", {"version": version}
    )
    return bool(rows)


def retire_versions(
    warehouse: Warehouse, product: Product, grace_seconds: float, now: datetime | None = None
) -> list[str]:
    """Drop the tables of versions that readers left at least ``grace_seconds`` ago.

    The grace time starts when a version was superseded, or, if it never was published, when it was made. The version in use never goes,
    nor does one that a clock says is newer, such as one that is held; if the one in use can't be read, none does.

    Returns:
        The tables that were dropped.

    Raises:
        StatementFailed: a table couldn't be dropped; the task may be run again.
    """
    limit = (now or datetime.now(UTC)) - timedelta(seconds=grace_seconds)
    versions = versions_schema(product)
    try:
        in_use = version_in_use(warehouse, product)
    except StatementFailed as error:
        in_use, found = None, str(error)
    else:
        found = in_use or "none"
    if in_use is None:
        publication = quoted(product.name, PUBLICATION)
        log.warning("expected %s to name the version in use, found: %s. Nothing was dropped", publication, found)
        return []
    published = sorted(
        (str(version), _moment(published_at))
        for version, published_at in warehouse.query(
            f"select version, published_at from {quoted(versions, PUBLICATIONS)}"
        )
    )
    # a held version is released long after it was made, so what counts is when it was published
    left_at = {version: moment for (version, _), (_, moment) in pairwise(published)}

    def is_old(version: str) -> bool:
        return version < in_use and left_at.get(version, version_time(version)) < limit

    tables = _version_tables(warehouse, product)
    old = [table for table in tables if (named := _VERSIONED.fullmatch(table)) and is_old(named["version"])]
    _drop(warehouse, product, old)
    if forgotten := [version for version, _ in published if is_old(version)]:
        warehouse.query(
            f"delete from {quoted(versions, PUBLICATIONS)} where version <= :version", {"version": forgotten[-1]}
        )
    return old


def _version_tables(warehouse: Warehouse, product: Product) -> list[str]:
    rows = warehouse.query(
        "select table_name from information_schema.tables where table_schema = :schema",
        {"schema": versions_schema(product)},
    )
    return sorted(str(table) for (table,) in rows)


def _drop(warehouse: Warehouse, product: Product, tables: Sequence[str]) -> None:
    versions = versions_schema(product)
    for batch in batched(tables, MAX_BATCH):
        warehouse.transaction([f"drop table if exists {quoted(versions, table)}" for table in batch])


def _moment(value: object) -> datetime:
    """A timestamp as the Data API tells it: text, in UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
