"""The trigger forms of the tenant DAGs: each param with its JSON schema, a title and what it is for."""

from __future__ import annotations

from typing import Any, Final

from airflow.sdk import Param

from include.tenants.request import LIMITS, MigrationRequest
from include.tenants.saas import TENANT_ID, Tier

_DEFAULTS: Final = MigrationRequest("any", Tier.BASIC)


def tenant_param() -> Param:
    """Which tenant."""
    return Param(
        None,
        type="string",
        pattern=TENANT_ID.pattern,
        title="Tenant",
        description="Its id, as in the column tenantId of ServerlessSaaS-TenantDetails.",
    )


def why_param(what: str) -> Param:
    """Why; it becomes part of the audit trail. Not named ``reason``: Airflow would fill it into the form of a person's decision."""
    return Param(None, type="string", minLength=10, maxLength=1000, title="Reason", description=what)


def migration_params() -> dict[str, Any]:
    """Of `migrate_tenant`, in the form's order."""
    return {
        "tenant_id": tenant_param(),
        "target_tier": Param(
            None,
            type="string",
            enum=[tier.value for tier in Tier],
            title="Target tier",
            description="Basic, Standard and Premium share tables and user pool; Platinum has its own.",
        ),
        "why": why_param("Why the tenant moves: who asked for it, which ticket. Part of the signed evidence."),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Say what would be created, copied, switched and deleted, and how long it would take. Changes nothing.",
        ),
        "budget_seconds": _number(
            "budget_seconds",
            "Budget without writes (seconds)",
            "Most that the tenant's writes are kept out at the cutover. If the last changes have not drained by then, writes go on and "
            "nothing is switched.",
        ),
        "approve_within_minutes": _number(
            "approve_within_minutes",
            "Time to approve (minutes)",
            "How long a person has to approve the cutover. Silence refuses.",
        ),
        "soak_minutes": _number(
            "soak_minutes",
            "Soak (minutes)",
            "How long changes are replayed back after the switch, so that it can be rolled back without loss.",
        ),
        "most_lag_seconds": _number(
            "most_lag_seconds",
            "Most lag before the cutover (seconds)",
            "The fence is closed only when the replay is at most so far behind.",
        ),
        "identity_days": _number(
            "identity_days",
            "Deadline for passwords (days)",
            "Users bring their passwords along at their first login until then; the rest is imported without and has to choose new ones.",
        ),
        "read_units": _number(
            "read_units",
            "Read units per second",
            "Most read capacity that the copy takes from the source's tables.",
        ),
    }


def _number(name: str, title: str, description: str) -> Param:
    least, most = LIMITS[name]
    return Param(
        getattr(_DEFAULTS, name),
        type="number",
        minimum=least,
        maximum=most,
        title=title,
        description=f"{description} {least:g} to {most:g}.",
        section="Limits",
    )
