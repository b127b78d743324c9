"""Kills a step of a migration at a chosen call of AWS, as SIGKILL would: nothing after it happens, no clean-up runs.

Before the call, or after it: then the write is done and its answer is lost. A step that is called again goes by what it finds, not by
what it remembers, so a kill between two calls differs from neither.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from include.tenants.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Callable


class Killed(BaseException):
    """The step is dead. Not an `Exception`: no handler of the step's own may go on."""


class KillSwitch:
    """Counts the calls and kills at one of them; from then on every call of the dead step is refused, until `revive`.

    Args:
        at: the call to kill at, counted from 1 and from the last `revive`; 0 kills never.
        after: kill when the call was done.
        only: kill at calls of this operation only, such as ``transact_write_items``; empty for any.
    """

    def __init__(self, at: int = 0, *, after: bool = False, only: str = "") -> None:
        self._lock = threading.Lock()
        self.at, self.after, self.only = at, after, only
        self.calls = 0
        self.dead = False
        self.killed_at = ""

    def revive(self, at: int = 0, *, after: bool = False, only: str = "") -> None:
        """Let the next try live, until its own kill."""
        with self._lock:
            self.at, self.after, self.only = at, after, only
            self.calls, self.dead = 0, False

    def pull(self, operation: str) -> bool:
        """Note a call; whether to die at it.

        Raises:
            Killed: the step is dead already.
        """
        with self._lock:
            if self.dead:
                raise Killed(f"dead since {self.killed_at}")
            if self.only and operation != self.only:
                return False
            self.calls += 1
            if self.calls != self.at:
                return False
            self.killed_at = f"{'after' if self.after else 'before'} call {self.calls}, {operation}"
            if not self.after:
                self.dead = True
                raise Killed(self.killed_at)
            return True

    def die(self) -> None:
        """The call was done, its answer is lost.

        Raises:
            Killed: always.
        """
        with self._lock:
            self.dead = True
        raise Killed(self.killed_at)


def killable(clients: Clients, switch: KillSwitch) -> Clients:
    """The same clients, for a step that the switch can kill."""

    def make(service: str, config: Any) -> Any:
        return _Client(clients.make(service, config), switch)

    return Clients(make)


class _Client:
    """A boto3 client whose calls go past the switch."""

    def __init__(self, client: Any, switch: KillSwitch) -> None:
        self._client = client
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name == "get_paginator":
            return lambda operation: _Paginator(found(operation), operation, self._switch)
        if not callable(found) or name in ("exceptions", "meta", "can_paginate", "get_waiter", "close"):
            return found
        return _through(found, name, self._switch)


class _Paginator:
    def __init__(self, paginator: Any, operation: str, switch: KillSwitch) -> None:
        self._paginator = paginator
        self._operation = operation
        self._switch = switch

    def paginate(self, **given: Any) -> Any:
        for page in self._paginator.paginate(**given):
            if self._switch.pull(self._operation):
                self._switch.die()
            yield page


def _through(call: Callable[..., Any], name: str, switch: KillSwitch) -> Callable[..., Any]:
    def through(*args: Any, **given: Any) -> Any:
        dies = switch.pull(name)
        answer = call(*args, **given)
        if dies:
            switch.die()
        return answer

    return through
