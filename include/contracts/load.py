"""The contracts of an area: one folder a product, ``include/data_products/<area>/<product>/contract.odcs.yaml``."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING

from include.contracts.exceptions import (
    ContractInvalid,
    ContractMissing,
    ProductFolderEmpty,
    RelationClaimedTwice,
    RelationNotPublished,
    UnknownArea,
    UnknownProduct,
)
from include.contracts.odcs import Problem, nearest, read_contract
from include.contracts.promises import read_promises
from include.platform.paths import DATA_PRODUCTS_DIR, PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from include.contracts.products import DataProduct, Reference, Relation

CONTRACT_FILE = "contract.odcs.yaml"
DEFAULT_AREA = "finance"


def load_products(area: str = DEFAULT_AREA, root: Path = DATA_PRODUCTS_DIR) -> tuple[DataProduct, ...]:
    """All products of ``area``, by name.

    Raises:
        ContractInvalid: with the problems of all contracts.
        UnknownArea: no such folder, or none with products.
        ProductFolderEmpty: a folder without contract.
        RelationClaimedTwice: two contracts promise one relation.
    """
    files = [
        read_contract(folder / CONTRACT_FILE, shown_path(folder / CONTRACT_FILE)) for folder in _folders(area, root)
    ]
    products = [read_promises(file, area, file.path.parent.name) for file in files]
    if problems := [problem for file in files for problem in sorted(file.problems)]:
        raise ContractInvalid(problems)
    good = [product for product in products if product]
    _refuse_shared_relations(good)
    return _with_references(good)


def find_product(area: str, name: str, root: Path = DATA_PRODUCTS_DIR) -> DataProduct:
    """The product ``name`` of ``area``.

    Raises:
        UnknownProduct: there is none; the message lists what there is.
        ContractError: as `load_products`.
    """
    names = [folder.name for folder in _folders(area, root)]
    if name not in names:
        raise UnknownProduct(
            f"expected a product of the area {area}: {', '.join(names)}, found {name!r}{nearest(name, names)}; "
            f"correct the name, or add {shown_path(root / area / name / CONTRACT_FILE)}"
        )
    return next(product for product in load_products(area, root) if product.name == name)


def hold_published(products: Iterable[DataProduct], published: Iterable[str]) -> None:
    """Hold that exactly the ``published`` relations are promised.

    Raises:
        ContractMissing: a relation would be published that nobody promises.
        RelationNotPublished: a contract promises what dbt doesn't publish.
    """
    promised = {relation.name: product for product in products for relation in product.relations}
    published = set(published)
    if missing := sorted(published - promised.keys()):
        raise ContractMissing(
            f"expected a contract for every published relation, found none for {', '.join(missing)}; add "
            f"include/data_products/<area>/<product>/{CONTRACT_FILE}, or take the tag 'published' off the dbt model"
        )
    if extra := sorted(promised.keys() - published):
        where = ", ".join(
            f"{name} ({shown_path(promised[name].path)}{nearest(name, published - promised.keys())})" for name in extra
        )
        raise RelationNotPublished(
            f"expected contracts for published relations only, found {where}; tag the dbt model 'published' (and run `make manifest`), "
            "or correct physicalName"
        )


def shown_path(path: Path) -> str:
    """The path as messages name it: from the project's root."""
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)


def _folders(area: str, root: Path) -> list[Path]:
    areas = sorted(folder.name for folder in root.iterdir() if _is_folder(folder)) if root.is_dir() else []
    if area not in areas:
        raise UnknownArea(
            f"expected an area of {shown_path(root)}: {', '.join(areas) or 'none'}, found {area!r}{nearest(area, areas)}; correct the name"
        )
    folders = sorted(folder for folder in (root / area).iterdir() if _is_folder(folder))
    if not folders:
        raise UnknownArea(f"expected products in {shown_path(root / area)}, found none; add <product>/{CONTRACT_FILE}")
    for folder in folders:
        if not (folder / CONTRACT_FILE).is_file():
            found = sorted(item.name for item in folder.iterdir())
            close = difflib.get_close_matches(CONTRACT_FILE, found, n=1)
            remedy = f"rename {close[0]}" if close else "write it, or remove the folder"
            raise ProductFolderEmpty(
                f"expected {shown_path(folder / CONTRACT_FILE)}, found {', '.join(found) or 'an empty folder'}; {remedy}"
            )
    return folders


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_"))


def _refuse_shared_relations(products: list[DataProduct]) -> None:
    owners: dict[str, DataProduct] = {}
    for product in products:
        for relation in product.relations:
            if relation.name in owners:
                both = f"{shown_path(owners[relation.name].path)} and {shown_path(product.path)}"
                raise RelationClaimedTwice(
                    f"expected one contract for {relation.name}, found {both}; remove it from one of them"
                )
            owners[relation.name] = product


def _with_references(products: list[DataProduct]) -> tuple[DataProduct, ...]:
    problems: list[Problem] = []
    resolved = []
    for product in products:
        relations = []
        for relation in product.relations:
            references = [_resolved(reference, product, products, problems) for reference in relation.references]
            relations.append(replace(relation, references=tuple(references)))
        resolved.append(replace(product, relations=tuple(relations)))
    if problems:
        raise ContractInvalid(problems)
    return tuple(resolved)


def _resolved(
    reference: Reference, product: DataProduct, products: list[DataProduct], problems: list[Problem]
) -> Reference:
    targets = [_target(to, product, products) for to in reference.to]
    relations = {relation.name for relation, _ in (target for target in targets if target)}
    if None in targets or len(relations) != 1:
        line, column = product.marks[reference.place]
        lost = [to for to, target in zip(reference.to, targets, strict=True) if target is None]
        problems.append(
            Problem(
                shown_path(product.path),
                line,
                column,
                "columns of one relation that a contract promises",
                ", ".join(lost) if lost else f"columns of {' and '.join(sorted(relations))}",
                "correct `to`: the ids and names must be those of the other contract",
            )
        )
        return reference
    return replace(reference, to_relation=relations.pop(), to_columns=tuple(target[1] for target in targets if target))


def _target(to: str, product: DataProduct, products: list[DataProduct]) -> tuple[Relation, str] | None:
    if "#" in to:
        file, _, inside = to.partition("#")
        path = (product.path.parent / file).resolve()
        owner = next((other for other in products if other.path.resolve() == path), None)
        _, relation_id, _, column_id = inside.strip("/").split("/")
    else:
        owner = product
        relation_id, _, column_id = to.partition(".")
    relation = (
        next((one for one in owner.relations if relation_id in (one.name, *one.aliases)), None) if owner else None
    )
    column = relation.column(column_id) if relation else None
    return (relation, column.name) if relation and column else None
