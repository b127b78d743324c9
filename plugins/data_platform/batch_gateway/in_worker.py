"""Look at a job from the task's own process: where the task does not defer, before it submits, and after it was resumed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_platform.batch_gateway.driver_log import DriverLog
from data_platform.batch_gateway.exceptions import JobCancelled
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.submitter import LOOK_UP_SECONDS
from data_platform.batch_gateway.watch import JobWatch, run_beside
from data_platform.batch_gateway.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow.sdk.types import Logger

    from data_platform.batch_gateway.client import AsyncGatewayClient
    from data_platform.batch_gateway.protocol import JobStatus
    from data_platform.batch_gateway.watch import End


@dataclass(frozen=True)
class WorkerWatch:
    """Waits on an event loop beside the main thread (see `run_beside`). ``execution_timeout`` is kept by Airflow itself.

    Attributes:
        hook: of the gateway.
        log: of the task; the driver's log goes there too.
        check: raises what is to end the waiting.
        poll_seconds: time between two looks.
        log_max_bytes: most of the driver's log that is shown; 0 for none.
        submission_retry_seconds: see `JobWatch`.
        patience_seconds: how long a gateway that does not answer is asked for a status.
    """

    hook: BatchGatewayHook
    log: Logger
    check: Callable[[], None]
    poll_seconds: float
    log_max_bytes: int
    submission_retry_seconds: float
    patience_seconds: float

    def run(self, submission_id: str, on_status: Callable[[JobStatus], Awaitable[None]]) -> End:
        """Watch the job to its end.

        Args:
            submission_id: of the job.
            on_status: see `JobWatch`.
        """

        async def watch() -> End:
            watcher = self._watcher(self.poll_seconds)
            driver_log = self._driver_log(submission_id) if self.log_max_bytes else None
            watch = JobWatch(
                watcher=watcher,
                submission_id=submission_id,
                log=self.log,
                driver_log=driver_log,
                on_status=on_status,
                submission_retry_seconds=self.submission_retry_seconds,
            )
            try:
                return await watch.run()
            finally:
                await watcher.close()

        return run_beside(watch, self.check)

    def status(self, submission_id: str) -> JobStatus | None:
        """The job's status, waited for; None if it is lost.

        Raises:
            BatchGatewayError: it could not be had in ``patience_seconds``.
        """
        until = time.monotonic() + self.patience_seconds
        watcher = self._watcher(min(LOOK_UP_SECONDS, self.poll_seconds))

        async def first_sighting() -> JobStatus | None:
            try:
                async for sighting in watcher.watch(submission_id):
                    if sighting.error is None:
                        return sighting.status
                    self.log.warning("job %s not seen: %s", submission_id, sighting.error)
                    if time.monotonic() > until:
                        raise sighting.error
                return None
            finally:
                await watcher.close()

        return run_beside(first_sighting, self.check)

    def write_rest(self, submission_id: str, position: int) -> None:
        """What a watch had not written yet of the driver's log.

        Args:
            submission_id: of the job.
            position: bytes that were written.
        """
        if not self.log_max_bytes:
            return
        driver_log = self._driver_log(submission_id, position)

        async def read() -> None:
            async with self.hook.new_async_client() as client:
                await driver_log.read(client)
            driver_log.finish()

        try:
            run_beside(read, self.check)
        except JobCancelled:
            raise
        except Exception as error:  # the log is a comfort; the job's end is known
            self.log.warning("the rest of the driver's log could not be read: %s", error)

    def _driver_log(self, submission_id: str, position: int = 0) -> DriverLog:
        return DriverLog(submission_id, lambda line: self.log.info("[driver] %s", line), self.log_max_bytes, position)

    def _watcher(self, poll_seconds: float) -> Watcher:
        hook = self.hook

        async def connect() -> AsyncGatewayClient:
            nonlocal hook
            client = hook.new_async_client()
            # A second client is asked for only after access was denied: with what the connection says then.
            hook = BatchGatewayHook(self.hook.batch_gateway_conn_id)
            return client

        return Watcher(connect, poll_seconds=poll_seconds, proxied=bool(self.hook.config.proxied_user))
