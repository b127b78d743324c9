"""Column types as a contract names them, and as each warehouse's catalog names the same ones.

Redshift: https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html; DuckDB: https://duckdb.org/docs/stable/sql/data_types/overview.
DuckDB keeps no length of a varchar, so there the length can't be compared: a contract's `maxLength` counts instead. What is written for
Redshift was parsed as Redshift's SQL, not run on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Dialect(StrEnum):
    """Warehouses that checks are compiled for; the values are dbt's and Soda's names of them."""

    DUCKDB = "duckdb"
    REDSHIFT = "redshift"


_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "decimal": "numeric",
    "varchar": "character varying",
    "char": "character",
    "bool": "boolean",
    "float8": "double precision",
    "double": "double precision",
    "float4": "real",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}
LOGICAL_TYPES = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "numeric": "number",
    "real": "number",
    "double precision": "number",
    "character varying": "string",
    "character": "string",
    "boolean": "boolean",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamp",
}
"""The standard's logical type of each type that contracts may use."""

_ARGUMENTS = {"numeric": 2, "character varying": 1, "character": 1}
_DUCKDB = {
    "numeric": "decimal",
    "character varying": "varchar",
    "character": "varchar",
    "double precision": "double",
    "real": "float",
    "timestamp without time zone": "timestamp",
}
_SHAPE = re.compile(r"\s*([a-z][a-z0-9_ ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnType:
    """A type without its aliases: ``decimal(18, 2)`` and ``NUMERIC(18,2)`` are the same.

    Attributes:
        name: PostgreSQL's long name.
        arguments: precision and scale, or length.
    """

    name: str
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        return _written(self.name, self.arguments)

    @property
    def logical(self) -> str:
        """The standard's logical type."""
        return LOGICAL_TYPES[self.name]

    def in_catalog(self, dialect: Dialect) -> str:
        """How the warehouse's catalog names it, in the form that `catalog_type` gives."""
        if dialect is Dialect.REDSHIFT:
            return _written(self.name, self.arguments)
        name = _DUCKDB.get(self.name, self.name)
        return name if name == "varchar" else _written(name, self.arguments)


def parse_type(text: str) -> ColumnType:
    """Read a type as SQL writes it.

    Raises:
        ValueError: not one of `LOGICAL_TYPES`, or without the precision or length that makes it comparable.
    """
    match = _SHAPE.fullmatch(text.lower())
    name = _ALIASES.get(match[1], match[1]) if match else ""
    arguments = tuple(int(part) for part in match.groups()[1:] if part is not None) if match else ()
    if name not in LOGICAL_TYPES:
        raise ValueError(f"one of {', '.join(sorted(LOGICAL_TYPES))}")
    if len(arguments) != _ARGUMENTS.get(name, 0):
        example = {"numeric": "numeric(18,2)", "character varying": "varchar(200)", "character": "char(2)"}.get(
            name, name
        )
        raise ValueError(f"a type such as {example}")
    return ColumnType(name, arguments)


def catalog_type(dialect: Dialect) -> str:
    """SQL that gives a column's type from a row of the warehouse's catalog of columns."""
    if dialect is Dialect.DUCKDB:
        return "lower(data_type)"
    return (
        "case when data_type = 'numeric' "
        "then 'numeric(' || cast(numeric_precision as varchar) || ',' || cast(numeric_scale as varchar) || ')' "
        "when data_type in ('character varying', 'character') "
        "then data_type || '(' || cast(character_maximum_length as varchar) || ')' "
        "else data_type end"
    )


def _written(name: str, arguments: tuple[int, ...]) -> str:
    return f"{name}({','.join(str(argument) for argument in arguments)})" if arguments else name
