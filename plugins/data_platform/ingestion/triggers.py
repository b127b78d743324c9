"""The doorbell of the intake: it looks how many messages its queue holds, and rings while there are any.

It receives no message, so it deletes none and hides none, and nothing that a message says gets further than to the task that puts it into
the ledger. Airflow merges asset events, may leave the last of a burst until the next one, and keeps none for later: so this looks at the
queue's level, not at arrivals, and rings again as long as there is something to take.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MOST_PAUSE_SECONDS: Final = 300.0
"""The longest pause after errors."""
MOST_GAPS: Final = 10
"""The gap between two events grows to at most so many of the least."""


class QueueDoorbellTrigger(BaseEventTrigger):
    """Yields an event while an SQS queue holds messages that nobody has received.

    - Never two events within ``min_gap_seconds``. As long as nobody takes anything away, which is so while the DAG is paused or its tasks
      fail, the gap doubles, up to `MOST_GAPS` times the least: an event is a run.
    - It never returns and never raises, because Airflow would start it again every few seconds without back-off. Errors are logged and
      tried again after a growing pause, with a client of its own each time: the connection may have been mended.

    The payload is ``{"messages"}``, SQS's approximate number. Nothing may be made of it.

    Args:
        aws_conn_id: connection of type ``aws``.
        queue_url: of the queue.
        poll_seconds: time between two looks, ± 20 %.
        min_gap_seconds: least time between two events.
    """

    def __init__(
        self, *, aws_conn_id: str, queue_url: str, poll_seconds: float = 10.0, min_gap_seconds: float = 30.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aws_conn_id = aws_conn_id
        self.queue_url = queue_url
        self.poll_seconds = poll_seconds
        self.min_gap_seconds = min_gap_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments that make an equal trigger elsewhere."""
        return (
            "data_platform.ingestion.triggers.QueueDoorbellTrigger",
            {
                "aws_conn_id": self.aws_conn_id,
                "queue_url": self.queue_url,
                "poll_seconds": self.poll_seconds,
                "min_gap_seconds": self.min_gap_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events for ever."""
        look: Callable[[], int] | None = None
        failures = rung_at = 0
        gap = self.min_gap_seconds
        while True:
            try:
                if look is None:
                    look = await asyncio.to_thread(self._make_look)
                messages = await asyncio.to_thread(look)
            except Exception as error:  # of AWS, the network or the connection
                failures += 1
                pause = min(_jittered(self.poll_seconds * 2 ** min(failures, 10)), MOST_PAUSE_SECONDS)
                self.log.warning(
                    "the number of messages in %s was not read (%d in a row), next look in %.0f s: %s: %s",
                    self.queue_url,
                    failures,
                    pause,
                    type(error).__name__,
                    error,
                )
                look = None
                await asyncio.sleep(pause)
                continue
            failures = 0
            if not messages:
                rung_at, gap = 0, self.min_gap_seconds
                await asyncio.sleep(_jittered(self.poll_seconds))
                continue
            taken = messages < rung_at or not rung_at
            gap = self.min_gap_seconds if taken else min(2 * gap, MOST_GAPS * self.min_gap_seconds)
            rung_at = messages
            yield TriggerEvent({"messages": messages})
            await asyncio.sleep(max(self.poll_seconds, gap))

    def _make_look(self) -> Callable[[], int]:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
        client: Any = AwsGenericHook(aws_conn_id=self.aws_conn_id, client_type="sqs", config=config).get_conn()

        def look() -> int:
            asked = ["ApproximateNumberOfMessages"]
            answer = client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=asked)
            return int(answer["Attributes"][asked[0]])

        return look


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads triggers that began together
