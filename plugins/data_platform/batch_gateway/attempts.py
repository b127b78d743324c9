"""Which job belongs to a task instance: one attempt, one application name, one job.

The gateway makes a fresh id for every submission and has no idempotency key, so what makes a submission unique is the application name.
An *attempt* is one intended job. It is written to Airflow's task state store before anything is sent, under a name that no other attempt
of the task instance has, and whoever finds it there later (a retry, after any kind of death) looks the job up by that name before it
submits.

When does a task get another attempt? When the job of the present one has ended badly, or is gone, and Airflow tries again; and when a
person has cleared the task, which Airflow shows by a raised ``max_tries``: then the job of the attempt before, if it still runs, is
cancelled first. A task that dies after its job has succeeded, but before Airflow knows, gets that job's result.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STORE_KEY: Final = "batch_gateway_attempt"


class Outcome(StrEnum):
    """How an attempt ended, as far as the task has found out."""

    OPEN = ""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Attempt:
    """One intended job.

    Attributes:
        number: 1 for the first of the task instance.
        name: the application name.
        life: ``max_tries`` of the task instance when the attempt began; a larger one means that the task was cleared since.
        clears: how often the run had been cleared when the attempt succeeded.
        posted_at: when a submission was last sent, or given up, whose answer was not seen, in seconds since the epoch.
        doubtful: whether there ever was such a submission: then another job of this name may still appear.
        submission_id: once the gateway gave it.
        outcome: how it ended.
        result: what the task gives, once the job has succeeded.
    """

    number: int
    name: str
    life: int
    clears: int = 0
    posted_at: float | None = None
    doubtful: bool = False
    submission_id: str | None = None
    outcome: Outcome = Outcome.OPEN
    result: dict[str, Any] | None = None

    @property
    def open(self) -> bool:
        """Whether its end has not been found out yet."""
        return self.outcome is Outcome.OPEN

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Attempt:
        """Read what `to_json` gave."""
        known = {key: value for key, value in document.items() if key in cls.__dataclass_fields__}
        return replace(cls(**known), outcome=Outcome(document.get("outcome", "")))

    def to_json(self) -> dict[str, Any]:
        """For the task state store."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class StateStore(Protocol):
    """Airflow's task state store, as much of it as is needed."""

    def get(self, key: str) -> Any:
        """The value, or None."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""

    def delete(self, key: str) -> None:
        """Forget a value."""


@dataclass(frozen=True)
class AttemptStore:
    """The attempts of one task instance: the present one.

    Attributes:
        store: where it is kept.
        kept: told each attempt that is saved; a signal handler can't ask the store.
    """

    store: StateStore
    kept: Callable[[Attempt], None] = lambda attempt: None

    def load(self) -> Attempt | None:
        """The present attempt, if there is any."""
        document = self.store.get(STORE_KEY)
        return Attempt.from_json(document) if document else None

    def save(self, attempt: Attempt) -> Attempt:
        """Keep it; gives it back."""
        self.kept(attempt)
        self.store.set(STORE_KEY, attempt.to_json())
        return attempt
