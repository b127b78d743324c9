"""A SaaS to move tenants in: the AWS stand-in is a process of its own, the application and the migrations run in this one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.local.aws.trial import trial_aws
from include.local.saas.api import Application
from include.local.saas.clients import clients_at
from include.local.saas.kills import KillSwitch, killable
from include.local.saas.load import Load, Stalls
from include.local.saas.seed import SeedTenant, seed
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.saas import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from include.tenants.clients import Clients

CONFIG: Final = PortabilityConfig(
    "data-platform", "data-platform-evidence", "alias/tenant-migrations", most_migrations=50
)
_API_URL: Final = "http://127.0.0.1:4570"
"""Is written down and never called: the application is called in process."""


@dataclass(frozen=True)
class Saas:
    """A SaaS.

    Attributes:
        url: of its AWS stand-in.
        clients: of AWS.
    """

    url: str
    clients: Clients

    def add(self, tenants: Sequence[SeedTenant], items: int) -> None:
        """Register tenants without users, each with so many items."""
        seed(self.clients, items_per_tenant=items, api_url=_API_URL, tenants=tenants, users=False)

    def portability(self, switch: KillSwitch | None = None) -> Portability:
        """What a migration works with: clients of its own, that the switch can kill."""
        clients = clients_at(self.url)
        return Portability(killable(clients, switch) if switch else clients, CONFIG)


@dataclass(frozen=True)
class Traffic:
    """What the tenants' clients do, and the application between them and the tables.

    Attributes:
        writers: threads per tenant.
        readers: likewise.
        pause: seconds between two requests of a thread.
        cache_seconds: how long the application's authorizer believes a route.
        stall_probability: of a write to stop between the look-up of its route and the write.
        stall_seconds: how long. A stalled client costs nothing, so there are many.
        instances: of the application, each with a cache of its own.
    """

    writers: int = 3
    readers: int = 1
    pause: float = 0.5
    cache_seconds: float = 0.5
    stall_probability: float = 0.12
    stall_seconds: float = 4.0
    instances: int = 2

    def on(
        self,
        saas: Saas,
        tenants: Sequence[str],
        journal: Path,
        *,
        seed: int = 0,
        make: Callable[..., Application] = Application,
        **options: Any,
    ) -> Load:
        """A load of these tenants, to be started; ``make`` and its options give another application."""
        stalls = Stalls(self.stall_probability, self.stall_seconds, seed=seed)
        clients = clients_at(saas.url)
        apis = [
            make(clients, cache_seconds=self.cache_seconds, stall=stalls, seed=seed + number, **options)
            for number in range(self.instances)
        ]
        return Load(
            apis,
            tenants,
            journal=journal,
            seed=seed,
            writers=self.writers,
            readers=self.readers,
            pause=self.pause,
        )


def away_from(p: Portability, tenant_id: str) -> Tier:
    """A tier whose tables are others than those that the tenant is in."""
    return Tier.STANDARD if p.tenant(tenant_id).route.tier.silo else Tier.PLATINUM


@contextmanager
def trial_saas(tenants: Sequence[SeedTenant], items: int) -> Iterator[Saas]:
    """A SaaS with these tenants, gone afterwards."""
    with trial_aws([CONFIG.report_bucket]) as url:
        saas = Saas(url, clients_at(url))
        saas.add(tenants, items)
        yield saas
