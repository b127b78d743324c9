"""`package`: seconds to parse the DAG folder of the package for MWAA, beyond Airflow's own import; its size; how long it takes to build.

Baseline, taken in turn: the project's own tree, parsed the same way; the package must not be slower to read. Every figure is of a fresh
process. The package is built twice, so that the second time tells what it costs when the wheels are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bench._result import write_result
from include.local.mwaa.package import MOST_PLUGINS_BYTES, build_package
from include.platform.paths import PROJECT_ROOT

RUNS = 5
PROBE = Path(__file__).with_name("_parse_probe.py")


def seconds(dags: Path, library: Path, plugins: Path) -> float:
    """Of all DAG files below ``dags``, with the library and plugins of the same tree."""
    files = sorted(
        path
        for path in dags.rglob("*.py")
        if not path.is_relative_to(dags / "include") and not path.is_relative_to(dags / "dbt_project")
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(library), str(plugins)]), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, str(PROBE), "-", *map(str, files)],
        cwd=library,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    taken: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return sum(taken)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = build_package(folder=Path(folder) / "mwaa").manifest["seconds"]
        package = build_package(folder=Path(folder) / "mwaa")
        plugins = Path(folder) / "plugins"
        with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
            archive.extractall(plugins)
        dags = package.folder / "dags"
        trees = {
            "package": (dags, dags, plugins),
            "project": (PROJECT_ROOT / "dags", PROJECT_ROOT, PROJECT_ROOT / "plugins"),
        }
        for tree in trees.values():
            seconds(*tree)  # bytecode, which MWAA's containers keep as well
        rounds = [{name: seconds(*tree) for name, tree in trees.items()} for _ in range(RUNS)]
    size = package.manifest["bytes"]
    write_result(
        "package",
        what="parsing the package's DAG folder, beyond Airflow's own import",
        baseline="the project's own tree",
        unit="s",
        samples=[each["package"] for each in rounds],
        baseline_samples=[each["project"] for each in rounds],
        bytes=size,
        plugins_bytes=size["plugins.zip"],
        wheels=package.manifest["wheels"],
        first_build_seconds=first,
        build_seconds=package.manifest["seconds"]["total"],
        limits={"median": 1.5, "plugins_bytes": MOST_PLUGINS_BYTES / 4, "build_seconds": 30},
    )


if __name__ == "__main__":
    main()
