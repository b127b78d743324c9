"""What the application's authorizer knows of tenants, and for how long it believes that."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from include.local.saas.errors import Unauthorized
from include.tenants.saas import TENANTS, Tenant
from include.tenants.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE_SECONDS: Final = 30.0
"""As the reference's authorizer."""


class Routes:
    """Tenants' rows, each looked up again when it has become old. Used by many threads.

    Args:
        dynamodb: a boto3 client.
        cache_seconds: how long a row is believed.
        clock: seconds.
    """

    def __init__(
        self, dynamodb: Any, cache_seconds: float = CACHE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._dynamodb = dynamodb
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._known: dict[str, tuple[Tenant, float]] = {}
        self._lock = threading.Lock()

    def of(self, tenant_id: str, *, fresh: bool = False) -> Tenant:
        """A tenant as it was at most ``cache_seconds`` ago; ``fresh``: as it is.

        Raises:
            Unauthorized: there is none.
        """
        if not fresh:
            with self._lock:
                known = self._known.get(tenant_id)
            if known and self._clock() < known[1]:
                return known[0]
        until = self._clock() + self._cache_seconds
        row = self._dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True).get(
            "Item"
        )
        if row is None:
            raise Unauthorized(f"expected a tenant of the application, found {tenant_id!r}")
        tenant = Tenant.from_item(plain(row))
        with self._lock:
            newer = self._known.get(tenant_id)
            if newer and newer[0].epoch > tenant.epoch:
                return newer[0]  # another thread has looked later than this one, and was faster
            self._known[tenant_id] = tenant, until
        return tenant
