"""Arguments of a job. What is wrong with them is said before Spark starts: a driver takes a while to come up."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type for ``add_argument``: a whole number within these limits."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
        return number

    return parse
