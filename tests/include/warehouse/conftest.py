"""A three-level dbt project, S3 from the AWS stand-in, and the warehouse environment's dbt."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from include.local.aws.trial import trial_aws
from include.platform.settings import load_settings
from include.warehouse.build import BuildReport, earlier_state, run_build
from include.warehouse.connection import DuckDbConnection
from include.warehouse.dbt_run import DbtProcess
from include.warehouse.profile import inherited_environment, profile_environment
from include.warehouse.run_state import RunState, RunStateStore, project_fingerprint

TINY_PROJECT = Path(__file__).parent / "tiny_project"
BUCKET = "tiny"
TINY_SECRET = "correct-horse-battery-staple"


def build(dbt, store: RunStateStore, wanted: RunState, attempt: int) -> BuildReport:
    """A try as the task does it, but for what follows the build."""
    return run_build(dbt, store, wanted, attempt, earlier_state(store, wanted, attempt))


class Tiny:
    """The tiny project in one warehouse. Paths stay the same for all tests, so that dbt parses the project once."""

    def __init__(self, home: Path, s3):
        self.home = home
        self.control = home / "control"
        self.warehouse = DuckDbConnection(home / "work.duckdb", home / "published", {})
        self.s3 = s3

    def says(self, mode: str) -> None:
        """How ``second`` behaves: ok, fail, slow or null."""
        self.control.write_text(mode)

    def dbt(self, project: Path = TINY_PROJECT) -> DbtProcess:
        environment = {
            **inherited_environment(),
            **profile_environment(self.warehouse, threads=2, scratch=self.home / "scratch", run_key="tiny/run"),
            "TINY_CONTROL": str(self.control),
            "DBT_ENV_SECRET_TINY": TINY_SECRET,
        }
        return DbtProcess(load_settings().dbt_executable, project, self.home / "target", environment)

    def store(self, run_id: str) -> RunStateStore:
        return RunStateStore(lambda: self.s3, BUCKET, dag_id="tiny", run_id=run_id, task_id="build")

    def wanted(self, selection: str = "", *, full_refresh: bool = False) -> RunState:
        return RunState(project_fingerprint(TINY_PROJECT), selection, full_refresh)


@pytest.fixture(scope="session")
def s3_endpoint():
    with trial_aws([BUCKET]) as url:
        yield url


@pytest.fixture(scope="session")
def s3(s3_endpoint):
    return boto3.client("s3", endpoint_url=s3_endpoint)


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def tiny(tiny_home, s3):
    if not load_settings().dbt_executable.exists():
        pytest.fail(
            f"the warehouse environment has not been built: no {load_settings().dbt_executable}; run make setup"
        )
    tiny = Tiny(tiny_home, s3)
    for file in (tiny.warehouse.path, Path(f"{tiny.warehouse.path}.wal")):
        file.unlink(missing_ok=True)
    tiny.says("ok")
    return tiny
