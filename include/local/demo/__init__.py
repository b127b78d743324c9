"""``make demo``: run the platform's main jobs end to end, show what happened, and leave ``build/demo.json``.

Each part is one function that drives real DAGs through Airflow's API, as an operator would, and returns what it has to show. The result
says ``"ok": true`` only if every part held. A platform that was already up is used and left running; one that the demo started is stopped.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import psutil

from include.local.demo.finance import run_finance
from include.local.demo.ingestion import run_ingestion
from include.local.demo.runs import DemoError, Runs
from include.local.demo.spark import run_spark
from include.local.demo.tenants import run_tenants
from include.local.processes import marked_processes
from include.local.start import ensure_up
from include.local.supervisor import PlatformError, platform_api, stop
from include.platform.airflow_api import AirflowApiError
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.local.layout import Layout

PARTS: dict[str, Callable[[Runs, Layout], dict[str, Any]]] = {
    "finance": run_finance,
    "ingestion": run_ingestion,
    "spark": run_spark,
    "tenants": run_tenants,
}
"""Name, for ``make demo ONLY=<name>``, and function of each part."""

RESULT = PROJECT_ROOT / "build" / "demo.json"


class MemorySampler(threading.Thread):
    """Watches the platform's proportional memory (pages that processes share count once) until told to stop."""

    def __init__(self, run_id: str) -> None:
        super().__init__(daemon=True)
        self.run_id = run_id
        self.peak_bytes = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample every second."""
        while not self._ended.wait(1):
            total = 0
            for process in marked_processes(self.run_id):
                with contextlib.suppress(psutil.Error, AttributeError):  # AttributeError: not Linux
                    total += process.memory_full_info().pss
            self.peak_bytes = max(self.peak_bytes, total)

    def finish(self) -> int:
        """Stop; returns the peak in MiB."""
        self._ended.set()
        self.join()
        return round(self.peak_bytes / 2**20)


def _write(result: dict[str, Any]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def run_demo(layout: Layout, only: str | None = None) -> int:
    """Run all parts, or the one named; returns the exit status."""
    if only and only not in PARTS:
        raise PlatformError(f"make demo ONLY={only}: expected one of {', '.join(PARTS)}")
    began = time.monotonic()
    result: dict[str, Any] = {"ok": False, "parts": {}, "runs": []}
    _write(result)  # whatever ends the demo early, no older result is left to be believed
    state, started = ensure_up(layout, tickit="full", no_login=False)
    result["start_seconds"] = round(time.monotonic() - began, 1)
    memory = MemorySampler(state.run_id)
    memory.start()
    try:
        runs = Runs(layout, platform_api(layout, state))
        for name in [only] if only else PARTS:
            print(f"\n== {name}")
            try:
                result["parts"][name] = {"ok": True, **PARTS[name](runs, layout)}
            except Exception as error:  # whatever a part meets, the result says that it did not hold
                expected = isinstance(error, DemoError | PlatformError | AirflowApiError)
                told = str(error) if expected else traceback.format_exc()
                result["parts"][name] = {"ok": False, "error": told}
                print(f"{name}: {told}", file=sys.stderr)
        result["runs"] = [vars(run) for run in runs.finished]
    finally:
        result["peak_memory_mib"] = memory.finish()
        stopping = time.monotonic()
        if started:
            print("\nStopping the local platform")
            stop(layout)
        result["stop_seconds"] = round(time.monotonic() - stopping, 1)
    result["ok"] = all(part["ok"] for part in result["parts"].values())
    result["seconds"] = round(time.monotonic() - began, 1)
    _write(result)
    print(f"\n{'DAG run':58} {'state':8} seconds")
    for run in result["runs"]:
        print(f"{run['dag_id'] + ' ' + run['run_id']:58.58} {run['state']:8} {run['seconds']:7.1f}")
    shown = RESULT.relative_to(PROJECT_ROOT)
    print(
        f"\n{'ok' if result['ok'] else 'FAILED'} after {result['seconds']} s, {result['peak_memory_mib']} MiB at most; written to {shown}"
    )
    print(f"See it yourself: `make up`, then {state.url}" if started else f"Still running: {state.url}")
    return 0 if result["ok"] else 1
