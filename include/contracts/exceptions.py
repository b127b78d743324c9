"""What data contracts refuse, each named for the refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.contracts.odcs import Problem

MOST_PROBLEMS = 20
"""Of more, the message tells the first and says how many there are."""


class ContractError(ValueError):
    """Base of all refusals of this package."""


class ContractInvalid(ContractError):
    """One or more contracts can't be read, or promise what can't be checked.

    Attributes:
        problems: all of them, in the order of the files.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        told = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        if len(self.problems) > MOST_PROBLEMS:
            told.append(f"and {len(self.problems) - MOST_PROBLEMS} more")
        super().__init__("\n".join(told))


class UnknownArea(ContractError):
    """No folder of that name holds products."""


class UnknownProduct(ContractError):
    """No product of that name in the area."""


class ProductFolderEmpty(ContractError):
    """A product's folder without a contract."""


class RelationClaimedTwice(ContractError):
    """Two contracts promise the same relation."""


class ContractMissing(ContractError):
    """A published relation that no contract promises."""


class RelationNotPublished(ContractError):
    """A contract promises a relation that is not published."""
