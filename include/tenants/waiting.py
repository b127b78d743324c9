"""Where to look for the next change while nothing has to be replayed: for `data_platform.tenants.triggers.ChangesTrigger`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.tenants.changes import replay_turn
from include.tenants.streams import Position

if TYPE_CHECKING:
    from include.tenants.changes import Direction
    from include.tenants.portability import Portability
    from include.tenants.store import Migration


def open_shards(p: Portability, migration: Migration, direction: Direction) -> list[dict[str, Any]]:
    """The shards that the replay has not read to their end: ``stream`` (ARN), ``shard``, ``after`` (None: from its beginning)."""
    turn = p.turns.read(migration.migration_id, replay_turn(direction))
    positions = [Position.from_json(each) for each in (turn.checkpoint if turn else {}).get("positions", {}).values()]
    return [
        {"stream": position.stream, "shard": shard_id, "after": shard.after or None}
        for position in positions
        for shard_id, shard in position.shards.items()
        if shard.ended is None
    ]
