"""Compares what clients were told with what is there.

Keys that are written again and again hide losses: the next write mends what a lost one left. So most keys of `include.local.saas.load` are
written once, and each must be there in the end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from include.local.saas.api import TABLES, key_of
from include.local.saas.items import MARKS, told_owner
from include.local.saas.journal import Entry, Told, entries
from include.tenants.keys import MARKER, owner_of, shard_ids
from include.tenants.saas import DATA_TABLES, PARTITION_KEY, TENANTS, Tenant
from include.tenants.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from include.tenants.clients import Clients

Item = dict[str, Any]
VALUE: Final = "note"
"""The attribute that carries an entry's value."""
_MOST_EXAMPLES: Final = 20
_LOOKED_AT: Final = frozenset({VALUE, *MARKS.values(), PARTITION_KEY, *(table.sort_key for table in DATA_TABLES)})


@dataclass(frozen=True)
class Verdict:
    """What became of the writes.

    Attributes:
        acknowledged: how many were, deletions included.
        lost: of them, how many are not there.
        stale: how many keys have an older value than acknowledged, or were deleted and are there; and how often that was seen meanwhile.
        foreign: how often another tenant's item was seen or found.
        ambiguous: of how many writes nobody knows whether they happened.
        failed_reads: how many reads got no answer.
        behind_reads: how many showed an older value by a cached route; they are no losses.
        examples: some of what is wrong, in words.
    """

    acknowledged: int
    lost: int
    stale: int
    foreign: int
    ambiguous: int
    failed_reads: int = 0
    behind_reads: int = 0
    examples: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is lost, stale or foreign."""
        return not (self.lost or self.stale or self.foreign)


@dataclass
class _Key:
    """What is known of a key: the last acknowledged write, and what came after it without an answer."""

    acknowledged: Entry | None = None
    unclear: bool = False
    values: frozenset[int | None] = frozenset()


def judge(
    journal: Path | Iterable[Entry],
    read: Callable[[str, str, str], Mapping[str, Any] | None],
    *,
    items: Callable[[str], Iterable[tuple[str, Mapping[str, Any]]]] | None = None,
) -> Verdict:
    """Look at each key of a journal.

    Args:
        journal: of a load that has ended.
        read: gives the item of (tenant, table, key), or None; e.g. `Contents`.
        items: gives all of a tenant's (table, item), to look for foreign ones.
    """
    keys: dict[tuple[str, str, str], _Key] = defaultdict(_Key)
    tenants: set[str] = set()
    count: dict[str, int] = defaultdict(int)
    examples: list[str] = []

    def wrong(kind: str, what: str) -> None:
        count[kind] += 1
        if len(examples) < _MOST_EXAMPLES:
            examples.append(f"{kind}: {what}")

    for entry in entries(journal) if isinstance(journal, Path) else journal:
        tenants.add(entry.tenant)
        count[entry.told] += 1
        _note(keys, entry)
        if entry.told in _WRONG:
            wrong(_WRONG[entry.told], f"{entry.tenant} {entry.table} {entry.key}: {entry.told} {entry.why}")
    for where, key in keys.items():
        found = read(*where)
        complaint = _complaint(key, found)
        if complaint:
            wrong(complaint[0], f"{' '.join(where)}: {complaint[1]}")
    for tenant_id in sorted(tenants) if items else ():
        for table, item in items(tenant_id) if items else ():
            if told_owner(item) not in (None, tenant_id) or owner_of(item[PARTITION_KEY]) != tenant_id:
                wrong("foreign", f"{tenant_id} {table} {item[PARTITION_KEY]} is of {told_owner(item)}")
    return Verdict(
        acknowledged=count[Told.WRITTEN] + count[Told.DELETED],
        lost=count["lost"],
        stale=count["stale"],
        foreign=count["foreign"],
        ambiguous=count[Told.WRITE_UNCLEAR] + count[Told.DELETE_UNCLEAR],
        failed_reads=count[Told.READ_FAILED],
        behind_reads=count[Told.READ_BEHIND],
        examples=tuple(examples),
    )


_WRONG: Final = {Told.MISSING: "stale", Told.READ_STALE: "stale", Told.READ_FOREIGN: "foreign"}


def _note(keys: dict[tuple[str, str, str], _Key], entry: Entry) -> None:
    where = entry.tenant, entry.table, entry.key
    if entry.told in (Told.WRITTEN, Told.DELETED):
        keys[where] = _Key(entry, unclear=False, values=frozenset({entry.value}))
    elif entry.told in (Told.WRITE_UNCLEAR, Told.DELETE_UNCLEAR):
        before = keys[where]
        keys[where] = _Key(before.acknowledged, unclear=True, values=before.values | {entry.value})


def _complaint(key: _Key, item: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """What is wrong with what is there, if anything."""
    entry = key.acknowledged
    found = _value(item)
    if entry is None:  # only unclear writes: there, or not
        fits = item is None or found in key.values
        return None if fits else ("stale", f"found {found}, which was never written")
    if item is None:
        return None if None in key.values else ("lost", f"{entry.value} was acknowledged at {entry.at:.3f}")
    if entry.told is Told.DELETED:
        return "stale", f"found {found}, though it was deleted at {entry.at:.3f}"
    grown = entry.hot and found is not None and entry.value is not None and found >= entry.value
    return (
        None
        if grown or found in key.values
        else ("stale", f"found {found}, though {entry.value} was acknowledged at {entry.at:.3f}")
    )


def _value(item: Mapping[str, Any] | None) -> int | None:
    text = str((item or {}).get(VALUE, ""))
    return int(text) if text.isdecimal() else None


class Contents:
    """Tenants' items as they are in the tables where the tenants are, with the attributes that are looked at here.

    Each tenant is read once, when it is first asked for.

    Args:
        clients: of AWS.
    """

    def __init__(self, clients: Clients) -> None:
        self._dynamodb = clients.dynamodb
        self._known: dict[str, dict[tuple[str, str], Item]] = {}

    def __call__(self, tenant_id: str, table: str, key: str) -> Item | None:
        """An item, or None."""
        return self._of(tenant_id).get((table, key))

    def items(self, tenant_id: str) -> list[tuple[str, Item]]:
        """All of a tenant's items, with their tables' prefixes."""
        return [(table, item) for (table, _), item in self._of(tenant_id).items()]

    def _of(self, tenant_id: str) -> dict[tuple[str, str], Item]:
        if tenant_id not in self._known:
            row = self._dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True)
            tier = Tenant.from_item(plain(row["Item"])).route.tier
            found = {}
            for table in TABLES.values():
                for shard_id in shard_ids(tenant_id):
                    for page in self._dynamodb.get_paginator("query").paginate(
                        TableName=table.name(tenant_id, tier),
                        ConsistentRead=True,
                        KeyConditionExpression=f"{PARTITION_KEY} = :shard",
                        ExpressionAttributeValues={":shard": {"S": shard_id}},
                    ):
                        for raw in page["Items"]:
                            item = plain({name: value for name, value in raw.items() if name in _LOOKED_AT})
                            if not item[table.sort_key].startswith(MARKER):
                                found[table.prefix, key_of(table, item)] = item
            self._known[tenant_id] = found
        return self._known[tenant_id]


def judge_tables(journal: Path | Iterable[Entry], clients: Clients) -> Verdict:
    """`judge` by what is in the tables now."""
    contents = Contents(clients)
    return judge(journal, contents, items=contents.items)
