"""One notifier for failures and missed deadlines; the connection decides where an alert goes.

====================  ==============================================================================
connection type       channel
====================  ==============================================================================
``aws``               Amazon SNS, topic ``extra.topic_arn``
``http``/``https``    a webhook: JSON POST to host + ``extra.endpoint``, header from ``extra.headers``
absent                the log only (local default)
====================  ==============================================================================

An alert that can't be sent is logged with its text and never fails the task or the triggerer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

SNS_SUBJECT_LIMIT = 100  # characters; Amazon SNS API reference, Publish
WEBHOOK_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Alert:
    """What happened, where, and who is called. The reason is the exception's text, which may quote SQL, never a credential."""

    event: str
    owner: str
    dag_id: str
    run_id: str
    task_id: str | None
    try_number: int | None
    reason: str
    url: str | None

    @property
    def subject(self) -> str:
        """One line for a mail subject or a chat message."""
        where = f"{self.dag_id}.{self.task_id}" if self.task_id else self.dag_id
        return f"[{self.owner}] {self.event.replace('_', ' ')}: {where}"

    @classmethod
    def from_context(cls, context: Any, *, event: str, owner: str) -> Alert:
        """Read the alert from Airflow's context, which differs between a task callback and a deadline callback."""
        ti = context.get("ti") or context.get("task_instance")
        dag_run = context.get("dag_run") or {}
        if not isinstance(dag_run, dict):
            dag_run = {"dag_id": getattr(dag_run, "dag_id", None), "run_id": getattr(dag_run, "run_id", None)}
        deadline = context.get("deadline") or {}
        exception = context.get("exception")
        if exception is not None:
            reason = (
                f"{type(exception).__name__}: {exception}" if isinstance(exception, BaseException) else str(exception)
            )
        elif deadline:
            reason = f"not finished by {deadline.get('deadline_time', 'its deadline')}; the run goes on"
        else:
            reason = str(context.get("reason") or "no reason was given")
        return cls(
            event=event,
            owner=owner,
            dag_id=getattr(ti, "dag_id", None) or dag_run.get("dag_id") or "unknown",
            run_id=getattr(ti, "run_id", None) or dag_run.get("run_id") or dag_run.get("dag_run_id") or "unknown",
            task_id=getattr(ti, "task_id", None),
            try_number=getattr(ti, "try_number", None),
            reason=reason[:4000],
            url=getattr(ti, "log_url", None),
        )


class Channel(Protocol):
    """Somewhere an alert can be sent."""

    def send(self, alert: Alert) -> None:
        """Send ``alert``; raises whatever the transport raises."""


class LogChannel:
    """Writes the alert to the log."""

    def send(self, alert: Alert) -> None:
        """Log ``alert`` at error level."""
        log.error("%s - %s", alert.subject, json.dumps(asdict(alert)))


@dataclass(frozen=True)
class SnsChannel:
    """Publishes to an Amazon SNS topic."""

    conn_id: str
    topic_arn: str

    def send(self, alert: Alert) -> None:
        """Publish ``alert`` as JSON."""
        from airflow.providers.amazon.aws.hooks.sns import SnsHook

        SnsHook(aws_conn_id=self.conn_id).publish_to_target(
            target_arn=self.topic_arn,
            message=json.dumps(asdict(alert), indent=2),
            subject=alert.subject[:SNS_SUBJECT_LIMIT],
        )


@dataclass(frozen=True)
class WebhookChannel:
    """Posts to a webhook (chat, pager)."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def send(self, alert: Alert) -> None:
        """POST ``alert`` as JSON with a ``text`` field, which chat tools show."""
        import requests

        body = {"text": f"{alert.subject}\n{alert.reason}", **asdict(alert)}
        requests.post(
            self.url, json=body, headers=dict(self.headers), timeout=WEBHOOK_TIMEOUT_SECONDS
        ).raise_for_status()


def channel_for(conn_id: str, connection: Connection | None) -> Channel:
    """The channel that ``connection`` describes.

    Raises:
        ValueError: the connection lacks what its type needs; says which field.
    """
    if connection is None:
        return LogChannel()
    extra = connection.extra_dejson
    if connection.conn_type == "aws":
        if not extra.get("topic_arn"):
            raise ValueError(
                f"connection {conn_id}: expected extra.topic_arn (the SNS topic's ARN), found {sorted(extra)}"
            )
        return SnsChannel(conn_id, extra["topic_arn"])
    if connection.conn_type in {"http", "https"}:
        if not connection.host:
            raise ValueError(f"connection {conn_id}: expected a host, found none")
        scheme = connection.schema or connection.conn_type
        port = f":{connection.port}" if connection.port else ""
        base = connection.host if "://" in connection.host else f"{scheme}://{connection.host}{port}"
        return WebhookChannel(base + extra.get("endpoint", ""), tuple(extra.get("headers", {}).items()))
    raise ValueError(f"connection {conn_id}: expected type aws (SNS) or http (webhook), found {connection.conn_type!r}")


class AlertNotifier(BaseNotifier):
    """Sends an `Alert`; usable as a task's failure callback and as a deadline's callback."""

    def __init__(self, conn_id: str, owner: str, event: str, context: Any = None) -> None:
        super().__init__(context=context)
        self.conn_id = conn_id
        self.owner = owner
        self.event = event

    def notify(self, context: Any) -> None:
        """Send the alert; never raises."""
        alert = Alert.from_context(context, event=self.event, owner=self.owner)
        try:
            channel_for(self.conn_id, self._connection()).send(alert)
        except Exception:  # an alert must not turn one failure into two
            log.exception("could not send the alert through connection %s; it was: %s", self.conn_id, asdict(alert))

    async def async_notify(self, context: Any) -> None:
        """Send the alert without blocking the triggerer's event loop."""
        await asyncio.to_thread(self.notify, context)

    def _connection(self) -> Connection | None:
        from airflow.sdk import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection: Connection = Connection.get(self.conn_id)
        except AirflowNotFoundException:
            return None
        return connection
