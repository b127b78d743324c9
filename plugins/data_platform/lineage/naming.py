"""OpenLineage's dataset names as the catalog's, so that lineage links to assets.

DataZone links a lineage node with an asset when their ``sourceIdentifier`` is the same. An asset's is an ARN; a dataset's is made of
its namespace, a slash and its name
(https://docs.aws.amazon.com/sagemaker-unified-studio/latest/userguide/datazone-data-lineage-sourceIdentifier-attribute.html), so a
dataset is sent with the ARN cut at its first slash::

    redshift://<workgroup>.<region>:5439   dev.finance.rpt_sales        what Airflow and the build emit
    arn:aws:redshift-serverless:<region>:<account>:view                 namespace, and
    <workgroup>/dev/finance/rpt_sales                                   name, as sent

What can't be told from the name alone is configuration: Airflow's Redshift names don't say whether ``analytics.us-east-1`` is a
workgroup or a cluster (a workgroup, unless ``redshift`` says otherwise), nor the account; the host of a managed VPC endpoint or a
custom domain name doesn't say which warehouse is behind it (left as it is unless ``redshift`` has it, and told once). A relation of a
schema in ``view_schemas`` is a view; else OpenLineage's datasetType facet says, anywhere in the event; else it is a table.

Redshift folds identifiers to lower case, and so do these names, but for ``case_sensitive_databases``: zero-ETL keeps the source's case.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openlineage.client.transport.transform import EventTransformer

from data_platform.lineage.events import read, write
from data_platform.lineage.exceptions import LineageConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openlineage.client.client import Event

log = logging.getLogger(__name__)

_ACCOUNT: Final = re.compile(r"\d{12}")
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d")
_WAREHOUSE: Final = re.compile(r"[a-z0-9-]{1,64}")
_PARTITIONS: Final = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
    "eu-isoe-": "aws-iso-e",
    "eusc-": "aws-eusc",
}
"""https://docs.aws.amazon.com/general/latest/gr/rande.html: partitions other than ``aws``, by the beginning of their regions' names."""
_SERVERLESS_HOST: Final = re.compile(
    r"(?P<name>[^.]+)\.(?P<account>\d{12})\.(?P<region>[^.]+)\.redshift-serverless\.amazonaws\.com(\.cn)?"
)
_CLUSTER_HOST: Final = re.compile(r"(?P<name>[^.]+)\.[^.]+\.(?P<region>[^.]+)\.redshift\.amazonaws\.com(\.cn)?")
_SHORT_HOST: Final = re.compile(r"(?P<name>[^.]+)\.(?P<region>[^.]+)")
_VPC_ENDPOINT: Final = re.compile(r".+-endpoint-[a-z0-9]{8,}")
"""A Redshift-managed VPC endpoint's host begins with the endpoint's name, ``-endpoint-`` and an id:
https://docs.aws.amazon.com/redshift/latest/mgmt/managing-cluster-cross-vpc.html."""
_NAME_PART: Final = re.compile(r'"((?:[^"]|"")*)"(?:\.|$)|([^."]*)(?:\.|$)')

ZERO_ETL_DATABASES: Final = frozenset({"aurora_zeroetl_integration"})
"""The database of the zero-ETL integration, which keeps the source's case."""
ENTRY_KEYS: Final = frozenset({"workgroup", "cluster", "region", "account_id"})


@dataclass(frozen=True)
class RedshiftTarget:
    """A Redshift warehouse, as an ARN names it."""

    service: str
    name: str
    region: str
    account_id: str

    def arn(self, kind: str, database: str, schema: str, relation: str) -> str:
        """The ARN of a table or view."""
        partition = partition_of(self.region)
        path = f"{kind}/{self.name}/{database}/{schema}/{relation}"
        return f"arn:{partition}:{self.service}:{self.region}:{self.account_id}:{path}"


@dataclass(frozen=True)
class Naming:
    """How names become the catalog's.

    Attributes:
        account_id: of warehouses whose host does not say it.
        view_schemas: schemas of the product databases whose relations are views.
        redshift: warehouse by host, for hosts that say too little.
        case_sensitive_databases: databases whose names keep their case.
    """

    account_id: str
    view_schemas: frozenset[str] = frozenset()
    redshift: Mapping[str, RedshiftTarget] = field(default_factory=dict)
    case_sensitive_databases: frozenset[str] = ZERO_ETL_DATABASES

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> Naming:
        """Read the transformer's properties.

        Raises:
            LineageConfigInvalid: one is missing, unknown or malformed; the message says which and what is expected.
        """
        known = {"account_id", "region", "view_schemas", "redshift", "case_sensitive_databases"}
        if unknown := sorted(set(properties) - known):
            raise LineageConfigInvalid(
                f"lineage names: expected only {', '.join(sorted(known))}; found {', '.join(unknown)}"
            )
        account_id, region = str(properties.get("account_id", "")), str(properties.get("region", ""))
        _check(_ACCOUNT, account_id, "account_id", "12 digits")
        _check(_REGION, region, "region", "one like us-east-1")
        for option in ("view_schemas", "case_sensitive_databases"):
            if isinstance(properties.get(option), str):
                raise LineageConfigInvalid(f"lineage names: expected a list in {option}, found a text")
        entries = properties.get("redshift") or {}
        if not isinstance(entries, dict):
            raise LineageConfigInvalid(
                "lineage names: expected redshift to be an object of hosts, found something else"
            )
        given = {"account_id": account_id, "region": region}
        sensitive = properties.get("case_sensitive_databases")
        return cls(
            account_id=account_id,
            view_schemas=frozenset(schema.lower() for schema in properties.get("view_schemas") or ()),
            redshift={_host(host): _entry(host, entry, given) for host, entry in entries.items()},
            case_sensitive_databases=ZERO_ETL_DATABASES if sensitive is None else frozenset(sensitive),
        )

    def arn(self, namespace: str, name: str, dataset_type: str | None = None) -> str | None:
        """The ARN of a dataset; None if it has none, or none that can be told.

        Args:
            namespace: OpenLineage's.
            name: OpenLineage's.
            dataset_type: of the datasetType facet.
        """
        if namespace.startswith("arn:"):
            return _glue_arn(namespace, name)
        scheme, _, rest = namespace.partition("://")
        if scheme == "awsathena":
            return self._athena_arn(rest, name)
        if scheme != "redshift":
            return None
        target = self._target(_host(rest))
        parts = split_name(name)
        if target is None or len(parts) != 3:
            return None
        database, schema, relation = parts
        if database not in self.case_sensitive_databases:
            database, schema, relation = database.lower(), schema.lower(), relation.lower()
        is_view = schema.lower() in self.view_schemas or (dataset_type or "").upper() == "VIEW"
        return target.arn("view" if is_view else "table", database, schema, relation)

    def _target(self, host: str) -> RedshiftTarget | None:
        if host in self.redshift:
            return self.redshift[host]
        if _VPC_ENDPOINT.fullmatch(host.split(".")[0]):
            return None
        if full := _SERVERLESS_HOST.fullmatch(host):
            return RedshiftTarget("redshift-serverless", full["name"], full["region"], full["account"])
        if full := _CLUSTER_HOST.fullmatch(host):
            return RedshiftTarget("redshift", full["name"], full["region"], self.account_id)
        short = _SHORT_HOST.fullmatch(host)
        if short and _REGION.fullmatch(short["region"]):
            return RedshiftTarget("redshift-serverless", short["name"], short["region"], self.account_id)
        return None

    def _athena_arn(self, host: str, name: str) -> str | None:
        region, parts = host.removeprefix("athena.").split(".")[0], name.split(".")
        if len(parts) != 3 or parts[0].lower() != "awsdatacatalog" or not _REGION.fullmatch(region):
            return None
        return f"arn:{partition_of(region)}:glue:{region}:{self.account_id}:table/{parts[1]}/{parts[2]}"


def _entry(host: str, entry: Any, given: Mapping[str, str]) -> RedshiftTarget:
    where = f"redshift[{host!r}]"
    if not isinstance(entry, dict) or (unknown := set(entry) - ENTRY_KEYS):
        found = ", ".join(sorted(unknown)) if isinstance(entry, dict) else repr(entry)
        raise LineageConfigInvalid(
            f"lineage names: {where}: expected only {', '.join(sorted(ENTRY_KEYS))}; found {found}"
        )
    if bool(entry.get("workgroup")) == bool(entry.get("cluster")):
        raise LineageConfigInvalid(
            f"lineage names: {where}: expected one of workgroup and cluster, found {sorted(entry)}"
        )
    name = str(entry.get("workgroup") or entry["cluster"])
    region, account_id = (
        str(entry.get("region") or given["region"]),
        str(entry.get("account_id") or given["account_id"]),
    )
    _check(
        _WAREHOUSE, name, f"{where}.{'workgroup' if entry.get('workgroup') else 'cluster'}", "letters, digits, hyphens"
    )
    _check(_REGION, region, f"{where}.region", "one like us-east-1")
    _check(_ACCOUNT, account_id, f"{where}.account_id", "12 digits")
    return RedshiftTarget("redshift-serverless" if entry.get("workgroup") else "redshift", name, region, account_id)


def _check(pattern: re.Pattern[str], value: str, option: str, wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise LineageConfigInvalid(f"lineage names: {option}: expected {wanted}, found {value!r}")


def _host(authority: str) -> str:
    """A host without scheme and port; hosts have no case."""
    return re.sub(r":\d+$", "", authority.removeprefix("redshift://").strip("/").lower())


def partition_of(region: str) -> str:
    """The AWS partition of a region."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def split_name(name: str) -> list[str]:
    """Database, schema and relation. Parts may be quoted; dots beyond the second belong to the relation."""
    parts, at = list[str](), 0
    while at < len(name) and (part := _NAME_PART.match(name, at)) and part.end() > at:
        parts.append(part[2] if part[1] is None else part[1].replace('""', '"'))
        at = part.end()
    if at < len(name) or name.endswith(".") or not all(parts):
        return []
    return [*parts[:2], ".".join(parts[2:])] if len(parts) > 3 else parts


def _glue_arn(namespace: str, name: str) -> str | None:
    """OpenLineage has the account as namespace and ``table/<database>/<table>`` as name; AWS joins the two with a colon."""
    is_account = re.fullmatch(r"arn:[\w-]+:glue:[\w-]+:\d{12}", namespace)
    return f"{namespace}:{name}" if is_account and name.startswith("table/") else None


def rename_datasets(event: Any, naming: Naming) -> list[tuple[str, str]]:
    """Give every dataset that the event names its name in the catalog, in place.

    Not only inputs and outputs: a column's input fields, symlinks and former names too, for a graph breaks where one is forgotten.

    Args:
        event: the client's object or parsed JSON.
        naming: how.

    Returns:
        Redshift names that could not be told.
    """
    types = {
        (read(dataset, "namespace"), read(dataset, "name")): kind
        for dataset in _datasets(event)
        if (kind := read(read(read(dataset, "facets"), "datasetType"), "datasetType"))
    }
    unknown = []
    for node in list(_references(event)):
        namespace, name = read(node, "namespace"), read(node, "name")
        if not isinstance(namespace, str) or not isinstance(name, str):
            continue
        arn = naming.arn(namespace, name, types.get((namespace, name)))
        if arn is None:
            if namespace.startswith("redshift://"):
                unknown.append((namespace, name))
            continue
        head, _, tail = arn.partition("/")
        write(node, "namespace", head)
        write(node, "name", tail)
    return unknown


def _datasets(event: Any) -> Iterator[Any]:
    for side in ("inputs", "outputs"):
        yield from read(event, side) or ()


def _references(event: Any) -> Iterator[Any]:
    """Every part of the event that has a dataset's namespace and name."""
    for dataset in _datasets(event):
        yield dataset
        facets = read(dataset, "facets") or {}
        columns = facets.get("columnLineage")
        for column in (read(columns, "fields") or {}).values():
            yield from read(column, "inputFields") or ()
        yield from read(columns, "dataset") or ()
        yield from read(facets.get("symlinks"), "identifiers") or ()
        if former := read(facets.get("lifecycleStateChange"), "previousIdentifier"):
            yield former


class CatalogNames(EventTransformer):
    """`rename_datasets` for `transport.RenamingTransport`, which hands in a copy of the event."""

    def __init__(self, properties: dict[str, Any]) -> None:
        super().__init__(properties)
        self.naming = Naming.from_properties(properties)
        self._told: set[str] = set()

    def transform(self, event: Event) -> Event:
        """Rename."""
        for namespace, name in rename_datasets(event, self.naming):
            if namespace not in self._told:
                self._told.add(namespace)
                log.warning(
                    "lineage: expected a name <database>.<schema>.<relation> of a known Redshift warehouse, found %s %s; it is sent as it "
                    "is and links to no asset. Add the host to redshift in [openlineage] transport; told once a process and host.",
                    namespace,
                    name,
                )
        return event
