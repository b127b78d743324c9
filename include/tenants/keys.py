"""Which items are a tenant's: the partition keys of the data tables.

A table's partition key ``shardId`` is ``{tenantId}-{n}``. The application writes n from 1 to 9 and its own clean-up reads 1 to 10, so ten
partitions are read. Tenant ids may be prefixes of each other and may have dashes; only an exact match counts.

A tenant's items are read by one Query per partition, never by a Scan: a pooled table holds everybody's.
"""

from __future__ import annotations

from typing import Final

SUFFIXES: Final = range(1, 11)
MARKER: Final = "__migration__#"
"""What the sort key of a migration's own items begins with (see `include.tenants.draining`); the application never makes such keys."""


def shard_ids(tenant_id: str) -> tuple[str, ...]:
    """All partition keys that a tenant's items may have."""
    return tuple(f"{tenant_id}-{suffix}" for suffix in SUFFIXES)


def owner_of(shard_id: str) -> str | None:
    """The tenant whose partition this is; None if it is no tenant's."""
    tenant_id, dash, suffix = shard_id.rpartition("-")
    return tenant_id if dash and tenant_id and suffix in _SUFFIXES else None


_SUFFIXES: Final = frozenset(str(suffix) for suffix in SUFFIXES)
