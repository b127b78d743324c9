"""Kill parts of the running platform and start dead ones again, each by name: to see that its work goes on where it was.

The supervisor alone starts parts; here it is only asked to.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from include.local.supervisor import RUNNING, Part, PlatformError, State, describe_death

if TYPE_CHECKING:
    from include.local.layout import Layout

RESTART_SECONDS = 120
_POLL_SECONDS = 0.1


def restart(layout: Layout, name: str) -> Part:
    """Start a part that died, and wait until it is ready.

    Raises:
        PlatformError: it runs, there is none of this name, or it died again.
    """
    part = _part(layout, name)
    if part.status != "died":
        raise PlatformError(f"{name}: expected a part that died, found it {part.status}; nothing was restarted")
    before = part.started_at
    layout.restarts.mkdir(exist_ok=True)
    (layout.restarts / name).touch()
    deadline = time.monotonic() + RESTART_SECONDS
    while part.status != RUNNING:
        if time.monotonic() > deadline:
            raise PlatformError(
                f"{name}: expected it ready after {RESTART_SECONDS} s, found it {part.status}; its log is {part.log}"
            )
        if part.status == "died" and part.started_at != before:
            raise PlatformError(describe_death(part))
        time.sleep(_POLL_SECONDS)
        part = _part(layout, name)
    return part


def kill(layout: Layout, name: str, *, descendants: bool = False) -> Part:
    """End a part by SIGKILL, and wait until the supervisor has noticed.

    Args:
        layout: of the platform.
        name: the part.
        descendants: end all that it started too, as a machine that is switched off does.

    Raises:
        PlatformError: it does not run.
    """
    part = _part(layout, name)
    if part.pid is None or part.status != RUNNING:
        raise PlatformError(f"{name}: expected a running part, found it {part.status}; nothing was killed")
    process = psutil.Process(part.pid)
    for one in [process, *(process.children(recursive=True) if descendants else [])]:
        one.kill()
    while part.status == RUNNING:
        time.sleep(_POLL_SECONDS)
        part = _part(layout, name)
    return part


def _part(layout: Layout, name: str) -> Part:
    state = State.load(layout)
    if state is None or not state.alive:
        raise PlatformError("expected a running platform, found none; start it with `make up`")
    if name not in state.parts:
        raise PlatformError(f"expected one of {', '.join(state.parts)}, found {name}")
    return state.parts[name]
