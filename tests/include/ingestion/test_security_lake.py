"""Names, custom sources, tables and partitions, against the stand-in of Security Lake and moto's Glue and IAM."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from include.ingestion.security_lake import (
    CLASS_UIDS,
    EVENT_CLASSES,
    MOST_NAME,
    CustomSourceConflict,
    Lake,
    LakePartition,
    LakeUnavailable,
    PartitionsRefused,
    Provider,
    SchemaIncompatible,
    TableConflict,
    TooManyCustomSources,
    custom_source_name,
    database_name,
    ensure_custom_sources,
    ensure_partitions,
    ensure_table,
    event_class,
    find_lake,
    lake_account,
    lake_key,
    parse_lake_key,
    parse_type,
    table_name,
)
from include.local.aws import security_lake as stand_in
from include.local.aws.faults import Fault
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at

ACCOUNT = "123456789012"
REGION = "us-east-1"
CRAWLER_ROLE = "arn:aws:iam::123456789012:role/service-role/crawler"
PROVIDER = Provider(CRAWLER_ROLE, ACCOUNT, "platform-ingestion")
WANTED = [("windows_sysmon", "process_activity"), ("aws_alb", "http_activity"), ("windows_sysmon", "file_activity")]
DAY = LakePartition("aws-alb-4002", REGION, ACCOUNT, "20260131")


class Killed(BaseException):
    """Stands for SIGKILL."""


# Names and keys


def test_a_custom_source_is_the_source_and_the_number_of_its_class():
    assert custom_source_name("aws_alb", "http_activity") == "aws-alb-4002"
    assert custom_source_name("sysmon", "win/registry_key_activity") == "sysmon-201001"


def test_every_name_is_short_enough_for_security_lakes_role():
    for source in ("a", "aws_alb", "thirteen_char", "windows_sysmon", "aws_network_firewall", "s" * 64):
        for name in CLASS_UIDS:
            made = custom_source_name(source, name)
            assert len(made) <= MOST_NAME
            assert re.fullmatch(r"[\w\-_:.]*", made)
            assert len(f"AmazonSecurityLake-Provider-{made}-ap-southeast-2") <= 64


def test_long_sources_with_the_same_beginning_have_different_names():
    names = {custom_source_name(f"aws_network_firewall_{n}", "network_activity") for n in range(50)}
    assert len(names) == 50


@pytest.mark.parametrize("source", ["", "Aws", "aws-alb-", "aws/alb", "../x", "aws_alb\n", "1a", "ä", "a b", "a" * 65])
def test_a_hostile_source_is_refused(source):
    with pytest.raises(ValueError, match="expected a source"):
        custom_source_name(source, "http_activity")


def test_a_class_that_ocsf_1_3_lacks_is_refused():
    with pytest.raises(ValueError, match=r"OCSF 1\.0 to 1\.3.*found 'script_activity'"):
        custom_source_name("aws_alb", "script_activity")


def test_the_numbers_of_the_classes_are_ocsfs():
    from ocsf_json_schema import get_ocsf_schema

    known = {}
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        classes = get_ocsf_schema(version)["classes"]
        known |= {name.removeprefix("win/"): content["uid"] for name, content in classes.items()}
    assert known == CLASS_UIDS


def test_event_classes_are_those_of_the_api():
    assert event_class("file_activity") == "FILE_ACTIVITY"
    assert event_class("win/registry_key_activity") == "REGISTRY_KEY_ACTIVITY"
    assert event_class("entity_management") == "ENTITY_MANAGEMENT_AUDIT"
    assert event_class("detection_finding") is None
    assert event_class("network_file_activity") is None
    assert EVENT_CLASSES == stand_in.EVENT_CLASSES


def test_a_key_is_security_lakes():
    key = lake_key("aws-alb-4002", "eu-west-1", "123456789012", "20260131", "b-1", 7)
    assert key == "ext/aws-alb-4002/region=eu-west-1/accountId=123456789012/eventDay=20260131/b-1-00007.zstd.parquet"


@pytest.mark.parametrize(
    ("account", "found"),
    [
        (None, "external"),
        ("", "external"),
        ("external", "external"),
        ("acme.com", "external_acme.com"),
        ("12345678901", "external_12345678901"),
        (ACCOUNT, ACCOUNT),
        ("external_x", "external_x"),
    ],
)
def test_an_account_that_is_not_of_aws_is_external(account, found):
    assert lake_account(account) == found


GOOD = ("aws-alb-4002", REGION, ACCOUNT, "20260131", "batch", 0)


@pytest.mark.parametrize(
    ("place", "hostile"),
    [(0, value) for value in ("", "a/b", "..", "A", "a" * 21, "a-", "a\n")]
    + [(1, value) for value in ("", "us-east-1/x", "region=us-east-1", "mars-east-1", "us-east-1\n", "..")]
    + [
        (2, value)
        for value in (
            "a/b",
            "../x",
            "x" * 65,
            "a b",
            "é",
            ".x",
            "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff10\uff11\uff12",
            "1\n",
        )
    ]
    + [
        (3, value)
        for value in (
            "",
            "20260230",
            "2026-01-31",
            "2026013",
            "\uff12\uff10\uff12\uff16\uff10\uff11\uff13\uff11",
            "20260131/",
            20260131,
        )
    ]
    + [(4, value) for value in ("", "a/b", "..", "a b", "x" * 129, "-a", "a\n")]
    + [(5, value) for value in (-1, 100_000, "1", True, 1.0)],
)
def test_a_hostile_part_of_a_key_is_refused(place, hostile):
    assert lake_key(*GOOD)
    with pytest.raises(ValueError, match=r"^expected "):
        lake_key(*[hostile if n == place else value for n, value in enumerate(GOOD)])


@pytest.mark.parametrize("batch", ["b", "b-00001", "compacted-0a1b", "a.b_c-d-00002"])
def test_a_key_can_be_read_back(batch):
    key = lake_key("aws-alb-4002", REGION, "acme", "20260131", batch, 12)
    found = parse_lake_key(key)
    assert str(found) == key
    assert (found.batch_id, found.part) == (batch, 12)
    assert found.partition == LakePartition("aws-alb-4002", REGION, "external_acme", "20260131")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "ext/a/region=us-east-1/accountId=external/eventDay=20260131/part-0000.parquet",
        "ext/a/region=us-east-1/accountId=external/eventDay=20260231/b-00000.zstd.parquet",
        "ext/A/region=us-east-1/accountId=external/eventDay=20260131/b-00000.zstd.parquet",
        "ext/a/region=us-east-1/accountId=external/eventDay=20260131/x/b-00000.zstd.parquet",
        "ext/a/region=us-east-1/accountId=external/eventDay=20260131/b-00000.zstd.parquet\n",
        "ext/a/1.0/region=us-east-1/accountId=external/eventDay=20260131/b-00000.zstd.parquet",
    ],
)
def test_keys_of_others_are_none_of_ours(key):
    assert parse_lake_key(key) is None


def test_tables_have_security_lakes_names():
    assert database_name("ap-southeast-2") == "amazon_security_lake_glue_db_ap_southeast_2"
    assert table_name("us-east-1", "aws-alb-4002") == "amazon_security_lake_table_us_east_1_ext_aws_alb_4002"


# The stand-in


@pytest.fixture(scope="module")
def url():
    stand_in.install()
    with trial_aws_in_process() as url:
        yield url


@pytest.fixture(scope="module")
def made_clients(url):
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    make = clients_at(url).make
    return SimpleNamespace(**{name: make(name, config) for name in ("securitylake", "glue", "iam")})


@pytest.fixture
def clients(made_clients):
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()
    stand_in.FAULTS.clear()
    made_clients.iam.create_role(RoleName="crawler", Path="/service-role/", AssumeRolePolicyDocument="{}")
    yield made_clients
    stand_in.FAULTS.clear()


@pytest.fixture
def lake(clients):
    clients.securitylake.create_data_lake(
        configurations=[{"region": REGION}], metaStoreManagerRoleArn="arn:aws:iam::123456789012:role/meta"
    )
    return find_lake(clients.securitylake, REGION)


def ensure(clients, wanted=WANTED, **more):
    named = {"region": REGION, "account_id": ACCOUNT, "provider": PROVIDER, "sleep": lambda _: None, **more}
    return ensure_custom_sources(clients.securitylake, clients.glue, clients.iam, wanted, **named)


def names_of(clients):
    pages = clients.securitylake.get_paginator("list_log_sources").paginate()
    return [
        each["customLogSource"]["sourceName"]
        for page in pages
        for entry in page["sources"]
        for each in entry["sources"]
    ]


@contextmanager
def dying(clients, call, when):
    """Die at the n-th call: before it is made, or after it was done; tells the calls made."""
    made = SimpleNamespace(calls=[])

    def before(event_name, **_):
        made.calls.append(event_name.rpartition(".")[2])
        if len(made.calls) == call and when == "before":
            raise Killed

    def after(**_):
        if len(made.calls) == call and when == "after":
            raise Killed

    for client in vars(clients).values():
        client.meta.events.register_first("before-send", before)
        client.meta.events.register_first("after-call", after)
    try:
        yield made
    finally:
        for client in vars(clients).values():
            client.meta.events.unregister("before-send", before)
            client.meta.events.unregister("after-call", after)


def killed_everywhere(clients, begin, act, state):
    """End states of every run that died at one of its calls and was made again."""
    begin()
    with dying(clients, 0, "never") as made:
        act()
    expected, calls = state(), len(made.calls)
    assert calls > 1
    for call in range(1, calls + 1):
        for when in ("before", "after"):
            begin()
            with dying(clients, call, when), pytest.raises(Killed):
                act()
            act()
            assert state() == expected, (made.calls[call - 1], when)
    return made.calls


# Custom sources


def test_without_security_lake_it_says_so(clients):
    with pytest.raises(LakeUnavailable, match=r"expected Security Lake in us-east-1, found none; enable it"):
        ensure(clients)


def test_a_lake_in_the_making_is_waited_for_by_the_caller(clients, lake):
    stand_in.backend().pending = 1
    with pytest.raises(LakeUnavailable, match="found its creation PENDING"):
        find_lake(clients.securitylake, REGION)
    assert find_lake(clients.securitylake, REGION) == lake


def test_makes_one_custom_source_per_source_and_class(clients, lake):
    made = ensure(clients, [*WANTED, *WANTED, ("suricata", "detection_finding")])

    assert [each.name for each in made] == sorted(names_of(clients))
    alb = next(each for each in made if each.name == "aws-alb-4002")
    assert alb.created
    assert alb.location == f"s3://{lake.bucket}/ext/aws-alb-4002/"
    assert alb.role_arn == f"arn:aws:iam::{ACCOUNT}:role/AmazonSecurityLake-Provider-aws-alb-4002-us-east-1"
    assert alb.table == table_name(REGION, "aws-alb-4002")
    asked = stand_in.backend().asked
    assert asked["aws-alb-4002", ""]["eventClasses"] == ["HTTP_ACTIVITY"]
    assert "eventClasses" not in asked["suricata-2004", ""]


def test_a_second_run_changes_nothing(clients, lake):
    first = ensure(clients)
    stand_in.FAULTS.requests.clear()
    second = ensure(clients)

    assert "CreateCustomLogSource" not in stand_in.FAULTS.requests
    assert [each.created for each in second] == [False] * 3
    assert [each.role_arn for each in second] == [each.role_arn for each in first]


def test_sources_on_later_pages_are_seen(clients, lake, monkeypatch):
    ensure(clients)
    monkeypatch.setattr(stand_in, "_PAGE", 1)
    assert len(clients.securitylake.list_log_sources()["sources"]) == 1
    assert [each.created for each in ensure(clients)] == [False] * 3


def test_a_source_of_that_name_in_another_region_is_another_one(clients, lake):
    stand_in.backend("eu-west-1").sources["aws-alb-4002", ""] = {"sourceName": "aws-alb-4002"}
    assert [each.created for each in ensure(clients)] == [True] * 3


def crowd(clients, number, region=REGION):
    stand_in.backend(region).sources.update(
        {(f"other-{n:02d}", ""): {"sourceName": f"other-{n:02d}"} for n in range(number)}
    )


def test_refuses_more_than_fifty_before_it_makes_the_first(clients, lake):
    crowd(clients, 40)
    crowd(clients, 8, "eu-west-1")  # the quota is the account's
    with pytest.raises(TooManyCustomSources, match=r"at most 50 .*found 48 and 3 more to make \(aws-alb-4002, win"):
        ensure(clients)
    assert len(names_of(clients)) == 48


def test_takes_the_fiftieth(clients, lake):
    crowd(clients, 47)
    assert len(ensure(clients)) == 3
    assert len(names_of(clients)) == 50
    with pytest.raises(ClientError, match="has 50 custom log sources already"):
        create(clients, "one-more")


def create(clients, name, crawler=CRAWLER_ROLE, principal=ACCOUNT, external_id="platform-ingestion", **more):
    return clients.securitylake.create_custom_log_source(
        sourceName=name,
        configuration={
            "crawlerConfiguration": {"roleArn": crawler},
            "providerIdentity": {"principal": principal, "externalId": external_id},
        },
        **more,
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"principal": "999999999999"},
            r"expected principal 123456789012 .*found principal 999999999999 with external id plat",
        ),
        ({"external_id": "theirs"}, "found principal 123456789012 with external id theirs"),
        ({"principal": "logs.amazonaws.com"}, "found principal logs.amazonaws.com"),
        ({"crawler": "arn:aws:iam::123456789012:role/other"}, "role of the crawler: expected crawler, found other"),
    ],
)
def test_a_source_of_somebody_else_is_told_and_nothing_is_made(clients, lake, other, message):
    clients.iam.create_role(RoleName="other", AssumeRolePolicyDocument="{}")
    create(clients, "windows-3caa-1007", **other)
    with pytest.raises(CustomSourceConflict, match=message):
        ensure(clients)
    assert names_of(clients) == ["windows-3caa-1007"]


def test_a_source_without_its_role_and_crawler_is_told(clients, lake):
    ensure(clients)
    clients.iam.delete_role(RoleName="AmazonSecurityLake-Provider-aws-alb-4002-us-east-1")
    clients.glue.delete_crawler(Name="aws-alb-4002")
    with pytest.raises(CustomSourceConflict, match=r"crawler, found none; provider: .*found nobody"):
        ensure(clients)


def test_a_conflict_that_passes_is_tried_again(clients, lake):
    stand_in.FAULTS.add(Fault("CreateCustomLogSource", code="ConflictException", status=409, times=2))
    pauses = []
    assert len(ensure(clients, sleep=pauses.append)) == 3
    assert pauses == [2.0, 4.0]


def test_an_answer_that_is_lost_makes_nothing_twice(clients, lake):
    stand_in.FAULTS.add(Fault("CreateCustomLogSource", code="InternalServerException", status=500, times=1, done=True))
    assert [each.created for each in ensure(clients)] == [True] * 3
    assert len(names_of(clients)) == 3


def test_a_conflict_with_somebody_quicker_is_checked(clients, lake):
    real = clients.securitylake.create_custom_log_source

    def beaten(**request):
        create_theirs(sourceName=request["sourceName"])
        return real(**request)

    def create_theirs(sourceName):
        clients.securitylake.create_custom_log_source = real
        create(clients, sourceName, external_id="theirs")

    clients.securitylake.create_custom_log_source = beaten
    with pytest.raises(CustomSourceConflict, match=r"aws-alb-4002 .*with external id theirs"):
        ensure(clients)


def test_a_conflict_for_ever_is_given_up(clients, lake):
    stand_in.FAULTS.add(Fault("CreateCustomLogSource", code="ConflictException", status=409))
    with pytest.raises(CustomSourceConflict, match=r"within 6 tries.*left-over role"):
        ensure(clients)


@pytest.mark.parametrize(("code", "status"), [("AccessDeniedException", 403), ("BadRequestException", 400)])
def test_what_will_not_pass_is_not_tried_again(clients, lake, code, status):
    stand_in.FAULTS.requests.clear()
    stand_in.FAULTS.add(Fault("CreateCustomLogSource", code=code, status=status))
    with pytest.raises(ClientError, match=code):
        ensure(clients)
    assert stand_in.FAULTS.requests["CreateCustomLogSource"] == 1


def test_killed_at_any_call_it_ends_the_same(clients):
    from moto.moto_api._internal.models import moto_api_backend

    def begin():
        moto_api_backend.reset()
        clients.iam.create_role(RoleName="crawler", Path="/service-role/", AssumeRolePolicyDocument="{}")
        clients.securitylake.create_data_lake(
            configurations=[{"region": REGION}], metaStoreManagerRoleArn="arn:aws:iam::123456789012:role/meta"
        )
        create(clients, "windows-3caa-1001")

    def state():
        return sorted(stand_in.backend().asked.items(), key=repr), sorted(names_of(clients))

    calls = killed_everywhere(clients, begin, lambda: ensure(clients), state)
    assert {"ListLogSources", "GetCrawler", "GetRole"} <= set(calls)
    assert calls.count("CreateCustomLogSource") == 2


# Tables

COLUMNS = [
    ("time", "bigint"),
    ("src_endpoint", "struct<ip:string,port:int>"),
    ("observables", "array<struct<name:string>>"),
    ("unmapped", "map<string,string>"),
]
SOURCE = "aws-alb-4002"
NAMES = {"DatabaseName": "amazon_security_lake_glue_db_us_east_1", "TableName": table_name(REGION, SOURCE)}


def columns_of(clients, **more):
    table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
    return [(each["Name"], each["Type"]) for each in table["StorageDescriptor"]["Columns"]]


def partitions_of(clients):
    return {
        tuple(each["Values"]): (
            each["StorageDescriptor"]["Location"],
            [(column["Name"], column["Type"]) for column in each["StorageDescriptor"]["Columns"]],
        )
        for page in clients.glue.get_paginator("get_partitions").paginate(**NAMES)
        for each in page["Partitions"]
    }


def test_makes_a_table_that_readers_of_parquet_know(clients, lake):
    assert ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
    assert columns_of(clients) == COLUMNS
    assert table["PartitionKeys"] == [{"Name": name, "Type": "string"} for name in ("region", "accountid", "eventday")]
    assert table["StorageDescriptor"]["Location"] == f"s3://{lake.bucket}/ext/{SOURCE}/"
    assert table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"].endswith("ParquetHiveSerDe")
    assert table["TableType"] == "EXTERNAL_TABLE"
    assert not ensure_table(clients.glue, lake, SOURCE, COLUMNS)


def test_fills_the_empty_table_that_security_lake_has_made(clients, lake):
    ensure(clients)
    assert columns_of(clients) == []
    assert ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    assert columns_of(clients) == COLUMNS


def test_a_table_grows_and_keeps_what_it_has(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    assert ensure_table(
        clients.glue,
        lake,
        SOURCE,
        [
            ("src_endpoint", "struct<port:int,hostname:string>"),
            ("observables", "array<struct<type_id:int,name:string>>"),
            ("status", "string"),
        ],
    )
    assert columns_of(clients) == [
        ("time", "bigint"),
        ("src_endpoint", "struct<ip:string,port:int,hostname:string>"),
        ("observables", "array<struct<name:string,type_id:int>>"),
        ("unmapped", "map<string,string>"),
        ("status", "string"),
    ]
    table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
    assert "ingestion_partitions_pending" not in table["Parameters"]


def test_comments_and_parameters_of_others_stay(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
    table["StorageDescriptor"]["Columns"][0]["Comment"] = "when"
    kept = {name: table[name] for name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType")}
    clients.glue.update_table(
        DatabaseName=NAMES["DatabaseName"], TableInput={**kept, "Parameters": {"classification": "parquet", "x": "y"}}
    )
    ensure_table(clients.glue, lake, SOURCE, [("status", "string")])
    table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
    assert table["StorageDescriptor"]["Columns"][0]["Comment"] == "when"
    assert table["Parameters"] == {"classification": "parquet", "x": "y"}


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (("time", "string"), r"time: has type bigint, wanted is string \(time is bigint and would be string\)"),
        (("time", "int"), "has type bigint, wanted is int"),
        (("src_endpoint", "string"), r"has type struct<ip:string,port:int>, wanted is string"),
        (("src_endpoint", "struct<port:string>"), r"src_endpoint.port is int and would be string"),
        (("observables", "array<string>"), r"observables\[\] is struct and would be string"),
        (("unmapped", "map<string,bigint>"), r"unmapped\[\] is string and would be bigint"),
    ],
)
def test_an_incompatible_change_is_refused_with_both_types(clients, lake, column, told):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    with pytest.raises(SchemaIncompatible, match=told):
        ensure_table(clients.glue, lake, SOURCE, [("status", "string"), column])
    assert columns_of(clients) == COLUMNS


def test_every_incompatible_column_is_told(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    with pytest.raises(SchemaIncompatible, match=r"column time: .*; column unmapped: "):
        ensure_table(clients.glue, lake, SOURCE, [("time", "string"), ("unmapped", "string")])


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [("a", "int"), ("a", "int")],
        [("region", "string")],
        [("A", "int")],
        [("a;", "int")],
        [("a", "struct<>x")],
        [("a", "struct<b:int")],
        [("a", "int,int")],
        [("a", "array<int,int>")],
        [("a", "map<int>")],
        [("a", "")],
        [("a", "struct<b:int,b:int>")],
        [("a", "struct<int>")],
        [("a", "array<" * 100 + "int" + ">" * 100)],
        [("a", "int>")],
    ],
)
def test_malformed_columns_are_refused(clients, lake, columns):
    with pytest.raises(ValueError, match=r"^expected "):
        ensure_table(clients.glue, lake, SOURCE, columns)


@pytest.mark.parametrize(
    "text",
    ["int", "decimal(10,2)", "struct<a:int,b:array<map<string,struct<c:timestamp>>>>", "array<array<string>>"],
)
def test_a_type_is_written_as_it_was_read(text):
    assert str(parse_type(text)) == text


def test_another_table_of_that_name_is_not_touched(clients, lake):
    ensure_table(clients.glue, Lake(REGION, "another-bucket"), SOURCE, COLUMNS)
    with pytest.raises(
        TableConflict, match=r"location: expected s3://aws-security.*, found s3://another-bucket/ext/aws-alb-4002/"
    ):
        ensure_table(clients.glue, lake, SOURCE, [("status", "string")])
    assert columns_of(clients) == COLUMNS


def test_without_security_lakes_database_it_says_so(clients):
    with pytest.raises(LakeUnavailable, match="database amazon_security_lake_glue_db_us_east_1 in Glue, found none"):
        ensure_table(clients.glue, Lake(REGION, "b"), SOURCE, COLUMNS)


def test_a_table_that_somebody_changes_meanwhile_grows_from_what_they_made_of_it(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    real, begun = clients.glue.update_table, []

    def beaten(**request):
        if not begun:
            begun.append(1)
            ensure_table(clients.glue, lake, SOURCE, [("theirs", "string")])
            raise ClientError({"Error": {"Code": "ConcurrentModificationException"}}, "UpdateTable")
        return real(**request)

    clients.glue.update_table = beaten
    try:
        assert ensure_table(clients.glue, lake, SOURCE, [("ours", "string")])
    finally:
        clients.glue.update_table = real
    assert columns_of(clients)[-2:] == [("theirs", "string"), ("ours", "string")]


def test_a_table_is_changed_only_if_it_is_still_that_version(clients, lake):
    """Glue refuses another version; moto takes any."""
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    real, versions = clients.glue.update_table, []
    clients.glue.update_table = lambda **request: versions.append(request.get("VersionId")) or real(**request)
    try:
        ensure_table(clients.glue, lake, SOURCE, [("status", "string")])
    finally:
        clients.glue.update_table = real
    assert versions == ["1", "2"]


# Partitions


def days(number):
    return [LakePartition(SOURCE, REGION, f"external_{n:03d}", "20260131") for n in range(number)]


def test_adds_partitions_with_the_tables_columns(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    assert ensure_partitions(clients.glue, lake, SOURCE, [DAY, DAY]) == 1
    assert partitions_of(clients) == {
        (REGION, ACCOUNT, "20260131"): (
            f"s3://{lake.bucket}/ext/{SOURCE}/region=us-east-1/accountId=123456789012/eventDay=20260131/",
            COLUMNS,
        )
    }
    assert ensure_partitions(clients.glue, lake, SOURCE, [DAY]) == 0
    assert ensure_partitions(clients.glue, lake, SOURCE, []) == 0


def test_adds_at_most_a_hundred_at_once(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    real, sizes = clients.glue.batch_create_partition, []
    clients.glue.batch_create_partition = lambda **request: (
        sizes.append(len(request["PartitionInputList"])) or real(**request)
    )
    try:
        assert ensure_partitions(clients.glue, lake, SOURCE, days(201)) == 201
        assert ensure_partitions(clients.glue, lake, SOURCE, days(202)) == 1
    finally:
        clients.glue.batch_create_partition = real
    assert sizes == [100, 100, 1, 100, 100, 2]
    assert len(partitions_of(clients)) == 202


def test_partitions_that_are_refused_are_named_and_the_others_stay(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    real = clients.glue.batch_create_partition

    def refusing(PartitionInputList, **names):
        last = PartitionInputList[-1]
        real(PartitionInputList=PartitionInputList[:-1], **names)
        detail = {"ErrorCode": "InternalServiceException", "ErrorMessage": "full"}
        return {"Errors": [{"PartitionValues": last["Values"], "ErrorDetail": detail}]}

    clients.glue.batch_create_partition = refusing
    try:
        with pytest.raises(
            PartitionsRefused, match="3 partitions, found 1 refused: us-east-1/external_002/20260131: Internal"
        ):
            ensure_partitions(clients.glue, lake, SOURCE, days(3))
    finally:
        clients.glue.batch_create_partition = real
    assert len(partitions_of(clients)) == 2
    assert ensure_partitions(clients.glue, lake, SOURCE, days(3)) == 1


def test_partitions_of_another_source_or_without_a_table_are_refused(clients, lake):
    with pytest.raises(ValueError, match="partitions of aws-alb-4001, found one of aws-alb-4002"):
        ensure_partitions(clients.glue, lake, "aws-alb-4001", [DAY])
    with pytest.raises(TableConflict, match="found none; make the custom source"):
        ensure_partitions(clients.glue, lake, SOURCE, [DAY])


def test_partitions_grow_with_their_table(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    ensure_partitions(clients.glue, lake, SOURCE, days(150))
    ensure_table(clients.glue, lake, SOURCE, [("src_endpoint", "struct<hostname:string>")])
    assert {tuple(kinds) for _, kinds in partitions_of(clients).values()} == {tuple(columns_of(clients))}
    assert "hostname" in dict(columns_of(clients))["src_endpoint"]


def test_a_partition_that_is_added_while_its_table_grows_has_the_new_columns(clients, lake):
    ensure_table(clients.glue, lake, SOURCE, COLUMNS)
    real = clients.glue.batch_create_partition

    def late(**request):
        clients.glue.batch_create_partition = real
        ensure_table(clients.glue, lake, SOURCE, [("status", "string")])
        return real(**request)

    clients.glue.batch_create_partition = late
    assert ensure_partitions(clients.glue, lake, SOURCE, [DAY]) == 1
    [(_, kinds)] = partitions_of(clients).values()
    assert ("status", "string") in kinds


def test_tables_and_partitions_killed_at_any_call_end_the_same(clients):
    from moto.moto_api._internal.models import moto_api_backend

    def begin():
        moto_api_backend.reset()
        clients.securitylake.create_data_lake(
            configurations=[{"region": REGION}], metaStoreManagerRoleArn="arn:aws:iam::123456789012:role/meta"
        )

    def act():
        lake = find_lake(clients.securitylake, REGION)
        ensure_table(clients.glue, lake, SOURCE, COLUMNS)
        ensure_partitions(clients.glue, lake, SOURCE, [DAY, *days(2)])
        ensure_table(clients.glue, lake, SOURCE, [("src_endpoint", "struct<hostname:string>"), ("status", "string")])
        ensure_partitions(clients.glue, lake, SOURCE, days(4))

    def state():
        table = clients.glue.get_table(DatabaseName=NAMES["DatabaseName"], Name=NAMES["TableName"])["Table"]
        return table["Parameters"], columns_of(clients), sorted(partitions_of(clients).items())

    calls = killed_everywhere(clients, begin, act, state)
    assert {"CreateTable", "UpdateTable", "BatchCreatePartition", "BatchUpdatePartition"} <= set(calls)
    assert json.dumps(state()).count("hostname") == 6
