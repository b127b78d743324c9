"""A process of the warehouse environment, owned by the task that started it: it ends with the task, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import TextIOWrapper
    from pathlib import Path

MAX_LINE_CHARACTERS = 1 << 20
"""A longer line of the process's output is cut."""
INTERRUPT_SECONDS = 3.0
"""How long the process gets to end by itself before it is killed: Airflow kills the task five seconds after SIGTERM."""

_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """One process at a time, in a process group of its own that dies with the task."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path | None = None,
        stdin: bytes | None = None,
    ) -> None:
        """Start ``command``; what it writes to either stream is read with `lines`.

        Args:
            command: the executable and its arguments.
            environment: all of it; nothing else is inherited.
            directory: working directory.
            stdin: what it can read. It must read all of it before it writes much; it may end before.
        """
        self._process = subprocess.Popen(  # noqa: S603 - no shell; callers validate what they pass
            list(command),
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        if stdin is not None:
            stream = cast("TextIOWrapper", self._process.stdin).buffer
            with contextlib.suppress(BrokenPipeError):  # its exit code and its words tell more
                stream.write(stdin)
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def lines(self) -> Iterator[str]:
        """What the process writes, line by line, until it has closed both streams."""
        stream = cast("IO[str]", self._started.stdout)  # a pipe
        while line := stream.readline(MAX_LINE_CHARACTERS):
            cut = not line.endswith("\n")
            yield line
            while cut and (rest := stream.readline(MAX_LINE_CHARACTERS)):
                cut = not rest.endswith("\n")

    def wait(self) -> int:
        """The exit code, once there is one; negative for a signal."""
        return self._started.wait()

    def terminate(self) -> None:
        """Interrupt the process, so that it can cancel its queries; then kill its whole group.

        Safe to call from a signal handler or another thread, at any time.
        """
        process = self._process
        if process is None:
            return
        _signal_group(process, signal.SIGINT)
        deadline = time.monotonic() + INTERRUPT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal_group(process, signal.SIGKILL)

    @property
    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("expected a process that was started, found none; call start first")
        return self._process


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # gone; macOS says the latter of a zombie
        return


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:  # pragma: no cover - runs in the forked child
    """Linux kills the process when the task is killed with SIGKILL; else it would hold the build file, and race with the retry."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
