"""What a contract promises, as far as it can be checked: relations, columns, rules, references, freshness."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path

    from open_data_contract_standard.model import OpenDataContractStandard

    from include.contracts.checks import Severity
    from include.contracts.odcs import Place
    from include.contracts.warehouse_types import ColumnType

type Scalar = str | int | float | bool


class Classification(StrEnum):
    """Who may see a column's values; the words of the standard's key ``classification`` that contracts may use."""

    PUBLIC = "public"
    INTERNAL = "internal"
    """Everyone who works here."""

    CONFIDENTIAL = "confidential"
    """Those who were given access to the product."""

    PERSONAL = "personal"
    """Data of a person, or that leads to one."""

    @property
    def shown(self) -> bool:
        """Whether values of rows that fail may be shown: their reader was not necessarily given access to the product."""
        return self in (Classification.PUBLIC, Classification.INTERNAL)


class Metric(StrEnum):
    """What a rule measures: the standard's library metrics, and SQL."""

    ROW_COUNT = "rowCount"
    NULL_VALUES = "nullValues"
    MISSING_VALUES = "missingValues"
    INVALID_VALUES = "invalidValues"
    DUPLICATE_VALUES = "duplicateValues"
    SQL = "sql"


@dataclass(frozen=True)
class Threshold:
    """What the measured value must be.

    Attributes:
        operator: as SodaCL writes it: ``=``, ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``between``, ``not between`` (both inclusive).
        values: one, or two for the last two operators.
    """

    operator: str
    values: tuple[Decimal, ...]

    def __str__(self) -> str:
        return f"{self.operator} {' and '.join(f'{value:f}' for value in self.values)}"

    @property
    def bounds_failures(self) -> bool:
        """Whether a value that is too high fails, so that the rows counted are the ones to look at."""
        return self.operator in ("=", "<", "<=", "between")


@dataclass(frozen=True)
class Rule:
    """A quality rule of the contract.

    Attributes:
        slug: unique in the relation.
        metric: what is measured.
        columns: what of; empty for the relation as a whole.
        threshold: what it must be.
        percent: measure a percentage of the rows, not their number.
        dimension: ODCS' data quality dimension.
        severity: what a failure does.
        description: the rule in words.
        values: the values that are valid, or (metric ``missingValues``) that count as missing.
        pattern: what valid values match; empty for anything.
        query: of metric ``sql``, with its placeholders.
    """

    slug: str
    metric: Metric
    columns: tuple[str, ...]
    threshold: Threshold
    percent: bool
    dimension: str
    severity: Severity
    description: str
    values: tuple[Scalar, ...] = ()
    pattern: str = ""
    query: str = ""


@dataclass(frozen=True)
class Reference:
    """Values of some columns that must exist in another relation.

    Attributes:
        slug: unique in the relation.
        columns: here.
        to: there, as the contract writes it.
        to_relation: there; empty until resolved.
        to_columns: there, in the order of ``columns``; empty until resolved.
        severity: what a failure does.
        place: in the contract.
    """

    slug: str
    columns: tuple[str, ...]
    to: tuple[str, ...]
    severity: Severity
    place: Place
    to_relation: str = ""
    to_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Freshness:
    """How old the newest row may be.

    Attributes:
        column: time or day of the rows' last change, UTC.
        hours: at most.
        severity: what a failure does.
        description: the promise in words.
    """

    column: str
    hours: Decimal
    severity: Severity
    description: str


@dataclass(frozen=True)
class Column:
    """A promised column.

    Attributes:
        name: in the warehouse.
        aliases: the contract's own name and id of it, by which other parts of it refer to it.
        type: in the warehouse.
        description: what it means.
        classification: who may see its values.
        required: never null.
        unique: no value twice, nulls aside.
        key_position: place in the relation's key, from 1; 0 if it is no part of it.
        options: bounds by the standard's names of them: ``minimum``, ``maxLength`` and so on.
        place: in the contract.
    """

    name: str
    aliases: tuple[str, ...]
    type: ColumnType
    description: str
    classification: Classification
    required: bool
    unique: bool
    key_position: int
    options: Mapping[str, Scalar]
    place: Place


@dataclass(frozen=True)
class Relation:
    """A promised relation.

    Attributes:
        name: in the warehouse.
        aliases: the contract's own name and id of it.
        description: one row is what.
        columns: in the order of the contract; the order in the warehouse doesn't matter.
        rules: beyond what the columns imply.
        references: to other relations.
        freshness: of its rows.
        place: in the contract.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    references: tuple[Reference, ...]
    freshness: tuple[Freshness, ...]
    place: Place

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        members = sorted((column.key_position, column.name) for column in self.columns if column.key_position)
        return tuple(name for _, name in members)

    @property
    def shown(self) -> tuple[str, ...]:
        """Columns whose values may be shown of rows that fail."""
        return tuple(column.name for column in self.columns if column.classification.shown)

    def column(self, name: str) -> Column | None:
        """The column of that name or alias."""
        return next((column for column in self.columns if name in (column.name, *column.aliases)), None)


@dataclass(frozen=True)
class DataProduct:
    """A data product: a folder with a contract.

    Attributes:
        area: folder of the domain; also the mart's area in dbt and the schema that consumers read.
        name: folder of the product.
        path: the contract.
        version: the contract's own.
        relations: what it promises.
        document: the whole contract: owners, service levels, support, price.
        marks: line and column of every key of the contract.
    """

    area: str
    name: str
    path: Path
    version: str
    relations: tuple[Relation, ...]
    document: OpenDataContractStandard = field(repr=False, compare=False)
    marks: Mapping[Place, tuple[int, int]] = field(repr=False, compare=False)
