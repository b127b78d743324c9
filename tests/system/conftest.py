"""One local platform for the whole folder: the real processes, in a folder of their own, with little data."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from include.local.layout import Layout
from include.local.trial import Trial, trial_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


HOURLY, NEVER = '"17 * * * *"', '"17 3 29 2 *"'
"""When a build starts that no checkpoint has started. Here it would come between two steps of a test, once an hour."""


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory, project_root) -> Path:
    """A copy: tests add DAGs, and change one while it runs."""
    dags = tmp_path_factory.mktemp("platform-dags") / "dags"
    shutil.copytree(project_root / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    build = dags / "warehouse" / "build_finance_products.py"
    hourly = build.read_text().replace(HOURLY, NEVER)
    assert NEVER in hourly, f"expected the hourly build at {HOURLY}"
    build.write_text(hourly)
    return dags


@pytest.fixture(scope="session")
def platform(tmp_path_factory, dags_folder) -> Iterator[Trial]:
    if not Layout().warehouse_venv.is_dir():
        pytest.fail("the warehouse environment is missing: run `make setup`")
    options = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__DATA_PLATFORM__ZERO_ETL_MIN_INTERVAL_SECONDS": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",  # so long a killed worker's task is waited for
    }
    with trial_platform(tmp_path_factory.mktemp("platform"), tickit="small", options=options) as trial:
        yield trial
