"""A client without look-up and without attempts, to compare with: what fails is submitted again by the next try.

So does the one public operator for this gateway: it posts, waits in the worker, and fails at the first request that fails.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseOperator

from bench.lifecycle.trial import CONN_ID
from data_platform.batch_gateway.config import GatewayConfig
from data_platform.connections import find_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context


class NaiveSubmitOperator(BaseOperator):
    """Posts a job and polls its status."""

    def __init__(self, *, job: Mapping[str, Any], poll_seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.poll_seconds = poll_seconds
        self.submission_id: str | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit and wait."""
        del context
        with self._client() as client:
            posted = client.post("/spark", json=dict(self.job))
            posted.raise_for_status()
            self.submission_id = posted.json()["submissionId"]
            while True:
                status = client.get(f"/spark/{self.submission_id}/status")
                status.raise_for_status()
                state = status.json().get("applicationState")
                if state == "COMPLETED":
                    return {"submission_id": self.submission_id}
                if state == "FAILED":
                    raise RuntimeError(f"job {self.submission_id} has failed")
                time.sleep(self.poll_seconds)

    def on_kill(self) -> None:
        """Cancel the job."""
        if self.submission_id:
            with self._client() as client:
                client.delete(f"/spark/{self.submission_id}")

    def _client(self) -> httpx.Client:
        config = GatewayConfig.from_connection(find_connection(CONN_ID))
        login = (config.login or "", config.password or "")
        return httpx.Client(base_url=config.url, auth=login, timeout=config.read_timeout_seconds, trust_env=False)


def naive_operator(*, job: Mapping[str, Any], poll_seconds: float, **_: Any) -> NaiveSubmitOperator:
    """The operator, given what the other is given."""
    return NaiveSubmitOperator(task_id="submit_job", job=job, poll_seconds=poll_seconds)
