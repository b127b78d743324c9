"""The clock by which the AWS stand-in lets things expire; a test moves it on instead of waiting."""

from __future__ import annotations

import time
from typing import Final


class MovableClock:
    """Seconds since the epoch, moved on by as much as it was told."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        """Move it on.

        Raises:
            ValueError: it would go back, and what has expired would be there again.
        """
        if seconds < 0:
            raise ValueError(f"expected seconds to move the clock on by, found {seconds}")
        self.ahead += seconds

    def reset(self) -> None:
        """Show the real time again."""
        self.ahead = 0.0


CLOCK: Final = MovableClock()
"""That of the stand-in's process: moto's state too is there once per process."""
