"""The states of a job, as the Spark operator names them and the gateway passes them on."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Every state that is known. A new version of the operator may have more: see `is_known`."""

    NEW = ""
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUBMISSION_FAILED = "SUBMISSION_FAILED"
    """The operator could not start the driver; it tries again, or gives up with FAILED."""
    PENDING_RERUN = "PENDING_RERUN"
    INVALIDATING = "INVALIDATING"
    SUCCEEDING = "SUCCEEDING"
    FAILING = "FAILING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    RESUMING = "RESUMING"
    UNKNOWN = "UNKNOWN"
    """The operator lost sight of the driver; also the gateway's word for *no status yet* and for *Kubernetes throttles me*."""


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED})
"""The only states that a job does not leave."""

_KNOWN: Final = frozenset(state.value for state in JobState)


def is_known(state: str) -> bool:
    """Whether the state is one of `JobState`. One that is not is waited on, with a warning."""
    return state in _KNOWN


def is_terminal(state: str) -> bool:
    """Whether a job in this state has ended."""
    return state in TERMINAL
