"""The column lineage of one query.

sqlglot names every column in full and says which query each comes from; here those parts are joined: a column of a query comes from the
columns of its expression, each of which comes from a table, or from a query inside, and so on. How an input has its part follows from
where it stands: in a condition, in an aggregate, behind ``partition by``.

A column without any column in its expression is a constant, or counts: then what it says is which rows there are, so it comes from what
decides that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from include.catalog.column_lineage import ColumnLineageError, ColumnOrigins, ColumnRef, Kind, ModelLineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

type Relation = tuple[str, str, str]
"""Database, schema, name; in lower case."""
type _Part = tuple[ColumnRef, Kind]

COUNTS = "counts rows"
CONSTANT = "constant"

_BY_POSITION = (
    *(exp.Rank, exp.DenseRank, exp.RowNumber, exp.Ntile, exp.PercentRank, exp.CumeDist),
    *(exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue),
)
"""Window functions that give a row's place, or a value of another row: they don't aggregate."""
_CALCULATES = (exp.AggFunc, exp.Window)


@dataclass
class _Columns:
    """What is known of a query's result; in a union columns go by position, and names may repeat."""

    names: list[str] = field(default_factory=list)
    origins: list[ColumnOrigins] = field(default_factory=list)
    rows: set[_Part] = field(default_factory=set)

    @property
    def columns(self) -> dict[str, ColumnOrigins]:
        """By name."""
        return dict(zip(self.names, self.origins, strict=True))


def query_lineage(
    sql: str, dialect: str, columns: Mapping[Relation, Sequence[str]], node_of: Callable[[Relation], str]
) -> ModelLineage:
    """Tell the lineage of a query.

    Args:
        sql: one query.
        dialect: sqlglot's name of its language.
        columns: of each relation that it reads, in order.
        node_of: the dbt node of a relation.

    Raises:
        ColumnLineageError: the query can't be read, or names what isn't in ``columns``.
    """
    schema: dict[str, object] = {}
    for (database, namespace, name), names in columns.items():
        level: dict[str, object] = schema.setdefault(database, {})  # type: ignore[assignment]
        level.setdefault(namespace, {})[name] = dict.fromkeys(names, "unknown")  # type: ignore[index]
    try:
        parsed = sqlglot.parse_one(sql, read=dialect)
        if not isinstance(parsed, exp.Query):
            raise ColumnLineageError(f"expected a query, found {parsed.key}; SQL: {sql[:500]}")
        scope = build_scope(qualify(parsed, dialect=dialect, schema=schema))
    except SqlglotError as error:
        raise ColumnLineageError(
            f"expected a query in {dialect} of known columns, found: {error}; SQL: {sql[:500]}"
        ) from error
    if scope is None:
        raise ColumnLineageError(f"expected a query, found: {sql[:500]}")
    result = _Resolver(node_of).resolve(scope)
    return ModelLineage(result.columns, _collected(result.rows))


class _Resolver:
    """Resolves each query inside a query once."""

    def __init__(self, node_of: Callable[[Relation], str]) -> None:
        self._node_of = node_of
        self._done: dict[int, _Columns] = {}

    def resolve(self, scope: Scope) -> _Columns:
        expression = scope.expression
        known = self._done.get(id(expression))
        if known is None:
            if isinstance(expression, exp.SetOperation):
                known = self._set_operation(scope, expression)
            elif isinstance(expression, exp.Select):
                known = self._select(scope, expression)
            else:
                raise ColumnLineageError(
                    f"expected select, union, intersect or except, found {expression.key}: {expression.sql()[:200]}; "
                    "teach include/local/lineage/query.py what it means"
                )
            self._done[id(expression)] = known
        return known

    def _set_operation(self, scope: Scope, expression: exp.SetOperation) -> _Columns:
        left, right = (self.resolve(part) for part in scope.union_scopes)
        result = _Columns(left.names, rows=left.rows | right.rows)
        only_left = not isinstance(expression, exp.Union)
        for first, second in zip(left.origins, right.origins, strict=True):
            parts = set(_parts(first))
            if not only_left:
                parts |= set(_parts(second))
            result.origins.append(_origins(parts, first.reason or second.reason))
        if only_left:  # which rows are left depends on all columns of both sides
            result.rows |= _deciding(_all_parts(left, right), Kind.FILTER)
        elif expression.args.get("distinct"):
            result.rows |= _deciding(_all_parts(left, right), Kind.GROUP_BY)
        return result

    def _select(self, scope: Scope, select: exp.Select) -> _Columns:
        result = _Columns()
        result.rows = self._rows(scope, select)
        for projection in select.expressions:
            parts = set(self._walk(projection.unalias(), scope, Kind.IDENTITY, result.rows))
            counts = projection.find(*_CALCULATES) is not None
            result.names.append(projection.alias_or_name)
            result.origins.append(_origins(parts, COUNTS if counts else CONSTANT))
        if select.args.get("distinct"):
            result.rows |= _deciding(_all_parts(result), Kind.GROUP_BY)
        return result

    def _rows(self, scope: Scope, select: exp.Select) -> set[_Part]:
        """What decides which rows the query has: that of all it reads, and its own conditions."""
        rows: set[_Part] = set()
        for _, source in scope.selected_sources.values():
            if isinstance(source, Scope):
                rows |= self.resolve(source).rows
        for clause, kind in (
            *((join.args.get("on"), Kind.JOIN) for join in select.args.get("joins") or ()),
            *((select.args.get(name), Kind.FILTER) for name in ("where", "having", "qualify")),
            *((key, Kind.GROUP_BY) for key in getattr(select.args.get("group"), "expressions", ())),
            (select.args.get("order"), Kind.SORT),
        ):
            if clause is not None:
                rows |= set(self._walk(clause, scope, kind, set()))
        return rows

    def _walk(self, node: exp.Expression, scope: Scope, kind: Kind, rows: set[_Part]) -> Iterator[_Part]:
        """The parts of an expression, of which ``kind`` says how it has its part in what is asked for."""
        if isinstance(node, exp.Column):
            yield from _within(kind, self._column(node, scope))
        elif isinstance(node, exp.TableColumn):
            raise ColumnLineageError(
                f"expected a column, found {node.sql()}, which is the name of a table and means its whole row; name the column's table"
            )
        elif isinstance(node, exp.Query):
            yield from self._inner_query(node, scope, kind)
        elif isinstance(node, exp.Window):
            yield from self._window(node, scope, kind, rows)
        elif _aggregates(node):
            yield from self._aggregate(node, scope, kind, rows)
        else:
            inside = kind if isinstance(node, exp.Paren) else _composed(kind, Kind.TRANSFORMATION)
            for child in node.iter_expressions():
                condition = _is_condition(node, child)
                yield from self._walk(child, scope, _composed(inside, Kind.CONDITIONAL) if condition else inside, rows)

    def _window(self, node: exp.Window, scope: Scope, kind: Kind, rows: set[_Part]) -> Iterator[_Part]:
        deciding = _composed(kind, Kind.WINDOW)
        found = set(self._walk(node.this, scope, _composed(kind, Kind.TRANSFORMATION), rows))
        for child in (*(node.args.get("partition_by") or ()), node.args.get("order")):
            if child is not None:
                found |= set(self._walk(child, scope, deciding, rows))
        yield from found or _within(kind, rows)

    def _aggregate(self, node: exp.Expression, scope: Scope, kind: Kind, rows: set[_Part]) -> Iterator[_Part]:
        """An aggregate of constants counts rows."""
        inside = _composed(kind, Kind.AGGREGATION)
        found = {part for child in node.iter_expressions() for part in self._walk(child, scope, inside, rows)}
        yield from found or _within(kind, rows)

    def _inner_query(self, node: exp.Query, scope: Scope, kind: Kind) -> Iterator[_Part]:
        query = node.unnest()
        inner = next((s for s in scope.subquery_scopes if s.expression is query), None)
        if inner is None:
            raise ColumnLineageError(f"expected to know the query inside, found none for {node.sql()[:200]}")
        result = self.resolve(inner)
        yield from _within(_composed(kind, Kind.TRANSFORMATION), _all_parts(result))
        yield from _within(_composed(kind, Kind.FILTER), result.rows)

    def _column(self, column: exp.Column, scope: Scope) -> Iterable[_Part]:
        source, outer = scope.sources.get(column.table), scope.parent
        while source is None and outer is not None:  # a subquery may refer to the query that it is in
            source, outer = outer.sources.get(column.table), outer.parent
        if isinstance(source, exp.Table):
            relation = (source.catalog.lower(), source.db.lower(), source.name.lower())
            return [(ColumnRef(self._node_of(relation), column.name), Kind.IDENTITY)]
        if isinstance(source, Scope) and not source.is_udtf:
            result = self.resolve(source)
            if column.name in result.columns:
                return _parts(result.columns[column.name])
        raise ColumnLineageError(
            f"expected {column.sql()} to be a column of a table or a query, found {type(source).__name__}; "
            "teach include/local/lineage/query.py where it comes from"
        )


def _aggregates(node: object) -> bool:
    return isinstance(node, exp.AggFunc) and not isinstance(node, _BY_POSITION)


def _is_condition(node: exp.Expression, child: exp.Expression) -> bool:
    """Whether ``child`` decides which of the others ``node`` takes."""
    if isinstance(node, exp.If | exp.Case):
        return child is node.this
    return isinstance(node, exp.Filter) and child is node.expression


def _composed(outer: Kind, inner: Kind) -> Kind:
    """How an input has its part in the whole, if it has ``inner`` in a part of it that has ``outer``."""
    if not outer.direct:
        return outer
    if not inner.direct:
        return inner
    return max(outer, inner, key=list(Kind).index)


def _within(outer: Kind, parts: Iterable[_Part]) -> Iterator[_Part]:
    yield from ((ref, _composed(outer, kind)) for ref, kind in parts)


def _origins(parts: set[_Part], reason: str) -> ColumnOrigins:
    return ColumnOrigins(_collected(parts), "" if parts else reason)


def _collected(parts: Iterable[_Part]) -> dict[ColumnRef, frozenset[Kind]]:
    kinds: dict[ColumnRef, set[Kind]] = defaultdict(set)
    for ref, kind in parts:
        kinds[ref].add(kind)
    return {ref: frozenset(found) for ref, found in sorted(kinds.items())}


def _parts(origins: ColumnOrigins) -> Iterator[_Part]:
    yield from ((ref, kind) for ref, kinds in origins.inputs.items() for kind in kinds)


def _all_parts(*results: _Columns) -> set[_Part]:
    return {part for result in results for origins in result.origins for part in _parts(origins)}


def _deciding(parts: Iterable[_Part], kind: Kind) -> set[_Part]:
    return {(ref, kind) for ref, _ in parts}
