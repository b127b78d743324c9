"""A product's versions on DuckDB: a version is a file of its own, which takes its place by one atomic rename.

::

    <published_dir>/<product>_products.duckdb         what readers open; who has the old file open keeps reading it
    <published_dir>/held/<product>_products.duckdb    the version that the quality gate holds, if there is one
"""

# ruff: noqa: S608 - every name in a statement is quoted by `identifiers`, every value bound

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from include.warehouse.exceptions import PublishFailed, ReleaseRefused
from include.warehouse.identifiers import quoted
from include.warehouse.publication import PUBLICATION

if TYPE_CHECKING:
    from pathlib import Path

    from include.warehouse.connection import DuckDbConnection
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication


@dataclass(frozen=True)
class _Place:
    """Relations to copy: a DuckDB file and a schema in it."""

    file: Path
    schema: str


def published_file(connection: DuckDbConnection, product: Product) -> Path:
    """Where readers find the product; not named as its schema, or DuckDB could not tell ``finance.x`` apart."""
    return connection.published_dir / f"{product.name}_products.duckdb"


def held_file(connection: DuckDbConnection, product: Product) -> Path:
    """Where the held version is; a folder of its own, so that nobody who lists the published files takes it for one."""
    return connection.published_dir / "held" / f"{product.name}_products.duckdb"


def publish_file(connection: DuckDbConnection, product: Product, publication: Publication) -> None:
    """Write the version's file beside the published one, then rename it over.

    Must run while no other process has the build file open for writing.

    Raises:
        PublishFailed: readers still see the version before.
    """
    built = _Place(connection.path, product.audit_schema(connection))
    _write(built, published_file(connection, product), product, publication)


def hold_file(connection: DuckDbConnection, product: Product, publication: Publication) -> None:
    """Write the version's file where no reader looks; one that was held before is replaced.

    Raises:
        PublishFailed: nothing is held that was not before.
    """
    built = _Place(connection.path, product.audit_schema(connection))
    _write(built, held_file(connection, product), product, publication)


def release_file(connection: DuckDbConnection, product: Product, publication: Publication) -> None:
    """Publish the held version. Released again, after a try that died, it is published already: that is harmless.

    Raises:
        ReleaseRefused: another version is held, or none.
        PublishFailed: readers still see the version before.
    """
    held, published = held_file(connection, product), published_file(connection, product)
    found = file_version(held, product)
    if found is None and file_version(published, product) == publication.version:
        return
    if found != publication.version:
        raise ReleaseRefused(
            f"product {product.name}: expected {publication.version} to be held, found {found or 'none'}; nothing was published"
        )
    _write(_Place(held, product.name), published, product, publication)
    held.unlink(missing_ok=True)


def discard_file(connection: DuckDbConnection, product: Product, version: str) -> None:
    """Remove the held version, if it is this one."""
    held = held_file(connection, product)
    if file_version(held, product) == version:
        held.unlink(missing_ok=True)


def file_version(file: Path, product: Product) -> str | None:
    """The version that a file holds; None if there is no such file, or no version in it.

    Raises:
        PublishFailed: there is a file, and it can't be read.
    """
    import duckdb

    if not file.exists():
        return None
    try:
        with duckdb.connect(str(file), read_only=True) as database:
            row = database.execute(f"select version from {quoted(product.name, PUBLICATION)}").fetchone()
    except duckdb.CatalogException:
        return None
    except duckdb.Error as error:
        raise PublishFailed(
            f"product {product.name}: expected a version in {file}, found: {error}. Nothing was changed; if the file is damaged, remove "
            "it: the next build that passes the gate writes a new one"
        ) from error
    return str(row[0]) if row else None


def _write(source: _Place, target: Path, product: Product, publication: Publication) -> None:
    import duckdb

    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".duckdb.new")
    leftovers = (new, new.with_name(f"{new.name}.wal"))
    for leftover in leftovers:  # of a publisher that was killed
        leftover.unlink(missing_ok=True)
    try:
        _write_version(source, new, product, publication)
        _make_durable(new)
        new.replace(target)
        _make_durable(target.parent)
    except (duckdb.Error, OSError) as error:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        raise PublishFailed(
            f"product {product.name}: expected to write {new}, found: {error}. Readers still see the version before. "
            "If the disk is full, free some space; if a relation is missing, build everything once; then clear this task."
        ) from error


def _write_version(source: _Place, new: Path, product: Product, publication: Publication) -> None:
    import duckdb

    schema = quoted(product.name)
    told = {**publication.__dict__, "published_at": publication.published_at.astimezone(UTC).replace(tzinfo=None)}
    with duckdb.connect(":memory:") as database:
        database.execute(f"attach '{_literal(source.file)}' as work (read_only)")
        database.execute(f"attach '{_literal(new)}' as version")
        database.execute(f"create schema version.{schema}")
        for relation in product.relations:
            built = quoted("work", source.schema, relation)
            database.execute(f"create table version.{schema}.{quoted(relation)} as from {built}")
        database.execute(
            f"create table version.{schema}.{quoted(PUBLICATION)} as select $version as version, $run_id as run_id, "
            "$source_checkpoint as source_checkpoint, $published_at::timestamp as published_at, "
            "$quality_score::double as quality_score, $released_by::varchar as released_by, "
            "$release_reason::varchar as release_reason",
            told,
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
