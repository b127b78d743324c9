"""Wait for a job that something else has submitted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    GatewayUnavailable,
    JobFailed,
    JobLost,
    SubmissionNotFound,
)
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.names import SubmissionId
from data_platform.batch_gateway.states import JobState
from data_platform.batch_gateway.triggers import POLL_SECONDS, BatchGatewayJobTrigger
from data_platform.batch_gateway.watch import End, Ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class BatchGatewayJobSensor(BaseSensorOperator):
    """Waits for a job that something else has submitted. A kill does not touch the job.

    Args:
        submission_id: of the job; templated.
        application_name: to find it by, where its cluster's id has a dash; templated.
        batch_gateway_conn_id: of the gateway.
        deferrable: wait in the triggerer, without a worker.

    Raises:
        JobFailed: it failed.
        JobLost: there is no such job, or no longer.
    """

    template_fields: Sequence[str] = ("submission_id", "application_name", "batch_gateway_conn_id")
    ui_color = "#f4b183"

    def __init__(
        self,
        *,
        submission_id: str,
        application_name: str | None = None,
        batch_gateway_conn_id: str = BatchGatewayHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float = POLL_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.submission_id = submission_id
        self.application_name = application_name
        self.batch_gateway_conn_id = batch_gateway_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Wait."""
        SubmissionId.parse(self.submission_id)
        if not self.deferrable:
            return super().execute(context)
        trigger = BatchGatewayJobTrigger(
            batch_gateway_conn_id=self.batch_gateway_conn_id,
            submission_id=self.submission_id,
            poll_seconds=self.poke_interval,
            log_max_bytes=0,
            cancel_on_kill=False,
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=self.timeout))

    def poke(self, context: Context) -> bool:
        """Whether the job has completed."""
        del context
        hook = BatchGatewayHook(self.batch_gateway_conn_id)
        try:
            status = hook.status(self.submission_id, application_name=self.application_name)
        except SubmissionNotFound as error:
            raise JobLost(f"there is no job {self.submission_id}, or no longer: {error}") from error
        except GatewayUnavailable as error:
            self.log.warning("%s", error)
            return False
        finally:
            hook.close()
        self.log.info("job %s is %s", self.submission_id, status.state if status else "not listed")
        if status is not None and status.state == JobState.FAILED:
            raise JobFailed(f"job {self.submission_id} failed: {status.error or 'no reason given'}")
        return status is not None and status.state == JobState.COMPLETED

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """The trigger has seen the job's end."""
        del context
        end = End.from_json(event)
        if end.ending is Ending.LOST:
            raise JobLost(f"there is no job {self.submission_id}, or no longer")
        if end.ending is Ending.UNWATCHABLE:
            raise BatchGatewayError(f"job {self.submission_id} can't be watched for now: {end.message}")
        if end.ending is not Ending.COMPLETED:
            reason = (end.status and end.status.error) or end.message or "no reason given"
            raise JobFailed(f"job {self.submission_id}: {end.ending}: {reason}")
