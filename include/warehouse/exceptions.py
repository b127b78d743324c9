"""What the warehouse refuses, each named for the refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class WarehouseError(RuntimeError):
    """Base of all refusals of this package."""


class WarehouseConnectionInvalid(WarehouseError):
    """The warehouse's Airflow connection lacks something, or is of an unknown type."""


class IdentifierRefused(WarehouseError):
    """A name that would have to be pasted into SQL isn't a plain identifier."""


class SelectionRefused(WarehouseError):
    """A dbt selection isn't one, or selects nothing. Nothing was changed."""


class DbtCouldNotRun(WarehouseError):
    """dbt ended before it ran any node: the project, the profile or the installation is broken."""


class DbtNodesFailed(WarehouseError):
    """One or more dbt nodes failed.

    Attributes:
        failed: unique ids of the nodes that failed, in the order they did.
    """

    def __init__(self, message: str, failed: Sequence[str]) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class DbtInterrupted(WarehouseError):
    """dbt was killed, or stopped before all selected nodes had run."""


class RunStateUnreadable(WarehouseError):
    """The saved state of an earlier try can't be read."""


class StatementFailed(WarehouseError):
    """The warehouse refused a statement; nothing of its transaction remains."""


class PublishFailed(WarehouseError):
    """Publishing stopped; readers still see the version that was published before."""


class ReleaseRefused(WarehouseError):
    """The version that was to be released isn't held any more, or readers have a newer one. Nothing was published."""
