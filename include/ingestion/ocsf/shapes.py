"""What the keys of a chunk's records tell: which key stands twice, and what is left over of a record once its mapping has read it.

A log has few shapes (lists of keys), so this looks at each distinct one of a chunk in Python, not at each record. What is left over becomes
columns like any other; only where shapes contradict each other does the general SQL have to look into every record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.ocsf.compile import fits
from include.ingestion.ocsf.language import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.ingestion.ocsf.compile import KindPlan, Plan
    from include.ingestion.ocsf.dialect import DuckDb

MOST_COLUMNS: Final = 250
"""More left-over keys than this in one chunk are no log's habit: the general SQL takes them."""

_PLAIN: Final = re.compile(r"[^\x00-\x1f]+")


@dataclass(frozen=True, order=True)
class Entry:
    """Something that may be left over.

    Attributes:
        text: the SQL column of the JSON document that it is in.
        steps: keys from there.
        name: its key in ``unmapped``.
    """

    text: str
    steps: tuple[str, ...]
    name: str


@dataclass
class Found:
    """One shape, as one kind sees it.

    Attributes:
        repeated: whether a key stands twice in an object that the kind reads.
        left: what nothing reads.
        read: keys that are there and are read, or are objects that are looked into.
    """

    repeated: bool = False
    left: set[Entry] = field(default_factory=set)
    read: set[Entry] = field(default_factory=set)


def look(plan: Plan, kind: KindPlan, shape: Mapping[str, Any]) -> Found:
    """What one shape tells one kind."""
    found = Found()
    for level in kind.levels:
        levels = shape[f"{level.text}_keys"]
        keys = levels[level.index] if levels is not None else None
        if keys is None:
            continue
        claimed = level.read | level.entered
        for pick in kind.picks:
            place = shape[f"{pick.text}_pick"]
            if place is None or level.document != RECORD:
                continue
            steps = plan.candidates[pick.text][place]
            if steps == level.steps:
                claimed |= pick.read
            elif steps and steps[:-1] == level.steps:
                claimed |= {steps[-1]}
        found.repeated = found.repeated or (not level.lines and len(set(keys)) < len(keys))
        open_keys = level.entered.intersection(keys) - level.read - _picked(plan, kind, shape, level)
        for key in keys:
            entry = Entry(level.text, (*level.steps, key), f"{level.prefix}{key}")
            whole = key in open_keys and _is_whole(plan, level, levels, shape, key)
            (found.left if key not in claimed or whole else found.read).add(entry)
    for pick in kind.picks:
        place = shape[f"{pick.text}_pick"]
        if place is None or not plan.candidates[pick.text][place]:
            continue
        keys = shape[f"{pick.text}_keys"][0]
        lines = plan.candidates[pick.text][place] in plan.lines
        found.repeated = found.repeated or (not lines and len(set(keys)) < len(keys))
        prefix = ".".join(plan.candidates[pick.text][place])
        for key in keys:
            (found.read if key in pick.read else found.left).add(Entry(pick.text, (key,), f"{prefix}.{key}"))
    return found


def _picked(plan: Plan, kind: KindPlan, shape: Mapping[str, Any], level: Any) -> frozenset[str]:
    """Keys of a level that are read because the level is the document."""
    found: frozenset[str] = frozenset()
    for pick in kind.picks:
        place = shape[f"{pick.text}_pick"]
        if place is not None and level.document == RECORD and plan.candidates[pick.text][place] == level.steps:
            found |= pick.read
    return found


def _is_whole(plan: Plan, level: Any, levels: Sequence[Any], shape: Mapping[str, Any], key: str) -> bool:
    """Whether what the mapping looks into is no object that can be looked into, and so is kept as it is."""
    for pick_text, candidates in plan.candidates.items():
        place = shape[f"{pick_text}_pick"]
        if place is not None and candidates[place] == (*level.steps, key):
            return False
    if key in level.nested:
        return shape.get(f"{level.nested[key]}_keys") is None
    return not levels[plan.levels[level.text][(*level.steps, key)]]


def rest_columns(
    kind: KindPlan, shapes: Sequence[tuple[Mapping[str, Any], Found]], sql: DuckDb
) -> tuple[list[tuple[str, str]], list[str]] | None:
    """What is left over in a chunk's records of one kind, as columns.

    Args:
        kind: the records' kind.
        shapes: the distinct ones among them, and what they tell.
        sql: the engine's words.

    Returns:
        key in ``unmapped`` and SQL of the value for each, and the structs that they are read from, ``SQL AS name``; None where only the
        general SQL is right: the same key comes from two places, or is left over in one record and read in another of the same make.
    """
    left: dict[Entry, set[Any]] = {}
    read: dict[tuple[str, tuple[str, ...]], set[Any]] = {}
    picks = [f"{pick.text}_pick" for pick in kind.picks]
    if len(picks) > 1:
        return None
    made: set[Any] = set()
    for shape, found in shapes:
        pick = shape[picks[0]] if picks else None
        made.add(pick)
        for entry in found.left:
            left.setdefault(entry, set()).add(pick)
        for entry in found.read:
            read.setdefault((entry.text, entry.steps), set()).add(pick)
    names = [*kind.explicit, *(entry.name for entry in left)]
    if len(left) > MOST_COLUMNS or len(set(names)) < len(names):
        return None
    if not all(_PLAIN.fullmatch(step) for entry in left for step in entry.steps):
        return None  # what can't be the name of a column
    if any(places & read.get((entry.text, entry.steps), set()) for entry, places in left.items()):
        return None
    trees: dict[str, list[dict[str, Any]]] = {}
    columns: list[tuple[str, str]] = []
    for entry in sorted(left):
        layers = trees.setdefault(entry.text, [])
        layer = next((place for place, tree in enumerate(layers) if fits(tree, entry.steps)), len(layers))
        if layer == len(layers):
            layers.append({})
        tree = layers[layer]
        for key in entry.steps[:-1]:
            tree = tree.setdefault(key, {})
        tree[entry.steps[-1]] = None
        value = sql.field(f"rest_{entry.text}{layer}", entry.steps)
        places = left[entry]
        if places != made:
            tests = [
                f"{picks[0]} = {place}" if place is not None else f"{picks[0]} IS NULL"
                for place in sorted(places, key=str)
            ]
            value = f"CASE WHEN {' OR '.join(tests)} THEN {value} END"
        columns.append((entry.name, value))
    structs = [
        f"{sql.fields(text, tree)} AS rest_{text}{layer}"
        for text, layers in trees.items()
        for layer, tree in enumerate(layers)
    ]
    return columns, structs
