"""`demo`: seconds and peak memory of ``make demo`` from built environments.

Baseline: the same minus its DAG runs, that is starting and stopping the platform, taken from the same runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile

from bench._result import write_result
from include.platform.paths import PROJECT_ROOT

RUNS = 2


def main() -> None:
    samples, starting, memory = [], [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="demo-") as folder:  # the developer's own platform stays as it is
            environ = {**os.environ, "DATA_PLATFORM_LOCAL_DIR": folder}
            for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "ONLY"):  # else ONLY=demo would reach the inner make
                environ.pop(name, None)
            subprocess.run(["make", "demo"], cwd=PROJECT_ROOT, env=environ, check=True)
        told = json.loads((PROJECT_ROOT / "build" / "demo.json").read_text(encoding="utf-8"))
        samples.append(told["seconds"])
        starting.append(told["start_seconds"] + told["stop_seconds"])
        memory.append(told["peak_memory_mib"])
    write_result(
        "demo",
        what="make demo from built environments",
        baseline="starting and stopping the platform",
        unit="s",
        samples=samples,
        baseline_samples=starting,
        peak_memory_mib=max(memory),
        limits={"median": 180},
    )


if __name__ == "__main__":
    main()
