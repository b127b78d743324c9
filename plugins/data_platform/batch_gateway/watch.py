"""Watch one job to its end: states, driver log, deadline. The same for a trigger and for a task that does not defer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from data_platform.batch_gateway.exceptions import ClusterUnknown, GatewayAccessDenied, GatewayConnectionInvalid
from data_platform.batch_gateway.protocol import JobStatus
from data_platform.batch_gateway.states import JobState, is_known, is_terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from airflow.sdk.types import Logger

    from data_platform.batch_gateway.driver_log import DriverLog
    from data_platform.batch_gateway.exceptions import BatchGatewayError
    from data_platform.batch_gateway.watcher import Sighting, Watcher

SUBMISSION_RETRY_SECONDS: Final = 600.0
"""How long a job may stay SUBMISSION_FAILED: the Spark operator tries again meanwhile, or gives up with FAILED."""
REFUSALS: Final = 5
"""So many looks in a row that are refused (login, cluster id) end the watch; fewer may be a change of password."""
LOG_PAUSES: Final = (2.0, 15.0)
"""Seconds between two reads of a driver's log: after one that gave something, and at most."""


class Ending(StrEnum):
    """Why a watch is over."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    SUBMISSION_FAILED = "submission_failed"
    TIMED_OUT = "timed_out"
    UNWATCHABLE = "unwatchable"


@dataclass(frozen=True)
class End:
    """What a watch found.

    Attributes:
        ending: why it is over.
        status: the job's last status, if one was seen.
        log_position: bytes of the driver's log that were written.
        message: what else there is to say.
    """

    ending: Ending
    status: JobStatus | None = None
    log_position: int = 0
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """For a trigger's event."""
        return {**asdict(self), "ending": self.ending.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> End:
        """Read what `to_json` gave."""
        status = document.get("status")
        return cls(
            Ending(document["ending"]),
            JobStatus(**status) if status else None,
            int(document.get("log_position", 0)),
            str(document.get("message", "")),
        )


@dataclass
class JobWatch:
    """One job's watch.

    Attributes:
        watcher: where sightings come from.
        submission_id: of the job.
        log: of the task.
        deadline: seconds since the epoch at which the watch ends; None for never.
        driver_log: where the driver's log goes; None to leave it.
        on_status: told each status with another state than the one before.
        submission_retry_seconds: see `SUBMISSION_RETRY_SECONDS`.
    """

    watcher: Watcher
    submission_id: str
    log: Logger
    deadline: float | None = None
    driver_log: DriverLog | None = None
    on_status: Callable[[JobStatus], Awaitable[None]] | None = None
    submission_retry_seconds: float = SUBMISSION_RETRY_SECONDS
    _last: JobStatus | None = None
    _failing_since: float | None = None
    _refusals: int = 0
    _errors: int = 0
    _reader: asyncio.Task[None] | None = None

    async def run(self) -> End:
        """Wait for the end."""
        try:
            async with contextlib.aclosing(self.watcher.watch(self.submission_id)) as sightings:
                while True:
                    left = None if self.deadline is None else max(self.deadline - time.time(), 0)
                    try:
                        async with asyncio.timeout(left):
                            sighting = await anext(sightings)
                    except TimeoutError:
                        return self._end(Ending.TIMED_OUT)
                    if end := await self._judge(sighting):
                        return end
        finally:
            if self._reader is not None:
                self._reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._reader

    async def _judge(self, sighting: Sighting) -> End | None:
        if sighting.lost:
            return self._end(Ending.LOST)
        if sighting.error is not None:
            return self._bear(sighting.error)
        status = sighting.status
        if status is None:
            return None
        if self._errors:
            self.log.info("the gateway answers again")
        self._errors = self._refusals = 0
        if self._last is None or self._last.state != status.state:
            await self._change(status)
        elif status.ui_url != self._last.ui_url and self.on_status is not None:
            await self.on_status(status)
        if self._last and (status.attempts or 0) > (self._last.attempts or 1) and self.driver_log:
            self.log.info("job %s has another driver, its attempt %s", self.submission_id, status.attempts)
            self.driver_log.start_again()
        self._last = status
        if status.state == JobState.COMPLETED:
            return self._end(Ending.COMPLETED)
        if is_terminal(status.state):
            return self._end(Ending.FAILED)
        if status.state == JobState.SUBMISSION_FAILED:
            self._failing_since = self._failing_since or time.monotonic()
            if time.monotonic() - self._failing_since >= self.submission_retry_seconds:
                return self._end(Ending.SUBMISSION_FAILED)
        else:
            self._failing_since = None
        return None

    def _bear(self, error: BatchGatewayError) -> End | None:
        """The job goes on whether the gateway answers or not; so does the watch, unless a person must act."""
        self._errors += 1
        if self._errors & (self._errors - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a long outage does not fill the log
            self.log.warning("job %s not seen (%d in a row): %s", self.submission_id, self._errors, error)
        if isinstance(error, GatewayAccessDenied | GatewayConnectionInvalid | ClusterUnknown):
            self._refusals += 1
            if self._refusals >= REFUSALS:
                return self._end(Ending.UNWATCHABLE, str(error))
        return None

    async def _change(self, status: JobStatus) -> None:
        if is_known(status.state):
            self.log.info("job %s is %s", self.submission_id, status.state or "new")
        else:
            self.log.warning(
                "job %s is %s, a state that this client does not know; waiting on", self.submission_id, status.state
            )
        if status.state == JobState.SUBMISSION_FAILED:
            self.log.warning(
                "the driver of job %s could not be started; the Spark operator has %.0f s to try again: %s",
                self.submission_id,
                self.submission_retry_seconds,
                status.error or "no reason given",
            )
        if self.on_status is not None:
            await self.on_status(status)
        started = status.state not in (JobState.NEW, JobState.UNKNOWN, JobState.SUBMITTED, JobState.SUBMISSION_FAILED)
        if started and self.driver_log is not None and self._reader is None:
            self._reader = asyncio.create_task(self._read_log(self.driver_log), name=f"log of {self.submission_id}")

    async def _read_log(self, driver_log: DriverLog) -> None:
        pause, longest = LOG_PAUSES
        while not driver_log.full:
            try:
                async with self.watcher.log_readers:
                    new = await driver_log.read(await self.watcher.client())
            except Exception as error:  # the log is a comfort; the watch goes on without it
                self.log.debug("driver log of %s not read: %s", self.submission_id, error)
                new = 0
            pause = LOG_PAUSES[0] if new else min(pause * 2, longest)
            await asyncio.sleep(pause)

    def _end(self, ending: Ending, message: str = "") -> End:
        return End(ending, self._last, self.driver_log.position if self.driver_log else 0, message)


def run_beside[T](work: Callable[[], Coroutine[Any, Any, T]], check: Callable[[], None]) -> T:
    """Run a coroutine on an event loop in a thread while this one calls ``check`` twice a second.

    In a task's main thread Airflow raises its time-out from a signal handler; inside an event loop that could end up in any of its tasks,
    and be lost.

    Args:
        work: makes the coroutine.
        check: raises what is to end it; it is cancelled then.
    """
    loop = asyncio.new_event_loop()
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            done.set_result(loop.run_until_complete(task))
        except BaseException as error:
            done.set_exception(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    task = loop.create_task(work())
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="batch-gateway", daemon=True)
    thread.start()
    try:
        while True:
            check()
            with contextlib.suppress(TimeoutError):
                return done.result(timeout=0.5)
    finally:
        if not done.done():
            loop.call_soon_threadsafe(task.cancel)
        thread.join(5.0)
