"""One task instance as Airflow runs it, without Airflow: its state store, its XComs, its tries, its way to the triggerer and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import TaskDeferred

from data_platform.batch_gateway.attempts import AttemptStore
from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from data_platform.batch_gateway.triggers import BatchGatewayJobTrigger
from include.local.batch_gateway.trial import simulated_job as job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONN_ID = "gateway_under_test"


class Store:
    """The task state store: values are JSON, and outlive a try."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class TaskInstance:
    """What an operator asks of its task instance."""

    stats_tags: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *, retries: int = 2, run_id: str = "manual__1", map_index: int = -1) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "spark_jobs", "submit_job", run_id, map_index
        self.retries = retries
        self.try_number, self.max_tries = 1, retries
        self.xcom: dict[str, Any] = {}
        self.store = Store()

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = json.loads(json.dumps(value))

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self, "task_state_store": self.store}

    def try_again(self) -> None:
        """What Airflow does after a try that failed or died."""
        self.try_number += 1
        self.xcom.clear()

    def clear(self) -> None:
        """What Airflow does when a person clears the task (airflow.models.taskinstance.clear_task_instances)."""
        self.max_tries = self.try_number + self.retries
        self.try_again()


def operator(spec: Any = None, **arguments: Any) -> BatchGatewaySubmitOperator:
    given = {"poll_seconds": 0.2, "patience_seconds": 20.0, "deferrable": False, **arguments}
    return BatchGatewaySubmitOperator(
        task_id="submit_job", job=spec or job(seconds=0.2), batch_gateway_conn_id=CONN_ID, **given
    )


def defer(task: BatchGatewaySubmitOperator, ti: TaskInstance) -> TaskDeferred:
    """Run the task until it defers."""
    try:
        task.execute(ti.context)
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError("the task did not defer")


def trigger_of(deferred: TaskDeferred) -> BatchGatewayJobTrigger:
    """The trigger as a triggerer makes it."""
    path, arguments = deferred.trigger.serialize()
    assert path == "data_platform.batch_gateway.triggers.BatchGatewayJobTrigger"
    return BatchGatewayJobTrigger(**json.loads(json.dumps(arguments)))


async def first_event(trigger: BatchGatewayJobTrigger) -> dict[str, Any]:
    """The trigger's event, as the task gets it."""
    events = trigger.run()
    try:
        event = await anext(events)
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    payload: dict[str, Any] = json.loads(json.dumps(event.payload))
    return payload


def run_to_end(task: BatchGatewaySubmitOperator, ti: TaskInstance) -> Any:
    """Run a deferrable task: worker, triggerer, worker."""
    event = asyncio.run(first_event(trigger_of(defer(task, ti))))
    return operator_like(task).resume_execution("resume", {"event": event}, ti.context)


def operator_like(task: BatchGatewaySubmitOperator) -> BatchGatewaySubmitOperator:
    """The same operator in another process."""
    return BatchGatewaySubmitOperator(
        task_id=task.task_id,
        job=task.job,
        batch_gateway_conn_id=task.batch_gateway_conn_id,
        deferrable=task.deferrable,
        poll_seconds=task.poll_seconds,
        patience_seconds=task.patience_seconds,
        driver_log_max_bytes=task.driver_log_max_bytes,
        execution_timeout=task.execution_timeout,
    )


@contextlib.contextmanager
def beside(action: Callable[[], None]) -> Iterator[None]:
    """What others do meanwhile, in a thread of its own; what it raises is raised in the end."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(action)
        yield
        done.result()


def attempt_of(ti):
    return AttemptStore(ti.store).load()


def accepted(gateway):
    return gateway.applications()
