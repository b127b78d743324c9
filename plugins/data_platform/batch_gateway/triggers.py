"""Waits for a job in the triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from data_platform.batch_gateway.driver_log import MAX_BYTES, DriverLog
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.links import link_of
from data_platform.batch_gateway.watch import SUBMISSION_RETRY_SECONDS, JobWatch
from data_platform.batch_gateway.watcher import Watcher, shared_watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from data_platform.batch_gateway.client import AsyncGatewayClient
    from data_platform.batch_gateway.protocol import JobStatus

POLL_SECONDS: Final = 10.0
POSITION_KEY: Final = "driver_log_position"
POSITION_SECONDS: Final = 20.0
"""How often the position in the driver's log is kept: a triggerer that is killed repeats no more than it wrote since."""
LAST_POSITION_SECONDS: Final = 5.0
"""How long a triggerer that stops waits for that."""
KILL_SECONDS: Final = 25.0
"""Airflow gives ``on_kill`` 30 s in all."""
KILL_EVIDENCE_SECONDS: Final = 8.0

_CANCELLERS: Final = ThreadPoolExecutor(16, thread_name_prefix="batch-gateway-cancel")
"""Of their own: many tasks may be killed at once, and the event loop's default threads are few."""


class BatchGatewayJobTrigger(BaseTrigger):
    """Yields one event, `watch.End` as JSON, when a job has ended, is lost, or the deadline has passed.

    All triggers of one gateway in one triggerer share their look-ups (see `watcher`). The trigger never fails: an outage of the gateway is
    waited out. Killed by a person (mark failed, mark success, clear), it saves what is known of the job and cancels it; when the triggerer
    stops, the job goes on, and the trigger starts again elsewhere.

    Args:
        batch_gateway_conn_id: of the gateway.
        submission_id: of the job.
        poll_seconds: time between two looks.
        deadline: seconds since the epoch; None for never.
        log_max_bytes: most of the driver's log that goes to the task's log; 0 for none.
        submission_retry_seconds: how long a job may stay SUBMISSION_FAILED.
        cancel_on_kill: whether a kill cancels the job; not for a sensor, which waits for somebody else's.
    """

    def __init__(
        self,
        *,
        batch_gateway_conn_id: str,
        submission_id: str,
        poll_seconds: float = POLL_SECONDS,
        deadline: float | None = None,
        log_max_bytes: int = MAX_BYTES,
        submission_retry_seconds: float = SUBMISSION_RETRY_SECONDS,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch_gateway_conn_id = batch_gateway_conn_id
        self.submission_id = submission_id
        self.poll_seconds = poll_seconds
        self.deadline = deadline
        self.log_max_bytes = log_max_bytes
        self.submission_retry_seconds = submission_retry_seconds
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments that make an equal trigger elsewhere."""
        names = (
            "batch_gateway_conn_id",
            "submission_id",
            "poll_seconds",
            "deadline",
            "log_max_bytes",
            "submission_retry_seconds",
            "cancel_on_kill",
        )
        return (
            "data_platform.batch_gateway.triggers.BatchGatewayJobTrigger",
            {name: getattr(self, name) for name in names},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event."""
        driver_log = None
        if self.log_max_bytes:
            position = await self._load_position()
            driver_log = DriverLog(self.submission_id, self._write, self.log_max_bytes, position)
        async with shared_watcher(f"{self.batch_gateway_conn_id} {self.poll_seconds}", self._make_watcher) as watcher:
            watch = JobWatch(
                watcher=watcher,
                submission_id=self.submission_id,
                log=self.log,
                deadline=self.deadline,
                driver_log=driver_log,
                on_status=self._show,
                submission_retry_seconds=self.submission_retry_seconds,
            )
            keeper = asyncio.create_task(self._keep_position(driver_log)) if driver_log else None
            try:
                end = await watch.run()
            except asyncio.CancelledError:  # where another triggerer goes on, it goes on from here
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_POSITION_SECONDS):
                        await self._store_position(driver_log)
                raise
            finally:
                if keeper:
                    keeper.cancel()
        yield TriggerEvent(end.to_json())

    async def on_kill(self) -> None:
        """Save what is known of the job, then cancel it.

        Airflow cancels the trigger again each second until it has ended (``TriggerRunner.cancel_triggers``): that must not cut off the
        work.
        """
        if not self.cancel_on_kill:
            return
        work = asyncio.wrap_future(_CANCELLERS.submit(contextvars.copy_context().run, self._cancel))
        until = time.monotonic() + KILL_SECONDS
        while not work.done() and time.monotonic() < until:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work], timeout=max(until - time.monotonic(), 0))
        if not work.done():
            self.log.error("the task was killed, but job %s is not cancelled yet; look at it", self.submission_id)

    def _cancel(self) -> None:
        try:
            hook = BatchGatewayHook(self.batch_gateway_conn_id)
            hook.cancel(
                self.submission_id, log=self.log, why="the task was killed", evidence_seconds=KILL_EVIDENCE_SECONDS
            )
        except Exception as error:
            self.log.error("the task was killed, but job %s may still run: %s", self.submission_id, error)

    def _make_watcher(self) -> Watcher:
        return Watcher(self._connect, poll_seconds=self.poll_seconds)

    async def _connect(self) -> AsyncGatewayClient:
        # In a thread, since it asks the secrets backend, and loads certificates.
        return await asyncio.to_thread(lambda: BatchGatewayHook(self.batch_gateway_conn_id).new_async_client())

    def _write(self, line: str) -> None:
        self.log.info("[driver] %s", line)

    async def _show(self, status: JobStatus) -> None:
        """The link to Spark's UI, which is known only while the job runs."""
        if status.ui_url:
            await self._xcom_set(link_of(status).xcom_key, status.ui_url)

    async def _keep_position(self, driver_log: DriverLog) -> None:
        kept = driver_log.position
        while True:
            await asyncio.sleep(POSITION_SECONDS)
            if driver_log.position != kept:
                kept = driver_log.position
                await self._store_position(driver_log)

    async def _store_position(self, driver_log: DriverLog | None) -> None:
        if driver_log is not None and driver_log.position:
            await self._xcom_set(POSITION_KEY, [self.submission_id, driver_log.position])

    async def _load_position(self) -> int:
        from airflow.sdk.execution_time.xcom import XCom

        ti = self._ti_key()
        if ti is None:
            return 0
        try:
            kept: Any = await asyncio.to_thread(lambda: XCom.get_one(key=POSITION_KEY, **ti))
        except Exception as error:
            self.log.debug("position in the driver's log not read, it is shown from its start: %s", error)
            return 0
        known = isinstance(kept, list | tuple) and len(kept) == 2 and kept[0] == self.submission_id
        return int(kept[1]) if known else 0

    async def _xcom_set(self, key: str, value: Any) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        ti = self._ti_key()
        if ti is None:
            return
        try:
            await asyncio.to_thread(lambda: XCom.set(key=key, value=value, **ti))
        except Exception as error:
            self.log.debug("%s not kept: %s", key, error)

    def _ti_key(self) -> dict[str, Any] | None:
        """Whose XComs these are; None outside a triggerer."""
        ti: Any = self.task_instance
        if ti is None:
            return None
        return {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": -1 if ti.map_index is None else ti.map_index,
        }
