"""Takes from a table no more than it may, and comes again when AWS says that it was too much."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
    }
)
"""Error codes that say: too much at once."""
_AGAIN: Final = THROTTLED | {
    "InternalFailure",
    "InternalServerError",
    "RequestTimeout",
    "ServiceUnavailable",
    "TransactionConflictException",
    "TransactionInProgressException",
}
_LEAST_SHARE: Final = 1 / 32
_RECOVERY_SECONDS: Final = 40
"""How long the rate takes from nothing back to full: slowly, so that it doesn't swing."""


class Bucket:
    """A token bucket of capacity units. What a read costs is known when it is done, so the next one waits for it.

    Halves its rate each time that AWS refuses, and wins it back slowly. Threads may share one.

    Args:
        units_per_second: the most.
        clock: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        units_per_second: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if units_per_second <= 0:
            raise ValueError(f"expected more than 0 units per second, found {units_per_second}")
        self._most = units_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._rate = units_per_second
        self._saved = units_per_second  # a second's worth may be taken at once
        self._seen = clock()
        self._waited = 0.0

    @property
    def rate(self) -> float:
        """Units per second now."""
        return self._rate

    def charge(self, units: float) -> None:
        """Account for a read that cost so much."""
        with self._lock:
            self._refill()
            self._saved -= units

    def wait(self) -> None:
        """Wait until another read is due."""
        with self._lock:
            self._refill()
            pause = max(-self._saved / self._rate, 0.0)
            self._waited += pause
        if pause:
            self._sleep(pause)

    def take(self, units: float) -> None:
        """Account for a read that cost so much, and wait until another one is due."""
        self.charge(units)
        self.wait()

    def slow_down(self) -> None:
        """AWS has refused a read."""
        with self._lock:
            self._refill()
            self._rate = max(self._rate / 2, self._most * _LEAST_SHARE)
            self._saved = min(self._saved, 0)

    @property
    def waited(self) -> float:
        """Seconds that readers waited for it so far."""
        with self._lock:
            return self._waited

    def _refill(self) -> None:
        now = self._clock()
        passed = max(now - self._seen, 0.0)  # a clock that was set back gives nothing
        self._seen = now
        self._saved = min(self._saved + passed * self._rate, self._rate)
        self._rate = min(self._rate + passed * self._most / _RECOVERY_SECONDS, self._most)


def is_passing(error: Exception) -> bool:
    """Whether a call that failed so may succeed when it is made again: throttled, a fault of AWS, or of the network.

    Only for calls that may be made twice: after a cut nobody knows whether the first was done.
    """
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _AGAIN
    return isinstance(error, ConnectionError | HTTPClientError)


def is_throttled(error: Exception) -> bool:
    """Whether AWS said that it was too much at once."""
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and error.response["Error"]["Code"] in THROTTLED


class Patience:
    """The pauses between tries of something that should soon succeed: longer each time, with jitter, until it has taken too long.

    Args:
        seconds: how long without any success is too long.
        clock: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self.succeeded()

    def succeeded(self) -> None:
        """Something went well: begin with short pauses again."""
        self._end = self._clock() + self._seconds
        self._pause = 0.05

    def wait(self) -> bool:
        """Wait for the next try; False if it has taken too long."""
        if self._clock() + self._pause > self._end:
            return False
        self._sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - no secret; spreads those that meet
        self._pause = min(self._pause * 2, 5.0)
        return True


def insist[Answer](
    call: Callable[[], Answer],
    *,
    seconds: float = 60,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    refused: Callable[[Exception], Any] | None = None,
) -> Answer:
    """Make a call that may be made twice, again after a passing fault, until ``seconds`` have passed.

    Args:
        call: makes it.
        seconds: how long to try; then the last fault is raised.
        clock: seconds.
        sleep: waits so many seconds.
        refused: is told of each passing fault.
    """
    patience = Patience(seconds, clock, sleep)
    while True:
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            if refused:
                refused(error)
            if not patience.wait():
                raise
