"""Start the local platform and wait, showing progress, until it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from include.local.layout import SAAS_ITEMS
from include.local.supervisor import (
    FAILED,
    RUNNING,
    STARTING,
    STOPPED,
    PlatformError,
    State,
    describe_death,
    launch,
    stop,
    tail,
)

if TYPE_CHECKING:
    from include.local.layout import Layout


def follow(layout: Layout, state: State) -> State:
    """Print the start's progress until the platform runs.

    Raises:
        PlatformError: the start failed; the message is the supervisor's.
    """
    shown = ""
    while True:
        state = State.load(layout) or state
        if state.message and state.message != shown and state.phase not in {FAILED, STOPPED}:
            shown = state.message
            print(f"  {time.time() - state.started_at:5.1f} s  {shown}", flush=True)
        if state.phase == RUNNING:
            print(f"  {time.time() - state.started_at:5.1f} s  ready", flush=True)
            return state
        if state.phase in {FAILED, STOPPED} or not state.alive:
            time.sleep(0.5)  # the supervisor writes its reason last
            state = State.load(layout) or state
            reason = state.message or f"the supervisor ended:\n{tail(layout.logs / 'supervisor.log')}"
            raise PlatformError(f"the local platform did not start. {reason}")
        time.sleep(0.2)


def ensure_up(layout: Layout, *, tickit: str, no_login: bool, saas_items: int = SAAS_ITEMS) -> tuple[State, bool]:
    """The running platform, started if need be; second: whether this call started it."""
    state = State.load(layout)
    if state and state.alive and state.phase in {STARTING, RUNNING}:
        dead = state.dead_parts()
        if dead:
            raise PlatformError(
                "\n".join(describe_death(part) for part in dead)
                + "\nNothing is restarted silently: run `make down`, then the command again."
            )
        return (state if state.phase == RUNNING else follow(layout, state)), False
    print("Starting the local platform")
    launched = launch(layout, tickit=tickit, no_login=no_login, saas_items=saas_items)
    try:
        return follow(layout, launched), True
    except KeyboardInterrupt:  # the supervisor has a session of its own and would go on
        stop(layout)
        raise
