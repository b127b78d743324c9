"""Clients of tenants: they write, delete and read until they are told to stop, and keep a journal of what they were told.

Most keys are written once and never again, so that a lost write stays lost; some are deleted later; a few hot ones are written again and
again with growing values. Each key belongs to one writer, which waits for each answer. A key whose last write got no answer is not
written again: that write may still be on its way.

``python -m include.local.saas.load --tenant T --seconds N --journal FILE`` does it over HTTP, as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from include.local.layout import DEFAULT_PORTS, Layout
from include.local.saas.api import NEW_SUFFIXES, TABLES, Application, Found, Page, Written
from include.local.saas.errors import ApiError, Fenced, NotFound, Unclear
from include.local.saas.items import MARKS, told_owner
from include.local.saas.journal import Entry, Journal, Told
from include.local.saas.judge import VALUE
from include.local.serving import told_to_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.tenants.clients import Clients

_HOT_KEYS: Final = 3
"""Of a writer."""
_SHARES: Final = {"new": 6, "hot": 3, "delete": 1}
_PAGE: Final = 25
_NO_ITEM: Final = Found({}, -1)
_NO_PAGE: Final = Page([], None, -1)
_MOST_WAIT: Final = 0.05
"""Seconds after which a refused write is tried again, whatever the answer says: the gap is measured to about as much."""


class Api(Protocol):
    """What is loaded: `include.local.saas.api.Application`, or the same over HTTP."""

    def put(self, tenant_id: str, table: str, key: str | None, body: Mapping[str, Any]) -> Written:
        """Create or replace an item."""

    def update(self, tenant_id: str, table: str, key: str, body: Mapping[str, Any]) -> Written:
        """Replace an item."""

    def delete(self, tenant_id: str, table: str, key: str) -> Written:
        """Delete an item."""

    def get(self, tenant_id: str, table: str, key: str) -> Found:
        """Read an item."""

    def list(self, tenant_id: str, table: str, *, limit: int = 100, after: str | None = None) -> Page:
        """Read a page of items."""


class Stalls:
    """Stops a write now and then between the look-up of its route and the write, as a busy machine does.

    Args:
        probability: of each write.
        seconds: how long.
        seed: of the chance.
        sleep: waits.
    """

    def __init__(
        self, probability: float, seconds: float, *, seed: int = 0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._probability = probability
        self._seconds = seconds
        self._random = random.Random(seed)
        self._sleep = sleep

    def __call__(self) -> None:
        """Stall, or don't."""
        if self._random.random() < self._probability:
            self._sleep(self._seconds)


def instances(
    clients: Clients,
    count: int = 2,
    *,
    cache_seconds: float,
    stalls: Stalls | None = None,
    fenced: bool = True,
    clock: Callable[[], float] = time.time,
    seed: int = 0,
) -> list[Application]:
    """Instances of the application, each with a cache of its own."""
    made = {"cache_seconds": cache_seconds, "fenced": fenced, "clock": clock, **({"stall": stalls} if stalls else {})}
    return [Application(clients, seed=seed + number, **made) for number in range(count)]  # type: ignore[arg-type]


@dataclass
class _Known:
    """A key as its writer knows it. ``state``: alive, changing, deleted, lost."""

    table: str
    key: str
    value: int
    epoch: int
    hot: bool
    state: str = "alive"


@dataclass(frozen=True)
class Gap:
    """A time in which no write of a tenant succeeded and some were refused.

    Attributes:
        began: the last success before, in seconds since the epoch.
        ended: the first success after.
    """

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.ended - self.began


@dataclass(frozen=True)
class Figures:
    """What clients saw of a tenant.

    Attributes:
        writes: how many were acknowledged, deletions included.
        reads: how many were answered.
        refused: how many writes were refused in a fence; each was tried again.
        unclear: how many writes got no answer.
        failed_reads: how many reads got none.
        stale_reads: how many did not show an acknowledged write.
        behind_reads: how many did not, by a cached route.
        foreign_reads: how many showed another tenant's items.
        gap: the longest time without a successful write around a refusal; None: nothing was refused.
        write_p50: of the seconds that successful writes took.
        write_p99: as well.
        read_p50: of the seconds that reads took.
        read_p99: as well.
    """

    writes: int
    reads: int
    refused: int
    unclear: int
    failed_reads: int
    stale_reads: int
    behind_reads: int
    foreign_reads: int
    gap: Gap | None
    write_p50: float
    write_p99: float
    read_p50: float
    read_p99: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"gap_seconds": self.gap.seconds if self.gap else 0.0}


@dataclass
class _Seen:
    """Everything that a tenant's clients saw; the lists are only appended to."""

    keys: list[_Known] = field(default_factory=list)
    writes: list[tuple[float, float]] = field(default_factory=list)
    """(when acknowledged, seconds it took)"""
    reads: list[tuple[float, float]] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    troubles: list[tuple[float, Told]] = field(default_factory=list)


class Load:
    """Threads that write and read for tenants.

    Args:
        apis: instances of the application; each request goes to one of them by chance.
        tenants: whose.
        journal: file of the answers; see `include.local.saas.judge`.
        seed: of the chance.
        writers: threads per tenant.
        readers: threads per tenant.
        pause: seconds between two requests of a thread.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        apis: Sequence[Api],
        tenants: Sequence[str],
        *,
        journal: Path,
        seed: int = 0,
        writers: int = 2,
        readers: int = 1,
        pause: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._apis = list(apis)
        self._tenants = list(tenants)
        self._journal = Journal(journal)
        self._pause = pause
        self._clock = clock
        self._stopping = threading.Event()
        self._seen: dict[str, _Seen] = {tenant: _Seen() for tenant in tenants}
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(role, tenant, f"{tenant}/{number}", random.Random(f"{seed}/{role.__name__}/{tenant}/{number}")),
                name=f"{role.__name__.strip('_')} {tenant} {number}",
                daemon=True,
            )
            for tenant in tenants
            for role, count in ((self._write, writers), (self._read, readers))
            for number in range(count)
        ]

    def start(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, timeout: float = 60) -> None:
        """Let each thread finish its request, then end.

        Raises:
            RuntimeError: a thread did not end, or broke off with an error of its own.
        """
        self._stopping.set()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            raise RuntimeError(
                f"expected all clients to end within {timeout:.0f} s, found {', '.join(left)} still at it"
            )
        self._journal.close()
        if self._errors:
            raise RuntimeError(f"a client broke off: {self._errors[0]!r}") from self._errors[0]

    def __enter__(self) -> Load:
        """Begin."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End."""
        self.stop()

    @property
    def broken(self) -> bool:
        """Whether a client has broken off; `stop` tells why."""
        return bool(self._errors)

    def writes(self, tenant_id: str) -> int:
        """How many writes have been acknowledged so far."""
        return len(self._seen[tenant_id].writes)

    def wait_for_writes(self, more: int, timeout: float = 60) -> None:
        """Wait until so many more writes of each tenant have been acknowledged.

        Raises:
            TimeoutError: there were fewer; or a client has broken off, and `stop` tells why.
        """
        wanted = {tenant: self.writes(tenant) + more for tenant in self._tenants}
        end = time.monotonic() + timeout
        while late := {tenant: self.writes(tenant) for tenant in wanted if self.writes(tenant) < wanted[tenant]}:
            if self.broken or time.monotonic() > end:
                raise TimeoutError(
                    f"expected {more} more writes of each tenant within {timeout:.0f} s, found {late} in all"
                )
            time.sleep(0.005)

    def figures(self, tenant_id: str, *, since: float = 0.0, until: float = float("inf")) -> Figures:
        """What a tenant's clients saw between two moments, given in seconds since the epoch."""
        seen = self._seen[tenant_id]
        writes = [seconds for at, seconds in seen.writes if since <= at <= until]
        reads = [seconds for at, seconds in seen.reads if since <= at <= until]
        troubles: dict[Told, int] = defaultdict(int)
        for at, told in list(seen.troubles):
            troubles[told] += since <= at <= until
        refusals = [at for at in seen.refusals if since <= at <= until]
        return Figures(
            writes=len(writes),
            reads=len(reads),
            refused=len(refusals),
            unclear=troubles[Told.WRITE_UNCLEAR] + troubles[Told.DELETE_UNCLEAR],
            failed_reads=troubles[Told.READ_FAILED],
            stale_reads=troubles[Told.READ_STALE] + troubles[Told.MISSING],
            behind_reads=troubles[Told.READ_BEHIND],
            foreign_reads=troubles[Told.READ_FOREIGN],
            gap=_longest_gap(sorted(at for at, _ in seen.writes), refusals),
            write_p50=percentile(writes, 0.5),
            write_p99=percentile(writes, 0.99),
            read_p50=percentile(reads, 0.5),
            read_p99=percentile(reads, 0.99),
        )

    def _run(
        self, role: Callable[[str, str, random.Random], None], tenant: str, name: str, chance: random.Random
    ) -> None:
        try:
            role(tenant, name, chance)
        except BaseException as error:
            self._errors.append(error)
            self._stopping.set()

    # -- writers

    def _write(self, tenant: str, name: str, chance: random.Random) -> None:
        seen = self._seen[tenant]
        mine: list[_Known] = []
        hot: list[_Known] = []
        number = 0
        while not self._stopping.is_set():
            (choice,) = chance.choices(list(_SHARES), list(_SHARES.values()))
            hot = [each for each in hot if each.state == "alive"]
            number += 1
            if choice == "hot" and len(hot) == _HOT_KEYS:
                self._bump(tenant, chance.choice(hot), chance)
            elif choice == "delete" and mine:
                self._delete(tenant, mine.pop(chance.randrange(len(mine))), chance)
            else:
                known = self._create(tenant, name, number, choice == "hot", chance)
                if known:
                    seen.keys.append(known)
                    (hot if known.hot else mine).append(known)
            self._stopping.wait(self._pause)

    def _create(self, tenant: str, name: str, number: int, hot: bool, chance: random.Random) -> _Known | None:
        table = chance.choice(list(TABLES))
        key = f"{tenant}-{chance.choice(NEW_SUFFIXES)}:{chance.getrandbits(128):032x}"
        known = _Known(table, key, 1 if hot else number, -1, hot)
        written = self._ask(
            tenant,
            known,
            lambda api: api.put(tenant, table, key, _body(tenant, table, known.value)),
            known.value,
            chance,
        )
        if written is None:
            return None
        known.epoch = written.epoch
        return known

    def _bump(self, tenant: str, known: _Known, chance: random.Random) -> None:
        value = known.value + 1
        body = _body(tenant, known.table, value)
        written = self._ask(tenant, known, lambda api: api.update(tenant, known.table, known.key, body), value, chance)
        if written is not None:
            # in this order: a reader that knows the new value knows by which route it was written
            known.epoch = written.epoch
            known.value = value

    def _delete(self, tenant: str, known: _Known, chance: random.Random) -> None:
        known.state = "changing"
        written = self._ask(tenant, known, lambda api: api.delete(tenant, known.table, known.key), None, chance)
        if written is not None:
            known.epoch = written.epoch
            known.state = "deleted"

    def _ask(
        self, tenant: str, known: _Known, ask: Callable[[Api], Written], value: int | None, chance: random.Random
    ) -> Written | None:
        """Ask until there is an answer other than that of a fence; journal it. None: the key is not to be used any more."""
        seen = self._seen[tenant]
        while True:
            begin = time.perf_counter()
            try:
                written = ask(chance.choice(self._apis))
            except Fenced as fenced:
                seen.refusals.append(self._clock())
                if self._stopping.wait(min(fenced.retry_after, _MOST_WAIT)):
                    return None  # nothing was written, so there is nothing to journal
            except NotFound as error:
                known.state = "lost"
                self._trouble(tenant, Told.MISSING, known, str(error), value)
                return None
            except Exception as error:
                if not _no_answer(error):
                    raise
                known.state = "lost"
                self._trouble(
                    tenant, Told.DELETE_UNCLEAR if value is None else Told.WRITE_UNCLEAR, known, repr(error), value
                )
                return None
            else:
                at, seconds = self._clock(), time.perf_counter() - begin
                told = Told.DELETED if value is None else Told.WRITTEN
                self._journal.add(Entry(at, told, tenant, known.table, known.key, value, known.hot, written.epoch))
                seen.writes.append((at, seconds))
                return written

    # -- readers

    def _read(self, tenant: str, name: str, chance: random.Random) -> None:
        keys = self._seen[tenant].keys
        after: dict[str, str | None] = {}
        while not self._stopping.is_set():
            choice = chance.random()
            if choice < 0.1:
                table = chance.choice(list(TABLES))
                after[table] = self._page(tenant, table, after.get(table), chance)
            elif choice < 0.2:
                self._intrude(tenant, chance)
            elif keys:
                self._look(tenant, chance.choice(keys), chance)
            self._stopping.wait(self._pause or 0.001)

    def _look(self, tenant: str, known: _Known, chance: random.Random) -> None:
        """Read a key whose value is known, and compare."""
        state, value, epoch = known.state, known.value, known.epoch
        if state not in ("alive", "deleted"):
            return
        found = self._answer(tenant, known, lambda api: api.get(tenant, known.table, known.key), chance, _NO_ITEM)
        if found is None:
            return
        if told_owner(found.item) not in (None, tenant):
            self._trouble(tenant, Told.READ_FOREIGN, known, f"an item of {told_owner(found.item)}", value)
        if known.state != state:
            return  # it was deleted meanwhile, or its last write is unclear
        there = int(found.item[VALUE]) if found.item else None
        if state == "deleted":
            fits, expected = there is None, "none"
        else:
            fits = there is not None and (there >= value if known.hot else there == value)
            expected = f"{value} or more" if known.hot else str(value)
        if not fits:
            told = Told.READ_BEHIND if found.item and found.epoch < epoch else Told.READ_STALE
            self._trouble(tenant, told, known, f"expected {expected}, found {there}", value)

    def _page(self, tenant: str, table: str, after: str | None, chance: random.Random) -> str | None:
        known = _Known(table, after or "", 0, -1, hot=False)
        page = self._answer(
            tenant, known, lambda api: api.list(tenant, table, limit=_PAGE, after=after), chance, _NO_PAGE
        )
        for item in page.items if page else ():
            if told_owner(item) not in (None, tenant):
                self._trouble(tenant, Told.READ_FOREIGN, known, f"an item of {told_owner(item)} in the list", 0)
        return page.after if page else None

    def _intrude(self, tenant: str, chance: random.Random) -> None:
        """Ask for a key of another tenant, as one's own."""
        others = [other for other in self._tenants if other != tenant and self._seen[other].keys]
        if not others:
            return
        known = chance.choice(self._seen[chance.choice(others)].keys)
        found = self._answer(tenant, known, lambda api: api.get(tenant, known.table, known.key), chance, _NO_ITEM)
        if found is not None and found.item:
            self._trouble(tenant, Told.READ_FOREIGN, known, f"another tenant's key gave {found.item}", 0)

    def _answer[T](
        self,
        tenant: str,
        known: _Known,
        ask: Callable[[Api], T],
        chance: random.Random,
        empty: T,
    ) -> T | None:
        """A reading, ``empty`` where there is none; None where there was no answer."""
        begin = time.perf_counter()
        try:
            found = ask(chance.choice(self._apis))
        except NotFound:
            found = empty
        except Exception as error:
            if not (_no_answer(error) or isinstance(error, ApiError)):
                raise
            self._trouble(tenant, Told.READ_FAILED, known, repr(error), known.value)
            return None
        self._seen[tenant].reads.append((self._clock(), time.perf_counter() - begin))
        return found

    def _trouble(self, tenant: str, told: Told, known: _Known, why: str, value: int | None) -> None:
        at = self._clock()
        self._seen[tenant].troubles.append((at, told))
        self._journal.add(Entry(at, told, tenant, known.table, known.key, value, known.hot, known.epoch, why))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _longest_gap(successes: Sequence[float], refusals: Sequence[float]) -> Gap | None:
    """The longest time between two successes in which something was refused."""
    gaps = []
    for at in refusals:
        before, after = bisect_right(successes, at), bisect_left(successes, at)
        began = successes[after - 1] if after else at
        ended = successes[before] if before < len(successes) else at
        gaps.append(Gap(began, ended))
    return max(gaps, key=lambda gap: gap.seconds, default=None)


def _no_answer(error: Exception) -> bool:
    """Whether it is unknown what became of a request."""
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, Unclear | BotoCoreError | ClientError | OSError)


def _body(tenant: str, table: str, value: int) -> dict[str, Any]:
    return {MARKS[table]: f"{tenant}/load", VALUE: str(value)}


def main(arguments: list[str] | None = None) -> int:
    """Load tenants over HTTP for some time, or until SIGTERM; then print what their clients saw, as JSON."""
    from include.local.saas.client import HttpApi
    from include.local.saas.clients import clients_at
    from include.local.saas.logins import LOGINS, login_of

    parser = argparse.ArgumentParser(prog="python -m include.local.saas.load", description=main.__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{DEFAULT_PORTS['saas']}", help="of the application")
    parser.add_argument("--aws", default=f"http://127.0.0.1:{DEFAULT_PORTS['aws']}", help="of the AWS stand-in")
    parser.add_argument("--tenant", action="append", required=True, help="whose clients to be; repeatable")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--journal", type=Path, required=True, help="file to write down what the clients were told")
    parser.add_argument("--logins", type=Path, default=Layout().aws / LOGINS, help="the users' passwords")
    parser.add_argument("--writers", type=int, default=2, help="threads per tenant")
    parser.add_argument("--readers", type=int, default=1, help="threads per tenant")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a thread")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logins = {tenant: login_of(options.logins, tenant) for tenant in options.tenant}
    stop = told_to_stop()
    load = Load(
        [HttpApi(options.url, clients_at(options.aws), logins)],
        options.tenant,
        journal=options.journal,
        seed=options.seed,
        writers=options.writers,
        readers=options.readers,
        pause=options.pause,
    )
    with load:
        print("ready", flush=True)
        end = time.monotonic() + options.seconds
        while not (stop.wait(0.2) or load.broken) and time.monotonic() < end:
            pass
    print(json.dumps({tenant: load.figures(tenant).to_json() for tenant in options.tenant}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
