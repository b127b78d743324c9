"""Submit an attempt's job so that there is one, whatever becomes of requests, answers and processes in between."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.client import Patience
from data_platform.batch_gateway.exceptions import BatchGatewayError, GatewayUnavailable, JobCancelled, SubmitUndecided
from data_platform.batch_gateway.hook import cancel
from data_platform.batch_gateway.names import SubmissionId
from data_platform.batch_gateway.states import JobState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from data_platform.batch_gateway.attempts import Attempt, AttemptStore
    from data_platform.batch_gateway.client import GatewayClient
    from data_platform.batch_gateway.protocol import JobStatus

LOOK_UP_SECONDS: Final = 2.0
"""Between two look-ups of a job whose submission got no answer."""
COMPLETE_LISTINGS: Final = 3
"""How many listings in a row must lack a job, each read to its end, before it counts as not submitted."""
PATIENCE_SECONDS: Final = 600.0

log = logging.getLogger(__name__)


@dataclass
class Submitter:
    """Submits, or finds what was submitted.

    Attributes:
        client: of the gateway.
        attempts: where the attempt is kept.
        settle_seconds: how long after a submission without an answer its job may still appear.
        patience_seconds: how long an unavailable gateway is waited for.
        stopped: whether the task was killed meanwhile.
    """

    client: GatewayClient
    attempts: AttemptStore
    settle_seconds: float
    patience_seconds: float = PATIENCE_SECONDS
    look_up_seconds: float = LOOK_UP_SECONDS
    stopped: Callable[[], bool] = lambda: False
    proxied_user: str | None = None
    _pauses: Patience = field(default_factory=lambda: Patience(first_seconds=1.0, longest_seconds=15.0))

    def ensure(self, attempt: Attempt, request: Mapping[str, Any]) -> tuple[Attempt, JobStatus | None]:
        """The attempt with its submission id: found by its name, with the status it was found in, or submitted now.

        Raises:
            SubmissionRefused: the gateway refused the job for good.
            SubmitUndecided: the gateway could not be asked for too long.
            JobCancelled: the task was killed meanwhile.
        """
        until = time.monotonic() + self.patience_seconds
        failures = 0
        while True:
            found = self._look_up(attempt, until)
            if found is not None:
                log.info("found job %s of this attempt, in state %s", found.submission_id, found.state or "(none yet)")
                return self._adopt(attempt, found.submission_id), found
            self._give_way()
            attempt = self.attempts.save(replace(attempt, posted_at=time.time()))
            try:
                submission_id = self.client.run(protocol.submit(request, proxied_user=self.proxied_user))
            except GatewayUnavailable as error:
                failures += 1
                if error.reached:
                    log.warning("the submission may have been accepted, looking for its job: %s", error)
                else:
                    attempt = self.attempts.save(replace(attempt, posted_at=None))
                    self._pause(failures, error, until)
                continue
            log.info("submitted job %s as %s", submission_id, attempt.name)
            return self._adopt(attempt, submission_id), None

    def find(self, attempt: Attempt) -> JobStatus | None:
        """The attempt's job, if it was ever submitted: waits as long as it may still appear. Raises as `ensure` does."""
        return self._look_up(attempt, time.monotonic() + self.patience_seconds)

    def _look_up(self, attempt: Attempt, until: float) -> JobStatus | None:
        """Look in listings: once if nothing was ever sent, else until the job is there or can't appear any more."""
        missing, failures = 0, 0
        while True:
            self._give_way()
            try:
                listing = self.client.run(protocol.find(attempt.name))
            except GatewayUnavailable as error:
                failures += 1
                self._pause(failures, error, until)
                continue
            if jobs := listing.named(attempt.name):
                return self._one_of(jobs)
            missing = missing + 1 if listing.complete else 0
            if attempt.posted_at is None:
                if missing:
                    return None
            elif missing >= COMPLETE_LISTINGS and time.time() >= attempt.posted_at + self.settle_seconds:
                return None
            elif attempt.posted_at > time.time():  # a clock was set back
                attempt = replace(attempt, posted_at=time.time())
            self._sleep(self.look_up_seconds)

    def _one_of(self, jobs: tuple[JobStatus, ...]) -> JobStatus:
        """The job to keep: one that has succeeded, else the oldest that has not failed. Others that still run are removed.

        There can be others only if the gateway carried out a submission after `settle_seconds`.
        """
        order = {JobState.COMPLETED.value: 0, JobState.FAILED.value: 2}
        kept = min(jobs, key=lambda job: order.get(job.state, 1))
        for job in jobs:
            if job is kept or is_terminal(job.state):
                continue
            log.warning("%s was submitted twice; %s is kept, %s is cancelled", job.application_name, kept, job)
            try:
                cancel(self.client, job.submission_id)
            except BatchGatewayError as error:
                log.warning("%s", error)
        return kept

    def _adopt(self, attempt: Attempt, submission_id: str) -> Attempt:
        if SubmissionId.parse(submission_id).dashed:
            log.warning(
                "%s: the cluster's id has a dash. Its state can only be found in listings, and it can't be cancelled through the gateway",
                submission_id,
            )
        return self.attempts.save(replace(attempt, submission_id=submission_id, posted_at=None))

    def _pause(self, failures: int, error: GatewayUnavailable, until: float) -> None:
        seconds = self._pauses.pause(failures, error)
        if time.monotonic() + seconds > until:
            raise SubmitUndecided(
                f"the gateway could not be asked for {self.patience_seconds:.0f} s; nothing more was submitted. "
                f"A retry looks the job up before it submits. {error}"
            ) from error
        log.warning("asking again in %.0f s: %s", seconds, error)
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._give_way()
            time.sleep(min(left, 0.5))

    def _give_way(self) -> None:
        if self.stopped():
            raise JobCancelled("the task was killed while its job was being submitted")
