"""A network that fails, between boto3 and the AWS stand-in."""

from __future__ import annotations

import threading

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.proxy import Proxy
from include.local.saas.tables import make_table

BUCKET = "data-platform"


@pytest.fixture(scope="module")
def upstream():
    with trial_aws([BUCKET]) as url:
        make_table(clients_at(url).dynamodb, "Order-1", ["pk"])
        make_table(clients_at(url).dynamodb, "Product-1", ["pk"])
        yield url


@pytest.fixture
def direct(upstream):
    """A client that does not go through the proxy, and tables without items."""
    client = clients_at(upstream).dynamodb
    yield client
    for name in ("Order-1", "Product-1"):
        for item in client.scan(TableName=name)["Items"]:
            client.delete_item(TableName=name, Key={"pk": item["pk"]})


@pytest.fixture
def proxy(upstream):
    with Proxy(upstream) as proxy:
        yield proxy


def client_at(url, service="dynamodb", **config):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="stand-in",
        aws_secret_access_key="not-a-secret",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, **config),
    )


@pytest.fixture
def through(proxy):
    """A client that goes through the proxy, and tries once."""
    return client_at(proxy.url)


def put(client, pk, table="Order-1", **more):
    client.put_item(TableName=table, Item={"pk": {"S": pk}, **more})


def there(client, table="Order-1"):
    return sorted(item["pk"]["S"] for item in client.scan(TableName=table, ConsistentRead=True)["Items"])


def in_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_it_passes_on_requests_and_answers_as_they_are(proxy, through, direct):
    put(through, "é", picture={"B": b"\x00\xff"})
    assert direct.scan(TableName="Order-1")["Items"] == [{"pk": {"S": "é"}, "picture": {"B": b"\x00\xff"}}]
    again = {"Item": {"pk": {"S": "é"}}, "ConditionExpression": "attribute_not_exists(pk)"}
    with pytest.raises(through.exceptions.ConditionalCheckFailedException):
        through.put_item(TableName="Order-1", **again)
    s3 = client_at(proxy.url, "s3", s3={"addressing_style": "path"})
    s3.put_object(Bucket=BUCKET, Key="a/b c", Body=b"x" * 100_000, Metadata={"by": "me"})
    assert s3.head_object(Bucket=BUCKET, Key="a/b c")["ContentLength"] == 100_000
    found = s3.get_object(Bucket=BUCKET, Key="a/b c")
    assert (found["Body"].read(), found["Metadata"]) == (b"x" * 100_000, {"by": "me"})
    s3.delete_object(Bucket=BUCKET, Key="a/b c")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


@pytest.mark.parametrize(("drop", "written"), [("request", []), ("answer", ["a"])])
def test_a_connection_is_dropped_before_or_after_the_request_was_done(proxy, through, direct, drop, written):
    proxy.rule("PutItem", table="Order-*", drop=drop, times=1)
    put(through, "p", "Product-1")
    with pytest.raises(ConnectionClosedError):
        put(through, "a")
    assert there(direct) == written
    put(through, "b")
    assert there(direct) == [*written, "b"]


def test_a_request_is_overtaken_by_a_later_one(proxy, through, direct):
    proxy.rule("PutItem", overtaken_by=1, times=1)
    first = in_thread(lambda: put(through, "a", n={"N": "1"}))
    proxy.wait_until_asked("PutItem", 1)
    put(through, "a", n={"N": "2"})
    first.join(30)
    assert not first.is_alive()
    assert direct.scan(TableName="Order-1")["Items"] == [{"pk": {"S": "a"}, "n": {"N": "1"}}]


def test_a_request_is_late_but_done_though_its_client_has_given_up(proxy, direct):
    proxy.rule("PutItem", delay_seconds=60, times=1)
    with pytest.raises(ReadTimeoutError):
        put(client_at(proxy.url, read_timeout=0.2), "late")
    proxy.wait_until_asked("PutItem", 1)  # a slow proxy may still have it before it
    put(client_at(proxy.url), "early")
    assert there(direct) == ["early"]
    proxy.clear()
    while there(direct) != ["early", "late"]:
        pass


def test_an_answer_is_late_though_the_request_was_done(proxy, through, direct):
    proxy.rule("PutItem", delay_seconds=60, done=True)
    writer = in_thread(lambda: put(through, "a"))
    while there(direct) != ["a"]:
        pass
    assert writer.is_alive()
    proxy.clear()
    writer.join(30)
    assert not writer.is_alive()


def test_everything_is_cut_until_it_is_healed(proxy, through, direct):
    proxy.rule("PutItem", delay_seconds=60, times=1)
    failed = []

    def write():
        try:
            put(through, "in flight")
        except HTTPClientError as error:
            failed.append(error)

    writer = in_thread(write)
    proxy.wait_until_asked("PutItem", 1)
    proxy.cut()
    writer.join(30)
    assert len(failed) == 1
    with pytest.raises(HTTPClientError):
        put(through, "cut")
    proxy.clear()
    proxy.heal()
    put(through, "healed")
    assert there(direct) == ["healed"]


def test_what_waits_while_it_is_stalled_is_passed_on_when_it_is_healed(proxy, through, direct):
    proxy.stall()
    with pytest.raises(ReadTimeoutError):
        put(client_at(proxy.url, read_timeout=0.2), "given up")
    writer = in_thread(lambda: put(through, "waits"))
    proxy.wait_until_asked("PutItem", 2)
    assert there(direct) == []
    proxy.heal()
    writer.join(30)
    while there(direct) != ["given up", "waits"]:
        pass


def test_an_upstream_that_is_away_is_a_closed_connection(proxy):
    with Proxy("http://127.0.0.1:1") as other, pytest.raises(HTTPClientError):
        put(client_at(other.url), "a")


@pytest.mark.parametrize(("fields", "message"), [({"code": "Throttled"}, "Controls.fault"), ({"tabel": "x"}, "tabel")])
def test_a_rule_that_is_none_of_a_networks_is_refused(proxy, fields, message):
    with pytest.raises(ValueError, match=message):
        proxy.rule("PutItem", **fields)
