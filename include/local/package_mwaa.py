"""Write ``dist/mwaa``: what Amazon MWAA takes, which is a dags folder, plugins.zip, requirements.txt and a startup script.

MWAA puts only these on its machines, so the library, the dbt project and the settings file ride under ``dags/`` behind an
``.airflowignore``. The stand-ins stay behind: a laptop needs them, production must not have them.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from pathlib import Path

CONSTRAINTS = "https://raw.githubusercontent.com/apache/airflow/constraints-3.3.1/constraints-3.12.txt"
"""MWAA wants a ``--constraint`` line; this is the list its 3.3.1 image is built with."""

NOT_DAGS = ("include", "dbt_project", "locks")
LEFT_BEHIND = ("local", "__pycache__", "target", "logs", "dbt_packages", ".user.yml")

STARTUP_SCRIPT = """\
#!/bin/sh
# Runs on every MWAA container at start. Workers get the warehouse environment (dbt and Soda), which can't share Airflow's.
set -eu
export AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV=/usr/local/airflow/warehouse-venv
export DO_NOT_TRACK=1
if [ "${MWAA_AIRFLOW_COMPONENT:-}" = "worker" ]; then
  export PIP_USER=false  # MWAA's default, true, does not work inside an environment
  python3 -m venv /usr/local/airflow/warehouse-venv
  /usr/local/airflow/warehouse-venv/bin/pip install --quiet --no-deps --require-hashes -r /usr/local/airflow/dags/locks/warehouse.txt \\
    || { echo "startup: the warehouse environment could not be built; dbt tasks will fail on this worker" >&2; exit 1; }
fi
"""


@dataclass(frozen=True)
class Package:
    """What was written."""

    folder: Path
    files: int
    bytes: int

    def describe(self) -> str:
        """One line for the terminal."""
        return f"{self.folder}: {self.files} files, {self.bytes / 1024:.0f} KiB (dags/, plugins.zip, requirements.txt, startup.sh)"


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND))


def _zip_reproducibly(source: Path, target: Path) -> None:
    """Zip with fixed times: the same plugins give the same bytes, so MWAA restarts only for a real change."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not set(path.relative_to(source).parts) & set(LEFT_BEHIND):
                entry = zipfile.ZipInfo(str(path.relative_to(source)), date_time=(2024, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())


def build_package(root: Path = PROJECT_ROOT, folder: Path | None = None) -> Package:
    """Write the package below ``folder`` (default ``dist/mwaa``), replacing an earlier one."""
    folder = folder or root / "dist" / "mwaa"
    if folder.exists():
        shutil.rmtree(folder)
    dags = folder / "dags"
    _copy(root / "dags", dags)
    for name in NOT_DAGS:
        _copy(root / name, dags / name)
    shutil.copy2(root / "airflow_settings.yaml", dags)
    (dags / ".airflowignore").write_text("".join(f"{name}/\n" for name in NOT_DAGS), encoding="utf-8")
    _zip_reproducibly(root / "plugins", folder / "plugins.zip")
    requirements = (root / "requirements.txt").read_text(encoding="utf-8")
    (folder / "requirements.txt").write_text(f'--constraint "{CONSTRAINTS}"\n{requirements}', encoding="utf-8")
    (folder / "startup.sh").write_text(STARTUP_SCRIPT, encoding="utf-8")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Package(folder, len(files), sum(path.stat().st_size for path in files))
