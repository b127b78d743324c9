"""The capacity that operations tell they took, on the AWS stand-in."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

TOTAL = {"ReturnConsumedCapacity": "TOTAL"}


def key(pk, sk="1"):
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def sized(pk, sk, kilobytes):
    """An item of a little less than so many kilobytes."""
    return {**key(pk, sk), "payload": {"S": "x" * (1024 * kilobytes - 50)}}


@pytest.fixture
def query(dynamodb, table):
    def query(**more):
        return dynamodb.query(
            TableName=table,
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues={":p": {"S": "a"}, **more.pop("values", {})},
            **more,
        )

    return query


@pytest.fixture
def filled(dynamodb, table):
    for number in range(5):
        dynamodb.put_item(TableName=table, Item=sized("a", str(number), 3))
    return table


@pytest.mark.parametrize(
    ("more", "units"),
    [
        ({"ConsistentRead": True}, 4.0),  # 15 KB at once
        ({}, 2.0),
        ({"ConsistentRead": True, "Limit": 1}, 1.0),
        ({"ConsistentRead": True, "FilterExpression": "size(payload) < :s", "values": {":s": {"N": "1"}}}, 4.0),
        ({"ConsistentRead": True, "ProjectionExpression": "pk"}, 4.0),
        ({"ConsistentRead": True, "Select": "COUNT"}, 4.0),
    ],
)
def test_a_page_takes_what_it_goes_over_and_not_what_it_answers(filled, query, more, units):
    answer = query(**TOTAL, **more)
    assert answer["ConsumedCapacity"] == {"TableName": filled, "CapacityUnits": units}


def test_nothing_is_told_to_who_does_not_ask(dynamodb, filled, query):
    assert "ConsumedCapacity" not in query()
    assert "ConsumedCapacity" not in dynamodb.put_item(TableName=filled, Item=key("b"))
    assert "ConsumedCapacity" not in dynamodb.batch_write_item(
        RequestItems={filled: [{"PutRequest": {"Item": key("b")}}]}
    )


def test_an_empty_page_takes_a_unit(dynamodb, table, query):
    assert query(**TOTAL, ConsistentRead=True)["ConsumedCapacity"]["CapacityUnits"] == 1.0
    assert dynamodb.scan(TableName=table, **TOTAL)["ConsumedCapacity"]["CapacityUnits"] == 0.5


def test_a_write_takes_the_larger_of_before_and_after(dynamodb, table):
    def units(answer):
        return answer["ConsumedCapacity"]["CapacityUnits"]

    name = {"TableName": table, **TOTAL}
    assert units(dynamodb.put_item(Item=sized("a", "1", 3), **name)) == 3.0
    assert units(dynamodb.put_item(Item=key("a"), **name)) == 3.0
    assert units(dynamodb.put_item(Item=key("a"), **name)) == 1.0
    update = {"UpdateExpression": "SET payload = :d"}
    value = {":d": {"S": "x" * 2000}}
    assert units(dynamodb.update_item(Key=key("a"), **update, ExpressionAttributeValues=value, **name)) == 2.0
    assert units(dynamodb.get_item(Key=key("a"), ConsistentRead=True, **name)) == 1.0
    assert units(dynamodb.delete_item(Key=key("a"), **name)) == 2.0
    assert units(dynamodb.delete_item(Key=key("a"), **name)) == 1.0
    assert units(dynamodb.get_item(Key=key("a"), **name)) == 0.5


def test_each_item_of_a_batch_counts_and_a_transaction_takes_double(dynamodb, make):
    table, other = make(), make()
    requests = [{"PutRequest": {"Item": sized("a", str(number), 2)}} for number in range(5)]
    answer = dynamodb.batch_write_item(RequestItems={table: requests, other: requests[:1]}, **TOTAL)
    assert answer["ConsumedCapacity"] == [
        {"TableName": table, "CapacityUnits": 10.0},
        {"TableName": other, "CapacityUnits": 2.0},
    ]
    keys = [key("a", str(number)) for number in range(5)]
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}}, **TOTAL)
    assert answer["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 5.0}]
    elements = [{"Put": {"TableName": table, "Item": sized("b", "1", 2)}}]
    elements += [{"Delete": {"TableName": table, "Key": key("a", "1")}}]
    answer = dynamodb.transact_write_items(TransactItems=elements, **TOTAL)
    assert answer["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 8.0, "WriteCapacityUnits": 8.0}]
    answer = dynamodb.transact_get_items(TransactItems=[{"Get": {"TableName": table, "Key": key("b")}}], **TOTAL)
    assert answer["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": 2.0, "ReadCapacityUnits": 2.0}]


def test_an_item_is_at_most_400_kb(dynamodb, table):
    dynamodb.put_item(TableName=table, Item=sized("a", "1", 400))
    with pytest.raises(ClientError, match="Item size has exceeded"):
        dynamodb.put_item(TableName=table, Item=sized("a", "1", 401))
