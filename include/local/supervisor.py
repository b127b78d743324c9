"""Start, watch and stop the local platform's processes.

``make up`` starts one supervisor, which starts the parts in order, checks their health, writes what it knows to ``.local/state.json`` and
stays until ``make down``. A part that dies is named with the last lines of its log; it is never restarted silently. Every process carries
the supervisor's run id in its environment, so that ``down`` ends what this platform started, and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from include.local.environment import BUCKET, airflow_environment, load_secrets, without_foreign
from include.local.layout import DEFAULT_PORTS, SAAS_ITEMS, Layout
from include.local.processes import end, end_all, free_port, is_alive, marked_environment
from include.platform.airflow_api import AirflowApi, HttpAirflowApi, trigger_dag
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STARTING, RUNNING, STOPPING, STOPPED, FAILED = "starting", "running", "stopping", "stopped", "failed"
START_TIMEOUT_SECONDS = 240
STOP_GRACE_SECONDS = 12
POLL_SECONDS = 0.25


class PlatformError(RuntimeError):
    """The local platform can't do what was asked; the message says which part and what to do."""


@dataclass
class Part:
    """One process of the platform."""

    name: str
    status: str = "waiting"
    pid: int | None = None
    port: int | None = None
    log: str = ""
    detail: str = ""
    started_at: float = 0.0


@dataclass
class State:
    """What ``.local/state.json`` holds."""

    run_id: str
    supervisor_pid: int = 0
    supervisor_created: float = 0.0
    phase: str = STARTING
    started_at: float = field(default_factory=time.time)
    message: str = ""
    no_login: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The Airflow UI's address."""
        return f"http://127.0.0.1:{self.ports['api-server']}"

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return is_alive(self.supervisor_pid, self.supervisor_created)

    def dead_parts(self) -> list[Part]:
        """Parts that ended without being asked to."""
        return [part for part in self.parts.values() if part.status == "died"]

    def save(self, layout: Layout) -> None:
        """Write atomically: a reader sees the old state or the new."""
        layout.root.mkdir(parents=True, exist_ok=True)
        new = layout.state_file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        new.replace(layout.state_file)

    @classmethod
    def load(cls, layout: Layout) -> State | None:
        """The last state, or None where there was none or it can't be read."""
        try:
            raw = json.loads(layout.state_file.read_text(encoding="utf-8"))
            return cls(**{**raw, "parts": {name: Part(**part) for name, part in raw["parts"].items()}})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def tail(path: str | Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty log)"


def describe_death(part: Part) -> str:
    """One message for a part that died: name, exit, last lines of its log."""
    return f"{part.name} died ({part.detail}); the last lines of {part.log}:\n{tail(part.log)}"


def answers(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """The JSON that ``url`` answers with 200, else None."""
    try:
        answer = requests.get(url, timeout=timeout)
        return dict(answer.json()) if answer.ok else None
    except (requests.RequestException, ValueError):
        return None


def stand_ins(layout: Layout, ports: Mapping[str, int], tickit: str, saas_items: int) -> dict[str, list[str]]:
    """The command of each stand-in, by the part's name."""
    aws_url = f"http://127.0.0.1:{ports['aws']}"
    tenants = ["--saas-items", str(saas_items), "--saas-url", f"http://127.0.0.1:{ports['saas']}"]
    aws = ["--port", str(ports["aws"]), "--home", str(layout.aws), "--bucket", BUCKET, *tenants, "--ingestion"]
    zero_etl = ["--port", str(ports["zero-etl"]), "--home", str(layout.aurora), "--zero-etl", str(layout.zero_etl)]
    catalog = ["--port", str(ports["catalog"]), "--home", str(layout.catalog)]
    clusters = ["--home", str(layout.spark), "--aws", aws_url]
    gateway = [sys.executable, "-m", "include.local.batch_gateway"]
    return {
        "aws": [sys.executable, "-m", "include.local.aws", *aws],
        "catalog": [sys.executable, "-m", "include.local.catalog", *catalog],
        "zero-etl": [sys.executable, "-m", "include.local.aurora", *zero_etl, "--tickit", tickit],
        "spark-operator": [*gateway, "operator", *clusters],
        "batch-gateway": [*gateway, "gateway", *clusters, "--port", str(ports["batch-gateway"])],
        "saas": [sys.executable, "-m", "include.local.saas", "--port", str(ports["saas"]), "--aws", aws_url],
    }


class Supervisor:
    """Runs the parts; one object in one process."""

    def __init__(
        self, layout: Layout, state: State, *, tickit: str, environ: dict[str, str], saas_items: int = SAAS_ITEMS
    ) -> None:
        self.layout = layout
        self.state = state
        self.environ = environ
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False
        ports = state.ports
        self.stand_ins = stand_ins(layout, ports, tickit, saas_items)
        airflow = [sys.executable, "-m", "airflow"]
        self.commands: dict[str, list[str]] = {
            **self.stand_ins,
            "migrate": [*airflow, "db", "migrate"],
            "api-server": [*airflow, "api-server"],
            # Their log servers would listen on every interface; the UI reads the log files from disk.
            "scheduler": [*airflow, "scheduler", "--skip-serve-logs"],
            "dag-processor": [*airflow, "dag-processor"],
            "triggerer": [*airflow, "triggerer", "--skip-serve-logs"],
        }
        for name in self.commands:
            log = str(layout.logs / f"{name}.log")
            state.parts[name] = Part(name, port=ports.get(name), log=log)

    def start(self, *names: str, again: bool = False) -> None:
        """Start parts without waiting for them; one that is started again goes on in its log."""
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        for name in names:
            part = self.state.parts[name]
            with Path(part.log).open("ab" if again else "wb") as log:
                child = subprocess.Popen(
                    self.commands[name],
                    cwd=PROJECT_ROOT,
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self.children[name] = child
            part.pid, part.status, part.detail, part.started_at = child.pid, STARTING, "", time.time()
        self.state.save(self.layout)

    def check_children(self) -> None:
        """Notice parts that ended."""
        for name, child in self.children.items():
            part = self.state.parts[name]
            code = child.poll()
            if code is None or part.status in {"died", "done"}:
                continue
            if name == "migrate" and code == 0:
                part.status, part.pid = "done", None
            else:
                part.status = "died"
                part.detail = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
                self._log(describe_death(part))
            self.state.save(self.layout)

    def wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until ``ready``; a part that dies meanwhile, or the time limit, is an error that names it."""
        self.state.message = what
        self.state.save(self.layout)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not ready():
            self.check_children()
            if self.state.dead_parts():
                raise PlatformError("\n".join(describe_death(part) for part in self.state.dead_parts()))
            if self.stopping:
                raise PlatformError("stopped while starting")
            if time.monotonic() > deadline:
                waiting = [part for part in self.state.parts.values() if part.status == STARTING]
                logs = "\n".join(f"  {part.name}: {part.log}\n{tail(part.log, 5)}" for part in waiting)
                raise PlatformError(f"{what}: not ready after {START_TIMEOUT_SECONDS} s; still starting:\n{logs}")
            time.sleep(POLL_SECONDS)

    def _mark_running(self, *names: str) -> bool:
        for name in names:
            self.state.parts[name].status = RUNNING
        self.state.save(self.layout)
        return True

    def _http_ready(self, name: str) -> bool:
        if self.state.parts[name].status == RUNNING:
            return True
        healthy = answers(f"http://127.0.0.1:{self.state.ports[name]}/health") is not None
        return healthy and self._mark_running(name)

    def _told_ready(self, name: str) -> bool:
        """Of a part without a port: its log says so."""
        if self.state.parts[name].status == RUNNING:
            return True
        part = self.state.parts[name]
        told = Path(part.log).read_text(encoding="utf-8", errors="replace").splitlines()
        return f"ready {part.pid}" in told and self._mark_running(name)

    def _airflow_ready(self) -> bool:
        health = answers(f"{self.state.url}/api/v2/monitor/health", timeout=5)
        if health is None:
            return False
        self._mark_running("api-server")
        names = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
        states = {name: _beats(health.get(key) or {}, self.state.parts[name].started_at) for name, key in names.items()}
        self._mark_running(*[name for name, healthy in states.items() if healthy])
        return all(states.values())

    def bring_up(self) -> None:
        """Start everything in order; returns when Airflow shows the DAGs and the platform is configured."""
        self.start(*self.stand_ins, "migrate")
        self.wait_for("creating Airflow's database", lambda: self.state.parts["migrate"].status == "done")
        self.start("api-server", "scheduler", "dag-processor", "triggerer")
        self.wait_for("starting the AWS stand-in with the local SaaS's items", lambda: self._http_ready("aws"))
        self.wait_for("starting the local SaaS", lambda: self._http_ready("saas"))
        self.wait_for("starting the catalog stand-in", lambda: self._http_ready("catalog"))
        self.wait_for("starting the Spark gateway", lambda: self._http_ready("batch-gateway"))
        self.wait_for("starting the Spark operator", lambda: self._told_ready("spark-operator"))
        self.wait_for("loading TICKIT into the local Aurora", lambda: self._http_ready("zero-etl"))
        self.wait_for("starting Airflow", self._airflow_ready)
        api = platform_api(self.layout, self.state)
        dags = Path(self.environ["AIRFLOW__CORE__DAGS_FOLDER"])
        self.wait_for("reading the DAGs", lambda: _all_dags_read(api, dags))
        run_id = f"supervisor__{self.state.run_id}"
        trigger_dag(api, "configure_platform", run_id)
        self.wait_for("configuring pools and variables", lambda: _finished(api, "configure_platform", run_id))

    def run(self) -> int:
        """The supervisor's life: bring up, watch until told to stop, stop everything. Returns the exit status."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        exit_status = 0
        try:
            self.bring_up()
            self.state.phase, self.state.message = RUNNING, ""
            self.state.save(self.layout)
            while not self.stopping:
                self.check_children()
                self.restart_requested()
                time.sleep(POLL_SECONDS)
        except Exception as error:
            self._log(f"{type(error).__name__}: {error}")
            if not self.stopping:
                exit_status = 1
                self.state.phase, self.state.message = FAILED, f"{error}"
        finally:
            self._stop(failed=exit_status != 0)
        return exit_status

    def restart_requested(self) -> None:
        """Start what died and was asked for by `include.local.restart`, and notice when it is ready."""
        for request in sorted(self.layout.restarts.glob("*")):
            part = self.state.parts.get(request.name)
            request.unlink()
            if part and part.status == "died":
                self._log(f"{part.name} is started again: somebody asked for it")
                self.start(part.name, again=True)
        for part in [part for part in self.state.parts.values() if part.status == STARTING]:
            if part.name == "spark-operator":
                self._told_ready(part.name)
            elif part.name in self.stand_ins:
                self._http_ready(part.name)
            else:
                self._airflow_ready()

    def _stop(self, *, failed: bool) -> None:
        message = self.state.message
        if not failed:
            self.state.phase = STOPPING
            self.state.save(self.layout)
        # Airflow first, so that running tasks can still reach the stand-ins while they end.
        names = set(self.children)
        for group in (names - set(self.stand_ins), names & set(self.stand_ins)):
            alive = [psutil.Process(c.pid) for n, c in self.children.items() if n in group and c.poll() is None]
            end(alive, STOP_GRACE_SECONDS)
        end_all(self.state.run_id, STOP_GRACE_SECONDS)
        for part in self.state.parts.values():
            if part.status not in {"died", "done"}:
                part.status = STOPPED
            part.pid = None
        self.state.phase, self.state.message = (FAILED, message) if failed else (STOPPED, "")
        self.state.save(self.layout)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def _log(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", flush=True)


def _beats(told: Mapping[str, Any], since: float) -> bool:
    """Whether Airflow calls a part healthy for a heartbeat of its own, not for one of a process before it."""
    beat = next((value for key, value in told.items() if key.startswith("latest_") and value), None)
    return told.get("status") == "healthy" and beat is not None and datetime.fromisoformat(beat).timestamp() >= since


def platform_api(layout: Layout, state: State) -> HttpAirflowApi:
    """The running platform's REST API as the local admin."""
    if state.no_login:
        return HttpAirflowApi(state.url)
    return HttpAirflowApi(state.url, "admin", load_secrets(layout)["passwords"]["admin"])


def _all_dags_read(api: AirflowApi, folder: Path) -> bool:
    """Whether Airflow knows the DAG of every file; one that can't be imported is an error that quotes Airflow."""
    errors = api.request("GET", "/importErrors")["import_errors"]
    if errors:
        told = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
        raise PlatformError(f"Airflow can't import a DAG file; mend it, then `make up` again. {told}")
    known = {dag["dag_id"] for dag in api.request("GET", "/dags", params={"limit": 100})["dags"]}
    return {path.stem for path in folder.rglob("*.py")} <= known


def _finished(api: AirflowApi, dag_id: str, run_id: str) -> bool:
    state = api.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
    if state == "failed":
        raise PlatformError(f"{dag_id} failed; look at its run {run_id} in the UI or below .local/airflow/logs")
    return bool(state == "success")


def launch(layout: Layout, *, tickit: str, no_login: bool, saas_items: int = SAAS_ITEMS) -> State:
    """Start a detached supervisor and return its first state.

    Raises:
        PlatformError: one runs already, or another command has started one a moment ago.
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    with (layout.root / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two commands at once, the second finds what the first has started
        return _launch(layout, tickit, no_login, saas_items)


def _launch(layout: Layout, tickit: str, no_login: bool, saas_items: int) -> State:
    before = State.load(layout)
    if before and before.alive:
        raise PlatformError(f"already up (supervisor {before.supervisor_pid}); see `make status`")
    if before:  # a supervisor that was killed leaves its processes behind
        end_all(before.run_id, STOP_GRACE_SECONDS)
    ports: dict[str, int] = {}
    for name, preferred in DEFAULT_PORTS.items():
        ports[name] = free_port(preferred, ports.values())
    state = State(run_id=uuid.uuid4().hex[:12], ports=ports, no_login=no_login)
    environ = {
        **without_foreign(os.environ),
        **airflow_environment(layout, ports, no_login=no_login),
        **marked_environment(state.run_id),
    }
    layout.logs.mkdir(parents=True, exist_ok=True)
    with (layout.logs / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "include.local", "supervise", "--run-id", state.run_id),
                *("--tickit", tickit, "--saas-items", str(saas_items)),
            ],
            cwd=PROJECT_ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    state.supervisor_pid, state.supervisor_created = process.pid, psutil.Process(process.pid).create_time()
    state.save(layout)
    if process.stdin:
        process.stdin.close()  # the supervisor waits for this: its state file is written
    return state


def supervise(layout: Layout, run_id: str, tickit: str, saas_items: int) -> int:
    """Body of the supervisor process."""
    sys.stdin.read()
    state = State.load(layout)
    if state is None or state.run_id != run_id:
        raise PlatformError(
            f"expected the state of run {run_id} in {layout.state_file}, found another; run `make up` again"
        )
    return Supervisor(layout, state, tickit=tickit, environ=dict(os.environ), saas_items=saas_items).run()


def stop(layout: Layout) -> State | None:
    """Stop the platform; returns its last state, or None where nothing was running.

    Raises:
        PlatformError: a process can't be ended.
    """
    state = State.load(layout)
    if state is None:
        return None
    was_alive = state.alive
    if was_alive:
        os.kill(state.supervisor_pid, signal.SIGTERM)
        deadline = time.monotonic() + 4 * STOP_GRACE_SECONDS
        while state.alive and time.monotonic() < deadline:
            time.sleep(0.1)
    if left := end_all(state.run_id, STOP_GRACE_SECONDS):
        raise PlatformError(
            f"expected every process of the platform to end, found {', '.join(map(str, left))} alive after SIGKILL; look at them with ps"
        )
    if not was_alive:
        return None
    return State.load(layout)
