"""Submit a Spark job through the gateway and wait for its end; cancel one. The sensor is in `sensors`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.sdk import BaseOperator, ResumableJobMixin
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferralTimeout

from data_platform.batch_gateway.attempts import Attempt, AttemptStore, Outcome
from data_platform.batch_gateway.cancelling import KILL_EVIDENCE_SECONDS, KILL_LOOK_UP_SECONDS, Canceller
from data_platform.batch_gateway.driver_log import MAX_BYTES
from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
    SubmissionNotFound,
    SubmissionRefused,
)
from data_platform.batch_gateway.hook import BatchGatewayHook, Evidence
from data_platform.batch_gateway.in_worker import WorkerWatch
from data_platform.batch_gateway.lineage import with_lineage
from data_platform.batch_gateway.links import LINKS, history_link, link_of, links_at_submission
from data_platform.batch_gateway.names import SubmissionId, application_name
from data_platform.batch_gateway.states import TERMINAL, JobState, is_terminal
from data_platform.batch_gateway.submitter import LOOK_UP_SECONDS, PATIENCE_SECONDS, Submitter
from data_platform.batch_gateway.triggers import POLL_SECONDS, BatchGatewayJobTrigger
from data_platform.batch_gateway.watch import SUBMISSION_RETRY_SECONDS, End, Ending

if TYPE_CHECKING:
    from airflow.sdk import Context

    from data_platform.batch_gateway.protocol import JobStatus
    from data_platform.batch_gateway.spec import JobSpec

LOST: Final = Outcome.LOST.upper()
"""Our word for a job that was there and is gone."""
_ENDED: Final = {outcome.upper() for outcome in Outcome if outcome} | TERMINAL
DIAGNOSIS_LINES: Final = 15
"""Lines of the events and of the driver's log that a failure's message carries."""


class BatchGatewaySubmitOperator(ResumableJobMixin, BaseOperator):
    """Runs one Spark job through the gateway: exactly one, whatever dies in between (see `attempts`).

    The job's spec is checked before anything is sent: where a DAG file gives it as a `JobSpec` or a mapping without templates, when
    the file is parsed. The driver's log goes to the task's log while the job runs. A task that is killed or timed out saves what is
    known of its job and cancels it. A retry finds the job that is still running and goes on watching it.

    XCom: ``return_value`` has ``submission_id``, ``cluster``, ``application_id``, ``application_name`` and ``state``; the first three
    also under their own keys, the first two as soon as the job is submitted.

    Args:
        job: the spec as `JobSpec` or mapping, or the path of a ``.json`` or ``.yaml`` file below the DAG's ``template_searchpath``;
            templated.
        batch_gateway_conn_id: of the gateway; templated.
        deferrable: wait in the triggerer, without a worker.
        poll_seconds: time between two looks at the job.
        driver_log_max_bytes: most of the driver's log that goes to the task's log; 0 for none.
        submission_retry_seconds: how long the Spark operator may try to start the driver after it could not.
        patience_seconds: how long a gateway that does not answer is waited for before the job is submitted.
        openlineage_inject_parent_job_info: add the task as the parent of the job's lineage.
        openlineage_inject_transport_info: add where the job sends its lineage.
        environment: keeps application names of several Airflows at one gateway apart; default this one's ``[api] base_url``.
            Give it where that is not set.
        queue_limit: longest that the gateway lets a job of the queue run (``bpg.maxRunningMillis``).

    Raises:
        SpecRefused: the spec has faults; the message names each.
        SubmissionRefused: the gateway refused the job.
        JobFailed: the job failed; the message has the gateway's diagnosis and the end of the driver's log.
        JobLost: the job is gone from its cluster.
        JobTimedOut: the task's ``execution_timeout`` passed.
    """

    template_fields: Sequence[str] = ("job", "batch_gateway_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"job": "json"}
    template_ext: Sequence[str] = (".json", ".yaml", ".yml")
    ui_color = "#e25a1c"
    operator_extra_links = LINKS
    external_id_key = "batch_gateway_submission_id"

    def __init__(
        self,
        *,
        job: JobSpec | Mapping[str, Any] | str,
        batch_gateway_conn_id: str = BatchGatewayHook.default_conn_name,
        deferrable: bool = True,
        poll_seconds: float = POLL_SECONDS,
        driver_log_max_bytes: int = MAX_BYTES,
        submission_retry_seconds: float = SUBMISSION_RETRY_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        openlineage_inject_parent_job_info: bool = True,
        openlineage_inject_transport_info: bool = True,
        environment: str = "",
        queue_limit: timedelta = timedelta(hours=12),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not self.durable:
            raise ValueError("expected durable=True, found False: a retry would run a second job beside the first")
        self.job = job if isinstance(job, Mapping | str) else job.to_mapping()
        self.batch_gateway_conn_id = batch_gateway_conn_id
        self.deferrable = deferrable
        self.poll_seconds = poll_seconds
        self.driver_log_max_bytes = driver_log_max_bytes
        self.submission_retry_seconds = submission_retry_seconds
        self.patience_seconds = patience_seconds
        self.openlineage_inject_parent_job_info = openlineage_inject_parent_job_info
        self.openlineage_inject_transport_info = openlineage_inject_transport_info
        self.environment = environment
        self.queue_limit = queue_limit
        self._attempt: Attempt | None = None
        self._killed = False
        if isinstance(self.job, Mapping):
            self._spec(rendered=False)

    @cached_property
    def hook(self) -> BatchGatewayHook:
        """The gateway."""
        return BatchGatewayHook(self.batch_gateway_conn_id)

    @cached_property
    def canceller(self) -> Canceller:
        """Ends the present attempt's job."""
        return Canceller(self.hook, self.log)

    @property
    def _in_worker(self) -> WorkerWatch:
        return WorkerWatch(
            hook=self.hook,
            log=self.log,
            check=self._stop_if_killed,
            poll_seconds=self.poll_seconds,
            log_max_bytes=self.driver_log_max_bytes,
            submission_retry_seconds=self.submission_retry_seconds,
            patience_seconds=self.patience_seconds,
        )

    def execute(self, context: Context) -> Any:
        """Submit, or find what an earlier try has submitted, and wait."""
        try:
            for remark in self._spec().remarks():  # a spec with faults is refused here, before anything changes
                self.log.warning("the job's spec: %s", remark)
            self.hook.config  # noqa: B018 - a signal handler must not have to ask the secrets backend
            attempts = self._attempts(context)
            attempt = attempts.load()
            if attempt and self._was_cleared(attempt, context):
                self._end_earlier_life(attempt, attempts)
            elif attempt and attempt.open and attempt.submission_id:
                attempts.store.set(self.external_id_key, attempt.submission_id)  # killed before the mixin could
            return self.execute_resumable(context)
        except Exception as error:
            self._leave_no_job(context, error)
            raise

    # What Airflow's mixin asks for. It keeps the submission id, and on a retry asks for the job's status before it submits another.

    def submit_job(self, context: Context) -> str:
        """Submit the present attempt's job, or the next one's if that has ended."""
        attempts = self._attempts(context)
        attempt = attempts.load()
        is_new = attempt is None or not attempt.open or attempt.submission_id is not None
        if attempt is None or is_new:
            if attempt and attempt.open:
                self._conclude(attempts, attempt, Outcome.LOST)
            attempt = self._next(attempt, context)
        while True:
            self._attempt = attempts.save(attempt)
            try:
                submitted = self._submitter(attempts).ensure(attempt, self._request(attempt, context))
            except SubmissionRefused:
                self._conclude(attempts, attempt, Outcome.REFUSED)
                raise
            self._attempt = attempt = submitted.attempt
            if not submitted.is_anothers(is_new=is_new):
                break
            self.log.warning("job %s of an earlier try or run has ended; submitting another", attempt.submission_id)
            self._conclude(attempts, attempt, Outcome.FAILED)
            attempt, is_new = self._next(attempt, context), True
        attempts.store.set(self.external_id_key, attempt.submission_id)
        self._stop_if_killed()
        return str(attempt.submission_id)

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """The state of the job that an earlier try has submitted; `LOST` if it is gone."""
        attempt = self._attempts(context).load()
        if attempt is None or attempt.submission_id != external_id:
            return LOST
        self._attempt = attempt
        if attempt.outcome is Outcome.SUCCEEDED:
            return JobState.COMPLETED
        if not attempt.open:
            return attempt.outcome.upper()
        status = self._in_worker.status(str(attempt.submission_id))
        if status is not None and status.state == JobState.FAILED:
            reason = status.error or "no reason given"
            told = self.hook.evidence(str(external_id)).text()
            self.log.warning("job %s failed while nobody watched it: %s. It is:\n%s", external_id, reason, told)
            self._conclude(self._attempts(context), attempt, Outcome.FAILED)
        return LOST if status is None else status.state

    def is_job_active(self, status: str) -> bool:
        """Whether the job has not ended."""
        return status not in _ENDED

    def is_job_succeeded(self, status: str) -> bool:
        """Whether the job has ended well."""
        return status == JobState.COMPLETED

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Wait: in the triggerer if the task is deferrable."""
        submission_id = str(external_id)
        self._show(context, submission_id)
        deadline = time.time() + self.execution_timeout.total_seconds() if self.execution_timeout else None
        if self.deferrable:
            self._defer(submission_id, deadline)

        async def show(status: JobStatus) -> None:
            if status.ui_url:
                self._push(context, {link_of(status).xcom_key: status.ui_url})

        return self._finish(context, self._in_worker.run(submission_id, show))

    def get_job_result(self, external_id: Any, context: Context) -> dict[str, Any]:
        """What the task gives: the job has completed while nobody watched it, or just before an earlier try died."""
        attempt = self._attempt = self._attempts(context).load()
        if attempt and attempt.submission_id == external_id and attempt.result:
            self.log.info("job %s had completed before an earlier try ended; nothing is run again", external_id)
            return attempt.result
        result = self._succeed(context, str(external_id), None)
        self._in_worker.write_rest(str(external_id), 0)
        return result

    # The deferred task's way back.

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger has seen the job's end."""
        return self._finish(context, End.from_json(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Come back from the triggerer; also where that took too long, or failed."""
        self.hook.config  # noqa: B018 - a signal handler must not have to ask the secrets backend
        self._attempt = self._attempts(context).load()
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise self._time_out() from error
        except Exception as error:
            self._leave_no_job(context, error)
            raise

    def on_kill(self) -> None:
        """The task was killed, or timed out: save what is known of the job and cancel it. Runs in a signal handler.

        Airflow ends a killed process by force 5 s later (``ActivitySubprocess.kill``); after a time-out nothing presses.
        """
        self._killed = True
        if isinstance(sys.exception(), AirflowTaskTimeout):
            self.canceller.cancel(self._attempt, "the task timed out", look_up_seconds=self.hook.config.settle_seconds)
        else:
            self.canceller.cancel(
                self._attempt,
                "the task was killed",
                evidence_seconds=KILL_EVIDENCE_SECONDS,
                look_up_seconds=KILL_LOOK_UP_SECONDS,
            )

    def _leave_no_job(self, context: Context, error: Exception) -> None:
        """A try fails while its job may run: the next try goes on with it; if there is none, it is cancelled.

        Raises:
            BatchGatewayError: instead of an error that would let Airflow not try again.
        """
        attempt = self._attempt
        if attempt is None or not attempt.open or not (attempt.submission_id or attempt.posted_at):
            return
        ti: Any = context["ti"]
        if ti.try_number > ti.max_tries:
            self.canceller.cancel(self._attempt, "the last try failed", look_up_seconds=self.hook.config.settle_seconds)
        elif isinstance(error, AirflowFailException):
            raise BatchGatewayError(f"{error}. Its job may run; the next try goes on with it") from error

    def _finish(self, context: Context, end: End) -> dict[str, Any]:
        """Turn the end of the watch into the task's."""
        attempts, attempt = self._attempts(context), self._attempt
        submission_id = attempt.submission_id if attempt else None
        if attempt is None or submission_id is None:
            raise BatchGatewayError("expected the attempt that was submitted in the task state store, found none")
        if end.ending is Ending.TIMED_OUT:
            raise self._time_out()
        if end.ending is Ending.UNWATCHABLE:
            raise BatchGatewayError(f"job {submission_id} can't be watched for now; it may run on: {end.message}")
        if end.ending is Ending.COMPLETED:
            result = self._succeed(context, submission_id, end.status)
            self._in_worker.write_rest(submission_id, end.log_position)
            return result
        self._in_worker.write_rest(submission_id, end.log_position)
        if end.status:
            self._push(context, {"application_id": end.status.application_id})
            self._push(context, history_link(self.hook.config, end.status.application_id, end.status.ui_url))
        if end.ending is Ending.LOST:
            self._conclude(attempts, attempt, Outcome.LOST)
            seen = f"last seen {end.status.state or 'new'}" if end.status else "not seen since it was submitted"
            raise JobLost(
                f"job {submission_id} is gone from its cluster ({seen}): somebody deleted it, or its time to live has passed. "
                "Whether it did its work is not known"
            )
        evidence = self.hook.evidence(submission_id)
        if end.ending is Ending.SUBMISSION_FAILED:
            self.canceller.cancel(
                self._attempt, f"its driver could not be started for {self.submission_retry_seconds:.0f} s"
            )
        if end.ending is Ending.FAILED or self.canceller.cancelled:  # a job that may still start is the next try's
            self._conclude(attempts, attempt, Outcome.FAILED)
        self._reap(attempts, attempt)
        self.log.error("what is known of job %s:\n%s", submission_id, evidence.text())
        raise JobFailed(_diagnosis(submission_id, end, self._failure_text(submission_id, end.status), evidence))

    def _reap(self, attempts: AttemptStore, attempt: Attempt) -> None:
        """Once more look for a second job of the attempt, if there may be one."""
        if attempt.doubtful:
            try:
                self._submitter(attempts).reap(attempt)
            except BatchGatewayError as error:
                self.log.warning("whether %s has another job was not found out: %s", attempt.name, error)

    def _succeed(self, context: Context, submission_id: str, status: JobStatus | None) -> dict[str, Any]:
        attempts, attempt = self._attempts(context), self._attempt
        if status is None:
            try:
                status = self.hook.status(submission_id, application_name=attempt.name if attempt else None)
            except SubmissionNotFound:
                status = None
        result: dict[str, Any] = {
            "submission_id": submission_id,
            "cluster": SubmissionId.parse(submission_id).cluster,
            "application_id": status.application_id if status else None,
            "application_name": attempt.name if attempt else None,
            "state": JobState.COMPLETED.value,
        }
        if attempt is not None:
            self._attempt = attempts.save(
                replace(attempt, outcome=Outcome.SUCCEEDED, result=result, clears=_clears(context))
            )
            self._reap(attempts, attempt)
        self._push(context, {"application_id": result["application_id"]})
        if status:
            self._push(context, history_link(self.hook.config, status.application_id, status.ui_url))
        self.log.info("job %s has completed", submission_id)
        return result

    def _failure_text(self, submission_id: str, status: JobStatus | None) -> str:
        """The gateway's own words; its status says more than its listing."""
        try:
            told = self.hook.status(submission_id, application_name=self._attempt.name if self._attempt else None)
        except BatchGatewayError:
            told = None
        return (told and told.error) or (status and status.error) or "no reason given"

    def _time_out(self) -> JobTimedOut:
        limit = self.execution_timeout or timedelta(0)
        self.canceller.cancel(self._attempt, "the task timed out")
        became = "it was cancelled" if self.canceller.cancelled else "it could not be cancelled, and may still run"
        return JobTimedOut(
            f"job {self._submission_id()} had not ended when the task's execution_timeout of {limit} had passed; {became}"
        )

    def _was_cleared(self, attempt: Attempt, context: Context) -> bool:
        """Whether a person has cleared the task since the attempt began.

        A clear raises ``max_tries``. One after the DAG's retries were lowered may not; then the run's count of clears tells, for an attempt
        that has succeeded. For one that runs it does not: the clear may have been another task's.
        """
        if attempt.life != self._life(context):
            return True
        return attempt.outcome is Outcome.SUCCEEDED and attempt.clears != _clears(context)

    def _end_earlier_life(self, attempt: Attempt, attempts: AttemptStore) -> None:
        """The task was cleared: its present job, if there is one, is not to go on beside the one to come."""
        attempts.store.delete(self.external_id_key)
        if not attempt.open:
            self._conclude(attempts, attempt, Outcome.CANCELLED)
            return
        self._attempt = attempt
        if attempt.submission_id is None:
            found = self._submitter(attempts).find(attempt)
            if found is None:
                self._conclude(attempts, attempt, Outcome.CANCELLED)
                return
            attempt = self._attempt = attempts.save(replace(attempt, submission_id=found.submission_id))
        status = self._in_worker.status(str(attempt.submission_id))
        if status is not None and not is_terminal(status.state):
            self.canceller.cancel(self._attempt, "the task was cleared", must=True)
            self.canceller.cancelled = False
        self._conclude(attempts, attempt, Outcome.CANCELLED)

    def _submission_id(self) -> str | None:
        return self._attempt.submission_id if self._attempt else None

    def _stop_if_killed(self) -> None:
        if self._killed:
            self.canceller.cancel(self._attempt, "the task was killed", evidence_seconds=KILL_EVIDENCE_SECONDS)
            became = "was cancelled" if self.canceller.cancelled else "may still run: the log says more"
            raise JobCancelled(f"the task was killed; its job {self._submission_id() or ''} {became}")

    def _defer(self, submission_id: str, deadline: float | None) -> NoReturn:
        self._stop_if_killed()
        trigger = BatchGatewayJobTrigger(
            batch_gateway_conn_id=self.batch_gateway_conn_id,
            submission_id=submission_id,
            poll_seconds=self.poll_seconds,
            deadline=deadline,
            log_max_bytes=self.driver_log_max_bytes,
            submission_retry_seconds=self.submission_retry_seconds,
        )
        # Without a triggerer nobody keeps the deadline: then Airflow's own comes, a little later.
        grace = None if self.execution_timeout is None else self.execution_timeout + timedelta(seconds=60)
        self.defer(trigger=trigger, method_name="resume", timeout=grace)

    def _spec(self, *, rendered: bool = True) -> JobSpec:
        from data_platform.batch_gateway.spec import (
            JobSpec,
        )  # its models take a part of the time that a DAG file may take

        limit = int(self.queue_limit.total_seconds() * 1000)
        return JobSpec.read(self.job, rendered=rendered, max_running_millis=limit)

    def _request(self, attempt: Attempt, context: Context) -> dict[str, Any]:
        """The body of the submission."""
        request = self._spec().to_request(application_name=attempt.name)
        config = self.hook.config
        if config.queue:
            request.setdefault("queue", config.queue)
            if config.queue_token and request["queue"] == config.queue:
                request.setdefault("queueToken", config.queue_token)
        request["sparkConf"] = with_lineage(
            request.get("sparkConf", {}),
            context,
            parent=self.openlineage_inject_parent_job_info,
            transport=self.openlineage_inject_transport_info,
        )
        return request

    def _submitter(self, attempts: AttemptStore) -> Submitter:
        config = self.hook.config
        return Submitter(
            self.hook.client,
            attempts,
            settle_seconds=config.settle_seconds,
            look_up_seconds=min(LOOK_UP_SECONDS, config.settle_seconds / 5),
            patience_seconds=self.patience_seconds,
            stopped=lambda: self._killed,
            proxied_user=config.proxied_user,
        )

    def _next(self, attempt: Attempt | None, context: Context) -> Attempt:
        number = attempt.number + 1 if attempt else 1
        ti: Any = context["ti"]
        life = self._life(context)
        name = application_name(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            attempt=f"{life}.{number}",  # a life's first attempt is new even if the store was emptied, as clear_on_success does
            environment=self.environment or _this_airflow(),
        )
        return Attempt(number, name, life)

    def _conclude(self, attempts: AttemptStore, attempt: Attempt, outcome: Outcome) -> None:
        self._attempt = attempts.save(replace(attempt, outcome=outcome))

    def _attempts(self, context: Context) -> AttemptStore:
        store: Any = context.get("task_state_store")
        if store is None:
            raise BatchGatewayError("expected Airflow's task state store, found none; it takes Airflow 3.3 or newer")
        return AttemptStore(store, kept=self._remember)

    def _remember(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def _life(self, context: Context) -> int:
        ti: Any = context["ti"]
        return int(ti.max_tries)

    def _show(self, context: Context, submission_id: str) -> None:
        """What is known of the job as soon as it has an id."""
        self._push(context, {"submission_id": submission_id, "cluster": SubmissionId.parse(submission_id).cluster})
        self._push(context, links_at_submission(self.hook.config, submission_id))

    def _push(self, context: Context, values: Mapping[str, Any]) -> None:
        ti: Any = context["ti"]
        for key, value in values.items():
            try:
                ti.xcom_push(key=key, value=value)
            except Exception as error:  # the job is what counts
                self.log.warning("XCom %s not written: %s", key, error)


def _diagnosis(submission_id: str, end: End, reason: str, evidence: Evidence) -> str:
    """Why a job failed, as short as it can be said."""
    state = end.status.state if end.status else "unknown"
    told = evidence.describe.partition("--- Spark Application Events ---")[2].splitlines()
    events = [line for line in told if line.strip() and not line.startswith("---")]
    parts = [f"job {submission_id} ended {state}: {reason}"]
    if events:
        parts.append("Events:\n" + "\n".join(f"  {line}" for line in events[-DIAGNOSIS_LINES:]))
    if evidence.log_tail:
        parts.append("Driver log:\n" + "\n".join(f"  {line}" for line in evidence.log_tail[-DIAGNOSIS_LINES:]))
    return "\n".join(parts)


def _clears(context: Context) -> int:
    """How often the run was cleared, as far as Airflow tells."""
    return int(getattr(context.get("dag_run"), "clear_number", 0) or 0)


def _this_airflow() -> str:
    """What tells this Airflow from others that submit to the same gateway: the address of its UI."""
    from airflow.providers.common.compat.sdk import conf

    return str(conf.get("api", "base_url", fallback=""))


class BatchGatewayCancelOperator(BaseOperator):
    """Cancels a job, after what is known of it went to the task's log. One that has ended or is not there is no error.

    Args:
        submission_id: of the job; templated.
        batch_gateway_conn_id: of the gateway.

    Raises:
        CancelImpossible: the gateway can't cancel jobs of a cluster whose id has a dash.
    """

    template_fields: Sequence[str] = ("submission_id", "batch_gateway_conn_id")
    ui_color = "#c55a11"

    def __init__(
        self,
        *,
        submission_id: str,
        batch_gateway_conn_id: str = BatchGatewayHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.submission_id = submission_id
        self.batch_gateway_conn_id = batch_gateway_conn_id

    def execute(self, context: Context) -> bool:
        """Cancel it; gives whether it was still running."""
        del context
        hook = BatchGatewayHook(self.batch_gateway_conn_id)
        try:
            status = hook.status(self.submission_id)
            if status is not None and is_terminal(status.state):
                self.log.info("job %s has ended already: %s", self.submission_id, status.state)
                return False
        except SubmissionNotFound:
            self.log.info("there is no job %s, or no longer", self.submission_id)
            return False
        hook.cancel(self.submission_id, log=self.log, why="asked to")
        return True
