"""Run the benchmarks: ``make bench``, or one with ``make bench ONLY=<name>``.

Each is a module of this folder with a function ``main()`` that writes ``build/bench/<name>.json`` (see `bench._result`).
A benchmark runs in a process of its own, so that none inherits another's caches or memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from bench._result import RESULTS

BENCHMARKS = {
    "parse": "parse",
    "replicator": "replicator",
    "gate": "gate",
    "orchestration-tickit": "orchestration",
    "orchestration-185": "orchestration",
    "freshness": "freshness",
    "lineage-spool": "lineage",
    "lineage-replay": "lineage",
    "lineage-share": "lineage",
    "gateway-once": "gateway_once",
    "gateway-overhead": "gateway_overhead",
    "gateway-triggerer": "gateway_triggerer",
    "migration-losses": "migration_losses",
    "migration-unfenced": "migration_unfenced",
    "migration-unavailability": "migration_unavailability",
    "migration-copy": "migration_copy",
    "migration-growth": "migration_growth",
    "package": "package",
    "demo": "demo",
}
"""Name to module; a module that serves several names takes the name as its argument."""


def main(argv: list[str]) -> int:
    """Run the named benchmark, or all; exit status 1 where one failed or is over a limit of its own."""
    unknown = set(argv) - set(BENCHMARKS)
    if unknown:
        print(f"make bench ONLY={' '.join(sorted(unknown))}: expected one of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    failed = []
    for name in argv or BENCHMARKS:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"bench.{BENCHMARKS[name]}", name], check=False)
        result = RESULTS / f"{name}.json"
        if done.returncode or not result.exists():
            failed.append(name)
            continue
        told = json.loads(result.read_text(encoding="utf-8"))
        print(
            f"{name}: median {told['median']:.4g} {told['unit']}, baseline {told['baseline_median']:.4g} ({told['baseline']}), "
            f"ratio {told['ratio']:.3g}; {time.monotonic() - began:.0f} s",
            flush=True,
        )
        exceeded = {key: limit for key, limit in told.get("limits", {}).items() if told[key] > limit}
        for key, limit in exceeded.items():
            print(f"{name}: {key} is {told[key]:.3g}, over its limit of {limit:g}", flush=True)
        if exceeded:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
