"""Keeps a tenant's writes out of an application that can't check the fence's row: an IAM deny on the role that its requests run as.

It is the weaker fence. IAM takes a while until a policy counts everywhere, and says no bound. So it is not waited for by the clock but
tried, as the application (`wait_until_denied`): a delete whose condition can't hold writes nothing, but is answered with AccessDenied
only once the deny counts. A write that stalls in the application is denied when it arrives; one that DynamoDB has accepted already comes
out of the stream, which is drained afterwards, and the comparison is the authority as ever.

It is put before the rows of `include.tenants.fence` are closed, and removed after the route has been switched or the fence opened again.
The application must read its route anew before its next write, since nothing else tells it that the route has changed.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import CutoverFailed, ProvisioningFailed
from include.tenants.isolation import ROLE_SETTING
from include.tenants.keys import MARKER, shard_ids
from include.tenants.policies import VERSION
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, SETTINGS
from include.tenants.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

WRITES: Final = (
    *(f"dynamodb:{name}" for name in ("BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem")),
    *(f"dynamodb:PartiQL{name}" for name in ("Delete", "Insert", "Update")),
)
"""Every way to write an item; a transaction is denied with any of its elements."""
DENY: Final = "deny"
"""Note of a migration: the policy's name, as long as it is there. Whoever looks at the migration sees that somebody has to take it away."""
STEADY_SECONDS: Final = 10.0
"""For so long no try may have got through."""
_PAUSE_SECONDS: Final = 0.5


def deny_policy(tenant_id: str, tables: Sequence[str]) -> dict[str, Any]:
    """Deny all writes of a tenant's partitions; a batch with one of them is denied as a whole.

    Args:
        tenant_id: whose.
        tables: ARNs of the data tables, on both sides.
    """
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": "KeepWritesOut",
                "Effect": "Deny",
                "Action": list(WRITES),
                "Resource": list(tables),
                "Condition": {"ForAnyValue:StringEquals": {"dynamodb:LeadingKeys": list(shard_ids(tenant_id))}},
            }
        ],
    }


def put_deny(p: Portability, migration: Migration) -> str:
    """Put the deny on the application's role; gives the policy's name. Putting it twice is as good as once.

    Raises:
        ProvisioningFailed: the role isn't known.
    """
    tables = [
        p.clients.dynamodb.describe_table(TableName=names[side])["Table"]["TableArn"]
        for names in migration.notes["tables"]
        for side in ("source", "target")
    ]
    name = _name(migration)
    p.clients.iam.put_role_policy(
        RoleName=_role(p),
        PolicyName=name,
        PolicyDocument=json.dumps(deny_policy(migration.tenant_id, tables), separators=(",", ":")),
    )
    p.store.note(migration.migration_id, {DENY: name})
    return name


def remove_deny(p: Portability, migration: Migration) -> bool:
    """Take it away; gives whether it was there."""
    iam = p.clients.iam
    try:
        iam.delete_role_policy(RoleName=_role(p), PolicyName=_name(migration))
        there = True
    except iam.exceptions.NoSuchEntityException:
        there = False
    if p.store.load(migration.migration_id).notes.get(DENY):
        p.store.note(migration.migration_id, {DENY: ""})
    return there


def wait_until_denied(
    p: Portability, migration: Migration, application: Any, *, deadline: float, say: Callable[[str], None]
) -> float:
    """Try as the application until nothing has got through for `STEADY_SECONDS`, in any partition of any table.

    Args:
        p: what to work with.
        migration: whose deny was put.
        application: a boto3 client of DynamoDB with the application's role.
        deadline: until when, in seconds since the epoch.
        say: told what happens.

    Returns:
        How many seconds it took.

    Raises:
        CutoverFailed: it does not count yet. Remove it; nothing was changed.
    """
    places = [
        (names[side], table.sort_key, shard_id)
        for table in DATA_TABLES
        for names in migration.notes["tables"]
        if names["prefix"] == table.prefix
        for side in ("source", "target")
        for shard_id in shard_ids(migration.tenant_id)
    ]
    began = steady = p.clock()
    while True:
        open_still = [place for place in places if not _denied(application, *place)]
        now = p.clock()
        if open_still:
            steady = now
        elif now - steady >= STEADY_SECONDS:
            say(f"the role's writes of tenant {migration.tenant_id} are denied, after {now - began:.0f} s")
            return now - began
        if now >= deadline:
            told = (
                f"{len(open_still)} of {len(places)} partitions still open"
                if open_still
                else "none open, but not for so long"
            )
            raise CutoverFailed(
                f"tenant {migration.tenant_id}: expected IAM's deny to count for {STEADY_SECONDS:.0f} s, found {told} after "
                f"{now - began:.0f} s; the deny is to be removed, and nothing was changed"
            )
        p.sleep(_PAUSE_SECONDS)


def _denied(dynamodb: Any, table: str, sort_key: str, shard_id: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        dynamodb.delete_item(
            TableName=table,
            Key={PARTITION_KEY: {"S": shard_id}, sort_key: {"S": f"{MARKER}deny"}},
            # no item has it, and one that is not there neither: nothing is ever deleted
            ConditionExpression="attribute_exists(thisIsNoAttributeOfAnything)",
        )
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "AccessDeniedException":
            return True
        if code != "ConditionalCheckFailedException":
            raise
    return False


def _role(p: Portability) -> str:
    row = p.clients.dynamodb.get_item(
        TableName=SETTINGS, Key={"settingName": {"S": ROLE_SETTING}}, ConsistentRead=True
    ).get("Item")
    if row is None:
        raise ProvisioningFailed(f"expected the application's role in the setting {ROLE_SETTING}, found none")
    return str(plain(row)["settingValue"])


def _name(migration: Migration) -> str:
    """IAM allows fewer letters in a name than an id may have."""
    return f"tenant-fence-{hashlib.sha256(migration.migration_id.encode()).hexdigest()[:32]}"
