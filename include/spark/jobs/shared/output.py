"""What a job tells in its driver's log."""

from __future__ import annotations

import sys


def print_line(line: str) -> None:
    """Print a line in one write.

    Spark runs a job's Python unbuffered: ``print`` writes the text, then the line's end, and what the JVM logs can come in between. A
    reader then finds ``Pi is roughly 3.126/11/27 …``.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
