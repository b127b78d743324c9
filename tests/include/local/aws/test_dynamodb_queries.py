"""Queries of a partition on the AWS stand-in."""

from __future__ import annotations

import pytest


@pytest.fixture
def filled(dynamodb, table):
    """Thirty items in each of three partitions whose names begin alike, put in no order."""
    for partition in ("a-1", "a-10", "a"):
        for start in (2, 0, 1):
            requests = [
                {"PutRequest": {"Item": {"pk": {"S": partition}, "sk": {"S": f"{n:02}"}, "n": {"N": str(n)}}}}
                for n in range(start, 30, 3)
            ]
            dynamodb.batch_write_item(RequestItems={table: requests})
    return table


def query(dynamodb, table, condition="pk = :p", **more):
    values = {":p": {"S": "a-1"}, **more.pop("values", {})}
    return dynamodb.query(
        TableName=table, KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True, **more
    )


def numbers(answer):
    assert {item["pk"]["S"] for item in answer["Items"]} <= {"a-1"}
    return [int(item["n"]["N"]) for item in answer["Items"]]


def test_a_partition_is_read_whole_in_order_and_alone(dynamodb, filled):
    assert numbers(query(dynamodb, filled)) == list(range(30))
    assert numbers(query(dynamodb, filled, ScanIndexForward=False)) == list(range(29, -1, -1))


@pytest.mark.parametrize("forward", [True, False])
def test_pages_follow_each_other_without_a_gap(dynamodb, filled, forward):
    found, start = [], {}
    while True:
        page = query(dynamodb, filled, Limit=7, ScanIndexForward=forward, **start)
        found += numbers(page)
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert found == sorted(range(30), reverse=not forward)


def test_a_page_begins_after_a_key_that_is_not_there_any_more(dynamodb, filled):
    key = {"pk": {"S": "a-1"}, "sk": {"S": "10"}}
    dynamodb.delete_item(TableName=filled, Key=key)
    assert numbers(query(dynamodb, filled, ExclusiveStartKey=key)) == list(range(11, 30))
    assert numbers(query(dynamodb, filled, ExclusiveStartKey=key, ScanIndexForward=False)) == list(range(9, -1, -1))


def test_a_page_has_at_most_a_megabyte(dynamodb, table, put):
    for number in range(5):
        put("a-1", f"{number:02}", n={"N": str(number)}, text={"S": "x" * 300_000})
    first = query(dynamodb, table)
    assert numbers(first) == [0, 1, 2]
    assert numbers(query(dynamodb, table, ExclusiveStartKey=first["LastEvaluatedKey"])) == [3, 4]


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ("pk = :p AND sk > :x", {":x": {"S": "26"}}, [27, 28, 29]),
        ("pk = :p AND sk BETWEEN :x AND :y", {":x": {"S": "03"}, ":y": {"S": "05"}}, [3, 4, 5]),
        ("pk = :p AND begins_with(sk, :x)", {":x": {"S": "2"}}, list(range(20, 30))),
        ("pk = :p AND sk = :x", {":x": {"S": "07"}}, [7]),
    ],
)
def test_sort_keys_are_compared(dynamodb, filled, condition, values, expected):
    assert numbers(query(dynamodb, filled, condition, values=values)) == expected


def test_a_filter_comes_after_the_page(dynamodb, filled):
    answer = query(dynamodb, filled, Limit=10, FilterExpression="n > :n", values={":n": {"N": "7"}})
    assert (numbers(answer), answer["ScannedCount"]) == ([8, 9], 10)


def test_a_partition_without_items_is_empty(dynamodb, table):
    assert query(dynamodb, table)["Items"] == []


def test_a_table_without_sort_key_is_queried(dynamodb, make):
    table = make(["pk"])
    for name in ("a-1", "a-2"):
        dynamodb.put_item(TableName=table, Item={"pk": {"S": name}, "n": {"N": "1"}})
    assert numbers(query(dynamodb, table)) == [1]


def test_an_index_is_queried_by_its_own_key(dynamodb, make):
    index = {
        "IndexName": "by-name",
        "KeySchema": [{"AttributeName": "name", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    table = make(["pk"], index=index)
    for number in range(3):
        item = {"pk": {"S": str(number)}, "name": {"S": "x" if number else "y"}}
        dynamodb.put_item(TableName=table, Item=item)
    answer = dynamodb.query(
        TableName=table,
        IndexName="by-name",
        KeyConditionExpression="#n = :n",
        ExpressionAttributeNames={"#n": "name"},
        ExpressionAttributeValues={":n": {"S": "x"}},
    )
    assert [item["pk"]["S"] for item in answer["Items"]] == ["1", "2"]


def test_a_scan_reads_all_in_pages(dynamodb, filled):
    pages = dynamodb.get_paginator("scan").paginate(TableName=filled, PaginationConfig={"PageSize": 8})
    keys = [(item["pk"]["S"], item["sk"]["S"]) for page in pages for item in page["Items"]]
    assert len(keys) == 90
    assert keys == sorted(keys)


def test_nothing_follows_the_only_item_of_a_partition_without_a_sort_key(dynamodb, make):
    name = make(keys=("pk",))
    dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}})
    asked = {
        "TableName": name,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "a"}},
    }
    assert dynamodb.query(**asked)["Items"] == [{"pk": {"S": "a"}}]
    assert dynamodb.query(**asked, ExclusiveStartKey={"pk": {"S": "a"}})["Items"] == []
