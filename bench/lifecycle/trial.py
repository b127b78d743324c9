"""Runs a task instance through blows and faults, and judges what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.lifecycle.parts import SPECIFICATION
from bench.lifecycle.record import Identity, Record
from include.local.batch_gateway.store import TERMINAL, Application, Store
from include.local.processes import end_all, marked_environment
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.local.batch_gateway.trial import TrialGateway

CONN_ID: Final = "gateway_under_trial"
SUBMIT_OPERATOR: Final = "bench.lifecycle.trial:submit_operator"
SETTLE_SECONDS: Final = 2.5
"""How long the client holds a submission without an answer possible: faults must delay one by less."""
_PACE_SECONDS: Final = 0.01
_PROGRESS: Final = ("accepted", "SUBMITTED", "RUNNING", "SUCCEEDING", "COMPLETED")
"""What can be waited for of a job, in its order; a job that has failed has been through all."""


def submit_operator(**arguments: Any) -> Any:
    """The operator under trial."""
    from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator

    return BatchGatewaySubmitOperator(task_id="submit_job", batch_gateway_conn_id=CONN_ID, **arguments)


@dataclass(frozen=True)
class Strike:
    """One blow to a part of the task's life.

    Attributes:
        part: worker, triggerer, scheduler, gateway or operator, which are killed by SIGKILL; or ``clear``: a person clears the task.
        at: a point that a worker or triggerer kills itself at, before or after a write: ``before intent``, ``after id`` …; see `parts`.
        when: else, what is waited for: ``running`` (a worker has the task), ``deferred`` (a triggerer has it), ``submit`` (a submission was
            sent), accepted, SUBMITTED, RUNNING, SUCCEEDING, COMPLETED (the job is, or was); or a point as in ``at``, where the process that
            has come to it is held until the blow has fallen. Empty for nothing.
        after_seconds: how long after that.
        away_seconds: how long a gateway, operator or scheduler is gone.
    """

    part: str
    at: str = ""
    when: str = ""
    after_seconds: float = 0.0
    away_seconds: float = 0.2


@dataclass(frozen=True)
class Outcome:
    """What became of a task instance.

    Attributes:
        state: success, failed, or where it was when the time was up.
        result: what the task gave.
        applications: all that the gateway ever accepted for it, in their order.
        landed: the strikes that met their part.
        left_over: ids of processes that were still there; normally none.
        history: for a person.
    """

    state: str
    tries: int
    result: Any
    error: str
    applications: tuple[Application, ...]
    landed: tuple[Strike, ...]
    left_over: tuple[int, ...]
    seconds: float
    history: tuple[str, ...] = field(repr=False, default=())

    def problems(self, *, jobs: int = 1, state: str = "success") -> list[str]:
        """What is not as it must be: so many jobs, this end, the last job's id as the result, nothing that still runs."""
        found = []
        if self.state != state:
            found.append(f"expected {state}, found {self.state}: {self.error}")
        if len(self.applications) != jobs:
            found.append(
                f"expected {jobs} jobs, found {len(self.applications)}: {[one.id for one in self.applications]}"
            )
        running = [one.id for one in self.applications if one.deleted is None and one.state not in TERMINAL]
        if running:
            found.append(f"expected no job running, found {running}")
        if self.left_over:
            found.append(f"expected no process left, found {self.left_over}")
        if self.state == "success" and self.applications:
            last, told = self.applications[-1], (self.result or {}).get("submission_id")
            if told != last.id or last.state != "COMPLETED" or last.deleted is not None:
                found.append(f"expected the completed job {last.id} as result, found {told}; it is {last.state}")
        return found


class Zygote:
    """The warm process that schedulers, workers and triggerers are forked from.

    Args:
        home: its folder, with Airflow's home.
        modules: imported before, beside the client's own.
    """

    def __init__(self, home: Path, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self.run_id = f"life-{uuid.uuid4().hex[:12]}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environ = own | {
            **marked_environment(self.run_id),
            "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")]),
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        }
        with (home / "zygote.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.lifecycle.zygote", *modules],
                cwd=PROJECT_ROOT,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._log = home / "zygote.log"

    def wait_until_ready(self) -> None:
        """Imports take their time.

        Raises:
            RuntimeError: it ended.
        """
        assert self._process.stdout
        while line := self._process.stdout.readline():
            if line.strip() == "ready":
                return
        raise RuntimeError(f"the zygote did not start; its log: {self._log.read_text(encoding='utf-8')[-2000:]}")

    def start_scheduler(self, home: Path) -> Identity:
        """Fork the scheduler of the task in this folder."""
        with self._lock:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write(f"{home}\n")
            self._process.stdin.flush()
            made = Identity.read(self._process.stdout.readline())
        assert made, "the zygote has died"
        return made

    def end(self) -> None:
        """End it and all that was forked from it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        end_all(self.run_id, 1)


@contextlib.contextmanager
def task_processes(modules: Sequence[str] = ()) -> Iterator[Zygote]:
    """A zygote of one's own, ended afterwards with all that came of it."""
    with tempfile.TemporaryDirectory(prefix="task-life-") as folder:
        zygote = Zygote(Path(folder), modules)
        try:
            zygote.wait_until_ready()
            yield zygote
        finally:
            zygote.end()


class Life:
    """One task instance at one gateway.

    Args:
        zygote: what its processes are forked from.
        gateway: as new; see `TrialGateway.reset`.
        home: the task's folder, which does not exist yet.
        arguments: of the operator.
        retries: of the task.
        make: the function that makes the operator.
        extra: of the connection.
    """

    def __init__(
        self,
        zygote: Zygote,
        gateway: TrialGateway,
        home: Path,
        arguments: Mapping[str, Any],
        *,
        retries: int = 8,
        make: str = SUBMIT_OPERATOR,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        home.mkdir(parents=True)
        told = {"base_path": gateway.base_path, "settle_seconds": SETTLE_SECONDS, "read_timeout_seconds": 10}
        connection = {"conn_type": "batch_gateway", "host": gateway.server, "login": "airflow", "password": "pass-word"}
        specification = {
            "make": make,
            "arguments": dict(arguments),
            "environ": {
                f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(connection | {"extra": told | dict(extra or {})})
            },
        }
        (home / SPECIFICATION).write_text(json.dumps(specification), encoding="utf-8")
        self.home = home
        self.record = Record(home)
        self.record.create(retries)
        self._zygote = zygote
        self._gateway = gateway
        self._clusters = Store(gateway.home)
        self._scheduler: Identity | None = None

    def run(self, strikes: Sequence[Strike] = (), timeout: float = 60.0) -> Outcome:
        """Run it to its end; the strikes without a point come one after the other."""
        began = time.monotonic()
        until = began + timeout
        landed = []
        for strike in strikes:
            if strike.at:
                self.record.kill_at(strike.at)
            elif _is_point(strike.when):
                self.record.hold_at(strike.when)
        self._scheduler = self._zygote.start_scheduler(self.home)
        for strike in strikes:
            if not strike.at and self._wait_for(strike, until):
                self._pause(strike.after_seconds, until)
                if self._strike(strike):
                    landed.append(strike)
                self.record.let_go(strike.when)
        while not self.record.task().ended and time.monotonic() < until:
            time.sleep(_PACE_SECONDS)
        seconds = time.monotonic() - began
        told = self.record.history()
        landed += [one for one in strikes if one.at and any(line.endswith(f"SIGKILL {one.at}") for line in told)]
        self._gateway.clear()  # a submission that is still held back comes through now
        time.sleep(0.1)
        task = self.record.task()
        return Outcome(
            state=task.state,
            tries=task.try_number,
            result=json.loads(task.result) if task.result else None,
            error=task.error or "",
            applications=tuple(self._clusters.accepted()),
            landed=tuple(landed),
            left_over=self._left_over(),
            seconds=seconds,
            history=tuple(told),
        )

    def log(self) -> str:
        """What workers and triggerers wrote."""
        path = self.home / "task.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End what is left, and close the databases."""
        for process in self._processes():
            if process.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self.record.close()
        self._clusters.close()

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _processes(self) -> list[Identity]:
        task = self.record.task()
        own = (self._scheduler, Identity.read(task.worker), Identity.read(task.triggerer))
        return [process for process in own if process]

    def _left_over(self) -> tuple[int, ...]:
        """A worker says that it is done before it is gone."""
        until = time.monotonic() + 10
        while (alive := [one.pid for one in self._processes() if one.alive]) and time.monotonic() < until:
            time.sleep(_PACE_SECONDS)
        return tuple(alive)

    def _wait_for(self, strike: Strike, until: float) -> bool:
        """Whether its moment came before the task's end, and there is somebody to meet."""
        while time.monotonic() < until:
            if self._has_come(strike.when) and self._is_there(strike.part):
                return True
            if self.record.task().ended:
                return False
            time.sleep(_PACE_SECONDS)
        return False

    def _has_come(self, when: str) -> bool:
        if not when:
            return True
        if when in ("running", "deferred"):
            return self._is_there({"running": "worker", "deferred": "triggerer"}[when])
        if _is_point(when):
            return self.record.held_at(when)
        if when == "submit":
            return self._clusters.requests().get("submit", 0) > 0
        wanted = _PROGRESS.index(when)
        return any(_progress(one) >= wanted for one in self._clusters.accepted())

    def _is_there(self, part: str) -> bool:
        task = self.record.task()
        if part == "worker":
            return task.state == "running" and _alive(Identity.read(task.worker))
        if part == "triggerer":
            return task.state == "deferred" and _alive(Identity.read(task.triggerer))
        return True

    def _pause(self, seconds: float, until: float) -> None:
        until = min(until, time.monotonic() + seconds)
        while time.monotonic() < until and not self.record.task().ended:
            time.sleep(_PACE_SECONDS)

    def _strike(self, strike: Strike) -> bool:
        """Whether there was somebody to meet."""
        task = self.record.task()
        if not self._is_there(strike.part) or task.ended:
            return False
        self.record.tell(f"strikes {strike.part}")
        match strike.part:
            case "worker" | "triggerer":
                return _kill(Identity.read(getattr(task, strike.part)))
            case "scheduler":
                killed = _kill(self._scheduler)
                time.sleep(strike.away_seconds)
                self._scheduler = self._zygote.start_scheduler(self.home)
                return killed
            case "gateway" | "operator":
                process = getattr(self._gateway, strike.part)
                process.kill()
                time.sleep(strike.away_seconds)
                process.start()
            case "clear":
                self.record.clear_task()
            case _:
                raise ValueError(
                    f"expected worker, triggerer, scheduler, gateway, operator or clear; found {strike.part}"
                )
        return True


def _is_point(when: str) -> bool:
    return when.startswith(("before ", "after "))


def _progress(application: Application) -> int:
    if application.state == "FAILED" or application.state == "FAILING":
        return len(_PROGRESS)
    return _PROGRESS.index(application.state) if application.state in _PROGRESS else 0


def _alive(process: Identity | None) -> bool:
    return process is not None and process.alive


def _kill(process: Identity | None) -> bool:
    if process is None or not process.alive:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    return True
