"""Who does a piece of a migration's work now, and how far it has come.

A turn is a row ``turn#{name}`` of the migration: owner, end, token, checkpoint. The token grows by one with each turn. Whoever has lost a
turn is refused wherever its writes check the token (`Turns.check`), whatever its clock says; saving a checkpoint checks it too. The
end only tells others when they may take the turn of somebody who has died.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import TurnLost, TurnTaken
from include.tenants.saas import MIGRATIONS
from include.tenants.store import PARTITION, SORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS: Final = 30.0
"""How long a turn lasts unless it is saved again."""
_TURN: Final = "turn#"
_NOBODY: Final = "nobody: this work is over"
_NEVER: Final = 2**53


@dataclass(frozen=True)
class Turn:
    """A turn at a piece of work.

    Attributes:
        migration_id: of which migration.
        name: of the piece of work.
        owner: whose turn it is; a retry of a task has the same owner and may begin at once.
        token: of this turn.
        until: when others may take it, in milliseconds since the epoch; 0: it was given back.
        checkpoint: how far the work has come; plain JSON values.
    """

    migration_id: str
    name: str
    owner: str
    token: int
    until: int
    checkpoint: Mapping[str, Any] = field(default_factory=dict)


class Turns:
    """All turns.

    Args:
        dynamodb: a boto3 client.
        clock: seconds since the epoch.
    """

    def __init__(self, dynamodb: Any, clock: Callable[[], float] = time.time) -> None:
        self._dynamodb = dynamodb
        self._clock = clock

    def take(self, migration_id: str, name: str, owner: str, *, seconds: float = SECONDS, always: bool = False) -> Turn:
        """Begin a turn, and go on from the last checkpoint.

        Args:
            migration_id: of which migration.
            name: of the piece of work.
            owner: who asks.
            seconds: how long it lasts unless it is saved again.
            always: take it from whoever has it.

        Raises:
            TurnTaken: somebody else has it.
            TurnLost: this work is over.
        """
        condition = f"attribute_not_exists({PARTITION}) OR #until <= :now OR #owner = :owner"
        if always:
            condition = f"attribute_not_exists({PARTITION}) OR #owner <> :nobody"
        values = {":until": self._until(seconds), ":owner": {"S": owner}, ":one": {"N": "1"}, ":none": {"S": "{}"}}
        try:
            row = self._dynamodb.update_item(
                TableName=MIGRATIONS,
                Key=_key(migration_id, name),
                UpdateExpression="SET #owner = :owner, #until = :until, checkpoint = if_not_exists(checkpoint, :none) ADD #token :one",
                ExpressionAttributeNames={"#owner": "owner", "#until": "until", "#token": "token"},
                ExpressionAttributeValues={
                    **values,
                    **({":nobody": {"S": _NOBODY}} if always else {":now": self._until(0)}),
                },
                ReturnValues="ALL_NEW",
                ConditionExpression=condition,
            )["Attributes"]
        except self._dynamodb.exceptions.ConditionalCheckFailedException as error:
            found = self.read(migration_id, name)
            if found and found.owner == _NOBODY:
                raise TurnLost(
                    f"migration {migration_id}: {name} is over, and nothing more is to be done of it"
                ) from error
            raise TurnTaken(
                f"migration {migration_id}: expected nobody at {name}, found {found.owner if found else 'somebody'}; it is let go at the "
                f"latest {seconds:.0f} s after it was last heard of"
            ) from error
        return _read(row)

    def save(self, turn: Turn, checkpoint: Mapping[str, Any], *, seconds: float = SECONDS) -> Turn:
        """Keep how far the work has come, and keep the turn.

        Raises:
            TurnLost: it is somebody else's.
        """
        return self._update(turn, checkpoint, self._until(seconds))

    def give_back(self, turn: Turn) -> None:
        """End a turn before its time; one that is lost already stays so."""
        with contextlib.suppress(TurnLost):
            self._update(turn, turn.checkpoint, {"N": "0"})

    def check(self, turn: Turn) -> dict[str, Any]:
        """An element of ``TransactItems`` that lets the transaction happen only while the turn isn't lost."""
        return {
            "ConditionCheck": {
                "TableName": MIGRATIONS,
                "Key": _key(turn.migration_id, turn.name),
                "ConditionExpression": "#token = :token",
                "ExpressionAttributeNames": {"#token": "token"},
                "ExpressionAttributeValues": {":token": {"N": str(turn.token)}},
            }
        }

    def retire(self, migration_id: str, name: str, mine: Turn | None = None) -> dict[str, Any]:
        """An element of ``TransactItems`` that ends a piece of work for good: who is at it has lost the turn, and nobody gets it again.

        Args:
            migration_id: of which migration.
            name: of the piece of work.
            mine: the transaction happens only while this turn isn't lost.
        """
        element: dict[str, Any] = {
            "Update": {
                "TableName": MIGRATIONS,
                "Key": _key(migration_id, name),
                "UpdateExpression": "SET #owner = :nobody, #until = :never, checkpoint = if_not_exists(checkpoint, :none) ADD #token :one",
                "ExpressionAttributeNames": {"#owner": "owner", "#until": "until", "#token": "token"},
                "ExpressionAttributeValues": {
                    ":nobody": {"S": _NOBODY},
                    ":never": {"N": str(_NEVER)},
                    ":none": {"S": "{}"},
                    ":one": {"N": "1"},
                },
            }
        }
        if mine:
            element["Update"]["ConditionExpression"] = "#token = :token"
            element["Update"]["ExpressionAttributeValues"][":token"] = {"N": str(mine.token)}
        return element

    def read(self, migration_id: str, name: str) -> Turn | None:
        """The turn as it is now; None if there never was one."""
        row = self._dynamodb.get_item(TableName=MIGRATIONS, Key=_key(migration_id, name), ConsistentRead=True).get(
            "Item"
        )
        return _read(row) if row else None

    def all(self, migration_id: str, prefix: str = "") -> list[Turn]:
        """The turns whose names begin so, by name."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=MIGRATIONS,
            ConsistentRead=True,
            KeyConditionExpression=f"{PARTITION} = :id AND begins_with(#row, :prefix)",
            ExpressionAttributeNames={"#row": SORT},
            ExpressionAttributeValues={":id": {"S": migration_id}, ":prefix": {"S": _TURN + prefix}},
        )
        return [_read(row) for page in pages for row in page["Items"]]

    def _update(self, turn: Turn, checkpoint: Mapping[str, Any], until: dict[str, str]) -> Turn:
        try:
            row = self._dynamodb.update_item(
                TableName=MIGRATIONS,
                Key=_key(turn.migration_id, turn.name),
                UpdateExpression="SET checkpoint = :checkpoint, #until = :until",
                ConditionExpression="#token = :token",
                ExpressionAttributeNames={"#until": "until", "#token": "token"},
                ExpressionAttributeValues={
                    ":checkpoint": {"S": json.dumps(checkpoint)},
                    ":until": until,
                    ":token": {"N": str(turn.token)},
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except self._dynamodb.exceptions.ConditionalCheckFailedException as error:
            raise TurnLost(
                f"migration {turn.migration_id}: expected {turn.owner} to be still at {turn.name}, found somebody else there; this one "
                "stops"
            ) from error
        return _read(row)

    def _until(self, seconds: float) -> dict[str, str]:
        return {"N": str(int((self._clock() + seconds) * 1000))}


def _key(migration_id: str, name: str) -> dict[str, Any]:
    return {PARTITION: {"S": migration_id}, SORT: {"S": _TURN + name}}


def _read(row: Mapping[str, Any]) -> Turn:
    return Turn(
        row[PARTITION]["S"],
        row[SORT]["S"].removeprefix(_TURN),
        row["owner"]["S"],
        int(row["token"]["N"]),
        int(row["until"]["N"]),
        json.loads(row["checkpoint"]["S"]),
    )
