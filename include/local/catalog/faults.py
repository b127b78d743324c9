"""What can befall the catalog's requests, and the events that it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from include.local import faults

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PROCESSING: Final = "ProcessLineageEvent"
"""The operation of faults that befall an event after it was taken. It is no operation of the service."""


@dataclass
class Fault(faults.Fault):
    """What befalls requests.

    Attributes:
        code: the error that is answered with `status`.
        outcome: of `PROCESSING`: FAILED, or PROCESSING for as long as the fault lasts.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {**faults.Fault.CHOICES, "outcome": ("FAILED", "PROCESSING")}

    code: str = "InternalServerException"
    outcome: Literal["", "FAILED", "PROCESSING"] = ""

    def befalls(self, operation: str, about: Collection[str] = ()) -> bool:
        """A fault of all requests is none of `PROCESSING`, which is no request."""
        return self.operation == operation or (self.operation == "*" and operation != PROCESSING)


class Faults(faults.Faults[Fault]):
    """The faults in force, and how often each operation was asked for."""

    def holds_processing(self) -> bool:
        """Whether events wait."""
        return any(fault.outcome == "PROCESSING" for fault in self.in_force())
