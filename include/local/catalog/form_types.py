"""The system types of forms and assets that the platform uses, and what a form of each type may hold.

On AWS ``GetFormType`` tells a form's fields. They are not published elsewhere, so these are those that public examples show: the user
guide on data quality and on lineage troubleshooting, examples of CreateAsset, and open-source programs that read such forms. A field that
is not among them is refused here, as the service refuses a form of another structure
(https://docs.aws.amazon.com/datazone/latest/userguide/create-asset-types.html).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.local.catalog.protocol import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

type Kind = str | tuple[str, ...] | list[Kind] | dict[str, Kind]
"""``text``, ``number``, ``integer``, ``boolean``, ``map`` (of texts); words to choose from; a list of a kind; a structure, whose required
fields end in ``!``."""

DATA_QUALITY: Final = "amazon.datazone.DataQualityResultFormType"
COMMON_DETAILS: Final = "amazon.datazone.AssetCommonDetailsFormType"
COLUMN_METADATA: Final = "amazon.datazone.ColumnBusinessMetadataFormType"
REDSHIFT_TABLE: Final = "amazon.datazone.RedshiftTableFormType"
REDSHIFT_VIEW: Final = "amazon.datazone.RedshiftViewFormType"

_REDSHIFT: Final[dict[str, Kind]] = {
    "accountId": "text",
    "region": "text",
    "databaseName!": "text",
    "schemaName!": "text",
    "storageType!": ("SERVERLESS", "CLUSTER"),
    "redshiftStorage!": {
        "redshiftServerlessSource": {"workgroupName!": "text", "namespaceName": "text"},
        "redshiftClusterSource": {"clusterName!": "text"},
    },
    "columns": [{"columnName!": "text", "dataType!": "text", "description": "text"}],
}
_FIELDS: Final[Mapping[str, dict[str, Kind]]] = {
    DATA_QUALITY: {
        "evaluations!": [
            {
                "types!": ["text"],
                "description!": "text",
                "details": "map",
                "applicableFields": ["text"],
                "status!": ("PASS", "FAIL"),
            }
        ],
        "passingPercentage!": "number",
        "evaluationsCount!": "integer",
    },
    COMMON_DETAILS: {"sourceIdentifier": "text", "summary": "text", "readMe": "text", "customProperties": "map"},
    COLUMN_METADATA: {
        "columnsBusinessMetadata!": [
            {
                "columnIdentifier!": "text",
                "name": "text",
                "description": "text",
                "glossaryTerms": ["text"],
                "customProperties": "map",
            }
        ]
    },
    REDSHIFT_TABLE: {"tableName!": "text", **_REDSHIFT},
    REDSHIFT_VIEW: {"viewName!": "text", **_REDSHIFT},
}
_REVISIONS: Final[Mapping[str, str]] = {
    DATA_QUALITY: "8",
    COMMON_DETAILS: "6",
    COLUMN_METADATA: "8",
    REDSHIFT_TABLE: "7",
    REDSHIFT_VIEW: "7",
}


@dataclass(frozen=True)
class FormEntry:
    """A form of an asset type.

    Attributes:
        type_name: the form's type.
        required: whether an asset must have it.
    """

    type_name: str
    required: bool = False


ASSET_TYPES: Final[Mapping[str, Mapping[str, FormEntry]]] = {
    f"amazon.datazone.Redshift{kind}AssetType": {
        f"Redshift{kind}Form": FormEntry(f"amazon.datazone.Redshift{kind}FormType", required=True),
        "AssetCommonDetailsForm": FormEntry(COMMON_DETAILS),
        "ColumnBusinessMetadataForm": FormEntry(COLUMN_METADATA),
    }
    for kind in ("Table", "View")
}
ASSET_TYPE_REVISION: Final = "9"
TIME_SERIES: Final = frozenset({DATA_QUALITY})


def revision_of(form_type: str) -> str:
    """The current revision of a form type.

    Raises:
        ApiError: there is no such type.
    """
    if form_type not in _REVISIONS:
        raise ApiError("ResourceNotFoundException", f"no form type {form_type}; there are {', '.join(_REVISIONS)}")
    return _REVISIONS[form_type]


def check_content(form_type: str, revision: str | None, content: str | None) -> None:
    """Refuse a form of another structure than its type's.

    Args:
        form_type: the type.
        revision: of the type; None for the current one.
        content: JSON.

    Raises:
        ApiError: the type, its revision or the content is wrong.
    """
    current = revision_of(form_type)
    if revision not in (None, current):
        raise ApiError("ValidationException", f"{form_type}: expected revision {current}, found {revision}")
    try:
        document = json.loads(content or "{}")
    except ValueError as error:
        raise ApiError("ValidationException", f"{form_type}: expected JSON, found {str(content)[:80]!r}") from error
    if problems := list(_problems(_FIELDS[form_type], document, form_type.rpartition(".")[2])):
        raise ApiError("ValidationException", "; ".join(problems[:20]))


def smithy(form_type: str) -> str:
    """The type's fields as GetFormType tells them."""
    shapes: list[str] = []
    _render(form_type.rpartition(".")[2], _FIELDS[form_type], shapes)
    return "\n\n".join(shapes)


def _problems(kind: Kind, value: Any, at: str) -> Iterator[str]:
    if isinstance(kind, dict):
        yield from _structure_problems(kind, value, at)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{at}: expected a list, found {str(value)[:80]!r}"
        else:
            for number, one in enumerate(value):
                yield from _problems(kind[0], one, f"{at}[{number}]")
    elif not _fits(kind, value):
        wanted = f"one of {', '.join(kind)}" if isinstance(kind, tuple) else f"a {kind}"
        yield f"{at}: expected {wanted}, found {str(value)[:80]!r}"


def _structure_problems(kind: dict[str, Kind], value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: expected an object, found {str(value)[:80]!r}"
        return
    known = {name.rstrip("!"): part for name, part in kind.items()}
    for name in (name[:-1] for name in kind if name.endswith("!")):
        if value.get(name) is None:
            yield f"{at}.{name}: expected a value, found none"
    for name, one in value.items():
        if name not in known:
            yield f"{at}.{name}: expected only {', '.join(known)}"
        elif one is not None:
            yield from _problems(known[name], one, f"{at}.{name}")


def _fits(kind: str | tuple[str, ...], value: Any) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if kind == "map":
        return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, Any] = {"text": str, "integer": int, "number": (int, float)}
    return kind in kinds and isinstance(value, kinds[kind])


def _render(name: str, kind: dict[str, Kind], shapes: list[str]) -> None:
    lines = []
    for field, part in kind.items():
        required = "    @required\n" if field.endswith("!") else ""
        lines.append(f"{required}    {field.rstrip('!')}: {_shape_of(field.rstrip('!'), part, shapes)}")
    shapes.append(f"structure {name} {{\n" + "\n".join(lines) + "\n}")


def _shape_of(field: str, kind: Kind, shapes: list[str]) -> str:
    name = field[0].upper() + field[1:]
    if isinstance(kind, dict):
        _render(name, kind, shapes)
    elif isinstance(kind, list):
        shapes.append(f"list {name} {{\n    member: {_shape_of(f'{field}Item', kind[0], shapes)}\n}}")
    elif isinstance(kind, tuple):
        shapes.append(f"enum {name} {{\n" + "\n".join(f"    {word}" for word in kind) + "\n}")
    else:
        return {"text": "String", "number": "Double", "integer": "Integer", "boolean": "Boolean", "map": "StringMap"}[
            kind
        ]
    return name
