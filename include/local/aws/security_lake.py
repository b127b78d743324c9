"""Amazon Security Lake, which moto lacks: requests and answers by botocore's model, what it makes in moto's own services.

CreateDataLake makes the bucket and the Glue database. CreateCustomLogSource makes the provider's role in IAM, a crawler, and a table
without columns, as Security Lake does before a crawler has seen an object. The documented limits hold: names of 20 characters, known event
classes, 50 custom sources in the account, ConflictException for one that is there, ResourceNotFoundException without a lake or without the
crawler's role.

Left out: AWS's own sources, subscribers and roll-up regions. A lake is made at once; `SecurityLakeBackend.pending` says otherwise, and
`FAULTS` makes all of it misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from botocore.loaders import create_loader
from botocore.model import ServiceModel
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from include.local.aws.faults import Fault, Faults
from include.local.aws.wrapping import wrap
from include.local.catalog.protocol import ApiError, read_request, write_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from botocore.model import OperationModel

type Document = dict[str, Any]

MOST_CUSTOM_SOURCES: Final = 50
MOST_NAME: Final = 20
EVENT_CLASSES: Final = frozenset(
    {
        *(
            "ACCESS_ACTIVITY",
            "FILE_ACTIVITY",
            "KERNEL_ACTIVITY",
            "KERNEL_EXTENSION",
            "MEMORY_ACTIVITY",
            "MODULE_ACTIVITY",
        ),
        *(
            "PROCESS_ACTIVITY",
            "REGISTRY_KEY_ACTIVITY",
            "REGISTRY_VALUE_ACTIVITY",
            "RESOURCE_ACTIVITY",
            "SCHEDULED_JOB_ACTIVITY",
            "SECURITY_FINDING",
        ),
        *(
            "ACCOUNT_CHANGE",
            "AUTHENTICATION",
            "AUTHORIZATION",
            "ENTITY_MANAGEMENT_AUDIT",
            "DHCP_ACTIVITY",
            "NETWORK_ACTIVITY",
        ),
        *("DNS_ACTIVITY", "FTP_ACTIVITY", "HTTP_ACTIVITY", "RDP_ACTIVITY", "SMB_ACTIVITY", "SSH_ACTIVITY"),
        *("CONFIG_STATE", "INVENTORY_INFO", "EMAIL_ACTIVITY", "API_ACTIVITY", "CLOUD_API"),
    }
)
"""https://docs.aws.amazon.com/security-lake/latest/APIReference/API_CreateCustomLogSource.html"""
FAULTS: Final = Faults()
"""What befalls requests, by operation; ended by `FAULTS.clear`."""
_SERVICE: Final = "securitylake"
_LABEL: Final = re.compile(r"\{(\w+)\}")
_PAGE: Final = 100
_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 429: "Too Many Requests"}


class SecurityLakeBackend(BaseBackend):
    """Security Lake of one account in one region.

    Attributes:
        lake: the data lake; None before it was made.
        sources: custom sources by name and version, as they were asked for and as they are answered.
        pending: so many times more the lake is said to be still in the making.
    """

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.lake: Document | None = None
        self.sources: dict[tuple[str, str], Document] = {}
        self.asked: dict[tuple[str, str], Document] = {}
        self.pending = 0

    @property
    def bucket(self) -> str:
        """The lake's bucket; the end of its name is as random as Security Lake's, and the same each time."""
        digest = hashlib.sha256(f"{self.account_id}/{self.region_name}".encode()).digest()
        return f"aws-security-data-lake-{self.region_name}-{base64.b32encode(digest).decode().lower()[:30]}"

    @property
    def database(self) -> str:
        """Its Glue database."""
        return f"amazon_security_lake_glue_db_{self.region_name.replace('-', '_')}"

    def create(self, said: Document) -> None:
        """Make or change the lake."""
        from moto.glue.models import glue_backends
        from moto.s3.models import s3_backends

        buckets = s3_backends[self.account_id]["aws"]
        if self.bucket not in buckets.buckets:
            buckets.create_bucket(self.bucket, self.region_name)
        glue = glue_backends[self.account_id][self.region_name]
        if self.database not in glue.databases:
            glue.create_database(self.database, {"Name": self.database})
        self.lake = {
            "createStatus": "COMPLETED",
            "dataLakeArn": f"arn:aws:securitylake:{self.region_name}:{self.account_id}:data-lake/default",
            "encryptionConfiguration": {"kmsKeyId": "S3_MANAGED_KEY", **said.get("encryptionConfiguration", {})},
            "region": self.region_name,
            "s3BucketArn": f"arn:aws:s3:::{self.bucket}",
        }

    def add_source(self, said: Document) -> Document:
        """Make a custom source and all that belongs to it."""
        from moto.glue.models import glue_backends
        from moto.iam.models import iam_backends

        name, identity = said["sourceName"], said["configuration"]["providerIdentity"]
        crawler_role = said["configuration"]["crawlerConfiguration"]["roleArn"]
        iam = iam_backends[self.account_id]["aws"]
        if not any(role.arn == crawler_role for role in iam.roles.values()):
            raise ApiError("ResourceNotFoundException", f"Role {crawler_role} does not exist", 404)
        who = identity["principal"]
        principal = {"AWS": f"arn:aws:iam::{who}:root"} if who.isdecimal() else {"Service": who}
        role_name = f"AmazonSecurityLake-Provider-{name}-{self.region_name}"
        trust = {
            "Effect": "Allow",
            "Principal": principal,
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": identity["externalId"]}},
        }
        role = iam.create_role(
            role_name=role_name,
            assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            path="/",
            permissions_boundary=None,
            description="",
            tags=[],
            max_session_duration="3600",
        )
        location = f"s3://{self.bucket}/ext/{name}/"
        glue = glue_backends[self.account_id][self.region_name]
        table = f"amazon_security_lake_table_{self.region_name}_ext_{name}".replace("-", "_").lower()
        if table not in glue.get_database(self.database).tables:  # one that is left of a source that was deleted stays
            glue.create_table(self.database, table, _table(table, location))
        if name not in glue.crawlers:
            glue.create_crawler(
                **_crawler(name, crawler_role, self.database, location),
            )
        version = said.get("sourceVersion", "")
        arn = f"arn:aws:glue:{self.region_name}:{self.account_id}"
        source: Document = {
            "sourceName": name,
            "provider": {"location": location, "roleArn": role.arn},
            "attributes": {
                "crawlerArn": f"{arn}:crawler/{name}",
                "databaseArn": f"{arn}:database/{self.database}",
                "tableArn": f"{arn}:table/{table}",
            },
        }
        if version:
            source["sourceVersion"] = version
        self.sources[name, version] = source
        self.asked[name, version] = said
        return source

    def remove_source(self, name: str, version: str | None) -> None:
        """Delete a custom source, its role and crawler; table and objects stay."""
        from moto.glue.models import glue_backends
        from moto.iam.models import iam_backends

        gone = [key for key in self.sources if key[0] == name and version in (None, key[1])]
        if not gone:
            raise ApiError("ResourceNotFoundException", f"Custom log source {name} does not exist", 404)
        for key in gone:
            del self.sources[key], self.asked[key]
        iam = iam_backends[self.account_id]["aws"]
        role_name = f"AmazonSecurityLake-Provider-{name}-{self.region_name}"
        for role in [each for each in iam.roles.values() if each.name == role_name]:
            del iam.roles[role.id]
        glue_backends[self.account_id][self.region_name].crawlers.pop(name, None)


security_lake_backends: Final = BackendDict(SecurityLakeBackend, _SERVICE)
"""Gone with all else when moto is reset."""


def install() -> None:
    """Make the AWS stand-in answer to Security Lake; a second call changes nothing."""
    wrap(DomainDispatcherApplication, "__call__", _routed)


def backend(region: str = "us-east-1") -> SecurityLakeBackend:
    """Security Lake of the stand-in's account, for tests."""
    return security_lake_backends[DEFAULT_ACCOUNT_ID][region]


_MODEL: Final = ServiceModel(create_loader().load_service_model(_SERVICE, "service-2"), _SERVICE)


def _routes() -> tuple[tuple[str, re.Pattern[str], OperationModel], ...]:
    found = []
    for name in _MODEL.operation_names:
        operation = _MODEL.operation_model(name)
        pattern = _LABEL.sub(lambda label: f"(?P<{label[1]}>[^/]+)", operation.http["requestUri"])
        found.append((operation.http["method"], re.compile(pattern), operation))
    return tuple(sorted(found, key=lambda route: route[1].groups))


_ROUTES: Final = _routes()


def _routed(call: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def routed(application: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        scope = re.search(
            r"Credential=[^/]+/\d{8}/([^/]+)/securitylake/aws4_request", environ.get("HTTP_AUTHORIZATION", "")
        )
        if not scope:
            return call(application, environ, start_response)
        status, body = _answer(environ, scope[1])
        start_response(
            f"{status} {_REASONS.get(status, 'OK' if status < 400 else 'Internal Server Error')}",
            [("Content-Type", "application/json"), ("Content-Length", str(len(body[1]))), *body[0]],
        )
        return [body[1]]

    return routed


def _answer(environ: WSGIEnvironment, region: str) -> tuple[int, tuple[list[tuple[str, str]], bytes]]:
    """Status, headers and body."""
    try:
        operation, labels = _find(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        fault = FAULTS.take(operation.name)
        if fault and not fault.done:
            _raise(fault)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        target = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        try:
            said = read_request(operation, labels, target, {}, body)  # type: ignore[arg-type]  # no operation has headers
        except ApiError as error:  # named as Security Lake names it
            raise ApiError("BadRequestException", str(error)) from error
        result = _OPERATIONS[operation.name](security_lake_backends[DEFAULT_ACCOUNT_ID][region], said)
        if fault:
            _raise(fault)
        return operation.http.get("responseCode", 200), ([], _checked(operation, result))
    except ApiError as error:
        return error.status, ([("x-amzn-ErrorType", error.code)], json.dumps({"message": str(error)}).encode())


def _raise(fault: Fault) -> None:
    if fault.refuses:
        raise ApiError(fault.code or "InternalServerException", "a fault was asked for", fault.status or 500)


def _find(method: str, path: str) -> tuple[OperationModel, dict[str, str]]:
    for known, pattern, operation in _ROUTES:
        if known == method and (match := pattern.fullmatch(path)):
            if operation.name not in _OPERATIONS:
                have = ", ".join(sorted(_OPERATIONS))
                raise ApiError("NotImplementedException", f"the stand-in has no {operation.name}; it has {have}", 501)
            return operation, {name: unquote(value) for name, value in match.groupdict().items()}
    raise ApiError("UnknownOperationException", f"no operation of Security Lake is at {method} {path}", 404)


def _checked(operation: OperationModel, result: Document) -> bytes:
    """The answer's body. The model wants ARNs of ``securitylake`` where the service gives those of Glue."""
    text = json.dumps(result, separators=(",", ":"))
    write_answer(operation, json.loads(text.replace('"arn:aws:glue:', '"arn:aws:securitylake:')))
    return text.encode()


def _create_data_lake(lake: SecurityLakeBackend, said: Document) -> Document:
    made = []
    for each in said["configurations"]:
        one = security_lake_backends[lake.account_id][each["region"]]
        one.create(each)
        made.append(one.lake)
    return {"dataLakes": made}


def _list_data_lakes(lake: SecurityLakeBackend, said: Document) -> Document:
    wanted = said.get("regions")
    found = []
    for region, one in security_lake_backends[lake.account_id].items():
        if one.lake and (not wanted or region in wanted):
            found.append({**one.lake, "createStatus": "PENDING"} if one.pending > 0 else one.lake)
            one.pending -= 1
    return {"dataLakes": found}


def _create_custom_log_source(lake: SecurityLakeBackend, said: Document) -> Document:
    if lake.lake is None:
        raise ApiError("ResourceNotFoundException", f"Security Lake is not enabled in {lake.region_name}", 404)
    name, version = said["sourceName"], said.get("sourceVersion", "")
    if len(name) > MOST_NAME:
        raise ApiError("BadRequestException", f"sourceName: expected at most {MOST_NAME} characters, found {len(name)}")
    if unknown := sorted(set(said.get("eventClasses", [])) - EVENT_CLASSES):
        raise ApiError("BadRequestException", f"eventClasses: {', '.join(unknown)} not supported")
    if (name, version) in lake.sources:
        raise ApiError("ConflictException", f"Custom log source {name} already exists", 409)
    if sum(len(one.sources) for one in security_lake_backends[lake.account_id].values()) >= MOST_CUSTOM_SOURCES:
        raise ApiError("BadRequestException", f"The account has {MOST_CUSTOM_SOURCES} custom log sources already")
    return {"source": lake.add_source(said)}


def _delete_custom_log_source(lake: SecurityLakeBackend, said: Document) -> Document:
    lake.remove_source(said["sourceName"], said.get("sourceVersion"))
    return {}


def _list_log_sources(lake: SecurityLakeBackend, said: Document) -> Document:
    """Sources one by one, in the order of region and name; a page may end in the middle of a region."""
    found = [
        (region, source)
        for region, one in sorted(security_lake_backends[lake.account_id].items())
        for _, source in sorted(one.sources.items())
        if not said.get("regions") or region in said["regions"]
    ]
    if said.get("accounts") and lake.account_id not in said["accounts"]:
        found = []
    if wanted := said.get("sources"):
        names = {each["customLogSource"]["sourceName"] for each in wanted if "customLogSource" in each}
        found = [each for each in found if each[1]["sourceName"] in names]
    try:
        start = int(said.get("nextToken") or 0)
    except ValueError as error:
        raise ApiError("BadRequestException", "nextToken: expected one of an answer") from error
    end = start + said.get("maxResults", _PAGE)
    answer: Document = {
        "sources": [
            {
                "account": lake.account_id,
                "region": region,
                "sources": [{"customLogSource": source} for where, source in found[start:end] if where == region],
            }
            for region in dict.fromkeys(region for region, _ in found[start:end])
        ]
    }
    if end < len(found):
        answer["nextToken"] = str(end)
    return answer


_OPERATIONS: Final[dict[str, Callable[[SecurityLakeBackend, Document], Document]]] = {
    "CreateDataLake": _create_data_lake,
    "ListDataLakes": _list_data_lakes,
    "CreateCustomLogSource": _create_custom_log_source,
    "DeleteCustomLogSource": _delete_custom_log_source,
    "ListLogSources": _list_log_sources,
}


def _table(name: str, location: str) -> Document:
    return {
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE"},
        "PartitionKeys": [{"Name": key, "Type": "string"} for key in ("region", "accountid", "eventday")],
        "StorageDescriptor": {
            "Columns": [],
            "Location": location,
            "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
        },
    }


def _crawler(name: str, role: str, database: str, location: str) -> Document:
    return {
        "name": name,
        "role": role,
        "database_name": database,
        "description": "",
        "targets": {"S3Targets": [{"Path": location}]},
        "schedule": "cron(0 * * * ? *)",
        "classifiers": [],
        "table_prefix": "",
        "schema_change_policy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
        "recrawl_policy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
        "lineage_configuration": {},
        "configuration": "",
        "crawler_security_configuration": "",
        "tags": {},
    }
