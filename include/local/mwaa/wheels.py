"""The wheels that the package for MWAA carries, chosen by the lock files and checked against their hashes.

A private web server has no internet, and a worker that starts at night should not depend on an index either, so nothing is installed
from one there. Here pip asks the index that this machine is configured for.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PYTHON_VERSION = "3.12"
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
"""MWAA's images are Amazon Linux 2023 (glibc 2.34) on x86_64; some projects no longer build for the older tags."""
LAPTOP_ONLY = frozenset({"dbt-duckdb", "duckdb", "soda-core-duckdb"})
"""Of the warehouse environment: the stand-in warehouse. In production it is Redshift."""

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)")


class WheelsUnavailable(Exception):
    """The wheels of a lock file could not be had."""


@dataclass(frozen=True)
class Lock:
    """Pins with hashes.

    Attributes:
        name: of the environment, and of the folder of its wheels.
        entries: by normalised name, each as pip reads it, hashes included.
    """

    name: str
    entries: dict[str, str]

    @property
    def text(self) -> str:
        """As pip reads it."""
        return "".join(f"{entry}\n" for entry in self.entries.values())

    @property
    def constraints(self) -> str:
        """The pins alone: a constraint can't carry a hash unless every requirement does."""
        return "".join(f"{name}=={version}\n" for name, version in self.pins.items())

    @property
    def pins(self) -> dict[str, str]:
        """Version by normalised name."""
        return {name: _pin(entry)[1] for name, entry in self.entries.items()}

    @property
    def sha256(self) -> str:
        """Of the text and of what wheels are chosen for."""
        return hashlib.sha256("\n".join([self.text, PYTHON_VERSION, *PLATFORMS]).encode()).hexdigest()


def normal(name: str) -> str:
    """A distribution's name as an index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pin(entry: str) -> tuple[str, str]:
    found = _NAME.match(entry)
    if found is None:
        raise WheelsUnavailable(f"lock file: expected name==version, found {entry.splitlines()[0]!r}; run `make lock`")
    return normal(found[1]), found[2]


def read_lock(path: Path, *, without: frozenset[str] = frozenset()) -> Lock:
    """Read a lock file.

    Args:
        path: of the file.
        without: names that are left out; each must be there.

    Raises:
        WheelsUnavailable: the file is no lock, or lacks a name that was to be left out.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    entries = {_pin(entry)[0]: entry for entry in re.split(r"\n(?=\S)", "\n".join(lines))}
    if missing := without - set(entries):
        raise WheelsUnavailable(f"{path}: expected pins of {', '.join(sorted(missing))}, found none")
    return Lock(path.stem, {name: entry for name, entry in entries.items() if name not in without})


def airflow_lock(root: Path = PROJECT_ROOT) -> Lock:
    """The Airflow environment."""
    return read_lock(root / "locks" / "airflow.txt")


def warehouse_lock(root: Path = PROJECT_ROOT) -> Lock:
    """The warehouse environment as production has it: the laptop's pins and hashes, without the stand-in warehouse."""
    return read_lock(root / "locks" / "warehouse.txt", without=LAPTOP_ONLY)


def pip_command(root: Path = PROJECT_ROOT) -> list[str]:
    """A Python that has pip: the one that brought uv (`include/local/setup.sh`), or the one behind this environment.

    Raises:
        WheelsUnavailable: neither has it.
    """
    candidates = [
        str(root / ".local" / "bootstrap" / "bin" / "python"),
        getattr(sys, "_base_executable", sys.executable),
    ]
    for python in candidates:
        command = [python, "-m", "pip"]
        if shutil.which(python) and subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return command
    raise WheelsUnavailable(
        f"expected pip beside one of {', '.join(candidates)}, found none; install python3-pip, then repeat"
    )


def fetch(lock: Lock, cache: Path, pip: Callable[[], Sequence[str]] = pip_command) -> Path:
    """The folder with the lock's wheels; downloaded once, whole or not at all.

    Raises:
        WheelsUnavailable: pip could not get all of them; the message has its last words.
    """
    folder = cache / f"{lock.name}-{lock.sha256[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{folder.name}.lock").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)  # who comes second finds what the first has downloaded
        if folder.is_dir():
            return folder
        new = cache / f".{folder.name}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _download(lock, new, list(pip()))
        new.rename(folder)
    return folder


def _download(lock: Lock, folder: Path, pip: list[str]) -> None:
    pins = folder / "lock.txt"
    pins.write_text(lock.text, encoding="utf-8")
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    abi = "cp" + PYTHON_VERSION.replace(".", "")
    done = subprocess.run(
        [
            *(*pip, "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", *platforms),
            *(
                "--implementation",
                "cp",
                "--python-version",
                PYTHON_VERSION,
                "--abi",
                abi,
                "--abi",
                "abi3",
                "--abi",
                "none",
            ),
            *("--dest", str(folder), "--requirement", str(pins)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise WheelsUnavailable(
            f"expected a wheel for Python {PYTHON_VERSION} on {PLATFORMS[0]} of every pin of the {lock.name} environment, but pip "
            f"failed: {' '.join(said[-3:]) or 'without a word'}. Is the index reachable, and does it have that version?"
        )
    pins.unlink()
