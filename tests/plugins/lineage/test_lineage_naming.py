"""Every dataset name the platform can meet, and the ARN the catalog knows it by."""

import json

import pytest
from openlineage.client.serde import Serde

from data_platform.lineage.exceptions import LineageConfigInvalid
from data_platform.lineage.naming import CatalogNames, Naming, partition_of, rename_datasets, split_name
from tests.plugins.lineage.events import NAMES, WAREHOUSE, as_json, run_event, view_type

SERVERLESS = "arn:aws:redshift-serverless:us-east-1:123456789012"


def arn(namespace: str, name: str, **properties):
    return Naming.from_properties({**NAMES, **properties}).arn(namespace, name)


def test_airflows_short_name_is_a_workgroup_of_the_configured_account():
    assert arn(WAREHOUSE, "dev.build_finance.fct_sales") == (
        f"{SERVERLESS}:table/zero-etl-destination/dev/build_finance/fct_sales"
    )


def test_a_short_name_that_is_a_cluster_is_one_by_configuration():
    clusters = {"analytics.us-east-1": {"cluster": "analytics"}}
    assert arn("redshift://analytics.us-east-1:5439", "dev.a.b", redshift=clusters) == (
        "arn:aws:redshift:us-east-1:123456789012:table/analytics/dev/a/b"
    )


def test_a_serverless_host_says_its_own_account():
    host = "redshift://wg.210987654321.eu-west-1.redshift-serverless.amazonaws.com:5439"
    assert arn(host, "dev.a.b") == "arn:aws:redshift-serverless:eu-west-1:210987654321:table/wg/dev/a/b"


def test_a_cluster_host_is_a_cluster():
    host = "redshift://warehouse.abc123xyz789.eu-west-1.redshift.amazonaws.com:5439"
    assert arn(host, "dev.a.b") == "arn:aws:redshift:eu-west-1:123456789012:table/warehouse/dev/a/b"


@pytest.mark.parametrize(
    "host",
    [
        "etl-endpoint-9bq2mxt1c0de.us-east-1",  # what Airflow makes of the endpoint's host
        "etl-endpoint-9bq2mxt1c0de.123456789012.us-east-1.redshift-serverless.amazonaws.com",
        "etl-endpoint-9bq2mxt1c0de.abc123xyz789.us-east-1.redshift.amazonaws.com",
        "warehouse.example.org",
        "warehouse.internal",
        "10.0.0.7",
    ],
)
def test_a_host_that_hides_its_warehouse_has_an_arn_by_configuration_only(host):
    namespace = f"redshift://{host}:5439"
    assert arn(namespace, "dev.a.b") is None
    known = {host: {"workgroup": "zero-etl-destination", "account_id": "210987654321"}}
    assert arn(namespace, "dev.a.b", redshift=known) == (
        "arn:aws:redshift-serverless:us-east-1:210987654321:table/zero-etl-destination/dev/a/b"
    )


def test_relations_of_a_view_schema_are_views_and_those_of_its_audit_schema_are_tables():
    assert arn(WAREHOUSE, "dev.finance.rpt_top") == f"{SERVERLESS}:view/zero-etl-destination/dev/finance/rpt_top"
    assert ":table/" in arn(WAREHOUSE, "dev.build_finance_audit.rpt_top")


def test_a_dataset_that_says_it_is_a_view_is_one_in_its_columns_sources_too():
    event = run_event()
    event.inputs[1].facets["datasetType"] = view_type()
    rename_datasets(event, Naming.from_properties(NAMES))
    columns = event.outputs[0].facets["columnLineage"].fields["revenue"].inputFields
    assert event.inputs[1].namespace == columns[1].namespace == f"{SERVERLESS}:view"


def test_case_is_folded_as_redshift_does_but_not_in_the_zero_etl_database():
    assert arn("redshift://Zero-ETL-Destination.us-east-1:5439", "DEV.Build_Finance.FCT_Sales").endswith(
        ":table/zero-etl-destination/dev/build_finance/fct_sales"
    )
    assert arn(WAREHOUSE, "aurora_zeroetl_integration.DemoDB.Sales").endswith(
        ":table/zero-etl-destination/aurora_zeroetl_integration/DemoDB/Sales"
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("dev.finance.rpt", ["dev", "finance", "rpt"]),
        ('dev.finance."rpt.v1"', ["dev", "finance", "rpt.v1"]),
        ('dev."my schema"."a ""b"""', ["dev", "my schema", 'a "b"']),
        ("dev.finance.rpt.v1", ["dev", "finance", "rpt.v1"]),
        ("finance.rpt", ["finance", "rpt"]),
        ("dev..rpt", []),
        ("dev.finance.", []),
        ("", []),
    ],
)
def test_names_with_dots_are_taken_apart(name, parts):
    assert split_name(name) == parts


def test_a_name_without_a_database_has_no_arn():
    assert arn(WAREHOUSE, "finance.rpt_top") is None


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
    ],
)
def test_the_partition_follows_the_region(region, partition):
    assert partition_of(region) == partition
    assert arn(f"redshift://wg.{region}:5439", "d.s.t").startswith(f"arn:{partition}:redshift-serverless:{region}:")


def test_a_chinese_host_has_its_own_suffix():
    host = "redshift://wg.210987654321.cn-north-1.redshift-serverless.amazonaws.com.cn:5439"
    assert arn(host, "d.s.t") == "arn:aws-cn:redshift-serverless:cn-north-1:210987654321:table/wg/d/s/t"


def test_glue_tables_are_named_as_glue_does():
    wanted = "arn:aws:glue:us-east-1:123456789012:table/lake/orders"
    assert arn("arn:aws:glue:us-east-1:123456789012", "table/lake/orders") == wanted
    assert arn("awsathena://athena.us-east-1.amazonaws.com", "AwsDataCatalog.lake.orders") == wanted


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("s3://bucket", "landing/quotes"), ("file", "/tmp/a.csv"), ("mysql://db:3306", "demodb.sales")],
)
def test_other_names_stay_as_they_are(namespace, name):
    event = {"inputs": [{"namespace": namespace, "name": name}]}
    assert rename_datasets(event, Naming.from_properties(NAMES)) == []
    assert event == {"inputs": [{"namespace": namespace, "name": name}]}


def test_nothing_in_an_event_keeps_a_name_the_catalog_does_not_know():
    event = run_event()
    renamed = CatalogNames(NAMES).transform(event)
    text = Serde.to_json(renamed)
    assert "redshift://" not in text
    output = json.loads(text)["outputs"][0]
    # what the catalog makes of it
    assert f"{output['namespace']}/{output['name']}" == f"{SERVERLESS}:view/zero-etl-destination/dev/finance/rpt_top"
    (link,) = output["facets"]["symlinks"]["identifiers"]
    assert f"{link['namespace']}/{link['name']}" == f"{SERVERLESS}:view/zero-etl-destination/dev/finance/rpt_old"


def test_an_event_read_back_from_the_spool_is_renamed_alike():
    event = run_event()
    spooled = as_json(event)
    rename_datasets(spooled, Naming.from_properties(NAMES))
    assert spooled == as_json(CatalogNames(NAMES).transform(event))


def test_a_name_that_can_not_be_told_is_told_once(caplog):
    names = CatalogNames(NAMES)
    for _ in range(2):
        event = run_event()
        event.inputs[0].namespace = "redshift://warehouse.example.org:5439"
        assert names.transform(event).inputs[0].namespace == "redshift://warehouse.example.org:5439"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "Add the host to redshift" in told[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"account_id": "12345"}, "account_id: expected 12 digits, found '12345'"),
        ({"region": "Virginia"}, "region: expected one like us-east-1"),
        ({"veiw_schemas": []}, "found veiw_schemas"),
        ({"view_schemas": "finance"}, "expected a list in view_schemas"),
        ({"redshift": {"a.b": {"workgroup": "a", "cluster": "b"}}}, "one of workgroup and cluster"),
        ({"redshift": {"a.b": {}}}, "one of workgroup and cluster"),
        ({"redshift": {"a.b": {"workgrop": "a"}}}, "found workgrop"),
        ({"redshift": {"a.b": "a"}}, "found 'a'"),
        ({"redshift": {"a.b": {"workgroup": "a/b"}}}, "expected letters, digits, hyphens"),
        ({"redshift": {"a.b": {"workgroup": "a", "account_id": "1"}}}, "account_id: expected 12 digits"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(change, message):
    with pytest.raises(LineageConfigInvalid) as raised:
        Naming.from_properties({**NAMES, **change})
    assert message in str(raised.value)
