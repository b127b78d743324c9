"""The part of dbt's node selection that a person may give a run.

dbt takes the selection as command-line arguments, so it is checked before anything runs: names, the methods ``tag:``, ``path:`` … and the
operators ``+``, ``@``, ``*`` and ``,`` of https://docs.getdbt.com/reference/node-selection/syntax; nothing that could be an option.
"""

from __future__ import annotations

import re

from include.warehouse.exceptions import SelectionRefused

_TERM = r"(?:@|\d{0,3}\+)?[A-Za-z_*][A-Za-z0-9_.:*/]*(?:\+\d{0,3})?"
_CRITERION = rf"{_TERM}(?:,{_TERM})*"
SELECTION_PATTERN = rf"^(?:{_CRITERION}(?: {_CRITERION}){{0,49}})?$"
"""JSON-schema pattern of the param ``select``; empty means the whole graph."""
MAX_SELECTION_LENGTH = 2000


def selection_options(selection: str) -> list[str]:
    """``--select`` and its arguments; nothing for an empty selection.

    Raises:
        SelectionRefused: not a selection.
    """
    if len(selection) > MAX_SELECTION_LENGTH or not re.fullmatch(SELECTION_PATTERN, selection):
        raise SelectionRefused(
            "param select: expected dbt node selection such as 'fct_sales+ tag:finance' (names, methods and + @ * , of at most "
            f"{MAX_SELECTION_LENGTH} characters), found {selection[:200]!r}. Nothing was changed"
        )
    return ["--select", *selection.split()] if selection else []
