"""Hold contracts and dbt models to each other: the same columns, types and meanings in both, or a reader is told two stories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.contracts.load import shown_path
from include.contracts.odcs import Problem, nearest
from include.contracts.warehouse_types import parse_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.contracts.odcs import Place
    from include.contracts.products import DataProduct, Relation
    from include.warehouse.manifest import Column as DbtColumn
    from include.warehouse.manifest import Model

_REMEDY = "make the contract and the model's YAML agree (and run `make manifest`)"


def differences(product: DataProduct, models: Iterable[Model]) -> tuple[Problem, ...]:
    """Where the contract of ``product`` and the dbt models differ, at the contract's place.

    Relations that no model builds are left out: `include.contracts.load.hold_published` is about them.
    """
    by_name = {model.name: model for model in models}
    return tuple(
        Problem(shown_path(product.path), *_mark(product, place), expected, found, _REMEDY)
        for relation in product.relations
        if relation.name in by_name
        for place, expected, found in _of_relation(relation, by_name[relation.name])
    )


def _mark(product: DataProduct, place: Place) -> tuple[int, int]:
    while place and place not in product.marks:
        place = place[:-1]
    return product.marks.get(place, (1, 1))


def _of_relation(relation: Relation, model: Model) -> Iterator[tuple[Place, str, str]]:
    if _words(relation.description) != _words(model.description):
        yield (*relation.place, "description"), f"the model's description {_words(model.description)!r}", "another"
    built = {column.name: column for column in model.columns}
    promised = {column.name for column in relation.columns}
    for column in relation.columns:
        if column.name not in built:
            yield column.place, f"a column of the model {model.name}", f"{column.name!r}{nearest(column.name, built)}"
            continue
        yield from _of_column(column.place, column.description, str(column.type), built[column.name])
    for name in built.keys() - promised:
        yield (*relation.place, "properties"), f"all columns of the model {model.name}", f"no {name!r}"


def _of_column(place: Place, description: str, type_: str, built: DbtColumn) -> Iterator[tuple[Place, str, str]]:
    try:
        built_type = str(parse_type(built.data_type))
    except ValueError:
        built_type = built.data_type or "no data_type"
    if type_ != built_type:
        yield (*place, "physicalType"), f"the model's {built.name} {built_type}", type_
    if _words(description) != _words(built.description):
        yield (
            (*place, "description"),
            f"the model's description of {built.name} {_words(built.description)!r}",
            "another",
        )


def _words(text: str) -> str:
    return " ".join(text.split())
