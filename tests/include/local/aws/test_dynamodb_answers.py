"""Items come back from the AWS stand-in as they were put, by whichever operation."""

from __future__ import annotations

import pytest

ITEM = {
    "pk": {"S": "é\n\u2028"},
    "sk": {"S": "1"},
    "number": {"N": "12345678901234567890123456789012345678"},
    "bytes": {"B": b"\x00\xff\xfe"},
    "numbers": {"NS": ["1", "2.5"]},
    "words": {"SS": ["x", "y"]},
    "pictures": {"BS": [b"\x01", b"\xff"]},
    "nothing": {"NULL": True},
    "yes": {"BOOL": True},
    "no": {"BOOL": False},
    "empty": {"S": ""},
    "deep": {
        "M": {"l": {"L": [{"M": {"b": {"B": b"\x80"}, "n": {"N": "0"}}}, {"L": []}, {"NULL": True}]}, "m": {"M": {}}}
    },
}
KEY = {name: ITEM[name] for name in ("pk", "sk")}
QUERY = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": ITEM["pk"]}}


@pytest.mark.parametrize(
    "read",
    [
        lambda dynamodb, table: dynamodb.get_item(TableName=table, Key=KEY)["Item"],
        lambda dynamodb, table: dynamodb.query(TableName=table, **QUERY)["Items"][0],
        lambda dynamodb, table: dynamodb.scan(TableName=table)["Items"][0],
        lambda dynamodb, table: dynamodb.batch_get_item(RequestItems={table: {"Keys": [KEY]}})["Responses"][table][0],
        lambda dynamodb, table: dynamodb.transact_get_items(TransactItems=[{"Get": {"TableName": table, "Key": KEY}}])[
            "Responses"
        ][0]["Item"],
        lambda dynamodb, table: dynamodb.put_item(TableName=table, Item=KEY, ReturnValues="ALL_OLD")["Attributes"],
        lambda dynamodb, table: dynamodb.delete_item(TableName=table, Key=KEY, ReturnValues="ALL_OLD")["Attributes"],
        lambda dynamodb, table: dynamodb.update_item(
            TableName=table, Key=KEY, UpdateExpression="REMOVE absent", ReturnValues="ALL_NEW"
        )["Attributes"],
    ],
    ids=["get", "query", "scan", "batch", "transaction", "put", "delete", "update"],
)
@pytest.mark.parametrize("how", ["put", "batch", "transaction"])
def test_an_item_comes_back_as_it_was_put(dynamodb, table, read, how):
    match how:
        case "put":
            dynamodb.put_item(TableName=table, Item=ITEM)
        case "batch":
            dynamodb.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": ITEM}}]})
        case "transaction":
            dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": ITEM}}])
    assert read(dynamodb, table) == ITEM


def test_what_is_not_there_is_no_item(dynamodb, table):
    assert "Item" not in dynamodb.get_item(TableName=table, Key=KEY)
    assert "Attributes" not in dynamodb.delete_item(TableName=table, Key=KEY, ReturnValues="ALL_OLD")
