"""What every step of a migration works with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from include.tenants.exceptions import TenantUnknown
from include.tenants.saas import TENANTS, Tenant
from include.tenants.store import MigrationStore
from include.tenants.transactions import plain
from include.tenants.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.tenants.clients import Clients


@dataclass(frozen=True)
class PortabilityConfig:
    """What a deployment decides.

    Attributes:
        report_bucket: S3 bucket of the live reports, below ``tenants/``.
        evidence_bucket: S3 bucket with object lock, for the archives.
        signing_key: KMS key (id, ARN or alias) that signs archives: asymmetric, ECC_NIST_P256 or RSA.
        evidence_days: how long an archive can't be deleted by anybody.
        verification_minutes: how long a verification is good for.
        most_migrations: how many may read one table's stream at once. AWS advises at most two readers per shard; more are throttled.
        provisioning_minutes: how long the target's stack may take.
    """

    report_bucket: str
    evidence_bucket: str
    signing_key: str
    evidence_days: int = 2555
    verification_minutes: float = 60
    most_migrations: int = 4
    provisioning_minutes: float = 30


@dataclass(frozen=True)
class Portability:
    """Clients, configuration, record and clock.

    Attributes:
        clients: of AWS.
        config: the deployment's.
        clock: seconds since the epoch.
        sleep: waits so many seconds.
    """

    clients: Clients
    config: PortabilityConfig
    clock: Callable[[], float] = field(default=time.time)
    sleep: Callable[[float], None] = field(default=time.sleep)

    @cached_property
    def store(self) -> MigrationStore:
        """The record of all migrations."""
        return MigrationStore(self.clients.dynamodb, self.clock)

    @cached_property
    def turns(self) -> Turns:
        """Who does what now."""
        return Turns(self.clients.dynamodb, self.clock)

    def tenant(self, tenant_id: str) -> Tenant:
        """A tenant as it is now.

        Raises:
            TenantUnknown: there is none.
        """
        row = self.clients.dynamodb.get_item(
            TableName=TENANTS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True
        ).get("Item")
        if row is None:
            raise TenantUnknown(f"expected a tenant {tenant_id!r} in {TENANTS}, found none")
        return Tenant.from_item(plain(row))
