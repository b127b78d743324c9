"""From a contract document to what it promises: everything in it must be something this platform can hold, or be told to be wrong.

Nothing that looks like a promise is silently ignored: a rule of type ``text`` or of another engine, a nested column, a schedule of a rule.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from include.contracts.checks import Severity
from include.contracts.odcs import API_VERSION, KIND, nearest
from include.contracts.products import (
    Classification,
    Column,
    DataProduct,
    Freshness,
    Metric,
    Reference,
    Relation,
    Rule,
    Scalar,
    Threshold,
)
from include.contracts.trusted_sql import literal, why_not_a_pattern, why_not_a_query
from include.contracts.warehouse_types import LOGICAL_TYPES, ColumnType, Dialect, parse_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from open_data_contract_standard.model import DataQuality, Relationship, SchemaObject, SchemaProperty

    from include.contracts.odcs import ContractFile, Place

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
SLA_PROPERTIES = (
    "availability",
    "endOfSupport",
    "freshness",
    "frequency",
    "generalAvailability",
    "latency",
    "retention",
    "support",
)
"""Service levels that contracts may name. Only ``freshness`` becomes a check; the others are told to readers."""

_NEEDED: tuple[tuple[Place, str], ...] = (
    (("id",), "the contract's UUID"),
    (("name",), "a name for people"),
    (("version",), "the contract's version"),
    (("status",), f"one of {', '.join(STATUSES)}"),
    (("domain",), "the area"),
    (("dataProduct",), "the product's folder"),
    (("description", "purpose"), "what the product is for"),
    (("description", "usage"), "how to use it"),
    (("description", "limitations"), "what it is not for"),
    (("team", "name"), "who answers for it"),
    (("team", "members"), "at least one member"),
    (("roles",), "who may read it, and who approves"),
    (("support",), "where to ask"),
    (("servers",), "where it is"),
    (("slaProperties",), "service levels"),
    (("schema",), "at least one relation"),
)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,126}")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_OPERATORS = {
    "mustBe": "=",
    "mustNotBe": "!=",
    "mustBeGreaterThan": ">",
    "mustBeGreaterOrEqualTo": ">=",
    "mustBeLessThan": "<",
    "mustBeLessOrEqualTo": "<=",
    "mustBeBetween": "between",
    "mustNotBeBetween": "not between",
}
_DIMENSIONS = ("accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness")
_DEFAULT_DIMENSIONS = {
    Metric.ROW_COUNT: "coverage",
    Metric.NULL_VALUES: "completeness",
    Metric.MISSING_VALUES: "completeness",
    Metric.INVALID_VALUES: "conformity",
    Metric.DUPLICATE_VALUES: "uniqueness",
    Metric.SQL: "accuracy",
}
_ARGUMENTS: dict[Metric, tuple[str, ...]] = {
    Metric.MISSING_VALUES: ("missingValues",),
    Metric.INVALID_VALUES: ("validValues", "pattern"),
    Metric.DUPLICATE_VALUES: ("properties",),
}
_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_OPTIONS = {
    "integer": _RANGE,
    "number": _RANGE,
    "date": _RANGE,
    "timestamp": _RANGE,
    "string": ("minLength", "maxLength", "pattern"),
}
_IGNORED_IN_RULES = ("engine", "implementation", "method", "rule", "schedule", "scheduler")
_IGNORED_IN_COLUMNS = ("enum", "items", "map", "properties", "semanticType")
_HOURS = {
    **dict.fromkeys(("m", "min", "minute", "minutes"), Decimal(1) / 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), Decimal(1)),
    **dict.fromkeys(("d", "day", "days"), Decimal(24)),
}
_SHORTHAND = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*")
_QUALIFIED = re.compile(r"[A-Za-z0-9._/-]+\.ya?ml#/?schema/[A-Za-z0-9_-]+/properties/[A-Za-z0-9_-]+")


def read_promises(contract: ContractFile, area: str, name: str) -> DataProduct | None:
    """What the contract promises; None if something is wrong, which then is among ``contract.problems``."""
    document = contract.document
    if document is None:
        return None
    _check_head(contract, area, name)
    relations = tuple(_relation(contract, one, ("schema", index)) for index, one in enumerate(document.schema_ or []))
    _check_service_levels(contract, relations)
    _check_unique(contract, "relation", [(relation.name, relation.place) for relation in relations])
    if contract.problems:
        return None
    return DataProduct(area, name, contract.path, document.version or "", relations, document, contract.marks)


def severity_of(contract: ContractFile, place: Place, value: Any) -> Severity:
    """``error`` where nothing is said."""
    if value is None or value in list(Severity):
        return Severity(value or Severity.ERROR)
    contract.refuse(place, "severity error (blocks) or warning (does not)", repr(value), "choose one of the two")
    return Severity.ERROR


def _custom(properties: Any, name: str) -> Any:
    return next((one.value for one in properties or [] if one.property == name), None)


def _check_custom(contract: ContractFile, place: Place, properties: Any, known: Iterable[str]) -> None:
    for index, one in enumerate(properties or []):
        if one.property not in known:
            contract.refuse(
                (*place, "customProperties", index),
                f"one of the custom properties {', '.join(known)}",
                repr(one.property),
                "remove it",
            )


# -- the head


def _check_head(contract: ContractFile, area: str, name: str) -> None:
    fixed = {"apiVersion": API_VERSION, "kind": KIND, "domain": area, "dataProduct": name}
    for key, wanted in fixed.items():
        if contract.data.get(key) != wanted:
            contract.refuse((key,), f"{key}: {wanted}", repr(contract.data.get(key)), f"write `{key}: {wanted}`")
    for place, what in _NEEDED:
        value: Any = contract.data
        for part in place:
            value = value.get(part) if isinstance(value, dict) else None
        if not value and place[-1] not in fixed:
            contract.refuse(place, f"{'.'.join(map(str, place))}: {what}", "nothing", "add it")
    shapes = (("id", _UUID, "a UUID in lower case"), ("version", _VERSION, "major.minor.patch"))
    for key, shape, what in shapes:
        value = contract.data.get(key)
        if value and not shape.fullmatch(value):
            contract.refuse((key,), what, repr(value), "correct it")
    status = contract.data.get("status")
    if status and status not in STATUSES:
        contract.refuse(
            ("status",), f"one of {', '.join(STATUSES)}", repr(status), f"choose one{nearest(status, STATUSES)}"
        )


# -- relations and columns


def _relation(contract: ContractFile, one: SchemaObject, place: Place) -> Relation:
    name = _physical_name(contract, one.physicalName or one.name, place)
    if not one.description:
        contract.refuse(place, "a description of the relation", "none", "say what a row is")
    if not one.properties:
        contract.refuse(place, "properties: the relation's columns", "none", "list all of them")
    columns = tuple(
        _column(contract, column, (*place, "properties", index)) for index, column in enumerate(one.properties or [])
    )
    relation = Relation(name, _aliases(one), one.description or "", columns, (), (), (), place)
    _check_unique(contract, "column", [(column.name, column.place) for column in columns])
    _check_key(contract, relation)
    rules = [
        _rule(contract, relation, rule, (*place, "quality", index), None)
        for index, rule in enumerate(one.quality or [])
    ]
    references = [
        _reference(contract, relation, to, (*place, "relationships", index), None)
        for index, to in enumerate(one.relationships or [])
    ]
    for column, declared in zip(columns, one.properties or [], strict=True):
        for index, rule in enumerate(declared.quality or []):
            rules.append(_rule(contract, relation, rule, (*column.place, "quality", index), column))
        for index, to in enumerate(declared.relationships or []):
            references.append(_reference(contract, relation, to, (*column.place, "relationships", index), column))
    return Relation(
        name,
        relation.aliases,
        relation.description,
        columns,
        tuple(rule for rule in rules if rule),
        tuple(reference for reference in references if reference),
        _freshness(contract, relation),
        place,
    )


def _aliases(one: SchemaObject | SchemaProperty) -> tuple[str, ...]:
    return tuple(name for name in (one.name, one.id) if name)


def _physical_name(contract: ContractFile, name: str | None, place: Place) -> str:
    if name is None or not _NAME.fullmatch(name):
        contract.refuse(
            place,
            "a name (physicalName) of lower-case letters, digits and underscores, at most 127",
            repr(name),
            "name it as the warehouse does",
        )
    return name or ""


def _check_unique(contract: ContractFile, what: str, names: list[tuple[str, Place]]) -> None:
    seen: set[str] = set()
    for name, place in names:
        if name in seen:
            contract.refuse(place, f"each {what} once", f"{name!r} again", "keep one of them")
        seen.add(name)


def _check_key(contract: ContractFile, relation: Relation) -> None:
    positions = sorted(column.key_position for column in relation.columns if column.key_position)
    if positions != list(range(1, len(positions) + 1)):
        contract.refuse(
            (*relation.place, "properties"),
            "primaryKeyPosition 1, 2, 3 … over the key's columns",
            str(positions),
            "number them anew",
        )


def _column(contract: ContractFile, one: SchemaProperty, place: Place) -> Column:
    name = _physical_name(contract, one.physicalName or one.name, place)
    if not one.description:
        contract.refuse(place, f"a description of {name}", "none", "say what it means")
    for key in _IGNORED_IN_COLUMNS:
        if getattr(one, key) is not None:
            contract.refuse((*place, key), "a plain column", f"the key {key}", "remove it: it can't be checked here")
    _check_custom(contract, place, one.customProperties, ())
    classification = Classification.PERSONAL
    if one.classification in list(Classification):
        classification = Classification(one.classification)
    else:
        contract.refuse(
            (*place, "classification"),
            f"a classification of {name}: {', '.join(Classification)}",
            repr(one.classification),
            "choose one; if in doubt, personal",
        )
    position = 0
    if one.primaryKey:
        position = one.primaryKeyPosition or 1
    elif one.primaryKeyPosition not in (None, -1):
        contract.refuse(
            (*place, "primaryKeyPosition"), "primaryKey: true beside primaryKeyPosition", "no primaryKey", "add it"
        )
    column_type = _column_type(contract, one, place)
    return Column(
        name,
        _aliases(one),
        column_type,
        one.description or "",
        classification,
        bool(one.required),
        bool(one.unique),
        position,
        _options(contract, one.logicalTypeOptions or {}, column_type, (*place, "logicalTypeOptions")),
        place,
    )


def _column_type(contract: ContractFile, one: SchemaProperty, place: Place) -> ColumnType:
    try:
        column_type = parse_type(one.physicalType or "")
    except ValueError as error:
        contract.refuse(
            (*place, "physicalType"), str(error), repr(one.physicalType), "write the type that dbt casts to"
        )
        return ColumnType(next(iter(LOGICAL_TYPES)))
    if one.logicalType != column_type.logical:
        contract.refuse(
            (*place, "logicalType"),
            f"logicalType {column_type.logical} for {one.physicalType}",
            repr(one.logicalType),
            "make them agree",
        )
    return column_type


def _options(
    contract: ContractFile, options: Mapping[str, Any], column_type: ColumnType, place: Place
) -> dict[str, Scalar]:
    known = _OPTIONS.get(column_type.logical, ())
    for key, value in options.items():
        if key not in known:
            contract.refuse(
                (*place, key),
                f"an option of {column_type.logical} that can be checked: {', '.join(known) or 'none'}",
                key,
                "remove it",
            )
        elif key == "pattern":
            _check_pattern(contract, value, (*place, key))
        elif key in ("minLength", "maxLength"):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                contract.refuse((*place, key), "a whole number from 0", repr(value), "correct it")
        else:
            _check_value(contract, value, column_type.logical, (*place, key))
    longest = options.get("maxLength")
    if (
        column_type.arguments
        and isinstance(longest, int)
        and column_type.logical == "string"
        and longest > column_type.arguments[0]
    ):
        contract.refuse(
            (*place, "maxLength"), f"at most the type's {column_type.arguments[0]}", str(longest), "make them agree"
        )
    return dict(options)


def _check_pattern(contract: ContractFile, pattern: Any, place: Place) -> None:
    reason = why_not_a_pattern(pattern) if isinstance(pattern, str) else "no string"
    if reason:
        contract.refuse(
            place, "a regular expression that both warehouses read", reason, "write it with [0-9], [A-Z] and the like"
        )


def _check_value(contract: ContractFile, value: Any, logical: str, place: Place) -> None:
    try:
        for dialect in Dialect:
            literal(value, logical, dialect)
    except (ValueError, TypeError, ArithmeticError):
        wanted = {"date": "a date such as 2008-01-31", "timestamp": "a time in UTC such as 2008-01-31 12:00:00"}
        contract.refuse(place, wanted.get(logical, f"a value of type {logical}"), repr(value), "correct it")


# -- rules


def _rule(
    contract: ContractFile, relation: Relation, one: DataQuality, place: Place, column: Column | None
) -> Rule | None:
    before = len(contract.problems)
    if not one.id or not _ID.fullmatch(one.id):
        contract.refuse(
            (*place, "id"),
            "an id of the rule (a-z, 0-9, - and _): its results are kept under it",
            repr(one.id),
            "add one, and keep it",
        )
    if not one.description:
        contract.refuse(
            place, "a description of the rule", "none", "say it in words: it is what a reader sees when it fails"
        )
    for key in _IGNORED_IN_RULES:
        if getattr(one, key) is not None:
            contract.refuse((*place, key), "a rule that every build checks", f"the key {key}", "remove it")
    _check_custom(contract, place, one.customProperties, ())
    if one.dimension not in (None, *_DIMENSIONS):
        contract.refuse(
            (*place, "dimension"),
            f"one of {', '.join(_DIMENSIONS)}",
            repr(one.dimension),
            f"choose one{nearest(one.dimension, _DIMENSIONS)}",
        )
    severity = severity_of(contract, (*place, "severity"), one.severity)
    metric = _metric(contract, one, place, column)
    threshold = _threshold(contract, one, place)
    if metric is None or threshold is None:
        return None
    _check_unit(contract, one, metric, place)
    arguments = _arguments(contract, one, metric, place, column)
    columns = _rule_columns(contract, relation, metric, arguments, place, column)
    if metric is Metric.SQL:
        reason = why_not_a_query(one.query or "", has_column=column is not None)
        if reason:
            contract.refuse((*place, "query"), reason[0], reason[1], "correct the query")
    if len(contract.problems) > before:
        return None
    return Rule(
        slug=f"{column.name}-{one.id}" if column else str(one.id),
        metric=metric,
        columns=columns,
        threshold=threshold,
        percent=one.unit == "percent",
        dimension=one.dimension or _DEFAULT_DIMENSIONS[metric],
        severity=severity,
        description=" ".join((one.description or "").split()),
        values=tuple(
            value
            for value in arguments.get(f"{'missing' if metric is Metric.MISSING_VALUES else 'valid'}Values", ())
            if value is not None
        ),
        pattern=arguments.get("pattern", ""),
        query=one.query or "",
    )


def _metric(contract: ContractFile, one: DataQuality, place: Place, column: Column | None) -> Metric | None:
    kind = one.type or "library"
    if kind == "sql":
        if one.metric is not None:
            contract.refuse((*place, "metric"), "a query and no metric", repr(one.metric), "choose one of the two")
        return Metric.SQL
    if kind != "library":
        contract.refuse(
            (*place, "type"),
            "a rule of type library or sql",
            repr(kind),
            "write what it means as one of them, or in a description",
        )
        return None
    library = [str(metric) for metric in Metric if metric is not Metric.SQL]
    if one.query is not None:
        contract.refuse((*place, "query"), "type: sql beside a query", "type library", "add the type")
    if one.metric not in library:
        contract.refuse(
            (*place, "metric"),
            f"one of {', '.join(library)}",
            repr(one.metric),
            f"choose one{nearest(one.metric or '', library)}",
        )
        return None
    metric = Metric(one.metric)
    of_relation = metric is Metric.ROW_COUNT
    if metric is not Metric.DUPLICATE_VALUES and of_relation == (column is not None):
        contract.refuse(
            (*place, "metric"),
            f"{metric} in the rules of {'the relation' if of_relation else 'a column'}",
            "it elsewhere",
            "move it",
        )
        return None
    return metric


def _threshold(contract: ContractFile, one: DataQuality, place: Place) -> Threshold | None:
    given = [key for key in _OPERATORS if getattr(one, key) is not None]
    if len(given) != 1:
        contract.refuse(place, f"one of {', '.join(_OPERATORS)}", ", ".join(given) or "none", "keep or add one")
        return None
    value = getattr(one, given[0])
    values = value if isinstance(value, list) else [value]
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in values):
        contract.refuse((*place, given[0]), "a number", repr(value), "compare with what the rule measures")
        return None
    if values != sorted(values):
        contract.refuse((*place, given[0]), "the smaller number first", repr(value), "swap them")
        return None
    return Threshold(_OPERATORS[given[0]], tuple(Decimal(str(v)) for v in values))


def _check_unit(contract: ContractFile, one: DataQuality, metric: Metric, place: Place) -> None:
    units = ("rows",) if metric is Metric.ROW_COUNT else ("rows", "percent")
    if metric is Metric.SQL:
        if one.unit == "percent":
            contract.refuse(
                (*place, "unit"), "a query that gives the percentage itself", "unit percent", "remove the unit"
            )
    elif one.unit not in (None, *units):
        contract.refuse((*place, "unit"), " or ".join(units), repr(one.unit), "choose one")


def _arguments(
    contract: ContractFile, one: DataQuality, metric: Metric, place: Place, column: Column | None
) -> dict[str, Any]:
    arguments = dict(one.arguments or {})
    known = _ARGUMENTS.get(metric, ())
    where = (*place, "arguments")
    for key in set(arguments) - set(known):
        contract.refuse(
            (*where, key),
            f"arguments of {metric}: {', '.join(known) or 'none'}",
            key,
            f"remove or correct it{nearest(key, known)}",
        )
    needs = metric in (Metric.MISSING_VALUES, Metric.INVALID_VALUES) or (
        metric is Metric.DUPLICATE_VALUES and column is None
    )
    if needs and not any(arguments.get(key) for key in known):
        contract.refuse(place, f"arguments of {metric}: {' or '.join(known)}", "none", "add them")
    if metric is Metric.DUPLICATE_VALUES and column is not None and arguments:
        contract.refuse(where, "no arguments in a column's rule", "some", "move the rule to the relation")
    for key in ("missingValues", "validValues"):
        values = arguments.get(key, [])
        if not isinstance(values, list):
            contract.refuse((*where, key), "a list", repr(values), "write a list")
            continue
        for index, value in enumerate(values):
            if value is not None and column is not None:
                _check_value(contract, value, column.type.logical, (*where, key, index))
    if "pattern" in arguments:
        if column is not None and column.type.logical != "string":
            contract.refuse((*where, "pattern"), "a column of strings", column.type.logical, "use validValues")
        _check_pattern(contract, arguments["pattern"], (*where, "pattern"))
    return arguments


def _rule_columns(
    contract: ContractFile,
    relation: Relation,
    metric: Metric,
    arguments: Mapping[str, Any],
    place: Place,
    column: Column | None,
) -> tuple[str, ...]:
    if column is not None:
        return (column.name,)
    if metric is not Metric.DUPLICATE_VALUES:
        return ()
    names = arguments.get("properties") or []
    return tuple(
        _known_column(contract, relation, name, (*place, "arguments", "properties", index))
        for index, name in enumerate(names)
    )


def _known_column(contract: ContractFile, relation: Relation, name: Any, place: Place) -> str:
    column = relation.column(str(name))
    if column is None:
        known = [column.name for column in relation.columns]
        contract.refuse(
            place,
            f"a column of {relation.name}",
            repr(name),
            f"use one of {', '.join(known)}{nearest(str(name), known)}",
        )
    return column.name if column else str(name)


# -- relationships and service levels


def _reference(
    contract: ContractFile, relation: Relation, one: Relationship, place: Place, column: Column | None
) -> Reference | None:
    before = len(contract.problems)
    if not one.id or not _ID.fullmatch(one.id):
        contract.refuse(
            (*place, "id"), "an id of the relationship (a-z, 0-9, - and _)", repr(one.id), "add one, and keep it"
        )
    if one.type not in (None, "foreignKey"):
        contract.refuse((*place, "type"), "foreignKey", repr(one.type), "remove the type")
    _check_custom(contract, place, one.customProperties, ("severity",))
    severity = severity_of(contract, (*place, "customProperties"), _custom(one.customProperties, "severity"))
    to = one.to if isinstance(one.to, list) else [one.to or ""]
    for index, target in enumerate(to):
        if not _SHORTHAND.fullmatch(target) and not _QUALIFIED.fullmatch(target):
            contract.refuse(
                (*place, "to", index),
                "relation.column of this contract, or ../<product>/contract.odcs.yaml#/schema/<id>/properties/<id> of another",
                repr(target),
                "correct it",
            )
    columns = [column.name] if column else _from_columns(contract, relation, one, place)
    if len(columns) != len(to):
        contract.refuse(place, f"as many columns in `to` as here ({len(columns)})", str(len(to)), "make them agree")
    if len(contract.problems) > before:
        return None
    return Reference(f"{column.name}-{one.id}" if column else str(one.id), tuple(columns), tuple(to), severity, place)


def _from_columns(contract: ContractFile, relation: Relation, one: Relationship, place: Place) -> list[str]:
    names = one.from_ if isinstance(one.from_, list) else [one.from_ or ""]
    columns = []
    for index, name in enumerate(names):
        owner, _, column = name.rpartition(".")
        if owner not in (relation.name, *relation.aliases):
            contract.refuse(
                (*place, "from", index), f"{relation.name}.<column>", repr(name), "name the column with its relation"
            )
            continue
        columns.append(_known_column(contract, relation, column, (*place, "from", index)))
    return columns


def _freshness(contract: ContractFile, relation: Relation) -> tuple[Freshness, ...]:
    found = []
    for index, sla in enumerate((contract.document and contract.document.slaProperties) or []):
        owner, _, name = (sla.element or "").rpartition(".")
        if sla.property != "freshness" or owner not in (relation.name, *relation.aliases):
            continue
        place: Place = ("slaProperties", index)
        known = _known_column(contract, relation, name, (*place, "element"))
        column = relation.column(known)
        if column and column.type.name not in ("date", "timestamp without time zone"):
            contract.refuse(
                (*place, "element"), "a column of type date or timestamp (UTC)", column.type.name, "name another one"
            )
        if (
            isinstance(sla.value, bool)
            or not isinstance(sla.value, int | float)
            or sla.value <= 0
            or sla.unit not in _HOURS
        ):
            contract.refuse(
                (*place, "value"),
                f"a number above 0 and a unit ({', '.join(_HOURS)})",
                f"{sla.value!r} {sla.unit!r}",
                "correct them",
            )
            continue
        _check_custom(contract, place, sla.customProperties, ("severity",))
        severity = severity_of(contract, (*place, "customProperties"), _custom(sla.customProperties, "severity"))
        hours = round(Decimal(str(sla.value)) * _HOURS[sla.unit], 4)
        words = f"The newest {known} is at most {sla.value} {sla.unit} old."
        found.append(Freshness(known, hours, severity, " ".join((sla.description or words).split())))
    return tuple(found)


def _check_service_levels(contract: ContractFile, relations: tuple[Relation, ...]) -> None:
    declared = {name for relation in relations for name in (relation.name, *relation.aliases)}
    for index, sla in enumerate((contract.document and contract.document.slaProperties) or []):
        place: Place = ("slaProperties", index)
        if sla.property not in SLA_PROPERTIES:
            contract.refuse(
                (*place, "property"),
                f"one of {', '.join(SLA_PROPERTIES)}",
                repr(sla.property),
                f"choose one{nearest(sla.property or '', SLA_PROPERTIES)}",
            )
        elif sla.value is None:
            contract.refuse(place, "a value", "none", "add it")
        owner, _, _ = (sla.element or "").rpartition(".")
        if sla.property == "freshness" and owner not in declared:
            contract.refuse(
                (*place, "element"), "relation.column of this contract", repr(sla.element), "say whose age it is"
            )
    for relation in relations:
        _check_unique(
            contract, "freshness of a column", [(one.column, ("slaProperties",)) for one in relation.freshness]
        )
