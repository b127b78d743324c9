"""Tasks on a zero-ETL integration: wait until it is healthy, and connect it to a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator

from data_platform.zero_etl import exceptions
from data_platform.zero_etl.exceptions import (
    ZeroEtlConnectionInvalid,
    ZeroEtlNotReady,
    ZeroEtlStatementFailed,
    ZeroEtlUnavailable,
    ZeroEtlUnhealthy,
)
from data_platform.zero_etl.health import Outcome, Verdict, describe, evaluate, expired, unreachable
from data_platform.zero_etl.hook import ZeroEtlHook
from data_platform.zero_etl.triggers import ZeroEtlHealthTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

TRIGGERER_GRACE: Final = timedelta(minutes=5)
"""How long after the deadline Airflow itself ends the wait, should the triggerer be down; its message can't name a table."""


class ZeroEtlHealthOperator(BaseOperator):
    """Succeeds once the integration is healthy for the tables that are about to be read.

    Looks once and passes without deferring if all is well. Else it waits, deferred, until the verdict of `health.evaluate` is pass or fail
    or the timeout is over. The result (XCom) is small: outcome, reason, warnings, checkpoint, lag, and the required tables' states.

    Args:
        zero_etl_conn_id: the integration's connection.
        required_tables: ``schema.table``, or just ``table`` for one in the connection's source database. None: only the
            integration itself is judged.
        history_tables: tables that must be in history mode as well.
        lag_limit_seconds: the most lag that is accepted.
        timeout_seconds: how long to wait at most; then the task fails.
        poll_seconds: time between two looks.
        deferrable: whether to wait in the triggerer; ``False`` keeps a worker's slot.
    """

    template_fields: Sequence[str] = (
        "zero_etl_conn_id",
        "required_tables",
        "history_tables",
        "lag_limit_seconds",
        "timeout_seconds",
    )
    ui_color = "#d4e9f7"

    def __init__(
        self,
        *,
        zero_etl_conn_id: str,
        required_tables: Sequence[str] | str = (),
        history_tables: Sequence[str] | str = (),
        lag_limit_seconds: float | str = 300.0,
        timeout_seconds: float | str = 1800.0,
        poll_seconds: float = 15.0,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zero_etl_conn_id = zero_etl_conn_id
        self.required_tables = required_tables
        self.history_tables = history_tables
        self.lag_limit_seconds = lag_limit_seconds
        self.timeout_seconds = timeout_seconds
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable
        self._hook: ZeroEtlHook | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once; wait if there is reason to.

        Raises:
            ZeroEtlUnhealthy: somebody must act first.
            ZeroEtlNotReady: not healthy by the deadline.
        """
        lag_limit = _positive("lag_limit_seconds", self.lag_limit_seconds)
        timeout = _positive("timeout_seconds", self.timeout_seconds)
        self._hook = ZeroEtlHook(self.zero_etl_conn_id)
        required, history = self._tables(self._hook)
        started = datetime.now(UTC)
        deadline = started + timedelta(seconds=timeout)
        while True:
            verdict = self._look(self._hook, required, history, lag_limit)
            if verdict.outcome is not Outcome.WAIT:
                return self._finish(verdict.to_dict(required))
            left = (deadline - datetime.now(UTC)).total_seconds()
            if left <= 0:
                raise ZeroEtlNotReady(expired(verdict, timeout).reason)
            self.log.info("waiting, %.0f s until the deadline: %s", left, verdict.reason)
            if self.deferrable:
                break
            self._hook.pause(min(self.poll_seconds, left))
        self.defer(
            trigger=ZeroEtlHealthTrigger(
                zero_etl_conn_id=self.zero_etl_conn_id,
                required_tables=required,
                history_tables=history,
                lag_limit_seconds=lag_limit,
                poll_seconds=self.poll_seconds,
                started=started.isoformat(),
                deadline=deadline.isoformat(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=timeout) + TRIGGERER_GRACE,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Turn the trigger's event into the task's result. Raises as `execute` does."""
        if event.get("error"):
            raise getattr(exceptions, event["error"])(event["message"])
        if event["overview"]:
            self.log.info("%s", event["overview"])
        if event["late"]:
            raise ZeroEtlNotReady(event["verdict"]["reason"])
        return self._finish(event["verdict"])

    def on_kill(self) -> None:
        """Let a look or a wait that is under way end, and its statement be cancelled."""
        if self._hook is not None:
            self._hook.stop()

    def _tables(self, hook: ZeroEtlHook) -> tuple[list[str], list[str]]:
        """The required tables, those in history mode included, and the latter; all as ``schema.table``."""
        for name in ("required_tables", "history_tables"):
            if isinstance(getattr(self, name), str):
                raise ZeroEtlConnectionInvalid(
                    f"{name}: expected a list, found the text {getattr(self, name)!r}. A template needs "
                    "render_template_as_native_obj=True on the DAG."
                )
        history = hook.config.qualify(list(self.history_tables))
        required = hook.config.qualify(list(self.required_tables))
        return list(dict.fromkeys([*required, *history])), history

    def _look(self, hook: ZeroEtlHook, required: list[str], history: list[str], lag_limit: float) -> Verdict:
        try:
            snapshot = hook.snapshot()
        except (ZeroEtlUnavailable, ZeroEtlStatementFailed) as error:
            return unreachable(error)
        self.log.info("%s", describe(snapshot, required))
        return evaluate(snapshot, required, lag_limit_ms=round(lag_limit * 1000), history_tables=history)

    def _finish(self, verdict: dict[str, Any]) -> dict[str, Any]:
        for warning in verdict["warnings"]:
            self.log.warning("%s", warning)
        if verdict["outcome"] != Outcome.PASS:
            raise ZeroEtlUnhealthy(verdict["reason"])
        self.log.info("healthy: %s", verdict["reason"])
        return verdict


class ConnectZeroEtlOperator(BaseOperator):
    """Makes the connection's target database from the integration, unless it is there already.

    Safe to run again: an existing database is accepted if this integration feeds it, and refused otherwise.

    Args:
        zero_etl_conn_id: the integration's connection.
    """

    template_fields: Sequence[str] = ("zero_etl_conn_id",)
    ui_color = "#d4e9f7"

    def __init__(self, *, zero_etl_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.zero_etl_conn_id = zero_etl_conn_id
        self._hook: ZeroEtlHook | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Connect; the result is ``{"database": …, "created": …}``."""
        hook = self._hook = ZeroEtlHook(self.zero_etl_conn_id)
        created = hook.connect_database()
        database = hook.config.target_database
        outcome = "made from" if created else "exists already and is fed by"
        self.log.info("database %s %s integration %s", database, outcome, hook.config.integration_id)
        self._warn_about_case(hook)
        return {"database": database, "created": created}

    def on_kill(self) -> None:
        """Cancel the statement that is under way."""
        if self._hook is not None:
            self._hook.stop()

    def _warn_about_case(self, hook: ZeroEtlHook) -> None:
        """A look at a setting that readers need; the database stands whatever comes of it."""
        try:
            if hook.is_case_sensitive():
                return
        except (ZeroEtlUnavailable, ZeroEtlStatementFailed) as error:
            self.log.warning("enable_case_sensitive_identifier could not be read: %s", error)
            return
        self.log.warning(
            "enable_case_sensitive_identifier is off by default in this warehouse: names with capitals can't be read. "
            "Turn it on in the workgroup's configuration or the cluster's parameter group (which needs a reboot)."
        )


def _positive(name: str, value: float | str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if number <= 0:
        raise ZeroEtlConnectionInvalid(f"{name}: expected a number of seconds above 0, found {value!r}")
    return number
