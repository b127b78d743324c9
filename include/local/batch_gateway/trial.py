"""A gateway of one's own, for tests and benchmarks: the gateway and its operator as processes, on a free port, gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import requests

from include.local.batch_gateway.config import Cluster, GatewayConfig
from include.local.batch_gateway.store import Store
from include.local.processes import end_all, marked_environment
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GATEWAY: Final = "gateway"
OPERATOR: Final = "operator"
_POLL_SECONDS: Final = 0.02
_MODULE: Final = (sys.executable, "-m", "include.local.batch_gateway")
_JOB: Final[dict[str, Any]] = {
    "sparkVersion": "3.5.0",
    "mainApplicationFile": "local:///opt/spark/jobs/job.py",
    "queue": "dev",
    "driver": {"cores": 1, "memory": "1g"},
    "executor": {"instances": 1, "cores": 1, "memory": "1g"},
}


def simulated_job(**properties: Any) -> dict[str, Any]:
    """A job whose run is as the properties ``spark.simulate.*`` say."""
    return _JOB | {"sparkConf": {f"spark.simulate.{name}": str(value) for name, value in properties.items()}}


class Process:
    """One of the two, which can be killed and started again at the same place.

    Attributes:
        said: its first line, which it says when it is ready.
    """

    def __init__(self, arguments: Sequence[str], environ: dict[str, str], log: Path) -> None:
        self._arguments = list(arguments)
        self._environ = environ
        self._log = log
        self._child: subprocess.Popen[str] | None = None
        self.said = ""

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: it ended.
        """
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                [*_MODULE, *self._arguments],
                cwd=PROJECT_ROOT,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert child.stdout
        self._child, self.said = child, child.stdout.readline().strip()
        if not self.said.startswith("ready"):
            raise RuntimeError(
                f"{self._arguments[0]} did not start; its log: {self._log.read_text(encoding='utf-8')[-2000:]}"
            )

    def kill(self) -> None:
        """End it at once, by SIGKILL, wherever it is."""
        if self._child:
            self._child.kill()
            self._child.wait()
            if self._child.stdout:
                self._child.stdout.close()
            self._child = None

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def pin(self, *arguments: str) -> None:
        """Start with these from now on; the last one of a name counts."""
        self._arguments += arguments


class TrialGateway:
    """A running gateway and its operator.

    Attributes:
        url: where its endpoints are: the server with the base path.
        port: the server's.
        base_path: of the configuration.
        gateway: process of the gateway; a kill harms no job, as real. Restarted, it is at the same port, and its faults are over.
        operator: process of the operator; jobs go on without it, unseen.
        home: folder of the clusters' state and of the drivers' logs.
    """

    def __init__(self, home: Path, config: GatewayConfig, gateway: Process, operator: Process) -> None:
        self.home = home
        self.gateway = gateway
        self.operator = operator
        self.base_path = config.base_path
        self.server = gateway.said.removeprefix("ready on ")
        self.port = int(self.server.rpartition(":")[2])
        self.url = self.server + config.base_path
        gateway.pin("--port", str(self.port))
        self._session = requests.Session()
        self._session.trust_env = False

    def fault(self, operation: str, **fields: Any) -> None:
        """Put a fault in force; see `Fault`."""
        self._local("POST", "faults", {"operation": operation, **fields})

    def clear(self) -> None:
        """End all faults."""
        self._local("DELETE", "faults")

    def reset(self) -> None:
        """As new: no faults, no applications, nothing asked."""
        self.clear()
        self._local("DELETE", "applications")

    def asked(self, operation: str) -> int:
        """How often an operation was asked for, done or not.

        Args:
            operation: submit, status, delete, spec, driver, describe, my_submissions, list, log, upload or health.
        """
        return int(self.state()["requests"].get(operation, 0))

    def state(self) -> dict[str, Any]:
        """Requests by operation, applications by cluster and state, faults in force."""
        return self._local("GET", "state")

    def applications(self, name: str | None = None) -> list[dict[str, Any]]:
        """All that were ever accepted, the deleted too, with this application name."""
        found: list[dict[str, Any]] = self._local("GET", f"applications?name={quote(name or '')}")["applications"]
        return found

    def application(self, submission_id: str) -> dict[str, Any]:
        """One of them."""
        return self._local("GET", f"applications/{quote(submission_id)}")

    def set_state(self, submission_id: str, state: str, *, error: str = "", held: bool = False) -> None:
        """Put an application into a state; held, the operator leaves it there."""
        told = {"error": error} if error else {}
        self._local("POST", f"applications/{quote(submission_id)}", {"state": state, "held": held, **told})

    def hold(self, submission_id: str) -> None:
        """The operator leaves an application in its state."""
        self._local("POST", f"applications/{quote(submission_id)}", {"held": True})

    def release(self, submission_id: str) -> None:
        """The operator goes on with an application that was held."""
        self._local("POST", f"applications/{quote(submission_id)}", {"held": False})

    def remove(self, submission_id: str) -> None:
        """Remove an application as an expiry does."""
        self._local("DELETE", f"applications/{quote(submission_id)}")

    def wait_until_asked(self, operation: str, times: int, timeout: float = 30.0) -> None:
        """Wait for so many requests of an operation.

        Raises:
            TimeoutError: there were fewer.
        """
        self._wait(
            lambda: self.asked(operation) >= times, timeout, lambda: f"{times} requests of {operation}: {self.state()}"
        )

    def wait_state(self, submission_id: str, *states: str, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the operator has brought an application into one of these states.

        Raises:
            TimeoutError: it is in another.
        """
        self._wait(
            lambda: self.application(submission_id)["state"] in states,
            timeout,
            lambda: f"{submission_id} {' or '.join(states)}: {self.application(submission_id)}",
        )
        return self.application(submission_id)

    def wait_log(self, submission_id: str, timeout: float = 30.0) -> None:
        """Wait until an application's driver has written something.

        Raises:
            TimeoutError: there is nothing yet.
        """
        path = Store(self.home).log_path(submission_id)
        self._wait(
            lambda: path.exists() and path.stat().st_size > 0,
            timeout,
            lambda: f"a driver's log of {submission_id}: {self.application(submission_id)}",
        )

    def wait_accepted(self, count: int = 1, name: str | None = None, timeout: float = 30.0) -> list[dict[str, Any]]:
        """Wait until so many applications were accepted.

        Raises:
            TimeoutError: there were fewer.
        """
        self._wait(
            lambda: len(self.applications(name)) >= count,
            timeout,
            lambda: f"{count} applications: {self.applications(name)}",
        )
        return self.applications(name)

    def _wait(self, come: Callable[[], bool], timeout: float, told: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout
        while not come():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout:.0f} s expected {told()}")
            time.sleep(_POLL_SECONDS)

    def _local(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._session.request(method, f"{self.server}/_local/{path}", json=document, timeout=30)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told


@contextmanager
def trial_gateway(
    home: Path | None = None,
    *,
    simulate: bool = True,
    clusters: Sequence[str | Cluster] = ("sparkclustera", "sparkclusterb"),
    rate_limit: float = 20.0,
    aws: str | None = None,
    concurrency: int = 2,
    **config: Any,
) -> Iterator[TrialGateway]:
    """Serve a gateway, with an operator behind it.

    Args:
        home: where the clusters' state is kept; a folder of its own, gone afterwards, if there is none.
        simulate: applications do as their properties ``spark.simulate.*`` say, and no Spark is started.
        clusters: ids, or all about each.
        rate_limit: listings per second.
        aws: URL of an AWS stand-in.
        concurrency: drivers at once, where they are real.
        config: other fields of `GatewayConfig`.

    Raises:
        RuntimeError: one of the two did not start.
    """
    made = GatewayConfig(
        clusters=tuple(Cluster(one) if isinstance(one, str) else one for one in clusters),
        listings_per_second=rate_limit,
        **config,
    )
    run_id = f"trial-{uuid.uuid4().hex[:12]}"
    python_path = os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")])
    environ = {**os.environ, **marked_environment(run_id), "PYTHONPATH": python_path}
    with ExitStack() as after:
        folder = home or Path(after.enter_context(tempfile.TemporaryDirectory(prefix="batch-gateway-")))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(made.to_json(), encoding="utf-8")
        common = ["--home", str(folder), *(["--aws", aws] if aws else [])]
        kind = ["--simulate"] if simulate else ["--concurrency", str(concurrency)]
        operator = Process([OPERATOR, *common, *kind], environ, folder / "operator.log")
        gateway = Process(
            [GATEWAY, *common, "--config", str(folder / "config.json"), "--port", "0"], environ, folder / "gateway.log"
        )
        after.callback(end_all, run_id, 5)
        for process in (operator, gateway):
            after.callback(process.kill)
            process.start()
        yield TrialGateway(folder, made, gateway, operator)
