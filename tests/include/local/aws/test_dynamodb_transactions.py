"""DynamoDB's transactions on the AWS stand-in, as AWS documents them."""

from __future__ import annotations

import json
import urllib.request

import pytest
from botocore.exceptions import ClientError
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import Item

from include.local.aws.server import make_aws_server
from include.local.saas.clients import clients_at
from include.local.saas.tables import make_shared_tables
from include.tenants import fence
from include.tenants.saas import FENCES, Route, Tenant, Tier
from include.tenants.transactions import ConditionFailed, transact


def key(pk, sk):
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def put_of(table, pk, sk, **more):
    attributes = {name: value for name, value in more.items() if name.islower()}
    rest = {name: value for name, value in more.items() if not name.islower()}
    return {"Put": {"TableName": table, "Item": {**key(pk, sk), **attributes}, **rest}}


def update_of(table, pk, sk, expression, **more):
    return {"Update": {"TableName": table, "Key": key(pk, sk), "UpdateExpression": expression, **more}}


def items(dynamodb, table):
    return sorted(dynamodb.scan(TableName=table)["Items"], key=json.dumps)


def refused(dynamodb, elements, code="TransactionCanceledException", **more):
    with pytest.raises(ClientError) as found:
        dynamodb.transact_write_items(TransactItems=elements, **more)
    assert found.value.response["Error"]["Code"] == code, found.value
    return found.value.response


def test_all_elements_are_written_or_none(dynamodb, table, put):
    kept = [put("a", "1", n={"N": "1"}), put("a", "2", n={"N": "2"})]
    answer = refused(
        dynamodb,
        [
            put_of(table, "a", "1", n={"N": "9"}),
            update_of(table, "new", "1", "SET n = :n", ExpressionAttributeValues={":n": {"N": "9"}}),
            {"Delete": {"TableName": table, "Key": key("a", "2")}},
            put_of(table, "b", "1", ConditionExpression="attribute_exists(pk)"),
        ],
    )
    assert [reason["Code"] for reason in answer["CancellationReasons"]] == ["None"] * 3 + ["ConditionalCheckFailed"]
    assert "[None, None, None, ConditionalCheckFailed]" in answer["Error"]["Message"]
    assert items(dynamodb, table) == kept
    dynamodb.transact_write_items(
        TransactItems=[
            put_of(table, "a", "1", n={"N": "9"}),
            update_of(table, "new", "1", "SET n = :n", ExpressionAttributeValues={":n": {"N": "9"}}),
            {"Delete": {"TableName": table, "Key": key("a", "2")}},
            put_of(table, "b", "1", ConditionExpression="attribute_not_exists(pk)"),
        ]
    )
    assert [(item["pk"]["S"], item.get("n")) for item in items(dynamodb, table)] == [
        ("a", {"N": "9"}),
        ("b", None),
        ("new", {"N": "9"}),
    ]


def test_an_element_that_cannot_be_applied_undoes_those_before_it(dynamodb, table, put):
    kept = [put("a", "1", n={"N": "1"}, tags={"SS": ["x"]}), put("a", "2", text={"S": "no number"})]
    answer = refused(
        dynamodb,
        [
            update_of(
                table,
                "a",
                "1",
                "SET n = n + :one ADD tags :tags",
                ExpressionAttributeValues={":one": {"N": "1"}, ":tags": {"SS": ["y"]}},
            ),
            put_of(table, "b", "1"),
            update_of(table, "a", "2", "SET m = nowhere"),
        ],
    )
    assert [reason["Code"] for reason in answer["CancellationReasons"]] == ["None", "None", "ValidationError"]
    assert "does not exist in the item" in answer["CancellationReasons"][2]["Message"]
    assert items(dynamodb, table) == kept


def test_a_failed_condition_tells_the_item_only_where_it_was_asked_for(dynamodb, table, put):
    item = put("a", "1", picture={"B": b"\x00\xff"})
    asked = {"ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    answer = refused(
        dynamodb,
        [
            put_of(table, "a", "1", **asked),
            put_of(table, "a", "2", ConditionExpression="attribute_exists(pk)"),
            {
                "Delete": {
                    "TableName": table,
                    "Key": key("a", "3"),
                    **asked,
                    "ConditionExpression": "attribute_exists(pk)",
                }
            },
        ],
    )
    first, *others = answer["CancellationReasons"]
    assert first == {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", "Item": item}
    assert [("Item" in other, other["Code"]) for other in others] == [(False, "ConditionalCheckFailed")] * 2


def test_two_elements_of_one_item_are_refused_before_anything_is_looked_at(dynamodb, table, put):
    put("a", "1")
    elements = [
        put_of(table, "a", "2", ConditionExpression="attribute_exists(pk)"),
        {"ConditionCheck": {"TableName": table, "Key": key("a", "1"), "ConditionExpression": "attribute_exists(pk)"}},
        {"Delete": {"TableName": table, "Key": {"sk": {"S": "1"}, "pk": {"S": "a"}}}},
    ]
    answer = refused(dynamodb, elements, "ValidationException")
    assert answer["Error"]["Message"] == "Transaction request cannot include multiple operations on one item"
    assert len(items(dynamodb, table)) == 1


@pytest.mark.parametrize(("count", "code"), [(100, None), (101, "ValidationException")])
def test_a_transaction_has_at_most_100_elements(dynamodb, table, count, code):
    elements = [put_of(table, "a", f"{number:03}") for number in range(count)]
    if code:
        refused(dynamodb, elements, code)
        return
    dynamodb.transact_write_items(TransactItems=elements)
    found = dynamodb.transact_get_items(
        TransactItems=[{"Get": {"TableName": table, "Key": key("a", f"{n:03}")}} for n in range(count)]
    )
    assert [each["Item"]["sk"]["S"] for each in found["Responses"]] == [f"{n:03}" for n in range(count)]


def test_a_transaction_has_at_most_4_mb(dynamodb, table):
    big = {"S": "x" * 380_000}
    refused(dynamodb, [put_of(table, "a", str(number), text=big) for number in range(12)], "ValidationException")
    assert items(dynamodb, table) == []


def test_the_same_token_writes_once_and_another_request_with_it_is_refused(dynamodb, table):
    counted = [update_of(table, "a", "1", "ADD n :one", ExpressionAttributeValues={":one": {"N": "1"}})]
    for _ in range(3):
        dynamodb.transact_write_items(TransactItems=counted, ClientRequestToken="one")
    refused(dynamodb, [put_of(table, "b", "1")], "IdempotentParameterMismatchException", ClientRequestToken="one")
    dynamodb.transact_write_items(TransactItems=counted, ClientRequestToken="two")
    assert items(dynamodb, table) == [{**key("a", "1"), "n": {"N": "2"}}]


def test_a_token_of_a_cancelled_transaction_is_free(dynamodb, table, put):
    elements = [put_of(table, "a", "2", ConditionExpression="attribute_not_exists(pk)")]
    put("a", "2")
    refused(dynamodb, elements, ClientRequestToken="again")
    dynamodb.delete_item(TableName=table, Key=key("a", "2"))
    dynamodb.transact_write_items(TransactItems=elements, ClientRequestToken="again")
    assert len(items(dynamodb, table)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ExpressionAttributeValues": {":n": {"N": "1"}, ":unused": {"N": "1"}}}, ":unused"),
        ({"ExpressionAttributeNames": {"#unused": "n"}}, "#unused"),
        ({"UpdateExpression": "SET n = :n, o = :other"}, ":other"),
        ({"ConditionExpression": "((attribute_exists(pk)))"}, "redundant parentheses"),
    ],
)
def test_what_is_wrong_with_the_request_itself_is_no_cancellation(dynamodb, table, change, message):
    fine = update_of(table, "a", "1", "SET n = :n", ExpressionAttributeValues={":n": {"N": "1"}})
    dynamodb.transact_write_items(TransactItems=[fine])
    answer = refused(dynamodb, [{"Update": {**fine["Update"], **change}}], "ValidationException")
    assert message in answer["Error"]["Message"]


def test_a_key_that_is_not_the_tables_cancels(dynamodb, table):
    elements = [{"Delete": {"TableName": table, "Key": {"pk": {"S": "a"}}}}, put_of(table, "a", "1")]
    answer = refused(dynamodb, elements)
    assert [reason["Code"] for reason in answer["CancellationReasons"]] == ["ValidationError", "None"]
    assert items(dynamodb, table) == []


@pytest.mark.parametrize(
    ("condition", "absent", "empty", "full"),
    [
        ("attribute_not_exists(b) AND (attribute_not_exists(e) OR e = :n)", True, True, False),
        ("attribute_not_exists(e) OR e = :n", True, True, True),
        ("e = :n", False, False, True),
        ("e <> :n", True, True, False),
        ("e <= :n", False, False, True),
        ("attribute_not_exists(pk) OR e <= :n OR e = :n", True, False, True),
        ("size(b) > :n", False, False, True),
        ("size(b) = :n", False, False, False),
        ("NOT size(b) > :n", True, True, False),
        ("attribute_type(b, :kind)", False, False, True),
        ("e BETWEEN :n AND :n", False, False, True),
        ("e IN (:n)", False, False, True),
        ("begins_with(b, :kind)", False, False, True),
        ("contains(b, :kind)", False, False, True),
    ],
)
def test_conditions_on_an_absent_item_an_empty_and_a_full_one(dynamodb, table, put, condition, absent, empty, full):
    put("empty", "1")
    put("full", "1", b={"S": "S-text"}, e={"N": "5"})
    values = {name: value for name, value in {":n": {"N": "5"}, ":kind": {"S": "S"}}.items() if name in condition}
    found = {}
    for pk in ("absent", "empty", "full"):
        check = {"TableName": table, "Key": key(pk, "1"), "ConditionExpression": condition}
        try:
            transact(dynamodb, [{"ConditionCheck": {**check, "ExpressionAttributeValues": values}}])
        except ConditionFailed:
            found[pk] = False
        else:
            found[pk] = True
    assert found == {"absent": absent, "empty": empty, "full": full}


def test_the_fence_keeps_writes_out_while_it_is_closed_and_those_of_an_old_route_afterwards(dynamodb, make):
    make_shared_tables(dynamodb)
    table = make()
    tenant = Tenant("acme", "Acme", Route(Tier.BASIC, "pool", "client", "url", "key"))

    def write(epoch):
        try:
            transact(dynamodb, [put_of(table, f"acme-1#{epoch}", "1"), fence.write_check("acme-1", epoch)])
        except ConditionFailed as error:
            return error.elements
        return "written"

    try:
        dynamodb.put_item(
            TableName="ServerlessSaaS-TenantDetails", Item={"tenantId": {"S": "acme"}, "tenantName": {"S": "Acme"}}
        )
        assert write(0) == "written"
        transact(dynamodb, [fence.mark_closed(tenant, "m-1")])
        fence.close_rows(dynamodb, tenant, "m-1", until=0)
        assert write(0) == (1,)
        transact(dynamodb, fence.switch(tenant, "m-1", Route(Tier.PLATINUM, "own", "client", "url", "key"), until=0))
        assert write(0) == (1,)
        assert write(1) == "written"
        assert fence.fenced_partitions(dynamodb, "acme") == {}
        assert dynamodb.scan(TableName=FENCES)["Count"] == 10
    finally:
        for name in dynamodb.list_tables()["TableNames"]:
            if name.startswith("ServerlessSaaS-"):
                dynamodb.delete_table(TableName=name)


def test_an_update_that_fails_leaves_no_item_behind(dynamodb, table):
    with pytest.raises(ClientError, match="does not exist in the item"):
        dynamodb.update_item(TableName=table, Key=key("a", "1"), UpdateExpression="SET n = nowhere")
    assert items(dynamodb, table) == []


def test_an_update_names_the_whole_key(dynamodb, table):
    with pytest.raises(ClientError, match="does not match the schema"):
        dynamodb.update_item(TableName=table, Key={"pk": {"S": "a"}}, UpdateExpression="REMOVE n")


def test_a_transaction_reads_only_what_is_projected(dynamodb, table, put):
    put("a", "1", n={"N": "1"}, m={"M": {"x": {"S": "1"}, "y": {"S": "2"}}})
    get = {"TableName": table, "Key": key("a", "1"), "ProjectionExpression": "#m.x"}
    get["ExpressionAttributeNames"] = {"#m": "m"}
    absent = {"Get": {"TableName": table, "Key": key("b", "1")}}
    answer = dynamodb.transact_get_items(TransactItems=[{"Get": get}, absent])
    assert [each.get("Item") for each in answer["Responses"]] == [{"m": {"M": {"x": {"S": "1"}}}}, None]


@pytest.fixture
def copies(monkeypatch):
    """How many items were copied or walked over, in this process."""
    counted = []
    copy_item, size = Item.__deepcopy__, Item.size
    monkeypatch.setattr(Item, "__deepcopy__", lambda item, memo: counted.append(1) or copy_item(item, memo))
    monkeypatch.setattr(Item, "size", lambda item: counted.append(1) or size(item))
    return counted


@pytest.fixture
def own(request):
    """Clients of a server in this process, so that a test sees what moto does."""
    import threading

    server = make_aws_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield clients_at(url)
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).read()
    server.shutdown()
    server.server_close()


def fill(dynamodb, table, partitions, each):
    """Many items, put where moto keeps them."""
    stored = dynamodb_backends["123456789012"]["us-east-1"].tables[table]
    for partition in range(partitions):
        for number in range(each):
            stored.put_item({**key(f"p-{partition}", f"{number:05}"), "text": {"S": "x" * 50}})


def test_cost_grows_with_what_is_touched_and_not_with_the_table(own, copies):
    from include.local.saas.tables import make_table

    dynamodb = own.dynamodb
    make_table(dynamodb, "big", ["pk", "sk"])
    fill(dynamodb, "big", partitions=500, each=100)

    def cost(action):
        del copies[:]
        action()
        return len(copies)

    assert cost(lambda: dynamodb.transact_write_items(TransactItems=[put_of("big", "p-1", "00001")])) < 10
    assert (
        cost(lambda: refused(dynamodb, [put_of("big", "p-1", "00001", ConditionExpression="attribute_not_exists(pk)")]))
        < 10
    )
    assert cost(lambda: dynamodb.put_item(TableName="big", Item=key("p-2", "00001"))) < 10
    batch = [{"PutRequest": {"Item": key("p-3", f"{number:05}")}} for number in range(25)]
    assert cost(lambda: dynamodb.batch_write_item(RequestItems={"big": batch})) < 100
    query = {
        "TableName": "big",
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": "p-4"}},
    }
    assert cost(lambda: dynamodb.query(**query)) < 500
    assert cost(lambda: dynamodb.query(**query, Limit=5, ExclusiveStartKey=key("p-4", "00050"))) < 50
