"""``make check-contracts``: validate the contracts, compile their checks for both warehouses, compare them with the dbt models."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from include.contracts.checks import Severity
from include.contracts.compile import compile_checks
from include.contracts.dbt_models import differences
from include.contracts.exceptions import ContractError, ContractInvalid
from include.contracts.load import DEFAULT_AREA, find_product, hold_published, load_products
from include.contracts.warehouse_types import Dialect
from include.platform.paths import DATA_PRODUCTS_DIR, DBT_MANIFEST
from include.warehouse.manifest import ManifestError, load_models
from include.warehouse.products import published_product

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.contracts.products import DataProduct


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, or what is wrong; exit status 1 then."""
    parser = argparse.ArgumentParser(prog="python -m include.contracts", description=__doc__)
    parser.add_argument("--area", default=DEFAULT_AREA)
    parser.add_argument("--only", default="", help="one product")
    parser.add_argument("--root", type=_path, default=DATA_PRODUCTS_DIR)
    parser.add_argument("--manifest", type=_path, default=DBT_MANIFEST)
    options = parser.parse_args(arguments)
    try:
        rows = [_row(product) for product in _held(options.area, options.only, options.root, options.manifest)]
    except (ContractError, ManifestError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    header = ("product", "version", "status", "relations", "columns", "checks", "blocking", "warning")
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    for row in (header, *rows):
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


def _path(text: str) -> Path:
    return type(DATA_PRODUCTS_DIR)(text).resolve()


def _held(area: str, only: str, root: Path, manifest: Path) -> tuple[DataProduct, ...]:
    products = (find_product(area, only, root),) if only else load_products(area, root)
    models = load_models(manifest)
    if problems := [problem for product in products for problem in differences(product, models)]:
        raise ContractInvalid(problems)
    published = published_product(area, manifest).relations
    if only:
        promised = {relation.name for product in products for relation in product.relations}
        published = tuple(name for name in published if name in promised)
    hold_published(products, published)
    return products


def _row(product: DataProduct) -> tuple[str, ...]:
    compiled = [compile_checks(product, dialect, "audit") for dialect in Dialect]
    checks = compiled[0]
    blocking = sum(check.severity is Severity.ERROR for check in checks)
    columns = sum(len(relation.columns) for relation in product.relations)
    return (
        product.name,
        product.version,
        product.document.status or "",
        str(len(product.relations)),
        str(columns),
        str(len(checks)),
        str(blocking),
        str(len(checks) - blocking),
    )


if __name__ == "__main__":
    sys.exit(main())
