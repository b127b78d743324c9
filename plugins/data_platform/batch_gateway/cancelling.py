"""End the job of a task that is over: killed, timed out, cleared, or out of tries."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.exceptions import GatewayUnavailable
from data_platform.batch_gateway.hook import EVIDENCE_SECONDS
from data_platform.batch_gateway.states import is_terminal

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from data_platform.batch_gateway.attempts import Attempt
    from data_platform.batch_gateway.hook import BatchGatewayHook

KILL_EVIDENCE_SECONDS: Final = 1.5
KILL_LOOK_UP_SECONDS: Final = 2.0
"""How long a killed task looks for a job whose submission had no answer yet. It has 5 s in all."""
KILL_READ_TIMEOUT_SECONDS: Final = 10.0


@dataclass
class Canceller:
    """Cancels a task's job once, after what is known of it went to the task's log. Fit for a signal handler: it uses clients of its own.

    Attributes:
        hook: of the gateway.
        log: of the task.
        cancelled: whether a job was cancelled.
    """

    hook: BatchGatewayHook
    log: Logger
    cancelled: bool = False

    def cancel(
        self,
        attempt: Attempt | None,
        why: str,
        *,
        must: bool = False,
        evidence_seconds: float = EVIDENCE_SECONDS,
        look_up_seconds: float = KILL_LOOK_UP_SECONDS,
    ) -> None:
        """Cancel the attempt's job, if it may have one.

        Args:
            attempt: the task's present one.
            why: begins what the log says.
            must: raise what is otherwise logged.
            evidence_seconds: most that asking for what is known of the job takes.
            look_up_seconds: how long to look for the job of a submission whose answer was not seen.

        Raises:
            BatchGatewayError: it can't be cancelled, and ``must`` be.
        """
        if self.cancelled or attempt is None or not attempt.open:
            return
        if attempt.submission_id is None and attempt.posted_at is None:
            return  # nothing was sent
        try:
            submission_id = attempt.submission_id or self._look_for_unanswered(attempt, look_up_seconds)
            if submission_id is None:
                self.log.error("%s while a submission had no answer; a job %s may still appear", why, attempt.name)
                return
            self.hook.cancel(submission_id, log=self.log, why=why, evidence_seconds=evidence_seconds)
        except Exception as error:
            self.log.error("%s, but job %s may still run: %s", why, attempt.submission_id or attempt.name, error)
            if must:
                raise
        else:
            self.cancelled = True

    def _look_for_unanswered(self, attempt: Attempt, seconds: float) -> str | None:
        """The job of a submission that was interrupted before its answer."""
        until = time.monotonic() + seconds
        with self.hook.new_client(KILL_READ_TIMEOUT_SECONDS) as client:
            while True:
                over = time.monotonic() >= until
                try:
                    for job in client.run(protocol.find(attempt.name), attempts=1).named(attempt.name):
                        if not is_terminal(job.state):
                            return job.submission_id
                except GatewayUnavailable:
                    if over:
                        raise
                if over:
                    return None
                time.sleep(min(0.5, seconds))
