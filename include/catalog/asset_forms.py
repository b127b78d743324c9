"""What the catalog is told of a published relation: the forms of a Redshift asset, filled from its contract.

The contract speaks where it has something to say: descriptions, classification, owner. What the catalog's own people or a data source
wrote stays: business names, glossary terms, read-me, forms of other types, and the technical form of an asset that a data source imports.

The fields are those that https://docs.aws.amazon.com/datazone/latest/APIReference/API_CreateAsset.html and
https://docs.aws.amazon.com/datazone/latest/userguide/datazone-data-lineage.html show; which forms an asset type has, and in which
revision, the catalog is asked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.contracts.products import Column, DataProduct, Relation

DETAILS: Final = "AssetCommonDetailsForm"
COLUMNS: Final = "ColumnBusinessMetadataForm"
IMPORTED: Final = "DataSourceReferenceForm"
"""An asset that has it is kept up by a data source."""
MAX_DESCRIPTION: Final = 2048
MAX_NAME: Final = 256
_ARN: Final = re.compile(
    r"arn:[\w-]+:(?P<service>redshift|redshift-serverless):(?P<region>[\w-]+):(?P<account>\d{12}):(?P<kind>table|view)"
    r"/(?P<warehouse>[^/]+)/(?P<database>[^/]+)/(?P<schema>[^/]+)/(?P<relation>.+)"
)

type Forms = dict[str, dict[str, Any]]
"""Content by form name."""


@dataclass(frozen=True)
class RedshiftRelation:
    """A relation of Redshift, as its ARN names it."""

    arn: str
    service: str
    region: str
    account: str
    kind: str
    warehouse: str
    database: str
    schema: str
    relation: str

    @classmethod
    def parse(cls, arn: str) -> RedshiftRelation | None:
        """The relation; None if it is no ARN of one."""
        found = _ARN.fullmatch(arn)
        return cls(arn, **found.groupdict()) if found else None

    @property
    def asset_type(self) -> str:
        """DataZone's type of such an asset."""
        return f"amazon.datazone.Redshift{self.kind.capitalize()}AssetType"

    @property
    def form_name(self) -> str:
        """The type's technical form."""
        return f"Redshift{self.kind.capitalize()}Form"


@dataclass(frozen=True)
class Described:
    """What an asset should say.

    Attributes:
        at: where the relation is.
        description: one row is what.
        forms: content by form name.
    """

    at: RedshiftRelation
    description: str
    forms: Forms


def describe(at: RedshiftRelation, product: DataProduct, relation: Relation) -> Described:
    """What the contract says of a relation."""
    serverless = at.service == "redshift-serverless"
    source = (
        {"redshiftServerlessSource": {"workgroupName": at.warehouse}}
        if serverless
        else {"redshiftClusterSource": {"clusterName": at.warehouse}}
    )
    technical = {
        f"{at.kind}Name": at.relation,
        "accountId": at.account,
        "region": at.region,
        "databaseName": at.database,
        "schemaName": at.schema,
        "storageType": "SERVERLESS" if serverless else "CLUSTER",
        "redshiftStorage": source,
        "columns": [{"columnName": column.name, "dataType": str(column.type)} for column in relation.columns],
    }
    about = {
        "owner": _owner(product),
        "dataProduct": f"{product.area}.{product.name}",
        "contractVersion": product.version,
        "classification": max(_strictness(column) for column in relation.columns)[1],
    }
    details = {"sourceIdentifier": at.arn, "customProperties": {key: value for key, value in about.items() if value}}
    columns = [
        {
            "columnIdentifier": column.name,
            "description": column.description,
            "customProperties": {"classification": column.classification.value},
        }
        for column in relation.columns
    ]
    forms: Forms = {at.form_name: technical, DETAILS: details, COLUMNS: {"columnsBusinessMetadata": columns}}
    return Described(at, relation.description[:MAX_DESCRIPTION], forms)


def merged(existing: Forms, described: Described) -> Forms:
    """The forms of an asset that is there, with what the contract says.

    Args:
        existing: its forms.
        described: the contract's word.
    """
    ours, imported = described.forms, IMPORTED in existing
    technical = described.at.form_name
    details = existing.get(DETAILS, {})
    properties = details.get("customProperties", {}) | ours[DETAILS]["customProperties"]
    kept = existing.get(technical, ours[technical]) if imported else ours[technical]
    return existing | {
        technical: kept,
        DETAILS: details | {"sourceIdentifier": described.at.arn, "customProperties": properties},
        COLUMNS: {"columnsBusinessMetadata": _merged_columns(existing, ours, kept)},
    }


def _merged_columns(existing: Forms, ours: Forms, technical: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The contract's columns in its order, then those that only the warehouse has."""
    before = {
        column.get("columnIdentifier"): column
        for column in existing.get(COLUMNS, {}).get("columnsBusinessMetadata", ())
    }
    promised = [
        before.get(column["columnIdentifier"], {})
        | column
        | {
            "customProperties": before.get(column["columnIdentifier"], {}).get("customProperties", {})
            | column["customProperties"]
        }
        for column in ours[COLUMNS]["columnsBusinessMetadata"]
    ]
    names = {column["columnIdentifier"] for column in promised}
    there = {column.get("columnName") for column in technical.get("columns", ())}
    return [*promised, *(column for name, column in before.items() if name in there - names)]


def as_forms(output: list[Mapping[str, Any]]) -> Forms:
    """The content of an answer's ``formsOutput``; a form that is no JSON object has no content."""
    forms: Forms = {}
    for form in output:
        try:
            content = json.loads(form.get("content") or "{}")
        except ValueError:
            content = {}
        forms[form["formName"]] = content if isinstance(content, dict) else {}
    return forms


def _owner(product: DataProduct) -> str:
    """The team that answers for the product; in contracts before ODCS 3.1 a list of people, of whom the owner does."""
    team = product.document.team
    if isinstance(team, list):
        return ", ".join(member.name or member.username or "" for member in team if member.role == "owner")
    return (team.name or "") if team else ""


def _strictness(column: Column) -> tuple[int, str]:
    """A relation is to be handled like its most delicate column."""
    return list(type(column.classification)).index(column.classification), column.classification.value
