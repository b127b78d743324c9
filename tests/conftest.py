"""Fixtures every test may use. Airflow's home is a folder of the test run: nothing reads or writes the developer's own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]

# Airflow reads its configuration when it is first imported, so this stands before any test module is.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_"))]:
    del os.environ[_name]
os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV": str(ROOT / ".local" / "venvs" / "warehouse"),
        "AIRFLOW__DATA_PLATFORM__SCRATCH_DIR": str(_HOME / "scratch"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "DO_NOT_TRACK": "1",
    }
)


class SystemTogether(LoadFileScheduling):
    """A file's tests stay in one process, and all system tests do: they share one platform."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/system" if nodeid.startswith("tests/system/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return SystemTogether(config, log)


def pytest_collection_modifyitems(items):
    """What takes longest begins first, so that no process waits for the other in the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project: ``DATA_PLATFORM_SHARED_DATA`` names its folder."""
    folder = os.environ.get("DATA_PLATFORM_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DATA_PLATFORM_SHARED_DATA names no folder: the real TICKIT files are not on this machine")
    return Path(folder)
