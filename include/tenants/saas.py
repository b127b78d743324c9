"""The application whose tenants move: its tables, attributes and tiers, named as it names them.

The application is the serverless SaaS reference solution of aws-samples (aws-saas-factory-ref-solution-serverless-saas, v1, commit
ab959c8). One table and two attributes are ours: see `include.tenants.fence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS: Final = "ServerlessSaaS-Settings"
TENANTS: Final = "ServerlessSaaS-TenantDetails"
TENANT_USERS: Final = "ServerlessSaaS-TenantUserMapping"
STACKS: Final = "ServerlessSaaS-TenantStackMapping"
FENCES: Final = "ServerlessSaaS-TenantFences"
MIGRATIONS: Final = "ServerlessSaaS-TenantMigrations"
PIPELINE: Final = "serverless-saas-pipeline"
URL_OUTPUT: Final = "ApiGatewayUrl"
"""Output of a silo's stack."""
POOLED: Final = "pooled"
"""Stands for the tenant's id in the names of what all pooled tenants share."""
EPOCH: Final = "routeEpoch"
"""Grows by one each time that the tenant's items go elsewhere; absent is 0."""
FENCED_BY: Final = "fencedBy"
"""Migration that keeps the tenant's writes out; absent while they may come."""
TENANT_CLAIM: Final = "custom:tenantId"
TENANT_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$")
"""The reference makes ids by ``uuid1().hex``; a dash is allowed, since people name trial tenants so."""


class Tier(StrEnum):
    """What a tenant pays for."""

    BASIC = "Basic"
    STANDARD = "Standard"
    PREMIUM = "Premium"
    PLATINUM = "Platinum"

    @property
    def silo(self) -> bool:
        """Whether the tenant has tables, a user pool and an API of its own."""
        return self is Tier.PLATINUM


@dataclass(frozen=True)
class UsagePlan:
    """Limits of a tier: requests per second, burst, requests per day."""

    rate: int
    burst: int
    quota: int


USAGE_PLANS: Final = {
    Tier.BASIC: UsagePlan(50, 50, 1_000),
    Tier.STANDARD: UsagePlan(75, 100, 3_000),
    Tier.PREMIUM: UsagePlan(100, 200, 5_000),
    Tier.PLATINUM: UsagePlan(300, 300, 10_000),
}


def stack_name(tenant_id: str, tier: Tier) -> str:
    """The stack that holds a tenant's resources in a tier."""
    return f"stack-{tenant_id if tier.silo else POOLED}"


PARTITION_KEY: Final = "shardId"


@dataclass(frozen=True)
class DataTable:
    """One of the tables that hold tenants' items; both keys are strings.

    Attributes:
        prefix: what its names begin with.
        sort_key: beside the partition key `PARTITION_KEY`.
        attributes: those that the model allows beside the keys, and the DynamoDB types that each may have.
    """

    prefix: str
    sort_key: str
    attributes: Mapping[str, frozenset[str]] = field(hash=False)

    def name(self, tenant_id: str, tier: Tier) -> str:
        """The table that holds a tenant's items in a tier."""
        return f"{self.prefix}-{tenant_id if tier.silo else POOLED}"


def _types(**attributes: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(types.split()) for name, types in attributes.items()}


PRODUCTS: Final = DataTable(
    "Product",
    "productId",
    _types(
        sku="S",
        name="S",
        price="N S",  # the reference writes a number, its older clients a string
        category="S",
        # optional, of tenants that keep more about a product
        details="M NULL",
        labels="SS",
        sizes="NS",
        picture="B",
        pictures="BS",
        discontinued="BOOL NULL",
        related="L",
        note="S NULL",
    ),
)
ORDERS: Final = DataTable(
    "Order", "orderId", _types(orderName="S", orderProducts="L", details="M NULL", paid="BOOL NULL", note="S NULL")
)
DATA_TABLES: Final = (PRODUCTS, ORDERS)


@dataclass(frozen=True)
class Route:
    """Where a tenant's requests go: what one conditional write switches."""

    tier: Tier
    user_pool_id: str
    app_client_id: str
    api_url: str
    api_key: str

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Route:
        """Read it from a row of `TENANTS`, in plain Python values."""
        return cls(
            Tier(item["tenantTier"]), item["userPoolId"], item["appClientId"], item["apiGatewayUrl"], item["apiKey"]
        )

    def to_item(self) -> dict[str, Any]:
        """As attributes of the tenant's row, in plain Python values."""
        return {
            "tenantTier": self.tier.value,
            "dedicatedTenancy": "true" if self.tier.silo else "false",
            "userPoolId": self.user_pool_id,
            "appClientId": self.app_client_id,
            "apiGatewayUrl": self.api_url,
            "apiKey": self.api_key,
        }


@dataclass(frozen=True)
class Tenant:
    """A tenant's row."""

    tenant_id: str
    name: str
    route: Route
    epoch: int = 0
    active: bool = True
    fenced_by: str | None = None

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Tenant:
        """Read a row of `TENANTS`, in plain Python values."""
        return cls(
            item["tenantId"],
            item["tenantName"],
            Route.from_item(item),
            int(item.get(EPOCH, 0)),
            bool(item.get("isActive", True)),
            item.get(FENCED_BY),
        )


def checked_tenant_id(tenant_id: str) -> str:
    """A tenant's id that may become part of a name.

    Raises:
        BadRequest: it may not.
    """
    if not isinstance(tenant_id, str) or not TENANT_ID.fullmatch(tenant_id) or tenant_id == POOLED:
        raise BadRequest(
            f"expected a tenant's id of 1 to 63 letters, digits and dashes that is not {POOLED!r}, found {tenant_id!r}"
        )
    return tenant_id
