"""The option ``[openlineage] transport``: made in one place, read back in one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from data_platform.lineage.exceptions import LineageConfigInvalid
from data_platform.lineage.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JOB_NAMESPACE: Final = "data-platform"
"""The value of ``[openlineage] namespace``."""
_SPOOL: Final = "data_platform.lineage.spool.SpoolTransport"
_CATALOG: Final = "data_platform.lineage.transport.DataZoneTransport"
_RENAMING: Final = "data_platform.lineage.transport.RenamingTransport"
_NAMES: Final = "data_platform.lineage.naming.CatalogNames"
_DOMAIN: Final = re.compile(r"dzd[-_][a-zA-Z0-9_-]{1,36}")


def transport_config(
    *,
    spool: str,
    region: str,
    account_id: str,
    domain_id: str = "",
    view_schemas: Iterable[str] = ("finance",),
    redshift: Mapping[str, Mapping[str, str]] | None = None,
    catalog_endpoint: str | None = None,
    spool_endpoint: str | None = None,
) -> dict[str, Any]:
    """The whole option, to be written as JSON: the spool first, then the catalog.

    Args:
        spool: ``file:///folder`` or ``s3://bucket/prefix``.
        region: of the catalog, and of warehouses whose entry in ``redshift`` names none.
        account_id: of warehouses whose host does not say it.
        domain_id: DataZone domain; empty means that events are spooled only.
        view_schemas: schemas whose relations are views in production.
        redshift: ``{"<host>": {"workgroup" | "cluster": …, "region": …, "account_id": …}}``, see `naming`.
        catalog_endpoint: another address of DataZone.
        spool_endpoint: another address of S3.

    Raises:
        LineageConfigInvalid: an argument is malformed.
    """
    open_store(spool)
    names = {
        "account_id": account_id,
        "region": region,
        "view_schemas": list(view_schemas),
        "redshift": {host: dict(entry) for host, entry in (redshift or {}).items()},
    }
    _check_names(names)
    transports: dict[str, Any] = {
        "spool": {"type": _SPOOL, "priority": 2, "url": spool}
        | ({"endpoint": spool_endpoint} if spool_endpoint else {})
        | ({} if domain_id else {"last": True})
    }
    if domain_id:
        if not _DOMAIN.fullmatch(domain_id):
            raise LineageConfigInvalid(f"expected a DataZone domain id like dzd_abc123, found {domain_id!r}")
        catalog = {"type": _CATALOG, "domainId": domain_id, "region": region}
        transports["catalog"] = {
            "type": _RENAMING,
            "priority": 1,
            "transformer_class": _NAMES,
            "transformer_properties": names,
            "transport": catalog | ({"endpointOverride": catalog_endpoint} if catalog_endpoint else {}),
        }
    return {
        "type": "composite",
        "continue_on_failure": True,
        "continue_on_success": True,
        "sort_transports": True,
        "transports": transports,
    }


def _check_names(names: Mapping[str, Any]) -> None:
    from data_platform.lineage.naming import Naming

    Naming.from_properties(names)


@dataclass(frozen=True)
class LineageTransport:
    """What `transport_config` wrote.

    Attributes:
        spool: the spool's URL.
        domain_id: empty if there is no catalog.
        names: properties for `naming.Naming.from_properties`; empty if there is no catalog.
        region: of the catalog.
    """

    spool: str
    domain_id: str = ""
    names: Mapping[str, Any] | None = None
    region: str | None = None

    @classmethod
    def from_option(cls, option: Mapping[str, Any]) -> LineageTransport:
        """Find the parts in the option.

        Raises:
            LineageConfigInvalid: it has no spool of ours.
        """
        transports = option.get("transports")
        parts = list(transports.values()) if isinstance(transports, dict) else list(transports or ())
        spool = next((part for part in parts if part.get("type") == _SPOOL), None)
        if spool is None:
            raise LineageConfigInvalid(
                f"[openlineage] transport: expected a composite with a transport of type {_SPOOL}, found "
                f"{[part.get('type') for part in parts] or option.get('type') or 'nothing'}; "
                "make the option with data_platform.lineage.config.transport_config"
            )
        for part in parts:
            inner = part.get("transport") or {}
            if part.get("transformer_class") == _NAMES and inner.get("type") == _CATALOG:
                return cls(spool["url"], inner["domainId"], part.get("transformer_properties"), inner.get("region"))
        return cls(spool["url"])


def read_transport_config() -> LineageTransport:
    """The option as this Airflow has it.

    Raises:
        LineageConfigInvalid: it was not made by `transport_config`.
    """
    from airflow.providers.common.compat.sdk import conf

    option = conf.getjson("openlineage", "transport", fallback={})
    return LineageTransport.from_option(option if isinstance(option, dict) else {})
