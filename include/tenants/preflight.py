"""Whether a migration may begin. Everything is looked at before anything is refused, so that one try names all there is to mend."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import BadRequest, IdentityIncomplete, PreflightFailed
from include.tenants.plan import count_items, moves_data, source_tier, target_tier
from include.tenants.request import STREAM_HOURS
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, SETTINGS, Tier, stack_name
from include.tenants.states import State, reached
from include.tenants.user_ways import FUNCTION, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

STREAM_SHARE: Final = 0.5
"""Of the time that the stream keeps a change, what the copy may take: the replay needs the rest."""
TABLES_PER_REGION: Final = 2500
"""AWS's default quota of DynamoDB tables."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether the migration may begin for it.
        expected: what it has to be.
        found: what it is.
        todo: what to do if it is not; empty if it is.
    """

    name: str
    ok: bool
    expected: str
    found: str
    todo: str = ""


def preflight(p: Portability, migration: Migration, say: Callable[[str], None]) -> dict[str, Any]:
    """Look at everything that would end the migration later.

    Args:
        p: what to work with.
        migration: planned.
        say: told each finding.

    Returns:
        The findings, for the migration's notes.

    Raises:
        PreflightFailed: it must not begin; the message names all reasons.
    """
    findings = []
    for finding in _look(p, migration):
        say(f"{'ok ' if finding.ok else 'NOT'} {finding.name}: expected {finding.expected}, found {finding.found}")
        findings.append(finding)
    bad = [finding for finding in findings if not finding.ok]
    if bad:
        raise PreflightFailed(
            f"migration {migration.migration_id} of tenant {migration.tenant_id} must not begin: "
            + "; ".join(f"{each.name}: expected {each.expected}, found {each.found}; {each.todo}" for each in bad)
        )
    return {"findings": [asdict(finding) for finding in findings]}


def _look(p: Portability, migration: Migration) -> Iterator[Finding]:
    tenant = p.tenant(migration.tenant_id)
    epoch = migration.notes["source"]["epoch"]
    yield Finding(
        "route",
        tenant.epoch == epoch and tenant.route.tier is Tier(migration.notes["source"]["tier"]),
        f"epoch {epoch} in tier {migration.notes['source']['tier']}",
        f"epoch {tenant.epoch} in tier {tenant.route.tier}",
        "somebody has moved the tenant since it was planned: start another migration",
    )
    yield Finding(
        "fence",
        tenant.fenced_by in (None, migration.migration_id),
        "none",
        tenant.fenced_by or "none",
        "its migration has died in the fence: roll it back",
    )
    if moves_data(migration):
        yield from _look_at_tables(p, migration)
        yield _look_at_time(migration)
        yield from _look_at_others(p, migration)
        yield _look_at_shape(p, migration)
        yield _look_at_users(p, migration)
        if source_tier(migration).silo or target_tier(migration).silo:
            yield from _look_at_settings(p)
    if moves_data(migration) and source_tier(migration).silo:
        yield _look_at_stack(p, migration)
    if target_tier(migration).silo:
        yield from _look_at_quotas(p)
    yield _look_at_evidence(p)
    yield _look_at_key(p)
    yield _look_at_report(p, migration)


def _look_at_tables(p: Portability, migration: Migration) -> Iterator[Finding]:
    dynamodb = p.clients.dynamodb
    sort_keys = {table.prefix: table.sort_key for table in DATA_TABLES}
    for names in migration.notes["tables"]:
        wanted = {PARTITION_KEY: "HASH", sort_keys[names["prefix"]]: "RANGE"}
        described = dynamodb.describe_table(TableName=names["source"])["Table"]
        keys = {part["AttributeName"]: part["KeyType"] for part in described["KeySchema"]}
        yield Finding(
            f"keys of {names['source']}",
            keys == wanted,
            str(wanted),
            str(keys),
            "the application's model has changed: update include/tenants/saas.py",
        )
        view = described.get("StreamSpecification", {}).get("StreamViewType")
        yield Finding(
            f"stream of {names['source']}",
            view in (None, "NEW_IMAGE", "NEW_AND_OLD_IMAGES"),
            "none, or one with new images",
            str(view),
            "its other readers need that one: let them read NEW_AND_OLD_IMAGES",
        )
        try:
            items, _ = count_items(p, names["target"], migration.tenant_id)
        except BadRequest:
            items = 0  # the table is made later
        yield Finding(
            f"target {names['target']}",
            items == 0,
            "none of the tenant's items",
            f"{items:,}",
            "they are of an earlier migration: clean it up (clean_up_tenant_source), or look who wrote them",
        )


def _look_at_time(migration: Migration) -> Finding:
    units = sum(table["read_units"] for table in migration.notes["plan"]["tables"])
    hours = units / migration.request["read_units"] / 3600
    most = STREAM_HOURS * STREAM_SHARE
    return Finding(
        "time of the copy",
        hours <= most,
        f"at most {most:.0f} hours, since the stream keeps changes for {STREAM_HOURS}",
        f"{hours:.1f} hours at {migration.request['read_units']} read units a second",
        "give read_units a higher value",
    )


def _look_at_others(p: Portability, migration: Migration) -> Iterator[Finding]:
    names = _read_by(migration)
    others = [
        other.migration_id
        for other in p.store.all()
        if other.migration_id != migration.migration_id and names & _read_by(other)
    ]
    yield Finding(
        "migrations that read the same tables",
        len(others) < p.config.most_migrations,
        f"at most {p.config.most_migrations - 1} others",
        f"{len(others)}",
        f"let one of them end: {', '.join(others[:5])}",
    )


def _read_by(migration: Migration) -> set[str]:
    """The tables whose streams a migration reads, or is going to: the source's before the switch, the target's after it."""
    if migration.outcome:
        return set()
    side = "target" if reached(migration.state, State.SWITCHED) else "source"
    return {table[side] for table in migration.notes["tables"]}


def _look_at_shape(p: Portability, migration: Migration) -> Finding:
    from include.tenants.drift import find_drift

    drift = find_drift(p, migration)
    return Finding(
        "shape of the items",
        not drift,
        "what the target's model allows",
        "; ".join(str(each) for each in drift[:5]) or "that",
        "mend the items, or allow it in include/tenants/saas.py",
    )


def _look_at_users(p: Portability, migration: Migration) -> Finding:
    from include.tenants.identity import identity_obstacles

    try:
        faults = identity_obstacles(p, migration)
    except p.clients.cognito.exceptions.ResourceNotFoundException as error:
        faults = [str(error)]  # the tenant's row names a pool that is gone
    return Finding(
        "users",
        not faults,
        "nothing that keeps them from moving",
        "; ".join(faults[:5]) or "nothing",
        "mend the pools, the tenant's row or the setting that names them, or rename the users",
    )


def _look_at_settings(p: Portability) -> Iterator[Finding]:
    """What moving users needs, some of it only when their time is over."""
    from include.tenants.identity import IMPORT_ROLE

    for name, what in (
        (FUNCTION, "the ARN of the function"),
        (IMPORT_ROLE, "the ARN of the role that Cognito logs as"),
    ):
        try:
            found, ok = setting(p, name), True
        except IdentityIncomplete:
            found, ok = "none", False
        yield Finding(
            f"setting {name}", ok, what, found, f"deploy deploy/tenants/stack.json, and put it into {SETTINGS}"
        )


def _look_at_stack(p: Portability, migration: Migration) -> Finding:
    """Who deletes the silo's stack at the end: without a service role, CloudFormation would do it with the rights of whoever asks."""
    from include.tenants.resources import described

    stack = stack_name(migration.tenant_id, source_tier(migration))
    found = described(p, stack)
    return Finding(
        f"service role of {stack}",
        found is not None and bool(found.get("RoleARN")),
        "one, which may delete all that is in the stack",
        "no stack" if found is None else found.get("RoleARN") or "none",
        f"give it one (aws cloudformation update-stack --stack-name {stack} --use-previous-template --role-arn ..., with "
        "UsePreviousValue for its parameters), and let the pipeline make stacks with it; else it could not be deleted at the end",
    )


def _look_at_quotas(p: Portability) -> Iterator[Finding]:
    from include.tenants.identity import identity_quota

    count = sum(len(page["TableNames"]) for page in p.clients.dynamodb.get_paginator("list_tables").paginate())
    yield Finding(
        "tables in the region",
        count + len(DATA_TABLES) <= TABLES_PER_REGION,
        f"room for {len(DATA_TABLES)} more below {TABLES_PER_REGION}",
        f"{count}",
        "ask AWS for a higher quota",
    )
    used, most = identity_quota(p)
    yield Finding("user pools", used < most, f"room for one more below {most}", f"{used}", "ask AWS for a higher quota")


def _look_at_evidence(p: Portability) -> Finding:
    bucket = p.config.evidence_bucket
    try:
        locked = p.clients.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        found = locked.get("ObjectLockEnabled", "no lock")
    except Exception as error:  # none, or not readable: both mean that there would be no evidence
        found = str(error)
    return Finding(
        f"evidence bucket {bucket}", found == "Enabled", "object lock", found, "deploy deploy/tenants/stack.json"
    )


def _look_at_key(p: Portability) -> Finding:
    key = p.config.signing_key
    try:
        metadata = p.clients.kms.describe_key(KeyId=key)["KeyMetadata"]
        found = f"{metadata['KeyState']}, {metadata['KeyUsage']}"
    except Exception as error:
        found = str(error)
    return Finding(
        f"signing key {key}",
        found == "Enabled, SIGN_VERIFY",
        "Enabled, SIGN_VERIFY",
        found,
        "deploy deploy/tenants/stack.json",
    )


def _look_at_report(p: Portability, migration: Migration) -> Finding:
    """By a write: the migration's report, as it is now, is what an operator looks at first."""
    from include.tenants.report import publish

    try:
        publish(p, migration.migration_id)
        found = "one"
    except Exception as error:
        found = str(error)
    return Finding(
        f"report in {p.config.report_bucket}",
        found == "one",
        "one",
        found,
        "let the connection aws_tenants write to it (deploy/iam/tenant_portability.json)",
    )
