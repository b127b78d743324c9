"""What a gate found: one result a check, a score a relation, one verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from include.contracts.checks import Severity

if TYPE_CHECKING:
    from datetime import datetime

    from include.contracts.checks import Check


class Outcome(StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"
    """The check could not be evaluated: nothing is known of the data."""


class Verdict(StrEnum):
    """What the gate decides."""

    PASSED = "passed"
    WARNED = "warned"
    """Only checks of severity warning failed; the version may be published."""

    FAILED = "failed"
    """A check of severity error failed; the version is held."""

    ERRORED = "errored"
    """A check could not be evaluated; the version is not published, a retry may help."""


@dataclass(frozen=True)
class CheckResult:
    """How one check ended.

    Attributes:
        check: which.
        outcome: how.
        measured: the value that was measured, as the engine gives it; None if there is none.
        message: what was expected and found, in words.
        samples: some rows that fail, only with columns that may be shown.
        failed_rows: how many rows fail; None where the check does not count rows.
    """

    check: Check
    outcome: Outcome
    measured: float | str | None
    message: str
    samples: tuple[dict[str, Any], ...] = ()
    failed_rows: int | None = None


@dataclass(frozen=True)
class GateReport:
    """What a gate found.

    Attributes:
        scanned_at: UTC, by the warehouse's clock.
        seconds: what the scan took.
        results: in the order of the checks.
        build: token of the build whose relations were checked; empty if builds have none (one Airflow task a model).
    """

    scanned_at: datetime
    seconds: float
    results: tuple[CheckResult, ...]
    build: str = ""

    @property
    def verdict(self) -> Verdict:
        """An error counts more than a failure, a failure more than a warning."""
        if any(result.outcome is Outcome.ERRORED for result in self.results):
            return Verdict.ERRORED
        failed = {result.check.severity for result in self.results if result.outcome is Outcome.FAILED}
        if Severity.ERROR in failed:
            return Verdict.FAILED
        return Verdict.WARNED if failed else Verdict.PASSED

    @property
    def relations(self) -> tuple[str, ...]:
        """What was checked, in alphabetical order."""
        return tuple(sorted({result.check.relation for result in self.results}))

    def of(self, relation: str) -> tuple[CheckResult, ...]:
        """The results of one relation."""
        return tuple(result for result in self.results if result.check.relation == relation)

    def score(self, relation: str | None = None) -> float:
        """Percentage of checks that passed, of one relation or of all; each check counts once, whatever its severity."""
        results = self.results if relation is None else self.of(relation)
        passed = sum(result.outcome is Outcome.PASSED for result in results)
        return round(100.0 * passed / len(results), 2) if results else 0.0
