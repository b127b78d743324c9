"""A triggerer's surroundings: triggers on one event loop, and XComs that outlive them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

from airflow.sdk.execution_time.comms import GetXCom, SetXCom, XComResult

from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.triggers import BatchGatewayJobTrigger
from tests.plugins.batch_gateway.task_harness import CONN_ID, TaskInstance, job


class Comms:
    """The way of a triggerer's process to Airflow's server, as far as XComs need it."""

    def __init__(self, ti: TaskInstance) -> None:
        self.ti = ti

    def send(self, msg: Any) -> Any:
        if isinstance(msg, SetXCom):
            return self.ti.xcom_push(msg.key, msg.value)
        assert isinstance(msg, GetXCom)
        return XComResult(key=msg.key, value=self.ti.xcom.get(msg.key))


def submit(name: str = "job", request: dict[str, Any] | None = None, **conf: Any) -> str:
    """Submit a simulated job; gives its id."""
    hook = BatchGatewayHook(CONN_ID)
    try:
        return hook.submit(job(**conf) | {"applicationName": name} | (request or {}))
    finally:
        hook.close()


def trigger(submission_id: str, ti: TaskInstance | None = None, **arguments: Any) -> BatchGatewayJobTrigger:
    """As a triggerer makes it: of what was serialised."""
    given = {"batch_gateway_conn_id": CONN_ID, "submission_id": submission_id, "poll_seconds": 0.1, **arguments}
    made = BatchGatewayJobTrigger(**json.loads(json.dumps(BatchGatewayJobTrigger(**given).serialize()[1])))
    if ti is not None:
        made.task_instance = ti  # type: ignore[assignment]
    return made


async def event_of(one: BatchGatewayJobTrigger) -> dict[str, Any]:
    """Its event, as Airflow keeps it."""
    async with contextlib.aclosing(one.run()) as events:  # type: ignore[type-var]
        event = await anext(events)
    payload: dict[str, Any] = json.loads(json.dumps(event.payload))
    return payload


async def stop(running: asyncio.Task[Any]) -> None:
    """What a triggerer does that is told to end."""
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def lines_shown(text: str) -> list[int]:
    """Numbers of the driver's lines in a task's log."""
    return [int(number) for number in re.findall(r"\[driver\] line (\d+) of", text)]
