"""The record of each migration, in DynamoDB: its state, what its steps have found out, and its audit trail.

One table, partition key ``migrationId``, sort key ``row``:

- ``{id}`` / ``migration``: state, epoch, what was asked for, what the steps noted. Each transition is a write on condition of state and
  epoch.
- ``{id}`` / ``event#{number}``: the audit trail, one row per transition and per note between two, written in its transaction: from, to,
  when, by whom, why, and the hash of each note that was written. Each carries the hash of the one before it, so whatever is changed in one
  row only shows. Who may write to the table could write all of it anew; the archive's signature ends that, and until then AWS's own
  log of who wrote (CloudTrail's data events) has to tell.
- ``{id}`` / ``turn#{name}``: see `include.tenants.turns`.
- ``tenant#{tenant id}`` / ``lock``: the migration that a tenant is in. Written in the transaction that plans it, removed in the one that
  ends it, so there is one at a time.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import MigrationConflict, MigrationUnknown, TenantBusy
from include.tenants.saas import MIGRATIONS
from include.tenants.states import FOLLOWING, OUTCOMES, State
from include.tenants.transactions import ConditionFailed, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARTITION: Final = "migrationId"
SORT: Final = "row"
_MIGRATION: Final = "migration"
_EVENT: Final = "event#"
_LOCK: Final = "lock"
_NUMBERS: Final = ("number", "epoch", "at")
_REQUEST: Final = "request"
"""Name under which the first event has the hash of what was asked for; no note has it."""
_TRIES: Final = 5


@dataclass(frozen=True)
class Migration:
    """A migration as it was when it was read.

    Attributes:
        migration_id: also part of the names of what it makes.
        tenant_id: whose.
        state: where it is.
        epoch: grows by one with each transition.
        request: what was asked for; see `include.tenants.request.MigrationRequest`.
        notes: what the steps have found out, by name; plain JSON values.
        moments: when each state was reached last, in milliseconds since the epoch.
        head: hash of the last event of its audit trail.
        number: of that event.
    """

    migration_id: str
    tenant_id: str
    state: State
    epoch: int
    request: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    moments: Mapping[str, int] = field(default_factory=dict)
    head: str = ""
    number: int = 0

    @property
    def outcome(self) -> State | None:
        """How it came out; None while it is on its way."""
        return next((state for state in OUTCOMES if state.value in self.moments), None)

    @property
    def began(self) -> int:
        """When it was planned, in milliseconds since the epoch."""
        return self.moments[State.PLANNED.value]


@dataclass(frozen=True)
class Event:
    """A transition in the audit trail, or what a step has noted between two.

    Attributes:
        number: position in the trail.
        epoch: the migration's afterwards.
        before: its state before; empty for the first.
        after: its state afterwards.
        at: milliseconds since the epoch.
        by: who: a task of a run, or a person; empty if it only noted.
        why: in their words; may be empty.
        notes: hash of each note that was written with it, by name; of the first also of what was asked for.
        previous: hash of the event before; empty for the first.
        digest: hash of all of the above.
    """

    number: int
    epoch: int
    before: str
    after: str
    at: int
    by: str
    why: str
    notes: Mapping[str, str]
    previous: str
    digest: str

    @property
    def moves(self) -> bool:
        """Whether it is a transition."""
        return self.before != self.after

    @property
    def content(self) -> dict[str, Any]:
        """What is hashed."""
        return {name: value for name, value in vars(self).items() if name != "digest"}


def hashed(content: Any) -> str:
    """SHA-256 of plain JSON data, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def broken_at(events: Sequence[Event]) -> int | None:
    """The number of the first event that was altered, or whose predecessor was removed; None if the trail is whole."""
    previous = ""
    for position, event in enumerate(events):
        if event.number != position or event.previous != previous or hashed(event.content) != event.digest:
            return event.number
        previous = event.digest
    return None


def altered(migration: Migration, events: Sequence[Event]) -> list[str]:
    """The notes that are not what the last event that wrote them says, and ``request`` if that isn't what was asked for."""
    said: dict[str, str] = {}
    for event in events:
        said |= event.notes
    found = _hashes({_REQUEST: dict(migration.request), **migration.notes})
    return sorted(name for name in said.keys() | found.keys() if said.get(name) != found.get(name))


class MigrationStore:
    """The table.

    Args:
        dynamodb: a boto3 client.
        clock: seconds since the epoch.
    """

    def __init__(self, dynamodb: Any, clock: Callable[[], float] = time.time) -> None:
        self._dynamodb = dynamodb
        self._clock = clock

    def plan(
        self,
        migration_id: str,
        tenant_id: str,
        request: Mapping[str, Any],
        notes: Mapping[str, Any],
        *,
        by: str,
        why: str = "",
    ) -> Migration:
        """Begin a migration; planned again under the same id, it is the one that is there.

        Args:
            migration_id: chosen by the caller, so that a retry plans the same one.
            tenant_id: whose.
            request: what was asked for.
            notes: what is known of it by now.
            by: who asks.
            why: in their words.

        Raises:
            TenantBusy: the tenant is in another one.
        """
        first = Migration(migration_id, tenant_id, State.PLANNED, -1, request, number=-1)
        event = self._event(first, State.PLANNED, by, why, {_REQUEST: dict(request), **notes}, epoch=0, before="")
        row = {
            **_key(migration_id),
            "tenantId": {"S": tenant_id},
            "state": {"S": State.PLANNED.value},
            "epoch": {"N": "0"},
            "request": {"S": json.dumps(request)},
            "notes": {"M": {name: {"S": json.dumps(value)} for name, value in notes.items()}},
            "moments": {"M": {State.PLANNED.value: {"N": str(event.at)}}},
            "head": {"S": event.digest},
            "number": {"N": "0"},
        }
        lock = {**_lock_key(tenant_id), "holder": {"S": migration_id}}
        fresh = {"ConditionExpression": f"attribute_not_exists({PARTITION})"}
        try:
            self._transact(
                {"Put": {"TableName": MIGRATIONS, "Item": row, **fresh}},
                {"Put": {"TableName": MIGRATIONS, "Item": lock, **fresh}},
                self._event_put(migration_id, event),
            )
        except ConditionFailed as error:
            if 0 in error.elements:
                found = self.load(migration_id)
                if (found.tenant_id, dict(found.request)) == (tenant_id, dict(request)):
                    return found
                raise MigrationConflict(
                    f"expected migration {migration_id} to be new, found one of tenant {found.tenant_id} that was asked for "
                    f"{found.request}; start a run of its own"
                ) from error
            raise self._busy(tenant_id) from error
        return self.load(migration_id)

    def load(self, migration_id: str) -> Migration:
        """The migration as it is now.

        Raises:
            MigrationUnknown: there is none.
        """
        row = self._row(_key(migration_id))
        if row is None:
            raise MigrationUnknown(f"expected a migration {migration_id!r} in {MIGRATIONS}, found none")
        return _read(row)

    def current(self, tenant_id: str) -> Migration | None:
        """The migration that a tenant is in."""
        row = self._row(_lock_key(tenant_id))
        return self.load(row["holder"]["S"]) if row else None

    def all(self) -> list[Migration]:
        """Every migration that there ever was, the newest first. Reads the whole table: for what is done seldom."""
        found = []
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=MIGRATIONS,
            ConsistentRead=True,
            FilterExpression="#row = :migration",
            ExpressionAttributeNames={"#row": SORT},
            ExpressionAttributeValues={":migration": {"S": _MIGRATION}},
        )
        for page in pages:
            found += [_read(row) for row in page["Items"]]
        return sorted(found, key=lambda migration: migration.began, reverse=True)

    def transition(
        self,
        migration: Migration,
        to: State,
        notes: Mapping[str, Any] | None = None,
        *,
        by: str,
        why: str = "",
        beside: Sequence[Mapping[str, Any]] = (),
    ) -> Migration:
        """Move on, together with other writes if there are any.

        A transition whose answer was lost may be made again: the migration is given back as it is. What was noted since the caller read the
        migration stays. The way to `State.CLEANED` also frees the tenant.

        Args:
            migration: as the caller knows it.
            to: the state that follows.
            notes: what the step has found out.
            by: who does it.
            why: in their words.
            beside: elements of ``TransactItems`` that happen with it or not at all.

        Raises:
            MigrationConflict: it has been moved on otherwise, or a condition of ``beside`` does not hold. Nothing was written.
        """
        if to not in FOLLOWING[migration.state]:
            allowed = ", ".join(sorted(FOLLOWING[migration.state])) or "nothing"
            raise MigrationConflict(
                f"migration {migration.migration_id}: expected {allowed} after {migration.state}, found {to}"
            )
        while True:
            event = self._event(migration, to, by, why, notes or {}, epoch=migration.epoch + 1)
            elements = self._moving_on(migration, event, notes or {})
            if to is State.CLEANED:
                elements.append({"Delete": {"TableName": MIGRATIONS, "Key": _lock_key(migration.tenant_id)}})
            try:
                self._transact(*elements, *beside)
            except ConditionFailed as error:
                found = self.load(migration.migration_id)
                if (found.state, found.epoch) == (to, event.epoch) and self._written_by(migration.migration_id, event):
                    return found  # an earlier try did it, and its answer was lost
                if (found.state, found.epoch) != (migration.state, migration.epoch):
                    raise MigrationConflict(
                        f"migration {migration.migration_id}: expected {migration.state} (epoch {migration.epoch}) to become {to}, found "
                        f"{found.state} (epoch {found.epoch}): another step has moved it on"
                    ) from error
                if found.head != migration.head:
                    migration = found  # only something was noted meanwhile
                    continue
                failed = [position - len(elements) for position in error.elements if position >= len(elements)]
                raise MigrationConflict(
                    f"migration {migration.migration_id}: could not become {to}: the conditions of the writes {failed} beside it do not "
                    "hold"
                ) from error
            return self.load(migration.migration_id)

    def note(self, migration_id: str, notes: Mapping[str, Any]) -> None:
        """Keep what a step has found out, without a transition; what was noted under the same names before is replaced.

        Raises:
            MigrationUnknown: there is no such migration.
            MigrationConflict: its audit trail is not as this store writes it.
        """
        while True:
            migration = self.load(migration_id)
            event = self._event(migration, migration.state, "", "", notes, epoch=migration.epoch)
            try:
                self._transact(*self._moving_on(migration, event, notes))
            except ConditionFailed as error:
                if self.load(migration_id).head == migration.head:
                    raise MigrationConflict(
                        f"migration {migration_id}: expected no event {event.number} in its audit trail yet, found one: somebody has "
                        f"changed the table {MIGRATIONS}"
                    ) from error
                continue  # another step was faster
            return

    def events(self, migration_id: str) -> list[Event]:
        """A migration's audit trail, the oldest first."""
        return [
            Event(
                number=int(row["number"]["N"]),
                epoch=int(row["epoch"]["N"]),
                at=int(row["at"]["N"]),
                **{name: row[name]["S"] for name in ("before", "after", "by", "why", "previous", "digest")},
                notes=json.loads(row["notes"]["S"]),
            )
            for row in self.rows(migration_id, _EVENT)
        ]

    def record(self, migration_id: str) -> tuple[Migration, list[Event]]:
        """A migration and its audit trail, of one moment.

        Raises:
            MigrationUnknown: there is none.
        """
        for _ in range(_TRIES):
            migration, events = self.load(migration_id), self.events(migration_id)
            if events and events[-1].digest == migration.head:
                break  # else something was written between the two reads, or somebody has changed the table
        return migration, events

    def rows(self, migration_id: str, prefix: str) -> list[dict[str, Any]]:
        """A migration's rows whose sort key begins so, in order, as DynamoDB's JSON."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=MIGRATIONS,
            ConsistentRead=True,
            KeyConditionExpression=f"{PARTITION} = :id AND begins_with(#row, :prefix)",
            ExpressionAttributeNames={"#row": SORT},
            ExpressionAttributeValues={":id": {"S": migration_id}, ":prefix": {"S": prefix}},
        )
        return [row for page in pages for row in page["Items"]]

    def _event(
        self,
        migration: Migration,
        after: State,
        by: str,
        why: str,
        notes: Mapping[str, Any],
        *,
        epoch: int,
        before: str | None = None,
    ) -> Event:
        event = Event(
            migration.number + 1,
            epoch,
            migration.state.value if before is None else before,
            after.value,
            int(self._clock() * 1000),
            by,
            why,
            _hashes(notes),
            migration.head,
            "",
        )
        return Event(**event.content, digest=hashed(event.content))

    def _moving_on(self, migration: Migration, event: Event, notes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The writes of an event that follows the one that the migration was read with."""
        update: dict[str, Any] = {
            "TableName": MIGRATIONS,
            "Key": _key(migration.migration_id),
            "UpdateExpression": "SET #state = :to, epoch = :next, head = :head, #number = :number",
            "ConditionExpression": "#state = :from AND epoch = :epoch AND head = :previous",
            "ExpressionAttributeNames": {"#state": "state", "#number": "number"},
            "ExpressionAttributeValues": {
                ":to": {"S": event.after},
                ":from": {"S": migration.state.value},
                ":epoch": {"N": str(migration.epoch)},
                ":next": {"N": str(event.epoch)},
                ":previous": {"S": migration.head},
                ":head": {"S": event.digest},
                ":number": {"N": str(event.number)},
            },
        }
        if event.moves:
            update["UpdateExpression"] += ", moments.#to = :at"
            update["ExpressionAttributeNames"]["#to"] = event.after
            update["ExpressionAttributeValues"][":at"] = {"N": str(event.at)}
        _set_notes(update, notes)
        return [{"Update": update}, self._event_put(migration.migration_id, event)]

    def _event_put(self, migration_id: str, event: Event) -> dict[str, Any]:
        values = {name: {"N" if name in _NUMBERS else "S": str(value)} for name, value in vars(event).items()}
        values["notes"] = {"S": json.dumps(event.notes)}
        item = {PARTITION: {"S": migration_id}, SORT: {"S": f"{_EVENT}{event.number:06}"}, **values}
        return {
            "Put": {
                "TableName": MIGRATIONS,
                "Item": item,
                "ConditionExpression": f"attribute_not_exists({PARTITION})",
            }
        }

    def _written_by(self, migration_id: str, event: Event) -> bool:
        """Whether the transition that is there says the same as this one, but for its time and what was noted before it."""
        there = [_said(each) for each in self.events(migration_id) if each.moves and each.epoch == event.epoch]
        return there == [_said(event)]

    def _busy(self, tenant_id: str) -> TenantBusy:
        other = self.current(tenant_id)
        if other is None:
            return TenantBusy(f"tenant {tenant_id}: another migration ended at this moment; start this one again")
        todo = (
            "let it clean up what the tenant left behind (clean_up_tenant_source)"
            if other.outcome
            else "let it end, or roll it back (rollback_tenant_migration)"
        )
        return TenantBusy(
            f"expected tenant {tenant_id} to be in no migration, found it in {other.migration_id}, which is {other.state}; {todo}"
        )

    def _transact(self, *elements: Mapping[str, Any]) -> None:
        transact(self._dynamodb, elements)

    def _row(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        row: dict[str, Any] | None = self._dynamodb.get_item(TableName=MIGRATIONS, Key=key, ConsistentRead=True).get(
            "Item"
        )
        return row


def _key(migration_id: str) -> dict[str, Any]:
    return {PARTITION: {"S": migration_id}, SORT: {"S": _MIGRATION}}


def _lock_key(tenant_id: str) -> dict[str, Any]:
    return {PARTITION: {"S": f"tenant#{tenant_id}"}, SORT: {"S": _LOCK}}


def _set_notes(update: dict[str, Any], notes: Mapping[str, Any]) -> None:
    """Add the notes to an update; `plan` made the map that they are in."""
    for number, (name, value) in enumerate(sorted(notes.items())):
        update["ExpressionAttributeNames"][f"#note{number}"] = name
        update["ExpressionAttributeValues"][f":note{number}"] = {"S": json.dumps(value)}
        update["UpdateExpression"] += f", notes.#note{number} = :note{number}"


def _hashes(notes: Mapping[str, Any]) -> dict[str, str]:
    """Of notes as they are read back."""
    return {name: hashed(json.loads(json.dumps(value))) for name, value in notes.items()}


def _said(event: Event) -> tuple[Any, ...]:
    return event.epoch, event.before, event.after, event.by, event.why, event.notes


def _read(row: Mapping[str, Any]) -> Migration:
    return Migration(
        migration_id=row[PARTITION]["S"],
        tenant_id=row["tenantId"]["S"],
        state=State(row["state"]["S"]),
        epoch=int(row["epoch"]["N"]),
        request=json.loads(row["request"]["S"]),
        notes={name: json.loads(value["S"]) for name, value in row["notes"]["M"].items()},
        moments={name: int(value["N"]) for name, value in row["moments"]["M"].items()},
        head=row["head"]["S"],
        number=int(row["number"]["N"]),
    )
