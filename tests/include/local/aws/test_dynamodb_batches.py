"""BatchWriteItem on the AWS stand-in."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError


def put(pk, **more):
    return {"PutRequest": {"Item": {"pk": {"S": pk}, "sk": {"S": "1"}, **more}}}


def delete(pk):
    return {"DeleteRequest": {"Key": {"sk": {"S": "1"}, "pk": {"S": pk}}}}


@pytest.mark.parametrize(
    "requests",
    [
        [put("a"), put("a", n={"N": "1"})],
        [put("a"), delete("a")],
        [delete("a"), delete("a")],
        [put(str(number)) for number in range(26)],
        [{"DeleteRequest": {"Key": {"pk": {"S": "a"}}}}],
    ],
    ids=["two puts", "put and delete", "two deletes", "26", "half a key"],
)
def test_a_batch_that_cannot_be_is_refused_whole(dynamodb, table, requests):
    with pytest.raises(ClientError, match="ValidationException"):
        dynamodb.batch_write_item(RequestItems={table: [put("x"), *requests]})
    assert dynamodb.scan(TableName=table)["Count"] == 0


def test_25_requests_are_done_and_two_tables_may_have_the_same_key(dynamodb, make):
    table, other = make(), make()
    dynamodb.batch_write_item(RequestItems={table: [put(str(number)) for number in range(25)]})
    dynamodb.batch_write_item(RequestItems={table: [delete("1"), put("2")], other: [put("1"), put("2")]})
    assert [dynamodb.scan(TableName=name)["Count"] for name in (table, other)] == [24, 2]
