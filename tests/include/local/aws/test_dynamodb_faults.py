"""What befalls the requests to the AWS stand-in when it was told so."""

from __future__ import annotations

import threading

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from include.local.aws.controls import Controls
from include.tenants.transactions import transact


@pytest.fixture
def controls(aws_url):
    controls = Controls(aws_url)
    yield controls
    controls.reset()


@pytest.fixture
def once(aws_url):
    """A client that tries once."""
    import boto3

    return boto3.client(
        "dynamodb",
        endpoint_url=aws_url,
        region_name="us-east-1",
        aws_access_key_id="stand-in",
        aws_secret_access_key="not-a-secret",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


def key(pk, sk="1"):
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def there(dynamodb, table, pk):
    return "Item" in dynamodb.get_item(TableName=table, Key=key(pk), ConsistentRead=True)


def code(action):
    with pytest.raises(ClientError) as found:
        action()
    return found.value.response["Error"]["Code"]


def test_only_the_named_operation_and_table_are_throttled_and_only_so_often(once, make, controls):
    table, other = make(), make()
    controls.fault("PutItem", table=table, code="ProvisionedThroughputExceededException", times=2)

    def put(name):
        return once.put_item(TableName=name, Item=key("a"))

    put(other)
    for _ in range(2):
        assert code(lambda: put(table)) == "ProvisionedThroughputExceededException"
    assert not there(once, table, "a")
    put(table)
    assert there(once, table, "a")
    assert controls.faults() == []


def test_tables_are_named_by_pattern_and_faults_end_when_told(once, table, controls):
    controls.fault("Query", table="t-*", code="ThrottlingException")
    query = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "a"}}}
    assert code(lambda: once.query(TableName=table, **query)) == "ThrottlingException"
    controls.clear()
    assert once.query(TableName=table, **query)["Items"] == []


def test_a_fault_may_begin_later(once, table, controls):
    controls.fault("PutItem", table=table, code="InternalServerError", after=2, times=1)
    codes = []
    for number in range(4):
        try:
            once.put_item(TableName=table, Item=key(str(number)))
        except ClientError as error:
            codes.append((number, error.response["ResponseMetadata"]["HTTPStatusCode"]))
    assert codes == [(2, 500)]


def test_a_part_of_a_batch_is_given_back(once, make, controls):
    table, other = make(), make()
    controls.fault("BatchWriteItem", table=table, unprocessed=0.5, times=1)
    requests = [{"PutRequest": {"Item": key(str(number))}} for number in range(10)]
    answer = once.batch_write_item(RequestItems={table: requests, other: requests[:3]})
    assert answer["UnprocessedItems"] == {table: requests[5:]}
    assert once.scan(TableName=table)["Count"] == 5
    assert once.scan(TableName=other)["Count"] == 3
    assert once.batch_write_item(RequestItems=answer["UnprocessedItems"])["UnprocessedItems"] == {}
    assert once.scan(TableName=table)["Count"] == 10
    controls.fault("BatchGetItem", table=table, unprocessed=1.0)
    keys = [key(str(number)) for number in range(4)]
    answer = once.batch_get_item(RequestItems={table: {"Keys": keys, "ProjectionExpression": "pk"}})
    assert answer["Responses"] == {table: [{"pk": {"S": "0"}}]}
    assert answer["UnprocessedKeys"] == {table: {"Keys": keys[1:], "ProjectionExpression": "pk"}}


def test_reading_a_stream_is_throttled(dynamodb, clients, once, table, controls):
    arn = dynamodb.update_table(
        TableName=table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    )["TableDescription"]["LatestStreamArn"]
    shard = clients.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    at = clients.streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    controls.fault("GetRecords", table=table, code="LimitExceededException", times=2)
    assert code(lambda: clients.streams.get_records(ShardIterator=at["ShardIterator"])) == "LimitExceededException"
    assert clients.streams.get_records(ShardIterator=at["ShardIterator"])["Records"] == []


def test_a_conflict_cancels_a_transaction_and_names_the_element(once, make, controls):
    table, other = make(), make()
    controls.fault("TransactWriteItems", table=table, code="TransactionConflict", times=2)
    elements = [{"Put": {"TableName": name, "Item": key("a")}} for name in (other, table)]
    with pytest.raises(ClientError) as found:
        once.transact_write_items(TransactItems=elements)
    assert found.value.response["Error"]["Code"] == "TransactionCanceledException"
    assert [each["Code"] for each in found.value.response["CancellationReasons"]] == ["None", "TransactionConflict"]
    assert not there(once, other, "a")
    transact(once, elements, sleep=lambda _: None)
    assert there(once, other, "a")


@pytest.mark.parametrize(("drop", "written"), [("request", False), ("answer", True)])
def test_a_connection_is_dropped_before_or_after_the_write(once, table, controls, drop, written):
    controls.fault("PutItem", table=table, drop=drop, times=1)
    with pytest.raises(ConnectionClosedError):
        once.put_item(TableName=table, Item=key("a"))
    assert there(once, table, "a") is written


def test_a_transaction_whose_answer_was_lost_is_not_done_twice(dynamodb, table, controls):
    controls.fault("TransactWriteItems", table=table, drop="answer", times=1)
    before = controls.requests().get("TransactWriteItems", 0)
    add = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
    dynamodb.transact_write_items(TransactItems=[{"Update": {"TableName": table, "Key": key("a"), **add}}])
    assert controls.requests()["TransactWriteItems"] - before == 2
    assert dynamodb.get_item(TableName=table, Key=key("a"))["Item"]["n"] == {"N": "1"}


@pytest.mark.parametrize("done", [False, True])
def test_a_delayed_write_lands_late_or_its_answer_does(once, table, controls, done):
    controls.fault("PutItem", table=table, delay_seconds=60, times=1, done=done)
    writer = threading.Thread(target=lambda: once.put_item(TableName=table, Item=key("late")))
    before = controls.requests().get("PutItem", 0)
    writer.start()
    while controls.requests().get("PutItem", 0) == before:
        pass
    if done:
        while not there(once, table, "late"):
            pass
    once.put_item(TableName=table, Item=key("early"))
    assert (there(once, table, "early"), there(once, table, "late"), writer.is_alive()) == (True, done, True)
    controls.clear()
    writer.join(60)
    assert there(once, table, "late")


def test_an_error_may_be_answered_although_the_write_was_done(once, table, controls):
    controls.fault("PutItem", table=table, code="InternalServerError", done=True, times=1)
    assert code(lambda: once.put_item(TableName=table, Item=key("a"))) == "InternalServerError"
    assert there(once, table, "a")


def test_other_services_are_befallen_by_operation(clients, controls):
    controls.fault("ListUserPools", code="TooManyRequestsException", times=2)
    assert code(lambda: clients.cognito.list_user_pools(MaxResults=1)) == "TooManyRequestsException"
    clients.cognito.list_user_pools(MaxResults=1)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda controls: controls.fault("PutItem", tabel="x"), "found tabel"),
        (lambda controls: controls.fault("PutItem", drop="all"), "expected request or answer"),
        (lambda controls: controls.stream("no-such-table", lag_seconds=1), "expected a table no-such-table"),
        (lambda controls: controls.split("no-such-table"), "expected a table no-such-table"),
        (lambda controls: controls.advance(-1), "found -1"),
    ],
)
def test_what_cannot_befall_is_refused(controls, action, message):
    with pytest.raises(ValueError, match=message):
        action(controls)


def test_a_stream_does_not_behave_by_unknown_words(table, controls):
    with pytest.raises(ValueError, match="found lag"):
        controls.stream(table, lag=1)
    with pytest.raises(ValueError, match=f"expected table {table} to have a stream"):
        controls.split(table)
