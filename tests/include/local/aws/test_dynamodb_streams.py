"""DynamoDB Streams on the AWS stand-in, as AWS documents them."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from include.local.aws.controls import Controls


@pytest.fixture
def controls(aws_url):
    controls = Controls(aws_url)
    yield controls
    controls.reset()


@pytest.fixture
def streams(clients):
    return clients.streams


@pytest.fixture
def arn(dynamodb, table):
    """A stream of the table with both images."""
    return enable(dynamodb, table)


def enable(dynamodb, table, view_type="NEW_AND_OLD_IMAGES"):
    answer = dynamodb.update_table(
        TableName=table, StreamSpecification={"StreamEnabled": True, "StreamViewType": view_type}
    )
    return answer["TableDescription"]["LatestStreamArn"]


def disable(dynamodb, table):
    dynamodb.update_table(TableName=table, StreamSpecification={"StreamEnabled": False})


def key(pk, sk="1"):
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def shards(streams, arn, **more):
    return streams.describe_stream(StreamArn=arn, **more)["StreamDescription"]["Shards"]


def is_open(shard):
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def iterator(streams, arn, kind="TRIM_HORIZON", number=None, shard_id=None):
    shard_id = shard_id or shards(streams, arn)[0]["ShardId"]
    more = {"SequenceNumber": number} if number else {}
    return streams.get_shard_iterator(StreamArn=arn, ShardId=shard_id, ShardIteratorType=kind, **more)["ShardIterator"]


def read(streams, arn, **where):
    """The records from there on."""
    return streams.get_records(ShardIterator=iterator(streams, arn, **where))["Records"]


def read_all(streams, arn):
    """The records of all shards, parents first, and to the end of each."""
    found = []
    for shard in shards(streams, arn):
        at = iterator(streams, arn, shard_id=shard["ShardId"])
        empty = 0
        while at and empty < 3:
            page = streams.get_records(ShardIterator=at)
            found += [(shard["ShardId"], record) for record in page["Records"]]
            at = page.get("NextShardIterator")
            empty = 0 if page["Records"] else empty + 1
        assert (at is None) is not is_open(shard)
    return found


def number(record):
    return record["dynamodb"]["SequenceNumber"]


def sort_keys(records):
    return [record["dynamodb"]["Keys"]["sk"]["S"] for record in records]


def code(action):
    with pytest.raises(ClientError) as found:
        action()
    return found.value.response["Error"]["Code"]


def test_each_kind_of_write_tells_what_was_and_what_is(dynamodb, streams, table, arn, put):
    first = put("a", "1", n={"N": "1"}, picture={"B": b"\xff\x00"}, parts={"BS": [b"\xfe"]}, m={"M": {"x": {"L": []}}})
    second = put("a", "1", n={"N": "2"})
    update = {"TableName": table, "UpdateExpression": "ADD n :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}
    dynamodb.update_item(**update, Key=key("a"))
    dynamodb.update_item(**update, Key=key("b"))
    dynamodb.delete_item(TableName=table, Key=key("a"))
    dynamodb.delete_item(TableName=table, Key=key("a"))
    batch = [{"PutRequest": {"Item": key("c")}}, {"DeleteRequest": {"Key": key("b")}}]
    dynamodb.batch_write_item(RequestItems={table: batch})
    delete = {"Delete": {"TableName": table, "Key": key("c")}}
    dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": key("d")}}, delete])
    third, b = {**second, "n": {"N": "3"}}, {**key("b"), "n": {"N": "1"}}
    found = read(streams, arn)
    assert [
        (each["eventName"], each["dynamodb"].get("OldImage"), each["dynamodb"].get("NewImage")) for each in found
    ] == [
        ("INSERT", None, first),
        ("MODIFY", first, second),
        ("MODIFY", second, third),
        ("INSERT", None, b),
        ("REMOVE", third, None),
        ("INSERT", None, key("c")),
        ("REMOVE", b, None),
        ("INSERT", None, key("d")),
        ("REMOVE", key("c"), None),
    ]
    assert [each["dynamodb"]["Keys"]["pk"]["S"] for each in found] == list("aaabacbdc")
    assert {each["dynamodb"]["StreamViewType"] for each in found} == {"NEW_AND_OLD_IMAGES"}
    assert {each["eventSource"] for each in found} == {"aws:dynamodb"}
    assert len({each["eventID"] for each in found}) == len(found)
    numbers = [number(each) for each in found]
    assert all(len(each) >= 21 for each in numbers)
    assert numbers == sorted(set(numbers), key=int)
    assert found[0]["dynamodb"]["ApproximateCreationDateTime"].tzinfo is not None
    assert found[0]["dynamodb"]["SizeBytes"] > found[5]["dynamodb"]["SizeBytes"] > 0


def test_a_write_that_changes_nothing_or_does_not_happen_makes_no_record(dynamodb, streams, table, arn, put):
    put("a", "1", n={"N": "1"}, tags={"SS": ["x", "y"]})
    put("a", "1", tags={"SS": ["x", "y"]}, n={"N": "1"})
    one = {":n": {"N": "1"}}
    dynamodb.update_item(TableName=table, Key=key("a"), UpdateExpression="SET n = :n", ExpressionAttributeValues=one)
    absent = {"ConditionExpression": "attribute_not_exists(pk)"}
    for action in (
        lambda: dynamodb.put_item(TableName=table, Item=key("a"), **absent),
        lambda: dynamodb.update_item(TableName=table, Key=key("z"), UpdateExpression="SET n = nowhere"),
        lambda: dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": key("b")}},
                {"Delete": {"TableName": table, "Key": key("a"), **absent}},
            ]
        ),
        lambda: dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": key("b")}},
                {"Update": {"TableName": table, "Key": key("c"), "UpdateExpression": "SET n = nowhere"}},
            ]
        ),
    ):
        code(action)
    assert sort_keys(read(streams, arn)) == ["1"]


def test_an_image_stays_what_it_was_when_the_item_changes(dynamodb, streams, table, arn, put):
    put("a", "1", tags={"SS": ["x"]}, m={"M": {"n": {"N": "1"}}})
    dynamodb.update_item(
        TableName=table,
        Key=key("a"),
        UpdateExpression="ADD tags :t SET m.n = :n",
        ExpressionAttributeValues={":t": {"SS": ["y"]}, ":n": {"N": "2"}},
    )
    first, second = (each["dynamodb"] for each in read(streams, arn))
    assert first["NewImage"] == second["OldImage"]
    assert first["NewImage"]["tags"] == {"SS": ["x"]}
    assert second["NewImage"]["m"] == {"M": {"n": {"N": "2"}}}


@pytest.mark.parametrize(
    ("view_type", "images"),
    [
        ("KEYS_ONLY", set()),
        ("NEW_IMAGE", {"NewImage"}),
        ("OLD_IMAGE", {"OldImage"}),
        ("NEW_AND_OLD_IMAGES", {"NewImage", "OldImage"}),
    ],
)
def test_a_record_has_the_images_that_the_stream_is_for(dynamodb, streams, table, put, view_type, images):
    arn = enable(dynamodb, table, view_type)
    put("a", "1")
    put("a", "1", n={"N": "1"})
    record = read(streams, arn)[1]["dynamodb"]
    assert {name for name in record if name.endswith("Image")} == images
    assert record["Keys"] == key("a")


def test_iterators_begin_where_they_say(streams, arn, put):
    put("a", "1")
    latest = iterator(streams, arn, "LATEST")
    for sort_key in ("2", "3", "4"):
        put("a", sort_key)
    records = read(streams, arn)
    assert sort_keys(records) == ["1", "2", "3", "4"]
    assert sort_keys(streams.get_records(ShardIterator=latest)["Records"]) == ["2", "3", "4"]
    assert sort_keys(read(streams, arn, kind="AT_SEQUENCE_NUMBER", number=number(records[2]))) == ["3", "4"]
    assert sort_keys(read(streams, arn, kind="AFTER_SEQUENCE_NUMBER", number=number(records[2]))) == ["4"]
    start = shards(streams, arn)[0]["SequenceNumberRange"]["StartingSequenceNumber"]
    assert len(read(streams, arn, kind="AT_SEQUENCE_NUMBER", number=start)) == 4


def test_pages_follow_each_other_and_the_tip_is_an_empty_page(streams, arn, put):
    for sort_key in range(5):
        put("a", str(sort_key))
    at, pages = iterator(streams, arn), []
    for _ in range(4):
        page = streams.get_records(ShardIterator=at, Limit=2)
        pages.append(sort_keys(page["Records"]))
        at = page["NextShardIterator"]
    assert pages == [["0", "1"], ["2", "3"], ["4"], []]
    put("a", "5")
    assert sort_keys(streams.get_records(ShardIterator=at)["Records"]) == ["5"]


def test_a_page_has_at_most_a_megabyte(streams, arn, put):
    for sort_key in range(5):
        put("a", str(sort_key), text={"S": "x" * 300_000})
    page = streams.get_records(ShardIterator=iterator(streams, arn))
    assert sort_keys(page["Records"]) == ["0", "1", "2"]
    assert sort_keys(streams.get_records(ShardIterator=page["NextShardIterator"])["Records"]) == ["3", "4"]


def test_a_split_closes_the_shard_and_its_children_go_on(streams, table, arn, put, controls):
    for round_ in range(3):
        for pk in range(20):
            put(f"p-{pk}", str(round_))
        if round_ < 2:
            controls.split(table)
    listed = shards(streams, arn)
    assert len(listed) == 1 + 2 + 4
    assert [is_open(shard) for shard in listed] == [False] * 3 + [True] * 4
    ids = [shard["ShardId"] for shard in listed]
    assert ids == sorted(set(ids))
    assert [shard.get("ParentShardId") for shard in listed] == [None, ids[0], ids[0], ids[1], ids[1], ids[2], ids[2]]
    found = read_all(streams, arn)
    assert len(found) == 60
    by_key = {}
    for shard_id, record in found:
        by_key.setdefault(record["dynamodb"]["Keys"]["pk"]["S"], []).append(
            (shard_id, sort_keys([record])[0], number(record))
        )
    parents = {shard["ShardId"]: shard.get("ParentShardId") for shard in listed}
    for history in by_key.values():
        assert [sort_key for _, sort_key, _ in history] == ["0", "1", "2"]
        assert [parents[shard_id] for shard_id, _, _ in history[1:]] == [shard_id for shard_id, _, _ in history[:-1]]
        assert [int(each) for _, _, each in history] == sorted(int(each) for _, _, each in history)
    assert all(len({shard_id for shard_id, _ in found if shard_id == each}) == 1 for each in ids)
    for shard in listed:
        numbers = [int(number(record)) for shard_id, record in found if shard_id == shard["ShardId"]]
        there = shard["SequenceNumberRange"]
        assert int(there["StartingSequenceNumber"]) <= min(numbers)
        assert max(numbers) <= int(there.get("EndingSequenceNumber", max(numbers)))


def test_one_shard_is_split_alone_and_only_while_it_is_open(streams, table, arn, controls):
    first = shards(streams, arn)[0]["ShardId"]
    left, right = controls.split(table)
    controls.split(table, left)
    assert next(shard["ShardId"] for shard in shards(streams, arn) if is_open(shard)) == right
    with pytest.raises(ValueError, match="expected an open shard"):
        controls.split(table, first)


def test_a_shard_may_have_one_child(streams, table, arn, controls, put):
    put("a", "1")
    (child,) = controls.split(table, children=1)
    put("a", "2")
    assert [(shard_id == child, sort_keys([record])) for shard_id, record in read_all(streams, arn)] == [
        (False, ["1"]),
        (True, ["2"]),
    ]


def test_shards_are_listed_in_pages(streams, table, arn, controls):
    for _ in range(6):
        controls.split(table, children=1)
    ids = [shard["ShardId"] for shard in shards(streams, arn)]
    assert len(ids) == 7
    found, more = [], {}
    while True:
        page = streams.describe_stream(StreamArn=arn, Limit=3, **more)["StreamDescription"]
        found += [shard["ShardId"] for shard in page["Shards"]]
        if "LastEvaluatedShardId" not in page:
            break
        more = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}
    assert found == ids
    controls.stream(table, shards_per_page=2)
    page = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert ([shard["ShardId"] for shard in page["Shards"]], page["LastEvaluatedShardId"]) == (ids[:2], ids[1])
    children = streams.describe_stream(StreamArn=arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": ids[3]})
    assert [shard["ShardId"] for shard in children["StreamDescription"]["Shards"]] == [ids[4]]


def test_an_iterator_expires_after_15_minutes(streams, arn, put, controls):
    put("a", "1")
    at = iterator(streams, arn)
    controls.advance(14 * 60)
    page = streams.get_records(ShardIterator=at)
    assert sort_keys(page["Records"]) == ["1"]
    controls.advance(2 * 60)
    assert code(lambda: streams.get_records(ShardIterator=at)) == "ExpiredIteratorException"
    assert streams.get_records(ShardIterator=page["NextShardIterator"])["Records"] == []


def test_records_are_trimmed_after_24_hours(streams, arn, put, controls):
    put("a", "1")
    put("a", "2")
    old = [number(record) for record in read(streams, arn)]
    controls.advance(23 * 3600)
    put("a", "3")
    assert sort_keys(read(streams, arn, kind="AT_SEQUENCE_NUMBER", number=old[0])) == ["1", "2", "3"]
    controls.advance(2 * 3600)
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        trimmed = lambda kind=kind: iterator(streams, arn, kind, old[0])  # noqa: E731
        assert code(trimmed) == "TrimmedDataAccessException"
    assert sort_keys(read(streams, arn)) == ["3"]
    controls.advance(21 * 3600 + 55 * 60)
    at = iterator(streams, arn, "AT_SEQUENCE_NUMBER", number(read(streams, arn)[0]))
    controls.advance(10 * 60)
    assert code(lambda: streams.get_records(ShardIterator=at)) == "TrimmedDataAccessException"
    assert read(streams, arn) == []


def test_a_closed_shard_is_gone_when_its_records_are(streams, table, arn, put, controls):
    put("a", "1")
    (child,) = controls.split(table, children=1)
    parent = shards(streams, arn)[0]["ShardId"]
    controls.advance(25 * 3600)
    assert [shard["ShardId"] for shard in shards(streams, arn)] == [child]
    assert code(lambda: iterator(streams, arn, shard_id=parent)) == "ResourceNotFoundException"


def test_a_disabled_stream_is_read_to_its_end_and_the_next_one_is_another(dynamodb, streams, table, arn, put):
    put("a", "1")
    disable(dynamodb, table)
    put("a", "2")
    there = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert (there["StreamStatus"], [is_open(shard) for shard in there["Shards"]]) == ("DISABLED", [False])
    described = dynamodb.describe_table(TableName=table)["Table"]
    assert ("StreamSpecification" in described, described["LatestStreamArn"]) == (False, arn)
    page = streams.get_records(ShardIterator=iterator(streams, arn))
    assert (sort_keys(page["Records"]), page.get("NextShardIterator")) == (["1"], None)
    again = enable(dynamodb, table)
    put("a", "3")
    assert again != arn
    assert dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"] == again
    assert sort_keys(read(streams, again)) == ["3"]
    assert sort_keys(read(streams, arn)) == ["1"]
    listed = [each["StreamArn"] for each in streams.list_streams(TableName=table)["Streams"]]
    assert listed == [arn, again]
    assert int(number(read(streams, again)[0])) > int(number(read(streams, arn)[0]))


def test_a_stream_is_enabled_or_disabled_only_once(dynamodb, table):
    with pytest.raises(ClientError, match=f"ValidationException.*Table has no stream to disable: TableName: {table}"):
        disable(dynamodb, table)
    enable(dynamodb, table)
    for view_type in ("NEW_AND_OLD_IMAGES", "KEYS_ONLY"):
        with pytest.raises(
            ClientError, match=f"ValidationException.*already has an enabled stream: TableName: {table}"
        ):
            enable(dynamodb, table, view_type)
    disable(dynamodb, table)
    with pytest.raises(ClientError, match=r"ValidationException.*StreamViewType"):
        dynamodb.update_table(TableName=table, StreamSpecification={"StreamEnabled": True})


def test_a_stream_outlives_its_table(dynamodb, streams, make):
    table = make()
    arn = enable(dynamodb, table)
    dynamodb.put_item(TableName=table, Item=key("a"))
    dynamodb.delete_table(TableName=table)
    page = streams.get_records(ShardIterator=iterator(streams, arn))
    assert (len(page["Records"]), page.get("NextShardIterator")) == (1, None)
    assert streams.describe_stream(StreamArn=arn)["StreamDescription"]["StreamStatus"] == "DISABLED"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    described = dynamodb.describe_table(TableName=table)["Table"]
    assert described["LatestStreamArn"] != arn
    assert described["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}


def test_a_stream_may_take_a_while_to_be_enabled(dynamodb, streams, table, put, controls):
    controls.stream(table, enabling_seconds=60)
    arn = enable(dynamodb, table)
    put("a", "1")
    assert streams.describe_stream(StreamArn=arn)["StreamDescription"]["StreamStatus"] == "ENABLING"
    controls.advance(61)
    put("a", "2")
    assert streams.describe_stream(StreamArn=arn)["StreamDescription"]["StreamStatus"] == "ENABLED"
    assert sort_keys(read(streams, arn)) == ["2"]


def test_empty_pages_come_before_the_tip_when_told_so(streams, table, arn, put, controls):
    for sort_key in range(6):
        put("a", str(sort_key))
    controls.stream(table, empty_every=2, records_per_page=2)
    at, pages = iterator(streams, arn), []
    while sum(len(page) for page in pages) < 6:
        page = streams.get_records(ShardIterator=at)
        pages.append(sort_keys(page["Records"]))
        at = page["NextShardIterator"]
    assert [] in pages
    assert [sort_key for page in pages for sort_key in page] == ["0", "1", "2", "3", "4", "5"]


def test_records_come_late_when_told_so_and_a_closed_shard_has_no_end_before_them(streams, table, arn, put, controls):
    controls.stream(table, lag_seconds=30)
    put("a", "1")
    controls.split(table)
    page = streams.get_records(ShardIterator=iterator(streams, arn))
    assert page["Records"] == []
    controls.advance(31)
    page = streams.get_records(ShardIterator=page["NextShardIterator"])
    assert (sort_keys(page["Records"]), page.get("NextShardIterator")) == (["1"], None)


def test_records_are_delivered_again_when_told_so(streams, table, arn, put, controls):
    for sort_key in range(4):
        put("a", str(sort_key))
    page = streams.get_records(ShardIterator=iterator(streams, arn), Limit=3)
    controls.repeat(table, 2)
    page = streams.get_records(ShardIterator=page["NextShardIterator"])
    assert sort_keys(page["Records"]) == ["1", "2", "3"]
    controls.repeat(table, 1)
    page = streams.get_records(ShardIterator=page["NextShardIterator"])
    assert sort_keys(page["Records"]) == ["3"]
    assert streams.get_records(ShardIterator=page["NextShardIterator"])["Records"] == []


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("AT_SEQUENCE_NUMBER", None, "ValidationException"),
        ("AFTER_SEQUENCE_NUMBER", "a number of 21 letters", "ValidationException"),
        ("AT_SEQUENCE_NUMBER", "1" * 21, "ValidationException"),
        ("AT_SEQUENCE_NUMBER", "9" * 25, "ValidationException"),
        ("SOMEWHERE", None, "ValidationException"),
    ],
)
def test_an_iterator_that_cannot_be_is_refused(streams, arn, kind, given, expected):
    assert code(lambda: iterator(streams, arn, kind, given)) == expected


def test_what_is_not_there_is_refused(streams, arn):
    assert code(lambda: shards(streams, arn + "x")) == "ResourceNotFoundException"
    assert (
        code(lambda: iterator(streams, arn, shard_id="shardId-00000000000000000000-0000"))
        == "ResourceNotFoundException"
    )
    assert code(lambda: streams.get_records(ShardIterator="none of ours")) == "ValidationException"
    at = iterator(streams, arn)
    assert code(lambda: streams.get_records(ShardIterator=at, Limit=1001)) == "ValidationException"
