"""One check of a data contract, compiled for the quality engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """What a failed check does."""

    ERROR = "error"
    """Blocks the publication."""

    WARNING = "warning"
    """Is told and counted; does not block."""


@dataclass(frozen=True)
class Check:
    """One check of one relation.

    Attributes:
        key: ``<product>/<relation>/<slug>``; unique in a scan, the same from run to run.
        product: folder of the contract.
        contract_version: the contract's own version.
        relation: what is checked, by the name that readers use.
        columns: the columns it is about; empty for the relation as a whole.
        dimension: ODCS' data quality dimension, such as ``completeness``.
        severity: what a failure does.
        description: the rule in words.
        sodacl: the entry in Soda's list ``checks for <relation>``, with its ``name`` set to ``key``.
        sample_columns: columns whose values may be shown of rows that fail: none that the contract classifies as personal.
    """

    key: str
    product: str
    contract_version: str
    relation: str
    columns: tuple[str, ...]
    dimension: str
    severity: Severity
    description: str
    sodacl: dict[str, Any] = field(hash=False)
    sample_columns: tuple[str, ...] = ()
