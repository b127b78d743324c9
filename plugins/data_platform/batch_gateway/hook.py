"""The gateway as an Airflow hook: a connection, its client, and what takes more than one call."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.client import AsyncGatewayClient, GatewayClient, Patience
from data_platform.batch_gateway.config import CONN_TYPE, GatewayConfig
from data_platform.batch_gateway.exceptions import BatchGatewayError, CancelImpossible, ClusterUnknown
from data_platform.batch_gateway.names import SubmissionId
from data_platform.connections import find_connection

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from airflow.sdk.types import Logger

    from data_platform.batch_gateway.protocol import JobStatus, Listing

LOG_TAIL_LINES: Final = 50
DESCRIBE_CHARACTERS: Final = 20_000
LOG_BYTES: Final = 4 * 2**20
"""Most that is kept of a log."""
LOG_SECONDS: Final = 120.0
"""How long a log is read to come to its end; the gateway always begins at its start."""
QUIET_SECONDS: Final = 2.0
"""A log of a running job is read until nothing has come for so long."""
TAIL_SECONDS: Final = 4.0
"""How long a log is read to find its last lines, while somebody waits for a job to be cancelled."""
TAIL_BYTES: Final = 64 * 2**10
EVIDENCE_SECONDS: Final = 15.0
"""How long is waited for what the gateway knows of a job."""
DELETE_READ_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Evidence:
    """What is known of a job before it is removed.

    Attributes:
        describe: the job's spec and events, at most `DESCRIBE_CHARACTERS`; why there is none if it could not be had.
        log_tail: the last lines of the driver's log.
    """

    describe: str
    log_tail: tuple[str, ...] = ()

    def text(self) -> str:
        """For a log."""
        tail = "\n".join(self.log_tail) or "(no driver log)"
        return f"{self.describe.strip()}\n--- Driver log, last {LOG_TAIL_LINES} lines ---\n{tail}"


class BatchGatewayHook(BaseHook):
    """One gateway. What it sends and how it reads answers is in `protocol`, when it tries again in `client`.

    Args:
        batch_gateway_conn_id: a connection of type ``batch_gateway``; see `config`.
        patience: how often a call that may be repeated is tried.
    """

    conn_name_attr = "batch_gateway_conn_id"
    default_conn_name = "batch_gateway_default"
    conn_type = CONN_TYPE
    hook_name = "Batch Processing Gateway"

    def __init__(self, batch_gateway_conn_id: str = default_conn_name, *, patience: Patience | None = None) -> None:
        super().__init__()
        self.batch_gateway_conn_id = batch_gateway_conn_id
        self.patience = patience or Patience()

    @cached_property
    def config(self) -> GatewayConfig:
        """The connection's settings. Its secrets are registered with Airflow's log masker.

        Raises:
            GatewayConnectionInvalid: the connection is incomplete or malformed.
        """
        from airflow.sdk.log import mask_secret

        config = GatewayConfig.from_connection(find_connection(self.batch_gateway_conn_id))
        for secret in (config.password, config.queue_token):
            if secret:
                mask_secret(secret)
        return config

    def get_conn(self) -> GatewayClient:
        """The client, made once."""
        return self.client

    @cached_property
    def client(self) -> GatewayClient:
        """The client, made once."""
        return GatewayClient(self.config, self.patience)

    def new_client(self, read_timeout_seconds: float | None = None) -> GatewayClient:
        """A client of its own, for a signal handler that may have interrupted the other in the middle of a call.

        Args:
            read_timeout_seconds: most that an answer is waited for, if the caller can't wait as long as the connection says.
        """
        config = self.config
        if read_timeout_seconds is not None:
            config = replace(config, read_timeout_seconds=min(read_timeout_seconds, config.read_timeout_seconds))
        return GatewayClient(config, self.patience)

    def new_async_client(self) -> AsyncGatewayClient:
        """A client for the running event loop."""
        return AsyncGatewayClient(self.config, self.patience)

    def close(self) -> None:
        """Give the connections back."""
        if "client" in self.__dict__:
            self.client.close()
            del self.__dict__["client"]

    def test_connection(self) -> tuple[bool, str]:
        """For the button in Airflow's UI: whether the gateway answers, lets us in and can ask its clusters."""
        try:
            with GatewayClient(self.config, Patience(attempts=1)) as client:
                client.run(protocol.health())
                jobs = client.run(protocol.list_mine()).jobs
        except Exception as error:  # the button shows whatever it was
            return False, f"{error}"
        ids = [SubmissionId.of(job.submission_id) for job in jobs]
        dashed = sorted(each.text for each in ids if each and each.dashed)
        note = (
            f". Cluster ids have dashes (as of {dashed[0]}): jobs there can't be cancelled through it" if dashed else ""
        )
        return True, f"The gateway at {self.config.url} answers; it lists {len(jobs)} jobs of this account{note}"

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit once; gives the submission id. See `protocol.submit`: after a lost answer look the job up by its name."""
        return self.client.run(protocol.submit(request, proxied_user=self.config.proxied_user))

    def find(self, application_name: str) -> Listing:
        """All jobs of this name."""
        return self.client.run(protocol.find(application_name))

    def status(self, submission_id: str, *, application_name: str | None = None) -> JobStatus | None:
        """A job's status; None if a listing lacks a job whose status can't be asked for, which proves nothing.

        Args:
            submission_id: of the job.
            application_name: to find it by in a listing, where its cluster's id has a dash.

        Raises:
            SubmissionNotFound: there is none, or no longer.
        """
        if not _is_dashed(submission_id):
            return self.client.run(protocol.status(submission_id))
        listing = self.client.run(protocol.find(application_name) if application_name else protocol.list_all())
        return next((job for job in listing.jobs if job.submission_id == submission_id), None)

    def driver_log(self, submission_id: str, *, max_bytes: int = LOG_BYTES, seconds: float = LOG_SECONDS) -> str:
        """The end of the driver's log, as it is now; empty if there is none.

        Args:
            submission_id: of the job.
            max_bytes: most that is kept, of the end.
            seconds: most that reading takes; what comes later is not read.
        """
        with self.new_client() as client:
            return read_log(client, submission_id, max_bytes=max_bytes, seconds=seconds)

    def evidence(self, submission_id: str) -> Evidence:
        """What is known of a job. Never raises for what the gateway can't give, and does not wait long for it."""
        return gather_evidence(self.config, submission_id)

    def cancel(self, submission_id: str, *, log: Logger, why: str, evidence_seconds: float = EVIDENCE_SECONDS) -> None:
        """Write to the log what is known of a job, then remove it. One that is not there counts as removed: the gateway says so too.

        Args:
            submission_id: of the job.
            log: where what is known goes before the job is removed.
            why: begins what the log says.
            evidence_seconds: most that asking for it takes.

        Raises:
            CancelImpossible: the gateway can't remove jobs of a cluster whose id has a dash.
            BatchGatewayError: the gateway could not be asked.
        """
        cancel(self.config, submission_id, log=log, why=why, evidence_seconds=evidence_seconds)

    def upload(self, name: str, content: bytes, *, folder: str) -> str:
        """Put a file where the clusters read it; gives its URL (``s3a://…``)."""
        return self.client.run(protocol.upload(name, content, folder=folder))


def cancel(
    config: GatewayConfig,
    submission_id: str,
    *,
    log: Logger | logging.Logger,
    why: str,
    evidence_seconds: float = EVIDENCE_SECONDS,
) -> None:
    """See `BatchGatewayHook.cancel`. With clients of its own: a signal handler may have interrupted another in the middle of a call."""
    require_cancellable(submission_id)
    log.info(
        "%s; cancelling job %s. It is:\n%s",
        why,
        submission_id,
        gather_evidence(config, submission_id, evidence_seconds).text(),
    )
    quick = replace(config, read_timeout_seconds=min(config.read_timeout_seconds, DELETE_READ_TIMEOUT_SECONDS))
    with GatewayClient(quick, Patience(attempts=3, first_seconds=0.2, longest_seconds=1.0)) as client:
        try:
            client.run(protocol.delete(submission_id))
        except ClusterUnknown as error:
            raise CancelImpossible(f"{submission_id} can't be cancelled: {error}") from error
    log.info("job %s is cancelled", submission_id)


def require_cancellable(submission_id: str) -> None:
    """Refuse what the gateway can't do.

    Raises:
        CancelImpossible: the cluster's id has a dash.
    """
    if _is_dashed(submission_id):
        raise CancelImpossible(
            f"{submission_id} can't be cancelled through the gateway, which takes what is before the first dash for the cluster's id. "
            "Delete the SparkApplication of this name with kubectl, and give the cluster an id without dashes"
        )


def gather_evidence(config: GatewayConfig, submission_id: str, seconds: float = EVIDENCE_SECONDS) -> Evidence:
    """What is known of a job, asked for at once and within ``seconds``. Never raises for what the gateway can't give."""
    limited = replace(config, read_timeout_seconds=min(config.read_timeout_seconds, seconds))

    def describe() -> str:
        with GatewayClient(limited, Patience(attempts=1)) as client:
            return client.run(protocol.describe(submission_id))[:DESCRIBE_CHARACTERS]

    log_read = bytearray()

    def tail() -> str:
        with GatewayClient(limited, Patience(attempts=1)) as client:
            follow_log(client, submission_id, log_read, max_bytes=TAIL_BYTES, seconds=min(TAIL_SECONDS, seconds / 2))
        return _log_text(log_read)

    executor = ThreadPoolExecutor(2, thread_name_prefix="batch-gateway-evidence")
    asked = [executor.submit(describe), executor.submit(tail)]
    wait(asked, timeout=seconds)
    executor.shutdown(wait=False, cancel_futures=True)
    told = []
    for answer in asked:
        try:
            told.append(answer.result(timeout=0))
        except TimeoutError:
            # of a log whose next line is awaited, what was read so far is known
            so_far = _log_text(bytes(log_read)) if answer is asked[1] else ""
            told.append(so_far or f"(not told: no answer in {seconds:.1f} s)")
        except BatchGatewayError as error:
            told.append(f"(not told: {error})")
    return Evidence(told[0], tuple(told[1].splitlines()[-LOG_TAIL_LINES:]))


def read_log(client: GatewayClient, submission_id: str, *, max_bytes: int, seconds: float) -> str:
    """See `BatchGatewayHook.driver_log`."""
    content = bytearray()
    follow_log(client, submission_id, content, max_bytes=max_bytes, seconds=seconds)
    return _log_text(content)


def follow_log(
    client: GatewayClient, submission_id: str, content: bytearray, *, max_bytes: int, seconds: float
) -> None:
    """Keep the last bytes of a driver's log in ``content`` as they come, for ``seconds``; what comes later is not read."""
    until = time.monotonic() + seconds
    for piece in client.stream(protocol.log(submission_id), quiet_seconds=min(seconds, QUIET_SECONDS)):
        content += piece
        del content[:-max_bytes]
        if time.monotonic() > until:
            break


def _log_text(content: bytes | bytearray) -> str:
    """What the bytes say; nothing for the gateway's words that there is no log."""
    text = content.decode("utf-8", errors="replace")
    return "" if text.startswith(protocol.LOG_SENTINEL) else text


def _is_dashed(submission_id: str) -> bool:
    return SubmissionId.parse(submission_id).dashed
