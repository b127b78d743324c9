"""Amazon Security Lake as the place that events go to: names, keys, custom sources, Glue tables and their partitions.

**One class, one custom source.** Security Lake wants one OCSF class per object and each class as a source of its own, so a source that maps
to five classes is five custom sources. An account may have 50.

**Names are short.** Security Lake makes a role ``AmazonSecurityLake-Provider-{name}-{region}``, and IAM ends at 64 characters, so its
documentation allows a name of 20 characters, though the API's pattern would take 64. A name here is the source's name and the class's
number: ``aws-alb-4002``. See `custom_source_name`.

**Partitions are added, not projected.** Athena alone knows partition projection: Redshift Spectrum, EMR and whoever reads through Lake
Formation would see no data. Projection would also have to know all accounts beforehand, and ``external_<id>`` may be anything. Who
publishes knows exactly what partitions it has written, so it adds them (`ensure_partitions`), which costs one call. The crawler that
Security Lake makes finds nothing new then.

**Schemas only grow.** `ensure_table` adds columns and fields of structs and refuses anything else. A partition has a copy of the columns,
and Athena refuses to read one whose copy differs, so partitions are brought up to the table. Meanwhile, a few seconds for a thousand
partitions, a query that touches a grown column may be refused; it gives no wrong answer.

Everything here may be repeated, and be begun again after it died at any call.

https://docs.aws.amazon.com/security-lake/latest/userguide/custom-sources.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass
from datetime import date
from itertools import batched
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from include.ingestion.exceptions import IngestionError
from include.ingestion.places import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

MOST_NAME: Final = 20
"""Characters of a custom source's name; Security Lake's documentation of ``sourceName``."""
MOST_CUSTOM_SOURCES: Final = 50
"""Of an account; a quota that can't be raised."""
MOST_PARTITIONS_AT_ONCE: Final = 100
"""Of one BatchCreatePartition or BatchUpdatePartition."""
EXTERNAL: Final = "external"
"""Account of events that are of no AWS account."""
PARTITION_KEYS: Final = ("region", "accountid", "eventday")
SUFFIX: Final = ".zstd.parquet"

CLASS_UIDS: Final[Mapping[str, int]] = {
    "base_event": 0,
    "file_activity": 1001,
    "kernel_extension": 1002,
    "kernel_activity": 1003,
    "memory_activity": 1004,
    "module_activity": 1005,
    "scheduled_job_activity": 1006,
    "process_activity": 1007,
    "event_log": 1008,
    "security_finding": 2001,
    "vulnerability_finding": 2002,
    "compliance_finding": 2003,
    "detection_finding": 2004,
    "incident_finding": 2005,
    "data_security_finding": 2006,
    "account_change": 3001,
    "authentication": 3002,
    "authorize_session": 3003,
    "entity_management": 3004,
    "user_access": 3005,
    "group_management": 3006,
    "network_activity": 4001,
    "http_activity": 4002,
    "dns_activity": 4003,
    "dhcp_activity": 4004,
    "rdp_activity": 4005,
    "smb_activity": 4006,
    "ssh_activity": 4007,
    "ftp_activity": 4008,
    "email_activity": 4009,
    "network_file_activity": 4010,
    "email_file_activity": 4011,
    "email_url_activity": 4012,
    "ntp_activity": 4013,
    "tunnel_activity": 4014,
    "inventory_info": 5001,
    "config_state": 5002,
    "user_inventory": 5003,
    "patch_state": 5004,
    "kernel_object_query": 5006,
    "file_query": 5007,
    "folder_query": 5008,
    "admin_group_query": 5009,
    "job_query": 5010,
    "module_query": 5011,
    "network_connection_query": 5012,
    "networks_query": 5013,
    "peripheral_device_query": 5014,
    "process_query": 5015,
    "service_query": 5016,
    "session_query": 5017,
    "user_query": 5018,
    "device_config_state_change": 5019,
    "software_info": 5020,
    "web_resources_activity": 6001,
    "application_lifecycle": 6002,
    "api_activity": 6003,
    "web_resource_access_activity": 6004,
    "datastore_activity": 6005,
    "file_hosting": 6006,
    "scan_activity": 6007,
    "remediation_activity": 7001,
    "file_remediation_activity": 7002,
    "process_remediation_activity": 7003,
    "network_remediation_activity": 7004,
    "registry_key_activity": 201001,
    "registry_value_activity": 201002,
    "resource_activity": 201003,
    "win_service_activity": 201004,
    "registry_key_info": 205004,
    "registry_key_query": 205004,
    "registry_value_info": 205005,
    "registry_value_query": 205005,
    "prefetch_info": 205019,
    "prefetch_query": 205019,
}
"""Numbers of the classes of OCSF 1.0 to 1.3, which Security Lake takes; those of the Windows extension without its ``win/``."""

EVENT_CLASSES: Final = frozenset(
    {
        *("ACCESS_ACTIVITY", "FILE_ACTIVITY", "KERNEL_ACTIVITY", "KERNEL_EXTENSION", "MEMORY_ACTIVITY"),
        *("MODULE_ACTIVITY", "PROCESS_ACTIVITY", "REGISTRY_KEY_ACTIVITY", "REGISTRY_VALUE_ACTIVITY"),
        *("RESOURCE_ACTIVITY", "SCHEDULED_JOB_ACTIVITY", "SECURITY_FINDING", "ACCOUNT_CHANGE", "AUTHENTICATION"),
        *("AUTHORIZATION", "ENTITY_MANAGEMENT_AUDIT", "DHCP_ACTIVITY", "NETWORK_ACTIVITY", "DNS_ACTIVITY"),
        *("FTP_ACTIVITY", "HTTP_ACTIVITY", "RDP_ACTIVITY", "SMB_ACTIVITY", "SSH_ACTIVITY", "CONFIG_STATE"),
        *("INVENTORY_INFO", "EMAIL_ACTIVITY", "API_ACTIVITY", "CLOUD_API"),
    }
)
"""What ``eventClasses`` of CreateCustomLogSource may name, by its documentation; the API's model has a pattern only."""
_RENAMED: Final = {"entity_management": "ENTITY_MANAGEMENT_AUDIT"}
"""Classes that the API knows by a name that OCSF gave up before 1.0."""

_SOURCE_PART: Final = 13
"""Characters that are left of a name beside a dash and a number of up to six digits."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?", re.ASCII)
_REGION: Final = re.compile(REGION, re.ASCII)
_ACCOUNT: Final = re.compile(ACCOUNT, re.ASCII)
_DAY: Final = re.compile(r"\d{8}", re.ASCII)
_BATCH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_MOST_PART: Final = 99_999
_COLUMN: Final = re.compile(r"[a-z_][a-z0-9_]{0,254}", re.ASCII)
_KEY: Final = re.compile(
    r"ext/(?P<source>[^/]+)/region=(?P<region>[^/]+)/accountId=(?P<account>[^/]+)/eventDay=(?P<day>[^/]+)/"
    rf"(?P<batch>[^/]+)-(?P<part>\d{{5}}){re.escape(SUFFIX)}",
    re.ASCII,
)
_PENDING: Final = "ingestion_partitions_pending"
"""Parameter of a table whose partitions may still have the columns of before."""
_TRIES: Final = 6
_PAUSE_SECONDS: Final = 2.0
_AGAIN: Final = frozenset({"ConflictException", "ThrottlingException", "InternalServerException"})
_GONE: Final = "EntityNotFoundException"
_INPUT_FORMAT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
_OUTPUT_FORMAT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
_SERDE: Final = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
_TABLE_INPUT: Final = frozenset(
    {
        *("Name", "Description", "Owner", "LastAccessTime", "LastAnalyzedTime", "Retention", "StorageDescriptor"),
        *("PartitionKeys", "ViewOriginalText", "ViewExpandedText", "TableType", "Parameters", "TargetTable"),
    }
)
"""What of GetTable's answer UpdateTable takes."""
_PARTITION_INPUT: Final = frozenset({"Values", "LastAccessTime", "StorageDescriptor", "Parameters", "LastAnalyzedTime"})

type Columns = list[tuple[str, str]]
"""Name and Glue type of each column, such as ``("src_endpoint", "struct<ip:string,port:int>")``."""


class LakeUnavailable(IngestionError):
    """Security Lake isn't there, or isn't ready, in this region."""


class TooManyCustomSources(IngestionError):
    """More custom sources would be needed than an account may have. Nothing was changed."""


class CustomSourceConflict(IngestionError):
    """A custom source of that name is there and is somebody else's, or stays in conflict. It was not touched."""


class TableConflict(IngestionError):
    """The Glue table is there and is another one: other place, partition keys or format. It was not touched."""


class SchemaIncompatible(IngestionError):
    """A column would change otherwise than by growing. Nothing was changed."""


class PartitionsRefused(IngestionError):
    """Glue did not take some partitions."""


@dataclass(frozen=True)
class Lake:
    """A data lake of Security Lake.

    Attributes:
        region: where it is.
        bucket: its S3 bucket.
    """

    region: str
    bucket: str


@dataclass(frozen=True)
class Provider:
    """Who writes to a custom source, and what reads it for the catalog.

    Attributes:
        crawler_role_arn: role of the Glue crawler.
        principal: 12 digits of the AWS account, or a service, that takes the role by which objects are written.
        external_id: that it must name to get it.
    """

    crawler_role_arn: str
    principal: str
    external_id: str


@dataclass(frozen=True)
class CustomSource:
    """A custom source that is there.

    Attributes:
        name: its name.
        class_name: of its events.
        location: ``s3://bucket/ext/name/``.
        role_arn: role to write there.
        table: its Glue table, as Security Lake says; empty if it doesn't.
        created: whether it was made just now.
    """

    name: str
    class_name: str
    location: str
    role_arn: str
    table: str
    created: bool


@dataclass(frozen=True, order=True)
class LakePartition:
    """A partition of the lake.

    Attributes:
        custom_source: its name.
        region: an AWS region.
        account: 12 digits, ``external`` or ``external_<id>``.
        event_day: YYYYMMDD in UTC.
    """

    custom_source: str
    region: str
    account: str
    event_day: str

    def __post_init__(self) -> None:
        """Raises ValueError: a part is malformed."""
        _expect(_NAME, self.custom_source, "a custom source of 1 to 20 of a-z, 0-9 and dash")
        _expect(_REGION, self.region, "an AWS region")
        _expect(_ACCOUNT, self.account, "an account of 12 digits, external or external_<id>")
        _expect(_DAY, self.event_day, "a day YYYYMMDD")
        try:
            date.fromisoformat(self.event_day)
        except ValueError as error:
            raise ValueError(f"expected a day YYYYMMDD, found {self.event_day!r}") from error

    @property
    def prefix(self) -> str:
        """Of its objects' keys; ends with a slash."""
        return f"ext/{self.custom_source}/region={self.region}/accountId={self.account}/eventDay={self.event_day}/"  # the spelling of AWS

    @property
    def values(self) -> list[str]:
        """As Glue has it."""
        return [self.region, self.account, self.event_day]


@dataclass(frozen=True, order=True)
class LakeKey:
    """A key of an object of ours.

    Attributes:
        partition: where it is.
        batch_id: what it is of.
        part: of the batch, from 0.
    """

    partition: LakePartition
    batch_id: str
    part: int

    def __post_init__(self) -> None:
        """Raises ValueError: a part is malformed."""
        _expect(_BATCH, self.batch_id, "a batch id of 1 to 128 of letters, digits, dash, dot and underscore")
        if not isinstance(self.part, int) or isinstance(self.part, bool) or not 0 <= self.part <= _MOST_PART:
            raise ValueError(f"expected a part from 0 to {_MOST_PART}, found {self.part!r}")

    def __str__(self) -> str:
        return f"{self.partition.prefix}{self.batch_id}-{self.part:05d}{SUFFIX}"


# Names and keys


def custom_source_name(source: str, class_name: str) -> str:
    """The custom source of a class of a source: ``<source>-<number of the class>``, at most 20 characters.

    A source of more than 13 characters is cut to 8 and gets 4 hexadecimal digits of its digest: ``windows_sysmon`` would be
    ``windows-3caa-1007``. Whoever wants to read the name in queries gives a shorter one, such as ``sysmon``. What was used once
    must stay: the name is in the keys.

    Args:
        source: a source's name, or a short name for the lake; a-z, 0-9, dash and underscore.
        class_name: of OCSF, such as ``network_activity`` or ``win/registry_key_activity``.

    Raises:
        ValueError: the source's name is malformed, or OCSF 1.0 to 1.3 has no such class.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", source, re.ASCII) or source[-1] in "_-":
        raise ValueError(f"expected a source of 1 to 64 of a-z, 0-9, dash and underscore, found {source!r}")
    slug = source.replace("_", "-")
    if len(slug) > _SOURCE_PART:
        slug = f"{slug[:8].rstrip('-')}-{hashlib.sha256(source.encode()).hexdigest()[:4]}"
    return f"{slug}-{class_uid(class_name)}"


def class_uid(class_name: str) -> int:
    """The number of an OCSF class.

    Raises:
        ValueError: OCSF 1.0 to 1.3 has no such class.
    """
    uid = CLASS_UIDS.get(class_name.removeprefix("win/"))
    if uid is None:
        raise ValueError(f"expected a class of OCSF 1.0 to 1.3, which Security Lake takes, found {class_name!r}")
    return uid


def event_class(class_name: str) -> str | None:
    """What CreateCustomLogSource calls a class; None for one that its list lacks: the source is made without a class then.

    ``eventClasses`` is optional and only describes the source, what it may hold is not held to it.
    """
    name = class_name.removeprefix("win/")
    wanted = _RENAMED.get(name, name.upper())
    return wanted if wanted in EVENT_CLASSES else None


def lake_account(account_id: str | None) -> str:
    """The account as the lake's keys have it: an AWS account as it is, another as ``external_<id>``, none as ``external``.

    Raises:
        ValueError: it has characters that can't be part of a key.
    """
    if not account_id or account_id == EXTERNAL:
        return EXTERNAL
    account = account_id if _ACCOUNT.fullmatch(account_id) else f"{EXTERNAL}_{account_id}"
    return _expect(
        _ACCOUNT, account, "an account of 12 digits, or 1 to 64 letters, digits, dots, dashes and underscores"
    )


def lake_key(custom_source: str, region: str, account_id: str | None, event_day: str, batch_id: str, part: int) -> str:
    """The key of an object; the same for the same arguments, so that a retry writes to the same place.

    Raises:
        ValueError: a part is malformed; nothing is quoted or mended.
    """
    return str(LakeKey(LakePartition(custom_source, region, lake_account(account_id), event_day), batch_id, part))


def parse_lake_key(key: str) -> LakeKey | None:
    """The parts of a key as `lake_key` gives it; None for any other key."""
    match = _KEY.fullmatch(key)
    if not match:
        return None
    try:
        partition = LakePartition(*match.group("source", "region", "account", "day"))
        return LakeKey(partition, match["batch"], int(match["part"]))
    except ValueError:
        return None


def database_name(region: str) -> str:
    """Security Lake's Glue database of a region."""
    return f"amazon_security_lake_glue_db_{_expect(_REGION, region, 'an AWS region').replace('-', '_')}"


def table_name(region: str, custom_source: str) -> str:
    """The Glue table of a custom source; Security Lake gives it this name."""
    _expect(_REGION, region, "an AWS region")
    _expect(_NAME, custom_source, "a custom source of 1 to 20 of a-z, 0-9 and dash")
    return f"amazon_security_lake_table_{region}_ext_{custom_source}".replace("-", "_")


def _expect(pattern: re.Pattern[str], value: Any, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"expected {what}, found {value!r:.100}")
    return value


# Custom sources


def find_lake(securitylake: Any, region: str) -> Lake:
    """The data lake of a region.

    Args:
        securitylake: a boto3 client.
        region: an AWS region.

    Raises:
        LakeUnavailable: there is none, or it isn't ready.
    """
    _expect(_REGION, region, "an AWS region")
    lakes = securitylake.list_data_lakes(regions=[region]).get("dataLakes", [])
    found = next((lake for lake in lakes if lake["region"] == region), None)
    if found is None:
        raise LakeUnavailable(
            f"expected Security Lake in {region}, found none; enable it there (docs.aws.amazon.com/security-lake, Getting started)"
        )
    status = found.get("createStatus", "COMPLETED")
    if status != "COMPLETED":
        raise LakeUnavailable(
            f"expected Security Lake in {region} to be ready, found its creation {status}; wait, or look at its console if it has failed"
        )
    return Lake(region, found["s3BucketArn"].rpartition(":")[2])


def ensure_custom_sources(
    securitylake: Any,
    glue: Any,
    iam: Any,
    wanted: Iterable[tuple[str, str]],
    *,
    region: str,
    account_id: str,
    provider: Provider,
    sleep: Callable[[float], None] = time.sleep,
) -> list[CustomSource]:
    """Make the custom sources that are missing, and see that those that are there are as wanted.

    ListLogSources doesn't tell the crawler's role, the principal and the external id, so the crawler and the provider's role are asked. It
    doesn't tell the event class either, and nothing else does: that of a source that is there isn't checked; its name has the number.

    Args:
        securitylake: a boto3 client.
        glue: a boto3 client.
        iam: a boto3 client.
        wanted: source and OCSF class of each; see `custom_source_name`.
        region: where.
        account_id: of the lake: Security Lake's delegated administrator.
        provider: who writes.
        sleep: waits so many seconds between tries.

    Returns:
        The custom sources, by name.

    Raises:
        LakeUnavailable: Security Lake isn't there.
        TooManyCustomSources: the account would have more than 50. Nothing was changed.
        CustomSourceConflict: one is there and isn't as wanted; nothing was changed. Or one that is to be made stays in conflict.
        ValueError: a name is malformed, or two of them are the same.
    """
    named = _named(wanted)
    lake = find_lake(securitylake, region)
    found = _custom_sources(securitylake, account_id)
    there = {source["sourceName"]: source for where, source in found if where == region}
    missing = [name for name in named if name not in there]
    if len(found) + len(missing) > MOST_CUSTOM_SOURCES:
        raise TooManyCustomSources(
            f"expected at most {MOST_CUSTOM_SOURCES} custom sources in account {account_id}, found {len(found)} and {len(missing)} more to "
            f"make ({', '.join(missing)}); nothing was changed. Remove some, or map these sources to fewer classes"
        )
    registry = _Registry(securitylake, glue, iam, lake, account_id, provider, sleep)
    for name in named:
        if name in there:
            registry.check(name, there[name])
    made = []
    for name, class_name in named.items():
        if name in there:
            made.append(registry.describe(name, class_name, there[name], created=False))
        else:
            made.append(registry.create(name, class_name))
    return made


def _named(wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Class by name of the custom source."""
    named: dict[str, tuple[str, str]] = {}
    for source, class_name in sorted(set(wanted)):
        name = custom_source_name(source, class_name)
        if name in named:
            raise ValueError(
                f"expected each custom source to be of one source and class, found {name} of {named[name]} and of {(source, class_name)}; "
                "give one of the sources another short name"
            )
        named[name] = (source, class_name)
    return {name: class_name for name, (_, class_name) in sorted(named.items())}


def _custom_sources(securitylake: Any, account_id: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Region and content of every custom source of an account, in all regions: the quota is the account's."""
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    pages = securitylake.get_paginator("list_log_sources").paginate(accounts=[account_id])
    for page in pages:
        for entry in page.get("sources", []):
            for each in entry.get("sources", []):
                if custom := each.get("customLogSource"):
                    identity = (entry["region"], custom["sourceName"], custom.get("sourceVersion", ""))
                    found[identity] = custom
    return [(region, custom) for (region, _, _), custom in sorted(found.items(), key=lambda one: one[0])]


class _Registry:
    """The custom sources of one region."""

    def __init__(
        self,
        securitylake: Any,
        glue: Any,
        iam: Any,
        lake: Lake,
        account_id: str,
        provider: Provider,
        sleep: Callable[[float], None],
    ) -> None:
        self._securitylake = securitylake
        self._glue = glue
        self._iam = iam
        self._lake = lake
        self._account_id = account_id
        self._provider = provider
        self._sleep = sleep

    def create(self, name: str, class_name: str) -> CustomSource:
        """Make one; again after a conflict, which may be that an earlier try's write isn't seen everywhere yet."""
        from botocore.exceptions import ClientError

        request: dict[str, Any] = {
            "sourceName": name,
            "configuration": {
                "crawlerConfiguration": {"roleArn": self._provider.crawler_role_arn},
                "providerIdentity": {"principal": self._provider.principal, "externalId": self._provider.external_id},
            },
        }
        if known := event_class(class_name):
            request["eventClasses"] = [known]
        else:
            log.warning(
                "custom source %s: Security Lake has no event class for %s; it is made without", name, class_name
            )
        problem: Exception | None = None
        for again in range(_TRIES):
            if again:
                self._sleep(_PAUSE_SECONDS * 2 ** (again - 1))
                if there := self._find(name):  # an earlier try has made it, or somebody else at the same moment
                    self.check(name, there)
                    return self.describe(name, class_name, there, created=True)
            try:
                made = self._securitylake.create_custom_log_source(**request)["source"]
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ResourceNotFoundException":
                    raise LakeUnavailable(
                        f"expected Security Lake in {self._lake.region} to take custom source {name}, found: {error}; see that the lake is "
                        "enabled and that the crawler's role is there"
                    ) from error
                if code not in _AGAIN:
                    raise
                problem = error
            else:
                return self.describe(name, class_name, made, created=True)
        raise CustomSourceConflict(
            f"expected to make custom source {name} within {_TRIES} tries, found: {problem}. A source that was deleted lately may keep its "
            "name for a while; otherwise look for a left-over role AmazonSecurityLake-Provider-"
            f"{name}-{self._lake.region}, crawler or table of that name"
        ) from problem

    def describe(self, name: str, class_name: str, source: Mapping[str, Any], *, created: bool) -> CustomSource:
        """What the API says of one."""
        provider = source.get("provider", {})
        return CustomSource(
            name,
            class_name,
            provider.get("location", self._location(name)),
            provider.get("roleArn", ""),
            source.get("attributes", {}).get("tableArn", "").rpartition("/")[2],
            created,
        )

    def check(self, name: str, source: Mapping[str, Any]) -> None:
        """See that one is as wanted.

        Raises:
            CustomSourceConflict: it isn't; the message says in what.
        """
        provider, attributes = source.get("provider", {}), source.get("attributes", {})
        differences = []

        def compare(what: str, wanted: str, found: str) -> None:
            if wanted != found:
                differences.append(f"{what}: expected {wanted}, found {found or 'none'}")

        compare("location", self._location(name), provider.get("location", "").rstrip("/") + "/")
        # a role's path isn't part of what tells it
        crawler = self._crawler_role(attributes.get("crawlerArn", "").rpartition("/")[2] or name)
        compare("role of the crawler", self._provider.crawler_role_arn.rpartition("/")[2], crawler.rpartition("/")[2])
        trusted = self._trusted(provider.get("roleArn", "").rpartition("/")[2])
        ours = (self._provider.principal, self._provider.external_id)
        if ours not in trusted:
            told = " and ".join(f"principal {who} with external id {what}" for who, what in sorted(trusted))
            differences.append(
                f"provider: expected principal {ours[0]} with external id {ours[1]}, found {told or 'nobody'}"
            )
        if differences:
            raise CustomSourceConflict(
                f"custom source {name} in {self._lake.region} is there and is not as wanted: {'; '.join(differences)}. It was not touched. "
                "Configure what is there, or delete it (its objects stay) and run this again, or give the source another short name"
            )

    def _location(self, name: str) -> str:
        return f"s3://{self._lake.bucket}/ext/{name}/"

    def _find(self, name: str) -> Mapping[str, Any] | None:
        return next(
            (
                source
                for region, source in _custom_sources(self._securitylake, self._account_id)
                if region == self._lake.region and source["sourceName"] == name
            ),
            None,
        )

    def _crawler_role(self, crawler: str) -> str:
        from botocore.exceptions import ClientError

        try:
            return str(self._glue.get_crawler(Name=crawler)["Crawler"].get("Role", ""))
        except ClientError as error:
            if error.response["Error"]["Code"] == _GONE:
                return ""
            raise

    def _trusted(self, role: str) -> set[tuple[str, str]]:
        """Principals and external ids that may take the provider's role."""
        from botocore.exceptions import ClientError

        if not role:
            return set()
        try:
            document = self._iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchEntity":
                return set()
            raise
        if isinstance(document, str):
            document = json.loads(unquote(document))
        return set(_trust(document))


def _trust(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for statement in _listed(document.get("Statement", [])):
        if statement.get("Effect") != "Allow":
            continue
        principals = statement.get("Principal", {})
        named = principals.values() if isinstance(principals, dict) else [principals]
        conditions = statement.get("Condition", {}).get("StringEquals", {})
        external = [
            one for key, value in conditions.items() if key.lower() == "sts:externalid" for one in _listed(value)
        ]
        for each in (one for some in named for one in _listed(some)):
            account = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):root", each)
            for value in external or [""]:
                yield (account[1] if account else each), value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Tables


def ensure_table(glue: Any, lake: Lake, custom_source: str, columns: Sequence[tuple[str, str]]) -> bool:
    """See that a custom source's table has these columns; those that it has besides stay.

    Args:
        glue: a boto3 client.
        lake: where.
        custom_source: its name.
        columns: name and Glue type of each, but for the partition keys.

    Returns:
        Whether anything was changed.

    Raises:
        TableConflict: the table is another one. Nothing was changed.
        SchemaIncompatible: a column would change otherwise than by growing; all of those are named. Nothing was changed.
        LakeUnavailable: there is no database.
        ValueError: a column is malformed.
    """
    wanted = _checked(columns)
    for _ in range(_TRIES):
        table = _get_table(glue, lake, custom_source)
        if table is None:
            if _create_table(glue, lake, custom_source, wanted):
                return True
            continue  # somebody was quicker: look at what is there
        outcome = _grow_table(glue, lake, custom_source, table, wanted)
        if outcome is not None:
            return outcome
    raise TableConflict(
        f"expected to bring table {table_name(lake.region, custom_source)} up to date within {_TRIES} tries, found it changed by somebody "
        "else each time; see that its crawler doesn't update the schema (SchemaChangePolicy), and run this again"
    )


def ensure_partitions(glue: Any, lake: Lake, custom_source: str, partitions: Iterable[LakePartition]) -> int:
    """See that a custom source's table has these partitions.

    Args:
        glue: a boto3 client.
        lake: where.
        custom_source: its name.
        partitions: of that source; several times the same one counts once.

    Returns:
        How many were added.

    Raises:
        PartitionsRefused: some were not taken; they are named. The others were.
        TableConflict: there is no table; `ensure_table` makes it.
        ValueError: a partition is of another source.
    """
    wanted = sorted(set(partitions))
    if strangers := [each for each in wanted if each.custom_source != custom_source]:
        raise ValueError(f"expected partitions of {custom_source}, found one of {strangers[0].custom_source}")
    if not wanted:
        return 0
    table = _need_table(glue, lake, custom_source)
    columns = table["StorageDescriptor"]["Columns"]
    names = {"DatabaseName": database_name(lake.region), "TableName": table_name(lake.region, custom_source)}
    added, refused = 0, []
    for some in batched(wanted, MOST_PARTITIONS_AT_ONCE):
        inputs = [_partition_input(lake, each, columns) for each in some]
        errors = glue.batch_create_partition(**names, PartitionInputList=inputs).get("Errors", [])
        added += len(some) - len(errors)
        refused += [each for each in errors if each["ErrorDetail"]["ErrorCode"] != "AlreadyExistsException"]
    if refused:
        told = "; ".join(
            f"{'/'.join(each['PartitionValues'])}: {each['ErrorDetail']['ErrorCode']} {each['ErrorDetail'].get('ErrorMessage', '')}"
            for each in refused[:10]
        )
        raise PartitionsRefused(
            f"expected {names['TableName']} to take {len(wanted)} partitions, found {len(refused)} refused: {told}. Run this again; those "
            "that were taken stay"
        )
    # a table that has grown between the look at its columns and the new partitions may not have seen those
    now = _need_table(glue, lake, custom_source)
    if added and now["StorageDescriptor"]["Columns"] != columns:
        _grow_partitions(glue, names, now["StorageDescriptor"]["Columns"])
    return added


def _partition_input(lake: Lake, partition: LakePartition, columns: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Values": partition.values,
        "StorageDescriptor": _storage(f"s3://{lake.bucket}/{partition.prefix}", columns),
    }


def _storage(location: str, columns: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Columns": columns,
        "Location": location,
        "InputFormat": _INPUT_FORMAT,
        "OutputFormat": _OUTPUT_FORMAT,
        "SerdeInfo": {"SerializationLibrary": _SERDE, "Parameters": {"serialization.format": "1"}},
    }


def _get_table(glue: Any, lake: Lake, custom_source: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        answer: dict[str, Any] = glue.get_table(
            DatabaseName=database_name(lake.region), Name=table_name(lake.region, custom_source)
        )["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] == _GONE:
            return None
        raise
    return answer


def _need_table(glue: Any, lake: Lake, custom_source: str) -> dict[str, Any]:
    table = _get_table(glue, lake, custom_source)
    if table is None:
        raise TableConflict(
            f"expected table {table_name(lake.region, custom_source)} in {database_name(lake.region)}, found none; make the custom source "
            "and its table first"
        )
    return table


def _create_table(glue: Any, lake: Lake, custom_source: str, columns: Columns) -> bool:
    from botocore.exceptions import ClientError

    database = database_name(lake.region)
    storage = _storage(f"s3://{lake.bucket}/ext/{custom_source}/", _glue(columns))
    try:
        glue.create_table(
            DatabaseName=database,
            TableInput={
                "Name": table_name(lake.region, custom_source),
                "TableType": "EXTERNAL_TABLE",
                "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet"},
                "PartitionKeys": [{"Name": name, "Type": "string"} for name in PARTITION_KEYS],
                "StorageDescriptor": storage,
            },
        )
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "AlreadyExistsException":
            return False
        if code == _GONE:
            raise LakeUnavailable(
                f"expected Security Lake's database {database} in Glue, found none; enable Security Lake in {lake.region}"
            ) from error
        raise
    return True


def _grow_table(glue: Any, lake: Lake, custom_source: str, table: dict[str, Any], wanted: Columns) -> bool | None:
    """Whether anything was changed; None if somebody else has changed the table meanwhile."""
    storage = table["StorageDescriptor"]
    _same_table(lake, custom_source, table)
    there = [(each["Name"], each.get("Type", "")) for each in storage.get("Columns", [])]
    grown = _merged(table["Name"], there, wanted)
    names = {"DatabaseName": database_name(lake.region), "TableName": table["Name"]}
    pending = _PENDING in table.get("Parameters", {})
    if grown == there and not pending:
        return False
    columns = _kept(storage.get("Columns", []), grown)
    if grown != there:
        mark = {**table.get("Parameters", {}), _PENDING: "true"}
        if not _update(
            glue, names["DatabaseName"], table, {"Parameters": mark, "StorageDescriptor": _in(storage, columns)}
        ):
            return None
        changed = _get_table(glue, lake, custom_source)
        if changed is None or changed["StorageDescriptor"]["Columns"] != columns:
            return None
        table = changed
    _grow_partitions(glue, names, columns)
    done = {name: value for name, value in table.get("Parameters", {}).items() if name != _PENDING}
    return True if _update(glue, names["DatabaseName"], table, {"Parameters": done}) else None


def _in(storage: Mapping[str, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    """A table that Security Lake has made and no crawler has seen yet may have no format."""
    format_ = _storage(storage.get("Location", ""), columns)
    serde = storage.get("SerdeInfo") or {}
    return {**format_, **{k: v for k, v in storage.items() if v}, "Columns": columns} | (
        {"SerdeInfo": serde if serde.get("SerializationLibrary") else format_["SerdeInfo"]}
    )


def _update(glue: Any, database: str, table: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether the table was as it was seen, and is changed now."""
    from botocore.exceptions import ClientError

    content = {**{name: value for name, value in table.items() if name in _TABLE_INPUT}, **changes}
    request: dict[str, Any] = {"DatabaseName": database, "TableInput": content}
    if version := table.get("VersionId"):
        request["VersionId"] = version
    try:
        glue.update_table(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ConcurrentModificationException", "VersionMismatchException"}:
            return False
        raise
    return True


def _grow_partitions(glue: Any, names: Mapping[str, str], columns: list[dict[str, Any]]) -> None:
    """Give all partitions these columns."""
    old = []
    for page in glue.get_paginator("get_partitions").paginate(**names):
        for each in page["Partitions"]:
            if each.get("StorageDescriptor", {}).get("Columns") != columns:
                content = {name: value for name, value in each.items() if name in _PARTITION_INPUT}
                content["StorageDescriptor"] = {**each.get("StorageDescriptor", {}), "Columns": columns}
                old.append({"PartitionValueList": each["Values"], "PartitionInput": content})
    for some in batched(old, MOST_PARTITIONS_AT_ONCE):
        errors = glue.batch_update_partition(**names, Entries=list(some)).get("Errors", [])
        refused = [each for each in errors if each["ErrorDetail"]["ErrorCode"] != _GONE]  # dropped meanwhile
        if refused:
            detail = refused[0]["ErrorDetail"]
            raise PartitionsRefused(
                f"expected {names['TableName']} to take the new columns in {len(some)} partitions, found {len(refused)} refused, first "
                f"{'/'.join(refused[0]['PartitionValueList'])}: {detail['ErrorCode']} {detail.get('ErrorMessage', '')}. Run this again"
            )


def _same_table(lake: Lake, custom_source: str, table: Mapping[str, Any]) -> None:
    storage = table["StorageDescriptor"]
    location = f"s3://{lake.bucket}/ext/{custom_source}/"
    keys = [each["Name"] for each in table.get("PartitionKeys", [])]
    serde = (storage.get("SerdeInfo") or {}).get("SerializationLibrary") or _SERDE
    differences = [
        f"{what}: expected {wanted}, found {found or 'none'}"
        for what, wanted, found in (
            ("location", location, storage.get("Location", "").rstrip("/") + "/"),
            ("partition keys", ", ".join(PARTITION_KEYS), ", ".join(keys)),
            ("format", _SERDE, serde),
        )
        if wanted != found
    ]
    if differences:
        raise TableConflict(
            f"table {table['Name']} is there and is another one: {'; '.join(differences)}. It was not touched. Drop it if nobody needs it "
            "(the objects stay), and run this again"
        )


def _checked(columns: Sequence[tuple[str, str]]) -> Columns:
    """Columns in Glue's spelling."""
    names = [name for name, _ in columns]
    if not columns:
        raise ValueError("expected at least one column, found none")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected each column once, found {', '.join(repeated)} more often")
    for name in names:
        _expect(_COLUMN, name, "a column of a-z, 0-9 and underscore")
        if name in PARTITION_KEYS:
            raise ValueError(f"expected columns beside the partition keys, found {name!r}")
    return [(name, str(parse_type(kind))) for name, kind in columns]


def _glue(columns: Columns) -> list[dict[str, Any]]:
    return [{"Name": name, "Type": kind} for name, kind in columns]


def _kept(there: list[dict[str, Any]], grown: Columns) -> list[dict[str, Any]]:
    """Columns with the comments that they have."""
    known = {each["Name"]: each for each in there}
    return [{**known.get(name, {}), "Name": name, "Type": kind} for name, kind in grown]


def _merged(table: str, there: Columns, wanted: Columns) -> Columns:
    """The columns that a table has, grown by those that are wanted."""
    kinds = dict(there)
    problems = []
    for name, kind in wanted:
        if name not in kinds:
            kinds[name] = kind
            continue
        try:
            old = parse_type(kinds[name])
            new = _grown(old, parse_type(kind), name)
        except _DifferError as error:
            problems.append(f"column {name}: has type {kinds[name]}, wanted is {kind} ({error})")
        except ValueError as error:
            problems.append(f"column {name}: has type {kinds[name]}, which can't be read ({error}), wanted is {kind}")
        else:
            kinds[name] = kinds[name] if new == old else str(new)
    if problems:
        raise SchemaIncompatible(
            f"expected the columns of {table} only to grow by new columns and new fields, found: {'; '.join(problems)}. "
            "Nothing was changed. Keep the type, give the attribute another name, or move the source to a new custom source"
        )
    return list(kinds.items())


# Types


@dataclass(frozen=True)
class GlueType:
    """A type of Glue.

    Attributes:
        name: ``struct``, ``array``, ``map``, or a scalar such as ``bigint`` or ``decimal(10,2)``.
        fields: of a struct: name and type, in order; of an array: its item; of a map: key and value. Names are empty but for structs.
    """

    name: str
    fields: tuple[tuple[str, GlueType], ...] = ()

    def __str__(self) -> str:
        if not self.fields:
            return self.name
        inner = ",".join(f"{name}:{kind}" if name else str(kind) for name, kind in self.fields)
        return f"{self.name}<{inner}>"


class _DifferError(Exception):
    """Two types can't be grown together."""


_TOKEN: Final = re.compile(r"\s*([<>,:]|[A-Za-z0-9_]+(?:\(\s*\d+\s*(?:,\s*\d+\s*)?\))?|`[^`]+`|$)")
_SAME: Final = {"integer": "int", "long": "bigint"}
_ITEMS: Final = {"array": 1, "map": 2}
_DEEPEST: Final = 64


def parse_type(text: str) -> GlueType:
    """Read a type of Glue; names of fields become lower case, as Glue has them.

    Raises:
        ValueError: it is none.
    """
    tokens, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise ValueError(f"expected a Glue type, found {text[place : place + 20]!r} in {text!r:.200}")
        tokens.append(match[1])
        place = match.end()
    tokens = [token for token in tokens if token]
    kind, rest = _parse(tokens, 0, text, 0)
    if rest != len(tokens):
        raise ValueError(f"expected the end of a Glue type, found {tokens[rest]!r} in {text!r:.200}")
    return kind


def _parse(tokens: list[str], at: int, text: str, depth: int) -> tuple[GlueType, int]:
    if depth > _DEEPEST or at >= len(tokens) or tokens[at] in "<>,:":
        raise ValueError(f"expected a Glue type, found {text!r:.200}")
    name = tokens[at].lower().replace(" ", "")
    if name not in ("struct", *_ITEMS):
        return GlueType(_SAME.get(name, name)), at + 1
    if at + 1 >= len(tokens) or tokens[at + 1] != "<":
        raise ValueError(f"expected {name}<…>, found {text!r:.200}")
    fields: list[tuple[str, GlueType]] = []
    at += 1
    while tokens[at] != ">":
        at += 1  # over "<" or ","
        label = ""
        if name == "struct":
            if at + 1 >= len(tokens) or tokens[at + 1] != ":":
                raise ValueError(f"expected name:type in a struct, found {text!r:.200}")
            label, at = tokens[at].strip("`").lower(), at + 2
        kind, at = _parse(tokens, at, text, depth + 1)
        fields.append((label, kind))
        if at >= len(tokens) or tokens[at] not in ",>":
            raise ValueError(f"expected , or > after a type, found {text!r:.200}")
    if len(fields) != _ITEMS.get(name, len(fields)) or len({label for label, _ in fields}) != (
        len(fields) if name == "struct" else 1
    ):
        raise ValueError(f"expected {_ITEMS.get(name, 'different')} parts of a {name}, found {text!r:.200}")
    return GlueType(name, tuple(fields)), at + 1


def _grown(there: GlueType, wanted: GlueType, path: str) -> GlueType:
    """A type with the fields of both.

    Raises:
        _DifferError: they differ in more than fields.
    """
    if there.name != wanted.name:
        raise _DifferError(f"{path} is {there.name} and would be {wanted.name}")
    if there.name != "struct":
        return GlueType(
            there.name,
            tuple(
                (label, _grown(old, new, f"{path}[]"))
                for (label, old), (_, new) in zip(there.fields, wanted.fields, strict=True)
            ),
        )
    fields = dict(there.fields)
    for label, new in wanted.fields:
        fields[label] = _grown(fields[label], new, f"{path}.{label}") if label in fields else new
    return GlueType("struct", tuple(fields.items()))
