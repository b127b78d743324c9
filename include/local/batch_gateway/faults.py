"""What can befall the gateway's requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from include.local import faults

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Fault(faults.Fault):
    """What befalls requests.

    Attributes:
        done: the request is done first; what befalls it, befalls its answer: a delay makes it late, a status is a lie.
        message: of the error that is answered with `status`.
        body: answered with `status` as it is: the page of a proxy in between.
        cut_at: of a listing: the cluster that can't be asked. It and the later ones are missing, and the status is 200.
        cut_after: the connection ends after so many bytes of a streamed answer.
        kubernetes: of a status: the cluster's API is ``throttled``.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {**faults.Fault.CHOICES, "kubernetes": ("throttled",)}

    done: bool = False
    message: str = "a fault was asked for"
    body: str = ""
    cut_at: str = ""
    cut_after: int = 0
    kubernetes: Literal["", "throttled"] = ""


class Faults(faults.Faults[Fault]):
    """The faults in force, and how often each operation was asked for."""
