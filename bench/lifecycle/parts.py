"""The processes that run a task instance: scheduler, worker, triggerer. All that one needs to know is in the task's record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, SetXCom, XComResult

from bench.lifecycle.record import Identity, Record
from data_platform.batch_gateway.attempts import STORE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow.sdk import BaseOperator
    from airflow.triggers.base import BaseTrigger

SPECIFICATION: Final = "specification.json"
"""In the task's folder: ``make``, a function ``module:name`` that makes the operator, its ``arguments``, and ``environ``."""
_PACE_SECONDS: Final = 0.02
_KILLED_BY_USER: Final = "killed by a person"


def fork(body: Callable[[], None], log: Path) -> int:
    """Run ``body`` in a process of its own, which writes to ``log``; gives its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(target, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # nothing of the parent's, such as its database, is to be closed here


def scheduler(home: Path) -> None:
    """Run what is to run next until the task instance has ended. It can be killed and started again: the record says where it was."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    record = Record(home)
    record.requeue()
    given: Identity | None = None
    told_to_end: Identity | None = None
    while True:
        task = record.task()
        worker, triggerer = Identity.read(task.worker), Identity.read(task.triggerer)
        match task.state:
            case "scheduled" if record.queue():
                given = _start(worker_body, home)
            case "queued" if given is None or not given.alive:
                record.fail(task.try_number, "its worker died before it began", state="queued")
            case "running" if worker is None or not worker.alive:
                record.fail(task.try_number, "its worker died")
            case "restarting" if worker is None or not worker.alive:
                record.restart()
            case "restarting" if worker is not None and worker != told_to_end:
                told_to_end = worker
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)
            case "deferred" if triggerer is None or not triggerer.alive:
                _wait_for_claim(record, task.trigger_number, _start(triggerer_body, home))
            case "success" | "failed":
                return
        time.sleep(_PACE_SECONDS)


def _start(body: Callable[[Path], None], home: Path) -> Identity:
    return Identity.of(fork(lambda: body(home), home / "task.log"))


def _wait_for_claim(record: Record, number: int, process: Identity) -> None:
    """Not to start a second triggerer before the first has said that it is there."""
    while process.alive:
        task = record.task()
        if task.state != "deferred" or task.trigger_number != number or task.triggerer:
            return
        time.sleep(_PACE_SECONDS)


def _specification(home: Path) -> dict[str, Any]:
    specification: dict[str, Any] = json.loads((home / SPECIFICATION).read_text(encoding="utf-8"))
    os.environ.update(specification["environ"])
    return specification


class _StateStore:
    """The task state store; a process may be killed before and after each write."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def get(self, key: str) -> Any:
        return self._record.get("store", key)

    def set(self, key: str, value: Any) -> None:
        stage = _stage(value) if key == STORE_KEY else "external id"
        self._record.reach(f"before {stage}")
        self._record.keep("store", key, value)
        self._record.reach(f"after {stage}")

    def delete(self, key: str) -> None:
        self._record.forget("store", key)


def _stage(attempt: Mapping[str, Any]) -> str:
    """What an attempt has come to."""
    if attempt.get("outcome"):
        return "outcome"
    if attempt.get("submission_id"):
        return "id"
    return "post" if attempt.get("posted_at") else "intent"


class _TaskInstance:
    """What an operator and a trigger ask of their task instance."""

    stats_tags: ClassVar[dict[str, str]] = {}

    def __init__(self, record: Record, home: Path) -> None:
        task = record.task()
        self._record = record
        self.dag_id, self.task_id, self.run_id, self.map_index = "spark_jobs", "submit_job", home.name, -1
        self.try_number, self.max_tries = task.try_number, task.max_tries

    def xcom_push(self, key: str, value: Any) -> None:
        self._record.keep("xcom", key, value)

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self, "task_state_store": _StateStore(self._record)}


class _Comms:
    """The way of a task's or triggerer's process to the server, as far as XComs need it."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def send(self, msg: Any) -> Any:
        with contextlib.closing(Record(self._home)) as record:  # it may be another thread's turn
            match msg:
                case SetXCom():
                    record.keep("xcom", msg.key, msg.value)
                    return None
                case GetXCom():
                    return XComResult(key=msg.key, value=record.get("xcom", msg.key))
        raise NotImplementedError(f"expected GetXCom or SetXCom, found {type(msg).__name__}")


def worker_body(home: Path) -> None:
    """Run the task instance's next piece, and tell the server how it ended."""
    record = Record(home)
    task = record.start(Identity.mine())
    if task is None:
        return
    specification = _specification(home)
    task_runner.SUPERVISOR_COMMS = _Comms(home)  # type: ignore[assignment]
    module, _, function = specification["make"].partition(":")
    operator: BaseOperator = getattr(import_module(module), function)(**specification["arguments"])
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    ti: Any = _TaskInstance(record, home)
    ExecutorSafeguard.tracker.set(operator)
    try:
        if task.next_method is None:
            record.forget("xcom")
            result = operator.execute(ti.context)
        else:
            result = operator.resume_execution(task.next_method, json.loads(task.next_kwargs or "{}"), ti.context)
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        record.reach("before deferral")
        record.defer(task.try_number, path, arguments, deferred.method_name)
    except Exception as error:
        traceback.print_exc()
        record.reach("before failure")
        told = f"{type(error).__name__}: {error}"
        record.fail(task.try_number, told, retry=not isinstance(error, AirflowFailException))
    else:
        record.keep("xcom", "return_value", result)
        record.reach("before success")
        record.succeed(task.try_number, result)


def triggerer_body(home: Path) -> None:
    """Run the present trigger until it has an event, the task no longer waits for it, or this process is told to end."""
    record = Record(home)
    task = record.claim(Identity.mine())
    if task is None:
        return
    _specification(home)
    task_runner.SUPERVISOR_COMMS = _Comms(home)  # type: ignore[assignment]
    module, _, name = str(task.trigger_path).rpartition(".")
    trigger: BaseTrigger = getattr(import_module(module), name)(**json.loads(task.trigger_kwargs or "{}"))
    trigger.task_instance = _TaskInstance(record, home)  # type: ignore[assignment]
    asyncio.run(_trigger(record, task.trigger_number, trigger))


async def _trigger(record: Record, number: int, trigger: BaseTrigger) -> None:
    """As airflow.jobs.triggerer_job_runner.TriggerRunner.run_trigger."""

    async def run() -> None:
        try:
            async for event in trigger.run():
                record.reach("before event")
                record.fire(number, json.loads(json.dumps(event.payload)))
                record.reach("after event")
                return
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (_KILLED_BY_USER,):
                await asyncio.wait_for(trigger.on_kill(), timeout=30)
        finally:
            await trigger.cleanup()

    running = asyncio.create_task(run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    while not running.done():
        task = record.task()
        if task.state != "deferred" or task.trigger_number != number:
            running.cancel(_KILLED_BY_USER)  # at every look, as TriggerRunner.cancel_triggers does
        await asyncio.wait([running], timeout=0.05)
    await running
