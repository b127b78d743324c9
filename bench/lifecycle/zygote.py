"""A warm process that others are forked from: importing Airflow takes seconds, a fork takes milliseconds.

It has one thread, for a fork copies only the thread that asks for it and whatever locks the others hold.

Reads a task's folder per line, starts its scheduler, and answers with that process's id and birth.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path

from bench.lifecycle.parts import fork, scheduler
from bench.lifecycle.record import Identity


def main(modules: list[str]) -> int:
    """Serve until standard input ends."""
    from airflow.sdk import BaseHook

    for module in ("data_platform.batch_gateway.operators", "airflow.providers.openlineage.conf", *modules):
        import_module(module)
    os.environ["AIRFLOW_CONN_WARM"] = json.dumps({"conn_type": "batch_gateway", "host": "http://127.0.0.1"})
    BaseHook.get_connection("warm")  # imports what it takes
    if threading.active_count() != 1:
        raise RuntimeError(f"expected one thread, found {threading.enumerate()}: it could not be forked safely")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        home = Path(line.strip())
        pid = fork(lambda home=home: scheduler(home), home / "scheduler.log")  # type: ignore[misc]
        print(Identity.of(pid).written(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
