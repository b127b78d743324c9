"""What waits in the triggerer: for a healthy integration, and for a checkpoint that has moved on.

Neither blocks the event loop (`ZeroEtlHook` works on threads), and neither holds anything that a restart of the triggerer would lose:
the health trigger's deadline is a point in time, the checkpoint trigger's cursor is in Airflow's asset state store.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from data_platform.zero_etl.exceptions import ZeroEtlError, ZeroEtlStatementFailed, ZeroEtlUnavailable
from data_platform.zero_etl.health import Outcome, Verdict, describe, evaluate, expired, unreachable
from data_platform.zero_etl.hook import Checkpoint, ZeroEtlHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_BACKOFF_SECONDS: Final = 60.0
CURSOR_KEY: Final = "zero_etl_checkpoint"


class ZeroEtlHealthTrigger(BaseTrigger):
    """Asks until the verdict is pass or fail, or the deadline has passed; then yields one event.

    An API that can't be reached is a reason to wait, not to fail: it is logged and asked again until the deadline.

    Args:
        zero_etl_conn_id: the integration's connection.
        required_tables: ``schema.table`` that must be synced.
        history_tables: ``schema.table`` that must be in history mode.
        lag_limit_seconds: the most lag that is accepted.
        poll_seconds: time between two looks, ± 20 %.
        started: when the wait began, ISO 8601 with offset.
        deadline: when it ends, ISO 8601 with offset.
    """

    def __init__(
        self,
        *,
        zero_etl_conn_id: str,
        required_tables: list[str],
        history_tables: list[str],
        lag_limit_seconds: float,
        poll_seconds: float,
        started: str,
        deadline: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.zero_etl_conn_id = zero_etl_conn_id
        self.required_tables = required_tables
        self.history_tables = history_tables
        self.lag_limit_seconds = lag_limit_seconds
        self.poll_seconds = poll_seconds
        self.started = started
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments that make an equal trigger elsewhere."""
        return (
            "data_platform.zero_etl.triggers.ZeroEtlHealthTrigger",
            {
                "zero_etl_conn_id": self.zero_etl_conn_id,
                "required_tables": self.required_tables,
                "history_tables": self.history_tables,
                "lag_limit_seconds": self.lag_limit_seconds,
                "poll_seconds": self.poll_seconds,
                "started": self.started,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event for `ZeroEtlHealthOperator.execute_complete`.

        It is ``{"verdict", "overview", "late"}``: the verdict as `Verdict.to_dict` gives it, the tables as text, whether the deadline
        has passed; or ``{"error", "message"}``: an exception of this package by name, when waiting can't help.
        """
        deadline = datetime.fromisoformat(self.deadline)
        hook = ZeroEtlHook(self.zero_etl_conn_id)
        while True:
            try:
                snapshot = await hook.asnapshot()
                verdict = evaluate(
                    snapshot,
                    self.required_tables,
                    lag_limit_ms=round(self.lag_limit_seconds * 1000),
                    history_tables=self.history_tables,
                )
            except (ZeroEtlUnavailable, ZeroEtlStatementFailed) as error:
                verdict = unreachable(error)
                hook = ZeroEtlHook(self.zero_etl_conn_id)  # the connection may have been mended since
            except ZeroEtlError as error:
                yield TriggerEvent({"error": type(error).__name__, "message": str(error)})
                return
            left = (deadline - datetime.now(UTC)).total_seconds()
            if verdict.outcome is not Outcome.WAIT or left <= 0:
                yield self._event(verdict, late=verdict.outcome is Outcome.WAIT)
                return
            self.log.info("waiting, %.0f s until the deadline: %s", left, verdict.reason)
            await asyncio.sleep(min(_jittered(self.poll_seconds), left))

    def _event(self, verdict: Verdict, *, late: bool) -> TriggerEvent:
        if late:
            waited = (datetime.fromisoformat(self.deadline) - datetime.fromisoformat(self.started)).total_seconds()
            verdict = expired(verdict, waited)
        required = list(dict.fromkeys([*self.required_tables, *self.history_tables]))
        overview = describe(verdict.snapshot, required) if verdict.snapshot else ""
        return TriggerEvent({"verdict": verdict.to_dict(required), "overview": overview, "late": late})


class ZeroEtlCheckpointTrigger(BaseEventTrigger):
    """Yields an event when the integration's last replicated checkpoint has moved on.

    - One event per move, never two within ``min_interval_seconds``. A move within the interval is not lost: the trigger looks again as
      soon as the interval is over and then yields the newest checkpoint, so many moves become one event and the last always gets one.
    - The cursor (last yielded checkpoint, time of the event) is written to the asset state store after the event was handed over: a
      triggerer killed in between yields the same checkpoint again rather than never.
    - It never returns and never raises, because Airflow would start it again every few seconds without back-off. Errors are logged and
      tried again after a growing pause.

    The payload is ``{"checkpoint", "previous_checkpoint", "lag_ms"}``. On Redshift Serverless each look is a query and keeps the
    workgroup awake: let ``poll_seconds`` be no shorter than the freshness that is wanted.

    Args:
        zero_etl_conn_id: the integration's connection.
        poll_seconds: time between two looks.
        min_interval_seconds: least time between two events.
    """

    def __init__(self, *, zero_etl_conn_id: str, poll_seconds: float = 2.0, min_interval_seconds: float = 15.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.zero_etl_conn_id = zero_etl_conn_id
        self.poll_seconds = poll_seconds
        self.min_interval_seconds = min_interval_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments that make an equal trigger elsewhere."""
        return (
            "data_platform.zero_etl.triggers.ZeroEtlCheckpointTrigger",
            {
                "zero_etl_conn_id": self.zero_etl_conn_id,
                "poll_seconds": self.poll_seconds,
                "min_interval_seconds": self.min_interval_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events for ever."""
        cursor, event_at = await self._load_cursor()
        await asyncio.sleep(self._rest_of_interval(event_at))
        failures = 0
        hook = ZeroEtlHook(self.zero_etl_conn_id)
        while True:
            try:
                seen = await hook.acheckpoint()
            except Exception as error:
                failures += 1
                pause = min(_jittered(self.poll_seconds * 2 ** min(failures, 10)), MAX_BACKOFF_SECONDS)
                self.log.warning(
                    "%s: checkpoint not read (%d in a row), next look in %.0f s: %s: %s",
                    self.zero_etl_conn_id,
                    failures,
                    pause,
                    type(error).__name__,
                    error,
                )
                hook = ZeroEtlHook(self.zero_etl_conn_id)  # the connection or its credentials may have changed
                await asyncio.sleep(pause)
                continue
            failures = 0
            if seen.value is None or seen.value == cursor:
                await asyncio.sleep(self.poll_seconds)
                continue
            yield _moved(seen, cursor)
            cursor = seen.value
            await self._store_cursor(cursor)
            await asyncio.sleep(max(self.poll_seconds, self.min_interval_seconds))

    async def _load_cursor(self) -> tuple[str | None, float]:
        """The last yielded checkpoint and when, by the wall clock; nothing if there is none or it can't be read."""
        if self.asset_state_store is None:
            return None, 0.0
        try:
            stored: Any = await asyncio.to_thread(self.asset_state_store.get, CURSOR_KEY)
            return (str(stored["checkpoint"]), float(stored["event_at"])) if stored else (None, 0.0)
        except Exception:
            self.log.warning("cursor not read; the present checkpoint counts as new", exc_info=True)
            return None, 0.0

    async def _store_cursor(self, checkpoint: str) -> None:
        if self.asset_state_store is None:
            return
        value: dict[str, Any] = {"checkpoint": checkpoint, "event_at": time.time()}
        try:
            await asyncio.to_thread(self.asset_state_store.set, CURSOR_KEY, value)
        except Exception:
            self.log.warning("cursor not stored; a restart will yield this checkpoint again", exc_info=True)

    def _rest_of_interval(self, event_at: float) -> float:
        """Seconds until the next event may come; a stored time in the future (a clock set back) costs one interval at most."""
        return min(max(event_at + self.min_interval_seconds - time.time(), 0.0), self.min_interval_seconds)


def _moved(seen: Checkpoint, previous: str | None) -> TriggerEvent:
    return TriggerEvent({"checkpoint": seen.value, "previous_checkpoint": previous, "lag_ms": seen.lag_ms})


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
