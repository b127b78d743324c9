"""What an operator asks for: which tenant goes where, within which limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import BadRequest
from include.tenants.saas import Tier, checked_tenant_id

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAM_HOURS: Final = 24
"""How long DynamoDB Streams keeps a change."""

LIMITS: Final[dict[str, tuple[float, float]]] = {
    "approve_within_minutes": (1, 12 * 60),  # the replay goes on meanwhile; a person sleeps once
    "budget_seconds": (1, 120),
    "most_lag_seconds": (1, 600),
    "soak_minutes": (0, 12 * 60),
    "identity_days": (1, 90),
    "read_units": (1, 40_000),
}
"""Least and most of each number."""


@dataclass(frozen=True)
class MigrationRequest:
    """What was asked for; checked when it is made.

    Attributes:
        tenant_id: whose data, users and configuration move.
        target_tier: where to.
        why: in the words of who asks, for the audit.
        approve_within_minutes: how long a person has to approve the cutover.
        budget_seconds: most that the tenant's writes are kept out; past it the fence opens by itself.
        most_lag_seconds: the cutover begins only when the replay is at most so far behind.
        soak_minutes: how long changes are replayed back to the source after the switch, so that it can be rolled back.
        identity_days: how long users bring their passwords along at their first login; then the rest is imported without.
        read_units: most read capacity units per second that the copy takes from the source.

    Raises:
        BadRequest: a value is out of bounds.
    """

    tenant_id: str
    target_tier: Tier
    why: str = ""
    approve_within_minutes: float = 240
    budget_seconds: float = 30
    most_lag_seconds: float = 10
    soak_minutes: float = 60
    identity_days: float = 30
    read_units: float = 1000

    def __post_init__(self) -> None:
        """Check it."""
        checked_tenant_id(self.tenant_id)
        if self.target_tier not in set(Tier):
            raise BadRequest(
                f"target_tier: expected one of {[tier.value for tier in Tier]}, found {self.target_tier!r}"
            )
        object.__setattr__(self, "target_tier", Tier(self.target_tier))
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise BadRequest(f"{name}: expected a number from {least} to {most}, found {value!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> MigrationRequest:
        """Read it from a DAG run's params or a migration's row; what it doesn't know is left alone.

        Raises:
            BadRequest: a value is missing or out of bounds.
        """
        known = {each.name for each in fields(cls)}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        missing = {"tenant_id", "target_tier"} - given.keys()
        if missing:
            raise BadRequest(f"expected {', '.join(sorted(missing))} to be given")
        return cls(**given)

    def to_mapping(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"target_tier": self.target_tier.value}
