"""What can go wrong with the gateway and with a job. Those that a retry can't mend derive from `AirflowFailException`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from data_platform.batch_gateway.spec_form import Problem


class BatchGatewayError(AirflowException):
    """Anything that this package raises on purpose."""


class GatewayUnavailable(BatchGatewayError):
    """The gateway gave no usable answer: time-out, broken connection, 5xx, something that is not its JSON. Asking again may work.

    Attributes:
        status: HTTP status, 0 where there was no answer.
        reached: whether the request may have been carried out all the same.
        retry_after: seconds that the answer asked to wait, if it did.
    """

    def __init__(
        self, message: str, *, status: int = 0, reached: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reached = reached
        self.retry_after = retry_after


class GatewayThrottled(GatewayUnavailable):
    """429: more than 20 listings a second at one instance of the gateway. Nothing was carried out."""


class GatewayConnectionInvalid(BatchGatewayError, AirflowFailException):
    """The Airflow connection is incomplete, contradicts itself or leads to something that is no gateway."""


class GatewayAccessDenied(BatchGatewayError, AirflowFailException):
    """401 or 403: the gateway does not let this login in."""


class GatewayRefused(BatchGatewayError, AirflowFailException):
    """The gateway refused a request for good (4xx)."""


class SubmissionRefused(GatewayRefused):
    """The gateway refused a submission: the spec, the queue or its token."""


class ClusterUnknown(GatewayRefused):
    """The gateway reads another cluster id out of the submission id than the one it gave: cluster ids with a dash break it."""


class SubmissionNotFound(BatchGatewayError):
    """404: the gateway has no such submission, or no longer."""


class SubmissionIdInvalid(BatchGatewayError, AirflowFailException):
    """A text is no submission id."""


class SpecRefused(BatchGatewayError, AirflowFailException):
    """A job's spec was refused before anything was sent.

    Attributes:
        problems: each with the path of the field and what was expected and found; the message has them all.
    """

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class CancelImpossible(BatchGatewayError):
    """A job can't be cancelled through the gateway."""


class SubmitUndecided(BatchGatewayError):
    """Whether a submission was accepted could not be found out in time. A retry looks it up again before it submits."""


class JobFailed(BatchGatewayError):
    """The job ended, but not well."""


class JobLost(JobFailed):
    """The job is gone from the cluster without an end that was seen: deleted, or expired."""


class JobTimedOut(JobFailed):
    """The task's execution time-out passed while the job ran; the job was cancelled."""


class JobCancelled(JobFailed):
    """The task was killed; the job was cancelled."""
