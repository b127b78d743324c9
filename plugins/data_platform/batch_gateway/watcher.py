"""The states of many jobs with few requests: one watcher for each gateway and event loop.

While few jobs are watched each is asked for by its id. From `LISTING_FROM` on one listing answers for all; only what it lacks is asked
for by itself, since a listing may lack jobs that are there (see `protocol.Listing`). Triggers share a watcher through `shared_watcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    GatewayAccessDenied,
    GatewayConnectionInvalid,
    GatewayThrottled,
    GatewayUnavailable,
    SubmissionNotFound,
)
from data_platform.batch_gateway.names import SubmissionId

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from data_platform.batch_gateway.client import AsyncGatewayClient
    from data_platform.batch_gateway.protocol import JobStatus, Listing

LISTING_FROM: Final = 4
"""From so many jobs on a listing is asked for instead of each job's status."""
STATUS_REQUESTS: Final = 8
"""Status requests under way at once."""
NOT_FOUND_TIMES: Final = 2
"""So many answers of *not found* in a row make a job lost."""
ABSENT_LISTINGS: Final = 3
"""A job that can only be listed is lost after so many complete listings without it that show its cluster's other jobs …"""
ABSENT_SECONDS: Final = 300.0
"""… or, where they show none of that cluster's, after so many seconds of complete listings."""
ROWS_PER_JOB: Final = 100
"""A listing with more rows than so many for each job that is watched costs more than asking for the jobs."""
RECONNECT_AFTER: Final = 5
"""So many failed looks, and the connection is read again."""
LONGEST_PAUSE_SECONDS: Final = 120.0
TOLD_AT_ONCE: Final = 20
"""So many of those who wait hear of a listing before the event loop's other tasks get their turn."""
LOG_READERS: Final = 16
"""Driver logs read at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sighting:
    """What is known of a job after a look.

    Attributes:
        status: the job's; None if it is lost.
        error: why it could not be looked at. Never together with a status.
    """

    status: JobStatus | None = None
    error: BatchGatewayError | None = None

    @property
    def lost(self) -> bool:
        """Whether the job is gone."""
        return self.status is None and self.error is None


@dataclass(eq=False)
class _Watched:
    """One job that somebody waits for."""

    submission_id: SubmissionId
    queue: asyncio.Queue[Sighting] = field(default_factory=lambda: asyncio.Queue(maxsize=1))
    not_found: int = 0
    absent: int = 0
    absent_since: float | None = None

    def tell(self, sighting: Sighting) -> None:
        """The newest sighting replaces one that was not taken yet."""
        with contextlib.suppress(asyncio.QueueEmpty):
            self.queue.get_nowait()
        self.queue.put_nowait(sighting)

    def seen(self, status: JobStatus) -> None:
        self.not_found, self.absent, self.absent_since = 0, 0, None
        self.tell(Sighting(status))


class Watcher:
    """Watches jobs at one gateway.

    Args:
        connect: makes a client; called again after the gateway has denied access, since its credentials may have changed.
        poll_seconds: time between two looks.
        proxied: whether jobs run for another user than the account, so that the account's own listing lacks them.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncGatewayClient]],
        *,
        poll_seconds: float,
        proxied: bool = False,
    ) -> None:
        self.poll_seconds = poll_seconds
        self.proxied = proxied
        self.log_readers = asyncio.Semaphore(LOG_READERS)
        self._connect = connect
        self._client: AsyncGatewayClient | None = None
        self._connecting = asyncio.Lock()
        self._jobs: dict[str, set[_Watched]] = {}
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._listed = 0
        self._limit = asyncio.Semaphore(STATUS_REQUESTS)

    async def client(self) -> AsyncGatewayClient:
        """The client that all who watch share."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def watch(self, submission_id: str) -> AsyncGenerator[Sighting]:
        """Sightings of one job, one for each look, until it is lost or the caller has seen enough."""
        watched = _Watched(SubmissionId.parse(submission_id))
        self._jobs.setdefault(submission_id, set()).add(watched)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="batch-gateway-watcher")
        try:
            while True:
                sighting = await watched.queue.get()
                yield sighting
                if sighting.lost:
                    return
        finally:
            others = self._jobs.get(submission_id, set())
            others.discard(watched)
            if not others:
                self._jobs.pop(submission_id, None)
            self._changed.set()

    async def close(self) -> None:
        """Stop looking, and give the connections back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _run(self) -> None:
        failures = 0
        while self._jobs:
            began = time.monotonic()
            try:
                await self._look()
                failures = 0
            except Exception as error:  # a watcher that dies would leave every job unwatched
                failures += 1
                if isinstance(error, BatchGatewayError):
                    told = error
                else:
                    told = BatchGatewayError(f"{type(error).__name__}: {error}")
                    log.warning("the gateway could not be looked at: %s", told)
                self._tell_all(Sighting(error=told))
                denied = isinstance(error, GatewayAccessDenied | GatewayConnectionInvalid)
                if denied or failures % RECONNECT_AFTER == 0:  # the connection may say something else by now
                    await self._disconnect()
            await self._pause(failures, time.monotonic() - began)

    async def _pause(self, failures: int, took: float) -> None:
        """Until the next look, or until nobody waits any more."""
        seconds = min(self.poll_seconds * 2 ** min(failures, 6), max(LONGEST_PAUSE_SECONDS, self.poll_seconds))
        until = time.monotonic() + max(seconds * random.uniform(0.9, 1.1) - took, 0.05)  # noqa: S311 - jitter, not a secret
        while self._jobs and (left := until - time.monotonic()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    async def _look(self) -> None:
        jobs = list(self._jobs)
        client = await self.client()
        dashed = {job for job in jobs if SubmissionId.parse(job).dashed}
        if not dashed and (len(jobs) < LISTING_FROM or self._listed > ROWS_PER_JOB * len(jobs)):
            await self._ask_each(client, jobs)
            return
        try:
            listing = await self._list(client, jobs)
        except GatewayThrottled:  # more requests are the last that would help
            raise
        except GatewayUnavailable as error:  # one cluster that can't be asked fails the listing of all
            for job in dashed:
                self._tell_each(job, Sighting(error=error))
            await self._ask_each(client, [job for job in jobs if job not in dashed])
            return
        self._listed = len(listing.jobs)
        seen = {job.submission_id: job for job in listing.jobs}
        for told, job in enumerate(jobs):
            if job in seen:
                self._tell(job, seen[job])
            if told % TOLD_AT_ONCE == TOLD_AT_ONCE - 1:
                await asyncio.sleep(0)
        missing = [job for job in jobs if job not in seen]
        self._judge_absence([job for job in missing if job in dashed], listing)
        await self._ask_each(client, [job for job in missing if job not in dashed])

    async def _list(self, client: AsyncGatewayClient, jobs: list[str]) -> Listing:
        """The account's own listing while that has every job that is watched, else everybody's.

        The gateway files the jobs of its Airflow system accounts under another user, whether the connection names one or not.
        """
        if not self.proxied:
            mine = await client.run(protocol.list_mine(), attempts=1)
            known = {job.submission_id for job in mine.jobs}
            if known.issuperset(jobs):
                return mine
            everything = await client.run(protocol.list_all(), attempts=1)
            self.proxied = any(job.submission_id in jobs and job.submission_id not in known for job in everything.jobs)
            return everything
        return await client.run(protocol.list_all(), attempts=1)

    async def _ask_each(self, client: AsyncGatewayClient, jobs: list[str]) -> None:
        """Ask for each job by its id, some at a time.

        Raises:
            BatchGatewayError: none of them could be asked for.
        """
        errors: list[BatchGatewayError] = []

        async def ask(job: str) -> None:
            async with self._limit:
                try:
                    self._tell(job, await client.run(protocol.status(job), attempts=2))
                except SubmissionNotFound:
                    for watched in self._jobs.get(job, ()):
                        watched.not_found += 1
                        if watched.not_found >= NOT_FOUND_TIMES:
                            watched.tell(Sighting())
                except BatchGatewayError as error:
                    errors.append(error)
                    self._tell_each(job, Sighting(error=error))

        await asyncio.gather(*(ask(job) for job in jobs))
        if errors and len(errors) == len(jobs):
            raise errors[-1]

    def _judge_absence(self, jobs: list[str], listing: Listing) -> None:
        """Jobs that can only be listed, and were not."""
        if not jobs or not listing.complete:
            return
        ids = [SubmissionId.of(job.submission_id) for job in listing.jobs]
        clusters = {each.cluster for each in ids if each}
        now = time.monotonic()
        for job in jobs:
            for watched in self._jobs.get(job, ()):
                watched.absent_since = watched.absent_since or now
                if watched.submission_id.cluster in clusters:
                    watched.absent += 1
                if watched.absent >= ABSENT_LISTINGS or now - watched.absent_since >= ABSENT_SECONDS:
                    watched.tell(Sighting())

    def _tell(self, job: str, status: JobStatus) -> None:
        for watched in self._jobs.get(job, ()):
            watched.seen(status)

    def _tell_each(self, job: str, sighting: Sighting) -> None:
        for watched in self._jobs.get(job, ()):
            watched.tell(sighting)

    def _tell_all(self, sighting: Sighting) -> None:
        for job in self._jobs:
            self._tell_each(job, sighting)


@dataclass
class _Shared:
    watcher: Watcher | None = None
    users: int = 0


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()


@contextlib.asynccontextmanager
async def shared_watcher(key: str, make: Callable[[], Watcher]) -> AsyncIterator[Watcher]:
    """The watcher of this event loop for ``key``; made by the first who wants it, closed by the last.

    Args:
        key: what tells gateways, accounts and paces apart.
        make: makes one.
    """
    ours = _SHARED.setdefault(asyncio.get_running_loop(), {})
    shared = ours.setdefault(key, _Shared())
    shared.users += 1
    try:
        if shared.watcher is None:
            shared.watcher = make()
        yield shared.watcher
    finally:
        shared.users -= 1
        if shared.users == 0:
            ours.pop(key, None)
            if shared.watcher is not None:
                await shared.watcher.close()
