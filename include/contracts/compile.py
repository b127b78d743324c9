"""Compile a contract to checks: one entry of Soda's list for each promise.

Each check is a number that a query of its own measures and a threshold for it, and where rows can be at fault another query that fetches a
few of them (SodaCL ``<metric> query`` and ``failed rows query``, https://docs.soda.io/soda-cl/user-defined.html). Soda's built-in metrics
are not used: their samples select every column of the table, and what is personal must not even leave the warehouse. A query of its own
also names the warehouse's types with their precision, counts a null in a key like any other value, and fails alone.

Names are held to be plain and quoted (`include.warehouse.identifiers`), values are rendered by `include.contracts.trusted_sql`.
"""

# ruff: noqa: S608 - SQL is what this module writes

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.contracts.checks import Check, Severity
from include.contracts.exceptions import ContractError
from include.contracts.products import Metric
from include.contracts.trusted_sql import columns_sql, filled_in, literal, rows_that_fail
from include.contracts.warehouse_types import Dialect, catalog_type
from include.warehouse.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.contracts.products import Column, DataProduct, Freshness, Reference, Relation, Rule

SAMPLE_ROWS = 20
"""Rows that a failed check shows at most."""

NO_TIME = "1970-01-01 00:00:00"
"""What counts as the last change of a relation that has no time of one: not known is not fresh."""

_BOUNDS = {"minimum": "<", "exclusiveMinimum": "<=", "maximum": ">", "exclusiveMaximum": ">="}


@dataclass(frozen=True)
class _Measure:
    """One check before it has a name.

    Attributes:
        slug: unique in the relation.
        columns: it is about.
        dimension: of data quality.
        severity: of a failure.
        description: the rule in words.
        threshold: as SodaCL writes it.
        query: gives the number.
        samples: gives rows that fail; empty if there is nothing to show.
        sample_columns: their columns.
    """

    slug: str
    columns: tuple[str, ...]
    dimension: str
    severity: Severity
    description: str
    query: str
    threshold: str = "= 0"
    samples: str = ""
    sample_columns: tuple[str, ...] = ()


def compile_checks(product: DataProduct, dialect: Dialect | str, schema: str) -> tuple[Check, ...]:
    """The checks of all relations of ``product``, for relations in ``schema``.

    Args:
        product: what is promised.
        dialect: ``duckdb`` or ``redshift``.
        schema: where the relations are that are to be checked: the audit schema.

    Raises:
        ContractError: two promises would get the same key.
        IdentifierRefused: ``schema`` isn't a plain name.
    """
    checks = tuple(
        _check(product, relation, measure)
        for relation in product.relations
        for measure in _Compiler(relation, Dialect(dialect), schema).measures()
    )
    keys = [check.key for check in checks]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ContractError(
            f"{product.path}: expected checks with keys of their own, found {repeated} twice; rename the rule's id"
        )
    return checks


def _check(product: DataProduct, relation: Relation, measure: _Measure) -> Check:
    key = f"{product.name}/{relation.name}/{measure.slug}"
    metric = "measured_" + re.sub(r"\W", "_", measure.slug)
    entry = {"name": key, f"{metric} query": measure.query}
    if measure.samples:
        entry["failed rows query"] = measure.samples
    return Check(
        key=key,
        product=product.name,
        contract_version=product.version,
        relation=relation.name,
        columns=measure.columns,
        dimension=measure.dimension,
        severity=measure.severity,
        description=measure.description,
        sodacl={f"{metric} {measure.threshold}": entry},
        sample_columns=measure.sample_columns if measure.samples else (),
    )


class _Compiler:
    """The measures of one relation in one warehouse."""

    def __init__(self, relation: Relation, dialect: Dialect, schema: str) -> None:
        self.relation = relation
        self.dialect = dialect
        self.schema = schema
        self.table = quoted(schema, relation.name)

    def measures(self) -> Iterator[_Measure]:
        """In the order in which a reader would ask: the shape, the key, the columns, the rules, the neighbours, the age."""
        yield self.column_names()
        yield self.column_types()
        if self.relation.key:
            yield self.key()
        for column in self.relation.columns:
            yield from self.column(column)
        for rule in self.relation.rules:
            yield self.rule(rule)
        for reference in self.relation.references:
            yield self.reference(reference)
        for freshness in self.relation.freshness:
            yield self.freshness(freshness)

    # -- shape

    def column_names(self) -> _Measure:
        """Every promised column is there and no other; the order doesn't matter."""
        names = ", ".join(f"'{column.name}'" for column in self.relation.columns)
        rows = (
            "select promised.column_name, 'a column' as expected, 'none' as found "
            f"from ({self.promised()}) as promised left join ({self.catalog()}) as existing "
            "on promised.column_name = existing.column_name where existing.column_name is null "
            "union all "
            f"select column_name, 'none' as expected, data_type as found from ({self.catalog()}) as existing "
            f"where column_name not in ({names})"
        )
        return self.shape("columns", "The relation has the promised columns and no others.", rows)

    def column_types(self) -> _Measure:
        """Every promised column that is there has its type, with precision, scale and (on Redshift) length."""
        rows = (
            "select promised.column_name, promised.data_type as expected, existing.data_type as found "
            f"from ({self.promised()}) as promised join ({self.catalog()}) as existing "
            "on promised.column_name = existing.column_name where promised.data_type <> existing.data_type"
        )
        return self.shape("types", "The columns have the promised types.", rows)

    def shape(self, slug: str, description: str, rows: str) -> _Measure:
        """The samples name columns and types, which are no data of anyone."""
        shown = ("column_name", "expected", "found")
        samples = f"select {', '.join(shown)} from ({rows}) as differing order by column_name"
        query = f"select count(*) from ({rows}) as differing"
        return _Measure(
            slug, (), "conformity", Severity.ERROR, description, query, samples=samples, sample_columns=shown
        )

    def promised(self) -> str:
        """The columns as the contract has them, in the words of the warehouse."""
        return " union all ".join(
            f"select '{column.name}' as column_name, '{column.type.in_catalog(self.dialect)}' as data_type"
            for column in self.relation.columns
        )

    def catalog(self) -> str:
        """The columns as the warehouse has them."""
        # https://docs.aws.amazon.com/redshift/latest/dg/r_SVV_COLUMNS.html
        view = "svv_columns" if self.dialect is Dialect.REDSHIFT else "information_schema.columns"
        return (
            f"select lower(column_name) as column_name, {catalog_type(self.dialect)} as data_type from {view} "
            f"where table_catalog = current_database() and table_schema = '{self.schema}' and table_name = '{self.relation.name}'"
        )

    # -- columns

    def key(self) -> _Measure:
        """No two rows with the same key; a null is a value like any other."""
        key = self.relation.key
        return self.duplicates(
            "key", key, f"No two rows have the same {', '.join(key)}; a null counts as a value.", Severity.ERROR
        )

    def column(self, column: Column) -> Iterator[_Measure]:
        """What the column's own keys promise."""
        if column.required:
            yield self.failing(
                f"{column.name}-required",
                column.name,
                "completeness",
                f"{column.name} is never null.",
                f"{quoted(column.name)} is null",
            )
        if column.unique:
            yield self.duplicates(
                f"{column.name}-unique",
                (column.name,),
                f"No two rows have the same {column.name}, nulls aside.",
                Severity.ERROR,
                where=f"{quoted(column.name)} is not null",
            )
        bounds = [name for name in _BOUNDS if name in column.options]
        if bounds:
            yield self.failing(
                f"{column.name}-range",
                column.name,
                "accuracy",
                f"{column.name}: {', '.join(f'{name} {column.options[name]}' for name in bounds)}.",
                " or ".join(
                    f"{quoted(column.name)} {_BOUNDS[name]} {literal(column.options[name], column.type.logical, self.dialect)}"
                    for name in bounds
                ),
            )
        lengths = {name: column.options[name] for name in ("minLength", "maxLength") if name in column.options}
        if lengths:
            yield self.failing(
                f"{column.name}-length",
                column.name,
                "conformity",
                f"Length of {column.name}: {', '.join(f'{name} {length}' for name, length in lengths.items())}.",
                " or ".join(
                    f"length({quoted(column.name)}) {'<' if name == 'minLength' else '>'} {length}"
                    for name, length in lengths.items()
                ),
            )
        if "pattern" in column.options:
            yield self.failing(
                f"{column.name}-pattern",
                column.name,
                "conformity",
                f"{column.name} matches {column.options['pattern']}.",
                self.mismatch(column.name, str(column.options["pattern"])),
            )

    def mismatch(self, column: str, pattern: str) -> str:
        """Condition of the values that don't match."""
        text = literal(pattern, "string", self.dialect)
        if self.dialect is Dialect.REDSHIFT:
            return f"not ({quoted(column)} ~ {text})"
        return f"not regexp_matches({quoted(column)}, {text})"

    def failing(self, slug: str, column: str, dimension: str, description: str, condition: str) -> _Measure:
        """No row for which ``condition`` is true."""
        query = f"select count(*) from {self.table} where {condition}"
        samples, shown = self.rows((column,), condition)
        return _Measure(
            slug, (column,), dimension, Severity.ERROR, description, query, samples=samples, sample_columns=shown
        )

    def rows(self, columns: tuple[str, ...], condition: str) -> tuple[str, tuple[str, ...]]:
        """A query for some of the rows, by their key and the columns in question, and what it shows."""
        wanted = dict.fromkeys(
            (*self.relation.key, *columns) if columns else [column.name for column in self.relation.columns]
        )
        shown = tuple(name for name in wanted if name in self.relation.shown)
        if not shown:
            return "", ()
        return f"select {columns_sql(shown)} from {self.table} where {condition} limit {SAMPLE_ROWS}", shown

    def duplicates(
        self,
        slug: str,
        columns: tuple[str, ...],
        description: str,
        severity: Severity,
        *,
        where: str = "",
        threshold: str = "= 0",
        percent: bool = False,
        dimension: str = "uniqueness",
    ) -> _Measure:
        """Rows that repeat another one's values: of three alike, two."""
        grouped = f"from {self.table}{f' where {where}' if where else ''} group by {columns_sql(columns)}"
        surplus = "100.0 * sum(occurrences - 1) / nullif(sum(occurrences), 0)" if percent else "sum(occurrences - 1)"
        query = f"select coalesce({surplus}, 0) from (select count(*) as occurrences {grouped}) as alike"
        shown = (*(name for name in columns if name in self.relation.shown), "occurrences")
        select = ", ".join((*(quoted(name) for name in shown[:-1]), "count(*) as occurrences"))
        samples = f"select {select} {grouped} having count(*) > 1 limit {SAMPLE_ROWS}"
        return _Measure(slug, columns, dimension, severity, description, query, threshold, samples, shown)

    # -- rules

    def rule(self, rule: Rule) -> _Measure:
        """A quality rule of the contract."""
        if rule.metric is Metric.DUPLICATE_VALUES:
            # of one column the nulls are aside, as in the standard; a key of several has them as values
            where = f"{quoted(*rule.columns)} is not null" if len(rule.columns) == 1 else ""
            return self.duplicates(
                rule.slug,
                rule.columns,
                rule.description,
                rule.severity,
                where=where,
                threshold=str(rule.threshold),
                percent=rule.percent,
                dimension=rule.dimension,
            )
        condition: str | None
        if rule.metric is Metric.SQL:
            column = rule.columns[0] if rule.columns else None
            query = filled_in(rule.query, schema=self.schema, relation=self.relation.name, column=column)
            raw = rows_that_fail(rule.query)
            condition = raw and filled_in(raw, schema=self.schema, relation=self.relation.name, column=column)
        else:
            condition = self.condition(rule)
            query = self.share(condition) if rule.percent else self.count(condition)
        samples, shown = (
            self.rows(rule.columns, condition) if condition and rule.threshold.bounds_failures else ("", ())
        )
        return _Measure(
            rule.slug,
            rule.columns,
            rule.dimension,
            rule.severity,
            rule.description,
            query,
            str(rule.threshold),
            samples,
            shown,
        )

    def count(self, condition: str | None) -> str:
        """Number of rows."""
        return f"select count(*) from {self.table}{f' where {condition}' if condition else ''}"

    def share(self, condition: str | None) -> str:
        """Percentage of rows; none of none is 0."""
        return f"select coalesce(100.0 * sum(case when {condition} then 1 else 0 end) / nullif(count(*), 0), 0) from {self.table}"

    def condition(self, rule: Rule) -> str | None:
        """Of the rows that a library metric counts; None for all."""
        if rule.metric is Metric.ROW_COUNT:
            return None
        name = quoted(*rule.columns)
        if rule.metric is Metric.NULL_VALUES:
            return f"{name} is null"
        column = self.relation.column(rule.columns[0])
        logical = column.type.logical if column else ""
        values = ", ".join(literal(value, logical, self.dialect) for value in rule.values)
        if rule.metric is Metric.MISSING_VALUES:
            return f"{name} is null or {name} in ({values})" if values else f"{name} is null"
        invalid = [f"{name} not in ({values})"] if values else []
        if rule.pattern:
            invalid.append(self.mismatch(rule.columns[0], rule.pattern))
        return " or ".join(invalid)

    # -- neighbours and age

    def reference(self, reference: Reference) -> _Measure:
        """No values that the other relation lacks. To ``except`` two nulls are the same; a row of nulls refers to nothing."""
        nothing = " and ".join(f"{quoted(name)} is null" for name in reference.columns)
        lacking = (
            f"(select {columns_sql(reference.columns)} from {self.table} where not ({nothing}) "
            f"except select {columns_sql(reference.to_columns)} from {quoted(self.schema, reference.to_relation)}) as lacking"
        )
        shown = tuple(name for name in reference.columns if name in self.relation.shown)
        return _Measure(
            reference.slug,
            reference.columns,
            "consistency",
            reference.severity,
            f"Every {', '.join(reference.columns)} is one of {reference.to_relation} ({', '.join(reference.to_columns)}).",
            f"select count(*) from {lacking}",
            samples=f"select {columns_sql(shown)} from {lacking} limit {SAMPLE_ROWS}" if shown else "",
            sample_columns=shown,
        )

    def freshness(self, freshness: Freshness) -> _Measure:
        """Hours since the newest row changed."""
        newest = f"coalesce(cast(max({quoted(freshness.column)}) as timestamp), timestamp '{NO_TIME}')"
        if self.dialect is Dialect.REDSHIFT:
            hours = f"datediff(second, {newest}, getdate()) / 3600.0"
        else:
            hours = f"(epoch(now()) - epoch({newest})) / 3600.0"
        return _Measure(
            f"{freshness.column}-fresh",
            (freshness.column,),
            "timeliness",
            freshness.severity,
            freshness.description,
            f"select {hours} from {self.table}",
            f"<= {freshness.hours:f}",
        )
