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
MOST_POSTS: Final = 3
"""So many submissions that an error answered, and of which no job came, are enough: the gateway can't do it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submitted:
    """An attempt that has a job.

    Attributes:
        attempt: with the submission id.
        found: the job's status, if it was found; None if the gateway's answer gave its id.
        posted: whether anything was submitted now.
    """

    attempt: Attempt
    found: JobStatus | None
    posted: bool

    def is_anothers(self, *, is_new: bool) -> bool:
        """Whether a job that was found belongs to an earlier try, or to an earlier run of the same name, and has ended.

        What this try has submitted is its own, whatever became of it. An attempt that an earlier try began, and that nobody watched to
        its end, is taken if it has completed.

        Args:
            is_new: whether this try began the attempt.
        """
        if self.posted or self.found is None:
            return False
        return is_terminal(self.found.state) if is_new else self.found.state == JobState.FAILED


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

    def ensure(self, attempt: Attempt, request: Mapping[str, Any]) -> Submitted:
        """The attempt with its submission id: found by its name, or submitted now.

        Raises:
            SubmissionRefused: the gateway refused the job for good.
            SubmitUndecided: the gateway could not be asked for too long, or answered `MOST_POSTS` submissions with an error.
            JobCancelled: the task was killed meanwhile.
        """
        until = time.monotonic() + self.patience_seconds
        failures = posts = 0
        last: GatewayUnavailable | None = None
        while True:
            found = self._look_up(attempt, until)
            if found is not None:
                log.info("found job %s of this attempt, in state %s", found.submission_id, found.state or "(none yet)")
                return Submitted(self._adopt(attempt, found.submission_id), found, posted=posts > 0)
            if posts >= MOST_POSTS:
                raise SubmitUndecided(
                    f"the gateway answered {posts} submissions of {attempt.name} with an error, and no job came of them; the last: {last}"
                ) from last
            self._give_way()
            attempt = self.attempts.save(replace(attempt, posted_at=time.time()))
            try:
                submission_id = self.client.run(protocol.submit(request, proxied_user=self.proxied_user))
            except GatewayUnavailable as error:
                last = error
                if error.reached:
                    posts += 1
                    log.warning("the submission may have been accepted, looking for its job: %s", error)
                    attempt = self.attempts.save(replace(attempt, posted_at=time.time(), doubtful=True))
                else:
                    failures += 1
                    attempt = self.attempts.save(replace(attempt, posted_at=None))
                    self._pause(failures, error, until)
                continue
            log.info("submitted job %s as %s", submission_id, attempt.name)
            return Submitted(self._adopt(attempt, submission_id), None, posted=True)

    def reap(self, attempt: Attempt) -> None:
        """Cancel other jobs of the attempt's name that still run: the gateway may have carried out a submission after it was given up."""
        for job in self.client.run(protocol.find(attempt.name)).named(attempt.name):
            if job.submission_id != attempt.submission_id and not is_terminal(job.state):
                self._cancel(job, f"{attempt.name} was submitted twice, {attempt.submission_id} is kept")

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
            if job is not kept and not is_terminal(job.state):
                self._cancel(job, f"{job.application_name} was submitted twice, {kept.submission_id} is kept")
        return kept

    def _cancel(self, job: JobStatus, why: str) -> None:
        try:
            cancel(self.client.config, job.submission_id, log=log, why=why)
        except BatchGatewayError as error:
            log.warning("%s", error)

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
