"""May models read the replicated tables? A pure policy over what RDS and Redshift report.

=========  ===============================================================================================
verdict    when
=========  ===============================================================================================
``pass``   integration ``active``, ``CdcRefreshState``, every required table ``Synced``, lag within the
           limit, no errors
``wait``   ``creating``, ``modifying``, ``syncing``; ``PendingDbConnectState``, ``SchemaDiscoveryState``;
           a required table ``ResyncRequired`` or ``ResyncInitiated``; lag over the limit or unknown;
           errors on an active integration; any value that is not documented
``fail``   integration ``failed``, ``deleting``, ``ErrorState`` or not found; a required table ``Failed``,
           ``Deleted``, ``DroppedSource``, ``ResyncDeleted`` or missing; the deadline has passed
=========  ===============================================================================================

``needs_attention`` fails if a required table is affected (its state fails, or an error names it), else it passes with a warning.

Sources: Amazon RDS API reference (Integration), Amazon Redshift Database Developer Guide (SVV_INTEGRATION,
SVV_INTEGRATION_TABLE_STATE, SYS_INTEGRATION_TABLE_STATE_CHANGE, ALTER DATABASE), Amazon Aurora User Guide (troubleshooting zero-ETL).

**Clocks.** Lag is Redshift's own ``current_lag``, never a difference between a replicated time and this machine's clock, so a
worker's wrong clock can't make stale data look fresh. A negative lag says that the source's clock is ahead of the warehouse's: up
to the lag limit it counts as 0 with a warning, beyond it the freshness can't be known and the verdict is ``wait``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class Outcome(StrEnum):
    """What to do: go on, ask again later, or stop."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True)
class IntegrationError:
    """One entry of the integration's ``Errors`` as RDS reports it."""

    code: str
    message: str


@dataclass(frozen=True)
class TableState:
    """One row of SVV_INTEGRATION_TABLE_STATE."""

    schema: str
    table: str
    state: str
    reason: str = ""
    is_history_mode: bool = False

    @property
    def name(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Snapshot:
    """What RDS and Redshift said about one integration at one moment.

    Attributes:
        integration_id: the integration's UUID.
        target_database: the Redshift database that should receive its data.
        status: RDS's status; ``None`` when RDS does not know the integration.
        errors: RDS's errors.
        state: Redshift's state; ``None`` when SVV_INTEGRATION shows no row for the integration and the target database.
        connected_to: the database that SVV_INTEGRATION names for the integration; empty before ``CREATE DATABASE``.
        lag_ms: Redshift's ``current_lag`` in milliseconds; ``None`` when it is not known.
        checkpoint: the last replicated checkpoint, an opaque text; ``None`` before the first.
        tables: the tables that Redshift lists for the integration.
        source_arn: what is replicated, as RDS names it: an Aurora cluster.
    """

    integration_id: str
    target_database: str
    status: str | None
    errors: tuple[IntegrationError, ...]
    state: str | None
    connected_to: str
    lag_ms: int | None
    checkpoint: str | None
    tables: tuple[TableState, ...]
    source_arn: str | None = None


@dataclass(frozen=True)
class Finding:
    """One reason for a verdict, or a warning."""

    outcome: Outcome
    subject: str
    state: str | None
    reason: str
    action: str = ""
    table: str | None = None

    def __str__(self) -> str:
        state = f" is {self.state}" if self.state else ""
        return f"{self.subject}{state}: {self.reason}" + (f" To do: {self.action}" if self.action else "")


@dataclass(frozen=True)
class Verdict:
    """The outcome and everything that led to it.

    Attributes:
        outcome: the worst finding's outcome.
        findings: what stands in the way, worst first; empty on a pass.
        warnings: what a person should look at although it does not stand in the way.
        snapshot: what was judged; ``None`` if nothing could be asked.
    """

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    snapshot: Snapshot | None = None

    @property
    def table(self) -> str | None:
        """The first table in the way, as ``schema.table``."""
        return next((finding.table for finding in self.findings if finding.table), None)

    @property
    def state(self) -> str | None:
        """The state of the worst finding."""
        return self.findings[0].state if self.findings else (self.snapshot.state if self.snapshot else None)

    @property
    def reason(self) -> str:
        """Why, for a person."""
        if self.findings:
            return "\n".join(str(finding) for finding in self.findings)
        return "the integration is active and every required table is synced within the lag limit"

    def to_dict(self, required_tables: Iterable[str] = ()) -> dict[str, Any]:
        """The verdict as small JSON for XCom and events; of the tables only the required ones."""
        snapshot = self.snapshot
        states = {table.name: table.state for table in snapshot.tables} if snapshot else {}
        return {
            "outcome": self.outcome.value,
            "reason": self.reason,
            "table": self.table,
            "state": self.state,
            "warnings": [str(warning) for warning in self.warnings],
            "checkpoint": snapshot.checkpoint if snapshot else None,
            "lag_ms": snapshot.lag_ms if snapshot else None,
            "source_arn": snapshot.source_arn if snapshot else None,
            "tables": {name: states.get(name, "missing") for name in required_tables},
        }


_FIND_CAUSE: Final = (
    "look at the integration's errors in the RDS console; a failed integration must be deleted and made again."
)
_BY_ITSELF: Final = ""

STATUS_RULES: Final[dict[str, tuple[Outcome, str, str]]] = {
    "active": (Outcome.PASS, "", ""),
    "needs_attention": (Outcome.PASS, "", ""),  # judged by its tables and errors
    "creating": (Outcome.WAIT, "the integration is being made, which takes minutes.", _BY_ITSELF),
    "modifying": (Outcome.WAIT, "the integration is being changed.", _BY_ITSELF),
    "syncing": (
        Outcome.WAIT,
        "tables are loaded in full before changes follow.",
        "if it stays so, compare the source's binlog parameters with those that zero-ETL needs, and reboot after a change.",
    ),
    "failed": (Outcome.FAIL, "replication has stopped for good.", _FIND_CAUSE),
    "deleting": (Outcome.FAIL, "the integration is being deleted.", "make a new one and run connect_zero_etl for it."),
}
"""RDS ``Integration.Status``."""

STATE_RULES: Final[dict[str, tuple[Outcome, str, str]]] = {
    "CdcRefreshState": (Outcome.PASS, "", ""),
    "PendingDbConnectState": (
        Outcome.WAIT,
        "no Redshift database has been made from the integration.",
        "run the DAG connect_zero_etl.",
    ),
    "SchemaDiscoveryState": (Outcome.WAIT, "the source's tables are being discovered.", _BY_ITSELF),
    "ErrorState": (Outcome.FAIL, "Redshift can't apply changes.", _FIND_CAUSE),
}
"""Redshift ``SVV_INTEGRATION.state``."""

_REFRESH: Final = 'run ALTER DATABASE "{database}" INTEGRATION REFRESH TABLE "{schema}"."{table}"'

TABLE_RULES: Final[dict[str, tuple[Outcome, str, str]]] = {
    "Synced": (Outcome.PASS, "", ""),
    "ResyncRequired": (Outcome.WAIT, "it will be loaded anew by itself and can't be read until then.", _BY_ITSELF),
    "ResyncInitiated": (Outcome.WAIT, "it is being loaded anew and can't be read until that is done.", _BY_ITSELF),
    "Failed": (
        Outcome.FAIL,
        "it is not replicated.",
        "mend the cause at the source (a missing primary key: add one; an unsupported type: change it), then "
        + _REFRESH
        + ".",
    ),
    "Deleted": (
        Outcome.FAIL,
        "it was dropped at the source or taken out of the integration's data filter.",
        "create it again at the source or put it back into the filter; if it stays so, " + _REFRESH + ".",
    ),
    "DroppedSource": (
        Outcome.FAIL,
        "a table in history mode was dropped at the source; Redshift keeps its history but nothing new arrives.",
        "create it again at the source, then " + _REFRESH + ".",
    ),
    "ResyncDeleted": (
        Outcome.FAIL,
        "it disappeared while it was loaded anew.",
        "create it again at the source, then " + _REFRESH + ".",
    ),
}
"""Redshift ``table_state``; ``ResyncDeleted`` is documented for SYS_INTEGRATION_TABLE_STATE_CHANGE only."""

_RANK: Final = {Outcome.FAIL: 0, Outcome.WAIT: 1, Outcome.PASS: 2}
_UNSETTLED_STATUSES: Final = frozenset({"creating", "syncing"})


def evaluate(
    snapshot: Snapshot,
    required_tables: Iterable[str],
    *,
    lag_limit_ms: int,
    history_tables: Iterable[str] = (),
) -> Verdict:
    """Judge a snapshot.

    Args:
        snapshot: what RDS and Redshift reported.
        required_tables: ``schema.table`` that the caller is about to read; case counts.
        lag_limit_ms: the most lag, in milliseconds, that the caller accepts.
        history_tables: ``schema.table`` that must keep history mode's ``_record_*`` columns; they are required too.

    Returns:
        The verdict with every finding, worst first.
    """
    history = dict.fromkeys(history_tables)
    required = dict.fromkeys([*required_tables, *history])
    findings = _judge_integration(snapshot)
    judge_missing = snapshot.state == "CdcRefreshState" and snapshot.status not in _UNSETTLED_STATUSES
    by_name = {table.name: table for table in snapshot.tables}
    for name in required:
        table = by_name.get(name)
        if table is not None:
            findings.extend(_judge_table(snapshot, table, needs_history=name in history))
        elif judge_missing:
            findings.append(_missing(name, by_name))
    if snapshot.state == "CdcRefreshState":
        findings.extend(_judge_lag(snapshot, lag_limit_ms))
    findings.extend(_judge_errors(snapshot, required, findings))
    findings.extend(
        _table_finding(snapshot, table, Outcome.PASS)
        for table in snapshot.tables
        if table.name not in required and _rule(TABLE_RULES, table.state)[0] is Outcome.FAIL
    )
    in_the_way = sorted((f for f in findings if f.outcome is not Outcome.PASS), key=lambda f: _RANK[f.outcome])
    return Verdict(
        outcome=in_the_way[0].outcome if in_the_way else Outcome.PASS,
        findings=tuple(in_the_way),
        warnings=tuple(f for f in findings if f.outcome is Outcome.PASS),
        snapshot=snapshot,
    )


def unreachable(error: Exception, snapshot: Snapshot | None = None) -> Verdict:
    """The verdict while AWS or the warehouse can't be asked: wait, and say why."""
    reason = f"could not be asked ({error})."
    return Verdict(Outcome.WAIT, (Finding(Outcome.WAIT, "the integration", None, reason),), snapshot=snapshot)


def expired(verdict: Verdict, waited_seconds: float) -> Verdict:
    """What a ``wait`` becomes at the deadline: ``fail``, with what was still in the way."""
    reason = f"still not ready after {waited_seconds:.0f} s, which is the deadline."
    late = Finding(Outcome.FAIL, "deadline", "passed", reason, "mend what follows, then clear this task.")
    return replace(verdict, outcome=Outcome.FAIL, findings=(late, *verdict.findings))


def _rule(rules: dict[str, tuple[Outcome, str, str]], value: str) -> tuple[Outcome, str, str]:
    known = ", ".join(rules)
    return rules.get(
        value, (Outcome.WAIT, f"that is none of the documented values ({known}).", "tell the owner of this check.")
    )


def _judge_integration(snapshot: Snapshot) -> list[Finding]:
    """RDS's status and Redshift's state."""
    subject = f"integration {snapshot.integration_id}"
    if snapshot.status is None:
        action = "check integration_arn and region_name of the Airflow connection."
        return [Finding(Outcome.FAIL, subject, "not found", "RDS does not know it.", action)]
    outcome, reason, action = _rule(STATUS_RULES, snapshot.status)
    findings = [Finding(outcome, subject, snapshot.status, reason, action)] if outcome is not Outcome.PASS else []
    if snapshot.state is not None:
        outcome, reason, action = _rule(STATE_RULES, snapshot.state)
        if outcome is not Outcome.PASS:
            findings.append(
                Finding(outcome, f"replication into {snapshot.target_database}", snapshot.state, reason, action)
            )
    elif snapshot.connected_to:
        findings.append(
            Finding(
                Outcome.FAIL,
                f"database {snapshot.target_database}",
                "not found",
                f"the integration feeds the database {snapshot.connected_to}.",
                "set target_database of the Airflow connection to that, or drop that database and run connect_zero_etl.",
            )
        )
    elif snapshot.status != "creating":  # Redshift lists an integration only once it has been made
        findings.append(
            Finding(
                Outcome.FAIL,
                subject,
                "not found",
                "SVV_INTEGRATION does not list it, or the connection's user is no superuser and sees no rows.",
                "check workgroup_name or cluster_identifier of the Airflow connection; make its database user a superuser.",
            )
        )
    return findings


def _judge_table(snapshot: Snapshot, table: TableState, *, needs_history: bool) -> list[Finding]:
    """A required table's state and history mode."""
    findings = []
    outcome = _rule(TABLE_RULES, table.state)[0]
    if outcome is not Outcome.PASS:
        findings.append(_table_finding(snapshot, table, outcome))
    if needs_history and not table.is_history_mode:
        action = (
            f'run ALTER DATABASE "{snapshot.target_database}" INTEGRATION SET HISTORY_MODE = TRUE '
            f'FOR TABLE "{table.schema}"."{table.table}", or stop reading its history.'
        )
        findings.append(
            Finding(
                Outcome.FAIL,
                f"table {table.name}",
                "not in history mode",
                "its _record_* columns are read but Redshift does not keep them.",
                action,
                table.name,
            )
        )
    return findings


def _table_finding(snapshot: Snapshot, table: TableState, outcome: Outcome) -> Finding:
    """What a table's state means; ``outcome`` is ``PASS`` for a table that nobody requires."""
    _, reason, action = _rule(TABLE_RULES, table.state)
    given = f" Redshift's reason: {table.reason}." if table.reason else " Redshift gives no reason."
    action = action.format(database=snapshot.target_database, schema=table.schema, table=table.table)
    return Finding(outcome, f"table {table.name}", table.state, reason + given, action, table.name)


def _missing(name: str, by_name: dict[str, TableState]) -> Finding:
    """A required table that Redshift does not list although changes flow."""
    lookalike = next((other for other in by_name if other.casefold() == name.casefold()), None)
    reason = (
        f"Redshift lists {lookalike}; case counts." if lookalike else "Redshift does not list it for this integration."
    )
    action = "check the required tables, the table at the source and the integration's data filter."
    return Finding(Outcome.FAIL, f"table {name}", "missing", reason, action, name)


def _judge_lag(snapshot: Snapshot, limit_ms: int) -> list[Finding]:
    lag, subject = snapshot.lag_ms, f"lag of {snapshot.target_database}"
    if lag is None:
        return [Finding(Outcome.WAIT, subject, "unknown", "Redshift has not reported current_lag yet.")]
    if lag > limit_ms:
        reason = f"the limit is {limit_ms / 1000:g} s."
        action = "if it stays so, look for a long transaction at the source and at the warehouse's load."
        return [Finding(Outcome.WAIT, subject, f"{lag / 1000:g} s", reason, action)]
    if lag < 0:
        beyond = -lag > limit_ms
        reason = "negative: the source's clock is ahead of the warehouse's" + (
            f" by more than the limit of {limit_ms / 1000:g} s, so freshness can't be known."
            if beyond
            else "; counted as 0."
        )
        outcome = Outcome.WAIT if beyond else Outcome.PASS
        return [Finding(outcome, subject, f"{lag / 1000:g} s", reason, "check the source's clock.")]
    return []


def _judge_errors(snapshot: Snapshot, required: Iterable[str], findings: list[Finding]) -> list[Finding]:
    """RDS's errors, and ``needs_attention``, by whether they touch a required table."""
    subject = f"integration {snapshot.integration_id}"
    if snapshot.status not in ("active", "needs_attention"):
        return [Finding(Outcome.PASS, subject, error.code, error.message) for error in snapshot.errors]
    attention = snapshot.status == "needs_attention"
    judged = []
    for error in snapshot.errors:
        named = next((name for name in required if _names(error.message, name)), None)
        by_table = Outcome.FAIL if named else Outcome.PASS
        outcome = by_table if attention else Outcome.WAIT
        judged.append(Finding(outcome, subject, snapshot.status, f"{error.code}: {error.message}", _FIND_CAUSE, named))
    if attention and not judged:
        affected = any(finding.outcome is Outcome.FAIL and finding.table for finding in findings)
        reason = "a required table is affected." if affected else "no required table is affected."
        outcome = Outcome.FAIL if affected else Outcome.PASS
        judged.append(Finding(outcome, subject, snapshot.status, reason, "look at the integration's tables."))
    return judged


def _names(message: str, table: str) -> bool:
    """Whether an error's text names ``schema.table``, or its quoted table name; a bare ``event`` or ``date`` is too common a word."""
    schema, _, name = table.partition(".")
    qualified = rf"(?<![\w.]){re.escape(schema)}[\"'`]?\.[\"'`]?{re.escape(name)}(?!\w)"
    return re.search(rf"{qualified}|[\"'`]{re.escape(name)}[\"'`]", message) is not None


def describe(snapshot: Snapshot, required_tables: Iterable[str]) -> str:
    """The required tables and their states as text columns for a task's log."""
    by_name = {table.name: table for table in snapshot.tables}
    rows = [("table", "state", "history", "reason")]
    for name in required_tables:
        table = by_name.get(name)
        if table is None:
            rows.append((name, "missing", "", ""))
        else:
            rows.append((name, table.state, "on" if table.is_history_mode else "off", table.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]
    lag = "unknown" if snapshot.lag_ms is None else f"{snapshot.lag_ms} ms"
    head = f"integration {snapshot.integration_id}: {snapshot.status or 'not found'}, {snapshot.state or 'no state'}"
    return "\n".join([f"{head}, lag {lag}, checkpoint {snapshot.checkpoint or 'none'}", *lines])
