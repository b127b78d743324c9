"""Which streams a migration has switched on, and when they are switched off again.

A stream that the application had before is its own, and stays. So a migration notes what it is going to switch on before it does, and which
stream that was afterwards; what it only notes, it has perhaps not done: then the time at which the stream was made has to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

MADE_NOTE: Final = "streams_made"
"""Note: ARN of each stream that the migration has switched on, by table; empty while it is about to."""


def about_to_enable(p: Portability, migration: Migration) -> None:
    """Note which of the migration's tables have no stream yet. Called again, what was noted first stays: by now they may have one."""
    if MADE_NOTE in p.store.load(migration.migration_id).notes:
        return
    without = {name: "" for name in sorted(_tables_of(migration)) if _stream(p, name) is None}
    p.store.note(migration.migration_id, {MADE_NOTE: without})


def made(p: Portability, migration: Migration, streams: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The note, once the tables have their streams.

    Args:
        p: what the steps work with.
        migration: that was `about_to_enable` them.
        streams: ARN by table.
    """
    noted = p.store.load(migration.migration_id).notes[MADE_NOTE]
    return {MADE_NOTE: {name: streams[name] for name in noted}}


def disable_streams(
    p: Portability, migration: Migration, say: Callable[[str], None], *, before: Callable[[], None] = lambda: None
) -> list[str]:
    """Switch off the streams of the migration's tables that a migration has made, and that no other under way needs.

    Args:
        p: what the steps work with.
        migration: over.
        say: told what happens.
        before: called right before anything is switched off; it raises if nothing may be.

    Returns:
        The tables.
    """
    disabled = []
    for name in sorted(_tables_of(migration)):
        stream = _stream(p, name)
        if stream is None:
            continue
        before()
        # right before it: one that is planned later looks at the stream when it arms it, and makes another
        users = [each for each in p.store.all() if name in _tables_of(each)]
        if any(each.outcome is None and each.migration_id != migration.migration_id for each in users):
            continue
        if not _made_by_one_of(p, users, name, stream):
            continue
        if _disable(p, name, stream):
            say(f"{name}: its stream is off again")
            disabled.append(name)
    return disabled


def _disable(p: Portability, name: str, stream: str) -> bool:
    """Switch off a stream; False if another migration, which has found it useless at the same time, was faster."""
    from botocore.exceptions import ClientError

    try:
        p.clients.dynamodb.update_table(TableName=name, StreamSpecification={"StreamEnabled": False})
    except ClientError:
        if _stream(p, name) == stream:
            raise
        return False
    return True


def _tables_of(migration: Migration) -> set[str]:
    return {names[side] for names in migration.notes.get("tables", []) for side in ("source", "target")}


def _made_by_one_of(p: Portability, migrations: Iterable[Migration], name: str, stream: str) -> bool:
    for migration in migrations:
        noted = migration.notes.get(MADE_NOTE, {}).get(name)
        if noted == stream or (noted == "" and _during(p, migration, stream)):
            return True
    return False


def _during(p: Portability, migration: Migration, stream: str) -> bool:
    """Whether a stream was made while the migration was under way; within a second, since AWS rounds."""
    described = p.clients.streams.describe_stream(StreamArn=stream, Limit=1)["StreamDescription"]
    at = described["CreationRequestDateTime"].timestamp() * 1000
    end = migration.moments[migration.outcome.value] if migration.outcome else float("inf")
    return bool(migration.began - 1000 <= at <= end + 1000)


def _stream(p: Portability, name: str) -> str | None:
    """ARN of the stream of a table; None if there is none."""
    dynamodb = p.clients.dynamodb
    try:
        table = dynamodb.describe_table(TableName=name)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return None
    enabled = table.get("StreamSpecification", {}).get("StreamEnabled")
    return str(table["LatestStreamArn"]) if enabled else None
