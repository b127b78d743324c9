"""The AWS stand-in as a part of the test's own process."""

from __future__ import annotations

import json
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from include.local.aws.controls import Controls
from include.local.aws.in_process import clients_inside
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at
from include.local.saas.tables import make_table

ITEM = {"pk": {"S": "ä & b"}, "sk": {"S": "1"}}


def test_clients_with_a_socket_and_without_find_the_same():
    with trial_aws_in_process(["data-platform"]) as url:
        clients = clients_at(url)
        make_table(clients.dynamodb, "t", ["pk", "sk"])
        clients.dynamodb.put_item(TableName="t", Item=ITEM)
        outside = boto3.client(
            "dynamodb",
            endpoint_url=url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        assert outside.get_item(TableName="t", Key=ITEM)["Item"] == ITEM
        clients.s3.put_object(Bucket="data-platform", Key="a/ü b+c.txt", Body=b"text")
        assert clients_inside().s3.get_object(Bucket="data-platform", Key="a/ü b+c.txt")["Body"].read() == b"text"
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert json.load(answer) == {"status": "ok"}


def test_errors_and_dropped_connections_are_what_a_socket_gives():
    with trial_aws_in_process() as url:
        dynamodb = clients_at(url).dynamodb
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            dynamodb.get_item(TableName="t", Key=ITEM)
        make_table(dynamodb, "t", ["pk", "sk"])
        Controls(url).fault("PutItem", drop="answer")
        with pytest.raises(ConnectionClosedError):
            dynamodb.put_item(TableName="t", Item=ITEM)
        assert dynamodb.get_item(TableName="t", Key=ITEM)["Item"] == ITEM


def test_each_begins_empty_and_the_default_session_is_as_it_was():
    before = boto3.DEFAULT_SESSION
    for _ in range(3):
        with trial_aws_in_process() as url:
            dynamodb = clients_at(url).dynamodb
            assert dynamodb.list_tables()["TableNames"] == []
            make_table(dynamodb, "t", ["pk", "sk"])
    assert boto3.DEFAULT_SESSION is before


def test_a_second_one_is_refused():
    with (
        trial_aws_in_process() as url,
        pytest.raises(RuntimeError, match=f"found the one at {url}"),
        trial_aws_in_process(),
    ):
        pass
