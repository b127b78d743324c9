"""How long a process may be held up by something that is slow or down."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFILL_SECONDS = 300.0
"""The whole budget comes back in this time: the scheduler's processes live for weeks, a task's mostly for less."""


@dataclass
class Budget:
    """Seconds that may be spent on calls, and a breaker that stops calling what failed several times in a row.

    A call is let through while at least the time it can take at most (``call_seconds``) is left, so that the sum never exceeds ``seconds``.

    Attributes:
        seconds: may be spent in `REFILL_SECONDS`.
        call_seconds: what one call takes at most.
        failures_to_open: so many failures in a row open the breaker.
        open_seconds: no call is let through for so long after that; then one is, as a trial.
        free_seconds: of each call that are not counted: what it takes when all is well, if that is to have no limit.
    """

    seconds: float
    call_seconds: float
    failures_to_open: int = 3
    open_seconds: float = 60.0
    free_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _spent: float = 0.0
    _failures: int = 0
    _opened_at: float | None = None
    _seen_at: float | None = field(default=None)

    def refusal(self) -> str | None:
        """Why no call may be made now; None if one may."""
        now = self.clock()
        if self._opened_at is not None and now - self._opened_at < self.open_seconds:
            return f"{self._failures} calls in a row failed; the next is tried {self.open_seconds:.0f} s after the last"
        self._refill(now)
        if self._spent + self.call_seconds > self.seconds:
            return f"{self._spent:.1f} s of the {self.seconds:g} s that this process may wait are spent"
        return None

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of a call, and whether it failed."""
        began = self.clock()
        try:
            yield
        except Exception:
            self._failures += 1
            if self._failures >= self.failures_to_open:
                self._opened_at = self.clock()
            raise
        else:
            self._failures, self._opened_at = 0, None
        finally:
            self._spent += max(0.0, self.clock() - began - self.free_seconds)

    def _refill(self, now: float) -> None:
        if self._seen_at is not None:
            self._spent = max(0.0, self._spent - (now - self._seen_at) * self.seconds / REFILL_SECONDS)
        self._seen_at = now
