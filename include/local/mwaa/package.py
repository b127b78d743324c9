"""Write ``dist/mwaa``: a dags folder, plugins.zip, requirements.txt and a startup script.

MWAA puts only these on its machines, so the library, the dbt project and the settings file ride under ``dags/`` behind an
``.airflowignore``, and the wheels under ``plugins.zip``. The stand-ins stay behind: a laptop needs them, production must not have them.
See ``docs/adr/0007-a-package-without-an-index.md``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.local.mwaa.wheels import PLATFORMS, PYTHON_VERSION, airflow_lock, fetch, pip_command, warehouse_lock
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.local.mwaa.wheels import Lock

MWAA_HOME = "/usr/local/airflow"
"""AIRFLOW_HOME of MWAA's images; plugins.zip is unpacked in ``plugins`` below it."""
WHEELS = "wheels"
MOST_PLUGINS_BYTES = 1_000_000_000
"""https://docs.aws.amazon.com/mwaa/latest/userguide/configuring-dag-import-plugins.html"""

NOT_DAGS = ("include", "dbt_project")
LEFT_BEHIND = ("__pycache__", "target", "logs", "dbt_packages", ".user.yml")
STAND_INS = Path("include", "local")
STARTUP_SCRIPT = Path(__file__).with_name("startup.sh")


class PackageInvalid(Exception):
    """The package would not be taken by MWAA."""


@dataclass(frozen=True)
class Package:
    """What was written."""

    folder: Path
    manifest: dict[str, Any]

    def describe(self) -> str:
        """For the terminal: sizes and times."""
        size, seconds, wheels = self.manifest["bytes"], self.manifest["seconds"], self.manifest["wheels"]
        carried = ", ".join(
            f"{entry['wheels']} wheels ({entry['bytes'] / 1e6:.0f} MB) for {name}" for name, entry in wheels.items()
        )
        return (
            f"{self.folder}: {size['total'] / 1e6:.1f} MB in {seconds['total']:.1f} s, of which {seconds['wheels']:.1f} s for wheels\n"
            f"  dags/             {size['dags'] / 1e3:9.0f} kB in {self.manifest['dag_files']} files\n"
            f"  plugins.zip       {size['plugins.zip'] / 1e3:9.0f} kB of at most {MOST_PLUGINS_BYTES / 1e3:.0f}; {carried}\n"
            f"  requirements.txt  {size['requirements.txt'] / 1e3:9.1f} kB\n"
            f"  startup.sh        {size['startup.sh'] / 1e3:9.1f} kB"
        )


def build_package(root: Path = PROJECT_ROOT, folder: Path | None = None) -> Package:
    """Write the package below ``folder`` (default ``dist/mwaa``), replacing an earlier one.

    Raises:
        WheelsUnavailable: a wheel could not be had.
        PackageInvalid: plugins.zip is larger than MWAA takes.
    """
    began = time.monotonic()
    locks = (airflow_lock(root), warehouse_lock(root))
    wheels = _wheels(locks, root)
    wheel_seconds = time.monotonic() - began
    folder = folder or root / "dist" / "mwaa"
    if folder.exists():
        shutil.rmtree(folder)
    dags = folder / "dags"
    _copy(root, Path("dags"), dags)
    for name in NOT_DAGS:
        _copy(root, Path(name), dags / name)
    shutil.copy2(root / "airflow_settings.yaml", dags)
    (dags / ".airflowignore").write_text("".join(f"{name}/\n" for name in NOT_DAGS), encoding="utf-8")
    plugins = folder / "plugins.zip"
    _zip(
        plugins,
        root / "plugins",
        wheels,
        {locks[0].name: ("constraints.txt", locks[0].constraints), locks[1].name: ("lock.txt", locks[1].text)},
    )
    (folder / "requirements.txt").write_text(_requirements(root, locks[0]), encoding="utf-8")
    shutil.copyfile(STARTUP_SCRIPT, folder / "startup.sh")
    if plugins.stat().st_size > MOST_PLUGINS_BYTES:
        raise PackageInvalid(
            f"{plugins}: expected at most {MOST_PLUGINS_BYTES} bytes, which MWAA takes, found {plugins.stat().st_size}"
        )
    manifest = _manifest(folder, locks, wheels, {"total": time.monotonic() - began, "wheels": wheel_seconds})
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return Package(folder, manifest)


def _wheels(locks: tuple[Lock, Lock], root: Path) -> dict[str, Path]:
    with ThreadPoolExecutor(len(locks)) as pool:
        folders = pool.map(lambda lock: fetch(lock, root / ".local" / "wheels", lambda: pip_command(root)), locks)
        return {lock.name: folder for lock, folder in zip(locks, folders, strict=True)}


def _copy(root: Path, source: Path, target: Path) -> None:
    def left_behind(folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(root)
        return {name for name in names if name in LEFT_BEHIND or below / name == STAND_INS}

    shutil.copytree(root / source, target, ignore=left_behind)


def _requirements(root: Path, lock: Lock) -> str:
    """The project's requirements, to be installed from plugins.zip alone, on public and private web servers alike.

    The constraints are the lock's pins, not the official file: that is reached over the internet, and the lock lies inside it, which a
    test holds. What the image has already is within both.
    """
    wheels = f"{MWAA_HOME}/plugins/{WHEELS}/{lock.name}"
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    return "\n".join([f"--constraint {wheels}/constraints.txt", "--no-index", f"--find-links {wheels}", *wanted, ""])


def _plugin_files(source: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and not set(name.parts) & set(LEFT_BEHIND):
            yield name.as_posix(), path


def _zip(target: Path, plugins: Path, wheels: dict[str, Path], texts: dict[str, tuple[str, str]]) -> None:
    """Zip with fixed times: the same plugins and locks give the same bytes, so MWAA restarts only for a real change."""
    with zipfile.ZipFile(target, "w") as archive:

        def add(name: str, content: bytes, compression: int) -> None:
            entry = zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0))
            entry.compress_type = compression
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)

        for name, path in _plugin_files(plugins):
            add(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
        for environment, folder in wheels.items():
            name, text = texts[environment]
            add(f"{WHEELS}/{environment}/{name}", text.encode(), zipfile.ZIP_DEFLATED)
            for wheel in sorted(folder.iterdir()):
                add(
                    f"{WHEELS}/{environment}/{wheel.name}", wheel.read_bytes(), zipfile.ZIP_STORED
                )  # is compressed already


def _manifest(
    folder: Path, locks: tuple[Lock, Lock], wheels: dict[str, Path], seconds: dict[str, float]
) -> dict[str, Any]:
    dag_files = [path for path in (folder / "dags").rglob("*") if path.is_file()]
    size = {name: (folder / name).stat().st_size for name in ("plugins.zip", "requirements.txt", "startup.sh")}
    size["dags"] = sum(path.stat().st_size for path in dag_files)
    size["total"] = sum(size.values())
    return {
        "airflow": locks[0].pins["apache-airflow"],
        "python": PYTHON_VERSION,
        "platforms": list(PLATFORMS),
        "dag_files": len(dag_files),
        "bytes": size,
        "wheels": {
            name: {"wheels": len(files), "bytes": sum(file.stat().st_size for file in files)}
            for name, files in ((name, list(path.iterdir())) for name, path in wheels.items())
        },
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("plugins.zip", "requirements.txt", "startup.sh")
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
