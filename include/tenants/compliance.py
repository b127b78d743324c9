"""What has to be true of the target before a tenant's items go there; each looked up where it is, not where it was asked for.

What the tenant has of its own must be as the source had it or stricter. Of what pooled tenants share, tags, deletion protection and the way
capacity is paid for are the platform's to choose: they are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants import user_pools
from include.tenants.archive import check_bucket, signing_key
from include.tenants.configuration import find_plan, stage_of, stages_of, usage_plan
from include.tenants.exceptions import EvidenceInvalid, IsolationBroken, ProvisioningFailed
from include.tenants.identity import check_claims
from include.tenants.isolation import check_isolation
from include.tenants.observability import differences
from include.tenants.plan import moves_data, source_tier, target_tier
from include.tenants.saas import DATA_TABLES, USAGE_PLANS, stack_name
from include.tenants.tables import OWNER_TAG, expected_keys, facts, wanted_tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

_FACTORS: Final = ("OFF", "OPTIONAL", "ON")
_NONE: Final = "none"
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is as it has to be.
        found: what it is.
        expected: what it has to be.
    """

    name: str
    ok: bool
    found: str
    expected: str


def run_checks(p: Portability, migration: Migration) -> list[Check]:
    """Look at everything; what is not right is told, not raised, so that one look names all there is to mend."""
    checks = [*_evidence(p), *_plan(p, migration), _isolation(p, migration)]
    if moves_data(migration):
        checks += [*_tables(p, migration), *_watch(p, migration), *_identity(p, migration)]
    return sorted(checks, key=lambda check: check.name)


def _equal(name: str, found: object, expected: object) -> Check:
    return Check(name, found == expected, str(found), str(expected))


def _evidence(p: Portability) -> Iterator[Check]:
    bucket = p.config.evidence_bucket
    try:
        check_bucket(p.clients.s3, bucket)
        yield _equal(f"evidence bucket {bucket}", "object lock", "object lock")
    except EvidenceInvalid as error:
        yield _equal(f"evidence bucket {bucket}", str(error), "object lock")
    try:
        algorithm = signing_key(p)[1]
        yield _equal(f"signing key {p.config.signing_key}", algorithm, algorithm)
    except EvidenceInvalid as error:
        yield _equal(f"signing key {p.config.signing_key}", str(error), "a key that signs")


def _plan(p: Portability, migration: Migration) -> Iterator[Check]:
    tier = target_tier(migration)
    limits = USAGE_PLANS[tier]
    expected = f"{limits.rate}/s, burst {limits.burst}, {limits.quota} a day"
    plan = find_plan(p, tier)
    if plan is None:
        yield _equal(f"usage plan of {tier}", _NONE, expected)
        return
    throttle, quota = plan.get("throttle", {}), plan.get("quota", {})
    period = str(quota.get("period", "")).lower()
    found = f"{throttle.get('rateLimit', 0):g}/s, burst {throttle.get('burstLimit')}, {quota.get('limit')} a {period}"
    yield _equal(f"usage plan of {tier}", found, expected)
    try:
        usage_plan(p, migration.tenant_id, tier)
        stage = stage_of(p, stack_name(migration.tenant_id, tier))
        named = "the target's API" if stage in stages_of(plan) else "not the target's API"
    except ProvisioningFailed as error:
        named = str(error)
    yield _equal(f"usage plan of {tier}: APIs", named, "the target's API")


def _isolation(p: Portability, migration: Migration) -> Check:
    expected = "own items allowed, all others' denied"
    try:
        found = check_isolation(p, migration)
    except (IsolationBroken, ProvisioningFailed) as error:
        return Check("isolation", ok=False, found=str(error), expected=expected)
    text = (
        f"{found['allowed']} own requests allowed, {found['denied']} others denied ({found['other_tenants']} tenants)"
    )
    return Check("isolation", ok=True, found=text, expected=expected)


def _tables(p: Portability, migration: Migration) -> Iterator[Check]:
    tier = target_tier(migration)
    for table in DATA_TABLES:
        source = facts(p, table.name(migration.tenant_id, source_tier(migration)))
        name = table.name(migration.tenant_id, tier)
        try:
            found = facts(p, name)
        except ProvisioningFailed:
            yield _equal(f"table {name}", _NONE, "the table")
            continue
        yield _equal(f"table {name}: keys", _keys(found.keys), _keys(expected_keys(table)))
        yield _equal(f"table {name}: encryption at rest", found.encryption, "KMS")
        yield _equal(f"table {name}: point-in-time recovery", _on(found.recoverable), "on")
        if tier.silo:
            wanted = wanted_tags(source, migration.tenant_id)
            tags = {key: value for key, value in found.tags.items() if key in wanted or key == OWNER_TAG}
            yield _equal(f"table {name}: tags", tags, dict(sorted(wanted.items())))
            yield _equal(f"table {name}: deletion protection", _on(found.protected), "on")
            yield _equal(f"table {name}: capacity by request", _on(found.on_demand), "on")


def _watch(p: Portability, migration: Migration) -> Iterator[Check]:
    source = stack_name(migration.tenant_id, source_tier(migration))
    target = stack_name(migration.tenant_id, target_tier(migration))
    found = differences(p, source, target)
    if not target_tier(migration).silo:
        # what the pooled stack has otherwise is for all pooled tenants, and stays
        found = [each for each in found if each.endswith("expected it, found none")]
    for kind in ("alarm", "log group", "metric filter"):
        of_kind = [each for each in found if each.startswith(f"{kind} ")]
        yield _equal(f"{kind}s of {target}", "; ".join(of_kind[:_MOST_NAMED]) or f"as of {source}", f"as of {source}")


def _identity(p: Portability, migration: Migration) -> Iterator[Check]:
    identity = migration.notes.get("identity")
    if identity is None:
        yield _equal("identity", _NONE, "the target's user pool")
        return
    pool_id = identity["user_pool_id"]
    source = user_pools.described(p, migration.notes["source"]["user_pool_id"])
    target = user_pools.described(p, pool_id)
    weaker = _weaker(source, target)
    yield _equal(f"user pool {pool_id}: passwords", "; ".join(weaker) or "as strict", "as strict")
    before, after = (pool.get("MfaConfiguration", "OFF") for pool in (source, target))
    yield Check(
        f"user pool {pool_id}: second factor",
        _FACTORS.index(after) >= _FACTORS.index(before),
        found=after,
        expected=f"at least {before}",
    )
    client = user_pools.described_client(p, pool_id, identity["app_client_id"])
    writable = ", ".join(user_pools.writable_claims(client))
    yield _equal(f"user pool {pool_id}: claims that users can write", writable or _NONE, _NONE)
    faults = check_claims(p, migration)
    yield _equal(f"user pool {pool_id}: users", "; ".join(faults[:_MOST_NAMED]) or "as they were", "as they were")
    if target_tier(migration).silo:
        protection = target.get("DeletionProtection", "INACTIVE")
        yield _equal(f"user pool {pool_id}: deletion protection", protection, "ACTIVE")


def _weaker(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    """What the target's password policy asks less of than the source's."""
    before, after = (pool.get("Policies", {}).get("PasswordPolicy", {}) for pool in (source, target))
    found = [
        f"{name} {after.get(name)} instead of {before[name]}"
        for name in ("MinimumLength", "PasswordHistorySize")
        if before.get(name, 0) > after.get(name, 0)
    ]
    found += [
        f"{name} is off"
        for name in sorted(before)
        if name.startswith("Require") and before[name] and not after.get(name, False)
    ]
    valid = "TemporaryPasswordValidityDays"
    if before.get(valid, 0) and after.get(valid, 0) > before[valid]:
        found.append(f"{valid} {after[valid]} instead of {before[valid]}")
    return found


def _keys(keys: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in keys)


def _on(value: bool) -> str:
    return "on" if value else "off"
