"""Find and end processes by id: only those that carry this platform's marker.

Airflow's task processes lead process groups of their own, so ending a group leaves orphans; a marker in the environment finds every
descendant, whoever its parent is by now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER = "DATA_PLATFORM_RUN_ID"


class PortTakenError(RuntimeError):
    """Something else listens there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host}: expected it free, found it taken; stop what listens there or choose another with --port"
        )


def marked_environment(run_id: str) -> dict[str, str]:
    """Variables that mark a process and its descendants.

    Airflow's API server and workers set their title, for which ``setproctitle`` takes the room of the environment, and the marker would be
    gone; ``SPT_NOENV`` forbids that.
    """
    return {MARKER: run_id, "SPT_NOENV": "1"}


def marked_processes(run_id: str, marker: str = MARKER) -> list[psutil.Process]:
    """All live processes whose environment carries ``run_id`` under the marker's name, except the caller."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(marker) == run_id:
                found.append(process)
    return found


def is_alive(pid: int, created: float) -> bool:
    """Whether ``pid`` is still the process that was created at ``created`` (seconds since 1970), not a later one."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def end(processes: Iterable[psutil.Process], grace_seconds: float) -> None:
    """SIGTERM, wait up to ``grace_seconds``, then SIGKILL what is left."""
    alive = list(processes)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(alive, timeout=grace_seconds)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def end_all(run_id: str, grace_seconds: float, marker: str = MARKER) -> list[int]:
    """End every process of ``run_id``, again until none is left: a dying parent may have started one more.

    Returns:
        Ids of those that would not end; normally none.
    """
    for _ in range(5):
        processes = marked_processes(run_id, marker)
        if not processes:
            return []
        end(processes, grace_seconds)
        grace_seconds = 2
        time.sleep(0.1)
    return [process.pid for process in marked_processes(run_id, marker)]


def free_port(preferred: int, taken: Iterable[int] = ()) -> int:
    """``preferred`` if nothing listens there, else any free port of the loopback interface."""
    for candidate in (preferred, 0):
        if candidate in set(taken):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise OSError(f"no free port on 127.0.0.1 (tried {preferred} and any other)")
