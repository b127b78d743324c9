"""A rule's threshold and its measured value as text, told alike in logs, notes, scores and lineage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.contracts.checks import Check
    from include.quality.report import CheckResult

_THRESHOLD = re.compile(r"\s((?:not )?between .+|(?:[<>!]=?|=|<>) *\S.*)$")


def threshold(check: Check) -> str:
    """What SodaCL expects of the measured value, such as ``= 0``; empty where the entry names none."""
    entry = next(iter(check.sodacl), "")
    found = _THRESHOLD.search(entry)
    return found[1] if found else ""


def measured(result: CheckResult) -> str:
    """The measured value; ``nothing`` if there is none."""
    return "nothing" if result.measured is None else str(result.measured)
