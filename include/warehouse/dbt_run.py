"""Run dbt in the warehouse environment and tell, while it runs, what it does.

dbt is another process in another Python environment: it writes one JSON event a line (https://docs.getdbt.com/reference/events-logging),
which become readable lines of the task's log and one `NodeResult` a node.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.warehouse.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

SUCCEEDED = frozenset({"success", "pass", "warn", "no-op"})
FAILED = frozenset({"error", "fail", "runtime error", "partial success"})
SKIPPED = "skipped"
_FINAL = SUCCEEDED | FAILED | {SKIPPED}

MAX_ERRORS_KEPT = 20

_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING}
_RUNNABLE = frozenset({"model", "test", "unit_test", "seed", "snapshot"})
_DOTTED_LINE = re.compile(r" \.{3,} ")


@dataclass(frozen=True)
class NodeResult:
    """How one dbt node ended.

    Attributes:
        unique_id: dbt's id, such as ``model.data_platform.rpt_x``.
        status: dbt's word: success, error, pass, fail, warn, skipped.
        duration_seconds: dbt's own measure.
        message: dbt's words on an error or a warning, verbatim.
        attempt: the task's try that ran the node.
        finished_at: when dbt told its end, UTC in ISO 8601; empty in a state that was saved before this was noted.
    """

    unique_id: str
    resource_type: str
    name: str
    materialized: str
    relation: tuple[str, str] | None
    status: str
    duration_seconds: float
    attempt: int
    message: str = ""
    finished_at: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the node need not run again."""
        return self.status in SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the node, or the test, failed."""
        return self.status in FAILED


@dataclass
class DbtOutcome:
    """What one dbt process did.

    Attributes:
        exit_code: 0 for success, 1 for failed nodes, 2 for a broken project, negative for a signal.
        nodes: how each node ended, by unique id, in order.
        errors: dbt's last error messages that belong to no node.
        total: how many nodes dbt was about to run, once it said so.
        nothing_selected: dbt found no node for the selection.
    """

    exit_code: int = 0
    nodes: dict[str, NodeResult] = field(default_factory=dict)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_ERRORS_KEPT))
    total: int = 0
    nothing_selected: bool = False


class DbtEvents:
    """Turns dbt's JSON events into log lines and node results."""

    def __init__(self, outcome: DbtOutcome, attempt: int, on_node: Callable[[NodeResult], None]) -> None:
        self._outcome = outcome
        self._attempt = attempt
        self._on_node = on_node

    def read(self, line: str) -> None:
        """Take one line of dbt's output; what isn't an event (a traceback, a driver's warning) is logged as it is."""
        try:
            event = json.loads(line)
            info, data = event["info"], event["data"]
        except (ValueError, KeyError, TypeError):
            if line.strip():
                log.warning("dbt: %s", line.rstrip()[:2000])
                self._outcome.errors.append(line.rstrip()[:2000])
            return
        message = _DOTTED_LINE.sub("  ", str(info["msg"])).rstrip()
        if not message:
            return
        log.log(_LEVELS.get(info["level"], logging.INFO), "%s", message)
        self._take(info, message, data)

    def _take(self, info: dict[str, Any], message: str, data: dict[str, Any]) -> None:
        name: str = info["name"]
        node = data.get("node_info") or {}
        unique_id = node.get("unique_id")
        if not unique_id:
            if name == "NothingToDo":
                self._outcome.nothing_selected = True
            if info["level"] == "error":
                self._outcome.errors.append(message)
        elif name in {"RunResultError", "RunResultWarningMessage"}:
            self._explain(unique_id, message)
        elif (status := _final_status(name, data, node)) is not None:
            self._outcome.total = int(data.get("total") or self._outcome.total)
            self._finish(node, status, float(data.get("execution_time") or 0.0), str(info.get("ts") or ""))

    def _finish(self, node: dict[str, Any], status: str, seconds: float, finished_at: str) -> None:
        unique_id: str = node["unique_id"]
        relation = node.get("node_relation") or {}
        result = NodeResult(
            unique_id=unique_id,
            resource_type=node.get("resource_type", ""),
            name=node.get("node_name", unique_id),
            materialized=node.get("materialized", ""),
            relation=(relation["schema"], relation["alias"]) if relation.get("relation_name") else None,
            status=status,
            duration_seconds=round(seconds, 3),
            attempt=self._attempt,
            finished_at=finished_at,
        )
        self._outcome.nodes[unique_id] = result
        self._on_node(result)

    def _explain(self, unique_id: str, message: str) -> None:
        """The message follows at the end of the run, apart from the result."""
        result = self._outcome.nodes.get(unique_id)
        if result is not None:
            told = f"{result.message}\n{message}".strip() if result.message else message.strip()
            explained = NodeResult(**{**result.__dict__, "message": told})
            self._outcome.nodes[unique_id] = explained
            self._on_node(explained)


def _final_status(name: str, data: dict[str, Any], node: dict[str, Any]) -> str | None:
    if name in {"SkippingDetails", "LogSkipBecauseError"}:
        return SKIPPED
    # a unit test's node_status stays "None"; its event says "pass"
    status = str(data.get("status") if name == "LogTestResult" else node.get("node_status")).lower()
    return status if status in _FINAL else None


class DbtProcess:
    """One dbt process at a time, in a process group of its own that dies with the task."""

    def __init__(
        self,
        executable: Path,
        project_dir: Path,
        target_dir: Path,
        environment: Mapping[str, str],
        variables: Mapping[str, bool] | None = None,
    ) -> None:
        self._executable = executable
        self._project_dir = project_dir
        self.target_dir = target_dir
        self._environment = dict(environment)
        self._variables = ("--vars", json.dumps(dict(variables))) if variables else ()
        self._process = ChildProcess()

    def run(
        self,
        command: Sequence[str],
        options: Iterable[str] = (),
        *,
        attempt: int = 1,
        on_node: Callable[[NodeResult], None] = lambda _: None,
        on_start: Callable[[], None] = lambda: None,
    ) -> DbtOutcome:
        """Run ``dbt <command> <options>`` to its end, logging as it goes.

        Args:
            command: such as ``["build"]`` or ``["docs", "generate"]``.
            options: further options of the command.
            attempt: the task's try, noted in each result.
            on_node: called whenever a node has ended, and again when dbt has explained it.
            on_start: called once, in the seconds that dbt takes to say its first word.
        """
        outcome = DbtOutcome()
        events = DbtEvents(outcome, attempt, on_node)
        (self.target_dir / "run_results.json").unlink(missing_ok=True)  # of an earlier run
        try:
            self._start([*command, "--log-format", "json", "--log-level", "info", *options])
            on_start()
            for line in self._process.lines():
                events.read(line)
            outcome.exit_code = self._process.wait()
        except BaseException:  # a time-out of the task, for one
            self.terminate()
            raise
        return outcome

    def list_fqns(self, options: Iterable[str]) -> dict[str, str]:
        """Ask dbt which nodes a selection means: unique id → the fully qualified name that selects exactly this node.

        Empty if dbt could not say; its words are in the log.
        """
        fqns: dict[str, str] = {}
        self._start(["ls", "--quiet", "--output", "json", "--output-keys", "unique_id", "fqn", *options])
        for line in self._process.lines():
            try:
                node = json.loads(line)
                if node["unique_id"].partition(".")[0] in _RUNNABLE:
                    fqns[node["unique_id"]] = ".".join(node["fqn"])
            except (ValueError, KeyError, TypeError):
                log.warning("dbt ls: %s", line.rstrip()[:2000])
        return fqns if self._process.wait() == 0 else {}

    def terminate(self) -> None:
        """See `ChildProcess.terminate`: dbt, interrupted, cancels its queries."""
        self._process.terminate()

    def _start(self, arguments: Sequence[str]) -> None:
        self.target_dir.mkdir(parents=True, exist_ok=True)
        full = [
            str(self._executable),
            *arguments,
            *("--project-dir", str(self._project_dir), "--profiles-dir", str(self._project_dir)),
            *("--target-path", str(self.target_dir), "--log-path", str(self.target_dir)),
            *self._variables,
            *("--log-level-file", "none", "--no-use-colors", "--no-version-check"),
        ]
        log.debug("running %s", full)
        self._process.start(full, environment=self._environment, directory=self.target_dir)
