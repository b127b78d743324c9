"""The stand-in of Security Lake's API, as boto3 and a terminal see it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from include.local.aws import security_lake
from include.local.aws.faults import Fault
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at

REGION = "us-east-1"
CRAWLER = "arn:aws:iam::123456789012:role/crawler"
META = "arn:aws:iam::123456789012:role/meta"


@pytest.fixture(scope="module")
def url():
    security_lake.install()
    security_lake.install()  # changes nothing
    with trial_aws_in_process() as url:
        yield url


@pytest.fixture(scope="module")
def make(url):
    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, parameter_validation=False)
    return lambda service: clients_at(url).make(service, config)


@pytest.fixture
def client(make):
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()
    make("iam").create_role(RoleName="crawler", AssumeRolePolicyDocument="{}")
    yield make("securitylake")
    security_lake.FAULTS.clear()


@pytest.fixture
def lake(client):
    return client.create_data_lake(configurations=[{"region": REGION}], metaStoreManagerRoleArn=META)["dataLakes"][0]


def create(client, name="alb-4002", **more):
    request = {
        "sourceName": name,
        "configuration": {
            "crawlerConfiguration": {"roleArn": CRAWLER},
            "providerIdentity": {"externalId": "id", "principal": "123456789012"},
        },
    }
    return client.create_custom_log_source(**request | more)["source"]


def test_a_lake_is_a_bucket_and_a_database(client, lake, make):
    bucket = lake["s3BucketArn"].removeprefix("arn:aws:s3:::")
    assert bucket.startswith("aws-security-data-lake-us-east-1-")
    make("s3").head_bucket(Bucket=bucket)
    make("glue").get_database(Name="amazon_security_lake_glue_db_us_east_1")
    assert client.list_data_lakes()["dataLakes"] == [lake]
    assert client.list_data_lakes(regions=["eu-west-1"])["dataLakes"] == []
    again = client.create_data_lake(configurations=[{"region": REGION}], metaStoreManagerRoleArn=META)
    assert again["dataLakes"] == [lake]


def test_a_custom_source_has_a_role_a_crawler_and_a_table(client, lake, make):
    made = create(client, eventClasses=["HTTP_ACTIVITY"], sourceVersion="1.0")
    bucket = lake["s3BucketArn"].rpartition(":")[2]
    assert made == {
        "sourceName": "alb-4002",
        "sourceVersion": "1.0",
        "provider": {
            "location": f"s3://{bucket}/ext/alb-4002/",
            "roleArn": "arn:aws:iam::123456789012:role/AmazonSecurityLake-Provider-alb-4002-us-east-1",
        },
        "attributes": {
            "crawlerArn": "arn:aws:glue:us-east-1:123456789012:crawler/alb-4002",
            "databaseArn": "arn:aws:glue:us-east-1:123456789012:database/amazon_security_lake_glue_db_us_east_1",
            "tableArn": "arn:aws:glue:us-east-1:123456789012:table/amazon_security_lake_table_us_east_1_ext_alb_4002",
        },
    }
    role = make("iam").get_role(RoleName="AmazonSecurityLake-Provider-alb-4002-us-east-1")["Role"]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": "id"}}
    assert make("glue").get_crawler(Name="alb-4002")["Crawler"]["Role"] == CRAWLER
    table = make("glue").get_table(
        DatabaseName="amazon_security_lake_glue_db_us_east_1", Name="amazon_security_lake_table_us_east_1_ext_alb_4002"
    )["Table"]
    assert [key["Name"] for key in table["PartitionKeys"]] == ["region", "accountid", "eventday"]
    assert client.list_log_sources()["sources"] == [
        {"account": "123456789012", "region": REGION, "sources": [{"customLogSource": made}]}
    ]


def test_without_a_lake_there_are_no_sources(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="not enabled in us-east-1"):
        create(client)
    assert client.list_log_sources()["sources"] == []


def test_a_source_that_is_there_is_a_conflict(client, lake):
    create(client)
    with pytest.raises(client.exceptions.ConflictException, match="alb-4002 already exists"):
        create(client)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"name": "a" * 21}, "at most 20 characters, found 21"),
        ({"name": "a" * 65}, "sourceName: length: expected at most 64, found 65"),
        ({"name": "a/b"}, "sourceName: expected to match"),
        ({"eventClasses": ["DETECTION_FINDING"]}, "DETECTION_FINDING not supported"),
        ({"eventClasses": ["x"]}, "expected to match"),
        (
            {"configuration": {"crawlerConfiguration": {"roleArn": CRAWLER}}},
            "providerIdentity: expected a value, found none",
        ),
    ],
)
def test_what_the_api_does_not_take_is_refused(client, lake, more, told):
    with pytest.raises(client.exceptions.BadRequestException, match=told):
        create(client, **more)
    assert client.list_log_sources()["sources"] == []


def test_a_crawlers_role_must_be_there(client, lake, make):
    make("iam").delete_role(RoleName="crawler")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="role/crawler does not exist"):
        create(client)


def test_sources_are_told_in_pages_and_by_filter(client, lake):
    for n in range(5):
        create(client, f"s-{n}")
    pages = list(client.get_paginator("list_log_sources").paginate(PaginationConfig={"PageSize": 2}))
    names = [
        each["customLogSource"]["sourceName"] for page in pages for one in page["sources"] for each in one["sources"]
    ]
    assert len(pages) == 3
    assert names == [f"s-{n}" for n in range(5)]
    assert client.list_log_sources(accounts=["999999999999"])["sources"] == []
    assert client.list_log_sources(regions=["eu-west-1"])["sources"] == []
    [found] = client.list_log_sources(sources=[{"customLogSource": {"sourceName": "s-3"}}])["sources"]
    assert len(found["sources"]) == 1
    with pytest.raises(client.exceptions.BadRequestException, match="nextToken"):
        client.list_log_sources(nextToken="x")
    with pytest.raises(client.exceptions.BadRequestException, match="maxResults: expected at most 100"):
        client.list_log_sources(maxResults=101)


def test_a_deleted_source_takes_role_and_crawler_along_and_leaves_the_table(client, lake, make):
    create(client)
    client.delete_custom_log_source(sourceName="alb-4002")
    assert client.list_log_sources()["sources"] == []
    assert not [each for each in make("iam").list_roles()["Roles"] if "Provider" in each["RoleName"]]
    assert make("glue").get_crawlers()["Crawlers"] == []
    assert len(make("glue").get_tables(DatabaseName="amazon_security_lake_glue_db_us_east_1")["TableList"]) == 1
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_custom_log_source(sourceName="alb-4002")
    create(client)


def test_faults_befall_requests(client, lake):
    security_lake.FAULTS.add(Fault("ListLogSources", code="ThrottlingException", status=429, times=1))
    with pytest.raises(client.exceptions.ThrottlingException):
        client.list_log_sources()
    client.list_log_sources()


def test_an_operation_that_it_lacks_is_named(client):
    with pytest.raises(
        ClientError, match=r"NotImplementedException.*has no ListSubscribers; it has CreateCustomLogSource"
    ):
        client.list_subscribers()


def test_other_services_are_still_motos_and_it_answers_over_a_socket(url, client):
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name=REGION)
    outside = session.client("securitylake", endpoint_url=url)
    assert outside.list_data_lakes()["dataLakes"] == []
    assert "Buckets" in session.client("s3", endpoint_url=url).list_buckets()
    scope = (
        "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/securitylake/aws4_request, SignedHeaders=host, Signature=0"
    )
    request = urllib.request.Request(f"{url}/v1/nothing", headers={"Authorization": scope})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 404
    assert "no operation of Security Lake is at GET /v1/nothing" in json.load(caught.value)["message"]
