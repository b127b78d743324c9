"""A tenant's users move to the target's pool, with names, claim, passwords, and the id that the application knows them by.

Cognito gives neither password hashes nor second factors away, and chooses each pool's ``sub`` itself. So the move has two phases:

1. `port_identity`, before anything is switched: the target's pool, app client and group; and the way over
   (`include.tenants.user_migration`): at the first login in the target pool the typed password is tried at the source pool, and the user is
   made with it. Until the deadline the source pool stays, and the application accepts both issuers.
2. `finish_identity`, at the deadline: whoever has not logged in is imported without a password, and can set one by a code; the way over is
   closed. The names of those who have to do something are put beside the migration's report.

What says who is whose is the tenant claim of the source pool's record, nothing else. ``custom:legacySub`` carries the id of the first
pool through all moves, so the application's own references stay right. In a pool shared by tenants a user name must be free: one that
another tenant has is found before anything is made. Between two pooled tiers nobody moves.

Any of it may be done again: everything is looked for before it is made.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from include.tenants import user_pools
from include.tenants.exceptions import IdentityIncomplete, TenantUnknown
from include.tenants.plan import source_tier, target_tier
from include.tenants.saas import TENANT_CLAIM, TENANT_USERS
from include.tenants.user_import import WAIT_SECONDS, create_user, import_users
from include.tenants.user_migration import LEGACY_SUB, moved_attributes
from include.tenants.user_pools import patiently
from include.tenants.user_ways import FUNCTION, MADE_BY, attach, close_way, make_verifier, open_way, setting, way, ways

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from include.tenants.portability import Portability
    from include.tenants.store import Migration
    from include.tenants.user_pools import User

POOLED_POOL: Final = "userPoolId-pooled"
POOLED_CLIENT: Final = "appClientId-pooled"
IMPORT_ROLE: Final = "userImportRole"
"""Setting: ARN of the role by which Cognito writes the log of an import."""
APP_CLIENT: Final = "ServerlessSaaSClient"
POOLS_PER_REGION: Final = 1000
"""Cognito's quota unless AWS was asked for more."""
SOON_SECONDS: Final = 120.0
"""How long a rollback waits for an import before it goes on without it."""
_MOST_NAMES: Final = 10
_LOOK_EVERY: Final = 25
"""Users that are deleted before it is looked again whether they may be."""


@dataclass(frozen=True)
class IdentityCoverage:
    """How far a tenant's users have come.

    Attributes:
        users: in the source pool.
        migrated: of them in the target pool, with a password.
        imported: of them in the target pool, without one yet.
        missing: of them not in the target pool yet.
        new: in the target pool only: made since the switch.
        disabled: of the source's, who may not log in.
    """

    users: int = 0
    migrated: int = 0
    imported: int = 0
    missing: int = 0
    new: int = 0
    disabled: int = 0

    @property
    def share(self) -> float:
        """Of the source's users that are in the target pool."""
        return 1 - self.missing / self.users if self.users else 1.0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True)
class IdentityFinish:
    """How the second phase went.

    Attributes:
        imported: users that were in the import files.
        created: users that were made one by one.
        to_notify: users without a password of their own.
        notify_key: S3 key, in the bucket of reports, of the list of their names.
        coverage: afterwards.
    """

    imported: int
    created: int
    to_notify: int
    notify_key: str
    coverage: IdentityCoverage

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"coverage": self.coverage.to_json()}


def silo_pool_name(tenant_id: str) -> str:
    """The name of a silo tenant's pool."""
    return f"{tenant_id}-ServerlessSaaSUserPool"


def identity_quota(p: Portability) -> tuple[int, int]:
    """How many pools there are, and how many there may be."""
    return len(user_pools.pools(p)), POOLS_PER_REGION


def port_identity(p: Portability, migration: Migration, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the target's pool, client and group, and open the way over.

    Returns:
        What goes into the migration's notes as ``identity``: ``user_pool_id`` and ``app_client_id`` of the target, those of the source, the
        deadline in milliseconds, the number of users. No names.

    Raises:
        IdentityIncomplete: the users can't move as they are; the message says which, and why.
    """
    source = migration.notes["source"]
    source_pool, source_client = source["user_pool_id"], source["app_client_id"]
    if not _moves(migration):
        return {"moves": False, "user_pool_id": source_pool, "app_client_id": source_client}
    tenant_id = migration.tenant_id
    moving = list(user_pools.users(p, source_pool, tenant_id))
    faults = list(_obstacles(p, migration, moving))
    if faults:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected nothing that keeps its {len(moving)} users from moving, found {len(faults)} obstacles: "
            f"{'; '.join(faults[:_MOST_NAMES])}"
        )
    if target_tier(migration).silo:
        pool_id, client_id = _own_pool(p, migration, source_pool, source_client)
    else:
        pool_id, client_id = _shared_pool(p, source_pool)
    _make_group(p, pool_id, migration)
    verifier = make_verifier(p, source_pool, tenant_id)
    deadline = open_way(p, migration, source_pool, verifier, pool_id)
    attach(p, pool_id, setting(p, FUNCTION))
    say(f"{len(moving)} users of {source_pool} keep their passwords at their first login in {pool_id}")
    return {
        "moves": True,
        "user_pool_id": pool_id,
        "app_client_id": client_id,
        "source_user_pool_id": source_pool,
        "source_app_client_id": source_client,
        "deadline": deadline,
        "users": len(moving),
    }


def identity_obstacles(p: Portability, migration: Migration) -> list[str]:
    """What keeps the tenant's users from moving as they are; empty if nothing does. Reads only."""
    if not _moves(migration):
        return []
    source_pool = migration.notes["source"]["user_pool_id"]
    return list(_obstacles(p, migration, list(user_pools.users(p, source_pool, migration.tenant_id))))


def require_closed(p: Portability, migration: Migration) -> None:
    """Look that no user has to be asked for at the old pool any more, before it goes.

    Raises:
        IdentityIncomplete: the way over is open still.
    """
    target_pool = migration.notes.get("identity", {}).get("user_pool_id") or _target_of(p, migration)
    if target_pool and way(p, target_pool, migration.tenant_id):
        raise IdentityIncomplete(
            f"tenant {migration.tenant_id}: expected all users to have come over from {migration.notes['source']['user_pool_id']}, found "
            "the way still open; run finish_tenant_identity for it first"
        )


def identities_due(p: Portability, tenant_id: str | None = None) -> list[str]:
    """The migrations whose users' time is over, by id: the way is open still, the tenant is on the target, the deadline has passed.

    Args:
        p: what the steps work with.
        tenant_id: only this tenant's, whatever its deadline.
    """
    found = []
    for migration in p.store.all():
        identity = migration.notes.get("identity", {})
        if not identity.get("moves") or tenant_id not in (None, migration.tenant_id):
            continue
        pool_id = identity["user_pool_id"]
        row = way(p, pool_id, migration.tenant_id)
        if row is None or row["holder"]["S"] != migration.migration_id:
            continue
        over = tenant_id is not None or int(row["deadline"]["N"]) <= p.clock() * 1000
        with contextlib.suppress(TenantUnknown):  # one that has left must not keep the others waiting
            if over and p.tenant(migration.tenant_id).route.user_pool_id == pool_id:
                found.append(migration.migration_id)
    return found


def coverage(p: Portability, migration: Migration) -> IdentityCoverage:
    """Count who is where. Also puts those who came over by themselves into the tenant's group."""
    if not _moves(migration):
        return IdentityCoverage()
    reconcile_groups(p, migration)
    source, target = _both(p, migration)
    there = [target[name] for name in source if name in target]
    return IdentityCoverage(
        users=len(source),
        migrated=sum(not user.waits for user in there),
        imported=sum(user.waits for user in there),
        missing=len(source) - len(there),
        new=len(target.keys() - source.keys()),
        disabled=sum(not user.enabled for user in source.values()),
    )


def reconcile_groups(p: Portability, migration: Migration) -> int:
    """Put the tenant's users of the target pool into its group; gives how many were not. The trigger can't: there is no user yet then."""
    if not _moves(migration):
        return 0
    pool_id = migration.notes["identity"]["user_pool_id"]
    return _fill_group(p, pool_id, migration.tenant_id)


def check_claims(p: Portability, migration: Migration) -> list[str]:
    """What of the target's users and its app client isn't as the source has it; empty if all is.

    Users who are not there yet are no fault (`coverage` counts them), but what is there must be right.
    """
    if not _moves(migration):
        return []
    identity, tenant_id = migration.notes["identity"], migration.tenant_id
    pool_id = identity["user_pool_id"]
    client = user_pools.described_client(p, pool_id, identity["app_client_id"])
    faults = [
        f"users could write {claim} by the app client {client['ClientId']}"
        for claim in user_pools.writable_claims(client)
    ]
    faults += [
        f"the app client {client['ClientId']} does not show {claim}"
        for claim in user_pools.OWN_CLAIMS
        if claim not in client.get("ReadAttributes", [])
    ]
    source, target = _both(p, migration)
    grouped = user_pools.members(p, pool_id, tenant_id)
    faults += [
        f"user {name} is in the tenant's group, but not the tenant's" for name in sorted(grouped - target.keys())
    ]
    for name in sorted(source.keys() & target.keys()):
        before, after = source[name], target[name]
        if after.origin != before.origin:
            faults.append(f"user {name}: expected {LEGACY_SUB} {before.origin}, found {after.origin}")
        if not before.enabled and after.enabled:
            faults.append(f"user {name}: expected to be disabled as in the source")
    return faults


def finish_identity(p: Portability, migration: Migration, say: Callable[[str], None]) -> IdentityFinish:
    """Import whoever has not come over by now, and close the way.

    Raises:
        IdentityIncomplete: the tenant isn't on the target, or not every user has come out right; the way stays open.
    """
    if not _moves(migration):
        return IdentityFinish(0, 0, 0, "", IdentityCoverage())
    identity, tenant_id = migration.notes["identity"], migration.tenant_id
    source_pool, pool_id = identity["source_user_pool_id"], identity["user_pool_id"]
    routed = p.tenant(tenant_id).route.user_pool_id
    if routed != pool_id:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected its logins to go to {pool_id}, found {routed}; finish after the switch"
        )
    imported, created = _bring_the_rest(p, migration, source_pool, pool_id, say)
    source, target = _both(p, migration)
    missing = sorted(source.keys() - target.keys())
    faults = [*(f"user {name} is missing" for name in missing), *check_claims(p, migration)]
    if faults:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected the users of {pool_id} to be those of {source_pool}, found {len(faults)} faults: "
            f"{'; '.join(faults[:_MOST_NAMES])}; mend them and finish again"
        )
    waiting = [user for user in target.values() if user.waits and user.enabled]
    key = _write_notify_list(p, migration, waiting)
    close_way(p, migration, source_pool, pool_id)
    say(f"{len(waiting)} users have to set a password: s3://{p.config.report_bucket}/{key}")
    done = IdentityFinish(imported, created, len(waiting), key, coverage(p, migration))
    p.store.note(
        migration.migration_id, {"identity_finish": done.to_json(), "identity_coverage": done.coverage.to_json()}
    )
    return done


def return_identity(
    p: Portability, migration: Migration, say: Callable[[str], None], *, seconds: float = SOON_SECONDS
) -> int:
    """After a rollback: bring users that were made in the target pool since the switch to the source pool; gives how many.

    They have to set a password. Who moved is in the source pool still, with the password that it had there. Only adds: called before
    anything is switched back, or without end, it does no harm; what it could not bring it brings the next time.

    Args:
        p: what the steps work with.
        migration: past its switch.
        say: tells how it goes.
        seconds: how long to wait for Cognito; short by default, since people wait for a rollback.

    Raises:
        IdentityIncomplete: some are missing in the source pool still.
    """
    if not _moves(migration) or "identity" not in migration.notes:
        return 0
    identity, tenant_id = migration.notes["identity"], migration.tenant_id
    from_pool, to_pool = identity["user_pool_id"], identity["source_user_pool_id"]
    try:
        user_pools.described(p, from_pool)
    except p.clients.cognito.exceptions.ResourceNotFoundException:
        return 0  # a clean-up has removed it, after it had brought everybody
    if from_pool == to_pool:
        return 0
    imported, created = _bring_the_rest(p, migration, from_pool, to_pool, say, seconds)
    source = {user.name for user in user_pools.users(p, to_pool, tenant_id)}
    missing = sorted({user.name for user in user_pools.users(p, from_pool, tenant_id)} - source)
    if missing:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected all its users of {from_pool} to be in {to_pool} too, found {len(missing)} missing: "
            f"{', '.join(missing[:_MOST_NAMES])}; is a name there another tenant's? Rename those users, and try again"
        )
    return imported + created


def remove_identity(
    p: Portability,
    migration: Migration,
    say: Callable[[str], None] = lambda _: None,
    *,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Remove the tenant's users from the pool that it isn't routed to; gives how many there were.

    A silo's pool goes as a whole, if it is the tenant's by its name; of a shared one only this tenant's users and group. While the tenant's
    users may still come over from there, nothing is removed.

    Args:
        p: what the steps work with.
        migration: over.
        say: tells what happens.
        before: called right before anything is deleted; it raises if nothing may be.

    Raises:
        IdentityIncomplete: the pool is still needed, or isn't the tenant's.
    """
    if not _moves(migration):
        return 0
    tenant_id, source_pool = migration.tenant_id, migration.notes["source"]["user_pool_id"]
    target_pool = migration.notes.get("identity", {}).get("user_pool_id") or _target_of(p, migration)
    routed = p.tenant(tenant_id).route.user_pool_id
    if routed == source_pool:
        if target_pool is None:
            return 0
        before()
        close_way(p, migration, source_pool, target_pool)
        if target_pool == source_pool:
            say(f"the users of tenant {tenant_id} are in {source_pool}, which it is routed to: none was removed")
            return 0
        return _remove_from(p, tenant_id, target_pool, say, before)
    if routed != target_pool:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected its logins to go to {source_pool} or {target_pool}, found {routed}; nothing was removed"
        )
    require_closed(p, migration)
    if source_pool == target_pool:
        say(f"the users of tenant {tenant_id} are in {target_pool}, which it is routed to: none was removed")
        return 0
    return _remove_from(p, tenant_id, source_pool, say, before)


def _moves(migration: Migration) -> bool:
    """Whether users move: they don't between two pooled tiers."""
    return source_tier(migration).silo or target_tier(migration).silo


def _both(p: Portability, migration: Migration) -> tuple[dict[str, User], dict[str, User]]:
    identity = migration.notes["identity"]
    source, target = (
        {user.name: user for user in user_pools.users(p, identity[pool], migration.tenant_id)}
        for pool in ("source_user_pool_id", "user_pool_id")
    )
    return source, target


def _obstacles(p: Portability, migration: Migration, moving: list[User]) -> Iterator[str]:
    shared = not target_tier(migration).silo
    for name in (FUNCTION, IMPORT_ROLE, *((POOLED_POOL, POOLED_CLIENT) if shared else ())):
        try:
            setting(p, name)
        except IdentityIncomplete as error:
            yield str(error)
            if name in (POOLED_POOL, POOLED_CLIENT):
                return
    source_pool = migration.notes["source"]["user_pool_id"]
    if shared and source_pool == setting(p, POOLED_POOL):
        yield (
            f"the users are in the pooled tiers' {source_pool} already, although the tenant is a silo's: put them into a pool "
            f"{silo_pool_name(migration.tenant_id)} and route the tenant there, or ask who has changed its row"
        )
        return
    if user_pools.described(p, source_pool).get("UsernameAttributes"):
        yield f"in {source_pool} Cognito makes up the users' names: they would change with the pool"
    federated = [user.name for user in moving if user.status == "EXTERNAL_PROVIDER"]
    if federated:
        yield (
            f"{len(federated)} users of {source_pool} log in by another identity provider ({', '.join(federated[:_MOST_NAMES])}): "
            "connect it to the target pool, and remove them here"
        )
    yield from _obstacles_in_shared(p, migration, moving) if shared else _obstacles_in_own(p, migration)


def _obstacles_in_own(p: Portability, migration: Migration) -> Iterator[str]:
    for pool_id, made_by in _pools_of(p, migration.tenant_id).items():
        if made_by != migration.migration_id:
            yield (
                f"there is a user pool {silo_pool_name(migration.tenant_id)} ({pool_id}) that this migration has not made; if nobody needs "
                "it, delete it"
            )


def _obstacles_in_shared(p: Portability, migration: Migration, moving: list[User]) -> Iterator[str]:
    """Also user names that another user there has, or of a tenant on its way there; and those that nobody could tell whose they are."""
    pool_id = setting(p, POOLED_POOL)
    client = user_pools.described_client(p, pool_id, setting(p, POOLED_CLIENT))
    for claim in user_pools.writable_claims(client):
        yield f"users could write {claim} by the app client {client['ClientId']}: take it from what that may write"
    if user_pools.TYPED_LOGIN not in client.get("ExplicitAuthFlows", []):
        yield f"the app client {client['ClientId']} lacks {user_pools.TYPED_LOGIN}: Cognito sees no passwords that could be taken along"
    others = {tenant: row for tenant, row in ways(p, pool_id).items() if tenant != migration.tenant_id}
    mapped = _mapped_names(p, migration.tenant_id)
    for each in moving:
        there = user_pools.user(p, pool_id, each.name)
        if there and (there.attributes.get(TENANT_CLAIM), there.origin) != (migration.tenant_id, each.origin):
            yield f"the user name {each.name} is taken in {pool_id}"
        for tenant, row in others.items():
            if user_pools.user(p, row["sourcePool"]["S"], each.name):
                yield f"the user name {each.name} is also one of tenant {tenant}, which is on its way to {pool_id}"
        if each.name not in mapped:
            yield f"the user {each.name} is not in {TENANT_USERS}, which tells the function whose it is"


def _own_pool(p: Portability, migration: Migration, source_pool: str, source_client: str) -> tuple[str, str]:
    """The pool and client of a tenant of its own."""
    pool_id = _pool_made(p, migration)
    if pool_id is None:
        tags = user_pools.described(p, source_pool).get("UserPoolTags") or {}
        pool_id = user_pools.make_pool_like(
            p, silo_pool_name(migration.tenant_id), source_pool, {**tags, MADE_BY: migration.migration_id}
        )
    user_pools.mirror_second_factors(p, source_pool, pool_id)
    client = user_pools.described_client(p, source_pool, source_client)
    return pool_id, user_pools.make_client_like(p, pool_id, APP_CLIENT, client)


def _pools_of(p: Portability, tenant_id: str) -> dict[str, str]:
    """The pools that have the name of a silo tenant's, and which migration made each."""
    return {
        pool["Id"]: (user_pools.described(p, pool["Id"]).get("UserPoolTags") or {}).get(MADE_BY, "")
        for pool in user_pools.pools(p)
        if pool["Name"] == silo_pool_name(tenant_id)
    }


def _pool_made(p: Portability, migration: Migration) -> str | None:
    """The pool that this migration has made already."""
    made = _pools_of(p, migration.tenant_id).items()
    return next((pool_id for pool_id, made_by in made if made_by == migration.migration_id), None)


def _shared_pool(p: Portability, source_pool: str) -> tuple[str, str]:
    """The pool and client that all pooled tenants share; the client shows the users' ids afterwards."""
    pool_id, client_id = setting(p, POOLED_POOL), setting(p, POOLED_CLIENT)
    user_pools.ensure_attributes(p, source_pool, pool_id)
    user_pools.show_claims(p, pool_id, client_id)
    return pool_id, client_id


def _mapped_names(p: Portability, tenant_id: str) -> set[str]:
    pages = p.clients.dynamodb.get_paginator("query").paginate(
        TableName=TENANT_USERS,
        ConsistentRead=True,
        KeyConditionExpression="tenantId = :tenant",
        ExpressionAttributeValues={":tenant": {"S": tenant_id}},
    )
    return {row["userName"]["S"] for page in pages for row in page["Items"]}


def _make_group(p: Portability, pool_id: str, migration: Migration) -> None:
    cognito = p.clients.cognito
    try:
        patiently(
            p,
            cognito.create_group,
            UserPoolId=pool_id,
            GroupName=migration.tenant_id,
            Description=f"users of tenant {migration.tenant_id}",
        )
    except cognito.exceptions.GroupExistsException:
        return


def _fill_group(p: Portability, pool_id: str, tenant_id: str) -> int:
    there = user_pools.members(p, pool_id, tenant_id)
    absent = [user.name for user in user_pools.users(p, pool_id, tenant_id) if user.name not in there]
    for name in absent:
        patiently(p, p.clients.cognito.admin_add_user_to_group, UserPoolId=pool_id, GroupName=tenant_id, Username=name)
    return len(absent)


def _bring_the_rest(
    p: Portability,
    migration: Migration,
    from_pool: str,
    to_pool: str,
    say: Callable[[str], None],
    seconds: float = WAIT_SECONDS,
) -> tuple[int, int]:
    """Make whoever is missing in a pool, disable who was disabled, fill the group."""
    tenant_id = migration.tenant_id
    before = {user.name: user for user in user_pools.users(p, from_pool, tenant_id)}

    def missing() -> dict[str, dict[str, str]]:
        there = {user.name for user in user_pools.users(p, to_pool, tenant_id)}
        return {name: _moved(user) for name, user in before.items() if name not in there}

    imported = created = 0
    if rest := missing():
        user_pools.ensure_attributes(p, from_pool, to_pool)
        imported, created = import_users(
            p,
            to_pool,
            rest,
            name=f"tenant-{tenant_id}-{migration.migration_id}"[:128],
            role_arn=setting(p, IMPORT_ROLE),
            say=say,
            seconds=seconds,
        )
        for name, attributes in missing().items():  # what the import would not take
            create_user(p, to_pool, name, attributes)
    for user in user_pools.users(p, to_pool, tenant_id):
        if user.enabled and user.name in before and not before[user.name].enabled:
            patiently(p, p.clients.cognito.admin_disable_user, UserPoolId=to_pool, Username=user.name)
    _fill_group(p, to_pool, tenant_id)
    return imported, created


def _moved(user: User) -> dict[str, str]:
    return moved_attributes([{"Name": name, "Value": value} for name, value in user.attributes.items()])


def _write_notify_list(p: Portability, migration: Migration, waiting: Iterable[User]) -> str:
    key = f"tenants/{migration.tenant_id}/{migration.migration_id}/users-to-notify.json"
    listed = [{"user": user.name, "by": _reached_by(user.attributes)} for user in waiting]
    body = json.dumps(
        {"tenant": migration.tenant_id, "users": sorted(listed, key=lambda row: str(row["user"]))}, indent=1
    )
    p.clients.s3.put_object(Bucket=p.config.report_bucket, Key=key, Body=body.encode(), ContentType="application/json")
    return key


def _reached_by(attributes: Mapping[str, str]) -> str | None:
    """How a code reaches the user; None: an administrator has to set the password."""
    kinds = ("email", "phone_number")
    return next((kind for kind in kinds if attributes.get(kind) and attributes.get(f"{kind}_verified") == "true"), None)


def _target_of(p: Portability, migration: Migration) -> str | None:
    """The target's pool, of a migration that ended before it was noted."""
    if target_tier(migration).silo:
        return _pool_made(p, migration)
    return setting(p, POOLED_POOL)


def _remove_from(
    p: Portability, tenant_id: str, pool_id: str, say: Callable[[str], None], before: Callable[[], None]
) -> int:
    cognito = p.clients.cognito
    before()
    _refuse_if_routed(p, tenant_id, pool_id)
    try:
        pool = user_pools.described(p, pool_id)
    except cognito.exceptions.ResourceNotFoundException:
        return 0
    if pool_id != setting(p, POOLED_POOL):
        return _remove_own_pool(p, tenant_id, pool, say, before)
    names = [user.name for user in user_pools.users(p, pool_id, tenant_id)]
    for some in batched(names, _LOOK_EVERY):
        before()
        _refuse_if_routed(p, tenant_id, pool_id)
        for name in some:
            with contextlib.suppress(cognito.exceptions.UserNotFoundException):
                patiently(p, cognito.admin_delete_user, UserPoolId=pool_id, Username=name)
    with contextlib.suppress(cognito.exceptions.ResourceNotFoundException):
        patiently(p, cognito.delete_group, UserPoolId=pool_id, GroupName=tenant_id)
    say(f"removed {len(names)} users of tenant {tenant_id} from {pool_id}")
    return len(names)


def _refuse_if_routed(p: Portability, tenant_id: str, pool_id: str) -> None:
    """Whatever led here: the users whom the tenant is served with are not deleted."""
    if p.tenant(tenant_id).route.user_pool_id == pool_id:
        raise IdentityIncomplete(
            f"tenant {tenant_id}: expected its logins to go elsewhere before its users of {pool_id} are removed, found them going there; "
            "no more was removed"
        )


def _remove_own_pool(
    p: Portability, tenant_id: str, pool: Mapping[str, Any], say: Callable[[str], None], before: Callable[[], None]
) -> int:
    owners = [user.attributes.get(TENANT_CLAIM) for user in user_pools.everybody(p, pool["Id"])]
    others = len(owners) - owners.count(tenant_id)
    if pool["Name"] != silo_pool_name(tenant_id) or others:
        raise IdentityIncomplete(
            f"expected {pool['Id']} to be the pool {silo_pool_name(tenant_id)} with users of this tenant only, found {pool['Name']} with "
            f"{others} others; nothing was removed"
        )
    before()
    _refuse_if_routed(p, tenant_id, pool["Id"])
    user_pools.delete_pool(p, pool["Id"])
    say(f"removed the user pool {pool['Name']} with {len(owners)} users")
    return len(owners)
