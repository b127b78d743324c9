"""Publish a product: readers see the version before or the new one, never a mix.

What dbt builds in the audit schema is a version only once it is published; before that the quality gate looks at it. A version that the
gate refuses is *held*: written as a version is, where no reader looks, so that it can be looked at when the next build has long replaced
what is in the audit schema. `release` publishes it after all. How a version is stored is said in `published_file` (DuckDB) and
`published_views` (Redshift).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.warehouse.connection import DuckDbConnection
from include.warehouse.exceptions import PublishFailed, ReleaseRefused
from include.warehouse.gateway import open_warehouse
from include.warehouse.published_file import (
    discard_file,
    file_version,
    hold_file,
    publish_file,
    published_file,
    release_file,
)
from include.warehouse.published_views import (
    discard_views,
    hold_views,
    publish_views,
    release_views,
    version_in_use,
    was_published,
)

if TYPE_CHECKING:
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication

log = logging.getLogger(__name__)


def publish(connection: WarehouseConnection, product: Product, publication: Publication) -> None:
    """Make ``publication`` what readers of ``product`` see. Publishing again is harmless.

    Raises:
        PublishFailed: readers still see the version before; the message says why.
    """
    _refuse_empty(product)
    if isinstance(connection, DuckDbConnection):
        publish_file(connection, product, publication)
    else:
        publish_views(open_warehouse(connection), product, publication, product.audit_schema(connection))
    log.info("published %s of %s: %s", publication.version, product.name, ", ".join(product.relations))


def hold(connection: WarehouseConnection, product: Product, publication: Publication) -> None:
    """Keep what is in the audit schema as a version that no reader sees. Holding it again is harmless.

    Raises:
        PublishFailed: it can't be written; readers see the version before, as they would have.
    """
    _refuse_empty(product)
    if isinstance(connection, DuckDbConnection):
        hold_file(connection, product, publication)
    else:
        hold_views(open_warehouse(connection), product, publication, product.audit_schema(connection))
    log.info("held %s of %s: %s", publication.version, product.name, ", ".join(product.relations))


def release(connection: WarehouseConnection, product: Product, publication: Publication) -> None:
    """Publish a held version. Releasing it again is harmless.

    Raises:
        ReleaseRefused: it isn't held any more, or readers have a newer one.
        PublishFailed: readers still see the version before.
    """
    current = current_version(connection, product)
    if current is not None and current > publication.version:
        raise ReleaseRefused(
            f"product {product.name}: expected to release {publication.version}, found that readers have the newer {current}; "
            "nothing was published, nothing needs to be done"
        )
    if isinstance(connection, DuckDbConnection):
        release_file(connection, product, publication)
    else:
        release_views(open_warehouse(connection), product, publication)
    log.info("released %s of %s, by %s", publication.version, product.name, publication.released_by)


def discard(connection: WarehouseConnection, product: Product, version: str) -> None:
    """Remove a held version; one that is or was published stays.

    Raises:
        StatementFailed: Redshift refused; it may be called again.
    """
    if isinstance(connection, DuckDbConnection):
        discard_file(connection, product, version)
        return
    warehouse = open_warehouse(connection)
    if not was_published(
        warehouse, product, version
    ):  # what was, readers may still be using; it goes after the grace time
        discard_views(warehouse, product, version)


def current_version(connection: WarehouseConnection, product: Product) -> str | None:
    """The version that readers see; None if nothing was ever published.

    Raises:
        StatementFailed: Redshift does not say.
    """
    if isinstance(connection, DuckDbConnection):
        return file_version(published_file(connection, product), product)
    return version_in_use(open_warehouse(connection), product)


def _refuse_empty(product: Product) -> None:
    if not product.relations:
        raise PublishFailed(
            f"product {product.name}: expected models with the tag 'published', found none in the manifest"
        )
