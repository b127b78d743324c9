"""What the catalog is told of a relation, and what stays of what others wrote."""

import dataclasses

import pytest

from include.catalog.asset_forms import IMPORTED, RedshiftRelation, as_forms, describe, merged
from include.contracts.products import Classification
from tests.include.catalog.published import ARN, PRODUCTS

PRODUCT = PRODUCTS[0]
(RELATION,) = PRODUCT.relations
AT = RedshiftRelation.parse(ARN + RELATION.name)
DESCRIBED = describe(AT, PRODUCT, RELATION)


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        (ARN + "rpt", ("redshift-serverless", "view", "zero-etl-destination", "dev", "finance", "rpt")),
        (
            "arn:aws-cn:redshift:cn-north-1:123456789012:table/cluster/dev/public/a/b",
            ("redshift", "table", "cluster", "dev", "public", "a/b"),
        ),
    ],
)
def test_an_arn_says_where_the_relation_is(arn, expected):
    at = RedshiftRelation.parse(arn)
    assert (at.service, at.kind, at.warehouse, at.database, at.schema, at.relation) == expected
    assert at.arn == arn


@pytest.mark.parametrize(
    "other",
    [
        "duckdb://work.duckdb/dev.finance.rpt",
        "arn:aws:glue:us-east-1:123456789012:table/db/t",
        ARN.replace("123456789012", "1") + "rpt",
        ARN,
    ],
)
def test_what_is_no_relation_of_redshift_is_none(other):
    assert RedshiftRelation.parse(other) is None


def test_a_contract_is_told_in_the_assets_forms():
    forms = DESCRIBED.forms
    assert DESCRIBED.description == RELATION.description
    assert forms["RedshiftViewForm"]["viewName"] == RELATION.name
    assert [column["columnName"] for column in forms["RedshiftViewForm"]["columns"]] == [
        c.name for c in RELATION.columns
    ]
    details = forms["AssetCommonDetailsForm"]
    assert details["sourceIdentifier"] == ARN + RELATION.name
    assert details["customProperties"] == {
        "owner": "Finance data",
        "dataProduct": f"finance.{PRODUCT.name}",
        "contractVersion": PRODUCT.version,
        "classification": max(
            RELATION.columns, key=lambda c: list(Classification).index(c.classification)
        ).classification,
    }
    last = forms["ColumnBusinessMetadataForm"]["columnsBusinessMetadata"][-1]
    assert last == {
        "columnIdentifier": RELATION.columns[-1].name,
        "description": RELATION.columns[-1].description,
        "customProperties": {"classification": RELATION.columns[-1].classification.value},
    }


def test_a_provisioned_clusters_table_has_its_own_form():
    at = RedshiftRelation.parse("arn:aws:redshift:us-east-1:123456789012:table/cluster/dev/finance/rpt")
    form = describe(at, PRODUCT, RELATION).forms["RedshiftTableForm"]
    assert (form["tableName"], form["storageType"]) == ("rpt", "CLUSTER")
    assert form["redshiftStorage"] == {"redshiftClusterSource": {"clusterName": "cluster"}}
    assert at.asset_type == "amazon.datazone.RedshiftTableAssetType"


def test_a_relation_is_as_delicate_as_its_most_delicate_column():
    column = dataclasses.replace(RELATION.columns[-1], classification=Classification.PERSONAL)
    relation = dataclasses.replace(RELATION, columns=(*RELATION.columns[:-1], column))
    details = describe(AT, PRODUCT, relation).forms["AssetCommonDetailsForm"]
    assert details["customProperties"]["classification"] == "personal"


def test_a_description_that_is_too_long_is_cut():
    relation = dataclasses.replace(RELATION, description="ü" * 3000)
    assert len(describe(AT, PRODUCT, relation).description) == 2048


def test_what_is_right_already_is_not_changed():
    assert merged(DESCRIBED.forms, DESCRIBED) == DESCRIBED.forms


def test_what_others_wrote_stays():
    (first, *_), columns = RELATION.columns, "ColumnBusinessMetadataForm"
    existing = DESCRIBED.forms | {
        "OwnForm": {"a": 1},
        "AssetCommonDetailsForm": {"readMe": "Read me.", "customProperties": {"price": "1", "owner": "nobody"}},
        columns: {
            "columnsBusinessMetadata": [
                {"columnIdentifier": first.name, "name": "Event", "glossaryTerms": ["t"], "description": "old"},
                {"columnIdentifier": "dropped", "description": "no longer there"},
            ]
        },
    }
    forms = merged(existing, DESCRIBED)
    assert forms["OwnForm"] == {"a": 1}
    assert forms["AssetCommonDetailsForm"]["readMe"] == "Read me."
    assert forms["AssetCommonDetailsForm"]["customProperties"]["price"] == "1"
    assert forms["AssetCommonDetailsForm"]["customProperties"]["owner"] == "Finance data"
    told = forms[columns]["columnsBusinessMetadata"]
    assert (told[0]["name"], told[0]["glossaryTerms"], told[0]["description"]) == ("Event", ["t"], first.description)
    assert [column["columnIdentifier"] for column in told] == [column.name for column in RELATION.columns]


def test_an_imported_assets_technical_form_is_the_data_sources():
    technical = {"viewName": RELATION.name, "columns": [{"columnName": "extra", "dataType": "int4"}]}
    known = {"columnsBusinessMetadata": [{"columnIdentifier": "extra", "name": "Extra"}]}
    existing = {IMPORTED: {}, "RedshiftViewForm": technical, "ColumnBusinessMetadataForm": known}
    forms = merged(existing, DESCRIBED)
    assert forms["RedshiftViewForm"] == technical
    assert forms["ColumnBusinessMetadataForm"]["columnsBusinessMetadata"][-1]["name"] == "Extra"
    assert forms["AssetCommonDetailsForm"]["sourceIdentifier"] == AT.arn


def test_a_form_without_readable_content_is_empty():
    output = [{"formName": "a", "content": "{"}, {"formName": "b"}, {"formName": "c", "content": "[]"}]
    assert as_forms(output) == {"a": {}, "b": {}, "c": {}}
