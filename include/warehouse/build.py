"""Build the dbt graph in one dbt process, resuming where an earlier try of the same run failed, and say what became of each node."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.warehouse.dbt_run import SKIPPED, DbtOutcome
from include.warehouse.exceptions import (
    DbtCouldNotRun,
    DbtInterrupted,
    DbtNodesFailed,
    RunStateUnreadable,
    SelectionRefused,
    WarehouseError,
)
from include.warehouse.identifiers import quoted
from include.warehouse.run_state import RunState, StateWriter
from include.warehouse.selection import selection_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from include.warehouse.dbt_run import DbtProcess, NodeResult
    from include.warehouse.gateway import Warehouse
    from include.warehouse.run_state import RunStateStore

log = logging.getLogger(__name__)

_COUNTED = frozenset({"table", "incremental", "seed", "snapshot"})
"""Materializations whose rows are counted; counting a view's would compute it."""
_LISTED = 20
"""Nodes that a message or a summary names at most."""


@dataclass(frozen=True)
class BuildReport:
    """What became of the build.

    Attributes:
        state: all nodes of this run id, those of earlier tries included.
        outcome: what this try's dbt process did.
        resumed: nodes that earlier tries had built already.
        rows: row counts by unique id, of relations that hold rows.
    """

    state: RunState
    outcome: DbtOutcome
    resumed: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def built_models(self) -> list[NodeResult]:
        """Models that succeeded, in whichever try."""
        return [node for node in self.state.nodes.values() if node.resource_type == "model" and node.succeeded]

    @property
    def error(self) -> WarehouseError | None:
        """What the task fails with; None if dbt did all that was asked."""
        nodes, outcome = self.outcome.nodes.values(), self.outcome
        failed = [node for node in nodes if node.failed]
        words = "\n".join(outcome.errors) or "nothing"
        if outcome.nothing_selected:
            return SelectionRefused(
                f"param select: expected a selection that matches a node, found none for {self.state.selection!r}. Nothing was changed; "
                "dbt ls --select tells what a selection matches"
            )
        if outcome.exit_code < 0 or (failed == [] and outcome.exit_code != 0 and nodes):
            return DbtInterrupted(
                f"expected dbt to run {outcome.total or 'all'} nodes, found it ended (exit code {outcome.exit_code}) after {len(nodes)}; "
                f"dbt's last words: {words}. A retry goes on from here"
            )
        if failed:
            return DbtNodesFailed(self._failure_message(failed), [node.unique_id for node in failed])
        if outcome.exit_code != 0:
            return DbtCouldNotRun(
                f"expected dbt to build, found it ended with exit code {outcome.exit_code} before any node ran. dbt says:\n{words}\n"
                "Mend the project, its profile or the warehouse's connection, then clear this task"
            )
        return None

    def _failure_message(self, failed: list[NodeResult]) -> str:
        skipped = sum(node.status == SKIPPED for node in self.outcome.nodes.values())
        told = "\n".join(
            f"{node.unique_id}: {node.status}\n{node.message or 'dbt gave no message'}" for node in failed[:_LISTED]
        )
        return (
            f"{len(failed)} dbt node(s) failed, {skipped} that need them were skipped, {len(self.state.done)} succeeded:\n{told}\n"
            "Mend the model, or the data its test complains of. A retry, or clearing this task, goes on from a failed model; after a "
            "failed test, a change of the project or another run's build everything is built"
        )

    def summary(self) -> dict[str, Any]:
        """The report as small JSON, for XCom."""
        failed = [node for node in self.outcome.nodes.values() if node.failed]
        skipped = [node.unique_id for node in self.outcome.nodes.values() if node.status == SKIPPED]
        warned = [node for node in self.state.nodes.values() if node.status == "warn"]
        return {
            "succeeded": len(self.state.done),
            "of_earlier_tries": self.resumed,
            "failed": {node.unique_id: node.message[:2000] for node in failed[:_LISTED]},
            "failed_count": len(failed),
            "skipped": skipped[:_LISTED],
            "skipped_count": len(skipped),
            "warned": {node.unique_id: node.message[:500] for node in warned[:_LISTED]},
            "rows": self.rows,
        }


def run_build(
    dbt: DbtProcess,
    store: RunStateStore,
    wanted: RunState,
    attempt: int,
    earlier: RunState | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Build what is ``wanted``; after a failed try only what is left of it. The caller says `RunStateStore.complete` when all is done.

    Args:
        dbt: the process.
        store: where tries leave their state.
        wanted: the project, selection and options of this run, without nodes.
        attempt: the task's try, from 1.
        earlier: what `earlier_state` found to go on from.
        on_start: called while dbt starts.

    Raises:
        SelectionRefused: the selection isn't one.
    """
    asked = selection_options(wanted.selection)
    state, left = wanted, asked
    if earlier is not None:
        fqns = dbt.list_fqns(asked)
        if fqns:
            todo = [fqn for unique_id, fqn in fqns.items() if unique_id not in earlier.done]
            log.info(
                "resuming: %d of %d nodes were built by an earlier try, %d are left",
                len(fqns) - len(todo),
                len(fqns),
                len(todo),
            )
            state = RunState(wanted.project, wanted.selection, wanted.full_refresh, nodes=earlier.done)
            left = ["--select", *todo, "--indirect-selection", "empty"] if todo else []
        else:
            log.warning("dbt can't list the selection: building everything")
    resumed = len(state.nodes)
    options = [*left, "--full-refresh"] if wanted.full_refresh else left
    with StateWriter(store, state) as writer:
        nothing_left = resumed > 0 and not left
        outcome = (
            DbtOutcome()
            if nothing_left
            else dbt.run(["build"], options, attempt=attempt, on_node=writer.add, on_start=on_start)
        )
    return BuildReport(state, outcome, resumed)


def earlier_state(store: RunStateStore, wanted: RunState, attempt: int) -> RunState | None:
    """What an earlier try left to go on from; None, with the reason in the log, if everything is to be built.

    Args:
        store: where tries leave their state.
        wanted: the project, selection and options of this run.
        attempt: the task's try; the first has nothing to go on from.
    """
    if attempt == 1:
        return None
    try:
        earlier, last_build = store.load(), store.last_build()
    except RunStateUnreadable as error:
        log.warning("%s: building everything", error)
        return None
    if earlier is None:
        log.info("no state of an earlier try: building everything")
        return None
    reason = earlier.reason_not_to_resume(wanted)
    if last_build is None or last_build.run_id != store.run_id:
        reason = (
            f"run {last_build.run_id if last_build else 'unknown'} has built since the earlier try: building everything"
        )
    if reason is not None:
        log.info("%s", reason)
        return None
    return earlier


def count_rows(open_warehouse: Callable[[], Warehouse], nodes: Iterable[NodeResult]) -> dict[str, int]:
    """Rows of each relation that holds rows, by unique id, in one query.

    Empty, with a warning, if the warehouse can't be opened or refuses: the build itself is done.
    """
    counted = [
        (node.unique_id, node.relation)
        for node in nodes
        if node.relation and node.succeeded and node.materialized in _COUNTED
    ]
    if not counted:
        return {}
    sql = " union all ".join(
        f"select {position} as position, count(*) as n from {quoted(*relation)}"  # noqa: S608 - quoted
        for position, (_, relation) in enumerate(counted)
    )
    try:
        return {counted[int(position)][0]: int(rows) for position, rows in open_warehouse().query(sql)}
    except Exception as error:  # such as a connection for AWS that is missing
        log.warning("rows were not counted: %s", error)
        return {}
