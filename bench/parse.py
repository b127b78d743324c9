"""`parse`: seconds that each DAG file, and the whole folder, takes beyond Airflow's own import; also with a manifest of 185 models.

Baseline: a DAG file with one empty task, parsed the same way in the same round. Every figure is of a fresh process, as the first parse is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench._result import write_result
from bench.synthetic_dbt import write_manifest
from include.platform.paths import DBT_MANIFEST, PROJECT_ROOT

RUNS = 5
EMPTY_DAG = """
from airflow.sdk import dag, task

@dag(schedule=None)
def empty():
    @task
    def nothing(): ...
    nothing()

empty()
"""


def grown_manifest(folder: Path) -> Path:
    """The committed manifest with the 185 models of the synthetic project and their tests added."""
    manifest = json.loads(DBT_MANIFEST.read_text(encoding="utf-8"))
    added = json.loads(write_manifest(folder / "synthetic").read_text(encoding="utf-8"))
    for part in ("nodes", "parent_map", "child_map"):
        manifest[part] |= added[part]
    grown = folder / "manifest.json"
    grown.write_text(json.dumps(manifest), encoding="utf-8")
    return grown


def probe(manifest: str, *files: Path) -> list[float]:
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'plugins'}"}
    command = [sys.executable, "-m", "bench._parse_probe", manifest, *map(str, files)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True, check=True)
    taken: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return taken


def main() -> None:
    files = sorted((PROJECT_ROOT / "dags").rglob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY_DAG)
        manifest = grown_manifest(Path(folder))
        rounds = []
        for _ in range(RUNS):
            rounds.append(
                {
                    "empty": probe("-", empty)[0],
                    "files": {path.stem: probe("-", path)[0] for path in files},
                    "folder": sum(probe("-", *files)),
                    "folder_185": sum(probe(str(manifest), *files)),
                }
            )
    slowest = [max(each["files"].values()) for each in rounds]
    write_result(
        "parse",
        what="slowest DAG file, beyond Airflow's own import",
        baseline="a DAG file with one empty task",
        unit="s",
        samples=slowest,
        baseline_samples=[each["empty"] for each in rounds],
        files={name: statistics.median(each["files"][name] for each in rounds) for name in rounds[0]["files"]},
        folder_s=statistics.median(each["folder"] for each in rounds),
        folder_with_185_models_s=statistics.median(each["folder_185"] for each in rounds),
        limits={"median": 0.3, "folder_s": 1.5, "folder_with_185_models_s": 1.5},
    )


if __name__ == "__main__":
    main()
