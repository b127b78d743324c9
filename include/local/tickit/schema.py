"""The seven TICKIT tables, defined once: the local Aurora, the replica, the loader and the generator all read this.

Types are Aurora MySQL's, as in the article of the AWS Big Data Blog that ``dbt_project/README.md`` links. What they become on
Redshift follows AWS's table "Data type differences between Aurora and Amazon Redshift databases" (Aurora User Guide,
zero-etl.querying, section Aurora MySQL):
``CHAR(n)`` and ``VARCHAR(n)`` arrive as ``VARCHAR(n)``; ``INT``, ``SMALLINT``, ``BIGINT``, ``DECIMAL(p,s)``, ``DATE``
and ``TIMESTAMP`` keep their names; ``TINYINT`` arrives as ``SMALLINT``, and MySQL's ``BOOLEAN`` is ``TINYINT(1)``.
**A boolean column of the source is therefore a SMALLINT of 0 and 1 on Redshift.**
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DATABASE: Final = "demodb"
"""The source database in Aurora, and so the schema of the replica."""

_INTEGER_RANGES: Final = {"TINYINT": 2**7, "SMALLINT": 2**15, "MEDIUMINT": 2**23, "INTEGER": 2**31, "BIGINT": 2**63}
_SYNONYMS: Final = {
    "INT": "INTEGER",
    "CHARACTER": "CHAR",
    "NUMERIC": "DECIMAL",
    "BOOL": "TINYINT",
    "BOOLEAN": "TINYINT",
    "DATETIME": "TIMESTAMP",
}
_TARGETS: Final = {
    "TINYINT": "SMALLINT",
    "SMALLINT": "SMALLINT",
    "MEDIUMINT": "INTEGER",
    "INTEGER": "INTEGER",
    "BIGINT": "BIGINT",
    "REAL": "REAL",
    "DOUBLE": "DOUBLE PRECISION",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TEXT": "VARCHAR(65535)",
}


class UnsupportedTypeError(ValueError):
    """A source column has a type that zero-ETL does not replicate (here: that this stand-in does not)."""


@dataclass(frozen=True)
class MySqlType:
    """A declared MySQL type, taken apart.

    Attributes:
        base: the type's canonical name, upper case; synonyms resolved (``BOOLEAN`` is ``TINYINT``).
        arguments: its length, or precision and scale.
    """

    base: str
    arguments: tuple[int, ...]

    @classmethod
    def parse(cls, declared: str) -> MySqlType:
        """Take ``declared`` apart.

        Raises:
            UnsupportedTypeError: it is no type of AWS's mapping table that this stand-in replicates.
        """
        match = re.fullmatch(r"\s*([a-zA-Z]+)(?: precision)?\s*(?:\(([\d,\s]+)\))?\s*", declared, flags=re.IGNORECASE)
        base = match.group(1).upper() if match else ""
        base = _SYNONYMS.get(base, base)
        if match is None or base not in {*_TARGETS, "CHAR", "VARCHAR", "DECIMAL"}:
            raise UnsupportedTypeError(f"unsupported data type {declared!r}")
        arguments = tuple(int(part) for part in match.group(2).split(",")) if match.group(2) else ()
        if base in {"CHAR", "VARCHAR"} and not arguments:
            arguments = (1,)
        if base == "DECIMAL":
            arguments = (*arguments, *(10, 0)[len(arguments) :])
        return cls(base, arguments)

    @property
    def redshift(self) -> str:
        """The column's type on Redshift, and (the same words) in the replica's DuckDB file."""
        if self.base in {"CHAR", "VARCHAR"}:
            return f"VARCHAR({self.arguments[0]})"
        if self.base == "DECIMAL":
            return f"DECIMAL({self.arguments[0]},{self.arguments[1]})"
        return _TARGETS[self.base]

    @property
    def integer_limit(self) -> int | None:
        """One more than the greatest value of an integer type, else None."""
        return _INTEGER_RANGES.get(self.base)


@dataclass(frozen=True)
class Column:
    """One column as the source declares it."""

    name: str
    type: str
    nullable: bool = True
    boolean: bool = False

    @property
    def mysql(self) -> MySqlType:
        """The declared type, taken apart."""
        return MySqlType.parse(self.type)


@dataclass(frozen=True)
class Table:
    """One table; its first column is its primary key.

    Attributes:
        name: the table's name in ``demodb``.
        columns: in the order of the files' fields.
        file_names: names the public sample files have, without extension.
    """

    name: str
    columns: tuple[Column, ...]
    file_names: tuple[str, ...]

    @property
    def key(self) -> str:
        """The primary key column."""
        return self.columns[0].name

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def source_ddl(self) -> str:
        """``CREATE TABLE`` for the local Aurora.

        SQLite takes MySQL's declared types as they are but would store any value under them; the checks refuse what
        MySQL's strict mode refuses: text that is too long, integers out of range, decimals with too many digits.
        """
        lines = []
        for column in self.columns:
            line = f"{column.name} {column.type}"
            if column.name == self.key:
                line += " NOT NULL PRIMARY KEY"
            elif not column.nullable:
                line += " NOT NULL"
            check = _check(column)
            lines.append(f"{line} CHECK ({check})" if check else line)
        return f"CREATE TABLE {self.name} (\n  " + ",\n  ".join(lines) + "\n)"

    def replica_ddl(self) -> str:
        """Column list of the replica's table: Redshift's types and no constraint, for Redshift enforces none."""
        return ", ".join(f'"{column.name}" {column.mysql.redshift}' for column in self.columns)


def _check(column: Column) -> str:
    name, kind = column.name, column.mysql
    if kind.integer_limit is not None:
        limit = kind.integer_limit
        return f"{name} IS NULL OR (typeof({name}) = 'integer' AND {name} >= {-limit} AND {name} < {limit})"
    if kind.base in {"CHAR", "VARCHAR"}:
        return f"length({name}) <= {kind.arguments[0]}"
    if kind.base == "DECIMAL":
        precision, scale = kind.arguments
        return f"{name} IS NULL OR (typeof({name}) IN ('integer', 'real') AND abs({name}) < 1e{precision - scale})"
    return ""


def _table(name: str, columns: str, *file_names: str) -> Table:
    parsed = []
    for line in columns.strip().splitlines():
        column, kind, *rest = line.split(maxsplit=2)
        parsed.append(Column(column, kind, nullable=not rest, boolean=kind == "boolean"))
    return Table(name, tuple(parsed), (name, f"all{name}", *file_names))


TABLES: Final = {
    table.name: table
    for table in (
        _table(
            "users",
            """
            userid integer not null
            username char(8)
            firstname varchar(30)
            lastname varchar(30)
            city varchar(30)
            state char(2)
            email varchar(100)
            phone char(14)
            likesports boolean
            liketheatre boolean
            likeconcerts boolean
            likejazz boolean
            likeclassical boolean
            likeopera boolean
            likerock boolean
            likevegas boolean
            likebroadway boolean
            likemusicals boolean
            """,
            "allusers_pipe",
        ),
        _table(
            "venue",
            """
            venueid integer not null
            venuename varchar(100)
            venuecity varchar(30)
            venuestate char(2)
            venueseats integer
            """,
            "venue_pipe",
        ),
        _table(
            "category",
            """
            catid integer not null
            catgroup varchar(10)
            catname varchar(10)
            catdesc varchar(50)
            """,
            "category_pipe",
        ),
        _table(
            "date",
            """
            dateid integer not null
            caldate date not null
            day character(3) not null
            week smallint not null
            month character(5) not null
            qtr character(5) not null
            year smallint not null
            holiday boolean
            """,
            "date2008_pipe",
        ),
        _table(
            "event",
            """
            eventid integer not null
            venueid integer not null
            catid integer not null
            dateid integer not null
            eventname varchar(200)
            starttime timestamp
            """,
            "allevents_pipe",
        ),
        _table(
            "listing",
            """
            listid integer not null
            sellerid integer not null
            eventid integer not null
            dateid integer not null
            numtickets smallint not null
            priceperticket decimal(8,2)
            totalprice decimal(8,2)
            listtime timestamp
            """,
            "listings_pipe",
        ),
        _table(
            "sales",
            """
            salesid integer not null
            listid integer not null
            sellerid integer not null
            buyerid integer not null
            eventid integer not null
            dateid integer not null
            qtysold smallint not null
            pricepaid decimal(8,2)
            commission decimal(8,2)
            saletime timestamp
            """,
            "sales_tab",
        ),
    )
}
"""The seven tables, parents before children."""

REFERENCES: Final = (
    ("event", "venueid", "venue"),
    ("event", "catid", "category"),
    ("event", "dateid", "date"),
    ("listing", "sellerid", "users"),
    ("listing", "eventid", "event"),
    ("listing", "dateid", "date"),
    ("sales", "listid", "listing"),
    ("sales", "sellerid", "users"),
    ("sales", "buyerid", "users"),
    ("sales", "eventid", "event"),
    ("sales", "dateid", "date"),
)
"""(child table, column, parent table). Not enforced by the source (the article declares none): the loader counts what is
orphaned."""

HISTORY_TABLES: Final = frozenset({"sales", "listing"})
"""Tables replicated in history mode."""
