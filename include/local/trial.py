"""A second platform beside the developer's own, for tests and benchmarks: its own folder, its own ports, gone afterwards."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.local import environment
from include.local.aurora.source import Aurora
from include.local.demo.runs import DONE, Runs
from include.local.layout import Layout
from include.local.restart import kill, restart
from include.local.start import follow
from include.local.supervisor import PlatformError, State, launch, platform_api, stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from include.platform.airflow_api import HttpAirflowApi


@dataclass
class Trial:
    """A running platform."""

    layout: Layout
    state: State
    api: HttpAirflowApi
    runs: Runs
    aurora: Aurora

    def kill(self, part: str, *, descendants: bool = False) -> None:
        """End a part by SIGKILL; see `include.local.restart`."""
        kill(self.layout, part, descendants=descendants)

    def restart(self, part: str) -> None:
        """Start a part that died, and wait until it is ready.

        Raises:
            PlatformError: it runs, or died again.
        """
        restart(self.layout, part)

    def wait_for_idle(self, dag_id: str, timeout: float = 180) -> None:
        """Wait until no run of ``dag_id`` is queued or running.

        Raises:
            PlatformError: one still is after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not set(self.runs.states(dag_id).values()) <= DONE:
            if time.monotonic() > deadline:
                raise PlatformError(f"{dag_id} is still running after {timeout:.0f} s")
            time.sleep(0.5)


@contextmanager
def trial_platform(
    folder: Path, *, tickit: str, options: Mapping[str, str] | None = None, saas_items: int = 100
) -> Iterator[Trial]:
    """Start a platform in ``folder`` and stop it afterwards.

    Args:
        folder: holds all its state; kept, so that logs can be read.
        tickit: size of the source data: full, small or none.
        options: environment variables (``AIRFLOW__…``) that differ from the laptop's.
        saas_items: items of each of the local SaaS's tenants.

    Raises:
        PlatformError: it did not start.
    """
    layout = Layout(folder)
    try:
        with _environment(options or {}):
            state = launch(layout, tickit=tickit, no_login=False, saas_items=saas_items)
        state = follow(layout, state)
        api = platform_api(layout, state)
        yield Trial(layout, state, api, Runs(layout, api), Aurora(layout.aurora))
    finally:
        stop(layout)


@contextmanager
def _environment(options: Mapping[str, str]) -> Iterator[None]:
    """What the trial's processes inherit; the caller's own comes back as soon as they have started."""
    before = {name: value for name, value in os.environ.items() if name.startswith(environment.FOREIGN)}
    for name in before:
        del os.environ[name]
    os.environ.update(options)
    try:
        yield
    finally:
        for name in options:
            os.environ.pop(name, None)
        os.environ.update(before)
